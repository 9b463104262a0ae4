#include "filters/milter_wire.h"

#include "lib/log.h"

#define HEAD	4u	/* the length */

bool
milter_get_u32(struct view *in, uint32_t *ret)
{
	const unsigned char *p = (const unsigned char *)in->p;

	if (in->n < 4)
		return false;
	*ret = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	    (uint32_t)p[2] << 8 | p[3];
	*in = view_from(*in, 4);
	return true;
}

bool
milter_get_string(struct view *in, struct view *ret)
{
	size_t n = view_find(*in, '\0');

	if (n == in->n)
		return false;
	*ret = view_head(*in, n);
	*in = view_from(*in, n + 1);
	return true;
}

enum milter_get
milter_packet_get(struct view *in, size_t max, struct milter_packet *ret)
{
	struct view rest = *in;
	uint32_t n;

	if (!milter_get_u32(&rest, &n))
		return MILTER_GET_MORE;
	if (n == 0 || n > max)
		return MILTER_GET_BAD;
	if (rest.n < n)
		return MILTER_GET_MORE;
	ret->type = rest.p[0];
	ret->data = view_head(view_from(rest, 1), n - 1);
	*in = view_from(rest, n);
	return MILTER_GET_PACKET;
}

bool
milter_put_u32(struct buf *b, uint32_t v)
{
	char p[4] = { (char)(v >> 24), (char)(v >> 16), (char)(v >> 8),
		(char)v };

	return buf_put(b, p, sizeof p);
}

bool
milter_put_string(struct buf *b, struct view v)
{
	return buf_putv(b, view_head(v, view_find(v, '\0'))) &&
	    buf_putc(b, '\0');
}

bool
milter_packet_begin(struct buf *b, char type, size_t *ret_at)
{
	*ret_at = b->n;
	return milter_put_u32(b, 0) && buf_putc(b, type);
}

void
milter_packet_end(struct buf *b, size_t at)
{
	size_t n = b->n - at;

	ensure(n > HEAD && n - HEAD <= UINT32_MAX);
	n -= HEAD;
	b->p[at] = (char)(n >> 24);
	b->p[at + 1] = (char)(n >> 16);
	b->p[at + 2] = (char)(n >> 8);
	b->p[at + 3] = (char)n;
}

bool
milter_put_packet(struct buf *b, char type, struct view data)
{
	size_t at;

	if (!milter_packet_begin(b, type, &at) || !buf_putv(b, data))
		return false;
	milter_packet_end(b, at);
	return true;
}
