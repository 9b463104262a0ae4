/* Restrictions that look at the DNS of a domain: does it exist, which servers
 * does it have, are we among them. */
#include <stdio.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/policy_priv.h"

#define SERVERS_MAX	100u	/* addresses looked at for one restriction */

static bool
unclear(const struct fact *f)
{
	return f->status == FACT_TEMPORARY || f->status == FACT_BOGUS;
}

/* RFC 7505: one MX, with no name. */
static bool
null_mx(const struct fact *f)
{
	uint16_t preference;
	struct view name;

	return f->status == FACT_FOUND && f->n == 1 &&
	    fact_mx(f->record[0], &preference, &name) && name.n == 0;
}

static bool
is_literal(struct view domain)
{
	return domain.n > 1 && domain.p[0] == '[' &&
	    domain.p[domain.n - 1] == ']';
}

/* -- the domain of an address ---------------------------------------------- */

static enum step
domain_unknown(struct eval *e, struct view addr, struct view domain,
    enum subject s)
{
	bool sender = s == SUBJECT_SENDER, later = false;
	const char *status = sender ? "4.1.8" : "4.1.2";
	static const enum fact_dns types[] = { FACT_MX, FACT_HOST };
	struct fact fact;
	enum step step;
	size_t i;

	for (i = 0; i < sizeof types / sizeof types[0]; i++) {
		if (!eval_dns(e, types[i], domain, subject_shelf(s), &fact,
		    &step))
			return step;
		if (types[i] == FACT_MX && null_mx(&fact))
			return eval_refuse(e, sender ? 550 : 556, sender ?
			    "4.7.27" : "4.1.10", "<%s>: %s rejected: Domain "
			    "%s does not accept mail (nullMX)",
			    log_safe(addr), subject_text(s),
			    log_safe(domain));
		if (fact.status == FACT_FOUND)
			return STEP_NEXT;
		later |= unclear(&fact);
	}
	if (later)
		return eval_put_off_permit(e, e->p->address_put_off, 450,
		    status, addr, s, "Domain not found");
	return eval_reject(e,
	    (unsigned)e->p->cf->unknown_address_reject_code, status, addr, s,
	    "Domain not found");
}

enum step
address_unknown(struct eval *e, const struct restriction *r)
{
	enum subject s = (enum subject)r->kind->variant;
	struct view addr = subject_value(e, s), domain;

	if (addr.n == 0)
		return STEP_NEXT;
	domain = address_domain(eval_address(e, addr));
	switch (class_of(e->p->classes, domain)) {
	case CLASS_FAILED:
		return eval_lookup_failed(e, addr);
	case CLASS_LOCAL:
	case CLASS_VIRTUAL_ALIAS:
	case CLASS_VIRTUAL_MAILBOX:
		return STEP_NEXT;
	case CLASS_NONE:
	case CLASS_RELAY:
	case CLASS_OTHER:
		break;
	}
	if (is_literal(domain))
		return STEP_NEXT;
	return domain_unknown(e, addr, domain, s);
}

/* -- access tables for the servers of a domain ----------------------------- */

struct server_check {
	struct eval *e;
	const struct restriction *r;
	struct view name;	/* for texts */
	enum subject subject;
	const char *type;
	unsigned addresses;
	bool found;
};

/* OK would let in whoever owns a domain: it is not for him to say. */
static enum step
server_forbid_ok(const struct server_check *c, enum step s)
{
	if (s != STEP_PERMIT || c->e->discard)
		return s;
	log_warn("restriction %s returns OK for %s; this is not allowed for "
	    "security reasons; use DUNNO instead of OK for an exception",
	    c->r->kind->word, log_safe(c->name));
	return eval_config_failed(c->e);
}

static enum step
server_address(struct server_check *c, const struct netaddr *a)
{
	char text[NETADDR_TEXT];

	return access_lookup(c->e, c->r->table, ACCESS_CLIENT_ADDR,
	    view_of(netaddr_text(a, text)), c->name, c->subject, &c->found);
}

static enum step
server_host(struct server_check *c, struct view host, bool by_name)
{
	struct netaddr a;
	struct fact fact;
	enum step s;
	uint32_t i;

	if (netaddr_parse(host, &a))
		return server_address(c, &a);
	if (by_name) {
		s = access_lookup(c->e, c->r->table, ACCESS_DOMAIN, host,
		    c->name, c->subject, &c->found);
		if (s != STEP_NEXT || c->found)
			return s;
	}
	if (!eval_dns(c->e, FACT_HOST, host, subject_shelf(c->subject), &fact,
	    &s))
		return s;
	if (by_name && fact.status != FACT_FOUND)
		log_warn("Unable to look up %s host %s for %s %s", c->type,
		    log_safe(host), subject_text(c->subject),
		    log_safe(c->name));
	for (i = 0; i < fact.n && c->addresses < SERVERS_MAX; i++) {
		c->addresses++;
		if (!netaddr_from_bytes(fact.record[i], &a))
			continue;
		s = server_address(c, &a);
		if (s != STEP_NEXT || c->found)
			return s;
	}
	return STEP_NEXT;
}

static enum step
server_records(struct server_check *c, const struct fact *fact, bool mx)
{
	enum step s = STEP_NEXT;
	uint16_t preference;
	struct view host;
	uint32_t i;

	for (i = 0; i < fact->n && s == STEP_NEXT && !c->found; i++) {
		host = fact->record[i];
		if (mx && !fact_mx(fact->record[i], &preference, &host))
			continue;
		s = server_host(c, host, true);
	}
	return s;
}

static enum step
server_of_mx(struct server_check *c, struct view domain)
{
	struct fact fact;
	enum step s;

	if (!eval_dns(c->e, FACT_MX, domain, subject_shelf(c->subject), &fact,
	    &s))
		return s;
	if (null_mx(&fact))
		return STEP_NEXT;
	/* Without an MX, the domain is its own (RFC 5321 section 5.1). */
	if (fact.status == FACT_NO_DATA || fact.status == FACT_NO_NAME)
		return server_host(c, domain, true);
	if (unclear(&fact))
		log_warn("Unable to look up MX host for %s",
		    log_safe(c->name));
	return server_records(c, &fact, true);
}

/* The zone it is in has the name servers. */
static enum step
server_of_ns(struct server_check *c, struct view domain)
{
	struct fact fact;
	enum step s;
	size_t dot;

	for (;;) {
		if (!eval_dns(c->e, FACT_NS, domain,
		    subject_shelf(c->subject), &fact, &s))
			return s;
		if (fact.status == FACT_FOUND)
			return server_records(c, &fact, false);
		dot = view_find(domain, '.');
		if (unclear(&fact) || dot + 1 >= domain.n)
			break;
		domain = view_from(domain, dot + 1);
	}
	log_warn("Unable to look up NS host for %s", log_safe(c->name));
	return STEP_NEXT;
}

/* The name in texts: for a client, with its address. */
static struct view
server_name(struct eval *e, enum subject s)
{
	char addr[NETADDR_TEXT];

	if (s != SUBJECT_CLIENT)
		return subject_value(e, s);
	return eval_text(e, "%s[%s]", log_safe(e->f->client_name),
	    netaddr_text(&e->f->client, addr));
}

/* False: there is nothing to look at; *ret_step. */
static bool
server_begin(struct server_check *c, struct eval *e,
    const struct restriction *r, const char *type, struct view *ret_domain)
{
	enum subject s = (enum subject)r->kind->variant;
	struct view v = subject_value(e, s);

	*c = (struct server_check){ .e = e, .r = r, .subject = s,
		.type = type };
	if (v.n == 0 || ((s == SUBJECT_CLIENT || s == SUBJECT_REVERSE) &&
	    eval_is_unknown(v)))
		return false;
	c->name = server_name(e, s);
	*ret_domain = view_find(v, '@') < v.n ? address_domain(v) : v;
	return ret_domain->n > 0;
}

/* "[192.0.2.1]" is its own server. */
static enum step
server_literal(struct server_check *c, struct view domain)
{
	struct netaddr a;

	return netaddr_parse(domain, &a) ? server_address(c, &a) : STEP_NEXT;
}

enum step
server_a(struct eval *e, const struct restriction *r)
{
	struct server_check c;
	struct view domain;

	if (!server_begin(&c, e, r, "A", &domain))
		return STEP_NEXT;
	return server_forbid_ok(&c, domain.p[0] == '[' ?
	    server_literal(&c, domain) : server_host(&c, domain, false));
}

enum step
server_mx(struct eval *e, const struct restriction *r)
{
	struct server_check c;
	struct view domain;

	if (!server_begin(&c, e, r, "MX", &domain))
		return STEP_NEXT;
	return server_forbid_ok(&c, domain.p[0] == '[' ?
	    server_literal(&c, domain) : server_of_mx(&c, domain));
}

enum step
server_ns(struct eval *e, const struct restriction *r)
{
	struct server_check c;
	struct view domain;

	if (!server_begin(&c, e, r, "NS", &domain) || domain.p[0] == '[')
		return STEP_NEXT;
	return server_forbid_ok(&c, server_of_ns(&c, domain));
}

/* -- permit_mx_backup ------------------------------------------------------ */

/* One of the hosts with preference `best` (or, if not, of the others). */
struct backup_hosts {
	struct view host[FACT_RECORDS_MAX];
	uint32_t n;
};

static void
backup_split(const struct fact *mx, struct backup_hosts *first,
    struct backup_hosts *rest)
{
	uint16_t best = UINT16_MAX, preference;
	struct view name;
	uint32_t i;

	first->n = rest->n = 0;
	for (i = 0; i < mx->n; i++)
		if (fact_mx(mx->record[i], &preference, &name) &&
		    preference < best)
			best = preference;
	for (i = 0; i < mx->n; i++) {
		if (!fact_mx(mx->record[i], &preference, &name))
			continue;
		if (preference == best)
			first->host[first->n++] = name;
		else
			rest->host[rest->n++] = name;
	}
}

/* Are we one of them?  By name, then by address; in doubt, put off. */
static bool
backup_is_us(struct eval *e, const struct backup_hosts *h, bool *ret,
    enum step *ret_step)
{
	struct netaddr a;
	struct fact fact;
	uint32_t i, k;
	size_t own;

	*ret = true;
	for (i = 0; i < h->n; i++)
		if (class_local(e->p->classes, h->host[i]) == TABLE_FOUND)
			return true;
	for (i = 0; i < h->n; i++) {
		if (!eval_dns(e, FACT_HOST, h->host[i], SHELF_EVALUATION,
		    &fact, ret_step))
			return false;
		if (fact.status != FACT_FOUND)
			eval_put_off_reject(e, 450, "4.4.4", e->f->recipient,
			    SUBJECT_RECIPIENT, "Unable to look up mail "
			    "exchanger host");
		for (k = 0; k < fact.n; k++)
			for (own = 0; own < e->p->n_own; own++)
				if (netaddr_from_bytes(fact.record[k], &a) &&
				    netaddr_equal(&a, &e->p->own[own]))
					return true;
	}
	*ret = false;
	return true;
}

static bool
backup_networks(struct eval *e, const struct backup_hosts *h, bool *ret,
    enum step *ret_step)
{
	struct netaddr a;
	struct fact fact;
	uint32_t i, k;

	*ret = true;
	for (i = 0; i < h->n; i++) {
		if (!eval_dns(e, FACT_HOST, h->host[i], SHELF_EVALUATION,
		    &fact, ret_step))
			return false;
		if (fact.status != FACT_FOUND) {
			eval_put_off_reject(e, 450, "4.4.4", e->f->recipient,
			    SUBJECT_RECIPIENT, "Unable to look up host as "
			    "mail exchanger");
			*ret = false;
			return true;
		}
		for (k = 0; k < fact.n; k++)
			if (!netaddr_from_bytes(fact.record[k], &a) ||
			    net_list_match(e->p->backup_networks, h->host[i],
			    &a) != TABLE_FOUND)
				*ret = false;
	}
	return true;
}

enum step
backup_permit(struct eval *e, const struct restriction *r)
{
	static struct backup_hosts first, rest;	/* large; used here only */
	struct view domain;
	struct fact mx;
	enum step s;
	bool yes;

	(void)r;
	if (!e->f->has_recipient)
		return STEP_NEXT;
	s = destination_ours(e);
	if (s != STEP_NEXT)
		return s;
	if (destination_routed(e) && !e->p->cf->allow_untrusted_routing)
		return STEP_NEXT;
	domain = address_domain(e->f->recipient);
	if (is_literal(domain))
		return STEP_NEXT;
	if (!eval_dns(e, FACT_MX, domain, SHELF_EVALUATION, &mx, &s))
		return s;
	if (unclear(&mx))
		eval_put_off_reject(e, 450, "4.4.4", e->f->recipient,
		    SUBJECT_RECIPIENT, "Unable to look up mail exchanger "
		    "information");
	if (mx.status != FACT_FOUND)
		return STEP_NEXT;
	backup_split(&mx, &first, &rest);
	/* Not if we are the best of them, and only if we are one. */
	if (!backup_is_us(e, &first, &yes, &s))
		return s;
	if (yes || rest.n == 0)
		return STEP_NEXT;
	if (!backup_is_us(e, &rest, &yes, &s))
		return s;
	if (!yes)
		return STEP_NEXT;
	if (e->p->cf->permit_mx_backup_networks[0] != '\0') {
		if (!backup_networks(e, &first, &yes, &s))
			return s;
		if (!yes)
			return STEP_NEXT;
	}
	return STEP_PERMIT;
}
