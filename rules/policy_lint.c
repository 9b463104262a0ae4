/* Restrictions that work, but hardly as they were meant. */
#include <stdlib.h>

#include "lib/mem.h"
#include "rules/policy_priv.h"
#include "rules/verdict.h"

struct lint {
	const struct policy *p;
	table_report *report;
	void *arg;
	const char *what;	/* the parameter */
	const struct restriction *r;
	bool told;
};

static void __attribute__((format(printf, 3, 4)))
lint_say(struct lint *l, bool error, const char *fmt, ...)
{
	struct buf b;
	va_list ap;

	buf_init(&b, 4096);
	(void)buf_printf(&b, "%s: ", l->what);
	va_start(ap, fmt);
	(void)buf_vprintf(&b, fmt, ap);
	va_end(ap);
	l->report(error, buf_cstr(&b), l->arg);
	buf_free(&b);
}

/* -- lists ----------------------------------------------------------------- */

static bool
lint_ends(const struct restriction *r)
{
	return r->kind->fn == general_permit || r->kind->fn == general_reject ||
	    r->kind->fn == general_defer;
}

static void
lint_unreached(struct lint *l, const struct restriction_list *list)
{
	size_t i;

	for (i = 0; i + 1 < list->n; i++) {
		if (list->list[i].kind->fn == general_warn)
			i++;	/* it only warns */
		else if (lint_ends(&list->list[i])) {
			lint_say(l, false, "what follows \"%s\" is never "
			    "reached", list->list[i].kind->word);
			return;
		}
	}
}

/* A sender, a HELO name, a recipient: whatever the client likes. */
static bool
lint_forged(const struct restriction *r)
{
	return r->kind->fn == access_check && r->table != NULL &&
	    (r->kind->variant == SUBJECT_HELO ||
	    r->kind->variant == SUBJECT_SENDER ||
	    r->kind->variant == SUBJECT_RECIPIENT);
}

static void
lint_result(struct view result, unsigned line, void *arg)
{
	struct lint *l = arg;
	struct verdict v;
	const char *error;
	bool permit = view_is_nocase(view_trim(result), "permit");

	if (l->told || (!permit && (!verdict_parse(view_trim(result),
	    DIALECT_ACCESS, &v, &error) || v.action != ACTION_OK)))
		return;
	l->told = true;
	lint_say(l, false, "%s:%u: %s before reject_unauth_destination: \"OK\" "
	    "lets strangers relay; use DUNNO", table_origin(l->r->table),
	    line, l->r->kind->word);
}

/* What permits by words of the client, before strangers are refused. */
static void
lint_relay(struct lint *l, const struct restriction_list *list)
{
	size_t i;

	for (i = 0; i < list->n; i++) {
		l->r = &list->list[i];
		if (l->r->kind->fn == destination_reject || lint_ends(l->r))
			return;
		l->told = false;
		if (lint_forged(l->r))
			table_each_result(l->r->table, lint_result, l);
	}
}

static void
lint_lists(struct lint *l)
{
	const struct policy *p = l->p;
	const struct restriction_list *const lists[] = { &p->client, &p->helo,
		&p->mail, &p->relay, &p->rcpt, &p->data, &p->eod, &p->etrn };
	const struct restriction_class *c;
	size_t i;

	for (i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		l->what = lists[i]->name;
		lint_unreached(l, lists[i]);
	}
	for (c = p->class_list; c != NULL; c = c->next) {
		l->what = c->name;
		lint_unreached(l, &c->list);
	}
	/* Each list must permit: the other one still refuses. */
	if (!restriction_protects(&p->rcpt)) {
		l->what = "smtpd_relay_restrictions";
		lint_relay(l, &p->relay);
	}
	if (!restriction_protects(&p->relay)) {
		l->what = "smtpd_recipient_restrictions";
		lint_relay(l, &p->rcpt);
	}
}

/* -- everybody ------------------------------------------------------------- */

/* Addresses far apart, of which nobody has all. */
static bool
lint_networks(struct lint *l)
{
	static const char *const far[] = { "1.1.1.1", "64.4.4.4", "100.200.1.2",
		"141.3.2.1", "192.0.2.1", "198.51.100.7", "223.1.2.3" };
	struct netaddr a;
	size_t i;

	for (i = 0; i < sizeof far / sizeof far[0]; i++)
		if (!netaddr_parse(view_of(far[i]), &a) ||
		    policy_in_mynetworks(l->p, view_of("unknown"), &a) !=
		    TABLE_FOUND)
			return true;
	l->what = "mynetworks";
	lint_say(l, true, "every address is in it: an open relay");
	return false;
}

static bool
lint_domains(struct lint *l)
{
	static const char *const far[] = { "a.invalid", "b.example",
		"c.d.e.test" };
	size_t i;

	for (i = 0; i < sizeof far / sizeof far[0]; i++)
		if (class_of(l->p->classes, view_of(far[i])) != CLASS_RELAY)
			return true;
	l->what = "relay_domains";
	lint_say(l, true, "every domain is in it: an open relay");
	return false;
}

bool
policy_lint(const struct policy *p, table_report *report, void *arg)
{
	struct lint l = { .p = p, .report = report, .arg = arg };
	bool ok = lint_networks(&l);

	lint_lists(&l);
	return lint_domains(&l) && ok;
}
