#include "lib/address.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_generic.h"
#include "proxy/relay_source.h"
#include "rules/rewrite.h"
#include "rules/table_remote.h"

/* Headers behind this many bytes stay as they are. */
#define HEADERS_MAX	(1u << 20)

/* The headers of a message, as read and as they shall be. */
struct headers {
	struct rewrite *generic;
	struct buf was, now;	/* with what was read behind them */
	struct buf one, out;	/* a header, lines separated by "\n" */
	bool changed;
};

static bool
generic_address(struct delivery *d, struct rewrite *generic,
    struct view *addr)
{
	struct buf out;
	bool ok;

	buf_init(&out, 2 * ADDRESS_MAX);
	ok = rewrite_generic(generic, *addr, &out) == REWRITE_DONE;
	if (ok && !view_eq(*addr, buf_view(&out)))
		*addr = arena_copy(d->arena, buf_view(&out));
	buf_free(&out);
	return ok;
}

/* Where the header that begins at i ends: behind its last line end. */
static size_t
header_end(struct view text, size_t i)
{
	do {
		i += view_find(view_from(text, i), '\n') + 1;
	} while (i < text.n && (text.p[i] == ' ' || text.p[i] == '\t'));
	return i < text.n ? i : text.n;
}

/* Is the line that begins at i empty, so that the body comes next? */
static bool
headers_over(struct view text, size_t i)
{
	return i >= text.n || text.p[i] == '\n' ||
	    (text.p[i] == '\r' && i + 1 < text.n && text.p[i + 1] == '\n');
}

/* True when all headers are in b, or as many as are looked at. */
static bool
headers_complete(const struct buf *b)
{
	struct view text = buf_view(b);
	size_t i = 0;

	while (i < text.n && !headers_over(text, i))
		i += view_find(view_from(text, i), '\n') + 1;
	return i < text.n || b->n >= HEADERS_MAX;
}

static bool
put_lines(struct buf *b, struct view v, bool wire)
{
	size_t i;

	for (i = 0; i < v.n; i++) {
		if (wire && v.p[i] == '\n' && !buf_putc(b, '\r'))
			return false;
		if (!wire && v.p[i] == '\r' && i + 1 < v.n &&
		    v.p[i + 1] == '\n')
			continue;
		if (!buf_putc(b, v.p[i]))
			return false;
	}
	return true;
}

/* One header with its line end. */
static bool
headers_one(struct headers *h, struct view text)
{
	struct view body = text;
	bool changed = false;

	while (body.n > 0 && (body.p[body.n - 1] == '\n' ||
	    body.p[body.n - 1] == '\r'))
		body.n--;
	buf_clear(&h->one);
	if (put_lines(&h->one, body, false) &&
	    !rewrite_goes_on(rewrite_generic_header(h->generic,
	    buf_view(&h->one), &h->out, &changed)))
		return false;
	if (!changed)
		return buf_putv(&h->now, text);
	h->changed = true;
	return put_lines(&h->now, buf_view(&h->out), true) &&
	    buf_putv(&h->now, view_from(text, body.n));
}

static bool
headers_rewrite(struct headers *h)
{
	struct view text = buf_view(&h->was);
	size_t i = 0, end;

	while (!headers_over(text, i)) {
		end = header_end(text, i);
		/* The last one may not be all there. */
		if (end == text.n)
			break;
		if (!headers_one(h, view_make(text.p + i, end - i)))
			return false;
		i = end;
	}
	return buf_putv(&h->now, view_from(text, i));
}

/*
 * Read until the headers are complete and no edit is half done; the text up
 * to there becomes one edit, and those behind it stay.
 */
static bool
headers_read(struct delivery *d, struct headers *h, struct relay_source *s)
{
	enum relay_source_answer a = SOURCE_DATA;
	struct view piece;

	relay_source_init(s, d->fd, d->text_offset, d->text_size, &d->edits);
	while (!relay_source_at_end(s) &&
	    (s->inserted > 0 || !headers_complete(&h->was))) {
		a = relay_source_read(s, d->relay->piece,
		    sizeof d->relay->piece, &piece);
		if (a != SOURCE_DATA || !buf_putv(&h->was, piece))
			return false;
	}
	return true;
}

static void
headers_edit(struct delivery *d, const struct headers *h,
    const struct relay_source *s)
{
	struct edits e = { .n = d->edits.n - s->edit + 1 };

	e.list = arena_alloc(d->arena, e.n * sizeof *e.list);
	e.list[0] = (struct edit){ .offset = 0, .remove = s->pos,
		.insert = arena_copy(d->arena, buf_view(&h->now)) };
	if (e.n > 1)
		memcpy(e.list + 1, d->edits.list + s->edit,
		    (e.n - 1) * sizeof *e.list);
	d->edits = e;
	d->size = edits_size(&d->edits, d->text_size);
}

static void
headers_begin(struct headers *h)
{
	/* One piece and one insert may come behind the headers. */
	buf_init(&h->was, HEADERS_MAX + RELAY_PIECE + EDITS_BYTES_MAX);
	buf_init(&h->now, 2 * h->was.max);
	buf_init(&h->one, HEADERS_MAX);
	buf_init(&h->out, 2 * HEADERS_MAX);
}

static void
headers_free(struct headers *h)
{
	buf_free(&h->was);
	buf_free(&h->now);
	buf_free(&h->one);
	buf_free(&h->out);
}

static bool
generic_headers(struct delivery *d, struct rewrite *generic)
{
	struct headers h = { .generic = generic };
	struct relay_source s;
	bool ok;

	headers_begin(&h);
	ok = headers_read(d, &h, &s) && headers_rewrite(&h);
	if (ok && h.changed)
		headers_edit(d, &h, &s);
	headers_free(&h);
	return ok;
}

bool
relay_generic(struct delivery *d, struct rewrite *generic)
{
	uint32_t i;
	bool ok = generic_address(d, generic, &d->env.sender);

	for (i = 0; ok && i < d->n_rcpts; i++)
		ok = generic_address(d, generic, &d->rcpts[i].out);
	if (ok && generic_headers(d, generic))
		return true;
	log_warn("%s: smtp_generic_maps: %s", d->id,
	    rewrite_problem(generic)[0] != '\0' ? rewrite_problem(generic) :
	    "the headers cannot be read or rewritten");
	return false;
}

void
relay_generic_rehearse(struct delivery *d, struct rewrite *generic)
{
	struct headers h = { .generic = generic };
	struct relay_source s;
	struct buf out;
	uint32_t i;

	buf_init(&out, 2 * ADDRESS_MAX);
	(void)rewrite_generic(generic, d->env.sender, &out);
	for (i = 0; !table_known_full() && i < d->n_rcpts; i++)
		(void)rewrite_generic(generic, d->rcpts[i].out, &out);
	buf_free(&out);
	if (table_known_full())
		return;
	headers_begin(&h);
	if (headers_read(d, &h, &s))
		(void)headers_rewrite(&h);
	headers_free(&h);
}
