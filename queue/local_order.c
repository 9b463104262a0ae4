#include <fcntl.h>

#include "queue/local.h"

bool
order_read(struct view body, int text, struct arena *a, struct order *ret)
{
	struct cursor c = cursor_of(body);
	struct order o = { .text.fd = text };
	struct view edits, env;
	struct queue_id id;
	uint32_t i;

	o.number = cursor_u64(&c);
	id.n = cursor_u64(&c);
	(void)queue_id_text(id, o.id);
	o.transport = cursor_view(&c);
	o.nexthop = cursor_view(&c);
	o.text.offset = cursor_u64(&c);
	o.text.size = cursor_u64(&c);
	edits = cursor_view(&c);
	o.arrival.us = (int64_t)cursor_u64(&c);
	o.active.us = (int64_t)cursor_u64(&c);
	o.limit = cursor_u64(&c);
	o.n = cursor_u32(&c);
	if (c.bad || o.limit == 0 || o.n == 0 || o.n > ENVELOPE_RCPTS_MAX ||
	    o.text.size > INT64_MAX ||
	    o.text.offset > INT64_MAX - o.text.size)
		return false;
	o.rcpts = arena_alloc(a, o.n * sizeof *o.rcpts);
	for (i = 0; i < o.n; i++)
		o.rcpts[i] = cursor_u32(&c);
	env = cursor_view(&c);
	if (!cursor_done(&c) || !envelope_get(env, a, &o.env) ||
	    !edits_get(edits, o.text.size, a, &o.text.edits))
		return false;
	for (i = 0; i < o.n; i++)
		if (o.rcpts[i] >= o.env.nrcpts)
			return false;
	*ret = o;
	return true;
}
