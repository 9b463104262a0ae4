/*
 * Lookups in access(5) tables: which parts of a name, an address or a mail
 * address a table is asked for, and in which order.  Pure, after the tables
 * have been opened.
 *
 * regexp:, pcre: and cidr: tables, and lists of tables with one of them
 * inside, are asked for the whole key only; others also for its parts, and
 * without case.  sendmail-access: has sendmail's rules for keys instead, and
 * answers with the words of access(5).
 */
#ifndef RULES_ACCESS_H
#define RULES_ACCESS_H

#include "rules/table.h"

#define ACCESS_KEY_MAX	1000u	/* a longer key is not found */

enum access_key {
	ACCESS_NONE = 0,
	/* A name of HELO, MX, NS ...: the name, then its parents.  A name
	 * that is an address has no parents. */
	ACCESS_DOMAIN,
	ACCESS_NAME,			/* a login: as it is */
	/*
	 * Mail addresses in internal form: user+ext@domain, user@domain,
	 * domain and parents, user+ext@, user@.  The null sender is given as
	 * smtpd_null_access_lookup_key ("<>"), which has no parts.
	 */
	ACCESS_SENDER, ACCESS_RECIPIENT,
	ACCESS_ADDRESS,			/* neither of them */
	/* The client's verified name or "unknown"; as ACCESS_DOMAIN. */
	ACCESS_CLIENT_NAME,
	/* 192.0.2.1, 192.0.2, 192.0, 192; 2001:db8::1, 2001:db8:, 2001:db8,
	 * 2001; for addresses of MX and NS hosts too. */
	ACCESS_CLIENT_ADDR
};

struct access_style {
	/* parent_domain_matches_subdomains has smtpd_access_maps: parents are
	 * asked for as "example.com", else as ".example.com". */
	bool parent_matches;
	/* recipient_delimiter; NULL or "": addresses have no extensions. */
	const char *delimiters;
};

/* value is cleared first and holds the answer; *ret_line is the line of it
 * (0: not known), and *ret_row, which may be NULL, the hash of its row
 * (rules/table_row.h); both set with TABLE_FOUND. */
enum table_answer access_find(const struct table *t, enum access_key kind,
    struct view key, const struct access_style *style, struct buf *value,
    unsigned *ret_line, uint64_t *ret_row);
/* Call fn for each answer that the table may give to access_find(), as
 * table_each_result() (rules/table.h) does for table_find(). */
void access_each(const struct table *t,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg);

#endif
