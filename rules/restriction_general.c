/* Restrictions that are about no name or address. */
#include <stdio.h>

#include "lib/log.h"
#include "rules/policy_priv.h"

enum step
general_permit(struct eval *e, const struct restriction *r)
{
	(void)e;
	(void)r;
	return STEP_PERMIT;
}

enum step
general_reject(struct eval *e, const struct restriction *r)
{
	(void)r;
	return eval_reject(e, (unsigned)e->p->cf->reject_code, "5.7.1",
	    e->name, e->subject, "Access denied");
}

enum step
general_defer(struct eval *e, const struct restriction *r)
{
	(void)r;
	return eval_reject(e, (unsigned)e->p->cf->defer_code, "4.3.2",
	    e->name, e->subject, "Try again later");
}

enum step
general_warn(struct eval *e, const struct restriction *r)
{
	(void)e;
	(void)r;
	panic("warn_if_reject is the list's");
}

enum step
general_defer_if_permit(struct eval *e, const struct restriction *r)
{
	(void)r;
	return eval_put_off_permit(e, true, 450, "4.7.0", e->name, e->subject,
	    "defer_if_permit requested");
}

enum step
general_defer_if_reject(struct eval *e, const struct restriction *r)
{
	(void)r;
	eval_put_off_reject(e, 450, "4.7.0", e->name, e->subject,
	    "defer_if_reject requested");
	return STEP_NEXT;
}

/* A pause is a fact too: once it is known, it is over. */
enum step
general_sleep(struct eval *e, const struct restriction *r)
{
	char ms[24];
	struct fact_name name = { FACT_PAUSE, (uint16_t)e->pauses++, { 0 } };
	struct fact over;
	enum step s;

	(void)snprintf(ms, sizeof ms, "%lld", (long long)r->ms);
	name.key = view_of(ms);
	return eval_fact(e, &name, SHELF_EVALUATION, &over, &s) ? STEP_NEXT :
	    s;
}

enum step
general_pipelining(struct eval *e, const struct restriction *r)
{
	(void)r;
	if (!e->f->pipelined)
		return STEP_NEXT;
	return eval_reject(e, 503, "5.5.0", e->name, e->subject,
	    "Improper use of SMTP command pipelining");
}

enum step
general_plaintext(struct eval *e, const struct restriction *r)
{
	(void)r;
	if (e->f->tls_protocol.n > 0)
		return STEP_NEXT;
	return eval_refuse(e, (unsigned)e->p->cf->plaintext_reject_code,
	    "4.7.1", "Session encryption is required");
}

enum step
general_multi_bounce(struct eval *e, const struct restriction *r)
{
	uint32_t more = e->stage == STAGE_RCPT ? 0 : 1;

	(void)r;
	if (!e->f->has_sender || e->f->sender.n > 0 ||
	    e->f->recipients <= more)
		return STEP_NEXT;
	return eval_reject(e, (unsigned)
	    e->p->cf->multi_recipient_bounce_reject_code, "5.5.3", e->name,
	    e->subject, "Multi-recipient bounce");
}

/* A table without check_..._access: what the list is about. */
enum step
general_bare(struct eval *e, const struct restriction *r)
{
	struct restriction_kind kind = { "", ARG_TABLE, access_check,
		(int)e->bare };
	struct restriction as = *r;

	if (e->bare == SUBJECT_NONE)
		return eval_config_failed(e);
	as.kind = &kind;
	return access_check(e, &as);
}

enum step
general_class(struct eval *e, const struct restriction *r)
{
	struct view outer = e->list;
	enum step s;

	e->list = view_of(r->class->name);
	s = eval_list(e, r->class->list.list, r->class->list.n);
	e->list = outer;
	return s;
}
