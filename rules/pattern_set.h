/*
 * Many patterns asked at once: the strings without which they cannot match
 * (rules/pattern_literal.h), of a whole table, in one Vectorscan database.
 * It names the rules that may match a key; PCRE2 or regexec() confirms, in
 * the order of the rules, so that the answer is the one that asking each in
 * turn gives.  All memory is taken when the set is made; asking needs no
 * system call.
 *
 * Only strings, no expressions: a database of 10,000 is compiled in a
 * fraction of a second, where one of expressions takes half a minute, or any
 * amount of memory; and with expressions the library, 5.4.9 at least, has
 * been seen not to report a match (with its flag "single match").
 */
#ifndef RULES_PATTERN_SET_H
#define RULES_PATTERN_SET_H

#include "rules/pattern.h"
#include "rules/pattern_literal.h"

struct pattern_set;

/* A program that has much to ask names these to table_pattern_sets(); so
 * only such a program is linked with Vectorscan. */
struct pattern_sets {
	/* Of rules numbered 0 to rules-1; each may match any key until it is
	 * added. */
	struct pattern_set *(*new)(size_t rules);
	void (*free)(struct pattern_set **s);

	/* This rule cannot match a key that has not got these in it; once
	 * for each rule. */
	void (*add)(struct pattern_set *s, size_t rule,
	    const struct needs *l);
	/* This rule matches no key. */
	void (*never)(struct pattern_set *s, size_t rule);
	/*
	 * After the last one.  cache: the directory of rules/pattern_cache.h,
	 * or NULL.  False: *ret_why (static text) says why; the set is of no
	 * use.
	 */
	bool (*build)(struct pattern_set *s, const char *cache,
	    const char **ret_why);

	/* Which rules may match this key; false: it cannot be told, ask them
	 * all. */
	bool (*scan)(struct pattern_set *s, struct view key);
	/* After scan(): the first of them from this one on, or the number of
	 * rules if there is none. */
	size_t (*next)(const struct pattern_set *s, size_t rule);
	/* After scan(): may this one match? */
	bool (*has)(const struct pattern_set *s, size_t rule);
};

/* NULL if this was built without Vectorscan or Hyperscan, or if the processor
 * is none that it knows. */
const struct pattern_sets *pattern_sets(void);

#endif
