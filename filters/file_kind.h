/*
 * What a file is by its content.  A quick look at the signatures of what
 * matters first; libmagic on the begin of the rest.
 */
#ifndef FILTERS_FILE_KIND_H
#define FILTERS_FILE_KIND_H

#include "lib/view.h"

#define FILE_KIND_LOOK	4096u	/* bytes that are looked at */

enum file_group {
	GROUP_OTHER = 0,
	GROUP_EXECUTABLE = 1 << 0,	/* a program, for any system */
	GROUP_SCRIPT = 1 << 1,
	GROUP_ARCHIVE = 1 << 2,		/* libarchive may read it */
	GROUP_ZIP = 1 << 3,
	GROUP_OLE = 1 << 4,		/* compound file */
	GROUP_PDF = 1 << 5,
	GROUP_RTF = 1 << 6,
	GROUP_DISK = 1 << 7,		/* an image that opens as a disk */
	GROUP_SHORTCUT = 1 << 8,	/* .lnk */
	GROUP_TEXT = 1 << 9,		/* looks like text */
	GROUP_HTML = 1 << 10,
	GROUP_DOCUMENT = 1 << 11,	/* picture, sound, document */
	GROUP_NOTEBOOK = 1 << 12,	/* of OneNote */
	GROUP_WORDS = 1 << 13,		/* what it is its words say */
	GROUP_ALL = (1 << 14) - 1,
	/* there are files in it */
	GROUP_HOLDS = GROUP_ARCHIVE | GROUP_ZIP | GROUP_OLE | GROUP_NOTEBOOK
};

struct file_kind {
	const char *name;	/* "exe", "elf", "zip", ... or a MIME type */
	unsigned groups;
};

/* head: the begin of the file, FILE_KIND_LOOK bytes or all of it. */
struct file_kind file_kind_quick(struct view head);

/* libmagic's answer, for what file_kind_quick() does not know. */
struct file_magic;

/* Reads its database: before the jail.  NULL: *ret_error. */
struct file_magic *file_magic_open(const char **ret_error);
void file_magic_free(struct file_magic **m);
/* The result is good until the next call. */
struct file_kind file_kind(struct file_magic *m, struct view head);

#endif
