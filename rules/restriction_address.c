/* Restrictions about sender and recipient: form, class, who is listed, who
 * may use a sender address. */
#include "lib/address.h"
#include "lib/log.h"
#include "rules/policy_priv.h"

/* -- destinations ---------------------------------------------------------- */

static enum address_class
recipient_class(struct eval *e)
{
	if (e->class == CLASS_NONE)
		e->class = class_of(e->p->classes,
		    address_domain(e->f->recipient));
	return e->class;
}

/* "user@inside", "user%inside" or "inside!user" before the '@': the sender
 * says how to route on from here. */
bool
destination_routed(const struct eval *e)
{
	struct view local = address_local(e->f->recipient);

	return view_find(local, '@') < local.n ||
	    view_find(local, '%') < local.n || view_find(local, '!') < local.n;
}

enum step
destination_ours(struct eval *e)
{
	enum address_class c = recipient_class(e);

	if (c == CLASS_FAILED) {
		e->hard = true;
		return eval_lookup_failed(e, e->f->recipient);
	}
	if (c == CLASS_OTHER || (destination_routed(e) &&
	    !e->p->cf->allow_untrusted_routing))
		return STEP_NEXT;
	return STEP_PERMIT;
}

bool
destination_known_ours(struct eval *e)
{
	enum address_class c;

	if (!e->f->has_recipient)
		return false;
	c = recipient_class(e);
	return c != CLASS_FAILED && c != CLASS_OTHER &&
	    (!destination_routed(e) || e->p->cf->allow_untrusted_routing);
}

enum step
destination_permit(struct eval *e, const struct restriction *r)
{
	(void)r;
	return e->f->has_recipient ? destination_ours(e) : STEP_NEXT;
}

/* variant: defer */
enum step
destination_reject(struct eval *e, const struct restriction *r)
{
	unsigned code = (unsigned)e->p->cf->relay_domains_reject_code;
	enum step s;

	if (!e->f->has_recipient)
		return STEP_NEXT;
	s = destination_ours(e);
	if (s == STEP_PERMIT)
		return STEP_NEXT;
	if (s != STEP_NEXT)
		return s;
	if (r->kind->variant != 0 && code >= 500)
		code -= 100;
	e->hard = true;
	return eval_refuse(e, code, "5.7.1", "<%s>: Relay access denied",
	    log_safe(e->f->recipient));
}

/* -- form ------------------------------------------------------------------ */

enum step
address_non_fqdn(struct eval *e, const struct restriction *r)
{
	enum subject s = (enum subject)r->kind->variant;
	struct view addr = subject_value(e, s), domain;
	bool ascii = true;
	struct netaddr a;
	size_t i;

	if (addr.n == 0)
		return STEP_NEXT;
	domain = address_domain(addr);
	if (domain.n > 1 && domain.p[0] == '[' &&
	    domain.p[domain.n - 1] == ']')
		return STEP_NEXT;
	if (domain.n > 1 && domain.p[domain.n - 1] == '.' &&
	    domain.p[domain.n - 2] != '.')
		domain.n--;
	for (i = 0; i < domain.n; i++)
		ascii = ascii && (unsigned char)domain.p[i] < 128;
	if ((ascii || e->f->utf8) && address_valid_hostname(domain) &&
	    view_find(domain, '.') < domain.n && !netaddr_parse(domain, &a))
		return STEP_NEXT;
	return eval_reject(e, (unsigned)e->p->cf->non_fqdn_reject_code,
	    "4.5.2", addr, s, "need fully-qualified address");
}

/* -- who is listed --------------------------------------------------------- */

/* Is it found?  Several lists, each of which may not answer. */
static enum table_answer
listed_in(struct eval *e, const struct table_list *const *maps, size_t n,
    struct view addr)
{
	enum table_answer a = TABLE_NOT_FOUND;
	struct addr_found found;
	size_t i;

	for (i = 0; i < n && a == TABLE_NOT_FOUND; i++)
		if (maps[i]->n > 0)
			a = addr_find(&e->p->keys, maps[i], addr, e->value,
			    &found);
	return a;
}

/*
 * The address leads to error: or retry:, whose next hop is the reason, perhaps
 * behind an enhanced status: refuse it now, as the queue manager would later.
 */
static enum step
route_refused(struct eval *e, struct view addr, enum subject s,
    enum address_class class, bool later, struct view reason)
{
	const struct conf *cf = e->p->cf;
	struct view status = view_of(s == SUBJECT_SENDER ? "5.1.0" : "5.1.1");
	struct view text = route_status(reason, &status);
	char fixed[12];

	e->where = eval_copy(e, buf_view(&e->p->route_where));
	return eval_refuse(e, later ? 450 : class == CLASS_VIRTUAL_ALIAS ?
	    (unsigned)cf->unknown_virtual_alias_reject_code : 550,
	    status_for_subject(status, s, fixed), "<%s>: %s rejected: %s",
	    log_safe(addr), subject_text(s), log_safe(text));
}

static enum step
unlisted_by_route(struct eval *e, struct view addr, struct view full,
    enum subject s, enum address_class class)
{
	const struct view other = s == SUBJECT_SENDER ? e->f->recipient :
	    e->f->sender;
	struct buf transport, nexthop;
	enum step step = STEP_NEXT;
	bool later;

	if (e->p->router == NULL)
		return STEP_NEXT;
	buf_init(&transport, FOUND_MAX);
	buf_init(&nexthop, FOUND_MAX);
	if (route_find(e->p->router, other, full, &transport, &nexthop) ==
	    TABLE_FAILED) {
		step = eval_lookup_failed(e, addr);
	} else {
		later = view_is(buf_view(&transport), "retry");
		if (later || view_is(buf_view(&transport), "error"))
			step = route_refused(e, addr, s, class, later,
			    buf_view(&nexthop));
	}
	buf_free(&transport);
	buf_free(&nexthop);
	return step;
}

/* Names that mail for this host itself is sent to, whoever is listed. */
static bool
local_always(const struct eval *e, struct view addr)
{
	struct view local = address_local(addr);

	return view_is_nocase(local, "postmaster") ||
	    view_is_nocase(local, "mailer-daemon") ||
	    view_is_nocase(local, e->p->cf->double_bounce_sender);
}

static enum step
unknown_user(struct eval *e, struct view addr, enum subject s, int64_t code,
    const char *table)
{
	return eval_refuse(e, (unsigned)code, s == SUBJECT_SENDER ? "5.1.0" :
	    "5.1.1", "<%s>: %s rejected: User unknown%s", log_safe(addr),
	    subject_text(s), e->p->cf->show_user_unknown_table_name ? table :
	    "");
}

static enum step
unlisted_in_class(struct eval *e, struct view addr, struct view full,
    enum subject s, enum address_class class)
{
	const struct policy *p = e->p;
	const struct conf *cf = p->cf;
	const struct table_list *maps = NULL;
	const char *name = "";
	int64_t code = 550;

	switch (class) {
	case CLASS_LOCAL:
		if (local_always(e, full))
			return STEP_NEXT;
		maps = &p->local_rcpts;
		code = cf->unknown_local_recipient_reject_code;
		name = " in local recipient table";
		break;
	case CLASS_VIRTUAL_ALIAS:
		/* There are no other addresses than those of the maps. */
		return unknown_user(e, addr, s,
		    cf->unknown_virtual_alias_reject_code,
		    " in virtual alias table");
	case CLASS_VIRTUAL_MAILBOX:
		maps = &p->mailbox_rcpts;
		code = cf->unknown_virtual_mailbox_reject_code;
		name = " in virtual mailbox table";
		break;
	case CLASS_RELAY:
		maps = &p->relay_rcpts;
		code = cf->unknown_relay_recipient_reject_code;
		name = " in relay recipient table";
		break;
	case CLASS_FAILED:
		return eval_lookup_failed(e, addr);
	case CLASS_NONE:
	case CLASS_OTHER:
		return STEP_NEXT;
	}
	if (maps->n == 0)
		return STEP_NEXT;
	switch (listed_in(e, &maps, 1, full)) {
	case TABLE_FOUND:
		return STEP_NEXT;
	case TABLE_FAILED:
		return eval_lookup_failed(e, addr);
	case TABLE_NOT_FOUND:
		break;
	}
	return unknown_user(e, addr, s, code, name);
}

enum step
address_unlisted_of(struct eval *e, enum subject s)
{
	const struct policy *p = e->p;
	struct view addr = subject_value(e, s), full;
	bool *checked = s == SUBJECT_SENDER ? &e->listed_sender :
	    &e->listed_rcpt;
	/* What is rewritten exists, whatever it becomes. */
	const struct table_list *maps[4] = { &p->rcpt_canonical,
		&p->canonical, &p->aliases, &p->sender_canonical };
	enum address_class class;
	enum step step;

	if (addr.n == 0 || *checked)
		return STEP_NEXT;
	/* A warning does not count as the check. */
	*checked = e->warn == 0;
	full = eval_address(e, addr);
	switch (listed_in(e, maps, s == SUBJECT_SENDER ? 4 : 3, full)) {
	case TABLE_FOUND:
		return STEP_NEXT;
	case TABLE_FAILED:
		return eval_lookup_failed(e, addr);
	case TABLE_NOT_FOUND:
		break;
	}
	class = s == SUBJECT_SENDER ? class_of(p->classes,
	    address_domain(full)) : recipient_class(e);
	/* Mail that nobody inside could know better about would only come
	 * back from here. */
	e->hard = s == SUBJECT_RECIPIENT && e->warn == 0;
	step = unlisted_by_route(e, addr, full, s, class);
	if (class == CLASS_RELAY)
		e->hard = false;
	if (step == STEP_NEXT)
		step = unlisted_in_class(e, addr, full, s, class);
	e->hard = false;
	return step;
}

enum step
address_unlisted(struct eval *e, const struct restriction *r)
{
	return address_unlisted_of(e, (enum subject)r->kind->variant);
}

/* -- who may use a sender address ------------------------------------------ */

static enum step
login_owner(struct eval *e, bool others_unknown)
{
	struct view sender = e->f->sender, owners, word;
	struct addr_found found;

	switch (addr_find(&e->p->keys, &e->p->logins,
	    eval_address(e, sender), e->value, &found)) {
	case TABLE_FAILED:
		return eval_lookup_failed(e, sender);
	case TABLE_NOT_FOUND:
		if (others_unknown)
			return STEP_NEXT;
		break;
	case TABLE_FOUND:
		owners = buf_view(e->value);
		while ((word = conf_word(&owners)).n > 0)
			if (view_eq_nocase(word, e->f->login))
				return STEP_NEXT;
		break;
	}
	return eval_refuse(e, 553, "5.7.1",
	    "<%s>: Sender address rejected: not owned by user %s",
	    log_safe(sender), log_safe(e->f->login));
}

static enum step
login_missing(struct eval *e)
{
	struct addr_found found;

	switch (addr_find(&e->p->keys, &e->p->logins,
	    eval_address(e, e->f->sender), e->value, &found)) {
	case TABLE_FAILED:
		return eval_lookup_failed(e, e->f->sender);
	case TABLE_NOT_FOUND:
		return STEP_NEXT;
	case TABLE_FOUND:
		break;
	}
	return eval_refuse(e, 553, "5.7.1",
	    "<%s>: Sender address rejected: not logged in",
	    log_safe(e->f->sender));
}

enum step
login_mismatch(struct eval *e, const struct restriction *r)
{
	int variant = r->kind->variant;

	if (!e->f->has_sender || e->f->sender.n == 0 || e->p->logins.n == 0)
		return STEP_NEXT;
	if (e->f->login.n > 0)
		return variant == LOGIN_UNAUTHENTICATED ? STEP_NEXT :
		    login_owner(e, variant == LOGIN_KNOWN);
	return variant == LOGIN_AUTHENTICATED ? STEP_NEXT : login_missing(e);
}
