/*
 * A pass over the queue.  Messages move while it lasts: from memory to disk,
 * from one directory to another.  So it asks qmgr, looks through the
 * directories, and then does both again for what was in neither place when it
 * looked there; what was shown is remembered, and shown once.
 *
 * Files are read by the pool, some dozen in one job; a job holds what it found
 * until there is room for it.
 */
#include <errno.h>
#include <stdlib.h>

#include <pthread.h>

#include "lib/log.h"
#include "queue/showq.h"
#include "queue/spool_pool.h"

#define BATCH		64u
#define BATCHES		24u		/* under way, of one listing */
#define BATCH_BYTES	(1u << 20)	/* then it stops to be emptied */
#define WALK_STEP	512u		/* names in one turn of the loop */

enum list_phase { LIST_MEMORY = 0, LIST_FILES, LIST_MEMORY_AGAIN,
	LIST_FILES_AGAIN, LIST_DONE };

struct batch {
	struct pool_job job;
	struct batch *next;
	struct listing *l;
	struct queue_id id[BATCH];
	enum spool_place place[BATCH];
	bool gone[BATCH];
	unsigned n, at;			/* the next one to read */
	struct buf out;
};

struct listing {
	struct listing *next;
	struct list_def def;
	struct loop_work work;
	struct event turn;		/* go on in the next turn */
	bool stopped;
	enum list_phase phase;
	uint32_t tag;
	struct chan *asking;		/* NULL: no question is out */
	struct spool_walk *walk;
	enum spool_place place;
	struct batch *filling, *waiting;	/* not in the pool */
	unsigned running;
	uint64_t *seen;			/* open hash: id + 1, or with GONE */
	size_t n_seen, seen_size;
};

#define GONE	(UINT64_C(1) << 63)

static struct listing *listings;
static pthread_mutex_t router_lock = PTHREAD_MUTEX_INITIALIZER;

/* -- what was shown ------------------------------------------------------- */

static uint64_t *
seen_slot(const struct listing *l, uint64_t key)
{
	size_t i = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 20) &
	    (l->seen_size - 1);

	while (l->seen[i] != 0 && (l->seen[i] & ~GONE) != key)
		i = (i + 1) & (l->seen_size - 1);
	return &l->seen[i];
}

static void
seen_grow(struct listing *l)
{
	uint64_t *old = l->seen;
	size_t n = l->seen_size, i;

	l->seen_size = n > 0 ? n * 2 : 1024;
	l->seen = mem_array(l->seen_size, sizeof *l->seen);
	for (i = 0; i < n; i++)
		if (old[i] != 0)
			*seen_slot(l, old[i] & ~GONE) = old[i];
	free(old);
}

/* True if it was not there before. */
static bool
seen_add(struct listing *l, struct queue_id id)
{
	uint64_t key = (id.n + 1) & ~GONE, *slot;

	if (l->n_seen * 2 >= l->seen_size)
		seen_grow(l);
	slot = seen_slot(l, key);
	if (*slot == key)
		return false;
	if (*slot == 0)
		l->n_seen++;
	*slot = key;
	return true;
}

static void
seen_forget(struct listing *l, struct queue_id id)
{
	uint64_t *slot = seen_slot(l, (id.n + 1) & ~GONE);

	if (*slot != 0)
		*slot |= GONE;
}

/* -- one message ---------------------------------------------------------- */

/* May run in any thread.  False: it is garbage. */
static bool
entry_show(const struct list_def *def, struct queue_entry *e, struct buf *out)
{
	struct arena *a = arena_new(queue_entry_room(e));
	bool ok, hit = false;
	size_t at;

	ok = queue_entry_decode(e, a);
	if (ok && def->match.nexthop.n > 0) {
		pthread_mutex_lock(&router_lock);
		hit = match_entry(&def->match, e, showq.router, clock_wall());
		pthread_mutex_unlock(&router_lock);
	} else if (ok) {
		hit = match_entry(&def->match, e, NULL, clock_wall());
	}
	if (hit && frame_begin(out, REPLY_ENTRY, &at)) {
		if (queue_entry_put(out, e))
			frame_end(out, at);
		else
			out->n = at;
	}
	arena_free(&a);
	return ok;
}

/* -- files ---------------------------------------------------------------- */

static void
batch_work(struct pool_job *j)
{
	struct batch *b = (struct batch *)j;
	struct spool_file f;
	struct queue_entry e;
	struct buf bytes;
	struct wall next;
	int rc;

	buf_init(&bytes, SPOOL_TAIL_MAX + 2 * HISTORY_MAX);
	while (b->at < b->n && b->out.n < BATCH_BYTES) {
		rc = spool_peek(&showq.spool, b->id[b->at], b->place[b->at],
		    &bytes, &f, &next);
		if (rc == 0) {
			queue_entry_of_file(&e, &f, b->place[b->at], next);
			if (!entry_show(&b->l->def, &e, &b->out))
				rc = EBADMSG;
		}
		/* Not complete yet, moved, removed: it may be met again. */
		b->gone[b->at] = rc != 0;
		b->at++;
	}
	buf_free(&bytes);
}

static void
listing_free(struct listing *l)
{
	struct listing **p;
	struct batch *b;

	for (p = &listings; *p != l; p = &(*p)->next)
		;
	*p = l->next;
	if (l->filling != NULL) {
		l->filling->next = l->waiting;
		l->waiting = l->filling;
	}
	while ((b = l->waiting) != NULL) {
		l->waiting = b->next;
		buf_free(&b->out);
		free(b);
	}
	loop_forget(&l->work);
	event_del(&l->turn);
	spool_walk_free(&l->walk);
	free(l->seen);
	free(l);
}

static void
batch_done(struct pool_job *j)
{
	struct batch *b = (struct batch *)j;
	struct listing *l = b->l;
	unsigned i;

	l->running--;
	if (l->stopped) {
		buf_free(&b->out);
		free(b);
		if (l->running == 0)
			listing_free(l);
		return;
	}
	if (b->out.n > 0)
		l->def.found(buf_view(&b->out), l->def.arg);
	buf_free(&b->out);
	if (b->at < b->n) {
		b->next = l->waiting;
		l->waiting = b;
	} else {
		for (i = 0; i < b->n; i++)
			if (b->gone[i])
				seen_forget(l, b->id[i]);
		free(b);
	}
	loop_soon(&l->work);
}

static void
batch_submit(struct listing *l, struct batch *b)
{
	l->running++;
	b->job.work = batch_work;
	b->job.done = batch_done;
	pool_submit(&b->job);
}

static void
listing_name(struct queue_id id, enum spool_place place, void *arg)
{
	struct listing *l = arg;
	struct batch *b = l->filling;

	if (!seen_add(l, id))
		return;
	if (b == NULL) {
		b = l->filling = mem_alloc(sizeof *b);
		b->l = l;
		buf_init(&b->out, BATCH_BYTES + QUEUE_ENTRY_MAX);
	}
	b->id[b->n] = id;
	b->place[b->n] = place;
	if (++b->n < BATCH)
		return;
	l->filling = NULL;
	b->next = l->waiting;
	l->waiting = b;
}

/* The next names.  False: there are no more. */
static bool
listing_walk(struct listing *l)
{
	while (l->place <= PLACE_HOLD) {
		if (!match_place(&l->def.match, l->place)) {
			l->place++;
			continue;
		}
		if (l->walk == NULL)
			l->walk = spool_walk_new(&showq.spool, l->place);
		if (spool_walk_next(l->walk, WALK_STEP, listing_name, l))
			return true;
		spool_walk_free(&l->walk);
		l->place++;
	}
	if (l->filling != NULL) {
		l->filling->next = l->waiting;
		l->waiting = l->filling;
		l->filling = NULL;
	}
	return false;
}

static void
listing_submit(struct listing *l)
{
	struct batch *b;

	while (l->waiting != NULL && l->running < BATCHES) {
		b = l->waiting;
		l->waiting = b->next;
		batch_submit(l, b);
	}
}

/* True: the files are done. */
static bool
listing_files(struct listing *l)
{
	static const struct timeval now;
	bool more;

	listing_submit(l);
	if (l->running >= BATCHES)
		return false;
	more = listing_walk(l);
	listing_submit(l);
	/* Others have their turn before the next names. */
	if (more && l->running < BATCHES)
		event_add(&l->turn, &now);
	return !more && l->waiting == NULL && l->running == 0;
}

/* -- memory --------------------------------------------------------------- */

static void
listing_ask(struct listing *l, struct chan *c, uint64_t where)
{
	struct buf *b = chan_begin(c, MSG_QUEUE_LIST);

	l->asking = c;
	l->tag = manager_tag();
	put_u32(b, l->tag);
	put_u64(b, where);
	chan_end(c);
}

/* What c had is here, or c is gone: the next one. */
static void
listing_ask_next(struct listing *l, const struct chan *c)
{
	struct chan *next = manager_next(c);

	l->asking = NULL;
	if (next != NULL) {
		listing_ask(l, next, 0);
		return;
	}
	l->phase++;
	loop_soon(&l->work);
}

static struct listing *
listing_of(uint32_t tag)
{
	struct listing *l;

	for (l = listings; l != NULL; l = l->next)
		if (l->tag == tag && l->asking != NULL && !l->stopped)
			return l;
	return NULL;
}

void
listing_answer(uint32_t tag, struct chan_in *in)
{
	uint64_t where = cursor_u64(&in->body);
	uint32_t n = cursor_u32(&in->body), i;
	struct listing *l = listing_of(tag);
	struct queue_entry e;
	struct buf out;
	struct chan *c;

	if (l == NULL)
		return;
	c = l->asking;
	buf_init(&out, CHAN_MSG_MAX * 2);
	for (i = 0; i < n; i++) {
		if (!queue_entry_get(&in->body, &e)) {
			buf_free(&out);
			chan_blame(c, "bad list");
			return;
		}
		if (seen_add(l, e.id) && !entry_show(&l->def, &e, &out))
			log_warn("qmgr lists a message without an envelope");
	}
	l->asking = NULL;
	if (out.n > 0)
		l->def.found(buf_view(&out), l->def.arg);
	buf_free(&out);
	if (where != 0)
		listing_ask(l, c, where);
	else
		listing_ask_next(l, c);
}

void
listing_lost(const struct chan *c)
{
	struct listing *l, *next;

	for (l = listings; l != NULL; l = next) {
		next = l->next;
		if (l->asking == c)
			listing_ask_next(l, c);
	}
}

/* -- the pass ------------------------------------------------------------- */

static void
listing_begin_files(struct listing *l)
{
	if (l->walk == NULL && l->place == PLACE_NONE)
		l->place = PLACE_INCOMING;
}

static void
listing_run(void *arg)
{
	struct listing *l = arg;
	struct list_def def;
	struct chan *c;

	if (l->stopped || l->asking != NULL ||
	    (l->def.full != NULL && l->def.full(l->def.arg)))
		return;
	switch (l->phase) {
	case LIST_MEMORY:
	case LIST_MEMORY_AGAIN:
		c = l->def.memory ? manager_first() : NULL;
		if (c != NULL) {
			listing_ask(l, c, 0);
			return;
		}
		l->phase++;
		loop_soon(&l->work);
		return;
	case LIST_FILES:
	case LIST_FILES_AGAIN:
		listing_begin_files(l);
		if (!listing_files(l))
			return;
		l->place = PLACE_NONE;
		l->phase++;
		loop_soon(&l->work);
		return;
	case LIST_DONE:
		def = l->def;
		listing_free(l);
		def.done(def.arg);
		return;
	}
}

static void
listing_on_turn(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	listing_run(arg);
}

struct listing *
listing_start(const struct list_def *def)
{
	struct listing *l = mem_alloc(sizeof *l);

	l->def = *def;
	l->work.fn = listing_run;
	l->work.arg = l;
	evtimer_assign(&l->turn, loop_base(), listing_on_turn, l);
	l->next = listings;
	listings = l;
	seen_grow(l);
	loop_soon(&l->work);
	return l;
}

void
listing_go_on(struct listing *l)
{
	loop_soon(&l->work);
}

void
listing_stop(struct listing *l)
{
	l->stopped = true;
	l->asking = NULL;
	if (l->running == 0)
		listing_free(l);
}
