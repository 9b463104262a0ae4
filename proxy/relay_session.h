/*
 * One SMTP session with one server: a socket, a state, and at most one
 * delivery that it works for.
 *
 * The state says which reply is expected next; commands may have been sent
 * further ahead (RFC 2920).  relay_steps[] says for each state what is done
 * on entering it, what its reply means, how long to wait, and which states
 * may follow; session_enter() alone changes states.
 */
#ifndef PROXY_RELAY_SESSION_H
#define PROXY_RELAY_SESSION_H

#include "lib/loop.h"
#include "proxy/relay.h"
#include "proxy/relay_ehlo.h"
#include "proxy/relay_source.h"
#include "proxy/relay_text.h"

enum relay_state {
	RELAY_NONE = 0,
	RELAY_CONNECT,
	RELAY_GREETING,
	RELAY_EHLO,
	RELAY_HELO,
	RELAY_DANE,	/* waiting for lookup, not for the server */
	RELAY_STARTTLS,
	RELAY_TLS,	/* the handshake */
	RELAY_CREDENTIALS,	/* waiting for those of the server */
	RELAY_AUTH,
	RELAY_XFORWARD,	/* comes before MAIL, of each message */
	RELAY_MAIL,
	RELAY_RCPT,
	RELAY_DATA,
	RELAY_TEXT,	/* sending; no reply is due */
	RELAY_PAUSE,	/* before the dot: relay_pix.h */
	RELAY_DOT,	/* all was sent */
	RELAY_BDAT,	/* sending chunks: relay_bdat.h */
	RELAY_LAST,	/* all of them were sent */
	RELAY_RSET,
	RELAY_IDLE,	/* kept for the next delivery */
	RELAY_QUIT,
	RELAY_CLOSED,	/* freed at the end of the turn */
	RELAY_STATES
};

struct session {
	uint32_t magic;
	enum relay_state state;
	struct relay *relay;
	struct delivery *delivery;
	int fd;
	struct event read_event, write_event, timer;
	struct netaddr addr;
	char *host;		/* its name, or address if that was given */
	char *peer;		/* "host[addr]:port" */
	char *peer_short;	/* "host[addr]" */
	char *key;		/* transport, next hop, TLS policy, login */
	struct mono connected;
	uint32_t uses;		/* messages, this one included */
	bool once;		/* and no more */
	bool cached;		/* smtp_connection_cache_destinations has it */
	struct relay_ehlo ehlo;
	struct relay_reply reply;
	bool greeted;
	uint32_t pix;		/* enum pix_workaround */
	bool plain;		/* TLS is not tried (again) */
	bool tls_told;		/* tlsrpt knows what came of it */
	struct session_tls *tls;	/* relay_tls.h; NULL: none */
	struct session_dane *dane;	/* NULL: not asked for */
	struct session_auth *auth;	/* relay_auth.h; NULL: not going on */
	bool auth_settled;	/* it has logged in, or need not */
	bool authenticated;

	struct buf out;		/* what the socket did not take yet */
	size_t out_sent;
	bool write_failed;	/* the reason is found by reading */

	/* One transaction; cleared by smtp_begin() alone. */
	struct session_mail {
		uint32_t *todo;	/* the delivery's: indexes into its rcpts */
		uint32_t n_todo, sent, answered, accepted;
		uint32_t told;	/* LMTP: of todo, after the dot */
		uint32_t forwarded;	/* 1 << enum relay_xforward */
		uint32_t open;	/* of the delivery, at the beginning */
		bool more;	/* some are for another transaction */
		bool mail_ok;
		bool closing;	/* LMTP: a reply was 421 */
		bool data_sent;	/* the group is complete */
		bool bdat;	/* and has no DATA: the text goes in chunks */
		uint32_t chunks, chunks_taken;	/* written; replied 2xx */
		bool text_done;	/* all is encoded, the dot included */
		bool dot_waits;	/* ... but it is not sent */
		struct relay_source source;
		struct relay_text text;
	} mail;

	struct loop_work bury;
	TAILQ_ENTRY(session) link;	/* in relay->idle */
};

struct relay_step {
	const char *name;
	const char *doing;	/* "lost connection with X while ..." */
	const char *command;	/* "in reply to ..." */
	size_t timeout;		/* offset in struct conf */
	void (*enter)(struct session *s);
	void (*reply)(struct session *s);
	uint32_t classes;	/* of replies that make sense: 1 << digit */
	uint32_t next;		/* 1 << enum relay_state */
};
extern const struct relay_step relay_steps[RELAY_STATES];

/* Connect for d.  NULL: failed at once, *ret_why (caller frees) says why, and
 * *ret_local that the cause lies here, not there. */
struct session *session_open(struct relay *r, struct delivery *d,
    const struct relay_address *to, char **ret_why, bool *ret_local);
/* Give d to a kept connection of its next hop, if there is one. */
bool session_reuse(struct relay *r, struct delivery *d);
/* QUIT on all kept connections. */
void session_quit_idle(struct relay *r);
/* d is given up: close without a word. */
void session_abort(struct session *s);
/* The server has the whole text, only its reply is missing. */
bool session_dot_sent(const struct session *s);

/* For the steps: */
void session_enter(struct session *s, enum relay_state to);
void session_write(struct session *s, struct view v);
/* Nothing waits to be sent. */
bool session_written(const struct session *s);
/* The time limit of the state begins anew. */
void session_touch(struct session *s);
/* The session may be kept for another message. */
bool session_keepable(const struct session *s);

#endif
