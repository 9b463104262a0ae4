/*
 * The addresses that inet services listen on, and the sockets.
 *
 * First column of master.cf: "smtp", "25", ":25", "127.0.0.1:2525",
 * "[::1]:25", "name:smtp".  Without a host: each address of inet_interfaces.
 * inet_protocols leaves out one family.
 */
#ifndef PROXY_MASTER_LISTEN_H
#define PROXY_MASTER_LISTEN_H

#include "lib/netaddr.h"
#include "proxy/master_plan.h"

#define LISTEN_MAX	256u	/* sockets altogether */

struct listener {
	struct netaddr addr;
	uint32_t service;
	char *name;		/* service name */
	int fd;			/* -1: not bound */
};

struct listen_set {
	struct listener *list;
	size_t n;
};

/* Only works the addresses out.  NULL after at least one error. */
struct listen_set *listen_resolve(const struct plan *p, const struct conf *cf,
    const struct reporter *r);
/*
 * Bind those that have no socket yet.  An address that have (may be NULL)
 * holds already gets a duplicate of that socket, so that no connection in
 * its queue is lost.  False after at least one error.
 */
bool listen_bind(struct listen_set *set, const struct listen_set *have,
    const struct reporter *r);
/* Closes the sockets held. */
void listen_free(struct listen_set **set);
/* "192.0.2.1:25", "[2001:db8::1]:25" */
#define LISTEN_TEXT	(NETADDR_TEXT + 10)
const char *listen_text(const struct netaddr *a, char buf[LISTEN_TEXT]);

#endif
