#include "rules/condition.h"
#include "lib/log.h"

static const struct {
	const char *name, *text;
	enum condition_class class;
} conditions[MIME_CONDITIONS] = {
#define CONDITION(symbol, name_, class_, text_)				\
	[symbol] = { name_, text_, CONDITION_##class_ },
#include "rules/condition.def"
#undef CONDITION
};

const char *
condition_name(enum mime_condition c)
{
	ensure(c > 0 && c < MIME_CONDITIONS);
	return conditions[c].name;
}

const char *
condition_text(enum mime_condition c)
{
	ensure(c > 0 && c < MIME_CONDITIONS);
	return conditions[c].text;
}

enum condition_class
condition_class(enum mime_condition c)
{
	ensure(c > 0 && c < MIME_CONDITIONS);
	return conditions[c].class;
}

enum mime_condition
condition_find(struct view name)
{
	int c;

	for (c = 1; c < MIME_CONDITIONS; c++)
		if (view_is_nocase(name, conditions[c].name))
			return (enum mime_condition)c;
	return MIME_CONDITION_NONE;
}
