#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "filters/scan_priv.h"
#include "lib/log.h"
#include "lib/mem.h"

#define LATER_LOOK	(1u << 20)	/* as far as WinRAR looks */
#define TRIES		16u		/* places where one may begin */
#define READ_STEP	(32u << 10)
#define DISK_LOOK	(33u << 10)	/* a disk says there that it is one */
#define KEEP_MAX	(1u << 20)	/* of a level's memory, for the next */

static const char *const flag_names[SCAN_FLAGS] = {
#define FLAG(symbol, name)	[symbol##_BIT] = name,
#include "filters/scan_flag.def"
#undef FLAG
};

const char *
scan_flag_name(enum scan_flag_bit b)
{
	ensure(b < SCAN_FLAGS);
	return flag_names[b];
}

static uint64_t
cpu_now(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0)
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct scan *
scan_new(const struct scan_limits *l, const char **ret_error)
{
	struct scan *s = mem_array(1, sizeof *s);
	size_t i;

	s->limits = *l;
	ensure(l->depth <= SCAN_DEPTH_MAX);
	s->magic = file_magic_open(ret_error);
	s->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL);
	if (s->magic == NULL || s->locale == (locale_t)0) {
		if (s->magic != NULL)
			*ret_error = "there is no locale C.UTF-8";
		file_magic_free(&s->magic);
		if (s->locale != (locale_t)0)
			freelocale(s->locale);
		free(s);
		return NULL;
	}
	for (i = 0; i <= SCAN_DEPTH_MAX; i++)
		buf_init(&s->level[i].content, (size_t)l->bytes + 1);
	buf_init(&s->path, SCAN_PATH_MAX);
	buf_init(&s->name, 4 * ATTACH_NAME_MAX);
	buf_init(&s->ext, 4 * ATTACH_NAME_MAX);
	return s;
}

void
scan_free(struct scan **s)
{
	size_t i;

	if (*s == NULL)
		return;
	for (i = 0; i <= SCAN_DEPTH_MAX; i++) {
		buf_free(&(*s)->level[i].content);
		free((*s)->level[i].places);
	}
	if ((*s)->inflate_ready)
		(void)inflateEnd(&(*s)->inflate);
	file_magic_free(&(*s)->magic);
	freelocale((*s)->locale);
	buf_free(&(*s)->path);
	buf_free(&(*s)->name);
	buf_free(&(*s)->ext);
	free(*s);
	*s = NULL;
}

void
scan_begin(struct scan *s, uint64_t size)
{
	s->members = 0;
	s->bytes = 0;
	s->cpu_begin = 0;
	/* A tenth is left for what is between two looks at the clock. */
	s->cpu_most = scan_cpu_ms(&s->limits, size) * 900000u;
}

bool
scan_over(struct scan *s, uint64_t *flags)
{
	if (s->members > s->limits.members)
		*flags |= SCAN_LIMIT_MEMBERS;
	if (s->bytes > s->limits.bytes)
		*flags |= SCAN_LIMIT_BYTES;
	if (cpu_now() - s->cpu_begin > s->cpu_most)
		*flags |= SCAN_LIMIT_TIME;
	return (*flags & SCAN_LIMITS & ~(uint64_t)SCAN_LIMIT_DEPTH) != 0;
}

uint64_t
scan_name_flags(struct view ext, const struct file_kind *k)
{
	/* Extensions that promise something else than a program. */
	static const char harmless[] = " pdf doc docx xls xlsx ppt pptx odt "
	    "ods rtf txt csv jpg jpeg png gif bmp tif tiff mp3 mp4 avi htm "
	    "html xml ics vcf log ";
	struct view last = attach_last(ext);
	char word[24];
	uint64_t f = 0;

	if ((k->groups & GROUP_EXECUTABLE) != 0)
		f |= SCAN_EXECUTABLE;
	if ((k->groups & GROUP_SCRIPT) != 0)
		f |= SCAN_SCRIPT;
	if ((k->groups & (GROUP_ARCHIVE | GROUP_ZIP)) != 0)
		f |= SCAN_ARCHIVE;
	if ((k->groups & GROUP_DISK) != 0)
		f |= SCAN_DISK;
	if ((k->groups & GROUP_SHORTCUT) != 0)
		f |= SCAN_SHORTCUT;
	if (last.n == 0 || last.n > sizeof word - 3)
		return f;
	(void)snprintf(word, sizeof word, " %.*s ", VIEW_ARGS(last));
	if (strstr(harmless, word) != NULL && (k->groups & (GROUP_EXECUTABLE |
	    GROUP_SCRIPT | GROUP_DISK | GROUP_SHORTCUT)) != 0)
		f |= SCAN_MISMATCH;
	/* A picture or text that is an archive.  (docx is a zip.) */
	if ((k->groups & (GROUP_ARCHIVE | GROUP_ZIP)) != 0 && strstr(" pdf txt "
	    "csv jpg jpeg png gif bmp tif tiff mp3 mp4 avi htm html ics ",
	    word) != NULL)
		f |= SCAN_MISMATCH;
	return f;
}

/* A disk's volume descriptor stands where no quick look goes. */
static bool
is_iso(struct view v)
{
	return v.n > 32774 && (memcmp(v.p + 32769, "CD001", 5) == 0 ||
	    memcmp(v.p + 32769, "BEA01", 5) == 0);
}

/*
 * It is this, too.  What its begin says holds as well: a program with the end
 * of a disk's image starts as before.
 */
static void
is_also(struct file_kind *k, const char *name, unsigned groups)
{
	if ((k->groups & (GROUP_EXECUTABLE | GROUP_SCRIPT | GROUP_SHORTCUT |
	    GROUP_HOLDS)) == 0)
		k->name = name;
	k->groups |= groups;
}

/* Images of disks that say so at their end. */
static void
look_at_end(struct view v, struct file_kind *k)
{
	const char *p;

	if (v.n < 512)
		return;
	p = v.p + v.n - 512;
	if (memcmp(p, "conectix", 8) == 0)
		is_also(k, "vhd", GROUP_DISK);
	else if (memcmp(p, "koly\0\0\0\4", 8) == 0)
		is_also(k, "dmg", GROUP_DISK);
}

/* A zip's directory is at its end, whatever stands before it. */
static bool
ends_as_zip(struct view v)
{
	size_t look = v.n < 65557 ? v.n : 65557;

	return look >= 22 && memmem(v.p + v.n - look, look, "PK\5\6", 4) !=
	    NULL && memmem(v.p, v.n, "PK\1\2", 4) != NULL;
}

/*
 * WinRAR and 7-Zip look for an archive behind something else, as behind the
 * program of one that unpacks itself; whatever stands before it.  Returns
 * where the next begins, from that place on; 0: there is none.
 */
static size_t
begins_later(struct view v, size_t from)
{
	static const struct {
		const char *bytes;
		size_t rare;	/* of them, to look for */
	} magic[] = { { "Rar!\x1a\x07", 3 }, { "7z\xbc\xaf\x27\x1c", 2 } };
	size_t i, at, first = 0;
	const char *p;

	v = view_head(v, LATER_LOOK);
	for (i = 0; i < sizeof magic / sizeof magic[0]; i++)
		for (at = from + magic[i].rare; at < v.n && (p = memchr(
		    v.p + at, magic[i].bytes[magic[i].rare], v.n - at)) !=
		    NULL; at = (size_t)(p - v.p) + 1) {
			p -= magic[i].rare;
			at = (size_t)(p - v.p);
			if (v.n - at >= 6 && memcmp(p, magic[i].bytes, 6) ==
			    0) {
				if (first == 0 || at < first)
					first = at;
				break;
			}
			p += magic[i].rare;
		}
	return first;
}

bool
scan_shallow(struct view v, struct scan_item *i)
{
	i->kind = file_kind_quick(v);
	i->size = v.n;
	if (i->kind.name == NULL || is_iso(v) ||
	    (i->kind.groups & GROUP_HOLDS) != 0 || ends_as_zip(v) ||
	    begins_later(v, 1) > 0)
		return false;
	look_at_end(v, &i->kind);
	scan_text(v, i);
	return (i->kind.groups & GROUP_RTF) == 0 ||
	    (i->flags & SCAN_EMBEDDED) == 0;
}

/* Of a file that is, or should be, an archive. */
static void
look_later(struct scan *s, uint32_t depth, struct view v, struct scan_item *i)
{
	bool zip = (i->kind.groups & GROUP_ZIP) != 0 || ends_as_zip(v);
	uint32_t told = s->members, tries;
	size_t at = 0;

	for (tries = 0; tries < TRIES && s->members == told &&
	    (at = begins_later(v, at + 1)) > 0; tries++)
		if (!zip || !scan_zip_has(s, depth, at))
			scan_archive(s, depth, view_from(v, at), i);
}

static void
look_inside(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i)
{
	uint64_t flags = 0;
	uint32_t told = s->members;
	unsigned g;

	if (is_iso(v))
		is_also(&i->kind, "iso", GROUP_ARCHIVE | GROUP_DISK);
	look_at_end(v, &i->kind);
	scan_text(v, i);
	g = i->kind.groups;
	if ((g & GROUP_HOLDS) == 0 && ((g & GROUP_RTF) == 0 ||
	    (i->flags & SCAN_EMBEDDED) == 0) && !ends_as_zip(v) &&
	    begins_later(v, 1) == 0)
		return;
	if (depth >= s->limits.depth) {
		i->flags |= SCAN_LIMIT_DEPTH;
		return;
	}
	if (scan_over(s, &flags)) {
		i->flags |= flags;
		return;
	}
	s->level[depth].in = v.n;
	s->level[depth].out = 0;
	if ((g & GROUP_OLE) != 0)
		scan_ole(s, depth, v, i);
	if ((g & GROUP_ARCHIVE) != 0)
		scan_archive(s, depth, v, i);
	if ((g & GROUP_RTF) != 0)
		scan_rtf(s, depth, v, i);
	if ((g & GROUP_NOTEBOOK) != 0)
		scan_notebook(s, depth, v, i);
	if ((g & GROUP_ZIP) != 0 || ends_as_zip(v))
		scan_zip(s, depth, v, i);
	if ((g & GROUP_OLE) == 0 && ((g & GROUP_ARCHIVE) == 0 ||
	    s->members == told))
		look_later(s, depth, v, i);
}

/* libmagic's answer is good until its next one. */
static void
keep_kind(struct scan *s, uint32_t depth, struct file_kind *k)
{
	char *to = s->level[depth].kind;

	(void)snprintf(to, sizeof s->level[depth].kind, "%s", k->name);
	k->name = to;
}

void
scan_file(struct scan *s, struct view content, struct scan_item *ret,
    scan_tell *tell, void *arg)
{
	if (s->cpu_begin == 0)
		s->cpu_begin = cpu_now();
	s->tell = tell;
	s->arg = arg;
	s->stopped = false;
	buf_clear(&s->path);
	(void)buf_putv(&s->path, view_head(ret->name, 200));
	ret->kind = file_kind(s->magic, content);
	keep_kind(s, 0, &ret->kind);
	ret->size = content.n;
	look_inside(s, 0, content, ret);
}

/* -- members --------------------------------------------------------------- */

/* Room for as much as is said to come: doubling would take too much. */
static void
expect(const struct scan *s, struct buf *b, uint64_t size)
{
	size_t most = (size_t)s->limits.bytes + 1;

	if (size <= b->n || size >= most - READ_STEP)
		return;
	b->max = (size_t)size + READ_STEP;
	(void)buf_room(b, b->max - b->n);
}

static char *
room_for(const struct scan *s, struct buf *b, size_t n)
{
	size_t most = (size_t)s->limits.bytes + 1;
	char *to;

	while ((to = buf_room(b, n)) == NULL && b->max < most)
		b->max = b->max > most / 2 ? most : 2 * b->max;
	return to;
}

/* Read up to n bytes in all; false: a limit, or it cannot be read. */
static bool
fill(struct scan *s, uint32_t depth, struct scan_member *m, struct buf *b,
    size_t n, uint64_t *flags)
{
	struct scan_level *l = &s->level[depth];
	size_t step;
	char *to;
	long got;

	while (b->n < n) {
		step = n - b->n < READ_STEP ? n - b->n : READ_STEP;
		to = room_for(s, b, step);
		if (to == NULL) {
			*flags |= SCAN_LIMIT_BYTES;
			return false;
		}
		got = m->read(m, to, step);
		if (got == 0)
			break;
		if (got < 0) {
			m->flags |= SCAN_DAMAGED;
			break;
		}
		b->n += (size_t)got;
		s->bytes += (uint64_t)got;
		l->out += (uint64_t)got;
		if (scan_too_thin(s, l->in, l->out))
			*flags |= SCAN_LIMIT_RATIO;
		if (scan_over(s, flags))
			return false;
	}
	return true;
}

static bool
worth_all(const struct file_kind *k)
{
	return (k->groups & (GROUP_HOLDS | GROUP_PDF | GROUP_RTF |
	    GROUP_HTML | GROUP_DISK | GROUP_WORDS)) != 0;
}

bool
scan_member(struct scan *s, uint32_t depth, struct scan_member *m,
    uint64_t *flags)
{
	struct scan_item i = { .name = m->name, .size = m->size };
	struct buf *b = &s->level[depth + 1].content;
	size_t path = s->path.n;
	bool go_on = true, all;

	s->members++;
	buf_clear(b);
	b->max = (size_t)s->limits.bytes + 1;
	if (m->read != NULL && (m->flags & SCAN_ENCRYPTED) == 0) {
		go_on = fill(s, depth, m, b, FILE_KIND_LOOK, flags);
		i.kind = file_kind(s->magic, buf_view(b));
		all = m->all || worth_all(&i.kind) ||
		    begins_later(buf_view(b), 1) > 0;
		if (go_on && !all && b->n == FILE_KIND_LOOK &&
		    m->size != FILE_KIND_LOOK) {
			go_on = fill(s, depth, m, b, DISK_LOOK, flags);
			all = is_iso(buf_view(b));
		}
		if (go_on && all && b->n >= FILE_KIND_LOOK) {
			expect(s, b, m->size);
			go_on = fill(s, depth, m, b,
			    (size_t)s->limits.bytes + 1, flags);
		}
	} else
		i.kind = (struct file_kind){ "unknown", GROUP_OTHER };
	if (i.size == 0)
		i.size = b->n;
	m->head = buf_view(b);
	i.flags = m->flags;
	if (go_on) {
		(void)buf_puts(&s->path, "!");
		(void)buf_putv(&s->path, view_head(m->name, 200));
		keep_kind(s, depth + 1, &i.kind);
		look_inside(s, depth + 1, buf_view(b), &i);
		s->path.n = path;
	}
	*flags |= i.flags & (SCAN_ENCRYPTED | SCAN_MACRO | SCAN_LIMITS |
	    SCAN_NAMES_DIFFER);
	i.inside = buf_view(&s->path);
	if (!s->stopped && !s->tell(s->arg, &i))
		s->stopped = true;
	if (b->cap > KEEP_MAX) {
		buf_free(b);
		m->head = view_make("", 0);
	}
	return go_on && !s->stopped && !scan_over(s, flags);
}
