/*
 * reject_unverified_recipient and _sender: does the server that mail for the
 * address goes to take it?  What is asked for is the address that the tables
 * make of it, for that is where mail would go.
 *
 * Only a server's own "no" to the recipient is a refusal.  A server that is
 * down, slow or says something else is no reason to refuse anybody: then
 * unverified_*_tempfail_action says what happens.
 */
#include <ctype.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/policy_priv.h"

#define ALIASES_MAX	20u	/* aliases of aliases */

/* One word that is an address, or "@domain"; false: it is several, and so the
 * address is one of ours. */
static bool
alias_follow(struct eval *e, struct view *addr)
{
	struct view rest = buf_view(e->value), word = conf_word(&rest);

	if (word.n == 0 || conf_word(&rest).n > 0 || word.p[0] == '"' ||
	    word.p[0] == ':' || word.p[0] == '|' || word.p[0] == '/')
		return false;
	if (word.p[0] == '@')
		*addr = eval_text(e, "%.*s%.*s",
		    VIEW_ARGS(address_local(*addr)), VIEW_ARGS(word));
	else
		*addr = eval_address(e, eval_copy(e, word));
	return true;
}

enum verify_target { TARGET_ASK = 1, TARGET_OURS, TARGET_FAILED };

/* What becomes of the address: the canonical tables once each, then aliases
 * until there is none. */
static enum verify_target
verify_target(struct eval *e, struct view *addr)
{
	const struct policy *p = e->p;
	const struct table_list *maps[2] = { &p->rcpt_canonical,
		&p->canonical };
	struct addr_found found;
	enum table_answer a;
	struct view before;
	unsigned i;

	for (i = 0; i < 2 + ALIASES_MAX; i++) {
		const struct table_list *l = i < 2 ? maps[i] : &p->aliases;

		a = l->n == 0 ? TABLE_NOT_FOUND :
		    addr_find(&p->keys, l, *addr, e->value, &found);
		if (a == TABLE_FAILED)
			return TARGET_FAILED;
		if (a == TABLE_NOT_FOUND && i < 2)
			continue;
		if (a == TABLE_NOT_FOUND)
			break;
		before = *addr;
		if (!alias_follow(e, addr))
			return TARGET_OURS;
		if (i >= 2 && view_eq_nocase(before, *addr))
			break;
	}
	return TARGET_ASK;
}

static enum step
verify_unknown(struct eval *e, struct view addr, enum subject s,
    struct view text)
{
	const struct conf *cf = e->p->cf;
	bool sender = s == SUBJECT_SENDER;
	int64_t code = sender ? cf->unverified_sender_defer_code :
	    cf->unverified_recipient_defer_code;

	text = eval_text(e, "unverified address: %.250s",
	    text.n > 0 ? log_safe(text) : "Address verification in progress");
	return eval_put_off_permit(e, sender ? e->p->verify_sender_put_off :
	    e->p->verify_rcpt_put_off, (unsigned)code,
	    sender ? "4.1.7" : "4.1.1", addr, s, text.p);
}

static enum step
verify_refused(struct eval *e, struct view addr, enum subject s,
    struct view text)
{
	const struct conf *cf = e->p->cf;
	bool sender = s == SUBJECT_SENDER;
	const char *reason = sender ? cf->unverified_sender_reject_reason :
	    cf->unverified_recipient_reject_reason;
	int64_t code = sender ? cf->unverified_sender_reject_code :
	    cf->unverified_recipient_reject_code;

	reason = eval_text(e, "undeliverable address: %.250s",
	    reason[0] != '\0' ? reason : log_safe(text)).p;
	return eval_reject(e, (unsigned)code, sender ? "5.1.7" : "5.1.1",
	    addr, s, reason);
}

static struct view
verify_key(struct eval *e, struct view addr)
{
	char *lower = arena_alloc(e->r->arena, addr.n + 1);
	size_t i = addr.n - address_domain(addr).n;

	memcpy(lower, addr.p, addr.n);
	for (; i < addr.n; i++)
		lower[i] = (char)tolower((unsigned char)lower[i]);
	return view_make(lower, addr.n);
}

enum step
address_unverified(struct eval *e, const struct restriction *r)
{
	enum subject s = (enum subject)r->kind->variant;
	struct view addr = subject_value(e, s), target;
	struct fact_name name = { FACT_ADDRESS, 0, { NULL, 0 } };
	struct fact fact;
	enum step step;
	char mark;

	/* The null sender is nobody's; all must take mail from it. */
	if (addr.n == 0)
		return STEP_NEXT;
	target = eval_address(e, addr);
	switch (verify_target(e, &target)) {
	case TARGET_FAILED:
		return eval_lookup_failed(e, addr);
	case TARGET_OURS:
		return STEP_NEXT;
	case TARGET_ASK:
		break;
	}
	if (target.n > ADDRESS_MAX || address_domain(target).n == 0 ||
	    address_domain(target).n == target.n ||
	    view_find(target, '\0') < target.n)
		return verify_unknown(e, addr, s,
		    view_of("it cannot be asked for"));
	name.key = verify_key(e, target);
	if (!eval_fact(e, &name, subject_shelf(s), &fact, &step))
		return step;
	mark = fact.n == 2 && fact.record[0].n == 1 ?
	    fact.record[0].p[0] : '?';
	if (mark == '+' || (mark == '*' && !e->p->verify_catchall_put_off))
		return STEP_NEXT;
	if (mark == '-')
		return verify_refused(e, addr, s, fact.record[1]);
	return verify_unknown(e, addr, s, mark == '*' ?
	    view_of("its server takes every recipient") :
	    fact.n == 2 ? fact.record[1] : view_of(""));
}
