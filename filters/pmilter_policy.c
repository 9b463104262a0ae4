/*
 * Questions to the role policy and its answers.  One that does not answer in
 * time is ended; what it was asked fails.
 */
#include <stdlib.h>

#include "filters/pmilter.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "rules/policy_wire.h"

#define TICK_MS		1000
/* Over what it takes for one. */
#define GRACE_MS	5000

TAILQ_HEAD(questions, pmilter_task);

struct link {
	struct link *next;
	struct chan *chan;
	uint32_t generation;
	bool hung;		/* is being ended */
	struct questions asked;
};

static struct {
	const struct conf *cf;
	struct link *links;
	struct questions waiting;	/* for one that can be asked */
	uint64_t last_id;
	uint64_t asked, failed;
	struct event timer;
} policy;

static void policy_let_go(void *arg);
static struct loop_work let_go = { .fn = policy_let_go };

static void
question_failed(struct pmilter_task *t)
{
	policy.failed++;
	pmilter_hand_back(t);
}

/* -- asking ---------------------------------------------------------------- */

/* The newest rules; NULL: nobody. */
static struct link *
policy_pick(void)
{
	struct link *l, *best = NULL;

	for (l = policy.links; l != NULL; l = l->next)
		if (!l->hung && (best == NULL ||
		    l->generation > best->generation))
			best = l;
	return best;
}

static void
policy_give(void)
{
	struct link *l = policy_pick();
	struct pmilter_question *q;
	struct pmilter_task *t;
	struct buf *b;

	while (l != NULL && (t = TAILQ_FIRST(&policy.waiting)) != NULL) {
		TAILQ_REMOVE(&policy.waiting, t, link);
		q = (struct pmilter_question *)(void *)t;
		b = chan_begin(l->chan, MSG_RESTRICT);
		put_u64(b, t->id);
		(void)buf_putv(b, q->encoded);
		chan_end(l->chan);
		TAILQ_INSERT_TAIL(&l->asked, t, link);
	}
}

void
pmilter_policy_take(struct pmilter_task *t)
{
	policy.asked++;
	t->id = ++policy.last_id;
	t->since = loop_now();
	TAILQ_INSERT_TAIL(&policy.waiting, t, link);
	policy_give();
}

static bool
question_late(const struct pmilter_task *t, int64_t more)
{
	return t != NULL && mono_since(t->since, clock_mono()) / 1000 >=
	    policy.cf->postern_milter_restrictions_time_limit + more;
}

static void
policy_tick(evutil_socket_t fd, short what, void *arg)
{
	struct pmilter_task *t;
	struct link *l;

	(void)fd;
	(void)what;
	(void)arg;
	for (l = policy.links; l != NULL; l = l->next) {
		if (l->hung || !question_late(TAILQ_FIRST(&l->asked),
		    GRACE_MS))
			continue;
		l->hung = true;
		chan_blame(l->chan, "no answer about restrictions");
	}
	while (question_late(t = TAILQ_FIRST(&policy.waiting), 0)) {
		TAILQ_REMOVE(&policy.waiting, t, link);
		question_failed(t);
	}
	event_add(&policy.timer, loop_timeout(TICK_MS));
}

/* -- answers --------------------------------------------------------------- */

static void
policy_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct link *l = arg;
	uint64_t id = cursor_u64(&m->body);
	struct pmilter_question *q;
	struct pmilter_task *t;

	TAILQ_FOREACH(t, &l->asked, link)
		if (t->id == id)
			break;
	if (m->type != MSG_RESTRICTED || t == NULL) {
		chan_blame(c, "an answer that nobody asked for");
		return;
	}
	q = (struct pmilter_question *)(void *)t;
	if (!policy_answer_get(&m->body, q->result, &q->trial)) {
		chan_blame(c, "bad answer");
		return;
	}
	if (!chan_check(c, m))
		return;
	TAILQ_REMOVE(&l->asked, t, link);
	q->answered = true;
	pmilter_hand_back(t);
	loop_soon(&let_go);
}

/* -- processes that come and go -------------------------------------------- */

static void
policy_on_close(struct chan *c, void *arg)
{
	struct link *l = arg, **p;
	struct pmilter_task *t;

	(void)c;
	while ((t = TAILQ_FIRST(&l->asked)) != NULL) {
		TAILQ_REMOVE(&l->asked, t, link);
		question_failed(t);
	}
	for (p = &policy.links; *p != l; p = &(*p)->next)
		;
	*p = l->next;
	chan_free(&l->chan);
	free(l);
}

/* Those with old rules that have nothing left to answer. */
static void
policy_let_go(void *arg)
{
	struct link *l, *next, *best = policy_pick();

	(void)arg;
	for (l = policy.links; l != NULL; l = next) {
		next = l->next;
		if (best != NULL && l->generation < best->generation &&
		    TAILQ_EMPTY(&l->asked))
			policy_on_close(l->chan, l);
	}
}

void
pmilter_policy_peer(const struct role_peer *peer, int fd)
{
	struct link *l = mem_alloc(sizeof *l);

	l->generation = peer->generation;
	TAILQ_INIT(&l->asked);
	l->chan = chan_new(fd, ROLE_PMILTER, ROLE_POLICY, peer->pid,
	    policy_on_msg, policy_on_close, l);
	l->next = policy.links;
	policy.links = l;
	loop_soon(&let_go);
	policy_give();
}

void
pmilter_policy_init(const struct conf *cf)
{
	policy.cf = cf;
	TAILQ_INIT(&policy.waiting);
	evtimer_assign(&policy.timer, loop_base(), policy_tick, NULL);
	event_add(&policy.timer, loop_timeout(TICK_MS));
}

void
pmilter_policy_status(struct buf *b)
{
	buf_printf(b, "restrictions_asked %llu\nrestrictions_failed %llu\n",
	    (unsigned long long)policy.asked,
	    (unsigned long long)policy.failed);
}
