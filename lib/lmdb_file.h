/*
 * An LMDB file in which a role keeps what it would otherwise have to find out
 * again after a restart: a copy of what it has in memory, never waited for.
 *
 * It is opened before the jail.  LMDB trusts what it reads, so another process
 * reads the whole file first; one that this process does not survive is put
 * aside as FILE.damaged, and a new one is begun.  One that cannot be written
 * to, or lies where others may write, costs a line in the log.
 *
 * Two processes may have it open during a reload; LMDB's lock is for that.
 */
#ifndef LIB_LMDB_FILE_H
#define LIB_LMDB_FILE_H

#include <lmdb.h>
#include <sys/types.h>

#include "lib/view.h"

struct lmdb_file {
	MDB_env *env;
	MDB_dbi dbi;
	char *path;
	off_t size;		/* the largest seen; it never shrinks */
};

typedef void lmdb_file_each(struct view key, struct view value, void *arg);

/*
 * path is absolute; a bound of map_bytes is put on its size.  what ("what is
 * known of addresses") stands in log lines.  each is called for all that is in
 * it.  False, after a line in the log: there is none.
 */
bool lmdb_file_open(struct lmdb_file *f, const char *path, uint64_t map_bytes,
    const char *what, lmdb_file_each *each, void *arg)
    __attribute__((warn_unused_result));
/* To change it.  An MDB_ or errno number; 0: *ret, to be committed. */
int lmdb_file_begin(struct lmdb_file *f, MDB_txn **ret);

/*
 * The path that a parameter such as "lmdb:/var/lib/x", "btree:..." or "/x"
 * names, without ".lmdb".
 */
struct view lmdb_file_spec(const char *spec);

#endif
