/*
 * Files that are text, or nearly: HTML, SVG, RTF, PDF, XML of Office, and what
 * Excel opens besides workbooks.  What is active in them is found by its
 * words, in one pass over the whole.
 */
#include "filters/scan_priv.h"

#define PAGE_LOOK	(1u << 20)
#define XML_LOOK	(8u << 20)
#define WORD_MAX	16u

/* In text of two bytes a character, too. */
static bool
has(struct view v, const char *what)
{
	char wide[2 * 32];
	size_t n = strlen(what), i;

	if (v.n == 0)
		return false;
	if (memmem(v.p, v.n, what, n) != NULL)
		return true;
	if (v.n < 2 || n > sizeof wide / 2 || (v.p[0] != '\0' &&
	    v.p[1] != '\0' && (unsigned char)v.p[0] < 0xfe))
		return false;
	for (i = 0; i < n; i++) {
		wide[2 * i] = what[i];
		wide[2 * i + 1] = '\0';
	}
	return memmem(v.p, v.n, wide, 2 * n - 1) != NULL;
}

/* -- pages ----------------------------------------------------------------- */

static uint64_t
page_flags(struct view v)
{
	uint64_t f = 0;

	v = view_head(v, PAGE_LOOK);
	if (has(v, "createObjectURL") || has(v, "msSaveOrOpenBlob") ||
	    has(v, "msSaveBlob") || (has(v, "download") &&
	    (has(v, "data:application/") || has(v, "new Blob"))))
		f |= SCAN_SMUGGLING;
	return f;
}

/* A picture that runs a script is a page. */
static uint64_t
picture_flags(struct view v)
{
	v = view_head(v, PAGE_LOOK);
	return has(v, "<script") || has(v, ":script") || has(v, "onload=") ||
	    has(v, "javascript:") ? SCAN_SCRIPT : 0;
}

/* XML that Word or Excel opens: macros are in it as base64. */
static uint64_t
xml_flags(struct view v)
{
	uint64_t f = 0;

	v = view_head(v, XML_LOOK);
	if (has(v, "macrosPresent=\"yes\"") || has(v, "vbaProject") ||
	    has(v, "editdata.mso"))
		f |= SCAN_MACRO;
	if (has(v, "oleObject") || has(v, "oledata.mso"))
		f |= SCAN_EMBEDDED;
	return f;
}

/* -- RTF ------------------------------------------------------------------- */

static uint64_t
rtf_flags(struct view v)
{
	static const struct {
		const char *word;
		uint64_t flag;
	} words[] = {
		{ "objdata", SCAN_EMBEDDED }, { "objupdate", SCAN_EMBEDDED },
		{ "objlink", SCAN_EMBEDDED }, { "objautlink", SCAN_EMBEDDED },
		{ "objocx", SCAN_EMBEDDED | SCAN_ACTIVEX },
		{ "*\\template", SCAN_EXTERNAL },
	};
	uint64_t f = 0;
	const char *p;
	size_t i;

	while (v.n > 0 && (p = memchr(v.p, '\\', v.n)) != NULL) {
		v = view_from(v, (size_t)(p - v.p) + 1);
		if (v.n == 0 || (v.p[0] != 'o' && v.p[0] != '*'))
			continue;
		for (i = 0; i < sizeof words / sizeof words[0]; i++)
			if (view_starts_nocase(v, words[i].word))
				f |= words[i].flag;
	}
	return f;
}

/* -- PDF ------------------------------------------------------------------- */

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A name, behind its "/", with "#4a" as the letter that it is. */
static size_t
pdf_name(struct view v, char *to)
{
	size_t i, n = 0;

	for (i = 0; i < v.n && n < WORD_MAX; i++) {
		char c = v.p[i];

		if (c == '#' && i + 2 < v.n && hex(v.p[i + 1]) >= 0 &&
		    hex(v.p[i + 2]) >= 0) {
			c = (char)(hex(v.p[i + 1]) * 16 + hex(v.p[i + 2]));
			i += 2;
		} else if (c <= ' ' || strchr("()<>[]{}/%", c) != NULL)
			break;
		to[n++] = c;
	}
	return n;
}

/* Two letters come about by chance, in a picture. */
static bool
in_text(struct view v, size_t at)
{
	size_t i, from = at > 4 ? at - 4 : 0;

	for (i = from; i < v.n && i < at + 6; i++)
		if ((v.p[i] < ' ' && !view_space(v.p[i])) || v.p[i] == 127)
			return false;
	return true;
}

static uint64_t
pdf_flags(struct view v)
{
	static const struct {
		const char *name;
		uint64_t flag;
	} names[] = {
		{ "JavaScript", SCAN_PDF_SCRIPT }, { "JS", SCAN_PDF_SCRIPT },
		{ "Launch", SCAN_PDF_LAUNCH },
		{ "EmbeddedFile", SCAN_PDF_FILE },
		{ "EmbeddedFiles", SCAN_PDF_FILE },
		{ "Encrypt", SCAN_ENCRYPTED },
	};
	char word[WORD_MAX];
	uint64_t f = 0;
	const char *p;
	size_t at = 0, n, i;

	while (at < v.n && (p = memchr(v.p + at, '/', v.n - at)) != NULL) {
		at = (size_t)(p - v.p) + 1;
		/* A name begins with one of those letters, or "#". */
		if (at == v.n || strchr("#JLE", v.p[at]) == NULL ||
		    v.p[at] == '\0')
			continue;
		n = pdf_name(view_from(v, at), word);
		for (i = 0; i < sizeof names / sizeof names[0]; i++)
			if (view_is(view_make(word, n), names[i].name) &&
			    (n > 2 || in_text(v, at)))
				f |= names[i].flag;
	}
	return f;
}

/* -- Excel ----------------------------------------------------------------- */

struct bytes {
	struct view left;
};

static long
read_bytes(struct scan_member *m, char *to, size_t n)
{
	struct bytes *b = m->arg;

	n = n < b->left.n ? n : b->left.n;
	if (n > 0)
		memcpy(to, b->left.p, n);
	b->left = view_from(b->left, n);
	return (long)n;
}

/* A workbook without the compound file around it. */
static uint64_t
workbook_flags(struct view v)
{
	struct bytes b = { v };
	struct scan_member m = { .read = read_bytes, .arg = &b };
	uint64_t f = 0;

	scan_workbook(&m, &f);
	return f;
}

/* "O;P;E": a sheet of macros in SYLK, which is text. */
static uint64_t
sylk_flags(struct view v)
{
	struct view line;
	size_t n;

	v = view_head(v, PAGE_LOOK);
	while (v.n > 0) {
		n = view_find(v, '\n');
		line = view_trim(view_head(v, n));
		v = view_from(v, n + 1);
		if (view_starts_nocase(line, "O;") &&
		    (view_ends_nocase(line, view_of(";E")) ||
		    scan_holds(line, ";E;")))
			return SCAN_MACRO | SCAN_XLM;
	}
	return 0;
}

void
scan_text(struct view v, struct scan_item *i)
{
	unsigned g = i->kind.groups;

	if (v.n == 0)
		return;
	if ((g & GROUP_HTML) != 0)
		i->flags |= page_flags(v);
	if (strcmp(i->kind.name, "svg") == 0)
		i->flags |= picture_flags(v);
	if (strcmp(i->kind.name, "office-xml") == 0)
		i->flags |= xml_flags(v);
	if (strcmp(i->kind.name, "sylk") == 0)
		i->flags |= sylk_flags(v);
	if (strcmp(i->kind.name, "biff") == 0)
		i->flags |= workbook_flags(v);
	if (strcmp(i->kind.name, "activemime") == 0)
		i->flags |= SCAN_MACRO | SCAN_EMBEDDED;
	if ((g & GROUP_RTF) != 0)
		i->flags |= rtf_flags(v);
	if ((g & GROUP_PDF) != 0)
		i->flags |= pdf_flags(v);
}
