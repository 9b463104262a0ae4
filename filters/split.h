/*
 * Which recipients of a message have which rule set (filter_policy_maps), and
 * who of them shares a judgement.  The class of a recipient is that of the
 * address the client named, before it is rewritten.
 */
#ifndef FILTERS_SPLIT_H
#define FILTERS_SPLIT_H

#include "filters/ruleset.h"
#include "lib/envelope.h"
#include "rules/addr_find.h"

struct split {
	const struct rulesets *sets;
	struct table_list maps;
	struct classes *classes;
	struct addr_keys keys;
	struct buf value;

	/* of the message */
	uint8_t *set;		/* of each recipient; owned */
	uint32_t cap;
	bool used[RULESETS_MAX];
	size_t n_used;
	struct buf copies;	/* automatic ones that are on their way */
};

/* False: a mistake was reported.  cf and sets must outlive it. */
bool split_open(struct split *s, const struct conf *cf,
    const struct rulesets *sets, table_report *report, void *arg);
void split_free(struct split *s);
/* No maps: every recipient has the first rule set, and nothing is asked. */
static inline bool
split_off(const struct split *s)
{
	return s->maps.n == 0;
}

enum split_answer { SPLIT_ONE = 1, SPLIT_SEVERAL, SPLIT_FAILED };
/* Look all recipients up; id is for the log.  SPLIT_ONE: they all have
 * *ret_set. */
enum split_answer split_begin(struct split *s, const struct envelope *e,
    struct queue_id id, size_t *ret_set);

/* The recipients that have one of these sets: ret->rcpts and the indices
 * they had are in a. */
void split_envelope(const struct split *s, const struct envelope *e,
    const bool sets[RULESETS_MAX], struct arena *a, struct envelope *ret,
    uint32_t **ret_index);

/*
 * The copies (always_bcc and the like) in an envelope that an earlier part of
 * the message has too are taken out; those left are remembered.  One that
 * would have nobody left stays as it is.
 */
void split_copies(struct split *s, struct envelope *e);

#endif
