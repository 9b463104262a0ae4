#include "filters/html.h"

void
html_begin(struct html *h, html_line *each, void *arg)
{
	h->state = HTML_TEXT;
	h->n = h->used = 0;
	h->long_word = h->blank = false;
	h->hidden = NULL;
	h->each = each;
	h->arg = arg;
}

/* -- the line -------------------------------------------------------------- */

static void
end_line(struct html *h)
{
	if (h->used > 0)
		h->each(view_make(h->line, h->used), h->arg);
	h->used = 0;
	h->blank = false;
}

static void
put(struct html *h, const char *p, size_t n)
{
	if (h->blank && h->used > 0 && h->used + n + 1 <= HTML_LINE_MAX)
		h->line[h->used++] = ' ';
	h->blank = false;
	if (h->used + n > HTML_LINE_MAX)
		end_line(h);
	memcpy(h->line + h->used, p, n);
	h->used += n;
}

/* A byte of the text.  In UTF-8 they come one by one, too. */
static void
put_byte(struct html *h, char c)
{
	if (view_space(c))
		h->blank = true;
	else if ((unsigned char)c >= ' ' && c != 127)
		put(h, &c, 1);
}

/* Soft hyphens, characters without width, marks of direction. */
static bool
invisible(uint32_t u)
{
	return u == 0xad || u == 0x34f || u == 0x61c || u == 0x180e ||
	    (u >= 0x200b && u <= 0x200f) || (u >= 0x202a && u <= 0x202e) ||
	    (u >= 0x2060 && u <= 0x206f) || (u >= 0xfe00 && u <= 0xfe0f) ||
	    u == 0xfeff;
}

static void
put_char(struct html *h, uint32_t u)
{
	char b[4];
	size_t n = 0;

	if (u < 0x80) {
		put_byte(h, (char)u);
		return;
	}
	if (u == 0xa0 || u == 0x3000 || (u >= 0x2000 && u <= 0x200a)) {
		h->blank = true;
		return;
	}
	if (invisible(u) || u > 0x10ffff || (u >= 0xd800 && u <= 0xdfff))
		return;
	if (u < 0x800)
		b[n++] = (char)(0xc0 | u >> 6);
	else {
		if (u < 0x10000)
			b[n++] = (char)(0xe0 | u >> 12);
		else {
			b[n++] = (char)(0xf0 | u >> 18);
			b[n++] = (char)(0x80 | (u >> 12 & 63));
		}
		b[n++] = (char)(0x80 | (u >> 6 & 63));
	}
	b[n++] = (char)(0x80 | (u & 63));
	put(h, b, n);
}

/*
 * Bytes of one character that stand as they are: the invisible ones among
 * them are recognized when the last has come, and taken back.
 */
static void
put_text(struct html *h, char c)
{
	unsigned char *p;
	uint32_t u;

	if (h->blank || (unsigned char)c < 0x80 || h->used == 0) {
		put_byte(h, c);
		return;
	}
	put_byte(h, c);
	p = (unsigned char *)h->line + h->used;
	if (h->used >= 2 && (p[-2] & 0xe0) == 0xc0) {
		u = (p[-2] & 31u) << 6 | (p[-1] & 63u);
		if (!invisible(u) && u != 0xa0)
			return;
		h->used -= 2;
	} else if (h->used >= 3 && (p[-3] & 0xf0) == 0xe0) {
		u = (p[-3] & 15u) << 12 | (p[-2] & 63u) << 6 | (p[-1] & 63u);
		if (!invisible(u) && u != 0x3000 && (u < 0x2000 || u > 0x200a))
			return;
		h->used -= 3;
	} else
		return;
	if (!invisible(u))
		h->blank = true;
}

/* -- character references -------------------------------------------------- */

static const struct {
	const char *name;
	uint32_t u;
} references[] = {
	{ "amp", '&' }, { "lt", '<' }, { "gt", '>' }, { "quot", '"' },
	{ "apos", '\'' }, { "nbsp", 0xa0 }, { "shy", 0xad },
	{ "Tab", ' ' }, { "NewLine", ' ' }, { "excl", '!' }, { "num", '#' },
	{ "dollar", '$' }, { "percnt", '%' }, { "lpar", '(' },
	{ "rpar", ')' }, { "ast", '*' }, { "plus", '+' }, { "comma", ',' },
	{ "period", '.' }, { "sol", '/' }, { "colon", ':' }, { "semi", ';' },
	{ "equals", '=' }, { "quest", '?' }, { "commat", '@' },
	{ "lsqb", '[' }, { "bsol", '\\' }, { "rsqb", ']' }, { "Hat", '^' },
	{ "lowbar", '_' }, { "grave", '`' }, { "lbrace", '{' },
	{ "verbar", '|' }, { "rbrace", '}' }, { "hyphen", 0x2010 },
	{ "ndash", 0x2013 }, { "mdash", 0x2014 }, { "lsquo", 0x2018 },
	{ "rsquo", 0x2019 }, { "ldquo", 0x201c }, { "rdquo", 0x201d },
	{ "bull", 0x2022 }, { "hellip", 0x2026 }, { "euro", 0x20ac },
	{ "trade", 0x2122 }, { "ensp", 0x2002 }, { "emsp", 0x2003 },
	{ "thinsp", 0x2009 }, { "zwnj", 0x200c }, { "zwj", 0x200d },
	{ "lrm", 0x200e }, { "rlm", 0x200f }, { "iexcl", 0xa1 },
	{ "cent", 0xa2 }, { "pound", 0xa3 }, { "yen", 0xa5 },
	{ "sect", 0xa7 }, { "copy", 0xa9 }, { "reg", 0xae }, { "deg", 0xb0 },
	{ "middot", 0xb7 }, { "laquo", 0xab }, { "raquo", 0xbb },
	{ "Agrave", 0xc0 }, { "Aacute", 0xc1 }, { "Acirc", 0xc2 },
	{ "Atilde", 0xc3 }, { "Auml", 0xc4 }, { "Aring", 0xc5 },
	{ "AElig", 0xc6 }, { "Ccedil", 0xc7 }, { "Egrave", 0xc8 },
	{ "Eacute", 0xc9 }, { "Ecirc", 0xca }, { "Euml", 0xcb },
	{ "Iacute", 0xcd }, { "Ntilde", 0xd1 }, { "Oacute", 0xd3 },
	{ "Ocirc", 0xd4 }, { "Ouml", 0xd6 }, { "Oslash", 0xd8 },
	{ "Uacute", 0xda }, { "Uuml", 0xdc }, { "szlig", 0xdf },
	{ "agrave", 0xe0 }, { "aacute", 0xe1 }, { "acirc", 0xe2 },
	{ "atilde", 0xe3 }, { "auml", 0xe4 }, { "aring", 0xe5 },
	{ "aelig", 0xe6 }, { "ccedil", 0xe7 }, { "egrave", 0xe8 },
	{ "eacute", 0xe9 }, { "ecirc", 0xea }, { "euml", 0xeb },
	{ "igrave", 0xec }, { "iacute", 0xed }, { "icirc", 0xee },
	{ "iuml", 0xef }, { "ntilde", 0xf1 }, { "ograve", 0xf2 },
	{ "oacute", 0xf3 }, { "ocirc", 0xf4 }, { "otilde", 0xf5 },
	{ "ouml", 0xf6 }, { "oslash", 0xf8 }, { "ugrave", 0xf9 },
	{ "uacute", 0xfa }, { "ucirc", 0xfb }, { "uuml", 0xfc },
};

static bool
number(struct view v, uint32_t *ret)
{
	unsigned base = 10;
	uint32_t u = 0;
	size_t i = 1;

	if (v.n > 1 && (v.p[1] | 0x20) == 'x') {
		base = 16;
		i = 2;
	}
	if (i == v.n)
		return false;
	for (; i < v.n; i++) {
		char c = (char)(v.p[i] | 0x20);

		if (v.p[i] >= '0' && v.p[i] <= '9')
			u = u * base + (unsigned)(v.p[i] - '0');
		else if (base == 16 && c >= 'a' && c <= 'f')
			u = u * base + (unsigned)(c - 'a' + 10);
		else
			return false;
		if (u > 0x110000)
			u = 0x110000;
	}
	*ret = u;
	return true;
}

/* "&" and word, ended by the byte c, which is part of it if it is a ";". */
static void
end_reference(struct html *h)
{
	struct view v = view_make(h->word, h->n);
	uint32_t u;
	size_t i;

	h->state = HTML_TEXT;
	if (v.n > 0 && v.p[0] == '#' && number(v, &u)) {
		put_char(h, u);
		return;
	}
	for (i = 0; i < sizeof references / sizeof references[0]; i++)
		if (view_is(v, references[i].name)) {
			put_char(h, references[i].u);
			return;
		}
	put_byte(h, '&');
	put(h, v.p, v.n);
}

/* -- tags ------------------------------------------------------------------ */

static bool
one_of(struct view v, const char *const *list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (view_is_nocase(v, list[i]))
			return true;
	return false;
}

static void
end_name(struct html *h)
{
	static const char *const blocks[] = { "p", "br", "div", "tr", "td",
		"th", "li", "ul", "ol", "dl", "dt", "dd", "h1", "h2", "h3",
		"h4", "h5", "h6", "table", "blockquote", "hr", "pre",
		"center", "form", "body", "html", "head", "title", "section",
		"article", "header", "footer", "option", "textarea" };
	static const char *const hidden[] = { "script", "style" };
	struct view v = view_make(h->word, h->n);
	bool closes = v.n > 0 && v.p[0] == '/';
	size_t i;

	if (closes)
		v = view_from(v, 1);
	while (v.n > 0 && v.p[v.n - 1] == '/')
		v.n--;
	if (h->long_word)
		return;
	if (one_of(v, blocks, sizeof blocks / sizeof blocks[0]))
		end_line(h);
	for (i = 0; i < sizeof hidden / sizeof hidden[0] && !closes; i++)
		if (view_is_nocase(v, hidden[i]))
			h->hidden = hidden[i];
}

static void
end_tag(struct html *h)
{
	h->state = h->hidden != NULL ? HTML_HIDDEN : HTML_TEXT;
	h->n = 0;
}

static void
add_word(struct html *h, char c)
{
	if (h->n < HTML_WORD_MAX)
		h->word[h->n++] = c;
	else
		h->long_word = true;
}

static void
begin_word(struct html *h, enum html_state s)
{
	h->state = s;
	h->n = 0;
	h->long_word = false;
}

static bool
is_letter(char c)
{
	return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '/';
}

/* In a script: only its end counts. */
static void
take_hidden(struct html *h, char c)
{
	if (c == '<')
		h->n = 0;
	else if (h->n == 0 && c != '/')
		h->n = HTML_WORD_MAX;
	if (h->n < HTML_WORD_MAX)
		h->word[h->n++] = c;
	if (h->n > 2 && h->word[0] == '<' && h->word[1] == '/' &&
	    view_is_nocase(view_make(h->word + 2, h->n - 2), h->hidden)) {
		h->hidden = NULL;
		h->state = HTML_TAG;
	}
}

static void
take_text(struct html *h, char c)
{
	if (c == '<')
		h->state = HTML_OPEN;
	else if (c == '&')
		begin_word(h, HTML_REFERENCE);
	else
		put_text(h, c);
}

static void
take_reference(struct html *h, char c)
{
	if (c == ';')
		end_reference(h);
	else if ((c == '#' && h->n == 0) || (c >= '0' && c <= '9') ||
	    (is_letter(c) && c != '/')) {
		if (h->n == HTML_WORD_MAX) {
			h->state = HTML_TEXT;
			put_byte(h, '&');
			put(h, h->word, h->n);
			put_byte(h, c);
		} else
			add_word(h, c);
	} else {
		end_reference(h);
		take_text(h, c);
	}
}

static void
take_open(struct html *h, char c)
{
	if (c == '!' || c == '?') {
		begin_word(h, HTML_BANG);
	} else if (is_letter(c)) {
		begin_word(h, HTML_NAME);
		add_word(h, c);
	} else {
		h->state = HTML_TEXT;
		put_byte(h, '<');
		take_text(h, c);
	}
}

static void
take(struct html *h, char c)
{
	switch (h->state) {
	case HTML_TEXT:
		take_text(h, c);
		break;
	case HTML_REFERENCE:
		take_reference(h, c);
		break;
	case HTML_OPEN:
		take_open(h, c);
		break;
	case HTML_NAME:
		if (c != '>' && !view_space(c)) {
			add_word(h, c);
			break;
		}
		end_name(h);
		h->state = HTML_TAG;
		if (c == '>')
			end_tag(h);
		break;
	case HTML_TAG:
		if (c == '>')
			end_tag(h);
		else if (c == '"' || c == '\'') {
			h->quote = c;
			h->state = HTML_QUOTED;
		}
		break;
	case HTML_QUOTED:
		if (c == h->quote)
			h->state = HTML_TAG;
		break;
	case HTML_BANG:
		if (c == '>') {
			h->state = HTML_TEXT;
			break;
		}
		add_word(h, c);
		if (h->n == 2 && h->word[0] == '-' && h->word[1] == '-') {
			h->state = HTML_COMMENT;
			h->dashes = 2;
		}
		break;
	case HTML_COMMENT:
		if (c == '>' && h->dashes >= 2)
			h->state = HTML_TEXT;
		if (c != '!' || h->dashes < 2)	/* "--!>" ends it, too */
			h->dashes = c == '-' ? h->dashes + 1 : 0;
		break;
	case HTML_HIDDEN:
		take_hidden(h, c);
		break;
	}
}

void
html_feed(struct html *h, struct view text)
{
	size_t i;

	for (i = 0; i < text.n; i++)
		take(h, text.p[i]);
}

void
html_end(struct html *h)
{
	if (h->state == HTML_REFERENCE)
		end_reference(h);
	end_line(h);
}
