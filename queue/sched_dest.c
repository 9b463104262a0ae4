/* Destinations: names, lines, windows, life, what is known of them. */
#include <stdlib.h>
#include <string.h>

#include "queue/sched_priv.h"

/* --- names ----------------------------------------------------------- */

uint32_t
hash_bytes(uint32_t h, const void *p, size_t n)
{
	const unsigned char *b = p;
	size_t i;

	for (i = 0; i < n; i++)
		h = (h ^ b[i]) * 16777619u;
	return h;
}

static uint32_t
dest_hash(const struct transport *t, const char *name)
{
	uint32_t h = hash_bytes(HASH_START, t->name, strlen(t->name) + 1);

	h = hash_bytes(h, name, strlen(name));
	return h ^ h >> 15;
}

static void
table_grow(struct sched *s)
{
	struct dest **old = s->slot, *d, *next, **p;
	size_t n = s->slots, i;

	s->slots = n > 0 ? n * 2 : 256;
	s->slot = mem_array(s->slots, sizeof(struct dest *));
	for (i = 0; i < n; i++)
		for (d = old[i]; d != NULL; d = next) {
			next = d->hash_next;
			p = &s->slot[d->hash & (s->slots - 1)];
			d->hash_next = *p;
			*p = d;
		}
	free(old);
}

static unsigned
window_initial(const struct transport *t)
{
	return t->limits.initial < t->limits.limit ? t->limits.initial :
	    t->limits.limit;
}

static struct dest *
dest_new(struct transport *t, char *name, const char *nexthop, uint32_t hash)
{
	struct sched *s = t->sched;
	struct dest *d = mem_alloc(sizeof *d), **p;
	unsigned i;

	if (s->n_dests >= s->slots)
		table_grow(s);
	d->transport = t;
	d->name = name;
	d->nexthop = nexthop;
	d->hash = hash;
	d->window = window_initial(t);
	for (i = 0; i < CLASSES; i++)
		TAILQ_INIT(&d->flows[i]);
	TAILQ_INIT(&d->parked);
	p = &s->slot[hash & (s->slots - 1)];
	d->hash_next = *p;
	*p = d;
	s->n_dests++;
	return d;
}

static void
dest_free(struct dest *d)
{
	ensure(d->entries == 0 && d->n_parked == 0);
	free(d->name);
	free(d->dead_why);
	free(d->last_error);
	free(d);
}

static void
dest_remove(struct dest *d)
{
	struct sched *s = d->transport->sched;
	struct dest **p = &s->slot[d->hash & (s->slots - 1)];

	ensure(d->heap_at == 0);
	for (; *p != d; p = &(*p)->hash_next)
		ensure(*p != NULL);
	*p = d->hash_next;
	s->n_dests--;
	dest_free(d);
}

void
dest_forget_quiet(struct sched *s)
{
	struct dest *d, *next;

	for (d = TAILQ_FIRST(&s->quiet); d != NULL &&
	    d->quiet_since.us + QUIET_US <= s->now.us; d = next) {
		next = TAILQ_NEXT(d, link);
		TAILQ_REMOVE(&s->quiet, d, link);
		dest_remove(d);
	}
}

/* And nothing is used after it. */
void
dest_free_all(struct sched *s)
{
	struct dest *d, *next;
	size_t i;

	for (i = 0; i < s->slots; i++)
		for (d = s->slot[i]; d != NULL; d = next) {
			next = d->hash_next;
			dest_free(d);
		}
}

/* --- lines ----------------------------------------------------------- */

unsigned
dest_window(const struct dest *d)
{
	return d->transport->limits.rate_delay > 0 ? 1 : d->window;
}

/* One place stays free for small texts, or they would wait for the last byte
 * of the longest. */
bool
dest_big_allowed(const struct dest *d)
{
	unsigned window = dest_window(d);

	return window == 1 || d->busy_big < window - 1;
}

bool
dest_startable(const struct dest *d)
{
	if (d->dead_why != NULL || d->paused || d->waiting == 0 ||
	    d->busy >= dest_window(d))
		return false;
	return d->waiting_class[CLASS_NEW] > 0 ||
	    d->waiting_class[CLASS_OLD] > 0 || dest_big_allowed(d);
}

static bool
dest_quiet(const struct dest *d)
{
	return d->entries == 0 && d->n_parked == 0 && d->probes == 0 &&
	    d->dead_why == NULL && !d->paused;
}

static void
dest_leave(struct dest *d)
{
	struct transport *t = d->transport;

	if (d->in == NULL)
		return;
	TAILQ_REMOVE(d->in, d, link);
	d->in = NULL;
	if (d->in_common)
		t->in_line--;
	if (d->in_blocked)
		t->n_blocked--;
	d->in_common = d->in_blocked = false;
}

/* Where it belongs; NULL: it is busy, or waits for a time. */
static struct dest_list *
dest_where(struct dest *d)
{
	struct transport *t = d->transport;
	struct line *line = transport_open(t) ? &t->sched->line : &t->blocked;

	if (dest_startable(d))
		return &line->list[(d->busy == 0 ? LINE_IDLE : LINE_BUSY) +
		    (d->proven ? 0 : LINE_UNPROVEN)];
	return dest_quiet(d) ? &t->sched->quiet : NULL;
}

void
dest_requeue(struct dest *d)
{
	struct transport *t = d->transport;
	struct sched *s = t->sched;

	dest_leave(d);
	d->in = dest_where(d);
	if (d->in == NULL)
		return;
	TAILQ_INSERT_TAIL(d->in, d, link);
	d->stamp = ++s->stamp;
	d->in_common = d->in != &s->quiet && transport_open(t);
	d->in_blocked = d->in != &s->quiet && !d->in_common;
	if (d->in_common)
		t->in_line++;
	if (d->in_blocked)
		t->n_blocked++;
	if (d->in == &s->quiet)
		d->quiet_since = s->now;
}

void
dest_place(struct dest *d)
{
	struct transport *t = d->transport;

	if (dest_where(d) != d->in)
		dest_requeue(d);
	/* It may have left a place in line to others of its transport. */
	if (t->n_blocked > 0)
		transport_refill(t);
}

struct dest *
sched_dest(struct transport *t, const char *nexthop, const char *user)
{
	struct sched *s = t->sched;
	char *name = NULL;
	const char *key = nexthop;
	struct dest *d = NULL;
	uint32_t h;

	if (user != NULL)
		key = name = mem_printf("%s@%s", user, nexthop);
	h = dest_hash(t, key);
	if (s->slots > 0)
		d = s->slot[h & (s->slots - 1)];
	while (d != NULL && (d->transport != t || strcmp(d->name, key) != 0))
		d = d->hash_next;
	if (d != NULL) {
		free(name);
		if (d->in == &s->quiet) {
			if (d->quiet_since.us + WINDOW_US <= s->now.us)
				d->window = window_initial(t);
			dest_requeue(d);
		}
		return d;
	}
	if (name == NULL)
		name = mem_strdup(nexthop);
	d = dest_new(t, name, user == NULL ? name :
	    name + strlen(user) + 1, h);
	dest_place(d);
	return d;
}

/* --- window and life ------------------------------------------------- */

void
dest_set_proven(struct dest *d, bool proven)
{
	struct sched *s = d->transport->sched;

	if (d->proven == proven)
		return;
	d->proven = proven;
	s->busy_unproven += proven ? 0 : d->busy;
	s->busy_unproven -= proven ? d->busy : 0;
	s->entries_unproven += proven ? 0 : d->entries;
	s->entries_unproven -= proven ? d->entries : 0;
}

void
dest_pause(struct dest *d, int64_t us)
{
	d->paused = true;
	d->paused_until.us = d->transport->sched->now.us + us;
	timer_set(d);
}

/*
 * As long as the window is in use, or nearly so: what ends in one burst has
 * left places empty that nobody could fill in between.
 */
void
dest_success(struct dest *d)
{
	const struct sched_limits *l = &d->transport->limits;
	double part;

	d->failed_cohorts = 0;
	if (d->window >= l->limit || d->window >= d->busy + l->initial)
		return;
	part = feedback_value(&l->positive, d->window);
	d->success += part;
	/* Half a step early: the parts need not sum up to exactly one. */
	while (d->success + part / 2 >= 1) {
		d->window++;
		d->success -= 1;
		d->failure = 0;
	}
	if (d->window > l->limit)
		d->window = l->limit;
}

void
dest_failure(struct dest *d)
{
	d->failure -= feedback_value(&d->transport->limits.negative,
	    d->window);
	while (d->failure < 0) {
		d->window -= d->window > 0;
		d->success = 0;
		d->failure += 1;
	}
	if (d->window < 1)
		d->window = 1;
}

void
dest_die(struct dest *d, struct view why)
{
	const struct transport *t = d->transport;

	free(d->dead_why);
	d->dead_why = mem_copy(why);
	d->dead_until.us = t->sched->now.us + t->sched->dead_for;
	d->failed_cohorts = d->success = d->failure = 0;
	d->window = window_initial(t);
	dest_set_proven(d, false);
	timer_set(d);
}

const char *
dest_dead_why(const struct dest *d)
{
	return d->dead_why;
}

void
dest_revive(struct dest *d)
{
	free(d->dead_why);
	d->dead_why = NULL;
	d->failed_cohorts = 0;
	timer_set(d);
	dest_place(d);
}

unsigned
sched_revive(struct sched *s, const char *nexthop)
{
	struct dest *d;
	unsigned n = 0;
	size_t i;

	for (i = 0; i < s->slots; i++)
		for (d = s->slot[i]; d != NULL; d = d->hash_next)
			if (strcmp(d->nexthop, nexthop) == 0) {
				dest_revive(d);
				n++;
			}
	return n;
}

void
sched_revive_all(struct sched *s)
{
	struct dest *d;
	size_t i;

	for (i = 0; i < s->slots; i++)
		for (d = s->slot[i]; d != NULL; d = d->hash_next)
			dest_revive(d);
	sched_revive_transports(s);
}

/* --- those that step aside ------------------------------------------- */

bool
dest_room(const struct dest *d, unsigned free_places)
{
	const struct sched *s = d->transport->sched;

	if (!d->proven && s->active_limit > 0 && s->entries_unproven >=
	    s->active_limit - s->active_limit / 4)
		return false;
	return d->entries == 0 || d->entries < free_places;
}

unsigned
dest_invites(const struct dest *d, unsigned free_places)
{
	unsigned n;

	if (d->dead_why != NULL || !dest_room(d, free_places))
		return 0;
	n = dest_room(d, free_places / 2) ? 2 : 1;
	return n < d->n_parked ? n : d->n_parked;
}

void
dest_park(struct dest *d, struct parked *p)
{
	p->dest = d;
	TAILQ_INSERT_TAIL(&d->parked, p, link);
	if (d->n_parked++ == 0)
		TAILQ_INSERT_TAIL(&d->transport->sched->parkers, d,
		    parked_link);
	dest_place(d);
}

void
parked_remove(struct parked *p)
{
	struct dest *d = p->dest;

	if (d == NULL)
		return;
	TAILQ_REMOVE(&d->parked, p, link);
	p->dest = NULL;
	if (--d->n_parked == 0)
		TAILQ_REMOVE(&d->transport->sched->parkers, d, parked_link);
	dest_place(d);
}

struct parked *
dest_unpark(struct dest *d)
{
	struct parked *p = TAILQ_FIRST(&d->parked);

	if (p != NULL)
		parked_remove(p);
	return p;
}

unsigned
dest_parked(const struct dest *d)
{
	return d->n_parked;
}

struct dest *
sched_parker(struct sched *s)
{
	struct dest *d = TAILQ_FIRST(&s->parkers);

	if (d != NULL) {
		TAILQ_REMOVE(&s->parkers, d, parked_link);
		TAILQ_INSERT_TAIL(&s->parkers, d, parked_link);
	}
	return d;
}

void
sched_each_parked(struct sched *s, void (*fn)(struct dest *d, void *arg),
    void *arg)
{
	struct dest *d, *next;

	for (d = TAILQ_FIRST(&s->parkers); d != NULL; d = next) {
		next = TAILQ_NEXT(d, parked_link);
		fn(d, arg);
	}
}

/* --- what is known --------------------------------------------------- */

const char *
dest_held_by(const struct dest *d)
{
	unsigned window = dest_window(d);

	if (d->dead_why != NULL)
		return "dead";
	if (d->waiting == 0)
		return "none";
	if (d->transport->dead_why != NULL)
		return "transport";
	if (d->paused)
		return "rate";
	if (!dest_startable(d))
		return d->transport->limits.rate_delay > 0 ? "rate" :
		    window >= d->transport->limits.limit ? "limit" : "window";
	return transport_open(d->transport) ? "relays" : "transport";
}

void
dest_facts(const struct dest *d, struct dest_facts *ret)
{
	const struct transport *t = d->transport;

	*ret = (struct dest_facts){
		.transport = t->name, .nexthop = d->nexthop,
		.user = d->nexthop != d->name ? d->name : NULL,
		.held_by = dest_held_by(d),
		.last_error = d->last_error,
		.messages = d->entries, .waiting = d->waiting,
		.recipients = d->recipients, .busy = d->busy,
		.window = dest_window(d), .limit = t->limits.limit,
		.parked = d->n_parked,
		.average = d->average, .last = d->last,
		.delivered = d->delivered, .failed = d->failed,
	};
	if (d->dead_why != NULL)
		ret->next_try = d->dead_until;
	else if (t->dead_why != NULL)
		ret->next_try = t->dead_until;
	else if (d->paused)
		ret->next_try = d->paused_until;
	else if (t->paused)
		ret->next_try = t->paused_until;
}

void
sched_each(const struct sched *s,
    void (*fn)(const struct dest_facts *f, void *arg), void *arg)
{
	const struct dest *d;
	struct dest_facts f;
	size_t i;

	for (i = 0; i < s->slots; i++)
		for (d = s->slot[i]; d != NULL; d = d->hash_next) {
			dest_facts(d, &f);
			fn(&f, arg);
		}
}

const char *
dest_nexthop(const struct dest *d)
{
	return d->nexthop;
}

struct transport *
dest_transport(const struct dest *d)
{
	return d->transport;
}
