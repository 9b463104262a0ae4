/*
 * Conditions: what is wrong or ambiguous in a message, by name.  The walk
 * tells them as events, decoders as a set with the end of each leaf.
 */
#ifndef RULES_CONDITION_H
#define RULES_CONDITION_H

#include "lib/view.h"

enum mime_condition {
	MIME_CONDITION_NONE = 0,
#define CONDITION(symbol, name, class, text)	symbol,
#include "rules/condition.def"
#undef CONDITION
	MIME_CONDITIONS
};
_Static_assert(MIME_CONDITIONS <= 64, "a set is one word");

enum condition_class { CONDITION_LIMIT = 1, CONDITION_DECEIT, CONDITION_ODD,
	CONDITION_HIDDEN };

/* A set of conditions. */
struct condition_set { uint64_t bits; };

static inline void
condition_add(struct condition_set *s, enum mime_condition c)
{
	s->bits |= (uint64_t)1 << c;
}

static inline bool
condition_has(struct condition_set s, enum mime_condition c)
{
	return (s.bits >> c & 1) != 0;
}

/* As main.cf and log lines write it: "duplicate-content-type". */
const char *condition_name(enum mime_condition c);
/* A sentence about it. */
const char *condition_text(enum mime_condition c);
enum condition_class condition_class(enum mime_condition c);
/* By name; MIME_CONDITION_NONE when there is none of this name. */
enum mime_condition condition_find(struct view name);

#endif
