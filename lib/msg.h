/*
 * Names of roles, phases and messages; see lib/msg.def.
 */
#ifndef LIB_MSG_H
#define LIB_MSG_H

#include <stdint.h>

enum role_kind {
	ROLE_NONE = 0, ROLE_MASTER, ROLE_GATE, ROLE_SMTPD, ROLE_LOOKUP,
	ROLE_FILTER, ROLE_QMGR, ROLE_RELAY, ROLE_BOUNCE, ROLE_PICKUP,
	ROLE_SHOWQ, ROLE_TABLE, ROLE_MILTER, ROLE_PMILTER, ROLE_LOCAL,
	ROLE_POLICY, ROLE_AUTH, ROLE_STS, ROLE_CREDENTIALS, ROLE_TLSRPT,
	ROLE_KINDS
};

enum role_phase { PHASE_NONE = 0, PHASE_STARTING, PHASE_RUNNING,
	PHASE_RETIRING };

enum msg_type {
	MSG_NONE = 0,
#define MSG(name, from, to, when, fds)	MSG_##name,
#include "lib/msg.def"
#undef MSG
	MSG_TYPES
};

struct msg_rule {
	const char *name;
	uint32_t from;		/* 1 << role_kind */
	uint32_t to;
	uint32_t when;		/* 1 << role_phase */
	uint8_t fds;
};

extern const struct msg_rule msg_rules[MSG_TYPES];
const char *role_kind_name(enum role_kind k);

/* What an SMTP session has come to, as outside filters are told. */
enum milter_stage { MILTER_STAGE_CONNECT = 1, MILTER_STAGE_HELO,
	MILTER_STAGE_MAIL, MILTER_STAGE_RCPT,
	MILTER_STAGE_REFUSED,		/* RCPT that we refused */
	MILTER_STAGE_DATA, MILTER_STAGE_UNKNOWN,
	MILTER_STAGE_ABORT,		/* no message comes of it */
	MILTER_STAGE_QUIT,
	MILTER_STAGES };
/* And what they make of that. */
enum milter_says { MILTER_SAYS_GO_ON = 1, MILTER_SAYS_REFUSE,
	MILTER_SAYS_DISCARD,		/* go on, and drop the message */
	MILTER_SAYS_HANG_UP };		/* 421 */

/* What lib/msg.def calls auth-TYPE: the service of such a role. */
enum auth_type { AUTH_DOVECOT = 1, AUTH_CYRUS, AUTH_TYPES };
/* What the relay is told of a server's login. */
enum credentials {
	CREDENTIALS_PASSWORD = 1,
	CREDENTIALS_TOKEN,		/* the secret is one, RFC 6750 */
	CREDENTIALS_NONE,		/* no login is for this server */
	CREDENTIALS_FAILED,		/* it cannot be known now */
	CREDENTIALS_REFUSED,		/* by the server, not long ago */
	CREDENTIALS_ANSWERS
};
/* What came of a step of an authentication. */
enum auth_says {
	AUTH_SAYS_CHALLENGE = 1,
	AUTH_SAYS_SUCCESS,
	AUTH_SAYS_FAILURE,
	AUTH_SAYS_TEMPORARY,		/* nobody could tell */
};

/* Answers inside messages. */
enum name_status { NAME_OK = 1, NAME_UNVERIFIED, NAME_NONE, NAME_TEMPFAIL };
enum route_status { ROUTE_OK = 1, ROUTE_NOT_FOUND, ROUTE_TEMPFAIL,
	ROUTE_NULL_MX };
/* NONE: nothing that is proven; FAILED: not known. */
enum dane_status { DANE_NONE = 1, DANE_FOUND, DANE_FAILED };
#define DANE_RECORDS_MAX	50u
/* How a next hop is looked up: a set. */
enum route_flag {
	ROUTE_MX = 1 << 0,
	ROUTE_NATIVE = 1 << 1,		/* what the DNS does not know, as this
					 * system does: /etc/hosts first */
	ROUTE_NO_DNS = 1 << 2,		/* everything that way */
	ROUTE_IGNORE_MX = 1 << 3,	/* no answer: as if there were no MX */
	ROUTE_DEFER_MX = 1 << 4,	/* no MX has an address: that may pass */
	ROUTE_SRV = 1 << 5,		/* "service:domain", by SRV; then: */
	ROUTE_SRV_FALLBACK = 1 << 6,	/* if there are none, as without it */
	ROUTE_IGNORE_SRV = 1 << 7	/* the same if there is no answer */
};
/* What a relay learns about a server of a pool (MSG_HOP): it answered MAIL; it
 * cannot be reached or does not want to talk; a conversation was lost. */
enum hop_news { HOP_UP = 1, HOP_DOWN, HOP_TROUBLE };
/* Is there an MTA-STS policy?  Those from STS_FETCH_ERROR on: its domain says
 * that there is one, but it cannot be had; each is a result type of RFC 8460
 * section 4.3. */
enum sts_answer { STS_NO_POLICY = 1, STS_POLICY, STS_FETCH_ERROR,
	STS_POLICY_INVALID, STS_WEBPKI_INVALID, STS_ANSWERS };
/* What a table behind a connection says. */
enum table_reply { TABLE_REPLY_FOUND = 1, TABLE_REPLY_NONE,
	TABLE_REPLY_FAILED };
#define TABLE_REPLY_MAX	65536u
/*
 * RELAYED, DELIVERED, EXPANDED: done as SENT is, and nobody else will tell a
 * sender who asked for a notice of success (RFC 3461 section 5.2) - handed to
 * a server without DSN; in its mailbox; given to a list of others.
 * LOOPED, from a relay: it is for best_mx_transport, and nothing was logged.
 */
enum rcpt_status { RCPT_SENT = 1, RCPT_DEFERRED, RCPT_BOUNCED, RCPT_RELAYED,
	RCPT_DELIVERED, RCPT_EXPANDED, RCPT_LOOPED };
/* What a notification is about, and for whom it is. */
enum notice_kind { NOTICE_FAILURE = 1, NOTICE_DELAY, NOTICE_SUCCESS,
	NOTICE_FAILURE_COPY,	/* for the postmaster, headers only */
	NOTICE_DELAY_COPY,	/* the same */
	NOTICE_DOUBLE,		/* a notification failed */
	NOTICE_KINDS };
/* What a delivery attempt tells about the destination as a whole. */
enum delivery_trouble {
	TROUBLE_NONE = 1,	/* the conversation took place */
	TROUBLE_CONNECT,	/* no connection, no or bad greeting */
	TROUBLE_LOST,		/* broke off in the middle */
	TROUBLE_ROUTE		/* no route (DNS) */
};

/* What a server said about an address: yes or no to RCPT.  All else says
 * nothing about it; LOOPED: best_mx_transport may know. */
enum probe_result { PROBE_DELIVERABLE = 1, PROBE_UNDELIVERABLE, PROBE_UNKNOWN,
	PROBE_LOOPED, PROBE_RESULTS };

/* What an administrator wants done to a message, and what became of it. */
enum queue_op { QUEUE_HOLD = 1, QUEUE_RELEASE, QUEUE_DELETE, QUEUE_REQUEUE,
	QUEUE_EXPIRE, QUEUE_FLUSH, QUEUE_FLUSH_ALL, QUEUE_OPS };
enum queue_result {
	QUEUE_DONE = 1,
	QUEUE_NOT_FOUND,
	QUEUE_LATER,		/* when what is under way has ended */
	QUEUE_BUSY,		/* another qmgr has it, or this one is starting */
	QUEUE_FAILED,		/* the log says why */
	QUEUE_RESULTS
};

#endif
