#include "queue/queue_entry.h"

bool
queue_failure_put(struct buf *b, const struct queue_failure *f)
{
	return put_u32(b, f->index) && put_u8(b, f->bounced) &&
	    put_view(b, f->status) &&
	    put_view(b, view_head(f->reason, HISTORY_TEXT_MAX)) &&
	    put_view(b, f->mta);
}

bool
queue_entry_put(struct buf *b, const struct queue_entry *e)
{
	size_t before = b->n;
	bool ok;

	ok = put_u64(b, e->id.n) && put_u8(b, (uint8_t)e->place) &&
	    put_u8(b, e->expire) && put_u8(b, e->in_memory) &&
	    put_u64(b, (uint64_t)e->arrival.us) &&
	    put_u64(b, (uint64_t)e->next.us) && put_u64(b, e->text_size) &&
	    put_view(b, e->route) && put_view(b, e->edits) &&
	    put_view(b, e->envelope) && put_view(b, e->status) &&
	    put_view(b, e->history) && put_u32(b, e->n_failures) &&
	    put_view(b, e->failures);
	if (!ok)
		b->n = before;
	return ok;
}

bool
queue_entry_get(struct cursor *c, struct queue_entry *ret)
{
	struct queue_entry e = { 0 };
	uint8_t place;

	e.id.n = cursor_u64(c);
	place = cursor_u8(c);
	e.expire = cursor_u8(c) != 0;
	e.in_memory = cursor_u8(c) != 0;
	e.arrival.us = (int64_t)cursor_u64(c);
	e.next.us = (int64_t)cursor_u64(c);
	e.text_size = cursor_u64(c);
	e.route = cursor_view(c);
	e.edits = cursor_view(c);
	e.envelope = cursor_view(c);
	e.status = cursor_view(c);
	e.history = cursor_view(c);
	e.n_failures = cursor_u32(c);
	e.failures = cursor_view(c);
	if (c->bad || place == PLACE_NONE || place >= PLACES ||
	    e.n_failures > ENVELOPE_RCPTS_MAX)
		return false;
	e.place = (enum spool_place)place;
	*ret = e;
	return true;
}

size_t
queue_entry_room(const struct queue_entry *e)
{
	return e->envelope.n * 16 + e->history.n * 8 +
	    e->n_failures * sizeof *e->failed + 65536;
}

bool
queue_entry_decode(struct queue_entry *e, struct arena *a)
{
	struct cursor c = cursor_of(e->failures);
	struct queue_failure *f;
	uint32_t i;

	if (!envelope_get(e->envelope, a, &e->env) ||
	    e->env.nrcpts != e->status.n)
		return false;
	(void)history_get(e->history, a, &e->past);
	e->failed = arena_alloc(a, e->n_failures * sizeof *e->failed + 1);
	for (i = 0; i < e->n_failures; i++) {
		f = &e->failed[i];
		f->index = cursor_u32(&c);
		f->bounced = cursor_u8(&c) != 0;
		f->status = cursor_view(&c);
		f->reason = cursor_view(&c);
		f->mta = cursor_view(&c);
		if (c.bad || f->index >= e->env.nrcpts)
			return false;
	}
	return cursor_done(&c);
}

struct view
queue_entry_reason(const struct queue_entry *e, uint32_t i, bool *ret_bounced)
{
	const struct history_reason *r;
	uint32_t k;

	*ret_bounced = false;
	for (k = 0; k < e->n_failures; k++)
		if (e->failed[k].index == i) {
			*ret_bounced = e->failed[k].bounced;
			return e->failed[k].reason;
		}
	r = history_of(&e->past, i);
	return r != NULL ? r->text : view_make("", 0);
}

void
queue_entry_of_file(struct queue_entry *e, const struct spool_file *f,
    enum spool_place place, struct wall next)
{
	*e = (struct queue_entry){
		.id = f->id, .place = place, .expire = f->expire,
		.arrival = f->arrival, .text_size = f->text_size,
		.route = f->tail.route, .edits = f->tail.edits,
		.envelope = f->tail.envelope, .status = f->status,
		.history = f->tail.history,
	};
	if (place == PLACE_DEFERRED)
		e->next = next;
}

bool
queue_dest_put(struct buf *b, const struct queue_dest *d)
{
	size_t before = b->n;
	bool ok;

	ok = put_view(b, view_head(d->transport, 255)) &&
	    put_view(b, view_head(d->nexthop, 1024)) &&
	    put_view(b, view_head(d->held_by, 64)) &&
	    put_view(b, view_head(d->last_error, HISTORY_TEXT_MAX)) &&
	    put_u32(b, d->waiting) && put_u32(b, d->busy) &&
	    put_u32(b, d->window) && put_u32(b, d->limit) &&
	    put_u64(b, (uint64_t)d->next_try_ms);
	if (!ok)
		b->n = before;
	return ok;
}

bool
queue_dest_get(struct cursor *c, struct queue_dest *ret)
{
	struct queue_dest d;

	d.transport = cursor_view(c);
	d.nexthop = cursor_view(c);
	d.held_by = cursor_view(c);
	d.last_error = cursor_view(c);
	d.waiting = cursor_u32(c);
	d.busy = cursor_u32(c);
	d.window = cursor_u32(c);
	d.limit = cursor_u32(c);
	d.next_try_ms = (int64_t)cursor_u64(c);
	if (c->bad)
		return false;
	*ret = d;
	return true;
}
