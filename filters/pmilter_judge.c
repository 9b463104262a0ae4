/*
 * Messages to the filters, judgements back: what queue/qmgr_filter.c does in
 * the gateway, for sessions that wait in threads.
 */
#include <stdlib.h>

#include "filters/pmilter.h"
#include "lib/conf_choice.h"
#include "lib/log.h"
#include "lib/loop.h"

#define FILTER_DEPTH	64u
#define TICK_MS		1000

TAILQ_HEAD(jobs, pmilter_task);

struct filter {
	struct filter *next;
	struct chan *chan;
	uint32_t generation;
	bool old;		/* newer rules are there: no new work */
	bool hung;		/* is being ended */
	unsigned pending;
	struct jobs jobs;	/* in the order it works through them */
	struct mono busy;	/* since when, at one that does not wait */
};

static struct {
	const struct conf *cf;
	enum late_action late;
	struct filter *filters;
	struct jobs waiting;
	unsigned n_waiting;
	uint64_t last_id;
	uint64_t judged, failed;
	struct event timer;
} judge;

static struct pmilter_job *
judge_job(struct pmilter_task *t)
{
	return (struct pmilter_job *)(void *)t;
}

static const char late_text[] = "no verdict within filter_time_limit";

static void judge_let_go(void *arg);
static struct loop_work let_go = { .fn = judge_let_go };

/* -- answers that no filter gave ------------------------------------------- */

static void
judge_answer(struct pmilter_job *j, struct verdict v)
{
	j->answer = (struct pmilter_answer){ .j.verdict = v };
	j->judged = false;
	judge.failed++;
	pmilter_hand_back(&j->task);
}

static void
judge_failed(struct pmilter_job *j, const char *text)
{
	judge_answer(j, (struct verdict){ .action = ACTION_REJECT,
		.code = 451, .status = view_of("4.3.0"),
		.text = view_of(text) });
}

static void
judge_late(struct pmilter_job *j)
{
	log_warn("%s: %s%s", j->name, late_text,
	    judge.late == LATE_HOLD ? ": held" :
	    judge.late == LATE_ACCEPT ? ": accepted unchecked" : "");
	if (judge.late == LATE_TEMPFAIL)
		judge_failed(j, "Error: content filter is slow");
	else
		judge_answer(j, (struct verdict){ .text = view_of(late_text),
			.action = judge.late == LATE_HOLD ? ACTION_HOLD :
			ACTION_OK });
}

/* -- giving ---------------------------------------------------------------- */

static struct filter *
judge_pick(void)
{
	struct filter *f, *best = NULL;

	for (f = judge.filters; f != NULL; f = f->next)
		if (f->pending < FILTER_DEPTH && !f->old && !f->hung &&
		    (best == NULL || f->pending < best->pending))
			best = f;
	return best;
}

/* What it works at; NULL: all that it has waits for tables. */
static struct pmilter_job *
judge_current(const struct filter *f)
{
	struct pmilter_task *t;

	TAILQ_FOREACH(t, &f->jobs, link)
		if (!judge_job(t)->waits)
			return judge_job(t);
	return NULL;
}

static void
judge_send(struct filter *f, struct pmilter_job *j)
{
	struct buf *b = chan_begin(f->chan, MSG_FILTER);

	put_u64(b, j->task.id);
	put_u64(b, 0);
	put_u64(b, j->size);
	put_u8(b, false);
	put_view(b, j->envelope);
	put_view(b, view_of(j->name));
	chan_put_fd(f->chan, j->fd, true);
	chan_end(f->chan);
	if (judge_current(f) == NULL)
		f->busy = loop_now();
	TAILQ_INSERT_TAIL(&f->jobs, &j->task, link);
	f->pending++;
}

static void
judge_give(void)
{
	struct pmilter_task *t;
	struct filter *f;

	while ((t = TAILQ_FIRST(&judge.waiting)) != NULL &&
	    (f = judge_pick()) != NULL) {
		TAILQ_REMOVE(&judge.waiting, t, link);
		judge.n_waiting--;
		judge_send(f, judge_job(t));
	}
}

static void
judge_take_back(struct filter *f, struct pmilter_job *j)
{
	TAILQ_REMOVE(&f->jobs, &j->task, link);
	j->waits = false;
	f->pending--;
}

void
pmilter_judge_take(struct pmilter_task *t)
{
	t->id = ++judge.last_id;
	t->since = loop_now();
	judge_job(t)->waits = false;
	TAILQ_INSERT_TAIL(&judge.waiting, t, link);
	judge.n_waiting++;
	judge_give();
}

/* -- too late -------------------------------------------------------------- */

static bool
judge_too_long(struct mono since, struct mono now)
{
	return mono_since(since, now) / 1000 >= judge.cf->filter_time_limit;
}

static void
judge_check(struct filter *f, struct mono now)
{
	struct pmilter_job *current = judge_current(f);
	struct pmilter_task *t, *next;

	if (f->hung)
		return;
	if (current != NULL && judge_too_long(f->busy, now)) {
		/* Nothing that it has would ever be judged. */
		f->hung = true;
		chan_blame(f->chan, late_text);
		return;
	}
	for (t = TAILQ_FIRST(&f->jobs); t != NULL; t = next) {
		next = TAILQ_NEXT(t, link);
		if (judge_job(t) != current && judge_too_long(t->since, now)) {
			judge_take_back(f, judge_job(t));
			judge_late(judge_job(t));
		}
	}
}

static void
judge_tick(evutil_socket_t fd, short what, void *arg)
{
	struct mono now = clock_mono();
	struct pmilter_task *t, *next;
	struct filter *f;

	(void)fd;
	(void)what;
	(void)arg;
	for (f = judge.filters; f != NULL; f = f->next)
		judge_check(f, now);
	for (t = TAILQ_FIRST(&judge.waiting); t != NULL; t = next) {
		next = TAILQ_NEXT(t, link);
		if (!judge_too_long(t->since, now))
			continue;
		TAILQ_REMOVE(&judge.waiting, t, link);
		judge.n_waiting--;
		judge_late(judge_job(t));
	}
	judge_give();
	event_add(&judge.timer, loop_timeout(TICK_MS));
}

/* -- answers --------------------------------------------------------------- */

/* NULL: it was late. */
static struct pmilter_job *
judge_find(struct filter *f, uint64_t id)
{
	struct pmilter_task *t;

	TAILQ_FOREACH(t, &f->jobs, link)
		if (t->id == id)
			return judge_job(t);
	return NULL;
}

static void
judge_judged(struct filter *f, struct chan *c, struct chan_in *in)
{
	uint64_t id = cursor_u64(&in->body);
	uint32_t n = cursor_u32(&in->body);
	struct view parts = cursor_bytes(&in->body, cursor_left(&in->body));
	struct pmilter_job *j;

	if (!chan_check(c, in) || (j = judge_find(f, id)) == NULL)
		return;
	j->parts = mem_copy(parts);
	j->arena = arena_new(PARTS_MEMORY(parts.n, j->nrcpts));
	if (!pmilter_merge(view_make(j->parts, parts.n), n, j->nrcpts,
	    j->size, j->arena, &j->answer)) {
		arena_free(&j->arena);
		free(j->parts);
		j->parts = NULL;
		chan_blame(c, "bad judgement");
		return;
	}
	judge_take_back(f, j);
	f->busy = loop_now();
	j->judged = true;
	judge.judged++;
	pmilter_hand_back(&j->task);
	if (f->old)
		loop_soon(&let_go);
	judge_give();
}

static void
judge_waits(struct filter *f, struct chan *c, struct chan_in *in)
{
	uint64_t id = cursor_u64(&in->body);
	bool waits = cursor_u8(&in->body) != 0;
	struct pmilter_job *j;

	if (!chan_check(c, in) || (j = judge_find(f, id)) == NULL)
		return;
	TAILQ_REMOVE(&f->jobs, &j->task, link);
	TAILQ_INSERT_HEAD(&f->jobs, &j->task, link);
	j->waits = waits;
	f->busy = loop_now();
}

static void
judge_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	if (in->type == MSG_FILTERED)
		judge_judged(arg, c, in);
	else if (in->type == MSG_FILTER_WAITS)
		judge_waits(arg, c, in);
	else
		chan_blame(c, "unexpected message");
}

/* -- filters that come and go ---------------------------------------------- */

/* The current text may be what ended it, so that one goes to no other. */
static void
judge_lost(struct filter *f)
{
	struct pmilter_job *j = judge_current(f);
	struct pmilter_task *t;

	if (j != NULL) {
		judge_take_back(f, j);
		if (f->hung)
			judge_late(j);
		else
			judge_failed(j, "Error: content filter failed");
	}
	while ((t = TAILQ_LAST(&f->jobs, jobs)) != NULL) {
		judge_take_back(f, judge_job(t));
		TAILQ_INSERT_HEAD(&judge.waiting, t, link);
		judge.n_waiting++;
	}
}

static void
judge_on_close(struct chan *c, void *arg)
{
	struct filter *f = arg, **p;

	(void)c;
	if (f->pending > 0)
		log_warn("a filter ended with %u messages unjudged",
		    f->pending);
	judge_lost(f);
	for (p = &judge.filters; *p != f; p = &(*p)->next)
		;
	*p = f->next;
	chan_free(&f->chan);
	free(f);
	judge_give();
}

static void
judge_let_go(void *arg)
{
	struct filter *f, *next;

	(void)arg;
	for (f = judge.filters; f != NULL; f = next) {
		next = f->next;
		if (f->old && f->pending == 0)
			judge_on_close(f->chan, f);
	}
}

void
pmilter_judge_peer(const struct role_peer *peer, int fd)
{
	struct filter *f = mem_alloc(sizeof *f), *old;

	f->generation = peer->generation;
	TAILQ_INIT(&f->jobs);
	f->chan = chan_new(fd, ROLE_PMILTER, ROLE_FILTER, peer->pid,
	    judge_on_msg, judge_on_close, f);
	/* New messages are judged by new rules only. */
	for (old = judge.filters; old != NULL; old = old->next)
		if (old->generation < f->generation)
			old->old = true;
	f->next = judge.filters;
	judge.filters = f;
	loop_soon(&let_go);
	judge_give();
}

void
pmilter_judge_init(const struct conf *cf)
{
	judge.cf = cf;
	/* Part of a Message-Id that is added, so not the same every day. */
	judge.last_id = (uint64_t)clock_wall().us;
	judge.late = conf_choice("filter_timeout_action",
	    view_of(cf->filter_timeout_action));
	TAILQ_INIT(&judge.waiting);
	evtimer_assign(&judge.timer, loop_base(), judge_tick, NULL);
	event_add(&judge.timer, loop_timeout(TICK_MS));
}

void
pmilter_judge_status(struct buf *b)
{
	const struct filter *f;
	unsigned n = 0, pending = judge.n_waiting;

	for (f = judge.filters; f != NULL; f = f->next) {
		n++;
		pending += f->pending;
	}
	buf_printf(b, "filters %u\njudging %u\njudged %llu\nunjudged %llu\n",
	    n, pending, (unsigned long long)judge.judged,
	    (unsigned long long)judge.failed);
}
