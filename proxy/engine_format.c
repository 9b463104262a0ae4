#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conf.h"
#include "lib/conf_source.h"
#include "lib/mem.h"
#include "proxy/engine_format.h"

#define DOMAINS_MAX	10000u

struct engine_format {
	char *query;		/* the template */
	char *result;		/* NULL: as it is */
	unsigned limit;		/* of results; 0: none */
	bool any_domain;
	struct view *domain;
	size_t n_domains;
	struct buf text;	/* of the domains */
};

/* What a conversion is taken from. */
struct address {
	struct view all, local, domain;
	bool qualified;		/* there is an '@' */
};

static struct address
address_of(struct view v)
{
	struct address a = { .all = v, .local = v, .domain = view_of("") };
	size_t i = v.n;

	while (i > 0 && v.p[i - 1] != '@')
		i--;
	if (i == 0)
		return a;
	a.qualified = true;
	a.local = view_head(v, i - 1);
	a.domain = view_from(v, i);
	return a;
}

/* Component n of a domain, counted from its end, from 1. */
static bool
address_label(const struct address *a, unsigned n, struct view *ret)
{
	struct view rest = a->domain;
	size_t i;

	if (!a->qualified)
		return false;
	for (;;) {
		for (i = rest.n; i > 0 && rest.p[i - 1] != '.'; i--)
			;
		*ret = view_from(rest, i);
		if (--n == 0)
			return ret->n > 0;
		if (i == 0)
			return false;
		rest = view_head(rest, i - 1);
	}
}

/* What %c stands for.  False: the address has no such part. */
static bool
address_part(const struct address *a, char c, struct view *ret)
{
	switch (c) {
	case 's':
		*ret = a->all;
		break;
	case 'u':
		*ret = a->local;
		break;
	case 'd':
		if (!a->qualified)
			return false;
		*ret = a->domain;
		break;
	default:
		return address_label(a, (unsigned)(c - '0'), ret);
	}
	return ret->n > 0;
}

static bool
conversion_known(char c)
{
	return c != '\0' && strchr("sudSUD%123456789", c) != NULL;
}

/*
 * value: what small letters stand for; key: capitals and digits.  False: no
 * room, or quote says no.
 */
static bool
expand(const char *template, const struct address *value,
    const struct address *key, engine_quote *quote, void *arg,
    struct buf *out, bool *ret_wanted)
{
	const struct address *from;
	struct view part;
	const char *p;

	*ret_wanted = true;
	for (p = template; *p != '\0'; p++) {
		if (*p != '%' || p[1] == '%') {
			if (*p == '%')
				p++;
			if (!buf_putc(out, *p))
				return false;
			continue;
		}
		p++;
		from = islower((unsigned char)*p) ? value : key;
		if (!conversion_known(*p) || !address_part(from,
		    (char)tolower((unsigned char)*p), &part)) {
			*ret_wanted = false;
			return true;
		}
		if (!(quote != NULL ? quote(part, out, arg) :
		    buf_putv(out, part)))
			return false;
	}
	return true;
}

void
engine_format_check(const struct engine_conf *c, const char *name,
    const char *template)
{
	const char *p;

	for (p = template; *p != '\0'; p++) {
		if (*p != '%')
			continue;
		if (!conversion_known(*++p)) {
			engine_conf_wrong(c, "%s: there is no conversion "
			    "%%%.1s", name, p);
			return;
		}
	}
}

static void
domains_read(struct engine_format *f, const struct engine_conf *c,
    struct view text)
{
	struct view word;
	struct buf file;
	char *path;

	while ((word = conf_word(&text)).n > 0) {
		if (word.p[0] == '/') {
			path = mem_copy(word);
			buf_init(&file, CONF_READ_MAX);
			if (conf_read_file(path, &file) &&
			    buf_view(&file).n > 0)
				(void)(buf_putv(&f->text, buf_view(&file)) &&
				    buf_putc(&f->text, ' '));
			else
				engine_conf_wrong(c, "domain: %s: %s", path,
				    strerror(errno));
			buf_free(&file);
			free(path);
		} else if (view_find(word, ':') < word.n) {
			engine_conf_wrong(c, "domain: names and files only, "
			    "no tables");
		} else {
			(void)(buf_putv(&f->text, word) &&
			    buf_putc(&f->text, ' '));
		}
	}
}

static void
domains_load(struct engine_format *f, const struct engine_conf *c)
{
	const char *value = engine_conf_str(c, "domain", "");
	struct view rest, word;

	f->any_domain = view_trim(view_of(value)).n == 0;
	domains_read(f, c, view_of(value));
	rest = buf_view(&f->text);
	/* The text does not move any more. */
	while ((word = conf_word(&rest)).n > 0) {
		if (f->n_domains == DOMAINS_MAX) {
			engine_conf_wrong(c, "domain: more than %u",
			    DOMAINS_MAX);
			return;
		}
		f->domain = mem_resize(f->domain, f->n_domains + 1,
		    sizeof *f->domain);
		f->domain[f->n_domains++] = word;
	}
}

struct engine_format *
engine_format_new(const struct engine_conf *c, const char *query_name,
    const char *query_fallback)
{
	struct engine_format *f = mem_alloc(sizeof *f);
	const char *query = engine_conf_str(c, query_name, query_fallback);
	const char *result = engine_conf_str(c, "result_format",
	    engine_conf_str(c, "result_filter", "%s"));

	buf_init(&f->text, CONF_READ_MAX);
	if (query == NULL || query[0] == '\0') {
		engine_conf_wrong(c, "%s is missing", query_name);
		query = "";
	}
	engine_format_check(c, query_name, query);
	engine_format_check(c, "result_format", result);
	f->query = mem_strdup(query);
	f->result = strcmp(result, "%s") == 0 ? NULL : mem_strdup(result);
	f->limit = (unsigned)engine_conf_int(c, "expansion_limit", 0, 0,
	    1000000);
	domains_load(f, c);
	return f;
}

void
engine_format_free(struct engine_format **fp)
{
	struct engine_format *f = *fp;

	if (f == NULL)
		return;
	*fp = NULL;
	free(f->query);
	free(f->result);
	free(f->domain);
	buf_free(&f->text);
	free(f);
}

unsigned
engine_format_limit(const struct engine_format *f)
{
	return f->limit;
}

/* With a list, only whole addresses are asked for. */
static bool
domain_wanted(const struct engine_format *f, const struct address *key)
{
	size_t i;

	if (f->any_domain)
		return true;
	if (!key->qualified || key->local.n == 0)
		return false;
	for (i = 0; i < f->n_domains; i++)
		if (view_eq_nocase(f->domain[i], key->domain))
			return true;
	return false;
}

/* Has the key all that the template takes from it? */
static bool
template_has_all(const char *template, const struct address *key,
    bool capitals_only)
{
	struct view part;
	const char *p;

	for (p = template; *p != '\0'; p++) {
		if (*p != '%')
			continue;
		if (*++p == '\0')
			return false;
		if (*p == '%' || (capitals_only && islower((unsigned char)*p)))
			continue;
		if (!address_part(key, (char)tolower((unsigned char)*p),
		    &part))
			return false;
	}
	return true;
}

bool
engine_format_wants(const struct engine_format *f, struct view key)
{
	struct address a = address_of(key);

	return key.n > 0 && key.n <= ENGINE_KEY_MAX &&
	    view_find(key, '\0') == key.n && domain_wanted(f, &a) &&
	    template_has_all(f->query, &a, false) &&
	    (f->result == NULL || template_has_all(f->result, &a, true));
}

bool
engine_format_template(const char *template, struct view key,
    engine_quote *quote, void *arg, struct buf *out, bool *ret_wanted)
{
	struct address a = address_of(key);

	return expand(template, &a, &a, quote, arg, out, ret_wanted);
}

bool
engine_format_query(const struct engine_format *f, struct view key,
    engine_quote *quote, void *arg, struct buf *out, bool *ret_wanted)
{
	return engine_format_template(f->query, key, quote, arg, out,
	    ret_wanted);
}

enum engine_answer
engine_format_result(const struct engine_format *f, struct view key,
    struct view result, unsigned *n, struct buf *value, struct buf *err)
{
	struct address k = address_of(key), r = address_of(result);
	size_t before = value->n;
	bool wanted = true, room;

	if (result.n == 0)
		return ENGINE_FOUND;
	if (f->limit > 0 && *n >= f->limit) {
		(void)buf_printf(err, "more than expansion_limit = %u "
		    "results", f->limit);
		return ENGINE_TEMPORARY;
	}
	room = before == 0 || buf_putc(value, ',');
	if (room)
		room = f->result == NULL ? buf_putv(value, result) :
		    expand(f->result, &r, &k, NULL, NULL, value, &wanted);
	if (!room) {
		value->n = before;
		(void)buf_printf(err, "the answer is longer than %zu bytes",
		    value->max);
		return ENGINE_TEMPORARY;
	}
	if (wanted)
		(*n)++;
	else
		value->n = before;
	return ENGINE_FOUND;
}
