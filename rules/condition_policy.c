#include <stdlib.h>

#include "lib/mem.h"
#include "rules/condition_policy.h"

#define SHOWN	100u

static bool
find_action(struct view word, enum condition_action *ret)
{
	uint32_t value;

	if (!conf_choice_word("mime_ambiguity", word, &value))
		return false;
	*ret = (enum condition_action)value;
	return true;
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

	all = conf_choice("mime_ambiguity", view_of(cf->mime_ambiguity));
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
