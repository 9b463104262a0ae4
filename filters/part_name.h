/*
 * Every name that a receiver could give to an attachment: both of the
 * Content-Type's name and the Content-Disposition's filename, plain, cut at
 * the first byte that a token may not have, with RFC 2047 words decoded or
 * not, joined from RFC 2231 sections in number order and in the order of
 * appearance, percent-decoded in its charset or not, cut at a NUL, without
 * white space and dots at its end.
 *
 * Names are UTF-8 (bytes of an unknown charset that are none become U+FFFD),
 * each once, in the order in which they were found.  Number and length are
 * limited; beyond it names_add() sets overflow (MIME_PARAMETERS), and what
 * does not fit is cut at its begin, because its end decides what it is.
 */
#ifndef FILTERS_PART_NAME_H
#define FILTERS_PART_NAME_H

#include "filters/charset.h"
#include "lib/buf.h"
#include "lib/view.h"

#define PART_NAMES_MAX		64u
#define PART_NAME_LENGTH_MAX	4096u
#define PART_NAMES_BYTES_MAX	65536u

/* Where a name comes from: one of the first, and any of the second group. */
enum part_name_source {
	NAME_OF_TYPE = 1 << 0,		/* Content-Type: name */
	NAME_OF_DISPOSITION = 1 << 1,	/* Content-Disposition: filename */
	NAME_OF_UUENCODE = 1 << 2,
	NAME_OF_YENC = 1 << 3,
	NAME_OF_TNEF = 1 << 4,

	NAME_RFC2231 = 1 << 8,		/* joined or percent-decoded */
	NAME_RFC2047 = 1 << 9,		/* encoded words decoded */
	NAME_TOKEN = 1 << 10,		/* cut at a byte no token has */
	NAME_CUT = 1 << 11,		/* cut at a NUL */
	NAME_TRIMMED = 1 << 12,		/* without dots and spaces at its end */
};

struct part_name {
	struct view text;
	uint32_t source;	/* enum part_name_source */
};

struct part_names {
	struct part_name list[PART_NAMES_MAX];
	size_t n;
	bool overflow;
	bool control, bidi;	/* one has such characters */
	bool unknown_charset;
	bool twice;		/* a parameter with two values */
	/* private */
	size_t at[PART_NAMES_MAX];
	struct buf bytes, scratch, decoded, joined;
	const struct charsets *charsets;
};

void names_init(struct part_names *n, const struct charsets *cs);
void names_free(struct part_names *n);
void names_clear(struct part_names *n);
/* All names in the parameters of a field: word is "name" or "filename". */
void names_of_field(struct part_names *n, struct view params,
    const char *word, uint32_t source);
/* One name as a file format gives it, in this charset. */
void names_add(struct part_names *n, struct view raw, const char *charset,
    uint32_t source);
/* Do two of them have different extensions? */
bool names_differ(const struct part_names *n);

#endif
