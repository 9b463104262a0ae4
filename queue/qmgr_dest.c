/*
 * Destinations: a transport and a next hop, with the deliveries that wait for
 * it, the window of deliveries it may have at once, and its life.
 *
 * The window starts at initial_destination_concurrency, grows by one with
 * each delivery that took place while the window was in use, up to the limit,
 * and shrinks by one with each that did not.  When a whole window (a cohort)
 * has failed without one success, failed_cohort_limit times, the destination
 * is dead for minimal_backoff_time: its mail is deferred without an attempt.
 *
 * Destinations take turns.  One without a delivery in progress comes before
 * those that have some, so a second connection to one place is made only
 * when no other place waits.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/qmgr.h"

struct dest {
	struct dest *hash_next;
	struct dest *next, *prev;	/* in a turn list, or both NULL */
	struct turn *turn;
	char *transport, *nexthop;
	struct entry *first, **end;
	unsigned waiting;		/* entries queued */
	unsigned busy;			/* in delivery */
	unsigned window, limit;
	double failed_cohorts;
	unsigned cohort_limit;
	struct mono dead_until;
	char *dead_why;			/* NULL: alive */
};

/* Those that may start a delivery: without any in progress, and with some. */
static struct turn {
	struct dest *first, *last;
} idle_turn, busy_turn;

#define HASH	4096u
static struct dest *hash[HASH];
static unsigned n_dests;

static unsigned
dest_hash(const char *transport, const char *nexthop)
{
	uint32_t h = 2166136261u;

	for (; *transport != '\0'; transport++)
		h = (h ^ (unsigned char)*transport) * 16777619u;
	h = (h ^ 0xffu) * 16777619u;
	for (; *nexthop != '\0'; nexthop++)
		h = (h ^ (unsigned char)*nexthop) * 16777619u;
	return h % HASH;
}

static int64_t
dest_param(const char *transport, const char *suffix, int64_t fallback)
{
	char *name = mem_printf("%s%s", transport, suffix);
	int64_t n = conf_number(qmgr.cf, view_of(name), fallback);

	free(name);
	return n;
}

static void
turn_remove(struct dest *d)
{
	struct turn *t = d->turn;

	if (t == NULL)
		return;
	if (d->prev != NULL)
		d->prev->next = d->next;
	else
		t->first = d->next;
	if (d->next != NULL)
		d->next->prev = d->prev;
	else
		t->last = d->prev;
	d->next = d->prev = NULL;
	d->turn = NULL;
}

static void
turn_append(struct turn *t, struct dest *d)
{
	d->turn = t;
	d->prev = t->last;
	d->next = NULL;
	if (t->last != NULL)
		t->last->next = d;
	else
		t->first = d;
	t->last = d;
}

/* Put d where its numbers say; last in its line if it moves. */
static void
dest_place(struct dest *d)
{
	struct turn *want = NULL;

	if (d->waiting > 0 && d->busy < d->window)
		want = d->busy == 0 ? &idle_turn : &busy_turn;
	if (want == d->turn)
		return;
	turn_remove(d);
	if (want != NULL) {
		turn_append(want, d);
		loop_soon(&qmgr.schedule);
	}
}

struct dest *
dest_get(const char *transport, const char *nexthop)
{
	unsigned h = dest_hash(transport, nexthop);
	struct dest *d;

	for (d = hash[h]; d != NULL; d = d->hash_next)
		if (strcmp(d->transport, transport) == 0 &&
		    strcmp(d->nexthop, nexthop) == 0)
			return d;
	d = mem_alloc(sizeof *d);
	d->transport = mem_strdup(transport);
	d->nexthop = mem_strdup(nexthop);
	d->end = &d->first;
	d->limit = (unsigned)dest_param(transport,
	    "_destination_concurrency_limit",
	    qmgr.cf->default_destination_concurrency_limit);
	d->cohort_limit = (unsigned)dest_param(transport,
	    "_destination_concurrency_failed_cohort_limit",
	    qmgr.cf->default_destination_concurrency_failed_cohort_limit);
	d->window = (unsigned)dest_param(transport,
	    "_initial_destination_concurrency",
	    qmgr.cf->initial_destination_concurrency);
	if (d->limit == 0)
		d->limit = 1;
	if (d->window > d->limit)
		d->window = d->limit;
	d->hash_next = hash[h];
	hash[h] = d;
	n_dests++;
	return d;
}

/* What has no mail and no history need not be remembered. */
static void
dest_forget_idle(struct dest *d)
{
	struct dest **p;

	if (d->waiting > 0 || d->busy > 0 || d->dead_why != NULL)
		return;
	turn_remove(d);
	for (p = &hash[dest_hash(d->transport, d->nexthop)]; *p != d;
	    p = &(*p)->hash_next)
		ensure(*p != NULL);
	*p = d->hash_next;
	free(d->transport);
	free(d->nexthop);
	free(d);
	n_dests--;
}

static void
dest_tick(evutil_socket_t fd, short what, void *arg)
{
	struct event *timer = arg;
	struct dest *d, *next;
	unsigned i;

	(void)fd;
	(void)what;
	for (i = 0; i < HASH; i++)
		for (d = hash[i]; d != NULL; d = next) {
			next = d->hash_next;
			if (d->dead_why != NULL &&
			    loop_now().us >= d->dead_until.us) {
				free(d->dead_why);
				d->dead_why = NULL;
			}
			dest_forget_idle(d);
		}
	event_add(timer, loop_timeout(10000));
}

void
dest_init(void)
{
	static struct event timer;

	evtimer_assign(&timer, loop_base(), dest_tick, &timer);
	event_add(&timer, loop_timeout(10000));
}

void
dest_add(struct dest *d, struct message *m, const uint32_t *rcpt, uint32_t n)
{
	struct entry *e = mem_alloc(sizeof *e + n * sizeof e->rcpt[0]);

	e->message = m;
	e->dest = d;
	e->n = n;
	memcpy(e->rcpt, rcpt, n * sizeof e->rcpt[0]);
	e->sibling = m->entries;
	m->entries = e;
	m->n_entries++;
	e->queued = true;
	*d->end = e;
	d->end = &e->next;
	d->waiting++;
	dest_place(d);
}

static void
dest_dequeue(struct dest *d, struct entry **p)
{
	struct entry *e = *p;

	*p = e->next;
	if (*p == NULL)
		d->end = p;
	e->next = NULL;
	e->queued = false;
	d->waiting--;
}

struct entry *
dest_next(void)
{
	struct dest *d = idle_turn.first != NULL ? idle_turn.first :
	    busy_turn.first;
	struct entry *e;

	if (d == NULL)
		return NULL;
	e = d->first;
	dest_dequeue(d, &d->first);
	d->busy++;
	/* To the end of the line, whichever that is now. */
	turn_remove(d);
	dest_place(d);
	return e;
}

static void
dest_die(struct dest *d, struct view why)
{
	struct entry *e;

	free(d->dead_why);
	d->dead_why = mem_copy(view_head(why, 500));
	d->dead_until = loop_now();
	d->dead_until.us += qmgr.cf->minimal_backoff_time * 1000;
	d->failed_cohorts = 0;
	d->window = (unsigned)dest_param(d->transport,
	    "_initial_destination_concurrency",
	    qmgr.cf->initial_destination_concurrency);
	log_info("%s:%s is not tried for %lld s: %s", d->transport,
	    log_safe(view_of(d->nexthop)),
	    (long long)(qmgr.cf->minimal_backoff_time / 1000),
	    log_safe(view_of(d->dead_why)));
	/* All its mail steps aside at once. */
	while ((e = d->first) != NULL) {
		dest_dequeue(d, &d->first);
		deliver_suspended(e, d->dead_why);
	}
}

void
dest_ended(struct dest *d, enum delivery_trouble trouble, struct view reason)
{
	ensure(d->busy > 0);
	if (trouble == TROUBLE_NONE) {
		d->failed_cohorts = 0;
		if (d->busy >= d->window && d->window < d->limit)
			d->window++;
		if (d->dead_why != NULL) {
			free(d->dead_why);
			d->dead_why = NULL;
		}
	} else {
		d->failed_cohorts += 1.0 / d->window;
		if (d->window > 1)
			d->window--;
	}
	d->busy--;
	if (trouble != TROUBLE_NONE && d->dead_why == NULL &&
	    d->cohort_limit > 0 &&
	    d->failed_cohorts >= (double)d->cohort_limit - 1e-6)
		dest_die(d, reason);
	turn_remove(d);
	dest_place(d);
}

void
dest_returned(struct dest *d)
{
	ensure(d->busy > 0);
	d->busy--;
	dest_place(d);
}

const char *
dest_transport(const struct dest *d)
{
	return d->transport;
}

const char *
dest_nexthop(const struct dest *d)
{
	return d->nexthop;
}

const char *
dest_dead(const struct dest *d)
{
	return d->dead_why != NULL && loop_now().us < d->dead_until.us ?
	    d->dead_why : NULL;
}

void
dest_revive_all(void)
{
	struct dest *d;
	unsigned i;

	for (i = 0; i < HASH; i++)
		for (d = hash[i]; d != NULL; d = d->hash_next) {
			free(d->dead_why);
			d->dead_why = NULL;
			d->failed_cohorts = 0;
		}
}

void
dest_forget(struct message *m)
{
	struct entry **p, *e, **q;

	for (p = &m->entries; (e = *p) != NULL;) {
		if (!e->queued) {
			p = &e->sibling;
			continue;
		}
		for (q = &e->dest->first; *q != e; q = &(*q)->next)
			ensure(*q != NULL);
		dest_dequeue(e->dest, q);
		dest_place(e->dest);
		*p = e->sibling;
		m->n_entries--;
		free(e);
	}
}

void
dest_status(struct buf *b)
{
	const struct dest *d;
	unsigned i, shown = 0;

	(void)buf_printf(b, "destinations %u\n", n_dests);
	for (i = 0; i < HASH; i++)
		for (d = hash[i]; d != NULL && shown < 100; d = d->hash_next) {
			shown++;
			(void)buf_printf(b, "destination %s:%s waiting=%u "
			    "busy=%u window=%u/%u%s%s\n", d->transport,
			    d->nexthop, d->waiting, d->busy, d->window,
			    d->limit, d->dead_why != NULL ? " dead: " : "",
			    d->dead_why != NULL ? d->dead_why : "");
		}
}
