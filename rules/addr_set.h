/*
 * A set of texts, compared without case (ASCII): to find duplicates.  It
 * grows as needed; what goes in is bounded by the caller.
 */
#ifndef RULES_ADDR_SET_H
#define RULES_ADDR_SET_H

#include "lib/view.h"

struct addr_set {
	struct view *list;	/* not copied */
	size_t n, room;
	uint32_t *slots;	/* 1 + index into list; 0: empty */
	size_t mask;
};

void addr_set_free(struct addr_set *s);
/* False: it was in there already.  The text must stay where it is. */
bool addr_set_add(struct addr_set *s, struct view text);
bool addr_set_has(const struct addr_set *s, struct view text);

#endif
