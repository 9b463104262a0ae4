/* postern import postfix: master.cf. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/import_postfix.h"

#define COLUMNS	8u
#define WORDS_MAX	400u
#define MASTER_MAX	(1u << 20)

enum fate {
	FATE_KEEP = 1,
	FATE_LOCAL,		/* runs outside of the jail */
	FATE_SCREEN,		/* postscreen: the gate, and smtpd */
	FATE_BUILT_IN,		/* done elsewhere: the comment says where */
	FATE_DROP
};

static const struct {
	const char *command;
	enum fate fate;
	const char *why;
} fates[] = {
	{ "smtpd", FATE_KEEP, NULL },
	{ "postscreen", FATE_SCREEN, "the gate accepts connections; its "
	    "tests before the greeting are not there" },
	{ "cleanup", FATE_KEEP, "the content filter" },
	{ "qmgr", FATE_KEEP, NULL },
	{ "oqmgr", FATE_KEEP, NULL },
	{ "nqmgr", FATE_KEEP, NULL },
	{ "smtp", FATE_KEEP, "the relay" },
	{ "relay", FATE_KEEP, "the relay" },
	{ "lmtp", FATE_KEEP, "the relay" },
	{ "bounce", FATE_KEEP, NULL },
	{ "pickup", FATE_KEEP, NULL },
	{ "showq", FATE_KEEP, NULL },
	{ "local", FATE_LOCAL, NULL },
	{ "virtual", FATE_LOCAL, NULL },
	{ "pipe", FATE_LOCAL, NULL },
	{ "anvil", FATE_BUILT_IN, "the gate counts" },
	{ "tlsmgr", FATE_BUILT_IN, "smtpd and relay keep their TLS sessions" },
	{ "trivial-rewrite", FATE_BUILT_IN, "each role rewrites and routes "
	    "itself" },
	{ "verify", FATE_BUILT_IN, "qmgr verifies addresses" },
	{ "flush", FATE_BUILT_IN, "qmgr knows what waits for whom" },
	{ "proxymap", FATE_BUILT_IN, "each role opens the files of its "
	    "tables before it is locked in" },
	{ "scache", FATE_BUILT_IN, "the relay keeps its connections" },
	{ "error", FATE_BUILT_IN, "qmgr returns what cannot be delivered" },
	{ "discard", FATE_BUILT_IN, "qmgr discards" },
	{ "postlogd", FATE_BUILT_IN, "master writes the log file" },
	{ "tlsproxy", FATE_BUILT_IN, "smtpd and the relay speak TLS" },
	{ "dnsblog", FATE_DROP, "there is no postscreen; DNS lists belong "
	    "into smtpd_client_restrictions" },
	{ "spawn", FATE_DROP, "there is no such service: run the program by "
	    "itself (systemd, supervise), and name its socket" },
	{ "qmqpd", FATE_DROP, "there is no QMQP" },
};

struct line {
	struct view column[COLUMNS];	/* the last is the command */
	struct view word[WORDS_MAX];	/* behind it */
	size_t n_columns, n;
	unsigned line;
};

struct services {
	struct import_postfix *x;
	struct buf text, *out;
	struct line *l;
	bool screen;		/* some postscreen */
	bool cleanup, bounce;	/* one is enough */
};

/* -- reading --------------------------------------------------------------- */

/* A word, or all of { ... }. */
static struct view
line_word(struct view *rest)
{
	struct view v = view_trim(*rest);
	size_t n = 0, depth = 0;

	while (n < v.n && (depth > 0 || !view_space(v.p[n]))) {
		if (v.p[n] == '{')
			depth += n == 0 || depth > 0;
		else if (v.p[n] == '}' && depth > 0 && --depth == 0) {
			n++;
			break;
		}
		n++;
	}
	*rest = view_from(v, n);
	return view_head(v, n);
}

static bool
line_split(struct line *l, struct view v, unsigned line)
{
	*l = (struct line){ .line = line };
	while (l->n_columns < COLUMNS && view_trim(v).n > 0)
		l->column[l->n_columns++] = line_word(&v);
	while (l->n < WORDS_MAX && view_trim(v).n > 0)
		l->word[l->n++] = line_word(&v);
	return l->n_columns == COLUMNS && view_trim(v).n == 0;
}

/* Calls each for every line; text lives in s. */
static void
services_each(struct services *s, void (*each)(struct services *s))
{
	struct conf_lines in = conf_lines_of(buf_view(&s->text));
	unsigned line = 0;
	struct buf b;

	buf_init(&b, CONF_READ_MAX);
	while (conf_line_next(&in, &b, &line) != CONF_LINE_NONE) {
		if (line_split(s->l, buf_view(&b), line))
			each(s);
		else
			import_note(s->x->r, (struct import_place){
			    s->x->master_cf, line }, buf_view(&b),
			    IMPORT_UNKNOWN, "not a service: it has %zu "
			    "columns instead of 8", s->l->n_columns);
	}
	buf_free(&b);
}

/* -- writing --------------------------------------------------------------- */

/* "-o name=value" or "-o { name = value }", one of the words at *i. */
static bool
line_override(const struct line *l, size_t *i, struct view *name,
    struct view *value)
{
	struct view v;

	if (view_is(l->word[*i], "-o") && *i + 1 < l->n)
		v = l->word[++*i];
	else if (view_starts_nocase(l->word[*i], "-o") && l->word[*i].n > 2)
		v = view_from(l->word[*i], 2);
	else
		return false;
	if (v.n >= 2 && v.p[0] == '{' && v.p[v.n - 1] == '}')
		v = view_trim(view_head(view_from(v, 1), v.n - 2));
	*name = view_trim(view_head(v, view_find(v, '=')));
	*value = view_trim(view_from(v, name->n < v.n ? view_find(v, '=') + 1
	    : v.n));
	return true;
}

/* $service_name is what Postfix sets for each process. */
static char *
service_named(const struct services *s, struct view value)
{
	static const char *const forms[] = { "${service_name}",
		"$(service_name)", "$service_name" };
	struct buf b;
	char *result;
	size_t i;

	buf_init(&b, IMPORT_VALUE_MAX);
	while (value.n > 0) {
		for (i = 0; i < 3; i++)
			if (view_starts_nocase(value, forms[i]))
				break;
		if (i < 3)
			(void)buf_putv(&b, s->l->column[0]);
		else
			(void)buf_putc(&b, value.p[0]);
		value = view_from(value, i < 3 ? strlen(forms[i]) : 1);
	}
	result = mem_copy(buf_view(&b));
	buf_free(&b);
	return result;
}

static void
put_override(struct services *s, struct import_place at, struct view name,
    struct view value)
{
	struct import_postfix *x = s->x;
	char *copy, *named, *new;
	bool braces;
	size_t i;

	if (!import_postfix_override(x, at, name, value))
		return;
	copy = mem_copy(name);
	named = service_named(s, value);
	new = import_postfix_value(x, at, copy, view_of(named));
	free(named);
	braces = new[0] == '\0';
	for (i = 0; new[i] != '\0'; i++)
		braces = braces || view_space(new[i]);
	(void)buf_printf(s->out, braces && new[0] != '\0' ?
	    "    -o { %s = %s }\n" : "    -o %s=%s\n", copy, new);
	free(new);
	free(copy);
}

/* What stands behind the command: overrides, then the rest as it is. */
static void
put_words(struct services *s, const struct line *l)
{
	struct import_place at = { s->x->master_cf, l->line };
	struct view name, value;
	bool begun = false;
	size_t i;

	for (i = 0; i < l->n; i++) {
		if (!begun && line_override(l, &i, &name, &value)) {
			put_override(s, at, name, value);
			continue;
		}
		if (!begun && view_starts_nocase(l->word[i], "-v") &&
		    l->word[i].n == 2) {
			(void)buf_puts(s->out, "    -v\n");
			continue;
		}
		(void)buf_printf(s->out, begun ? " %.*s" : "    %.*s",
		    VIEW_ARGS(l->word[i]));
		begun = true;
	}
	if (begun)
		(void)buf_putc(s->out, '\n');
}

static void
put_columns(struct services *s, const struct line *l, const char *chroot,
    const char *command)
{
	(void)buf_printf(s->out, "%-16.*s %-5.*s %-7.*s %-6.*s %-6s %-6.*s "
	    "%-7.*s %s\n", VIEW_ARGS(l->column[0]), VIEW_ARGS(l->column[1]),
	    VIEW_ARGS(l->column[2]), VIEW_ARGS(l->column[3]), chroot,
	    VIEW_ARGS(l->column[5]), VIEW_ARGS(l->column[6]), command);
}

static void
note(struct services *s, enum import_outcome outcome, const char *why)
{
	const struct line *l = s->l;
	char *text = mem_printf("%.*s %.*s %.*s", VIEW_ARGS(l->column[0]),
	    VIEW_ARGS(l->column[1]), VIEW_ARGS(l->column[7]));

	import_note(s->x->r, (struct import_place){ s->x->master_cf,
	    l->line }, view_of(text), outcome, "%s", why);
	free(text);
}

static void
put_service(struct services *s, const char *chroot, const char *command,
    enum import_outcome outcome, const char *why)
{
	(void)buf_printf(s->out, "# %s:%u\n", s->x->master_cf, s->l->line);
	put_columns(s, s->l, chroot, command);
	note(s, outcome, why != NULL ? why : "the same service");
}

/* -- services -------------------------------------------------------------- */

static void
pass_words(struct services *s)
{
	/* The settings of postscreen's smtpd are those of its sessions. */
	if (view_is(s->l->column[7], "smtpd") &&
	    view_is(s->l->column[1], "pass"))
		put_words(s, s->l);
}

static void
put_screen(struct services *s, const char *why)
{
	struct line *here = s->l;

	put_service(s, "-", "smtpd", IMPORT_CHANGED, why);
	/* its own settings are postscreen's: each is in the report */
	put_words(s, here);
	s->l = mem_alloc(sizeof *s->l);
	services_each(s, pass_words);
	free(s->l);
	s->l = here;
}

static void
put_kept(struct services *s, const char *why)
{
	struct view command = s->l->column[7];
	char *text;

	if (view_is(command, "smtpd") && view_is(s->l->column[1], "pass")) {
		note(s, IMPORT_CHANGED, "its settings are those of the "
		    "service that was postscreen's");
		return;
	}
	if ((view_is(command, "cleanup") && s->cleanup) ||
	    (view_is(command, "bounce") && s->bounce)) {
		note(s, view_is(command, "bounce") ? IMPORT_CARRIED :
		    IMPORT_DROPPED, view_is(command, "bounce") ?
		    "bounce writes these, too" : "there is one content "
		    "filter: settings for one service are "
		    "receive_override_options and filter_policy_classes");
		return;
	}
	s->cleanup = s->cleanup || view_is(command, "cleanup");
	s->bounce = s->bounce || view_is(command, "bounce");
	text = mem_copy(command);
	put_service(s, "-", text, IMPORT_CARRIED, why);
	free(text);
	put_words(s, s->l);
}

static void
service_import(struct services *s)
{
	struct view command = s->l->column[7];
	const char *why = NULL;
	enum fate fate = (enum fate)0;
	char *text = mem_copy(command);
	size_t i;

	for (i = 0; i < sizeof fates / sizeof fates[0]; i++)
		if (strcmp(fates[i].command, text) == 0) {
			fate = fates[i].fate;
			why = fates[i].why;
		}
	switch ((int)fate) {
	case FATE_KEEP:
		put_kept(s, why);
		break;
	case FATE_LOCAL:
		put_service(s, "n", text, IMPORT_CARRIED, why);
		put_words(s, s->l);
		break;
	case FATE_SCREEN:
		put_screen(s, why);
		break;
	case FATE_BUILT_IN:
		note(s, IMPORT_CARRIED, why);
		break;
	case FATE_DROP:
		note(s, IMPORT_DROPPED, why);
		break;
	default:
		note(s, IMPORT_UNKNOWN, "there is no such program");
		break;
	}
	free(text);
}

/* Who is in Postfix's jail: column 5, n by default since 3.0. */
static void
service_look(struct services *s)
{
	if (view_is(s->l->column[7], "smtpd") &&
	    view_is(s->l->column[4], "y"))
		s->x->jailed = true;
}

/* What Postfix has none of. */
static const char more[] =
"\n# Postern's own.\n"
"gate             unix  y       -      -      -      1       gate\n"
"lookup           unix  y       -      -      -      1       lookup\n"
"milter           unix  y       -      -      -      1       milter\n";

bool
import_postfix_services(struct import_postfix *x)
{
	struct services s = { .x = x };
	bool ok;

	buf_init(&s.text, CONF_READ_MAX);
	if (!conf_read_file(x->master_cf, &s.text)) {
		log_error("%s: %s", x->master_cf, strerror(errno));
		buf_free(&s.text);
		return false;
	}
	s.l = mem_alloc(sizeof *s.l);
	s.out = import_file(x->c, "master.cf", 0644);
	services_each(&s, service_look);
	(void)buf_printf(s.out, "# Made by `postern import postfix %s`.  See "
	    "master.cf(5).\n#\n# service        type  private unpriv chroot "
	    "wakeup maxproc command\n", x->o->from);
	services_each(&s, service_import);
	if (!s.cleanup)
		(void)buf_puts(s.out, "filter           unix  y       -      "
		    "-      -      -       filter\n");
	ok = buf_puts(s.out, more);
	free(s.l);
	buf_free(&s.text);
	if (!ok)
		log_error("%s: it is too long", x->master_cf);
	return ok;
}
