/*
 * Does what rules/condition_policy.h says about conditions.  A sink of the
 * leaf stage.  Each condition that counts is logged once per part, in the
 * form of a rule's action.
 */
#ifndef FILTERS_AMBIGUITY_H
#define FILTERS_AMBIGUITY_H

#include "filters/findings.h"
#include "filters/leaf.h"
#include "lib/envelope.h"
#include "rules/condition_policy.h"
#include "rules/mime.h"

struct ambiguity {
	struct leaf_sink sink;	/* first */
	struct condition_policy policy;
	struct mime *walk;
	struct leaves *leaves;
	struct findings *findings;
	const struct envelope *envelope;
	char id[MESSAGE_NAME];
	uint32_t logged;
};

void ambiguity_init(struct ambiguity *a, const struct condition_policy *p,
    struct mime *walk, struct leaves *leaves, struct findings *findings);
void ambiguity_begin(struct ambiguity *a, const struct envelope *e,
    struct queue_id id);

#endif
