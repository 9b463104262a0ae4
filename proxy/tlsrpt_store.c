#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "lib/lmdb_file.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/tlsrpt_store.h"

#define MAP_BYTES	(UINT64_C(512) << 20)
#define STORE_BYTES	(UINT64_C(128) << 20)
#define STORE_PENDING	4096u
#define SLOTS		1024u
#define COLLECT_MS	1000
#define KEY_MAX		(TLSRPT_DOMAIN_MAX + 40u)

struct pending {
	TAILQ_ENTRY(pending) link;
	struct pending *hash_next;
	struct tlsrpt_key key;
	struct tlsrpt_tally *tally;
};

static struct {
	struct lmdb_file file;
	bool open, complained;
	uint64_t limit;		/* of records */
	uint64_t bytes, dropped;
	TAILQ_HEAD(, pending) pending;
	struct pending *slot[SLOTS];
	size_t n_pending;
	struct event timer;
} store = { .pending = TAILQ_HEAD_INITIALIZER(store.pending) };

/* -- keys ------------------------------------------------------------------ */

/* "00020779 example.com", and a closed one's " 1795391999". */
static MDB_val
key_put(const struct tlsrpt_key *k, char space[KEY_MAX])
{
	int n = k->until == 0 ?
	    snprintf(space, KEY_MAX, "%08lld %s", (long long)k->day,
	    k->domain) :
	    snprintf(space, KEY_MAX, "%08lld %s %lld", (long long)k->day,
	    k->domain, (long long)k->until);

	ensure(n > 0 && (size_t)n < KEY_MAX);
	return (MDB_val){ (size_t)n, space };
}

static bool
number_get(struct view v, int64_t *ret)
{
	size_t i;

	*ret = 0;
	for (i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
		*ret = *ret * 10 + (v.p[i] - '0');
	}
	return v.n > 0 && v.n < 13;
}

static bool
key_get(struct view v, struct tlsrpt_key *ret)
{
	struct view rest = v, day = view_word(&rest, " ");
	struct view domain = view_word(&rest, " "), until;

	until = view_word(&rest, " ");
	*ret = (struct tlsrpt_key){ .day = 0 };
	if (!number_get(day, &ret->day) || domain.n == 0 ||
	    domain.n > TLSRPT_DOMAIN_MAX || rest.n > 0 ||
	    (until.n > 0 && !number_get(until, &ret->until)))
		return false;
	memcpy(ret->domain, domain.p, domain.n);
	return true;
}

/* -- one record, in a transaction ------------------------------------------ */

/* NULL: there is none, or it is damaged. */
static struct tlsrpt_tally *
record_get(MDB_txn *txn, const struct tlsrpt_key *key)
{
	char space[KEY_MAX];
	MDB_val k = key_put(key, space), v;

	if (mdb_get(txn, store.file.dbi, &k, &v) != 0)
		return NULL;
	return tlsrpt_tally_get(view_make(v.mv_data, v.mv_size));
}

static int
record_del(MDB_txn *txn, const struct tlsrpt_key *key)
{
	char space[KEY_MAX];
	MDB_val k = key_put(key, space), v;
	int rc;

	if (mdb_get(txn, store.file.dbi, &k, &v) == 0)
		store.bytes -= v.mv_size < store.bytes ? v.mv_size :
		    store.bytes;
	rc = mdb_del(txn, store.file.dbi, &k, NULL);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* What is there already is added to it. */
static int
record_add(MDB_txn *txn, const struct tlsrpt_key *key,
    const struct tlsrpt_tally *t)
{
	struct tlsrpt_tally *was = record_get(txn, key);
	char space[KEY_MAX];
	MDB_val k, v;
	struct buf b;
	int rc;

	if (was != NULL)
		tlsrpt_tally_merge(was, t);
	rc = record_del(txn, key);
	buf_init(&b, TLSRPT_TALLY_MAX);
	tlsrpt_tally_put(&b, was != NULL ? was : t);
	k = key_put(key, space);
	v = (MDB_val){ b.n, b.p };
	if (rc == 0)
		rc = mdb_put(txn, store.file.dbi, &k, &v, 0);
	if (rc == 0)
		store.bytes += b.n;
	buf_free(&b);
	tlsrpt_tally_free(&was);
	return rc;
}

/* The oldest go when there are too many. */
static int
store_make_room(MDB_txn *txn, uint64_t *ret_dropped)
{
	MDB_cursor *c;
	MDB_stat st;
	MDB_val k, v;
	int rc = mdb_stat(txn, store.file.dbi, &st);
	uint64_t n = st.ms_entries;

	*ret_dropped = 0;
	if (rc != 0 || (n <= store.limit && store.bytes <= STORE_BYTES))
		return rc;
	rc = mdb_cursor_open(txn, store.file.dbi, &c);
	if (rc != 0)
		return rc;
	while (rc == 0 && (n > store.limit || store.bytes > STORE_BYTES) &&
	    (rc = mdb_cursor_get(c, &k, &v, MDB_FIRST)) == 0) {
		store.bytes -= v.mv_size < store.bytes ? v.mv_size :
		    store.bytes;
		rc = mdb_cursor_del(c, 0);
		n--;
		++*ret_dropped;
	}
	mdb_cursor_close(c);
	return rc == MDB_NOTFOUND ? 0 : rc;
}

/* -- changes --------------------------------------------------------------- */

/* End a transaction; what was counted of bytes counts if it is committed. */
static bool
store_end(MDB_txn *txn, int rc, uint64_t bytes_before)
{
	if (rc == 0)
		rc = mdb_txn_commit(txn);
	else if (txn != NULL)
		mdb_txn_abort(txn);
	if (rc != 0)
		store.bytes = bytes_before;
	if (rc != 0 && !store.complained)
		log_warn("%s: %s; results for TLS reports are not stored",
		    store.file.path, mdb_strerror(rc));
	store.complained = rc != 0;
	return rc == 0;
}

static void
pending_free(void)
{
	struct pending *p;

	while ((p = TAILQ_FIRST(&store.pending)) != NULL) {
		TAILQ_REMOVE(&store.pending, p, link);
		tlsrpt_tally_free(&p->tally);
		free(p);
	}
	memset(store.slot, 0, sizeof store.slot);
	store.n_pending = 0;
}

static void
store_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	tlsrpt_store_flush();
}

static void
store_schedule(void)
{
	evtimer_assign(&store.timer, loop_base(), store_due, NULL);
	event_add(&store.timer, loop_timeout(COLLECT_MS));
}

void
tlsrpt_store_flush(void)
{
	uint64_t before = store.bytes, dropped = 0;
	struct pending *p;
	MDB_txn *txn = NULL;
	int rc;

	if (store.n_pending == 0)
		return;
	event_del(&store.timer);
	rc = lmdb_file_begin(&store.file, &txn);
	if (rc != 0)
		txn = NULL;
	TAILQ_FOREACH(p, &store.pending, link)
		if (rc == 0)
			rc = record_add(txn, &p->key, p->tally);
	if (rc == 0)
		rc = store_make_room(txn, &dropped);
	if (!store_end(txn, rc, before)) {
		store_schedule();
		return;
	}
	if (dropped > 0)
		log_warn("TLSRPT: there are results of too many domains: the "
		    "oldest %llu are dropped", (unsigned long long)dropped);
	store.dropped += dropped;
	pending_free();
}

static struct pending **
pending_slot(const struct tlsrpt_key *k)
{
	struct pending **p = &store.slot[XXH3_64bits(k->domain,
	    strlen(k->domain)) % SLOTS];

	while (*p != NULL && ((*p)->key.day != k->day ||
	    strcmp((*p)->key.domain, k->domain) != 0))
		p = &(*p)->hash_next;
	return p;
}

static struct pending *
pending_make(const struct tlsrpt_key *k)
{
	struct pending *p;

	if (store.n_pending == STORE_PENDING && !store.complained)
		tlsrpt_store_flush();
	if (store.n_pending == STORE_PENDING) {
		if (store.dropped++ == 0)
			log_warn("TLSRPT: results are dropped: there are too "
			    "many that cannot be stored");
		return NULL;
	}
	if (store.n_pending == 0)
		store_schedule();
	p = mem_alloc(sizeof *p);
	p->key = *k;
	p->tally = tlsrpt_tally_new(k->day * TLSRPT_DAY);
	TAILQ_INSERT_TAIL(&store.pending, p, link);
	*pending_slot(k) = p;
	store.n_pending++;
	return p;
}

void
tlsrpt_store_add(const struct tlsrpt_event *e)
{
	struct tlsrpt_key k = { .day = clock_wall().us / 1000000 /
		TLSRPT_DAY };
	struct pending *p;

	if (!store.open)
		return;
	memcpy(k.domain, e->domain.p, e->domain.n);
	p = *pending_slot(&k);
	if (p == NULL)
		p = pending_make(&k);
	if (p != NULL)
		tlsrpt_tally_add(p->tally, e);
}

bool
tlsrpt_store_close(struct tlsrpt_key *k, int64_t until)
{
	struct tlsrpt_key closed = *k;
	struct tlsrpt_tally *t, *rest = tlsrpt_tally_new(until + 1);
	uint64_t before = store.bytes;
	MDB_txn *txn;
	bool empty = true, ok;
	int rc = lmdb_file_begin(&store.file, &txn);

	closed.until = until;
	if (rc != 0) {
		tlsrpt_tally_free(&rest);
		return store_end(NULL, rc, before);
	}
	t = record_get(txn, k);
	empty = t == NULL || t->n_policies == 0 || t->since > until;
	rc = record_del(txn, k);
	if (rc == 0 && !empty)
		rc = record_add(txn, &closed, t);
	if (rc == 0 && (until + 1) / TLSRPT_DAY == k->day)
		rc = record_add(txn, k, t != NULL && t->since > until ? t :
		    rest);
	ok = store_end(txn, rc, before) && !empty;
	tlsrpt_tally_free(&t);
	tlsrpt_tally_free(&rest);
	k->until = until;
	return ok;
}

void
tlsrpt_store_remove(const struct tlsrpt_key *k)
{
	uint64_t before = store.bytes;
	MDB_txn *txn = NULL;
	int rc = lmdb_file_begin(&store.file, &txn);

	if (rc == 0)
		rc = record_del(txn, k);
	else
		txn = NULL;
	(void)store_end(txn, rc, before);
}

/* -- reading --------------------------------------------------------------- */

void
tlsrpt_store_each(tlsrpt_store_each_fn *each, void *arg)
{
	struct tlsrpt_key key;
	MDB_cursor *c;
	MDB_txn *txn;
	MDB_val k, v;

	/* A reader of its own would need a place in LMDB's table. */
	if (!store.open || lmdb_file_begin(&store.file, &txn) != 0)
		return;
	if (mdb_cursor_open(txn, store.file.dbi, &c) == 0) {
		while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0)
			if (key_get(view_make(k.mv_data, k.mv_size), &key))
				each(&key, view_make(v.mv_data, v.mv_size),
				    arg);
		mdb_cursor_close(c);
	}
	mdb_txn_abort(txn);
}

struct tlsrpt_tally *
tlsrpt_store_read(const struct tlsrpt_key *k)
{
	struct tlsrpt_tally *t;
	MDB_txn *txn;

	if (!store.open || lmdb_file_begin(&store.file, &txn) != 0)
		return NULL;
	t = record_get(txn, k);
	mdb_txn_abort(txn);
	return t;
}

uint64_t
tlsrpt_store_dropped(void)
{
	return store.dropped;
}

static void
store_found(struct view key, struct view value, void *arg)
{
	(void)key;
	(void)arg;
	store.bytes += value.n;
}

void
tlsrpt_store_load(const struct conf *cf)
{
	struct view spec = lmdb_file_spec(cf->smtp_tlsrpt_map);
	char *path;

	store.limit = (uint64_t)cf->smtp_tlsrpt_domain_limit;
	if (spec.n == 0 || spec.p[0] != '/') {
		log_warn("smtp_tlsrpt_map: need lmdb:/path, not \"%s\"; no TLS "
		    "reports are made", cf->smtp_tlsrpt_map);
		return;
	}
	path = mem_printf("%.*s.lmdb", VIEW_ARGS(spec));
	store.open = lmdb_file_open(&store.file, path, MAP_BYTES,
	    "what is counted for TLS reports", store_found, NULL);
	if (!store.open)
		log_warn("no TLS reports are made");
	free(path);
}
