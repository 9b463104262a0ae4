#include <stdlib.h>

#include "filters/milter_mail.h"
#include "lib/header.h"
#include "lib/log.h"

/* New bodies are kept beside the bytes of headers. */
#define ARENA_MAX	(4u * MILTER_HEADER_BYTES_MAX)

struct field {
	struct view name, value;	/* as struct milter_header */
	struct view raw;		/* as it stands in the text, with line
					 * ends; empty: it is new */
	bool own;
};

struct milter_mail {
	struct view text;
	const struct edits *edits;	/* those of begin */
	struct buf now;			/* the text with them, when there are
					 * some */
	struct view head, rest;		/* of it; rest begins with the line
					 * that ends the header */
	struct field *fields;
	size_t n_fields;
	size_t bytes;			/* of names and values */
	struct arena *arena;
	struct buf body;
	bool new_header, new_body;
	struct milter_header *shown;
	struct milter_text told;
	struct buf block;		/* the header anew */
};

struct milter_mail *
milter_mail_new(size_t text_max)
{
	struct milter_mail *m = mem_alloc(sizeof *m);

	buf_init(&m->now, text_max + EDITS_BYTES_MAX);
	buf_init(&m->body, text_max);
	buf_init(&m->block, ARENA_MAX);
	m->arena = arena_new(ARENA_MAX);
	return m;
}

void
milter_mail_free(struct milter_mail **mp)
{
	struct milter_mail *m = *mp;

	if (m == NULL)
		return;
	buf_free(&m->now);
	buf_free(&m->body);
	buf_free(&m->block);
	arena_free(&m->arena);
	free(m->fields);
	free(m->shown);
	free(m);
	*mp = NULL;
}

/* -- from text to fields --------------------------------------------------- */

/* The next line with its end. */
static struct view
next_line(struct view rest)
{
	return view_head(rest, view_find(rest, '\n') + 1);
}

static struct view
without_end(struct view line)
{
	if (line.n > 0 && line.p[line.n - 1] == '\n')
		line.n--;
	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

/* A header and the lines that go on with it; empty: none begins here. */
static struct view
next_header(struct view rest, struct view *ret_name)
{
	struct view line = next_line(rest), after, colon;
	size_t n;

	if (!header_split(without_end(line), ret_name, &colon))
		return view_head(rest, 0);
	n = line.n;
	while (n < rest.n && (rest.p[n] == ' ' || rest.p[n] == '\t')) {
		after = view_from(rest, n);
		n += next_line(after).n;
	}
	return view_head(rest, n);
}

/* Behind the colon, LF between lines. */
static struct view
value_of(struct arena *a, struct view raw)
{
	struct view v = view_from(raw, view_find(raw, ':') + 1);
	char *to = arena_alloc(a, v.n + 1);
	size_t i, n = 0;

	v = without_end(v);
	for (i = 0; i < v.n; i++)
		if (v.p[i] != '\r' || i + 1 == v.n || v.p[i + 1] != '\n')
			to[n++] = v.p[i];
	return view_make(to, n);
}

static struct field *
put_field(struct field **list, size_t *n, size_t at)
{
	if (*n == MILTER_HEADERS_MAX)
		return NULL;
	/* Doubled at each power of two. */
	if ((*n & (*n - 1)) == 0)
		*list = mem_resize(*list, *n > 0 ? 2 * *n : 1,
		    sizeof **list);
	memmove(*list + at + 1, *list + at, (*n - at) * sizeof **list);
	(*n)++;
	return *list + at;
}

/*
 * Our own Received is the first one of the text, if a rule has not taken it
 * out.  What rules put in front of it is not ours.
 */
static bool
own_is_there(const struct milter_mail *m)
{
	struct view rest = m->text, raw, name;
	uint64_t at;
	uint32_t i;

	while ((raw = next_header(rest, &name)).n > 0 &&
	    !view_is_nocase(name, "Received"))
		rest = view_from(rest, raw.n);
	at = m->text.n - rest.n;
	for (i = 0; i < m->edits->n; i++)
		if (m->edits->list[i].offset <= at &&
		    at - m->edits->list[i].offset < m->edits->list[i].remove)
			return false;
	return raw.n > 0;
}

static bool
parse(struct milter_mail *m, struct view now, bool own)
{
	struct view rest = now, raw, name;
	struct field *f;

	own = own && own_is_there(m);

	while ((raw = next_header(rest, &name)).n > 0) {
		if (m->bytes + 2 * raw.n > MILTER_HEADER_BYTES_MAX)
			return false;
		f = put_field(&m->fields, &m->n_fields, m->n_fields);
		if (f == NULL)
			return false;
		m->bytes += 2 * raw.n;
		*f = (struct field){ .name = name, .raw = raw,
			.value = value_of(m->arena, raw),
			.own = own && view_is_nocase(name, "Received") };
		own = own && !f->own;
		rest = view_from(rest, raw.n);
	}
	m->head = view_head(now, now.n - rest.n);
	m->rest = rest;
	return true;
}

static bool
with_edits(struct milter_mail *m, const struct edits *e)
{
	struct view v = m->text;
	uint64_t at = 0;
	uint32_t i;

	buf_clear(&m->now);
	for (i = 0; i < e->n; i++) {
		if (!buf_putv(&m->now, view_head(view_from(v, (size_t)at),
		    (size_t)(e->list[i].offset - at))) ||
		    !buf_putv(&m->now, e->list[i].insert))
			return false;
		at = e->list[i].offset + e->list[i].remove;
	}
	return buf_putv(&m->now, view_from(v, (size_t)at));
}

bool
milter_mail_begin(struct milter_mail *m, struct view text,
    const struct edits *e, bool own)
{
	m->text = text;
	m->edits = e;
	m->n_fields = m->bytes = 0;
	free(m->fields);
	m->fields = NULL;
	m->new_header = m->new_body = false;
	buf_clear(&m->body);
	arena_reset(m->arena);
	if (e->n == 0)
		return parse(m, text, own);
	return with_edits(m, e) && parse(m, buf_view(&m->now), own);
}

/* Behind the empty line. */
static struct view
body_of(const struct milter_mail *m)
{
	struct view line = next_line(m->rest);

	if (m->new_body)
		return buf_view(&m->body);
	return without_end(line).n == 0 ? view_from(m->rest, line.n) :
	    m->rest;
}

const struct milter_text *
milter_mail_text(struct milter_mail *m)
{
	size_t i, n = 0;

	m->shown = mem_resize(m->shown, m->n_fields + 1, sizeof *m->shown);
	for (i = 0; i < m->n_fields; i++)
		if (!m->fields[i].own)
			m->shown[n++] = (struct milter_header){
				m->fields[i].name, m->fields[i].value };
	m->told = (struct milter_text){ m->shown, n, body_of(m) };
	return &m->told;
}

/* -- changes --------------------------------------------------------------- */

/* The number-th of a name, from 1, among those a filter sees; n: none. */
static size_t
find_field(const struct field *list, size_t n, struct view name,
    uint32_t number)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!list[i].own && view_eq_nocase(list[i].name, name) &&
		    --number == 0)
			return i;
	return n;
}

static void
drop_field(struct field *list, size_t *n, size_t at)
{
	memmove(list + at, list + at + 1, (*n - at - 1) * sizeof *list);
	(*n)--;
}

struct change {
	struct field *list;
	size_t n, bytes;
};

static bool
set_field(struct milter_mail *m, struct change *c, struct field *f,
    const struct milter_edit *e, bool spaces)
{
	size_t n = e->name.n + e->value.n + 1;
	char *to;

	if (c->bytes + 2 * n > MILTER_HEADER_BYTES_MAX)
		return false;
	c->bytes += 2 * n;
	to = arena_alloc(m->arena, e->value.n + 2);
	to[0] = ' ';
	memcpy(to + 1, e->value.n > 0 ? e->value.p : "", e->value.n);
	*f = (struct field){ .name = arena_copy(m->arena, e->name),
		.value = spaces ? view_make(to + 1, e->value.n) :
		view_make(to, e->value.n + 1) };
	return true;
}

static bool
insert_field(struct milter_mail *m, struct change *c, size_t at,
    const struct milter_edit *e, bool spaces)
{
	struct field *f = put_field(&c->list, &c->n, at);

	return f != NULL && set_field(m, c, f, e, spaces);
}

static bool
change_field(struct milter_mail *m, struct change *c,
    const struct milter_edit *e, bool spaces)
{
	uint32_t number = e->number > 0 ? e->number : 1;
	size_t at = find_field(c->list, c->n, e->name, number);

	if (e->value.n > 0)
		return at < c->n ? set_field(m, c, &c->list[at], e, spaces) :
		    insert_field(m, c, c->n, e, spaces);
	if (at < c->n)
		drop_field(c->list, &c->n, at);
	return true;
}

static bool
apply_all(struct milter_mail *m, struct change *c,
    const struct milter_edit *list, size_t n, bool spaces)
{
	size_t i;
	bool ok = true;

	for (i = 0; ok && i < n; i++)
		if (list[i].kind == MILTER_EDIT_ADD_HEADER)
			ok = insert_field(m, c, c->n, &list[i], spaces);
		else if (list[i].kind == MILTER_EDIT_INSERT_HEADER)
			ok = insert_field(m, c, list[i].number < c->n ?
			    list[i].number : c->n, &list[i], spaces);
		else if (list[i].kind == MILTER_EDIT_CHANGE_HEADER)
			ok = change_field(m, c, &list[i], spaces);
	return ok;
}

/* With CRLF line ends, whatever they were. */
static bool
put_lines(struct buf *b, struct view v)
{
	size_t n;
	struct view line;

	while (v.n > 0) {
		n = view_find(v, '\n');
		line = view_head(v, n);
		if (n < v.n && line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (!buf_putv(b, line) ||
		    (n < v.n && !buf_put(b, "\r\n", 2)))
			return false;
		v = view_from(v, n + 1);
	}
	return true;
}

/* A last line of the text without its end would run into the next. */
static bool
put_end(struct buf *b)
{
	return b->n == 0 || b->p[b->n - 1] == '\n' ||
	    buf_put(b, "\r\n", 2);
}

static bool
put_body(struct buf *b, struct view body)
{
	return put_lines(b, body) && put_end(b);
}

static bool
replaces_body(const struct milter_edit *list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (list[i].kind == MILTER_EDIT_BODY)
			return true;
	return false;
}

static bool
changes_header(const struct milter_edit *list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (list[i].kind <= MILTER_EDIT_CHANGE_HEADER)
			return true;
	return false;
}

bool
milter_mail_apply(struct milter_mail *m, const struct milter_edit *list,
    size_t n, struct view body, bool spaces)
{
	struct change c = { NULL, 0, m->bytes };
	struct buf anew;
	size_t i;

	buf_init(&anew, m->body.max);
	if (replaces_body(list, n) && !put_body(&anew, body)) {
		buf_free(&anew);
		return false;
	}
	if (changes_header(list, n)) {
		for (i = 0; i < m->n_fields; i++)
			*put_field(&c.list, &c.n, i) = m->fields[i];
		if (!apply_all(m, &c, list, n, spaces)) {
			free(c.list);
			buf_free(&anew);
			return false;
		}
		free(m->fields);
		m->fields = c.list;
		m->n_fields = c.n;
		m->bytes = c.bytes;
		m->new_header = true;
	}
	if (replaces_body(list, n)) {
		buf_free(&m->body);
		m->body = anew;
		m->new_body = true;
	}
	return true;
}

/* -- what became of it ----------------------------------------------------- */

static bool
put_block(struct milter_mail *m)
{
	struct buf *b = &m->block;
	const struct field *f;
	size_t i;

	buf_clear(b);
	for (i = 0; i < m->n_fields; i++) {
		f = &m->fields[i];
		if (!put_end(b) || !(f->raw.n > 0 ? buf_putv(b, f->raw) :
		    buf_putv(b, f->name) && buf_putc(b, ':') &&
		    put_lines(b, f->value) && buf_put(b, "\r\n", 2)))
			return false;
	}
	return (m->rest.n == 0 && !m->new_body) || put_end(b);
}

/* The end of the header when the text has none. */
static struct view
separator(const struct milter_mail *m)
{
	return m->new_body || (m->rest.n > 0 &&
	    without_end(next_line(m->rest)).n > 0) ? view_of("\r\n") :
	    view_make("", 0);
}

bool
milter_mail_write(struct milter_mail *m,
    bool (*put)(void *arg, struct view piece), void *arg)
{
	return put_block(m) && put(arg, buf_view(&m->block)) &&
	    put(arg, separator(m)) &&
	    put(arg, m->new_body ? body_of(m) : m->rest);
}

static size_t
common_head(struct view a, struct view b)
{
	size_t n = 0;

	while (n < a.n && n < b.n && a.p[n] == b.p[n])
		n++;
	return n;
}

static size_t
common_tail(struct view a, struct view b)
{
	size_t n = 0;

	while (n < a.n && n < b.n && a.p[a.n - 1 - n] == b.p[b.n - 1 - n])
		n++;
	return n;
}

static bool
line_begin(struct view v, size_t at)
{
	return at == 0 || v.p[at - 1] == '\n';
}

/* From the block of the text to the new one, in as few bytes as one edit
 * can; by whole lines, so that it can be read. */
static struct edit
one_edit(struct view was, struct view is)
{
	size_t head = common_head(was, is), tail;

	while (!line_begin(was, head))
		head--;
	tail = common_tail(view_from(was, head), view_from(is, head));
	while (tail > 0 && (!line_begin(was, was.n - tail) ||
	    !line_begin(is, is.n - tail)))
		tail--;
	return (struct edit){ .offset = head, .remove = was.n - head - tail,
		.insert = view_head(view_from(is, head),
		is.n - head - tail) };
}

/* Where the header of the text ends, and how many edits lie in front. */
static bool
header_end(const struct milter_mail *m, uint64_t *ret_end, uint32_t *ret_n)
{
	uint64_t now = m->head.n, at = now, end;
	uint32_t i;

	/* Edits move what comes behind them. */
	for (i = 0; i < m->edits->n; i++) {
		const struct edit *e = &m->edits->list[i];

		if (e->offset >= at)
			break;
		at += e->remove;
		at -= e->insert.n < at ? e->insert.n : at;
		end = e->offset + e->remove;
		if (at < end)
			return false;	/* the header ends inside it */
	}
	*ret_end = at;
	*ret_n = i;
	return true;
}

bool
milter_mail_edits(struct milter_mail *m, struct arena *a, struct edits *ret)
{
	uint64_t end;
	uint32_t front, i;
	size_t bytes = 100;

	if (m->new_body)
		return false;
	if (!m->new_header) {
		*ret = *m->edits;
		return true;
	}
	if (!header_end(m, &end, &front) || !put_block(m) ||
	    !buf_putv(&m->block, separator(m)))
		return false;
	ret->n = 1 + m->edits->n - front;
	ret->list = arena_alloc(a, ret->n * sizeof *ret->list);
	ret->list[0] = one_edit(view_head(m->text, (size_t)end),
	    buf_view(&m->block));
	for (i = front; i < m->edits->n; i++)
		ret->list[1 + i - front] = m->edits->list[i];
	for (i = 0; i < ret->n; i++)
		bytes += ret->list[i].insert.n + 20;
	return ret->n <= EDITS_MAX && bytes <= EDITS_BYTES_MAX;
}
