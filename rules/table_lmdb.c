#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "lib/log.h"
#include "rules/table_build.h"

#define FIND_TRIES	5

/*
 * LMDB's own lock file is not used: a reader would have to write to it, and
 * Postfix's programs do not look at it.  What they look at is an fcntl lock
 * on the data file, exclusive for writers and shared for readers; a reader
 * here holds it only for the time of one lookup, so that a writer finds it
 * free.
 *
 * It does not wait for a writer, who may hold it for seconds: what a reader
 * sees are pages that the next two commits leave alone.  If there were that
 * many while it looked, it looks again.
 */
struct index {
	struct memory_table *memory;	/* NULL: LMDB */
	MDB_env *env;
	MDB_txn *txn;		/* reset between lookups */
	MDB_dbi dbi;
	int fd;
	off_t size;		/* the largest seen; LMDB files never shrink */
	bool locked;
	bool truncated;
	char *path;
};

/* -- reading --------------------------------------------------------------- */

static bool
index_lock(const struct index *x, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };

	return fcntl(x->fd, F_OFD_SETLK, &lock) == 0;
}

/* A file that was cut off must not be touched: the kernel would end us. */
static bool
index_whole(struct index *x)
{
	struct stat st;

	if (fstat(x->fd, &st) != 0)
		return false;
	if (st.st_size < x->size) {
		if (!x->truncated)
			log_error("%s was overwritten in place; it cannot be "
			    "used until the next reload", x->path);
		x->truncated = true;
		return false;
	}
	x->truncated = false;
	x->size = st.st_size;
	return true;
}

/* Locked, and with a transaction that sees the newest state. */
static bool
index_begin(struct index *x)
{
	int rc;

	x->locked = index_lock(x, F_RDLCK);
	if (index_whole(x)) {
		rc = mdb_txn_renew(x->txn);
		if (rc == MDB_MAP_RESIZED) {
			rc = mdb_env_set_mapsize(x->env, 0);
			if (rc == 0)
				rc = mdb_txn_renew(x->txn);
		}
		if (rc == 0)
			return true;
		log_error("%s: %s", x->path, mdb_strerror(rc));
	}
	if (x->locked)
		(void)index_lock(x, F_UNLCK);
	return false;
}

/* False: what was read may have been overwritten meanwhile. */
static bool
index_end(struct index *x)
{
	size_t seen = mdb_txn_id(x->txn);
	MDB_envinfo info;
	bool good = true;

	if (!x->locked && mdb_env_info(x->env, &info) == 0)
		good = info.me_last_txnid < seen + 2;
	mdb_txn_reset(x->txn);
	if (x->locked)
		(void)index_lock(x, F_UNLCK);
	return good;
}

static struct view
index_text(const MDB_val *v)
{
	struct view text = view_make(v->mv_data, v->mv_size);

	if (text.n > 0 && text.p[text.n - 1] == '\0')
		text.n--;
	return text;
}

/* With the NUL that postmap writes by default, then without. */
static enum table_answer
index_get(struct index *x, struct view key, struct buf *value)
{
	char text[TABLE_INDEX_KEY_MAX];
	MDB_val k = { .mv_data = text }, v;
	struct view found;
	int rc;

	for (size_t i = 0; i < key.n; i++)
		text[i] = (char)(key.p[i] >= 'A' && key.p[i] <= 'Z' ?
		    key.p[i] | 0x20 : key.p[i]);
	text[key.n] = '\0';
	k.mv_size = key.n + 1;
	rc = mdb_get(x->txn, x->dbi, &k, &v);
	if (rc == MDB_NOTFOUND && key.n > 0) {
		k.mv_size = key.n;
		rc = mdb_get(x->txn, x->dbi, &k, &v);
	}
	if (rc == MDB_NOTFOUND)
		return TABLE_NOT_FOUND;
	if (rc != 0) {
		log_error("%s: %s", x->path, mdb_strerror(rc));
		return TABLE_FAILED;
	}
	found = index_text(&v);
	return buf_putv(value, found) ? TABLE_FOUND : TABLE_FAILED;
}

static enum table_answer
index_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	struct index *x = data;
	enum table_answer a;

	if (x->memory != NULL)
		return memory_find(x->memory, pos, key, value, ret_line);
	if ((*pos)++ > 0 || key.n >= TABLE_INDEX_KEY_MAX)
		return TABLE_NOT_FOUND;
	for (unsigned i = 0; i < FIND_TRIES; i++) {
		if (!index_begin(x))
			return TABLE_FAILED;
		buf_clear(value);
		a = index_get(x, key, value);
		if (!index_end(x))
			continue;
		if (a == TABLE_FOUND)
			*ret_line = 0;
		return a;
	}
	log_warn("%s is changed faster than it can be read", x->path);
	return TABLE_FAILED;
}

static void
index_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	struct index *x = data;
	MDB_cursor *cursor;
	MDB_val k, v;

	if (x->memory != NULL) {
		memory_each(x->memory, fn, arg);
		return;
	}
	if (!index_begin(x))
		return;
	if (mdb_cursor_open(x->txn, x->dbi, &cursor) == 0) {
		while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0)
			fn(index_text(&v), 0, arg);
		mdb_cursor_close(cursor);
	}
	(void)index_end(x);
}

/* -- opening --------------------------------------------------------------- */

static void
index_release(void *data)
{
	struct index *x = data;

	if (x->memory != NULL)
		memory_release(x->memory);
	if (x->txn != NULL)
		mdb_txn_abort(x->txn);
	if (x->env != NULL)
		mdb_env_close(x->env);
	free(x->path);
	free(x);
}

static int
index_open(struct index *x)
{
	mdb_filehandle_t fd;
	struct stat st;
	int rc = mdb_env_create(&x->env);

	if (rc == 0)
		rc = mdb_env_open(x->env, x->path, MDB_NOSUBDIR | MDB_RDONLY |
		    MDB_NOLOCK | MDB_NOTLS, 0);
	if (rc == 0)
		rc = mdb_env_get_fd(x->env, &fd);
	if (rc != 0)
		return rc;
	x->fd = fd;
	/* Not for programs that a role may start. */
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	/* What was opened, not what was looked at before. */
	if (fstat(fd, &st) != 0 || !table_trusted(&st))
		return EPERM;
	x->size = st.st_size;
	rc = mdb_txn_begin(x->env, NULL, MDB_RDONLY, &x->txn);
	if (rc == 0)
		rc = mdb_dbi_open(x->txn, NULL, 0, &x->dbi);
	if (x->txn != NULL)
		mdb_txn_reset(x->txn);
	return rc;
}

static void *
index_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct index *x = mem_alloc(sizeof *x);
	int rc;

	(void)type;
	(void)s;
	x->path = mem_printf("%.*s%s", VIEW_ARGS(name), TABLE_INDEX_SUFFIX);
	if (table_refresh(l->origin, l, &x->memory) == TABLE_READY_INDEX &&
	    (rc = index_open(x)) != 0)
		table_complain(l, 0, true, "cannot open %s: %s", x->path,
		    mdb_strerror(rc));
	return x;
}

#define INDEX(name, text)						\
const struct table_kind name = {					\
	.type = text, .file = true, .indexed = true,			\
	.load = index_load, .release = index_release,			\
	.find = index_find, .each = index_each				\
}

INDEX(table_lmdb, "lmdb");
/* Names of databases that are gone, or never were here: their source text
 * is what counts, and it is the same. */
INDEX(table_hash, "hash");
INDEX(table_btree, "btree");
INDEX(table_dbm, "dbm");
INDEX(table_cdb, "cdb");
INDEX(table_sdbm, "sdbm");
