/*
 * A message as outside filters see it, one after the other: its header as a
 * list, its body, and what each of them changed.  The changes of one filter
 * hold all together or not at all.
 *
 * A header of our own (Received) is in the list, which filters do not see but
 * which counts for the place of an inserted header, as in sendmail
 * (libmilter/docs/smfi_insheader).  The number of a changed header counts
 * those of its name that filters see; a number that is not there adds one.
 *
 * While no filter replaced the body, the outcome is edits of the text as it
 * was received (lib/edit.h); else, and when they would be too many, the
 * message is written anew.
 */
#ifndef FILTERS_MILTER_MAIL_H
#define FILTERS_MILTER_MAIL_H

#include "filters/milter_client.h"
#include "lib/edit.h"

#define MILTER_HEADERS_MAX		10000u
#define MILTER_HEADER_BYTES_MAX		(4u << 20)	/* of all of them */

struct milter_mail;

/* text_max: bytes of a message, also of a changed one. */
struct milter_mail *milter_mail_new(size_t text_max);
void milter_mail_free(struct milter_mail **m);
/*
 * text: as it was received; it stays.  e: what was decided by now, seen by
 * filters.  own: the first Received of the text is ours.  False: over a
 * limit.
 */
bool milter_mail_begin(struct milter_mail *m, struct view text,
    const struct edits *e, bool own);
/* Good until the next begin or apply. */
const struct milter_text *milter_mail_text(struct milter_mail *m);
/*
 * Edits of headers and the body; others are left to the caller.  spaces: the
 * filter gives values with their leading space.  False: over a limit, and
 * nothing changed.  list and body are copied.
 */
bool milter_mail_apply(struct milter_mail *m, const struct milter_edit *list,
    size_t n, struct view body, bool spaces);
/* All changes as edits of the text, those of begin among them.  False: it
 * has to be written.  Good until the next begin or apply. */
bool milter_mail_edits(struct milter_mail *m, struct arena *a,
    struct edits *ret);
/* The whole new message, CRLF line ends, in pieces. */
bool milter_mail_write(struct milter_mail *m,
    bool (*put)(void *arg, struct view piece), void *arg);

#endif
