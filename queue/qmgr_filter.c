/* Verdicts: messages to the filters, judgements back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/log.h"
#include "queue/qmgr.h"
#include "rules/rewrite.h"

/*
 * How many messages one filter has at a time.  It works through them one by
 * one, so more would only wait there instead of here.
 */
#define FILTER_DEPTH	64u
#define TICK_MS		1000

struct filter {
	struct filter *next;
	struct chan *chan;
	uint32_t generation;
	bool old;		/* newer rules are there: no new work */
	bool hung;		/* is being ended */
	unsigned pending;
	/* What it has, in the order it works through it; the first one that
	 * does not wait for a table since busy. */
	struct message *first;
	struct mono busy;
};


static const char late_text[] = "no verdict within filter_time_limit";
static enum late_action late_action;
static struct filter *filters;
static struct message *waiting, **waiting_end = &waiting;
static unsigned n_waiting;
static struct event timer;
static bool timer_set;

static void filter_let_go(void *arg);
static struct loop_work let_go = { .fn = filter_let_go };

void
filter_load(void)
{
	late_action = conf_choice("filter_timeout_action",
	    view_of(qmgr.cf->filter_timeout_action));
	/* Rules that take too long do not stop mail either. */
	if (qmgr.cf->soft_mode)
		late_action = LATE_ACCEPT;
	split_load();
}

static struct filter *
filter_pick(void)
{
	struct filter *f, *best = NULL;

	for (f = filters; f != NULL; f = f->next)
		if (f->pending < FILTER_DEPTH && !f->old && !f->hung &&
		    (best == NULL || f->pending < best->pending))
			best = f;
	return best;
}

/* -- too late --------------------------------------------------------------- */

/* In front of all that came later. */
static void
waiting_return(struct message *m)
{
	m->next = waiting;
	if (waiting == NULL)
		waiting_end = &m->next;
	waiting = m;
	n_waiting++;
}

/*
 * The client has waited long enough.  Its message may be taken without a look
 * at its text; its addresses are still rewritten, by a filter that does
 * nothing else with it.
 */
static void
filter_late(struct message *m)
{
	if (late_action == LATE_TEMPFAIL || m->unchecked) {
		log_warn("%s: %s", message_id(m), late_text);
		writer_failed(m, 451, "4.3.0",
		    "Error: content filter is slow");
		return;
	}
	log_warn("%s: %s: %s", message_id(m), late_text,
	    late_action == LATE_HOLD ? "held" : "accepted unchecked");
	m->unchecked = true;
	m->since = loop_now();
	waiting_return(m);
}

static bool
filter_too_long(struct mono since, struct mono now)
{
	return mono_since(since, now) / 1000 >= qmgr.cf->filter_time_limit;
}

static void
filter_check_waiting(struct mono now)
{
	struct message **p = &waiting, *m, *late = NULL;

	while ((m = *p) != NULL) {
		if (!filter_too_long(m->since, now)) {
			p = &m->next;
			continue;
		}
		*p = m->next;
		n_waiting--;
		m->next = late;
		late = m;
	}
	waiting_end = p;
	/* The oldest is the last one here, and the first in line again. */
	while ((m = late) != NULL) {
		late = m->next;
		m->next = NULL;
		filter_late(m);
	}
}

static void filter_give(void);

/* f is done with m, or will never be, or is not waited for. */
static void
filter_take_back(struct filter *f, struct message *m)
{
	struct message **p = &f->first;

	while (*p != m)
		p = &(*p)->next;
	*p = m->next;
	m->next = NULL;
	m->filter = NULL;
	m->table_waits = false;
	f->pending--;
}

/* What it works at; NULL: all that it has waits for tables. */
static struct message *
filter_current(const struct filter *f)
{
	struct message *m;

	for (m = f->first; m != NULL && m->table_waits; m = m->next)
		;
	return m;
}

static void
filter_check(struct filter *f, struct mono now)
{
	struct message *m, *next, *current = filter_current(f);

	if (f->hung)
		return;
	if (current != NULL && filter_too_long(f->busy, now)) {
		/* Nothing that it has would ever be judged. */
		f->hung = true;
		chan_blame(f->chan, late_text);
		return;
	}
	/* The current one has not had its time there yet. */
	for (m = f->first; m != NULL; m = next) {
		next = m->next;
		if (m != current && filter_too_long(m->since, now)) {
			filter_take_back(f, m);
			filter_late(m);
		}
	}
}

static void
filter_tick(evutil_socket_t fd, short what, void *arg)
{
	struct mono now = clock_mono();
	struct filter *f;

	(void)fd;
	(void)what;
	(void)arg;
	for (f = filters; f != NULL; f = f->next)
		filter_check(f, now);
	filter_check_waiting(now);
	filter_give();
	event_add(&timer, loop_timeout(TICK_MS));
}

static void
filter_send(struct filter *f, struct message *m)
{
	int text = message_readable(m);
	struct message **p;
	struct buf *b;

	if (text < 0) {
		log_error("%s: text: %s", message_id(m), strerror(errno));
		writer_failed(m, 451, "4.3.0", "Error: queue file read error");
		return;
	}
	b = chan_begin(f->chan, MSG_FILTER);
	put_u64(b, m->known.id.n);
	put_u64(b, m->text_offset);
	put_u64(b, m->text_size);
	put_u8(b, m->unchecked);
	put_view(b, m->tail.envelope);
	chan_put_fd(f->chan, text, false);
	chan_end(f->chan);
	m->filter = f;
	if (filter_current(f) == NULL)
		f->busy = loop_now();
	for (p = &f->first; *p != NULL; p = &(*p)->next)
		;
	*p = m;
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
		event_add(&timer, loop_timeout(TICK_MS));
	}
}

/* NULL: it was late. */
static struct message *
filter_message(const struct filter *f, struct queue_id id)
{
	struct message *m = message_find(id);

	return m == NULL || m->known.state != M_JUDGING || m->filter != f ?
	    NULL : m;
}

/* One that is judged again is what the filter works at now. */
static void
filter_waits(struct filter *f, struct chan *c, struct chan_in *in)
{
	struct queue_id id = { cursor_u64(&in->body) };
	bool waits = cursor_u8(&in->body) != 0;
	struct message *m;

	if (!chan_check(c, in) || (m = filter_message(f, id)) == NULL)
		return;
	filter_take_back(f, m);
	m->next = f->first;
	f->first = m;
	m->filter = f;
	m->table_waits = waits;
	f->pending++;
	f->busy = loop_now();
}

static void
filter_one(struct message *m, const struct judgement *judged)
{
	struct judgement j = *judged;

	if (m->unchecked && late_action == LATE_HOLD &&
	    j.verdict.action == ACTION_OK)
		j.verdict = (struct verdict){ .action = ACTION_HOLD,
			.text = view_of(late_text) };
	asked_judged(m, &j);
}

/* f has judged m; n judgements are in body.  False: they are none. */
static bool
filter_take(struct filter *f, struct message *m, uint32_t n,
    struct view body)
{
	struct split_part parts[SPOOL_PARTS_MAX];
	struct arena *a = arena_new(body.n * 50 +
	    m->tail.envelope.n * 32 + SPLIT_ARENA);
	struct cursor c;
	bool ok;

	/* It may be needed when the message from the filter is gone. */
	if (n > 1)
		body = arena_copy(a, body);
	c = cursor_of(body);
	if (n == 1) {
		ok = cursor_u32(&c) == 0 && judgement_get(cursor_view(&c),
		    m->text_size, a, &parts[0].judged) && cursor_done(&c);
	} else
		ok = n > 1 && n <= SPOOL_PARTS_MAX && !m->unchecked &&
		    !m->internal && split_get(m, body, parts, n, a);
	if (ok) {
		filter_take_back(f, m);
		f->busy = loop_now();
		if (n > 1) {
			split_judged(m, parts, n, a);
			return true;
		}
		filter_one(m, &parts[0].judged);
	}
	arena_free(&a);
	return ok;
}

static void
filter_judged(struct filter *f, struct chan *c, struct chan_in *in)
{
	struct queue_id id = { cursor_u64(&in->body) };
	uint32_t n = cursor_u32(&in->body);
	struct view body = cursor_bytes(&in->body, cursor_left(&in->body));
	struct message *m;

	if (!chan_check(c, in) || (m = filter_message(f, id)) == NULL)
		return;
	if (!filter_take(f, m, n, body)) {
		chan_blame(c, "bad judgement");
		return;
	}
	if (f->old)
		loop_soon(&let_go);
	filter_give();
}

static void
filter_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	if (in->type == MSG_FILTERED)
		filter_judged(arg, c, in);
	else if (in->type == MSG_FILTER_WAITS)
		filter_waits(arg, c, in);
	else
		chan_blame(c, "unexpected message");
}

/*
 * It may be the current text that ended the filter, or that it does not come
 * to an end with, so that one goes to no other: its client comes back later,
 * or it is late.  The others go to the next filter.
 */
static void
filter_lost(struct filter *f)
{
	struct message *m, *last = NULL;

	if ((m = filter_current(f)) != NULL) {
		filter_take_back(f, m);
		if (f->hung)
			filter_late(m);
		else
			writer_failed(m, 451, "4.3.0",
			    "Error: content filter failed");
	}
	/* Turned round, and back. */
	while ((m = f->first) != NULL) {
		filter_take_back(f, m);
		m->next = last;
		last = m;
	}
	while ((m = last) != NULL) {
		last = m->next;
		waiting_return(m);
	}
}

static void
filter_on_close(struct chan *c, void *arg)
{
	struct filter *f = arg, **p;

	(void)c;
	if (f->pending > 0)
		log_warn("a filter ended with %u messages unjudged",
		    f->pending);
	filter_lost(f);
	for (p = &filters; *p != f; p = &(*p)->next)
		;
	*p = f->next;
	chan_free(&f->chan);
	free(f);
	filter_give();
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
