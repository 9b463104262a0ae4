/*
 * Rule sets: the content rules of main.cf, and those of each policy class of
 * recipients (filter_policy_classes), which are the same but for what the
 * class has of its own: CLASS_header_checks and so on (conf_class_params).
 * The first one is that of recipients without a class.
 */
#ifndef FILTERS_RULESET_H
#define FILTERS_RULESET_H

#include "filters/ambiguity.h"
#include "filters/attach.h"
#include "filters/checks.h"
#include "filters/decoded.h"

#define RULESETS_MAX	33u	/* classes, and none */

struct ruleset {
	const char *name;	/* NULL: no class */
	struct conf conf;	/* with the class's own values */
	struct checks_rules rules;
	struct table_list attach_rules;
	struct condition_policy conditions;

	/* The engine's; see there. */
	struct checks checks, inner_checks;
	struct ambiguity ambiguity;
	struct decoded decoded;
	struct attach attach;
	bool look_inside;	/* somebody wants to know of leaves */
	bool open_inner;	/* ... and of messages in them */
};

struct rulesets {
	struct ruleset *list[RULESETS_MAX];
	size_t n;
	/* A list often stands in several parameters: it is opened once. */
	struct opened_list *opened;
};

/* Has any of the sets, which are not open yet, attachment_checks? */
bool rulesets_attach(const struct conf *cf);
/* How patterns are tried: together, or (for measurements) one by one. */
void rulesets_alone(void);
/* Mistakes are reported, then it is false.  cf must outlive it. */
bool rulesets_open(struct rulesets *s, const struct conf *cf,
    table_report *report, void *arg);
void rulesets_free(struct rulesets *s);
/* The samples in all rule files. */
bool rulesets_check_samples(const struct rulesets *s, table_report *report,
    void *arg);
/* "default" is the first one; false: there is no such class. */
bool rulesets_find(const struct rulesets *s, struct view name, size_t *ret);

#endif
