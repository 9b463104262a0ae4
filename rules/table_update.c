#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "rules/table_update.h"

struct update {
	char *path;
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	int fd;			/* holds the lock */
};

static void
update_close(struct update *u)
{
	if (u->txn != NULL)
		mdb_txn_abort(u->txn);
	if (u->env != NULL)
		mdb_env_close(u->env);
	if (u->fd >= 0)
		(void)close(u->fd);
	free(u->path);
}

/* The lock on the file that has this name now, even if another took its
 * place while we waited. */
static bool
update_lock(struct update *u, bool write)
{
	struct flock lock = { .l_type = write ? F_WRLCK : F_RDLCK,
	    .l_whence = SEEK_SET };
	struct stat have, now;

	for (;;) {
		u->fd = open(u->path, (write ? O_RDWR : O_RDONLY) |
		    O_CLOEXEC | O_NOFOLLOW);
		if (u->fd < 0 || fcntl(u->fd, F_OFD_SETLKW, &lock) != 0 ||
		    fstat(u->fd, &have) != 0)
			return false;
		if (stat(u->path, &now) == 0 && now.st_dev == have.st_dev &&
		    now.st_ino == have.st_ino)
			return true;
		(void)close(u->fd);
	}
}

static int
update_begin(struct update *u, bool write, size_t more)
{
	struct stat st;
	char *path;
	int rc;

	if (fstat(u->fd, &st) != 0)
		return errno;
	rc = mdb_env_create(&u->env);
	if (rc != 0)
		return rc;
	if (write)
		rc = mdb_env_set_mapsize(u->env, (((size_t)st.st_size +
		    8 * more) / 65536 * 2 + 256) * 65536);
	/* The very file that is locked. */
	path = mem_printf("/proc/self/fd/%d", u->fd);
	if (rc == 0)
		rc = mdb_env_open(u->env, path, MDB_NOSUBDIR | MDB_NOLOCK |
		    (write ? 0u : MDB_RDONLY), 0600);
	free(path);
	if (rc == 0)
		rc = mdb_txn_begin(u->env, NULL, write ? 0 : MDB_RDONLY,
		    &u->txn);
	if (rc == 0)
		rc = mdb_dbi_open(u->txn, NULL, 0, &u->dbi);
	return rc;
}

static enum table_updated
update_open(struct update *u, const char *path, bool write, size_t more,
    struct table_loader *l)
{
	int rc;

	*u = (struct update){ .fd = -1 };
	u->path = mem_printf("%s%s", path, TABLE_INDEX_SUFFIX);
	if (!update_lock(u, write)) {
		if (errno == ENOENT)
			return TABLE_NO_INDEX;
		table_complain(l, 0, true, "open %s: %s", u->path,
		    strerror(errno));
		return TABLE_NOT_UPDATED;
	}
	rc = update_begin(u, write, more);
	if (rc == 0)
		return TABLE_UPDATED;
	table_complain(l, 0, true, "open %s: %s", u->path, mdb_strerror(rc));
	return TABLE_NOT_UPDATED;
}

static enum table_updated
update_commit(struct update *u, int rc, struct table_loader *l)
{
	if (rc == 0) {
		rc = mdb_txn_commit(u->txn);
		u->txn = NULL;
	}
	if (rc == 0)
		return TABLE_UPDATED;
	table_complain(l, 0, true, "write %s: %s", u->path,
	    mdb_strerror(rc));
	return TABLE_NOT_UPDATED;
}

/* Key or value as it is stored. */
static MDB_val
stored(struct buf *b, struct view v, bool fold, bool nul)
{
	buf_clear(b);
	for (size_t i = 0; i < v.n; i++)
		ensure(buf_putc(b, fold && v.p[i] >= 'A' && v.p[i] <= 'Z' ?
		    (char)(v.p[i] | 0x20) : v.p[i]));
	ensure(buf_putc(b, '\0'));
	return (MDB_val){ v.n + nul, b->p };
}

static int
update_put(struct update *u, const struct memory_table *m,
    const struct table_style *style, enum table_duplicates duplicates,
    struct table_loader *l)
{
	struct view key, value;
	struct buf kb, vb;
	unsigned line;
	int rc = 0;

	buf_init(&kb, TABLE_LINE_MAX + 1);
	buf_init(&vb, TABLE_LINE_MAX + 1);
	for (size_t i = 0; rc == 0 && i < memory_count(m); i++) {
		MDB_val k, v;

		memory_entry(m, i, &key, &value, &line);
		k = stored(&kb, key, !style->exact, !style->no_nul);
		v = stored(&vb, value, false, !style->no_nul);
		rc = mdb_put(u->txn, u->dbi, &k, &v,
		    duplicates == DUPLICATE_REPLACE ? 0 : MDB_NOOVERWRITE);
		if (rc != MDB_KEYEXIST)
			continue;
		rc = 0;
		if (duplicates == DUPLICATE_WARN)
			table_complain(l, 0, false, "%s: duplicate entry: "
			    "\"%.*s\"", u->path,
			    VIEW_ARGS(view_head(key, 200)));
	}
	buf_free(&kb);
	buf_free(&vb);
	return rc;
}

enum table_updated
table_update(const char *path, const struct memory_table *m,
    const struct table_style *style, enum table_duplicates duplicates,
    struct table_loader *l)
{
	struct view key, value;
	enum table_updated done;
	struct update u;
	size_t bytes = 0;
	unsigned line;

	for (size_t i = 0; i < memory_count(m); i++) {
		memory_entry(m, i, &key, &value, &line);
		bytes += key.n + value.n + 64;
	}
	done = update_open(&u, path, true, bytes, l);
	if (done == TABLE_UPDATED)
		done = update_commit(&u, update_put(&u, m, style, duplicates,
		    l), l);
	update_close(&u);
	return done;
}

enum table_updated
table_remove(const char *path, struct view key,
    const struct table_style *style, bool *ret_found, struct table_loader *l)
{
	enum table_updated done;
	struct update u;
	struct buf kb;
	MDB_val k;
	int rc;

	*ret_found = false;
	done = update_open(&u, path, true, 0, l);
	if (done == TABLE_UPDATED && key.n > 0 &&
	    key.n < TABLE_INDEX_KEY_MAX) {
		buf_init(&kb, TABLE_INDEX_KEY_MAX + 1);
		k = stored(&kb, key, !style->exact, true);
		rc = mdb_del(u.txn, u.dbi, &k, NULL);
		if (rc == MDB_NOTFOUND) {
			k.mv_size--;
			rc = mdb_del(u.txn, u.dbi, &k, NULL);
		}
		buf_free(&kb);
		if (rc != MDB_NOTFOUND) {
			done = update_commit(&u, rc, l);
			*ret_found = done == TABLE_UPDATED;
		}
	}
	update_close(&u);
	return done;
}

static struct view
without_nul(const MDB_val *v)
{
	struct view text = view_make(v->mv_data, v->mv_size);

	if (text.n > 0 && text.p[text.n - 1] == '\0')
		text.n--;
	return text;
}

enum table_updated
table_dump(const char *path,
    void (*fn)(struct view key, struct view value, void *arg), void *arg,
    struct table_loader *l)
{
	enum table_updated done;
	MDB_cursor *cursor;
	struct update u;
	MDB_val k, v;

	done = update_open(&u, path, false, 0, l);
	if (done == TABLE_UPDATED &&
	    mdb_cursor_open(u.txn, u.dbi, &cursor) == 0) {
		while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0)
			fn(without_nul(&k), without_nul(&v), arg);
		mdb_cursor_close(cursor);
	}
	update_close(&u);
	return done;
}
