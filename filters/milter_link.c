#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "filters/milter_link.h"
#include "lib/log.h"

#define PIECE	65536u

struct milter_link {
	const struct milter_spec *spec;
	const struct milter_address *address;
	struct milter_client *client;
	milter_answered *answered;
	void *arg;
	int fd;			/* -1: none */
	bool connected;
	bool waits;		/* answered() is due */
	bool drains;		/* ... when all is written */
	bool late;		/* the time was over */
	int64_t ms;		/* for the answer */
	unsigned times;		/* it was begun anew */
	struct event read_event, write_event, timer;
	struct loop_work soon;
	struct buf in;
	size_t sent;		/* of the client's out */
};

static void
link_close(struct milter_link *l)
{
	if (l->fd < 0)
		return;
	(void)event_del(&l->read_event);
	(void)event_del(&l->write_event);
	(void)event_del(&l->timer);
	(void)close(l->fd);
	l->fd = -1;
	l->connected = false;
	buf_free(&l->in);
}

/* The answer is there: say so when the loop comes round, for the owner may
 * be in the middle of asking. */
static void
link_done(struct milter_link *l)
{
	(void)event_del(&l->timer);
	if (l->waits)
		loop_soon(&l->soon);
}

static void
link_fail(struct milter_link *l, const char *what, int error)
{
	char why[200];

	(void)snprintf(why, sizeof why, "%s%s%s", what,
	    error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
	link_close(l);
	milter_client_fail(l->client, why);
	link_done(l);
}

static void
link_soon(void *arg)
{
	struct milter_link *l = arg;

	if (!l->waits || milter_client_waiting(l->client))
		return;
	l->waits = l->drains = false;
	l->answered(l->arg);
}

static void
link_wait(struct milter_link *l)
{
	(void)event_add(&l->timer, loop_timeout(l->ms));
}

/* It is alive: its time begins anew, but not for ever. */
static void
link_alive(struct milter_link *l)
{
	if (l->waits && l->times < MILTER_TIMES_MAX) {
		l->times++;
		link_wait(l);
	}
}

static void
link_write(struct milter_link *l)
{
	struct buf *out = milter_client_out(l->client);
	ssize_t n;

	while (l->sent < out->n) {
		n = send(l->fd, out->p + l->sent, out->n - l->sent,
		    MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			link_fail(l, "write", errno);
			return;
		}
		if (n < 0) {
			(void)event_add(&l->write_event, NULL);
			return;
		}
		l->sent += (size_t)n;
		if (l->sent < out->n)
			continue;
		/* More of a message may come. */
		buf_clear(out);
		l->sent = 0;
		if (milter_client_written(l->client)) {
			link_done(l);
			return;
		}
	}
	if (l->drains)
		link_done(l);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct milter_link *l = arg;

	(void)fd;
	(void)what;
	l->late = true;
	link_fail(l, l->connected ? "no answer in time" :
	    "no connection in time", 0);
}

/* Tells the client what came: n bytes at p, or behind what is in l->in.  True:
 * an answer is complete.  What it leaves is kept. */
static bool
link_take(struct milter_link *l, const char *p, size_t n)
{
	struct view in = view_make(p, n);
	bool answered;

	if (l->in.n == 0) {
		answered = milter_client_read(l->client, &in);
		ensure(buf_putv(&l->in, in));
		return answered;
	}
	l->in.n += n;
	in = buf_view(&l->in);
	answered = milter_client_read(l->client, &in);
	buf_consume(&l->in, l->in.n - in.n);
	if (l->in.n == 0)
		buf_free(&l->in);
	return answered;
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	/* Of all links: most of what comes is whole packets, and many
	 * connections are idle. */
	static char shared[PIECE];
	struct milter_link *l = arg;
	char *to = shared;
	ssize_t n;

	(void)what;
	if (l->in.n > 0) {
		ensure(l->in.max - l->in.n > PIECE);
		to = buf_room(&l->in, PIECE);
		ensure(to != NULL);
	}
	n = recv(fd, to, PIECE, 0);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		link_fail(l, n == 0 ? "closed the connection" : "read",
		    n == 0 ? 0 : errno);
		return;
	}
	if (link_take(l, to, (size_t)n)) {
		link_done(l);
	} else {
		link_alive(l);
		if (milter_client_waiting(l->client))
			link_write(l);
	}
	if (!milter_client_waiting(l->client) && l->in.n > 0)
		/* Not asked for: the client will say so at the next turn. */
		(void)event_del(&l->read_event);
}

static void
on_write(evutil_socket_t fd, short what, void *arg)
{
	struct milter_link *l = arg;
	int error = 0;
	socklen_t size = sizeof error;

	(void)what;
	if (!l->connected) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
			error = errno;
		if (error != 0) {
			link_fail(l, "connect", error);
			return;
		}
		l->connected = true;
	}
	link_alive(l);
	link_write(l);
}

static void
link_connect(struct milter_link *l)
{
	const struct sockaddr *sa = (const struct sockaddr *)&l->address->sa;

	l->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK |
	    SOCK_CLOEXEC, 0);
	if (l->fd < 0) {
		link_fail(l, "socket", errno);
		return;
	}
	(void)event_assign(&l->read_event, loop_base(), l->fd,
	    EV_READ | EV_PERSIST, on_read, l);
	(void)event_assign(&l->write_event, loop_base(), l->fd, EV_WRITE,
	    on_write, l);
	/* EAGAIN: a unix socket whose backlog is full. */
	if (connect(l->fd, sa, l->address->len) != 0 &&
	    errno != EINPROGRESS) {
		link_fail(l, "connect", errno);
		return;
	}
	(void)event_add(&l->read_event, NULL);
	(void)event_add(&l->write_event, NULL);
}

struct milter_link *
milter_link_new(const struct milter_spec *spec,
    const struct milter_address *a, struct milter_client *client,
    milter_answered *answered, void *arg)
{
	struct milter_link *l = mem_alloc(sizeof *l);

	l->spec = spec;
	l->address = a;
	l->client = client;
	l->answered = answered;
	l->arg = arg;
	l->fd = -1;
	l->soon = (struct loop_work){ .fn = link_soon, .arg = l };
	(void)event_assign(&l->timer, loop_base(), -1, 0, on_timer, l);
	buf_init(&l->in, MILTER_PACKET_MAX + 2 * PIECE);
	return l;
}

void
milter_link_free(struct milter_link **lp)
{
	struct milter_link *l = *lp;

	if (l == NULL)
		return;
	loop_forget(&l->soon);
	link_close(l);
	buf_free(&l->in);
	free(l);
	*lp = NULL;
}

void
milter_link_adopt(struct milter_link *l, milter_answered *answered, void *arg)
{
	ensure(!l->waits);
	l->answered = answered;
	l->arg = arg;
}

/* What is due now: a connection, bytes to write. */
static void
link_begin(struct milter_link *l, int64_t ms)
{
	l->waits = true;
	l->ms = ms;
	l->times = 0;
	if (l->fd < 0)
		link_connect(l);
	if (l->fd < 0)
		return;
	link_wait(l);
	if (!l->connected)
		return;
	(void)event_add(&l->read_event, NULL);
	link_write(l);
}

void
milter_link_go(struct milter_link *l, int64_t ms)
{
	/* Whatever it means, it was not an answer to this. */
	if (l->in.n > 0)
		link_fail(l, "answers before it is asked", 0);
	if (milter_client_waiting(l->client)) {
		link_begin(l, ms);
		return;
	}
	l->waits = true;
	link_done(l);
}

void
milter_link_drain(struct milter_link *l, int64_t ms)
{
	l->drains = true;
	link_begin(l, ms);
}

bool
milter_link_late(const struct milter_link *l)
{
	return l->late;
}

void
milter_link_flush(struct milter_link *l)
{
	if (l->connected)
		link_write(l);
}
