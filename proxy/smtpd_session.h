/*
 * One SMTP session (RFC 5321): what a client said, and where it stands.
 *
 * A verb is a row of a table; whether it is allowed is a cell of another.  Its
 * check() answers and changes nothing, its proceed() acts.  session_enter()
 * is the only place that sets a state, and the only one that makes or clears
 * a transaction.  A session waits for at most one thing, named by wait; the
 * answer comes as session_resume().
 *
 * An idle session holds no buffers: input and output exist while there is
 * something in them.
 */
#ifndef PROXY_SMTPD_SESSION_H
#define PROXY_SMTPD_SESSION_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "lib/clock.h"
#include "lib/envelope.h"
#include "lib/header_watch.h"
#include "lib/netaddr.h"
#include "proxy/client_event.h"
#include "proxy/smtpd_binary.h"
#include "rules/local_clients.h"
#include "rules/policy_actions.h"

enum smtp_state {
	SMTP_REFUSED = 0,	/* not a state: the verb is not allowed here */
	SMTP_NAMELESS,		/* the client's name is being looked up */
	SMTP_CONNECTED,		/* greeting sent */
	SMTP_GREETED,		/* HELO or EHLO accepted */
	SMTP_MAIL,		/* a transaction with a sender */
	SMTP_RCPT,		/* ... and at least one recipient */
	SMTP_DATA,		/* its text arrives */
	SMTP_CHUNK,		/* the octets of a BDAT arrive */
	SMTP_BDAT,		/* ... and were not the last */
	SMTP_SEALING,		/* its text is complete; waiting for qmgr */
	SMTP_CLOSED,		/* last reply given */
	SMTP_STATES
};

enum verb {
	VERB_UNKNOWN = 0, VERB_HELO, VERB_EHLO, VERB_MAIL, VERB_RCPT,
	VERB_DATA, VERB_RSET, VERB_NOOP, VERB_VRFY, VERB_ETRN, VERB_QUIT,
	VERB_XFORWARD, VERB_STARTTLS, VERB_AUTH, VERB_BDAT, VERB_XCLIENT,
	VERBS
};

enum session_wait {
	WAIT_NONE = 0,
	WAIT_NAME,		/* lookup: the client's name */
	WAIT_RATE,		/* gate: how often the client did this */
	WAIT_FACT,		/* lookup: what the policy needs; or a pause */
	WAIT_SLOT,		/* qmgr: a queue id and a place for the text */
	WAIT_SPILL,		/* qmgr: a file for a large text */
	WAIT_SEAL,		/* qmgr: the message's fate */
	WAIT_PAUSE,		/* the client made many errors */
	WAIT_MILTER,		/* milter: what filters say */
	WAIT_TLS,		/* the client: a TLS handshake */
	WAIT_AUTH,		/* auth: what comes of a password */
	WAIT_CLIENT,		/* nothing: it begins anew, as another */
	WAITS
};

/* Where a log line says that a session broke off. */
enum session_where { WHERE_CONNECT = 0, WHERE_VERB, WHERE_DATA, WHERE_EOM };

/* What is announced, and only then accepted. */
enum offer { OFFER_UTF8 = 1 << 0, OFFER_DSN = 1 << 1, OFFER_PRDR = 1 << 2,
	OFFER_CHUNKING = 1 << 3, OFFER_STARTTLS = 1 << 4,
	OFFER_AUTH = 1 << 5, OFFER_REQUIRETLS = 1 << 6,
	OFFER_BINARYMIME = 1 << 7 };

struct server;
struct session;
struct queue_link;

/* A queue id and a descriptor for the text, from qmgr. */
struct slot {
	struct queue_id id;
	int fd;
	struct queue_link *link;	/* NULL: that qmgr is gone */
};

/* Sender and recipients, together or not at all. */
struct transaction {
	struct arena *arena;
	struct session *session;
	struct transaction *next;	/* in the queue's table by id */
	uint32_t flags;			/* enum envelope_flag */
	struct view sender;
	struct view envid;		/* decoded */
	uint8_t ret;			/* 0, 'F' or 'H' */
	bool prdr;			/* a reply for each recipient */
	bool binarymime;		/* BODY=BINARYMIME */
	uint64_t declared;		/* SIZE=; 0: none */
	struct recipient *rcpts;
	uint32_t nrcpts, cap;
	struct recipient waiting;	/* waits for a slot */
	struct policy_actions *actions;	/* NULL: none; in arena */
	bool has_slot;
	struct slot slot;
	/* DATA */
	struct text text;
	struct binary *binary;		/* NULL: the text is lines */
	struct header_watch watch;	/* its header */
	struct buf out;			/* decoded, not yet written */
	uint64_t size, written;		/* of the text; with our headers */
	uint64_t came;			/* what it was made of; 0: lines */
	struct mono deadline;
	uint32_t tiny;			/* small BDATs */
	bool spilled, too_big, failed, no_room;
	bool sealed;			/* qmgr has it */
	struct view mail_args;		/* for filters, until they answer */
};

/* What it did since then, when no gate counts it. */
struct session_rate {
	bool timed;
	uint32_t did[CLIENT_EVENTS];
	struct mono since;
};

/* What a BDAT brings: on until all of it was taken, or thrown away. */
struct chunk {
	uint64_t n, left;
	struct mono deadline;		/* to throw it away */
	bool on, last;
};

struct session {
	uint32_t magic;
	uint32_t no;			/* index in the server's table */
	uint32_t client;		/* gate's number for it */
	uint32_t tag;			/* of its question; 0: none */
	struct session *tag_next;	/* smtpd_ask.c */
	struct server *server;
	void *gate;			/* where it came from; NULL: gone */
	const void *asked;		/* WAIT_NAME: whom */
	int fd;
	uint8_t state, wait, where, verb;
	bool esmtp, writing, reading, skipping, hangup, wrote_timeout;
	bool in_mynetworks, bare_lf, named;
	bool after_auth;		/* no other verb has come since */
	bool pipelined;			/* it did not wait for a reply */
	bool denied;			/* by smtpd_client_restrictions */
	bool announced_utf8;		/* MAIL that the policy looks at */
	uint8_t name_status;		/* enum name_status */
	uint8_t offers;			/* enum offer */
	uint64_t announced;
	struct netaddr addr, local;
	struct wall began;
	char *reverse;			/* NULL: unknown */
	struct facts facts;
	struct policy_carry carry;
	struct pending *pending;	/* WAIT_FACT: for whom */
	struct counting *counting;	/* WAIT_RATE: for what */
	struct milter_talk *milter;	/* NULL: no filters outside */
	struct session_rate rate;
	char *name;			/* "name[addr]"; NULL: nameless */
	uint8_t name_n;			/* bytes of name before '[' */
	uint16_t helo_n;
	char *helo;			/* NULL: none given */
	struct forwarded *forwarded;	/* NULL: nothing */
	struct xclient *xclient;	/* NULL: it is who it is */
	struct transaction *tx;
	struct chunk chunk;
	struct buf in, out;
	struct session_tls *tls;	/* NULL: none; proxy/smtpd_tls.h */
	struct session_auth *auth;	/* NULL: no AUTH goes on */
	struct session_login *login;	/* NULL: nobody; smtpd_auth.h */
	struct buf talk;		/* for a mail to the postmaster */
	uint8_t noted;			/* classes of its errors */
	bool note_known;		/* the next one's is known */
	struct event io, timer;
	uint32_t errors, junk, overshoot;
	uint32_t total[VERBS], good[VERBS];
};

struct verb_rule {
	const char *name;
	uint8_t flags;
	uint8_t event;		/* enum client_event; 0: it is not counted */
	/* Refusals where the table has no next state: without and within a
	 * transaction. */
	const char *refused_idle, *refused_open;
	bool (*check)(struct session *s, struct view args);
	void (*proceed)(struct session *s, struct view args);
};
enum verb_flag {
	VERB_LAST = 1 << 0,	/* ends a pipelining group, RFC 2920 3.1 */
	VERB_JUNK = 1 << 1,	/* counts against smtpd_junk_command_limit */
	VERB_ALONE = 1 << 2,	/* nothing may stand behind it, ever */
	VERB_PLAIN = 1 << 3	/* allowed where TLS is to come first */
};

extern const struct verb_rule verb_rules[VERBS];
extern const uint8_t smtp_next[SMTP_STATES][VERBS];
const char *smtp_state_name(enum smtp_state state);

/* -- life -------- */

/* Takes over fd (nonblocking).  The session frees itself when it is over. */
struct session *session_new(struct server *sv, int fd,
    const struct netaddr *remote);
/* The name of the client is known: greet, if the policy permits.  reverse:
 * what the reverse zone says, or "unknown". */
void session_named(struct session *s, enum name_status status,
    struct view name, struct view reverse);
void session_greet(struct session *s);
/* The same when filters have been asked. */
void session_greeting(struct session *s);
/* Its name is known, and TLS there, if it begins with that. */
void session_admit(struct session *s);
/* Postern stops: end s now if no message is underway. */
void session_hurry(struct session *s);
void session_enter(struct session *s, enum smtp_state to);
/* What s waits for has come (or never will); its state goes on. */
void session_resume(struct session *s);
/* Wait for w, at most ms. */
void session_wait_for(struct session *s, enum session_wait w, int64_t ms);
/* End it now, without a reply.  why: for the log; NULL: as agreed. */
void session_close(struct session *s, const char *why);

/* -- replies -------- */

/* "250 2.1.0 Ok", without line end.  421 and 521 end the session. */
void session_reply(struct session *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The reply of a command that succeeded, and of one that failed. */
void session_accept(struct session *s, enum verb v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void session_refuse(struct session *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A refusal of one line or several, "\n" between them: "5.7.1 text". */
void session_refuse_lines(struct session *s, unsigned code,
    struct view text);
/* "NOQUEUE: reject: RCPT from name[addr]: text; from=<> to=<> ..." */
void session_log_reject(struct session *s, const char *action,
    const char *text, struct view recipient);
struct session_event {
	const char *action, *text;
	struct view sender;	/* .p NULL: none was given */
	struct view rcpt, rule;
};
void session_log_event(struct session *s, const struct session_event *ev);
/* What to write before the colon: queue id, or NOQUEUE. */
const char *session_queue_id(const struct session *s,
    char text[QUEUE_ID_TEXT]);
struct view session_client_name(const struct session *s);
struct view session_helo(const struct session *s);

/* -- input and output (smtpd_io.c) -------- */

void session_io_start(struct session *s);
void session_io_stop(struct session *s);
/* Handle input already here, send replies, wait for more. */
void session_go(struct session *s);
/* Watch the socket for this and nothing else; 0: for nothing. */
void session_watch(struct session *s, short what);
/* Has it sent data that nobody asked for? */
bool session_spoke(const struct session *s);
/* (Re)start the timer that belongs to the state. */
void session_timer(struct session *s, int64_t ms);
void session_timer_state(struct session *s);

/* -- commands (smtpd_command.c) -------- */

/* One command line, or a part of the text, at the start of in.  Returns the
 * bytes used; 0: more is needed. */
size_t session_command(struct session *s, struct view in);
/* The verb of s may be carried out: its check() and proceed(). */
void command_run(struct session *s, struct view args);
/* The same after its check(): filters are asked. */
void command_go(struct session *s, struct view args);
/* 500 */
void command_not_known(struct session *s);
/* The pause that is due after a command of a client with many errors. */
void command_pause(struct session *s);
size_t session_text(struct session *s, struct view in);
void session_text_resume(struct session *s);
/*
 * Is line a BDAT?  Then its octets follow, whatever it is answered.  False:
 * nobody knows how many; it was answered, and the session ends.
 */
bool chunk_begin(struct session *s, struct view line);
/* Octets come that nobody takes: the reply waits until they are read. */
bool chunk_unwanted(const struct session *s);
/* Throw away what is there of them.  Returns the bytes used. */
size_t chunk_skip(struct session *s, struct view in);
void session_rcpt_resume(struct session *s);

/* -- verbs -------- */

bool ehlo_check(struct session *s, struct view args);
void ehlo_proceed(struct session *s, struct view args);
bool helo_check(struct session *s, struct view args);
void helo_proceed(struct session *s, struct view args);
bool mail_check(struct session *s, struct view args);
void mail_proceed(struct session *s, struct view args);
/* Filters permit it: 250. */
void mail_accepted(struct session *s);
void session_mail_resume(struct session *s);
bool rcpt_check(struct session *s, struct view args);
void rcpt_proceed(struct session *s, struct view args);
bool data_check(struct session *s, struct view args);
void data_proceed(struct session *s, struct view args);
bool bdat_check(struct session *s, struct view args);
void bdat_proceed(struct session *s, struct view args);
/* The text begins, in that state: headers of ours, a deadline.  False: it was
 * refused. */
bool data_begin(struct session *s, enum smtp_state to);
/* Bytes of the text that count for message_size_limit. */
uint64_t data_size(const struct transaction *tx);
/* All octets of a chunk were taken. */
void chunk_taken(struct session *s);
/* Something is wrong with the text, and it was refused. */
bool data_refused(struct session *s);
bool rset_check(struct session *s, struct view args);
void rset_proceed(struct session *s, struct view args);
bool noop_check(struct session *s, struct view args);
void noop_proceed(struct session *s, struct view args);
bool vrfy_check(struct session *s, struct view args);
void vrfy_proceed(struct session *s, struct view args);
/* What a filter says of its client, for the message that follows. */
struct forwarded {
	char name[256], addr[NETADDR_TEXT], proto[33], helo[513], ident[65];
	uint16_t port;			/* 0 and "": not known */
	bool local, remote;		/* neither: not known */
};
/* It may say that. */
bool xforward_allowed(const struct session *s);
bool xforward_check(struct session *s, struct view args);
void xforward_proceed(struct session *s, struct view args);
void xforward_forget(struct session *s);
/* Attributes, for XCLIENT too.  The value without its xtext, empty where it is
 * not known; false: it is none. */
bool attribute_decode(struct view v, bool temporary, struct buf *out);
bool attribute_port(struct view v, uint16_t *ret);
/* A name as names stand in the log, at most max bytes and a NUL. */
void attribute_keep(char *to, size_t max, struct view v);
/* For whom a proxy speaks: it is taken for the client itself. */
bool xclient_allowed(const struct session *s);
bool xclient_check(struct session *s, struct view args);
void xclient_proceed(struct session *s, struct view args);
/* WAIT_CLIENT is over. */
void xclient_begin(struct session *s);
/* s has the login that was said, if one was. */
void xclient_login(struct session *s);
void xclient_free(struct session *s);
/* e gets what is known; views into s. */
void xforward_envelope(const struct session *s, struct envelope *e);
/* ", orig_client=..." */
void xforward_log(const struct session *s, struct buf *b);
bool etrn_check(struct session *s, struct view args);
void etrn_proceed(struct session *s, struct view args);
bool quit_check(struct session *s, struct view args);
void quit_proceed(struct session *s, struct view args);

/* -- rates (smtpd_rate.c) -------- */

/* Count what the client did.  False: it was one too many, and answered; or
 * the session waits for the number, and command_run() comes later. */
bool session_count(struct session *s, enum client_event event,
    struct view args);
/* The number, 0: not counted; or who would have told it is gone. */
void session_counted(struct session *s, uint32_t n);
void session_count_lost(struct session *s);
void session_rate_resume(struct session *s);

/* -- policy (smtpd_policy.c) -------- */

#define HELO_NAME_MAX	512u

/*
 * Does the policy permit what is said?  rcpt: the recipient, at MAIL the
 * sender, at ETRN the domain.  False: it was refused, answered and logged; or the session waits
 * for a fact, and proceed() of its verb comes when the policy permits.
 */
bool session_policy(struct session *s, enum policy_stage stage,
    struct view args, struct view rcpt);
/* Whom it asked for an address is gone: ask another. */
void session_ask_again(struct session *s);
/* The answer to what the session asked; empty: there is none. */
void session_fact(struct session *s, struct view answer);
void session_policy_resume(struct session *s);
void session_policy_free(struct session *s);
/* The actions of the last evaluation belong to the transaction.  False: they
 * are more than it may have, and none was taken. */
bool policy_take(struct session *s);
/* A text with $name of the session. */
bool session_expand(const struct session *s, struct view text,
    struct buf *out);
/* smtpd_end_of_data_restrictions permit: seal it. */
void data_permitted(struct session *s);

/* smtpd_received.c */
void received_put(const struct session *s, struct buf *out);
/* RFC 5322 3.3 with the zone's name: now. */
const char *received_date(void);

/* -- transactions (smtpd_transaction.c) -------- */

struct transaction *transaction_new(struct session *s);
/* Gives back the slot if the message did not become one. */
void transaction_free(struct transaction **tx);
/* Room for one more recipient of n bytes? */
bool transaction_fits(const struct transaction *tx, size_t n);
/* A queue id for the transaction of s; false: none is here now. */
bool session_slot(struct session *s);
/* Its views are in the arena of tx already. */
void transaction_add(struct transaction *tx, const struct recipient *rcpt);

#endif
