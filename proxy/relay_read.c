/*
 * What qmgr wants delivered: the fields of its messages.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "lib/address.h"
#include "proxy/relay_delivery.h"

#define LIMIT_MAX	((uint64_t)INT32_MAX * 1000)

/*
 * A text in memory must be sealed: what the filter judged is what leaves.
 * F_SEAL_SEAL alone is what a file on tmpfs has.
 */
bool
delivery_unsealed(int fd)
{
	const int want = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & want) != want &&
	    (seals & F_SEAL_SEAL) == 0;
}

/* 0: it is none. */
static int64_t
delivery_limit(uint64_t ms)
{
	return ms <= LIMIT_MAX ? (int64_t)ms : 0;
}

bool
delivery_read(struct delivery *d, struct view body)
{
	struct cursor c = cursor_of(arena_copy(d->arena, body));
	struct view edits, env;
	struct queue_id id;
	uint32_t i;

	d->number = cursor_u64(&c);
	id.n = cursor_u64(&c);
	(void)queue_id_text(id, d->id);
	d->transport = cursor_view(&c);
	d->hop_list = cursor_view(&c);
	d->text_offset = cursor_u64(&c);
	d->text_size = cursor_u64(&c);
	edits = cursor_view(&c);
	d->times.arrival.us = (int64_t)cursor_u64(&c);
	d->times.active.us = (int64_t)cursor_u64(&c);
	d->limit = delivery_limit(cursor_u64(&c));
	d->n_rcpts = cursor_u32(&c);
	if (c.bad || d->limit == 0 || d->n_rcpts == 0 || d->n_rcpts > ENVELOPE_RCPTS_MAX ||
	    d->text_size > INT64_MAX || d->text_offset > INT64_MAX -
	    d->text_size)
		return false;
	d->rcpts = arena_alloc(d->arena, d->n_rcpts * sizeof *d->rcpts);
	memset(d->rcpts, 0, d->n_rcpts * sizeof *d->rcpts);
	for (i = 0; i < d->n_rcpts; i++)
		d->rcpts[i].index = cursor_u32(&c);
	env = cursor_view(&c);
	if (!cursor_done(&c) || !envelope_get(env, d->arena, &d->env) ||
	    !edits_get(edits, d->text_size, d->arena, &d->edits))
		return false;
	for (i = 0; i < d->n_rcpts; i++) {
		if (d->rcpts[i].index >= d->env.nrcpts)
			return false;
		d->rcpts[i].addr = d->env.rcpts[d->rcpts[i].index].addr;
		d->rcpts[i].out = d->rcpts[i].addr;
	}
	d->open = d->n_rcpts;
	d->size = edits_size(&d->edits, d->text_size);
	return true;
}

bool
probe_read(struct delivery *d, struct view body)
{
	struct cursor c = cursor_of(arena_copy(d->arena, body));

	d->probe = true;
	d->number = cursor_u64(&c);
	(void)snprintf(d->id, sizeof d->id, "NOQUEUE");
	d->transport = cursor_view(&c);
	d->hop_list = cursor_view(&c);
	d->env.sender = cursor_view(&c);
	d->env.nrcpts = d->n_rcpts = d->open = 1;
	d->env.rcpts = arena_alloc(d->arena, sizeof *d->env.rcpts);
	d->rcpts = arena_alloc(d->arena, sizeof *d->rcpts);
	memset(d->env.rcpts, 0, sizeof *d->env.rcpts);
	memset(d->rcpts, 0, sizeof *d->rcpts);
	d->env.rcpts[0].addr = cursor_view(&c);
	d->rcpts[0].addr = d->rcpts[0].out = d->env.rcpts[0].addr;
	d->limit = delivery_limit(cursor_u64(&c));
	d->times.arrival = d->times.active = d->times.begun;
	return cursor_done(&c) && d->limit > 0 &&
	    d->env.sender.n <= ADDRESS_MAX &&
	    d->rcpts[0].addr.n > 0 && d->rcpts[0].addr.n <= ADDRESS_MAX;
}
