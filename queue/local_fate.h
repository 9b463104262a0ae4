/*
 * What became of a recipient on this host: said by the process that has
 * become the recipient, read by the role, which trusts it with nothing else.
 *
 * Encoded: u8 status, view enhanced status, view text, u8 (1: has a sender, 2:
 * self, 4: also), view sender, view route, u32 n, n x view address.
 */
#ifndef QUEUE_LOCAL_FATE_H
#define QUEUE_LOCAL_FATE_H

#include "lib/cursor.h"
#include "lib/mem.h"
#include "lib/msg.h"

#define FATE_TEXT_MAX	1000u
#define FATE_ADDRESSES_MAX 10000u
#define FATE_BYTES_MAX	(2u << 20)	/* encoded */

struct fate {
	enum rcpt_status status;
	char dsn[12];
	char text[FATE_TEXT_MAX + 1];
	/* A message to these is to be made before status counts; it is that
	 * one's sender if set. */
	bool has_sender;
	bool self;		/* a list names the user's own mailbox: it
				 * is still to be delivered to */
	struct view sender;
	struct view route;	/* "transport:nexthop"; empty: as usual */
	/* The route is not for the addresses: a second message to the
	 * recipient himself takes it, when theirs is made. */
	bool also;
	uint32_t n;
	struct view *addresses;
};

/* The recipient goes that way, as an address alone; beside those that there
 * are already. */
void fate_pass(struct fate *f, struct view route, struct view address,
    struct arena *a);
/* Status and text; addresses and route stay. */
void fate_set(struct fate *f, enum rcpt_status status, const char *dsn,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* What a failed system call means: "what: strerror(error)", RCPT_DEFERRED. */
void fate_errno(struct fate *f, const char *dsn, int error, const char *fmt,
    ...) __attribute__((format(printf, 4, 5)));
bool fate_put(struct buf *b, const struct fate *f);
/* Views point into c's text; the array is in a. */
bool fate_get(struct cursor *c, struct arena *a, struct fate *ret)
    __attribute__((warn_unused_result));

#endif
