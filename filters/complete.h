/*
 * The stage that completes the header of local mail, behind the stage of
 * rules: From:, Date: and Message-ID: are added when they are missing (the
 * Resent- ones when the message was sent again), and a To: as
 * undisclosed_recipients_header says.  For all mail, message_drop_headers
 * are removed.  A header that a rule has removed counts as missing, one that
 * a rule has replaced is left as the rule wants it.
 */
#ifndef FILTERS_COMPLETE_H
#define FILTERS_COMPLETE_H

#include "filters/findings.h"
#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/envelope.h"
#include "rules/mime.h"

struct complete {
	struct stage stage;	/* first */
	const struct conf *conf;
	struct findings *findings;
	struct mime *walk;

	/* of the message */
	const struct envelope *envelope;
	struct queue_id id;
	bool adding;		/* what is missing is added */
	bool internal;
	bool as_it_is;		/* soft_mode: what is there stays */
	bool again;
	struct wall now;	/* what Date: and Message-ID: say */
	uint32_t seen;
	struct buf insert;
};

void complete_init(struct complete *c, const struct conf *cf,
    struct mime *walk, struct findings *findings);
void complete_free(struct complete *c);
/* Begin a message; e must live until the end of the walk. */
void complete_begin(struct complete *c, const struct envelope *e,
    struct queue_id id);
/* The same message once more, for other recipients: all copies get the same
 * headers, and the log says so once. */
void complete_repeat(struct complete *c, const struct envelope *e);

/*
 * A name in front of an address: as it is, in quotes, or as encoded words
 * (RFC 2047 section 2) of at most 75 bytes.  Control bytes become spaces.
 * Trimmed; nothing is put for an empty name.
 */
bool complete_put_phrase(struct buf *b, struct view name,
    const char *charset);

#endif
