/* TLS of one session: for relay_tls*.c only. */
#ifndef PROXY_RELAY_TLS_IMPL_H
#define PROXY_RELAY_TLS_IMPL_H

#include <openssl/ssl.h>

#include "lib/tls_info.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_tls.h"

struct session_tls {
	SSL *ssl;
	struct relay_tls_shared *shared;
	bool active;		/* the handshake is done */
	bool broken;		/* OpenSSL must not be asked again */
	bool wants_write;
	uint32_t post;		/* messages of a handshake after it */
	const char *why;	/* of a failed handshake */
	char reason[120];	/* the library's word for it */
	enum tls_level had;	/* encrypt, or what else was held */
	bool held;		/* the policy was */
	char *key;		/* to be resumed under; NULL: not to be */
	bool offered;		/* one to resume, to the server */
	SSL_SESSION *next;	/* to keep, if the policy is held; or NULL */
	struct tls_info info;
	uint32_t tell;		/* enum tls_tell */
	struct tls_watch *watch;	/* NULL: nothing is watched */
};

/* -- relay_tls_session.c -------- */

/* Nothing is said to this server; frees why. */
void relay_tls_refuse(struct session *s, const char *dsn,
    enum relay_state to, char *why);
/* A name as certificates have it, or ""; valid until the next call. */
const char *relay_tls_ascii(struct view name);
/* Is the certificate one for that name? */
bool relay_tls_shows(const struct session *s, struct view name);

/* -- relay_dane.c -------- */

/* The policy for this server, and the level of it that holds. */
const struct tls_policy *relay_tls_policy(const struct session *s);
enum tls_level relay_tls_level(const struct session *s);
/* Before the handshake: false, none of the records can be used. */
bool relay_dane_prepare(struct session *s, SSL *ssl);
/* After it: has the server shown what a record says? */
bool relay_dane_holds(const struct session *s);
/* TLSA records are what counts for this server, or cannot be had: those that
 * can be used, each in a line. */
bool relay_dane_lines(const struct session *s, struct buf *out);
/* What the handshake goes by, if that are such records; false: no room. */
bool relay_dane_key(const struct session *s, struct buf *out);

/* -- relay_tls_cache.c -------- */

int relay_tls_on_session(SSL *ssl, SSL_SESSION *session);
/* Before the handshake: resume a session, if there is one. */
void relay_tls_resume(struct session *s, const char *servername);
/* After it, when the policy is known to be held or not: keep what came so far;
 * what comes later is kept then. */
void relay_tls_keep(struct session *s);
/* At the end: a handshake with a session came to nothing, so no other tries
 * with one of that server. */
void relay_tls_distrust(struct session *s);

#endif
