#include <stdlib.h>

#include "lib/mem.h"
#include "rules/override.h"
#include "rules/policy_priv.h"

#define RESTRICTIONS_MAX	1000u

static const char *const restriction_name[RESTRICTIONS] = {
	[PERMIT] = "permit",
	[REJECT] = "reject",
	[DEFER] = "defer",
	[DEFER_IF_PERMIT] = "defer_if_permit",
	[DEFER_IF_REJECT] = "defer_if_reject",
	[WARN_IF_REJECT] = "warn_if_reject",
	[PERMIT_MYNETWORKS] = "permit_mynetworks",
	[PERMIT_SASL_AUTHENTICATED] = "permit_sasl_authenticated",
	[PERMIT_AUTH_DESTINATION] = "permit_auth_destination",
	[REJECT_UNAUTH_DESTINATION] = "reject_unauth_destination",
	[DEFER_UNAUTH_DESTINATION] = "defer_unauth_destination",
	[REJECT_UNAUTH_PIPELINING] = "reject_unauth_pipelining",
	[REJECT_UNLISTED_RECIPIENT] = "reject_unlisted_recipient",
	[REJECT_NON_FQDN_RECIPIENT] = "reject_non_fqdn_recipient",
	[REJECT_NON_FQDN_SENDER] = "reject_non_fqdn_sender",
	[REJECT_NON_FQDN_HELO] = "reject_non_fqdn_helo_hostname",
	[REJECT_INVALID_HELO] = "reject_invalid_helo_hostname",
};

/* Spellings of Postfix before 2.3 that are still in use. */
static const struct {
	const char *name;
	enum restriction is;
} restriction_old[] = {
	{ "reject_non_fqdn_hostname", REJECT_NON_FQDN_HELO },
	{ "reject_invalid_hostname", REJECT_INVALID_HELO },
};

static enum restriction
restriction_find(struct view word)
{
	enum restriction r;
	size_t i;

	for (r = RESTRICTION_NONE + 1; r < RESTRICTIONS; r++)
		if (view_is_nocase(word, restriction_name[r]))
			return r;
	for (i = 0; i < sizeof restriction_old / sizeof restriction_old[0]; i++)
		if (view_is_nocase(word, restriction_old[i].name))
			return restriction_old[i].is;
	return RESTRICTION_NONE;
}

static bool
restriction_read(const char *parameter, const char *text,
    struct restriction_list *ret, table_report *report, void *arg)
{
	struct view rest = view_of(text), word;
	enum restriction r;
	char *why;

	while ((word = conf_word(&rest)).n > 0) {
		r = restriction_find(word);
		if (r == RESTRICTION_NONE || ret->n == RESTRICTIONS_MAX) {
			why = mem_printf("%s: unknown restriction: \"%.*s\"",
			    parameter, VIEW_ARGS(word));
			report(true, why, arg);
			free(why);
			return false;
		}
		ret->list = mem_resize(ret->list, ret->n + 1,
		    sizeof *ret->list);
		ret->list[ret->n++] = (uint8_t)r;
	}
	if (ret->n > 0 && ret->list[ret->n - 1] == WARN_IF_REJECT) {
		why = mem_printf("%s: nothing follows warn_if_reject",
		    parameter);
		report(true, why, arg);
		free(why);
		return false;
	}
	return true;
}

/*
 * Does this list refuse strangers?  One that is reached after an
 * unconditional permit, or that only warns, does not work.
 */
static bool
restriction_protects(const struct restriction_list *l)
{
	size_t i;

	for (i = 0; i < l->n; i++) {
		switch ((enum restriction)l->list[i]) {
		case REJECT:
		case DEFER:
		case DEFER_IF_PERMIT:
		case REJECT_UNAUTH_DESTINATION:
		case DEFER_UNAUTH_DESTINATION:
			return true;
		case PERMIT:
			return false;
		case WARN_IF_REJECT:
			i++;
			break;
		case RESTRICTION_NONE:
		case DEFER_IF_REJECT:
		case PERMIT_MYNETWORKS:
		case PERMIT_SASL_AUTHENTICATED:
		case PERMIT_AUTH_DESTINATION:
		case REJECT_UNAUTH_PIPELINING:
		case REJECT_UNLISTED_RECIPIENT:
		case REJECT_NON_FQDN_RECIPIENT:
		case REJECT_NON_FQDN_SENDER:
		case REJECT_NON_FQDN_HELO:
		case REJECT_INVALID_HELO:
		case RESTRICTIONS:
			break;
		}
	}
	return false;
}

/* Does parent_domain_matches_subdomains name this parameter? */
static bool
policy_lists(struct policy *p, const struct conf *cf, table_report *report,
    void *arg)
{
	const char *dir = cf->config_directory;

	p->mynetworks = net_list_open("mynetworks", cf->mynetworks, dir,
	    report, arg);
	return table_list_open(cf->relay_recipient_maps, dir,
	    &p->relay_recipients, report, arg) && p->mynetworks != NULL;
}

struct policy *
policy_open(const struct conf *cf, const struct netaddr *own, size_t n_own,
    table_report *report, void *arg)
{
	struct policy *p = mem_alloc(sizeof *p);
	struct view local = view_of(cf->local_transport);
	bool ok;

	p->reject_unlisted = cf->smtpd_reject_unlisted_recipient &&
	    !override_unlisted(cf);
	p->show_table = cf->show_user_unknown_table_name;
	p->code_reject = (uint16_t)cf->reject_code;
	p->code_defer = (uint16_t)cf->defer_code;
	p->code_relay = (uint16_t)cf->relay_domains_reject_code;
	p->code_local = (uint16_t)cf->unknown_local_recipient_reject_code;
	p->code_rcpt = (uint16_t)cf->unknown_relay_recipient_reject_code;
	p->code_non_fqdn = (uint16_t)cf->non_fqdn_reject_code;
	p->code_invalid_helo = (uint16_t)cf->invalid_hostname_reject_code;
	if (view_starts_nocase(local, "error:"))
		p->local_error = mem_copy(view_trim(view_from(local, 6)));
	p->classes = classes_open(cf, own, n_own, report, arg);
	ok = policy_lists(p, cf, report, arg) && p->classes != NULL;
	ok = restriction_read("smtpd_relay_restrictions",
	    cf->smtpd_relay_restrictions, &p->relay, report, arg) && ok;
	ok = restriction_read("smtpd_recipient_restrictions",
	    cf->smtpd_recipient_restrictions, &p->recipient, report, arg) &&
	    ok;
	if (ok && !restriction_protects(&p->relay) &&
	    !restriction_protects(&p->recipient)) {
		report(true, "in parameter smtpd_relay_restrictions or "
		    "smtpd_recipient_restrictions, specify at least one "
		    "working instance of: reject_unauth_destination, "
		    "defer_unauth_destination, reject, defer or "
		    "defer_if_permit", arg);
		ok = false;
	}
	if (!ok)
		policy_free(&p);
	return p;
}

void
policy_free(struct policy **pp)
{
	struct policy *p = *pp;

	if (p == NULL)
		return;
	free(p->relay.list);
	free(p->recipient.list);
	addr_list_free(&p->mynetworks);
	classes_free(&p->classes);
	table_list_free(&p->relay_recipients);
	free(p->local_error);
	free(p);
	*pp = NULL;
}
