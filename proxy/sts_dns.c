#include <stdlib.h>
#include <sys/queue.h>

#include "lib/mem.h"
#include "lib/peers.h"
#include "proxy/sts_dns.h"

struct sts_question {
	TAILQ_ENTRY(sts_question) link;
	struct chan *chan;	/* NULL: there is no lookup to ask */
	uint32_t tag;
	enum fact_dns type;
	char *name;
	sts_dns_done *done;
	void *arg;
};

static TAILQ_HEAD(, sts_question) questions =
    TAILQ_HEAD_INITIALIZER(questions);
static struct peers lookups;
static uint32_t last_tag;

static void
question_send(struct sts_question *q)
{
	struct buf *b;

	q->chan = peers_newest(&lookups);
	if (q->chan == NULL)
		return;
	b = chan_begin(q->chan, MSG_FACT);
	put_u32(b, q->tag);
	put_u8(b, FACT_DNS);
	put_u16(b, (uint16_t)q->type);
	put_view(b, view_of(q->name));
	put_u32(b, 0);
	put_view(b, view_make(NULL, 0));
	chan_end(q->chan);
}

static void
question_free(struct sts_question *q)
{
	TAILQ_REMOVE(&questions, q, link);
	free(q->name);
	free(q);
}

struct sts_question *
sts_dns_ask(enum fact_dns type, const char *name, sts_dns_done *done,
    void *arg)
{
	struct sts_question *q = mem_alloc(sizeof *q);

	*q = (struct sts_question){ .tag = ++last_tag, .type = type,
		.name = mem_strdup(name), .done = done, .arg = arg };
	TAILQ_INSERT_TAIL(&questions, q, link);
	question_send(q);
	return q;
}

void
sts_dns_cancel(struct sts_question **q)
{
	if (*q != NULL)
		question_free(*q);
	*q = NULL;
}

static void
dns_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	uint32_t tag = cursor_u32(&m->body);
	struct view answer = cursor_view(&m->body);
	struct facts facts = { 0 };
	struct sts_question *q;
	struct fact_name name;
	struct fact f;

	(void)arg;
	if (!chan_check(c, m))
		return;
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == c && q->tag == tag)
			break;
	if (q == NULL)
		return;		/* it was cancelled */
	name = (struct fact_name){ FACT_DNS, (uint16_t)q->type,
		view_of(q->name) };
	if (facts_add(&facts, SHELF_EVALUATION, &name, answer) &&
	    facts_find(&facts, &name, &f)) {
		q->done(&f, q->arg);
		question_free(q);
	} else {
		chan_blame(c, "an answer that is none");
	}
	facts_free(&facts);
}

static void
dns_on_close(struct chan *c, void *arg)
{
	struct sts_question *q;

	(void)arg;
	peers_remove(&lookups, c);
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == c)
			question_send(q);
	chan_free(&c);
}

void
sts_dns_peer(enum role_kind self, const struct role_peer *peer, int fd)
{
	struct sts_question *q;
	struct chan *c;

	c = chan_new(fd, self, ROLE_LOOKUP, peer->pid, dns_on_msg,
	    dns_on_close, NULL);
	peers_add(&lookups, c, peer->generation);
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == NULL)
			question_send(q);
}
