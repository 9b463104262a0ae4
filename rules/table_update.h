/*
 * Changing and listing an index without building it again: LMDB transactions
 * in the file itself, under the lock that readers and Postfix's programs
 * know.  After kill -9 each entry is there or is not.  For postmap(1); no
 * role does this.
 */
#ifndef RULES_TABLE_UPDATE_H
#define RULES_TABLE_UPDATE_H

#include "rules/table_build.h"

enum table_updated { TABLE_UPDATED = 1, TABLE_NO_INDEX, TABLE_NOT_UPDATED };

/* Put the entries of m into path.lmdb, all or none of them.  TABLE_NO_INDEX:
 * there is no such file; TABLE_NOT_UPDATED: reported. */
enum table_updated table_update(const char *path,
    const struct memory_table *m, const struct table_style *style,
    enum table_duplicates duplicates, struct table_loader *l);
/* Remove a key; *ret_found tells whether it was there. */
enum table_updated table_remove(const char *path, struct view key,
    const struct table_style *style, bool *ret_found,
    struct table_loader *l);
/* Call fn for each entry in the order of the index. */
enum table_updated table_dump(const char *path,
    void (*fn)(struct view key, struct view value, void *arg), void *arg,
    struct table_loader *l);

#endif
