#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conf_source.h"
#include "lib/mem.h"
#include "proxy/lookup_engine.h"

#define SETTINGS_MAX	200u
#define MISTAKES_MAX	4096u

struct setting {
	char *name, *value;
};

struct engine_conf {
	char *table;
	const char *name;	/* behind the colon */
	const struct conf *main_cf;
	bool in_main;		/* NAME_param of main.cf */
	struct setting *list;
	size_t n;
	/* What the reading finds out while it only reads. */
	struct buf *mistakes;
};

static struct engine_conf *
conf_new(const char *table)
{
	struct engine_conf *c = mem_alloc(sizeof *c);
	const char *colon = strchr(table, ':');

	c->table = mem_strdup(table);
	c->name = c->table + (colon != NULL ? colon - table + 1 : 0);
	c->mistakes = mem_alloc(sizeof *c->mistakes);
	buf_init(c->mistakes, MISTAKES_MAX);
	return c;
}

void
engine_conf_free(struct engine_conf **cp)
{
	struct engine_conf *c = *cp;
	size_t i;

	if (c == NULL)
		return;
	*cp = NULL;
	for (i = 0; i < c->n; i++) {
		free(c->list[i].name);
		/* One of them is a password. */
		explicit_bzero(c->list[i].value, strlen(c->list[i].value));
		free(c->list[i].value);
	}
	free(c->list);
	free(c->table);
	buf_free(c->mistakes);
	free(c->mistakes);
	free(c);
}

void
engine_conf_wrong(const struct engine_conf *c, const char *fmt, ...)
{
	va_list ap;

	if (c->mistakes->n > 0)
		(void)buf_puts(c->mistakes, "; ");
	va_start(ap, fmt);
	(void)buf_vprintf(c->mistakes, fmt, ap);
	va_end(ap);
}

struct view
engine_conf_mistakes(const struct engine_conf *c)
{
	return c->mistakes->n > 0 ? buf_view(c->mistakes) : view_of("");
}

static struct setting *
conf_setting(const struct engine_conf *c, struct view name)
{
	size_t i;

	for (i = 0; i < c->n; i++)
		if (view_is(name, c->list[i].name))
			return &c->list[i];
	return NULL;
}

/* The last definition wins, as in main.cf. */
static void
conf_put(struct engine_conf *c, unsigned line, struct view name,
    struct view value)
{
	struct setting *s = conf_setting(c, name);

	if (s == NULL && c->n == SETTINGS_MAX) {
		engine_conf_wrong(c, "line %u: more than %u parameters", line,
		    SETTINGS_MAX);
		return;
	}
	if (s == NULL) {
		c->list = mem_resize(c->list, c->n + 1, sizeof *c->list);
		s = &c->list[c->n++];
		s->name = mem_copy(name);
	} else {
		free(s->value);
	}
	s->value = mem_copy(value);
}

static void
conf_line(struct engine_conf *c, unsigned line, struct view text)
{
	size_t eq = view_find(text, '=');
	struct view name = view_trim(view_head(text, eq));

	if (eq == text.n || name.n == 0)
		engine_conf_wrong(c, "line %u: need \"name = value\"", line);
	else
		conf_put(c, line, name, view_trim(view_from(text, eq + 1)));
}

struct engine_conf *
engine_conf_parse(const char *table, struct view text, struct buf *err)
{
	struct engine_conf *c = conf_new(table);
	struct conf_lines in = conf_lines_of(text);
	enum conf_line got;
	unsigned line = 0;
	struct buf b;

	buf_init(&b, CONF_LOGICAL_MAX);
	while ((got = conf_line_next(&in, &b, &line)) != CONF_LINE_NONE) {
		if (got == CONF_LINE_TEXT)
			conf_line(c, line, buf_view(&b));
		else
			engine_conf_wrong(c, "line %u: %s", line,
			    got == CONF_LINE_ORPHAN ? "continues nothing" :
			    got == CONF_LINE_LONG ? "too long" :
			    "there is a NUL byte");
	}
	buf_free(&b);
	if (c->mistakes->n > 0) {
		(void)buf_putv(err, view_head(buf_view(c->mistakes),
		    ENGINE_ERROR_MAX / 2));
		engine_conf_free(&c);
	}
	return c;
}

struct engine_conf *
engine_conf_load(const char *table, bool name_is_all,
    const struct conf *main_cf, struct buf *err)
{
	const char *colon = strchr(table, ':');
	struct engine_conf *c;
	struct buf text;

	if (colon == NULL || colon[1] == '\0') {
		(void)buf_puts(err, "the name of the table is missing");
		return NULL;
	}
	if (name_is_all || colon[1] != '/') {
		c = conf_new(table);
		c->main_cf = main_cf;
		c->in_main = !name_is_all;
		return c;
	}
	buf_init(&text, CONF_READ_MAX);
	if (conf_read_file(colon + 1, &text)) {
		c = engine_conf_parse(table, buf_view(&text), err);
		if (c != NULL)
			c->main_cf = main_cf;
	} else {
		(void)buf_printf(err, "%s: %s", colon + 1, strerror(errno));
		c = NULL;
	}
	if (text.p != NULL)
		explicit_bzero(text.p, text.n);
	buf_free(&text);
	return c;
}

const char *
engine_conf_main(const struct engine_conf *c, const char *name)
{
	return c->main_cf != NULL ? conf_text(c->main_cf, view_of(name)) :
	    NULL;
}

static const char *
conf_value(const struct engine_conf *c, const char *name)
{
	const struct setting *s;
	const char *value;
	char *full;

	if (c->in_main) {
		full = mem_printf("%s_%s", c->name, name);
		value = engine_conf_main(c, full);
		free(full);
		return value;
	}
	s = conf_setting(c, view_of(name));
	return s != NULL ? s->value : NULL;
}

const char *
engine_conf_str(const struct engine_conf *c, const char *name,
    const char *fallback)
{
	const char *value = conf_value(c, name);

	return value != NULL ? value : fallback;
}

char *
engine_conf_copy(const struct engine_conf *c, const char *name,
    const char *fallback)
{
	const char *text = engine_conf_str(c, name, fallback);

	return text != NULL && *text != '\0' ? mem_strdup(text) : NULL;
}

int64_t
engine_conf_int(const struct engine_conf *c, const char *name,
    int64_t fallback, int64_t min, int64_t max)
{
	const char *value = conf_value(c, name);
	int64_t n;

	if (value == NULL)
		return fallback;
	if (conf_parse_int(view_of(value), min, max, &n))
		return n;
	engine_conf_wrong(c, "%s: need a number from %lld to %lld", name,
	    (long long)min, (long long)max);
	return fallback;
}

bool
engine_conf_bool(const struct engine_conf *c, const char *name,
    bool fallback)
{
	const char *value = conf_value(c, name);
	bool yes;

	if (value == NULL)
		return fallback;
	if (conf_parse_bool(view_of(value), &yes))
		return yes;
	engine_conf_wrong(c, "%s: need yes or no", name);
	return fallback;
}

int64_t
engine_conf_time(const struct engine_conf *c, const char *name, char unit,
    int64_t fallback_ms)
{
	const char *value = conf_value(c, name);
	int64_t ms;

	if (value == NULL)
		return fallback_ms;
	if (conf_parse_time(view_of(value), unit, &ms))
		return ms;
	engine_conf_wrong(c, "%s: need a time, as in 10s", name);
	return fallback_ms;
}

const char *
engine_conf_table(const struct engine_conf *c)
{
	return c->table;
}

const char *
engine_conf_name(const struct engine_conf *c)
{
	return c->name;
}
