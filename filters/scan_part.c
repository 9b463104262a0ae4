/*
 * Parts of documents that are zip files (OOXML, ODF): what they say about the
 * others, which may have any name.  They are XML, compared as if it had no
 * blanks, quotes and upper case, in UTF-8 or UTF-16; of a character that is
 * written as a number only the character counts.
 */
#include "filters/scan_priv.h"

#define LOOK_MAX	(4u << 20)	/* of a part */

bool
scan_part_counts(struct view name)
{
	return view_ends_nocase(name, view_of(".rels")) ||
	    view_is_nocase(name, "[Content_Types].xml") ||
	    view_is_nocase(name, "META-INF/manifest.xml") ||
	    scan_holds(name, "externalLink");
}

static int
digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

/* "&#65;" or "&#x41;": its bytes; 0: it is none. */
static size_t
reference(struct view v, char *ret)
{
	uint32_t c = 0, base = 10;
	size_t i = 2;

	if (v.n < 4 || v.p[1] != '#')
		return 0;
	if ((v.p[2] | 0x20) == 'x') {
		base = 16;
		i++;
	}
	for (; i < v.n && (uint32_t)digit(v.p[i]) < base && i < 40; i++)
		if (c < 0x110000)
			c = c * base + (uint32_t)digit(v.p[i]);
	*ret = c < 128 ? (char)c : '?';
	return i < v.n && v.p[i] == ';' ? i + 1 : 0;
}

static void
put_plain(struct buf *b, char c)
{
	/* NUL: every other byte of UTF-16. */
	if (c == '\0' || c == ' ' || c == '\t' || c == '\r' || c == '\n' ||
	    c == '"' || c == '\'')
		return;
	(void)buf_putc(b, c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c);
}

static void
make_plain(struct view v, struct buf *b)
{
	char c, narrow[44];
	size_t i, k, n;

	for (i = 0; i < v.n; i++) {
		c = v.p[i];
		if (c == '&') {
			for (n = 0, k = i; k < v.n && n < sizeof narrow; k++)
				if (v.p[k] != '\0')
					narrow[n++] = v.p[k];
			n = reference(view_make(narrow, n), &c);
			for (; n > 1 && i + 1 < v.n; i++)
				n -= v.p[i + 1] != '\0';
		}
		put_plain(b, c);
	}
}

static bool
has(const struct buf *b, const char *what)
{
	return b->n > 0 && memmem(b->p, b->n, what, strlen(what)) != NULL;
}

uint64_t
scan_part(struct view name, struct view v)
{
	static const struct {
		const char *what;
		uint64_t flags;
	} words[] = {
		{ "relationships/vbaproject", SCAN_MACRO },
		{ "ms-office.vbaproject", SCAN_MACRO },
		{ "relationships/xlmacrosheet", SCAN_MACRO | SCAN_XLM },
		{ "relationships/xlintlmacrosheet", SCAN_MACRO | SCAN_XLM },
		{ "ms-excel.macrosheet", SCAN_MACRO | SCAN_XLM },
		{ "ms-excel.intlmacrosheet", SCAN_MACRO | SCAN_XLM },
		{ "relationships/control", SCAN_ACTIVEX },
		{ "relationships/oleobject", SCAN_EMBEDDED },
		{ "relationships/package", SCAN_EMBEDDED },
		{ "<ddelink", SCAN_DDE },
		{ "encryption-data", SCAN_ENCRYPTED },
	};
	static const char *const elsewhere[] = { "/attachedtemplate",
		"/oleobject", "/frame", "/externallinkpath", "/subdocument",
		"/xlpathmissing", "/xlstartup", "/afchunk" };
	uint64_t flags = 0;
	struct buf b;
	size_t i;

	/* Links keep what was in the other workbook, and may be that large. */
	if (v.n > LOOK_MAX && !scan_holds(name, "externalLink"))
		flags |= SCAN_LIMIT_BYTES;
	v = view_head(v, LOOK_MAX);
	buf_init(&b, LOOK_MAX + 1);
	make_plain(v, &b);
	for (i = 0; i < sizeof words / sizeof words[0]; i++)
		if (has(&b, words[i].what))
			flags |= words[i].flags;
	for (i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++)
		if (has(&b, "targetmode=external") && has(&b, elsewhere[i]))
			flags |= SCAN_EXTERNAL;
	buf_free(&b);
	if (!view_is_nocase(name, "META-INF/manifest.xml"))
		flags &= ~(uint64_t)SCAN_ENCRYPTED;
	return flags;
}
