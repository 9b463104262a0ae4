/* A policy: everything of main.cf that restrictions need. */
#include <stdlib.h>

#include "lib/conf_choice.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/own_addr.h"
#include "rules/override.h"
#include "rules/policy_inside.h"
#include "rules/policy_priv.h"

/* Does parent_domain_matches_subdomains name this parameter? */
static bool
policy_parent_matches(const struct conf *cf, const char *parameter)
{
	struct view rest = view_of(cf->parent_domain_matches_subdomains), word;

	while ((word = conf_word(&rest)).n > 0)
		if (view_is_nocase(word, parameter))
			return true;
	return false;
}

static void
policy_say(struct restriction_reader *rd, const char *what, const char *why,
    const char *value)
{
	char *text = mem_printf("%s: %s: %s", what, why, value);

	rd->report(true, text, rd->arg);
	free(text);
}

/* While an answer is not known: try the other restrictions first? */
static void
policy_tempfail(struct policy *p)
{
	const struct conf *cf = p->cf;

	p->helo_put_off = TEMPFAIL_DEFER_IF_PERMIT == conf_choice(
	    "unknown_helo_hostname_tempfail_action",
	    view_of(cf->unknown_helo_hostname_tempfail_action));
	p->address_put_off = TEMPFAIL_DEFER_IF_PERMIT == conf_choice(
	    "unknown_address_tempfail_action",
	    view_of(cf->unknown_address_tempfail_action));
	p->verify_rcpt_put_off = TEMPFAIL_DEFER_IF_PERMIT == conf_choice(
	    "unverified_recipient_tempfail_action",
	    view_of(cf->unverified_recipient_tempfail_action));
	p->verify_sender_put_off = TEMPFAIL_DEFER_IF_PERMIT == conf_choice(
	    "unverified_sender_tempfail_action",
	    view_of(cf->unverified_sender_tempfail_action));
	p->verify_catchall_put_off = CATCHALL_TEMPFAIL == conf_choice(
	    "address_verify_catchall_action",
	    view_of(cf->address_verify_catchall_action));
}

static bool
policy_maps(struct restriction_reader *rd)
{
	const struct conf *cf = rd->p->cf;
	struct policy *p = rd->p;
	const struct {
		const char *specs;
		struct table_list *list;
	} maps[] = {
		{ cf->local_recipient_maps, &p->local_rcpts },
		{ cf->virtual_mailbox_maps, &p->mailbox_rcpts },
		{ cf->relay_recipient_maps, &p->relay_rcpts },
		{ cf->virtual_alias_maps, &p->aliases },
		{ cf->canonical_maps, &p->canonical },
		{ cf->sender_canonical_maps, &p->sender_canonical },
		{ cf->recipient_canonical_maps, &p->rcpt_canonical },
		{ cf->smtpd_sender_login_maps, &p->logins },
		{ cf->rbl_reply_maps, &p->rbl_replies },
		{ cf->relay_clientcerts, &p->clientcerts },
		{ cf->smtpd_reject_filter_maps, &p->reject_filters },
		{ cf->smtpd_reject_footer_maps, &p->reject_footers },
	};
	bool ok = true;
	size_t i;

	for (i = 0; i < sizeof maps / sizeof maps[0]; i++)
		ok = table_list_open(maps[i].specs, cf->config_directory,
		    maps[i].list, rd->report, rd->arg) && ok;
	p->mynetworks = net_list_open("mynetworks", cf->mynetworks,
	    cf->config_directory, rd->report, rd->arg);
	p->backup_networks = net_list_open("permit_mx_backup_networks",
	    cf->permit_mx_backup_networks, cf->config_directory, rd->report,
	    rd->arg);
	p->log_permits = word_list_open("smtpd_log_access_permit_actions",
	    cf->smtpd_log_access_permit_actions, cf->config_directory,
	    rd->report, rd->arg);
	return ok && p->mynetworks != NULL && p->backup_networks != NULL &&
	    p->log_permits != NULL;
}

/* A table alone needs to know what it is for. */
static bool
policy_no_bare(struct restriction_reader *rd, const char *what,
    const struct restriction_list *l)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (l->list[i].kind == &restriction_bare) {
			policy_say(rd, what, "specify check_..._access "
			    "before", table_name(l->list[i].table));
			return false;
		}
	return true;
}

static bool
policy_lists(struct restriction_reader *rd)
{
	const struct conf *cf = rd->p->cf;
	struct policy *p = rd->p;
	const struct {
		const char *name, *text;
		struct restriction_list *list;
		bool bare;
	} lists[] = {
		{ "smtpd_client_restrictions", cf->smtpd_client_restrictions,
		    &p->client, true },
		{ "smtpd_helo_restrictions", cf->smtpd_helo_restrictions,
		    &p->helo, true },
		{ "smtpd_sender_restrictions", cf->smtpd_sender_restrictions,
		    &p->mail, true },
		{ "smtpd_relay_restrictions", cf->smtpd_relay_restrictions,
		    &p->relay, true },
		{ "smtpd_recipient_restrictions",
		    cf->smtpd_recipient_restrictions, &p->rcpt, true },
		{ "smtpd_data_restrictions", cf->smtpd_data_restrictions,
		    &p->data, false },
		{ "smtpd_end_of_data_restrictions",
		    cf->smtpd_end_of_data_restrictions, &p->eod, false },
		{ "smtpd_etrn_restrictions", cf->smtpd_etrn_restrictions,
		    &p->etrn, true },
	};
	bool ok;
	size_t i;

	rd->what = "smtpd_restriction_classes";
	ok = restriction_classes(rd);
	for (i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		rd->what = lists[i].name;
		ok = restriction_read(rd, lists[i].text, lists[i].list) && ok;
		lists[i].list->name = lists[i].name;
		if (!lists[i].bare)
			ok = policy_no_bare(rd, lists[i].name,
			    lists[i].list) && ok;
	}
	return ok;
}

/* The results of tables: now that all classes are known. */
static bool
policy_check_tables(struct restriction_reader *rd)
{
	struct policy_table *t;
	bool ok = true;

	for (t = rd->p->tables; t != NULL; t = t->next)
		ok = access_check_table(rd->p, t->table, rd->report,
		    rd->arg) && ok;
	return ok;
}

static void
policy_settings(struct policy *p)
{
	const struct conf *cf = p->cf;

	p->delay = cf->smtpd_delay_reject;
	p->unlisted_rcpt = cf->smtpd_reject_unlisted_recipient &&
	    !override_unlisted(cf);
	p->unlisted_sender = cf->smtpd_reject_unlisted_sender;
	p->style.parent_matches = policy_parent_matches(cf,
	    "smtpd_access_maps");
	p->style.delimiters = cf->recipient_delimiter;
	buf_init(&p->route_where, 1024);
}

static void
policy_route_seen(const char *what, struct view where, struct view addr,
    struct view result, void *arg)
{
	struct policy *p = arg;

	log_trace("rule %s for %s: %s%s%s", what, log_safe(addr),
	    log_safe(result), where.n > 0 ? "; rule=" : "", log_safe(where));
	buf_clear(&p->route_where);
	(void)buf_putv(&p->route_where, where);
}

/* Most gateways have no error: and need not look for it at each address. */
static bool
policy_routes(struct restriction_reader *rd)
{
	const struct conf *cf = rd->p->cf;
	struct policy *p = rd->p;
	const char *const transports[] = { cf->local_transport,
		cf->relay_transport, cf->virtual_transport,
		cf->default_transport };
	bool needed = cf->relocated_maps[0] != '\0' ||
	    cf->transport_maps[0] != '\0' ||
	    cf->sender_dependent_default_transport_maps[0] != '\0';
	struct view name, hop;
	size_t i;

	for (i = 0; i < sizeof transports / sizeof transports[0]; i++) {
		route_split(view_of(transports[i]), &name, &hop);
		needed |= view_is(name, "error") || view_is(name, "retry");
	}
	if (!needed)
		return true;
	p->router = router_open(cf, p->own, p->n_bound, rd->report, rd->arg);
	if (p->router == NULL)
		return false;
	router_set_trace(p->router, policy_route_seen, p);
	return true;
}

static struct policy *
policy_read(const struct conf *cf, const struct netaddr *own, size_t n_own,
    bool inside, table_report *report, void *arg)
{
	struct policy *p = mem_alloc(sizeof *p);
	struct restriction_reader rd = { .p = p, .report = report,
		.arg = arg };
	bool ok;

	p->cf = cf;
	p->inside = inside;
	policy_settings(p);
	p->own = own_and_proxies(cf, own, n_own, &p->n_own);
	p->n_bound = n_own;
	p->classes = classes_open(cf, own, n_own, report, arg);
	ok = p->classes != NULL;
	p->keys = addr_keys_of(cf, p->classes);
	ok = policy_maps(&rd) && ok;
	ok = policy_routes(&rd) && ok;
	policy_tempfail(p);
	ok = policy_lists(&rd) && ok;
	ok = policy_check_tables(&rd) && ok;
	ok = policy_check_rejects(&rd) && ok;
	if (ok && !inside && !restriction_protects(&p->relay) &&
	    !restriction_protects(&p->rcpt)) {
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

struct policy *
policy_open(const struct conf *cf, const struct netaddr *own, size_t n_own,
    table_report *report, void *arg)
{
	return policy_read(cf, own, n_own, false, report, arg);
}

struct policy *
policy_open_inside(const struct conf *cf, const struct netaddr *own,
    size_t n_own, table_report *report, void *arg)
{
	return policy_read(cf, own, n_own, true, report, arg);
}

static void
policy_free_tables(struct policy *p)
{
	struct table_list *const maps[] = { &p->local_rcpts,
		&p->mailbox_rcpts, &p->relay_rcpts, &p->aliases,
		&p->canonical, &p->sender_canonical, &p->rcpt_canonical,
		&p->logins, &p->rbl_replies, &p->clientcerts,
		&p->reject_filters, &p->reject_footers };
	struct policy_table *t;
	size_t i;

	for (i = 0; i < sizeof maps / sizeof maps[0]; i++)
		table_list_free(maps[i]);
	while ((t = p->tables) != NULL) {
		p->tables = t->next;
		table_free(&t->table);
		free(t->spec);
		free(t);
	}
}

void
policy_free(struct policy **pp)
{
	struct policy *p = *pp;
	struct restriction_list *lists[8];
	struct restriction_class *c;
	size_t i;

	if (p == NULL)
		return;
	*pp = NULL;
	lists[0] = &p->client;
	lists[1] = &p->helo;
	lists[2] = &p->mail;
	lists[3] = &p->relay;
	lists[4] = &p->rcpt;
	lists[5] = &p->data;
	lists[6] = &p->eod;
	lists[7] = &p->etrn;
	for (i = 0; i < 8; i++)
		restriction_list_free(lists[i]);
	while ((c = p->class_list) != NULL) {
		p->class_list = c->next;
		restriction_list_free(&c->list);
		free(c->name);
		free(c);
	}
	policy_free_tables(p);
	services_free(p);
	addr_list_free(&p->mynetworks);
	addr_list_free(&p->backup_networks);
	addr_list_free(&p->log_permits);
	classes_free(&p->classes);
	free(p->own);
	router_free(&p->router);
	buf_free(&p->route_where);
	free(p);
}
