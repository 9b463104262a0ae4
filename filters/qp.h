/*
 * Quoted-printable (RFC 2045 section 6.7), read as mail programs do: digits
 * in lower case, white space behind a soft line break, and an "=" that begins
 * nothing, which is kept.  A loose decoder leaves that out, with the byte behind
 * it.  Text comes as lines or pieces of them.
 */
#ifndef FILTERS_QP_H
#define FILTERS_QP_H

#include "rules/condition.h"
#include "lib/view.h"

struct qp {
	char held[2];		/* "=" or "=X" at the end of a piece */
	size_t n_held;
	bool soft;		/* the last line ended with an "=" */
	bool loose;		/* leave out what is garbage, and blanks at the
				 * begin of a line */
	bool inside;		/* a line has begun */
	struct condition_set conditions;
};

/* Bytes that a piece of n can become, with its line end. */
#define QP_ROOM(n)	((n) + 4)

void qp_begin(struct qp *q, bool loose);
/* last: the line ends with it.  Returns the bytes put to out, which has
 * QP_ROOM(text.n). */
size_t qp_decode(struct qp *q, struct view text, bool last, char *out);
void qp_end(struct qp *q);

#endif
