/*
 * A queue in small: the scheduler, an active queue, retries, and hosts that
 * are up, down or slow.  What is measured is who was tried when.  Included by
 * one source file of each test program.
 */
#ifndef T_UNIT_SIM_HELP_H
#define T_UNIT_SIM_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "queue/sched.h"

#define S		INT64_C(1000000)
#define MINUTE		(60 * S)
#define HOUR		(60 * MINUTE)
#define DAY		(24 * HOUR)
#define NEVER		INT64_MAX
#define MINIMAL		(300 * S)
#define MAXIMAL		(4000 * S)

struct host {
	const char *name;
	unsigned burst;			/* messages at time 0 */
	int64_t from, every;		/* then one each; 0: none */
	int64_t until;			/* us */
	int64_t takes;			/* of a delivery */
	int64_t timeout;		/* of a connection while down */
	int64_t down_from, down_until;
	bool deferred;			/* the burst was tried before */
};

enum state { NEW = 0, DUE_LATER, ACTIVE, PARKED, DONE };

struct message {
	struct parked parked;		/* first */
	struct message *next;		/* of the new */
	unsigned host;
	enum state state;
	int64_t arrival, due;
	int64_t failed;			/* last attempt that did; -1 */
	int64_t begun;			/* first attempt; -1 */
	bool tried;
};

/* What is measured for each host. */
struct result {
	unsigned delivered, attempts, began, running, most_running;
	int64_t waited, longest;	/* arrival to the first attempt */
	int64_t shortest_retry;		/* between two attempts of a message */
	int64_t last_end, shortest_pause;
	unsigned before_success;	/* at once, since it was dead last */
	int64_t last_delivery;
};

#define HOSTS_MAX	10100

static struct sim {
	const struct host *hosts;
	unsigned n_hosts;
	struct sched_limits limits;
	unsigned active_limit, slots;
	bool no_share;			/* what would be without it */

	struct sched *sched;
	struct transport *transport;
	int64_t now;
	unsigned active, busy;
	bool old_turn;
	struct message *first, **end;	/* new ones */
	struct message **messages;
	size_t n, cap;
	struct result r[HOSTS_MAX];
	bool proven[HOSTS_MAX];
} sim;

/* --- things that happen at a time: one heap -------------------------- */

enum what { ARRIVAL = 0, DUE, END };
struct happening {
	int64_t at;
	uint64_t order;
	enum what what;
	unsigned host;
	struct message *message;
	struct piece piece;
	bool ok;
};
static struct happening *heap;
static size_t heap_n, heap_cap;
static uint64_t heap_order;

static inline bool
before(const struct happening *a, const struct happening *b)
{
	return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static inline void
heap_push(struct happening h)
{
	size_t i = heap_n++;

	if (heap_n > heap_cap) {
		heap_cap = heap_cap * 2 + 1024;
		heap = mem_resize(heap, heap_cap, sizeof *heap);
	}
	h.order = heap_order++;
	for (; i > 0 && before(&h, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = h;
}

static inline struct happening
heap_pop(void)
{
	struct happening top = heap[0], last = heap[--heap_n];
	size_t i = 0, k;

	while ((k = 2 * i + 1) < heap_n) {
		if (k + 1 < heap_n && before(&heap[k + 1], &heap[k]))
			k++;
		if (!before(&heap[k], &last))
			break;
		heap[i] = heap[k];
		i = k;
	}
	heap[i] = last;
	return top;
}

/* --- the queue manager, in small ------------------------------------- */

static inline struct dest *
dest_of(const struct message *m)
{
	return sched_dest(sim.transport, sim.hosts[m->host].name, NULL);
}

static inline void
later(struct message *m, int64_t due)
{
	m->state = DUE_LATER;
	m->due = due;
	heap_push((struct happening){ .at = due, .what = DUE, .message = m });
}

/* An attempt, or one that was spared because the host is dead. */
static inline void
failed(struct message *m)
{
	m->tried = true;
	m->failed = sim.now;
	later(m, sim.now + 1000 * retry_delay((sim.now - m->arrival) / 1000,
	    MINIMAL / 1000, MAXIMAL / 1000, heap_order));
}

static inline void
unpark(struct parked *p, int64_t delay)
{
	struct message *m = (struct message *)p;

	later(m, delay == 0 ? sim.now : sim.now + 1000 * retry_delay(0,
	    delay / 1000, MAXIMAL / 1000, heap_order));
}

static inline void
left_room(struct dest *d)
{
	unsigned n;

	for (n = dest_invites(d, sim.active_limit - sim.active); n > 0; n--)
		unpark(dest_unpark(d), 0);
}

static inline void
left(struct entry *e)
{
	struct dest *d = e->dest;

	entry_free(e);
	sim.active--;
	left_room(d);
	if ((d = sched_parker(sim.sched)) != NULL)
		left_room(d);
}

static inline void
admit(struct message *m)
{
	struct dest *d = dest_of(m);
	uint32_t zero = 0;

	if (!sim.no_share && sched_crowded(sim.active, sim.active_limit) &&
	    dest_dead_why(d) == NULL &&
	    !dest_room(d, sim.active_limit - sim.active)) {
		m->state = PARKED;
		dest_park(d, &m->parked);
		return;
	}
	if (dest_dead_why(d) != NULL) {
		failed(m);
		return;
	}
	m->state = ACTIVE;
	sim.active++;
	(void)sched_add(d, m, m->host, 4096, m->tried, &zero, 1);
}

static struct message *due_first, **due_end = &due_first;

static inline void
queue_up(struct message *m, struct message **first, struct message ***end)
{
	m->next = NULL;
	if (*first == NULL)
		*end = first;
	**end = m;
	*end = &m->next;
}

static inline bool
take(struct message **first)
{
	struct message *m = *first;

	if (m == NULL)
		return false;
	*first = m->next;
	admit(m);
	return true;
}

static inline void
intake(void)
{
	bool took = true;

	while (took && sim.active < sim.active_limit) {
		took = sim.old_turn ? take(&due_first) || take(&sim.first) :
		    take(&sim.first) || take(&due_first);
		sim.old_turn = !sim.old_turn;
	}
}

static inline void
begin(const struct piece *p)
{
	struct message *m = p->entry->message;
	const struct host *h = &sim.hosts[m->host];
	struct result *r = &sim.r[m->host];
	bool up = sim.now < h->down_from || sim.now >= h->down_until;

	sim.busy++;
	r->attempts++;
	if (m->begun < 0) {
		m->begun = sim.now;
		r->began++;
		r->waited += sim.now - m->arrival;
		if (sim.now - m->arrival > r->longest)
			r->longest = sim.now - m->arrival;
	}
	if (m->failed >= 0 && sim.now - m->failed < r->shortest_retry)
		r->shortest_retry = sim.now - m->failed;
	if (r->last_end >= 0 && sim.now - r->last_end < r->shortest_pause)
		r->shortest_pause = sim.now - r->last_end;
	if (++r->running > r->most_running)
		r->most_running = r->running;
	if (!sim.proven[m->host] && r->running > r->before_success)
		r->before_success = r->running;
	heap_push((struct happening){ .at = sim.now +
	    (up ? h->takes : h->timeout), .what = END, .piece = *p,
	    .message = m, .ok = up });
}

static inline void
end(struct happening *h)
{
	struct message *m = h->message;
	struct dest *d = h->piece.entry->dest;
	struct result *r = &sim.r[m->host];
	struct parked *p;
	struct piece piece;
	bool died;

	sim.busy--;
	r->running--;
	r->last_end = sim.now;
	died = sched_ended(h->piece.entry, h->ok ? RESULT_OK : RESULT_FAILED,
	    view_of(h->ok ? "" : "timed out"), 1);
	if (h->ok) {
		m->state = DONE;
		r->delivered++;
		r->last_delivery = sim.now;
		sim.proven[m->host] = true;
	} else
		failed(m);
	left(h->piece.entry);
	if (!died)
		return;
	sim.proven[m->host] = false;
	r->before_success = 0;
	while (sched_drain(d, &piece)) {
		failed(piece.entry->message);
		left(piece.entry);
	}
	while ((p = dest_unpark(d)) != NULL)
		unpark(p, MINIMAL);
}

static inline void
arrive(unsigned host, bool tried)
{
	struct message *m = mem_alloc(sizeof *m);

	m->host = host;
	m->arrival = sim.now;
	m->failed = m->begun = -1;
	m->tried = tried;
	if (sim.n == sim.cap) {
		sim.cap = sim.cap * 2 + 1024;
		sim.messages = mem_resize(sim.messages, sim.cap,
		    sizeof(struct message *));
	}
	sim.messages[sim.n++] = m;
	if (tried)
		later(m, sim.now);
	else
		queue_up(m, &sim.first, &sim.end);
}

static inline void
happen(void)
{
	struct happening h = heap_pop();
	const struct host *host = &sim.hosts[h.host];

	switch (h.what) {
	case ARRIVAL:
		arrive(h.host, false);
		if (sim.now + host->every < host->until)
			heap_push((struct happening){ .what = ARRIVAL,
			    .at = sim.now + host->every, .host = h.host });
		break;
	case DUE:
		/* Not if it was flushed since. */
		if (h.message->state == DUE_LATER &&
		    h.message->due == h.at) {
			h.message->state = NEW;
			queue_up(h.message, &due_first, &due_end);
		}
		break;
	case END:
	default:
		end(&h);
		break;
	}
}

static inline void
sim_start(const struct host *hosts, unsigned n)
{
	unsigned i, k;

	ensure(n <= HOSTS_MAX);
	sim = (struct sim){ .hosts = hosts, .n_hosts = n,
		.active_limit = 20000, .slots = 1000, .limits = {
		.initial = 2, .limit = 20, .recipients = 50,
		.failed_cohorts = 1, .positive = { FEEDBACK_CONSTANT, 1 },
		.negative = { FEEDBACK_CONSTANT, 1 } } };
	heap_n = 0;
	due_first = NULL;
	for (i = 0; i < n; i++) {
		sim.r[i].shortest_retry = sim.r[i].shortest_pause = NEVER;
		sim.r[i].last_end = -1;
		for (k = 0; k < hosts[i].burst; k++)
			arrive(i, hosts[i].deferred);
		if (hosts[i].every > 0)
			heap_push((struct happening){ .what = ARRIVAL,
			    .at = hosts[i].from, .host = i });
	}
}

static inline void
sched_begin(void)
{
	sim.sched = sched_new(MINIMAL);
	sched_wake(sim.sched, (struct mono){ sim.now });
	sched_places(sim.sched, sim.slots);
	sched_active_limit(sim.sched, sim.active_limit);
	sim.transport = sched_add_transport(sim.sched, "smtp", &sim.limits);
}

/* Until that time, or until nothing is left to do. */
static inline void
sim_run(int64_t until)
{
	struct mono at;
	struct piece p;

	if (sim.sched == NULL)
		sched_begin();
	for (;;) {
		intake();
		while (sim.busy < sim.slots && sched_next(sim.sched, &p))
			begin(&p);
		if (!sched_wake_at(sim.sched, &at))
			at.us = NEVER;
		if (heap_n > 0 && heap[0].at < at.us)
			at.us = heap[0].at;
		if (at.us == NEVER || at.us > until)
			break;
		sim.now = at.us;
		sched_wake(sim.sched, at);
		while (heap_n > 0 && heap[0].at <= sim.now)
			happen();
	}
	sim.now = until;
}

/*
 * The process dies and another one starts: what was active is in active/ or
 * the journal and is taken up at once, what was deferred has its time.
 */
static inline void
sim_restart(void)
{
	struct happening *old = heap;
	size_t n = heap_n, i;
	struct piece p;

	heap = NULL;
	heap_n = heap_cap = 0;
	due_first = sim.first = NULL;
	for (i = 0; i < n; i++)
		if (old[i].what == ARRIVAL)
			heap_push(old[i]);
		else if (old[i].what == END) {
			sched_returned(old[i].piece.entry);
			entry_free(old[i].piece.entry);
		}
	free(old);
	for (i = 0; i < sim.n; i++) {
		struct message *m = sim.messages[i];

		if (m->state == PARKED) {
			parked_remove(&m->parked);
			later(m, sim.now);
		} else if (m->state == DUE_LATER)
			later(m, m->due);
		else if (m->state != DONE)
			queue_up(m, &sim.first, &sim.end);
		if (m->state == ACTIVE)
			while (sched_drain(dest_of(m), &p))
				entry_free(p.entry);
	}
	sched_free(&sim.sched);
	sim.active = sim.busy = 0;
	for (i = 0; i < sim.n_hosts; i++)
		sim.r[i].running = 0;
	sched_begin();
}

/* All is due, nobody is dead. */
static inline void
sim_flush(void)
{
	size_t i;

	for (i = 0; i < sim.n; i++)
		if (sim.messages[i]->state == DUE_LATER &&
		    sim.messages[i]->due > sim.now)
			later(sim.messages[i], sim.now);
	sched_revive_all(sim.sched);
}

static inline void
sim_end(void)
{
	struct happening h;
	struct piece p;
	size_t i;

	while (heap_n > 0) {
		h = heap_pop();
		if (h.what == END) {
			sched_returned(h.piece.entry);
			entry_free(h.piece.entry);
		}
	}
	for (i = 0; i < sim.n; i++) {
		parked_remove(&sim.messages[i]->parked);
		while (sched_drain(dest_of(sim.messages[i]), &p))
			entry_free(p.entry);
		free(sim.messages[i]);
	}
	free(sim.messages);
	sched_free(&sim.sched);
}

#endif
