#include <errno.h>
#include <unistd.h>

#include "queue/local_text.h"

#define PIECE	65536u
#define FROM	"From "
#define FROM_N	5u
#define LINE_MAX_KEPT	1200u	/* of a header line */

/* -- lines ------------------------------------------------------------------ */

struct lines {
	unsigned flags;
	struct view eol;
	text_sink *sink;
	void *arg;
	bool cr;		/* a CR came, and nothing after it */
	bool begun;		/* of this line something came */
	size_t from;		/* bytes of "From " that it began with */
	char out[PIECE];
	size_t n;
};

static bool
lines_flush(struct lines *l)
{
	bool ok = l->n == 0 || l->sink(view_make(l->out, l->n), l->arg);

	l->n = 0;
	return ok;
}

static bool
lines_put(struct lines *l, struct view v)
{
	size_t k;

	while (v.n > 0) {
		if (l->n == sizeof l->out && !lines_flush(l))
			return false;
		k = v.n < sizeof l->out - l->n ? v.n : sizeof l->out - l->n;
		memcpy(l->out + l->n, v.p, k);
		l->n += k;
		v = view_from(v, k);
	}
	return true;
}

static bool
lines_from(struct lines *l, bool whole)
{
	size_t n = l->from;

	l->from = 0;
	return (!whole || lines_put(l, view_of(">"))) &&
	    lines_put(l, view_make(FROM, n));
}

/* A byte that is no line end. */
static bool
lines_byte(struct lines *l, char c)
{
	bool first = !l->begun;

	l->begun = true;
	if ((l->flags & TEXT_QUOTE_FROM) != 0 && (first || l->from > 0)) {
		if (c == FROM[l->from]) {
			if (++l->from < FROM_N)
				return true;
			return lines_from(l, true);
		}
		if (l->from > 0 && !lines_from(l, false))
			return false;
	}
	if (first && c == '.' && (l->flags & TEXT_DOT) != 0 &&
	    !lines_put(l, view_of(".")))
		return false;
	return lines_put(l, view_make(&c, 1));
}

static bool
lines_end(struct lines *l)
{
	bool ok = l->from == 0 || lines_from(l, false);

	l->begun = false;
	return ok && lines_put(l, l->eol);
}

/* Most of a text needs no second look: it is copied up to the line's end. */
static bool
lines_rest(struct lines *l, struct view *v)
{
	size_t n = 0;

	while (n < v->n && v->p[n] != '\r' && v->p[n] != '\n')
		n++;
	if (!lines_put(l, view_head(*v, n)))
		return false;
	*v = view_from(*v, n);
	return true;
}

static bool
lines_feed(struct lines *l, struct view v)
{
	char c;

	while (v.n > 0) {
		c = v.p[0];
		if (l->cr) {
			l->cr = false;
			if (c != '\n' && !lines_byte(l, '\r'))
				return false;
		}
		if (l->begun && l->from == 0 && c != '\r' && c != '\n') {
			if (!lines_rest(l, &v))
				return false;
			continue;
		}
		v = view_from(v, 1);
		if (c == '\r')
			l->cr = true;
		else if (c == '\n' ? !lines_end(l) : !lines_byte(l, c))
			return false;
	}
	return true;
}

static bool
lines_finish(struct lines *l)
{
	if (l->cr && !lines_byte(l, '\r'))
		return false;
	if (l->begun && !lines_end(l))
		return false;
	if ((l->flags & TEXT_BLANK) != 0 && !lines_put(l, l->eol))
		return false;
	return lines_flush(l);
}

/* -- reading ---------------------------------------------------------------- */

static bool
text_range(const struct local_text *t, uint64_t at, uint64_t n,
    struct lines *l, enum text_end *ret)
{
	char piece[PIECE];
	ssize_t k;

	while (n > 0) {
		k = pread(t->fd, piece, n < sizeof piece ? (size_t)n :
		    sizeof piece, (off_t)(t->offset + at));
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			if (k == 0)
				errno = EIO;	/* shorter than it was */
			*ret = TEXT_UNREADABLE;
			return false;
		}
		if (!lines_feed(l, view_make(piece, (size_t)k))) {
			*ret = TEXT_REFUSED;
			return false;
		}
		at += (uint64_t)k;
		n -= (uint64_t)k;
	}
	return true;
}

enum text_end
local_text_send(const struct local_text *t, unsigned flags, const char *eol,
    text_sink *sink, void *arg)
{
	struct lines l = { .flags = flags, .sink = sink, .arg = arg,
		.eol = view_of(eol != NULL ? eol : "\n") };
	enum text_end end = TEXT_DONE;
	const struct edit *e;
	uint64_t at = 0;
	uint32_t i;

	for (i = 0; i < t->edits.n; i++) {
		e = &t->edits.list[i];
		if (!text_range(t, at, e->offset - at, &l, &end))
			return end;
		if (!lines_feed(&l, e->insert))
			return TEXT_REFUSED;
		at = e->offset + e->remove;
	}
	if (!text_range(t, at, t->size - at, &l, &end))
		return end;
	return lines_finish(&l) ? TEXT_DONE : TEXT_REFUSED;
}

/* -- Delivered-To: ---------------------------------------------------------- */

struct search {
	struct view addr;
	char line[LINE_MAX_KEPT];
	size_t n;
	bool found, over;
};

static void
search_line(struct search *s)
{
	static const char name[] = "Delivered-To:";
	struct view line = view_make(s->line, s->n);

	s->over = s->n == 0;
	if (view_starts_nocase(line, name) && view_eq_nocase(view_trim(
	    view_from(line, sizeof name - 1)), s->addr))
		s->found = true;
	s->n = 0;
}

static bool
search_sink(struct view v, void *arg)
{
	struct search *s = arg;
	size_t i;

	for (i = 0; i < v.n && !s->found && !s->over; i++) {
		if (v.p[i] == '\n')
			search_line(s);
		else if (s->n < sizeof s->line)
			s->line[s->n++] = v.p[i];
	}
	return !s->found && !s->over;
}

int
local_text_delivered_to(const struct local_text *t, struct view addr)
{
	struct search s = { .addr = addr };

	if (local_text_send(t, 0, NULL, search_sink, &s) == TEXT_UNREADABLE)
		return -1;
	return s.found;
}
