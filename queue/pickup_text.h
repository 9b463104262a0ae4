/*
 * From the line ends of UNIX to those of SMTP: LF and CRLF become CRLF, the
 * last line gets one if it has none.  A CR that ends no line becomes a space,
 * or stays.  Pure; the text may be cut anywhere.
 */
#ifndef QUEUE_PICKUP_TEXT_H
#define QUEUE_PICKUP_TEXT_H

#include "lib/buf.h"

struct pickup_text {
	bool replace_cr;
	bool cr;		/* one is waiting for its LF */
	bool begun, in_line;
	bool eight_bit;		/* a byte over 127 was seen */
};

void pickup_text_init(struct pickup_text *t, bool replace_cr);
/* Appends to out at most 2 * in.n + 4 bytes, for which it needs room. */
void pickup_text_put(struct pickup_text *t, struct view in, struct buf *out);
/* The text ends: at most 3 bytes. */
void pickup_text_end(struct pickup_text *t, struct buf *out);

#endif
