#include <errno.h>
#include <stdlib.h>

#include "lib/conf_source.h"
#include "lib/master_cf.h"

#define SERVICES_MAX	1000
#define WORDS_MAX	1000		/* of one service */

static const char blanks[] = " \t\r\v\f";

static const char *const types[] = {
	"inet", "unix", "fifo", "pass", "unix-dgram",
};

static struct view
skip_blanks(struct view v)
{
	while (v.n > 0 && view_space(v.p[0]))
		v = view_from(v, 1);
	return v;
}

/*
 * The next argument: a word, in which white space inside {} does not count.
 * Commas belong to it, unlike in a list of main.cf.
 */
static struct view
take_argument(struct view *rest)
{
	size_t i, level = 0;
	struct view w;

	*rest = skip_blanks(*rest);
	for (i = 0; i < rest->n; i++) {
		if (rest->p[i] == '{')
			level++;
		else if (rest->p[i] == '}' && level > 0)
			level--;
		else if (level == 0 && view_space(rest->p[i]))
			break;
	}
	w = view_head(*rest, i);
	*rest = view_from(*rest, i);
	return w;
}

/* { a b } without its braces and the space beside them. */
static struct view
unwrap(struct view v)
{
	if (v.n >= 2 && v.p[0] == '{' && v.p[v.n - 1] == '}')
		return view_trim(view_make(v.p + 1, v.n - 2));
	return v;
}

static void
add_word(char ***list, size_t *n, struct view v)
{
	*list = mem_resize(*list, *n + 2, sizeof **list);
	(*list)[(*n)++] = mem_copy(v);
	(*list)[*n] = NULL;
}

/* The value of -o as "name=value"; false: it is not one. */
static bool
add_override(struct service *s, struct view v)
{
	struct view name, rest, word;
	size_t eq;
	char *text;

	v = unwrap(v);
	eq = view_find(v, '=');
	name = rest = view_trim(view_head(v, eq));
	word = view_word(&rest, blanks);
	if (eq == v.n || name.n == 0 || word.n != name.n ||
	    name.n > CONF_NAME_MAX || name.p[0] == '#')
		return false;
	v = view_trim(view_from(v, eq + 1));
	text = mem_printf("%.*s=%.*s", VIEW_ARGS(name), VIEW_ARGS(v));
	add_word(&s->overrides, &s->n_overrides, view_of(text));
	free(text);
	return true;
}

/* "-v", "-vv", "-D", "-vD". */
static bool
take_flags(struct service *s, struct view v)
{
	size_t i;

	for (i = 1; i < v.n; i++)
		if (v.p[i] != 'v' && v.p[i] != 'D')
			return false;
	for (i = 1; i < v.n; i++)
		if (v.p[i] == 'v')
			s->verbose++;
	return v.n > 1;
}

/*
 * Options end at the first word that is not one, as for getopt(): what
 * follows "argv=program" is the program's.
 */
static bool
take_arguments(struct service *s, struct view rest, struct conf_reporter *r)
{
	struct view word;
	bool options = true;

	while ((word = take_argument(&rest)).n > 0) {
		if (s->argc + s->n_overrides >= WORDS_MAX) {
			conf_tell(r, true, s->line, "%s: more than %d "
			    "arguments", s->name, WORDS_MAX);
			return false;
		}
		if (!options || word.p[0] != '-') {
			options = false;
			add_word(&s->argv, &s->argc, unwrap(word));
		} else if (word.n >= 2 && word.p[1] == 'o') {
			word = word.n > 2 ? view_from(word, 2) :
			    take_argument(&rest);
			if (add_override(s, word))
				continue;
			conf_tell(r, true, s->line, "%s: -o \"%.*s\": not "
			    "name=value", s->name,
			    VIEW_ARGS(view_head(word, 100)));
			return false;
		} else if (!take_flags(s, word)) {
			add_word(&s->argv, &s->argc, word);
		}
	}
	return true;
}

static bool
take_bool(struct view v, bool fallback, bool *ret)
{
	*ret = view_is(v, "y") || (view_is(v, "-") && fallback);
	return view_is(v, "y") || view_is(v, "n") || view_is(v, "-");
}

static bool
take_limit(struct view v, int64_t fallback, int64_t *ret)
{
	*ret = fallback;
	return view_is(v, "-") || conf_parse_int(v, 0, INT32_MAX, ret);
}

static bool
known_type(struct view v)
{
	size_t i;

	for (i = 0; i < sizeof types / sizeof types[0]; i++)
		if (view_is(v, types[i]))
			return true;
	return false;
}

enum field {
	FIELD_NAME = 0, FIELD_TYPE, FIELD_PRIVATE, FIELD_UNPRIV, FIELD_CHROOT,
	FIELD_WAKEUP, FIELD_MAXPROC, FIELD_COMMAND, FIELDS
};
static const char *const field_names[FIELDS] = {
	"service", "type", "private", "unprivileged", "chroot", "wakeup",
	"process limit", "command",
};

/* The field that is wrong, or FIELDS. */
static enum field
take_fields(struct service *s, const struct view f[FIELDS])
{
	struct view wakeup = f[FIELD_WAKEUP];
	bool inet = view_is(f[FIELD_TYPE], "inet");

	if (!known_type(f[FIELD_TYPE]))
		return FIELD_TYPE;
	/* An address is public by nature. */
	if (!take_bool(f[FIELD_PRIVATE], !inet, &s->private_socket) ||
	    (inet && s->private_socket))
		return FIELD_PRIVATE;
	if (!take_bool(f[FIELD_UNPRIV], true, &s->unprivileged))
		return FIELD_UNPRIV;
	if (!take_bool(f[FIELD_CHROOT], true, &s->chroot))
		return FIELD_CHROOT;
	/* "60?": only if somebody uses the service; ours start on demand. */
	if (wakeup.n > 1 && wakeup.p[wakeup.n - 1] == '?')
		wakeup.n--;
	if (!take_limit(wakeup, 0, &s->wakeup))
		return FIELD_WAKEUP;
	if (!take_limit(f[FIELD_MAXPROC], -1, &s->maxproc))
		return FIELD_MAXPROC;
	return FIELDS;
}

static void
service_clear(struct service *s)
{
	size_t i;

	for (i = 0; i < s->n_overrides; i++)
		free(s->overrides[i]);
	for (i = 0; i < s->argc; i++)
		free(s->argv[i]);
	free(s->overrides);
	free(s->argv);
	free(s->name);
	free(s->type);
	free(s->command);
	*s = (struct service){ 0 };
}

static bool
service_parse(struct service *s, struct view text, struct conf_reporter *r)
{
	struct view f[FIELDS], rest = text;
	enum field bad;
	int i;

	for (i = 0; i < FIELDS; i++) {
		f[i] = view_word(&rest, blanks);
		if (f[i].n == 0) {
			conf_tell(r, true, s->line, "missing %s field: "
			    "\"%.*s\"", field_names[i],
			    VIEW_ARGS(view_head(text, 100)));
			return false;
		}
	}
	s->name = mem_copy(f[FIELD_NAME]);
	s->type = mem_copy(f[FIELD_TYPE]);
	s->command = mem_copy(f[FIELD_COMMAND]);
	bad = take_fields(s, f);
	if (bad != FIELDS) {
		conf_tell(r, true, s->line, "invalid %s field \"%.*s\" in "
		    "\"%.*s\"", field_names[bad], VIEW_ARGS(f[bad]),
		    VIEW_ARGS(view_head(text, 100)));
		return false;
	}
	return take_arguments(s, rest, r);
}

/* The last of two services with the same name and type wins. */
static void
table_add(struct service_table *t, const struct service *s,
    struct conf_reporter *r)
{
	struct service *old;
	size_t i;

	for (i = 0; i < t->n; i++) {
		old = &t->list[i];
		if (strcmp(old->name, s->name) == 0 &&
		    strcmp(old->type, s->type) == 0) {
			conf_tell(r, false, s->line, "overriding earlier "
			    "entry: %s/%s (line %u)", s->name, s->type,
			    old->line);
			service_clear(old);
			*old = *s;
			return;
		}
	}
	t->list = mem_resize(t->list, t->n + 1, sizeof *t->list);
	t->list[t->n++] = *s;
}

static void
table_line(struct service_table *t, struct view text, unsigned line,
    struct conf_reporter *r)
{
	struct service s = { .line = line };

	if (t->n >= SERVICES_MAX)
		conf_tell(r, true, line, "more than %d services",
		    SERVICES_MAX);
	else if (service_parse(&s, text, r)) {
		table_add(t, &s, r);
		return;
	}
	service_clear(&s);
}

struct service_table *
master_cf_parse(struct view text, const char *origin, conf_report *report,
    void *arg)
{
	struct conf_reporter r = { report, arg, origin, 0 };
	struct service_table *t = mem_alloc(sizeof *t);
	struct conf_lines in = conf_lines_of(text);
	enum conf_line kind;
	unsigned line = 0;
	struct buf b;

	buf_init(&b, CONF_LOGICAL_MAX);
	while ((kind = conf_line_next(&in, &b, &line)) != CONF_LINE_NONE) {
		if (kind == CONF_LINE_TEXT)
			table_line(t, buf_view(&b), line, &r);
		else
			conf_tell(&r, true, line, kind == CONF_LINE_ORPHAN ?
			    "an entry must not start with whitespace" :
			    kind == CONF_LINE_NUL ? "line with a NUL byte" :
			    "line over 64 KB");
	}
	buf_free(&b);
	if (r.errors > 0)
		master_cf_free(&t);
	return t;
}

struct service_table *
master_cf_load(const char *dir, conf_report *report, void *arg)
{
	char *path = mem_printf("%s/master.cf", dir);
	struct conf_reporter r = { report, arg, path, 0 };
	struct service_table *t = NULL;
	struct buf b;

	buf_init(&b, CONF_READ_MAX);
	if (conf_read_file(path, &b))
		t = master_cf_parse(buf_view(&b), path, report, arg);
	else
		conf_tell(&r, true, 0, "%s", strerror(errno));
	buf_free(&b);
	free(path);
	return t;
}

void
master_cf_free(struct service_table **t)
{
	size_t i;

	if (*t == NULL)
		return;
	for (i = 0; i < (*t)->n; i++)
		service_clear(&(*t)->list[i]);
	free((*t)->list);
	free(*t);
	*t = NULL;
}

bool
service_is_relay(const struct service *s)
{
	return strcmp(s->type, "unix") == 0 &&
	    (strcmp(s->command, "smtp") == 0 ||
	    strcmp(s->command, "relay") == 0 ||
	    strcmp(s->command, "lmtp") == 0);
}

bool
service_is_lmtp(const struct service *s)
{
	return strcmp(s->type, "unix") == 0 &&
	    strcmp(s->command, "lmtp") == 0;
}

bool
service_is_local(const struct service *s)
{
	return strcmp(s->type, "unix") == 0 &&
	    (strcmp(s->command, "local") == 0 ||
	    strcmp(s->command, "virtual") == 0 ||
	    strcmp(s->command, "pipe") == 0);
}

static bool
same_settings(const struct service *a, const struct service *b)
{
	size_t i;

	/* It says which sockets a client of LMTP can reach. */
	if (a->n_overrides != b->n_overrides ||
	    (service_is_lmtp(a) && a->chroot != b->chroot))
		return false;
	for (i = 0; i < a->n_overrides; i++)
		if (strcmp(a->overrides[i], b->overrides[i]) != 0)
			return false;
	return true;
}

/* FNV-1a; always odd. */
static uint32_t
name_number(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h | 1u;
}

uint32_t
service_relays(const struct service_table *t, const struct service *s)
{
	const struct service *first = NULL, *same = NULL;
	size_t i;

	for (i = 0; i < t->n && same == NULL; i++) {
		if (service_is_local(s) ? !service_is_local(&t->list[i]) :
		    !service_is_relay(&t->list[i]) ||
		    service_is_lmtp(s) != service_is_lmtp(&t->list[i]))
			continue;
		/* 0 is for SMTP. */
		if (first == NULL && !service_is_lmtp(s))
			first = &t->list[i];
		if (same_settings(&t->list[i], s))
			same = &t->list[i];
	}
	if (same == NULL || same == first)
		return service_is_local(s) ? SERVICE_LOCAL : 0;
	return name_number(same->name);
}
