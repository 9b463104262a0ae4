/*
 * smtpd_proxy_filter: a filter outside answers for the message.
 *
 * After our own judgement, the text goes to the filter through a relay, and
 * what the filter says is told to the client.  We store nothing: until the
 * filter's 250 the client has the message, from then on the filter, or what it
 * gave the mail back to.  A crash in between, or an answer that comes when the
 * client is gone, is the duplicate of RFC 1047.
 *
 * So that a filter with few processes is not drowned, only so many messages
 * are with it at once; the others wait, with their text here, for a limited
 * time.  Which filter that is, master says (MSG_PEER), not the smtpd.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "lib/log.h"
#include "queue/qmgr.h"
#include "rules/proxy_filter.h"

#define TICK_MS		500
#define SAID_MAX	1000u	/* bytes of an answer */
#define STATUS_MAX	12u

struct proxy {
	struct proxy *next;
	char *settings;		/* as they came; views below are into it */
	size_t n_settings;
	struct proxy_filter is;
	char *route;
	struct message *waiting, **end;
	struct message *underway;
	uint32_t n_waiting, n_underway;
};

/* Few: one for each smtpd service that has one, and those before a reload. */
static struct proxy *proxies;
static uint64_t n_accepted, n_refused, n_failed;
static struct event timer;
static bool timer_set;

struct proxy *
proxy_find(struct view settings)
{
	struct proxy_filter is;
	struct proxy *p;

	if (settings.n == 0)
		return NULL;
	for (p = proxies; p != NULL; p = p->next)
		if (view_eq(settings, view_make(p->settings, p->n_settings)))
			return p;
	p = mem_alloc(sizeof *p);
	p->settings = mem_copy(settings);
	p->n_settings = settings.n;
	if (!proxy_filter_get(view_make(p->settings, p->n_settings), &is))
		panic("settings of a smtpd that master did not make");
	p->is = is;
	p->route = mem_printf("smtp:%.*s", VIEW_ARGS(is.hop));
	p->end = &p->waiting;
	p->next = proxies;
	proxies = p;
	return p;
}

struct view
proxy_route(const struct proxy *p)
{
	return view_of(p->route);
}

/* In the words of Postfix's smtpd. */
static void
proxy_log(const struct message *m, unsigned code, const char *status,
    const char *text)
{
	struct arena *a = arena_new(m->tail.envelope.n * 16 + 65536);
	struct envelope e;
	struct buf b;

	message_envelope(m, a, &e);
	buf_init(&b, 16384);
	(void)buf_printf(&b, "%s: proxy-%s: END-OF-MESSAGE from %s[%s]: ",
	    message_id(m), code / 100 == 2 ? "accept" : "reject",
	    log_safe(e.client_name), log_safe(e.client_addr));
	(void)buf_printf(&b, "%u %s %s; ", code, status,
	    log_safe(view_of(text)));
	(void)buf_printf(&b, "from=<%s>", log_safe(e.sender));
	if (e.nrcpts == 1)
		(void)buf_printf(&b, " to=<%s>", log_safe(e.rcpts[0].addr));
	else
		(void)buf_printf(&b, " nrcpt=%u", e.nrcpts);
	(void)buf_printf(&b, " proto=%s helo=<%s>", log_safe(e.proto),
	    log_safe(e.helo));
	log_info("%s", buf_cstr(&b));
	buf_free(&b);
	arena_free(&a);
}

/* The answer, and the end of m here. */
static void
proxy_answer(struct message *m, unsigned code, const char *status,
    const char *text)
{
	if (code / 100 == 2)
		n_accepted++;
	else
		n_refused++;
	proxy_log(m, code, status, text);
	writer_failed(m, code, status, text);
}

/* There is none: the client comes back. */
static void
proxy_failed(struct message *m, const char *why)
{
	log_warn("%s: proxy filter %.*s: %s", message_id(m),
	    VIEW_ARGS(m->proxy->is.hop), why);
	n_failed++;
	writer_failed(m, 451, "4.3.0", "Error: queue file write error");
}

static struct message *
proxy_take_waiting(struct proxy *p)
{
	struct message *m = p->waiting;

	p->waiting = m->next;
	if (p->waiting == NULL)
		p->end = &p->waiting;
	m->next = NULL;
	p->n_waiting--;
	return m;
}

static void
proxy_take_underway(struct message *m)
{
	struct proxy *p = m->proxy;
	struct message **at;

	for (at = &p->underway; *at != m; at = &(*at)->next)
		ensure(*at != NULL);
	*at = m->next;
	m->next = NULL;
	p->n_underway--;
	relay_put_proxy(m->relay);
	m->relay = NULL;
}

/* text: a descriptor for the relay. */
static void
proxy_give(struct proxy *p, struct message *m, struct chan *relay, int text)
{
	struct buf *b = chan_begin(relay, MSG_PROXY_MAIL);

	put_u64(b, m->known.id.n);
	put_view(b, p->is.hop);
	put_view(b, p->is.ehlo);
	put_u64(b, (uint64_t)p->is.timeout);
	put_u64(b, m->text_offset);
	put_u64(b, m->text_size);
	put_view(b, m->tail.edits);
	put_view(b, m->tail.envelope);
	chan_put_fd(relay, text, false);
	chan_end(relay);
	m->relay = relay;
	m->since = loop_now();
	m->next = p->underway;
	p->underway = m;
	p->n_underway++;
}

static void
proxy_start(struct proxy *p)
{
	struct message *m;
	struct chan *relay;
	int text;

	while (p->waiting != NULL) {
		/* Nobody was promised anything, and nobody is there to hear
		 * it: the client comes again, or has gone for good. */
		if (p->waiting->writer == NULL) {
			m = proxy_take_waiting(p);
			log_info("%s: canceled", message_id(m));
			writer_failed(m, 451, "4.3.0", "Error");
			continue;
		}
		if (p->n_underway >= p->is.limit ||
		    (relay = relay_take_proxy()) == NULL)
			return;
		m = proxy_take_waiting(p);
		text = message_readable(m);
		if (text >= 0) {
			proxy_give(p, m, relay, text);
			continue;
		}
		relay_put_proxy(relay);
		proxy_failed(m, strerror(errno));
	}
}

void
proxy_schedule(void)
{
	struct proxy *p;

	for (p = proxies; p != NULL; p = p->next)
		proxy_start(p);
}

/* They came in their order, so the first is the one that waits longest. */
static void
proxy_tick(evutil_socket_t fd, short what, void *arg)
{
	struct proxy *p;
	bool more = false;

	(void)fd;
	(void)what;
	(void)arg;
	proxy_schedule();
	for (p = proxies; p != NULL; p = p->next) {
		while (p->waiting != NULL && mono_since(p->waiting->since,
		    loop_now()) > p->is.timeout * 1000)
			proxy_failed(proxy_take_waiting(p),
			    "no place in it, or no relay");
		more = more || p->waiting != NULL;
	}
	if (more)
		event_add(&timer, loop_timeout(TICK_MS));
}

void
proxy_submit(struct message *m)
{
	struct proxy *p = m->proxy;

	message_enter(m, M_PROXYING);
	m->next = NULL;
	*p->end = m;
	p->end = &m->next;
	p->n_waiting++;
	proxy_start(p);
	if (p->waiting == NULL)
		return;
	if (!timer_set)
		evtimer_assign(&timer, loop_base(), proxy_tick, NULL);
	timer_set = true;
	if (!evtimer_pending(&timer, NULL))
		event_add(&timer, loop_timeout(TICK_MS));
}

/* 250, or a refusal that leaves our session as it is; with a status of the
 * same class. */
static bool
proxy_answer_ok(unsigned code, struct view status, struct view text)
{
	if (code == 0)
		return text.n <= SAID_MAX;
	if ((code != 250 && (code < 400 || code > 599)) || code % 100 == 21)
		return false;
	return status.n >= 5 && status.n <= STATUS_MAX &&
	    (unsigned)(status.p[0] - '0') == code / 100 &&
	    status.p[1] == '.' && text.n <= SAID_MAX;
}

void
proxy_said(struct chan *relay, struct chan_in *in)
{
	struct queue_id id = { cursor_u64(&in->body) };
	unsigned code = cursor_u16(&in->body);
	struct view status = cursor_view(&in->body);
	struct view text = cursor_view(&in->body);
	struct message *m;
	struct proxy *p;
	char *said, *dsn;

	if (!chan_check(relay, in))
		return;
	m = message_find(id);
	if (m == NULL || m->known.state != M_PROXYING || m->relay != relay ||
	    !proxy_answer_ok(code, status, text)) {
		chan_blame(relay, "bad answer of a proxy filter");
		return;
	}
	p = m->proxy;
	proxy_take_underway(m);
	said = mem_strdup(log_safe(text));
	dsn = mem_strdup(log_safe(status));
	if (code == 0)
		proxy_failed(m, said);
	else
		proxy_answer(m, code, dsn, said);
	free(dsn);
	free(said);
	proxy_start(p);
}

void
proxy_check(struct mono now)
{
	const struct message *m;
	const struct proxy *p;

	for (p = proxies; p != NULL; p = p->next)
		for (m = p->underway; m != NULL; m = m->next)
			if (relay_late(m->since, PROXY_FILTER_STEPS *
			    p->is.timeout, now))
				relay_hung(m->relay);
}

void
proxy_relay_gone(const struct chan *relay)
{
	struct proxy *p;
	struct message *m, *next;

	for (p = proxies; p != NULL; p = p->next)
		for (m = p->underway; m != NULL; m = next) {
			next = m->next;
			if (m->relay != relay)
				continue;
			proxy_take_underway(m);
			/* The filter may have it all the same. */
			proxy_failed(m, "the relay process ended");
		}
}

void
proxy_status(struct buf *b)
{
	const struct proxy *p;
	unsigned waiting = 0, underway = 0;

	if (proxies == NULL)
		return;
	for (p = proxies; p != NULL; p = p->next) {
		waiting += p->n_waiting;
		underway += p->n_underway;
	}
	(void)buf_printf(b, "proxy_filter_waiting %u\nproxy_filter_underway "
	    "%u\nproxy_filter_accepted %llu\nproxy_filter_refused %llu\n"
	    "proxy_filter_failed %llu\n", waiting, underway,
	    (unsigned long long)n_accepted, (unsigned long long)n_refused,
	    (unsigned long long)n_failed);
}
