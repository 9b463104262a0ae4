/* Restrictions about the client: its address, names, HELO and login. */
#include <stdio.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/policy_priv.h"

enum step
client_mynetworks(struct eval *e, const struct restriction *r)
{
	(void)r;
	switch (policy_in_mynetworks(e->p, e->f->client_name,
	    &e->f->client)) {
	case TABLE_FOUND:
		return STEP_PERMIT;
	case TABLE_FAILED:
		return eval_lookup_failed(e, e->f->client_name);
	case TABLE_NOT_FOUND:
		break;
	}
	return STEP_NEXT;
}

enum step
client_own_address(struct eval *e, const struct restriction *r)
{
	size_t i;

	(void)r;
	for (i = 0; i < e->p->n_bound; i++)
		if (netaddr_equal(&e->f->client, &e->p->own[i]))
			return STEP_PERMIT;
	return STEP_NEXT;
}

enum step
client_logged_in(struct eval *e, const struct restriction *r)
{
	(void)r;
	return e->f->login.n > 0 ? STEP_PERMIT : STEP_NEXT;
}

/* variant: any certificate that is trusted, else those of
 * relay_clientcerts. */
enum step
client_certificate(struct eval *e, const struct restriction *r)
{
	const struct view prints[2] = { e->f->tls_fingerprint,
		e->f->tls_pubkey_fingerprint };
	const struct table *t;
	unsigned line;
	size_t i;

	if (r->kind->variant != 0)
		return e->f->tls_trusted ? STEP_PERMIT : STEP_NEXT;
	for (i = 0; i < 2; i++) {
		if (prints[i].n == 0)
			continue;
		switch (table_list_find(&e->p->clientcerts, prints[i],
		    e->value, &t, &line)) {
		case TABLE_FOUND:
			return STEP_PERMIT;
		case TABLE_FAILED:
			return eval_lookup_failed(e, e->f->client_name);
		case TABLE_NOT_FOUND:
			break;
		}
	}
	return STEP_NEXT;
}

enum step
client_unknown(struct eval *e, const struct restriction *r)
{
	bool reverse = r->kind->variant == SUBJECT_REVERSE;
	enum name_status st = e->f->name_status;
	unsigned code = (unsigned)e->p->cf->unknown_client_reject_code;
	char addr[NETADDR_TEXT];

	if (reverse) {
		/* Whether it leads back does not matter. */
		if (!eval_is_unknown(e->f->reverse_name))
			return STEP_NEXT;
		return eval_refuse(e, st == NAME_TEMPFAIL ? 450 : code,
		    "4.7.1", "Client host rejected: cannot find your reverse "
		    "hostname, [%s]", netaddr_text(&e->f->client, addr));
	}
	if (st == NAME_OK)
		return STEP_NEXT;
	return eval_refuse(e, st == NAME_TEMPFAIL ? 450 : code, "4.7.25",
	    "Client host rejected: cannot find your hostname, [%s]",
	    netaddr_text(&e->f->client, addr));
}

/* -- HELO ------------------------------------------------------------------ */

/* A trailing root dot is no fault. */
static struct view
helo_without_dot(struct view helo)
{
	if (helo.n > 1 && helo.p[helo.n - 1] == '.' &&
	    helo.p[helo.n - 2] != '.')
		helo.n--;
	return helo;
}

static enum step
helo_literal(struct eval *e)
{
	struct netaddr a;

	if (address_valid_literal(e->f->helo) ||
	    netaddr_parse(e->f->helo, &a))
		return STEP_NEXT;
	return eval_reject(e,
	    (unsigned)e->p->cf->invalid_hostname_reject_code, "5.5.2",
	    e->f->helo, SUBJECT_HELO, "invalid ip address");
}

/*
 * RFC 1123 and nothing in UTF-8: a host has a name that every client can say.
 */
static bool
helo_is_name(struct view name, bool utf8)
{
	size_t i;

	for (i = 0; i < name.n && !utf8; i++)
		if ((unsigned char)name.p[i] > 127)
			return false;
	return address_valid_hostname(name);
}

enum step
helo_invalid(struct eval *e, const struct restriction *r)
{
	struct netaddr a;
	struct view helo = helo_without_dot(e->f->helo);

	(void)r;
	if (!e->f->has_helo)
		return STEP_NEXT;
	if (helo.n > 0 && helo.p[0] == '[')
		return helo_literal(e);
	if (helo_is_name(helo, false) || netaddr_parse(helo, &a))
		return STEP_NEXT;
	return eval_reject(e,
	    (unsigned)e->p->cf->invalid_hostname_reject_code, "5.5.2",
	    e->f->helo, SUBJECT_HELO, "Invalid name");
}

enum step
helo_non_fqdn(struct eval *e, const struct restriction *r)
{
	struct view helo = helo_without_dot(e->f->helo);
	struct netaddr a;

	(void)r;
	if (!e->f->has_helo)
		return STEP_NEXT;
	if (helo.n > 0 && helo.p[0] == '[')
		return helo_literal(e);
	if (helo_is_name(helo, e->f->utf8) && view_find(helo, '.') < helo.n &&
	    !netaddr_parse(helo, &a))
		return STEP_NEXT;
	return eval_reject(e, (unsigned)e->p->cf->non_fqdn_reject_code,
	    "5.5.2", e->f->helo, SUBJECT_HELO,
	    "need fully-qualified hostname");
}

enum step
helo_unknown(struct eval *e, const struct restriction *r)
{
	static const enum fact_dns types[] = { FACT_HOST, FACT_MX };
	bool later = false;
	struct fact fact;
	enum step s;
	size_t i;

	(void)r;
	if (!e->f->has_helo)
		return STEP_NEXT;
	if (e->f->helo.n > 0 && e->f->helo.p[0] == '[')
		return helo_literal(e);
	/* A null MX is a record too: such a host sends and does not take. */
	for (i = 0; i < sizeof types / sizeof types[0]; i++) {
		if (!eval_dns(e, types[i], e->f->helo, SHELF_SESSION, &fact,
		    &s))
			return s;
		if (fact.status == FACT_FOUND)
			return STEP_NEXT;
		later |= fact.status == FACT_TEMPORARY ||
		    fact.status == FACT_BOGUS;
	}
	if (later)
		return eval_put_off_permit(e, e->p->helo_put_off, 450,
		    "4.7.1", e->f->helo, SUBJECT_HELO, "Host not found");
	return eval_reject(e,
	    (unsigned)e->p->cf->unknown_hostname_reject_code, "4.7.1",
	    e->f->helo, SUBJECT_HELO, "Host not found");
}
