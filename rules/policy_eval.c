#include <stdarg.h>
#include <stdio.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/policy_priv.h"

#define VALUE_MAX	4096u

enum step { STEP_NEXT = 1, STEP_PERMIT, STEP_REFUSE, STEP_NEED };

/* One evaluation. */
struct eval {
	const struct policy *p;
	const struct policy_facts *f;
	struct policy_result *r;
	enum address_class class;	/* CLASS_NONE: not asked yet */
	bool listed_checked, defer_if_permit, defer_if_reject;
};

static enum step __attribute__((format(printf, 4, 5)))
refuse(struct eval *e, unsigned code, const char *status,
    const char *fmt, ...)
{
	struct policy_reply *r = &e->r->reply;
	va_list ap;

	r->code = (uint16_t)code;
	(void)snprintf(r->status, sizeof r->status, "%s", status);
	/* The code is the administrator's; the class of the status follows. */
	if (code < 500)
		r->status[0] = '4';
	else if (r->status[0] == '4')
		r->status[0] = '5';
	va_start(ap, fmt);
	(void)vsnprintf(r->text, sizeof r->text, fmt, ap);
	va_end(ap);
	return STEP_REFUSE;
}

static enum step
lookup_failed(struct eval *e, struct view about)
{
	return refuse(e, 451, "4.3.0", "<%s>: Temporary lookup failure",
	    log_safe(about));
}

enum table_answer
policy_in_mynetworks(const struct policy *p, struct view client_name,
    const struct netaddr *client)
{
	return net_list_match(p->mynetworks, client_name, client);
}

static enum address_class
eval_class(struct eval *e)
{
	if (e->class == CLASS_NONE)
		e->class = class_of(e->p->classes,
		    address_domain(e->f->recipient));
	return e->class;
}

/* "user@inside", "user%inside" or "inside!user" before the '@': the sender
 * says how to route on from here. */
static bool
eval_routed(const struct eval *e)
{
	struct view local = address_local(e->f->recipient);

	return view_find(local, '@') < local.n ||
	    view_find(local, '%') < local.n || view_find(local, '!') < local.n;
}

/* STEP_PERMIT: mail for this recipient is ours to take. */
static enum step
auth_destination(struct eval *e)
{
	if (eval_class(e) == CLASS_FAILED)
		return lookup_failed(e, e->f->recipient);
	if (eval_class(e) == CLASS_OTHER || eval_routed(e))
		return STEP_NEXT;
	return STEP_PERMIT;
}

static enum step
unauth_destination(struct eval *e, unsigned code)
{
	enum step s = auth_destination(e);

	if (s == STEP_PERMIT)
		return STEP_NEXT;
	if (s == STEP_REFUSE)
		return s;
	return refuse(e, code, "5.7.1", "<%s>: Relay access denied",
	    log_safe(e->f->recipient));
}

/* relay_recipient_maps: the whole address, then "@domain". */
static enum table_answer
relay_listed(const struct policy *p, struct view rcpt)
{
	struct view local = address_local(rcpt);
	const struct table *t;
	enum table_answer a;
	struct buf value;
	char lower[ADDRESS_MAX + 1];
	unsigned line;
	size_t i;

	if (rcpt.n > ADDRESS_MAX)
		return TABLE_NOT_FOUND;
	for (i = 0; i < rcpt.n; i++)
		lower[i] = (char)tolower((unsigned char)rcpt.p[i]);
	buf_init(&value, VALUE_MAX);
	a = table_list_find(&p->relay_recipients, view_make(lower, rcpt.n),
	    &value, &t, &line);
	for (i = 0; a == TABLE_NOT_FOUND && i < p->relay_recipients.n; i++) {
		/* A pattern has seen the whole address and gets no parts. */
		if (table_is_pattern(p->relay_recipients.list[i]))
			continue;
		a = table_find(p->relay_recipients.list[i],
		    view_make(lower + local.n, rcpt.n - local.n), &value,
		    &line);
	}
	buf_free(&value);
	return a;
}

/* "error:[x.y.z] text" in local_transport. */
static enum step
local_refused(struct eval *e)
{
	struct view text = view_of(e->p->local_error), first;
	char status[8] = "5.1.1";

	first = view_head(text, view_find(text, ' '));
	if (first.n >= 5 && first.n < sizeof status && first.p[1] == '.' &&
	    (first.p[0] == '4' || first.p[0] == '5')) {
		memcpy(status, first.p, first.n);
		status[first.n] = '\0';
		text = view_trim(view_from(text, first.n));
	}
	if (text.n == 0)
		text = view_of("mail for this host is not accepted");
	return refuse(e, e->p->code_local, status,
	    "<%s>: Recipient address rejected: %.*s",
	    log_safe(e->f->recipient), VIEW_ARGS(text));
}

static enum step
unlisted_recipient(struct eval *e)
{
	enum address_class c = eval_class(e);

	/* Once is enough, also for a recipient refused with a warning. */
	if (e->listed_checked)
		return STEP_NEXT;
	e->listed_checked = true;
	if (c == CLASS_FAILED)
		return lookup_failed(e, e->f->recipient);
	if (c == CLASS_LOCAL && e->p->local_error != NULL)
		return local_refused(e);
	if (c != CLASS_RELAY || e->p->relay_recipients.n == 0)
		return STEP_NEXT;
	switch (relay_listed(e->p, e->f->recipient)) {
	case TABLE_FOUND:
		return STEP_NEXT;
	case TABLE_FAILED:
		return lookup_failed(e, e->f->recipient);
	case TABLE_NOT_FOUND:
		break;
	}
	return refuse(e, e->p->code_rcpt, "5.1.1",
	    "<%s>: Recipient address rejected: User unknown%s",
	    log_safe(e->f->recipient), e->p->show_table ?
	    " in relay recipient table" : "");
}

static bool
fqdn(struct view name)
{
	return address_valid_hostname(name) && view_find(name, '.') < name.n;
}

static enum step
non_fqdn_address(struct eval *e, struct view addr, const char *what)
{
	struct view domain = address_domain(addr);

	if (addr.n == 0 || fqdn(domain) || address_valid_literal(domain))
		return STEP_NEXT;
	return refuse(e, e->p->code_non_fqdn, "5.5.2",
	    "<%s>: %s address rejected: need fully-qualified address",
	    log_safe(addr), what);
}

static enum step
helo_name(struct eval *e, bool need_fqdn)
{
	struct view helo = e->f->helo;

	if (helo.n == 0 || address_valid_literal(helo))
		return STEP_NEXT;
	/* A trailing root dot is no fault. */
	if (helo.p[helo.n - 1] == '.')
		helo.n--;
	if (!address_valid_hostname(helo))
		return refuse(e, e->p->code_invalid_helo, "5.5.2",
		    "<%s>: Helo command rejected: Invalid name",
		    log_safe(e->f->helo));
	if (need_fqdn && !fqdn(helo))
		return refuse(e, e->p->code_non_fqdn, "5.5.2",
		    "<%s>: Helo command rejected: need fully-qualified "
		    "hostname", log_safe(e->f->helo));
	return STEP_NEXT;
}

static enum step
permit_mynetworks(struct eval *e)
{
	if (e->f->client_name.p == NULL) {
		/* A list may hold names as well as addresses. */
		e->r->need = FACT_CLIENT_NAME;
		return STEP_NEED;
	}
	switch (policy_in_mynetworks(e->p, e->f->client_name, &e->f->client)) {
	case TABLE_FOUND:
		return STEP_PERMIT;
	case TABLE_FAILED:
		return lookup_failed(e, e->f->client_name);
	case TABLE_NOT_FOUND:
		break;
	}
	return STEP_NEXT;
}

static enum step
eval_one(struct eval *e, enum restriction r)
{
	const char *rcpt = log_safe(e->f->recipient);

	switch (r) {
	case PERMIT:
		return STEP_PERMIT;
	case REJECT:
		return refuse(e, e->p->code_reject, "5.7.1",
		    "<%s>: Recipient address rejected: Access denied", rcpt);
	case DEFER:
		return refuse(e, e->p->code_defer, "4.3.2",
		    "<%s>: Recipient address rejected: Try again later", rcpt);
	case DEFER_IF_PERMIT:
		e->defer_if_permit = true;
		return STEP_NEXT;
	case DEFER_IF_REJECT:
		e->defer_if_reject = true;
		return STEP_NEXT;
	case PERMIT_MYNETWORKS:
		return permit_mynetworks(e);
	case PERMIT_SASL_AUTHENTICATED:
		return e->f->authenticated ? STEP_PERMIT : STEP_NEXT;
	case PERMIT_AUTH_DESTINATION:
		return auth_destination(e);
	case REJECT_UNAUTH_DESTINATION:
		return unauth_destination(e, e->p->code_relay);
	case DEFER_UNAUTH_DESTINATION:
		return unauth_destination(e, e->p->code_relay < 500 ?
		    e->p->code_relay : e->p->code_relay - 100u);
	case REJECT_UNLISTED_RECIPIENT:
		return unlisted_recipient(e);
	case REJECT_NON_FQDN_RECIPIENT:
		return non_fqdn_address(e, e->f->recipient, "Recipient");
	case REJECT_NON_FQDN_SENDER:
		return non_fqdn_address(e, e->f->sender, "Sender");
	case REJECT_NON_FQDN_HELO:
		return helo_name(e, true);
	case REJECT_INVALID_HELO:
		return helo_name(e, false);
	case REJECT_UNAUTH_PIPELINING:
		/* The session ends over that before it comes here. */
	case WARN_IF_REJECT:
	case RESTRICTION_NONE:
	case RESTRICTIONS:
		break;
	}
	return STEP_NEXT;
}

static enum step
eval_list(struct eval *e, const struct restriction_list *l)
{
	bool warn = false;
	enum step s;
	size_t i;

	for (i = 0; i < l->n; i++) {
		if (l->list[i] == WARN_IF_REJECT) {
			warn = true;
			continue;
		}
		s = eval_one(e, l->list[i]);
		if (s == STEP_REFUSE && warn) {
			if (e->r->n_warned < POLICY_WARNED_MAX)
				e->r->warned[e->r->n_warned++] = e->r->reply;
			s = STEP_NEXT;
		}
		warn = false;
		if (s != STEP_NEXT)
			return s;
	}
	return STEP_NEXT;
}

/* What defer_if_permit and defer_if_reject, asked for on the way, change. */
static enum step
eval_deferred(struct eval *e, enum step s)
{
	const char *rcpt = log_safe(e->f->recipient);

	if (s == STEP_REFUSE && e->defer_if_reject && e->r->reply.code >= 500)
		return refuse(e, 450, "4.7.0", "<%s>: Recipient address "
		    "rejected: defer_if_reject requested", rcpt);
	if (s != STEP_REFUSE && s != STEP_NEED && e->defer_if_permit)
		return refuse(e, 450, "4.7.0", "<%s>: Recipient address "
		    "rejected: defer_if_permit requested", rcpt);
	return s;
}

void
policy_recipient(const struct policy *p, const struct policy_facts *f,
    struct policy_result *ret)
{
	struct eval e = { .p = p, .f = f, .r = ret };
	enum step s;

	ret->outcome = POLICY_NONE;
	ret->need = FACT_NONE;
	ret->n_warned = 0;
	s = eval_list(&e, &p->relay);
	/* A permit ends its list, not the other one. */
	if (s == STEP_NEXT || s == STEP_PERMIT)
		s = eval_list(&e, &p->recipient);
	if ((s == STEP_NEXT || s == STEP_PERMIT) && p->reject_unlisted)
		s = unlisted_recipient(&e);
	s = eval_deferred(&e, s);
	ret->outcome = s == STEP_NEED ? POLICY_NEED :
	    s == STEP_REFUSE ? POLICY_REFUSE : POLICY_PERMIT;
}
