/*
 * Many patterns asked at once: the windows without which they cannot match
 * (rules/pattern_need.h) of a whole table are searched for in one go.  It
 * names the rules that may match a key; PCRE2 or regexec() confirms, in the
 * order of the rules, so that the answer is the one that asking each in turn
 * gives.  All memory is taken when the set is made; asking needs no system
 * call.
 *
 * Only strings are searched for, no expressions: a Vectorscan database of
 * 10,000 of these takes half a minute to compile, or any amount of memory; and
 * with expressions the library, 5.4.9 at least, has been seen not to report a
 * match (with its flag "single match").  And of more than some hundred strings
 * it finds so many places where one might be that an index of hashes is faster
 * (rules/literal_index.h).
 */
#ifndef RULES_PATTERN_SET_H
#define RULES_PATTERN_SET_H

#include "rules/pattern.h"
#include "rules/literal_database.h"
#include "rules/pattern_need.h"

struct pattern_set;

struct pattern_sets {
	/*
	 * Of rules numbered from 0 on; each may match any key until it is
	 * added.  database: for a set that is not large, or NULL; cache: where
	 * it keeps databases, or NULL.
	 */
	struct pattern_set *(*new)(const struct literal_databases *database,
	    const char *cache);
	void (*free)(struct pattern_set **s);

	/* This rule matches what the tree stands for; once for each rule.
	 * False: this says nothing about a key that is worth a search. */
	bool (*add)(struct pattern_set *s, size_t rule,
	    const struct pattern_node *tree);
	/* This rule matches no key. */
	void (*never)(struct pattern_set *s, size_t rule);
	/*
	 * After the last one: so many rules there are.  False: *ret_why
	 * (static text) says why; the set is of no use.
	 */
	bool (*build)(struct pattern_set *s, size_t rules,
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

const struct pattern_sets *pattern_sets(void);

#endif
