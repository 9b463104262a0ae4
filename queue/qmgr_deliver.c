/* Recipients to destinations, entries to relays, answers back. */
#include <stdio.h>
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/master_cf.h"
#include "queue/qmgr.h"

#define RELAY_DEPTH	500u	/* deliveries in one relay at once */

struct relay {
	struct relay *next;
	struct chan *chan;
	unsigned busy;
	bool old;
	uint32_t generation;
};

static struct relay *relays;
static uint64_t last_delivery;

/* Deliveries in progress, by number: a ring would do, were they in order. */
#define HASH	1024u
struct underway {
	struct underway *next;
	struct entry *entry;
};
static struct underway *hash[HASH];

static struct service_table *services;

void
deliver_load(void)
{
	services = master_cf_load(qmgr.cf->config_directory, log_report_errors,
	    NULL);
	if (services == NULL)
		fatal("cannot read master.cf");
}

/* A transport that an SMTP client process serves. */
static bool
deliver_by_relay(const char *transport)
{
	const struct service *s;
	size_t i;

	for (i = 0; i < services->n; i++) {
		s = &services->list[i];
		if (strcmp(s->name, transport) == 0 &&
		    strcmp(s->type, "unix") == 0)
			return strcmp(s->command, "smtp") == 0 ||
			    strcmp(s->command, "relay") == 0;
	}
	return false;
}

/* The delivery log line for what no relay tried. */
static void
deliver_log(const struct message *m, const struct envelope *e, uint32_t i,
    const char *dsn, const char *status, const char *reason)
{
	int64_t now = clock_wall().us;

	log_info("%s: to=<%s>, relay=none, delay=%.2f, delays=%.2f/%.2f/0/0, "
	    "dsn=%s, status=%s (%s)", message_id(m),
	    log_safe(e->rcpts[i].addr),
	    (double)(now - m->arrival.us) / 1e6,
	    (double)(m->active.us - m->arrival.us) / 1e6,
	    (double)(now - m->active.us) / 1e6, dsn, status, reason);
}

static void
deliver_settle(struct message *m, const struct envelope *e, uint32_t i,
    enum rcpt_status status, const char *dsn, const char *reason)
{
	static const char *const words[] = {
		[RCPT_SENT] = "sent",
		[RCPT_DELIVERED] = "sent",
		[RCPT_DEFERRED] = "deferred",
		[RCPT_BOUNCED] = "bounced",
	};

	deliver_log(m, e, i, dsn, words[status],
	    log_safe(view_of(reason)));
	message_rcpt(m, i, status, view_of(dsn), view_of(reason),
	    view_of(""));
}

struct target {
	struct dest *dest;
	uint32_t rcpt;
};

static int
target_order(const void *a, const void *b)
{
	const struct target *x = a, *y = b;

	if (x->dest != y->dest)
		return (uintptr_t)x->dest < (uintptr_t)y->dest ? -1 : 1;
	return x->rcpt < y->rcpt ? -1 : x->rcpt > y->rcpt;
}

/* One recipient: its destination, or settled at once and NULL. */
static struct dest *
deliver_target(struct message *m, const struct envelope *e, uint32_t i,
    struct buf *transport, struct buf *nexthop)
{
	struct view t, h;
	struct dest *d;
	const char *why;
	char *reason;

	if (notice_is_double(e->rcpts[i].addr)) {
		deliver_settle(m, e, i, RCPT_SENT, "2.0.0",
		    "undeliverable postmaster notification discarded");
		return NULL;
	}
	if (m->tail.route.n > 0) {
		route_split(m->tail.route, &t, &h);
		buf_clear(transport);
		buf_clear(nexthop);
		(void)buf_putv(transport, t);
		(void)buf_putv(nexthop, h.n > 0 ? h :
		    address_domain(e->rcpts[i].addr));
	} else if (route_find(qmgr.router, e->rcpts[i].addr, transport,
	    nexthop) == TABLE_FAILED) {
		deliver_settle(m, e, i, RCPT_DEFERRED, "4.3.0",
		    "address routing failed: table lookup error");
		return NULL;
	}
	if (view_is(buf_view(transport), "error")) {
		deliver_settle(m, e, i, RCPT_BOUNCED, "5.0.0",
		    buf_cstr(nexthop));
		return NULL;
	}
	if (view_is(buf_view(transport), "discard")) {
		deliver_settle(m, e, i,
		    (e->rcpts[i].notify & NOTIFY_SUCCESS) != 0 ?
		    RCPT_DELIVERED : RCPT_SENT, "2.0.0", buf_cstr(nexthop));
		return NULL;
	}
	if (!deliver_by_relay(buf_cstr(transport))) {
		deliver_settle(m, e, i, RCPT_DEFERRED, "4.3.0",
		    "mail transport unavailable");
		return NULL;
	}
	d = dest_get(buf_cstr(transport), buf_cstr(nexthop));
	why = dest_dead(d);
	if (why != NULL) {
		reason = mem_printf("delivery temporarily suspended: %s",
		    why);
		deliver_settle(m, e, i, RCPT_DEFERRED, "4.4.1", reason);
		free(reason);
		return NULL;
	}
	return d;
}

static uint32_t
deliver_limit(const struct dest *d)
{
	char *name = mem_printf("%s_destination_recipient_limit",
	    dest_transport(d));
	int64_t n = conf_number(qmgr.cf, view_of(name),
	    qmgr.cf->default_destination_recipient_limit);

	free(name);
	return n < 1 ? 1 : n > 1000 ? 1000 : (uint32_t)n;
}

void
deliver_resolve(struct message *m)
{
	struct arena *a = arena_new(m->tail.envelope.n * 16 + 65536);
	struct buf transport, nexthop;
	struct target *targets;
	struct envelope e;
	uint32_t i, k, n = 0, limit, *list;

	message_envelope(m, a, &e);
	buf_init(&transport, 256);
	buf_init(&nexthop, 2048);
	targets = mem_array(e.nrcpts, sizeof *targets);
	for (i = 0; i < e.nrcpts; i++) {
		if (m->status[i] != '.')
			continue;
		targets[n].dest = deliver_target(m, &e, i, &transport,
		    &nexthop);
		targets[n].rcpt = i;
		if (targets[n].dest != NULL)
			n++;
	}
	if (n > 1)
		qsort(targets, n, sizeof *targets, target_order);
	list = mem_array(n, sizeof *list);
	for (i = 0; i < n; i = k) {
		limit = deliver_limit(targets[i].dest);
		for (k = i; k < n && k - i < limit &&
		    targets[k].dest == targets[i].dest; k++)
			list[k - i] = targets[k].rcpt;
		dest_add(targets[i].dest, m, list, k - i);
	}
	free(list);
	free(targets);
	buf_free(&transport);
	buf_free(&nexthop);
	arena_free(&a);
	if (m->n_entries == 0)
		message_finish(m);
}

static void
entry_free(struct entry *e)
{
	struct message *m = e->message;
	struct entry **p;

	for (p = &m->entries; *p != e; p = &(*p)->sibling)
		ensure(*p != NULL);
	*p = e->sibling;
	m->n_entries--;
	free(e);
}

void
deliver_suspended(struct entry *entry, const char *why)
{
	struct message *m = entry->message;
	struct arena *a = arena_new(m->tail.envelope.n * 16 + 65536);
	struct envelope e;
	char *reason = mem_printf("delivery temporarily suspended: %s", why);
	uint32_t i;

	message_envelope(m, a, &e);
	for (i = 0; i < entry->n; i++)
		deliver_settle(m, &e, entry->rcpt[i], RCPT_DEFERRED, "4.4.1",
		    reason);
	free(reason);
	arena_free(&a);
	entry_free(entry);
	if (m->n_entries == 0)
		message_finish(m);
}

static struct relay *
relay_pick(void)
{
	struct relay *r, *best = NULL;

	for (r = relays; r != NULL; r = r->next)
		if (!r->old && r->busy < RELAY_DEPTH &&
		    (best == NULL || r->busy < best->busy))
			best = r;
	return best;
}

static void
deliver_give(struct relay *r, struct entry *e)
{
	struct message *m = e->message;
	struct underway *u = mem_alloc(sizeof *u), **slot;
	struct buf *b;
	uint32_t i;

	e->relay = r;
	e->delivery = ++last_delivery;
	r->busy++;
	slot = &hash[e->delivery % HASH];
	u->entry = e;
	u->next = *slot;
	*slot = u;
	b = chan_begin(r->chan, MSG_DELIVER);
	put_u64(b, e->delivery);
	put_u64(b, m->known.id.n);
	put_view(b, view_of(dest_transport(e->dest)));
	put_view(b, view_of(dest_nexthop(e->dest)));
	put_u64(b, m->text_offset);
	put_u64(b, m->text_size);
	put_view(b, m->tail.edits);
	put_u64(b, (uint64_t)m->arrival.us);
	put_u64(b, (uint64_t)m->active.us);
	put_u32(b, e->n);
	for (i = 0; i < e->n; i++)
		put_u32(b, e->rcpt[i]);
	put_view(b, m->tail.envelope);
	chan_put_fd(r->chan, m->fd, true);
	chan_end(r->chan);
}

static void
deliver_unreadable(struct entry *e)
{
	struct dest *d = e->dest;

	dest_returned(d);
	deliver_suspended(e, "the queue file cannot be read");
}

void
deliver_schedule(void *arg)
{
	struct relay *r;
	struct entry *e;

	(void)arg;
	if (qmgr.stopping || qmgr.handed_over)
		return;
	while ((r = relay_pick()) != NULL && (e = dest_next()) != NULL) {
		if (message_text(e->message) < 0)
			deliver_unreadable(e);
		else
			deliver_give(r, e);
	}
}

/* Take the entry of a delivery out of those underway. */
static struct entry *
deliver_take(struct relay *r, uint64_t delivery)
{
	struct underway **p, *u;
	struct entry *e;

	for (p = &hash[delivery % HASH]; (u = *p) != NULL; p = &u->next)
		if (u->entry->delivery == delivery && u->entry->relay == r) {
			e = u->entry;
			*p = u->next;
			free(u);
			r->busy--;
			e->relay = NULL;
			return e;
		}
	return NULL;
}

static bool
entry_has(const struct entry *e, uint32_t rcpt)
{
	uint32_t i;

	for (i = 0; i < e->n; i++)
		if (e->rcpt[i] == rcpt)
			return true;
	return false;
}

struct outcome {
	uint32_t index;
	uint8_t status;
	struct view dsn, reason, mta;
};

static void
relay_delivered(struct relay *r, struct chan_in *in)
{
	struct cursor *c = &in->body;
	uint64_t delivery = cursor_u64(c);
	uint8_t trouble = cursor_u8(c);
	struct view why = cursor_view(c);
	uint32_t n = cursor_u32(c), i;
	struct outcome *o;
	struct message *m;
	struct entry *e;
	struct dest *d;
	bool ok = true;

	if (c->bad || n > 1000 || trouble < TROUBLE_NONE ||
	    trouble > TROUBLE_ROUTE) {
		chan_blame(r->chan, "bad delivery report");
		return;
	}
	o = mem_array(n, sizeof *o);
	for (i = 0; i < n; i++) {
		o[i].index = cursor_u32(c);
		o[i].status = cursor_u8(c);
		o[i].dsn = cursor_view(c);
		o[i].reason = cursor_view(c);
		o[i].mta = cursor_view(c);
		ok = ok && o[i].status >= RCPT_SENT &&
		    o[i].status <= RCPT_EXPANDED;
	}
	e = ok && cursor_done(c) ? deliver_take(r, delivery) : NULL;
	/* Every recipient exactly once, and no other. */
	ok = e != NULL && n == e->n;
	m = e != NULL ? e->message : NULL;
	for (i = 0; ok && i < n; i++)
		ok = entry_has(e, o[i].index);
	if (!ok) {
		free(o);
		if (e != NULL) {
			dest_returned(e->dest);
			deliver_suspended(e, "relay process failed");
		}
		chan_blame(r->chan, "bad delivery report");
		return;
	}
	for (i = 0; i < n; i++) {
		if (m->status[o[i].index] != '.')
			continue;	/* named twice */
		message_rcpt(m, o[i].index, o[i].status, o[i].dsn,
		    o[i].reason, o[i].mta);
	}
	d = e->dest;
	entry_free(e);
	dest_ended(d, trouble, why);
	free(o);
	if (m->n_entries == 0)
		message_finish(m);
	loop_soon(&qmgr.schedule);
}

static void
relay_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	if (in->type == MSG_DELIVERED)
		relay_delivered(arg, in);
	else
		chan_blame(c, "unexpected message");
}

static void
relay_on_close(struct chan *c, void *arg)
{
	struct relay *r = arg, **p;
	struct underway *u, *next;
	struct entry *e;
	struct dest *d;
	unsigned i;

	(void)c;
	if (r->busy > 0)
		log_warn("a relay ended with %u deliveries underway",
		    r->busy);
	for (i = 0; i < HASH; i++)
		for (u = hash[i]; u != NULL; u = next) {
			next = u->next;
			if (u->entry->relay != r)
				continue;
			e = deliver_take(r, u->entry->delivery);
			ensure(e != NULL);
			d = e->dest;
			dest_returned(d);
			deliver_suspended(e, "relay process ended");
			next = hash[i];		/* the list has changed */
		}
	for (p = &relays; *p != r; p = &(*p)->next)
		;
	*p = r->next;
	chan_free(&r->chan);
	free(r);
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
	r->chan = chan_new(fd, ROLE_QMGR, ROLE_RELAY, peer->pid,
	    relay_on_msg, relay_on_close, r);
	for (old = relays; old != NULL; old = old->next)
		if (old->generation < r->generation)
			old->old = true;
	r->next = relays;
	relays = r;
	/* An old relay closes the channel itself when it has finished; one
	 * without work is let go here. */
	loop_soon(&let_go);
	loop_soon(&qmgr.schedule);
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
