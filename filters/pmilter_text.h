/*
 * A message as a mail server tells it to a filter, header by header and in
 * pieces of the body, put together again to the text that came over the wire.
 * It lies in a memfd, and is sealed before it is judged.
 */
#ifndef FILTERS_PMILTER_TEXT_H
#define FILTERS_PMILTER_TEXT_H

#include "lib/buf.h"

/* More header lines than this are not taken. */
#define PMILTER_HEADERS_MAX	10000u

/* What stops a text; nothing more is taken then. */
enum pmilter_trouble {
	TEXT_FINE = 0,
	TEXT_TOO_BIG,		/* over the limit */
	TEXT_HEADERS,		/* more than PMILTER_HEADERS_MAX of them */
	TEXT_PREPEND,		/* a line to prepend is no header */
	TEXT_NO_MEMORY
};

struct pmilter_header {
	uint64_t offset;	/* in the text */
	uint64_t size;		/* with CRLF */
	uint32_t name;		/* bytes in front of the colon */
};

struct pmilter_text {
	int fd;			/* -1: nothing yet */
	struct buf pending;	/* not written yet */
	uint64_t size;
	uint64_t limit;		/* 0: none */
	struct pmilter_header *headers;
	uint32_t n, cap;
	uint32_t own;		/* the first of them: prepended here */
	uint64_t own_size;	/* bytes of these; the limit is without them */
	uint64_t head;		/* bytes of all headers */
	bool body;		/* headers have ended */
	enum pmilter_trouble trouble;
};

/* limit: of bytes, as message_size_limit. */
void pmilter_text_init(struct pmilter_text *t, uint64_t limit);
/* Forget the message; memory is given back. */
void pmilter_text_clear(struct pmilter_text *t);

/*
 * space: value has the blanks that followed the colon; else one is put there,
 * as everybody writes it.  Lines of value end with LF or CRLF.
 */
void pmilter_text_header(struct pmilter_text *t, struct view name,
    struct view value, bool space);
/*
 * A whole line ("Name: value") above all that the mail server tells, and not
 * in its copy yet: before any other header.
 */
void pmilter_text_prepend(struct pmilter_text *t, struct view line);
void pmilter_text_body(struct pmilter_text *t, struct view piece);
/* All is there: write it out and seal it.  False: t->trouble says why. */
bool pmilter_text_end(struct pmilter_text *t);
/* n bytes of a text that has ended. */
bool pmilter_text_read(const struct pmilter_text *t, uint64_t offset,
    char *to, size_t n);

#endif
