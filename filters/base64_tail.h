/*
 * What stands behind the padding of a base64 body.  An old mailing list puts
 * its footer there, in plain text; what decodes to something is no footer.
 *
 * A footer begins on a line of its own and has at most BASE64_FOOTER_MAX
 * bytes; none of its words is base64 with padding, or base64 and longer than
 * words are; and read as base64, at whatever group a decoder goes on, it gives
 * no text.  This errs towards data: who meets it with text in base64 has to
 * make gibberish of it.
 */
#ifndef FILTERS_BASE64_TAIL_H
#define FILTERS_BASE64_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BASE64_FOOTER_MAX	4096u

/* What a byte is to base64; a character of it has its value, 0 to 63. */
#define BASE64_SPACE	64u	/* white space and line ends */
#define BASE64_PAD	65u
#define BASE64_OTHER	66u

/* Decoders disagree on where a group begins: all four places, and anew behind
 * each padding. */
#define BASE64_GROUPINGS	5u

struct base64_tail {
	size_t size;		/* bytes */
	bool data;		/* it is no footer */
	bool any;		/* it has characters of base64 */
	bool line;		/* the line of the padding has ended */
	size_t word;		/* length of this word of base64, */
	bool word_other;	/* unless this */
	bool word_pad;
	uint32_t last;		/* the character before */
	uint32_t group[BASE64_GROUPINGS]; /* characters of this group, 0 to 3 */
	uint32_t text[BASE64_GROUPINGS]; /* bytes of text in a row */
};

/* It begins right behind the padding. */
void base64_tail_begin(struct base64_tail *t);
/* A byte, and what it is to base64, as above. */
void base64_tail_byte(struct base64_tail *t, unsigned kind);
void base64_tail_line_end(struct base64_tail *t);
/* The end: is it more than a footer? */
bool base64_tail_data(struct base64_tail *t);

#endif
