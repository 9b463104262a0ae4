/*
 * Sets of bytes, as bracket expressions and escapes such as \w write them,
 * in the C locale, which is the only one here.
 */
#ifndef RULES_BYTE_SET_H
#define RULES_BYTE_SET_H

#include "lib/view.h"

struct byte_set {
	bool has[256];
};

void byte_set_range(struct byte_set *b, unsigned from, unsigned to);
void byte_set_invert(struct byte_set *b);
/* A letter in both cases, if it is there in one. */
void byte_set_fold(struct byte_set *b);
/* Add "alpha" and the like, or all others; false: not known. */
bool byte_set_class(struct byte_set *b, struct view name, bool negate);
/* Add what \d and the like stand for; false: not one of these. */
bool byte_set_escape(struct byte_set *b, int letter, bool posix);
/* As isalpha() and its kin. */
int byte_is_word(int c);

#endif
