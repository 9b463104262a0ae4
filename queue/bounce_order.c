#include "queue/bounce_order.h"

size_t
bounce_order_memory(size_t n)
{
	/* A recipient takes 9 bytes at least, an outcome 17. */
	return n * 16 + 65536;
}

/* Is this fate what such a notification tells of? */
static bool
fate_fits(enum notice_kind kind, unsigned fate)
{
	switch (kind) {
	case NOTICE_FAILURE:
	case NOTICE_FAILURE_COPY:
	case NOTICE_DOUBLE:
		return fate == RCPT_BOUNCED;
	case NOTICE_DELAY:
	case NOTICE_DELAY_COPY:
		return fate == RCPT_DEFERRED;
	case NOTICE_SUCCESS:
		return fate == RCPT_RELAYED || fate == RCPT_DELIVERED ||
		    fate == RCPT_EXPANDED;
	case NOTICE_KINDS:
		break;
	}
	return false;
}

bool
bounce_order_read(struct view body, struct arena *a, struct bounce_order *ret)
{
	struct cursor c = cursor_of(arena_copy(a, body));
	struct bounce_order o = { 0 };
	struct bounce_outcome *t;
	unsigned kind, fate;
	struct view env;
	uint8_t *seen;
	uint32_t i;

	o.id.n = cursor_u64(&c);
	kind = cursor_u8(&c);
	o.text_offset = cursor_u64(&c);
	o.text_size = cursor_u64(&c);
	o.arrival.us = (int64_t)cursor_u64(&c);
	o.until.us = (int64_t)cursor_u64(&c);
	o.attempt.us = (int64_t)cursor_u64(&c);
	o.n_outcomes = cursor_u32(&c);
	if (c.bad || kind == 0 || kind >= NOTICE_KINDS ||
	    o.text_size > INT64_MAX ||
	    o.text_offset > INT64_MAX - o.text_size ||
	    o.n_outcomes > ENVELOPE_RCPTS_MAX ||
	    o.n_outcomes > cursor_left(&c) / 17)
		return false;
	o.kind = kind;
	o.outcomes = arena_alloc(a, o.n_outcomes * sizeof *o.outcomes);
	for (i = 0; i < o.n_outcomes; i++) {
		t = &o.outcomes[i];
		t->index = cursor_u32(&c);
		fate = cursor_u8(&c);
		t->status = cursor_view(&c);
		t->reason = cursor_view(&c);
		t->mta = cursor_view(&c);
		if (!fate_fits(o.kind, fate))
			return false;
		t->fate = fate;
	}
	env = cursor_view(&c);
	if (!cursor_done(&c) || !envelope_get(env, a, &o.env))
		return false;
	seen = arena_alloc(a, o.env.nrcpts);
	memset(seen, 0, o.env.nrcpts);
	for (i = 0; i < o.n_outcomes; i++) {
		t = &o.outcomes[i];
		if (t->index >= o.env.nrcpts || seen[t->index]++ != 0)
			return false;
	}
	*ret = o;
	return true;
}

void
bounce_order_wanted(struct bounce_order *o)
{
	uint8_t bit = o->kind == NOTICE_SUCCESS ? NOTIFY_SUCCESS :
	    o->kind == NOTICE_DELAY ? NOTIFY_DELAY : NOTIFY_FAILURE;
	uint32_t i, n = 0;
	uint8_t notify;

	if (bounce_for_postmaster(o->kind))
		return;
	for (i = 0; i < o->n_outcomes; i++) {
		notify = o->env.rcpts[o->outcomes[i].index].notify;
		/* Without NOTIFY: of failures and delays. */
		if (notify == 0 ? bit != NOTIFY_SUCCESS : (notify & bit) != 0)
			o->outcomes[n++] = o->outcomes[i];
	}
	o->n_outcomes = n;
}
