/*
 * sendmail.mc into the model.
 */
#include <unistd.h>

#include "lib/log.h"
#include "proxy/import_sm.h"

struct mc_file {
	struct sm *s;
	const char *name;
};

static bool
mc_value(struct view name, struct view *ret, void *arg)
{
	struct sm *s = arg;
	struct sm_item *i, *last = NULL;

	/* options are no words in texts */
	if (view_starts_nocase(name, "conf"))
		return false;
	for (i = s->defines.first; i != NULL; i = i->next)
		if (view_eq(i->name, name))
			last = i;
	if (last != NULL) {
		*ret = last->arg[0];
		if (!last->used)
			sm_note(s, last, IMPORT_CARRIED,
			    "used in what follows");
	} else if (view_is(name, "MAIL_SETTINGS_DIR"))
		*ret = view_of("/etc/mail/");
	else if (view_is(name, "DATABASE_MAP_TYPE"))
		*ret = view_of("hash");
	else
		return false;
	return true;
}

static void
mc_item(struct mc_file *f, struct sm_list *l, const struct mc_call *c,
    unsigned first_arg)
{
	struct sm_item *i;
	unsigned k;

	i = sm_add(f->s, l, sm_at(f->name, c->line), c->n_args > 0 ?
	    view_trim(c->arg[0]) : view_of(""), c->text);
	for (k = first_arg; i != NULL && k < c->n_args; k++)
		i->arg[i->n_args++] = view_trim(mc_expand(c->arg[k],
		    f->s->arena, mc_value, f->s));
}

/* MACRO(`a b c') or a file of them, in class */
static void
mc_class(struct mc_file *f, const struct mc_call *c, const char *class,
    bool file)
{
	struct view rest = c->n_args > 0 ? mc_expand(c->arg[0], f->s->arena,
	    mc_value, f->s) : view_of(""), word;
	struct sm_item *i;

	while (!file && (word = view_word(&rest, " \t\n,")).n > 0) {
		i = sm_add(f->s, &f->s->classes, sm_at(f->name, c->line),
		    view_of(class), c->text);
		if (i != NULL)
			i->arg[i->n_args++] = arena_copy(f->s->arena, word);
	}
	if (!file)
		return;
	i = sm_add(f->s, &f->s->class_files, sm_at(f->name, c->line),
	    view_of(class), c->text);
	if (i != NULL)
		i->arg[i->n_args++] = view_trim(rest);
}

static void
mc_note(struct mc_file *f, const struct mc_call *c,
    enum import_outcome outcome, const char *why)
{
	import_note(f->s->report, sm_at(f->name, c->line), view_trim(c->text),
	    outcome, "%s", why);
}

static const struct {
	const char *name, *class;
	bool file;
} classes[] = {
	{ "LOCAL_DOMAIN", "w", false },
	{ "RELAY_DOMAIN", "R", false },
	{ "RELAY_DOMAIN_FILE", "R", true },
	{ "MASQUERADE_DOMAIN", "M", false },
	{ "MASQUERADE_DOMAIN_FILE", "M", true },
	{ "MASQUERADE_EXCEPTION", "N", false },
	{ "MASQUERADE_EXCEPTION_FILE", "N", true },
	{ "EXPOSED_USER", "E", false },
	{ "EXPOSED_USER_FILE", "E", true },
	{ "LOCAL_USER", "L", false },
	{ "LOCAL_USER_FILE", "L", true },
	{ "VIRTUSER_DOMAIN", "VirtHost", false },
	{ "VIRTUSER_DOMAIN_FILE", "VirtHost", true },
	{ "GENERICS_DOMAIN", "G", false },
	{ "GENERICS_DOMAIN_FILE", "G", true },
	{ "CANONIFY_DOMAIN", "Canonify", false },
	{ "CANONIFY_DOMAIN_FILE", "Canonify", true },
	{ "LDAPROUTE_DOMAIN", "LDAPRoute", false },
	{ "LDAPROUTE_DOMAIN_FILE", "LDAPRoute", true },
	{ "LDAPROUTE_EQUIVALENT", "LDAPRouteEquiv", false },
	{ "TRUST_AUTH_MECH", "TrustAuthMech", false },
	{ "UUCP_RELAY_DOMAIN", "UUCP", false },
};

/* Macros that say nothing to us, and why. */
static const struct {
	const char *name, *why;
} without[] = {
	{ "VERSIONID", "a comment of the generated file" },
	{ "OSTYPE", "the places of files of one system: here they are "
	    "parameters with defaults" },
	{ "DOMAIN", "a file of definitions beside cf.m4, which is not read: "
	    "look into it" },
	{ "HA" "CK", "a file of rules beside cf.m4, which is not read" },
	{ "CF_LEVEL", "the version of the generated file" },
	{ "MODIFY_MAILER_FLAGS", "flags of sendmail's mailers have no "
	    "counterpart" },
	{ "SITECONFIG", "a file of UUCP neighbours, for the mailer uucp" },
	{ "SITE", "UUCP names of other hosts" },
	{ "LOCAL_UUCP", "UUCP names of this host" },
};

static bool mc_read_file(struct sm *s, const char *file,
    struct import_place at, bool optional);

static void
mc_include(struct mc_file *f, const struct mc_call *c)
{
	struct view path = c->n_args > 0 ? view_trim(mc_expand(c->arg[0],
	    f->s->arena, mc_value, f->s)) : view_of("");

	if (view_ends_nocase(path, view_of("/cf.m4"))) {
		mc_note(f, c, IMPORT_CARRIED, "sendmail's own macros, which "
		    "are known here");
		return;
	}
	if (f->s->depth >= SM_DEPTH_MAX || ++f->s->includes > SM_FILES_MAX) {
		mc_note(f, c, IMPORT_UNKNOWN, "files include each other too "
		    "deeply, or too many");
		return;
	}
	f->s->depth++;
	if (mc_read_file(f->s, sm_path(f->s, path), sm_at(f->name, c->line),
	    view_is(c->name, "sinclude")))
		mc_note(f, c, IMPORT_CARRIED, "it was read");
	f->s->depth--;
}

static void mc_one(const struct mc_call *c, void *arg);

static void
mc_again(struct mc_file *f, const struct mc_call *c, struct view text)
{
	const char *why;
	unsigned line;
	bool ok;

	f->s->depth++;
	ok = f->s->depth <= SM_DEPTH_MAX && mc_read(text, c->line,
	    f->s->arena, mc_one, f, &line, &why);
	f->s->depth--;
	if (!ok)
		mc_note(f, c, IMPORT_UNKNOWN, "what it holds is not "
		    "understood");
}

/* ifdef(`NAME', `then', `else'), ifelse(`a', `b', `then', `else') */
static void
mc_if(struct mc_file *f, const struct mc_call *c)
{
	bool ifdef = view_is(c->name, "ifdef"), yes;
	unsigned then = ifdef ? 1 : 2;
	struct view value;

	if (c->n_args < then + 1 || (!ifdef && c->n_args > 4)) {
		mc_note(f, c, IMPORT_UNKNOWN, "a condition of m4 that is not "
		    "understood");
		return;
	}
	if (ifdef)
		yes = mc_value(view_trim(c->arg[0]), &value, f->s);
	else
		yes = view_eq(mc_expand(c->arg[0], f->s->arena, mc_value,
		    f->s), mc_expand(c->arg[1], f->s->arena, mc_value, f->s));
	import_note(f->s->report, sm_at(f->name, c->line), view_trim(c->text),
	    IMPORT_CARRIED, "the condition is %s in these files",
	    yes ? "true" : "false");
	if (!yes)
		then++;
	if (then < c->n_args)
		mc_again(f, c, c->arg[then]);
}

static void
mc_undefine(struct mc_file *f, const struct mc_call *c)
{
	struct sm_list *l = &f->s->defines;
	struct sm_item *i;
	bool any = false;

	for (i = l->first; i != NULL && c->n_args > 0; i = i->next) {
		if (!view_eq(i->name, view_trim(c->arg[0])))
			continue;
		sm_note(f->s, i, IMPORT_DROPPED, "undefined again in line %u",
		    c->line);
		i->name = view_of("");
		any = true;
	}
	mc_note(f, c, IMPORT_CARRIED, any ? "the definition is gone" :
	    "nothing was defined");
}

static void
mc_text(struct mc_file *f, const struct mc_call *c)
{
	if (view_is(c->block, "LOCAL_CONFIG"))
		import_sm_cf_line(f->s, sm_at(f->name, c->line), c->text);
	else if (c->block.n > 0)
		import_note(f->s->report, sm_at(f->name, c->line), c->text,
		    IMPORT_DROPPED, "a line of a rule set (%.*s): rules of "
		    "your own have to be made anew, as restrictions or "
		    "tables", VIEW_ARGS(c->block));
	else
		mc_note(f, c, IMPORT_UNKNOWN, "not a macro of sendmail's");
}

/* MASQUERADE_AS and other single values are defines of that name. */
static void
mc_single(struct mc_file *f, const struct mc_call *c)
{
	struct sm_item *i = sm_add(f->s, &f->s->defines, sm_at(f->name,
	    c->line), c->name, c->text);

	if (i != NULL && c->n_args > 0)
		i->arg[i->n_args++] = view_trim(mc_expand(c->arg[0],
		    f->s->arena, mc_value, f->s));
}

static bool
mc_known(struct mc_file *f, const struct mc_call *c)
{
	static const struct {
		const char *name;
		size_t list;
		unsigned first_arg;
	} lists[] = {
		{ "define", offsetof(struct sm, defines), 1 },
		{ "FEATURE", offsetof(struct sm, features), 1 },
		{ "DAEMON_OPTIONS", offsetof(struct sm, daemons), 0 },
		{ "CLIENT_OPTIONS", offsetof(struct sm, daemons), 0 },
		{ "INPUT_MAIL_FILTER", offsetof(struct sm, filters), 1 },
		{ "MAIL_FILTER", offsetof(struct sm, filters), 1 },
		{ "MAILER", offsetof(struct sm, mailers), 1 },
	};
	size_t i;

	for (i = 0; i < sizeof lists / sizeof lists[0]; i++)
		if (view_is(c->name, lists[i].name)) {
			mc_item(f, (struct sm_list *)((char *)f->s +
			    lists[i].list), c, lists[i].first_arg);
			return true;
		}
	for (i = 0; i < sizeof classes / sizeof classes[0]; i++)
		if (view_is(c->name, classes[i].name)) {
			mc_class(f, c, classes[i].class, classes[i].file);
			return true;
		}
	for (i = 0; i < sizeof without / sizeof without[0]; i++)
		if (view_is(c->name, without[i].name)) {
			mc_note(f, c, IMPORT_DROPPED, without[i].why);
			return true;
		}
	return false;
}

static void
mc_one(const struct mc_call *c, void *arg)
{
	struct mc_file *f = arg;

	if (c->name.n == 0)
		mc_text(f, c);
	else if (mc_known(f, c))
		;
	else if (view_is(c->name, "divert"))
		mc_note(f, c, IMPORT_CARRIED, "no text comes of it");
	else if (view_is(c->name, "undefine"))
		mc_undefine(f, c);
	else if (view_is(c->name, "include") || view_is(c->name, "sinclude"))
		mc_include(f, c);
	else if (view_is(c->name, "ifdef") || view_is(c->name, "ifelse"))
		mc_if(f, c);
	else if (view_is(c->name, "MASQUERADE_AS") ||
	    view_is(c->name, "LOCAL_RELAY"))
		mc_single(f, c);
	else if (c->n_args == 0)
		mc_note(f, c, IMPORT_CARRIED, "the start of a block");
	else if (!c->diverted)
		mc_note(f, c, IMPORT_UNKNOWN, "there is no such macro known");
}

static bool
mc_read_file(struct sm *s, const char *file, struct import_place at,
    bool optional)
{
	struct mc_file f = { .s = s, .name = file };
	struct view text;
	const char *why;
	unsigned line;

	if (!sm_file(s, file, optional, at, &text))
		return false;
	if (mc_read(text, 1, s->arena, mc_one, &f, &line, &why))
		return true;
	log_error("%s:%u: %s", file, line, why);
	s->failed = true;
	return false;
}

bool
import_sm_mc(struct sm *s, const char *file)
{
	return mc_read_file(s, file, sm_at(file, 0), false) && !s->failed;
}
