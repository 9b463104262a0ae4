/*
 * Match lists: mynetworks, mydestination, relay_domains (Postfix's
 * match_list): words are patterns, "!pattern" excludes, "/file/name" is
 * replaced by the file's lines, "type:table" is looked up.  The first word
 * that matches decides.  Read before the jail; pure afterwards.
 *
 * A list of networks holds "192.0.2.0/24", "192.0.2.1", "[2001:db8::]/32",
 * "[2001:db8::1]" and host names, which are compared with the client's
 * verified name.  A list of domains holds names, compared without case,
 * ".example.com" for subdomains, and address literals, compared as text.
 * A list of words holds any, compared as a whole and without case.
 */
#ifndef RULES_ADDR_LIST_H
#define RULES_ADDR_LIST_H

#include "lib/netaddr.h"
#include "rules/table.h"

struct addr_list;

/* what: the parameter's name, for messages */
struct addr_list *net_list_open(const char *what, const char *patterns,
    const char *config_dir, table_report *report, void *arg);
/* parent_domain_matches_subdomains: "example.com" matches a.example.com
 * too; else only ".example.com" does. */
struct addr_list *domain_list_open(const char *what, const char *patterns,
    bool parent_matches, const char *config_dir,
    table_report *report, void *arg);
/*
 * For lists of networks: whether host names match subdomains too.  They do
 * unless told otherwise, because parent_domain_matches_subdomains lists
 * mynetworks by default.
 */
void net_list_parent_matches(struct addr_list *l, bool parent_matches);
struct addr_list *word_list_open(const char *what, const char *patterns,
    const char *config_dir, table_report *report, void *arg);
void addr_list_free(struct addr_list **l);

/* TABLE_FAILED: a table could not answer; no allocation but inside tables. */
enum table_answer net_list_match(const struct addr_list *l,
    struct view client_name, const struct netaddr *addr);
enum table_answer domain_list_match(const struct addr_list *l,
    struct view domain);
enum table_answer word_list_match(const struct addr_list *l,
    struct view word);
/* Call for each file it depends on. */
void addr_list_files(const struct addr_list *l,
    void (*each)(const char *file, void *arg), void *arg);

#endif
