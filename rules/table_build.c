#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/log.h"
#include "rules/table_build.h"

#define PUBLIC_MODES	0666
#define WRITABLE	(S_IWGRP | S_IWOTH)

/* -- the file -------------------------------------------------------------- */

struct index_file {
	int dir, fd;
	const char *name;	/* without directory */
	char *temporary;	/* its name; NULL: none yet */
	char *path;		/* for LMDB; of this very file */
};

/* The directory of a path, opened; *ret_name is what comes behind it. */
static int
index_directory(const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash == NULL ? mem_strdup(".") :
	    mem_copy(view_make(path, slash == path ? 1 :
	    (size_t)(slash - path)));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	free(dir);
	*ret_name = slash == NULL ? path : slash + 1;
	return fd;
}

/*
 * A file that has no name yet, so that nothing is left of it if we are
 * killed; where the file system has no such thing, one of an unlikely name.
 */
static bool
index_create(struct index_file *f)
{
	f->fd = openat(f->dir, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (f->fd < 0) {
		f->temporary = mem_printf(".%s%s.%d", f->name,
		    TABLE_INDEX_SUFFIX, (int)getpid());
		(void)unlinkat(f->dir, f->temporary, 0);
		f->fd = openat(f->dir, f->temporary, O_RDWR | O_CREAT |
		    O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	}
	if (f->fd < 0)
		return false;
	/* By descriptor: nobody can put another file in its place. */
	f->path = mem_printf("/proc/self/fd/%d", f->fd);
	return true;
}

/* Owner and permissions: those of the old file, or as the text allows. */
static bool
index_permissions(const struct index_file *f, const struct table_style *style,
    const struct stat *source)
{
	char *index = mem_printf("%s%s", f->name, TABLE_INDEX_SUFFIX);
	struct stat st;
	bool have;
	gid_t group = getegid();
	mode_t mode, mask;

	mask = umask(0);
	(void)umask(mask);
	mode = PUBLIC_MODES & ~mask;
	have = fstatat(f->dir, index, &st, AT_SYMLINK_NOFOLLOW) == 0;
	free(index);
	if (have) {
		mode = st.st_mode & PUBLIC_MODES;
		group = st.st_gid;
		/* Who may not give files away owns the new one. */
		if (st.st_uid != geteuid() &&
		    fchown(f->fd, st.st_uid, (gid_t)-1) != 0 &&
		    errno != EPERM)
			return false;
	} else if (source != NULL && !style->default_mode) {
		mode = source->st_mode & PUBLIC_MODES & ~(mode_t)WRITABLE;
		group = source->st_gid;
	}
	/* What one group may see is not for another. */
	if (fchown(f->fd, (uid_t)-1, group) != 0)
		mode &= ~(mode_t)(S_IRGRP | S_IWGRP);
	return fchmod(f->fd, mode) == 0;
}

/* Let it take its name. */
static bool
index_publish(struct index_file *f)
{
	char *index = mem_printf("%s%s", f->name, TABLE_INDEX_SUFFIX);
	bool ok = true;

	if (f->temporary == NULL) {
		f->temporary = mem_printf(".%s.%d", index, (int)getpid());
		(void)unlinkat(f->dir, f->temporary, 0);
		ok = linkat(AT_FDCWD, f->path, f->dir, f->temporary,
		    AT_SYMLINK_FOLLOW) == 0;
	}
	ok = ok && renameat(f->dir, f->temporary, f->dir, index) == 0;
	if (ok) {
		free(f->temporary);
		f->temporary = NULL;
		(void)fsync(f->dir);
	}
	free(index);
	return ok;
}

static void
index_close(struct index_file *f)
{
	int why = errno;

	if (f->temporary != NULL)
		(void)unlinkat(f->dir, f->temporary, 0);
	if (f->fd >= 0)
		(void)close(f->fd);
	if (f->dir >= 0)
		(void)close(f->dir);
	free(f->temporary);
	free(f->path);
	errno = why;
}

/* -- its contents ---------------------------------------------------------- */

struct sorted {
	const char *key;
	uint32_t n;
	uint32_t entry;
};

static int
sorted_compare(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;
	int c = memcmp(x->key, y->key, x->n < y->n ? x->n : y->n);

	return c != 0 ? c : x->n < y->n ? -1 : x->n > y->n;
}

/* The entries in LMDB's order; their keys as they are stored, in pool. */
static struct sorted *
index_sort(const struct memory_table *m, const struct table_style *style,
    char **ret_pool, size_t *ret_bytes)
{
	size_t n = memory_count(m), bytes = 1, at = 0, values = 0;
	struct sorted *list = mem_array(n + 1, sizeof *list);
	struct view key, value;
	unsigned line;
	char *pool;

	for (size_t i = 0; i < n; i++) {
		memory_entry(m, i, &key, &value, &line);
		bytes += key.n + 1;
		values += value.n + 1;
	}
	pool = mem_alloc(bytes);
	for (size_t i = 0; i < n; i++) {
		memory_entry(m, i, &key, &value, &line);
		list[i] = (struct sorted){ pool + at,
		    (uint32_t)(key.n + (style->no_nul ? 0 : 1)),
		    (uint32_t)i };
		for (size_t k = 0; k < key.n; k++)
			pool[at++] = style->exact ? key.p[k] :
			    (char)(key.p[k] >= 'A' && key.p[k] <= 'Z' ?
			    key.p[k] | 0x20 : key.p[k]);
		at++;
	}
	qsort(list, n, sizeof *list, sorted_compare);
	*ret_pool = pool;
	*ret_bytes = bytes + values;
	return list;
}

/* All entries in one transaction; an error of LMDB or errno. */
static int
index_put(MDB_env *env, const struct memory_table *m,
    const struct table_style *style, const struct sorted *list)
{
	size_t n = memory_count(m);
	struct view key, value;
	MDB_txn *txn;
	MDB_dbi dbi;
	unsigned line;
	struct buf text;
	int rc;

	rc = mdb_txn_begin(env, NULL, 0, &txn);
	if (rc != 0)
		return rc;
	rc = mdb_dbi_open(txn, NULL, 0, &dbi);
	buf_init(&text, TABLE_LINE_MAX + 1);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		MDB_val k, v;

		memory_entry(m, list[i].entry, &key, &value, &line);
		buf_clear(&text);
		if (!buf_putv(&text, value) ||
		    !buf_putc(&text, '\0'))
			rc = MDB_BAD_VALSIZE;
		k.mv_size = list[i].n;
		k.mv_data = (void *)(uintptr_t)list[i].key;
		v.mv_size = text.n - (style->no_nul ? 1 : 0);
		v.mv_data = text.p;
		if (rc == 0)
			rc = mdb_put(txn, dbi, &k, &v, MDB_APPEND);
	}
	buf_free(&text);
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

static int
index_fill(const struct index_file *f, const struct memory_table *m,
    const struct table_style *style)
{
	struct sorted *list;
	MDB_env *env = NULL;
	size_t bytes;
	char *pool;
	int rc;

	list = index_sort(m, style, &pool, &bytes);
	rc = mdb_env_create(&env);
	/* Pages are filled to the half at worst; this is address space only. */
	if (rc == 0)
		rc = mdb_env_set_mapsize(env, ((4 * bytes +
		    64 * memory_count(m)) / 65536 + 256) * 65536);
	/* No WRITEMAP: a full disk must be an error, not a SIGBUS. */
	if (rc == 0)
		rc = mdb_env_open(env, f->path, MDB_NOSUBDIR | MDB_NOLOCK |
		    MDB_NOSYNC, 0600);
	if (rc == 0)
		rc = index_put(env, m, style, list);
	if (rc == 0)
		rc = mdb_env_sync(env, 1);
	if (env != NULL)
		mdb_env_close(env);
	free(list);
	free(pool);
	return rc;
}

static bool
index_keys_fit(const struct memory_table *m, struct table_loader *l)
{
	struct view key, value;
	bool ok = true;
	unsigned line;

	for (size_t i = 0; i < memory_count(m); i++) {
		memory_entry(m, i, &key, &value, &line);
		if (key.n < TABLE_INDEX_KEY_MAX)
			continue;
		table_complain(l, line, true, "a key over %u bytes cannot be "
		    "indexed: \"%.*s...\"", TABLE_INDEX_KEY_MAX - 1,
		    VIEW_ARGS(view_head(key, 60)));
		ok = false;
	}
	return ok;
}

/* False with errno, or an error of LMDB, in *ret_why. */
static bool
index_write(const char *path, const struct memory_table *m,
    const struct table_style *style, const struct stat *source, int *ret_why)
{
	struct index_file f = { .dir = -1, .fd = -1 };
	struct timespec times[2];
	struct statvfs disk;
	bool ok;
	int rc = 0;

	f.dir = index_directory(path, &f.name);
	ok = f.dir >= 0 && index_create(&f);
	if (ok && (rc = index_fill(&f, m, style)) != 0)
		ok = false;
	ok = ok && index_permissions(&f, style, source);
	if (ok && source != NULL) {
		times[0] = source->st_atim;
		times[1] = source->st_mtim;
		ok = futimens(f.fd, times) == 0;
	}
	ok = ok && fsync(f.fd) == 0 && index_publish(&f);
	*ret_why = rc != 0 ? rc : errno;
	/* LMDB's word for a write that was cut short. */
	if (rc == EIO && fstatvfs(f.dir, &disk) == 0 &&
	    disk.f_bavail * disk.f_frsize < 65536)
		*ret_why = ENOSPC;
	index_close(&f);
	return ok;
}

bool
table_build(const char *path, const struct memory_table *m,
    const struct table_style *style, const struct stat *source,
    struct table_loader *l)
{
	int why;

	if (!index_keys_fit(m, l))
		return false;
	if (index_write(path, m, style, source, &why))
		return true;
	table_complain(l, 0, true, "cannot write %s%s: %s", path,
	    TABLE_INDEX_SUFFIX, mdb_strerror(why));
	return false;
}

/* -- before a table is opened ---------------------------------------------- */

static bool check_only;

void
table_check_only(void)
{
	check_only = true;
}

static bool
ours(const struct stat *st)
{
	return st->st_uid == geteuid() || st->st_uid == 0;
}

bool
table_trusted(const struct stat *st)
{
	return ours(st) && (st->st_mode & WRITABLE) == 0;
}

/*
 * The directory itself, and those above it: who may rename one of them can
 * put another in its place while we look.  In one like /tmp nobody can rename
 * what is not his.
 */
static bool
directory_trusted(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash == NULL ? mem_strdup(".") :
	    mem_copy(view_make(path, (size_t)(slash - path) + 1));
	char *real = realpath(dir, NULL), *end;
	struct stat st;
	bool ok;

	free(dir);
	ok = real != NULL && lstat(real, &st) == 0 && table_trusted(&st);
	while (ok && (end = strrchr(real, '/')) != NULL && real[1] != '\0') {
		*(end == real ? end + 1 : end) = '\0';
		ok = lstat(real, &st) == 0 && (table_trusted(&st) ||
		    (ours(&st) && (st.st_mode & S_ISVTX) != 0));
	}
	free(real);
	return ok;
}

static bool
older(const struct stat *a, const struct stat *b)
{
	return a->st_mtim.tv_sec != b->st_mtim.tv_sec ?
	    a->st_mtim.tv_sec < b->st_mtim.tv_sec :
	    a->st_mtim.tv_nsec < b->st_mtim.tv_nsec;
}

struct refresh {
	const char *path;
	struct stat text, index;
	bool has_text, has_index, link;
};

static void
refresh_look(struct refresh *r)
{
	char *index = mem_printf("%s%s", r->path, TABLE_INDEX_SUFFIX);
	struct stat st;

	r->has_text = stat(r->path, &r->text) == 0;
	r->has_index = stat(index, &r->index) == 0 &&
	    S_ISREG(r->index.st_mode);
	r->link = lstat(index, &st) == 0 && !S_ISREG(st.st_mode);
	free(index);
}

static bool
refresh_stale(const struct refresh *r)
{
	return r->has_text &&
	    (!r->has_index || older(&r->index, &r->text));
}

/* Why the index cannot be used or made; NULL: it can. */
static const char *
refresh_obstacle(const struct refresh *r, bool build)
{
	if (r->has_index && !table_trusted(&r->index))
		return "others may write to the index";
	if (!build)
		return NULL;
	if (!directory_trusted(r->path))
		return "others may write to the directory, or to one above";
	if (r->link)
		return "the index is not a plain file";
	return NULL;
}

static struct memory_table *
refresh_read(const char *path, struct table_loader *l)
{
	struct memory_table *m = memory_new(false);
	struct table_source s = { 0 };
	unsigned before = l->errors;

	if (table_source_file(&s, path, l))
		table_read_entries(&s, l, FORMAT_GUESS, DUPLICATE_WARN, false,
		    m);
	table_source_free(&s);
	if (l->errors == before)
		return m;
	memory_release(m);
	return NULL;
}

enum table_ready
table_refresh(const char *path, struct table_loader *l,
    struct memory_table **ret_memory)
{
	const struct table_style style = { .no_nul = false };
	struct refresh r = { .path = path };
	unsigned before = l->errors;
	struct memory_table *m;
	const char *why;
	bool stale;
	int rc;

	refresh_look(&r);
	stale = refresh_stale(&r);
	why = refresh_obstacle(&r, stale);
	if (!r.has_text && (!r.has_index || why != NULL)) {
		table_complain(l, 0, true, "%s", !r.has_index ?
		    strerror(ENOENT) : why);
		return TABLE_READY_FAILED;
	}
	if (!stale && why == NULL)
		return TABLE_READY_INDEX;
	m = refresh_read(path, l);
	if (m == NULL || (stale && why == NULL && !index_keys_fit(m, l))) {
		if (m != NULL)
			memory_release(m);
		if (!r.has_index || !table_trusted(&r.index) || check_only)
			return TABLE_READY_FAILED;
		/* Reported as errors, but the old table stays. */
		l->errors = before;
		table_complain(l, 0, false, "the table as it was before "
		    "stays in force");
		return TABLE_READY_INDEX;
	}
	if (!check_only && why == NULL) {
		if (index_write(path, m, &style, &r.text, &rc)) {
			memory_release(m);
			return TABLE_READY_INDEX;
		}
		why = mdb_strerror(rc);
	}
	if (!check_only)
		table_complain(l, 0, false, "%s%s cannot be used or built: "
		    "%s; the text is read into memory", path,
		    TABLE_INDEX_SUFFIX, why);
	*ret_memory = m;
	return TABLE_READY_TEXT;
}

bool
table_rebuild(const char *file)
{
	const struct table_style style = { .no_nul = false };
	struct table_loader l = { .origin = file };
	struct refresh r = { .path = file };
	struct memory_table *m;
	bool done = false;
	int why;

	refresh_look(&r);
	if (!refresh_stale(&r) || refresh_obstacle(&r, true) != NULL)
		return false;
	m = refresh_read(file, &l);
	if (m == NULL)
		return false;
	done = index_keys_fit(m, &l) &&
	    index_write(file, m, &style, &r.text, &why);
	memory_release(m);
	return done;
}
