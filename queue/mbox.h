/*
 * A mailbox file (mbox): messages one after the other, each behind a line
 * "From sender date".  It is locked as mailbox_delivery_lock says, the message
 * appended and synced, or taken back to the last byte: what was there before
 * is there after any failure.
 *
 * The caller has become the owner.  The last part of the path is never
 * followed if it is a link, and must be a plain file of the owner with one
 * name.
 */
#ifndef QUEUE_MBOX_H
#define QUEUE_MBOX_H

#include <sys/types.h>

#include "lib/conf_choice.h"
#include "queue/local_fate.h"
#include "queue/local_text.h"

struct mbox {
	const char *path;
	uid_t owner;
	bool any_owner;		/* strict_mailbox_ownership = no */
	unsigned locks;		/* enum mailbox_lock */
	unsigned attempts;	/* for a lock */
	int64_t delay;		/* between them, ms */
	int64_t stale;		/* a dot lock older than that is removed, ms */
	int64_t limit;		/* bytes of the file; 0: any */
	struct view from;	/* of the line "From "; empty: MAILER-DAEMON */
	struct view header;	/* lines in front of the text, "\n" ends */
};

/* "From sender Sat Nov 21 17:40:00 2026"; empty: MAILER-DAEMON. */
void mbox_from_line(struct view sender, struct buf *out);
/* RCPT_DELIVERED only when it is on the disk. */
void mbox_deliver(const struct mbox *m, const struct local_text *t,
    struct fate *ret);

#endif
