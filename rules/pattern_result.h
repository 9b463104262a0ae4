/*
 * The result of a regexp: or pcre: rule: text with $1, ${1} or $(1) for what
 * the groups of its pattern took, and $$ for a dollar.
 */
#ifndef RULES_PATTERN_RESULT_H
#define RULES_PATTERN_RESULT_H

#include "rules/pattern.h"

struct pattern_result;

/* *ret_groups: the highest group in it.  NULL: what follows a $ is none of
 * these. */
struct pattern_result *pattern_result_new(struct view text,
    unsigned *ret_groups);
void pattern_result_free(struct pattern_result **r);

/* Append it, with the groups of the engine's last match in key; false: b has
 * no room. */
bool pattern_result_put(const struct pattern_result *r,
    const struct pattern_engine *e, struct view key, struct buf *b);
/* The same with one text for all groups. */
bool pattern_result_sample(const struct pattern_result *r,
    struct view sample, struct buf *b);

#endif
