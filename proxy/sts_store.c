#include <stdlib.h>

#include "lib/address.h"
#include "lib/lmdb_file.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/sts_store.h"

#define MAP_BYTES	(UINT64_C(128) << 20)
#define FORM		1u	/* of a value */
#define COLLECT_MS	1000
#define PENDING_MAX	1000u	/* changes; then they are written */

struct change {
	char *domain;
	struct buf value;	/* empty: remove */
};

/* What is in the file and not of use. */
struct stale {
	char *list[PENDING_MAX];
	size_t n;
};

static struct {
	struct lmdb_file file;
	bool open, complained;
	struct change list[PENDING_MAX];
	size_t n;
	struct event timer;
	struct loop_work soon;
	struct mono written;
	int64_t now;		/* while it is read */
} store;

/* u8 form, u64 fetched, expires, used, view id, view policy */
static bool
store_take(struct view key, struct view value)
{
	struct cursor c = cursor_of(value);
	uint8_t form = cursor_u8(&c);
	int64_t fetched = (int64_t)cursor_u64(&c);
	int64_t expires = (int64_t)cursor_u64(&c);
	int64_t used = (int64_t)cursor_u64(&c);
	struct view id = cursor_view(&c), text = cursor_view(&c);
	struct sts_policy p;
	struct sts_entry *e;
	const char *why;

	/* Too far ahead: the clock was set back, or who knows. */
	if (!cursor_done(&c) || form != FORM || id.n > STS_ID_MAX ||
	    key.n == 0 || key.n >= STS_DOMAIN_LONGEST ||
	    expires <= store.now || expires > store.now + STS_AGE_MAX ||
	    expires < fetched || fetched < 0 || used < 0 ||
	    !address_valid_hostname(key) || sts_cache_find(key) != NULL ||
	    !sts_policy_read(text, &p, &why) ||
	    (e = sts_cache_make(key)) == NULL)
		return false;
	e->fetched = fetched;
	e->expires = expires;
	e->used = used;
	memcpy(e->id, id.p, id.n);
	sts_cache_policy(e, &p);
	return true;
}

static void
store_read(struct view key, struct view value, void *arg)
{
	struct stale *s = arg;

	if (!store_take(key, value) && s->n < PENDING_MAX)
		s->list[s->n++] = mem_copy(key);
}

static int
store_write(void)
{
	MDB_txn *txn;
	MDB_val k, v;
	size_t i;
	int rc = lmdb_file_begin(&store.file, &txn);

	if (rc != 0)
		return rc;
	for (i = 0; i < store.n && rc == 0; i++) {
		k = (MDB_val){ strlen(store.list[i].domain),
			store.list[i].domain };
		v = (MDB_val){ store.list[i].value.n, store.list[i].value.p };
		if (v.mv_size > 0)
			rc = mdb_put(txn, store.file.dbi, &k, &v, 0);
		else if ((rc = mdb_del(txn, store.file.dbi, &k, NULL)) ==
		    MDB_NOTFOUND)
			rc = 0;
	}
	if (rc == 0)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	return rc;
}

void
sts_store_flush(void)
{
	size_t i;
	int rc;

	if (store.n == 0)
		return;
	event_del(&store.timer);
	loop_forget(&store.soon);
	store.written = clock_mono();
	rc = store_write();
	if (rc != 0 && !store.complained)
		log_warn("%s: %s; MTA-STS policies are not stored",
		    store.file.path, mdb_strerror(rc));
	store.complained = rc != 0;
	for (i = 0; i < store.n; i++) {
		free(store.list[i].domain);
		buf_free(&store.list[i].value);
	}
	store.n = 0;
}

static void
store_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	sts_store_flush();
}

static void
store_soon(void *arg)
{
	(void)arg;
	sts_store_flush();
}

/* The first change is written at once, those that follow are collected. */
static void
store_schedule(void)
{
	int64_t ms = mono_since(store.written, clock_mono()) / 1000;

	store.soon.fn = store_soon;
	evtimer_assign(&store.timer, loop_base(), store_due, NULL);
	if (ms >= COLLECT_MS)
		loop_soon(&store.soon);
	else
		event_add(&store.timer, loop_timeout(COLLECT_MS));
}

/* Where the new value of its record goes. */
static struct buf *
store_change(const char *domain)
{
	struct change *c;

	if (store.n == PENDING_MAX)
		sts_store_flush();
	if (store.n == 0)
		store_schedule();
	c = &store.list[store.n++];
	c->domain = mem_strdup(domain);
	buf_init(&c->value, 3 * STS_TEXT_MAX);
	return &c->value;
}

void
sts_store_put(const struct sts_entry *e)
{
	struct buf *b;

	if (!store.open)
		return;
	b = store_change(e->domain);
	(void)put_u8(b, FORM);
	(void)put_u64(b, (uint64_t)e->fetched);
	(void)put_u64(b, (uint64_t)e->expires);
	(void)put_u64(b, (uint64_t)e->used);
	(void)put_view(b, view_of(e->id));
	(void)put_view(b, view_of(e->policy));
}

void
sts_store_drop(const char *domain)
{
	if (store.open)
		(void)store_change(domain);
}

void
sts_store_load(const struct conf *cf)
{
	struct view spec = lmdb_file_spec(cf->smtp_tls_sts_cache_map);
	struct stale *s;
	char *path;
	size_t i;

	if (spec.n == 0)
		return;
	if (spec.p[0] != '/') {
		log_warn("smtp_tls_sts_cache_map: need lmdb:/path, not %s; "
		    "MTA-STS policies are in memory only",
		    cf->smtp_tls_sts_cache_map);
		return;
	}
	path = mem_printf("%.*s.lmdb", VIEW_ARGS(spec));
	store.now = clock_wall().us / 1000000;
	s = mem_alloc(sizeof *s);
	store.open = lmdb_file_open(&store.file, path, MAP_BYTES,
	    "what is known of MTA-STS policies", store_read, s);
	for (i = 0; i < s->n; i++) {
		sts_store_drop(s->list[i]);
		free(s->list[i]);
	}
	free(s);
	free(path);
}
