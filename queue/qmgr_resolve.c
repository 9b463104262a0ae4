/* Recipients to destinations. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/master_cf.h"
#include "queue/qmgr.h"
#include "rules/table_remote.h"
#include "rules/verify_sender.h"

#define TRANSPORT_MAX	256u
#define NEXTHOP_MAX	2048u

/* The delivery log line for what no relay tried. */
static void
resolve_log(const struct message *m, const struct envelope *e, uint32_t i,
    const char *dsn, const char *status, const char *reason)
{
	int64_t now = clock_wall().us;
	struct view orig = e->rcpts[i].orig;

	log_info("%s: to=<%s>, %s%s%srelay=none, delay=%.2f, "
	    "delays=%.2f/%.2f/0/0, dsn=%s, status=%s (%s)", message_id(m),
	    log_safe(e->rcpts[i].addr), orig.n > 0 ? "orig_to=<" : "",
	    log_safe(orig), orig.n > 0 ? ">, " : "",
	    (double)(now - m->arrival.us) / 1e6,
	    (double)(m->active.us - m->arrival.us) / 1e6,
	    (double)(now - m->active.us) / 1e6, dsn, status, reason);
}

/* soft_bounce is about mail: a probe of an address is told what is. */
static void
resolve_settle(struct message *m, const struct envelope *e, uint32_t i,
    enum rcpt_status status, const char *dsn, const char *reason)
{
	static const char *const words[] = {
		[RCPT_SENT] = "sent",
		[RCPT_DELIVERED] = "sent",
		[RCPT_DEFERRED] = "deferred",
		[RCPT_BOUNCED] = "bounced",
	};
	char told[12];

	(void)snprintf(told, sizeof told, "%s", dsn);
	if (status == RCPT_BOUNCED && qmgr.cf->soft_bounce) {
		status = RCPT_DEFERRED;
		told[0] = '4';
	}
	resolve_log(m, e, i, told, words[status], log_safe(view_of(reason)));
	message_rcpt(m, i, status, view_of(told), view_of(reason),
	    view_of(""));
}

/* Where one recipient goes: a destination, or its fate without one. */
struct target {
	struct dest *dest;
	uint32_t rcpt;
	enum rcpt_status status;
	char dsn[12];
	char *reason;
};

static void
target_settled(struct target *t, enum rcpt_status status, const char *dsn,
    const char *reason)
{
	t->dest = NULL;
	t->status = status;
	(void)snprintf(t->dsn, sizeof t->dsn, "%s", dsn);
	t->reason = mem_strdup(reason);
}

/* "error:[x.y.z] text" of a table or a parameter: a status in front of the
 * text has the class of what happens. */
static void
target_error(struct target *t, enum rcpt_status what, const char *usual,
    struct view text)
{
	struct view first = view_head(text, view_find(text, ' '));
	char dsn[12], *reason;
	size_t i, dots = 0;

	for (i = 0; i < first.n; i++)
		if (first.p[i] == '.')
			dots++;
		else if (!isdigit((unsigned char)first.p[i]))
			break;
	(void)snprintf(dsn, sizeof dsn, "%s", usual);
	if (i == first.n && dots == 2 && first.n >= 5 &&
	    first.n < sizeof dsn && first.p[1] == '.' && first.n < text.n) {
		(void)snprintf(dsn, sizeof dsn, "%.*s", VIEW_ARGS(first));
		dsn[0] = usual[0];
		text = view_trim(view_from(text, first.n));
	}
	reason = mem_copy(text);
	target_settled(t, what, dsn, reason);
	free(reason);
}

static bool
resolve_route(const struct message *m, struct view sender, struct view addr,
    struct buf *transport, struct buf *nexthop)
{
	struct view t, h;

	if (m->tail.route.n == 0)
		return route_find(qmgr.router, sender, addr, transport,
		    nexthop) != TABLE_FAILED;
	route_split(m->tail.route, &t, &h);
	buf_clear(transport);
	buf_clear(nexthop);
	(void)buf_putv(transport, t);
	(void)buf_putv(nexthop, h.n > 0 ? h : address_domain(addr));
	return true;
}

/* With one recipient at a time, each is a destination: deliveries to several
 * recipients go on side by side, and limits and pauses are theirs. */
static struct dest *
resolve_dest(struct transport *t, const char *nexthop, struct view addr)
{
	struct dest *d;
	char *user, *p;

	if (transport_recipients(t) > 1)
		return sched_dest(t, nexthop, NULL);
	user = mem_copy(address_local(addr));
	for (p = user; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	d = sched_dest(t, nexthop, user);
	free(user);
	return d;
}

/* The destination of a recipient by transport and next hop. */
static void
target_find(struct target *ret, const struct recipient *r,
    struct buf *transport, struct buf *nexthop)
{
	struct transport *t;
	char *reason;

	services_name(transport);
	if (view_is(buf_view(transport), "error")) {
		target_error(ret, RCPT_BOUNCED, "5.0.0",
		    buf_view(nexthop));
		return;
	}
	if (view_is(buf_view(transport), "retry")) {
		target_error(ret, RCPT_DEFERRED, "4.0.0",
		    buf_view(nexthop));
		return;
	}
	if (view_is(buf_view(transport), "discard")) {
		target_settled(ret, (r->notify & NOTIFY_SUCCESS) != 0 ?
		    RCPT_DELIVERED : RCPT_SENT, "2.0.0", buf_cstr(nexthop));
		return;
	}
	if (services_find(buf_cstr(transport)) == NULL) {
		target_settled(ret, RCPT_DEFERRED, "4.3.0",
		    "mail transport unavailable");
		return;
	}
	t = dest_find_transport(buf_cstr(transport));
	if (transport_dead(t) != NULL) {
		target_settled(ret, RCPT_DEFERRED, "4.3.0",
		    transport_dead(t));
		return;
	}
	ret->dest = resolve_dest(t, buf_cstr(nexthop), r->addr);
	if (dest_dead_why(ret->dest) != NULL) {
		reason = mem_printf("delivery temporarily suspended: %s",
		    dest_dead_why(ret->dest));
		target_settled(ret, RCPT_DEFERRED, "4.4.1", reason);
		free(reason);
	}
}

static void
resolve_target(const struct message *m, struct view sender,
    const struct recipient *r, struct target *ret, struct buf *transport, struct buf *nexthop)
{
	if (notice_is_double(r->addr)) {
		target_settled(ret, RCPT_SENT, "2.0.0",
		    "undeliverable postmaster notification discarded");
		return;
	}
	if (verify_is_sender(r->addr)) {
		target_settled(ret, RCPT_SENT, "2.0.0",
		    "mail to the sender of address probes discarded");
		return;
	}
	if (!resolve_route(m, sender, r->addr, transport, nexthop)) {
		target_settled(ret, RCPT_DEFERRED, "4.3.0",
		    "address routing failed: table lookup error");
		return;
	}
	target_find(ret, r, transport, nexthop);
}

static struct dest *
probe_said(enum probe_result result, struct view text,
    enum probe_result *ret_result, struct buf *why)
{
	buf_clear(why);
	(void)buf_putv(why, text);
	*ret_result = result;
	return NULL;
}

/* All probes of a next hop share a destination, whatever the transport's
 * recipient limit: one for each address would be no limit. */
static struct dest *
probe_dest(struct buf *transport, struct buf *nexthop,
    enum probe_result *ret_result, struct buf *why)
{
	const struct service *s;
	struct transport *t;
	const char *name;
	struct dest *d;

	services_name(transport);
	name = buf_cstr(transport);
	if (strcmp(name, "error") == 0)
		return probe_said(PROBE_UNDELIVERABLE, buf_view(nexthop),
		    ret_result, why);
	if (strcmp(name, "discard") == 0)
		return probe_said(PROBE_DELIVERABLE, view_of(""), ret_result,
		    why);
	if (strcmp(name, "retry") == 0)
		return probe_said(PROBE_UNKNOWN, buf_view(nexthop),
		    ret_result, why);
	if ((s = services_find(name)) == NULL)
		return probe_said(PROBE_UNKNOWN, view_of("mail transport "
		    "unavailable"), ret_result, why);
	if (service_is_local(s))
		return probe_said(PROBE_DELIVERABLE, view_of("delivered on "
		    "this host"), ret_result, why);
	if (transport_dead(t = dest_find_transport(name)) != NULL)
		return probe_said(PROBE_UNKNOWN, view_of(transport_dead(t)),
		    ret_result, why);
	d = sched_dest(t, buf_cstr(nexthop), NULL);
	if (dest_dead_why(d) != NULL)
		return probe_said(PROBE_UNKNOWN, view_of(dest_dead_why(d)),
		    ret_result, why);
	return d;
}

struct dest *
resolve_probe(const struct router *router, struct view addr,
    enum probe_result *ret_result, struct buf *why)
{
	struct buf transport, nexthop, sender;
	struct dest *d;

	buf_init(&transport, TRANSPORT_MAX);
	buf_init(&nexthop, NEXTHOP_MAX);
	buf_init(&sender, 2 * ADDRESS_MAX);
	/* It goes where a message from it would. */
	verify_sender_put(qmgr.cf, clock_wall(), &sender);
	if (route_find(router, buf_view(&sender), addr, &transport,
	    &nexthop) == TABLE_FAILED)
		d = probe_said(PROBE_UNKNOWN, view_of("address routing "
		    "failed: table lookup error"), ret_result, why);
	else
		d = probe_dest(&transport, &nexthop, ret_result, why);
	buf_free(&sender);
	buf_free(&transport);
	buf_free(&nexthop);
	return d;
}

struct dest *
resolve_probe_loop(const struct dest *from, bool passed,
    enum probe_result *ret_result, struct buf *why)
{
	struct view way = services_best_mx(transport_name(
	    dest_transport(from)));
	struct buf transport, nexthop;
	struct dest *d;

	*ret_result = PROBE_UNKNOWN;
	if (passed || way.n == 0)
		return NULL;
	buf_init(&transport, TRANSPORT_MAX);
	buf_init(&nexthop, NEXTHOP_MAX);
	route_put(way, view_of(dest_nexthop(from)), &transport, &nexthop);
	d = probe_dest(&transport, &nexthop, ret_result, why);
	buf_free(&transport);
	buf_free(&nexthop);
	return d;
}

struct targets {
	struct arena *arena;
	struct envelope env;
	struct target *list;
	uint32_t n;
	struct buf transport, nexthop;	/* of the one that is looked at */
};

/* None yet, but room for all recipients of m. */
static void
targets_begin(const struct message *m, struct targets *ts)
{
	/* What the clock made alive again shall be. */
	sched_wake(qmgr.sched, loop_now());
	ts->arena = arena_new(m->tail.envelope.n * 16 + 65536);
	message_envelope(m, ts->arena, &ts->env);
	ts->list = mem_array(ts->env.nrcpts, sizeof *ts->list);
	ts->n = 0;
	buf_init(&ts->transport, TRANSPORT_MAX);
	buf_init(&ts->nexthop, NEXTHOP_MAX);
}

/* All open recipients of m; nothing of m changes. */
static void
targets_find(const struct message *m, struct targets *ts)
{
	uint32_t i;

	targets_begin(m, ts);
	for (i = 0; i < ts->env.nrcpts; i++) {
		if (m->status[i] != SPOOL_OPEN)
			continue;
		if (table_known_full())
			break;
		ts->list[ts->n].rcpt = i;
		resolve_target(m, ts->env.sender, &ts->env.rcpts[i],
		    &ts->list[ts->n++], &ts->transport, &ts->nexthop);
	}
}

static void
targets_free(struct targets *ts)
{
	uint32_t i;

	for (i = 0; i < ts->n; i++)
		free(ts->list[i].reason);
	free(ts->list);
	buf_free(&ts->transport);
	buf_free(&ts->nexthop);
	arena_free(&ts->arena);
}

static int
target_order(const void *a, const void *b)
{
	const struct target *x = a, *y = b;

	if (x->dest != y->dest)
		return (uintptr_t)x->dest < (uintptr_t)y->dest ? -1 : 1;
	return x->rcpt < y->rcpt ? -1 : x->rcpt > y->rcpt;
}

/* Senders take turns; case is not worth a second turn. */
static uint32_t
sender_hash(struct view sender)
{
	uint32_t h = 2166136261u;
	size_t i;

	for (i = 0; i < sender.n; i++)
		h = (h ^ (uint32_t)tolower((unsigned char)sender.p[i])) *
		    16777619u;
	return h;
}

void
resolve_rehearse(const struct message *m)
{
	struct targets ts;

	targets_find(m, &ts);
	targets_free(&ts);
}

/* With what tables behind connections said about m. */
static void
targets_find_known(struct message *m, struct targets *ts)
{
	struct table_need need;

	table_known_begin(m->tables);
	targets_find(m, ts);
	/* Nothing is needed but what there are too many of: that failed. */
	(void)table_known_end(m->tables, &need);
}

/* Each is settled, or queued for its destination. */
static void
targets_use(struct message *m, struct targets *ts, uint32_t sender,
    bool passed)
{
	const struct target *t;
	uint32_t i, k, *list;

	for (i = 0; i < ts->n; i++) {
		t = &ts->list[i];
		if (t->dest == NULL)
			resolve_settle(m, &ts->env, t->rcpt, t->status,
			    t->dsn, t->reason);
	}
	if (ts->n > 1)
		qsort(ts->list, ts->n, sizeof *ts->list, target_order);
	list = mem_array(ts->n + 1u, sizeof *list);
	for (i = 0; i < ts->n; i = k) {
		for (k = i; k < ts->n && ts->list[k].dest == ts->list[i].dest;
		    k++)
			list[k - i] = ts->list[k].rcpt;
		if (ts->list[i].dest != NULL)
			dest_add(ts->list[i].dest, m, sender, passed, list,
			    k - i);
	}
	free(list);
}

void
resolve_message(struct message *m)
{
	struct targets ts;

	targets_find_known(m, &ts);
	tables_forget(m);
	targets_use(m, &ts, sender_hash(ts.env.sender), false);
	targets_free(&ts);
	if (m->n_entries == 0)
		message_finish(m);
}

/* It would not step aside (deliver_yield()), so it needs room. */
static void
target_needs_room(struct target *t)
{
	if (t->dest != NULL && sched_crowded(qmgr.active, qmgr.active_limit) &&
	    !dest_room(t->dest, dest_free_places()))
		target_settled(t, RCPT_DEFERRED, "4.3.2",
		    "too much mail waits for best_mx_transport");
}

void
resolve_loop(const struct entry *e, const uint32_t *rcpt, uint32_t n,
    const char *reason)
{
	struct message *m = e->message;
	struct view way = services_best_mx(transport_name(
	    dest_transport(e->dest)));
	const struct recipient *r;
	struct targets ts;
	struct target *t;

	/* Nothing more of it is begun: they stay open. */
	if (qmgr.stopping || qmgr.handed_over || m->wish != 0)
		return;
	targets_begin(m, &ts);
	for (; ts.n < n; ts.n++) {
		t = &ts.list[ts.n];
		t->rcpt = rcpt[ts.n];
		r = &ts.env.rcpts[t->rcpt];
		if (e->passed || way.n == 0) {
			target_settled(t, RCPT_BOUNCED, "5.4.6", reason);
			continue;
		}
		route_put(way, view_of(dest_nexthop(e->dest)), &ts.transport,
		    &ts.nexthop);
		log_info("%s: passing <%s> to transport=%s", message_id(m),
		    log_safe(r->addr), buf_cstr(&ts.transport));
		target_find(t, r, &ts.transport, &ts.nexthop);
		target_needs_room(t);
	}
	targets_use(m, &ts, e->sender, true);
	targets_free(&ts);
}

bool
resolve_no_room(struct message *m)
{
	struct targets ts;
	struct dest *d = NULL;
	uint32_t i;

	targets_find_known(m, &ts);
	for (i = 0; i < ts.n; i++) {
		d = ts.list[i].dest;
		if (d == NULL || dest_room(d, dest_free_places()))
			break;
	}
	if (i < ts.n || d == NULL) {
		targets_free(&ts);
		return false;
	}
	targets_free(&ts);
	message_step_aside(m, d);
	return true;
}

void
resolve_defer(const struct piece *p, const char *dsn, const char *why)
{
	struct message *m = p->entry->message;
	struct arena *a = arena_new(m->tail.envelope.n * 16 + 65536);
	struct envelope e;
	uint32_t i;

	message_envelope(m, a, &e);
	for (i = 0; i < p->n; i++)
		resolve_settle(m, &e, p->entry->rcpt[p->first + i],
		    RCPT_DEFERRED, dsn, why);
	arena_free(&a);
}
