#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/lookup_answer.h"
#include "proxy/lookup_request.h"
#include "proxy/lookup_service.h"
#include "rules/policy.h"

#define REPLY_MAX	8192u	/* bytes of a reply */
#define CONNECTIONS_MAX	100u	/* to one endpoint */
#define ENDPOINTS_MAX	64u
#define WAITING_MAX	8000u	/* requests at all endpoints */
#define MS_MAX		3600000u

struct service_request {
	struct chan *chan;	/* NULL: nobody wants the answer any more */
	uint32_t tag;
	struct buf text;
	unsigned tries;
	struct event timer;	/* the time for all of it, or until a try */
	struct mono deadline;
	bool pausing;		/* until the next try */
	struct endpoint *endpoint;
	struct connection *connection;	/* which works on it */
	TAILQ_ENTRY(service_request) link;	/* waits, or is worked on */
};
TAILQ_HEAD(request_list, service_request);

struct connection {
	struct endpoint *endpoint;
	int fd;
	bool connected, watching;
	struct event io, idle;
	struct service_request *request;	/* NULL: free */
	unsigned requests;			/* till now */
	struct mono since;
	struct buf out, in;
	TAILQ_ENTRY(connection) link;
};

struct endpoint {
	char *spec;
	struct sockaddr_storage addr;
	socklen_t addr_n;	/* 0: the name is not known yet */
	/* A socket has another path where queue_directory is the root. */
	struct sockaddr_un inside;
	char *host;		/* to look up; NULL: not necessary */
	uint16_t port;
	bool asking;		/* the DNS */
	unsigned n_connections;
	struct request_list waiting;
	TAILQ_HEAD(, connection) connections;
	struct endpoint *next;
};

static const struct conf *conf;
static struct endpoint *endpoints;
static unsigned n_endpoints, n_waiting;

static void endpoint_run(struct endpoint *e);

void
lookup_service_load(const struct conf *cf)
{
	conf = cf;
}

/* -- requests -------------------------------------------------------------- */

static void
service_done(struct service_request *r, enum fact_status status,
    struct view action)
{
	if (r->chan != NULL)
		lookup_fact_send(r->chan, r->tag, status, &action,
		    status == FACT_FOUND ? 1 : 0);
	TAILQ_REMOVE(&r->endpoint->waiting, r, link);
	event_del(&r->timer);
	buf_free(&r->text);
	free(r);
	n_waiting--;
}

static void
service_failed(struct service_request *r, const char *why)
{
	log_warn("problem talking to server %s: %s", r->endpoint->spec, why);
	service_done(r, FACT_TEMPORARY, view_of(""));
}

/* -- connections ----------------------------------------------------------- */

static void
connection_close(struct connection *c)
{
	struct endpoint *e = c->endpoint;

	event_del(&c->io);
	event_del(&c->idle);
	close(c->fd);
	TAILQ_REMOVE(&e->connections, c, link);
	e->n_connections--;
	buf_free(&c->out);
	buf_free(&c->in);
	free(c);
}

/* It broke off: its request is tried again, at once if the connection was an
 * old one that the server may have grown tired of. */
static void
connection_broken(struct connection *c, const char *why)
{
	struct service_request *r = c->request;
	bool old = c->requests > 1;

	/* The name may have moved. */
	if (!c->connected && c->endpoint->host != NULL)
		c->endpoint->addr_n = 0;
	connection_close(c);
	if (r == NULL)
		return;
	r->connection = NULL;
	if (!old && ++r->tries >=
	    (unsigned)conf->smtpd_policy_service_try_limit) {
		service_failed(r, why);
		return;
	}
	if (!old) {
		r->pausing = true;
		event_add(&r->timer, loop_timeout(
		    conf->smtpd_policy_service_retry_delay));
	}
	endpoint_run(r->endpoint);
}

static void
connection_idle(struct connection *c)
{
	int64_t age = mono_since(c->since, loop_now()) / 1000;

	c->request = NULL;
	buf_clear(&c->in);
	if (age >= conf->smtpd_policy_service_max_ttl ||
	    (conf->smtpd_policy_service_request_limit > 0 && c->requests >=
	    (uint64_t)conf->smtpd_policy_service_request_limit))
		connection_close(c);
	else
		event_add(&c->idle, loop_timeout(
		    conf->smtpd_policy_service_max_idle));
}

/* The end of a reply: an empty line. */
static bool
reply_complete(struct view v)
{
	size_t i;

	for (i = 1; i < v.n; i++)
		if (v.p[i] == '\n' && (v.p[i - 1] == '\n' ||
		    (i > 1 && v.p[i - 1] == '\r' && v.p[i - 2] == '\n')))
			return true;
	return false;
}

static void
connection_answered(struct connection *c)
{
	struct service_request *r = c->request;
	struct endpoint *e = c->endpoint;
	struct view action;
	bool good;

	good = policy_service_reply(buf_view(&c->in), &action);
	r->connection = NULL;
	if (!good) {
		service_failed(r, "its reply makes no sense");
		connection_close(c);
	} else {
		service_done(r, FACT_FOUND, action);
		connection_idle(c);
	}
	endpoint_run(e);
}

static void
connection_read(struct connection *c)
{
	char *to;
	ssize_t n;

	to = buf_room(&c->in, 1024);
	if (to == NULL) {
		connection_broken(c, "its reply is too long");
		return;
	}
	n = recv(c->fd, to, 1024, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		connection_broken(c, n == 0 ? "it closed the connection" :
		    strerror(errno));
		return;
	}
	/* Nothing was asked. */
	if (c->request == NULL) {
		connection_broken(c, "it speaks unasked");
		return;
	}
	c->in.n += (size_t)n;
	if (reply_complete(buf_view(&c->in)))
		connection_answered(c);
}

static void
connection_want(struct connection *c, short what);

static void
connection_write(struct connection *c)
{
	ssize_t n;

	while (c->out.n > 0) {
		n = send(c->fd, c->out.p, c->out.n,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			connection_broken(c, strerror(errno));
			return;
		}
		buf_consume(&c->out, (size_t)n);
	}
	connection_want(c, c->out.n > 0 ? EV_READ | EV_WRITE : EV_READ);
}

static void
connection_event(evutil_socket_t fd, short what, void *arg)
{
	struct connection *c = arg;
	socklen_t n = sizeof(int);
	int error = 0;

	if (!c->connected) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
			error = errno;
		if (error != 0) {
			connection_broken(c, strerror(error));
			return;
		}
		c->connected = true;
	}
	if ((what & EV_READ) != 0)
		connection_read(c);
	else
		connection_write(c);
}

static void
connection_want(struct connection *c, short what)
{
	if (c->watching)
		event_del(&c->io);
	event_assign(&c->io, loop_base(), c->fd, what | EV_PERSIST,
	    connection_event, c);
	event_add(&c->io, NULL);
	c->watching = true;
}

static void
connection_unused(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	connection_close(arg);
}

static struct connection *
connection_new(struct endpoint *e)
{
	struct connection *c;
	int fd = socket(e->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK |
	    SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return NULL;
	rc = connect(fd, (struct sockaddr *)&e->addr, e->addr_n);
	if (rc != 0 && errno == ENOENT && e->inside.sun_family == AF_UNIX)
		rc = connect(fd, (struct sockaddr *)&e->inside,
		    sizeof e->inside);
	if (rc != 0 && errno != EINPROGRESS) {
		close(fd);
		return NULL;
	}
	c = mem_alloc(sizeof *c);
	c->endpoint = e;
	c->fd = fd;
	c->since = loop_now();
	buf_init(&c->out, FACT_REQUEST_MAX);
	buf_init(&c->in, REPLY_MAX);
	evtimer_assign(&c->idle, loop_base(), connection_unused, c);
	TAILQ_INSERT_TAIL(&e->connections, c, link);
	e->n_connections++;
	return c;
}

static void
connection_give(struct connection *c, struct service_request *r)
{
	c->request = r;
	c->requests++;
	r->connection = c;
	event_del(&c->idle);
	buf_clear(&c->in);
	ensure(buf_putv(&c->out, buf_view(&r->text)));
	connection_want(c, EV_READ | EV_WRITE);
}

/* -- endpoints ------------------------------------------------------------- */

static void
endpoint_lost(struct endpoint *e, const char *why)
{
	struct service_request *r, *next;

	for (r = TAILQ_FIRST(&e->waiting); r != NULL; r = next) {
		next = TAILQ_NEXT(r, link);
		if (r->connection == NULL)
			service_failed(r, why);
	}
}

static void
endpoint_address(struct endpoint *e, struct netaddr a)
{
	a.port = e->port;
	e->addr_n = netaddr_to_sockaddr(&a, &e->addr);
}

static void
endpoint_on_name(const struct dns_answer *a, void *arg)
{
	struct endpoint *e = arg;
	struct netaddr addr;
	size_t i;

	e->asking = false;
	for (i = 0; i < a->n && e->addr_n == 0; i++)
		if (answer_address(a->data[i], AF_INET, &addr))
			endpoint_address(e, addr);
	if (e->addr_n == 0)
		endpoint_lost(e, "its name is not found");
	else
		endpoint_run(e);
}

/* Give waiting requests to connections. */
static void
endpoint_run(struct endpoint *e)
{
	struct service_request *r, *next;
	struct connection *c;

	if (e->addr_n == 0) {
		if (!e->asking && dns_ask(e->host, DNS_A, DNS_AND_HOSTS,
		    endpoint_on_name, e) == NULL)
			endpoint_lost(e, "its name cannot be looked up");
		else
			e->asking = true;
		return;
	}
	for (r = TAILQ_FIRST(&e->waiting); r != NULL; r = next) {
		next = TAILQ_NEXT(r, link);
		if (r->connection != NULL || r->pausing)
			continue;
		TAILQ_FOREACH(c, &e->connections, link)
			if (c->request == NULL)
				break;
		if (c == NULL && e->n_connections == CONNECTIONS_MAX)
			return;
		if (c == NULL && (c = connection_new(e)) == NULL) {
			if (++r->tries >= (unsigned)
			    conf->smtpd_policy_service_try_limit) {
				service_failed(r, strerror(errno));
				continue;
			}
			r->pausing = true;
			event_add(&r->timer, loop_timeout(
			    conf->smtpd_policy_service_retry_delay));
			continue;
		}
		connection_give(c, r);
	}
}

static bool
endpoint_path(struct sockaddr_un *un, struct view dir, struct view path)
{
	if (path.n == 0 || dir.n + 1 + path.n >= sizeof un->sun_path)
		return false;
	un->sun_family = AF_UNIX;
	(void)snprintf(un->sun_path, sizeof un->sun_path, "%.*s%s%.*s",
	    VIEW_ARGS(dir), dir.n > 0 ? "/" : "", VIEW_ARGS(path));
	return true;
}

/*
 * A path is below queue_directory, if it does not begin with a slash; one
 * that does may lead there too.
 */
static bool
endpoint_unix(struct endpoint *e, struct view path)
{
	struct view queue = view_of(conf->queue_directory);
	bool below = path.n > queue.n && path.p[queue.n] == '/' &&
	    view_eq(view_head(path, queue.n), queue);

	e->addr_n = sizeof(struct sockaddr_un);
	if (path.n > 0 && path.p[0] != '/') {
		(void)endpoint_path(&e->inside, view_of(""), path);
		return endpoint_path((struct sockaddr_un *)&e->addr, queue,
		    path);
	}
	if (below)
		(void)endpoint_path(&e->inside, view_of(""),
		    view_from(path, queue.n));
	return endpoint_path((struct sockaddr_un *)&e->addr, view_of(""),
	    path);
}

static bool
endpoint_parse(struct endpoint *e, struct view spec)
{
	struct view host;
	struct netaddr a;

	if (view_starts_nocase(spec, "unix:"))
		return endpoint_unix(e, view_from(spec, 5));
	if (!view_starts_nocase(spec, "inet:") ||
	    !netaddr_split_hostport(view_from(spec, 5), &host, &e->port, 0) ||
	    e->port == 0)
		return false;
	if (host.n == 0 || view_is_nocase(host, "localhost"))
		host = view_of("127.0.0.1");
	if (netaddr_parse(host, &a))
		endpoint_address(e, a);
	else if (host.n < ANSWER_NAME_MAX)
		e->host = mem_copy(host);
	else
		return false;
	return true;
}

/* NULL: no such endpoint, or too many. */
static struct endpoint *
endpoint_find(struct view spec)
{
	struct endpoint *e;

	for (e = endpoints; e != NULL; e = e->next)
		if (view_is(spec, e->spec))
			return e;
	if (n_endpoints == ENDPOINTS_MAX ||
	    memchr(spec.p, '\0', spec.n) != NULL)
		return NULL;
	e = mem_alloc(sizeof *e);
	if (!endpoint_parse(e, spec)) {
		free(e);
		return NULL;
	}
	e->spec = mem_copy(spec);
	TAILQ_INIT(&e->waiting);
	TAILQ_INIT(&e->connections);
	e->next = endpoints;
	endpoints = e;
	n_endpoints++;
	return e;
}

/* -- from outside ---------------------------------------------------------- */

static void
service_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct service_request *r = arg;
	struct connection *c = r->connection;
	int64_t left = -mono_since(r->deadline, loop_now()) / 1000;

	(void)fd;
	(void)what;
	if (r->pausing && left > 0) {
		r->pausing = false;
		event_add(&r->timer, loop_timeout(left));
		endpoint_run(r->endpoint);
		return;
	}
	/* A late answer must not be taken for that of the next request. */
	if (c != NULL)
		connection_close(c);
	service_failed(r, "no answer in time");
}

void
lookup_service(struct chan *chan, uint32_t tag, struct view endpoint,
    uint32_t ms, struct view request)
{
	struct service_request *r;
	struct endpoint *e;

	if (endpoint.n == 0 || endpoint.n > FACT_KEY_MAX || request.n == 0 ||
	    request.n > FACT_REQUEST_MAX || ms == 0 || ms > MS_MAX) {
		chan_blame(chan, "bad request to a policy service");
		return;
	}
	e = endpoint_find(endpoint);
	if (e == NULL || n_waiting == WAITING_MAX) {
		log_warn("policy service %s: %s", log_safe(endpoint),
		    e == NULL ? "cannot be used" : "too many requests wait");
		lookup_fact_send(chan, tag, FACT_TEMPORARY, NULL, 0);
		return;
	}
	r = mem_alloc(sizeof *r);
	r->chan = chan;
	r->tag = tag;
	r->endpoint = e;
	buf_init(&r->text, FACT_REQUEST_MAX);
	ensure(buf_putv(&r->text, request));
	r->deadline.us = loop_now().us + (int64_t)ms * 1000 *
	    conf->smtpd_policy_service_try_limit;
	evtimer_assign(&r->timer, loop_base(), service_on_timer, r);
	event_add(&r->timer, loop_timeout((int64_t)ms *
	    conf->smtpd_policy_service_try_limit));
	TAILQ_INSERT_TAIL(&e->waiting, r, link);
	n_waiting++;
	endpoint_run(e);
}

void
lookup_service_forget(const struct chan *chan)
{
	struct service_request *r;
	struct endpoint *e;

	for (e = endpoints; e != NULL; e = e->next)
		TAILQ_FOREACH(r, &e->waiting, link)
			if (r->chan == chan)
				r->chan = NULL;
}
