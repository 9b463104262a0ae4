/*
 * Restrictions inside another mail server (postern-milter): which of the lists
 * it is to evaluate, and what of them cannot be there.  That server has its
 * own, and they stay in charge: only the lists that
 * postern_milter_restrictions names are evaluated, and nothing that is not
 * written in them.
 */
#ifndef RULES_POLICY_INSIDE_H
#define RULES_POLICY_INSIDE_H

#include "rules/policy.h"

/* The stages at which the lists are evaluated that it names, 1 << enum
 * policy_stage; 0: at none. */
uint32_t policy_inside_stages(const struct conf *cf);

/*
 * "name=value" settings that leave out what names, as that parameter, does not
 * name; *ret and what it points to are the caller's.
 */
size_t policy_inside_overrides(const char *names, char ***ret);

/*
 * What can be found before anything is opened, with "main.cf:12: ": false
 * after an error.  A list that is written there, and not named, warns.
 */
bool policy_inside_check(const struct conf *cf, conf_report *report,
    void *arg);

/* Why a restriction has no place there; NULL: it has. */
const char *policy_inside_refuses(struct view word);

/* policy_open() of such lists: what cannot be there is an error, and they need
 * not refuse strangers. */
struct policy *policy_open_inside(const struct conf *cf,
    const struct netaddr *own, size_t n_own, table_report *report, void *arg);

#endif
