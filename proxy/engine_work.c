#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/engine_work.h"

struct job {
	struct work_table *table;
	work_done *done;
	void *arg;		/* NULL: nobody wants it any more */
	uint32_t tag;
	struct mono until;
	enum engine_answer answer;
	struct buf value, err;
	size_t key_n;
	char key[ENGINE_KEY_MAX];
	TAILQ_ENTRY(job) link;		/* waiting, or done */
	TAILQ_ENTRY(job) all;
};
TAILQ_HEAD(jobs, job);

struct worker {
	struct work_table *table;
	void *handle;
	pthread_t thread;
};

struct work_table {
	struct work_table *next;
	char *name;
	struct engine_conf *conf;	/* handles may point into it */
	struct worker *workers;
	unsigned n;
	/* Under the lock. */
	pthread_cond_t wake;
	struct jobs waiting;
	unsigned n_waiting;
	/* Of the loop's thread. */
	unsigned failures;		/* in a row */
	int64_t pause_ms;
	struct mono paused_until;
	struct mono logged;
	uint64_t silent, found, none, failed;
};

static struct {
	pthread_mutex_t lock;
	struct jobs done;		/* under the lock */
	struct jobs all;		/* of the loop's thread */
	struct work_table *tables;
	int wake;
	struct event event;
} work = { .lock = PTHREAD_MUTEX_INITIALIZER,
	.done = TAILQ_HEAD_INITIALIZER(work.done),
	.all = TAILQ_HEAD_INITIALIZER(work.all), .wake = -1 };

struct work_table *
work_open(const char *table, unsigned n, const struct conf *main_cf,
    struct buf *err)
{
	struct work_table *t = mem_alloc(sizeof *t), **end;
	unsigned i;

	t->conf = engine_conf_load(table, engine.name_is_all, main_cf, err);
	if (t->conf == NULL) {
		free(t);
		return NULL;
	}
	t->name = mem_strdup(table);
	t->n = n;
	t->workers = mem_array(n, sizeof *t->workers);
	TAILQ_INIT(&t->waiting);
	(void)pthread_cond_init(&t->wake, NULL);
	for (i = 0; i < n; i++) {
		t->workers[i].table = t;
		if (!engine.open(t->conf, &t->workers[i].handle, err) ||
		    engine_conf_mistakes(t->conf).n > 0) {
			/* The process is about to end. */
			(void)buf_putv(err, view_head(engine_conf_mistakes(
			    t->conf), ENGINE_ERROR_MAX / 2));
			return NULL;
		}
	}
	for (end = &work.tables; *end != NULL; end = &(*end)->next)
		;
	*end = t;
	return t;
}

struct work_table *
work_find(struct view table)
{
	struct work_table *t;

	for (t = work.tables; t != NULL; t = t->next)
		if (view_is(table, t->name))
			break;
	return t;
}

struct work_table *
work_next(struct work_table *t)
{
	return t == NULL ? work.tables : t->next;
}

const char *
work_name(const struct work_table *t)
{
	return t->name;
}

/* -- a thread -------------------------------------------------------------- */

static void
worker_answer(struct worker *w, struct job *j)
{
	if (clock_mono().us >= j->until.us) {
		j->answer = ENGINE_TEMPORARY;
		(void)buf_puts(&j->err, "no answer in time");
		return;
	}
	j->answer = engine.query(w->handle, view_make(j->key, j->key_n),
	    &j->value, &j->err);
	if (j->answer != ENGINE_FOUND)
		buf_clear(&j->value);
}

static void *
worker_run(void *arg)
{
	struct worker *w = arg;
	struct work_table *t = w->table;
	const uint64_t one = 1;
	struct job *j;

	for (;;) {
		(void)pthread_mutex_lock(&work.lock);
		while ((j = TAILQ_FIRST(&t->waiting)) == NULL)
			(void)pthread_cond_wait(&t->wake, &work.lock);
		TAILQ_REMOVE(&t->waiting, j, link);
		t->n_waiting--;
		(void)pthread_mutex_unlock(&work.lock);
		worker_answer(w, j);
		(void)pthread_mutex_lock(&work.lock);
		TAILQ_INSERT_TAIL(&work.done, j, link);
		(void)pthread_mutex_unlock(&work.lock);
		/* A full counter wakes as well. */
		if (write(work.wake, &one, sizeof one) < 0 &&
		    errno != EAGAIN)
			abort();
	}
	return NULL;
}

/* -- the loop's thread ----------------------------------------------------- */

static void
job_free(struct job *j)
{
	TAILQ_REMOVE(&work.all, j, all);
	buf_free(&j->value);
	buf_free(&j->err);
	free(j);
}

/* In the log once a minute, however much mail there is. */
static void
table_complain(struct work_table *t, const char *why)
{
	struct mono now = loop_now();

	if (t->logged.us != 0 && now.us - t->logged.us < WORK_LOG_US) {
		t->silent++;
		return;
	}
	log_warn("table %s: %s%s", t->name, log_safe(view_of(why)),
	    t->silent > 0 ? " (and more like it)" : "");
	t->logged = now;
	t->silent = 0;
}

static void
table_failed(struct work_table *t)
{
	t->failed++;
	t->failures++;
	if (t->failures < WORK_FAILURES)
		return;
	if (loop_now().us < t->paused_until.us)
		return;		/* asked before the pause began */
	t->pause_ms = t->pause_ms == 0 ? WORK_PAUSE_MS :
	    t->pause_ms * 2 < WORK_PAUSE_MAX_MS ? t->pause_ms * 2 :
	    WORK_PAUSE_MAX_MS;
	t->paused_until.us = loop_now().us + t->pause_ms * 1000;
}

static void
table_works(struct work_table *t)
{
	if (t->pause_ms > 0 || t->logged.us != 0)
		log_info("table %s: works again", t->name);
	t->failures = 0;
	t->pause_ms = 0;
	t->paused_until.us = t->logged.us = 0;
	t->silent = 0;
}

static void
job_ended(struct job *j)
{
	struct work_table *t = j->table;

	switch (j->answer) {
	case ENGINE_FOUND:
		t->found++;
		table_works(t);
		break;
	case ENGINE_NOT_FOUND:
		t->none++;
		table_works(t);
		break;
	case ENGINE_TEMPORARY:
	case ENGINE_WRONG:
	case ENGINE_NONE:
		table_complain(t, j->err.n > 0 ? buf_cstr(&j->err) :
		    "query failed");
		/* What is wrong with one question does not stop others. */
		if (j->answer == ENGINE_TEMPORARY)
			table_failed(t);
		break;
	}
	if (j->arg != NULL)
		j->done(j->arg, j->tag, j->answer, j->value.n > 0 ?
		    buf_view(&j->value) : view_make("", 0));
	job_free(j);
}

static void
work_on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct jobs done = TAILQ_HEAD_INITIALIZER(done);
	struct job *j;
	uint64_t n;

	(void)what;
	(void)arg;
	if (read(fd, &n, sizeof n) < 0 && errno != EAGAIN)
		panic("eventfd: %s", strerror(errno));
	(void)pthread_mutex_lock(&work.lock);
	TAILQ_CONCAT(&done, &work.done, link);
	(void)pthread_mutex_unlock(&work.lock);
	while ((j = TAILQ_FIRST(&done)) != NULL) {
		TAILQ_REMOVE(&done, j, link);
		job_ended(j);
	}
}

void
work_start(void)
{
	struct work_table *t;
	sigset_t all, old;
	unsigned i;

	work.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (work.wake < 0)
		fatal("eventfd: %s", strerror(errno));
	event_assign(&work.event, loop_base(), work.wake,
	    EV_READ | EV_PERSIST, work_on_wake, NULL);
	event_add(&work.event, NULL);
	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGSYS);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	for (t = work.tables; t != NULL; t = t->next)
		for (i = 0; i < t->n; i++)
			if (pthread_create(&t->workers[i].thread, NULL,
			    worker_run, &t->workers[i]) != 0)
				fatal("cannot start a thread");
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

bool
work_ask(struct work_table *t, struct view key, int64_t ms, work_done *done,
    void *arg, uint32_t tag)
{
	struct job *j;

	if (key.n > ENGINE_KEY_MAX || t->n_waiting >= WORK_QUEUE_MAX ||
	    loop_now().us < t->paused_until.us) {
		t->failed++;
		return false;
	}
	j = mem_alloc(sizeof *j);
	j->table = t;
	j->done = done;
	j->arg = arg;
	j->tag = tag;
	j->until.us = loop_now().us + ms * 1000;
	buf_init(&j->value, ENGINE_VALUE_MAX);
	buf_init(&j->err, ENGINE_ERROR_MAX);
	j->key_n = key.n;
	if (key.n > 0)
		memcpy(j->key, key.p, key.n);
	TAILQ_INSERT_TAIL(&work.all, j, all);
	(void)pthread_mutex_lock(&work.lock);
	TAILQ_INSERT_TAIL(&t->waiting, j, link);
	t->n_waiting++;
	(void)pthread_cond_signal(&t->wake);
	(void)pthread_mutex_unlock(&work.lock);
	return true;
}

void
work_forget(const void *arg)
{
	struct job *j;

	TAILQ_FOREACH(j, &work.all, all)
		if (j->arg == arg)
			j->arg = NULL;
}

void
work_status(struct buf *b)
{
	const struct work_table *t;

	for (t = work.tables; t != NULL; t = t->next)
		(void)buf_printf(b, "%s found %llu, not found %llu, failed "
		    "%llu%s\n", t->name, (unsigned long long)t->found,
		    (unsigned long long)t->none,
		    (unsigned long long)t->failed,
		    loop_now().us < t->paused_until.us ? ", paused" : "");
}
