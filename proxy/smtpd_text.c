#include "lib/log.h"
#include "proxy/smtpd_text.h"

#define ARROWS_MAX	32u

static const char from_line[] = "From ";

void
text_init(struct text *t, bool replace_cr)
{
	*t = (struct text){ .state = TEXT_FIRST, .replace_cr = replace_cr };
}

void
text_init_chunks(struct text *t, bool replace_cr)
{
	text_init(t, replace_cr);
	t->chunks = true;
}

static char *
put(char *to, const char *p, size_t n)
{
	memcpy(to, p, n);
	return to + n;
}

/* What was held back in TEXT_FIRST, behind the text in front. */
static char *
text_first_flush(struct text *t, char *to, const char *front)
{
	to = put(to, front, strlen(front));
	memset(to, '>', t->arrows);
	return put(to + t->arrows, from_line, t->from);
}

/*
 * The first line may be a mailbox separator ("From user date"), which
 * sendmail lets pass: it becomes a header of its own.  A text that begins
 * with white space gets an empty line, or it would continue our Received
 * header.  Returns the bytes used; leaves TEXT_FIRST when it is decided.
 */
static size_t
text_first(struct text *t, struct view in, char **to)
{
	size_t i;
	char c;

	for (i = 0; i < in.n; i++) {
		c = in.p[i];
		if (t->from == 0 && c == '>' && t->arrows < ARROWS_MAX) {
			t->arrows++;
			continue;
		}
		if (c == from_line[t->from]) {
			if (++t->from < sizeof from_line - 1)
				continue;
			*to = text_first_flush(t, *to, "X-Mailbox-Line: ");
			t->state = TEXT_LINE;
			return i + 1;
		}
		if (t->arrows + t->from == 0) {
			if (c == ' ' || c == '\t')
				*to = put(*to, "\r\n", 2);
			t->state = TEXT_START;
		} else {
			*to = text_first_flush(t, *to, "");
			t->state = TEXT_LINE;
		}
		return i;
	}
	return i;
}

/*
 * One step where the next byte decides: everything but a plain line.  c is
 * the next byte; returns whether it was used.
 */
static bool
text_step(struct text *t, char c, char **to)
{
	char stray = t->replace_cr ? ' ' : '\r';

	switch (t->state) {
	case TEXT_START:
	case TEXT_START_LF:
		if (c != '.' || t->chunks) {
			t->state = TEXT_LINE;
			return false;
		}
		t->state = t->state == TEXT_START ? TEXT_DOT : TEXT_DOT_LF;
		return true;
	case TEXT_CR:
		if (c == '\n') {
			*to = put(*to, "\r\n", 2);
			t->state = TEXT_START;
			return true;
		}
		*(*to)++ = stray;
		t->state = TEXT_LINE;
		return false;
	case TEXT_DOT:
	case TEXT_DOT_LF:
		if (c == '\r') {
			t->state = t->state == TEXT_DOT ? TEXT_DOT_CR :
			    TEXT_DOT_LF_CR;
			return true;
		}
		if (c == '\n') {
			/* A lone dot that a bare LF ends: data. */
			*to = put(*to, ".\r\n", 3);
			t->bare_lf = true;
			t->state = TEXT_START_LF;
			return true;
		}
		/* A stuffed dot: gone. */
		t->state = TEXT_LINE;
		return false;
	case TEXT_DOT_CR:
		if (c == '\n') {
			t->state = TEXT_END;
			return true;
		}
		*(*to)++ = stray;
		t->state = TEXT_LINE;
		return false;
	case TEXT_DOT_LF_CR:
		if (c == '\n') {
			/* LF.CRLF: the smuggler's end of message, data here. */
			*to = put(*to, ".\r\n", 3);
			t->state = TEXT_START;
			return true;
		}
		*(*to)++ = stray;
		t->state = TEXT_LINE;
		return false;
	case TEXT_NONE:
	case TEXT_FIRST:
	case TEXT_LINE:
	case TEXT_END:
		break;
	}
	panic("text_step in state %d", (int)t->state);
}

/*
 * Copy [p, end) up to where a step is needed, in pieces as large as possible.
 * A run is broken only by what changes: a bare CR or LF, a dot at a line
 * start, the end of the input.
 */
static const char *
text_lines(struct text *t, const char *p, const char *end, char **to)
{
	const char *run = p, *lf, *stop, *cr;

	while (p < end) {
		lf = memchr(p, '\n', (size_t)(end - p));
		stop = lf != NULL ? lf : end;
		cr = memchr(p, '\r', (size_t)(stop - p));
		if (cr != NULL && cr + 1 != stop) {
			/* Not followed by LF, and the next byte is here. */
			if (!t->replace_cr) {
				p = cr + 1;
				continue;
			}
			*to = put(*to, run, (size_t)(cr - run));
			*(*to)++ = ' ';
			run = p = cr + 1;
			continue;
		}
		if (lf == NULL) {
			/* A CR as the last byte waits for what follows. */
			*to = put(*to, run, (size_t)(
			    (cr != NULL ? cr : end) - run));
			t->state = cr != NULL ? TEXT_CR : TEXT_LINE;
			return end;
		}
		p = lf + 1;
		if (cr == NULL) {
			*to = put(*to, run, (size_t)(lf - run));
			*to = put(*to, "\r\n", 2);
			t->bare_lf = true;
			t->state = TEXT_START_LF;
			return p;
		}
		if (p < end && *p == '.' && !t->chunks) {
			*to = put(*to, run, (size_t)(p - run));
			t->state = TEXT_DOT;
			return p + 1;
		}
	}
	*to = put(*to, run, (size_t)(p - run));
	t->state = TEXT_START;
	return p;
}

size_t
text_decode(struct text *t, struct view in, char *out, size_t *ret_out)
{
	const char *p = in.p, *end = in.p + in.n;
	char *to = out;

	if (t->state == TEXT_FIRST)
		p += text_first(t, in, &to);
	while (p < end && t->state != TEXT_END) {
		if (t->state == TEXT_LINE)
			p = text_lines(t, p, end, &to);
		else
			p += text_step(t, *p, &to);
	}
	*ret_out = (size_t)(to - out);
	return (size_t)(p - in.p);
}

size_t
text_finish(struct text *t, char *out)
{
	char *to = out;

	ensure(t->chunks);
	switch (t->state) {
	case TEXT_FIRST:
		to = text_first_flush(t, to, "");
		if (to != out)
			to = put(to, "\r\n", 2);
		break;
	case TEXT_CR:
		*to++ = t->replace_cr ? ' ' : '\r';
		to = put(to, "\r\n", 2);
		break;
	case TEXT_LINE:
		to = put(to, "\r\n", 2);
		break;
	case TEXT_NONE:
	case TEXT_START:
	case TEXT_START_LF:
	case TEXT_DOT:
	case TEXT_DOT_LF:
	case TEXT_DOT_CR:
	case TEXT_DOT_LF_CR:
	case TEXT_END:
		break;
	}
	t->state = TEXT_END;
	return (size_t)(to - out);
}
