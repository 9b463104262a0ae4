#include "filters/base64.h"

/* What each byte is: filters/base64_tail.h. */
static const unsigned char table[256] = {
	66, 66, 66, 66, 66, 66, 66, 66, 66, 64, 64, 64, 64, 64, 66, 66,
	66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
	64, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 62, 66, 66, 66, 63,
	52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 66, 66, 66, 65, 66, 66,
	66, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
	15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 66, 66, 66, 66, 66,
	66, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
	41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 66, 66, 66, 66, 66,
	66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
	66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
	66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
	66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
	66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
	66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
	66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
	66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66,
};

void
base64_begin(struct base64 *b, enum base64_padding padding)
{
	*b = (struct base64){ .padding = padding };
}

/* The bytes of a group of which there are only n characters. */
static char *
flush(struct base64 *b, char *o)
{
	if (b->n == 2)
		*o++ = (char)(b->bits >> 4);
	else if (b->n == 3) {
		*o++ = (char)(b->bits >> 10);
		*o++ = (char)(b->bits >> 2);
	}
	b->n = 0;
	b->bits = 0;
	return o;
}

static void
padded(struct base64 *b)
{
	if (!b->padded)
		base64_tail_begin(&b->tail);
	b->padded = true;
}

static char *
pad(struct base64 *b, char *o)
{
	if (b->padding == BASE64_IS_GARBAGE) {
		padded(b);
		return o;
	}
	if (b->n >= 2) {
		b->pads = 3 - b->n;
		padded(b);
		o = flush(b, o);
		b->over = b->padding == BASE64_STOPS;
	} else if (b->n == 0 && b->pads > 0)
		b->pads--;
	else {
		condition_add(&b->conditions, MIME_BASE64_GARBAGE);
		/* "A===" or "====": some stop at any of them. */
		padded(b);
		o = flush(b, o);
		b->over = b->padding == BASE64_STOPS;
	}
	return o;
}

static char *
one(struct base64 *b, unsigned char c, char *o)
{
	unsigned v = table[c];

	if (v < 64) {
		b->bits = b->bits << 6 | v;
		if (++b->n == 4) {
			*o++ = (char)(b->bits >> 16);
			*o++ = (char)(b->bits >> 8);
			*o++ = (char)b->bits;
			b->n = 0;
			b->bits = 0;
		}
	} else if (v == BASE64_PAD)
		o = pad(b, o);
	else if (v == BASE64_OTHER)
		condition_add(&b->conditions, c > 127 ? MIME_BODY_8BIT :
		    MIME_BASE64_GARBAGE);
	return o;
}

size_t
base64_decode(struct base64 *b, struct view text, char *out)
{
	const unsigned char *p = (const unsigned char *)text.p;
	const unsigned char *end = p + text.n;
	char *o = out;

	while (p < end) {
		/* Whole groups, as nearly all are. */
		while (b->n == 0 && !b->padded && end - p >= 4) {
			uint32_t v0 = table[p[0]], v1 = table[p[1]],
			    v2 = table[p[2]], v3 = table[p[3]], w;

			if (((v0 | v1 | v2 | v3) & 64) != 0)
				break;
			w = v0 << 18 | v1 << 12 | v2 << 6 | v3;
			o[0] = (char)(w >> 16);
			o[1] = (char)(w >> 8);
			o[2] = (char)w;
			o += 3;
			p += 4;
		}
		if (p < end) {
			if (b->padded) {
				base64_tail_byte(&b->tail, table[*p]);
				b->goes_on = b->goes_on || table[*p] < 64;
			}
			if (!b->over)
				o = one(b, *p, o);
			p++;
		}
	}
	return (size_t)(o - out);
}

void
base64_line_end(struct base64 *b)
{
	if (b->padded)
		base64_tail_line_end(&b->tail);
}

size_t
base64_end(struct base64 *b, char *out)
{
	if (b->goes_on)
		condition_add(&b->conditions, base64_tail_data(&b->tail) ?
		    MIME_BASE64_PADDING : MIME_BASE64_FOOTER);
	if (b->n > 0 || b->pads > 0)
		condition_add(&b->conditions, MIME_BASE64_END);
	return (size_t)(flush(b, out) - out);
}
