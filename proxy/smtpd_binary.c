#include <openssl/evp.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_binary.h"

#define FEED		4096u	/* given to the walk at once */
#define LINE_LIMIT	8192u
/* Each makes a line that looks like a boundary dearer for all sessions. */
#define NESTING_LIMIT	30u
/* A header that is longer goes out before its end is seen. */
#define HEADER_HELD	8192u
#define GROUP		57u	/* octets in a line of base64 */
#define FIELD		"Content-Transfer-Encoding: "

_Static_assert(HEADER_HELD + LINE_LIMIT + 2 + FEED <= BINARY_HELD,
    "what is held");

struct binary {
	struct stage stage;
	struct mime *mime;
	struct text *lines;
	struct buf *out;	/* of this call */
	struct buf held;	/* what came, from "done" on */
	size_t line_limit;
	uint64_t came, done;	/* octets; dealt with */
	const char *refusal;
	bool is_8bit;
	/* Of the header block: */
	bool binary, other;	/* its encoding, one and another */
	bool message, fragile;	/* its type */
	bool unended;		/* no empty line behind it */
	bool awaited;		/* a body to encode is next */

	bool encoding;
	uint64_t sure;		/* up to there it is octets of this part */
	unsigned char group[GROUP];
	size_t group_n;
};

static void
refuse(struct binary *b, const char *reply)
{
	if (b->refusal == NULL)
		b->refusal = reply;
	mime_stop(b->mime);
}

/* -- output ---------------------------------------------------------------- */

static void
put_lines(struct binary *b, struct view v)
{
	char *to = buf_room(b->out, 2 * v.n + TEXT_SPARE);
	size_t n;

	ensure(to != NULL);
	ensure(text_decode(b->lines, v, to, &n) == v.n);
	b->is_8bit = b->is_8bit || view_8bit(view_make(to, n));
	b->out->n += n;
}

/* A line of base64. */
static void
put_group(struct binary *b, const void *p, size_t n)
{
	char *to = buf_room(b->out, GROUP / 3 * 4 + 3);

	ensure(to != NULL);
	b->out->n += (size_t)EVP_EncodeBlock((unsigned char *)to, p, (int)n);
	ensure(buf_puts(b->out, "\r\n"));
}

static void
put_encoded(struct binary *b, struct view v)
{
	size_t n = GROUP - b->group_n;

	if (b->group_n > 0) {
		n = v.n < n ? v.n : n;
		memcpy(b->group + b->group_n, v.p, n);
		b->group_n += n;
		v = view_from(v, n);
		if (b->group_n < GROUP)
			return;
		put_group(b, b->group, GROUP);
	}
	for (; v.n >= GROUP; v = view_from(v, GROUP))
		put_group(b, v.p, GROUP);
	if (v.n > 0)
		memcpy(b->group, v.p, v.n);
	b->group_n = v.n;
}

static void
end_encoded(struct binary *b)
{
	if (b->group_n > 0)
		put_group(b, b->group, b->group_n);
	b->group_n = 0;
	b->encoding = false;
}

/* What came up to that offset goes out as what it is. */
static void
pass(struct binary *b, uint64_t to)
{
	struct view v = buf_view(&b->held);

	if (to <= b->done)
		return;
	v = view_head(view_from(v, v.n - (size_t)(b->came - b->done)),
	    (size_t)(to - b->done));
	b->done = to;
	if (b->encoding)
		put_encoded(b, v);
	else
		put_lines(b, v);
}

/* It does not go out, but a bare LF in it was there. */
static void
drop(struct binary *b, const struct mime_header *h)
{
	size_t n = b->out->n;
	bool was_8bit = b->is_8bit;

	pass(b, h->offset + h->size - h->line_end);
	/* What goes on is at the begin of a line, also at the end of all. */
	put_lines(b, view_of(h->line_end == 1 ? "\n" : "\r\n"));
	b->done = h->offset + h->size;
	b->out->n = n;
	b->is_8bit = was_8bit;
}

static void
put_field(struct binary *b, const char *encoding)
{
	/* The text may end within the line of a header. */
	if (b->lines->state == TEXT_LINE || b->lines->state == TEXT_CR)
		put_lines(b, view_of("\r\n"));
	put_lines(b, view_of(FIELD));
	put_lines(b, view_of(encoding));
	put_lines(b, view_of("\r\n"));
}

/* -- the walk -------------------------------------------------------------- */

static struct binary *
binary_of(struct stage *s)
{
	return (struct binary *)(void *)s;
}

static void
on_part_begin(struct stage *s, const struct mime_part *p)
{
	struct binary *b = binary_of(s);

	(void)p;
	b->binary = b->other = b->message = b->fragile = b->unended = false;
}

static void
look_at_type(struct binary *b, struct view value)
{
	struct view type, subtype, rest;

	field_type(value, &type, &subtype, &rest);
	if (!view_is_nocase(type, "message"))
		return;
	b->message = true;
	if (view_is_nocase(subtype, "partial") ||
	    view_is_nocase(subtype, "external-body"))
		b->fragile = true;
}

static bool
is_binary(struct view value)
{
	struct view type, subtype, rest;

	field_type(value, &type, &subtype, &rest);
	return view_is_nocase(type, "binary");
}

static void
on_header(struct stage *s, const struct mime_header *h)
{
	struct binary *b = binary_of(s);
	bool mine = h->field == FIELD_CONTENT_TRANSFER_ENCODING;

	pass(b, h->offset);
	if ((mine || h->field == FIELD_CONTENT_TYPE) &&
	    h->kept < h->size - h->line_end)
		refuse(b, "554 5.6.0 Error: MIME header too long");
	if (h->field == FIELD_CONTENT_TYPE)
		look_at_type(b, h->value);
	else if (mine && !is_binary(h->value))
		b->other = true;
	else if (mine && b->done > h->offset)
		refuse(b, "554 5.6.0 Error: MIME header too long");
	else if (mine) {
		b->binary = true;
		drop(b, h);
	}
	pass(b, h->offset + h->size);
}

static void
on_headers_end(struct stage *s, const struct mime_part *p, uint64_t offset)
{
	struct binary *b = binary_of(s);
	bool leaf = mime_content(b->mime) == MIME_CONTENT_LEAF;

	(void)p;
	pass(b, offset);
	if (!b->binary)
		return;
	if (b->other)
		refuse(b, "554 5.6.0 Error: two Content-Transfer-Encodings");
	else if (leaf && b->fragile)
		/* RFC 2046 section 5.2 */
		refuse(b, "554 5.6.1 Error: this type of message may not be "
		    "binary");
	else if (!leaf || b->message)
		put_field(b, "8bit");
	else {
		put_field(b, "base64");
		mime_octets(b->mime);
		b->awaited = true;
	}
}

static void
on_line(struct stage *s, const struct mime_line *l)
{
	struct binary *b = binary_of(s);

	if (l->between && b->encoding) {
		/* The line end is the boundary's. */
		pass(b, b->sure);
		b->done = l->offset;
		end_encoded(b);
	} else if (!l->between && b->awaited) {
		pass(b, l->offset);
		if (b->unended)
			put_lines(b, view_of("\r\n"));
		b->encoding = true;
	}
	b->awaited = false;
	if (b->encoding)
		b->sure = l->offset + l->text.n;
	else
		pass(b, l->offset + l->size);
}

static void
on_condition(struct stage *s, enum mime_condition c,
    const struct mime_part *p, uint64_t offset, struct view text)
{
	struct binary *b = binary_of(s);

	(void)p;
	(void)offset;
	(void)text;
	if (c == MIME_TOO_DEEP)
		refuse(b, "554 5.6.0 Error: MIME parts nested too deeply");
	else if (c == MIME_BOUNDARY_TOO_LONG)
		refuse(b, "554 5.6.0 Error: MIME boundary too long");
	else if (c == MIME_HEADER_NOT_ENDED)
		b->unended = true;
}

static void
on_end(struct stage *s)
{
	struct binary *b = binary_of(s);

	pass(b, b->came);
	end_encoded(b);
}

static const struct stage_ops ops = {
	.name = "binary", .part_begin = on_part_begin, .header = on_header,
	.headers_end = on_headers_end, .line = on_line,
	.condition = on_condition, .end = on_end,
};

/* -- the caller's ---------------------------------------------------------- */

struct binary *
binary_new(const struct mime_options *o, struct text *lines)
{
	struct mime_options limits = *o;
	struct binary *b = mem_alloc(sizeof *b);
	struct stage *stages[] = { &b->stage };

	ensure(!o->one_part && !o->stray_is_data);
	if (limits.line_length_limit > LINE_LIMIT)
		limits.line_length_limit = LINE_LIMIT;
	if (limits.nesting_limit > NESTING_LIMIT)
		limits.nesting_limit = NESTING_LIMIT;
	b->stage.ops = &ops;
	b->lines = lines;
	b->line_limit = limits.line_length_limit;
	buf_init(&b->held, BINARY_HELD);
	b->mime = mime_new(&limits);
	mime_begin(b->mime, stages, 1);
	return b;
}

void
binary_free(struct binary **b)
{
	if (*b == NULL)
		return;
	mime_free(&(*b)->mime);
	buf_free(&(*b)->held);
	free(*b);
	*b = NULL;
}

static void
forget_done(struct binary *b)
{
	buf_consume(&b->held, b->held.n - (size_t)(b->came - b->done));
}

/* Only a header is held for longer than its last line. */
static void
let_go(struct binary *b)
{
	size_t tail = b->line_limit + 2;

	if (b->encoding)
		pass(b, b->sure);
	forget_done(b);
	if (b->held.n > HEADER_HELD + tail) {
		ensure(!b->encoding);
		pass(b, b->came - tail);
		forget_done(b);
	}
}

void
binary_decode(struct binary *b, struct view in, struct buf *out)
{
	struct view piece;

	b->out = out;
	for (; in.n > 0 && b->refusal == NULL; in = view_from(in, FEED)) {
		piece = view_head(in, FEED);
		ensure(buf_putv(&b->held, piece));
		b->came += piece.n;
		mime_feed(b->mime, piece);
		if (b->refusal == NULL)
			let_go(b);
	}
	b->out = NULL;
}

void
binary_finish(struct binary *b, struct buf *out)
{
	char *to;

	b->out = out;
	if (b->refusal == NULL)
		mime_end(b->mime);
	if (b->refusal != NULL)
		b->lines->state = TEXT_END;
	else {
		to = buf_room(out, TEXT_SPARE);
		ensure(to != NULL);
		out->n += text_finish(b->lines, to);
	}
	b->out = NULL;
}

const char *
binary_refusal(const struct binary *b)
{
	return b->refusal;
}

bool
binary_is_8bit(const struct binary *b)
{
	return b->is_8bit;
}
