/*
 * What is done about conditions (rules/condition.def): mime_ambiguity for
 * those that make receivers disagree, and mime_ambiguity_checks, a list of
 * "name action" pairs, for any.  Actions: reject, hold, warn, ignore.
 */
#ifndef RULES_CONDITION_POLICY_H
#define RULES_CONDITION_POLICY_H

#include "lib/conf.h"
#include "lib/conf_choice.h"
#include "rules/condition.h"
#include "rules/table.h"

struct condition_policy { enum condition_action action[MIME_CONDITIONS]; };

/* False after a report, and *ret is what it was. */
bool condition_policy_get(const struct conf *cf, struct condition_policy *ret,
    table_report *report, void *arg);
/* Those about which something is to be done. */
struct condition_set condition_policy_set(const struct condition_policy *p);
/* Is mail held or refused? */
bool condition_policy_acts(const struct condition_policy *p);

#endif
