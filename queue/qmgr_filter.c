/* Verdicts: messages to the filters, judgements back. */
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/qmgr.h"
#include "rules/rewrite.h"

/*
 * How many messages one filter has at a time.  It works through them one by
 * one, so more would only wait there instead of here.
 */
#define FILTER_DEPTH	64u

struct filter {
	struct filter *next;
	struct chan *chan;
	uint32_t generation;
	bool old;		/* newer rules are there: no new work */
	unsigned pending;
};

static struct filter *filters;
static struct message *waiting, **waiting_end = &waiting;
static unsigned n_waiting;
static struct event timer;
static bool timer_set;

static void filter_let_go(void *arg);
static struct loop_work let_go = { .fn = filter_let_go };

static struct filter *
filter_pick(void)
{
	struct filter *f, *best = NULL;

	for (f = filters; f != NULL; f = f->next)
		if (f->pending < FILTER_DEPTH && !f->old &&
		    (best == NULL || f->pending < best->pending))
			best = f;
	return best;
}

static void
filter_late(struct known *k, void *arg)
{
	struct message *m = (struct message *)k;
	const struct mono *now = arg;

	if (k->state != M_JUDGING || mono_since(m->since, *now) / 1000 <
	    qmgr.cf->filter_time_limit)
		return;
	log_warn("%s: no verdict within filter_time_limit", message_id(m));
	filter_forget(m);
	writer_failed(m, 451, "4.3.0", "Error: content filter is slow");
}

static void
filter_tick(evutil_socket_t fd, short what, void *arg)
{
	struct mono now = clock_mono();

	(void)fd;
	(void)what;
	(void)arg;
	known_each(filter_late, &now);
	event_add(&timer, loop_timeout(5000));
}

/* Give up on a message that a filter has or that waits for one. */
void
filter_forget(struct message *m)
{
	struct message **p;

	if (m->filter != NULL) {
		m->filter->pending--;
		m->filter = NULL;
		return;
	}
	for (p = &waiting; *p != NULL; p = &(*p)->next)
		if (*p == m) {
			*p = m->next;
			if (*p == NULL)
				waiting_end = p;
			n_waiting--;
			m->next = NULL;
			return;
		}
}

static void
filter_send(struct filter *f, struct message *m)
{
	struct buf *b = chan_begin(f->chan, MSG_FILTER);

	put_u64(b, m->known.id.n);
	put_u64(b, m->text_offset);
	put_u64(b, m->text_size);
	put_view(b, m->tail.envelope);
	/* A duplicate of a memfd could be written, were it not sealed. */
	chan_put_fd(f->chan, m->fd, true);
	chan_end(f->chan);
	m->filter = f;
	f->pending++;
}

static void
filter_give(void)
{
	struct filter *f;
	struct message *m;

	while (waiting != NULL && (f = filter_pick()) != NULL) {
		m = waiting;
		waiting = m->next;
		if (waiting == NULL)
			waiting_end = &waiting;
		m->next = NULL;
		n_waiting--;
		filter_send(f, m);
	}
}

void
filter_submit(struct message *m)
{
	static const struct judgement accept = {
		.verdict = { .action = ACTION_OK } };

	/* Of mail of our own only addresses are rewritten. */
	if (m->internal && !rewrite_configured(qmgr.cf)) {
		asked_judged(m, &accept);
		return;
	}
	message_enter(m, M_JUDGING);
	m->next = NULL;
	*waiting_end = m;
	waiting_end = &m->next;
	n_waiting++;
	filter_give();
	if (!timer_set) {
		timer_set = true;
		evtimer_assign(&timer, loop_base(), filter_tick, NULL);
		event_add(&timer, loop_timeout(5000));
	}
}

static void
filter_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	struct filter *f = arg;
	struct queue_id id = { cursor_u64(&in->body) };
	struct view encoded = cursor_view(&in->body);
	struct message *m;
	struct judgement j;
	struct arena *a;

	if (in->type != MSG_FILTERED) {
		chan_blame(c, "unexpected message");
		return;
	}
	if (!chan_check(c, in))
		return;
	m = message_find(id);
	if (m == NULL || m->known.state != M_JUDGING || m->filter != f)
		return;		/* it was late */
	a = arena_new(encoded.n * 16 + 65536);
	if (!judgement_get(encoded, m->text_size, a, &j)) {
		arena_free(&a);
		chan_blame(c, "bad judgement");
		return;
	}
	f->pending--;
	m->filter = NULL;
	asked_judged(m, &j);
	arena_free(&a);
	if (f->old)
		loop_soon(&let_go);
	filter_give();
}

static void
filter_lost(struct known *k, void *arg)
{
	struct message *m = (struct message *)k;

	if (k->state != M_JUDGING || m->filter != arg)
		return;
	/* It may be this very text that ended the filter, so another one is
	 * not tried: the client comes back later. */
	m->filter = NULL;
	writer_failed(m, 451, "4.3.0", "Error: content filter failed");
}

static void
filter_on_close(struct chan *c, void *arg)
{
	struct filter *f = arg, **p;

	(void)c;
	if (f->pending > 0)
		log_warn("a filter ended with %u messages unjudged",
		    f->pending);
	known_each(filter_lost, f);
	for (p = &filters; *p != f; p = &(*p)->next)
		;
	*p = f->next;
	chan_free(&f->chan);
	free(f);
}

/* An old filter that has finished is let go; it exits when its last queue
 * manager does so. */
static void
filter_let_go(void *arg)
{
	struct filter *f, *next;

	(void)arg;
	for (f = filters; f != NULL; f = next) {
		next = f->next;
		if (f->old && f->pending == 0)
			filter_on_close(f->chan, f);
	}
}

void
filter_peer(const struct role_peer *peer, int fd)
{
	struct filter *f = mem_alloc(sizeof *f), *old;

	f->generation = peer->generation;
	f->chan = chan_new(fd, ROLE_QMGR, ROLE_FILTER, peer->pid,
	    filter_on_msg, filter_on_close, f);
	/* New messages are judged by new rules only. */
	for (old = filters; old != NULL; old = old->next)
		if (old->generation < f->generation)
			old->old = true;
	f->next = filters;
	filters = f;
	loop_soon(&let_go);
	filter_give();
}

void
filter_status(struct buf *b)
{
	const struct filter *f;
	unsigned n = 0, pending = n_waiting;

	for (f = filters; f != NULL; f = f->next) {
		n++;
		pending += f->pending;
	}
	(void)buf_printf(b, "filters %u\njudging %u\n", n, pending);
}
