/*
 * Logical lines, the form main.cf and master.cf share: a line that begins
 * with white space continues the one before it; empty lines and lines whose
 * first other byte is '#' are skipped, also in the middle of a logical line.
 */
#ifndef LIB_CONF_LINE_H
#define LIB_CONF_LINE_H

#include "lib/buf.h"
#include "lib/view.h"

#define CONF_LINE_MAX	(64 * 1024)	/* bytes of a value */
#define CONF_FILE_MAX	(4 * 1024 * 1024)
/* Room for "name = " in front of the longest value. */
#define CONF_NAME_MAX	256
#define CONF_LOGICAL_MAX	(CONF_LINE_MAX + CONF_NAME_MAX + 16)

enum conf_line {
	CONF_LINE_NONE = 0,	/* end of the text */
	CONF_LINE_TEXT,
	CONF_LINE_ORPHAN,	/* the first line begins with white space */
	CONF_LINE_LONG,		/* over the maximum of the buffer; cut */
	CONF_LINE_NUL		/* a NUL byte */
};

struct conf_lines {
	struct view rest;
	unsigned line;		/* lines taken so far */
};

struct conf_lines conf_lines_of(struct view text);
/* Take one physical line, without its newline; false at the end. */
bool conf_line_physical(struct conf_lines *in, struct view *ret);
/* True for an empty line and for a comment. */
bool conf_line_blank(struct view line);
/*
 * The next logical line, without newlines, in *out, and the number of its
 * first physical line.
 */
enum conf_line conf_line_next(struct conf_lines *in, struct buf *out,
    unsigned *ret_line);

#endif
