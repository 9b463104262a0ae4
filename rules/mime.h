/*
 * The MIME walk (RFC 2045, 2046): goes once through a text, however it is
 * cut into feeds, and tells the stages of a chain what it meets.  Lines end
 * with CRLF; a CR or LF that is no line end is data, shown as a space, or,
 * without that option, an LF alone ends a line too.
 *
 * Memory is bounded by the options: one header, one line, the boundaries.
 * Time is linear: a line that begins with "--" is compared with each of the
 * at most nesting_limit + 1 boundaries in force.  Where receivers disagree
 * on what a boundary is, the walk takes the reading that shows more headers.
 */
#ifndef RULES_MIME_H
#define RULES_MIME_H

#include "lib/conf.h"
#include "lib/view.h"
#include "rules/stage.h"

struct mime_options {
	size_t header_size_limit;
	size_t line_length_limit;	/* longer body lines come in pieces */
	uint32_t nesting_limit;
	uint32_t part_limit;
	size_t boundary_length_limit;
	bool one_part;		/* the body is one part, no MIME */
	bool stray_is_data;	/* see above */
};

/* The limits of the configuration; neither of the two choices. */
struct mime_options mime_options_of(const struct conf *cf);

struct mime;

struct mime *mime_new(const struct mime_options *o);
void mime_free(struct mime **m);

/* Begin a text; the walk is used again for many.  The stages stay the
 * caller's and must outlive mime_end(). */
#define MIME_STAGES_MAX	8
void mime_begin(struct mime *m, struct stage *const *stages, size_t n);
/* The same for what was found inside another text: a part, headers first, or
 * an attached message. */
void mime_begin_inside(struct mime *m, enum mime_block block,
    struct stage *const *stages, size_t n);
/* The next bytes.  Nothing of them is needed after the call. */
void mime_feed(struct mime *m, struct view bytes);
/* The text is complete.  The walk is ready for mime_begin(). */
void mime_end(struct mime *m);
/* From a stage: no more events, for any stage. */
void mime_stop(struct mime *m);
bool mime_stopped(const struct mime *m);
/* From headers_end(): what its type makes of what stands behind the block. */
enum mime_content { MIME_CONTENT_LEAF = 1, MIME_CONTENT_PARTS,
	MIME_CONTENT_MESSAGE };
enum mime_content mime_content(const struct mime *m);
/* From headers_end(), of a leaf: its body is octets.  An LF alone is data
 * there, and no boundary stands behind it. */
void mime_octets(struct mime *m);
/* This walk stops when outer is stopped, and the reverse. */
void mime_join(struct mime *m, struct mime *outer);

#endif
