/* postern import postfix: main.cf. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/import_postfix.h"

struct known {
	const char *name, *why;
};
static const struct known own[] = {
#define OWN(name, why)	{ #name, why },
#include "proxy/import_postfix.def"
};
static const struct known renamed[] = {
#define RENAMED(old, new)	{ #old, #new },
#include "proxy/import_postfix.def"
};
static const struct known differs[] = {
#define DIFFERS(name, how)	{ #name, how },
#include "proxy/import_postfix.def"
};
static const struct known defaults[] = {
#define DEFAULT(name, text)	{ #name, text },
#include "proxy/import_postfix.def"
};
static const struct known stricter[] = {
#define STRICTER(name, how)	{ #name, how },
#include "proxy/import_postfix.def"
};
static const struct known not_here[] = {
#define NOT_HERE(prefix, why)	{ #prefix, why },
#include "proxy/import_postfix.def"
};
#define COUNT(a)	(sizeof(a) / sizeof(a)[0])

/* The second column for a name; NULL: there is none. */
#define FIND(a, name)	find_in(a, COUNT(a), name)

static const char *
find_in(const struct known *list, size_t n, struct view name)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (view_is(name, list[i].name))
			return list[i].why;
	return NULL;
}

static const char *
why_not_here(struct view name)
{
	size_t i;

	for (i = 0; i < COUNT(not_here); i++)
		if (view_starts_nocase(name, not_here[i].name))
			return not_here[i].why;
	return "Postern has nothing that it would change";
}

/* -- reading --------------------------------------------------------------- */

/* What is wrong with a line stands in the report, as its line does. */
static void
read_tell(bool error, const char *text, void *arg)
{
	struct import_postfix *x = arg;
	struct import_place at = { x->main_cf, 0 };
	size_t n = strlen(x->main_cf), digits;
	int64_t line;

	if (strncmp(text, x->main_cf, n) == 0 && text[n] == ':') {
		text += n + 1;
		digits = strspn(text, "0123456789");
		if (conf_parse_int(view_make(text, digits), 0, INT32_MAX,
		    &line))
			at.line = (unsigned)line;
		text += digits + strspn(text + digits, ": ");
	}
	/* read_again() has these, with what they say */
	if (strncmp(text, "overriding ", 11) == 0)
		return;
	import_note(x->r, at, view_of(text), IMPORT_UNKNOWN, "%s", error ?
	    "this line cannot be read" : "this line has a mistake");
}

/* Each line that a later one replaces. */
static void
read_again(struct import_postfix *x, struct view text)
{
	struct conf_lines in = conf_lines_of(text);
	const struct conf_setting *s;
	struct import_place at = { x->main_cf, 0 };
	struct view name;
	struct buf b;

	buf_init(&b, CONF_READ_MAX);
	while (conf_line_next(&in, &b, &at.line) != CONF_LINE_NONE) {
		name = view_trim(view_head(buf_view(&b), view_find(
		    buf_view(&b), '=')));
		s = conf_source_find(x->src, name);
		if (s != NULL && s->line != at.line)
			import_note(x->r, at, buf_view(&b), IMPORT_DROPPED,
			    "line %u sets it again, and the last one counts",
			    s->line);
	}
	buf_free(&b);
}

static void
read_default(struct import_postfix *x, const char *name, const char *value)
{
	if (conf_source_find(x->src, view_of(name)) == NULL)
		(void)conf_source_set(x->src, view_of(name), view_of(value),
		    0);
}

static bool
read_main(struct import_postfix *x)
{
	struct conf_reporter to = { read_tell, x, x->main_cf, 0 };
	struct conf_reporter quiet = { .origin = x->main_cf };
	struct buf text;
	size_t i;

	buf_init(&text, CONF_READ_MAX);
	if (!conf_read_file(x->main_cf, &text)) {
		log_error("%s: %s", x->main_cf, strerror(errno));
		buf_free(&text);
		return false;
	}
	conf_source_read(x->src, buf_view(&text), &to);
	read_again(x, buf_view(&text));
	buf_free(&text);
	read_default(x, "config_directory", x->o->from);
	read_default(x, "queue_directory", "/var/spool/postfix");
	read_default(x, "data_directory", "/var/lib/postfix");
	read_default(x, "alias_maps", "hash:/etc/aliases");
	for (i = 0; i < COUNT(defaults); i++)
		read_default(x, defaults[i].name, defaults[i].why);
	conf_source_compute(x->src);
	/* Who uses which names: main.cf and master.cf. */
	conf_check(x->src, x->o->from, &quiet);
	return true;
}

char *
import_postfix_expand(struct import_postfix *x, struct view text)
{
	struct conf_reporter quiet = { .origin = x->main_cf };
	char *result;
	struct buf b;

	buf_init(&b, CONF_EXPANDED_MAX);
	if (!conf_expand_into(x->src, &quiet, view_of(""), 0, text, &b))
		buf_clear(&b);
	result = mem_copy(buf_view(&b));
	buf_free(&b);
	return result;
}

/* -- settings -------------------------------------------------------------- */

/* The source's own name for what stands there. */
static const struct conf_setting *
setting_at(const struct import_postfix *x, unsigned line)
{
	size_t i;

	for (i = 0; i < x->src->n; i++)
		if (x->src->list[i].line == line)
			return &x->src->list[i];
	return NULL;
}

static void
setting_write(struct import_postfix *x, struct import_place at,
    const char *name, struct view value, enum import_outcome outcome,
    const char *why)
{
	char *new = import_postfix_value(x, at, name, value);
	const struct conf_setting *s = at.line > 0 ? setting_at(x, at.line) :
	    NULL;
	struct view old = s != NULL ? s->name : view_of(name);
	char *line = mem_printf("%.*s = %.*s", VIEW_ARGS(old),
	    VIEW_ARGS(value));

	import_set(x->c, name, at, "%s", new);
	if (why != NULL)
		import_remark(x->c, name, "%s", why);
	if (outcome == IMPORT_CARRIED && !view_is(value, new))
		outcome = IMPORT_CHANGED;
	import_note(x->r, at, view_of(line), outcome, "%s%s%s = %s",
	    why != NULL ? why : "", why != NULL ? "; " : "", name, new);
	free(line);
	free(new);
}

/* Is the value one here?  If not, the report has why. */
static bool
setting_good(struct import_postfix *x, struct import_place at,
    struct view name, struct view value)
{
	const struct conf_param *p = conf_param_find(name);
	char why[300], *text, *line;
	int64_t number;
	bool good;

	if (p == NULL)
		p = conf_composed(name);
	if (p == NULL || conf_param_is_text(p))
		return true;
	text = import_postfix_expand(x, value);
	/* ${stress?{1}:{20}}: Postern has no such state, so the second */
	good = conf_value_good(p, view_of(text), &number, why, sizeof why);
	if (!good) {
		line = mem_printf("%.*s = %.*s", VIEW_ARGS(name),
		    VIEW_ARGS(value));
		import_note(x->r, at, view_of(line), IMPORT_DROPPED, "no "
		    "value for it here: %s; the default applies: %s", why,
		    p->def);
		free(line);
	}
	free(text);
	return good;
}

static void
setting_not(struct import_postfix *x, struct import_place at,
    struct view name, struct view value, enum import_outcome outcome,
    const char *why)
{
	char *line = mem_printf("%.*s = %.*s", VIEW_ARGS(name),
	    VIEW_ARGS(value));

	import_note(x->r, at, view_of(line), outcome, "%s", why);
	free(line);
}

static void
setting_unknown(struct import_postfix *x, struct import_place at,
    struct view name, struct view value)
{
	const char *list = conf_restriction_list(name);
	const char *near = conf_nearest(name);
	char *why = list != NULL ? mem_printf("a restriction, not a "
	    "parameter: it belongs in %s", list) : near != NULL ?
	    mem_printf("no server knows this name; %s?", near) :
	    mem_strdup("no parameter of Postfix or Postern, and nothing uses "
	    "it");

	setting_not(x, at, name, value, IMPORT_UNKNOWN, why);
	free(why);
}

static void
setting_import(struct import_postfix *x, const struct conf_setting *s)
{
	struct import_place at = { x->main_cf, s->line };
	const char *why = FIND(own, s->name), *new = FIND(renamed, s->name);
	char *name;

	if (why != NULL) {
		setting_not(x, at, s->name, s->value, IMPORT_DROPPED, why);
		return;
	}
	name = new != NULL ? mem_strdup(new) : mem_copy(s->name);
	if (new != NULL && conf_source_find(x->src, view_of(new)) != NULL &&
	    conf_source_find(x->src, view_of(new))->line > 0) {
		setting_not(x, at, s->name, s->value, IMPORT_DROPPED,
		    "an old name; what has the new one counts");
	} else if (new != NULL) {
		setting_write(x, at, name, s->value, IMPORT_CHANGED,
		    "it has a new name");
	} else if (s->use == CONF_KNOWN) {
		setting_not(x, at, s->name, s->value, IMPORT_DROPPED,
		    why_not_here(s->name));
	} else if (s->use == CONF_UNUSED) {
		setting_unknown(x, at, s->name, s->value);
	} else if (setting_good(x, at, s->name, s->value)) {
		why = FIND(differs, s->name);
		setting_write(x, at, name, s->value, why != NULL ?
		    IMPORT_CHANGED : IMPORT_CARRIED, why);
	}
	free(name);
}

/* -- what is not set ------------------------------------------------------- */

/*
 * At compatibility_level 0 Postfix has no smtpd_relay_restrictions, and
 * relaying is smtpd_recipient_restrictions' business.  Without those either
 * it refuses to work; so did releases before 2.10 not.
 */
static void
default_relay(struct import_postfix *x)
{
	const struct import_place none = { NULL, 0 };
	const struct conf_setting *s = conf_source_find(x->src,
	    view_of("smtpd_recipient_restrictions"));
	char *level = import_postfix_expand(x, view_of(
	    "${{$compatibility_level} <level {1} ? {0} : {1}}"));

	if (level[0] == '0' && conf_source_find(x->src,
	    view_of("smtpd_relay_restrictions")) == NULL) {
		if (s != NULL && s->value.n > 0 && (memmem(s->value.p,
		    s->value.n, "reject_unauth_destination", 25) != NULL ||
		    memmem(s->value.p, s->value.n,
		    "defer_unauth_destination", 24) != NULL))
			setting_write(x, none, "smtpd_relay_restrictions",
			    view_of(""), IMPORT_CARRIED, "not set: Postfix's "
			    "default at this compatibility_level; "
			    "smtpd_recipient_restrictions refuses relaying");
		else
			setting_write(x, none, "smtpd_relay_restrictions",
			    view_of("permit_mynetworks, "
			    "permit_sasl_authenticated, "
			    "reject_unauth_destination"), IMPORT_CHANGED,
			    "not set, and smtpd_recipient_restrictions does "
			    "not name reject_unauth_destination: without it "
			    "this would be an open relay");
	}
	free(level);
}

static void
import_defaults(struct import_postfix *x)
{
	const struct import_place none = { NULL, 0 };
	const struct conf_setting *s;
	char *value, *line;
	size_t i;

	for (i = 0; i < COUNT(defaults); i++) {
		s = conf_source_find(x->src, view_of(defaults[i].name));
		if (s == NULL || s->line > 0)
			continue;
		/* $mydestination and the like stay; levels are decided. */
		value = strstr(defaults[i].why, "level") != NULL ?
		    import_postfix_expand(x, s->value) :
		    mem_copy(s->value);
		if (view_is(s->name, "relay_domains") && value[0] != '\0') {
			free(value);
			value = mem_strdup("$mydestination");
		}
		setting_write(x, none, defaults[i].name, view_of(value),
		    IMPORT_CARRIED, "not set: Postfix's default");
		free(value);
	}
	default_relay(x);
	for (i = 0; i < COUNT(stricter); i++) {
		if (conf_source_find(x->src, view_of(stricter[i].name)) !=
		    NULL)
			continue;
		line = mem_printf("(%s is not set)", stricter[i].name);
		import_note(x->r, none, view_of(line), IMPORT_CHANGED,
		    "Postern's default is stricter than that of Postfix 3.7, "
		    "and stays: %s", stricter[i].why);
		free(line);
	}
}

bool
import_postfix_override(struct import_postfix *x, struct import_place at,
    struct view name, struct view value)
{
	const char *why = FIND(own, name);
	bool raw;

	/* A name in the log is a service's own. */
	if (view_is(name, "syslog_name"))
		return true;
	if (why != NULL) {
		setting_not(x, at, name, value, IMPORT_DROPPED, why);
		return false;
	}
	if (conf_param_find(name) != NULL || conf_composed(name) != NULL)
		return setting_good(x, at, name, value);
	if (conf_known(name, &raw)) {
		setting_not(x, at, name, value, IMPORT_DROPPED,
		    why_not_here(name));
		return false;
	}
	/* the user's own, for $name */
	return true;
}

/* -- what else lies there -------------------------------------------------- */

static bool
other_is_known(const char *name)
{
	static const char *const endings[] = { ".db", ".lmdb", ".dir",
		".pag", ".cdb", ".proto", ".dist" };
	size_t i;

	for (i = 0; i < COUNT(endings); i++)
		if (view_ends_nocase(view_of(name), view_of(endings[i])))
			return true;
	return name[0] == '.' || strcmp(name, "main.cf") == 0 ||
	    strcmp(name, "master.cf") == 0;
}

/* Files that main.cf and master.cf do not name: somebody may miss them. */
static void
import_others(struct import_postfix *x)
{
	DIR *d = opendir(x->o->from);
	const struct dirent *e;
	char *path;

	while (d != NULL && (e = readdir(d)) != NULL) {
		if (other_is_known(e->d_name) ||
		    import_postfix_copied(x, e->d_name))
			continue;
		path = mem_printf("%s/%s", x->o->from, e->d_name);
		import_note(x->r, (struct import_place){ NULL, 0 },
		    view_of(path), IMPORT_DROPPED, "not copied: neither "
		    "main.cf nor master.cf names it as a table or a list");
		free(path);
	}
	if (d != NULL)
		(void)closedir(d);
}

/* -- all of it ------------------------------------------------------------- */

static bool
import_all(struct import_postfix *x)
{
	size_t i;

	if (!read_main(x))
		return false;
	x->queue = import_postfix_expand(x, view_of("$queue_directory"));
	/* master.cf first: it says who is in the jail. */
	if (!import_postfix_services(x))
		return false;
	for (i = 0; i < x->src->n; i++)
		if (x->src->list[i].line > 0)
			setting_import(x, &x->src->list[i]);
	import_defaults(x);
	import_others(x);
	return true;
}

bool
import_postfix(const struct import_order *o, struct import_config *c,
    struct import_report *r)
{
	struct import_postfix *x = mem_alloc(sizeof *x);
	bool ok;

	x->o = o;
	x->c = c;
	x->r = r;
	/* places in reports live as long as the command */
	x->main_cf = mem_printf("%s/main.cf", o->from);
	x->master_cf = mem_printf("%s/master.cf", o->from);
	x->src = conf_source_new(x->main_cf);
	ok = import_all(x);
	conf_source_free(&x->src);
	free(x->queue);
	free(x);
	return ok;
}
