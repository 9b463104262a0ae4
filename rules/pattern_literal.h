/*
 * What a text must have in it to match a pattern: at least one string of a
 * short list, or of each of two.  A search for the lists of a thousand
 * patterns costs little more than a search for one string, and tells which
 * patterns need not be asked at all.  Pure.
 */
#ifndef RULES_PATTERN_LITERAL_H
#define RULES_PATTERN_LITERAL_H

#include "rules/pattern_tree.h"

#define LITERAL_BYTES_MAX	16u
#define LITERALS_MAX		16u	/* of one list */

struct literal {
	unsigned char n;
	bool nocase;		/* letters in either case; they are small */
	char p[LITERAL_BYTES_MAX];
};

struct literals {
	size_t n;
	struct literal list[LITERALS_MAX];
};

/*
 * A list is one that some string of has to be in the text; with two, the text
 * must have one of each.
 */
#define NEEDS_MAX		2u

struct needs {
	size_t n;
	struct literals of[NEEDS_MAX];
};

/* False: there is no such list, or none whose strings are rare enough to be
 * worth a search. */
bool pattern_needs(const struct pattern_node *tree, struct needs *ret);

#endif
