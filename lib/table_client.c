#include <stdlib.h>
#include <sys/queue.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/table_client.h"

struct table_link {
	struct chan *chan;
	uint32_t service, generation;
	uint32_t asked;		/* not yet answered */
	TAILQ_ENTRY(table_link) link;
};

struct table_question {
	struct table_link *to;	/* NULL: answered by the timer */
	uint32_t tag;
	table_done *done;
	void *arg;
	struct event timer;
	TAILQ_ENTRY(table_question) link;
};

/* A process has one role, so this is as static as its text. */
static struct {
	enum role_kind self;
	int64_t ms;
	uint32_t tag;
	bool ready;
	TAILQ_HEAD(, table_link) links;
	TAILQ_HEAD(, table_question) open;
} client;

void
table_client_init(enum role_kind self, int64_t ms)
{
	client.self = self;
	client.ms = ms;
	client.ready = true;
	TAILQ_INIT(&client.links);
	TAILQ_INIT(&client.open);
}

static void
question_end(struct table_question *q, enum table_reply reply,
    struct view value)
{
	table_done *done = q->done;
	void *arg = q->arg;

	table_client_cancel(&q);
	done(reply, value, arg);
}

void
table_client_cancel(struct table_question **qp)
{
	struct table_question *q = *qp;

	if (q == NULL)
		return;
	*qp = NULL;
	event_del(&q->timer);
	TAILQ_REMOVE(&client.open, q, link);
	free(q);
}

static void
question_on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	question_end(arg, TABLE_REPLY_FAILED, view_make("", 0));
}

static uint32_t
links_newest(uint32_t service)
{
	const struct table_link *l;
	uint32_t newest = 0;

	TAILQ_FOREACH(l, &client.links, link)
		if (l->service == service && l->generation > newest)
			newest = l->generation;
	return newest;
}

static void
link_drop(struct table_link *l)
{
	TAILQ_REMOVE(&client.links, l, link);
	chan_free(&l->chan);
	free(l);
}

static void
link_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct table_link *l = arg;
	struct table_question *q;
	uint32_t tag = cursor_u32(&m->body);
	unsigned reply = cursor_u8(&m->body);
	struct view value = cursor_view(&m->body);

	if (!chan_check(c, m))
		return;
	if (m->type != MSG_TABLE_IS || reply < TABLE_REPLY_FOUND ||
	    reply > TABLE_REPLY_FAILED || value.n > TABLE_REPLY_MAX ||
	    (value.n > 0 && reply != TABLE_REPLY_FOUND)) {
		chan_blame(c, "a table's answer that is none");
		return;
	}
	if (l->asked > 0)
		l->asked--;
	TAILQ_FOREACH(q, &client.open, link)
		if (q->tag == tag && q->to == l)
			break;
	/* It may have been given up meanwhile. */
	if (q != NULL)
		question_end(q, (enum table_reply)reply, value);
	if (l->asked == 0 && l->generation < links_newest(l->service))
		link_drop(l);
}

/* Who asked over it hears that it failed, from the loop: he may free what
 * the caller still needs. */
static void
link_on_close(struct chan *c, void *arg)
{
	struct table_link *l = arg;
	struct table_question *q;

	(void)c;
	TAILQ_FOREACH(q, &client.open, link) {
		if (q->to != l)
			continue;
		q->to = NULL;
		event_active(&q->timer, EV_TIMEOUT, 0);
	}
	link_drop(l);
}

void
table_client_peer(const struct role_peer *peer, int fd)
{
	struct table_link *l, *next;

	if (!client.ready || peer->generation < links_newest(peer->service)) {
		close(fd);
		return;
	}
	l = mem_alloc(sizeof *l);
	l->service = peer->service;
	l->generation = peer->generation;
	l->chan = chan_new(fd, client.self, ROLE_TABLE, peer->pid,
	    link_on_msg, link_on_close, l);
	TAILQ_INSERT_HEAD(&client.links, l, link);
	for (l = TAILQ_NEXT(l, link); l != NULL; l = next) {
		next = TAILQ_NEXT(l, link);
		if (l->service == peer->service && l->asked == 0 &&
		    l->generation < peer->generation)
			link_drop(l);
	}
}

struct table_question *
table_client_ask(uint32_t service, struct view table, struct view key,
    table_done *done, void *arg)
{
	struct table_question *q = mem_alloc(sizeof *q);
	struct table_link *l;
	struct buf *b;

	ensure(client.ready);
	q->done = done;
	q->arg = arg;
	q->tag = ++client.tag;
	evtimer_assign(&q->timer, loop_base(), question_on_timer, q);
	TAILQ_INSERT_TAIL(&client.open, q, link);
	/* The newest is the first of its service. */
	TAILQ_FOREACH(l, &client.links, link)
		if (l->service == service)
			break;
	if (l == NULL || table.n > TABLE_NAME_MAX || key.n > TABLE_KEY_MAX) {
		event_active(&q->timer, EV_TIMEOUT, 0);
		return q;
	}
	q->to = l;
	l->asked++;
	b = chan_begin(l->chan, MSG_TABLE);
	put_u32(b, q->tag);
	put_view(b, table);
	put_view(b, key);
	put_u32(b, (uint32_t)client.ms);
	chan_end(l->chan);
	event_add(&q->timer, loop_timeout(client.ms));
	return q;
}
