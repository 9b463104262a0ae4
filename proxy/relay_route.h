/*
 * The way to a next hop: what its text means, and in which order its
 * addresses are tried.  Pure.
 */
#ifndef PROXY_RELAY_ROUTE_H
#define PROXY_RELAY_ROUTE_H

#include "lib/netaddr.h"
#include "lib/view.h"

#define RELAY_ADDRESSES_MAX	100u

/*
 * "domain", "domain:port" (MX), "[host]", "[host]:port" (no MX), "[192.0.2.1]",
 * "[IPv6:2001:db8::1]:port".
 */
struct relay_nexthop {
	struct view host;
	struct view service;	/* "smtp", or as given; not a number */
	uint16_t port;
	bool mx;
	bool numeric;		/* addr is set; nothing to ask */
	bool port_given;
	struct view path;	/* of a socket (LMTP); empty: none */
	struct netaddr addr;
};
bool relay_nexthop_parse(struct view text, struct relay_nexthop *ret);

struct relay_address {
	uint16_t preference;
	struct view host;
	struct netaddr addr;
};

enum relay_family { FAMILY_IPV4 = 1, FAMILY_IPV6 = 2, FAMILY_ANY = 3 };

/* Lowest preference first, equals in random order, or as they were, but with
 * the family preferred in front. */
void relay_route_order(struct relay_address *list, size_t n,
    enum relay_family preferred, bool shuffle);
/* Drop the other family; returns how many are left. */
size_t relay_route_only(struct relay_address *list, size_t n,
    enum relay_family family);
/*
 * Mail loops (RFC 5321 section 5.1): if one of the addresses is our own, drop
 * it and all that are not preferred to it.  Returns how many are left;
 * *ret_self tells whether one was found.  The list is ordered.
 */
size_t relay_route_drop_own(struct relay_address *list, size_t n,
    const struct netaddr *own, size_t n_own, bool *ret_self);
/*
 * The first max addresses to try, in their order.  balance: neither family
 * takes more than half of them while the other has some, for one of the two
 * may lead nowhere.  Returns how many are left.
 */
size_t relay_route_limit(struct relay_address *list, size_t n, size_t max,
    bool balance);

#endif
