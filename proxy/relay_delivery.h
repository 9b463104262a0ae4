/*
 * One delivery: one message, some of its recipients, one next hop or several,
 * which are tried in their order.  It finds
 * the addresses of the next hop, has sessions opened to one after the other
 * until each recipient is sent, bounced, or deferred by the last server, logs
 * that, and reports to qmgr.  qmgr says how long all this may take; what is
 * open then is broken off and deferred.
 *
 * A probe is a delivery of nothing to one recipient: the session says MAIL and
 * RCPT, then RSET, never DATA.  The reply to RCPT is its result; whatever else
 * happens, a 5xx to anything but RCPT included, says nothing about the
 * address.  smtp_fallback_relay is not asked: it does not know.
 */
#ifndef PROXY_RELAY_DELIVERY_H
#define PROXY_RELAY_DELIVERY_H

#include "lib/edit.h"
#include "lib/envelope.h"
#include "lib/loop.h"
#include "lib/msg.h"
#include "proxy/relay.h"
#include "proxy/relay_log.h"
#include "proxy/relay_reply.h"
#include "rules/requiretls.h"

struct delivery_proxy;		/* proxy/relay_proxy.h */
struct relay_sts_question;	/* proxy/relay_sts.h */

struct delivery_rcpt {
	uint32_t index;		/* in the envelope */
	enum rcpt_status status;	/* 0: open */
	bool accepted;		/* by the present server's reply to RCPT TO */
	bool asked;		/* it has replied to RCPT TO */
	char dsn[RELAY_STATUS_MAX];
	struct view addr;
	struct view out;	/* what the server is told: smtp_generic_maps */
	struct view reason;
	struct view mta;
};

struct delivery {
	uint32_t magic;
	struct relay *relay;
	struct chan *qmgr;	/* NULL: gone */
	uint64_t number;	/* qmgr's */
	char id[QUEUE_ID_TEXT];
	struct arena *arena;	/* all views below */
	struct view transport;
	struct view hop_list;	/* of qmgr: "[a]:25, [b]:25" */
	struct view hop_text;	/* the one of them that is tried */
	struct relay_nexthop hop;
	struct envelope env;
	bool probe;		/* no text, and no DATA */
	bool said_no;		/* a probe's RCPT got 5xx */
	struct delivery_proxy *proxy;	/* NULL: not to a filter that
					 * answers for it */
	int fd;			/* -1: a probe */
	uint64_t text_offset, text_size;
	uint64_t size;		/* with edits */
	struct edits edits;
	struct relay_times times;
	int64_t limit;		/* ms, from the beginning */

	struct delivery_rcpt *rcpts;
	uint32_t n_rcpts, open;	/* open: without a status */

	struct view hops;	/* those left */
	struct view pool;	/* whose servers hop_list is; or empty */
	bool hop_down, hop_told;	/* this one: it failed; qmgr knows */
	struct view fallback;	/* the same of smtp_fallback_relay */
	bool fell_back;		/* one of these is being tried */
	bool last_hop;		/* that one and no other: we are an MX */
	bool loops;		/* the best one */
	bool soft;		/* some failure may pass */

	uint16_t best;		/* preference of the MX hosts, if those have
				 * addresses or not */
	struct relay_address *addresses;
	size_t n_addresses, next_address;
	uint32_t conversations;	/* sessions that were ready for mail */
	bool resting;		/* those not asked are asked first */
	uint32_t rests;		/* how often that was */
	struct loop_work rest;	/* go on with these */
	uint32_t *todo;		/* of its session; NULL: none yet */
	bool reused;		/* a kept connection: no other server known */
	struct session *session;

	enum delivery_trouble trouble;	/* 0: none yet */
	bool talked;		/* a server answered MAIL FROM */
	char *why;		/* the latest failure, for those still open */
	char why_dsn[RELAY_STATUS_MAX];

	struct checking *checking;	/* relay_checks.h; NULL: not now */
	struct table_known *tables;	/* what such said of smtp_generic_maps */
	struct table_asking *tables_asked;
	const struct tls_policy *tls;	/* relay_tls.h; NULL: not yet known */
	/* What the domain demands of servers without DANE; NULL: nothing, or
	 * it is tls already. */
	const struct tls_policy *tls_domain;
	const struct tls_policy *tls_testing;	/* it would like this */
	enum requiretls_policy requiretls;	/* of this next hop */
	struct table_known *tls_tables;	/* what such said of these */
	struct table_asking *tls_asked;
	struct relay_sts_question *sts;
	enum sts_answer sts_answer;	/* 0: not asked */
	struct view sts_text;	/* the policy, unless its mode is none */
	void (*tls_done)(struct delivery *d, const char *why);
	bool plain;		/* the next session is without TLS */
	bool no_bdat;		/* a server refused the command */
	uint32_t tag;		/* of the question to lookup; 0: none */
	struct chan *asked;	/* where it went */
	struct event timer;	/* its time limit */
	struct event deadline;	/* of all of it */
	TAILQ_ENTRY(delivery) link;
};

/* MSG_DELIVER.  A malformed one is blamed on its sender. */
void delivery_begin(struct relay *r, struct chan *qmgr, struct chan_in *m);
/* MSG_PROBE, the same. */
void probe_begin(struct relay *r, struct chan *qmgr, struct chan_in *m);
/* MSG_PROXY_MAIL, the same. */
void proxy_begin(struct relay *r, struct chan *qmgr, struct chan_in *m);
/* Read the fields of such a message; everything stands in the arena. */
bool delivery_read(struct delivery *d, struct view body);
bool probe_read(struct delivery *d, struct view body);
/* A text that could still be changed. */
bool delivery_unsealed(int fd);
/* The answer to relay_ask_route(); the views are copied. */
void delivery_routed(struct delivery *d, enum route_status status,
    struct view text, const struct relay_address *list, size_t n,
    uint16_t best);
/* The lookup that was asked is gone: ask another. */
void delivery_lookup_gone(struct delivery *d);
/* qmgr is gone: nobody waits for the result.  What is not yet with the
 * server for good is broken off; the message is still in the queue. */
void delivery_orphan(struct delivery *d);

/* Called by d's session. */

/* The connection cannot be made, or the server does not want to talk. */
void delivery_no_connection(struct delivery *d, const char *reason);
/* An attempt on a kept connection came to nothing: begin anew. */
void delivery_again(struct delivery *d);
/* Some recipients were not asked, as the server takes only so many at once
 * (RFC 9422): another transaction with it. */
void delivery_rest(struct delivery *d);
/* The server's TLS does not work: connect to it again, without. */
void delivery_plain(struct delivery *d);
void delivery_ready(struct delivery *d);
/* The server is one of those preferred most. */
bool delivery_at_best(const struct delivery *d);
/* The server took the message for these recipients (see below).  has_dsn: it
 * will notify of success itself. */
#define DELIVERY_REASON_MAX	1200u

enum delivery_whom { WHOM_OPEN = 1, WHOM_ACCEPTED, WHOM_ONE };
void delivery_sent(struct delivery *d, enum delivery_whom whom,
    uint32_t which, struct view reason, const char *dsn, bool has_dsn);
void delivery_trouble(struct delivery *d, enum delivery_trouble kind,
    const char *reason);
/* Why those who are open fail, if nothing else comes of them. */
void delivery_why(struct delivery *d, const char *dsn, const char *reason);
/* This host is their best MX, and qmgr knows another transport: those who are
 * open are its. */
void delivery_looped(struct delivery *d);
/* relay_report.c: how it ended, to qmgr if it is still there. */
void delivery_report(struct delivery *d);
/* What was learned about the server, if it is one of a pool. */
void delivery_hop_news(struct delivery *d, enum hop_news news,
    const char *why);

/*
 * Recipients fail: all open ones, those accepted so far, or rcpts[which].  By
 * dsn ("4.x.x" or "5.x.x") they are bounced, deferred, or, if another server
 * can be tried and may_retry, left open for it.
 */
void delivery_failed(struct delivery *d, enum delivery_whom whom,
    uint32_t which, bool may_retry, const char *dsn, const char *reason);
/* No other server, and no other next hop, will be tried. */
bool delivery_at_end(const struct delivery *d);
/* The session has let go of d: try the next server or report. */
void delivery_go_on(struct delivery *d);

#endif
