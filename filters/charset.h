/*
 * Conversion to UTF-8.  Converters are opened by charsets_open(), before the
 * jail: iconv loads a module for each.  A charset that is not in the fixed
 * list is read as windows-1252, which loses no ASCII.
 *
 * What is not valid in its charset becomes U+FFFD; nothing fails.
 */
#ifndef FILTERS_CHARSET_H
#define FILTERS_CHARSET_H

#include "lib/buf.h"
#include "lib/view.h"

struct charsets;

struct charsets *charsets_open(void);
void charsets_free(struct charsets **cs);
/* Its name in the list, in lower case with dashes; NULL: it is not known. */
const char *charsets_name(const struct charsets *cs, struct view name);

/*
 * Append text to out as UTF-8.  With final false a character that is not
 * complete is left; returns the bytes taken.  What passes out's maximum is
 * dropped (and counts as taken).  *ret_known: false when the charset is not
 * known.
 */
size_t charsets_convert(const struct charsets *cs, struct view name,
    struct view text, bool final, struct buf *out, bool *ret_known);
/* The same for text that is complete. */
bool charsets_utf8(const struct charsets *cs, struct view name,
    struct view text, struct buf *out);

/*
 * Append a header's value with RFC 2047 words decoded to UTF-8, also where
 * they may not stand; neighbours are joined before they are converted, so
 * that a character cut in two comes out whole.  Other bytes are kept as they
 * are.  Returns true if there was such a word.
 */
bool charsets_words(const struct charsets *cs, struct view text,
    struct buf *out);

/* Append text that should be UTF-8, or, when it is not, what it means in
 * windows-1252: old programs do not say what they write. */
void charsets_mend(const struct charsets *cs, struct view text,
    struct buf *out);

#endif
