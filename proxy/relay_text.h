/*
 * The text of a message as DATA carries it (RFC 5321 section 4.5.2): lines
 * end in CRLF, a leading dot is doubled, the last line is followed by a dot
 * alone; or as chunks do (RFC 3030), which is the same without these dots.
 * Whatever the input holds, the output never has a CR or LF that is
 * not part of a line end (each stray one becomes a space), so nothing in a
 * text can be taken for its end by any receiver.  Lines over a limit are
 * folded with CRLF and a space, not inside a UTF-8 character.
 *
 * Pure, and resumable: the output does not depend on how the input is cut.
 */
#ifndef PROXY_RELAY_TEXT_H
#define PROXY_RELAY_TEXT_H

#include "lib/view.h"

/* A smaller limit is raised to this: a fold must make headway. */
#define RELAY_TEXT_LINE_MIN	64u

/* Space that n bytes of input need at most. */
#define RELAY_TEXT_ROOM(n)	(2 * (n) + 16)
#define RELAY_TEXT_END_ROOM	16u

struct relay_text {
	size_t limit;		/* bytes of a line, without CRLF; 0: none */
	size_t column;		/* bytes of the open line already put out */
	bool cr;		/* the input stopped after a CR */
	bool chunks;		/* no dot is added */
};

void relay_text_init(struct relay_text *t, size_t line_limit, bool chunks);
/* Encode all of in to out, which has RELAY_TEXT_ROOM(in.n) bytes; returns
 * the bytes put there. */
size_t relay_text_encode(struct relay_text *t, struct view in, char *out);
/* The line end that may be missing, and the dot: RELAY_TEXT_END_ROOM.  More
 * may not follow. */
size_t relay_text_end(struct relay_text *t, char *out);

#endif
