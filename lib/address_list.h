/*
 * Lists of addresses as they stand in To: and Cc: (RFC 5322 section 3.4, with
 * the obsolete syntax of section 4.4 where programs still write it): names,
 * angle brackets, groups, comments, quoted strings, routes, folded lines.
 * What is no address is refused as a whole; nothing is guessed, because a
 * wrong guess sends mail to a stranger.
 */
#ifndef LIB_ADDRESS_LIST_H
#define LIB_ADDRESS_LIST_H

#include "lib/view.h"

enum address_list_status {
	ADDRESS_LIST_OK = 1,
	ADDRESS_LIST_SYNTAX,
	ADDRESS_LIST_STOPPED	/* by each() */
};

/* One address in internal form (lib/address.h), perhaps without a domain.
 * The view is good until the function returns.  False: stop. */
typedef bool address_list_each(struct view addr, void *arg);

/*
 * Call each for every address of the list, in order.  Empty places, "<>" and
 * empty groups are no addresses.  After ADDRESS_LIST_SYNTAX *ret_bad is the
 * item that cannot be read; those before it were given to each.
 */
enum address_list_status address_list_read(struct view list,
    address_list_each *each, void *arg, struct view *ret_bad)
    __attribute__((warn_unused_result));

#endif
