/* Orders to the bounce role, which is started when first needed. */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/qmgr.h"

#define BOUNCE_TRIES	2u	/* after the bounce role died with it */
#define BOUNCE_DEPTH	32u	/* notifications being written at once */
/* What an order may take, beside the verdict on what was written. */
#define BOUNCE_MS	INT64_C(600000)
#define TICK_MS		2000
#define ORDER_SPARE	65536u	/* of an order, beside recipients */
#define ORDER_LINE	100u	/* of a recipient, beside the reason */

/*
 * There may be several: one that was replaced finishes what it has, and of one
 * that died we may hear only after its successor is here.
 */
struct bouncer {
	struct bouncer *next;
	struct chan *chan;
	unsigned underway;
	struct mono busy;	/* since it got the first, or finished one */
};

static struct bouncer *bouncers, *newest;
static struct message *waiting, **waiting_end = &waiting;
static struct event ask_timer, watch_timer;
static bool asked, watching;

/* Without a master none is started any more: what waits is for the next queue
 * manager, as after a crash. */
static bool
bounce_hopeless(void)
{
	return newest == NULL && role_control() == NULL;
}

static void
bounce_give_up(void *arg)
{
	(void)arg;
	qmgr_check_end();
}

static void
bounce_ask(evutil_socket_t fd, short what, void *arg)
{
	static struct loop_work give_up = { .fn = bounce_give_up };
	struct buf *b;

	(void)fd;
	(void)what;
	(void)arg;
	asked = false;
	if (newest != NULL || waiting == NULL)
		return;
	if (bounce_hopeless()) {
		loop_soon(&give_up);
		return;
	}
	b = chan_begin(role_control(), MSG_WANT);
	put_u8(b, ROLE_BOUNCE);
	chan_end(role_control());
	/* Until it comes: master may be throttling it. */
	asked = true;
	evtimer_assign(&ask_timer, loop_base(), bounce_ask, NULL);
	event_add(&ask_timer, loop_timeout(5000));
}

/* A role that does not write them is ended, by master; then another one is
 * asked. */
static void
bounce_watch(evutil_socket_t fd, short what, void *arg)
{
	int64_t most = BOUNCE_MS + qmgr.cf->filter_time_limit;
	struct bouncer *o, *hung = NULL;

	(void)fd;
	(void)what;
	(void)arg;
	if (most > qmgr.cf->daemon_timeout)
		most = qmgr.cf->daemon_timeout;
	watching = false;
	for (o = bouncers; o != NULL; o = o->next) {
		watching = watching || o->underway > 0;
		if (o->underway > 0 &&
		    mono_since(o->busy, clock_mono()) / 1000 > most)
			hung = o;
	}
	if (watching)
		event_add(&watch_timer, loop_timeout(TICK_MS));
	if (hung != NULL)
		chan_blame(hung->chan, "no notification in time");
}

static void
bounce_watch_soon(void)
{
	if (watching)
		return;
	watching = true;
	evtimer_assign(&watch_timer, loop_base(), bounce_watch, NULL);
	event_add(&watch_timer, loop_timeout(TICK_MS));
}

/* One line of the order: a recipient and what became of it. */
static void
bounce_put(struct buf *b, uint32_t index, enum rcpt_status fate,
    const struct failure *f, size_t max)
{
	put_u32(b, index);
	put_u8(b, (uint8_t)fate);
	put_view(b, view_head(view_of(f != NULL ? f->status : "2.0.0"), 12));
	put_view(b, view_head(view_of(f != NULL ? f->reason :
	    "the details were lost when the system was restarted"), max));
	put_view(b, view_head(view_of(f != NULL ? f->mta : ""), 64));
}

static enum rcpt_status
bounce_fate(enum notice_kind kind)
{
	return kind == NOTICE_DELAY || kind == NOTICE_DELAY_COPY ?
	    RCPT_DEFERRED : RCPT_BOUNCED;
}

/* Recipients whose notice of success is due; what was said is known, unless
 * an earlier process heard it. */
static uint32_t
bounce_put_owed(struct buf *b, const struct message *m, size_t max)
{
	struct failure **of = mem_array(m->tail.nrcpts, sizeof *of);
	enum rcpt_status fate;
	uint32_t i, n = 0;

	for (i = 0; i < m->n_failures; i++)
		of[m->failures[i].index] = &m->failures[i];
	for (i = 0; i < m->tail.nrcpts; i++) {
		if (!spool_rcpt_owed(m->status[i]))
			continue;
		fate = m->status[i] == SPOOL_DELIVERED ? RCPT_DELIVERED :
		    m->status[i] == SPOOL_EXPANDED ? RCPT_EXPANDED :
		    RCPT_RELAYED;
		n++;
		if (b != NULL)
			bounce_put(b, i, fate, of[i], max);
	}
	free(of);
	return n;
}

static uint32_t
bounce_put_failures(struct buf *b, const struct message *m, size_t max)
{
	enum rcpt_status fate = bounce_fate(m->notice);
	uint32_t i, n = 0;

	for (i = 0; i < m->n_failures; i++) {
		if (m->failures[i].fate != fate)
			continue;
		n++;
		if (b != NULL)
			bounce_put(b, m->failures[i].index, fate,
			    &m->failures[i], max);
	}
	return n;
}

static uint32_t
bounce_put_outcomes(struct buf *b, const struct message *m, size_t max)
{
	return m->notice == NOTICE_SUCCESS ? bounce_put_owed(b, m, max) :
	    bounce_put_failures(b, m, max);
}

static struct wall
bounce_until(const struct message *m)
{
	struct arena *a = arena_new(m->tail.envelope.n * 16 + 65536);
	struct envelope e;
	struct wall until;

	message_envelope(m, a, &e);
	until = message_end_of_life(m, &e);
	arena_free(&a);
	return until;
}

static void
bounce_send(struct bouncer *to, struct message *m)
{
	uint32_t n = bounce_put_outcomes(NULL, m, 0);
	struct buf *b;
	size_t max;

	/* Reasons are cut where there are so many that the order would pass
	 * what a channel carries. */
	max = (CHAN_MSG_MAX - ORDER_SPARE - m->tail.envelope.n) /
	    (n > 0 ? n : 1u);
	max = max > ORDER_LINE ? max - ORDER_LINE : 0;
	b = chan_begin(to->chan, MSG_BOUNCE);
	put_u64(b, m->known.id.n);
	put_u8(b, (uint8_t)m->notice);
	put_u64(b, m->text_offset);
	put_u64(b, m->text_size);
	put_u64(b, (uint64_t)m->arrival.us);
	put_u64(b, (uint64_t)bounce_until(m).us);
	put_u64(b, (uint64_t)clock_wall().us);
	put_u32(b, n);
	(void)bounce_put_outcomes(b, m, max);
	put_view(b, m->tail.envelope);
	chan_put_fd(to->chan, m->fd, true);
	chan_end(to->chan);
	if (to->underway++ == 0)
		to->busy = loop_now();
	m->bouncer = to;
	bounce_watch_soon();
}

static void
bounce_give(void)
{
	struct message *m;

	while (newest != NULL && waiting != NULL &&
	    newest->underway < BOUNCE_DEPTH) {
		m = waiting;
		waiting = m->next;
		if (waiting == NULL)
			waiting_end = &waiting;
		m->next = NULL;
		if (message_text(m) < 0)
			message_bounced(m, false);
		else
			bounce_send(newest, m);
	}
	if (newest == NULL && waiting != NULL && !asked)
		bounce_ask(-1, 0, NULL);
}

static void
bounce_queue(struct message *m)
{
	m->bouncer = NULL;
	m->next = NULL;
	*waiting_end = m;
	waiting_end = &m->next;
}

void
bounce_submit(struct message *m)
{
	bounce_queue(m);
	bounce_give();
}

void
bounce_ready(struct chan *c)
{
	struct bouncer *o = mem_alloc(sizeof *o);

	o->chan = c;
	o->next = bouncers;
	bouncers = newest = o;
	bounce_give();
}

static void
bounce_lost(struct known *k, void *arg)
{
	struct message *m = (struct message *)k;

	if (k->state != M_BOUNCING || m->bouncer != arg)
		return;
	/* The notification may have been sealed already; then the sender gets
	 * two, which is better than none. */
	if (m->bounce_tries++ < BOUNCE_TRIES) {
		bounce_queue(m);
	} else {
		m->bouncer = NULL;
		message_bounced(m, false);
	}
}

static struct bouncer *
bounce_find(const struct chan *c)
{
	struct bouncer *o;

	for (o = bouncers; o != NULL && o->chan != c; o = o->next)
		;
	return o;
}

void
bounce_gone(struct chan *c)
{
	struct bouncer *o = bounce_find(c), **p;

	if (o == NULL)
		return;
	for (p = &bouncers; *p != o; p = &(*p)->next)
		;
	*p = o->next;
	/* Those before it are about to end. */
	if (newest == o)
		newest = NULL;
	known_each(bounce_lost, o);
	free(o);
	bounce_give();
}

void
bounce_done(struct chan *c, struct chan_in *in)
{
	struct queue_id id = { cursor_u64(&in->body) };
	bool ok = cursor_u8(&in->body) != 0;
	struct bouncer *o = bounce_find(c);
	struct message *m;

	(void)cursor_u64(&in->body);	/* the notification's id */

	if (!chan_check(c, in))
		return;
	m = message_find(id);
	if (o == NULL || m == NULL || m->known.state != M_BOUNCING ||
	    m->bouncer != o) {
		chan_blame(c, "notification that nobody asked for");
		return;
	}
	o->underway--;
	o->busy = loop_now();
	m->bouncer = NULL;
	message_bounced(m, ok);
	bounce_give();
}

bool
bounce_busy(void)
{
	const struct bouncer *o;

	for (o = bouncers; o != NULL; o = o->next)
		if (o->underway > 0)
			return true;
	return waiting != NULL && !bounce_hopeless();
}
