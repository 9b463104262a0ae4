#include <stdlib.h>

#include "filters/tnef.h"
#include "lib/log.h"
#include "lib/mem.h"

#define ATTACH_RENDDATA		0x00069002u
#define ATTACH_TITLE		0x00018010u
#define ATTACH_TRANSPORT_NAME	0x00069001u
#define ATTACH_DATA		0x0006800fu
#define ATTACH_PROPS		0x00069005u

#define PR_DISPLAY_NAME		0x3001u
#define PR_ATTACH_DATA		0x3701u
#define PR_ATTACH_EXTENSION	0x3703u
#define PR_ATTACH_FILENAME	0x3704u
#define PR_ATTACH_LONG_FILENAME	0x3707u
#define PR_ATTACH_PATHNAME	0x3708u
#define PR_ATTACH_TRANSPORT	0x370cu
#define PR_ATTACH_LONG_PATHNAME	0x370du

#define TYPE_OBJECT		0x000du
#define TYPE_STRING8		0x001eu
#define TYPE_UNICODE		0x001fu
#define TYPE_BINARY		0x0102u
#define TYPE_MULTIPLE		0x1000u
#define NAMED			0x8000u

enum tnef_state {
	TNEF_OVER = 0,		/* nothing more is read */
	TNEF_FILE_HEADER,	/* signature and key: 6 bytes */
	TNEF_ATTRIBUTE,		/* level, id, size: 9 */
	TNEF_CHECKSUM,		/* 2 */
	TNEF_VALUE,		/* of an attribute: a stream */
	/* inside ATTACH_PROPS, all counted in left */
	TNEF_COUNT, TNEF_PROP, TNEF_GUID, TNEF_NAME_SIZE, TNEF_NAME,
	TNEF_VALUES, TNEF_FIXED, TNEF_SIZE, TNEF_DATA, TNEF_SKIP
};

enum tnef_sink { SINK_NONE = 0, SINK_NAME, SINK_BYTES, SINK_MESSAGE };

struct level {
	enum tnef_state state;
	unsigned char hold[20];
	size_t n;		/* in hold */
	size_t want;		/* to collect there */
	uint64_t stream;	/* instead: bytes to pass on */
	uint32_t attribute;
	uint64_t left;		/* bytes of the attribute */
	uint32_t props, values, type, id;
	uint32_t pad;
	enum tnef_sink sink;
	uint32_t iid;		/* of an object: bytes of its id to skip */
	struct buf value;
	bool unicode;
	bool open;		/* an attachment of this level is */
	bool data;		/* ... and had its data */
};

struct tnef {
	const struct tnef_ops *ops;
	void *arg;
	struct level levels[TNEF_DEPTH_MAX];
	uint32_t attachments;
	bool bad;
};

struct tnef *
tnef_new(const struct tnef_ops *ops, void *arg)
{
	struct tnef *t = mem_alloc(sizeof *t);
	size_t i;

	t->ops = ops;
	t->arg = arg;
	for (i = 0; i < TNEF_DEPTH_MAX; i++)
		buf_init(&t->levels[i].value, TNEF_VALUE_MAX);
	return t;
}

void
tnef_free(struct tnef **t)
{
	size_t i;

	if (*t == NULL)
		return;
	for (i = 0; i < TNEF_DEPTH_MAX; i++)
		buf_free(&(*t)->levels[i].value);
	free(*t);
	*t = NULL;
}

static uint32_t
get(const unsigned char *p, unsigned n)
{
	uint32_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

/* -- attachments ----------------------------------------------------------- */

static void
close_attachment(struct tnef *t, struct level *l)
{
	if (l->open)
		t->ops->end(t->arg);
	l->open = l->data = false;
}

static bool
open_attachment(struct tnef *t, struct level *l)
{
	if (l->open)
		return true;
	if (t->attachments == TNEF_ATTACHMENTS_MAX) {
		t->bad = true;
		return false;
	}
	t->attachments++;
	l->open = true;
	t->ops->begin(t->arg);
	return true;
}

/* -- levels ---------------------------------------------------------------- */

static void
begin_level(struct level *l)
{
	l->state = TNEF_FILE_HEADER;
	l->n = 0;
	l->want = 6;
	l->stream = 0;
	l->open = l->data = false;
}

static void
end_level(struct tnef *t, struct level *l)
{
	if (l->state != TNEF_OVER &&
	    (l->state != TNEF_ATTRIBUTE || l->n > 0))
		t->bad = true;
	close_attachment(t, l);
	l->state = TNEF_OVER;
}

/* Next: n bytes to collect, or to pass on.  Inside properties they are of
 * the attribute; if it has not so many, it is wrong and skipped. */
static void
next(struct tnef *t, struct level *l, enum tnef_state state, size_t want,
    uint64_t stream)
{
	uint64_t n = want + stream;

	l->n = 0;
	if (state >= TNEF_COUNT) {
		if (n > l->left) {
			t->bad = true;
			state = TNEF_SKIP;
			want = 0;
			stream = n = l->left;
			l->sink = SINK_NONE;
		}
		l->left -= n;
	}
	l->state = state;
	l->want = want;
	l->stream = stream;
}

/* The rest of the attribute has nothing for us. */
static void
skip(struct tnef *t, struct level *l)
{
	l->sink = SINK_NONE;
	next(t, l, TNEF_SKIP, 0, l->left);
}

static bool
fixed_size(uint32_t type, uint32_t *ret)
{
	switch (type) {
	case 0x0001: case 0x0002: case 0x0003: case 0x0004: case 0x000a:
	case 0x000b:
		*ret = 4;
		return true;
	case 0x0005: case 0x0006: case 0x0007: case 0x0014: case 0x0040:
		*ret = 8;
		return true;
	case 0x0048:
		*ret = 16;
		return true;
	default:
		return false;
	}
}

static bool
is_name(uint32_t id)
{
	return id == PR_DISPLAY_NAME || id == PR_ATTACH_FILENAME ||
	    id == PR_ATTACH_LONG_FILENAME || id == PR_ATTACH_TRANSPORT ||
	    id == PR_ATTACH_PATHNAME || id == PR_ATTACH_LONG_PATHNAME ||
	    id == PR_ATTACH_EXTENSION;
}

/* The next property, or the end of them. */
static void
next_prop(struct tnef *t, struct level *l)
{
	if (l->props == 0) {
		skip(t, l);
		return;
	}
	l->props--;
	next(t, l, TNEF_PROP, 4, 0);
}

/* The next value of the property. */
static void
next_value(struct tnef *t, struct level *l)
{
	uint32_t n;

	if (l->values == 0) {
		next_prop(t, l);
		return;
	}
	l->values--;
	if (fixed_size(l->type, &n)) {
		l->sink = SINK_NONE;
		next(t, l, TNEF_FIXED, 0, n);
	} else
		next(t, l, TNEF_SIZE, 4, 0);
}

/* Type and id, and a name if there was one, are known. */
static void
begin_values(struct tnef *t, struct level *l)
{
	uint32_t n, type = l->type & ~TYPE_MULTIPLE;
	bool fixed = fixed_size(type, &n);

	if (!fixed && type != TYPE_OBJECT && type != TYPE_STRING8 &&
	    type != TYPE_UNICODE && type != TYPE_BINARY) {
		t->bad = true;
		skip(t, l);
		return;
	}
	if ((l->type & TYPE_MULTIPLE) != 0 || !fixed) {
		l->type = type;
		next(t, l, TNEF_VALUES, 4, 0);
	} else {
		l->values = 1;
		next_value(t, l);
	}
}

static struct level *
inner(struct tnef *t, const struct level *l)
{
	size_t i = (size_t)(l - t->levels) + 1;

	return i < TNEF_DEPTH_MAX ? &t->levels[i] : NULL;
}

/* A value of n bytes follows: who gets it? */
static void
begin_data(struct tnef *t, struct level *l, uint32_t n)
{
	struct level *in;

	l->pad = (4 - n % 4) % 4;
	l->sink = SINK_NONE;
	if (is_name(l->id) && (l->type == TYPE_STRING8 ||
	    l->type == TYPE_UNICODE)) {
		l->unicode = l->type == TYPE_UNICODE;
		l->sink = SINK_NAME;
		buf_clear(&l->value);
	} else if (l->id == PR_ATTACH_DATA && l->type == TYPE_BINARY) {
		l->sink = SINK_BYTES;
	} else if (l->id == PR_ATTACH_DATA && l->type == TYPE_OBJECT) {
		/* Attachments do not nest for those we tell. */
		close_attachment(t, l);
		in = inner(t, l);
		if (in == NULL)
			t->bad = true;
		else {
			begin_level(in);
			l->sink = SINK_MESSAGE;
			l->iid = 16;
		}
	}
	next(t, l, TNEF_DATA, 0, n);
}

static void
begin_attribute(struct tnef *t, struct level *l)
{
	l->attribute = get(l->hold + 1, 4);
	l->left = get(l->hold + 5, 4);
	l->sink = SINK_NONE;
	if (l->hold[0] != 1 && l->hold[0] != 2) {
		t->bad = true;
		l->state = TNEF_OVER;
		return;
	}
	if (l->attribute == ATTACH_RENDDATA)
		close_attachment(t, l);
	if (l->attribute == ATTACH_DATA && l->data)
		close_attachment(t, l);
	if (l->hold[0] == 2 && open_attachment(t, l)) {
		if (l->attribute == ATTACH_PROPS) {
			next(t, l, TNEF_COUNT, 4, 0);
			return;
		}
		if (l->attribute == ATTACH_TITLE ||
		    l->attribute == ATTACH_TRANSPORT_NAME) {
			l->sink = SINK_NAME;
			l->unicode = false;
			buf_clear(&l->value);
		} else if (l->attribute == ATTACH_DATA) {
			l->sink = SINK_BYTES;
			l->data = true;
		}
	}
	next(t, l, TNEF_VALUE, 0, l->left);
}

static void
tell_name(struct tnef *t, struct level *l)
{
	struct view v = buf_view(&l->value);

	if (l->unicode) {
		while (v.n >= 2 && v.p[v.n - 1] == '\0' &&
		    v.p[v.n - 2] == '\0')
			v.n -= 2;
		v.n -= v.n % 2;
	} else
		while (v.n > 0 && v.p[v.n - 1] == '\0')
			v.n--;
	if (v.n > 0 && l->open)
		t->ops->name(t->arg, v, l->unicode ? "utf-16le" :
		    "windows-1252");
	l->sink = SINK_NONE;
}

/* All of what next() asked for is there. */
static void
step(struct tnef *t, struct level *l)
{
	if (l->sink == SINK_NAME && l->state != TNEF_SKIP)
		tell_name(t, l);
	switch (l->state) {
	case TNEF_OVER:
		break;
	case TNEF_FILE_HEADER:
		if (memcmp(l->hold, TNEF_SIGNATURE, 4) != 0) {
			t->bad = true;
			l->state = TNEF_OVER;
		} else
			next(t, l, TNEF_ATTRIBUTE, 9, 0);
		break;
	case TNEF_ATTRIBUTE:
		begin_attribute(t, l);
		break;
	case TNEF_VALUE:
	case TNEF_SKIP:
		next(t, l, TNEF_CHECKSUM, 2, 0);
		break;
	case TNEF_CHECKSUM:
		next(t, l, TNEF_ATTRIBUTE, 9, 0);
		break;
	case TNEF_COUNT:
		l->props = get(l->hold, 4);
		next_prop(t, l);
		break;
	case TNEF_PROP:
		l->type = get(l->hold, 2);
		l->id = get(l->hold + 2, 2);
		if (l->id >= NAMED)
			next(t, l, TNEF_GUID, 20, 0);
		else
			begin_values(t, l);
		break;
	case TNEF_GUID:
		/* Behind the GUID: 0 and a number, or 1 and a name. */
		next(t, l, TNEF_NAME_SIZE, 4, 0);
		l->unicode = false;
		if (get(l->hold + 16, 4) != 0)
			l->unicode = true;
		break;
	case TNEF_NAME_SIZE:
		if (l->unicode) {
			uint64_t n = get(l->hold, 4);

			l->unicode = false;
			l->sink = SINK_NONE;
			next(t, l, TNEF_NAME, 0, n + (4 - n % 4) % 4);
		} else
			begin_values(t, l);
		break;
	case TNEF_NAME:
		begin_values(t, l);
		break;
	case TNEF_VALUES:
		l->values = get(l->hold, 4);
		next_value(t, l);
		break;
	case TNEF_SIZE:
		begin_data(t, l, get(l->hold, 4));
		break;
	case TNEF_DATA:
		if (l->sink == SINK_MESSAGE)
			end_level(t, inner(t, l));
		/* Then as a fixed value: bytes to skip. */
		l->sink = SINK_NONE;
		next(t, l, TNEF_FIXED, 0, l->pad <= l->left ? l->pad :
		    l->left);
		break;
	case TNEF_FIXED:
		next_value(t, l);
		break;
	}
}

static void feed(struct tnef *t, struct level *l, struct view v);

static void
pass_on(struct tnef *t, struct level *l, struct view v)
{
	size_t n;

	switch (l->sink) {
	case SINK_NONE:
		break;
	case SINK_NAME:
		if (!buf_putv(&l->value, view_head(v,
		    TNEF_VALUE_MAX - l->value.n)))
			t->bad = true;
		if (l->value.n == TNEF_VALUE_MAX)
			t->bad = true;
		break;
	case SINK_BYTES:
		if (l->open)
			t->ops->bytes(t->arg, v);
		break;
	case SINK_MESSAGE:
		n = l->iid < v.n ? l->iid : v.n;
		l->iid -= (uint32_t)n;
		feed(t, inner(t, l), view_from(v, n));
		break;
	}
}

/* Depth is limited by inner(). */
static void
feed(struct tnef *t, struct level *l, struct view v)
{
	size_t n;

	while (l->state != TNEF_OVER) {
		if (l->n < l->want) {
			n = l->want - l->n < v.n ? l->want - l->n : v.n;
			if (n > 0)
				memcpy(l->hold + l->n, v.p, n);
			l->n += n;
		} else {
			n = l->stream < v.n ? (size_t)l->stream : v.n;
			if (n > 0)
				pass_on(t, l, view_head(v, n));
			l->stream -= n;
		}
		v = view_from(v, n);
		if (l->n < l->want || l->stream > 0)
			return;
		step(t, l);
	}
}

void
tnef_begin(struct tnef *t)
{
	size_t i;

	for (i = 0; i < TNEF_DEPTH_MAX; i++)
		t->levels[i].state = TNEF_OVER;
	t->attachments = 0;
	t->bad = false;
	begin_level(&t->levels[0]);
}

void
tnef_feed(struct tnef *t, struct view bytes)
{
	feed(t, &t->levels[0], bytes);
}

bool
tnef_end(struct tnef *t)
{
	size_t i;

	for (i = TNEF_DEPTH_MAX; i-- > 0; )
		end_level(t, &t->levels[i]);
	return !t->bad;
}
