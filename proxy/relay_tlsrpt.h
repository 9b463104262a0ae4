/*
 * What came of TLS in a session is told to tlsrpt (RFC 8460): once for each
 * session with a mail server of a domain, if what was wanted of it is the
 * domain's own policy, or just TLS.  What our own tables demand beyond that is
 * not the domain's fault, and not told.
 *
 * Nobody waits for this; if tlsrpt does not run, or does not read, results
 * are lost.
 */
#ifndef PROXY_RELAY_TLSRPT_H
#define PROXY_RELAY_TLSRPT_H

#include "lib/role.h"
#include "proxy/relay_session.h"
#include "rules/tlsrpt_tally.h"

/* reason: NULL, or why it failed, in the library's words or ours. */
void relay_tlsrpt_session(struct session *s, enum tlsrpt_result r,
    const char *reason);
/* The certificate was not what the policy wants: why not. */
void relay_tlsrpt_certificate(struct session *s);
/* All is fine, or, in mode testing of MTA-STS, would be if it were to be. */
void relay_tlsrpt_success(struct session *s);
/* The domain's policy does not name this one of its mail servers. */
void relay_tlsrpt_host(const struct delivery *d, struct view host);

/* A tlsrpt to tell. */
void relay_tlsrpt_peer(const struct role_peer *peer, int fd);

#endif
