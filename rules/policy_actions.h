/*
 * What restrictions asked for a message as a whole (HOLD, DISCARD, REDIRECT,
 * BCC, PREPEND, FILTER), gathered over its stages and recipients.
 */
#ifndef RULES_POLICY_ACTIONS_H
#define RULES_POLICY_ACTIONS_H

#include "lib/mem.h"
#include "rules/policy.h"

struct policy_actions {
	bool hold, discard;
	struct view hold_text, hold_where, redirect, filter;
	uint32_t n_bcc, n_prepend;
	struct view bcc[POLICY_LIST_MAX], prepend[POLICY_LIST_MAX];
};

/*
 * Add what r permits; *a, NULL while there is nothing, and its texts are in
 * the arena.  False, and nothing is added: more than POLICY_LIST_MAX copies or
 * headers.
 */
bool policy_actions_add(struct policy_actions **a, struct arena *arena,
    const struct policy_result *r) __attribute__((warn_unused_result));

#endif
