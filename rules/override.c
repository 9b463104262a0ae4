#include <stdlib.h>

#include "lib/conf_choice.h"
#include "rules/override.h"
#include "rules/verdict.h"

uint32_t
override_flags(const struct conf *cf)
{
	return ~OVERRIDE_UNLISTED & conf_choice("receive_override_options",
	    view_of(cf->receive_override_options));
}

bool
override_unlisted(const struct conf *cf)
{
	return (OVERRIDE_UNLISTED & conf_choice("receive_override_options",
	    view_of(cf->receive_override_options))) != 0;
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
