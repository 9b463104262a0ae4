/*
 * From the wire to the stored text: the bytes after DATA (RFC 5321 section
 * 4.5.2) become a text with CRLF line ends, without the stuffed dots.  Only
 * CRLF.CRLF ends it.  A bare LF ends a line, never the message: a line "."
 * next to a bare LF is data.  A bare CR is data, or a space where stray CRs
 * are replaced.
 *
 * The decoder is pure and may stop at any byte: input may be cut anywhere.
 *
 * The octets of BDAT (RFC 3030) have no stuffed dots and no end of their own;
 * line ends are treated alike, and text_finish() is their end.
 */
#ifndef PROXY_SMTPD_TEXT_H
#define PROXY_SMTPD_TEXT_H

#include "lib/view.h"

enum text_state {
	TEXT_NONE = 0,
	TEXT_FIRST,		/* nothing seen, or '>' and a part of "From " */
	TEXT_START,		/* at a line start, after CRLF */
	TEXT_START_LF,		/* at a line start, after a bare LF */
	TEXT_LINE,		/* inside a line */
	TEXT_CR,		/* inside a line, a CR is held back */
	TEXT_DOT,		/* '.' is held back at a line start */
	TEXT_DOT_LF,
	TEXT_DOT_CR,		/* ".\r" is held back */
	TEXT_DOT_LF_CR,
	TEXT_END		/* the final dot was seen */
};

struct text {
	enum text_state state;
	bool replace_cr;	/* bare CR becomes a space */
	bool chunks;		/* no dot is special */
	bool bare_lf;		/* set when there was one */
	uint8_t arrows, from;	/* TEXT_FIRST: '>' seen, bytes of "From " */
};

#define TEXT_SPARE	100u	/* output beyond twice the input */

void text_init(struct text *t, bool replace_cr);
/* The same for the octets of BDAT. */
void text_init_chunks(struct text *t, bool replace_cr);
/*
 * Decode in.  out has room for 2 * in.n + TEXT_SPARE bytes; *ret_out tells
 * how many were written.  Returns the bytes of in that were used: all, or up
 * to the final dot's line end.
 */
size_t text_decode(struct text *t, struct view in, char *out,
    size_t *ret_out);
/* No more comes: what was held back, and the line end that may be missing, at
 * most TEXT_SPARE bytes less what the last text_decode() may have used of
 * them.  Returns the bytes written. */
size_t text_finish(struct text *t, char *out);

#endif
