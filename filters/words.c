#include "filters/base64.h"
#include "filters/charset.h"

#define WORDS_BYTES_MAX	65536u

/* =?charset*language?encoding?text?= (RFC 2047 section 2, 2231 section 5) */
struct word {
	struct view charset, text;
	char encoding;
	size_t size;		/* in the source */
};

/*
 * Spaces in the text, missing "?=" at the end of the value: read as programs
 * do that show it.
 */
static bool
take_word(struct view v, struct word *ret, bool *no_end)
{
	struct view rest;
	size_t n, i;

	if (*no_end || v.n < 5 || v.p[0] != '=' || v.p[1] != '?')
		return false;
	rest = view_from(v, 2);
	n = view_find(view_head(rest, 65), '?');
	if (n == rest.n || n == 0 || n > 64)
		return false;
	ret->charset = view_head(rest, n);
	ret->charset.n = view_find(ret->charset, '*');
	rest = view_from(rest, n + 1);
	if (rest.n < 2 || rest.p[1] != '?')
		return false;
	ret->encoding = (char)(rest.p[0] | 0x20);
	if (ret->encoding != 'q' && ret->encoding != 'b')
		return false;
	rest = view_from(rest, 2);
	for (i = 0; i < rest.n; i++)
		if (rest.p[i] == '?' && i + 1 < rest.n && rest.p[i + 1] == '=')
			break;
	/* None of those behind it ends either: do not look again, and again. */
	*no_end = i == rest.n;
	if (*no_end)
		return false;
	ret->text = view_head(rest, i);
	ret->size = (size_t)(rest.p - v.p) + i + 2;
	return true;
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void
decode(const struct word *w, struct buf *raw)
{
	struct base64 b;
	size_t i;
	char *p;

	if (w->encoding == 'b') {
		base64_begin(&b, BASE64_GOES_ON);
		p = buf_room(raw, BASE64_ROOM(w->text.n));
		if (p != NULL)
			raw->n += base64_decode(&b, w->text, p);
		p = buf_room(raw, BASE64_ROOM(0));
		if (p != NULL)
			raw->n += base64_end(&b, p);
		return;
	}
	for (i = 0; i < w->text.n; i++) {
		char c = w->text.p[i];

		if (c == '=' && i + 2 < w->text.n && hex(w->text.p[i + 1]) >= 0
		    && hex(w->text.p[i + 2]) >= 0) {
			c = (char)(hex(w->text.p[i + 1]) * 16 +
			    hex(w->text.p[i + 2]));
			i += 2;
		} else if (c == '_')
			c = ' ';
		(void)buf_putc(raw, c);
	}
}

bool
charsets_words(const struct charsets *cs, struct view text, struct buf *out)
{
	struct view charset = view_make("", 0);
	struct word w;
	struct buf raw;
	size_t i = 0, blank;
	bool any = false, no_end = false;

	buf_init(&raw, WORDS_BYTES_MAX);
	while (i < text.n) {
		/* White space between two words is none. */
		blank = i;
		while (raw.n > 0 && blank < text.n &&
		    view_space(text.p[blank]))
			blank++;
		if (text.p[i] != '=' && blank == i) {
			if (raw.n > 0)
				charsets_utf8(cs, charset, buf_view(&raw),
				    out);
			buf_clear(&raw);
			(void)buf_putc(out, text.p[i++]);
			continue;
		}
		if (take_word(view_from(text, blank), &w, &no_end)) {
			if (raw.n > 0 && !view_eq_nocase(charset, w.charset)) {
				charsets_utf8(cs, charset, buf_view(&raw),
				    out);
				buf_clear(&raw);
			}
			charset = w.charset;
			decode(&w, &raw);
			any = true;
			i = blank + w.size;
			continue;
		}
		if (raw.n > 0)
			charsets_utf8(cs, charset, buf_view(&raw), out);
		buf_clear(&raw);
		(void)buf_putc(out, text.p[i++]);
	}
	if (raw.n > 0)
		charsets_utf8(cs, charset, buf_view(&raw), out);
	buf_free(&raw);
	return any;
}
