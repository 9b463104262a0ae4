/*
 * TLS of the sessions of a relay (RFC 3207, RFC 8314 section 3.3).
 *
 * A delivery has a policy before it has a server.  The session asks for TLS
 * when it has read what the server offers, or begins with it, and no mail
 * leaves before the policy is held: else the delivery fails for this server,
 * for now, and goes to the next.  At level may alone a server whose TLS does
 * not work is connected to again, without it.
 */
#ifndef PROXY_RELAY_TLS_H
#define PROXY_RELAY_TLS_H

#include <sys/types.h>

#include "proxy/relay_session.h"
#include "proxy/relay_tls_context.h"

/* -- relay_tls_policy.c: deliveries -------- */

/* Find out what d's next hop needs, then call done: d->tls is set, or the
 * policy cannot be had: *ret_why (the caller frees it) says why, NULL: none. */
typedef void relay_tls_found(struct delivery *d, const char *why);
void relay_tls_find(struct delivery *d, relay_tls_found *done);
/* Take the addresses of hosts from d that its policy does not name (RFC 8461
 * section 4.1).  False: there were some, and all are gone. */
bool relay_tls_hosts(struct delivery *d);
/* d ends. */
void relay_tls_forget(struct delivery *d);
/* "may", "may:none", ... for its line in the log; NULL: not known, or not
 * wanted there. */
const char *relay_tls_word(const struct delivery *d, char *space,
    size_t size);
#define RELAY_TLS_WORD	64u

/* -- relay_tls_session.c: what is said and what it means -------- */

/* EHLO is answered, and mail could be sent: true if TLS comes before it, or
 * must and cannot. */
bool relay_tls_due(struct session *s);
/* The steps STARTTLS and TLS. */
void relay_tls_say(struct session *s);
void relay_tls_reply(struct session *s);
void relay_tls_begin(struct session *s);
/* The socket is ready during the handshake. */
void relay_tls_go_on(struct session *s);
/* The connection is lost, or too slow: true if that was taken care of. */
bool relay_tls_lost(struct session *s, const char *how);
/* TLS from the first byte on? */
bool relay_tls_wraps(const struct session *s);

/* How sure s may be of the privacy of what it says, for who has secrets. */
enum relay_tls_strength { RELAY_TLS_NONE = 0, RELAY_TLS_ENCRYPTED,
	RELAY_TLS_VERIFIED };	/* and the server is known by its policy */
enum relay_tls_strength relay_tls_strength(const struct session *s);

/* -- relay_tls_binding.c -------- */

/* What both ends know of the connection, for SASL; NULL type: nothing. */
struct relay_binding;
void relay_tls_binding(const struct session *s, struct relay_binding *ret);

/* -- relay_dane.c -------- */

/* It is to be found out what the server has to show: the step DANE. */
bool relay_dane_due(const struct session *s);
void relay_dane_ask(struct session *s);
/* MSG_DANE_IS; and the lookup that was asked is gone. */
void relay_dane_is(struct relay *r, struct chan *c, struct chan_in *m);
void relay_dane_gone(struct delivery *d, const struct chan *c);
void relay_dane_free(struct session *s);

/* -- relay_tls.c: bytes -------- */

enum relay_tls_step { RELAY_TLS_READ = 1, RELAY_TLS_WRITE, RELAY_TLS_DONE,
	RELAY_TLS_FAILED };
/* Make TLS for s; false: the policy leaves no protocol or cipher. */
bool relay_tls_new(struct session *s, char *servername);
enum relay_tls_step relay_tls_step(struct session *s);
/* Why that failed, and, NULL or not, the library's word for it. */
const char *relay_tls_failure(const struct session *s,
    const char **ret_reason);
bool relay_tls_active(const struct session *s);
/* As recv() and send(): -1 with errno, EAGAIN: later. */
ssize_t relay_tls_recv(struct session *s, void *to, size_t n);
ssize_t relay_tls_send(struct session *s, const void *p, size_t n);
/* Reading can go on only when the socket takes something. */
bool relay_tls_wants_write(const struct session *s);
/* Tell the server that nothing follows. */
void relay_tls_bye(struct session *s);
void relay_tls_free(struct session *s);

#endif
