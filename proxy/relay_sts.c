#include <stdlib.h>
#include <sys/queue.h>

#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/peers.h"
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

static TAILQ_HEAD(, relay_sts_question) questions =
    TAILQ_HEAD_INITIALIZER(questions);
static struct peers servers;
static uint32_t last_tag;

static void
question_send(struct relay_sts_question *q)
{
	struct buf *b;

	q->chan = peers_newest(&servers);
	if (q->chan == NULL)
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
	struct relay_sts_question *q;

	(void)arg;
	peers_remove(&servers, c);
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == c)
			question_send(q);
	chan_free(&c);
}

void
relay_sts_peer(const struct role_peer *peer, int fd)
{
	struct relay_sts_question *q;
	struct chan *c;

	c = chan_new(fd, ROLE_RELAY, ROLE_STS, peer->pid, sts_on_msg,
	    sts_on_close, NULL);
	peers_add(&servers, c, peer->generation);
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == NULL)
			question_send(q);
}
