/*
 * Zip (APPNOTE.TXT): by the central directory, as most programs open it, and
 * by the local headers, as those do that read from the begin.  Where the two
 * differ, both are shown: "names-differ".
 */
#include <stdlib.h>

#include "filters/scan_priv.h"
#include "lib/mem.h"

#define CENTRAL_SIZE	46u
#define LOCAL_SIZE	30u
#define END_SIZE	22u
#define LOCATOR_SIZE	20u
#define END64_SIZE	56u
#define END_LOOK	(65535u + END_SIZE)
#define FLAG_ENCRYPTED	0x1u
#define FLAG_HIDDEN	0x2000u	/* the directory is encrypted */
#define METHOD_STORED	0u
#define METHOD_DEFLATE	8u
#define EXTRA_SIZES	0x0001u	/* those over 4 GB, or said to be */
#define EXTRA_UNICODE	0x7075u	/* the name again, in UTF-8 */
#define ENDS_MAX	64u
#define RELS_MAX	(256u << 10)

struct zip_entry {
	struct view name, unicode;
	uint64_t local, packed, size;
	uint64_t flags, method;
};

struct zip {
	struct scan *scan;
	uint32_t depth;
	struct view v;
	struct scan_item *item;
	uint64_t prefix;	/* bytes before the archive */
	uint32_t n, max;	/* places noted */
	bool office;
};

/* The content of one entry. */
struct zip_read {
	struct zip *zip;
	struct view packed;
	bool deflated, ended;
};

static struct view
part(struct view v, uint64_t at, uint64_t n)
{
	if (at > v.n)
		return view_make("", 0);
	return view_head(view_from(v, (size_t)at),
	    n < v.n ? (size_t)n : v.n);
}

static bool
is_at(struct view v, uint64_t at, const char *magic)
{
	struct view p = part(v, at, 4);

	return p.n == 4 && memcmp(p.p, magic, 4) == 0;
}

/* -- content --------------------------------------------------------------- */

static long
read_entry(struct scan_member *m, char *to, size_t n)
{
	struct zip_read *r = m->arg;
	z_stream *z = &r->zip->scan->inflate;
	size_t got;
	int rc;

	if (r->ended)
		return 0;
	if (!r->deflated) {
		got = n < r->packed.n ? n : r->packed.n;
		if (got > 0)
			memcpy(to, r->packed.p, got);
		r->packed = view_from(r->packed, got);
		return (long)got;
	}
	z->next_out = (unsigned char *)to;
	z->avail_out = (unsigned)n;
	rc = inflate(z, Z_SYNC_FLUSH);
	got = n - z->avail_out;
	if (rc == Z_STREAM_END)
		r->ended = true;
	else if (rc != Z_OK && got == 0)
		return -1;
	return (long)got;
}

static bool
inflate_begin(struct scan *s, struct view packed)
{
	z_stream *z = &s->inflate;

	if (!s->inflate_ready) {
		*z = (z_stream){ 0 };
		if (inflateInit2(z, -MAX_WBITS) != Z_OK)
			return false;
		s->inflate_ready = true;
	} else if (inflateReset2(z, -MAX_WBITS) != Z_OK)
		return false;
	z->next_in = (unsigned char *)(uintptr_t)packed.p;
	z->avail_in = packed.n < UINT32_MAX ? (unsigned)packed.n : 0;
	return true;
}

/* -- what the names say ---------------------------------------------------- */

static bool
holds(struct view v, const char *what)
{
	size_t i, n = strlen(what);

	for (i = 0; i + n <= v.n; i++)
		if (strncasecmp(v.p + i, what, n) == 0)
			return true;
	return false;
}

static void
look_at_name(struct zip *z, struct view name)
{
	struct scan_item *i = z->item;

	if (view_is(name, "[Content_Types].xml"))
		z->office = true;
	if (view_starts_nocase(name, "word/"))
		i->kind.name = "docx";
	else if (view_starts_nocase(name, "xl/"))
		i->kind.name = "xlsx";
	else if (view_starts_nocase(name, "ppt/"))
		i->kind.name = "pptx";
	else if (view_is_nocase(name, "META-INF/MANIFEST.MF") &&
	    strcmp(i->kind.name, "zip") == 0)
		i->kind.name = "jar";
	else if (view_is(name, "AndroidManifest.xml"))
		i->kind = (struct file_kind){ "apk",
			GROUP_ZIP | GROUP_EXECUTABLE };
	else if (view_is_nocase(name, "AppxManifest.xml"))
		i->kind = (struct file_kind){ "appx",
			GROUP_ZIP | GROUP_EXECUTABLE };
	if (view_ends_nocase(name, view_of("vbaProject.bin")) ||
	    view_starts_nocase(name, "Basic/") ||
	    holds(name, "macrosheets/"))
		i->flags |= SCAN_MACRO;
	if (holds(name, "macrosheets/"))
		i->flags |= SCAN_XLM;
	if (holds(name, "/activeX/"))
		i->flags |= SCAN_ACTIVEX;
	if (holds(name, "/embeddings/") || holds(name, "oleObject"))
		i->flags |= SCAN_EMBEDDED;
}

/* Relations of OOXML: what is fetched from elsewhere when it is opened. */
static void
look_at_relations(struct zip *z, struct view v)
{
	v = view_head(v, RELS_MAX);
	if (holds(v, "TargetMode=\"External\"") &&
	    (holds(v, "attachedTemplate") || holds(v, "/oleObject") ||
	    holds(v, "/frame") || holds(v, "externalLinkPath")))
		z->item->flags |= SCAN_EXTERNAL;
}

/* -- entries --------------------------------------------------------------- */

/* Returns false when the reader is to end. */
static bool
tell(struct zip *z, const struct zip_entry *e, struct view name,
    struct view packed, uint64_t flags)
{
	struct zip_read r = { .zip = z, .packed = packed,
		.deflated = e->method == METHOD_DEFLATE };
	struct scan_member m = { .name = name, .size = e->size,
		.flags = flags, .read = read_entry, .arg = &r,
		.all = view_ends_nocase(name, view_of(".rels")) };
	bool go_on;

	/* A directory. */
	if (name.n > 0 && name.p[name.n - 1] == '/' && packed.n == 0) {
		z->scan->members++;
		return !scan_over(z->scan, &z->item->flags);
	}
	if ((e->flags & (FLAG_ENCRYPTED | FLAG_HIDDEN)) != 0) {
		m.flags |= SCAN_ENCRYPTED;
		m.read = NULL;
	} else if (e->method != METHOD_STORED && !r.deflated) {
		m.flags |= SCAN_UNREADABLE;
		z->item->flags |= SCAN_UNREADABLE;
		m.read = NULL;
	} else if (r.deflated && !inflate_begin(z->scan, packed)) {
		m.flags |= SCAN_UNREADABLE;
		m.read = NULL;
	}
	/* Inner archives use the same state of inflate: their content has
	 * been read to its end by then. */
	go_on = scan_member(z->scan, z->depth, &m, &z->item->flags);
	if (m.all)
		look_at_relations(z, m.head);
	return go_on;
}

static struct view
unicode_name(struct view extra)
{
	uint32_t n;

	while (extra.n >= 4) {
		n = le16_at(extra, 2);
		if (le16_at(extra, 0) == EXTRA_UNICODE && n > 5 &&
		    n <= extra.n - 4)
			return view_make(extra.p + 9, n - 5);
		extra = view_from(extra, 4 + n);
	}
	return view_make("", 0);
}

static void
note_place(struct zip *z, uint64_t local, uint64_t end)
{
	struct scan_level *l = &z->scan->level[z->depth];

	if (z->n == z->max) {
		z->max = z->max == 0 ? 64 : 2 * z->max;
		l->places = mem_resize(l->places, z->max, sizeof *l->places);
	}
	l->places[z->n++] = (struct zip_place){ local, end };
}

/* The local header of an entry of the directory, and its content. */
static bool
open_entry(struct zip *z, struct zip_entry *e)
{
	uint64_t at = e->local + z->prefix, data;
	struct view local, packed = view_make("", 0);
	uint64_t flags = 0;
	bool differs = false;

	if (at < z->v.n && is_at(z->v, at, "PK\3\4")) {
		uint32_t n = le16_at(z->v, (size_t)at + 26);

		local = part(z->v, at + LOCAL_SIZE, n);
		data = at + LOCAL_SIZE + n + le16_at(z->v, (size_t)at + 28);
		packed = part(z->v, data, e->packed);
		e->flags |= le16_at(z->v, (size_t)at + 6) & FLAG_ENCRYPTED;
		differs = !view_eq(local, e->name) &&
		    (e->flags & FLAG_HIDDEN) == 0;
		note_place(z, at, data + packed.n);
		if (packed.n < e->packed)
			flags |= SCAN_DAMAGED;
	} else
		flags |= SCAN_DAMAGED;
	look_at_name(z, e->name);
	/* The name in UTF-8 is what another character set cannot say. */
	if (e->unicode.n > 0 && !view_eq(e->unicode, e->name)) {
		if (!view_8bit(e->name))
			differs = true;
		if (!tell(z, e, e->unicode, packed, flags))
			return false;
	}
	if (differs) {
		flags |= SCAN_NAMES_DIFFER;
		z->item->flags |= SCAN_NAMES_DIFFER;
		if ((flags & SCAN_DAMAGED) == 0 &&
		    !view_eq(local, e->name)) {
			look_at_name(z, local);
			if (!tell(z, e, local, packed, flags))
				return false;
		}
	}
	z->item->flags |= flags & SCAN_DAMAGED;
	return tell(z, e, e->name, packed, flags);
}

/* The sizes of zip64: those that are all ones in their own place. */
static void
long_sizes(struct view extra, struct zip_entry *e)
{
	uint64_t *fields[] = { &e->size, &e->packed, &e->local };
	size_t i, n;

	for (; extra.n >= 4; extra = view_from(extra, 4 + n)) {
		n = le16_at(extra, 2);
		if (le16_at(extra, 0) == EXTRA_SIZES)
			break;
	}
	extra = view_head(view_from(extra, 4), le16_at(extra, 2));
	for (i = 0; i < sizeof fields / sizeof fields[0]; i++)
		if (*fields[i] == UINT32_MAX && extra.n >= 8) {
			*fields[i] = le64_at(extra, 0);
			extra = view_from(extra, 8);
		}
}

static size_t
central_entry(struct view v, struct zip_entry *e)
{
	uint32_t n = le16_at(v, 28), extra = le16_at(v, 30);

	*e = (struct zip_entry){ .flags = le16_at(v, 8),
		.method = le16_at(v, 10), .packed = le32_at(v, 20),
		.size = le32_at(v, 24), .local = le32_at(v, 42),
		.name = part(v, CENTRAL_SIZE, n) };
	e->unicode = unicode_name(part(v, CENTRAL_SIZE + n, extra));
	long_sizes(part(v, CENTRAL_SIZE + n, extra), e);
	return CENTRAL_SIZE + n + extra + le16_at(v, 32);
}

/* Returns false when the reader is to end. */
static bool
by_directory(struct zip *z, uint64_t end, uint64_t size, uint64_t offset)
{
	uint64_t declared = 0, at;
	struct zip_entry e;

	if (size <= end && is_at(z->v, end - size, "PK\1\2"))
		at = end - size;
	else if (is_at(z->v, offset, "PK\1\2"))
		at = offset;
	else
		return true;
	z->prefix = at > offset && offset != UINT32_MAX ? at - offset : 0;
	while (is_at(z->v, at, "PK\1\2") && z->v.n - at >= CENTRAL_SIZE) {
		at += central_entry(view_from(z->v, (size_t)at), &e);
		/* Nobody unpacks it here, but the receiver would. */
		if (!__builtin_add_overflow(declared, e.size, &declared) &&
		    scan_too_thin(z->scan, z->v.n, declared)) {
			z->item->flags |= SCAN_LIMIT_RATIO;
			return false;
		}
		if (!open_entry(z, &e))
			return false;
	}
	return true;
}

/*
 * The end record, and that of zip64 in front of it.  Programs differ in
 * which they obey, so both count if they say different things.
 */
static bool
by_end(struct zip *z, uint64_t end)
{
	uint64_t size = le32_at(z->v, (size_t)end + 12);
	uint64_t offset = le32_at(z->v, (size_t)end + 16), at;
	uint64_t long_size, long_offset;

	if (end < LOCATOR_SIZE || !is_at(z->v, end - LOCATOR_SIZE, "PK\6\7"))
		return by_directory(z, end, size, offset);
	at = le64_at(z->v, (size_t)(end - LOCATOR_SIZE) + 8);
	if (!is_at(z->v, at, "PK\6\6") && end >= LOCATOR_SIZE + END64_SIZE)
		at = end - LOCATOR_SIZE - END64_SIZE;
	if (!is_at(z->v, at, "PK\6\6"))
		return by_directory(z, end, size, offset);
	long_size = le64_at(z->v, (size_t)at + 40);
	long_offset = le64_at(z->v, (size_t)at + 48);
	if ((size != UINT32_MAX && size != long_size) ||
	    (offset != UINT32_MAX && offset != long_offset)) {
		z->item->flags |= SCAN_NAMES_DIFFER;
		if (!by_directory(z, end, size, offset))
			return false;
	}
	return by_directory(z, at, long_size, long_offset);
}

static int
compare_places(const void *a, const void *b)
{
	const struct zip_place *x = a, *y = b;

	return x->local < y->local ? -1 : x->local > y->local;
}

/* Local headers that no directory names. */
static void
by_local_headers(struct zip *z)
{
	struct scan_level *l = &z->scan->level[z->depth];
	uint32_t known = z->n, n, i = 0;
	struct zip_entry e;
	struct view local;
	const char *p;
	uint64_t at = 0, data;

	if (known > 1)
		qsort(l->places, known, sizeof *l->places, compare_places);
	while (at + LOCAL_SIZE <= z->v.n && (p = memmem(z->v.p + at,
	    z->v.n - (size_t)at, "PK\3\4", 4)) != NULL) {
		at = (uint64_t)(p - z->v.p);
		if (z->v.n - at < LOCAL_SIZE)
			break;
		while (i < known && l->places[i].end <= at)
			i++;
		if (i < known && l->places[i].local <= at) {
			at = l->places[i].end;
			continue;
		}
		n = le16_at(z->v, (size_t)at + 26);
		local = part(z->v, at + LOCAL_SIZE, n);
		data = at + LOCAL_SIZE + n + le16_at(z->v, (size_t)at + 28);
		e = (struct zip_entry){ .flags = le16_at(z->v, (size_t)at + 6),
			.method = le16_at(z->v, (size_t)at + 8),
			.packed = le32_at(z->v, (size_t)at + 18),
			.size = le32_at(z->v, (size_t)at + 22) };
		at += 4;
		/* No name, or none of a length that names have. */
		if (n == 0 || local.n < n || n > ATTACH_NAME_MAX)
			continue;
		z->item->flags |= known > 0 ? SCAN_NAMES_DIFFER :
		    SCAN_DAMAGED;
		look_at_name(z, local);
		/* With its size behind the data: all that is left. */
		if (!tell(z, &e, local, e.packed > 0 ?
		    part(z->v, data, e.packed) : part(z->v, data, UINT64_MAX),
		    known > 0 ? SCAN_NAMES_DIFFER : SCAN_DAMAGED))
			return;
		/* What is stored in it is not a member of this one. */
		if (e.packed > 0 && data + e.packed <= z->v.n)
			at = data + e.packed;
	}
}

/* Is it inside the data of a member that is known? */
static bool
inside_member(const struct zip *z, uint64_t at)
{
	const struct zip_place *p = z->scan->level[z->depth].places;
	uint32_t i;

	for (i = 0; i < z->n; i++)
		if (p[i].local <= at && at < p[i].end)
			return true;
	return false;
}

void
scan_zip(struct scan *s, uint32_t depth, struct view v, struct scan_item *i)
{
	struct zip z = { .scan = s, .depth = depth, .v = v, .item = i };
	size_t look = v.n < END_LOOK ? v.n : END_LOOK;
	uint64_t at;
	bool found = false, go_on = true;
	uint32_t ends = 0;

	free(s->level[depth].places);
	s->level[depth].places = NULL;
	/* The last one counts; others that are no member's are shown too. */
	for (at = v.n; go_on && v.n - at < look && at >= 4 &&
	    ends < ENDS_MAX; at--)
		if (v.n - (at - 4) >= END_SIZE && is_at(v, at - 4, "PK\5\6")) {
			ends++;
			if (inside_member(&z, at - 4))
				continue;
			if (found)
				i->flags |= SCAN_NAMES_DIFFER;
			found = true;
			go_on = by_end(&z, at - 4);
		}
	if (go_on)
		by_local_headers(&z);
	if (!found)
		i->flags |= SCAN_DAMAGED;
	if (z.office && strcmp(i->kind.name, "zip") == 0)
		i->kind.name = "ooxml";
}
