#include "queue/queue_request.h"

bool
frame_begin(struct buf *b, uint8_t type, size_t *ret_at)
{
	size_t at = b->n;

	if (!put_u32(b, 0) || !put_u8(b, type)) {
		b->n = at;
		return false;
	}
	*ret_at = at;
	return true;
}

void
frame_end(struct buf *b, size_t at)
{
	uint32_t n = (uint32_t)(b->n - at - 4);
	unsigned i;

	for (i = 0; i < 4; i++)
		b->p[at + i] = (char)(n >> 8 * i & 0xff);
}

size_t
frame_get(struct view v, size_t max, uint8_t *ret_type, struct cursor *ret,
    bool *ret_bad)
{
	struct cursor c = cursor_of(v);
	uint32_t n;

	*ret_bad = false;
	if (v.n < FRAME_HEAD)
		return 0;
	n = cursor_u32(&c);
	if (n < 1 || n > max) {
		*ret_bad = true;
		return 0;
	}
	if (n > cursor_left(&c))
		return 0;
	*ret_type = cursor_u8(&c);
	*ret = cursor_of(cursor_bytes(&c, n - 1));
	return 4 + (size_t)n;
}
