/*
 * The event loop of a role: libevent's, one per process, plus work that is
 * due once at the end of a turn (writing out message buffers and log lines),
 * so that many small messages leave in one system call.  Roles use libevent's
 * own calls (event_assign, event_add, ...) with loop_base().
 */
#ifndef LIB_LOOP_H
#define LIB_LOOP_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>

#include "lib/clock.h"

struct loop_work {
	void (*fn)(void *arg);
	void *arg;
	struct loop_work *next;
	bool queued;
};

struct event_base *loop_base(void);
/* Run until loop_stop(). */
void loop_run(void);
void loop_stop(void);
/* Run w->fn(w->arg) once, before the loop waits again.  May be called from
 * such a function too; then it runs in the same turn. */
void loop_soon(struct loop_work *w);
/* Take w off again, if it is queued: before its owner is freed. */
void loop_forget(struct loop_work *w);
/* The time this turn began; cheap. */
struct mono loop_now(void);
/* timeval for event_add; many timers of one length share a queue. */
const struct timeval *loop_timeout(int64_t ms);

#endif
