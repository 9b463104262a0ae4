#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_checks.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_generic.h"
#include "proxy/relay_lmtp.h"
#include "proxy/relay_proxy.h"
#include "proxy/relay_session.h"
#include "proxy/relay_tls.h"
#include "lib/table_client.h"
#include "rules/table_ask.h"

#define DELIVERY_MAGIC	0x44454c49u
#define RESTS_MAX	500u	/* each may need memory for addresses */
/* The message from qmgr (4 MB), a reason and a host for each recipient (15
 * MB at most), what each session needs; passing this would be our mistake. */
#define ARENA_MAX	(64u << 20)

static void
delivery_free(struct delivery *d)
{
	struct relay *r = d->relay;

	ensure(d->session == NULL);
	TAILQ_REMOVE(&r->deliveries, d, link);
	r->n_deliveries--;
	event_del(&d->timer);
	event_del(&d->deadline);
	relay_check_cancel(d);
	table_ask_cancel(&d->tables_asked);
	table_known_free(&d->tables);
	relay_tls_forget(d);
	loop_forget(&d->rest);
	if (d->fd >= 0)
		close(d->fd);
	arena_free(&d->arena);
	free(d->why);
	d->magic = 0;
	free(d);
}

static void
delivery_note(struct delivery *d, const char *dsn, const char *reason)
{
	free(d->why);
	d->why = mem_strdup(reason);
	(void)snprintf(d->why_dsn, sizeof d->why_dsn, "%s", dsn);
}

void
delivery_why(struct delivery *d, const char *dsn, const char *reason)
{
	d->soft = d->soft || dsn[0] == '4';
	delivery_note(d, dsn, reason);
}

void
delivery_trouble(struct delivery *d, enum delivery_trouble kind,
    const char *reason)
{
	if (kind == TROUBLE_LOST)
		delivery_hop_news(d, HOP_TROUBLE, reason);
	else if (kind != TROUBLE_NONE)
		d->hop_down = true;
	if (kind == TROUBLE_NONE)
		d->talked = true;
	/* A second server that is dead does not make the destination dead. */
	else if (d->talked && kind != TROUBLE_LOST)
		return;
	d->trouble = kind;
	if (reason != NULL)
		delivery_note(d, "4.4.2", reason);
}

static bool
delivery_at_last(const struct delivery *d)
{
	int64_t limit = d->relay->conf->smtp_mx_session_limit;

	return d->reused || d->next_address >= d->n_addresses ||
	    (limit > 0 && d->conversations >= limit);
}

bool
delivery_at_end(const struct delivery *d)
{
	struct view hops = d->hops, fallback = d->fallback;

	return delivery_at_last(d) && (d->last_hop ||
	    (conf_word(&hops).n == 0 &&
	    (d->reused || conf_word(&fallback).n == 0)));
}

bool
delivery_at_best(const struct delivery *d)
{
	return d->next_address > 0 &&
	    d->addresses[d->next_address - 1].preference ==
	    d->addresses[0].preference;
}

void
delivery_ready(struct delivery *d)
{
	d->times.ready = clock_wall();
	d->conversations++;
}

/*
 * What is final by the DNS or by a loop may be a mistake made here, or one next
 * hop of several may just be down: then mail waits instead of being returned.
 */
static void
delivery_soften(struct delivery *d)
{
	const char *who = d->fell_back ? "smtp_fallback_relay" :
	    view_is(view_trim(d->hop_list), d->relay->conf->relayhost) ?
	    "relayhost" : NULL;
	char *why;

	if (d->why_dsn[0] != '5' || d->proxy != NULL ||
	    (who == NULL && !d->soft))
		return;
	if (who == NULL) {
		d->why_dsn[0] = '4';
		return;
	}
	why = mem_printf("%s configuration problem: %s", who, d->why);
	log_warn("%s: %s", d->id, log_safe(view_of(why)));
	delivery_why(d, "4.3.5", why);
	free(why);
}

static void
delivery_finish(struct delivery *d)
{
	struct relay *r = d->relay;

	if (d->open > 0)
		delivery_soften(d);
	if (d->open > 0 && d->loops && d->why_dsn[0] == '5' &&
	    *r->conf->best_mx_transport != '\0')
		delivery_looped(d);
	if (d->open > 0)
		delivery_failed(d, WHOM_OPEN, 0, false, d->why_dsn, d->why);
	delivery_report(d);
	delivery_free(d);
	relay_look_for_end(r);
}

static bool
delivery_hop(const struct delivery *d, struct view text,
    struct relay_nexthop *ret)
{
	return d->relay->lmtp ? relay_lmtp_nexthop(text, d->relay->lmtp_port,
	    ret) : relay_nexthop_parse(text, ret);
}

/* The text of the next hop that comes after the present one. */
static struct view
delivery_hop_word(struct delivery *d)
{
	struct view word = conf_word(&d->hops);

	/* On a kept connection nothing shows that there is no way. */
	if (word.n > 0 || d->reused)
		return word;
	word = conf_word(&d->fallback);
	d->fell_back = d->fell_back || word.n > 0;
	return word;
}

/* The first next hop, or the one after that.  False: there is none. */
static bool
delivery_next_hop(struct delivery *d)
{
	struct view word;
	char *why;

	while (d->open > 0 && d->qmgr != NULL && !d->last_hop &&
	    (word = delivery_hop_word(d)).n > 0) {
		d->hop_down = d->hop_told = false;
		/* Kept connections are found under it. */
		d->hop_text = word;
		d->n_addresses = d->next_address = 0;
		d->conversations = 0;
		d->reused = false;
		if (delivery_hop(d, word, &d->hop))
			return true;
		why = mem_printf("bad next hop: %.*s",
		    VIEW_ARGS(view_head(word, 300)));
		log_warn("%s: %s", d->id, log_safe(view_of(why)));
		delivery_trouble(d, TROUBLE_ROUTE, why);
		delivery_why(d, "4.3.5", why);
		free(why);
	}
	return false;
}

static void delivery_secure(struct delivery *d);

/* With this next hop it came to nothing: the one after it takes over. */
static void
delivery_next(struct delivery *d)
{
	/* It has addresses, and none of them was good. */
	if (d->hop_down)
		delivery_hop_news(d, HOP_DOWN, d->why);
	if (!delivery_next_hop(d))
		delivery_finish(d);
	else
		delivery_secure(d);
}

void
delivery_go_on(struct delivery *d)
{
	const struct relay_address *to;
	char *why = NULL;
	bool local = false;

	ensure(d->magic == DELIVERY_MAGIC && d->session == NULL);
	d->times.ready.us = 0;
	while (d->open > 0 && d->qmgr != NULL && !delivery_at_last(d)) {
		to = &d->addresses[d->next_address++];
		if (session_open(d->relay, d, to, &why, &local) != NULL)
			return;
		d->plain = false;
		if (local) {
			log_warn("%s: %s", d->id, why);
		} else {
			log_info("%s", why);
			delivery_trouble(d, TROUBLE_CONNECT, why);
		}
		delivery_why(d, local ? "4.3.0" : "4.4.1", why);
		free(why);
	}
	delivery_next(d);
}

void
delivery_no_connection(struct delivery *d, const char *reason)
{
	log_info("%s", reason);
	delivery_trouble(d, TROUBLE_CONNECT, reason);
	delivery_why(d, "4.4.1", reason);
	delivery_go_on(d);
}

static void
delivery_no_route(struct delivery *d, const char *dsn, const char *reason)
{
	delivery_trouble(d, TROUBLE_ROUTE, reason);
	delivery_why(d, dsn, reason);
	delivery_next(d);
}

static void
delivery_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct delivery *d = arg;

	(void)fd;
	(void)what;
	d->tag = 0;
	delivery_no_route(d, "4.4.3", "name server lookup timed out");
}

/* In order, without those that are not used, at most the limit. */
static bool
delivery_order(struct delivery *d)
{
	const struct relay *r = d->relay;
	size_t limit = (size_t)r->conf->smtp_mx_address_limit;
	bool self = false, lost = false, named;
	char *why;

	d->n_addresses = relay_route_only(d->addresses, d->n_addresses,
	    r->family);
	relay_route_order(d->addresses, d->n_addresses, r->preferred,
	    r->conf->smtp_randomize_addresses);
	/* Those with a better preference than ours have no address. */
	lost = d->n_addresses > 0 && d->best < d->addresses[0].preference;
	/* Our own server listens on port 25, and nothing else is a loop. */
	if (d->hop.port == 25 && d->proxy == NULL)
		d->n_addresses = relay_route_drop_own(d->addresses,
		    d->n_addresses, r->own, r->n_own, &self);
	/* An MX of the domain must not send its mail to those behind it. */
	d->last_hop = self;
	d->loops = self && !lost && d->n_addresses == 0 && !r->lmtp &&
	    d->pool.n == 0;
	named = relay_tls_hosts(d);
	if (d->n_addresses == 0) {
		why = self && lost ? mem_printf(
		    "unable to find primary relay for %.*s",
		    VIEW_ARGS(d->hop.host)) :
		    self ? mem_printf("mail for %.*s loops back to myself",
		    VIEW_ARGS(d->hop.host)) :
		    mem_printf(named ? "no usable address for %.*s" :
		    "the MTA-STS policy of %.*s names no MX host",
		    VIEW_ARGS(d->hop.host));
		delivery_no_route(d, self && !lost ? "5.4.6" : "4.4.4",
		    why);
		free(why);
		return false;
	}
	if (limit > 0)
		d->n_addresses = relay_route_limit(d->addresses,
		    d->n_addresses, limit,
		    r->conf->smtp_balance_inet_protocols);
	return true;
}

void
delivery_routed(struct delivery *d, enum route_status status,
    struct view text, const struct relay_address *list, size_t n,
    uint16_t best)
{
	char *why;
	size_t i;

	d->tag = 0;
	event_del(&d->timer);
	if (n == 0 && status == ROUTE_OK)
		status = ROUTE_TEMPFAIL;
	if (status != ROUTE_OK) {
		why = mem_copy(view_head(text, DELIVERY_REASON_MAX));
		delivery_no_route(d, status == ROUTE_NOT_FOUND ? "5.4.4" :
		    status == ROUTE_NULL_MX ? "5.1.0" : "4.4.3", why);
		free(why);
		return;
	}
	if (n > RELAY_ADDRESSES_MAX)
		n = RELAY_ADDRESSES_MAX;
	d->addresses = arena_alloc(d->arena, n * sizeof *list);
	for (i = 0; i < n; i++) {
		d->addresses[i] = list[i];
		d->addresses[i].host = arena_copy(d->arena,
		    view_head(list[i].host, 255));
		if (list[i].addr.port == 0)
			d->addresses[i].addr.port = d->hop.port;
	}
	d->n_addresses = n;
	d->best = best;
	if (delivery_order(d))
		delivery_go_on(d);
}

/* Find out where to go. */
static void
delivery_route(struct delivery *d)
{
	char *why;

	if (d->hop.path.n > 0) {
		d->addresses = arena_alloc(d->arena, sizeof *d->addresses);
		d->addresses[0] = (struct relay_address){
			.host = view_of(d->relay->conf->myhostname) };
		d->n_addresses = 1;
		delivery_go_on(d);
		return;
	}
	if (d->hop.numeric) {
		d->addresses = arena_alloc(d->arena, sizeof *d->addresses);
		d->addresses[0] = (struct relay_address){
			.host = d->hop.host, .addr = d->hop.addr };
		d->n_addresses = 1;
		d->best = 0;
		if (delivery_order(d))
			delivery_go_on(d);
		return;
	}
	if (relay_ask_route(d->relay, d)) {
		event_add(&d->timer, loop_timeout(RELAY_ROUTE_TIMEOUT));
		return;
	}
	why = mem_printf("Host or domain name not found. Name service is not "
	    "available for name=%.*s", VIEW_ARGS(d->hop.host));
	delivery_no_route(d, "4.4.3", why);
	free(why);
}

/* What TLS the next hop must have is known. */
static void
delivery_secured(struct delivery *d, const char *why)
{
	if (why != NULL)
		delivery_no_route(d, "4.7.5", why);
	else if (d->proxy != NULL || !session_reuse(d->relay, d))
		delivery_route(d);
}

static void
delivery_secure(struct delivery *d)
{
	relay_tls_find(d, delivery_secured);
}

void
delivery_plain(struct delivery *d)
{
	d->session = NULL;
	d->plain = d->next_address-- > 0;
	delivery_go_on(d);
}

void
delivery_lookup_gone(struct delivery *d)
{
	d->tag = 0;
	d->asked = NULL;
	event_del(&d->timer);
	delivery_route(d);
}

void
delivery_again(struct delivery *d)
{
	uint32_t i;

	d->session = NULL;
	d->reused = false;
	d->n_addresses = d->next_address = 0;
	d->conversations = 0;
	d->times.ready.us = 0;
	for (i = 0; i < d->n_rcpts; i++)
		d->rcpts[i].accepted = false;
	/* Without a dot sent, an orphan has no session. */
	ensure(d->qmgr != NULL);
	delivery_route(d);
}

static void
delivery_on_rest(void *arg)
{
	struct delivery *d = arg;

	if (!session_reuse(d->relay, d))
		delivery_again(d);
}

/* Not at once: what else has come from the server must not be taken for
 * replies to what it is asked next. */
void
delivery_rest(struct delivery *d)
{
	ensure(d->session == NULL);
	if (d->rests++ < RESTS_MAX) {
		d->resting = true;
		loop_soon(&d->rest);
		return;
	}
	delivery_why(d, "4.5.3", "the server takes too few recipients at a "
	    "time");
	delivery_go_on(d);
}

/*
 * Each step has its time, but steps may be many, and a text may trickle.  A
 * server that has the whole text and has not said so may deliver it all the
 * same: RFC 1047.
 */
static void
delivery_on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct delivery *d = arg;
	char *why = mem_printf("delivery took longer than %lld s",
	    (long long)(d->limit / 1000));

	(void)fd;
	(void)what;
	if (d->qmgr == NULL || d->open == 0)
		log_info("%s: %s", d->id, why);
	delivery_trouble(d, TROUBLE_LOST, why);
	if (d->open > 0)
		delivery_failed(d, WHOM_OPEN, 0, false, "4.4.2", d->why);
	if (d->session != NULL)
		session_abort(d->session);
	d->session = NULL;
	free(why);
	delivery_finish(d);
}

void
delivery_orphan(struct delivery *d)
{
	d->qmgr = NULL;
	if (d->session != NULL && session_dot_sent(d->session))
		return;
	if (d->session != NULL) {
		session_abort(d->session);
		d->session = NULL;
	}
	delivery_free(d);
}

static void delivery_check(struct delivery *d);

static struct delivery *
delivery_new(struct relay *r, struct chan *qmgr)
{
	struct delivery *d = mem_alloc(sizeof *d);

	d->magic = DELIVERY_MAGIC;
	d->relay = r;
	d->qmgr = qmgr;
	d->fd = -1;
	d->arena = arena_new(ARENA_MAX);
	d->times.begun = clock_wall();
	d->rest = (struct loop_work){ .fn = delivery_on_rest, .arg = d };
	evtimer_assign(&d->timer, loop_base(), delivery_on_timer, d);
	evtimer_assign(&d->deadline, loop_base(), delivery_on_deadline, d);
	TAILQ_INSERT_TAIL(&r->deliveries, d, link);
	r->n_deliveries++;
	delivery_note(d, "4.3.0", "delivery failed");
	return d;
}

/* The next hop is read; then the tables, then the conversation. */
static void
delivery_start(struct delivery *d)
{
	event_add(&d->deadline, loop_timeout(d->limit));
	d->hops = d->hop_list;
	/* "pool:NAME server,server" */
	if (view_starts_nocase(d->hops, "pool:") && d->proxy == NULL)
		d->pool = view_from(conf_word(&d->hops), 5);
	if (!d->probe && d->proxy == NULL)
		d->fallback = view_of(d->relay->conf->smtp_fallback_relay);
	if (view_trim(d->hop_list).n == 0)
		delivery_no_route(d, "4.3.5", "bad next hop: nothing");
	else if (!delivery_next_hop(d))
		delivery_finish(d);
	else if (d->proxy != NULL)
		delivery_secure(d);
	else
		delivery_check(d);
}

void
delivery_begin(struct relay *r, struct chan *qmgr, struct chan_in *m)
{
	struct delivery *d = delivery_new(r, qmgr);

	d->fd = m->fd[0];
	m->fd[0] = -1;
	if (!delivery_read(d, view_make(m->body.p, cursor_left(&m->body)))) {
		delivery_free(d);
		chan_blame(qmgr, "bad fields in message DELIVER");
		return;
	}
	if (delivery_unsealed(d->fd)) {
		delivery_free(d);
		chan_blame(qmgr, "text to deliver is not sealed");
		return;
	}
	delivery_start(d);
}

void
proxy_begin(struct relay *r, struct chan *qmgr, struct chan_in *m)
{
	struct delivery *d = delivery_new(r, qmgr);

	d->fd = m->fd[0];
	m->fd[0] = -1;
	if (!proxy_read(d, view_make(m->body.p, cursor_left(&m->body)))) {
		delivery_free(d);
		chan_blame(qmgr, "bad fields in message PROXY_MAIL");
	} else if (delivery_unsealed(d->fd)) {
		delivery_free(d);
		chan_blame(qmgr, "text for a filter is not sealed");
	} else
		delivery_start(d);
}

void
probe_begin(struct relay *r, struct chan *qmgr, struct chan_in *m)
{
	struct delivery *d = delivery_new(r, qmgr);

	if (probe_read(d, view_make(m->body.p, cursor_left(&m->body)))) {
		delivery_start(d);
		return;
	}
	delivery_free(d);
	chan_blame(qmgr, "bad fields in message PROBE");
}

/* Nothing of it was sent, for a reason of ours. */
static void
delivery_give_up(struct delivery *d, const char *reason)
{
	d->hops = d->fallback = view_make("", 0);
	delivery_failed(d, WHOM_OPEN, 0, false, "4.3.0", reason);
	delivery_finish(d);
}

static void delivery_rewrite(struct delivery *d);

static void
delivery_told(void *arg)
{
	struct delivery *d = arg;

	d->tables_asked = NULL;
	delivery_rewrite(d);
}

/*
 * smtp_generic_maps: a rehearsal changes nothing, and finds what tables
 * behind connections have to be asked.
 */
static bool
delivery_asks(struct delivery *d)
{
	struct table_need need;

	if (d->tables == NULL)
		d->tables = table_known_gather();
	table_known_begin(d->tables);
	relay_generic_rehearse(d, d->relay->generic);
	if (!table_known_end(d->tables, &need))
		return false;
	d->tables_asked = table_ask_all(d->tables, delivery_told, d);
	return true;
}

static bool
delivery_generic(struct delivery *d)
{
	struct table_need need;
	bool ok;

	table_known_begin(d->tables);
	ok = relay_generic(d, d->relay->generic);
	return !table_known_end(d->tables, &need) && ok;
}

static void
delivery_rewrite(struct delivery *d)
{
	struct relay *r = d->relay;

	if (r->generic != NULL && table_remote_opened() > 0 &&
	    delivery_asks(d))
		return;
	if (r->generic != NULL && !delivery_generic(d)) {
		delivery_give_up(d,
		    "address rewriting failed: table lookup error");
		return;
	}
	delivery_secure(d);
}

/* smtp_header_checks and the like; the maps see what these leave. */
static void
delivery_check(struct delivery *d)
{
	struct relay_checks *c = d->probe ? NULL : d->relay->checks;
	enum relay_checked done = CHECKED_DONE;
	const char *what;
	char *why;

	if (c != NULL)
		done = relay_check(c, d, delivery_check, &what);
	if (done == CHECKED_DONE) {
		delivery_rewrite(d);
	} else if (done == CHECKED_FAILED) {
		why = mem_printf("content rules failed: %s", what);
		delivery_give_up(d, why);
		free(why);
	}
}
