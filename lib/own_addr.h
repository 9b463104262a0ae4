/*
 * The addresses by which this host is meant: mail for user@[one of them] is
 * for us, and an MX that has one is ourselves.  Those of inet_interfaces are
 * of this machine, and are listened on and bound to; those of proxy_interfaces
 * are of a NAT or proxy in front of it, and are not: a client that has one is
 * some host behind the NAT.
 */
#ifndef LIB_OWN_ADDR_H
#define LIB_OWN_ADDR_H

#include "lib/conf.h"
#include "lib/netaddr.h"

#define OWN_ADDR_MAX	256u

/*
 * Of inet_interfaces.  Asks the kernel, and the resolver for names; before the
 * jail.  Returns how many of at most max; what cannot be found out is logged.
 */
size_t own_addresses(const struct conf *cf, struct netaddr *ret, size_t max);
/*
 * Of proxy_interfaces: addresses, no names.  Returns how many of at most
 * OWN_ADDR_MAX; false: not what it may be, as why says.
 */
bool own_proxy_parse(struct view text, struct netaddr ret[OWN_ADDR_MAX],
    size_t *ret_n, char *why, size_t why_size);
/* A copy of own, of n, and proxy_interfaces after it; to be freed. */
struct netaddr *own_and_proxies(const struct conf *cf,
    const struct netaddr *own, size_t n, size_t *ret_n);

#endif
