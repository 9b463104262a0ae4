/*
 * The rows of a table's text, for those who count how often each fires and
 * for those who list them.
 *
 * The hash of a row stays the same when the row moves to another line, and
 * changes when the row does.
 */
#ifndef RULES_TABLE_ROW_H
#define RULES_TABLE_ROW_H

#include "rules/table.h"

/* Of the row that answered key with value: line as table_find() gave it.  0:
 * not known. */
uint64_t table_row_hash(const struct table *t, unsigned line, struct view key,
    struct view value);

struct table_row {
	struct view text;	/* as written, continued lines as one */
	struct view result;	/* the right-hand side; empty if not known */
	unsigned line;
	uint64_t hash;
};
/*
 * Call each for the rows of a "type:file", from its text; *ret_file is what
 * the log calls it, and lines the log has no line of (those of indexed
 * tables) are 0 there.  False: it has no text of its own, or it cannot be
 * read.  Free *ret_file.
 */
bool table_rows(struct view spec, const char *config_dir,
    void (*each)(const struct table_row *row, void *arg), void *arg,
    char **ret_file);

#endif
