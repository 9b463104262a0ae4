/*
 * A regular expression taken apart, as far as one needs to know to tell what
 * every text that it matches must have in it.  The tree stands for at least
 * the texts that the pattern matches, and maybe for others: what takes no
 * room (anchors, look-around, word ends) is left out, a back reference is
 * any text, lazy and possessive repeats are repeats.  Of a pattern that has
 * something in it whose meaning is not known to the letter there is no tree.
 * Pure.
 */
#ifndef RULES_PATTERN_TREE_H
#define RULES_PATTERN_TREE_H

#include "lib/mem.h"
#include "lib/view.h"
#include "rules/pattern.h"

#define PATTERN_TREE_TEXT_MAX	(32u << 10)	/* bytes of a pattern */
/* What a tree of such a pattern can take at most. */
#define PATTERN_TREE_MEMORY	(16u << 20)
#define PATTERN_ENDLESS		UINT32_MAX

enum node_kind {
	NODE_TEXT = 1,		/* any text */
	NODE_SET,		/* one byte of a set */
	NODE_SEQUENCE,		/* the children, one behind the other */
	NODE_CHOICE,		/* one of the children */
	NODE_REPEAT		/* the child, min to max times */
};

struct pattern_node {
	enum node_kind kind;
	uint32_t min, max;
	struct pattern_node *child, *next;
	uint64_t set[4];
};

static inline bool
node_has(const struct pattern_node *n, unsigned byte)
{
	return (n->set[byte / 64] >> (byte % 64) & 1) != 0;
}

/*
 * text and flags as for pattern_compile(), which accepted them.  The tree
 * lives in the arena; NULL: there is none.
 */
const struct pattern_node *pattern_tree(enum pattern_syntax syntax,
    struct view text, struct view flags, struct arena *a);

#endif
