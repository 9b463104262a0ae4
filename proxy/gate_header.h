/*
 * The header by which a proxy in front says whose connection it is: the PROXY
 * protocol of HAProxy, version 1 (text) and 2 (binary).  Pure; input may be cut
 * anywhere.
 *
 * Refused is all that does not name a TCP client: "UNKNOWN" and UNSPEC too,
 * because what the proxy itself may do is not for whoever it does not know.
 * LOCAL is the proxy itself, such as its health check.
 */
#ifndef PROXY_GATE_HEADER_H
#define PROXY_GATE_HEADER_H

#include "lib/netaddr.h"

/* Version 2 may carry this much, most of it fields that are skipped. */
#define GATE_HEADER_MAX	4096u

enum gate_header {
	GATE_HEADER_BAD = 0,
	GATE_HEADER_MORE,	/* so far it could be one */
	GATE_HEADER_CLIENT,	/* *remote and *local are set */
	GATE_HEADER_LOCAL	/* the connection's own addresses hold */
};

/* *ret_n: with MORE how many bytes of in are the header's for sure (all),
 * else its length. */
enum gate_header gate_header_read(struct view in, size_t *ret_n,
    struct netaddr *remote, struct netaddr *local);

#endif
