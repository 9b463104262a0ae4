/*
 * Files inside documents that are no archives: objects of RTF ([MS-OLEDS] 2.2
 * in hexadecimal digits) and files of OneNote ([MS-ONESTORE] 2.6.13).
 */
#include "filters/scan_priv.h"

#define OBJECTS_MAX	1000u
#define FORMAT_EMBEDDED	2u
#define STRING_MAX	4096u
#define NOTE_HEAD	36u

/* -- RTF ------------------------------------------------------------------- */

/* The digits behind "\objdata", to the end of its group. */
struct digits {
	struct view left;
	unsigned depth;		/* of groups inside */
};

/* A control word or symbol, behind its backslash. */
static void
skip_control(struct view *v)
{
	size_t n = 0;

	while (n < v->n && ((v->p[n] | 0x20) >= 'a') &&
	    ((v->p[n] | 0x20) <= 'z'))
		n++;
	if (n == 0)
		n = v->n > 0 && v->p[0] == '\'' ? 3 : 1;
	else
		while (n < v->n && (v->p[n] == '-' ||
		    (v->p[n] >= '0' && v->p[n] <= '9')))
			n++;
	*v = view_from(*v, n);
}

/* The next digit; -1: there is none. */
static int
next_digit(struct digits *d)
{
	unsigned char c;

	while (d->left.n > 0) {
		c = (unsigned char)d->left.p[0];
		if (c == '}' && d->depth == 0)
			break;
		d->left = view_from(d->left, 1);
		if (c == '{')
			d->depth++;
		else if (c == '}')
			d->depth--;
		else if (c == '\\')
			skip_control(&d->left);
		else if (d->depth > 0)
			continue;	/* a group inside is not shown */
		else if (c >= '0' && c <= '9')
			return c - '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			return (c | 0x20) - 'a' + 10;
	}
	d->left = view_make("", 0);
	return -1;
}

static long
read_digits(struct scan_member *m, char *to, size_t n)
{
	struct digits *d = m->arg;
	size_t have;
	int a, b;

	for (have = 0; have < n; have++) {
		if ((a = next_digit(d)) < 0 || (b = next_digit(d)) < 0)
			break;
		to[have] = (char)(a * 16 + b);
	}
	return (long)have;
}

static uint32_t
take_number(struct scan_member *m)
{
	char n[4];

	return scan_take(m, n, 4) == 4 ? le32_at(view_make(n, 4), 0) : 0;
}

/* With its length in front, and a NUL behind. */
static struct view
take_string(struct scan_member *m, char *to)
{
	uint32_t n = take_number(m), some = n < STRING_MAX ? n : STRING_MAX;

	some = (uint32_t)scan_take(m, to, some);
	/* Longer than any: then it is none, and nothing is behind it. */
	if (n > STRING_MAX || some < n)
		return view_make("", 0);
	return view_make(to, n > 0 ? n - 1 : 0);
}

/* Returns false when the reader is to end. */
static bool
look_at_object(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i)
{
	struct digits d = { v, 0 };
	struct scan_member m = { .read = read_digits, .arg = &d,
		.name = view_of("objdata"), .all = true };
	char class[STRING_MAX], other[STRING_MAX];
	struct view name;

	(void)take_number(&m);
	if (take_number(&m) != FORMAT_EMBEDDED)
		return true;
	name = take_string(&m, class);
	(void)take_string(&m, other);
	(void)take_string(&m, other);
	/* A package has its size there, as the stream of that name. */
	if (view_is_nocase(name, "Package"))
		return scan_package(s, depth, &m, &i->flags);
	m.size = take_number(&m);
	return scan_member(s, depth, &m, &i->flags);
}

void
scan_rtf(struct scan *s, uint32_t depth, struct view v, struct scan_item *i)
{
	static const char word[] = "\\objdata";
	const char *p;
	unsigned n = 0;

	while (v.n > 0 && (p = memmem(v.p, v.n, word, sizeof word - 1)) !=
	    NULL) {
		if (++n > OBJECTS_MAX) {
			i->flags |= SCAN_LIMIT_MEMBERS;
			return;
		}
		v = view_from(v, (size_t)(p - v.p) + sizeof word - 1);
		if (!look_at_object(s, depth, v, i))
			return;
	}
}

/* -- OneNote --------------------------------------------------------------- */

static long
read_view(struct scan_member *m, char *to, size_t n)
{
	struct view *v = m->arg;

	n = n < v->n ? n : v->n;
	if (n > 0)
		memcpy(to, v->p, n);
	*v = view_from(*v, n);
	return (long)n;
}

void
scan_notebook(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i)
{
	/* FileDataStoreObject: its size, 12 bytes, content */
	static const char guid[] = "\xe7\x16\xe3\xbd\x65\x26\x11\x45"
	    "\xa4\xc4\x8d\x4d\x0b\x7a\x9e\xac";
	const char *p;
	uint64_t n;

	while (v.n >= NOTE_HEAD && (p = memmem(v.p, v.n, guid,
	    sizeof guid - 1)) != NULL) {
		struct view h = view_from(v, (size_t)(p - v.p)), content;
		struct scan_member m = { .name = view_of("embedded"),
			.read = read_view, .arg = &content };

		n = le64_at(h, 16);
		content = view_from(h, NOTE_HEAD);
		content = view_head(content, n < content.n ? (size_t)n :
		    content.n);
		m.size = content.n;
		/* An empty one, or a page of pictures, is as good as none. */
		i->flags |= SCAN_EMBEDDED;
		v = view_from(h, NOTE_HEAD + content.n);
		if (!scan_member(s, depth, &m, &i->flags))
			return;
	}
}
