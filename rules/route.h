/*
 * Where mail for an address goes: its class, transport and next hop, from
 * the lists of domains, relayhost, the *_transport parameters, the tables by
 * sender, transport_maps and relocated_maps (Postfix's ADDRESS_CLASS_README,
 * and the order of its resolver).  Tables are opened before the jail;
 * route_find() is pure.
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
 * The configuration as it is for probes of addresses, with address_verify_X in
 * the place of X (relay_transport, transport_maps, ...).  False: there is no
 * difference.  *ret shares the texts of cf and is not freed.
 */
bool router_conf_probes(const struct conf *cf, struct conf *ret);

/*
 * The transport and next hop of a recipient; sender is that of the message,
 * empty for <> (both in internal form).  Both are
 * appended to the buffers, which are cleared first.  The next hop is in lower
 * case, so that one destination has one name.  TABLE_FAILED: a table could
 * not be asked; try later.
 *
 * "error" is a transport whose next hop is the reason, perhaps behind an
 * enhanced status ("5.1.1 User unknown").
 */
enum table_answer route_find(const struct router *r, struct view sender,
    struct view addr, struct buf *transport, struct buf *nexthop);

/* The text of such a reason; *ret_status: the status before it, else
 * untouched. */
struct view route_status(struct view reason, struct view *ret_status);

/* What each rule looked at said: the parameter, "file:line" or nothing, the
 * recipient, the result. */
typedef void route_trace(const char *what, struct view where,
    struct view addr, struct view result, void *arg);
void router_set_trace(struct router *r, route_trace *fn, void *arg);

/* The same of a parameter, "transport" or "transport:nexthop"; usual: the next
 * hop if it has none. */
void route_put(struct view value, struct view usual, struct buf *transport,
    struct buf *nexthop);
/* "transport:nexthop" as in transport(5); the parts may be empty. */
void route_split(struct view value, struct view *ret_transport,
    struct view *ret_nexthop);

#endif
