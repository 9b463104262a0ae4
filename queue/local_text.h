/*
 * The text of a message as a delivery on this host writes it: with the edits
 * that the filter ordered, and the line ends of this system.  It is read anew
 * from the descriptor for each delivery, and never held as a whole.
 */
#ifndef QUEUE_LOCAL_TEXT_H
#define QUEUE_LOCAL_TEXT_H

#include "lib/edit.h"

struct local_text {
	int fd;
	uint64_t offset, size;
	struct edits edits;
};

enum text_flag {
	TEXT_QUOTE_FROM = 1 << 0,	/* "From " becomes ">From " */
	TEXT_DOT = 1 << 1,		/* a leading dot is doubled */
	TEXT_BLANK = 1 << 2,		/* an empty line behind it */
	TEXT_CRLF = 1 << 3,		/* line ends as they are */
};

/* False: it cannot take more (errno). */
typedef bool text_sink(struct view piece, void *arg);

enum text_end { TEXT_DONE = 1,
	TEXT_UNREADABLE,	/* the message cannot be read: errno */
	TEXT_REFUSED };		/* sink said so */
/* eol: what a line ends with; NULL: "\n".  A last line without its end gets
 * one. */
enum text_end local_text_send(const struct local_text *t, unsigned flags,
    const char *eol, text_sink *sink, void *arg);

/*
 * Is there a "Delivered-To:" with this address in the header?  Case is
 * ignored.  -1: the message cannot be read (errno).
 */
int local_text_delivered_to(const struct local_text *t, struct view addr);

#endif
