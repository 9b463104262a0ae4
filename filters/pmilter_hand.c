/* Tasks from sessions to the loop and back; lines for the log. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "filters/pmilter.h"
#include "lib/log.h"
#include "lib/loop.h"

#define PROGRESS_S	10
#define NOTES_MAX	1000u	/* waiting; more are counted only */

struct note {
	STAILQ_ENTRY(note) link;
	bool warn;
	char *text;
};

static struct {
	pthread_mutex_t lock;
	pthread_condattr_t clock;
	int wake;		/* eventfd */
	TAILQ_HEAD(, pmilter_task) tasks;
	STAILQ_HEAD(, note) notes;
	unsigned n_notes, lost_notes;
	unsigned busy;		/* messages under way */
	struct mono answered;	/* the last one */
	bool stopping, ended;
	void (*on_ended)(void);
	void (*idle)(struct mono answered);
	struct event event;
} hand = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
hand_lock(void)
{
	ensure(pthread_mutex_lock(&hand.lock) == 0);
}

static void
hand_unlock(void)
{
	ensure(pthread_mutex_unlock(&hand.lock) == 0);
}

static void
hand_wake(void)
{
	const uint64_t one = 1;

	/* It can only fail when the loop is awake already. */
	(void)!write(hand.wake, &one, sizeof one);
}

void
pmilter_hand_init(void)
{
	hand.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hand.wake < 0 || pthread_condattr_init(&hand.clock) != 0 ||
	    pthread_condattr_setclock(&hand.clock, CLOCK_MONOTONIC) != 0)
		fatal("cannot prepare for threads: %s", strerror(errno));
	TAILQ_INIT(&hand.tasks);
	STAILQ_INIT(&hand.notes);
}

/* -- sessions -------------------------------------------------------------- */

void
pmilter_hand_over(struct pmilter_task *t, void (*progress)(void *arg),
    void *arg)
{
	struct timespec until;

	t->done = false;
	ensure(pthread_cond_init(&t->cond, &hand.clock) == 0);
	hand_lock();
	TAILQ_INSERT_TAIL(&hand.tasks, t, link);
	hand_wake();
	while (!t->done) {
		(void)clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += PROGRESS_S;
		while (!t->done && pthread_cond_timedwait(&t->cond,
		    &hand.lock, &until) == 0)
			;
		if (t->done)
			break;
		hand_unlock();
		if (progress != NULL)
			progress(arg);
		hand_lock();
	}
	hand_unlock();
	(void)pthread_cond_destroy(&t->cond);
}

void
pmilter_note(bool warn, char *text)
{
	struct note *n = mem_alloc(sizeof *n);

	n->warn = warn;
	n->text = text;
	hand_lock();
	if (hand.n_notes < NOTES_MAX) {
		STAILQ_INSERT_TAIL(&hand.notes, n, link);
		hand.n_notes++;
		n = NULL;
	} else
		hand.lost_notes++;
	hand_wake();
	hand_unlock();
	if (n != NULL) {
		free(n->text);
		free(n);
	}
}

bool
pmilter_busy(bool begins)
{
	bool ok = true;

	hand_lock();
	if (!begins) {
		hand.busy--;
		hand.answered = clock_mono();
	} else if (hand.stopping)
		ok = false;
	else
		hand.busy++;
	if (hand.stopping)
		hand_wake();
	hand_unlock();
	return ok;
}

void
pmilter_hand_ended(void)
{
	hand_lock();
	hand.ended = true;
	hand_wake();
	hand_unlock();
}

/* -- the loop -------------------------------------------------------------- */

static void
hand_log(struct note *n)
{
	if (n->warn)
		log_warn("%s", log_safe(view_of(n->text)));
	else
		log_info("%s", log_safe(view_of(n->text)));
	free(n->text);
	free(n);
}

static void
hand_on_wake(evutil_socket_t fd, short what, void *arg)
{
	TAILQ_HEAD(, pmilter_task) tasks = TAILQ_HEAD_INITIALIZER(tasks);
	STAILQ_HEAD(, note) notes = STAILQ_HEAD_INITIALIZER(notes);
	struct pmilter_task *t;
	unsigned lost;
	uint64_t count;
	struct note *n;
	bool idle, ended;

	(void)what;
	(void)arg;
	(void)!read(fd, &count, sizeof count);
	hand_lock();
	TAILQ_CONCAT(&tasks, &hand.tasks, link);
	STAILQ_CONCAT(&notes, &hand.notes);
	hand.n_notes = 0;
	lost = hand.lost_notes;
	hand.lost_notes = 0;
	ended = hand.ended;
	idle = hand.stopping && hand.busy == 0;
	hand_unlock();
	while ((n = STAILQ_FIRST(&notes)) != NULL) {
		STAILQ_REMOVE_HEAD(&notes, link);
		hand_log(n);
	}
	if (lost > 0)
		log_warn("%u more lines were not logged", lost);
	while ((t = TAILQ_FIRST(&tasks)) != NULL) {
		TAILQ_REMOVE(&tasks, t, link);
		t->take(t);
	}
	if (idle && hand.idle != NULL)
		hand.idle(hand.answered);
	if (ended)
		hand.on_ended();
}

void
pmilter_hand_start(void (*ended)(void))
{
	hand.on_ended = ended;
	event_assign(&hand.event, loop_base(), hand.wake, EV_READ | EV_PERSIST,
	    hand_on_wake, NULL);
	event_add(&hand.event, NULL);
}

void
pmilter_hand_back(struct pmilter_task *t)
{
	hand_lock();
	t->done = true;
	(void)pthread_cond_signal(&t->cond);
	hand_unlock();
}

void
pmilter_hand_stop(void (*idle)(struct mono answered))
{
	hand_lock();
	hand.stopping = true;
	hand.idle = idle;
	hand_wake();
	hand_unlock();
}
