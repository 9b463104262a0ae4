/*
 * Where mail for an address goes: its class, transport and next hop, from
 * mydestination, relay_domains, transport_maps, relayhost and the
 * *_transport parameters (Postfix's ADDRESS_CLASS_README).  Tables are opened
 * before the jail; route_find() is pure.
 */
#ifndef RULES_ROUTE_H
#define RULES_ROUTE_H

#include "lib/conf.h"
#include "rules/class.h"

struct router;

/* own: this machine's addresses, for user@[address].  NULL after an error was
 * reported. */
struct router *router_open(const struct conf *cf, const struct netaddr *own,
    size_t n_own, table_report *report, void *arg);
void router_free(struct router **r);

/*
 * The transport and next hop of an address (internal form).  Both are
 * appended to the buffers, which are cleared first.  The next hop is in lower
 * case, so that one destination has one name.  TABLE_FAILED: a table could
 * not be asked; try later.
 */
enum table_answer route_find(const struct router *r, struct view addr,
    struct buf *transport, struct buf *nexthop);
/* "transport:nexthop" as in transport(5); the parts may be empty. */
void route_split(struct view value, struct view *ret_transport,
    struct view *ret_nexthop);

#endif
