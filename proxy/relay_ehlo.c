#include <string.h>

#include "lib/conf.h"
#include "proxy/relay_ehlo.h"
#include "proxy/relay_sasl.h"

static const struct {
	const char *keyword;
	uint32_t feature;
} keywords[] = {
	{ "PIPELINING", FEATURE_PIPELINING },
	{ "SIZE", FEATURE_SIZE },
	{ "8BITMIME", FEATURE_8BITMIME },
	{ "SMTPUTF8", FEATURE_SMTPUTF8 },
	{ "DSN", FEATURE_DSN },
	{ "XFORWARD", FEATURE_XFORWARD },
	{ "STARTTLS", FEATURE_STARTTLS },
	{ "REQUIRETLS", FEATURE_REQUIRETLS },
	{ "AUTH", FEATURE_AUTH },
	{ "LIMITS", FEATURE_LIMITS },
	{ "CHUNKING", FEATURE_CHUNKING },
};

const char *const relay_xforward_names[XFORWARDS] = {
	[XFORWARD_NAME] = "NAME", [XFORWARD_ADDR] = "ADDR",
	[XFORWARD_PORT] = "PORT", [XFORWARD_PROTO] = "PROTO",
	[XFORWARD_HELO] = "HELO", [XFORWARD_IDENT] = "IDENT",
	[XFORWARD_SOURCE] = "SOURCE",
};

static uint32_t
ehlo_xforward(struct view rest)
{
	struct view word;
	uint32_t set = 0, i;

	while ((word = view_word(&rest, " ")).n > 0)
		for (i = 0; i < XFORWARDS; i++)
			if (view_is_nocase(word, relay_xforward_names[i]))
				set |= 1u << i;
	return set;
}

/* limit-value = %x31-39 0*5DIGIT; what is not of this form, or not known,
 * does not count. */
static void
ehlo_limits(struct view rest, struct relay_ehlo *e)
{
	const struct {
		const char *name;
		uint32_t *limit;
	} known[] = {
		{ "MAILMAX=", &e->mail_max },
		{ "RCPTMAX=", &e->rcpt_max },
		{ "RCPTDOMAINMAX=", &e->rcpt_domain_max },
	};
	struct view word, value;
	int64_t n;
	size_t i;

	while ((word = view_word(&rest, " ")).n > 0)
		for (i = 0; i < sizeof known / sizeof known[0]; i++) {
			if (!view_starts_nocase(word, known[i].name))
				continue;
			value = view_from(word, strlen(known[i].name));
			if (value.n <= 6 && value.n > 0 && value.p[0] > '0' &&
			    value.p[0] <= '9' &&
			    conf_parse_int(value, 1, 999999, &n))
				*known[i].limit = (uint32_t)n;
		}
}

static uint32_t
ehlo_keyword(struct view word)
{
	size_t i;

	for (i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
		if (view_is_nocase(word, keywords[i].keyword))
			return keywords[i].feature;
	return 0;
}

uint32_t
relay_ehlo_keywords(const char *list)
{
	struct view rest = view_of(list), word;
	uint32_t set = 0;

	while ((word = conf_word(&rest)).n > 0)
		set |= ehlo_keyword(word);
	return set;
}

bool
relay_ehlo_known(const struct relay_reply *greeting)
{
	struct view line, word;
	size_t pos = 0, n = 0;

	while (relay_reply_line(greeting, &pos, &line))
		while ((word = view_word(&line, " \t")).n > 0)
			if (n++ > 0 && view_is_nocase(word, "ESMTP"))
				return true;
	return false;
}

void
relay_ehlo_read(const struct relay_reply *r, uint32_t discard,
    struct relay_ehlo *ret)
{
	struct relay_ehlo e = { 0 };
	struct view line, word;
	size_t pos = 0;
	uint32_t feature;
	int64_t limit;

	if (relay_reply_line(r, &pos, &line))
		e.name = view_word(&line, " ");
	while (relay_reply_line(r, &pos, &line)) {
		word = view_word(&line, " ");
		/* An old form: "AUTH=LOGIN PLAIN". */
		if (view_starts_nocase(word, "AUTH=")) {
			line = view_make(word.p + 5, word.n - 5 + line.n +
			    (size_t)(line.p - word.p - (ptrdiff_t)word.n));
			word.n = 4;
		}
		feature = ehlo_keyword(word) & ~discard;
		e.features |= feature;
		if (feature == FEATURE_XFORWARD)
			e.xforward = ehlo_xforward(line);
		if (feature == FEATURE_AUTH)
			e.mechanisms |= relay_sasl_offered(line);
		if (feature == FEATURE_LIMITS)
			ehlo_limits(line, &e);
		if (feature != FEATURE_SIZE)
			continue;
		word = view_word(&line, " ");
		/* A number we cannot read is no limit we could keep to. */
		if (conf_parse_int(word, 0, INT64_MAX, &limit))
			e.size_limit = (uint64_t)limit;
	}
	*ret = e;
}
