/*
 * Names of attachments and of what archives hold, as the system that opens
 * them takes them: what follows the last '/' or '\\', without the dots and
 * blanks that Windows drops at the end, without a stream (":..."), without
 * characters that are not shown, full-width letters as plain ones.
 */
#ifndef FILTERS_ATTACH_NAME_H
#define FILTERS_ATTACH_NAME_H

#include "lib/buf.h"

#define ATTACH_NAME_MAX		1024u	/* bytes of a name that are looked at */
#define ATTACH_EXTENSIONS	4u	/* of a chain; the last ones */

enum name_oddity {
	ODDITY_BIDI = 1 << 0,	/* holds marks that turn the direction */
	ODDITY_HIDDEN = 1 << 1,	/* ... control or zero-width characters */
	ODDITY_TRAILING = 1 << 2,	/* ended with dots or blanks */
	ODDITY_SPACES = 1 << 3,	/* a long blank before the extension */
	ODDITY_STREAM = 1 << 4,	/* "name:stream" */
	ODDITY_DOUBLE = 1 << 5,	/* two extensions, one of a document */
	ODDITY_LONG = 1 << 6,	/* cut at ATTACH_NAME_MAX: both ends kept */
	ODDITY_PATH = 1 << 7,	/* leads out of its directory */
};

/*
 * *name: the name without white space or control bytes in it (each such is
 * shown as '_'), in the case it came; *ext: its chain of extensions, lower
 * case, without the first dot, empty: none.  Both are cleared first and need
 * room for ATTACH_NAME_MAX bytes.  Returns enum name_oddity.
 */
unsigned attach_name(struct view raw, struct buf *name, struct buf *ext);
/* The last of a chain. */
struct view attach_last(struct view ext);

#endif
