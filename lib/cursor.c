#include "lib/cursor.h"

struct view
cursor_bytes(struct cursor *c, size_t n)
{
	struct view v = { (const char *)c->p, n };

	if (c->bad || n > (size_t)(c->end - c->p)) {
		c->bad = true;
		return (struct view){ NULL, 0 };
	}
	c->p += n;
	return v;
}

static uint64_t
cursor_number(struct cursor *c, unsigned bytes)
{
	struct view v = cursor_bytes(c, bytes);
	uint64_t n = 0;

	while (v.n > 0)
		n = n << 8 | (unsigned char)v.p[--v.n];
	return n;
}

uint8_t
cursor_u8(struct cursor *c)
{
	return (uint8_t)cursor_number(c, 1);
}

uint16_t
cursor_u16(struct cursor *c)
{
	return (uint16_t)cursor_number(c, 2);
}

uint32_t
cursor_u32(struct cursor *c)
{
	return (uint32_t)cursor_number(c, 4);
}

uint64_t
cursor_u64(struct cursor *c)
{
	return cursor_number(c, 8);
}

struct view
cursor_view(struct cursor *c)
{
	return cursor_bytes(c, cursor_u32(c));
}

bool
cursor_done(const struct cursor *c)
{
	return !c->bad && c->p == c->end;
}

static bool
put_number(struct buf *b, uint64_t v, unsigned bytes)
{
	unsigned char a[8];
	unsigned i;

	for (i = 0; i < bytes; i++) {
		a[i] = (unsigned char)v;
		v >>= 8;
	}
	return buf_put(b, a, bytes);
}

bool
put_u8(struct buf *b, uint8_t v)
{
	return put_number(b, v, 1);
}

bool
put_u16(struct buf *b, uint16_t v)
{
	return put_number(b, v, 2);
}

bool
put_u32(struct buf *b, uint32_t v)
{
	return put_number(b, v, 4);
}

bool
put_u64(struct buf *b, uint64_t v)
{
	return put_number(b, v, 8);
}

bool
put_view(struct buf *b, struct view v)
{
	/* All or nothing: a length without its bytes is no message. */
	if (v.n > UINT32_MAX || buf_room(b, 4 + v.n) == NULL)
		return false;
	return put_u32(b, (uint32_t)v.n) && buf_putv(b, v);
}
