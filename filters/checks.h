/*
 * The stage of rules: header_checks, mime_header_checks, nested_header_checks
 * and body_checks (header_checks(5)), and what a gateway does without being
 * asked: hop count, stray CR and LF, limits of the header block and of MIME.
 *
 * body_checks sees the headers of MIME parts too (in whatever header block
 * they stand), as it did when these were body text; a rule for the names of
 * attachments works in both.  Each action of a rule is logged in Postfix's
 * form, with "; rule=file:line" behind it.
 *
 * decoded_header_checks sees each header, of any block, as it is shown;
 * decoded_body_checks what filters/decoded.h makes of the bodies.
 */
#ifndef FILTERS_CHECKS_H
#define FILTERS_CHECKS_H

#include "filters/charset.h"
#include "filters/findings.h"
#include "lib/conf.h"
#include "lib/conf_choice.h"
#include "lib/envelope.h"
#include "rules/mime.h"
#include "rules/table.h"


struct checks_rules {
	struct table_list header, mime_header, nested_header, body;
	struct table_list decoded_header, decoded_body;
};

struct checks {
	struct stage stage;	/* first */
	const struct conf *conf;
	const struct checks_rules *rules;
	const struct charsets *charsets;
	struct mime *walk;
	struct findings *findings;
	enum header_end_action header_end;

	/* of the message */
	const struct envelope *envelope;
	char id[MESSAGE_NAME];
	bool internal;		/* not filtered: rules are not asked */
	/* Set by the owner: the text is not the message's, but was decoded;
	 * so it cannot be edited. */
	bool inside;
	bool told_inside;	/* that edits are not made there */
	bool again;		/* the message was walked before: what is not
				 * about a rule is in the log */
	const char *policy;	/* class of the recipients; NULL: none */
	bool message_id_seen;
	int64_t received, delivered, own;	/* headers counted */
	uint32_t logged;

	struct buf value;	/* a rule's right-hand side */
	struct buf insert;
	struct buf where;
	struct buf unfolded, decoded;
};

void checks_init(struct checks *c, const struct conf *cf,
    const struct checks_rules *rules, enum header_end_action header_end,
    const struct charsets *cs, struct mime *walk, struct findings *findings);
void checks_free(struct checks *c);
/* Begin a message; e must live until the end of the walk. */
void checks_begin(struct checks *c, const struct envelope *e,
    struct queue_id id);
/* A line of decoded text: UTF-8, without line end. */
void checks_decoded(struct checks *c, struct view line);

#endif
