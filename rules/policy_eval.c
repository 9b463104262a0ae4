/* The evaluation of restrictions: lists, refusals, and what puts them off. */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/idn.h"
#include "rules/policy_priv.h"
#include "rules/rewrite.h"

#define ARENA_MAX	(32u << 20)	/* STEPS_MAX times VALUE_MAX, thrice */
#define STEPS_MAX	2000u	/* restrictions in one evaluation */

static const char *const subject_texts[SUBJECTS] = {
	[SUBJECT_NONE] = "Command",
	[SUBJECT_CLIENT] = "Client host",
	[SUBJECT_REVERSE] = "Unverified Client host",
	[SUBJECT_HELO] = "Helo command",
	[SUBJECT_SENDER] = "Sender address",
	[SUBJECT_RECIPIENT] = "Recipient address",
	[SUBJECT_ETRN] = "Etrn command",
	[SUBJECT_DATA] = "Data command",
	[SUBJECT_EOD] = "End-of-data",
	[SUBJECT_CCERT] = "Client certificate",
	[SUBJECT_LOGIN] = "SASL login name",
};

static const char *const stage_names[STAGES] = {
	[STAGE_NONE] = "none", [STAGE_CLIENT] = "CONNECT",
	[STAGE_HELO] = "HELO", [STAGE_MAIL] = "MAIL", [STAGE_RCPT] = "RCPT",
	[STAGE_DATA] = "DATA", [STAGE_EOD] = "END-OF-MESSAGE",
	[STAGE_ETRN] = "ETRN",
};

const char *
subject_text(enum subject s)
{
	return subject_texts[s];
}

struct view
subject_value(const struct eval *e, enum subject s)
{
	const struct policy_facts *f = e->f;
	const struct view none = { NULL, 0 };

	switch (s) {
	case SUBJECT_CLIENT:
		return f->client_name;
	case SUBJECT_REVERSE:
		return f->reverse_name;
	case SUBJECT_HELO:
		return f->has_helo ? f->helo : none;
	case SUBJECT_SENDER:
		return f->has_sender ? f->sender : none;
	case SUBJECT_RECIPIENT:
		return f->has_recipient ? f->recipient : none;
	case SUBJECT_ETRN:
		return f->etrn;
	case SUBJECT_LOGIN:
		return f->login.n > 0 ? f->login : none;
	case SUBJECT_NONE:
	case SUBJECT_DATA:
	case SUBJECT_EOD:
	case SUBJECT_CCERT:
	case SUBJECTS:
		break;
	}
	return none;
}

enum fact_shelf
subject_shelf(enum subject s)
{
	return s == SUBJECT_CLIENT || s == SUBJECT_REVERSE ||
	    s == SUBJECT_LOGIN || s == SUBJECT_HELO ? SHELF_SESSION : s == SUBJECT_SENDER ?
	    SHELF_TRANSACTION : SHELF_EVALUATION;
}

/* -- texts ----------------------------------------------------------------- */

struct view
eval_copy(struct eval *e, struct view v)
{
	return arena_copy(e->r->arena, v);
}

struct view
eval_text(struct eval *e, const char *fmt, ...)
{
	char text[2 * POLICY_TEXT_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	ensure(n >= 0);
	return eval_copy(e, view_make(text, (size_t)n < sizeof text ?
	    (size_t)n : sizeof text - 1));
}

/* -- refusals -------------------------------------------------------------- */

/* A text that came from a table, or by way of one from a peer: one line. */
static void __attribute__((format(printf, 4, 0)))
reply_set(struct policy_reply *r, unsigned code, const char *status,
    const char *fmt, va_list ap)
{
	int n;

	r->code = (uint16_t)code;
	(void)snprintf(r->status, sizeof r->status, "%s", status);
	/* The code is the administrator's; the class of the status follows. */
	r->status[0] = code < 500 ? '4' : '5';
	n = vsnprintf(r->text, sizeof r->text, fmt, ap);
	ensure(n >= 0);
	for (n = 0; r->text[n] != '\0'; n++)
		if ((unsigned char)r->text[n] < ' ' || r->text[n] == 0x7f)
			r->text[n] = ' ';
}

static void __attribute__((format(printf, 4, 5)))
reply_print(struct policy_reply *r, unsigned code, const char *status,
    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	reply_set(r, code, status, fmt, ap);
	va_end(ap);
}

/* How it is refused; an earlier doubt might have permitted it. */
static void
eval_doubt(struct eval *e)
{
	if (!e->put_off_reject || e->r->reply.code < 500)
		return;
	e->r->reply = e->on_reject;
	e->put_off_reject = false;
}

static enum step
eval_refused(struct eval *e, bool policy)
{
	struct policy_reply *r = &e->r->reply;

	if (policy && e->warn > 0) {
		eval_decided(e, true);
		eval_note(e, "reject_warning", eval_text(e, "%u %s %s",
		    r->code, r->status, r->text));
		return STEP_NEXT;
	}
	eval_doubt(e);
	if (eval_soft(e)) {
		if (!e->softened)
			eval_decided(e, true);
		eval_would(e, "soft: would reject", eval_text(e, "%u %s %s",
		    r->code, r->status, r->text));
		return STEP_NEXT;
	}
	eval_decided(e, false);
	e->r->where = e->where;
	e->r->reply_policy = policy;
	return STEP_REFUSE;
}

enum step
eval_refuse(struct eval *e, unsigned code, const char *status,
    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	reply_set(&e->r->reply, code, status, fmt, ap);
	va_end(ap);
	return eval_refused(e, true);
}

enum step
eval_reject(struct eval *e, unsigned code, const char *status,
    struct view name, enum subject s, const char *text)
{
	return eval_refuse(e, code, status, "<%s>: %s rejected: %s",
	    log_safe(name), subject_text(s), text);
}

enum step
eval_lookup_failed(struct eval *e, struct view about)
{
	reply_print(&e->r->reply, 451, "4.3.0",
	    "<%s>: Temporary lookup failure", log_safe(about));
	return eval_refused(e, false);
}

enum step
eval_config_failed(struct eval *e)
{
	reply_print(&e->r->reply, 451, "4.3.5",
	    "Server configuration error");
	e->hard = true;
	return eval_refused(e, false);
}

void
eval_put_off_reject(struct eval *e, unsigned code, const char *status,
    struct view name, enum subject s, const char *text)
{
	/* The first reason is the one to tell. */
	if (e->put_off_reject)
		return;
	e->put_off_reject = true;
	reply_print(&e->on_reject, code, status, "<%s>: %s rejected: %s",
	    log_safe(name), subject_text(s), text);
}

enum step
eval_put_off_permit(struct eval *e, bool put_off, unsigned code,
    const char *status, struct view name, enum subject s, const char *text)
{
	if (!put_off || e->warn > 0)
		return eval_reject(e, code, status, name, s, text);
	e->put_off_guarded |= e->guard;
	if (!e->put_off_permit) {
		e->put_off_permit = true;
		reply_print(&e->on_permit, code, status,
		    "<%s>: %s rejected: %s", log_safe(name), subject_text(s),
		    text);
	}
	return STEP_NEXT;
}

/* -- facts ----------------------------------------------------------------- */

bool
eval_fact(struct eval *e, const struct fact_name *name,
    enum fact_shelf shelf, struct fact *ret, enum step *ret_step)
{
	if (facts_find(e->f->known, name, ret))
		return true;
	if (e->f->asked >= POLICY_ASKS_MAX || name->key.n > FACT_KEY_MAX) {
		*ret_step = eval_lookup_failed(e, e->name);
		return false;
	}
	e->r->need = *name;
	e->r->need.key = eval_copy(e, name->key);
	e->r->shelf = shelf;
	*ret_step = STEP_NEED;
	return false;
}

bool
dns_name(struct view name, char *ret, size_t size)
{
	if (name.n > 1 && name.p[name.n - 1] == '.')
		name.n--;
	return idn_to_ascii(name, ret, size < ADDRESS_DOMAIN_MAX + 1 ? size :
	    ADDRESS_DOMAIN_MAX + 1) && address_valid_hostname(view_of(ret));
}

bool
eval_dns(struct eval *e, enum fact_dns type, struct view name,
    enum fact_shelf shelf, struct fact *ret, enum step *ret_step)
{
	char lower[ADDRESS_DOMAIN_MAX + 1];
	struct fact_name fn = { FACT_DNS, (uint16_t)type, { NULL, 0 } };

	if (!dns_name(name, lower, sizeof lower)) {
		/* What is no name is not found. */
		*ret = (struct fact){ .status = FACT_NO_NAME };
		return true;
	}
	fn.key = view_of(lower);
	return eval_fact(e, &fn, shelf, ret, ret_step);
}

struct view
eval_address(struct eval *e, struct view addr)
{
	struct buf b;

	if (addr.n == 0)
		return addr;
	buf_init(&b, 2 * ADDRESS_MAX);
	rewrite_complete_address(e->p->cf, addr, &b);
	if (view_find(buf_view(&b), '@') == b.n) {
		(void)buf_putc(&b, '@');
		(void)buf_puts(&b, e->p->cf->myorigin);
	}
	if (!view_eq(buf_view(&b), addr))
		addr = eval_copy(e, buf_view(&b));
	buf_free(&b);
	return addr;
}

bool
eval_is_unknown(struct view name)
{
	return name.n == 0 || view_is_nocase(name, "unknown");
}

/* -- lists ----------------------------------------------------------------- */

/* What came of a restriction, for log_trace(). */
static void
eval_trace(const struct eval *e, struct view list, size_t i, const char *word,
    struct view arg, enum step s)
{
	static const char *const words[] = { [STEP_NEXT] = "no decision",
		[STEP_PERMIT] = "permit", [STEP_REFUSE] = "refuse",
		[STEP_NEED] = "need" };
	const struct policy_reply *r = &e->r->reply;
	char place[24] = "";

	if (!log_tracing())
		return;
	if (i > 0)
		(void)snprintf(place, sizeof place, "[%zu] ", i);
	if (s == STEP_REFUSE)
		log_trace("rule %s%s%s%s%s: refuse: %u %s %s%s%s",
		    log_safe(list), place, word, arg.n > 0 ? " " : "",
		    log_safe(arg), r->code, r->status,
		    log_safe(view_of(r->text)), e->where.n > 0 ? "; rule=" :
		    "", log_safe(e->where));
	else
		log_trace("rule %s%s%s%s%s: %s%s%s", log_safe(list), place,
		    word, arg.n > 0 ? " " : "", log_safe(arg), words[s],
		    e->where.n > 0 ? "; rule=" : "", log_safe(e->where));
}

enum step
eval_list(struct eval *e, const struct restriction *list, size_t n)
{
	const struct restriction *outer = e->at;
	unsigned before = e->depth++;
	enum step s = STEP_NEXT;
	size_t i;

	if (e->depth > DEPTH_MAX)
		s = eval_config_failed(e);
	for (i = 0; i < n && s == STEP_NEXT && !e->discard; i++) {
		if (list[i].kind->fn == general_warn) {
			if (e->warn == 0)
				e->warn = e->depth;
			continue;
		}
		if (++e->steps > STEPS_MAX) {
			s = eval_config_failed(e);
			break;
		}
		e->where = view_of("");
		e->at = &list[i];
		s = list[i].kind->fn(e, &list[i]);
		if (log_tracing())
			eval_trace(e, e->list, i + 1, list[i].kind->word,
			    list[i].kind == &restriction_class_kind ? view_of(
			    list[i].class->name) : list[i].table != NULL ?
			    view_of(table_name(list[i].table)) : list[i].arg,
			    s);
		if (s == STEP_PERMIT)
			eval_permitted(e, &list[i]);
		if (e->warn >= e->depth)
			e->warn = 0;
		/* Whatever comes now, the answer is "later"; if it is only
		 * said, what comes counts. */
		if (e->put_off_permit && e->put_off_reject &&
		    !e->p->cf->soft_mode)
			break;
	}
	e->at = outer;
	e->depth = before;
	if (e->warn >= e->depth)
		e->warn = 0;
	return s;
}

static enum step
eval_subject(struct eval *e, const struct restriction_list *l,
    struct view name, enum subject s, enum subject bare)
{
	e->name = name;
	e->subject = s;
	e->bare = bare;
	e->depth = e->warn = 0;
	e->list = view_of(l->name != NULL ? l->name : "");
	e->at = NULL;
	return l->n > 0 ? eval_list(e, l->list, l->n) : STEP_NEXT;
}

static void
carry_in(struct eval *e, const struct policy_reply *r)
{
	if (r == NULL || e->put_off_permit)
		return;
	e->put_off_permit = true;
	e->on_permit = *r;
}

static enum step
eval_client(struct eval *e)
{
	if (e->p->client.n == 0)
		return STEP_NEXT;
	e->put_off_reject = false;
	return eval_subject(e, &e->p->client, eval_client_text(e), SUBJECT_CLIENT,
	    SUBJECT_CLIENT);
}

static enum step
eval_helo(struct eval *e)
{
	if (!e->f->has_helo || e->p->helo.n == 0)
		return STEP_NEXT;
	e->put_off_reject = false;
	return eval_subject(e, &e->p->helo, e->f->helo, SUBJECT_HELO,
	    SUBJECT_HELO);
}

static enum step
eval_mail(struct eval *e)
{
	enum step s;

	e->put_off_reject = false;
	s = eval_subject(e, &e->p->mail, e->f->sender, SUBJECT_SENDER,
	    SUBJECT_SENDER);
	if (s != STEP_REFUSE && s != STEP_NEED && e->p->unlisted_sender &&
	    !e->listed_sender && !e->discard && e->f->sender.n > 0) {
		s = address_unlisted_of(e, SUBJECT_SENDER);
		eval_trace(e, view_of("smtpd_reject_unlisted_sender"), 0, "",
		    view_of(""), s);
	}
	return s;
}

/* What defer_if_permit, asked for on the way, changes. */
static enum step
eval_deferred(struct eval *e, enum step s)
{
	if (s == STEP_REFUSE || s == STEP_NEED || !e->put_off_permit)
		return s;
	e->warn = 0;
	e->where = view_of("");
	e->r->reply = e->on_permit;
	e->guard = e->put_off_guarded;
	eval_trace(e, view_of("defer_if_permit"), 0, ", asked for above",
	    view_of(""), STEP_REFUSE);
	return eval_refused(e, true);
}

static bool
step_ends(enum step s)
{
	return s == STEP_REFUSE || s == STEP_NEED;
}

static enum step
eval_rcpt(struct eval *e)
{
	const struct policy *p = e->p;
	const struct view rcpt = e->f->recipient;
	const struct restriction_list *l[2] = { &p->relay, &p->rcpt };
	enum step s = STEP_NEXT;
	int i, k;

	if (p->delay) {
		if (step_ends(s = eval_client(e)) ||
		    step_ends(s = eval_helo(e)) ||
		    (e->f->has_sender && step_ends(s = eval_mail(e))))
			return s;
	}
	e->put_off_reject = false;
	/* A permit ends its list, not the other one. */
	for (i = 0; i < 2; i++) {
		k = p->cf->smtpd_relay_before_recipient_restrictions ? i :
		    1 - i;
		e->guard = l[k] == &p->relay ||
		    !restriction_protects(&p->relay);
		s = eval_subject(e, l[k], rcpt, SUBJECT_RECIPIENT,
		    SUBJECT_RECIPIENT);
		if (step_ends(s))
			return s;
	}
	s = eval_deferred(e, s);
	e->guard = false;
	if (!step_ends(s) && p->unlisted_rcpt && !e->listed_rcpt &&
	    !e->discard) {
		s = address_unlisted_of(e, SUBJECT_RECIPIENT);
		eval_trace(e, view_of("smtpd_reject_unlisted_recipient"), 0,
		    "", view_of(""), s);
	}
	return s;
}

static enum step
eval_stage(struct eval *e)
{
	const struct policy_carry none = { NULL, NULL, NULL };
	const struct policy_carry *c = e->f->carry != NULL ? e->f->carry :
	    &none;
	const struct policy *p = e->p;
	enum step s = STEP_NEXT;

	if (e->stage != STAGE_CLIENT)
		carry_in(e, c->client);
	if (e->stage == STAGE_MAIL || e->stage == STAGE_RCPT ||
	    e->stage == STAGE_ETRN)
		carry_in(e, c->helo);
	switch (e->stage) {
	case STAGE_CLIENT:
		return eval_client(e);
	case STAGE_HELO:
		return eval_helo(e);
	case STAGE_MAIL:
		return eval_mail(e);
	case STAGE_RCPT:
		carry_in(e, c->mail);
		return eval_rcpt(e);
	case STAGE_DATA:
		e->put_off_permit = false;
		return eval_deferred(e, eval_subject(e, &p->data,
		    view_of("DATA"), SUBJECT_DATA, SUBJECT_NONE));
	case STAGE_EOD:
		e->put_off_permit = false;
		return eval_deferred(e, eval_subject(e, &p->eod,
		    view_of("END-OF-MESSAGE"), SUBJECT_EOD, SUBJECT_NONE));
	case STAGE_ETRN:
		if (p->delay && (step_ends(s = eval_client(e)) ||
		    step_ends(s = eval_helo(e))))
			return s;
		e->put_off_reject = false;
		return eval_deferred(e, eval_subject(e, &p->etrn, e->f->etrn,
		    SUBJECT_ETRN, SUBJECT_ETRN));
	case STAGE_NONE:
	case STAGES:
		break;
	}
	return s;
}

bool
policy_has(const struct policy *p, enum policy_stage stage)
{
	switch (stage) {
	case STAGE_CLIENT:
		return !p->delay && p->client.n > 0;
	case STAGE_HELO:
		return !p->delay && p->helo.n > 0;
	case STAGE_MAIL:
		return !p->delay && (p->mail.n > 0 || p->unlisted_sender);
	case STAGE_RCPT:
		return true;
	case STAGE_DATA:
		return p->data.n > 0;
	case STAGE_EOD:
		return p->eod.n > 0;
	case STAGE_ETRN:
		return p->etrn.n > 0 || p->client.n > 0 || p->helo.n > 0;
	case STAGE_NONE:
	case STAGES:
		break;
	}
	return false;
}

void
policy_evaluate(const struct policy *p, enum policy_stage stage,
    const struct policy_facts *f, struct policy_result *ret)
{
	struct eval e;
	struct buf value;
	enum step s;

	memset(&e, 0, offsetof(struct eval, on_permit));
	e.p = p;
	e.f = f;
	e.r = ret;
	e.stage = stage;
	e.discard = f->discarding;
	e.value = &value;
	e.where = e.list = view_of("");
	buf_init(&value, FOUND_MAX);
	arena_reset(ret->arena);
	ret->outcome = POLICY_NONE;
	ret->need = (struct fact_name){ .kind = FACT_NONE };
	ret->endpoint = ret->request = ret->where = view_of("");
	ret->hold_text = ret->hold_where = view_of("");
	ret->redirect = ret->filter = view_of("");
	ret->n_hits = ret->softened = 0;
	ret->n_notes = ret->n_bcc = ret->n_prepend = 0;
	ret->hold = ret->discard = ret->reply_policy = ret->deferred = false;
	log_trace("begin %s", stage_names[stage]);
	s = eval_stage(&e);
	log_trace(s == STEP_NEED ? "again" : "end");
	ret->outcome = s == STEP_NEED ? POLICY_NEED :
	    s == STEP_REFUSE ? POLICY_REFUSE : POLICY_PERMIT;
	if (s != STEP_NEED && stage <= STAGE_MAIL && e.put_off_permit) {
		ret->deferred = true;
		ret->deferral = e.on_permit;
	}
	buf_free(&value);
}

struct policy_result *
policy_result_new(void)
{
	struct policy_result *r = mem_alloc(sizeof *r);

	r->arena = arena_new(ARENA_MAX);
	return r;
}

void
policy_result_free(struct policy_result **rp)
{
	struct policy_result *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	arena_free(&r->arena);
	free(r);
}

void
policy_carry_free(struct policy_carry *c)
{
	free(c->client);
	free(c->helo);
	free(c->mail);
	*c = (struct policy_carry){ NULL, NULL, NULL };
}

enum table_answer
policy_in_mynetworks(const struct policy *p, struct view client_name,
    const struct netaddr *client)
{
	return net_list_match(p->mynetworks, client_name, client);
}
