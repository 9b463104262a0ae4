#include <stdlib.h>
#include <sys/queue.h>

#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/relay_sts.h"

struct relay_sts_question {
	TAILQ_ENTRY(relay_sts_question) link;
	struct chan *chan;	/* NULL: there is no sts to ask */
	uint32_t tag;
	char *domain;
	struct event timer;
	relay_sts_done *done;
	void *arg;
};

struct sts_link {
	TAILQ_ENTRY(sts_link) link;
	struct chan *chan;
	uint32_t generation;
};

static TAILQ_HEAD(, relay_sts_question) questions =
    TAILQ_HEAD_INITIALIZER(questions);
static TAILQ_HEAD(, sts_link) links = TAILQ_HEAD_INITIALIZER(links);
static uint32_t last_tag;

static void
question_send(struct relay_sts_question *q)
{
	const struct sts_link *l, *best = NULL;
	struct buf *b;

	TAILQ_FOREACH(l, &links, link)
		if (best == NULL || l->generation >= best->generation)
			best = l;
	q->chan = best != NULL ? best->chan : NULL;
	if (best == NULL)
		return;
	b = chan_begin(q->chan, MSG_STS);
	put_u32(b, q->tag);
	put_view(b, view_of(q->domain));
	chan_end(q->chan);
}

void
relay_sts_cancel(struct relay_sts_question **qp)
{
	struct relay_sts_question *q = *qp;

	*qp = NULL;
	if (q == NULL)
		return;
	TAILQ_REMOVE(&questions, q, link);
	event_del(&q->timer);
	free(q->domain);
	free(q);
}

static void
question_answered(struct relay_sts_question *q, enum sts_answer answer,
    const struct sts_policy *p, struct view why)
{
	relay_sts_done *done = q->done;
	void *arg = q->arg;

	relay_sts_cancel(&q);
	done(answer, p, why, arg);
}

static void
question_on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	question_answered(arg, 0, NULL, view_of("no answer in time"));
}

struct relay_sts_question *
relay_sts_ask(struct view domain, int64_t ms, relay_sts_done *done, void *arg)
{
	struct relay_sts_question *q = mem_alloc(sizeof *q);

	*q = (struct relay_sts_question){ .tag = ++last_tag,
		.domain = mem_copy(domain), .done = done, .arg = arg };
	evtimer_assign(&q->timer, loop_base(), question_on_time, q);
	event_add(&q->timer, loop_timeout(ms));
	TAILQ_INSERT_TAIL(&questions, q, link);
	question_send(q);
	return q;
}

static void
sts_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	uint32_t tag = cursor_u32(&m->body);
	unsigned answer = cursor_u8(&m->body);
	struct view text = cursor_view(&m->body);
	struct view why = cursor_view(&m->body);
	struct relay_sts_question *q;
	struct sts_policy p;
	const char *bad;

	(void)arg;
	if (!chan_check(c, m))
		return;
	/* It is read again as strictly as sts has read it. */
	if (answer == 0 || answer >= STS_ANSWERS ||
	    (answer == STS_POLICY ? !sts_policy_read(text, &p, &bad) :
	    text.n > 0)) {
		chan_blame(c, "a policy that is none");
		return;
	}
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == c && q->tag == tag)
			break;
	/* It may have been cancelled. */
	if (q != NULL)
		question_answered(q, (enum sts_answer)answer,
		    answer == STS_POLICY ? &p : NULL, why);
}

static void
sts_on_close(struct chan *c, void *arg)
{
	struct sts_link *l = arg;
	struct relay_sts_question *q;

	TAILQ_REMOVE(&links, l, link);
	free(l);
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == c)
			question_send(q);
	chan_free(&c);
}

void
relay_sts_peer(const struct role_peer *peer, int fd)
{
	struct sts_link *l = mem_alloc(sizeof *l);
	struct relay_sts_question *q;

	l->generation = peer->generation;
	l->chan = chan_new(fd, ROLE_RELAY, ROLE_STS, peer->pid, sts_on_msg,
	    sts_on_close, l);
	TAILQ_INSERT_TAIL(&links, l, link);
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == NULL)
			question_send(q);
}
