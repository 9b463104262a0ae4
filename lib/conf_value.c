#include <inttypes.h>
#include <stdio.h>

#include "lib/conf_choice.h"
#include "lib/conf_source.h"
#include "lib/feedback.h"
#include "lib/own_addr.h"

/* Times are kept in 32 bits of seconds by Postfix; nobody needs more. */
#define SECONDS_MAX	INT32_MAX

bool
conf_parse_int(struct view text, int64_t min, int64_t max, int64_t *ret)
{
	uint64_t n = 0, limit;
	bool minus;
	size_t i;

	text = view_trim(text);
	minus = text.n > 0 && text.p[0] == '-';
	if (text.n > 0 && (minus || text.p[0] == '+'))
		text = view_from(text, 1);
	limit = (uint64_t)INT64_MAX + (minus ? 1 : 0);
	for (i = 0; i < text.n; i++) {
		unsigned digit = (unsigned)(text.p[i] - '0');

		if (text.p[i] < '0' || text.p[i] > '9' ||
		    n > (limit - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	if (text.n == 0)
		return false;
	/* -n wraps to the right value for INT64_MIN too. */
	n = minus ? -n : n;
	if ((int64_t)n < min || (int64_t)n > max)
		return false;
	*ret = (int64_t)n;
	return true;
}

bool
conf_parse_bool(struct view text, bool *ret)
{
	text = view_trim(text);
	if (view_is_nocase(text, "yes"))
		*ret = true;
	else if (view_is_nocase(text, "no"))
		*ret = false;
	else
		return false;
	return true;
}

static int64_t
unit_ms(struct view unit)
{
	if (view_is(unit, "ms"))
		return 1;
	if (unit.n != 1)
		return 0;
	switch (unit.p[0]) {
	case 's': return 1000;
	case 'm': return 60 * 1000;
	case 'h': return 3600 * 1000;
	case 'd': return 24 * 3600 * 1000;
	case 'w': return 7 * 24 * 3600 * 1000;
	default: return 0;
	}
}

bool
conf_parse_time(struct view text, char unit, int64_t *ret_ms)
{
	int64_t n, ms;
	size_t digits = 0;

	text = view_trim(text);
	while (digits < text.n && text.p[digits] >= '0' &&
	    text.p[digits] <= '9')
		digits++;
	ms = unit_ms(digits < text.n ? view_from(text, digits) :
	    view_make(&unit, 1));
	if (ms == 0 || !conf_parse_int(view_head(text, digits), 0,
	    (int64_t)SECONDS_MAX * 1000 / ms, &n))
		return false;
	*ret_ms = n * ms;
	return true;
}

struct view
conf_word(struct view *rest)
{
	static const char seps[] = ", \t\r\n\v\f";
	size_t i = 0, level = 0;
	struct view w;

	while (rest->n > 0 && rest->p[0] != '\0' &&
	    strchr(seps, rest->p[0]) != NULL)
		*rest = view_from(*rest, 1);
	for (; i < rest->n; i++) {
		if (rest->p[i] == '{')
			level++;
		else if (rest->p[i] == '}' && level > 0)
			level--;
		else if (level == 0 && rest->p[i] != '\0' &&
		    strchr(seps, rest->p[i]) != NULL)
			break;
	}
	w = view_head(*rest, i);
	*rest = view_from(*rest, i);
	return w;
}

/* A limit in words: "1s", "100ms". */
static void
time_text(int64_t ms, char *to, size_t size)
{
	if (ms % 1000 == 0)
		(void)snprintf(to, size, "%" PRId64 "s", ms / 1000);
	else
		(void)snprintf(to, size, "%" PRId64 "ms", ms);
}

static bool
is_feedback(const char *name)
{
	struct view v = view_of(name), suffix = view_of("_feedback");

	return v.n > suffix.n && view_eq(view_from(v, v.n - suffix.n), suffix);
}

static bool
is_proxies(const char *name)
{
	return strcmp(name, "proxy_interfaces") == 0;
}

bool
conf_param_is_text(const struct conf_param *p)
{
	return p->kind == CONF_STR && !conf_choice_known(p->name) &&
	    !is_feedback(p->name) && !is_proxies(p->name);
}

/* A text whose form is known from the parameter's name. */
static bool
text_good(const char *name, struct view text, char *why, size_t why_size)
{
	struct netaddr proxies[OWN_ADDR_MAX];
	struct feedback f;
	size_t n;

	if (!conf_choice_good(name, text, why, why_size))
		return false;
	if (is_proxies(name))
		return own_proxy_parse(text, proxies, &n, why, why_size);
	if (!is_feedback(name) || feedback_parse(text, &f))
		return true;
	(void)snprintf(why, why_size, "not a number from 0 to 1, "
	    "number/concurrency or number/sqrt_concurrency");
	return false;
}

bool
conf_value_good(const struct conf_param *p, struct view text, int64_t *ret,
    char *why, size_t why_size)
{
	char min[32], max[32];
	int64_t n;
	bool yes;

	switch (p->kind) {
	case CONF_STR:
		*ret = 0;
		return text_good(p->name, text, why, why_size);
	case CONF_BOOL:
		if (conf_parse_bool(text, &yes)) {
			*ret = yes;
			return true;
		}
		(void)snprintf(why, why_size, "must be yes or no");
		return false;
	case CONF_TIME:
		if (!conf_parse_time(text, p->unit, &n)) {
			(void)snprintf(why, why_size, "not a time such as "
			    "10%c, 30s, 5m, 2h, 1d or 1w", p->unit);
			return false;
		}
		break;
	case CONF_INT:
	case CONF_SIZE:
	default:
		if (!conf_parse_int(text, INT64_MIN, INT64_MAX, &n)) {
			(void)snprintf(why, why_size, "not a number");
			return false;
		}
		break;
	}
	if (n >= p->min && n <= p->max) {
		*ret = n;
		return true;
	}
	if (p->kind == CONF_TIME) {
		time_text(p->min, min, sizeof min);
		time_text(p->max, max, sizeof max);
		(void)snprintf(why, why_size, "not in the range %s to %s",
		    min, max);
	} else {
		(void)snprintf(why, why_size, "not in the range %" PRId64
		    " to %" PRId64, p->min, p->max);
	}
	return false;
}
