/*
 * The text of HTML as a reader sees it: without tags and comments, character
 * references decoded, white space joined, invisible characters dropped; a
 * line for each block (p, br, td, ...).  What cuts a word in two for a
 * program, and not for the reader, is gone.
 *
 * It is no browser: styles are not followed, and what a script writes is not
 * seen.  Nothing fails; tags and references of any length are read, names
 * beyond a maximum are none.
 */
#ifndef FILTERS_HTML_H
#define FILTERS_HTML_H

#include "lib/buf.h"
#include "lib/view.h"

#define HTML_LINE_MAX	8192u
#define HTML_WORD_MAX	16u	/* of a name that counts */

enum html_state { HTML_TEXT = 0, HTML_REFERENCE, HTML_OPEN, HTML_NAME,
	HTML_TAG, HTML_QUOTED, HTML_BANG, HTML_COMMENT, HTML_HIDDEN };

typedef void html_line(struct view line, void *arg);

struct html {
	enum html_state state;
	char word[HTML_WORD_MAX];	/* of a tag or a reference */
	size_t n;
	bool long_word;
	char quote;
	unsigned dashes;	/* of a comment's end */
	const char *hidden;	/* the element whose text is not shown */
	bool blank;		/* white space is due */
	char line[HTML_LINE_MAX];
	size_t used;
	html_line *each;
	void *arg;
};

void html_begin(struct html *h, html_line *each, void *arg);
/* text: UTF-8, however it is cut. */
void html_feed(struct html *h, struct view text);
void html_end(struct html *h);

#endif
