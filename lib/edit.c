#include "lib/edit.h"
#include "lib/log.h"

bool
edits_put(struct buf *b, const struct edits *e)
{
	uint32_t i;
	bool ok;

	ok = put_u32(b, e->n);
	for (i = 0; ok && i < e->n; i++)
		ok = put_u64(b, e->list[i].offset) &&
		    put_u64(b, e->list[i].remove) &&
		    put_view(b, e->list[i].insert);
	return ok;
}

bool
edits_get(struct view encoded, uint64_t text_size, struct arena *a,
    struct edits *ret)
{
	struct cursor c = cursor_of(encoded);
	struct edits e = { 0 };
	uint64_t end = 0;
	uint32_t i;

	if (encoded.n == 0) {
		*ret = e;
		return true;
	}
	if (encoded.n > EDITS_BYTES_MAX)
		return false;
	e.n = cursor_u32(&c);
	if (c.bad || e.n > EDITS_MAX)
		return false;
	if (e.n > 0)
		e.list = arena_alloc(a, e.n * sizeof *e.list);
	for (i = 0; i < e.n; i++) {
		e.list[i].offset = cursor_u64(&c);
		e.list[i].remove = cursor_u64(&c);
		e.list[i].insert = cursor_view(&c);
		if (c.bad || e.list[i].offset < end ||
		    e.list[i].offset > text_size ||
		    e.list[i].remove > text_size - e.list[i].offset)
			return false;
		end = e.list[i].offset + e.list[i].remove;
	}
	if (!cursor_done(&c))
		return false;
	*ret = e;
	return true;
}

uint64_t
edits_size(const struct edits *e, uint64_t text_size)
{
	uint32_t i;

	for (i = 0; i < e->n; i++)
		text_size += e->list[i].insert.n - e->list[i].remove;
	return text_size;
}

/* -- two lists as one ------------------------------------------------------ */

struct composing {
	const struct edits *first;
	uint32_t edit;		/* of first: the next one */
	size_t inserted;	/* bytes of its insert that were taken */
	uint64_t at;		/* of the text: what was taken of it */
	uint64_t pos;		/* ... and what is in ret, or removed there */
	uint64_t left;		/* of the text with first applied */
	struct edits ret;
	size_t max;
};

static void
compose_add(struct composing *c, uint64_t remove, struct view insert)
{
	ensure(c->ret.list != NULL && c->ret.n < c->max);
	c->ret.list[c->ret.n++] = (struct edit){ .offset = c->pos,
		.remove = remove, .insert = insert };
	c->pos += remove;
}

/* What stands before offset, and was not kept, is removed. */
static void
compose_drop(struct composing *c, uint64_t offset)
{
	struct edit *last = c->ret.n > 0 ? &c->ret.list[c->ret.n - 1] : NULL;

	if (offset == c->pos)
		return;
	if (last != NULL && last->offset + last->remove == c->pos) {
		last->remove += offset - c->pos;
		c->pos = offset;
	} else {
		compose_add(c, offset - c->pos, view_make("", 0));
	}
}

/* The next n bytes of the text with first applied. */
static void
compose_take(struct composing *c, uint64_t n, bool keep)
{
	const struct edit *e;
	struct view v;
	uint64_t k;

	ensure(n <= c->left);
	c->left -= n;
	while (n > 0) {
		e = c->edit < c->first->n ? &c->first->list[c->edit] : NULL;
		if (e != NULL && e->offset == c->at) {
			v = view_from(e->insert, c->inserted);
			if (v.n > n)
				v = view_head(v, (size_t)n);
			if (keep && v.n > 0)
				compose_add(c, 0, v);
			c->inserted += v.n;
			n -= v.n;
			if (c->inserted < e->insert.n)
				continue;
			c->at += e->remove;
			c->inserted = 0;
			c->edit++;
			continue;
		}
		k = e != NULL && e->offset - c->at < n ? e->offset - c->at :
		    n;
		if (keep) {
			compose_drop(c, c->at);
			c->pos = c->at + k;
		}
		c->at += k;
		n -= k;
	}
}

void
edits_compose(const struct edits *first, const struct edits *then,
    uint64_t text_size, struct arena *a, struct edits *ret)
{
	struct composing c = { .first = first,
		.left = edits_size(first, text_size),
		.max = 2 * (size_t)first->n + 5 * (size_t)then->n + 3 };
	uint64_t size = c.left;
	uint32_t i;

	c.ret.list = arena_alloc(a, c.max * sizeof *c.ret.list);
	for (i = 0; i < then->n; i++) {
		compose_take(&c, then->list[i].offset - (size - c.left),
		    true);
		if (then->list[i].insert.n > 0)
			compose_add(&c, 0, then->list[i].insert);
		compose_take(&c, then->list[i].remove, false);
	}
	compose_take(&c, c.left, true);
	compose_drop(&c, text_size);
	*ret = c.ret;
}
