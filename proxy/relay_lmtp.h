/*
 * LMTP (RFC 2033), where it differs from SMTP before a session has begun: its
 * next hops and sockets.  Which protocol it is belongs to the process: those
 * of an "lmtp" service of master.cf speak nothing else, and have each lmtp_X
 * as their smtp_X.
 */
#ifndef PROXY_RELAY_LMTP_H
#define PROXY_RELAY_LMTP_H

#include "lib/conf.h"
#include "proxy/relay_route.h"

/* The port of a next hop that names none.  24 if text is no port. */
uint16_t relay_lmtp_port(const char *text);
/*
 * "unix:path", "inet:host:port", or as for SMTP, but never by MX.  False: it
 * is none.
 */
bool relay_lmtp_nexthop(struct view text, uint16_t port,
    struct relay_nexthop *ret);
/*
 * Connect to a socket on this host.  A path without a slash in front begins
 * in queue_directory, which is also all that a process in its jail can see.
 * -1 with errno: ENAMETOOLONG and EXDEV are ours, see below.
 */
int relay_lmtp_socket(const struct conf *cf, struct view path);
/* What errno means after that, in words. */
const char *relay_lmtp_error(int error);

#endif
