/*
 * What compound files say about files in them: the names in an "embedded
 * package" (\1Ole10Native, [MS-OLEDS] 2.3.6) and of the attachments of a
 * message of Outlook ([MS-OXMSG] 2.1.3).
 */
#include "filters/scan_priv.h"

#define TEXT_MAX	65536u	/* of a name's bytes; more is none */

/* Streams are short of speed where they are read byte by byte. */
struct source {
	struct scan_member *from;
	size_t at, n;
	char some[512];
};

static long
read_source(struct scan_member *m, char *to, size_t n)
{
	struct source *s = m->arg;

	if (s->at == s->n) {
		s->at = 0;
		s->n = scan_take(s->from, s->some, sizeof s->some);
	}
	n = n < s->n - s->at ? n : s->n - s->at;
	memcpy(to, s->some + s->at, n);
	s->at += n;
	return (long)n;
}

/* A name of which the end is kept: there is the extension. */
struct name {
	size_t n;
	char text[2 * ATTACH_NAME_MAX];
};

static void
put(struct name *to, char c)
{
	if (to->n == sizeof to->text) {
		memmove(to->text, to->text + ATTACH_NAME_MAX,
		    sizeof to->text - ATTACH_NAME_MAX);
		to->n -= ATTACH_NAME_MAX;
	}
	to->text[to->n++] = c;
}

/* A unit of UTF-16; surrogates matter to nobody here. */
static void
put_wide(struct name *to, uint32_t u)
{
	if (u >= 0xd800 && u < 0xe000)
		u = '?';
	if (u < 0x80)
		put(to, (char)u);
	else if (u < 0x800) {
		put(to, (char)(0xc0 | u >> 6));
		put(to, (char)(0x80 | (u & 0x3f)));
	} else {
		put(to, (char)(0xe0 | u >> 12));
		put(to, (char)(0x80 | (u >> 6 & 0x3f)));
		put(to, (char)(0x80 | (u & 0x3f)));
	}
}

static bool
take_string(struct scan_member *m, struct name *to)
{
	uint32_t i;
	char c;

	to->n = 0;
	for (i = 0; i < TEXT_MAX && scan_take(m, &c, 1) == 1; i++) {
		if (c == '\0')
			return true;
		put(to, c);
	}
	return false;
}

/* With its length in front, in characters. */
static bool
take_wide(struct scan_member *m, struct name *to)
{
	char n[4], u[2];
	uint32_t i;

	to->n = 0;
	if (scan_take(m, n, 4) < 4)
		return false;
	for (i = le32_at(view_make(n, 4), 0); i > 0; i--) {
		if (scan_take(m, u, 2) < 2 || to->n > TEXT_MAX)
			return false;
		put_wide(to, le16_at(view_make(u, 2), 0));
	}
	return true;
}

static bool
tell_name(struct scan *s, uint32_t depth, const struct name *name,
    uint64_t *flags)
{
	struct scan_member m = { .name = view_make(name->text, name->n) };

	return name->n == 0 || scan_member(s, depth, &m, flags);
}

/* The content of a package: so much of a stream. */
struct inside {
	struct scan_member *from;
	uint32_t left;
};

static long
read_inside(struct scan_member *m, char *to, size_t n)
{
	struct inside *r = m->arg;
	long got;

	if (r->left == 0)
		return 0;
	got = r->from->read(r->from, to, n < r->left ? n : r->left);
	if (got > 0)
		r->left -= (uint32_t)got;
	return got;
}

/*
 * Size, 2 bytes, label, file, 8 bytes, path, size, content; then path, label
 * and file again, in UTF-16.  Which of the names counts is the program's
 * choice, so all are told.
 */
bool
scan_package(struct scan *s, uint32_t depth, struct scan_member *stream,
    uint64_t *flags)
{
	struct source source = { .from = stream };
	struct scan_member buffered = { .read = read_source,
		.arg = &source }, *m = &buffered;
	struct name label, file, path;
	struct inside r = { .from = m };
	struct scan_member content = { .read = read_inside, .arg = &r,
		.all = true };
	char n[4];
	unsigned i;

	if (scan_take(m, NULL, 6) < 6 || !take_string(m, &label) ||
	    !take_string(m, &file) || scan_take(m, NULL, 8) < 8 ||
	    !take_string(m, &path) || scan_take(m, n, 4) < 4)
		return true;
	r.left = le32_at(view_make(n, 4), 0);
	content.size = r.left;
	content.name = file.n > 0 ? view_make(file.text, file.n) :
	    view_make(label.text, label.n);
	if (!tell_name(s, depth, &label, flags) ||
	    !tell_name(s, depth, &path, flags) ||
	    !scan_member(s, depth, &content, flags))
		return false;
	while (r.left > 0 && (i = r.left < 65536 ? r.left : 65536) > 0 &&
	    scan_take(m, NULL, i) == i)
		r.left -= i;
	for (i = 0; i < 3 && take_wide(m, &file); i++)
		if (!tell_name(s, depth, &file, flags))
			return false;
	return true;
}

/* wide: it is UTF-16. */
bool
scan_attachment_name(struct scan *s, uint32_t depth,
    struct scan_member *stream, bool wide, uint64_t *flags)
{
	struct source source = { .from = stream };
	struct scan_member buffered = { .read = read_source,
		.arg = &source }, *m = &buffered;
	struct name name = { .n = 0 };
	char c[2];
	uint32_t i;

	for (i = 0; i < TEXT_MAX && scan_take(m, c, wide ? 2 : 1) > 0; i++)
		if (wide)
			put_wide(&name, le16_at(view_make(c, 2), 0));
		else
			put(&name, c[0]);
	return tell_name(s, depth, &name, flags);
}
