#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "lib/conf_source.h"
#include "lib/log.h"
#include "lib/mem.h"

#define TIME_MAX_MS	((int64_t)INT32_MAX * 1000)

const struct conf_param conf_params[] = {
#define PARAM_STR(param, text, words)					\
	{ .name = #param, .kind = CONF_STR, .def = text, .help = words,	\
	    .offset = offsetof(struct conf, param) },
#define PARAM_TEXT(param, member, text, words)				\
	{ .name = #param, .kind = CONF_STR, .def = text, .help = words,	\
	    .offset = offsetof(struct conf, member) },
#define PARAM_INT(param, text, low, high, words)			\
	{ .name = #param, .kind = CONF_INT, .def = text, .min = low,	\
	    .max = high, .help = words,					\
	    .offset = offsetof(struct conf, param) },
#define PARAM_BOOL(param, text, words)					\
	{ .name = #param, .kind = CONF_BOOL, .def = text,		\
	    .help = words, .offset = offsetof(struct conf, param) },
#define PARAM_TIME(param, text, letter, low, words)			\
	{ .name = #param, .kind = CONF_TIME, .def = text,		\
	    .unit = letter, .min = low, .max = TIME_MAX_MS,		\
	    .help = words, .offset = offsetof(struct conf, param) },
#include "lib/conf_params.def"
#undef PARAM_STR
#undef PARAM_TEXT
#undef PARAM_INT
#undef PARAM_BOOL
#undef PARAM_TIME
};
const size_t conf_params_count = sizeof conf_params / sizeof conf_params[0];

const struct conf_param *
conf_param_find(struct view name)
{
	size_t i;

	for (i = 0; i < conf_params_count; i++)
		if (name.n > 0 && conf_params[i].name[0] == name.p[0] &&
		    view_is(name, conf_params[i].name))
			return &conf_params[i];
	return NULL;
}

static void
conf_store(struct conf *cf, const struct conf_param *p, const char *text,
    int64_t n)
{
	char *to = (char *)cf + p->offset;
	bool yes = n != 0;

	switch (p->kind) {
	case CONF_STR:
		memcpy(to, &text, sizeof text);
		break;
	case CONF_BOOL:
		memcpy(to, &yes, sizeof yes);
		break;
	case CONF_INT:
	case CONF_TIME:
	case CONF_SIZE:
		memcpy(to, &n, sizeof n);
		break;
	}
}

/* Expand and convert the value of a declared parameter. */
static void
conf_fill(struct conf *cf, size_t i, struct conf_reporter *r)
{
	const struct conf_param *p = &conf_params[i];
	struct conf_source *src = cf->source;
	struct view name = view_of(p->name), def = view_of(p->def);
	struct conf_setting *s = conf_source_find(src, name);
	const char *text = p->def;
	unsigned before = r->errors;
	char why[256];
	int64_t n = 0;
	struct buf b;
	bool raw;

	if (s == NULL && view_find(def, '$') < def.n &&
	    !(conf_known(name, &raw) && raw)) {
		buf_init(&b, CONF_EXPANDED_MAX);
		if (conf_expand_into(src, r, name, 0, def, &b))
			text = arena_copy(src->arena, buf_view(&b)).p;
		buf_free(&b);
	} else if (s != NULL) {
		text = conf_source_text(src, r, s);
	}
	src->defaults[i] = text;
	/* A text that is another parameter's is reported with that one. */
	if (r->errors == before && (s != NULL || p->kind != CONF_STR) &&
	    !conf_value_good(p, view_of(text), &n, why, sizeof why))
		conf_tell(r, true, s != NULL ? s->line : 0, "%s = %.200s: %s",
		    p->name, text, why);
	conf_store(cf, p, text, n);
}

/* CLASS_mime_ambiguity and the like have the values of mime_ambiguity. */
static void
conf_fill_class(struct conf_source *src, struct view class,
    struct conf_reporter *r)
{
	const struct conf_param *p;
	struct conf_setting *s;
	const char *text;
	char why[256], *name;
	unsigned before;
	int64_t n;
	size_t i;

	for (i = 0; conf_class_params[i] != NULL; i++) {
		p = conf_param_find(view_of(conf_class_params[i]));
		name = mem_printf("%.*s_%s", VIEW_ARGS(class),
		    conf_class_params[i]);
		s = conf_source_find(src, view_of(name));
		free(name);
		if (p == NULL || s == NULL || conf_param_find(s->name) != NULL)
			continue;
		before = r->errors;
		text = conf_source_text(src, r, s);
		if (r->errors == before && !conf_value_good(p, view_of(text),
		    &n, why, sizeof why))
			conf_tell(r, true, s->line, "%s = %.200s: %s",
			    s->name.p, text, why);
	}
}

static void
conf_fill_classes(struct conf_source *src, struct conf_reporter *r)
{
	struct view classes = { NULL, 0 }, word;
	unsigned line;

	(void)conf_source_value(src, view_of("filter_policy_classes"),
	    &classes, &line);
	while ((word = conf_word(&classes)).n > 0)
		conf_fill_class(src, word, r);
}

/*
 * Settings without a member of their own fail now rather than when mail
 * needs them: those of one transport, and restriction classes.
 */
static void
conf_fill_others(struct conf_source *src, struct conf_reporter *r)
{
	struct view classes = { NULL, 0 }, word;
	const struct conf_param *p;
	struct conf_setting *s;
	unsigned line, before;
	char why[256];
	const char *text;
	int64_t n;
	size_t i;

	(void)conf_source_value(src, view_of("smtpd_restriction_classes"),
	    &classes, &line);
	while ((word = conf_word(&classes)).n > 0) {
		s = conf_source_find(src, word);
		if (s != NULL)
			(void)conf_source_text(src, r, s);
	}
	conf_fill_classes(src, r);
	for (i = 0; i < src->n; i++) {
		s = &src->list[i];
		if (s->use != CONF_COMPOSED)
			continue;
		before = r->errors;
		p = conf_composed(s->name);
		text = conf_source_text(src, r, s);
		if (r->errors == before && p != NULL &&
		    !conf_value_good(p, view_of(text), &n, why, sizeof why))
			conf_tell(r, true, s->line, "%s = %.200s: %s",
			    s->name.p, text, why);
	}
}

static struct conf *
conf_finish(struct conf_source *src, const char *dir, struct conf_reporter *r)
{
	struct conf *cf = mem_alloc(sizeof *cf);
	size_t i;

	cf->source = src;
	conf_source_compute(src);
	for (i = 0; i < conf_params_count; i++)
		conf_fill(cf, i, r);
	conf_check(src, dir, r);
	conf_fill_others(src, r);
	if (r->errors > 0)
		conf_free(&cf);
	return cf;
}

struct conf *
conf_parse(struct view text, const char *origin, conf_report *report,
    void *arg)
{
	struct conf_reporter r = { report, arg, origin, 0 };
	struct conf_source *src = conf_source_new(origin);

	conf_source_read(src, text, &r);
	return conf_finish(src, NULL, &r);
}

/*
 * Tables with relative names are beside the file that was read, whatever it
 * says about itself.
 */
static void
source_place(struct conf_source *src, const char *dir,
    struct conf_reporter *r)
{
	struct view name = view_of("config_directory");
	struct conf_setting *s = conf_source_find(src, name);
	char *full = realpath(dir, NULL);
	const char *place = full != NULL ? full : dir;

	if (s != NULL && strcmp(s->value.p, place) != 0 &&
	    view_find(s->value, '$') == s->value.n)
		conf_tell(r, false, s->line, "config_directory=%s is not "
		    "where this file is", s->value.p);
	if (conf_source_set(src, name, view_of(place), 0) == NULL)
		conf_tell(r, true, 0, "more than %d parameters",
		    CONF_SETTINGS_MAX);
	free(full);
}

/* The name and value of "name=value"; false: it is not that. */
static bool
split_override(const char *text, struct view *ret_name, struct view *ret_value)
{
	struct view o = view_of(text), name, value, rest, word;
	size_t eq = view_find(o, '=');

	name = rest = view_trim(view_head(o, eq));
	value = view_trim(view_from(o, eq + 1));
	word = view_word(&rest, " \t\r\n\v\f");
	if (eq == o.n || name.n == 0 || name.n > CONF_NAME_MAX ||
	    value.n > CONF_LINE_MAX || word.n != name.n ||
	    name.p[0] == '#' || view_find(value, '\n') < value.n)
		return false;
	*ret_name = name;
	*ret_value = value;
	return true;
}

static void
source_override(struct conf_source *src, const char *text,
    struct conf_reporter *r)
{
	struct view name, value;
	struct conf_setting *s = NULL;

	if (split_override(text, &name, &value))
		s = conf_source_set(src, name, value, 0);
	if (s != NULL)
		s->override = true;
	else
		conf_tell(r, true, 0, "not name=value: \"%.100s\"", text);
}

struct conf *
conf_open(const char *dir, char *const *overrides, size_t n,
    conf_report *report, void *arg)
{
	char *path = mem_printf("%s/main.cf", dir);
	struct conf_reporter r = { report, arg, path, 0 };
	struct conf_source *src;
	struct conf *cf = NULL;
	struct buf b;
	size_t i;

	buf_init(&b, CONF_READ_MAX);
	if (conf_read_file(path, &b)) {
		src = conf_source_new(path);
		conf_source_read(src, buf_view(&b), &r);
		source_place(src, dir, &r);
		for (i = 0; i < n; i++)
			source_override(src, overrides[i], &r);
		cf = conf_finish(src, dir, &r);
	} else {
		conf_tell(&r, true, 0, "%s", strerror(errno));
	}
	buf_free(&b);
	free(path);
	return cf;
}

struct conf *
conf_load(const char *dir, conf_report *report, void *arg)
{
	return conf_open(dir, NULL, 0, report, arg);
}

void
conf_free(struct conf **cf)
{
	if (*cf == NULL)
		return;
	conf_source_free(&(*cf)->source);
	free(*cf);
	*cf = NULL;
}

/* Whether one of the overrides sets name. */
static bool
overridden(struct view name, char *const *overrides, size_t n)
{
	struct view o;
	size_t i;

	for (i = 0; i < n; i++) {
		o = view_of(overrides[i]);
		if (view_eq(view_trim(view_head(o, view_find(o, '='))), name))
			return true;
	}
	return false;
}

/* A computed setting must be computed again when what it comes from is
 * overridden. */
static bool
outdated(const struct conf_setting *s, char *const *overrides, size_t n)
{
	if (!s->computed)
		return false;
	if (view_is(s->name, "mydomain"))
		return overridden(view_of("myhostname"), overrides, n);
	return view_is(s->name, "mynetworks") &&
	    (overridden(view_of("mynetworks_style"), overrides, n) ||
	    overridden(view_of("inet_interfaces"), overrides, n) ||
	    overridden(view_of("inet_protocols"), overrides, n));
}

static bool
put_setting(struct buf *out, struct view name, struct view value)
{
	return buf_putv(out, name) && buf_puts(out, " = ") &&
	    buf_putv(out, value) && buf_putc(out, '\n');
}

bool
conf_snapshot(const struct conf *cf, char *const *overrides,
    size_t n_overrides, struct buf *out)
{
	const struct conf_setting *s;
	struct view name, value;
	size_t i;

	for (i = 0; i < cf->source->n; i++) {
		s = &cf->source->list[i];
		if (overridden(s->name, overrides, n_overrides) ||
		    outdated(s, overrides, n_overrides))
			continue;
		if (!put_setting(out, s->name, s->value))
			return false;
	}
	for (i = 0; i < n_overrides; i++) {
		if (!split_override(overrides[i], &name, &value))
			return false;
		if (!overridden(name, overrides + i + 1, n_overrides - i - 1)
		    && !put_setting(out, name, value))
			return false;
	}
	return true;
}

int64_t
conf_number(const struct conf *cf, struct view name, int64_t fallback)
{
	const char *text = conf_text(cf, name);
	int64_t n;

	if (text == NULL || text[0] == '\0')
		return fallback;
	if (conf_parse_int(view_of(text), INT64_MIN, INT64_MAX, &n))
		return n;
	log_warn("%s: %.*s = %.200s: not a number", cf->source->origin,
	    VIEW_ARGS(name), text);
	return fallback;
}

int64_t
conf_time(const struct conf *cf, struct view name, char unit,
    int64_t fallback_ms)
{
	const char *text = conf_text(cf, name);
	int64_t ms;

	if (text == NULL || text[0] == '\0')
		return fallback_ms;
	if (conf_parse_time(view_of(text), unit, &ms))
		return ms;
	log_warn("%s: %.*s = %.200s: not a time", cf->source->origin,
	    VIEW_ARGS(name), text);
	return fallback_ms;
}
