/*
 * Base64 (RFC 2045 section 6.8), read as mail programs do: what is no
 * character of it is skipped, padding may be missing, line ends may be
 * anywhere.  The decoder stops and goes on at any byte.
 */
#ifndef FILTERS_BASE64_H
#define FILTERS_BASE64_H

#include "filters/base64_tail.h"
#include "rules/condition.h"
#include "lib/view.h"

/* What a "=" means: programs differ. */
enum base64_padding {
	BASE64_GOES_ON = 1,	/* ends a group; the next begins */
	BASE64_STOPS,		/* ends the data */
	BASE64_IS_GARBAGE	/* nothing */
};

struct base64 {
	enum base64_padding padding;
	uint32_t bits;		/* of an incomplete group */
	unsigned n;		/* its characters, 0 to 3 */
	unsigned pads;		/* "=" that the group may still have */
	bool padded;		/* a group was padded */
	bool over;		/* BASE64_STOPS: and it did */
	bool goes_on;		/* there is base64 behind the padding */
	struct base64_tail tail; /* if padded */
	struct condition_set conditions;
};

/* Bytes that n characters can become, with those left over before. */
#define BASE64_ROOM(n)	((n) / 4 * 3 + 6)

void base64_begin(struct base64 *b, enum base64_padding padding);
/* Decode into out, which has BASE64_ROOM(text.n) bytes; returns how many. */
size_t base64_decode(struct base64 *b, struct view text, char *out);
/* A line ended here, if the text is given without its line ends. */
void base64_line_end(struct base64 *b);
/* The end: what an incomplete group holds.  Conditions are complete now. */
size_t base64_end(struct base64 *b, char *out);

#endif
