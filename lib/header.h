/*
 * The name of a header field in a line of text (RFC 5322 section 2.2).
 */
#ifndef LIB_HEADER_H
#define LIB_HEADER_H

#include "lib/view.h"

/*
 * True if the line begins a header: a name of printable ASCII, optional white
 * space (section 4.5), a colon.  *ret_rest begins with the colon.
 */
bool header_split(struct view line, struct view *ret_name,
    struct view *ret_rest);

#endif
