#include <stdlib.h>

#include "lib/conf.h"
#include "lib/lmdb_file.h"
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
	struct lmdb_file file;
	struct change *list;
	size_t n, cap;
	bool writing;
	bool complained;
	struct event timer;
	bool timer_made;
	uint64_t lost;
};

/* -- opening --------------------------------------------------------------- */

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

struct verify_store *
verify_store_open(const char *spec,
    void (*each)(struct view addr, const struct verify_fact *f))
{
	struct view v = lmdb_file_spec(spec);
	struct reader r = { each };
	struct verify_store *s;
	char *path;
	bool ok;

	if (v.n == 0)
		return NULL;
	if (v.p[0] != '/') {
		log_warn("address_verify_map: need lmdb:/path, not %s; what "
		    "is known of addresses is in memory only", spec);
		return NULL;
	}
	s = mem_alloc(sizeof *s);
	path = mem_printf("%.*s.lmdb", VIEW_ARGS(v));
	ok = lmdb_file_open(&s->file, path, MAP_BYTES,
	    "what is known of addresses", store_read, &r);
	free(path);
	if (ok)
		return s;
	free(s);
	return NULL;
}

/* -- writing --------------------------------------------------------------- */

static int
batch_write(struct batch *b)
{
	MDB_txn *txn;
	MDB_val k, v;
	size_t i;
	int rc;

	rc = lmdb_file_begin(&b->store->file, &txn);
	if (rc != 0)
		return rc;
	for (i = 0; i < b->n && rc == 0; i++) {
		k = (MDB_val){ b->list[i].n_key, b->list[i].key };
		if (b->list[i].value == NULL) {
			rc = mdb_del(txn, b->store->file.dbi, &k, NULL);
			if (rc == MDB_NOTFOUND)
				rc = 0;
			continue;
		}
		v = (MDB_val){ strlen(b->list[i].value), b->list[i].value };
		rc = mdb_put(txn, b->store->file.dbi, &k, &v, 0);
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
			    "stored", s->file.path, mdb_strerror(b->rc));
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
