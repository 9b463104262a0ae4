/*
 * One message of a list, and what is known of one destination: as qmgr tells
 * showq, and showq the commands.  Reading checks everything, so what was read
 * can be shown; all views point into the input.
 */
#ifndef QUEUE_QUEUE_ENTRY_H
#define QUEUE_QUEUE_ENTRY_H

#include "queue/history.h"
#include "queue/spool.h"

/* Encoded, with an envelope and a history of the largest size. */
#define QUEUE_ENTRY_MAX		(SPOOL_TAIL_MAX + 2 * HISTORY_MAX)

struct queue_failure {
	uint32_t index;
	bool bounced;			/* its sender is about to be told */
	struct view status, reason, mta;
};

struct queue_entry {
	struct queue_id id;
	enum spool_place place;
	bool expire;			/* goes back at the next attempt */
	bool in_memory;			/* qmgr works on it */
	struct wall arrival;
	struct wall next;		/* attempt, of a deferred one; 0 */
	uint64_t text_size;
	struct view route, edits;
	struct view envelope, status, history;	/* encoded */
	struct view failures;		/* encoded: of this attempt */
	uint32_t n_failures;

	/* After queue_entry_decode(). */
	struct envelope env;
	struct history past;
	struct queue_failure *failed;
};

bool queue_entry_put(struct buf *b, const struct queue_entry *e);
bool queue_failure_put(struct buf *b, const struct queue_failure *f);
/* Only splits; false: not exact. */
bool queue_entry_get(struct cursor *c, struct queue_entry *ret)
    __attribute__((warn_unused_result));
/* The parts as well, arrays in a.  A damaged history is an empty one. */
bool queue_entry_decode(struct queue_entry *e, struct arena *a)
    __attribute__((warn_unused_result));
/* Room that decoding takes. */
size_t queue_entry_room(const struct queue_entry *e);
/* Why recipient i is still here: this attempt's failure, or the history's;
 * empty: not known.  *ret_bounced: its sender is about to be told. */
struct view queue_entry_reason(const struct queue_entry *e, uint32_t i,
    bool *ret_bounced);
/* What spool_peek() found. */
void queue_entry_of_file(struct queue_entry *e, const struct spool_file *f,
    enum spool_place place, struct wall next);

/* What keeps a destination from its next delivery is qmgr's word. */
struct queue_dest {
	struct view transport, nexthop, held_by, last_error;
	uint32_t waiting, busy, window, limit;
	int64_t next_try_ms;		/* from now; 0: now, or not known */
};
#define QUEUE_DESTS_MAX		4000u

bool queue_dest_put(struct buf *b, const struct queue_dest *d);
bool queue_dest_get(struct cursor *c, struct queue_dest *ret)
    __attribute__((warn_unused_result));

#endif
