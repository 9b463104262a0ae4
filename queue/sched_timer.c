/* Destinations that wait for a time: a heap, earliest first. */
#include <stdlib.h>

#include "queue/sched_priv.h"

/* 0: for none. */
static int64_t
timer_of(const struct dest *d)
{
	int64_t us = 0;

	if (d->dead_why != NULL)
		us = d->dead_until.us;
	if (d->paused && (us == 0 || d->paused_until.us < us))
		us = d->paused_until.us;
	return us;
}

static void
heap_put(struct sched *s, size_t i, struct dest *d)
{
	s->heap[i] = d;
	d->heap_at = i + 1;
}

static void
heap_move(struct sched *s, size_t i, struct dest *d)
{
	int64_t us = timer_of(d);
	size_t k;

	while (i > 0 && timer_of(s->heap[(i - 1) / 2]) > us) {
		heap_put(s, i, s->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	while ((k = 2 * i + 1) < s->n_heap) {
		if (k + 1 < s->n_heap &&
		    timer_of(s->heap[k + 1]) < timer_of(s->heap[k]))
			k++;
		if (timer_of(s->heap[k]) >= us)
			break;
		heap_put(s, i, s->heap[k]);
		i = k;
	}
	heap_put(s, i, d);
}

void
timer_set(struct dest *d)
{
	struct sched *s = d->transport->sched;
	struct dest *last;
	size_t i;

	if (timer_of(d) != 0) {
		if (d->heap_at != 0) {
			heap_move(s, d->heap_at - 1, d);
			return;
		}
		if (s->n_heap == s->cap_heap) {
			s->cap_heap = s->cap_heap * 2 + 64;
			s->heap = mem_resize(s->heap, s->cap_heap,
			    sizeof(struct dest *));
		}
		s->n_heap++;
		heap_move(s, s->n_heap - 1, d);
		return;
	}
	if (d->heap_at == 0)
		return;
	i = d->heap_at - 1;
	d->heap_at = 0;
	last = s->heap[--s->n_heap];
	if (last != d)
		heap_move(s, i, last);
}

bool
timer_first(const struct sched *s, struct mono *ret)
{
	if (s->n_heap == 0)
		return false;
	ret->us = timer_of(s->heap[0]);
	return true;
}

void
timer_wake(struct sched *s)
{
	struct dest *d;
	struct mono first;

	while (timer_first(s, &first) && first.us <= s->now.us) {
		d = s->heap[0];
		if (d->dead_why != NULL && d->dead_until.us <= s->now.us) {
			free(d->dead_why);
			d->dead_why = NULL;
		}
		if (d->paused && d->paused_until.us <= s->now.us)
			d->paused = false;
		timer_set(d);
		dest_place(d);
	}
}
