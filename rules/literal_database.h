/*
 * A few strings, searched for in a text at once by Vectorscan, which is faster
 * for up to some hundred of them than rules/literal_index.h is.  A database
 * of them can be kept on disk.
 */
#ifndef RULES_LITERAL_DATABASE_H
#define RULES_LITERAL_DATABASE_H

#include "lib/view.h"
#include "rules/literal_index.h"
#include "rules/pattern_window.h"

#define LITERAL_DATABASE_MAX	512u	/* strings */

struct literal_database;

/* A program names these to table_pattern_sets(); so only such a program is
 * linked with Vectorscan. */
struct literal_databases {
	/*
	 * user[i] is told of list[i].  cache: the directory of
	 * rules/pattern_cache.h, or NULL.  NULL: it cannot be done.
	 */
	struct literal_database *(*new)(const struct window_string *list,
	    const uint32_t *user, size_t n, const char *cache);
	void (*free)(struct literal_database **d);
	/* As literal_index_scan(), but all is there that is told, once for
	 * each place; at is that of the string.  False: it failed. */
	bool (*scan)(const struct literal_database *d, struct view text,
	    void (*fn)(const struct literal_found *list, size_t n, void *arg),
	    void *arg);
};

/* NULL if this was built without Vectorscan or Hyperscan, or if the processor
 * is none that it knows. */
const struct literal_databases *literal_databases(void);

#endif
