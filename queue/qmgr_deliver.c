/* Pieces of messages to relays, answers back. */
#include <fcntl.h>
#include <stdlib.h>

#include "lib/log.h"
#include "queue/qmgr.h"

#define RELAY_DEPTH	500u	/* deliveries in one relay at once */
#define RELAY_PROBES	(RELAY_DEPTH / 4)	/* of them, probes at most */
#define UNSENT_MAX	(8u << 20)	/* bytes it has not read yet */
#define LATE_MS		5000	/* a relay reports so late, or never will */
#define TICK_MS		2000

struct relay {
	struct relay *next;
	struct chan *chan;
	unsigned busy, probes;
	bool old;
	bool hung;		/* is being ended */
	uint32_t generation;
	uint32_t service;	/* which transports: service_relays() */
	enum role_kind kind;
	struct writer *writer;	/* local's expansions; NULL: a relay */
};

static struct relay *relays;
static uint64_t last_delivery;

/* Deliveries in progress, by number: a ring would do, were they in order. */
#define HASH	1024u
struct underway {
	struct underway *next;
	uint64_t delivery;
	struct relay *relay;
	struct piece piece;
	struct mono since;
};
static struct underway *hash[HASH];

/* Runs while there is no relay to give anything to. */
static struct event alone_timer;
static bool alone;
/* Runs while relays have something. */
static struct event watch_timer;
static bool watching;

void
deliver_suspended(const struct piece *p, const char *dsn, const char *why)
{
	struct message *m = p->entry->message;

	resolve_defer(p, dsn, why);
	if (entry_finished(p->entry))
		dest_drop(p->entry);
	if (m->n_entries == 0)
		message_finish(m);
}

/* Can it take another piece? */
static bool
relay_takes(const struct relay *r)
{
	return !r->old && !r->hung && r->busy + r->probes < RELAY_DEPTH &&
	    chan_unsent(r->chan) < UNSENT_MAX;
}

static struct relay *
relay_pick(uint32_t service)
{
	struct relay *r, *best = NULL;

	for (r = relays; r != NULL; r = r->next)
		if (relay_takes(r) && r->service == service &&
		    (best == NULL ||
		    r->busy + r->probes < best->busy + best->probes))
			best = r;
	return best;
}

/* -- relays that do not answer --------------------------------------------- */

/*
 * A relay breaks off what takes too long, and reports that.  One that does not
 * report is ended, by master; what it had counts as when it died.
 */
void
relay_hung(const struct chan *c)
{
	struct relay *r;

	for (r = relays; r != NULL; r = r->next)
		if (r->chan == c && !r->hung) {
			r->hung = true;
			chan_blame(r->chan, "no report in time");
		}
}

bool
relay_late(struct mono since, int64_t limit_ms, struct mono now)
{
	return mono_since(since, now) / 1000 > limit_ms + LATE_MS;
}

static void
watch_tick(evutil_socket_t fd, short what, void *arg)
{
	struct mono now = clock_mono();
	const struct underway *u;
	const struct relay *r;
	bool busy = false;
	size_t i;

	(void)fd;
	(void)what;
	(void)arg;
	for (i = 0; i < HASH; i++)
		for (u = hash[i]; u != NULL; u = u->next)
			if (relay_late(u->since, qmgr.cf->daemon_timeout,
			    now))
				relay_hung(u->relay->chan);
	probe_check(now);
	proxy_check(now);
	for (r = relays; r != NULL; r = r->next)
		busy = busy || r->busy > 0 || r->probes > 0;
	watching = busy;
	if (busy)
		event_add(&watch_timer, loop_timeout(TICK_MS));
}

static void
relay_watch(void)
{
	if (watching)
		return;
	watching = true;
	event_add(&watch_timer, loop_timeout(TICK_MS));
}

/* -- places in relays ------------------------------------------------------ */

struct chan *
relay_take_probe(uint32_t service)
{
	struct relay *r = relay_pick(service);

	/* Probes of dead servers must leave places to mail. */
	if (r == NULL || r->probes >= RELAY_PROBES)
		return NULL;
	r->probes++;
	relay_watch();
	return r->chan;
}

void
relay_put_probe(const struct chan *c)
{
	struct relay *r;

	for (r = relays; r != NULL; r = r->next)
		if (r->chan == c) {
			ensure(r->probes > 0);
			r->probes--;
		}
}

struct chan *
relay_take_proxy(void)
{
	struct relay *r = relay_pick(0);

	if (r == NULL)
		return NULL;
	r->busy++;
	relay_watch();
	return r->chan;
}

void
relay_put_proxy(const struct chan *c)
{
	struct relay *r;

	for (r = relays; r != NULL; r = r->next)
		if (r->chan == c) {
			ensure(r->busy > 0);
			r->busy--;
		}
}

/*
 * The envelope with the recipients of the piece only, so that the cost of a
 * list of 10,000 is not paid for each of its pieces by the relay.  What the
 * relay calls recipient i is entry->rcpt[first + i].
 */
static void
deliver_put_envelope(struct buf *b, const struct piece *p)
{
	const struct message *m = p->entry->message;
	struct arena *a;
	struct recipient *some;
	struct envelope e;
	struct buf env;
	uint32_t i;

	put_u32(b, p->n);
	for (i = 0; i < p->n; i++)
		put_u32(b, i);
	if (p->n == m->tail.nrcpts) {
		put_view(b, m->tail.envelope);
		return;
	}
	a = arena_new(m->tail.envelope.n * 16 + 65536);
	message_envelope(m, a, &e);
	some = mem_array(p->n, sizeof *some);
	for (i = 0; i < p->n; i++)
		some[i] = e.rcpts[p->entry->rcpt[p->first + i]];
	e.rcpts = some;
	e.nrcpts = p->n;
	buf_init(&env, SPOOL_TAIL_MAX);
	if (!envelope_put(&env, &e))
		panic("%s: envelope over its maximum", message_id(m));
	put_view(b, buf_view(&env));
	buf_free(&env);
	free(some);
	arena_free(&a);
}

/* text: a descriptor for the relay. */
static void
deliver_give(struct relay *r, const struct piece *p, int text)
{
	const struct dest *d = p->entry->dest;
	struct message *m = p->entry->message;
	struct underway *u = mem_alloc(sizeof *u), **slot;
	struct buf *b;

	r->busy++;
	relay_watch();
	u->delivery = ++last_delivery;
	u->relay = r;
	u->piece = *p;
	u->since = loop_now();
	slot = &hash[u->delivery % HASH];
	u->next = *slot;
	*slot = u;
	b = chan_begin(r->chan, MSG_DELIVER);
	put_u64(b, u->delivery);
	put_u64(b, m->known.id.n);
	put_view(b, view_of(transport_name(dest_transport(d))));
	qpool_put_nexthop(b, d);
	put_u64(b, m->text_offset);
	put_u64(b, m->text_size);
	put_view(b, m->tail.edits);
	put_u64(b, (uint64_t)m->arrival.us);
	put_u64(b, (uint64_t)m->active.us);
	put_u64(b, (uint64_t)qmgr.cf->daemon_timeout);
	deliver_put_envelope(b, p);
	chan_put_fd(r->chan, text, false);
	chan_end(r->chan);
}

/* A piece that was given away and not delivered. */
static void
deliver_undone(const struct piece *p, const char *why)
{
	sched_returned(p->entry);
	deliver_suspended(p, "4.4.1", why);
}

/* A piece for a pool that has no server.  False: it has some. */
static bool
deliver_no_pool(const struct piece *p)
{
	const char *why = qpool_unusable(p->entry->dest);
	char *text;

	if (why == NULL)
		return false;
	text = mem_printf("%s: %s", dest_nexthop(p->entry->dest), why);
	sched_returned(p->entry);
	deliver_suspended(p, "4.3.2", text);
	free(text);
	return true;
}

static void
deliver_look(struct transport *t, void *arg)
{
	const struct relay *r;
	unsigned room = 0;

	(void)arg;
	for (r = relays; r != NULL; r = r->next)
		if (r->service == transport_relays(t) && relay_takes(r))
			room += RELAY_DEPTH - r->busy - r->probes;
	transport_set_room(t, room);
}

/* False: none has a place.  Where all relays serve all transports, the
 * transports need not be looked at. */
static bool
deliver_room(uint32_t service)
{
	const struct relay *r;

	if (relay_pick(service) != NULL)
		return true;
	if (!qmgr.relays_differ)
		return false;
	sched_each_transport(qmgr.sched, deliver_look, NULL);
	for (r = relays; r != NULL; r = r->next)
		if (relay_takes(r))
			return true;
	return false;
}

static void relay_look_alone(void);

void
deliver_schedule(void *arg)
{
	uint32_t service = 0;
	struct relay *r;
	struct piece p;
	int fd;

	(void)arg;
	if (qmgr.stopping || qmgr.handed_over)
		return;
	dest_wake();
	probe_schedule();
	if (qmgr.relays_differ) {
		sched_each_transport(qmgr.sched, deliver_look, NULL);
		relay_look_alone();
	}
	while (deliver_room(service) && sched_next(qmgr.sched, &p)) {
		service = transport_relays(dest_transport(p.entry->dest));
		r = relay_pick(service);
		ensure(r != NULL);
		if (deliver_no_pool(&p))
			continue;
		fd = message_text(p.entry->message);
		if (fd >= 0)
			fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (fd >= 0)
			deliver_give(r, &p, fd);
		else
			deliver_undone(&p, "the queue file cannot be read");
	}
	dest_wake();
}

/* Take a delivery out of those underway. */
static bool
deliver_take(struct relay *r, uint64_t delivery, struct underway *ret)
{
	struct underway **p, *u;

	for (p = &hash[delivery % HASH]; (u = *p) != NULL; p = &u->next)
		if (u->delivery == delivery && u->relay == r) {
			*ret = *u;
			*p = u->next;
			free(u);
			r->busy--;
			return true;
		}
	return false;
}

struct outcome {
	uint32_t index;
	uint8_t status;
	struct view dsn, reason, mta;
};

/* Every recipient of the piece exactly once, and no other. */
static bool
outcomes_match(const struct outcome *o, uint32_t n, const struct piece *p)
{
	bool *seen, ok = n == p->n;
	uint32_t i;

	if (!ok)
		return false;
	seen = mem_array(n + 1u, sizeof *seen);
	for (i = 0; ok && i < n; i++) {
		ok = o[i].index < n && !seen[o[i].index];
		if (ok)
			seen[o[i].index] = true;
	}
	free(seen);
	return ok;
}

/*
 * All of m that still waits is for destinations that have more than their
 * share of the active queue: what they cannot take now leaves room to others.
 * What was passed stays: it would come back as what loops.
 */
static void
deliver_yield(struct message *m)
{
	const struct entry *e;

	if (!sched_crowded(qmgr.active, qmgr.active_limit))
		return;
	for (e = m->entries; e != NULL; e = e->sibling)
		if (e->busy > 0 || e->passed ||
		    dest_room(e->dest, dest_free_places() + 1))
			return;
	dest_forget(m);
}

/* Those whose best MX is this host. */
static void
deliver_loops(const struct piece *p, const struct outcome *o)
{
	uint32_t i, n = 0, *list = mem_array(p->n + 1u, sizeof *list);
	char *reason = NULL;

	for (i = 0; i < p->n; i++) {
		if (o[i].status != RCPT_LOOPED)
			continue;
		list[n++] = p->entry->rcpt[p->first + o[i].index];
		if (reason == NULL)
			reason = mem_copy(o[i].reason);
	}
	if (n > 0)
		resolve_loop(p->entry, list, n, reason);
	free(reason);
	free(list);
}

static void
deliver_done(struct underway *u, const struct outcome *o,
    enum delivery_trouble trouble, struct view why)
{
	struct entry *e = u->piece.entry;
	struct message *m = e->message;
	struct dest *d = e->dest;
	uint32_t i;
	bool died;

	for (i = 0; i < u->piece.n; i++)
		if (o[i].status != RCPT_LOOPED)
			message_rcpt(m, e->rcpt[u->piece.first + o[i].index],
			    o[i].status, o[i].dsn, o[i].reason, o[i].mta);
	deliver_loops(&u->piece, o);
	died = dest_ended(e, trouble, why, mono_since(u->since, loop_now()));
	if (entry_finished(e))
		dest_drop(e);
	if (m->n_entries > 0 && !died)
		deliver_yield(m);
	if (m->n_entries == 0)
		message_finish(m);
	if (died)
		dest_died(d);
}

static void
relay_delivered(struct relay *r, struct chan_in *in)
{
	struct cursor *c = &in->body;
	uint64_t delivery = cursor_u64(c);
	uint8_t trouble = cursor_u8(c);
	struct view why = cursor_view(c);
	uint32_t n = cursor_u32(c), i;
	struct underway u;
	struct outcome *o;
	bool ok = true;

	if (c->bad || n > 1000 || trouble < TROUBLE_NONE ||
	    trouble > TROUBLE_ROUTE) {
		chan_blame(r->chan, "bad delivery report");
		return;
	}
	o = mem_array(n + 1u, sizeof *o);
	for (i = 0; i < n; i++) {
		o[i].index = cursor_u32(c);
		o[i].status = cursor_u8(c);
		o[i].dsn = cursor_view(c);
		o[i].reason = cursor_view(c);
		o[i].mta = cursor_view(c);
		ok = ok && o[i].status >= RCPT_SENT && o[i].status <=
		    (r->kind == ROLE_RELAY ? RCPT_LOOPED : RCPT_EXPANDED);
	}
	ok = ok && cursor_done(c) && deliver_take(r, delivery, &u);
	if (ok && !outcomes_match(o, n, &u.piece)) {
		deliver_undone(&u.piece, "relay process failed");
		ok = false;
	}
	if (ok)
		deliver_done(&u, o, trouble, why);
	else
		chan_blame(r->chan, "bad delivery report");
	free(o);
}

static void
relay_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	if (in->type == MSG_DELIVERED)
		relay_delivered(arg, in);
	else if (in->type == MSG_PROBED)
		probe_ended(c, in);
	else if (in->type == MSG_HOP)
		qpool_heard(c, in);
	else if (in->type == MSG_PROXY_SAID)
		proxy_said(c, in);
	else if (((struct relay *)arg)->writer != NULL)
		writer_said(((struct relay *)arg)->writer, in);
	else
		chan_blame(c, "unexpected message");
}

static unsigned
relay_usable(void)
{
	const struct relay *r;
	unsigned n = 0;

	for (r = relays; r != NULL; r = r->next)
		n += !r->old;
	return n;
}

static bool
relay_serves(uint32_t service)
{
	const struct relay *r;

	for (r = relays; r != NULL; r = r->next)
		if (!r->old && r->service == service)
			return true;
	return false;
}

static void
relay_look_unserved(struct transport *t, void *arg)
{
	bool *unserved = arg;

	*unserved = *unserved || !relay_serves(transport_relays(t));
}

/* A relay that died is back in a moment; mail waits that long. */
static void
relay_look_alone(void)
{
	bool was = alone;

	alone = relay_usable() == 0;
	sched_each_transport(qmgr.sched, relay_look_unserved, &alone);
	sched_places(qmgr.sched, relay_usable() * RELAY_DEPTH);
	if (alone && !was)
		event_add(&alone_timer,
		    loop_timeout(qmgr.cf->transport_retry_time));
	if (!alone && was) {
		event_del(&alone_timer);
		sched_revive_transports(qmgr.sched);
	}
}

static void
relay_still_alone(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	if (qmgr.stopping || qmgr.handed_over)
		return;
	log_warn("no relay process for %lld s: mail is deferred",
	    (long long)(qmgr.cf->transport_retry_time / 1000));
	dest_no_relays(relay_serves);
	event_add(&alone_timer, loop_timeout(qmgr.cf->transport_retry_time));
}

void
relay_init(void)
{
	evtimer_assign(&alone_timer, loop_base(), relay_still_alone, NULL);
	evtimer_assign(&watch_timer, loop_base(), watch_tick, NULL);
	relay_look_alone();
}

static void
relay_on_close(struct chan *c, void *arg)
{
	struct relay *r = arg, **p;
	struct underway *u, gone;
	unsigned i;

	probe_relay_gone(c);
	proxy_relay_gone(c);
	if (r->busy > 0)
		log_warn("a relay ended with %u deliveries underway",
		    r->busy);
	for (i = 0; i < HASH && r->busy > 0; i++)
		for (u = hash[i]; u != NULL;) {
			if (u->relay != r) {
				u = u->next;
				continue;
			}
			ensure(deliver_take(r, u->delivery, &gone));
			deliver_undone(&gone.piece, "relay process ended");
			u = hash[i];		/* the list has changed */
		}
	for (p = &relays; *p != r; p = &(*p)->next)
		;
	*p = r->next;
	if (r->writer != NULL)
		writer_detach(r->writer);
	chan_free(&r->chan);
	free(r);
	relay_look_alone();
	qmgr_check_end();
}

static void
relay_let_go(void *arg)
{
	struct relay *r, *next;

	(void)arg;
	for (r = relays; r != NULL; r = next) {
		next = r->next;
		if (r->old && r->busy == 0)
			relay_on_close(r->chan, r);
	}
}

void
relay_peer(const struct role_peer *peer, int fd)
{
	static struct loop_work let_go = { .fn = relay_let_go };
	struct relay *r = mem_alloc(sizeof *r), *old;

	r->generation = peer->generation;
	r->service = peer->service;
	r->kind = peer->kind;
	r->chan = chan_new(fd, ROLE_QMGR, peer->kind, peer->pid,
	    relay_on_msg, relay_on_close, r);
	if (r->kind == ROLE_LOCAL)
		r->writer = writer_attach(r->chan, r->kind);
	for (old = relays; old != NULL; old = old->next)
		if (old->kind == r->kind &&
		    old->generation < r->generation)
			old->old = true;
	r->next = relays;
	relays = r;
	/* An old relay closes the channel itself when it has finished; one
	 * without work is let go here. */
	loop_soon(&let_go);
	relay_look_alone();
	loop_soon(&qmgr.schedule);
	proxy_schedule();
}

bool
relay_busy(void)
{
	const struct relay *r;

	for (r = relays; r != NULL; r = r->next)
		if (r->busy > 0)
			return true;
	return false;
}

void
relay_status(struct buf *b)
{
	const struct relay *r;
	unsigned n = 0, busy = 0;

	for (r = relays; r != NULL; r = r->next) {
		n++;
		busy += r->busy;
	}
	(void)buf_printf(b, "relays %u\ndelivering %u\n", n, busy);
}
