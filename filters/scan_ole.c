/*
 * Compound files ([MS-CFB]): what the directory names, and the files in
 * streams that may hold one.
 */
#include <stdlib.h>

#include "filters/scan_priv.h"

#define ENTRY_SIZE	128u
#define SECTOR_LAST	0xfffffffau	/* from there on: no sector */
#define STEPS_MAX	1000000u
#define ENTRIES_MAX	100000u
#define TYPE_STREAM	2u
/* Behind a first byte of 0x82 (transform), 0x84 (package), 0x86 (patch). */
#define MSI_CLASS	"\x10\x0c\0\0\0\0\0\xc0\0\0\0\0\0\0\x46"

struct ole {
	struct scan *scan;
	uint32_t depth;
	struct view v;
	struct scan_item *item;
	unsigned shift;			/* of a sector's size */
	uint32_t mini_start;		/* first sector of the mini stream */
	uint32_t mini_fat;
	uint32_t steps;			/* along chains, of all */
	/* Where the way to the last sector of the mini stream ended. */
	uint32_t mini_n, mini_at;
};

static struct view
sector(const struct ole *o, uint32_t n)
{
	uint64_t at = ((uint64_t)n + 1) << o->shift;

	if (n >= SECTOR_LAST || at >= o->v.n)
		return view_make("", 0);
	return view_head(view_from(o->v, (size_t)at), (size_t)1 << o->shift);
}

/* The sector behind n in its chain. */
static uint32_t
next_sector(struct ole *o, uint32_t n)
{
	uint32_t per = 1u << (o->shift - 2), fat = n / per;
	uint32_t at, hops = 0;
	struct view d;

	/* Short files can have long ways, over and over. */
	if (++o->steps > STEPS_MAX) {
		o->item->flags |= SCAN_LIMIT_TIME;
		return UINT32_MAX;
	}
	if (fat < 109)
		at = le32_at(o->v, 76 + 4 * (size_t)fat);
	else {
		/* Files over 7 MB: a list of lists. */
		at = le32_at(o->v, 68);
		fat -= 109;
		for (; fat >= per - 1 && hops < 1000; hops++) {
			o->steps++;
			d = sector(o, at);
			at = d.n == 0 ? UINT32_MAX :
			    le32_at(d, 4 * (size_t)(per - 1));
			fat -= per - 1;
		}
		d = sector(o, at);
		at = d.n == 0 ? UINT32_MAX : le32_at(d, 4 * (size_t)fat);
	}
	d = sector(o, at);
	return d.n == 0 ? UINT32_MAX : le32_at(d, 4 * (size_t)(n % per));
}

/* A stream: from the file's sectors, or the small ones inside one. */
struct ole_read {
	struct ole *ole;
	uint32_t at;		/* sector */
	uint32_t skip;		/* of it taken */
	uint64_t left;
	uint32_t hops;
	bool mini;
};

/* Sector n of the chain that begins at start. */
static uint32_t
nth_sector(struct ole *o, uint32_t start, uint32_t n)
{
	while (n-- > 0 && start < SECTOR_LAST)
		start = next_sector(o, start);
	return start;
}

static struct view
mini_sector(struct ole *o, uint32_t n)
{
	uint32_t per = 1u << (o->shift - 6);

	if (n / per < o->mini_n || o->mini_n == 0) {
		o->mini_n = 0;
		o->mini_at = o->mini_start;
	}
	o->mini_at = nth_sector(o, o->mini_at, n / per - o->mini_n);
	o->mini_n = n / per;
	return view_head(view_from(sector(o, o->mini_at),
	    (size_t)(n % per) * 64), 64);
}

static uint32_t
next_mini(struct ole *o, uint32_t n)
{
	uint32_t per = 1u << (o->shift - 2);
	struct view d = sector(o, nth_sector(o, o->mini_fat, n / per));

	return d.n == 0 ? UINT32_MAX : le32_at(d, 4 * (size_t)(n % per));
}

static long
read_stream(struct scan_member *m, char *to, size_t n)
{
	struct ole_read *r = m->arg;
	struct view d;

	if (r->left == 0 || r->at >= SECTOR_LAST)
		return 0;
	d = r->mini ? mini_sector(r->ole, r->at) : sector(r->ole, r->at);
	d = view_from(d, r->skip);
	/* A chain that bites its tail is longer than the file. */
	if (d.n == 0 || r->hops > (r->ole->v.n >> 6) + 1)
		return -1;
	d = view_head(d, n);
	d = view_head(d, r->left < d.n ? (size_t)r->left : d.n);
	memcpy(to, d.p, d.n);
	r->left -= d.n;
	r->skip += (uint32_t)d.n;
	if (r->skip == (r->mini ? 64u : 1u << r->ole->shift)) {
		r->at = r->mini ? next_mini(r->ole, r->at) :
		    next_sector(r->ole, r->at);
		r->skip = 0;
		r->hops++;
	}
	return (long)d.n;
}

/* -- the directory --------------------------------------------------------- */

/* Names are UTF-16; those of interest are ASCII. */
static struct view
entry_name(struct view e, char *to)
{
	uint32_t n = le16_at(e, 64) / 2, i;
	size_t k = 0;

	for (i = 0; i + 1 < n && i < 31; i++) {
		uint32_t c = le16_at(e, 2 * (size_t)i);

		to[k++] = c > 0 && c < 128 ? (char)c : '?';
	}
	return view_make(to, k);
}

static void
look_at_name(struct ole *o, struct view name)
{
	static const struct {
		const char *name, *kind;
		uint64_t flags;
	} known[] = {
		{ "WordDocument", "doc", 0 }, { "Workbook", "xls", 0 },
		{ "Book", "xls", 0 }, { "PowerPoint Document", "ppt", 0 },
		{ "__properties_version1.0", "msg", 0 },
		{ "VisioDocument", "vsd", 0 },
		{ "Macros", NULL, SCAN_MACRO }, { "VBA", NULL, SCAN_MACRO },
		{ "_VBA_PROJECT", NULL, SCAN_MACRO },
		{ "_VBA_PROJECT_CUR", NULL, SCAN_MACRO },
		{ "\1Ole10Native", NULL, SCAN_EMBEDDED },
		{ "Package", NULL, SCAN_EMBEDDED },
		{ "ObjectPool", NULL, SCAN_EMBEDDED },
		{ "Equation Native", NULL, SCAN_EMBEDDED },
		{ "\3OCXNAME", NULL, SCAN_ACTIVEX },
		{ "EncryptedPackage", NULL, SCAN_ENCRYPTED },
		{ "EncryptionInfo", NULL, SCAN_ENCRYPTED },
	};
	size_t i;

	for (i = 0; i < sizeof known / sizeof known[0]; i++) {
		if (!view_is_nocase(name, known[i].name))
			continue;
		if (known[i].kind != NULL)
			o->item->kind.name = known[i].kind;
		o->item->flags |= known[i].flags;
	}
}

/* Streams that may hold a file. */
static bool
holds_file(struct view name)
{
	return view_is_nocase(name, "\1Ole10Native") ||
	    view_is_nocase(name, "Package") ||
	    view_is_nocase(name, "CONTENTS") ||
	    view_starts_nocase(name, "__substg1.0_37010102");
}

/* Of an attachment in a message: its name, long or short, its extension. */
static bool
is_file_name(struct view name)
{
	static const char *const begins[] = { "__substg1.0_3703001",
		"__substg1.0_3704001", "__substg1.0_3707001" };
	size_t i;

	for (i = 0; i < sizeof begins / sizeof begins[0]; i++)
		if (view_starts_nocase(name, begins[i]))
			return true;
	return false;
}

/* Returns false when the reader is to end. */
static bool
look_at_entry(struct ole *o, struct view e)
{
	char text[32];
	struct view name = entry_name(e, text);
	struct ole_read r = { .ole = o, .at = le32_at(e, 116),
		.left = o->shift == 9 ? le32_at(e, 120) : le64_at(e, 120) };
	struct scan_member m = { .name = name, .size = r.left,
		.read = read_stream, .arg = &r, .all = true };
	struct ole_read begin;

	if (name.n == 0)
		return true;
	look_at_name(o, name);
	if ((unsigned char)e.p[66] != TYPE_STREAM)
		return true;
	r.mini = r.left < le32_at(o->v, 56);
	if (view_is_nocase(name, "Workbook") || view_is_nocase(name, "Book"))
		scan_workbook(&m, &o->item->flags);
	else if (view_is_nocase(name, "WordDocument"))
		scan_word(&m, &o->item->flags);
	else if (view_is_nocase(name, "PowerPoint Document"))
		scan_presentation(&m, &o->item->flags);
	else if (is_file_name(name))
		return scan_attachment_name(o->scan, o->depth, &m,
		    view_ends_nocase(name, view_of("F")), &o->item->flags);
	if (!holds_file(name))
		return true;
	if (view_is_nocase(name, "\1Ole10Native")) {
		begin = r;
		if (!scan_package(o->scan, o->depth, &m, &o->item->flags))
			return false;
		r = begin;
	}
	return scan_member(o->scan, o->depth, &m, &o->item->flags);
}

/* By the class of the root. */
static bool
is_installer(struct view root)
{
	unsigned char c = (unsigned char)root.p[80];

	return (c == 0x82 || c == 0x84 || c == 0x86) &&
	    memcmp(root.p + 81, MSI_CLASS, 15) == 0;
}

void
scan_ole(struct scan *s, uint32_t depth, struct view v, struct scan_item *i)
{
	struct ole o = { .scan = s, .depth = depth, .v = v, .item = i,
		.shift = le16_at(v, 30), .mini_fat = le32_at(v, 60),
		.mini_start = UINT32_MAX };
	uint32_t at = le32_at(v, 48), entries = 0, sectors = 0;
	struct view d;
	size_t k;

	if (v.n < 512 || (o.shift != 9 && o.shift != 12)) {
		i->flags |= SCAN_DAMAGED;
		return;
	}
	for (; at < SECTOR_LAST; at = next_sector(&o, at)) {
		d = sector(&o, at);
		if (d.n == 0) {
			i->flags |= SCAN_DAMAGED;
			break;
		}
		/* A chain that never ends ends here. */
		if (++sectors > v.n >> o.shift) {
			i->flags |= SCAN_LIMIT_MEMBERS;
			return;
		}
		for (k = 0; k + ENTRY_SIZE <= d.n; k += ENTRY_SIZE) {
			struct view e = view_head(view_from(d, k), ENTRY_SIZE);

			if (entries == 0) {
				o.mini_start = le32_at(e, 116);
				if (is_installer(e))
					i->kind = (struct file_kind){ "msi",
						GROUP_OLE | GROUP_EXECUTABLE };
			} else if (!look_at_entry(&o, e))
				return;
			if (++entries > ENTRIES_MAX) {
				i->flags |= SCAN_LIMIT_MEMBERS;
				return;
			}
		}
		if (scan_over(s, &i->flags))
			return;
	}
}
