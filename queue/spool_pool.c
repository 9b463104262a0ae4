#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "queue/spool_pool.h"

static struct {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct pool_job *first, **end;		/* to do */
	struct pool_job *ready, **ready_end;	/* worked, not done */
	int wake;		/* eventfd to the loop */
	struct event event;
	unsigned pending;	/* loop's side only */
	void (*idle)(void);
} pool = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.more = PTHREAD_COND_INITIALIZER,
	.end = &pool.first,
	.ready_end = &pool.ready,
	.wake = -1,
};

static void *
pool_thread(void *arg)
{
	const uint64_t one = 1;
	struct pool_job *j;
	bool first;

	(void)arg;
	for (;;) {
		pthread_mutex_lock(&pool.lock);
		while (pool.first == NULL)
			pthread_cond_wait(&pool.more, &pool.lock);
		j = pool.first;
		pool.first = j->next;
		if (pool.first == NULL)
			pool.end = &pool.first;
		pthread_mutex_unlock(&pool.lock);

		j->work(j);

		pthread_mutex_lock(&pool.lock);
		j->next = NULL;
		first = pool.ready == NULL;
		*pool.ready_end = j;
		pool.ready_end = &j->next;
		pthread_mutex_unlock(&pool.lock);
		/* One wake-up serves all that become ready until it is read. */
		if (first && write(pool.wake, &one, sizeof one) < 0 &&
		    errno != EAGAIN)
			panic("pool: cannot wake the loop");
	}
	return NULL;
}

static void
pool_ready(evutil_socket_t fd, short what, void *arg)
{
	struct pool_job *j, *next;
	uint64_t n;

	(void)what;
	(void)arg;
	if (read(fd, &n, sizeof n) < 0 && errno != EAGAIN && errno != EINTR)
		panic("pool: eventfd");
	pthread_mutex_lock(&pool.lock);
	j = pool.ready;
	pool.ready = NULL;
	pool.ready_end = &pool.ready;
	pthread_mutex_unlock(&pool.lock);
	for (; j != NULL; j = next) {
		next = j->next;
		pool.pending--;
		j->done(j);
	}
	if (pool.pending == 0)
		pool.idle();
}

void
pool_start(unsigned threads, void (*idle)(void))
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t t;
	int rc = 0;

	pool.idle = idle;
	pool.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (pool.wake < 0)
		fatal("eventfd failed");
	event_assign(&pool.event, loop_base(), pool.wake,
	    EV_READ | EV_PERSIST, pool_ready, NULL);
	event_add(&pool.event, NULL);
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, 256 * 1024);
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	/* A forbidden system call must still name itself. */
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (rc == 0 && threads-- > 0)
		rc = pthread_create(&t, &attr, pool_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	(void)pthread_attr_destroy(&attr);
	if (rc != 0)
		fatal("cannot start threads: %s", strerror(rc));
}

void
pool_submit(struct pool_job *j)
{
	j->next = NULL;
	pool.pending++;
	pthread_mutex_lock(&pool.lock);
	*pool.end = j;
	pool.end = &j->next;
	pthread_cond_signal(&pool.more);
	pthread_mutex_unlock(&pool.lock);
}

unsigned
pool_pending(void)
{
	return pool.pending;
}
