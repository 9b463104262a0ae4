#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "lib/conf.h"
#include "lib/conf_choice.h"
#include "lib/log.h"
#include "lib/tls_words.h"
#include "lib/sasl.h"

#define WHY_MAX	1000u

struct word {
	const char *text;	/* NULL: the end */
	uint32_t value;
};

#define SET(set)		static const struct word set##_words[] = {
#define WORD(text, value)	{ text, value },
#define END(set)		{ NULL, 0 } };
#define ONE(parameter, set)
#define SOME(parameter, set)
#include "lib/conf_choice.def"
#undef SET
#undef WORD
#undef END
#undef ONE
#undef SOME

static const struct choice {
	const char *parameter;
	const struct word *words;
	bool some;
} choices[] = {
#define SET(set)
#define WORD(text, value)
#define END(set)
#define ONE(parameter, set)	{ #parameter, set##_words, false },
#define SOME(parameter, set)	{ #parameter, set##_words, true },
#include "lib/conf_choice.def"
#undef SET
#undef WORD
#undef END
#undef ONE
#undef SOME
};

static const struct choice *
choice_find(const char *parameter)
{
	size_t i;

	for (i = 0; i < sizeof choices / sizeof choices[0]; i++)
		if (strcmp(choices[i].parameter, parameter) == 0)
			return &choices[i];
	return NULL;
}

bool
conf_choice_known(const char *parameter)
{
	return choice_find(parameter) != NULL;
}

static const struct word *
choice_word(const struct choice *c, struct view text)
{
	const struct word *w;

	for (w = c->words; w->text != NULL; w++)
		if (view_is_nocase(text, w->text))
			return w;
	return NULL;
}

uint32_t
conf_choice(const char *parameter, struct view text)
{
	const struct choice *c = choice_find(parameter);
	struct view rest = view_trim(text), word;
	const struct word *w;
	uint32_t value = 0;

	ensure(c != NULL);
	if (!c->some) {
		w = choice_word(c, rest);
		ensure(w != NULL);
		return w->value;
	}
	while ((word = conf_word(&rest)).n > 0) {
		w = choice_word(c, word);
		ensure(w != NULL);
		value |= w->value;
	}
	return value;
}

void
conf_choice_put(const char *parameter, uint32_t set, struct buf *out)
{
	const struct choice *c = choice_find(parameter);
	const struct word *w;

	ensure(c != NULL && c->some);
	for (w = c->words; w->text != NULL; w++)
		if ((w->value & set) != 0)
			(void)buf_printf(out, " %s", w->text);
}

bool
conf_choice_word(const char *parameter, struct view word, uint32_t *ret)
{
	const struct choice *c = choice_find(parameter);
	const struct word *w;

	ensure(c != NULL);
	w = choice_word(c, word);
	if (w != NULL)
		*ret = w->value;
	return w != NULL;
}

/* "tempfail, hold or accept" */
static void
words_put(struct buf *b, const struct word *w)
{
	for (; w->text != NULL; w++)
		(void)buf_printf(b, "%s%s", w->text, w[1].text == NULL ? "" :
		    w[2].text == NULL ? " or " : ", ");
}

bool
conf_choice_good(const char *parameter, struct view text, char *why,
    size_t why_size)
{
	const struct choice *c = choice_find(parameter);
	struct view rest = view_trim(text), word = rest;
	struct buf b;

	if (c == NULL || (!c->some && choice_word(c, rest) != NULL))
		return true;
	if (c->some) {
		while ((word = conf_word(&rest)).n > 0)
			if (choice_word(c, word) == NULL)
				break;
		if (word.n == 0)
			return true;
	}
	buf_init(&b, WHY_MAX);
	if (c->some)
		(void)buf_printf(&b, "unknown word \"%.*s\": ",
		    VIEW_ARGS(view_head(word, 40)));
	(void)buf_puts(&b, "must be ");
	words_put(&b, c->words);
	(void)snprintf(why, why_size, "%s", buf_cstr(&b));
	buf_free(&b);
	return false;
}
