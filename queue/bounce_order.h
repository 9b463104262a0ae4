/*
 * An order from qmgr to write a notification (MSG_BOUNCE), read and checked:
 * a captured qmgr cannot make us write what makes no sense.
 */
#ifndef QUEUE_BOUNCE_ORDER_H
#define QUEUE_BOUNCE_ORDER_H

#include "queue/bounce_report.h"

struct bounce_order {
	struct queue_id id;
	enum notice_kind kind;
	uint64_t text_offset, text_size;
	struct wall arrival, until, attempt;
	struct envelope env;
	struct bounce_outcome *outcomes;
	uint32_t n_outcomes;
};

/* Bytes that the arena of an order of n bytes may need. */
size_t bounce_order_memory(size_t n);
/* body is copied into a; all views and arrays are there. */
bool bounce_order_read(struct view body, struct arena *a,
    struct bounce_order *ret) __attribute__((warn_unused_result));
/* Leave out the recipients whose sender does not want to hear of this (RFC
 * 3461 section 4.1); a postmaster hears of all.  None may be left. */
void bounce_order_wanted(struct bounce_order *o);

#endif
