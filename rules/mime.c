#include <stdlib.h>

#include "lib/header.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "rules/boundary.h"
#include "rules/head.h"
#include "rules/mime.h"

#define MIME_MAGIC	0x4d494d45u
#define DATA_LINE	25u	/* bytes of what is more than a word */

enum mime_state {
	MIME_REFUSED = 0,
	MIME_PRIMARY,		/* header block of the message */
	MIME_PART,		/* ... of a part */
	MIME_NESTED,		/* ... of an attached message */
	MIME_ENTITY,		/* behind a header block: its type decides */
	MIME_BODY,		/* of a leaf */
	MIME_GAP,		/* text of a multipart outside its parts */
	MIME_DONE,
	MIME_STATES
};

enum line_kind {
	LINE_NONE = 0,
	LINE_EMPTY,
	LINE_FIELD,		/* begins a header */
	LINE_FOLD,		/* continues it */
	LINE_REST,		/* a further piece of a long line */
	LINE_OPEN,		/* boundary: a part begins */
	LINE_CLOSE,		/* final boundary */
	LINE_OTHER,
	LINE_LAST,		/* the end of the text */
	LINE_KINDS
};

/*
 * A line that is no header ends the header block of the message, and it is
 * made to end there for everybody (see non_empty_end_of_header_action).  In
 * other blocks nothing is changed, and there are receivers that skip such a
 * line: so do we, and see the headers behind it.
 */
static const enum mime_state next[MIME_STATES][LINE_KINDS] = {
	[MIME_PRIMARY] = {
		[LINE_EMPTY] = MIME_ENTITY,
		[LINE_FIELD] = MIME_PRIMARY,
		[LINE_FOLD] = MIME_PRIMARY,
		[LINE_REST] = MIME_PRIMARY,
		[LINE_OPEN] = MIME_PART,
		[LINE_CLOSE] = MIME_GAP,
		[LINE_OTHER] = MIME_BODY,
		[LINE_LAST] = MIME_DONE,
	},
	[MIME_PART] = {
		[LINE_EMPTY] = MIME_ENTITY,
		[LINE_FIELD] = MIME_PART,
		[LINE_FOLD] = MIME_PART,
		[LINE_REST] = MIME_PART,
		[LINE_OPEN] = MIME_PART,
		[LINE_CLOSE] = MIME_GAP,
		[LINE_OTHER] = MIME_PART,
		[LINE_LAST] = MIME_DONE,
	},
	[MIME_NESTED] = {
		[LINE_EMPTY] = MIME_ENTITY,
		[LINE_FIELD] = MIME_NESTED,
		[LINE_FOLD] = MIME_NESTED,
		[LINE_REST] = MIME_NESTED,
		[LINE_OPEN] = MIME_PART,
		[LINE_CLOSE] = MIME_GAP,
		[LINE_OTHER] = MIME_NESTED,
		[LINE_LAST] = MIME_DONE,
	},
	[MIME_BODY] = {
		[LINE_EMPTY] = MIME_BODY,
		[LINE_REST] = MIME_BODY,
		[LINE_OPEN] = MIME_PART,
		[LINE_CLOSE] = MIME_GAP,
		[LINE_OTHER] = MIME_BODY,
		[LINE_LAST] = MIME_DONE,
	},
	[MIME_GAP] = {
		[LINE_EMPTY] = MIME_GAP,
		[LINE_REST] = MIME_GAP,
		[LINE_OPEN] = MIME_PART,
		[LINE_CLOSE] = MIME_GAP,
		[LINE_OTHER] = MIME_GAP,
		[LINE_LAST] = MIME_DONE,
	},
};

/* What the Content-Type headers of a block say; all of them count. */
enum entity_type {
	TYPE_MULTIPART = 1 << 0,
	TYPE_DIGEST = 1 << 1,
	TYPE_MESSAGE = 1 << 2,
};

/* One line, or a piece of one, on its way through the walk. */
struct piece {
	struct view text;	/* strays are spaces already */
	struct view raw;	/* as received, without line end */
	uint64_t offset;
	size_t size;		/* with line end */
	bool first, last, strays;
};

struct mime {
	uint32_t magic;
	struct mime_options options;
	struct stage *stages[MIME_STAGES_MAX];
	size_t n_stages;
	bool own_stop, *stopped;	/* may be another walk's */

	enum mime_state state;
	uint64_t offset;	/* of what was not yet taken */
	uint64_t section;	/* where the section of lines began */
	bool mid_line;		/* the last piece did not end its line */
	bool octets, bare;	/* mime_octets(); an LF alone ended it */
	struct buf carry;	/* an incomplete line of earlier feeds */
	size_t scanned;		/* of it: no line end in there */
	bool scanned_strays;	/* ... but an LF that is none */
	char *clean;		/* a piece with strays replaced */

	struct head head;	/* the header being collected */

	uint32_t type;		/* of the entity: enum entity_type */
	bool type_seen;

	struct mime_part *levels;	/* open parts, outermost first */
	size_t n_levels, max_levels;
	uint32_t n_nested, n_parts;
	bool told_parts;

	struct boundaries boundaries;
	struct buf scratch;
};

/* A boundary has to fit into the first piece of its line, with the "--". */
static size_t
boundary_limit(const struct mime_options *o)
{
	ensure(o->line_length_limit > 2);
	return o->boundary_length_limit < o->line_length_limit - 2 ?
	    o->boundary_length_limit : o->line_length_limit - 2;
}

struct mime *
mime_new(const struct mime_options *o)
{
	struct mime *m = mem_alloc(sizeof *m);

	ensure(o->line_length_limit > 0 && o->header_size_limit > 0);
	m->magic = MIME_MAGIC;
	m->stopped = &m->own_stop;
	m->options = *o;
	/* As in Postfix, one more than the limit says. */
	boundaries_init(&m->boundaries, (size_t)o->nesting_limit + 1,
	    boundary_limit(o));
	/* A level belongs to a boundary or to a nested message. */
	m->max_levels = m->boundaries.max + o->nesting_limit + 1;
	m->levels = mem_array(m->max_levels, sizeof *m->levels);
	m->clean = mem_alloc(o->line_length_limit + 2);
	buf_init(&m->carry, o->line_length_limit + 2);
	head_init(&m->head, o->header_size_limit);
	buf_init(&m->scratch, 2 * o->header_size_limit + 1);
	return m;
}

void
mime_free(struct mime **m)
{
	if (*m == NULL)
		return;
	buf_free(&(*m)->carry);
	buf_free(&(*m)->head.text);
	buf_free(&(*m)->scratch);
	boundaries_free(&(*m)->boundaries);
	free((*m)->levels);
	free((*m)->clean);
	free(*m);
	*m = NULL;
}

void
mime_stop(struct mime *m)
{
	*m->stopped = true;
}

bool
mime_stopped(const struct mime *m)
{
	return *m->stopped;
}

void
mime_join(struct mime *m, struct mime *outer)
{
	m->stopped = outer->stopped;
}

void
mime_octets(struct mime *m)
{
	m->octets = true;
	m->bare = false;
}

enum mime_content
mime_content(const struct mime *m)
{
	if ((m->type & TYPE_MESSAGE) != 0 &&
	    m->n_nested < m->options.nesting_limit)
		return MIME_CONTENT_MESSAGE;
	return (m->type & TYPE_MULTIPART) != 0 ? MIME_CONTENT_PARTS :
	    MIME_CONTENT_LEAF;
}

/* -- events ---------------------------------------------------------------- */

static const struct mime_part *
part(const struct mime *m)
{
	ensure(m->n_levels > 0);
	return &m->levels[m->n_levels - 1];
}

static void
tell_condition(struct mime *m, enum mime_condition c, uint64_t offset,
    struct view text)
{
	size_t i;

	for (i = 0; i < m->n_stages && !*m->stopped; i++)
		if (m->stages[i]->ops->condition != NULL)
			m->stages[i]->ops->condition(m->stages[i], c,
			    part(m), offset, text);
}

static void
tell_line(struct mime *m, const struct piece *p, bool between)
{
	struct mime_line l;
	size_t i;

	for (i = 0; i < m->n_stages; i++)
		if (m->stages[i]->wants_lines)
			break;
	if (i == m->n_stages)
		return;
	l = (struct mime_line){
		.part = part(m), .text = p->text, .offset = p->offset,
		.size = p->size, .section_offset = p->offset - m->section,
		.first = p->first, .last = p->last, .between = between,
	};
	for (; i < m->n_stages && !*m->stopped; i++)
		if (m->stages[i]->wants_lines)
			m->stages[i]->ops->line(m->stages[i], &l);
}

static void
tell_strays(struct mime *m, const struct piece *p)
{
	size_t i, k;

	for (k = 0; k < p->raw.n && !*m->stopped; k++) {
		if (p->raw.p[k] != '\r' && p->raw.p[k] != '\n')
			continue;
		for (i = 0; i < m->n_stages && !*m->stopped; i++)
			if (m->stages[i]->ops->stray != NULL)
				m->stages[i]->ops->stray(m->stages[i],
				    p->offset + k);
	}
}

static void
begin_section(struct mime *m, uint64_t offset)
{
	size_t i;

	m->section = offset;
	for (i = 0; i < m->n_stages; i++)
		m->stages[i]->wants_lines = m->stages[i]->ops->line != NULL;
}

/* -- parts ----------------------------------------------------------------- */

/*
 * Enter a header block.  Nothing else makes a part or forgets the type of the
 * one before.
 */
static void
open_part(struct mime *m, enum mime_block block, uint64_t offset, bool digest)
{
	struct mime_part *p;
	size_t i;

	ensure(m->n_levels < m->max_levels);
	p = &m->levels[m->n_levels];
	*p = (struct mime_part){ .block = block, .index = m->n_parts++,
		.depth = (uint32_t)m->n_levels, .offset = offset };
	m->n_levels++;
	m->n_nested += block == MIME_BLOCK_NESTED;
	m->type = digest ? TYPE_MESSAGE : 0;
	m->type_seen = false;
	m->head.open = false;
	begin_section(m, offset);
	for (i = 0; i < m->n_stages && !*m->stopped; i++)
		if (m->stages[i]->ops->part_begin != NULL)
			m->stages[i]->ops->part_begin(m->stages[i], p);
	if (m->n_parts > m->options.part_limit && !m->told_parts) {
		m->told_parts = true;
		tell_condition(m, MIME_TOO_MANY_PARTS, offset,
		    view_make("", 0));
	}
}

/* Close open parts until n levels are left, and their boundaries. */
static void
close_parts(struct mime *m, size_t n)
{
	size_t i;

	for (; m->n_levels > n; m->n_levels--) {
		for (i = 0; i < m->n_stages && !*m->stopped; i++)
			if (m->stages[i]->ops->part_end != NULL)
				m->stages[i]->ops->part_end(m->stages[i],
				    part(m));
		if (part(m)->block == MIME_BLOCK_NESTED)
			m->n_nested--;
	}
	boundaries_leave(&m->boundaries, n);
}

struct declared {
	struct mime *m;
	bool told;
};

/*
 * A value of the boundary parameter.  A header with several of them is wrong,
 * and receivers differ in which they take: all are in force.
 */
static void
declare_boundary(const struct field_value *v, void *arg)
{
	struct declared *d = arg;
	struct mime *m = d->m;

	if (boundaries_outer(&m->boundaries, v->text, m->n_levels - 1))
		tell_condition(m, MIME_BOUNDARY_REUSED, m->head.offset,
		    v->text);
	switch (boundaries_add(&m->boundaries, v, m->n_levels - 1,
	    (m->type & TYPE_DIGEST) != 0)) {
	case BOUNDARY_ADDED:
		break;
	case BOUNDARY_CUT:
		tell_condition(m, MIME_BOUNDARY_TOO_LONG, m->head.offset,
		    v->text);
		break;
	case BOUNDARY_TOO_MANY:
		if (!d->told)
			tell_condition(m, MIME_TOO_DEEP, m->head.offset,
			    buf_view(&m->head.text));
		d->told = true;
		break;
	}
}

static void
content_type(struct mime *m, struct view value)
{
	struct declared d = { m, false };
	struct view type, subtype, rest;

	if (!m->type_seen)
		m->type = 0;	/* no longer the default of a digest */
	m->type_seen = true;
	field_type(value, &type, &subtype, &rest);
	if (view_is_nocase(type, "message")) {
		if (view_is_nocase(subtype, "rfc822") ||
		    view_is_nocase(subtype, "global") ||
		    view_is_nocase(subtype, "news"))
			m->type |= TYPE_MESSAGE;
	} else if (view_is_nocase(type, "multipart")) {
		m->type |= TYPE_MULTIPART;
		if (view_is_nocase(subtype, "digest"))
			m->type |= TYPE_DIGEST;
		field_param(rest, "boundary", &m->scratch, declare_boundary,
		    &d);
	}
}

/* -- headers --------------------------------------------------------------- */

static enum mime_header_kind
header_kind(const struct mime *m, enum field f)
{
	if (m->state == MIME_PART)
		return MIME_HEADER_MIME;
	if (field_is_mime(f) && !m->options.one_part)
		return MIME_HEADER_MIME;
	return m->state == MIME_PRIMARY ? MIME_HEADER_PRIMARY :
	    MIME_HEADER_NESTED;
}

/* The header is complete: look at it and tell it. */
static void
end_header(struct mime *m)
{
	struct mime_header h;
	size_t i;

	head_end(&m->head, &h);
	h.kind = header_kind(m, h.field);
	h.part = part(m);
	if (h.kept < h.size - h.line_end)
		tell_condition(m, MIME_HEADER_TOO_LONG, h.offset, h.text);
	if (h.field == FIELD_CONTENT_TYPE && !m->options.one_part)
		content_type(m, h.value);
	for (i = 0; i < m->n_stages && !*m->stopped; i++)
		if (m->stages[i]->ops->header != NULL)
			m->stages[i]->ops->header(m->stages[i], &h);
}

static void
end_headers(struct mime *m, enum line_kind kind, uint64_t offset,
    struct view text)
{
	size_t i;

	if (kind != LINE_EMPTY && kind != LINE_LAST)
		tell_condition(m, MIME_HEADER_NOT_ENDED, offset, text);
	for (i = 0; i < m->n_stages && !*m->stopped; i++)
		if (m->stages[i]->ops->headers_end != NULL)
			m->stages[i]->ops->headers_end(m->stages[i], part(m),
			    offset);
}

/* -- lines ----------------------------------------------------------------- */

static bool
in_headers(const struct mime *m)
{
	return m->state == MIME_PRIMARY || m->state == MIME_PART ||
	    m->state == MIME_NESTED;
}

static enum line_kind
find_boundary(struct mime *m, const struct piece *p, size_t *ret_which)
{
	bool ambiguous = false;
	enum boundary_line b = boundaries_find(&m->boundaries, p->text,
	    ret_which, &ambiguous);

	if (ambiguous)
		tell_condition(m, MIME_BOUNDARY_AMBIGUOUS, p->offset, p->text);
	if (b != BOUNDARY_NONE && !boundaries_whole(&m->boundaries, p->text,
	    *ret_which))
		tell_condition(m, MIME_BOUNDARY_PREFIX, p->offset, p->text);
	if (b == BOUNDARY_OPEN && m->boundaries.list[*ret_which].closed)
		tell_condition(m, MIME_BOUNDARY_REOPENED, p->offset, p->text);
	return b == BOUNDARY_OPEN ? LINE_OPEN :
	    b == BOUNDARY_CLOSE ? LINE_CLOSE : LINE_OTHER;
}

/*
 * Not a field, but with "Content-" near its begin and a colon; or that without
 * any, which may follow on the next line.
 */
static bool
looks_like_field(struct view v)
{
	size_t i;

	if (field_is_mime(field_find(view_trim(v))))
		return true;

	for (i = 0; i < 8 && i + 8 < v.n; i++)
		if ((v.p[i] | 0x20) == 'c' &&
		    view_starts_nocase(view_from(v, i), "content-"))
			return view_find(v, ':') < v.n;
	return false;
}

/* A line of base64, or one in which all is encoded. */
static bool
looks_like_data(struct view v)
{
	size_t i, codes = 0;

	v = view_trim(v);
	if (v.n < DATA_LINE || view_starts_nocase(v, "--"))
		return false;
	for (i = 0; i < v.n; i++) {
		char c = (char)(v.p[i] | 0x20);

		codes += v.p[i] == '=';
		if (!(c >= 'a' && c <= 'z') && !(v.p[i] >= '0' &&
		    v.p[i] <= '9') && strchr("+/=", v.p[i]) == NULL)
			return false;
	}
	/* No word is that long; names with "=" in them are no data. */
	return codes <= 2 || codes > v.n / 4;
}

static enum line_kind
classify(struct mime *m, const struct piece *p, size_t *ret_which)
{
	struct view name, rest, v = p->text;
	enum line_kind kind = LINE_OTHER;

	if (!p->first)
		return LINE_REST;
	if (v.n == 0)
		return LINE_EMPTY;
	/* Before headers: a boundary may look like one. */
	if (m->boundaries.n > 0 && v.n > 1 && v.p[0] == '-' &&
	    v.p[1] == '-' && !(m->octets && m->bare))
		kind = find_boundary(m, p, ret_which);
	if (kind != LINE_OTHER || !in_headers(m))
		return kind;
	if (v.p[0] == ' ' || v.p[0] == '\t')
		return m->head.open ? LINE_FOLD : LINE_OTHER;
	return header_split(v, &name, &rest) ? LINE_FIELD : LINE_OTHER;
}

/*
 * Behind a header block: what is next, by its type?  An attached message
 * begins with headers of its own.
 */
static enum mime_state
enter_entity(struct mime *m, const struct piece *p)
{
	uint64_t after = p->offset + p->size;

	begin_section(m, after);
	if (mime_content(m) == MIME_CONTENT_MESSAGE) {
		open_part(m, MIME_BLOCK_NESTED, after, false);
		return MIME_NESTED;
	}
	if ((m->type & TYPE_MESSAGE) != 0)
		tell_condition(m, MIME_TOO_DEEP, p->offset,
		    view_make("", 0));
	return mime_content(m) == MIME_CONTENT_PARTS ? MIME_GAP : MIME_BODY;
}

static void
enter_boundary(struct mime *m, enum line_kind kind, size_t which,
    const struct piece *p)
{
	const struct boundary *b = &m->boundaries.list[which];
	bool digest = b->digest;

	close_parts(m, b->level + 1);
	m->octets = false;
	begin_section(m, p->offset);
	tell_line(m, p, true);
	if (kind == LINE_CLOSE)
		boundaries_close(&m->boundaries, which);
	else {
		boundaries_open(&m->boundaries, which);
		open_part(m, MIME_BLOCK_PART, p->offset + p->size, digest);
	}
}

static void
take_piece(struct mime *m, struct piece *p)
{
	enum line_kind kind;
	enum mime_state to;
	size_t which = 0;
	bool headers = in_headers(m);

	/* First what the line ends, so that its boundaries are in force. */
	if (m->head.open && p->first &&
	    (p->text.n == 0 || (p->text.p[0] != ' ' && p->text.p[0] != '\t')))
		end_header(m);
	if (p->strays)
		tell_strays(m, p);
	kind = classify(m, p, &which);
	m->bare = p->last && p->size == p->raw.n + 1;
	to = next[m->state][kind];
	ensure(to != MIME_REFUSED);
	if (headers && (kind == LINE_FIELD || m->head.open)) {
		if (kind == LINE_FIELD)
			head_begin(&m->head, p->text, p->offset);
		else
			head_continue(&m->head, p->text, p->first);
		head_count(&m->head, p->size,
		    p->last ? p->size - p->raw.n : 0);
		return;
	}
	if (headers && kind == LINE_OTHER && looks_like_field(p->text))
		tell_condition(m, MIME_FIELD_BROKEN, p->offset, p->text);
	if (m->state == MIME_PART && kind == LINE_OTHER &&
	    looks_like_data(p->text))
		tell_condition(m, MIME_HEADER_DATA, p->offset, p->text);
	if (headers && kind != LINE_REST &&
	    (kind != LINE_OTHER || to != m->state))
		end_headers(m, kind, p->offset, p->text);
	if (*m->stopped)
		return;
	if (kind == LINE_OPEN || kind == LINE_CLOSE)
		enter_boundary(m, kind, which, p);
	else if (to == MIME_ENTITY)
		to = enter_entity(m, p);
	else {
		if (headers && to == MIME_BODY)
			begin_section(m, p->offset);
		/* Behind a boundary too long for one piece: its rest. */
		tell_line(m, p, to != MIME_BODY);
	}
	m->state = to;
}

/*
 * Find the end of the line at p.  *ret_content is its length without line
 * end, *ret_size with it.
 */
static bool
find_end(struct mime *m, const char *p, size_t n, size_t *ret_content,
    size_t *ret_size)
{
	size_t from = m->scanned;
	const char *nl;

	while (from < n && (nl = memchr(p + from, '\n', n - from)) != NULL) {
		*ret_size = (size_t)(nl - p) + 1;
		if (nl > p && nl[-1] == '\r') {
			*ret_content = *ret_size - 2;
			return true;
		}
		if (!m->options.stray_is_data) {
			*ret_content = *ret_size - 1;
			return true;
		}
		m->scanned_strays = true;
		from = *ret_size;
	}
	return false;
}

static void
clean_strays(struct mime *m, struct piece *p)
{
	size_t i;

	if (!m->options.stray_is_data || p->raw.n == 0)
		return;
	p->strays = p->strays || memchr(p->raw.p, '\r', p->raw.n) != NULL;
	if (!p->strays)
		return;
	for (i = 0; i < p->raw.n; i++)
		m->clean[i] = p->raw.p[i] == '\r' || p->raw.p[i] == '\n' ?
		    ' ' : p->raw.p[i];
	p->text = view_make(m->clean, p->raw.n);
}

/*
 * Take complete lines off the begin of v, and pieces of a line that is too
 * long.  With final also what is left.  Returns how many bytes were taken.
 */
static size_t
take_lines(struct mime *m, struct view v, bool final)
{
	/* A piece is cut only when the two bytes behind it are known not to
	 * complete a line end; so no CRLF is ever split. */
	const size_t limit = m->options.line_length_limit, window = limit + 2;
	struct piece p;
	size_t taken = 0, content, size;

	while (taken < v.n && !*m->stopped) {
		struct view left = view_from(v, taken);

		p = (struct piece){ .offset = m->offset, .last = true,
			.first = !m->mid_line };
		if (!find_end(m, left.p, left.n < window ? left.n : window,
		    &content, &size)) {
			if (left.n >= window) {
				content = size = limit;
				p.last = false;
			} else if (final)
				content = size = left.n;
			else {
				m->scanned = left.n;
				break;
			}
		}
		p.strays = m->scanned_strays;
		m->scanned = 0;
		m->scanned_strays = false;
		p.raw = p.text = view_head(left, content);
		p.size = size;
		m->mid_line = !p.last;
		clean_strays(m, &p);
		taken += size;
		m->offset += size;
		take_piece(m, &p);
	}
	return taken;
}

/* Which header block does a text begin with? */
static enum mime_state
block_state(enum mime_block b)
{
	return b == MIME_BLOCK_PART ? MIME_PART :
	    b == MIME_BLOCK_NESTED ? MIME_NESTED : MIME_PRIMARY;
}

void
mime_begin_inside(struct mime *m, enum mime_block block,
    struct stage *const *stages, size_t n)
{
	ensure(m->magic == MIME_MAGIC && n <= MIME_STAGES_MAX);
	if (n > 0)
		memcpy(m->stages, stages, n * sizeof *stages);
	m->n_stages = n;
	if (m->stopped == &m->own_stop)
		m->own_stop = false;
	m->offset = 0;
	m->mid_line = m->octets = m->bare = false;
	buf_clear(&m->carry);
	m->scanned = 0;
	m->scanned_strays = false;
	m->n_levels = 0;
	m->n_nested = m->n_parts = 0;
	m->told_parts = false;
	boundaries_clear(&m->boundaries);
	m->state = block_state(block);
	open_part(m, block, 0, false);
}

void
mime_begin(struct mime *m, struct stage *const *stages, size_t n)
{
	mime_begin_inside(m, MIME_BLOCK_PRIMARY, stages, n);
}

void
mime_feed(struct mime *m, struct view bytes)
{
	const char *nl;
	size_t n, room;

	ensure(m->magic == MIME_MAGIC && m->n_levels > 0);
	while (bytes.n > 0 && !*m->stopped) {
		if (m->carry.n == 0) {
			n = take_lines(m, bytes, false);
			bytes = view_from(bytes, n);
			if (*m->stopped)
				return;
			ensure(buf_putv(&m->carry, bytes));
			return;
		}
		/* Complete the line begun earlier, and no more. */
		room = m->carry.max - m->carry.n;
		n = bytes.n < room ? bytes.n : room;
		nl = memchr(bytes.p, '\n', n);
		if (nl != NULL)
			n = (size_t)(nl - bytes.p) + 1;
		ensure(buf_put(&m->carry, bytes.p, n));
		bytes = view_from(bytes, n);
		buf_consume(&m->carry,
		    take_lines(m, buf_view(&m->carry), false));
	}
}

void
mime_end(struct mime *m)
{
	size_t i;

	ensure(m->magic == MIME_MAGIC && m->n_levels > 0);
	if (!*m->stopped)
		take_lines(m, buf_view(&m->carry), true);
	if (m->head.open && !*m->stopped)
		end_header(m);
	if (in_headers(m) && !*m->stopped)
		end_headers(m, LINE_LAST, m->offset, view_make("", 0));
	m->state = next[m->state][LINE_LAST];
	ensure(m->state == MIME_DONE);
	if (boundaries_unfinished(&m->boundaries))
		tell_condition(m, MIME_NO_FINAL_BOUNDARY, m->offset,
		    view_make("", 0));
	close_parts(m, 0);
	for (i = 0; i < m->n_stages && !*m->stopped; i++)
		if (m->stages[i]->ops->end != NULL)
			m->stages[i]->ops->end(m->stages[i]);
	buf_clear(&m->carry);
}
