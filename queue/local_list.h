/*
 * The right side of an alias, a .forward file, an :include: file: addresses,
 * "|command", /file, :include:/file, \user, separated by commas or line ends.
 * A line that begins with # is a comment.  What stands in "" is one piece, in
 * which \ takes the meaning of the next byte away.
 */
#ifndef QUEUE_LOCAL_LIST_H
#define QUEUE_LOCAL_LIST_H

#include "lib/buf.h"
#include "lib/view.h"

#define LIST_BYTES_MAX	(1u << 20)	/* of a file */
#define LIST_ITEM_MAX	8192u		/* bytes of a piece */

enum list_kind {
	LIST_ADDRESS = 1,	/* internal form, perhaps without a domain */
	LIST_DIRECT,		/* the same, with a \ in front of it */
	LIST_COMMAND,		/* without its | */
	LIST_FILE,		/* a path; one that ends in / is a maildir */
	LIST_INCLUDE		/* a path */
};
/* The view is void after the call.  False: stop. */
typedef bool list_item(enum list_kind kind, struct view text, void *arg);
/* False: item said so; a piece that is too long or no address is one of
 * them, with *ret_bad set to it (into text). */
bool list_parse(struct view text, list_item *item, void *arg,
    struct view *ret_bad);

#endif
