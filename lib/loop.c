#include <stdlib.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"

static struct event_base *base;
static struct loop_work *work_first, **work_end = &work_first;
static struct mono turn;
static bool stopping;

struct event_base *
loop_base(void)
{
	struct event_config *cf;

	if (base != NULL)
		return base;
	cf = event_config_new();
	if (cf == NULL)
		fatal("event_config_new failed");
	/* Our time comes from lib/clock; a coarse one is enough for timers. */
	event_config_set_flag(cf, EVENT_BASE_FLAG_NOLOCK |
	    EVENT_BASE_FLAG_IGNORE_ENV | EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
	base = event_base_new_with_config(cf);
	event_config_free(cf);
	if (base == NULL)
		fatal("cannot make an event loop");
	return base;
}

static void
loop_work_run(void)
{
	struct loop_work *w;

	while ((w = work_first) != NULL) {
		work_first = w->next;
		if (work_first == NULL)
			work_end = &work_first;
		w->next = NULL;
		w->queued = false;
		w->fn(w->arg);
	}
}

void
loop_soon(struct loop_work *w)
{
	if (w->queued)
		return;
	w->queued = true;
	w->next = NULL;
	*work_end = w;
	work_end = &w->next;
}

void
loop_forget(struct loop_work *w)
{
	struct loop_work **p;

	if (!w->queued)
		return;
	for (p = &work_first; *p != w; p = &(*p)->next)
		ensure(*p != NULL);
	*p = w->next;
	if (work_end == &w->next)
		work_end = p;
	w->queued = false;
}

void
loop_stop(void)
{
	stopping = true;
}

void
loop_run(void)
{
	loop_base();
	stopping = false;
	while (!stopping) {
		/* What happened is in the log before others act on it. */
		log_flush();
		loop_work_run();
		log_flush();
		if (stopping)
			break;
		turn.us = 0;
		if (event_base_loop(base, EVLOOP_ONCE) < 0)
			fatal("event loop failed");
	}
	loop_work_run();
	log_flush();
}

struct mono
loop_now(void)
{
	if (turn.us == 0)
		turn = clock_mono();
	return turn;
}

const struct timeval *
loop_timeout(int64_t ms)
{
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
	const struct timeval *common;
	static struct timeval plain[8];
	static unsigned next;

	/*
	 * libevent keeps up to 256 lengths as queues with constant cost;
	 * beyond that a plain timeval goes to its heap.
	 */
	common = event_base_init_common_timeout(loop_base(), &tv);
	if (common != NULL)
		return common;
	plain[next % 8] = tv;
	return &plain[next++ % 8];
}
