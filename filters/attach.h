/*
 * attachment_checks: rules for what a receiver could open.  A sink of the
 * leaf stage: it keeps the decoded bytes of a leaf, lets the scanner look
 * into them, and asks the rules about one line for each name of the leaf and
 * for each member of an archive:
 *
 *	attachment ext=pdf.exe magic=exe type=application/pdf size=7380
 *	    is=,double-extension,executable,mismatch, in=- name=a.pdf.exe
 *
 * in this order and in one line.  No value holds white space, so that none
 * can look like another; what is not known is "-".
 */
#ifndef FILTERS_ATTACH_H
#define FILTERS_ATTACH_H

#include "filters/findings.h"
#include "filters/leaf.h"
#include "filters/scanner.h"
#include "lib/conf.h"
#include "lib/envelope.h"
#include "rules/table.h"

struct attach {
	struct leaf_sink sink;	/* first */
	const struct table_list *rules;
	void (*stop)(void *arg);	/* the message is decided */
	void *stop_arg;
	struct findings *findings;
	struct scanner *scanner;
	struct view suffix;	/* of RENAME */

	/* of the message */
	const struct envelope *envelope;
	const char *policy;	/* class of the recipients; NULL: none */
	char id[MESSAGE_NAME];
	bool internal;		/* not filtered */
	uint32_t logged;

	/* of a leaf */
	bool over[LEAF_SLOTS];
	const struct leaf *leaf;	/* being ended */
	/* STRIP is the last word on a part, RENAME happens once. */
	enum action edited;
	uint64_t edited_at;		/* the part's headers */

	struct buf subject, name, ext, value, where, text;
};

/*
 * scanner and rules stay the caller's; rules may be empty: nothing is done,
 * and scanner may be NULL.  stop() is called once a rule decided about the message.
 */
void attach_init(struct attach *a, const struct conf *cf,
    const struct table_list *rules, struct scanner *scanner,
    struct findings *findings, void (*stop)(void *arg), void *arg);
void attach_free(struct attach *a);
/* Begin a message of that size; e must live until the end of the walk. */
void attach_begin(struct attach *a, const struct envelope *e,
    struct queue_id id, uint64_t size, const char *policy);
void attach_end(struct attach *a);

#endif
