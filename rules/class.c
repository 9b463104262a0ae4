#include <stdlib.h>

#include "lib/mem.h"
#include "rules/class.h"

struct classes {
	struct addr_list *local, *relay;
	struct netaddr *own;
	size_t n_own;
};

/* Does parent_domain_matches_subdomains name this list? */
static bool
class_parent_matches(const struct conf *cf, const char *parameter)
{
	struct view rest = view_of(cf->parent_domain_matches_subdomains), word;

	while ((word = conf_word(&rest)).n > 0)
		if (view_is_nocase(word, parameter))
			return true;
	return false;
}

struct classes *
classes_open(const struct conf *cf, const struct netaddr *own, size_t n_own,
    table_report *report, void *arg)
{
	struct classes *c = mem_alloc(sizeof *c);

	c->local = domain_list_open("mydestination", cf->mydestination,
	    class_parent_matches(cf, "mydestination"), cf->config_directory,
	    report, arg);
	c->relay = domain_list_open("relay_domains", cf->relay_domains,
	    class_parent_matches(cf, "relay_domains"), cf->config_directory,
	    report, arg);
	c->own = mem_array(n_own, sizeof *own);
	if (n_own > 0)
		memcpy(c->own, own, n_own * sizeof *own);
	c->n_own = n_own;
	if (c->local == NULL || c->relay == NULL)
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
	addr_list_free(&c->relay);
	free(c->own);
	free(c);
}

enum address_class
class_of(const struct classes *c, struct view domain)
{
	enum table_answer local, relay;
	struct netaddr a;
	size_t i;

	if (domain.n == 0)
		return CLASS_LOCAL;
	/* "[192.0.2.1]" is this host if the address is ours. */
	if (domain.p[0] == '[' && netaddr_parse(domain, &a))
		for (i = 0; i < c->n_own; i++)
			if (netaddr_equal(&a, &c->own[i]))
				return CLASS_LOCAL;
	local = domain_list_match(c->local, domain);
	if (local != TABLE_NOT_FOUND)
		return local == TABLE_FOUND ? CLASS_LOCAL : CLASS_FAILED;
	relay = domain_list_match(c->relay, domain);
	if (relay != TABLE_NOT_FOUND)
		return relay == TABLE_FOUND ? CLASS_RELAY : CLASS_FAILED;
	return CLASS_OTHER;
}
