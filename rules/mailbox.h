/*
 * Addresses in the text of a header (RFC 5322 section 3.4, with the obsolete
 * forms) or of a table's result: "user@domain", "Name <user@domain>",
 * "group: a, b;", comments, quoted strings, source routes (dropped).  A text
 * may be folded.  What is not an address is passed over: nothing fails, and
 * nothing but the addresses found is meant to be changed.
 *
 * As in Postfix, words with neither a comma nor an operator between them are
 * addresses each; mailbox.adjacent tells.
 */
#ifndef RULES_MAILBOX_H
#define RULES_MAILBOX_H

#include "lib/buf.h"
#include "lib/view.h"

struct mailbox {
	size_t begin, end;	/* in the text; without name and brackets */
	struct view addr;	/* internal form; empty: "<>" or "" */
	struct view comments;	/* those between begin and end */
	bool has_domain;
	bool quoted;		/* some of the local part was in quotes */
	bool route;		/* there was a source route in front of it */
	bool adjacent;		/* a comma is missing before or behind it */
};

struct mailbox_scan {
	struct view text;
	size_t pos;
	size_t bare_end;	/* addresses without brackets up to here */
	bool bare, joined;
	struct buf addr, comments;
};

/* The buffers are used again and again: init once, begin for each text. */
void mailbox_init(struct mailbox_scan *s);
void mailbox_free(struct mailbox_scan *s);
void mailbox_begin(struct mailbox_scan *s, struct view text);
/* The next address; good until the next call.  False: no more. */
bool mailbox_next(struct mailbox_scan *s, struct mailbox *ret);

#endif
