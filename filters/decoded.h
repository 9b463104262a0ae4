/*
 * The text of a message as a reader sees it, for decoded_body_checks: each
 * text part out of its transfer encoding and in UTF-8, line by line; of HTML
 * also what is shown of it (filters/html.h).
 *
 * Of each part no more than body_checks_size_limit bytes; a line over
 * line_length_limit comes in pieces.  A text without a charset, or of a wrong
 * one, is read as charsets_mend() says.
 */
#ifndef FILTERS_DECODED_H
#define FILTERS_DECODED_H

#include "filters/checks.h"
#include "filters/html.h"
#include "filters/leaf.h"

struct decoded {
	struct leaf_sink sink;	/* first */
	struct checks *checks;	/* whose rules are asked */
	const struct charsets *charsets;
	struct mime *walk;
	struct leaves *leaves;
	struct findings *findings;
	uint64_t limit;		/* bytes of a part; 0: all */
	size_t line_max;

	bool is_html;
	const char *charset;	/* NULL: it should be UTF-8 */
	uint64_t seen;
	struct buf raw;		/* not yet converted */
	struct buf utf8;	/* an incomplete line */
	struct buf mended;
	struct html html;
};

void decoded_init(struct decoded *d, const struct conf *cf, struct checks *c,
    const struct charsets *cs, struct mime *walk, struct leaves *leaves,
    struct findings *findings);
void decoded_free(struct decoded *d);

#endif
