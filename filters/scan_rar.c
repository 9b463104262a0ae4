/*
 * RAR 5: libarchive gives the bytes of encrypted members as they are, and
 * says nothing.  The blocks are walked for what tells it: an encryption
 * header, or a file with an encryption record in its extra area.
 */
#include "filters/scan_priv.h"

#define BLOCKS_MAX	100000u
#define BLOCK_FILE	2u
#define BLOCK_SERVICE	3u
#define BLOCK_ENCRYPTION 4u
#define HAS_EXTRA	1u
#define HAS_DATA	2u
#define RECORD_ENCRYPTION 1u

/* A number of 7 bits in each byte; takes it off the front. */
static uint64_t
number(struct view *v)
{
	uint64_t n = 0;
	unsigned shift;
	unsigned char c;

	for (shift = 0; v->n > 0 && shift < 63; shift += 7) {
		c = (unsigned char)v->p[0];
		*v = view_from(*v, 1);
		n |= (uint64_t)(c & 0x7f) << shift;
		if ((c & 0x80) == 0)
			break;
	}
	return n;
}

static struct view
head(struct view v, uint64_t n)
{
	return view_head(v, n < v.n ? (size_t)n : v.n);
}

static struct view
behind(struct view v, uint64_t n)
{
	return view_from(v, n < v.n ? (size_t)n : v.n);
}

static bool
encrypted_record(struct view extra)
{
	struct view r;

	while (extra.n > 0) {
		uint64_t n = number(&extra);

		r = head(extra, n);
		extra = behind(extra, n);
		if (number(&r) == RECORD_ENCRYPTION)
			return true;
	}
	return false;
}

bool
scan_rar_encrypted(struct view v)
{
	uint64_t n, type, flags, extra, data;
	struct view b;
	uint32_t blocks;

	if (v.n < 8 || memcmp(v.p, "Rar!\x1a\x07\x01\0", 8) != 0)
		return false;
	v = view_from(v, 8);
	for (blocks = 0; v.n > 4 && blocks < BLOCKS_MAX; blocks++) {
		v = view_from(v, 4);
		n = number(&v);
		b = head(v, n);
		v = behind(v, n);
		type = number(&b);
		flags = number(&b);
		extra = (flags & HAS_EXTRA) != 0 ? number(&b) : 0;
		data = (flags & HAS_DATA) != 0 ? number(&b) : 0;
		if (type == BLOCK_ENCRYPTION)
			return true;
		if ((type == BLOCK_FILE || type == BLOCK_SERVICE) &&
		    extra <= b.n && encrypted_record(view_from(b,
		    b.n - (size_t)extra)))
			return true;
		v = behind(v, data);
	}
	return false;
}
