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
#define FLAG_LATER	0x8u	/* its sizes stand behind the data */
#define FLAG_HIDDEN	0x2000u	/* the directory is encrypted */
#define VERSION_MAX	63u
#define METHOD_STORED	0u
#define METHOD_DEFLATE	8u
#define METHOD_MAX	99u
#define EXTRA_SIZES	0x0001u	/* those over 4 GB, or said to be */
#define EXTRA_UNICODE	0x7075u	/* the name again, in UTF-8 */
#define ENDS_MAX	64u

struct zip_entry {
	struct view name, extra;
	uint64_t local, packed, size;
	uint64_t flags, method;
	bool twofold;		/* its sizes, in two places, differ */
};

struct zip {
	struct scan *scan;
	uint32_t depth;
	struct view v;
	struct scan_item *item;
	uint64_t prefix;	/* bytes before the archive */
	uint32_t max;		/* places there is room for */
	uint32_t unreadable;	/* members */
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
	    scan_holds(name, "macrosheets/"))
		i->flags |= SCAN_MACRO;
	if (scan_holds(name, "macrosheets/"))
		i->flags |= SCAN_XLM;
	if (scan_holds(name, "/activeX/"))
		i->flags |= SCAN_ACTIVEX;
	if (scan_holds(name, "/embeddings/") || scan_holds(name, "oleObject"))
		i->flags |= SCAN_EMBEDDED;
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
		.all = scan_part_counts(name) };
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
		z->unreadable++;
		m.read = NULL;
	} else if (r.deflated && !inflate_begin(z->scan, packed)) {
		m.flags |= SCAN_UNREADABLE;
		m.read = NULL;
	}
	/* Inner archives use the same state of inflate: their content has
	 * been read to its end by then. */
	go_on = scan_member(z->scan, z->depth, &m, &z->item->flags);
	if (m.all)
		z->item->flags |= scan_part(name, m.head);
	return go_on;
}

/* The next name in UTF-8, of which there may be several. */
static struct view
unicode_name(struct view *extra)
{
	struct view name;
	uint32_t n;

	while (extra->n >= 4) {
		n = le16_at(*extra, 2);
		name = view_head(view_from(*extra, 9), n > 5 ? n - 5 : 0);
		if (le16_at(*extra, 0) != EXTRA_UNICODE || n > extra->n - 4)
			name.n = 0;
		*extra = view_from(*extra, 4 + n);
		if (name.n > 0)
			return name;
	}
	return view_make("", 0);
}

static void
note_place(struct zip *z, struct zip_place p)
{
	struct scan_level *l = &z->scan->level[z->depth];

	if (l->n_places == z->max) {
		z->max = z->max == 0 ? 64 : 2 * z->max;
		l->places = mem_resize(l->places, z->max, sizeof *l->places);
	}
	l->places[l->n_places++] = p;
}

/*
 * Does the local header say something else about the content?  Sizes that
 * come later are 0 there, and some leave them so in any case.
 */
static bool
differs_from(const struct zip_entry *e, const struct zip_entry *local)
{
	return ((local->flags ^ e->flags) & FLAG_ENCRYPTED) != 0 ||
	    local->method != e->method ||
	    (local->packed != 0 && local->packed != UINT32_MAX &&
	    local->packed != e->packed) ||
	    (local->size != 0 && local->size != UINT32_MAX &&
	    local->size != e->size);
}

static struct zip_entry
local_entry(struct view v, uint64_t at)
{
	struct view h = view_from(v, (size_t)at);
	uint32_t n = le16_at(h, 26);

	return (struct zip_entry){ .flags = le16_at(h, 6),
		.method = le16_at(h, 8), .packed = le32_at(h, 18),
		.size = le32_at(h, 22), .name = part(h, LOCAL_SIZE, n),
		.extra = part(h, LOCAL_SIZE + n, le16_at(h, 28)),
		.local = at + LOCAL_SIZE + n + le16_at(h, 28) };
}

/*
 * The names in UTF-8, which are what another character set cannot say.
 * Returns false when the reader is to end.
 */
static bool
tell_unicode(struct zip *z, const struct zip_entry *e, struct view extra,
    struct view packed, uint64_t *flags)
{
	struct view name;

	while ((name = unicode_name(&extra)).n > 0) {
		if (view_eq(name, e->name))
			continue;
		if (!view_8bit(e->name))
			*flags |= SCAN_NAMES_DIFFER;
		if (!tell(z, e, name, packed, *flags))
			return false;
	}
	return true;
}

/* What else the local header says: another name, or other content. */
static bool
tell_local(struct zip *z, const struct zip_entry *e,
    const struct zip_entry *local, uint64_t flags)
{
	struct zip_entry other = *local;

	if (!tell_unicode(z, e, local->extra,
	    part(z->v, local->local, e->packed), &flags))
		return false;
	if (!differs_from(e, local) && view_eq(local->name, e->name))
		return true;
	look_at_name(z, local->name);
	if (other.packed == 0 || other.packed == UINT32_MAX)
		other.packed = e->packed;
	return tell(z, &other, local->name, part(z->v, local->local,
	    other.packed), flags);
}

/* Nothing is stored there, it says; but what comes next does not follow. */
static bool
is_more_than_nothing(const struct zip *z, uint64_t at)
{
	static const char zeros[12];
	struct view v = part(z->v, at, sizeof zeros);

	return v.n >= 2 && memcmp(v.p, "PK", 2) != 0 &&
	    memcmp(v.p, zeros, v.n) != 0;
}

/* The local header of an entry of the directory, and its content. */
static bool
open_entry(struct zip *z, struct zip_entry *e)
{
	uint64_t at = e->local + z->prefix, flags = 0;
	struct zip_entry local = { .name = e->name };
	struct view packed = view_make("", 0);
	bool here = at >= e->local && at < z->v.n &&
	    is_at(z->v, at, "PK\3\4");
	bool hidden = (e->flags & FLAG_HIDDEN) != 0;

	if (here) {
		local = local_entry(z->v, at);
		if (e->packed == 0 && is_more_than_nothing(z, local.local)) {
			e->packed = z->v.n - local.local;
			flags |= SCAN_NAMES_DIFFER;
		}
		packed = part(z->v, local.local, e->packed);
		note_place(z, (struct zip_place){ at, local.local + packed.n,
			e->method == METHOD_STORED &&
			(local.flags & FLAG_LATER) != 0 });
		if (!hidden && (differs_from(e, &local) ||
		    !view_eq(local.name, e->name)))
			flags |= SCAN_NAMES_DIFFER;
	}
	if (!here || packed.n < e->packed)
		flags |= SCAN_DAMAGED;
	/* As much as is stored, or as it says: programs differ. */
	if (e->twofold || (e->method == METHOD_STORED && e->size !=
	    e->packed && (e->flags & FLAG_ENCRYPTED) == 0))
		flags |= SCAN_NAMES_DIFFER;
	look_at_name(z, e->name);
	if (!tell_unicode(z, e, e->extra, packed, &flags))
		return false;
	z->item->flags |= flags;
	if (here && !hidden && !tell_local(z, e, &local, flags))
		return false;
	return tell(z, e, e->name, packed, flags);
}

/*
 * The sizes of zip64: those that are all ones in their own place.  Where none
 * is, some programs obey them all the same.
 */
static void
long_sizes(struct view extra, struct zip_entry *e)
{
	uint64_t *fields[] = { &e->size, &e->packed, &e->local };
	size_t i, n;
	bool any = false;

	for (; extra.n >= 4; extra = view_from(extra, 4 + n)) {
		n = le16_at(extra, 2);
		if (le16_at(extra, 0) == EXTRA_SIZES)
			break;
	}
	extra = view_head(view_from(extra, 4), le16_at(extra, 2));
	for (i = 0; i < sizeof fields / sizeof fields[0]; i++)
		any = any || *fields[i] == UINT32_MAX;
	for (i = 0; i < sizeof fields / sizeof fields[0]; i++) {
		if (extra.n < 8 || (any && *fields[i] != UINT32_MAX))
			continue;
		if (any)
			*fields[i] = le64_at(extra, 0);
		else if (*fields[i] != le64_at(extra, 0))
			e->twofold = true;
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
	e->extra = part(v, CENTRAL_SIZE + n, extra);
	long_sizes(e->extra, e);
	return CENTRAL_SIZE + n + extra + le16_at(v, 32);
}

/* Returns false when the reader is to end. */
static bool
walk_directory(struct zip *z, uint64_t at)
{
	uint64_t declared = 0;
	struct zip_entry e;

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
 * It ends where the end record begins, or begins where that says.  With
 * something in front of the archive only the first is right; two directories
 * are one too many.
 */
static bool
by_directory(struct zip *z, uint64_t end, uint64_t size, uint64_t offset)
{
	bool there = offset != UINT32_MAX && is_at(z->v, offset, "PK\1\2");
	bool here = size <= end && is_at(z->v, end - size, "PK\1\2");
	uint64_t at = here ? end - size : offset;

	if (there && at != offset) {
		z->item->flags |= SCAN_NAMES_DIFFER;
		z->prefix = 0;
		if (!walk_directory(z, offset))
			return false;
	}
	if (!here && !there)
		return true;
	z->prefix = at > offset && offset != UINT32_MAX ? at - offset : 0;
	return walk_directory(z, at);
}

static bool
by_end64(struct zip *z, uint64_t at)
{
	return by_directory(z, at, le64_at(z->v, (size_t)at + 40),
	    le64_at(z->v, (size_t)at + 48));
}

/*
 * The end record, and that of zip64 in front of it.  Programs differ in
 * which they obey, so all count that say different things.
 */
static bool
by_end(struct zip *z, uint64_t end)
{
	uint64_t size = le32_at(z->v, (size_t)end + 12);
	uint64_t offset = le32_at(z->v, (size_t)end + 16), at, near;
	bool there, here;

	if (end < LOCATOR_SIZE || !is_at(z->v, end - LOCATOR_SIZE, "PK\6\7"))
		return by_directory(z, end, size, offset);
	at = le64_at(z->v, (size_t)(end - LOCATOR_SIZE) + 8);
	near = end - LOCATOR_SIZE - END64_SIZE;
	there = is_at(z->v, at, "PK\6\6") && z->v.n - at >= END64_SIZE;
	here = end >= LOCATOR_SIZE + END64_SIZE &&
	    is_at(z->v, near, "PK\6\6");
	if (!there && !here)
		return by_directory(z, end, size, offset);
	if (there && here && at != near) {
		z->item->flags |= SCAN_NAMES_DIFFER;
		if (!by_end64(z, near))
			return false;
	}
	if (!there)
		at = near;
	if ((size != UINT32_MAX && size != le64_at(z->v, (size_t)at + 40)) ||
	    (offset != UINT32_MAX &&
	    offset != le64_at(z->v, (size_t)at + 48))) {
		z->item->flags |= SCAN_NAMES_DIFFER;
		if (!by_directory(z, end, size, offset))
			return false;
	}
	return by_end64(z, at);
}

static int
compare_places(const void *a, const void *b)
{
	const struct zip_place *x = a, *y = b;

	return x->local < y->local ? -1 : x->local > y->local;
}

/*
 * Local headers that no directory names.  Where the size stands behind what is
 * stored, who reads from the begin may see its end anywhere, and what follows.
 */
static void
by_local_headers(struct zip *z)
{
	struct scan_level *l = &z->scan->level[z->depth];
	uint32_t known = l->n_places, i = 0;
	struct zip_entry e;
	struct view h;
	const char *p;
	uint64_t at = 0, flags;
	bool open;

	if (known > 1)
		qsort(l->places, known, sizeof *l->places, compare_places);
	while (at + LOCAL_SIZE <= z->v.n && (p = memmem(z->v.p + at,
	    z->v.n - (size_t)at, "PK\3\4", 4)) != NULL) {
		at = (uint64_t)(p - z->v.p);
		if (z->v.n - at < LOCAL_SIZE)
			break;
		while (i < known && l->places[i].end <= at)
			i++;
		open = i < known && l->places[i].local < at &&
		    l->places[i].open;
		if (!open && i < known && l->places[i].local <= at) {
			at = l->places[i].open ? at + 4 : l->places[i].end;
			continue;
		}
		flags = open ? 0 : known > 0 ? SCAN_NAMES_DIFFER :
		    SCAN_DAMAGED;
		h = view_from(z->v, (size_t)at);
		e = local_entry(z->v, at);
		at += 4;
		/* No name, or chance: a long one, and nothing else fits. */
		if (e.name.n == 0 || e.name.n < le16_at(h, 26) ||
		    (e.name.n > ATTACH_NAME_MAX && (e.method > METHOD_MAX ||
		    (le16_at(h, 4) & 0xff) > VERSION_MAX)))
			continue;
		z->item->flags |= flags;
		look_at_name(z, e.name);
		/* With its size behind the data: all that is left. */
		if (!tell(z, &e, e.name, e.packed > 0 ?
		    part(z->v, e.local, e.packed) :
		    part(z->v, e.local, UINT64_MAX), flags))
			return;
		/* What is stored in it is not a member of this one. */
		if (e.packed > 0 && e.local + e.packed <= z->v.n)
			at = e.local + e.packed;
	}
}

bool
scan_zip_has(const struct scan *s, uint32_t depth, uint64_t at)
{
	const struct scan_level *l = &s->level[depth];
	uint32_t i;

	for (i = 0; i < l->n_places; i++)
		if (l->places[i].local <= at && at < l->places[i].end)
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
	s->level[depth].n_places = 0;
	/* The last one counts; others that are no member's are shown too. */
	for (at = v.n; go_on && v.n - at < look && at >= 4 &&
	    ends < ENDS_MAX; at--)
		if (v.n - (at - 4) >= END_SIZE && is_at(v, at - 4, "PK\5\6")) {
			ends++;
			if (scan_zip_has(s, depth, at - 4))
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
	if (z.unreadable > 0 && scan_archive_zip(s, depth, v, i) >=
	    z.unreadable)
		i->flags &= ~(uint64_t)SCAN_UNREADABLE;
	if (z.office && strcmp(i->kind.name, "zip") == 0)
		i->kind.name = "ooxml";
}
