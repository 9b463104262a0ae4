/*
 * Messages inside decoded parts.  The walk enters an attached message where
 * it stands.  One that is in base64 or quoted-printable, a file that mail
 * programs open as a message (.eml, .mht), and what is signed in S/MIME
 * without parts (filters/cms.h) is collected by this sink and walked for
 * itself: conditions, rules and all other sinks see what is in there, and so
 * does a further sink of this kind.  Of fields of MIME that stand in a body,
 * where some programs see a part, only those sinks are told that look at files.
 *
 * Depth, number and bytes are limited: what is beyond is told as
 * MIME_NOT_OPENED.  Nothing can be edited in there.
 */
#ifndef FILTERS_INNER_H
#define FILTERS_INNER_H

#include "filters/leaf.h"
#include "rules/mime.h"

#define INNER_DEPTH	4u
#define INNER_FILES	16u	/* in one part */
/* All that is walked may be this many times the message, and 1 MB. */
#define INNER_TIMES	3u
#define INNER_BYTES_MAX	(64u << 20)	/* collected at one depth */

struct inner;

/* It stops with walk and leaves, which must outlive it. */
struct inner *inner_new(const struct mime_options *o,
    const struct charsets *cs, struct mime *walk, struct leaves *leaves);
void inner_free(struct inner **in);
/* The sink; it has to be the last one. */
struct leaf_sink *inner_sink(struct inner *in);
/*
 * Begin a message of size bytes.  rules: the stage that is asked first; NULL:
 * none.  sinks: those in front of this one.
 */
void inner_begin(struct inner *in, uint64_t size, struct stage *rules,
    struct leaf_sink *const *sinks, size_t n);

#endif
