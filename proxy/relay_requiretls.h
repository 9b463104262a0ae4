/*
 * Mail with REQUIRETLS (RFC 8689) and the servers it may go to.
 */
#ifndef PROXY_RELAY_REQUIRETLS_H
#define PROXY_RELAY_REQUIRETLS_H

#include "proxy/relay_session.h"

/* What d's next hop must have, from tables; false: these cannot be asked. */
bool relay_requiretls_find(struct delivery *d);
/* d may be sent over s. */
bool relay_requiretls_allows(const struct session *s,
    const struct delivery *d);
/* MAIL has the parameter. */
bool relay_requiretls_asks(const struct session *s);
/* s's delivery may not be sent over it: another server, or it is returned. */
void relay_requiretls_refuse(struct session *s);
/* "", "/requiretls" or "/requiretls:none" ... for the log. */
const char *relay_requiretls_word(const struct delivery *d);

#endif
