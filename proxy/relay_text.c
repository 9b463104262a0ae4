#include "proxy/relay_text.h"

void
relay_text_init(struct relay_text *t, size_t line_limit, bool chunks)
{
	*t = (struct relay_text){ .limit = line_limit, .chunks = chunks };
	if (line_limit > 0 && line_limit < RELAY_TEXT_LINE_MIN)
		t->limit = RELAY_TEXT_LINE_MIN;
}

/* Bytes of the UTF-8 character that begins with c; 1 for anything else. */
static size_t
text_char_size(unsigned char c)
{
	return c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
}

/*
 * How many of the n bytes at s fit on the open line.  Within the last three
 * columns a character that would not fit whole is left for the next line.
 * This looks at the first byte of the character alone, because the others
 * may not have been read yet, and the result must not depend on that.
 */
static size_t
text_fit(const struct relay_text *t, const char *s, size_t n)
{
	size_t room = t->limit - t->column, i;

	for (i = room > 3 ? room - 3 : 0; i < room && i < n; i++)
		if (i + text_char_size((unsigned char)s[i]) > room)
			return i;
	return n < room ? n : room;
}

static char *
text_line_end(struct relay_text *t, char *out)
{
	t->column = 0;
	*out++ = '\r';
	*out++ = '\n';
	return out;
}

/* Part of one line, without its line end; stray CRs in it become spaces. */
static char *
text_put(struct relay_text *t, const char *s, size_t n, char *out)
{
	size_t k;
	char *cr;

	if (t->column == 0 && n > 0 && *s == '.' && !t->chunks)
		*out++ = '.';
	while (n > 0) {
		k = t->limit > 0 ? text_fit(t, s, n) : n;
		memcpy(out, s, k);
		cr = out;
		while ((cr = memchr(cr, '\r', (size_t)(out + k - cr))) != NULL)
			*cr = ' ';
		out += k;
		s += k;
		n -= k;
		t->column += k;
		if (n > 0) {
			out = text_line_end(t, out);
			*out++ = ' ';
			t->column = 1;
		}
	}
	return out;
}

size_t
relay_text_encode(struct relay_text *t, struct view in, char *out)
{
	const char *p = in.p, *end = in.p + in.n, *lf;
	char *start = out;

	if (in.n > 0 && t->cr) {
		t->cr = false;
		if (*p == '\n') {
			out = text_line_end(t, out);
			p++;
		} else {
			out = text_put(t, " ", 1, out);
		}
	}
	while (p < end) {
		lf = memchr(p, '\n', (size_t)(end - p));
		if (lf == NULL) {
			t->cr = end[-1] == '\r';
			out = text_put(t, p, (size_t)(end - p) - t->cr, out);
			break;
		}
		if (lf > p && lf[-1] == '\r') {
			out = text_put(t, p, (size_t)(lf - p) - 1, out);
			out = text_line_end(t, out);
		} else {
			out = text_put(t, p, (size_t)(lf - p), out);
			out = text_put(t, " ", 1, out);
		}
		p = lf + 1;
	}
	return (size_t)(out - start);
}

size_t
relay_text_end(struct relay_text *t, char *out)
{
	char *start = out;

	if (t->cr)
		out = text_put(t, " ", 1, out);
	t->cr = false;
	if (t->column > 0)
		out = text_line_end(t, out);
	if (!t->chunks) {
		*out++ = '.';
		out = text_line_end(t, out);
	}
	return (size_t)(out - start);
}
