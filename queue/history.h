/*
 * What is remembered of a message beside its text and its recipients: why
 * each recipient was deferred, whether the sender was told of the delay, why
 * it is held.  It stands behind the END record of a queue file, is written
 * anew with each deferral and is not promised to anybody: without it, or when
 * it is damaged, the message is delivered all the same.
 */
#ifndef QUEUE_HISTORY_H
#define QUEUE_HISTORY_H

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/cursor.h"
#include "lib/mem.h"

/* Encoded; what goes beyond it is left out, latest reasons first. */
#define HISTORY_MAX		(256u << 10)
#define HISTORY_REASONS_MAX	64u
#define HISTORY_TEXT_MAX	512u	/* of one reason */

enum history_flag {
	HISTORY_WARNED = 1 << 0,	/* the delay notice was sealed */
};

/* One reason stands for all recipients that have it. */
struct history_reason {
	struct view status;		/* "4.4.1" */
	struct view text;
	struct view mta;		/* remote; empty: none */
};

struct history_rcpt {
	uint32_t index;			/* in the envelope */
	uint32_t reason;
};

struct history {
	uint32_t flags;
	uint32_t attempts;
	struct wall last;		/* the end of the last attempt; 0 */
	struct view held;		/* why, and by what rule */
	uint32_t n_reasons, n_rcpts;
	struct history_reason *reasons;
	struct history_rcpt *rcpts;
};

/* Makes one, with room for n_rcpts; all views stay the caller's. */
void history_init(struct history *h, struct arena *a, uint32_t n_rcpts);
/* When there are too many reasons, the last one stands for the rest. */
void history_add(struct history *h, uint32_t index,
    const struct history_reason *reason);
/* NULL: nothing is known. */
const struct history_reason *history_of(const struct history *h,
    uint32_t index);

/* false: b is full */
bool history_put(struct buf *b, const struct history *h);
/* Views into encoded; arrays in a.  false: not exact, or over the limits; then
 * *ret is empty. */
bool history_get(struct view encoded, struct arena *a, struct history *ret);

#endif
