/*
 * How an address is looked up in a list of tables (Postfix's table(5)
 * pages): first as a whole, then without its extension, then the user alone
 * if the domain is this host's, then "@domain".  Each form is asked of all
 * tables before the next one.  Pattern tables see the whole address only.
 *
 * Addresses are in internal form; a table is asked for the quoted form first.
 */
#ifndef RULES_ADDR_FIND_H
#define RULES_ADDR_FIND_H

#include "lib/conf.h"
#include "rules/class.h"

/* What splitting and finding need; the texts live as long as the conf. */
struct addr_keys {
	const char *delimiters;		/* recipient_delimiter */
	bool owner_request_special;
	const char *double_bounce;	/* never split */
	const char *myorigin;
	const struct classes *classes;
};

struct addr_keys addr_keys_of(const struct conf *cf,
    const struct classes *classes);

/*
 * The extension of an address with its delimiter, a part of the local part;
 * empty when there is none.  postmaster, mailer-daemon, owner-x and x-request
 * are not split.
 */
struct view addr_extension(const struct addr_keys *k, struct view addr);

struct addr_found {
	const struct table *table;
	unsigned line;
	struct view extension;	/* of addr, when the key did not have it */
};

/* The value is put into value, which is cleared first; *ret is set when
 * found. */
enum table_answer addr_find(const struct addr_keys *k,
    const struct table_list *maps, struct view addr, struct buf *value,
    struct addr_found *ret);
/* One key; partial: it is a part of something, so not for patterns. */
enum table_answer addr_find_key(const struct table_list *maps,
    struct view key, bool partial, struct buf *value, struct addr_found *ret);
/* "file:line" of what was found. */
void addr_found_where(const struct addr_found *f, struct buf *out);

#endif
