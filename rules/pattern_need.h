/*
 * What a text must have in it to match a pattern: at least one window of a
 * short list (rules/pattern_window.h), or of each of a few.  A search for the
 * lists of a thousand patterns costs little more than a search for one
 * string, and tells which patterns need not be asked at all.  Pure.
 */
#ifndef RULES_PATTERN_NEED_H
#define RULES_PATTERN_NEED_H

#include "rules/pattern_tree.h"
#include "rules/pattern_window.h"

#define WINDOWS_MAX	16u	/* of one list */

struct windows {
	size_t n;
	struct window list[WINDOWS_MAX];
};

/* Of each of these lists a window has to be in the text; the first is the one
 * that is best searched for. */
#define NEEDS_MAX	3u

struct needs {
	size_t n;
	struct windows of[NEEDS_MAX];
};

/* False: there is no such list, or none that is rare enough to be worth a
 * search. */
bool pattern_needs(const struct pattern_node *tree, struct byte_classes *c,
    struct needs *ret);

#endif
