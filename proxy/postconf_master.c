/*
 * master.cf's services: whole entries (-M), fields (-F), -o settings (-P).
 * The columns are shown as written; "-" stays "-".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/conf_source.h"
#include "lib/master_cf.h"
#include "proxy/postconf.h"

#define COLUMNS	7		/* before the command */

static const char blanks[] = " \t\r\n\v\f";
static const char *const column_names[COLUMNS] = {
	"service", "type", "private", "unprivileged", "chroot", "wakeup",
	"process_limit",
};
static const size_t column_at[COLUMNS + 1] = {
	0, 11, 17, 25, 33, 41, 49, 57,
};

struct entry {
	struct view column[COLUMNS];
	struct buf command;		/* normalised */
	struct buf folded;
	unsigned line;
};

/* A word, or {...} with what is in it. */
static struct view
take_argument(struct view *rest)
{
	struct view w = *rest;
	size_t i, level = 0;

	while (w.n > 0 && view_space(w.p[0]))
		w = view_from(w, 1);
	for (i = 0; i < w.n; i++) {
		if (w.p[i] == '{')
			level++;
		else if (w.p[i] == '}' && level > 0)
			level--;
		else if (level == 0 && view_space(w.p[i]))
			break;
	}
	*rest = view_from(w, i);
	return view_head(w, i);
}

static bool
has_space(struct view v)
{
	struct view first = view_word(&v, blanks);

	return first.n > 0 && v.n > 0;
}

/* name=value of "{ name = value }" or of "name=value". */
static void
split_setting(struct view v, struct view *ret_name, struct view *ret_value)
{
	size_t eq;

	if (v.n >= 2 && v.p[0] == '{' && v.p[v.n - 1] == '}')
		v = view_make(v.p + 1, v.n - 2);
	eq = view_find(v, '=');
	*ret_name = view_trim(view_head(v, eq));
	*ret_value = view_trim(view_from(v, eq + 1));
}

static void
put_word(struct entry *e, const char *gap, size_t *col, struct view text,
    bool own_line)
{
	(void)buf_printf(&e->command, "%s%.*s", gap, VIEW_ARGS(text));
	if (own_line || *col + 1 + text.n > POSTCONF_LINE) {
		(void)buf_puts(&e->folded, "\n    ");
		*col = 4;
	} else if (gap[0] != '\0') {
		(void)buf_puts(&e->folded, gap);
		*col += 1;
	}
	(void)buf_putv(&e->folded, text);
	*col += text.n;
}

static bool
entry_asked(const struct postconf *pc, const struct entry *e,
    struct view last, bool *used)
{
	struct view part[3] = { e->column[0], e->column[1], last };
	bool any = pc->n_args == 0;
	size_t i, j;

	for (i = 0; i < pc->n_args; i++) {
		struct view rest = view_of(pc->args[i]), word;
		bool match = true;

		for (j = 0; match && j < 3 && rest.n > 0; j++) {
			word = view_head(rest, view_find(rest, '/'));
			rest = view_from(rest, word.n + 1);
			/* -M has no third part. */
			match = part[j].p != NULL && (view_is(word, "*") ||
			    view_eq(word, part[j]));
		}
		if (match && rest.n == 0)
			any = used[i] = true;
	}
	return any;
}

static void
print_part(const struct postconf *pc, const struct entry *e, struct view last,
    struct view value, bool *used)
{
	bool command = view_is(last, "command");
	char *name;

	if (!entry_asked(pc, e, last, used))
		return;
	name = mem_printf("%.*s/%.*s/%.*s", VIEW_ARGS(e->column[0]),
	    VIEW_ARGS(e->column[1]), VIEW_ARGS(last));
	/* Space inside an argument stays as it is. */
	if (command && !pc->fold && !pc->json && !pc->no_values)
		(void)printf("%s%s%.*s\n", pc->no_names ? "" : name,
		    pc->no_names ? "" : " = ", VIEW_ARGS(value));
	else
		postconf_print(pc, view_of(name), value);
	free(name);
}

static void
entry_setting(struct postconf *pc, struct conf *cf, const struct entry *e,
    struct view name, struct view value, bool *used)
{
	struct conf_reporter r = { postconf_report, pc, "master.cf", 0 };
	const struct conf_setting *s = cf == NULL ? NULL :
	    conf_source_find(cf->source, name);
	struct buf b;
	bool raw;

	if (cf != NULL && (s == NULL || s->use == CONF_UNUSED) &&
	    conf_param_find(name) == NULL && !conf_known(name, &raw) &&
	    conf_composed(name) == NULL)
		postconf_warn(pc, "%s/master.cf:%u: unused parameter: "
		    "%.*s=%.*s", pc->dir, e->line, VIEW_ARGS(name),
		    VIEW_ARGS(value));
	if (pc->master != POSTCONF_OVERRIDES)
		return;
	buf_init(&b, CONF_EXPANDED_MAX);
	if (pc->expand && cf != NULL) {
		(void)conf_expand_into(cf->source, &r, name, e->line, value,
		    &b);
		value = buf_view(&b);
	}
	print_part(pc, e, name, value, used);
	buf_free(&b);
}

static void
entry_command(struct postconf *pc, struct conf *cf, struct entry *e,
    struct view rest, size_t col, bool *used)
{
	struct view word = take_argument(&rest), name, value;
	bool options = true, after_option = false;
	char *text;

	(void)buf_putv(&e->command, word);
	(void)buf_putv(&e->folded, word);
	col += word.n;
	while ((word = take_argument(&rest)).n > 0) {
		options = options && word.p[0] == '-';
		if (options && word.n >= 2 && word.p[1] == 'o') {
			word = word.n > 2 ? view_from(word, 2) :
			    take_argument(&rest);
			split_setting(word, &name, &value);
			entry_setting(pc, cf, e, name, value, used);
			text = mem_printf(has_space(value) ?
			    "-o {%.*s=%.*s}" : "-o %.*s=%.*s",
			    VIEW_ARGS(name), VIEW_ARGS(value));
			put_word(e, " ", &col, view_of(text), true);
			free(text);
			after_option = true;
			continue;
		}
		put_word(e, " ", &col, word, after_option);
		after_option = false;
	}
}

static void
print_entry_json(const struct entry *e)
{
	size_t i;

	for (i = 0; i < COLUMNS; i++) {
		(void)printf("%s\"%s\": ", i == 0 ? "{" : ", ",
		    column_names[i]);
		postconf_print_json(e->column[i]);
	}
	(void)fputs(", \"command\": ", stdout);
	postconf_print_json(buf_view(&e->command));
	(void)fputs("}\n", stdout);
}

/* The columns; returns where the command begins. */
static size_t
columns_text(const struct entry *e, struct buf *out)
{
	size_t i;

	for (i = 0; i <= COLUMNS; i++) {
		if (i > 0)
			(void)buf_putc(out, ' ');
		while (out->n < column_at[i])
			(void)buf_putc(out, ' ');
		if (i < COLUMNS)
			(void)buf_putv(out, e->column[i]);
	}
	return out->n;
}

static void
print_fields(const struct postconf *pc, const struct entry *e, bool *used)
{
	size_t i;

	for (i = 0; i < COLUMNS; i++)
		print_part(pc, e, view_of(column_names[i]), e->column[i],
		    used);
	print_part(pc, e, view_of("command"), buf_view(&e->command), used);
}

static void
entry_print(struct postconf *pc, struct conf *cf, struct view text,
    unsigned line, bool *used)
{
	struct entry e = { .line = line };
	struct view none = { NULL, 0 }, rest = text;
	struct buf columns;
	size_t i, col;

	buf_init(&e.command, 2 * CONF_LOGICAL_MAX);
	buf_init(&e.folded, 2 * CONF_LOGICAL_MAX);
	buf_init(&columns, 2 * CONF_LOGICAL_MAX);
	for (i = 0; i < COLUMNS; i++)
		e.column[i] = view_word(&rest, blanks);
	col = columns_text(&e, &columns);
	entry_command(pc, cf, &e, rest, col, used);
	if (pc->master == POSTCONF_FIELDS) {
		print_fields(pc, &e, used);
	} else if (pc->master == POSTCONF_SERVICES &&
	    entry_asked(pc, &e, none, used)) {
		if (pc->json)
			print_entry_json(&e);
		else
			(void)printf("%s%s\n", buf_cstr(&columns),
			    buf_cstr(pc->fold ? &e.folded : &e.command));
	}
	buf_free(&e.command);
	buf_free(&e.folded);
	buf_free(&columns);
}

/* The parameters, without repeating what is wrong with them. */
static void
no_report(bool error, const char *text, void *arg)
{
	(void)error, (void)text, (void)arg;
}

void
postconf_services(struct postconf *pc)
{
	char *path = mem_printf("%s/master.cf", pc->dir);
	bool *used = mem_array(pc->n_args + 1, sizeof *used);
	struct service_table *t;
	struct conf_lines in;
	struct buf text, entry;
	struct conf *cf;
	unsigned line;
	size_t i;

	buf_init(&text, CONF_READ_MAX);
	buf_init(&entry, CONF_LOGICAL_MAX);
	if (!conf_read_file(path, &text))
		postconf_error(pc, "open %s: %s", path, strerror(errno));
	t = master_cf_parse(buf_view(&text), path, postconf_report, pc);
	cf = t == NULL ? NULL : conf_load(pc->dir, no_report, NULL);
	in = conf_lines_of(buf_view(&text));
	while (t != NULL &&
	    conf_line_next(&in, &entry, &line) == CONF_LINE_TEXT)
		entry_print(pc, cf, buf_view(&entry), line, used);
	for (i = 0; i < pc->n_args && t != NULL; i++)
		if (!used[i])
			postconf_warn(pc, "unmatched request: \"%s\"",
			    pc->args[i]);
	conf_free(&cf);
	master_cf_free(&t);
	buf_free(&text);
	buf_free(&entry);
	free(used);
	free(path);
}
