#include <stdlib.h>

#include "lib/envelope.h"
#include "rules/override.h"
#include "rules/verdict.h"

static const struct {
	const char *word;
	uint32_t flag;
	bool unlisted;
} options[] = {
	{ "no_address_mappings", ENVELOPE_NO_MAPPING, false },
	{ "no_header_body_checks", ENVELOPE_NO_CHECKS, false },
	{ "no_milters", ENVELOPE_NO_MILTERS, false },
	{ "no_unknown_recipient_checks", 0, true },
};
#define OPTIONS	(sizeof options / sizeof options[0])

static size_t
option_find(struct view word)
{
	size_t i = 0;

	while (i < OPTIONS && !view_is_nocase(word, options[i].word))
		i++;
	return i;
}

bool
override_flags(const struct conf *cf, uint32_t *ret, table_report *report,
    void *arg)
{
	struct view rest = view_of(cf->receive_override_options), word;
	uint32_t flags = 0;
	char *why;
	size_t i;

	while ((word = conf_word(&rest)).n > 0) {
		i = option_find(word);
		if (i == OPTIONS) {
			why = mem_printf("unknown receive_override_options "
			    "value: %.*s", VIEW_ARGS(view_head(word, 100)));
			report(true, why, arg);
			free(why);
			return false;
		}
		flags |= options[i].flag;
	}
	*ret = flags;
	return true;
}

bool
override_unlisted(const struct conf *cf)
{
	struct view rest = view_of(cf->receive_override_options), word;
	size_t i;

	while ((word = conf_word(&rest)).n > 0) {
		i = option_find(word);
		if (i < OPTIONS && options[i].unlisted)
			return true;
	}
	return false;
}

bool
override_filter_check(const struct conf *cf, table_report *report, void *arg)
{
	char *action = mem_printf("FILTER %s", cf->content_filter), *text;
	const char *why = "";
	struct verdict v;
	bool ok = cf->content_filter[0] == '\0' ||
	    verdict_parse(view_of(action), DIALECT_ACCESS, &v, &why);

	if (!ok) {
		text = mem_printf("bad value for content_filter: %s", why);
		report(true, text, arg);
		free(text);
	}
	free(action);
	return ok;
}
