/*
 * Inside the scanner: what its readers share.
 */
#ifndef FILTERS_SCAN_PRIV_H
#define FILTERS_SCAN_PRIV_H

#include <locale.h>
#include <zlib.h>

#include "filters/attach_name.h"
#include "filters/scan.h"

#define SCAN_PATH_MAX	2048u
#define SCAN_RATIO_FROM	(8u << 20)	/* less is no bomb */

struct zip_place {
	uint64_t local;		/* offset of its local header */
	uint64_t end;		/* behind its data */
	bool open;		/* what is in there may be members, too */
};

/* One file that is open: 0 is the attachment. */
struct scan_level {
	struct buf content;	/* of a member that is looked into */
	struct zip_place *places;
	uint32_t n_places;
	uint64_t in, out;	/* packed, unpacked: for the ratio */
	char kind[80];		/* name of its kind */
};

struct scan {
	struct scan_limits limits;
	struct file_magic *magic;
	locale_t locale;	/* UTF-8, for libarchive */
	struct scan_level level[SCAN_DEPTH_MAX + 1];
	struct buf path, name, ext;
	z_stream inflate;
	bool inflate_ready;
	/* of the message */
	uint32_t members;
	uint64_t bytes;
	uint64_t cpu_begin;	/* ns */
	uint64_t cpu_most;	/* ns */
	bool stopped;		/* tell() said so */
	scan_tell *tell;
	void *arg;
};

/* A member as a reader finds it. */
struct scan_member {
	struct view name;
	uint64_t size;
	uint64_t flags;
	/*
	 * Gives n or fewer of the next bytes; 0 at the end, -1 when it cannot
	 * be read.  NULL: there is no content.
	 */
	long (*read)(struct scan_member *m, char *to, size_t n);
	void *arg;
	struct view head;	/* set by scan_member(): its begin */
	bool all;		/* wanted: the content to its end, in head */
};

/*
 * A reader met a member: read its begin, look into it if it is an archive
 * itself, tell of it.  depth: of the archive.  Returns false when the reader
 * is to end; *flags collects what holds for the archive.
 */
bool scan_member(struct scan *s, uint32_t depth, struct scan_member *m,
    uint64_t *flags);
/* Is there a limit that was passed?  Also adds it to *flags. */
bool scan_over(struct scan *s, uint64_t *flags);

static inline bool
scan_too_thin(const struct scan *s, uint64_t in, uint64_t out)
{
	return out > SCAN_RATIO_FROM && out / s->limits.ratio > in;
}

/* The readers. */
void scan_zip(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i);
void scan_ole(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i);
bool scan_rar_encrypted(struct view v);
/* Members of a zip that libarchive can unpack, and scan_zip() cannot; returns
 * how many it did. */
uint32_t scan_archive_zip(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i);
/* Parts of documents in zip that say what others are. */
bool scan_part_counts(struct view name);
uint64_t scan_part(struct view name, struct view content);
/* n bytes, or as many as there are; to may be NULL to skip them. */
size_t scan_take(struct scan_member *m, char *to, size_t n);
/* Streams of a compound file. */
void scan_workbook(struct scan_member *m, uint64_t *flags);
void scan_word(struct scan_member *m, uint64_t *flags);
void scan_presentation(struct scan_member *m, uint64_t *flags);
/* These tell of what they find; false: the reader is to end. */
bool scan_package(struct scan *s, uint32_t depth, struct scan_member *stream,
    uint64_t *flags);
bool scan_attachment_name(struct scan *s, uint32_t depth,
    struct scan_member *stream, bool wide, uint64_t *flags);
void scan_archive(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i);
void scan_rtf(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i);
void scan_notebook(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i);
/* What the words of a text say: flags. */
void scan_text(struct view v, struct scan_item *i);
/* Is that place in the data of a member that scan_zip() found last? */
bool scan_zip_has(const struct scan *s, uint32_t depth, uint64_t at);

/* Is that in it, in any case? */
static inline bool
scan_holds(struct view v, const char *what)
{
	size_t i, n = strlen(what);

	for (i = 0; i + n <= v.n; i++)
		if (strncasecmp(v.p + i, what, n) == 0)
			return true;
	return false;
}

static inline uint32_t
le16_at(struct view v, size_t at)
{
	const unsigned char *u = (const unsigned char *)v.p;

	return at + 2 > v.n ? 0 : (uint32_t)(u[at] | u[at + 1] << 8);
}

static inline uint32_t
le32_at(struct view v, size_t at)
{
	return at + 4 > v.n ? 0 : le16_at(v, at) | le16_at(v, at + 2) << 16;
}

static inline uint64_t
le64_at(struct view v, size_t at)
{
	return at + 8 > v.n ? 0 :
	    le32_at(v, at) | (uint64_t)le32_at(v, at + 4) << 32;
}

#endif
