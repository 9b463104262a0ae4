#include <stdlib.h>
#include <string.h>

#include "queue/sched_priv.h"

struct transport *
sched_transport(const struct sched *s, const char *name)
{
	struct transport *t;

	for (t = s->transports; t != NULL; t = t->next)
		if (strcmp(t->name, name) == 0)
			return t;
	return NULL;
}

struct transport *
sched_add_transport(struct sched *s, const char *name,
    const struct sched_limits *limits)
{
	struct transport *t = mem_alloc(sizeof *t);

	ensure(limits->initial > 0 && limits->limit > 0 &&
	    limits->recipients > 0);
	t->sched = s;
	t->name = mem_strdup(name);
	t->limits = *limits;
	t->room = UINT32_MAX;
	line_init(&t->blocked);
	t->next = s->transports;
	s->transports = t;
	return t;
}

/* Deliveries that it may begin now. */
static unsigned
transport_places(const struct transport *t)
{
	const struct sched_limits *l = &t->limits;
	unsigned n = t->room;

	if (t->dead_why != NULL || t->paused)
		return 0;
	if (l->transport_rate_delay > 0)
		return t->busy == 0 && n > 0;
	if (l->at_once == 0)
		return n;
	if (t->busy >= l->at_once)
		return 0;
	return l->at_once - t->busy < n ? l->at_once - t->busy : n;
}

bool
transport_open(const struct transport *t)
{
	return transport_places(t) > 0;
}

void
transport_refill(struct transport *t)
{
	unsigned places = transport_places(t);
	struct dest *d;

	while (t->n_blocked > 0 && t->in_line < places) {
		d = line_first(&t->blocked, true);
		dest_requeue(d);
	}
}

void
transport_ended(struct transport *t)
{
	ensure(t->busy > 0);
	t->busy--;
	if (t->limits.transport_rate_delay > 0) {
		t->paused = true;
		t->paused_until.us = t->sched->now.us +
		    t->limits.transport_rate_delay;
	}
	transport_refill(t);
}

void
transport_die(struct transport *t, const char *why, int64_t us)
{
	free(t->dead_why);
	t->dead_why = mem_strdup(why);
	t->dead_until.us = t->sched->now.us + us;
}

const char *
transport_dead(const struct transport *t)
{
	return t->dead_why;
}

unsigned
transport_recipients(const struct transport *t)
{
	return t->limits.recipients;
}

const char *
transport_name(const struct transport *t)
{
	return t->name;
}

uint32_t
transport_relays(const struct transport *t)
{
	return t->limits.relays;
}

void
transport_set_room(struct transport *t, unsigned room)
{
	bool more = room > t->room;

	t->room = room;
	if (more)
		transport_refill(t);
}

void
sched_each_transport(struct sched *s,
    void (*fn)(struct transport *t, void *arg), void *arg)
{
	struct transport *t;

	for (t = s->transports; t != NULL; t = t->next)
		fn(t, arg);
}

static void
transport_revive(struct transport *t)
{
	free(t->dead_why);
	t->dead_why = NULL;
	transport_refill(t);
}

void
sched_revive_transports(struct sched *s)
{
	struct transport *t;

	for (t = s->transports; t != NULL; t = t->next)
		transport_revive(t);
}

/* There are few of them. */
void
transport_wake(struct sched *s)
{
	struct transport *t;

	for (t = s->transports; t != NULL; t = t->next) {
		if (t->dead_why != NULL && t->dead_until.us <= s->now.us)
			transport_revive(t);
		if (t->paused && t->paused_until.us <= s->now.us) {
			t->paused = false;
			transport_refill(t);
		}
	}
}

bool
transport_wake_at(const struct sched *s, struct mono *ret)
{
	const struct transport *t;
	int64_t us = INT64_MAX;

	for (t = s->transports; t != NULL; t = t->next) {
		if (t->dead_why != NULL && t->dead_until.us < us)
			us = t->dead_until.us;
		if (t->paused && t->paused_until.us < us)
			us = t->paused_until.us;
	}
	ret->us = us;
	return us != INT64_MAX;
}

void
transport_free_all(struct sched *s)
{
	struct transport *t;

	while ((t = s->transports) != NULL) {
		s->transports = t->next;
		free(t->dead_why);
		free(t->name);
		free(t);
	}
}
