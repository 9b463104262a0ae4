/*
 * The smtpd role: what its sessions share.  Settings are read-only after
 * loading.
 */
#ifndef PROXY_SMTPD_H
#define PROXY_SMTPD_H

#include "lib/chan.h"
#include "lib/conf.h"
#include "lib/conf_choice.h"
#include "proxy/smtpd_session.h"


#define SESSIONS_MAX		(1u << 20)	/* smtpd_session_limit is less */
#define NAME_WAIT_MS		15000
#define SPACE_WAIT_MS		2000	/* once, at the start */
#define SLOT_WAIT_MS		10000
#define SPILL_WAIT_MS		60000

struct server {
	const struct conf *cf;
	struct policy *policy;
	struct policy_result *result;	/* of the last evaluation */
	struct addr_list *bare_lf_exclusions;
	struct addr_list *xforward_hosts, *xclient_hosts;
	struct addr_list *noop_commands, *forbidden_commands;
	struct table *command_filter;	/* NULL: none */
	struct addr_list *event_exceptions;	/* from limits of rates */
	struct addr_list *flush_domains;	/* for ETRN */
	struct local_clients *local_clients;
	enum bare_lf bare_lf;
	bool hurry;		/* Postern stops: no new transaction */
	uint8_t offers;		/* enum offer, to whom no table knows */
	struct table_list discards;	/* keywords, by client */
	uint8_t notify;		/* enum notify_class */
	uint32_t notices;	/* to the postmaster, in this minute */
	struct mono notices_since;
	uint32_t flags;		/* of each envelope: rules/override.h */
	struct view ehlo;	/* the whole reply to EHLO */
	bool milters;		/* sessions are shown to filters */
	uint8_t milter_default;	/* enum milter_default */
	uint32_t milter_serial;	/* the last session they were shown */
	const struct milter_answer *milter_answer; /* for who is resumed */
	struct view ehlo_starttls;	/* the same with STARTTLS */
	struct tls_server *tls;	/* NULL: no TLS; smtpd_tls_context.h */
	struct auth_service *auth;	/* NULL: no AUTH; smtpd_auth.h */

	struct session **sessions;	/* by number; NULL: free */
	uint32_t cap, n, free_hint;
	struct session *current;	/* for a panic's context */

	/* What qmgr said last about the spool. */
	bool space_known;	/* it has said something */
	bool no_space;
	uint64_t free_bytes;

	uint64_t connections, messages, refused, soft;
	/* A session is over: tell who gave it. */
	void (*on_done)(struct server *sv, void *gate, uint32_t client);
	/* It did something that is counted: session_counted() comes later,
	 * by tag.  NULL: nobody counts. */
	void (*on_event)(struct server *sv, struct session *s,
	    enum client_event event, uint32_t tag);
};

/* Settings from cf; false after errors were reported. */
bool server_load(struct server *sv, const struct conf *cf,
    const struct netaddr *own, size_t n_own, table_report *report,
    void *arg);
void server_free(struct server *sv);
/* The reply to EHLO, without the keywords in list; the caller frees it. */
char *server_ehlo_without(const struct server *sv, bool starttls,
    const char *list);
/* enum offer, without those in list. */
uint8_t server_offers(const struct server *sv, const char *list);
/* Numbers for sessions. */
void server_add(struct server *sv, struct session *s);
void server_remove(struct server *sv, struct session *s);

/* -- refusals (smtpd_refusal.c) -------- */

#define REPLY_MAX	2000u
#define FOOTER_MAX	4096u

/* What smtpd_reject_filter_maps make of the line of n bytes, in a buffer of
 * size: its new length. */
size_t refusal_filter(struct session *s, char *line, size_t n, size_t size);
/* The footer for the line, not expanded, into out. */
void refusal_footer(struct session *s, struct view line, struct buf *out);
/*
 * Reply with a footer behind: each line of that is a line of the reply, with
 * the code and the status of the first; "\\c" at its start continues the line
 * that is there.  False: nothing was written.
 */
bool refusal_write(struct session *s, struct view reply, struct view footer);

/* -- the client's name (smtpd_names.c) -------- */

/* Find the name of s's client: session_named() comes now or later. */
void names_find(struct session *s);
/* Those who connected before it was known what can be offered. */
void server_greet_waiting(struct server *sv);
/* Ask lookup; session_fact() comes later.  False: there is none. */
bool facts_ask(struct session *s, const struct fact_name *name,
    struct view request, int64_t request_ms);

/* m, the answer (u32 tag, view answer) of asked, for whoever still waits for
 * it. */
void session_told(const void *asked, struct chan *c, struct chan_in *m);

/* -- questions (smtpd_ask.c) -------- */

/* A number for s's question, which goes to asked; its last one is void. */
uint32_t session_ask(struct session *s, const void *asked);
/* Who waits like that for the answer of this number; NULL: nobody does. */
struct session *session_asked(uint32_t tag, enum session_wait wait);
void session_ask_end(struct session *s);

/* -- mail to the postmaster (smtpd_notice.c) -------- */

/* Lines of the conversation; who: "In" or "Out". */
void notice_said(struct session *s, const char *who, struct view text);
/* The refusal that comes next is one of policy. */
void notice_policy(struct session *s);
void notice_refused(struct session *s, struct view reply);
/* The session ends. */
void notice_send(struct session *s);

/* -- qmgr (smtpd_queue.c) -------- */

/* A slot from the stock; false: none, session_resume() comes when there is
 * one (see queue_await). */
bool queue_take(struct transaction *tx);
/* s waits for a slot (on) or does no longer. */
void queue_await(struct session *s, bool on);
/* The transaction ended without a message. */
void queue_drop(struct transaction *tx);
void queue_spill(struct transaction *tx);
/* May qmgr answer for each recipient? */
bool data_answers_each(const struct transaction *tx);
/* The text is complete.  The answer is data_sealed(). */
void queue_seal(struct transaction *tx, const struct envelope *e);
/* The transaction does not wait for an answer any more. */
void queue_forget(struct transaction *tx);
/* Its slot is used up: sealed, or given up. */
void queue_release(struct transaction *tx);

/* A mail of our own to the postmaster.  False: too many wait, or
 * an address is too long. */
bool queue_notice(struct view from, struct view to, struct view text);

/* ETRN: qmgr is asked to try the mail for a domain.  False: there is none. */
bool queue_site(struct view domain);

/* Can this address be delivered?  session_fact() comes within ms, or never.
 * False: there is no qmgr. */
bool queue_verify(struct session *s, struct view addr, int64_t ms);

/* From qmgr, to the session that waits (smtpd_data.c). */
void data_spilled(struct transaction *tx, int fd);
void data_sealed(struct transaction *tx, unsigned code, struct view status,
    struct view text, struct view each);
/* The qmgr of this transaction is gone. */
void data_lost(struct transaction *tx);

#endif
