#include "queue/history.h"
#include "lib/envelope.h"

void
history_init(struct history *h, struct arena *a, uint32_t n_rcpts)
{
	*h = (struct history){ 0 };
	h->reasons = arena_alloc(a, HISTORY_REASONS_MAX * sizeof *h->reasons);
	h->rcpts = arena_alloc(a, n_rcpts * sizeof *h->rcpts);
}

static bool
same_reason(const struct history_reason *a, const struct history_reason *b)
{
	return view_eq(a->status, b->status) && view_eq(a->text, b->text) &&
	    view_eq(a->mta, b->mta);
}

void
history_add(struct history *h, uint32_t index,
    const struct history_reason *reason)
{
	struct history_reason r = *reason;
	uint32_t i;

	r.status = view_head(r.status, HISTORY_TEXT_MAX);
	r.text = view_head(r.text, HISTORY_TEXT_MAX);
	r.mta = view_head(r.mta, HISTORY_TEXT_MAX);
	for (i = h->n_reasons; i > 0 && !same_reason(&h->reasons[i - 1], &r);
	    i--)
		;
	if (i == 0 && h->n_reasons < HISTORY_REASONS_MAX)
		h->reasons[h->n_reasons++] = r;
	h->rcpts[h->n_rcpts++] = (struct history_rcpt){ index,
		i > 0 ? i - 1 : h->n_reasons - 1 };
}

const struct history_reason *
history_of(const struct history *h, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < h->n_rcpts; i++)
		if (h->rcpts[i].index == index)
			return &h->reasons[h->rcpts[i].reason];
	return NULL;
}

bool
history_put(struct buf *b, const struct history *h)
{
	bool ok = put_u32(b, h->flags) && put_u32(b, h->attempts) &&
	    put_u64(b, (uint64_t)h->last.us) &&
	    put_view(b, view_head(h->held, HISTORY_TEXT_MAX)) &&
	    put_u32(b, h->n_reasons);
	uint32_t i;

	for (i = 0; ok && i < h->n_reasons; i++)
		ok = put_view(b, h->reasons[i].status) &&
		    put_view(b, h->reasons[i].text) &&
		    put_view(b, h->reasons[i].mta);
	ok = ok && put_u32(b, h->n_rcpts);
	for (i = 0; ok && i < h->n_rcpts; i++)
		ok = put_u32(b, h->rcpts[i].index) &&
		    put_u32(b, h->rcpts[i].reason);
	return ok;
}

static bool
read_reason(struct cursor *c, struct history_reason *r)
{
	r->status = cursor_view(c);
	r->text = cursor_view(c);
	r->mta = cursor_view(c);
	return !c->bad && r->status.n <= HISTORY_TEXT_MAX &&
	    r->text.n <= HISTORY_TEXT_MAX && r->mta.n <= HISTORY_TEXT_MAX;
}

bool
history_get(struct view encoded, struct arena *a, struct history *ret)
{
	struct cursor c = cursor_of(encoded);
	struct history h = { 0 };
	uint32_t i;
	bool ok;

	*ret = h;
	h.flags = cursor_u32(&c);
	h.attempts = cursor_u32(&c);
	h.last.us = (int64_t)cursor_u64(&c);
	h.held = cursor_view(&c);
	h.n_reasons = cursor_u32(&c);
	ok = !c.bad && encoded.n <= HISTORY_MAX &&
	    h.held.n <= HISTORY_TEXT_MAX &&
	    h.n_reasons <= HISTORY_REASONS_MAX;
	if (!ok)
		return false;
	h.reasons = arena_alloc(a, h.n_reasons * sizeof *h.reasons);
	for (i = 0; ok && i < h.n_reasons; i++)
		ok = read_reason(&c, &h.reasons[i]);
	h.n_rcpts = cursor_u32(&c);
	/* Each takes eight bytes: so no more room than the input is asked. */
	if (!ok || h.n_rcpts > cursor_left(&c) / 8)
		return false;
	h.rcpts = arena_alloc(a, h.n_rcpts * sizeof *h.rcpts);
	for (i = 0; i < h.n_rcpts; i++) {
		h.rcpts[i].index = cursor_u32(&c);
		h.rcpts[i].reason = cursor_u32(&c);
		if (h.rcpts[i].reason >= h.n_reasons ||
		    h.rcpts[i].index >= ENVELOPE_RCPTS_MAX)
			return false;
	}
	if (!cursor_done(&c))
		return false;
	*ret = h;
	return true;
}
