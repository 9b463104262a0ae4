#include <stdlib.h>

#include "lib/mem.h"
#include "rules/addr_list.h"
#include "rules/local_clients.h"

#define VALUE_MAX	4096u

struct local_clients {
	bool own_clients, login_clients, cert_clients;
	struct netaddr *own;
	size_t n_own;
	struct addr_list *networks;
	struct table_list tables;
	struct table_list certs;	/* relay_clientcerts */
};

static bool
add_table(struct local_clients *l, const struct conf *cf, struct view word,
    table_report *report, void *arg)
{
	struct table *t = NULL;
	char *why;

	if (view_find(word, ':') < word.n)
		t = table_open(word, cf->config_directory, report, arg);
	if (t == NULL) {
		why = mem_printf("main.cf: local_header_rewrite_clients: "
		    "\"%.*s\" is no restriction and no table",
		    VIEW_ARGS(view_head(word, 100)));
		report(true, why, arg);
		free(why);
		return false;
	}
	l->tables.list = mem_resize(l->tables.list, l->tables.n + 1,
	    sizeof *l->tables.list);
	l->tables.list[l->tables.n++] = t;
	return true;
}

static bool
add_word(struct local_clients *l, const struct conf *cf, struct view word,
    table_report *report, void *arg)
{
	if (view_is_nocase(word, "permit_inet_interfaces"))
		l->own_clients = true;
	else if (view_is_nocase(word, "permit_sasl_authenticated"))
		l->login_clients = true;
	else if (view_is_nocase(word, "permit_mynetworks")) {
		addr_list_free(&l->networks);
		l->networks = net_list_open("mynetworks", cf->mynetworks,
		    cf->config_directory, report, arg);
		return l->networks != NULL;
	} else if (view_is_nocase(word, "permit_tls_all_clientcerts"))
		l->cert_clients = true;
	else if (view_is_nocase(word, "permit_tls_clientcerts"))
		return l->certs.n > 0 || table_list_open(
		    cf->relay_clientcerts, cf->config_directory, &l->certs,
		    report, arg);
	else if (view_is_nocase(word, "check_address_map"))
		return true;	/* a table follows */
	else
		return add_table(l, cf, word, report, arg);
	return true;
}

struct local_clients *
local_clients_open(const struct conf *cf, const struct netaddr *own,
    size_t n_own, table_report *report, void *arg)
{
	struct view rest = view_of(cf->local_header_rewrite_clients), word;
	struct local_clients *l = mem_alloc(sizeof *l);
	bool ok = true;

	l->own = mem_array(n_own, sizeof *own);
	if (n_own > 0)
		memcpy(l->own, own, n_own * sizeof *own);
	l->n_own = n_own;
	while ((word = conf_word(&rest)).n > 0)
		ok = add_word(l, cf, word, report, arg) && ok;
	if (!ok)
		local_clients_free(&l);
	return l;
}

void
local_clients_free(struct local_clients **lp)
{
	struct local_clients *l = *lp;

	if (l == NULL)
		return;
	*lp = NULL;
	addr_list_free(&l->networks);
	table_list_free(&l->tables);
	table_list_free(&l->certs);
	free(l->own);
	free(l);
}

static bool
is_own(const struct local_clients *l, const struct netaddr *client)
{
	size_t i;

	for (i = 0; i < l->n_own; i++)
		if (netaddr_equal(&l->own[i], client))
			return true;
	return false;
}

static bool
in_table(const struct table_list *tables, struct view key)
{
	const struct table *t;
	enum table_answer a;
	struct buf value;
	unsigned line;

	if (tables->n == 0 || key.n == 0)
		return false;
	buf_init(&value, VALUE_MAX);
	a = table_list_find(tables, key, &value, &t, &line);
	buf_free(&value);
	return a == TABLE_FOUND;
}

bool
local_clients_match(const struct local_clients *l,
    const struct local_client *c)
{
	char addr[NETADDR_TEXT];

	return (l->own_clients && is_own(l, &c->addr)) ||
	    (l->login_clients && c->authenticated) ||
	    (l->cert_clients && c->trusted) || (l->networks != NULL &&
	    net_list_match(l->networks, c->name, &c->addr) == TABLE_FOUND) ||
	    in_table(&l->tables, view_of(netaddr_text(&c->addr, addr))) ||
	    in_table(&l->certs, c->fingerprint) ||
	    in_table(&l->certs, c->pubkey_fingerprint);
}
