/*
 * Edits: what a filter wants changed in a text.  The text itself is never
 * rewritten; edits are stored beside it and applied while it is sent.  A list
 * is sorted by offset, does not overlap and lies inside the text.
 *
 * Encoded: u32 n, n x (u64 offset, u64 remove, view insert).
 */
#ifndef LIB_EDIT_H
#define LIB_EDIT_H

#include "lib/cursor.h"
#include "lib/mem.h"

#define EDITS_MAX	1000u
#define EDITS_BYTES_MAX	(1u << 20)	/* encoded size of a list */

struct edit {
	uint64_t offset;	/* in the original text */
	uint64_t remove;	/* bytes dropped there */
	struct view insert;	/* bytes put in their place, CRLF line ends */
};

struct edits {
	struct edit *list;
	uint32_t n;
};

bool edits_put(struct buf *b, const struct edits *e);
/* An empty view is an empty list.  text_size: edits must lie inside. */
bool edits_get(struct view encoded, uint64_t text_size, struct arena *a,
    struct edits *ret) __attribute__((warn_unused_result));
/* Size of the text after the edits. */
uint64_t edits_size(const struct edits *e, uint64_t text_size);

/*
 * What two lists come to, one applied after the other: first, of a text of
 * text_size bytes, then one whose offsets are those of the text that first
 * makes of it.  The inserts stay where they are.
 */
void edits_compose(const struct edits *first, const struct edits *then,
    uint64_t text_size, struct arena *a, struct edits *ret);

#endif
