/*
 * Archives that libarchive reads.  It gets the bytes in small pieces, and
 * none any more once the time is over; formats that start a program or parse
 * XML are left out.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>

#include "filters/scan_priv.h"

#define PIECE	(16u << 10)

struct reading {
	struct scan *scan;
	uint32_t depth;
	struct view v;
	size_t at;
	struct scan_item *item;
	struct archive *archive;
	bool encrypted;		/* what it cannot tell of its members */
	uint32_t told;
};

static ssize_t
give(struct archive *a, void *arg, const void **ret)
{
	struct reading *r = arg;
	struct view p = view_head(view_from(r->v, r->at), PIECE);

	if (scan_over(r->scan, &r->item->flags)) {
		archive_set_error(a, -1, "limit");
		return -1;
	}
	*ret = p.p;
	r->at += p.n;
	return (ssize_t)p.n;
}

static la_int64_t
skip(struct archive *a, void *arg, la_int64_t n)
{
	struct reading *r = arg;
	size_t left = r->v.n - r->at;

	(void)a;
	if (n < 0)
		return 0;
	left = (uint64_t)n < left ? (size_t)n : left;
	r->at += left;
	return (la_int64_t)left;
}

static la_int64_t
seek(struct archive *a, void *arg, la_int64_t n, int whence)
{
	struct reading *r = arg;
	la_int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ?
	    (la_int64_t)r->at : (la_int64_t)r->v.n, to;

	(void)a;
	if (n > (la_int64_t)r->v.n || n < -(la_int64_t)r->v.n)
		return ARCHIVE_FATAL;
	to = from + n;
	if (to < 0 || to > (la_int64_t)r->v.n)
		return ARCHIVE_FATAL;
	r->at = (size_t)to;
	return to;
}

static long
read_member(struct scan_member *m, char *to, size_t n)
{
	struct reading *r = m->arg;
	la_ssize_t got = archive_read_data(r->archive, to, n);

	return got < 0 ? -1 : (long)got;
}

static void
support(struct archive *a, bool formats)
{
	(void)archive_read_support_filter_gzip(a);
	(void)archive_read_support_filter_bzip2(a);
	(void)archive_read_support_filter_compress(a);
	(void)archive_read_support_filter_xz(a);
	(void)archive_read_support_filter_lzma(a);
	(void)archive_read_support_filter_lzip(a);
	(void)archive_read_support_filter_zstd(a);
	(void)archive_read_support_filter_lz4(a);
	(void)archive_read_support_format_raw(a);
	if (!formats)
		return;
	(void)archive_read_support_format_7zip(a);
	(void)archive_read_support_format_ar(a);
	(void)archive_read_support_format_cab(a);
	(void)archive_read_support_format_cpio(a);
	(void)archive_read_support_format_iso9660(a);
	(void)archive_read_support_format_lha(a);
	(void)archive_read_support_format_rar(a);
	(void)archive_read_support_format_rar5(a);
	(void)archive_read_support_format_tar(a);
}

/* What the archive's reader says when it can go no further. */
static void
failed(struct reading *r)
{
	const char *why = archive_error_string(r->archive);

	if (scan_over(r->scan, &r->item->flags))
		return;
	if (archive_errno(r->archive) == ENOMEM || (why != NULL &&
	    (strcasestr(why, "memory") != NULL ||
	    strcasestr(why, "allocat") != NULL)))
		r->item->flags |= SCAN_LIMIT_MEMORY;
	else if ((why != NULL && strcasestr(why, "encrypt") != NULL) ||
	    archive_read_has_encrypted_entries(r->archive) == 1)
		r->item->flags |= SCAN_ENCRYPTED;
	else
		r->item->flags |= SCAN_DAMAGED;
}

/* "a.txt.gz" holds "a.txt". */
static struct view
without_extension(struct view name)
{
	size_t i;

	for (i = name.n; i > 0; i--)
		if (name.p[i - 1] == '.')
			return view_head(name, i - 1);
	return name;
}

/* A name more, of what is told of under another one. */
static void
tell_name(struct reading *r, struct view name)
{
	struct scan_member m = { .name = name };

	if (!view_eq(name, without_extension(r->item->name)))
		(void)scan_member(r->scan, r->depth, &m, &r->item->flags);
}

static bool
tell(struct reading *r, struct archive_entry *e)
{
	bool raw = archive_format(r->archive) == ARCHIVE_FORMAT_RAW;
	struct scan_member m = { .read = read_member, .arg = r };
	const char *name = archive_entry_pathname_utf8(e);
	bool go_on;

	if (archive_entry_filetype(e) == AE_IFDIR) {
		r->scan->members++;
		return !scan_over(r->scan, &r->item->flags);
	}
	if (name == NULL)
		name = archive_entry_pathname(e);
	m.name = name != NULL ? view_of(name) : view_make("", 0);
	/* What gzip says, and what gunzip makes of the file's name. */
	if (raw && m.name.n > 0 && !view_is(m.name, "data"))
		tell_name(r, m.name);
	if (raw)
		m.name = without_extension(r->item->name);
	if (archive_entry_size_is_set(e) && archive_entry_size(e) > 0)
		m.size = (uint64_t)archive_entry_size(e);
	if (archive_entry_is_encrypted(e) || r->encrypted) {
		m.flags |= SCAN_ENCRYPTED;
		m.read = NULL;
	}
	go_on = scan_member(r->scan, r->depth, &m, &r->item->flags);
	if ((m.flags & SCAN_DAMAGED) != 0)
		failed(r);
	else
		r->told++;
	return go_on;
}

/*
 * The rest of a member, where the next one lies behind it in one compressed
 * stream: in pieces, so that the limits hold.  Returns false to end.
 */
static bool
drain(struct reading *r)
{
	struct scan *s = r->scan;
	struct scan_level *l = &s->level[r->depth];
	bool raw = archive_format(r->archive) == ARCHIVE_FORMAT_RAW;
	const void *p;
	size_t n;
	la_int64_t offset;
	int rc;

	if (!raw && archive_filter_count(r->archive) <= 1 &&
	    archive_format(r->archive) != ARCHIVE_FORMAT_7ZIP &&
	    archive_format(r->archive) != ARCHIVE_FORMAT_RAR_V5 &&
	    archive_format(r->archive) != ARCHIVE_FORMAT_RAR &&
	    archive_format(r->archive) != ARCHIVE_FORMAT_CAB)
		return true;
	while ((rc = archive_read_data_block(r->archive, &p, &n, &offset)) ==
	    ARCHIVE_OK) {
		l->out += n;
		if (scan_too_thin(s, raw ? r->at : l->in, l->out))
			r->item->flags |= SCAN_LIMIT_RATIO;
		if (scan_over(s, &r->item->flags))
			return false;
		/* There is no other; is it a bomb? */
		if (raw && l->out > SCAN_RATIO_FROM)
			return false;
	}
	return rc == ARCHIVE_EOF || rc == ARCHIVE_WARN || rc == ARCHIVE_FAILED;
}

/* Returns whether there was a member. */
static bool
walk(struct reading *r)
{
	struct archive_entry *e;
	bool any = false;
	int rc;

	while ((rc = archive_read_next_header(r->archive, &e)) !=
	    ARCHIVE_EOF) {
		if (rc < ARCHIVE_WARN) {
			failed(r);
			return true;
		}
		any = true;
		/* Nothing but what raw takes for one: it is none. */
		if (archive_format(r->archive) == ARCHIVE_FORMAT_RAW &&
		    archive_filter_count(r->archive) <= 1) {
			r->item->flags |= SCAN_DAMAGED;
			return true;
		}
		if (!tell(r, e) || !drain(r))
			return true;
	}
	return any;
}

static void
set_callbacks(struct reading *r)
{
	(void)archive_read_set_callback_data(r->archive, r);
	(void)archive_read_set_read_callback(r->archive, give);
	(void)archive_read_set_skip_callback(r->archive, skip);
	(void)archive_read_set_seek_callback(r->archive, seek);
}

/* False: what is compressed there was taken for an archive, and holds none. */
static bool
read_archive(struct reading *r, bool formats)
{
	bool done = true;

	r->at = 0;
	r->archive = archive_read_new();
	if (r->archive == NULL) {
		r->item->flags |= SCAN_LIMIT_MEMORY;
		return true;
	}
	support(r->archive, formats);
	set_callbacks(r);
	if (archive_read_open1(r->archive) == ARCHIVE_OK)
		done = walk(r) || archive_filter_count(r->archive) <= 1;
	else
		failed(r);
	(void)archive_read_free(r->archive);
	return done;
}

void
scan_archive(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i)
{
	struct reading r = { .scan = s, .depth = depth, .v = v, .item = i };
	locale_t before = uselocale(s->locale);

	r.encrypted = scan_rar_encrypted(v);
	if (r.encrypted)
		i->flags |= SCAN_ENCRYPTED;
	/* Zeros, with which a disk image begins, are a tar file's end. */
	if (!read_archive(&r, true))
		(void)read_archive(&r, false);
	(void)uselocale(before);
}

/* -- zip ------------------------------------------------------------------- */

/* What scan_zip() reads. */
static bool
is_plain_zip(struct archive *a)
{
	const char *how = archive_format_name(a);

	return how == NULL || strstr(how, "(uncompressed)") != NULL ||
	    strstr(how, "(deflation)") != NULL;
}

uint32_t
scan_archive_zip(struct scan *s, uint32_t depth, struct view v,
    struct scan_item *i)
{
	struct reading r = { .scan = s, .depth = depth, .v = v, .item = i };
	locale_t before = uselocale(s->locale);
	uint64_t damaged = i->flags & SCAN_DAMAGED;
	struct archive_entry *e;
	int rc;

	r.archive = archive_read_new();
	if (r.archive == NULL)
		return 0;
	(void)archive_read_support_format_zip_seekable(r.archive);
	set_callbacks(&r);
	if (archive_read_open1(r.archive) == ARCHIVE_OK)
		while ((rc = archive_read_next_header(r.archive, &e)) !=
		    ARCHIVE_EOF && rc >= ARCHIVE_WARN)
			if (!is_plain_zip(r.archive) && !tell(&r, e))
				break;
	(void)archive_read_free(r.archive);
	(void)uselocale(before);
	/* What it cannot read either is not known, but not damaged. */
	i->flags = (i->flags & ~(uint64_t)SCAN_DAMAGED) | damaged;
	return r.told;
}
