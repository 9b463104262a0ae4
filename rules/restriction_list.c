/* Lists of restrictions and restriction classes, from their words. */
#include <stdlib.h>

#include "lib/log.h"
#include "rules/policy_inside.h"
#include "rules/policy_priv.h"

#define RESTRICTIONS_MAX	1000u

#define ARG_OF(x)	ARG_##x
const struct restriction_kind restriction_kinds[] = {
#define RESTRICTION(word, argument, function, variant)	\
	{ #word, ARG_OF(argument), function, variant },
#include "rules/restriction.def"
#undef RESTRICTION
};
const size_t restriction_kinds_count = sizeof restriction_kinds /
    sizeof restriction_kinds[0];
const struct restriction_kind restriction_bare = { "table", ARG_NONE,
	general_bare, 0 };
const struct restriction_kind restriction_class_kind = { "class", ARG_NONE,
	general_class, 0 };

/* Spellings of Postfix before 2.3 that are still in use. */
static const struct {
	const char *old, *now;
} restriction_old[] = {
	{ "reject_invalid_hostname", "reject_invalid_helo_hostname" },
	{ "reject_non_fqdn_hostname", "reject_non_fqdn_helo_hostname" },
	{ "reject_unknown_hostname", "reject_unknown_helo_hostname" },
	{ "reject_unknown_client", "reject_unknown_client_hostname" },
	{ "reject_unknown_address", "reject_unknown_sender_domain" },
	{ "reject_rbl", "reject_rbl_client" },
	{ "check_recipient_maps", "reject_unlisted_recipient" },
};

/* What is no longer, or not yet, and what to write. */
static const struct {
	const char *word, *why;
} restriction_gone[] = {
	{ "check_relay_domains", "was removed; use reject_unauth_destination" },
	{ "permit_naked_ip_address", "was removed; use permit_mynetworks" },
	{ "reject_maps_rbl", "was removed; use reject_rbl_client" },
};

static const struct restriction_kind *
kind_find(struct view word, const char **ret_now)
{
	const char *now = NULL;
	size_t i;

	for (i = 0; i < sizeof restriction_old / sizeof restriction_old[0];
	    i++)
		if (view_is_nocase(word, restriction_old[i].old)) {
			now = restriction_old[i].now;
			word = view_of(now);
			break;
		}
	for (i = 0; i < restriction_kinds_count; i++)
		if (view_is_nocase(word, restriction_kinds[i].word)) {
			*ret_now = now;
			return &restriction_kinds[i];
		}
	return NULL;
}

static const char *
kind_gone(struct view word)
{
	size_t i;

	for (i = 0; i < sizeof restriction_gone / sizeof restriction_gone[0];
	    i++)
		if (view_is_nocase(word, restriction_gone[i].word))
			return restriction_gone[i].why;
	return NULL;
}

const struct restriction_class *
restriction_class_find(const struct policy *p, struct view name)
{
	const struct restriction_class *c;

	for (c = p->class_list; c != NULL; c = c->next)
		if (view_is_nocase(name, c->name))
			return c;
	return NULL;
}

/* -- reports --------------------------------------------------------------- */

static void
reader_say(struct restriction_reader *rd, bool error, const char *why,
    struct view word)
{
	char *text = mem_printf("%s: %s: \"%.*s\"", rd->what, why,
	    VIEW_ARGS(word));

	rd->report(error, text, rd->arg);
	free(text);
}

/* "reject_unauth_destinatoin": what was meant; NULL: no idea. */
static const char *
reader_near(const struct restriction_reader *rd, struct view word)
{
	const struct restriction_class *c;
	const char *found = NULL;
	unsigned least = 3, d;
	size_t i;

	for (i = 0; i < restriction_kinds_count; i++) {
		d = conf_name_distance(word,
		    view_of(restriction_kinds[i].word));
		if (d < least && d * 3 < word.n) {
			least = d;
			found = restriction_kinds[i].word;
		}
	}
	for (c = rd->p->class_list; c != NULL; c = c->next) {
		d = conf_name_distance(word, view_of(c->name));
		if (d < least && d * 3 < word.n) {
			least = d;
			found = c->name;
		}
	}
	return found;
}

static void
reader_unknown(struct restriction_reader *rd, struct view word)
{
	const char *near = reader_near(rd, word);
	char *why;

	why = near == NULL ? mem_strdup("unknown restriction") :
	    mem_printf("unknown restriction (did you mean %s?)", near);
	reader_say(rd, true, why, word);
	free(why);
}

/* -- arguments ------------------------------------------------------------- */

/* The table of this spec; its results are looked at once, when classes are
 * known (a result may name one). */
static const struct table *
reader_table(struct restriction_reader *rd, struct view spec)
{
	struct policy *p = rd->p;
	struct policy_table *t;
	struct table *table;

	for (t = p->tables; t != NULL; t = t->next)
		if (view_is(spec, t->spec))
			return t->table;
	table = table_open(spec, p->cf->config_directory, rd->report,
	    rd->arg);
	if (table == NULL)
		return NULL;
	t = mem_alloc(sizeof *t);
	t->spec = mem_copy(spec);
	t->table = table;
	t->next = p->tables;
	p->tables = t;
	return table;
}

static bool
reader_argument(struct restriction_reader *rd, struct restriction *r,
    struct view word)
{
	const char *why;

	switch (r->kind->argument) {
	case ARG_NONE:
		break;
	case ARG_TABLE:
		if (view_find(word, ':') == word.n) {
			reader_say(rd, true, "need type:name of a table",
			    word);
			return false;
		}
		r->table = reader_table(rd, word);
		return r->table != NULL;
	case ARG_DOMAIN:
		r->arg = word;
		if (dnsxl_valid(word, &why))
			return true;
		reader_say(rd, true, why, word);
		return false;
	case ARG_SERVICE:
		r->service = service_open(rd, word);
		return r->service != NULL;
	case ARG_SECONDS:
		if (conf_parse_time(word, 's', &r->ms) && r->ms <= 600000)
			return true;
		reader_say(rd, true, "need a number of seconds", word);
		return false;
	}
	return true;
}

/* -- lists ----------------------------------------------------------------- */

static bool class_read(struct restriction_reader *rd,
    struct restriction_class *c);

static bool
reader_class(struct restriction_reader *rd, struct view word,
    struct restriction *ret, bool *ret_ok)
{
	struct restriction_class *c;

	for (c = rd->p->class_list; c != NULL; c = c->next)
		if (view_is_nocase(word, c->name))
			break;
	if (c == NULL)
		return false;
	*ret_ok = class_read(rd, c);
	ret->kind = &restriction_class_kind;
	ret->class = c;
	return true;
}

/* One restriction: its word is taken, its argument is taken from rest. */
static bool
reader_one(struct restriction_reader *rd, struct view word, struct view *rest,
    struct restriction *ret)
{
	const char *now = NULL, *why;
	bool ok = true;
	struct view arg;

	*ret = (struct restriction){ .kind = kind_find(word, &now) };
	if (ret->kind == NULL && view_find(word, ':') < word.n) {
		ret->kind = &restriction_bare;
		ret->table = reader_table(rd, word);
		return ret->table != NULL;
	}
	if (ret->kind == NULL) {
		if (reader_class(rd, word, ret, &ok))
			return ok;
		why = kind_gone(word);
		if (why != NULL)
			reader_say(rd, true, why, word);
		else
			reader_unknown(rd, word);
		return false;
	}
	why = rd->p->inside ? policy_inside_refuses(word) : NULL;
	if (why != NULL) {
		reader_say(rd, true, why, word);
		return false;
	}
	if (now != NULL)
		reader_say(rd, false, now, view_of("is the name now"));
	if (ret->kind->fn == backup_permit)
		reader_say(rd, false, "deprecated; specify relay_domains",
		    word);
	if (ret->kind->argument == ARG_NONE)
		return true;
	arg = conf_word(rest);
	if (arg.n == 0) {
		reader_say(rd, true, "nothing follows", word);
		return false;
	}
	return reader_argument(rd, ret, arg);
}

bool
restriction_read(struct restriction_reader *rd, const char *text,
    struct restriction_list *ret)
{
	struct view rest = view_of(text), word;
	struct restriction r;

	while ((word = conf_word(&rest)).n > 0) {
		if (ret->n == RESTRICTIONS_MAX) {
			reader_say(rd, true, "too many restrictions", word);
			return false;
		}
		if (!reader_one(rd, word, &rest, &r))
			return false;
		ret->list = mem_resize(ret->list, ret->n + 1,
		    sizeof *ret->list);
		ret->list[ret->n++] = r;
	}
	if (ret->n > 0 && ret->list[ret->n - 1].kind->fn == general_warn) {
		reader_say(rd, true, "nothing follows",
		    view_of("warn_if_reject"));
		return false;
	}
	return true;
}

void
restriction_list_free(struct restriction_list *l)
{
	free(l->list);
	l->list = NULL;
	l->n = 0;
}

/* -- classes --------------------------------------------------------------- */

/* Read it if it is not; a class that is being read already contains itself. */
static bool
class_read(struct restriction_reader *rd, struct restriction_class *c)
{
	const char *what = rd->what, *text;
	bool ok;

	if (c->read)
		return true;
	if (c->open) {
		reader_say(rd, true, "a restriction class contains itself",
		    view_of(c->name));
		return false;
	}
	text = conf_text(rd->p->cf, view_of(c->name));
	if (text == NULL) {
		reader_say(rd, true, "restriction class is not defined",
		    view_of(c->name));
		return false;
	}
	c->open = true;
	rd->what = c->name;
	ok = restriction_read(rd, text, &c->list);
	rd->what = what;
	c->open = false;
	c->read = true;
	return ok;
}

bool
restriction_classes(struct restriction_reader *rd)
{
	struct view rest = view_of(rd->p->cf->smtpd_restriction_classes);
	struct restriction_class *c;
	struct view word;
	const char *now;
	bool ok = true;

	while ((word = conf_word(&rest)).n > 0) {
		if (kind_find(word, &now) != NULL) {
			reader_say(rd, true, "a restriction has this name",
			    word);
			return false;
		}
		if (restriction_class_find(rd->p, word) != NULL)
			continue;
		c = mem_alloc(sizeof *c);
		c->name = mem_copy(word);
		c->next = rd->p->class_list;
		rd->p->class_list = c;
	}
	for (c = rd->p->class_list; c != NULL && ok; c = c->next)
		ok = class_read(rd, c);
	return ok;
}

/*
 * Does this list refuse strangers?  One that is reached after an
 * unconditional permit, or that only warns, does not work.
 */
bool
restriction_protects(const struct restriction_list *l)
{
	const struct restriction *r;
	size_t i;

	for (i = 0; i < l->n; i++) {
		r = &l->list[i];
		if (r->kind->fn == general_reject ||
		    r->kind->fn == general_defer ||
		    r->kind->fn == general_defer_if_permit ||
		    r->kind->fn == destination_reject)
			return true;
		if (r->kind->fn == general_permit)
			return false;
		if (r->kind->fn == general_warn)
			i++;
		else if (r->class != NULL &&
		    restriction_protects(&r->class->list))
			return true;
	}
	return false;
}

/* -- results of access tables ---------------------------------------------- */

bool
restriction_words(const struct policy *p, struct view text,
    struct restriction *list, size_t max, size_t *ret_n, const char **ret_why)
{
	const struct restriction_class *class;
	struct restriction *r;
	struct view word, arg;
	const char *now;
	size_t n = 0;

	*ret_why = "unknown action or restriction";
	while ((word = conf_word(&text)).n > 0) {
		if (n == max) {
			*ret_why = "too many restrictions";
			return false;
		}
		r = &list[n++];
		*r = (struct restriction){ .kind = kind_find(word, &now) };
		class = r->kind == NULL ? restriction_class_find(p, word) :
		    NULL;
		if (class != NULL) {
			r->kind = &restriction_class_kind;
			r->class = class;
			continue;
		}
		if (r->kind == NULL || r->kind->argument == ARG_TABLE ||
		    r->kind->argument == ARG_SERVICE) {
			/* These would have to be opened inside the jail. */
			if (view_find(word, ':') < word.n || r->kind != NULL)
				*ret_why = "tables and policy services need "
				    "a restriction class here";
			return false;
		}
		if (p->inside && policy_inside_refuses(word) != NULL) {
			*ret_why = policy_inside_refuses(word);
			return false;
		}
		if (r->kind->argument == ARG_NONE)
			continue;
		arg = conf_word(&text);
		r->arg = arg;
		if (arg.n == 0 || (r->kind->argument == ARG_DOMAIN ?
		    !dnsxl_valid(arg, ret_why) :
		    !conf_parse_time(arg, 's', &r->ms)))
			return false;
	}
	*ret_n = n;
	return n > 0;
}
