/*
 * Connections from a proxy (smtpd_upstream_proxy_protocol) of which it is not
 * known yet whose they are.  The header is read and nothing behind it; one that
 * is wrong, or not there in time, closes the connection.
 */
#ifndef PROXY_GATE_PROXIED_H
#define PROXY_GATE_PROXIED_H

#include "lib/netaddr.h"

/* How many may wait at once; further ones are closed. */
#define PROXIED_MAX	2000u

/* The client is known; fd is the hook's.  who: as given to proxied_wait(),
 * and still the hook's. */
typedef void proxied_hook(void *who, int fd, const struct netaddr *remote,
    const struct netaddr *local);
/* It will not be; fd is closed. */
typedef void proxied_gone(void *who);

/* Takes fd over. */
void proxied_wait(int fd, const struct netaddr *remote,
    const struct netaddr *local, int64_t ms, proxied_hook *hook,
    proxied_gone *gone, void *who);
/* How many wait, and how many were closed. */
unsigned proxied_waiting(void);
uint64_t proxied_refused(void);

#endif
