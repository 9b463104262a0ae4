/*
 * Address classes (Postfix's ADDRESS_CLASS_README): what this host is for a
 * domain.  Opened before the jail, pure afterwards.
 */
#ifndef RULES_CLASS_H
#define RULES_CLASS_H

#include "lib/conf.h"
#include "lib/netaddr.h"
#include "rules/addr_list.h"

enum address_class {
	CLASS_NONE = 0,
	CLASS_LOCAL,		/* mydestination, or user@[our address] */
	CLASS_VIRTUAL_ALIAS,	/* virtual_alias_domains */
	CLASS_VIRTUAL_MAILBOX,	/* virtual_mailbox_domains */
	CLASS_RELAY,		/* relay_domains */
	CLASS_OTHER,
	CLASS_FAILED		/* a table did not answer */
};

struct classes;

/* The list of domains that is a parameter's value; "parameter" is looked for
 * in parent_domain_matches_subdomains. */
/* Does parent_domain_matches_subdomains name this list? */
bool class_parent_matches(const struct conf *cf, const char *parameter);
struct addr_list *class_list_open(const struct conf *cf,
    const char *parameter, const char *patterns, table_report *report,
    void *arg);

/* own: this machine's addresses, copied.  NULL after an error was reported. */
struct classes *classes_open(const struct conf *cf, const struct netaddr *own,
    size_t n_own, table_report *report, void *arg);
void classes_free(struct classes **c);
/* An empty domain is local.  A domain in more than one list is in the class
 * that stands first above. */
enum address_class class_of(const struct classes *c, struct view domain);
/* Only whether it is CLASS_LOCAL. */
enum table_answer class_local(const struct classes *c, struct view domain);

#endif
