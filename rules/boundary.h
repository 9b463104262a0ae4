/*
 * The boundaries in force at one place of a message (RFC 2046 section 5.1.1),
 * those of outer parts first.  Their number and length are limited.
 */
#ifndef RULES_BOUNDARY_H
#define RULES_BOUNDARY_H

#include "lib/buf.h"
#include "rules/field.h"

struct boundary {
	size_t at, n;		/* in the set's text */
	size_t token_n;		/* see struct field_value */
	size_t level;		/* of the part that declared it: its depth */
	bool digest;
	bool closed;		/* its final boundary was seen */
};

struct boundaries {
	struct boundary *list;
	size_t n, max;
	size_t length_limit;
	struct buf text;
};

enum boundary_added { BOUNDARY_ADDED = 1, BOUNDARY_CUT, BOUNDARY_TOO_MANY };

enum boundary_line { BOUNDARY_NONE = 0, BOUNDARY_OPEN, BOUNDARY_CLOSE };

void boundaries_init(struct boundaries *b, size_t max, size_t length_limit);
void boundaries_free(struct boundaries *b);
void boundaries_clear(struct boundaries *b);
/* One that is there already at this level is not added again.  CUT: added,
 * but compared only up to the limit. */
enum boundary_added boundaries_add(struct boundaries *b,
    const struct field_value *v, size_t level, bool digest);
/*
 * Is this line, which begins with "--", one of them?  *ret_which is its
 * index.  *ret_ambiguous: receivers could disagree on which one it is.
 */
enum boundary_line boundaries_find(const struct boundaries *b,
    struct view line, size_t *ret_which, bool *ret_ambiguous);
/* Is the line the boundary and nothing more? */
bool boundaries_whole(const struct boundaries *b, struct view line,
    size_t which);
/* Is there one of these bytes in a part around this level? */
bool boundaries_outer(const struct boundaries *b, struct view text,
    size_t level);
/* Its final boundary was seen; it begins a part nevertheless. */
void boundaries_close(struct boundaries *b, size_t which);
void boundaries_open(struct boundaries *b, size_t which);
/* Is the final boundary of one of them missing? */
bool boundaries_unfinished(const struct boundaries *b);
/* Parts of this level and deeper are over. */
void boundaries_leave(struct boundaries *b, size_t level);

#endif
