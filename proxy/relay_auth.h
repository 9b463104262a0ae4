/*
 * The relay logs in to a server (RFC 4954): after EHLO, and after TLS if there
 * is to be any, before the first mail.
 *
 * The relay has no table of passwords.  It asks the credentials role of its
 * own service for what belongs to the server it is connected to, keeps that
 * while it logs in, and overwrites it.  No delivery goes on without a login
 * that exists for its server: what cannot be had, or is refused, defers it or
 * sends it to the next server.
 *
 * A kept connection is used again for the same transport, next hop, policy and
 * (if logins go by sender) sender only, and not when the logins have changed.
 */
#ifndef PROXY_RELAY_AUTH_H
#define PROXY_RELAY_AUTH_H

#include "lib/role.h"
#include "proxy/relay_session.h"

/* Before the jail; false after a report. */
bool relay_auth_open(struct relay *r);
/* Mail could be sent to s: true if it has to log in first, or must and cannot
 * any more. */
bool relay_auth_due(struct session *s);
void relay_auth_free(struct session *s);
/* The sender by which logins are found; empty: they are not. */
struct view relay_auth_sender(const struct delivery *d);

/* The steps. */
void relay_auth_ask(struct session *s);
void relay_auth_say(struct session *s);
void relay_auth_reply(struct session *s);

/* -- relay_credentials.c: questions to the credentials role -------- */

struct relay_credentials {
	enum credentials answer;
	struct view user, secret, why;
};
struct relay_credentials_about {
	struct view sender, next_hop, host;
	uint16_t port;
	bool refused;		/* what was told before */
};
struct relay_credentials_question;

/* All views are void after the call. */
typedef void relay_credentials_done(const struct relay_credentials *c,
    void *arg);
/* The views must live until it is done or cancelled.  done is not called
 * before this returns; without a role that answers it waits for one. */
struct relay_credentials_question *relay_credentials_ask(
    const struct relay_credentials_about *about, relay_credentials_done *done,
    void *arg);
/* done is not called any more.  NULL is allowed. */
void relay_credentials_cancel(struct relay_credentials_question **q);
/* The server that it was told for does not take that password, and says why. */
void relay_credentials_refused(const struct relay_credentials_about *about,
    const struct relay_credentials *c);
/* A role to ask. */
void relay_credentials_peer(const struct role_peer *peer, int fd);
/* Changes when logins may have. */
uint32_t relay_credentials_age(void);

#define CREDENTIALS_SECRET_MAX	8192u	/* bytes: tokens are long */

#endif
