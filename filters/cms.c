#include "filters/cms.h"

#define INTEGER		0x02u
#define OCTETS		0x04u
#define OCTETS_PARTS	0x24u
#define OID		0x06u
#define SEQUENCE	0x30u
#define SET		0x31u
#define EXPLICIT_0	0xa0u
#define CONSTRUCTED	0x20u

/* 1.2.840.113549.1.7.2 */
static const char signed_data[] = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";

static bool
at_end_mark(struct view v)
{
	return v.n >= 2 && v.p[0] == 0 && v.p[1] == 0;
}

/*
 * Take an element off the begin of v.  One without a length goes on to its
 * end mark: depth says how many more of these may be inside each other.
 */
static bool
take(struct view *v, unsigned depth, unsigned *ret_tag, struct view *ret)
{
	struct view in, skipped;
	unsigned tag, first, i;
	size_t n = 0;

	if (v->n < 2)
		return false;
	tag = (unsigned char)v->p[0];
	first = (unsigned char)v->p[1];
	in = view_from(*v, 2);
	if ((tag & 31) == 31)
		return false;	/* a long tag: none of ours */
	*ret_tag = tag;
	if (first != 0x80) {
		n = first;
		if (first > 0x80) {
			if (first > 0x88 || in.n < first - 0x80)
				return false;
			for (n = 0, i = 0; i < first - 0x80; i++)
				n = n << 8 | (unsigned char)in.p[i];
			in = view_from(in, first - 0x80);
		}
		*ret = view_head(in, n);
		*v = view_from(in, n);
		return true;
	}
	if ((tag & CONSTRUCTED) == 0 || depth == 0)
		return false;
	for (*v = in; v->n > 0 && !at_end_mark(*v); )
		if (!take(v, depth - 1, &tag, &skipped))
			*v = view_from(*v, v->n);
	*ret = view_head(in, in.n - v->n);
	*v = view_from(*v, 2);
	return true;
}

/* Take an element of this tag. */
static bool
take_tag(struct view *v, unsigned tag, struct view *ret)
{
	unsigned found;

	return take(v, CMS_DEPTH_MAX, &found, ret) && found == tag;
}

/* A string in one piece, or in parts. */
static bool
put_octets(struct view v, unsigned depth, struct buf *out)
{
	struct view in;
	unsigned tag;

	while (v.n > 0 && take(&v, depth, &tag, &in)) {
		if (tag == OCTETS) {
			if (!buf_putv(out, in))
				return false;
		} else if (tag == OCTETS_PARTS && depth > 0) {
			if (!put_octets(in, depth - 1, out))
				return false;
		}
	}
	return true;
}

bool
cms_content(struct view ber, struct buf *out)
{
	struct view v, in;
	size_t before = out->n;

	return take_tag(&ber, SEQUENCE, &v) && take_tag(&v, OID, &in) &&
	    view_eq(in, view_make(signed_data, sizeof signed_data - 1)) &&
	    take_tag(&v, EXPLICIT_0, &in) && take_tag(&in, SEQUENCE, &v) &&
	    take_tag(&v, INTEGER, &in) && take_tag(&v, SET, &in) &&
	    take_tag(&v, SEQUENCE, &in) && take_tag(&in, OID, &v) &&
	    take_tag(&in, EXPLICIT_0, &v) &&
	    put_octets(v, CMS_DEPTH_MAX, out) && out->n > before;
}
