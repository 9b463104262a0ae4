#include <stdlib.h>

#include "queue/sched_priv.h"

void
line_init(struct line *l)
{
	unsigned i;

	for (i = 0; i < LINES; i++)
		TAILQ_INIT(&l->list[i]);
}

struct dest *
line_first(const struct line *l, bool unproven)
{
	struct dest *a, *b;
	unsigned i;

	for (i = 0; i < LINES; i += LINE_BUSY) {
		a = TAILQ_FIRST(&l->list[i]);
		b = unproven ? TAILQ_FIRST(&l->list[i + LINE_UNPROVEN]) :
		    NULL;
		if (a != NULL && b != NULL)
			return a->stamp < b->stamp ? a : b;
		if (a != NULL || b != NULL)
			return a != NULL ? a : b;
	}
	return NULL;
}

void
sched_places(struct sched *s, unsigned places)
{
	s->places = places;
}

void
sched_active_limit(struct sched *s, unsigned messages)
{
	s->active_limit = messages;
}

struct sched *
sched_new(int64_t dead_for)
{
	struct sched *s = mem_alloc(sizeof *s);

	s->dead_for = dead_for;
	line_init(&s->line);
	TAILQ_INIT(&s->quiet);
	TAILQ_INIT(&s->parkers);
	return s;
}

void
sched_free(struct sched **sp)
{
	struct sched *s = *sp;

	if (s == NULL)
		return;
	dest_free_all(s);
	ensure(s->n_flows == 0);
	transport_free_all(s);
	free(s->slot);
	free(s->flow_slot);
	free(s->heap);
	free(s);
	*sp = NULL;
}

void
sched_wake(struct sched *s, struct mono now)
{
	if (now.us > s->now.us)
		s->now = now;
	timer_wake(s);
	transport_wake(s);
	dest_forget_quiet(s);
}

bool
sched_wake_at(const struct sched *s, struct mono *ret)
{
	struct mono a, b;
	bool has_a = timer_first(s, &a), has_b = transport_wake_at(s, &b);

	if (!has_a && !has_b)
		return false;
	*ret = !has_b || (has_a && a.us < b.us) ? a : b;
	return true;
}

struct entry *
sched_add(struct dest *d, struct message *m, uint32_t sender,
    uint64_t text_size, bool tried, const uint32_t *rcpt, uint32_t n)
{
	struct entry *e = mem_alloc(sizeof *e + n * sizeof e->rcpt[0]);

	ensure(n > 0);
	e->dest = d;
	e->message = m;
	e->sender = sender;
	e->class = tried ? CLASS_OLD : CLASS_NEW;
	if (text_size > SCHED_BIG)
		e->class++;
	e->n = n;
	memcpy(e->rcpt, rcpt, n * sizeof e->rcpt[0]);
	d->entries++;
	d->transport->sched->entries_unproven += !d->proven;
	flow_add(e);
	dest_place(d);
	return e;
}

void
sched_forget(struct entry *e)
{
	if (e->flow == NULL)
		return;
	flow_remove(e);
	e->n = e->given;
	dest_place(e->dest);
}

bool
entry_finished(const struct entry *e)
{
	return e->busy == 0 && e->given == e->n;
}

void
entry_free(struct entry *e)
{
	struct dest *d = e->dest;

	ensure(entry_finished(e) && e->flow == NULL);
	d->entries--;
	d->transport->sched->entries_unproven -= !d->proven;
	free(e);
	dest_place(d);
}

static bool
entry_big(const struct entry *e)
{
	return e->class == CLASS_NEW_BIG || e->class == CLASS_OLD_BIG;
}

/* Cut off the next n recipients. */
static void
entry_cut(struct entry *e, uint32_t n, struct piece *ret)
{
	*ret = (struct piece){ .entry = e, .first = e->given, .n = n };
	flow_turn(e);
	e->given += n;
	e->dest->recipients -= n;
	if (e->given == e->n)
		flow_remove(e);
}

bool
sched_next(struct sched *s, struct piece *ret)
{
	struct dest *d;
	struct entry *e;
	uint32_t n;

	for (;;) {
		d = line_first(&s->line, s->places == 0 ||
		    s->busy_unproven < s->places - s->places / 4);
		if (d == NULL)
			return false;
		if (transport_open(d->transport))
			break;
		dest_requeue(d);	/* into the line of its transport */
	}
	d->probed_last = false;
	e = flow_choose(d);
	n = e->n - e->given;
	if (n > d->transport->limits.recipients)
		n = d->transport->limits.recipients;
	entry_cut(e, n, ret);
	e->busy++;
	d->busy++;
	d->busy_big += entry_big(e);
	s->busy_unproven += !d->proven;
	d->transport->busy++;
	dest_requeue(d);
	return true;
}

static void
piece_done(struct entry *e)
{
	struct dest *d = e->dest;

	ensure(e->busy > 0 && d->busy > 0);
	e->busy--;
	d->busy--;
	d->busy_big -= entry_big(e);
	d->transport->sched->busy_unproven -= !d->proven;
}

static void
dest_remember(struct dest *d, enum sched_result result, struct view why,
    int64_t took)
{
	if (result == RESULT_OK)
		d->delivered++;
	else
		d->failed++;
	if (result != RESULT_OK || why.n > 0) {
		free(d->last_error);
		d->last_error = mem_copy(view_head(why, DEST_WHY_MAX));
	}
	d->last = took;
	d->average = d->average == 0 ? took :
	    d->average + (took - d->average) / 8;
}

bool
sched_ended(struct entry *e, enum sched_result result, struct view why,
    int64_t took)
{
	struct dest *d = e->dest;
	const struct sched_limits *l = &d->transport->limits;
	bool died = false;

	dest_remember(d, result, why, took);
	switch (result) {
	case RESULT_OK:
		dest_success(d);	/* its place still counts as used */
		dest_set_proven(d, true);
		if (d->dead_why != NULL)
			dest_revive(d);
		break;
	case RESULT_FAILED:
		if (d->dead_why != NULL)
			break;		/* one more of the same */
		d->failed_cohorts += 1.0 / dest_window(d);
		died = l->failed_cohorts > 0 &&
		    d->failed_cohorts >= l->failed_cohorts - 1e-6;
		dest_failure(d);
		break;
	case RESULT_SHRINK:
	default:
		if (d->dead_why == NULL)
			dest_failure(d);
		break;
	}
	piece_done(e);
	if (died)
		dest_die(d, view_head(why, DEST_WHY_MAX));
	if (l->rate_delay > 0)
		dest_pause(d, l->rate_delay);
	transport_ended(d->transport);
	dest_requeue(d);
	return died;
}

void
sched_returned(struct entry *e)
{
	struct dest *d = e->dest;

	piece_done(e);
	ensure(d->transport->busy > 0);
	d->transport->busy--;
	dest_place(d);
}

bool
sched_drain(struct dest *d, struct piece *ret)
{
	unsigned i;
	struct entry *e;

	for (i = 0; i < CLASSES; i++)
		if (!TAILQ_EMPTY(&d->flows[i])) {
			e = TAILQ_FIRST(
			    &TAILQ_FIRST(&d->flows[i])->entries);
			entry_cut(e, e->n - e->given, ret);
			dest_place(d);
			return true;
		}
	return false;
}

void
sched_each_dest(struct sched *s, void (*fn)(struct dest *d, void *arg),
    void *arg)
{
	struct dest *d;
	size_t i;

	for (i = 0; i < s->slots; i++)
		for (d = s->slot[i]; d != NULL; d = d->hash_next)
			fn(d, arg);
}

unsigned
sched_count(const struct sched *s)
{
	return (unsigned)s->n_dests;
}
