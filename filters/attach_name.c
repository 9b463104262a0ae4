#include "filters/attach_name.h"

#define SPACES_MANY	8u
#define EXTENSION_MAX	20u	/* longer: a sentence with a dot in it */

/* One character of UTF-8; anything else is one byte, as 0xfffd. */
static size_t
decode(struct view v, uint32_t *ret)
{
	unsigned char c = (unsigned char)v.p[0];
	size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 :
	    c < 0xf5 ? 4 : 0, i;
	uint32_t u = n == 1 ? c : n == 2 ? c & 0x1f : n == 3 ? c & 0xf :
	    c & 7;

	*ret = 0xfffd;
	if (n == 0 || n > v.n)
		return 1;
	for (i = 1; i < n; i++) {
		if (((unsigned char)v.p[i] & 0xc0) != 0x80)
			return 1;
		u = u << 6 | ((unsigned char)v.p[i] & 0x3f);
	}
	*ret = u;
	return n;
}

static bool
is_bidi(uint32_t u)
{
	return (u >= 0x202a && u <= 0x202e) || (u >= 0x2066 && u <= 0x2069);
}

/* Arabic and Hebrew names have these, and they turn nothing by themselves. */
static bool
is_mark(uint32_t u)
{
	return u == 0x061c || u == 0x200e || u == 0x200f;
}

static bool
is_hidden(uint32_t u)
{
	return u < 0x20 || (u >= 0x7f && u < 0xa0) || u == 0xad ||
	    u == 0x034f || u == 0x115f || u == 0x1160 ||
	    (u >= 0x180b && u <= 0x180e) || (u >= 0x200b && u <= 0x200d) ||
	    u == 0x2028 || u == 0x2029 ||
	    (u >= 0x2060 && u <= 0x2064) || u == 0x3164 ||
	    (u >= 0xfe00 && u <= 0xfe0f) || u == 0xfeff || u == 0xffa0 ||
	    (u >= 0xfff0 && u <= 0xfffb) || (u >= 0xe0000 && u <= 0xe01ef);
}

static bool
is_blank(uint32_t u)
{
	return u == ' ' || u == 0xa0 || u == 0x1680 ||
	    (u >= 0x2000 && u <= 0x200a) || u == 0x202f || u == 0x205f ||
	    u == 0x2800 || u == 0x3000;
}

/* Other spellings of plain characters. */
static uint32_t
plain(uint32_t u)
{
	if (u >= 0xff01 && u <= 0xff5e)
		return u - 0xff01 + '!';
	if (u == 0x2024 || u == 0x3002 || u == 0xff61 || u == 0xfe52)
		return '.';
	return u;
}

static void
put(struct buf *b, struct view bytes, uint32_t u)
{
	if (u < 0x80)
		(void)buf_putc(b, (char)u);
	else if (bytes.n == 1)
		/* No UTF-8: beside others it could become some. */
		(void)buf_putc(b, '?');
	else
		(void)buf_putv(b, bytes);
}

/* Letters and blanks as they are meant; '_' for a blank. */
static unsigned
spell(struct view raw, struct buf *name)
{
	unsigned odd = 0;
	size_t n, blanks = 0;
	uint32_t u;

	for (; raw.n > 0; raw = view_from(raw, n)) {
		n = decode(raw, &u);
		if (is_bidi(u)) {
			odd |= ODDITY_BIDI;
		} else if (is_mark(u)) {
			continue;
		} else if (is_hidden(u)) {
			/* A folded header leaves line ends and tabs. */
			odd |= u == '\t' || u == '\r' || u == '\n' ? 0 :
			    ODDITY_HIDDEN;
		} else if (is_blank(u)) {
			blanks++;
			(void)buf_putc(name, '_');
			continue;
		} else {
			u = plain(u);
			if (u == '.' && blanks >= SPACES_MANY)
				odd |= ODDITY_SPACES;
			put(name, view_head(raw, n), u);
			blanks = 0;
		}
	}
	return odd;
}

static size_t
last_of(struct view v, char a, char b)
{
	size_t i;

	for (i = v.n; i > 0; i--)
		if (v.p[i - 1] == a || v.p[i - 1] == b)
			return i;
	return 0;
}

/* "a.exe/" and "a.exe/." are a.exe for those who take slashes off. */
static struct view
without_slashes(struct view v)
{
	size_t n = v.n;

	while (n > 0 && view_has(view_of("/\\._"), v.p[n - 1]))
		n--;
	return n > 0 && last_of(view_from(v, n), '/', '\\') > 0 ?
	    view_head(v, n) : v;
}

static struct view
without_tail(struct view v, unsigned *odd)
{
	while (v.n > 0 && (v.p[v.n - 1] == '.' || v.p[v.n - 1] == '_')) {
		/* "_" may be one that was written so: then it is none. */
		*odd |= ODDITY_TRAILING;
		v.n--;
	}
	return v;
}

static bool
good_extension(struct view v)
{
	size_t i;

	/* A class id is one too: "a.{3050f4d8-...}". */
	if (v.n == 0 || (v.n > EXTENSION_MAX && v.p[0] != '{'))
		return false;
	for (i = 0; i < v.n; i++)
		if (v.p[i] == '=')
			return false;
	return true;
}

/* "a.pdf .exe" has the blank before its dot, "a. exe" behind it. */
static struct view
without_blanks(struct view v)
{
	while (v.n > 0 && v.p[0] == '_')
		v = view_from(v, 1);
	while (v.n > 0 && v.p[v.n - 1] == '_')
		v.n--;
	return v;
}

static void
chain(struct view base, struct buf *ext)
{
	struct view part[ATTACH_EXTENSIONS], one;
	size_t n = 0, dot, i;

	while (n < ATTACH_EXTENSIONS && (dot = last_of(base, '.', '.')) > 0) {
		one = without_blanks(view_from(base, dot));
		if (!good_extension(one))
			break;
		part[n++] = one;
		base = view_head(base, dot - 1);
	}
	for (; n > 0; n--) {
		if (ext->n > 0)
			(void)buf_putc(ext, '.');
		for (i = 0; i < part[n - 1].n; i++)
			(void)buf_putc(ext, part[n - 1].p[i] >= 'A' &&
			    part[n - 1].p[i] <= 'Z' ?
			    (char)(part[n - 1].p[i] | 0x20) :
			    part[n - 1].p[i]);
	}
}

struct view
attach_last(struct view ext)
{
	return view_from(ext, last_of(ext, '.', '.'));
}

/* Is the one before the last such as a document has? */
static bool
is_double(struct view ext)
{
	static const char documents[] = " pdf doc docx xls xlsx ppt pptx odt "
	    "ods rtf txt csv jpg jpeg png gif bmp tif tiff mp3 mp4 avi htm "
	    "html xml zip eml ";
	struct view last = attach_last(ext), before;
	char word[16];

	if (last.n == ext.n)
		return false;
	before = attach_last(view_head(ext, ext.n - last.n - 1));
	if (before.n == 0 || before.n > sizeof word - 3)
		return false;
	word[0] = ' ';
	memcpy(word + 1, before.p, before.n);
	word[before.n + 1] = ' ';
	word[before.n + 2] = '\0';
	return strstr(documents, word) != NULL;
}

unsigned
attach_name(struct view raw, struct buf *name, struct buf *ext)
{
	unsigned odd = 0;
	struct view base;
	size_t at;

	buf_clear(name);
	buf_clear(ext);
	raw = view_trim(raw);
	if (raw.n > ATTACH_NAME_MAX) {
		odd |= ODDITY_LONG;
		odd |= spell(view_head(raw, ATTACH_NAME_MAX / 2), name);
		raw = view_from(raw, raw.n - ATTACH_NAME_MAX / 2);
	}
	odd |= spell(raw, name);
	base = buf_view(name);
	if (base.n > 0 && (base.p[0] == '/' || base.p[0] == '\\' ||
	    (base.n > 1 && base.p[1] == ':') ||
	    memmem(base.p, base.n, "../", 3) != NULL ||
	    memmem(base.p, base.n, "..\\", 3) != NULL))
		odd |= ODDITY_PATH;
	base = without_slashes(base);
	base = view_from(base, last_of(base, '/', '\\'));
	at = view_find(base, ':');
	if (at > 1 && at < base.n) {
		odd |= ODDITY_STREAM;
		base = view_head(base, at);
	}
	base = without_tail(base, &odd);
	chain(base, ext);
	if (is_double(buf_view(ext)))
		odd |= ODDITY_DOUBLE;
	return odd;
}
