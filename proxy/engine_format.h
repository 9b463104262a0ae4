/*
 * What tables of the ldap: and SQL kinds have in common: which keys they are
 * asked for at all (domain), how the key goes into a query (query, with %s
 * %u %d %1 to %9), how results come out of it (result_format,
 * expansion_limit).  ldap_table(5), mysql_table(5).
 */
#ifndef PROXY_ENGINE_FORMAT_H
#define PROXY_ENGINE_FORMAT_H

#include "proxy/lookup_engine.h"

#define ENGINE_QUERY_MAX	65536u

struct engine_format;

/* Appends text to out, quoted as the query's language has it, with what arg
 * is needed for (a connection).  False: no room, or it cannot be quoted. */
typedef bool engine_quote(struct view text, struct buf *out, void *arg);

/*
 * Reads domain, result_format (or result_filter, its old name),
 * expansion_limit; query_name: the parameter with the template
 * ("query", "query_filter"), fallback its default (NULL: it must be there).
 * Mistakes are noted in c.
 */
struct engine_format *engine_format_new(const struct engine_conf *c,
    const char *query_name, const char *query_fallback);
void engine_format_free(struct engine_format **f);

/*
 * False: such a key is not asked for, the answer is "not found": it is empty,
 * its domain is not in the list, or the template or the result needs a part
 * that it has not.
 */
bool engine_format_wants(const struct engine_format *f, struct view key);
/*
 * The query for a key that is wanted, or any other template (ldap:
 * search_base) for it.  quote NULL: as it is.  *ret_wanted false: the
 * template needs a part that the key has not.  False: no room.
 */
bool engine_format_query(const struct engine_format *f, struct view key,
    engine_quote *quote, void *arg, struct buf *out, bool *ret_wanted);
bool engine_format_template(const char *template, struct view key,
    engine_quote *quote, void *arg, struct buf *out, bool *ret_wanted);
/* Are the conversions of a template known ones?  Else it is noted in c. */
void engine_format_check(const struct engine_conf *c, const char *name,
    const char *template);

/*
 * One result (an attribute's value, a row's column) after the others, with a
 * comma between.  *n counts the results.  An empty one is passed over.
 * ENGINE_FOUND: there may be more; ENGINE_TEMPORARY: over expansion_limit, or
 * no room (err).
 */
enum engine_answer engine_format_result(const struct engine_format *f,
    struct view key, struct view result, unsigned *n, struct buf *value,
    struct buf *err);
/* expansion_limit; 0: none. */
unsigned engine_format_limit(const struct engine_format *f);

#endif
