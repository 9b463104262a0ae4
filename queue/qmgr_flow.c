/*
 * in_flow_delay: when more mail comes in than goes out, and the active queue
 * is filling, each message waits a moment before it is judged and accepted,
 * so that clients slow down before the queue is full.  Like Postfix's, it is
 * one pause of fixed length for a message, and no limit on its rate.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/qmgr.h"

#define FILLED		4u	/* an active queue over a quarter is filling */

static struct {
	struct delayed {
		struct queue_id id;
		struct mono until;
	} *list;			/* in order of time */
	size_t first, n, cap;
	struct event timer;
	bool on;
	uint64_t came, went;		/* until the last look */
	uint64_t total;
} flow;

void
flow_check(void)
{
	uint64_t came = qmgr.sealed;
	uint64_t went = qmgr.removed + qmgr.deferred_total;

	flow.on = qmgr.cf->in_flow_delay > 0 &&
	    qmgr.active + intake_backlog() > qmgr.active_limit / FILLED &&
	    came - flow.came > went - flow.went;
	flow.came = came;
	flow.went = went;
}

static void
flow_set_timer(void)
{
	int64_t us = flow.list[flow.first].until.us - loop_now().us;
	struct timeval tv = { 0, 1000 };

	if (us > 1000) {
		tv.tv_sec = us / 1000000;
		tv.tv_usec = us % 1000000;
	}
	event_add(&flow.timer, &tv);
}

static void
flow_due(evutil_socket_t fd, short what, void *arg)
{
	struct message *m;

	(void)fd;
	(void)what;
	(void)arg;
	while (flow.n > 0 &&
	    flow.list[flow.first].until.us <= loop_now().us) {
		m = message_find(flow.list[flow.first].id);
		flow.first++;
		flow.n--;
		/* Its writer may have gone, and the message with it. */
		if (m != NULL && m->known.state == M_WRITING && m->seal_asked)
			writer_go_on(m);
	}
	if (flow.n > 0)
		flow_set_timer();
	else
		flow.first = 0;
}

/* Room for one more at the end. */
static void
flow_grow(void)
{
	if (flow.first + flow.n < flow.cap)
		return;
	if (flow.first > flow.cap / 2) {
		memmove(flow.list, flow.list + flow.first,
		    flow.n * sizeof *flow.list);
		flow.first = 0;
		return;
	}
	flow.cap = flow.cap * 2 + 64;
	flow.list = mem_resize(flow.list, flow.cap, sizeof *flow.list);
}

bool
flow_delays(struct queue_id id)
{
	struct mono until = loop_now();

	if (!flow.on)
		return false;
	until.us += qmgr.cf->in_flow_delay * 1000;
	flow_grow();
	flow.list[flow.first + flow.n++] = (struct delayed){ id, until };
	flow.total++;
	if (flow.n == 1)
		flow_set_timer();
	return true;
}

void
flow_init(void)
{
	evtimer_assign(&flow.timer, loop_base(), flow_due, NULL);
}

void
flow_status(struct buf *b)
{
	(void)buf_printf(b, "in_flow_delay %s\nin_flow_delayed %llu\n",
	    flow.on ? "on" : "off", (unsigned long long)flow.total);
}
