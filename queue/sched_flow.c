/* Inside a destination: senders take turns, then the messages of each. */
#include <stdlib.h>

#include "queue/sched_priv.h"

static struct flow **
flow_slot(const struct sched *s, const struct dest *d, uint32_t sender,
    unsigned class)
{
	uint32_t h = hash_bytes(d->hash, &sender, sizeof sender) + class;

	return &s->flow_slot[(h ^ h >> 15) & (s->flow_slots - 1)];
}

static void
flow_grow(struct sched *s)
{
	struct flow **old = s->flow_slot, *f, *next, **p;
	size_t n = s->flow_slots, i;

	s->flow_slots = n > 0 ? n * 2 : 256;
	s->flow_slot = mem_array(s->flow_slots, sizeof(struct flow *));
	for (i = 0; i < n; i++)
		for (f = old[i]; f != NULL; f = next) {
			next = f->hash_next;
			p = flow_slot(s, f->dest, f->sender, f->class);
			f->hash_next = *p;
			*p = f;
		}
	free(old);
}

static struct flow *
flow_get(struct dest *d, uint32_t sender, unsigned class)
{
	struct sched *s = d->transport->sched;
	struct flow *f, **p;

	if (s->n_flows >= s->flow_slots)
		flow_grow(s);
	p = flow_slot(s, d, sender, class);
	for (f = *p; f != NULL; f = f->hash_next)
		if (f->dest == d && f->sender == sender && f->class == class)
			return f;
	f = mem_alloc(sizeof *f);
	f->dest = d;
	f->sender = sender;
	f->class = (uint8_t)class;
	TAILQ_INIT(&f->entries);
	f->hash_next = *p;
	*p = f;
	s->n_flows++;
	TAILQ_INSERT_TAIL(&d->flows[class], f, link);
	return f;
}

static void
flow_free(struct flow *f)
{
	struct sched *s = f->dest->transport->sched;
	struct flow **p = flow_slot(s, f->dest, f->sender, f->class);

	for (; *p != f; p = &(*p)->hash_next)
		ensure(*p != NULL);
	*p = f->hash_next;
	s->n_flows--;
	TAILQ_REMOVE(&f->dest->flows[f->class], f, link);
	free(f);
}

void
flow_add(struct entry *e)
{
	struct dest *d = e->dest;

	e->flow = flow_get(d, e->sender, e->class);
	TAILQ_INSERT_TAIL(&e->flow->entries, e, link);
	d->waiting++;
	d->waiting_class[e->class]++;
	d->recipients += e->n - e->given;
}

void
flow_remove(struct entry *e)
{
	struct dest *d = e->dest;
	struct flow *f = e->flow;

	TAILQ_REMOVE(&f->entries, e, link);
	e->flow = NULL;
	d->waiting--;
	d->waiting_class[e->class]--;
	d->recipients -= e->n - e->given;
	if (TAILQ_EMPTY(&f->entries))
		flow_free(f);
}

void
flow_turn(struct entry *e)
{
	struct flow *f = e->flow;
	struct flow_list *ring = &f->dest->flows[f->class];

	TAILQ_REMOVE(&f->entries, e, link);
	TAILQ_INSERT_TAIL(&f->entries, e, link);
	TAILQ_REMOVE(ring, f, link);
	TAILQ_INSERT_TAIL(ring, f, link);
}

struct entry *
flow_choose(struct dest *d)
{
	bool big_ok = dest_big_allowed(d), small, big, fresh, old;
	enum class class;

	fresh = d->waiting_class[CLASS_NEW] > 0 ||
	    (big_ok && d->waiting_class[CLASS_NEW_BIG] > 0);
	old = d->waiting_class[CLASS_OLD] > 0 ||
	    (big_ok && d->waiting_class[CLASS_OLD_BIG] > 0);
	if (fresh && old)
		old = ++d->turns % SCHED_SHARE == 0;
	class = old ? CLASS_OLD : CLASS_NEW;
	small = d->waiting_class[class] > 0;
	big = big_ok && d->waiting_class[class + 1] > 0;
	ensure(small || big);
	if (small && big) {
		d->big_turn = !d->big_turn;
		small = !d->big_turn;
	}
	if (!small)
		class++;
	return TAILQ_FIRST(&TAILQ_FIRST(&d->flows[class])->entries);
}
