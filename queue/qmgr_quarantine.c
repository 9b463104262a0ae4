/*
 * Messages that a rule holds do not wait for ever: those older than
 * quarantine_lifetime are removed.  What an administrator put on hold is
 * left alone.  A thread looks through hold/ now and then; what it finds is
 * removed as the queue commands would do it.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/history.h"
#include "queue/qmgr.h"
#include "queue/queue_entry.h"

#define FOUND_MAX	1000u	/* in one look */
#define LOOKS		20	/* in a lifetime */
#define LOOK_MS_MAX	3600000
#define LOOK_MS_MIN	1000

static struct {
	struct pool_job job;
	struct event timer;
	/* What work() has to itself while it is running. */
	struct spool spool;
	struct wall before;		/* arrived earlier than that */
	struct buf bytes;
	uint32_t n;
	struct expired {
		struct queue_id id;
		char *why;
	} found[FOUND_MAX];
} quarantine;

static void
quarantine_name(struct queue_id id, enum spool_place place, void *arg)
{
	struct queue_entry e;
	struct spool_file f;
	struct wall next;
	struct arena *a;

	(void)arg;
	if (quarantine.n == FOUND_MAX || spool_peek(&quarantine.spool, id,
	    place, &quarantine.bytes, &f, &next) != 0 ||
	    f.arrival.us >= quarantine.before.us)
		return;
	queue_entry_of_file(&e, &f, place, next);
	a = arena_new(queue_entry_room(&e));
	if (queue_entry_decode(&e, a) && e.past.held.n > 0)
		quarantine.found[quarantine.n++] = (struct expired){ id,
			mem_copy(e.past.held) };
	arena_free(&a);
}

static void
quarantine_work(struct pool_job *j)
{
	struct spool_walk *w = spool_walk_new(&quarantine.spool, PLACE_HOLD);

	(void)j;
	while (quarantine.n < FOUND_MAX &&
	    spool_walk_next(w, 1000, quarantine_name, NULL))
		;
	spool_walk_free(&w);
}

static void
quarantine_wait(int64_t ms)
{
	if (ms > LOOK_MS_MAX)
		ms = LOOK_MS_MAX;
	event_add(&quarantine.timer, loop_timeout(ms < LOOK_MS_MIN ?
	    LOOK_MS_MIN : ms));
}

static void
quarantine_done(struct pool_job *j)
{
	char id[QUEUE_ID_TEXT];
	uint32_t i;
	bool all = quarantine.n < FOUND_MAX;

	(void)j;
	for (i = 0; i < quarantine.n; i++) {
		if (!qmgr.handed_over && !qmgr.stopping) {
			log_info("%s: held longer than quarantine_lifetime "
			    "(%s)", queue_id_text(quarantine.found[i].id, id),
			    log_safe(view_of(quarantine.found[i].why)));
			(void)op_apply(QUEUE_DELETE, quarantine.found[i].id);
		}
		free(quarantine.found[i].why);
	}
	buf_free(&quarantine.bytes);
	quarantine_wait(all ? qmgr.cf->quarantine_lifetime / LOOKS : 0);
}

static void
quarantine_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	if (qmgr.handed_over || qmgr.stopping)
		return;
	if (!qmgr.started || journal_recovering()) {
		quarantine_wait(0);
		return;
	}
	quarantine.spool = qmgr.spool;
	/* Names are put right by those who work with them. */
	quarantine.spool.read_only = true;
	quarantine.before.us = clock_wall().us -
	    qmgr.cf->quarantine_lifetime * 1000;
	quarantine.n = 0;
	buf_init(&quarantine.bytes, SPOOL_TAIL_MAX + 2 * HISTORY_MAX);
	quarantine.job.work = quarantine_work;
	quarantine.job.done = quarantine_done;
	pool_submit(&quarantine.job);
}

void
quarantine_init(void)
{
	evtimer_assign(&quarantine.timer, loop_base(), quarantine_look, NULL);
	if (qmgr.cf->quarantine_lifetime > 0)
		quarantine_wait(qmgr.cf->quarantine_lifetime / LOOKS);
}
