#include <stdlib.h>

#include "lib/mem.h"
#include "rules/condition_policy.h"

#define SHOWN	100u

static const char *const actions[] = {
	[CONDITION_IGNORE] = "ignore", [CONDITION_WARN] = "warn",
	[CONDITION_HOLD] = "hold", [CONDITION_REJECT] = "reject",
};

static bool
find_action(struct view word, enum condition_action *ret)
{
	size_t i;

	for (i = 0; i < sizeof actions / sizeof actions[0]; i++)
		if (view_is_nocase(word, actions[i])) {
			*ret = (enum condition_action)i;
			return true;
		}
	return false;
}

/* Returns false. */
static bool
bad(const char *parameter, const char *what, struct view word,
    table_report *report, void *arg)
{
	char *why = mem_printf("main.cf: %s: %s \"%.*s\"", parameter, what,
	    VIEW_ARGS(view_head(word, SHOWN)));

	report(true, why, arg);
	free(why);
	return false;
}

bool
condition_policy_get(const struct conf *cf, struct condition_policy *ret,
    table_report *report, void *arg)
{
	static const char checks[] = "mime_ambiguity_checks";
	struct view rest = view_of(cf->mime_ambiguity_checks), name, word;
	struct condition_policy p = { .action[0] = CONDITION_IGNORE };
	enum condition_action all;
	enum mime_condition c;

	word = view_trim(view_of(cf->mime_ambiguity));
	if (!find_action(word, &all))
		return bad("mime_ambiguity", "bad value", word, report, arg);
	for (c = 1; c < MIME_CONDITIONS; c++)
		if (condition_class(c) == CONDITION_DECEIT)
			p.action[c] = all;
	while ((name = view_word(&rest, ", \t\r\n{}")).n > 0) {
		c = condition_find(name);
		if (c == MIME_CONDITION_NONE)
			return bad(checks, "unknown condition", name, report,
			    arg);
		word = view_word(&rest, ", \t\r\n{}");
		if (!find_action(word, &p.action[c]))
			return bad(checks, word.n > 0 ? "unknown action" :
			    "no action for", word.n > 0 ? word : name, report,
			    arg);
	}
	*ret = p;
	return true;
}

struct condition_set
condition_policy_set(const struct condition_policy *p)
{
	struct condition_set set = { 0 };
	enum mime_condition c;

	for (c = 1; c < MIME_CONDITIONS; c++)
		if (p->action[c] != CONDITION_IGNORE)
			condition_add(&set, c);
	return set;
}

bool
condition_policy_acts(const struct condition_policy *p)
{
	enum mime_condition c;

	for (c = 1; c < MIME_CONDITIONS; c++)
		if (p->action[c] > CONDITION_WARN)
			return true;
	return false;
}
