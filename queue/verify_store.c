#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/conf.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "queue/spool_pool.h"
#include "queue/verify_store.h"

#define MAP_BYTES	(UINT64_C(128) << 20)
#define KEY_BYTES	511u
#define PENDING_MAX	10000u	/* changes, while the disk is slow */
#define COLLECT_MS	1000

enum stored_status { STORED_OK = 0, STORED_BOUNCE = 2 };

struct change {
	char *key;
	size_t n_key;
	char *value;		/* NULL: remove */
};

struct batch {
	struct pool_job job;	/* first */
	struct verify_store *store;
	struct change *list;
	size_t n;
	int rc;
};

struct verify_store {
	MDB_env *env;
	MDB_dbi dbi;
	char *path;
	off_t size;		/* the largest seen; it never shrinks */
	struct change *list;
	size_t n, cap;
	bool writing;
	bool complained;
	struct event timer;
	bool timer_made;
	uint64_t lost;
};

/* -- opening --------------------------------------------------------------- */

/* An MDB_ or errno number; 0: *ret_env and *ret_dbi. */
static int
store_open_env(const char *path, MDB_env **ret_env, MDB_dbi *ret_dbi)
{
	MDB_env *env = NULL;
	MDB_txn *txn = NULL;
	int rc = mdb_env_create(&env);

	if (rc == 0)
		rc = mdb_env_set_mapsize(env, MAP_BYTES);
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
store_walk(MDB_env *env, MDB_dbi dbi,
    void (*each)(struct view key, struct view value, void *arg), void *arg)
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
store_touch(struct view key, struct view value, void *arg)
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
store_try(const char *path)
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
	rc = store_open_env(path, &env, &dbi);
	if (rc == 0)
		rc = store_walk(env, dbi, store_touch, &sum);
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
store_sound(const char *path)
{
	struct stat st;
	int status;
	pid_t pid;

	if (stat(path, &st) != 0)
		return true;
	pid = fork();
	if (pid == 0)
		store_try(path);
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	/* An errno (no permission, no room) comes again, and is told then. */
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) != 1;
}

static void
store_put_aside(const char *path)
{
	char *aside = mem_printf("%s.damaged", path);
	char *lock = mem_printf("%s-lock", path);

	log_warn("%s is damaged; it is now %s, and what is known of "
	    "addresses begins anew", path, aside);
	if (rename(path, aside) != 0)
		log_warn("cannot rename %s: %s", path, strerror(errno));
	(void)unlink(lock);
	free(aside);
	free(lock);
}

/* We may be root: nobody else may choose what file that name is. */
static bool
store_safe_place(const char *path)
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

struct reader {
	void (*each)(struct view addr, const struct verify_fact *f);
};

static struct view
store_text(struct view v)
{
	while (v.n > 0 && v.p[v.n - 1] == '\0')
		v.n--;
	return v;
}

static bool
store_field(struct view *rest, int64_t max, int64_t *ret)
{
	size_t n = view_find(*rest, ':');
	bool ok = n < rest->n && conf_parse_int(view_head(*rest, n), 0, max,
	    ret);

	*rest = view_from(*rest, n + 1);
	return ok;
}

static void
store_read(struct view key, struct view value, void *arg)
{
	const struct reader *r = arg;
	struct verify_fact f = { 0 };
	int64_t status, probed;

	key = store_text(key);
	value = store_text(value);
	if (view_find(key, '@') == key.n ||
	    !store_field(&value, 9, &status) ||
	    !store_field(&value, INT64_MAX, &probed) ||
	    !store_field(&value, INT64_MAX, &f.checked) ||
	    (status != STORED_OK && status != STORED_BOUNCE))
		return;
	f.deliverable = status == STORED_OK;
	if (!f.deliverable)
		f.text = value;
	r->each(key, &f);
}

/* "btree:" and the others are LMDB files here, as tables of these types. */
static struct view
store_path(const char *spec)
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

struct verify_store *
verify_store_open(const char *spec,
    void (*each)(struct view addr, const struct verify_fact *f))
{
	struct view v = store_path(spec);
	struct reader r = { each };
	struct verify_store *s;
	int rc;

	if (v.n == 0)
		return NULL;
	if (v.p[0] != '/') {
		log_warn("address_verify_map: need lmdb:/path, not %s; what "
		    "is known of addresses is in memory only", spec);
		return NULL;
	}
	s = mem_alloc(sizeof *s);
	s->path = mem_printf("%.*s.lmdb", VIEW_ARGS(v));
	rc = store_safe_place(s->path) ? 0 : EPERM;
	if (rc == 0 && !store_sound(s->path))
		store_put_aside(s->path);
	if (rc == 0)
		rc = store_open_env(s->path, &s->env, &s->dbi);
	if (rc == 0)
		rc = store_walk(s->env, s->dbi, store_read, &r);
	if (rc == 0)
		return s;
	log_warn("%s cannot be used: %s; what is known of addresses is in "
	    "memory only", s->path, mdb_strerror(rc));
	if (s->env != NULL)
		mdb_env_close(s->env);
	free(s->path);
	free(s);
	return NULL;
}

/* -- writing --------------------------------------------------------------- */

/* A file that was cut off must not be touched: the kernel would end us. */
static bool
store_whole(struct verify_store *s)
{
	struct stat st;
	int fd;

	if (mdb_env_get_fd(s->env, &fd) != 0 || fstat(fd, &st) != 0 ||
	    st.st_size < s->size)
		return false;
	s->size = st.st_size;
	return true;
}

static int
batch_write(struct batch *b)
{
	MDB_txn *txn;
	MDB_val k, v;
	size_t i;
	int rc;

	if (!store_whole(b->store))
		return MDB_CORRUPTED;
	rc = mdb_txn_begin(b->store->env, NULL, 0, &txn);
	if (rc != 0)
		return rc;
	for (i = 0; i < b->n && rc == 0; i++) {
		k = (MDB_val){ b->list[i].n_key, b->list[i].key };
		if (b->list[i].value == NULL) {
			rc = mdb_del(txn, b->store->dbi, &k, NULL);
			if (rc == MDB_NOTFOUND)
				rc = 0;
			continue;
		}
		v = (MDB_val){ strlen(b->list[i].value), b->list[i].value };
		rc = mdb_put(txn, b->store->dbi, &k, &v, 0);
	}
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

/* In a thread of the pool; the store's environment is used nowhere else. */
static void
batch_work(struct pool_job *j)
{
	struct batch *b = (struct batch *)j;

	b->rc = batch_write(b);
}

static void
changes_free(struct change *list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		free(list[i].key);
		free(list[i].value);
	}
	free(list);
}

static void
batch_done(struct pool_job *j)
{
	struct batch *b = (struct batch *)j;
	struct verify_store *s = b->store;

	s->writing = false;
	if (b->rc != 0) {
		s->lost += b->n;
		if (!s->complained)
			log_warn("%s: %s; what is known of addresses is not "
			    "stored", s->path, mdb_strerror(b->rc));
		s->complained = true;
	} else {
		s->complained = false;
	}
	changes_free(b->list, b->n);
	free(b);
	if (s->n > 0)
		event_add(&s->timer, loop_timeout(COLLECT_MS));
}

void
verify_store_flush(struct verify_store *s)
{
	struct batch *b;

	if (s == NULL || s->writing || s->n == 0)
		return;
	b = mem_alloc(sizeof *b);
	b->job = (struct pool_job){ .work = batch_work, .done = batch_done };
	b->store = s;
	b->list = s->list;
	b->n = s->n;
	s->list = NULL;
	s->n = s->cap = 0;
	s->writing = true;
	event_del(&s->timer);
	pool_submit(&b->job);
}

static void
store_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	verify_store_flush(arg);
}

/* The form of a value; NULL: remove. */
static char *
store_value(const struct verify_fact *f)
{
	char *text, *p;

	if (f == NULL)
		return NULL;
	text = mem_printf("%d:%lld:%lld:%.*s", f->deliverable ? STORED_OK :
	    STORED_BOUNCE, (long long)f->checked, (long long)f->checked,
	    VIEW_ARGS(view_head(f->text, VERIFY_TEXT_MAX)));
	for (p = text; *p != '\0'; p++)
		if (*p == '\n')
			*p = ' ';
	return text;
}

void
verify_store_put(struct verify_store *s, struct view addr,
    const struct verify_fact *f)
{
	if (s == NULL || addr.n == 0 || addr.n > KEY_BYTES)
		return;
	if (s->n == PENDING_MAX) {
		s->lost++;
		return;
	}
	if (s->n == s->cap) {
		s->cap = s->cap * 2 + 64;
		s->list = mem_resize(s->list, s->cap, sizeof *s->list);
	}
	s->list[s->n++] = (struct change){ mem_copy(addr), addr.n,
		store_value(f) };
	if (!s->timer_made)
		evtimer_assign(&s->timer, loop_base(), store_due, s);
	s->timer_made = true;
	if (!s->writing && !evtimer_pending(&s->timer, NULL))
		event_add(&s->timer, loop_timeout(COLLECT_MS));
}

uint64_t
verify_store_lost(const struct verify_store *s)
{
	return s != NULL ? s->lost : 0;
}
