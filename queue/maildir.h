/*
 * A maildir: each message a file of its own, written in tmp/, synced, then
 * moved to new/.  A crash leaves at most a file in tmp/, which readers do not
 * look at.  The caller has become the owner; directories are made as needed.
 */
#ifndef QUEUE_MAILDIR_H
#define QUEUE_MAILDIR_H

#include <sys/types.h>

#include "queue/local_fate.h"
#include "queue/local_text.h"

struct maildir {
	const char *path;	/* with or without a slash at its end */
	const char *hostname;
	int64_t limit;		/* bytes of the message; 0: any */
	struct view header;	/* lines in front of the text, "\n" ends */
};

/* RCPT_DELIVERED only when it is on the disk, under its name. */
void maildir_deliver(const struct maildir *m, const struct local_text *t,
    struct fate *ret);

#endif
