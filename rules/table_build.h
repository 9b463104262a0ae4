/*
 * Writing indexed tables: FILE.lmdb from the text FILE.  Keys and values are
 * as Postfix's postmap(1) stores them, so that either can read the other's:
 * keys in lower case, both with a NUL at their end.
 *
 * A whole table is written into a new file beside the old one, which it
 * replaces when it is complete and on the disk: whatever happens before,
 * a full disk or kill -9, leaves the old one.  The new file has the mode and,
 * as far as we may, the owner of the old one, else the permissions of the
 * text; its time is that of the text it was made from, so that a text which
 * changes meanwhile is newer.  Changes of single entries are LMDB
 * transactions in the file itself, under an exclusive lock (fcntl) that
 * readers and Postfix know.
 */
#ifndef RULES_TABLE_BUILD_H
#define RULES_TABLE_BUILD_H

#include <sys/stat.h>

#include "rules/table_impl.h"

#define TABLE_INDEX_KEY_MAX	511u	/* LMDB's, with the NUL */

/* What postmap(1) can be told. */
struct table_style {
	bool no_nul;		/* without NUL at the end */
	bool exact;		/* upper and lower case are different */
	bool default_mode;	/* permissions from umask, not the text's */
};

/*
 * Write path.lmdb from what is in m, and give it the time and mode of the
 * text that `source` describes (NULL: none).  False after a report as an
 * error; the file is what it was.
 */
bool table_build(const char *path, const struct memory_table *m,
    const struct table_style *style, const struct stat *source,
    struct table_loader *l);

/* Only we or root can have written this file. */
bool table_trusted(const struct stat *st);

enum table_ready {
	TABLE_READY_INDEX = 1,	/* path.lmdb is there and may be opened */
	TABLE_READY_TEXT,	/* *ret_memory is what the text says */
	TABLE_READY_FAILED	/* reported */
};
/*
 * Make path.lmdb as new as the text.  Only in a directory that is ours or
 * root's and that nobody else may write to: whoever can rename files there
 * could have us replace a file, or open one of his making, with our rights.
 * An index that others may write to is not used either.  Then, or when
 * nothing can be written, the text is read into memory, with a warning that
 * says why.
 */
enum table_ready table_refresh(const char *path, struct table_loader *l,
    struct memory_table **ret_memory);

#endif
