/*
 * Which login is for a server: smtp_sasl_password_maps.  Pure; tables behind
 * connections are asked as rules/table_remote.h says.
 *
 * Keys are, in this order: the sender as a whole, without its extension, its
 * "@domain" (if logins go by sender); "host:port" and the name of the host;
 * the next hop as transport_maps or relayhost has it, with its brackets and
 * its port.  Postfix's order; host:port is ours.
 */
#ifndef PROXY_CREDENTIALS_FIND_H
#define PROXY_CREDENTIALS_FIND_H

#include "lib/buf.h"
#include "rules/table.h"

#define CREDENTIALS_KEY_MAX	2048u
#define CREDENTIALS_VALUE_MAX	8448u	/* bytes of an entry */

struct credentials_about {
	struct view sender, next_hop, host;
	uint16_t port;
};

/* value is cleared first, and has room for CREDENTIALS_VALUE_MAX. */
enum table_answer credentials_find(const struct table_list *maps,
    const char *delimiters, const struct credentials_about *about,
    struct buf *value, const struct table **ret_table, unsigned *ret_line);

/* "user:secret"; false: it is not. */
bool credentials_split(struct view entry, struct view *ret_user,
    struct view *ret_secret);

#endif
