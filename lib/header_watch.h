/*
 * What the header of a message asks for about TLS, read as the text passes by:
 * "TLS-Required: no" (RFC 8689 section 5), and "Require-TLS-ESMTP: yes", by
 * which Postfix takes REQUIRETLS through a filter that does not know it.
 *
 * Pure; the text, with CRLF line ends, may be cut anywhere.  A field of the
 * first kind that comes twice, or says anything else, asks for nothing: it
 * could only make mail less safe.
 */
#ifndef LIB_HEADER_WATCH_H
#define LIB_HEADER_WATCH_H

#include "lib/view.h"

#define HEADER_WATCH_LINE	64u

struct header_watch {
	bool over;		/* the header is */
	bool start;		/* nothing of this line was seen */
	uint8_t n;		/* bytes in line; all of it: too long */
	uint8_t tls_required;	/* how often: 0, 1, 2 and more */
	bool tls_required_no, require_tls;
	char line[HEADER_WATCH_LINE];
};

void header_watch_init(struct header_watch *w);
void header_watch_feed(struct header_watch *w, struct view text);
/* The text is complete: as ENVELOPE_* flags (lib/envelope.h). */
uint32_t header_watch_flags(struct header_watch *w);

#endif
