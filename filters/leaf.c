#include <stdlib.h>

#include "filters/leaf_priv.h"
#include "lib/header.h"
#include "lib/log.h"
#include "lib/mem.h"

#define CHUNK		(32u << 10)	/* decoded bytes told at once */
#define LINE_MAX_MAIL	998u		/* RFC 5322 section 2.1.1 */
/* Further readings may decode this many times the message, and 1 MB. */
#define AGAIN_MAX	4u

static struct leaves *
leaves_of(struct stage *s)
{
	return (struct leaves *)(void *)s;
}

/* Decoded bytes of the part. */
static void
flush(struct leaves *l)
{
	struct view v = view_make(l->out, l->out_n);
	struct leaf *f = &l->open[0];
	size_t i;

	if (v.n == 0)
		return;
	l->out_n = 0;
	for (i = 0; i < v.n && f->size + i < sizeof l->begin; i++)
		l->begin[f->size + i] = v.p[i];
	l->has_begin = true;
	if (f->size < 4 && f->size + v.n >= 4 &&
	    memcmp(l->begin, TNEF_SIGNATURE, 4) == 0) {
		l->in_tnef = true;
		tnef_begin(l->tnef);
		tnef_feed(l->tnef, view_make(l->begin, (size_t)f->size));
		condition_add(&f->conditions, MIME_TNEF);
	}
	leaf_bytes(l, 0, v);
	if (l->in_tnef)
		tnef_feed(l->tnef, v);
	else if (l->look_inside && !*l->stopped)
		inbody_feed(&l->inbody, v);
}

static char *
room(struct leaves *l, size_t n)
{
	if (l->out_n + n > CHUNK)
		flush(l);
	ensure(l->out_n + n <= CHUNK);
	return l->out + l->out_n;
}

/* Is a byte in it that the encoding does not allow?  Eight at a time: this
 * is done for every body that is not in base64. */
static void
check_bytes(struct leaf *f, struct view v)
{
	const uint64_t ones = 0x0101010101010101u, highs = ones << 7;
	uint64_t w, high = 0, zero = 0;
	bool nul = false;
	size_t i;

	if (f->encoding == ENCODING_BINARY)
		return;
	for (i = 0; i + sizeof w <= v.n; i += sizeof w) {
		memcpy(&w, v.p + i, sizeof w);
		high |= w;
		zero |= (w - ones) & ~w;
	}
	for (; i < v.n; i++) {
		high |= (unsigned char)v.p[i];
		nul = nul || v.p[i] == '\0';
	}
	if ((high & highs) != 0 && f->encoding != ENCODING_8BIT &&
	    f->encoding != ENCODING_UNKNOWN)
		condition_add(&f->conditions, MIME_BODY_8BIT);
	if (nul || (zero & highs) != 0)
		condition_add(&f->conditions, MIME_BODY_NUL);
}

static void
put_held_end(struct leaves *l)
{
	char *to = room(l, 2);

	if (l->held_end) {
		to[0] = '\r';
		to[1] = '\n';
		l->out_n += 2;
	}
	l->held_end = false;
}

static void
body_plain(struct leaves *l, struct view v, bool last)
{
	char *to;

	put_held_end(l);
	while (v.n > 0) {
		struct view head = view_head(v, CHUNK / 2);

		to = room(l, head.n);
		memcpy(to, head.p, head.n);
		l->out_n += head.n;
		v = view_from(v, head.n);
	}
	l->held_end = last;
}

static bool
is_qp(enum leaf_encoding e)
{
	return e == ENCODING_QP || e == ENCODING_QP_LOOSE;
}

static void
body_line(struct leaves *l, struct view v, bool last)
{
	struct leaf *f = &l->open[0];
	struct view head;
	char *to;

	if (f->encoding != ENCODING_BASE64 &&
	    f->encoding != ENCODING_BASE64_STRICT &&
	    f->encoding != ENCODING_BASE64_LOOSE)
		check_bytes(f, v);
	if (f->encoding < ENCODING_BASE64 ||
	    f->encoding > ENCODING_QP_LOOSE) {
		body_plain(l, v, last);
		return;
	}
	if (is_qp(f->encoding))
		put_held_end(l);
	do {
		head = view_head(v, CHUNK / 2);
		v = view_from(v, head.n);
		if (is_qp(f->encoding)) {
			to = room(l, QP_ROOM(head.n));
			l->out_n += qp_decode(&l->qp, head, last && v.n == 0,
			    to);
		} else {
			to = room(l, BASE64_ROOM(head.n));
			l->out_n += base64_decode(&l->base64, head, to);
			if (last && v.n == 0)
				base64_line_end(&l->base64);
		}
	} while (v.n > 0);
	if (is_qp(f->encoding) && last && !l->qp.soft) {
		l->out_n -= 2;
		l->held_end = true;
	}
}

/* -- the body of a part ---------------------------------------------------- */

static enum base64_padding
padding(enum leaf_encoding e)
{
	return e == ENCODING_BASE64_STRICT ? BASE64_STOPS :
	    e == ENCODING_BASE64_LOOSE ? BASE64_IS_GARBAGE : BASE64_GOES_ON;
}

/*
 * Does anybody want to know more of the body than where it ends?  Some only
 * care for conditions, and of most bodies not all of them can come.
 */
static bool
decode_for_sinks(const struct leaves *l, enum leaf_encoding e)
{
	struct condition_set inside = { 0 }, cares = { 0 };
	size_t i;

	for (i = 0; i < l->n_sinks; i++) {
		if (!l->sinks[i]->only_conditions)
			return true;
		cares.bits |= l->sinks[i]->cares.bits;
	}
	for (i = MIME_BODY_8BIT; i <= MIME_TNEF_BAD; i++)
		condition_add(&inside, (enum mime_condition)i);
	if (e >= ENCODING_BASE64 && e <= ENCODING_BASE64_LOOSE)
		for (i = MIME_BASE64_GARBAGE; i <= MIME_BASE64_END; i++)
			condition_add(&inside, (enum mime_condition)i);
	if (e == ENCODING_QP)
		for (i = MIME_QP_GARBAGE; i <= MIME_QP_END; i++)
			condition_add(&inside, (enum mime_condition)i);
	return (cares.bits & inside.bits) != 0;
}

static void
begin_body(struct leaves *l, struct entity *e, const struct mime_part *p,
    uint32_t reading, uint64_t header, uint64_t body)
{
	enum leaf_encoding how = e->encodings[reading];
	bool encoded = how >= ENCODING_BASE64 && how <= ENCODING_QP_LOOSE;
	struct leaf f = { .reading = reading, .origin = LEAF_PART, .part = p,
		.header = view_head(view_from(l->text, (size_t)header),
		    (size_t)(body - header)),
		.holds_message = encoded && e->message,
		.holds_parts = encoded && e->multipart,
		.type = view_make(e->type, e->type_n),
		.subtype = view_make(e->subtype, e->subtype_n),
		.charset = view_make(e->charset, e->charset_n),
		.encoding = how, .guess = reading >= e->guessed,
		.disposition = e->disposition,
		.in_signed = l->signed_depth > 0, .names = &e->names,
		.header_offset = header, .body_offset = body,
		.conditions = e->conditions };

	ensure(l->n_open == 0);
	base64_begin(&l->base64, padding(f.encoding));
	qp_begin(&l->qp, how == ENCODING_QP_LOOSE);
	inbody_begin(&l->inbody);
	l->in_tnef = l->held_end = l->has_begin = false;
	l->out_n = 0;
	l->look_inside = view_is_nocase(f.type, "text") ||
	    f.encoding == ENCODING_UUENCODE ||
	    f.encoding == ENCODING_UNKNOWN ||
	    view_is_nocase(f.subtype, "octet-stream") || !encoded;
	l->header = header;
	l->body = body;
	(void)leaf_begin(l, &f);
	l->decode = decode_for_sinks(l, f.encoding);
}

static void
end_body(struct leaves *l)
{
	struct leaf *f = &l->open[0];
	struct condition_set found = { 0 };
	char *to;

	if (f->encoding >= ENCODING_BASE64 &&
	    f->encoding <= ENCODING_BASE64_LOOSE) {
		to = room(l, BASE64_ROOM(0));
		l->out_n += base64_end(&l->base64, to);
		found = l->base64.conditions;
	} else if (is_qp(f->encoding)) {
		qp_end(&l->qp);
		found = l->qp.conditions;
	}
	/* What is wrong with what is none. */
	if (f->guess)
		found.bits = 0;
	flush(l);
	if (l->in_tnef) {
		if (!tnef_end(l->tnef))
			condition_add(&f->conditions, MIME_TNEF_BAD);
	} else if (l->look_inside)
		inbody_end(&l->inbody);
	f->conditions.bits |= found.bits;
	ensure(l->n_open == 1);
	leaf_end(l);
}

/* Decode a body once more, in another way. */
static void
replay(struct leaves *l, struct entity *e, const struct mime_part *p,
    uint32_t reading, uint64_t header, uint64_t body)
{
	struct view v;
	size_t n;

	if (body > l->seen)
		return;
	if (l->again + (l->seen - body) > AGAIN_MAX * l->text.n + (1u << 20)) {
		leaf_tell(l, MIME_READINGS, p, body, view_make("", 0));
		return;
	}
	l->again += l->seen - body;
	v = view_head(view_from(l->text, (size_t)body),
	    (size_t)(l->seen - body));
	begin_body(l, e, p, reading, header, body);
	while (l->decode && v.n > 0 && !*l->stopped) {
		n = view_find(v, '\n');
		body_line(l, view_head(v, n > 0 && n < v.n &&
		    v.p[n - 1] == '\r' ? n - 1 : n), n < v.n);
		v = view_from(v, n + 1);
	}
	end_body(l);
}

/*
 * What this reading found out: programs differ in what padding means, and in
 * what they make of quoted-printable that is none.
 */
static void
more_readings(struct leaves *l, struct entity *e, uint32_t reading)
{
	if (reading >= e->guessed)
		return;
	if (e->encodings[reading] == ENCODING_BASE64 && l->base64.goes_on) {
		entity_reading(e, ENCODING_BASE64_STRICT);
		entity_reading(e, ENCODING_BASE64_LOOSE);
	}
	if (e->encodings[reading] == ENCODING_QP && !entity_composite(e) &&
	    (condition_has(l->qp.conditions, MIME_QP_GARBAGE) ||
	    (l->has_begin && view_space(l->begin[0]) &&
	    !view_is_nocase(view_make(e->type, e->type_n), "text"))))
		entity_reading(e, ENCODING_QP_LOOSE);
}

static void
replay_all(struct leaves *l, struct entity *e, const struct mime_part *p,
    uint32_t from, uint64_t header, uint64_t body)
{
	uint32_t i;

	for (i = from; i < e->n_encodings && !*l->stopped; i++) {
		replay(l, e, p, i, header, body);
		more_readings(l, e, i);
	}
}

/* -- the stage ------------------------------------------------------------- */

static void
on_part_begin(struct stage *s, const struct mime_part *p)
{
	struct leaves *l = leaves_of(s);

	/* A part of a digest, of no type, was a message after all. */
	if (l->n_open > 0)
		end_body(l);
	l->last_block = p->index;
	l->told = (struct condition_set){ 0 };
	l->line_n = 0;
	l->seen = p->offset;
	entity_begin(&l->entity);
}

static void
on_header(struct stage *s, const struct mime_header *h)
{
	struct leaves *l = leaves_of(s);

	entity_field(&l->entity, h, l->text);
	l->seen = h->offset + h->size;
}

/* The bytes of the line end at offset, if there is one. */
static uint64_t
line_end(struct view text, uint64_t offset)
{
	struct view v = view_from(text, (size_t)offset);

	if (v.n > 1 && v.p[0] == '\r' && v.p[1] == '\n')
		return 2;
	return v.n > 0 && v.p[0] == '\n' ? 1 : 0;
}

static void
on_headers_end(struct stage *s, const struct mime_part *p, uint64_t offset)
{
	struct leaves *l = leaves_of(s);
	uint64_t body = offset + line_end(l->text, offset);
	struct saved *to;
	struct entity swap;
	bool encoded = false;
	size_t i;

	entity_end(&l->entity, p->block == MIME_BLOCK_PRIMARY);
	leaf_tell_set(l, l->entity.conditions, p, p->offset,
	    l->entity.names.n > 0 ? l->entity.names.list[0].text :
	    view_make("", 0));
	l->seen = body;
	if (l->entity.is_signed && l->signed_depth == 0)
		l->signed_depth = p->depth + 1;
	if (*l->stopped)
		return;
	if (!entity_composite(&l->entity)) {
		begin_body(l, &l->entity, p, 0, p->offset, body);
		return;
	}
	for (i = 0; i < l->entity.n_encodings; i++)
		encoded = encoded || l->entity.encodings[i] >= ENCODING_BASE64;
	if (!encoded && !l->entity.leaf)
		return;
	if (l->n_saved == SAVED_MAX) {
		leaf_tell(l, MIME_READINGS, p, p->offset, view_make("", 0));
		return;
	}
	to = &l->saved[l->n_saved++];
	swap = to->entity;
	*to = (struct saved){ l->entity, p->depth, p->offset, body };
	l->entity = swap;
}

/* Text outside the parts that a receiver could take for one. */
static void
between(struct leaves *l, const struct mime_line *m)
{
	struct view name, rest;

	if (!m->first || m->text.n < 8 || (m->text.p[0] | 0x20) != 'c' ||
	    !view_starts_nocase(m->text, "content-") ||
	    !header_split(m->text, &name, &rest) ||
	    !field_is_mime(field_find(name)))
		return;
	leaf_tell(l, m->part->index == l->last_block ? MIME_PREAMBLE_PART :
	    MIME_EPILOGUE_PART, m->part, m->offset, m->text);
}

static void
on_line(struct stage *s, const struct mime_line *m)
{
	struct leaves *l = leaves_of(s);

	l->line_n = (m->first ? 0 : l->line_n) + m->text.n;
	if (l->line_n > LINE_MAX_MAIL)
		leaf_tell(l, MIME_LINE_TOO_LONG, m->part, m->offset,
		    view_head(m->text, 60));
	if (m->between)
		between(l, m);
	else if (l->n_open > 0 && l->open[0].part == m->part && l->decode)
		body_line(l, m->text, m->last);
	l->seen = m->offset + m->size;
}

static void
on_part_end(struct stage *s, const struct mime_part *p)
{
	struct leaves *l = leaves_of(s);
	uint64_t header, body;

	if (l->n_open > 0 && l->open[0].part == p) {
		header = l->header;
		body = l->body;
		end_body(l);
		more_readings(l, &l->entity, 0);
		replay_all(l, &l->entity, p, 1, header, body);
	}
	if (l->n_saved > 0 && l->saved[l->n_saved - 1].depth == p->depth) {
		struct saved *v = &l->saved[--l->n_saved];

		replay_all(l, &v->entity, p, 0, v->header, v->body);
	}
	if (l->signed_depth == p->depth + 1)
		l->signed_depth = 0;
}

static void
on_stray(struct stage *s, uint64_t offset)
{
	struct leaves *l = leaves_of(s);

	if (l->n_open > 0)
		condition_add(&l->open[0].conditions, MIME_BODY_STRAY);
	else if (offset >= l->seen)
		condition_add(&l->entity.conditions, MIME_HEADER_STRAY);
}

static void
on_condition(struct stage *s, enum mime_condition c,
    const struct mime_part *p, uint64_t offset, struct view text)
{
	struct leaves *l = leaves_of(s);

	if (l->n_open > 0)
		condition_add(&l->open[0].conditions, c);
	leaf_tell(l, c, p, offset, text);
}

static const struct stage_ops leaves_ops = {
	.name = "leaves",
	.part_begin = on_part_begin,
	.header = on_header,
	.headers_end = on_headers_end,
	.line = on_line,
	.part_end = on_part_end,
	.stray = on_stray,
	.condition = on_condition,
};

struct leaves *
leaves_new(const struct charsets *cs)
{
	struct leaves *l = mem_alloc(sizeof *l);
	size_t i;

	l->stage.ops = &leaves_ops;
	l->stopped = &l->own_stop;
	l->charsets = cs;
	entity_init(&l->entity, cs);
	for (i = 0; i < SAVED_MAX; i++)
		entity_init(&l->saved[i].entity, cs);
	for (i = 0; i < LEAF_SLOTS; i++)
		names_init(&l->names[i], cs);
	inbody_init(&l->inbody, &leaf_inbody_ops, l);
	l->tnef = tnef_new(&leaf_tnef_ops, l);
	l->out = mem_alloc(CHUNK);
	return l;
}

void
leaves_free(struct leaves **l)
{
	size_t i;

	if (*l == NULL)
		return;
	entity_free(&(*l)->entity);
	for (i = 0; i < SAVED_MAX; i++)
		entity_free(&(*l)->saved[i].entity);
	for (i = 0; i < LEAF_SLOTS; i++)
		names_free(&(*l)->names[i]);
	tnef_free(&(*l)->tnef);
	free((*l)->out);
	free(*l);
	*l = NULL;
}

struct stage *
leaves_stage(struct leaves *l)
{
	return &l->stage;
}

void
leaves_begin(struct leaves *l, struct view text,
    struct leaf_sink *const *sinks, size_t n)
{
	ensure(n <= LEAF_SINKS_MAX);
	if (n > 0)
		memcpy(l->sinks, sinks, n * sizeof *sinks);
	l->n_sinks = n;
	l->text = text;
	if (l->stopped == &l->own_stop)
		l->own_stop = false;
	l->n_saved = 0;
	l->outer = NULL;
	l->n_open = 0;
	l->index = 0;
	l->signed_depth = 0;
	l->seen = l->again = 0;
}

void
leaves_begin_inside(struct leaves *l, struct view text,
    struct leaf_sink *const *sinks, size_t n, const struct leaf *outer)
{
	leaves_begin(l, text, sinks, n);
	l->outer = outer;
	l->index = outer->index + 1;
}

void
leaves_join(struct leaves *l, struct leaves *outer)
{
	l->stopped = outer->stopped;
}

struct view
leaves_raw(const struct leaves *l)
{
	return view_head(view_from(l->text, (size_t)l->body),
	    (size_t)(l->seen - l->body));
}

void
leaves_tell(struct leaves *l, enum mime_condition c, const struct leaf *f)
{
	leaf_tell(l, c, f->part, f->body_offset, leaf_show(f));
}

void
leaves_stop(struct leaves *l)
{
	*l->stopped = true;
}
