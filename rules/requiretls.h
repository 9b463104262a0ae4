/*
 * REQUIRETLS (RFC 8689): how much of it is asked of which next hop
 * (smtp_requiretls_policy), and whether a session has it.  Pure.
 */
#ifndef RULES_REQUIRETLS_H
#define RULES_REQUIRETLS_H

#include "lib/tls_words.h"
#include "rules/table.h"

enum requiretls_policy {
	REQUIRETLS_OFF = 0,	/* the message does not want it */
	REQUIRETLS_DISABLE,	/* as if it did not */
	REQUIRETLS_OPPORTUNISTIC,	/* what the server has of it */
	REQUIRETLS_STARTTLS,	/* the same, but TLS is needed */
	REQUIRETLS_ENFORCE,	/* RFC 8689 section 4.2.1 */
};
/* False: no such word. */
bool requiretls_policy_parse(struct view word, enum requiretls_policy *ret);

/*
 * A list of tables, and of words that are the answer for whatever is left.
 * Mistakes are reported, also those of results that tables can tell.
 */
bool requiretls_open(const char *list, const char *config_dir,
    struct table_list *ret, table_report *report, void *arg);
/*
 * The policy for a next hop without its brackets and port: each table is asked
 * for the whole of it, then for its parent domains with a dot in front, before
 * the next one.  None says anything: ENFORCE.  False: a table failed, or said
 * something else; *ret_table is that.
 */
bool requiretls_find(const struct table_list *l, struct view hop,
    enum requiretls_policy *ret, const struct table **ret_table);

/* What a session has. */
struct requiretls_session {
	bool tls;
	enum tls_level held;	/* what the server has proven to be */
	bool offered;		/* REQUIRETLS, within TLS */
};
/* In the words of the log: what is missing for REQUIRETLS to be sent and mean
 * something, "nostarttls", "nocertmatch" or "none"; NULL: nothing. */
const char *requiretls_lacks(const struct requiretls_session *s);
/* The message may be sent over it. */
bool requiretls_allows(enum requiretls_policy p,
    const struct requiretls_session *s);
/* And the server is told to require it too. */
bool requiretls_asks(enum requiretls_policy p,
    const struct requiretls_session *s);

#endif
