#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_auth.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_lmtp.h"
#include "proxy/relay_proxy.h"
#include "proxy/relay_requiretls.h"
#include "proxy/relay_smtp.h"
#include "proxy/relay_tls.h"

#define SESSION_MAGIC	0x53455353u
#define OUT_MAX		(1u << 20)
#define KEEP_BUFFER	4096u	/* of a reply, in an idle session */

static void
session_free(void *arg)
{
	struct session *s = arg;

	ensure(s->magic == SESSION_MAGIC && s->state == RELAY_CLOSED);
	ensure(s->delivery == NULL);
	s->relay->n_sessions--;
	relay_tls_free(s);
	relay_dane_free(s);
	relay_auth_free(s);
	relay_reply_free(&s->reply);
	buf_free(&s->out);
	free(s->host);
	free(s->peer);
	free(s->peer_short);
	free(s->key);
	s->magic = 0;
	free(s);
}

/*
 * Enter a state.  Nothing else sets s->state, takes a session off the idle
 * list, or closes its socket.
 */
void
session_enter(struct session *s, enum relay_state to)
{
	const struct relay_step *step = &relay_steps[to];

	ensure(s->magic == SESSION_MAGIC);
	ensure((relay_steps[s->state].next & 1u << to) != 0);
	if (log_level() > 0)
		log_debug("%s: %s -> %s", s->peer, relay_steps[s->state].name,
		    step->name);
	if (s->state == RELAY_IDLE) {
		TAILQ_REMOVE(&s->relay->idle, s, link);
		s->relay->n_idle--;
	}
	s->state = to;
	if (to == RELAY_IDLE) {
		TAILQ_INSERT_HEAD(&s->relay->idle, s, link);
		s->relay->n_idle++;
	}
	if (to == RELAY_CLOSED) {
		/* Freed later: a handler of this session may be running. */
		event_del(&s->read_event);
		event_del(&s->write_event);
		event_del(&s->timer);
		relay_tls_bye(s);
		relay_auth_free(s);
		close(s->fd);
		s->fd = -1;
		loop_soon(&s->bury);
		return;
	}
	session_touch(s);
	if (step->enter != NULL)
		step->enter(s);
}

void
session_touch(struct session *s)
{
	const char *cf = (const char *)s->relay->conf;
	int64_t ms;

	memcpy(&ms, cf + relay_steps[s->state].timeout, sizeof ms);
	if (s->delivery != NULL && s->delivery->proxy != NULL)
		ms = s->delivery->proxy->timeout;
	if (s->state == RELAY_CONNECT && ms == 0)
		return;
	event_add(&s->timer, loop_timeout(ms));
}

bool
session_written(const struct session *s)
{
	return s->out.n == s->out_sent;
}

/* Returns the bytes the socket took. */
static size_t
session_send(struct session *s, const char *p, size_t n)
{
	ssize_t k;

	do {
		k = relay_tls_active(s) ? relay_tls_send(s, p, n) :
		    send(s->fd, p, n, MSG_NOSIGNAL);
	} while (k < 0 && errno == EINTR);
	if (k > 0) {
		/* While the peer takes the text, it is alive. */
		if (s->state == RELAY_TEXT || s->state == RELAY_BDAT)
			session_touch(s);
		return (size_t)k;
	}
	if (k < 0 && errno != EAGAIN && errno != ENOBUFS) {
		/*
		 * The server may have said why before it closed; that, or the
		 * end of the connection, is what reading will find.
		 */
		s->write_failed = true;
		buf_clear(&s->out);
		s->out_sent = 0;
	}
	return 0;
}

void
session_write(struct session *s, struct view v)
{
	size_t n;

	if (s->write_failed)
		return;
	if (session_written(s)) {
		n = session_send(s, v.p, v.n);
		v = view_from(v, n);
		if (v.n == 0 || s->write_failed)
			return;
		event_add(&s->write_event, NULL);
	}
	/* The callers make more only when all was written. */
	if (!buf_putv(&s->out, v))
		panic("session output over its maximum");
}

static void
session_connected(struct session *s)
{
	int error = 0;
	socklen_t n = sizeof error;
	char *why;
	struct delivery *d = s->delivery;

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
		error = errno;
	if (error == 0) {
		event_add(&s->read_event, NULL);
		session_enter(s, !relay_tls_wraps(s) ? RELAY_GREETING :
		    relay_dane_due(s) ? RELAY_DANE : RELAY_TLS);
		return;
	}
	why = mem_printf("connect to %s: %s", s->peer, strerror(error));
	s->delivery = NULL;
	d->session = NULL;
	session_enter(s, RELAY_CLOSED);
	delivery_no_connection(d, why);
	free(why);
}

static void
session_on_write(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	size_t n;

	(void)fd;
	(void)what;
	ensure(s->magic == SESSION_MAGIC);
	if (s->state == RELAY_CONNECT) {
		session_connected(s);
		return;
	}
	if (s->state == RELAY_TLS) {
		relay_tls_go_on(s);
		return;
	}
	if (relay_tls_wants_write(s))
		event_active(&s->read_event, EV_READ, 0);
	if (!session_written(s)) {
		n = session_send(s, s->out.p + s->out_sent,
		    s->out.n - s->out_sent);
		s->out_sent += n;
		if (!session_written(s)) {
			event_add(&s->write_event, NULL);
			return;
		}
		/* What was said to log in is not left behind. */
		if (s->auth != NULL)
			explicit_bzero(s->out.p, s->out.cap);
		buf_free(&s->out);
		s->out_sent = 0;
	}
	smtp_writable(s);
}

/*
 * Replies, as many as there are.  What comes before a command is written
 * cannot be the reply to it: a server that is a reply ahead might have us
 * believe that it took a message which it never saw.
 */
static void
session_replies(struct session *s, struct view in)
{
	enum relay_reply_answer a;
	const struct relay_step *step;

	while (in.n > 0 && s->state != RELAY_CLOSED) {
		if (s->state == RELAY_IDLE) {
			/* Nothing was asked: "421 timeout", most often. */
			session_enter(s, RELAY_CLOSED);
			return;
		}
		a = relay_reply_feed(&s->reply, &in);
		if (a == REPLY_MORE)
			return;
		step = &relay_steps[s->state];
		if (a == REPLY_DONE &&
		    (step->classes & 1u << s->reply.code / 100) != 0 &&
		    (in.n == 0 || s->state >= RELAY_TEXT || smtp_more_due(s)))
			step->reply(s);
		else
			smtp_lost(s, LOSS_PROTOCOL);
		relay_reply_reset(&s->reply);
	}
}

static void
session_on_read(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct relay *r = s->relay;
	ssize_t n;

	(void)what;
	ensure(s->magic == SESSION_MAGIC);
	if (s->state == RELAY_TLS) {
		relay_tls_go_on(s);
		return;
	}
	n = relay_tls_active(s) ? relay_tls_recv(s, r->input,
	    sizeof r->input) : recv(fd, r->input, sizeof r->input, 0);
	if (relay_tls_wants_write(s))
		event_add(&s->write_event, NULL);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		smtp_lost(s, LOSS_CLOSED);
	else
		session_replies(s, view_make(r->input, (size_t)n));
}

static void
session_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct delivery *d = s->delivery;
	char *why;

	(void)fd;
	(void)what;
	ensure(s->magic == SESSION_MAGIC);
	if (s->state == RELAY_IDLE) {
		session_enter(s, RELAY_QUIT);
	} else if (s->state == RELAY_PAUSE) {
		session_write(s, view_of(".\r\n"));
		session_enter(s, RELAY_DOT);
	} else if (s->state == RELAY_CONNECT) {
		why = mem_printf("connect to %s: %s", s->peer,
		    strerror(ETIMEDOUT));
		s->delivery = NULL;
		d->session = NULL;
		session_enter(s, RELAY_CLOSED);
		delivery_no_connection(d, why);
		free(why);
	} else {
		smtp_lost(s, LOSS_TIMEOUT);
	}
}

/* A socket on its way to the address; -1: errno says why not. */
static int
session_socket(const struct relay *r, const struct netaddr *to, bool proxy)
{
	const struct netaddr *from = to->family == AF_INET ? &r->bind4 :
	    &r->bind6;
	struct sockaddr_storage sa;
	char text[NETADDR_TEXT];
	socklen_t n;
	int fd, on = 1, error;

	fd = socket(to->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	/* Commands and text are written in one piece each: never wait. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	/* smtp_bind_address is for those outside. */
	if (from->family != 0 && !proxy) {
		n = netaddr_to_sockaddr(from, &sa);
		if (bind(fd, (struct sockaddr *)&sa, n) != 0) {
			if (r->bind_enforce)
				goto failed;
			netaddr_text(from, text);
			log_warn("bind to %s: %s; the system chooses",
			    text, strerror(errno));
		}
	}
	n = netaddr_to_sockaddr(to, &sa);
	if (connect(fd, (struct sockaddr *)&sa, n) == 0 ||
	    errno == EINPROGRESS)
		return fd;
failed:
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static char *
session_key(const struct delivery *d)
{
	return mem_printf("%.*s\n%.*s\n%.*s\n%u %.*s",
	    VIEW_ARGS(d->transport), VIEW_ARGS(d->hop_text),
	    VIEW_ARGS(d->tls != NULL ? d->tls->key : view_of("")),
	    (unsigned)relay_credentials_age(),
	    VIEW_ARGS(relay_auth_sender(d)));
}

/* Is d's next hop one whose connections are kept in any case? */
static bool
session_cached(const struct relay *r, const struct delivery *d)
{
	struct view hop = d->hop.path.n > 0 ? d->hop.path : d->hop.host;
	enum table_answer a = word_list_match(r->cached, hop);

	if (a == TABLE_FAILED)
		log_warn("smtp_connection_cache_destinations: lookup error "
		    "for \"%s\"", log_safe(hop));
	return a == TABLE_FOUND;
}

/* Not in any state yet; its names for the log are the caller's to set. */
static struct session *
session_new(struct relay *r, struct delivery *d, int fd,
    const struct relay_address *to)
{
	struct session *s = mem_alloc(sizeof *s);

	s->magic = SESSION_MAGIC;
	s->relay = r;
	s->delivery = d;
	s->fd = fd;
	s->addr = to->addr;
	s->host = mem_copy(to->host);
	s->key = session_key(d);
	s->once = d->proxy != NULL;
	s->cached = session_cached(r, d);
	s->plain = d->plain;
	d->plain = false;
	s->connected = loop_now();
	s->bury = (struct loop_work){ .fn = session_free, .arg = s };
	relay_reply_init(&s->reply);
	buf_init(&s->out, OUT_MAX);
	event_assign(&s->read_event, loop_base(), fd, EV_READ | EV_PERSIST,
	    session_on_read, s);
	event_assign(&s->write_event, loop_base(), fd, EV_WRITE,
	    session_on_write, s);
	evtimer_assign(&s->timer, loop_base(), session_on_timer, s);
	event_add(&s->write_event, NULL);
	r->n_sessions++;
	d->session = s;
	return s;
}

static bool
session_errno_local(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM ||
	    error == ENOBUFS || error == EADDRNOTAVAIL;
}

/* A server on this host, by the path of its socket. */
static struct session *
session_open_path(struct relay *r, struct delivery *d,
    const struct relay_address *to, char **ret_why, bool *ret_local)
{
	struct session *s;
	int fd = relay_lmtp_socket(r->conf, d->hop.path);

	if (fd < 0) {
		*ret_local = session_errno_local(errno);
		*ret_why = mem_printf("connect to %.*s[%.*s]: %s",
		    VIEW_ARGS(to->host), VIEW_ARGS(d->hop.path),
		    relay_lmtp_error(errno));
		return NULL;
	}
	s = session_new(r, d, fd, to);
	s->peer = mem_printf("%s[%.*s]", s->host, VIEW_ARGS(d->hop.path));
	s->peer_short = mem_strdup(s->peer);
	session_enter(s, RELAY_CONNECT);
	return s;
}

struct session *
session_open(struct relay *r, struct delivery *d,
    const struct relay_address *to, char **ret_why, bool *ret_local)
{
	struct session *s;
	char text[NETADDR_TEXT];
	int fd;

	if (d->hop.path.n > 0)
		return session_open_path(r, d, to, ret_why, ret_local);
	netaddr_text(&to->addr, text);
	fd = session_socket(r, &to->addr, d->proxy != NULL);
	if (fd < 0) {
		*ret_local = errno == EMFILE || errno == ENFILE ||
		    errno == ENOMEM || errno == ENOBUFS ||
		    errno == EADDRNOTAVAIL;
		*ret_why = mem_printf("connect to %.*s[%s]:%u: %s",
		    VIEW_ARGS(to->host), text, (unsigned)to->addr.port,
		    strerror(errno));
		return NULL;
	}
	s = session_new(r, d, fd, to);
	s->peer_short = mem_printf("%s[%s]", s->host, text);
	s->peer = mem_printf("%s:%u", s->peer_short,
	    (unsigned)to->addr.port);
	session_enter(s, RELAY_CONNECT);
	return s;
}

bool
session_keepable(const struct session *s)
{
	const struct conf *cf = s->relay->conf;
	int64_t count = cf->smtp_connection_reuse_count_limit;

	return !s->once &&
	    (cf->smtp_connection_cache_on_demand || s->cached) &&
	    (cf->smtp_tls_connection_reuse || !relay_tls_active(s)) &&
	    cf->smtp_connection_cache_time_limit > 0 &&
	    !relay_retiring() && !s->write_failed && session_written(s) &&
	    (count == 0 || s->uses < count) &&
	    (s->ehlo.mail_max == 0 || s->uses < s->ehlo.mail_max) &&
	    s->ehlo.rcpt_domain_max == 0 &&
	    mono_since(s->connected, loop_now()) / 1000 <
	    cf->smtp_connection_reuse_time_limit;
}

bool
session_reuse(struct relay *r, struct delivery *d)
{
	struct session *s;
	char *key;

	if (TAILQ_EMPTY(&r->idle))
		return false;
	key = session_key(d);
	TAILQ_FOREACH(s, &r->idle, link)
		if (strcmp(s->key, key) == 0 && relay_requiretls_allows(s, d))
			break;
	free(key);
	if (s == NULL)
		return false;
	r->reused++;
	s->delivery = d;
	d->session = s;
	d->reused = true;
	delivery_ready(d);
	smtp_begin(s);
	return true;
}

void
session_quit_idle(struct relay *r)
{
	while (!TAILQ_EMPTY(&r->idle))
		session_enter(TAILQ_FIRST(&r->idle), RELAY_QUIT);
}

bool
session_dot_sent(const struct session *s)
{
	return s->state == RELAY_DOT || s->state == RELAY_LAST;
}

void
session_abort(struct session *s)
{
	s->delivery = NULL;
	session_enter(s, RELAY_CLOSED);
}
