/*
 * main.cf's parameters, with values as written or expanded.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/conf_source.h"
#include "proxy/postconf.h"

struct row {
	struct view name;
	struct view value;
	unsigned line;
};

struct rows {
	struct row *list;
	size_t n;
};

/* How long a valid UTF-8 sequence v begins with; 0: none. */
static size_t
utf8_length(struct view v)
{
	unsigned char c = (unsigned char)v.p[0], d;
	size_t i, n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 :
	    c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;

	if (n == 0 || v.n < n)
		return 0;
	for (i = 1; i < n; i++) {
		d = (unsigned char)v.p[i];
		if ((d & 0xc0) != 0x80)
			return 0;
		/* Overlong forms, surrogates, and beyond U+10FFFF. */
		if (i == 1 && ((c == 0xe0 && d < 0xa0) ||
		    (c == 0xed && d >= 0xa0) || (c == 0xf0 && d < 0x90) ||
		    (c == 0xf4 && d >= 0x90)))
			return 0;
	}
	return n;
}

void
postconf_print_json(struct view v)
{
	size_t n;

	(void)putchar('"');
	for (; v.n > 0; v = view_from(v, n)) {
		unsigned char c = (unsigned char)v.p[0];

		n = utf8_length(v);
		if (n == 0) {
			(void)fputs("\\ufffd", stdout);
			n = 1;
		} else if (c == '"' || c == '\\') {
			(void)printf("\\%c", c);
		} else if (c < ' ' || c == 0x7f) {
			(void)printf("\\u%04x", c);
		} else {
			(void)fwrite(v.p, 1, n, stdout);
		}
	}
	(void)putchar('"');
}

void
postconf_print(const struct postconf *pc, struct view name, struct view value)
{
	struct view word;
	size_t col = 0;

	if (pc->json) {
		(void)fputs("{\"name\": ", stdout);
		postconf_print_json(name);
		(void)fputs(", \"value\": ", stdout);
		postconf_print_json(value);
		(void)fputs("}\n", stdout);
		return;
	}
	if (!pc->no_names)
		col = (size_t)printf("%.*s", VIEW_ARGS(name));
	if (pc->no_values) {
		(void)putchar('\n');
		return;
	}
	if (!pc->no_names)
		col += (size_t)printf(" =");
	while ((word = view_word(&value, " \t\r\n\v\f")).n > 0) {
		if (col > 0 && pc->fold && col + 1 + word.n > POSTCONF_LINE)
			col = (size_t)printf("\n    ") - 1;
		else if (col > 0)
			col += (size_t)printf(" ");
		col += (size_t)printf("%.*s", VIEW_ARGS(word));
	}
	(void)putchar('\n');
}

static void
rows_add(struct rows *rows, struct view name, struct view value,
    unsigned line)
{
	rows->list = mem_resize(rows->list, rows->n + 1, sizeof *rows->list);
	rows->list[rows->n++] = (struct row){ name, value, line };
}

static int
row_compare(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return strcmp(x->name.p, y->name.p);
}

static unsigned
use_class(enum conf_use use)
{
	switch (use) {
	case CONF_DECLARED:
	case CONF_KNOWN:
		return POSTCONF_BUILTIN;
	case CONF_COMPOSED:
		return POSTCONF_SERVICE;
	case CONF_USER:
		return POSTCONF_USER;
	case CONF_UNUSED:
		break;
	}
	return 0;
}

static bool
setting_shown(const struct postconf *pc, const struct conf_setting *s)
{
	/* Where the file is matters when it is not the usual place. */
	if (s->line == 0 && !s->override && view_is(s->name,
	    "config_directory"))
		return (pc->classes & POSTCONF_BUILTIN) != 0 &&
		    strcmp(s->value.p, conf_param_find(s->name)->def) != 0;
	return !s->computed && (use_class(s->use) & pc->classes) != 0;
}

static void
rows_collect(const struct postconf *pc, const struct conf_source *src,
    struct rows *rows)
{
	const struct conf_setting *s;
	struct view name;
	size_t i;

	for (i = 0; i < src->n; i++) {
		s = &src->list[i];
		if (!pc->defaults && setting_shown(pc, s))
			rows_add(rows, s->name, s->value, s->line);
	}
	if (pc->changed_only || (pc->classes & POSTCONF_BUILTIN) == 0)
		return;
	for (i = 0; i < conf_params_count; i++) {
		name = view_of(conf_params[i].name);
		s = conf_source_find(src, name);
		if (s == NULL)
			rows_add(rows, name, view_of(conf_params[i].def), 0);
		else if (pc->defaults || !setting_shown(pc, s))
			rows_add(rows, name, s->value, 0);
	}
}

static void
unknown_name(const struct postconf *pc, struct view name)
{
	const char *list = conf_restriction_list(name);
	const char *near = conf_nearest(name);
	bool raw;

	if (conf_known(name, &raw))
		postconf_warn(pc, "%.*s: not used by Postern",
		    VIEW_ARGS(name));
	else if (list != NULL)
		postconf_warn(pc, "%.*s: unknown parameter (a restriction, "
		    "for %s)", VIEW_ARGS(name), list);
	else if (near != NULL)
		postconf_warn(pc, "%.*s: unknown parameter (did you mean %s?)",
		    VIEW_ARGS(name), near);
	else
		postconf_warn(pc, "%.*s: unknown parameter", VIEW_ARGS(name));
}

static void
row_print(struct postconf *pc, struct conf_source *src, const struct row *row)
{
	struct conf_reporter r = { postconf_report, pc, src->origin, 0 };
	struct view value = row->value;
	struct buf b;
	bool raw;

	buf_init(&b, CONF_EXPANDED_MAX);
	if (pc->expand && !(conf_known(row->name, &raw) && raw)) {
		src->work = 0;
		(void)conf_expand_into(src, &r, row->name, row->line, value,
		    &b);
		value = buf_view(&b);
	}
	postconf_print(pc, row->name, value);
	buf_free(&b);
}

static void
print_named(struct postconf *pc, struct conf_source *src, const char *arg)
{
	struct view name = view_of(arg);
	const struct conf_setting *s = conf_source_find(src, name);
	const struct conf_param *p;
	struct row row = { .name = name };
	char *text = NULL;

	if (s != NULL && s->use != CONF_UNUSED) {
		row.value = s->value;
		row.line = s->line;
	} else if ((p = conf_param_find(name)) != NULL) {
		row.value = view_of(p->def);
	} else if ((p = conf_composed(name)) != NULL) {
		text = mem_printf("$%s", p->name);
		row.value = view_of(text);
	} else {
		unknown_name(pc, name);
		return;
	}
	row_print(pc, src, &row);
	free(text);
}

void
postconf_main(struct postconf *pc)
{
	struct rows rows = { NULL, 0 };
	struct conf *cf;
	size_t i;

	cf = pc->defaults ? conf_parse(view_of(""), "defaults",
	    postconf_report, pc) : conf_open(pc->dir, pc->overrides,
	    pc->n_overrides, postconf_report, pc);
	if (cf == NULL)
		return;
	if (pc->n_args == 0) {
		rows_collect(pc, cf->source, &rows);
		if (rows.n > 0)
			qsort(rows.list, rows.n, sizeof *rows.list,
			    row_compare);
	}
	for (i = 0; i < rows.n; i++)
		row_print(pc, cf->source, &rows.list[i]);
	for (i = 0; i < pc->n_args; i++)
		print_named(pc, cf->source, pc->args[i]);
	free(rows.list);
	conf_free(&cf);
}
