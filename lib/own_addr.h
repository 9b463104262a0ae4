/*
 * The addresses of this machine that are ours by inet_interfaces: mail for
 * user@[one of them] is for us, and an MX that has one is ourselves.  Asks the
 * kernel, and the resolver for names; before the jail.
 */
#ifndef LIB_OWN_ADDR_H
#define LIB_OWN_ADDR_H

#include "lib/conf.h"
#include "lib/netaddr.h"

#define OWN_ADDR_MAX	256u

/* Returns how many of at most max; what cannot be found out is logged. */
size_t own_addresses(const struct conf *cf, struct netaddr *ret, size_t max);

#endif
