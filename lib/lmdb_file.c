#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/lmdb_file.h"
#include "lib/log.h"
#include "lib/mem.h"

/* An MDB_ or errno number; 0: *ret_env and *ret_dbi. */
static int
file_open_env(const char *path, uint64_t map_bytes, MDB_env **ret_env,
    MDB_dbi *ret_dbi)
{
	MDB_env *env = NULL;
	MDB_txn *txn = NULL;
	int rc = mdb_env_create(&env);

	if (rc == 0)
		rc = mdb_env_set_mapsize(env, map_bytes);
	if (rc == 0)
		rc = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOMETASYNC,
		    0600);
	if (rc == 0)
		rc = mdb_txn_begin(env, NULL, 0, &txn);
	if (rc == 0) {
		rc = mdb_dbi_open(txn, NULL, 0, ret_dbi);
		if (rc == 0)
			rc = mdb_txn_commit(txn);
		else
			mdb_txn_abort(txn);
	}
	if (rc == 0)
		*ret_env = env;
	else if (env != NULL)
		mdb_env_close(env);
	return rc;
}

/* Call each (or nobody) for all records. */
static int
file_walk(MDB_env *env, MDB_dbi dbi, lmdb_file_each *each, void *arg)
{
	MDB_cursor *c = NULL;
	MDB_txn *txn = NULL;
	MDB_val k, v;
	int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);

	if (rc != 0)
		return rc;
	rc = mdb_cursor_open(txn, dbi, &c);
	while (rc == 0 && (rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0)
		each(view_make(k.mv_data, k.mv_size),
		    view_make(v.mv_data, v.mv_size), arg);
	if (c != NULL)
		mdb_cursor_close(c);
	mdb_txn_abort(txn);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

static void
file_touch(struct view key, struct view value, void *arg)
{
	unsigned char *sum = arg;
	size_t i;

	for (i = 0; i < key.n; i++)
		*sum ^= (unsigned char)key.p[i];
	for (i = 0; i < value.n; i++)
		*sum ^= (unsigned char)value.p[i];
}

/* In a process of its own: read all, change something. */
static void __attribute__((noreturn))
file_try(const char *path, uint64_t map_bytes)
{
	static const int fatal_signals[] = { SIGSEGV, SIGBUS, SIGABRT,
		SIGFPE };
	MDB_val k = { 9, (void *)(uintptr_t)"_checked_" }, v = { 0, NULL };
	const struct sigaction usual = { .sa_handler = SIG_DFL };
	volatile unsigned char keep;
	unsigned char sum = 0;
	MDB_env *env;
	MDB_dbi dbi;
	MDB_txn *txn;
	size_t i;
	int rc, null = open("/dev/null", O_WRONLY);

	for (i = 0; i < sizeof fatal_signals / sizeof fatal_signals[0]; i++)
		(void)sigaction(fatal_signals[i], &usual, NULL);
	/* LMDB's own words on what it finds. */
	if (null >= 0)
		(void)dup2(null, STDERR_FILENO);
	rc = file_open_env(path, map_bytes, &env, &dbi);
	if (rc == 0)
		rc = file_walk(env, dbi, file_touch, &sum);
	keep = sum;
	(void)keep;
	if (rc == 0)
		rc = mdb_txn_begin(env, NULL, 0, &txn);
	if (rc == 0)
		rc = mdb_put(txn, dbi, &k, &v, 0);
	if (rc == 0)
		rc = mdb_txn_commit(txn);
	/* A full file is not a damaged one. */
	_exit(rc == 0 || rc == MDB_MAP_FULL ? 0 : rc > 0 ? 2 : 1);
}

/* False: it is damaged. */
static bool
file_sound(const char *path, uint64_t map_bytes)
{
	struct stat st;
	int status;
	pid_t pid;

	if (stat(path, &st) != 0)
		return true;
	pid = fork();
	if (pid == 0)
		file_try(path, map_bytes);
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	/* An errno (no permission, no room) comes again, and is told then. */
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) != 1;
}

static void
file_put_aside(const char *path, const char *what)
{
	char *aside = mem_printf("%s.damaged", path);
	char *lock = mem_printf("%s-lock", path);

	log_warn("%s is damaged; it is now %s, and %s begins anew", path,
	    aside, what);
	if (rename(path, aside) != 0)
		log_warn("cannot rename %s: %s", path, strerror(errno));
	(void)unlink(lock);
	free(aside);
	free(lock);
}

/* We may be root: nobody else may choose what file that name is. */
static bool
file_safe_place(const char *path)
{
	char *dir = mem_strdup(path);
	struct stat st;
	bool ok;

	/* "/x.lmdb" is in "/". */
	strrchr(dir, '/')[strrchr(dir, '/') == dir] = '\0';
	ok = stat(dir, &st) == 0 && (st.st_uid == 0 ||
	    st.st_uid == geteuid()) && (st.st_mode & 022) == 0;
	free(dir);
	return ok;
}

bool
lmdb_file_open(struct lmdb_file *f, const char *path, uint64_t map_bytes,
    const char *what, lmdb_file_each *each, void *arg)
{
	struct lmdb_file opened = { .size = 0 };
	int rc = file_safe_place(path) ? 0 : EPERM;

	if (rc == 0 && !file_sound(path, map_bytes))
		file_put_aside(path, what);
	if (rc == 0)
		rc = file_open_env(path, map_bytes, &opened.env, &opened.dbi);
	if (rc == 0)
		rc = file_walk(opened.env, opened.dbi, each, arg);
	if (rc == 0) {
		opened.path = mem_strdup(path);
		*f = opened;
		return true;
	}
	log_warn("%s cannot be used: %s; %s is in memory only", path,
	    mdb_strerror(rc), what);
	if (opened.env != NULL)
		mdb_env_close(opened.env);
	return false;
}

/* A file that was cut off must not be touched: the kernel would end us. */
static bool
file_whole(struct lmdb_file *f)
{
	struct stat st;
	int fd;

	if (mdb_env_get_fd(f->env, &fd) != 0 || fstat(fd, &st) != 0 ||
	    st.st_size < f->size)
		return false;
	f->size = st.st_size;
	return true;
}

int
lmdb_file_begin(struct lmdb_file *f, MDB_txn **ret)
{
	if (!file_whole(f))
		return MDB_CORRUPTED;
	return mdb_txn_begin(f->env, NULL, 0, ret);
}

/* "btree:" and the others are LMDB files here, as tables of these types. */
struct view
lmdb_file_spec(const char *spec)
{
	static const char *const types[] = { "lmdb", "hash", "btree", "dbm",
		"cdb", "sdbm" };
	struct view v = view_trim(view_of(spec)), type;
	size_t i;

	if (view_starts_nocase(v, "proxy:"))
		v = view_from(v, 6);
	type = view_head(v, view_find(v, ':'));
	for (i = 0; i < sizeof types / sizeof types[0]; i++)
		if (type.n < v.n && view_is(type, types[i]))
			return view_from(v, type.n + 1);
	return v;
}
