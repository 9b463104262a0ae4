/* check_..._access: keys out of facts, and what the table says. */
#include <stdio.h>
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/policy_priv.h"
#include "rules/table_remote.h"
#include "rules/verdict.h"

/* -- status codes ---------------------------------------------------------- */

/*
 * RFC 3463 section 3.2: x.1.n is about an address, and which n there are
 * depends on whose.  The first digit is set with the reply code.
 */
const char *
status_for_subject(struct view status, enum subject s, char ret[12])
{
	static const struct {
		const char *detail, *sender, *recipient;
	} rows[] = {
		{ "1", "4.1.7", "4.1.1" }, { "2", "4.1.8", "4.1.2" },
		{ "3", "4.1.7", "4.1.3" }, { "4", "4.1.7", "4.1.4" },
		{ "5", "4.1.0", "4.1.5" }, { "6", "4.1.7", "4.1.6" },
		{ "7", "4.1.7", "4.1.3" }, { "8", "4.1.8", "4.1.2" },
	};
	size_t i;

	(void)snprintf(ret, 12, "%.*s", VIEW_ARGS(status));
	if (status.n < 5 || memcmp(ret + 1, ".1.", 3) != 0)
		return ret;
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (strcmp(ret + 4, rows[i].detail) == 0)
			break;
	if (s != SUBJECT_SENDER && s != SUBJECT_RECIPIENT)
		(void)snprintf(ret, 12, "4.0.0");
	else if (i == sizeof rows / sizeof rows[0])
		(void)snprintf(ret, 12, "4.1.0");
	else
		(void)snprintf(ret, 12, "%s", s == SUBJECT_SENDER ?
		    rows[i].sender : rows[i].recipient);
	return ret;
}

/* -- results --------------------------------------------------------------- */

struct result {
	struct eval *e;
	const char *what;	/* table or service, for messages */
	struct view name;
	enum subject subject;
	struct view value;
};

static enum step
result_refuse(const struct result *r, const struct verdict *v)
{
	struct eval *e = r->e;
	const struct conf *cf = e->p->cf;
	/* "550 text" brings a code of its own, a word does not. */
	bool word = !isdigit((unsigned char)r->value.p[0]);
	unsigned code = v->code;
	char status[12], text[POLICY_TEXT_MAX];

	if (word)
		code = (unsigned)(v->action == ACTION_DEFER ?
		    cf->access_map_defer_code : cf->access_map_reject_code);
	(void)status_for_subject(v->status, r->subject, status);
	(void)snprintf(text, sizeof text, "%.*s", VIEW_ARGS(v->text));
	if (v->when == DEFER_IF_PERMIT)
		return eval_put_off_permit(e, true, code, status, r->name,
		    r->subject, text);
	if (v->when == DEFER_IF_REJECT) {
		eval_put_off_reject(e, code, status, r->name, r->subject,
		    text);
		return STEP_NEXT;
	}
	return eval_reject(e, code, status, r->name, r->subject, text);
}

/* An action on the message, which must be one to come. */
static bool
result_has_message(const struct result *r, const char *action)
{
	struct eval *e = r->e;

	if (e->stage == STAGE_ETRN)
		log_warn("access table %s: action %s is unavailable in "
		    "smtpd_etrn_restrictions", r->what, action);
	else if (!e->f->has_sender)
		log_warn("access table %s: with smtpd_delay_reject=no, "
		    "action %s is always skipped in client or HELO "
		    "restrictions", r->what, action);
	else
		return true;
	return false;
}

static void
result_note(const struct result *r, const char *action, const char *word,
    struct view text, bool always)
{
	struct eval *e = r->e;
	const char *name = log_safe(r->name);
	void (*note)(struct eval *, const char *, struct view) =
	    e->p->cf->soft_mode ? eval_would : eval_note;

	if (text.n > 0 && !always)
		note(e, action, eval_text(e, "<%s>: %s %.*s", name,
		    subject_text(r->subject), VIEW_ARGS(text)));
	else if (always)
		note(e, action, eval_text(e, "<%s>: %s triggers %s %.*s",
		    name, subject_text(r->subject), word, VIEW_ARGS(text)));
	else
		note(e, action, eval_text(e, "<%s>: %s triggers %s "
		    "action", name, subject_text(r->subject), word));
}

static void
result_collect(const struct result *r, struct view list[POLICY_LIST_MAX],
    uint32_t *n, struct view text)
{
	uint32_t i;

	for (i = 0; i < *n; i++)
		if (view_eq(list[i], text))
			return;
	if (*n == POLICY_LIST_MAX)
		log_warn("access table %s: more than %u of one action",
		    r->what, POLICY_LIST_MAX);
	else
		list[(*n)++] = eval_copy(r->e, text);
}

static void
result_permit(const struct result *r)
{
	char from[300];

	(void)snprintf(from, sizeof from, " from %s", r->what);
	eval_permit_note(r->e, view_head(r->value, view_find(r->value, ' ')),
	    r->subject, r->name, from);
}

/* soft_mode: what result_message() would say, and nothing else. */
static void
result_would(const struct result *r, const struct verdict *v)
{
	static const struct {
		enum action action;
		const char *note, *word;
		bool always;
	} rows[] = {
		{ ACTION_FILTER, "soft: would filter", "FILTER", true },
		{ ACTION_REDIRECT, "soft: would redirect", "REDIRECT", true },
		{ ACTION_BCC, "soft: would bcc", "BCC", true },
		{ ACTION_PREPEND, "soft: would prepend", "PREPEND", true },
		{ ACTION_HOLD, "soft: would hold", "HOLD", false },
		{ ACTION_DISCARD, "soft: would discard", "DISCARD", false },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].action == v->action)
			result_note(r, rows[i].note, rows[i].word, v->text,
			    rows[i].always);
}

static enum step
result_message(const struct result *r, const struct verdict *v)
{
	struct eval *e = r->e;
	struct policy_result *out = e->r;

	if (!result_has_message(r, action_name(v->action)))
		return STEP_NEXT;
	if (e->p->cf->soft_mode) {
		eval_decided(e, true);
		result_would(r, v);
		return STEP_NEXT;
	}
	switch ((int)v->action) {
	case ACTION_FILTER:
		result_note(r, "filter", "FILTER", v->text, true);
		out->filter = eval_copy(e, v->text);
		break;
	case ACTION_REDIRECT:
		result_note(r, "redirect", "REDIRECT", v->text, true);
		out->redirect = eval_copy(e, v->text);
		break;
	case ACTION_BCC:
		result_note(r, "bcc", "BCC", v->text, true);
		result_collect(r, out->bcc, &out->n_bcc, v->text);
		break;
	case ACTION_PREPEND:
		if (e->stage == STAGE_EOD)
			log_warn("access table %s: action PREPEND must be "
			    "used before smtpd_end_of_data_restrictions",
			    r->what);
		else
			result_collect(r, out->prepend, &out->n_prepend,
			    v->text);
		break;
	case ACTION_HOLD:
		if (out->hold)
			break;
		result_note(r, "hold", "HOLD", v->text, false);
		out->hold = true;
		out->hold_text = eval_copy(e, v->text);
		out->hold_where = eval_copy(e, e->where);
		break;
	case ACTION_DISCARD:
		result_note(r, "discard", "DISCARD", v->text, false);
		out->discard = e->discard = true;
		result_permit(r);
		return STEP_PERMIT;
	}
	return STEP_NEXT;
}

static enum step
result_words(const struct result *r)
{
	/* A copy for the words: value is used again by what they ask. */
	struct view text = eval_copy(r->e, r->value);
	struct restriction list[WORDS_MAX];
	const char *why;
	struct view outer = r->e->list;
	enum step s;
	size_t n;

	if (!restriction_words(r->e->p, text, list, WORDS_MAX, &n, &why)) {
		log_warn("access table %s: %s: \"%.100s\"", r->what, why,
		    log_safe(text));
		return eval_config_failed(r->e);
	}
	r->e->list = r->e->where;
	s = eval_list(r->e, list, n);
	r->e->list = outer;
	return s;
}

enum step
access_result(struct eval *e, struct view value, const char *what,
    struct view name, enum subject s)
{
	struct result r = { e, what, name, s, view_trim(value) };
	struct verdict v;
	const char *error;

	if (r.value.n == 0)
		return STEP_NEXT;
	if (!verdict_parse(r.value, DIALECT_ACCESS, &v, &error))
		return result_words(&r);
	switch (v.action) {
	case ACTION_OK:
		result_permit(&r);
		return STEP_PERMIT;
	case ACTION_REJECT:
	case ACTION_DEFER:
		return result_refuse(&r, &v);
	case ACTION_WARN:
		eval_decided(e, true);
		eval_note(e, "warn", v.text);
		return STEP_NEXT;
	case ACTION_INFO:
		eval_note(e, "info", v.text);
		return STEP_NEXT;
	case ACTION_FILTER:
	case ACTION_REDIRECT:
	case ACTION_BCC:
	case ACTION_PREPEND:
	case ACTION_HOLD:
	case ACTION_DISCARD:
		return result_message(&r, &v);
	case ACTION_DUNNO:
	case ACTION_NONE:
	case ACTION_PASS:
	case ACTION_IGNORE:
	case ACTION_STRIP:
	case ACTION_RENAME:
	case ACTION_REPLACE:
	case ACTIONS:
		break;
	}
	return STEP_NEXT;
}

/* -- checks of tables before they are used --------------------------------- */

struct check {
	const struct policy *p;
	const struct table *table;
	table_report *report;
	void *arg;
	bool ok;
};

static void
check_result(struct view result, unsigned line, void *arg)
{
	struct check *c = arg;
	struct restriction list[WORDS_MAX];
	struct verdict v;
	const char *error, *why;
	char *text;
	size_t n;

	if (verdict_parse(result, DIALECT_ACCESS, &v, &error))
		return;
	/* "unknown action": it may be a restriction; what is an action with
	 * a mistake is none. */
	if (strcmp(error, "unknown action") == 0) {
		if (restriction_words(c->p, result, list, WORDS_MAX, &n, &why))
			return;
		error = why;
	}
	c->ok = false;
	text = mem_printf("%s:%u: %s: \"%.*s\"", table_origin(c->table), line,
	    error, VIEW_ARGS(view_head(result, 200)));
	c->report(true, text, c->arg);
	free(text);
}

bool
access_check_table(struct policy *p, const struct table *t,
    table_report *report, void *arg)
{
	struct check c = { p, t, report, arg, true };

	access_each(t, check_result, &c);
	return c.ok;
}

/* -- keys ------------------------------------------------------------------ */

enum step
access_lookup(struct eval *e, const struct table *t, enum access_key kind,
    struct view key, struct view name, enum subject s, bool *ret_found)
{
	struct view where = e->where, value;
	enum table_answer a;
	unsigned line = 0;
	uint64_t row = 0;
	enum step step;

	*ret_found = false;
	a = access_find(t, kind, key, &e->p->style, e->value, &line,
	    &row);
	if (a == TABLE_FOUND && e->value->n > VALUE_MAX)
		a = TABLE_FAILED;
	switch (a) {
	case TABLE_NOT_FOUND:
		return STEP_NEXT;
	case TABLE_FAILED:
		if (!table_known_needs())
			log_warn("access table %s: no answer for \"%s\"",
			    table_name(t), log_safe(key));
		*ret_found = true;
		return access_result(e, view_of("451 4.3.5 Server "
		    "configuration error"), table_name(t), name, s);
	case TABLE_FOUND:
		break;
	}
	*ret_found = true;
	e->where = line > 0 ? eval_text(e, "%s:%u", table_origin(t), line) :
	    eval_text(e, "%s", table_origin(t));
	eval_hit(e, row);
	/* The buffer is used again by lists that the value names. */
	value = eval_copy(e, buf_view(e->value));
	step = access_result(e, value, table_name(t), name, s);
	if (step == STEP_NEXT)
		e->where = where;
	return step;
}

static enum step
access_client(struct eval *e, const struct restriction *r, enum subject s)
{
	struct view host = subject_value(e, s), name = host;
	char addr[NETADDR_TEXT];
	enum step step;
	bool found;

	(void)netaddr_text(&e->f->client, addr);
	if (s == SUBJECT_CLIENT)
		name = eval_text(e, "%s[%s]", log_safe(host), addr);
	step = access_lookup(e, r->table, ACCESS_CLIENT_NAME, host, name, s,
	    &found);
	if (step == STEP_NEXT && !found)
		step = access_lookup(e, r->table, ACCESS_CLIENT_ADDR,
		    view_of(addr), name, s, &found);
	if (s == SUBJECT_REVERSE && step == STEP_PERMIT && !e->discard) {
		/* Whoever has the address can write any name there. */
		log_warn("restriction %s returns OK for %s; this is not "
		    "allowed for security reasons; use DUNNO instead of OK "
		    "for an exception", r->kind->word, log_safe(name));
		return eval_config_failed(e);
	}
	return step;
}

static enum step
access_mail(struct eval *e, const struct restriction *r, enum subject s)
{
	struct view addr = subject_value(e, s), full;
	enum step step;
	bool found;

	if (addr.n == 0) {
		if (s != SUBJECT_SENDER)
			return STEP_NEXT;
		return access_lookup(e, r->table, ACCESS_SENDER, view_of(
		    e->p->cf->smtpd_null_access_lookup_key), addr, s, &found);
	}
	full = eval_address(e, addr);
	step = access_lookup(e, r->table, s == SUBJECT_SENDER ?
	    ACCESS_SENDER : ACCESS_RECIPIENT, full, addr, s, &found);
	/* Where a routed address leads in the end is not known. */
	if (step == STEP_PERMIT && s == SUBJECT_RECIPIENT && !e->discard &&
	    destination_routed(e) && !e->p->cf->allow_untrusted_routing)
		return STEP_NEXT;
	return step;
}

/* The fingerprints of the client's certificate and of its key. */
enum step
access_certificate(struct eval *e, const struct restriction *r)
{
	const struct view prints[2] = { e->f->tls_fingerprint,
		e->f->tls_pubkey_fingerprint };
	char addr[NETADDR_TEXT];
	struct view name;
	enum step step;
	bool found;
	size_t i;

	for (i = 0; i < 2; i++) {
		if (prints[i].n == 0)
			continue;
		(void)netaddr_text(&e->f->client, addr);
		name = eval_text(e, "%s[%s]", log_safe(e->f->client_name),
		    addr);
		step = access_lookup(e, r->table, ACCESS_DOMAIN, prints[i],
		    name, SUBJECT_CCERT, &found);
		if (step != STEP_NEXT || found)
			return step;
	}
	return STEP_NEXT;
}

enum step
access_check(struct eval *e, const struct restriction *r)
{
	enum subject s = (enum subject)r->kind->variant;
	struct view v = subject_value(e, s);
	bool found;

	if (v.p == NULL)
		return STEP_NEXT;
	if (s == SUBJECT_CLIENT || s == SUBJECT_REVERSE)
		return access_client(e, r, s);
	if (s == SUBJECT_SENDER || s == SUBJECT_RECIPIENT)
		return access_mail(e, r, s);
	return access_lookup(e, r->table, s == SUBJECT_LOGIN ? ACCESS_NAME :
	    ACCESS_DOMAIN, v, v, s, &found);
}
