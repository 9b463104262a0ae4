#include "lib/edit.h"

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
