#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "lib/mem.h"
#include "lib/sasl.h"
#include "proxy/relay_auth.h"

struct relay_credentials_question {
	TAILQ_ENTRY(relay_credentials_question) link;
	struct chan *chan;	/* NULL: there is no role to ask */
	uint32_t tag;
	struct relay_credentials_about about;
	relay_credentials_done *done;
	void *arg;
};

struct credentials_link {
	TAILQ_ENTRY(credentials_link) link;
	struct chan *chan;
	uint32_t generation;
};

static TAILQ_HEAD(, relay_credentials_question) questions =
    TAILQ_HEAD_INITIALIZER(questions);
static TAILQ_HEAD(, credentials_link) links = TAILQ_HEAD_INITIALIZER(links);
static uint32_t last_tag, age;

uint32_t
relay_credentials_age(void)
{
	return age;
}

/* The newest; NULL: there is none. */
static struct chan *
link_best(void)
{
	const struct credentials_link *l, *best = NULL;

	TAILQ_FOREACH(l, &links, link)
		if (best == NULL || l->generation >= best->generation)
			best = l;
	return best != NULL ? best->chan : NULL;
}

static void
question_send(struct relay_credentials_question *q)
{
	struct buf *b;

	q->chan = link_best();
	if (q->chan == NULL)
		return;
	b = chan_begin(q->chan, MSG_CREDENTIALS);
	put_u32(b, q->tag);
	put_view(b, q->about.sender);
	put_view(b, q->about.next_hop);
	put_view(b, q->about.host);
	put_u16(b, q->about.port);
	put_u8(b, q->about.refused);
	chan_end(q->chan);
}

void
relay_credentials_cancel(struct relay_credentials_question **qp)
{
	struct relay_credentials_question *q = *qp;

	*qp = NULL;
	if (q == NULL)
		return;
	TAILQ_REMOVE(&questions, q, link);
	free(q);
}

struct relay_credentials_question *
relay_credentials_ask(const struct relay_credentials_about *about,
    relay_credentials_done *done, void *arg)
{
	struct relay_credentials_question *q = mem_alloc(sizeof *q);

	*q = (struct relay_credentials_question){ .tag = ++last_tag,
		.about = *about, .done = done, .arg = arg };
	TAILQ_INSERT_TAIL(&questions, q, link);
	question_send(q);
	return q;
}

/* A newer role than the one that told may not have it any more: it finds
 * nothing by it then. */
void
relay_credentials_refused(const struct relay_credentials_about *about,
    const struct relay_credentials *c)
{
	struct chan *to = link_best();
	struct buf *b;

	if (to == NULL)
		return;
	b = chan_begin(to, MSG_LOGIN_REFUSED);
	put_view(b, about->host);
	put_u16(b, about->port);
	put_view(b, c->user);
	put_view(b, c->secret);
	put_view(b, view_head(c->why, SASL_REASON_MAX));
	chan_end(to);
}

static bool
text_good(struct view v, size_t max)
{
	return v.n > 0 && v.n <= max && memchr(v.p, '\0', v.n) == NULL;
}

static void
credentials_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	uint32_t tag = cursor_u32(&m->body);
	unsigned answer = cursor_u8(&m->body);
	struct relay_credentials is = { .user = cursor_view(&m->body),
		.secret = cursor_view(&m->body) };
	struct relay_credentials_question *q;
	relay_credentials_done *done;
	bool found;

	is.why = cursor_view(&m->body);
	if (!chan_check(c, m))
		return;
	found = answer == CREDENTIALS_PASSWORD || answer == CREDENTIALS_TOKEN;
	if (answer == 0 || answer >= CREDENTIALS_ANSWERS ||
	    is.why.n > SASL_REASON_MAX || (found ?
	    !sasl_login_good(is.user) ||
	    !text_good(is.secret, CREDENTIALS_SECRET_MAX) :
	    is.user.n > 0 || is.secret.n > 0)) {
		chan_blame(c, "a login that is none");
		return;
	}
	is.answer = (enum credentials)answer;
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == c && q->tag == tag)
			break;
	/* It may have been cancelled. */
	if (q == NULL)
		return;
	done = q->done;
	arg = q->arg;
	relay_credentials_cancel(&q);
	done(&is, arg);
}

static void
credentials_on_close(struct chan *c, void *arg)
{
	struct credentials_link *l = arg;
	struct relay_credentials_question *q;

	TAILQ_REMOVE(&links, l, link);
	free(l);
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == c)
			question_send(q);
	chan_free(&c);
}

void
relay_credentials_peer(const struct role_peer *peer, int fd)
{
	struct credentials_link *l = mem_alloc(sizeof *l);
	struct relay_credentials_question *q;

	age++;
	l->generation = peer->generation;
	l->chan = chan_new(fd, ROLE_RELAY, ROLE_CREDENTIALS, peer->pid,
	    credentials_on_msg, credentials_on_close, l);
	chan_secret(l->chan);
	TAILQ_INSERT_TAIL(&links, l, link);
	TAILQ_FOREACH(q, &questions, link)
		if (q->chan == NULL)
			question_send(q);
}
