#include <stdlib.h>

#include "lib/mem.h"
#include "lib/own_addr.h"
#include "rules/class.h"

struct classes {
	struct addr_list *local, *alias, *mailbox, *relay;
	struct netaddr *own;
	size_t n_own;
};

bool
class_parent_matches(const struct conf *cf, const char *parameter)
{
	struct view rest = view_of(cf->parent_domain_matches_subdomains), word;

	while ((word = conf_word(&rest)).n > 0)
		if (view_is_nocase(word, parameter))
			return true;
	return false;
}

struct addr_list *
class_list_open(const struct conf *cf, const char *parameter,
    const char *patterns, table_report *report, void *arg)
{
	return domain_list_open(parameter, patterns,
	    class_parent_matches(cf, parameter), cf->config_directory,
	    report, arg);
}

struct classes *
classes_open(const struct conf *cf, const struct netaddr *own, size_t n_own,
    table_report *report, void *arg)
{
	struct classes *c = mem_alloc(sizeof *c);

	c->local = class_list_open(cf, "mydestination", cf->mydestination,
	    report, arg);
	c->alias = class_list_open(cf, "virtual_alias_domains",
	    cf->virtual_alias_domains, report, arg);
	c->mailbox = class_list_open(cf, "virtual_mailbox_domains",
	    cf->virtual_mailbox_domains, report, arg);
	c->relay = class_list_open(cf, "relay_domains", cf->relay_domains,
	    report, arg);
	c->own = own_and_proxies(cf, own, n_own, &c->n_own);
	if (c->local == NULL || c->alias == NULL || c->mailbox == NULL ||
	    c->relay == NULL)
		classes_free(&c);
	return c;
}

void
classes_free(struct classes **cp)
{
	struct classes *c = *cp;

	if (c == NULL)
		return;
	*cp = NULL;
	addr_list_free(&c->local);
	addr_list_free(&c->alias);
	addr_list_free(&c->mailbox);
	addr_list_free(&c->relay);
	free(c->own);
	free(c);
}

enum table_answer
class_local(const struct classes *c, struct view domain)
{
	struct netaddr a;
	size_t i;

	if (domain.n == 0)
		return TABLE_FOUND;
	/* "[192.0.2.1]" is this host if the address is ours. */
	if (domain.p[0] == '[' && netaddr_parse(domain, &a))
		for (i = 0; i < c->n_own; i++)
			if (netaddr_equal(&a, &c->own[i]))
				return TABLE_FOUND;
	return domain_list_match(c->local, domain);
}

enum address_class
class_of(const struct classes *c, struct view domain)
{
	const struct {
		const struct addr_list *list;
		enum address_class class;
	} others[] = {
		{ c->alias, CLASS_VIRTUAL_ALIAS },
		{ c->mailbox, CLASS_VIRTUAL_MAILBOX },
		{ c->relay, CLASS_RELAY },
	};
	enum table_answer a = class_local(c, domain);
	size_t i;

	if (a != TABLE_NOT_FOUND)
		return a == TABLE_FOUND ? CLASS_LOCAL : CLASS_FAILED;
	for (i = 0; i < sizeof others / sizeof others[0]; i++) {
		a = domain_list_match(others[i].list, domain);
		if (a != TABLE_NOT_FOUND)
			return a == TABLE_FOUND ? others[i].class :
			    CLASS_FAILED;
	}
	return CLASS_OTHER;
}
