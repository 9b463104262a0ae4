/*
 * What is done about conditions (filters/condition.def): mime_ambiguity for
 * those that make receivers disagree, and mime_ambiguity_checks, a list of
 * "name action" pairs, for any.  Actions: reject, hold, warn, ignore.
 *
 * A sink of the leaf stage.  Each condition that counts is logged once per
 * part, in the form of a rule's action.
 */
#ifndef FILTERS_AMBIGUITY_H
#define FILTERS_AMBIGUITY_H

#include "filters/findings.h"
#include "filters/leaf.h"
#include "filters/mime.h"
#include "lib/conf.h"
#include "lib/envelope.h"

enum ambiguity_action { AMBIGUITY_IGNORE = 0, AMBIGUITY_WARN,
	AMBIGUITY_HOLD, AMBIGUITY_REJECT };

struct ambiguity_policy { enum ambiguity_action action[MIME_CONDITIONS]; };

/* *ret_bad: the word that is wrong.  Returns false after a mistake. */
bool ambiguity_parse(const struct conf *cf, struct ambiguity_policy *ret,
    const char **ret_parameter, struct view *ret_bad);
/* Is anything to be done at all? */
bool ambiguity_any(const struct ambiguity_policy *p);

struct ambiguity {
	struct leaf_sink sink;	/* first */
	struct ambiguity_policy policy;
	struct mime *walk;
	struct leaves *leaves;
	struct findings *findings;
	const struct envelope *envelope;
	char id[QUEUE_ID_TEXT];
	uint32_t logged;
};

void ambiguity_init(struct ambiguity *a, const struct ambiguity_policy *p,
    struct mime *walk, struct leaves *leaves, struct findings *findings);
void ambiguity_begin(struct ambiguity *a, const struct envelope *e,
    struct queue_id id);

#endif
