#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/engine_net.h"

bool
net_init(struct net *n, struct view endpoint)
{
	size_t i = endpoint.n;

	*n = (struct net){ .fd = -1 };
	buf_init(&n->in, NET_INPUT_MAX);
	if (view_starts_nocase(endpoint, "unix:")) {
		n->host = mem_copy(view_from(endpoint, 5));
		return n->host[0] == '/' && strlen(n->host) <
		    sizeof(((struct sockaddr_un *)0)->sun_path);
	}
	if (view_starts_nocase(endpoint, "inet:")) {
		endpoint = view_from(endpoint, 5);
		i = endpoint.n;
	}
	while (i > 0 && endpoint.p[i - 1] != ':')
		i--;
	if (i < 2 || i == endpoint.n)
		return false;
	n->port = mem_copy(view_from(endpoint, i));
	endpoint = view_head(endpoint, i - 1);
	if (endpoint.p[0] == '[' && endpoint.p[endpoint.n - 1] == ']')
		endpoint = view_make(endpoint.p + 1, endpoint.n - 2);
	n->host = mem_copy(endpoint);
	return endpoint.n > 0 && memchr(n->host, '[', endpoint.n) == NULL;
}

void
net_free(struct net *n)
{
	net_close(n);
	free(n->host);
	free(n->port);
	buf_free(&n->in);
}

void
net_limit(struct net *n, int64_t ms)
{
	n->until.us = clock_mono().us + ms * 1000;
}

void
net_close(struct net *n)
{
	if (n->fd >= 0)
		(void)close(n->fd);
	n->fd = -1;
	n->used = false;
	buf_free(&n->in);
}

static bool
net_failed(struct net *n, const char *what, const char *why, struct buf *err)
{
	(void)buf_printf(err, "%s%s%s: %s: %s", n->host,
	    n->port != NULL ? ":" : "", n->port != NULL ? n->port : "", what,
	    why);
	net_close(n);
	return false;
}

/* False: errno. */
static bool
net_wait(const struct net *n, int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	int64_t left;
	int rc;

	do {
		left = (n->until.us - clock_mono().us + 999) / 1000;
		if (left <= 0) {
			errno = ETIMEDOUT;
			return false;
		}
		rc = poll(&p, 1, left > 60000 ? 60000 : (int)left);
	} while (rc == 0 || (rc < 0 && errno == EINTR));
	return rc > 0;
}

static int
net_connect(const struct net *n, int family, const struct sockaddr *sa,
    socklen_t len)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    0), error = 0;
	socklen_t size = sizeof error;

	if (fd < 0)
		return -1;
	if (connect(fd, sa, len) == 0)
		return fd;
	if (errno == EINPROGRESS && net_wait(n, fd, POLLOUT) &&
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0) {
		if (error == 0)
			return fd;
		errno = error;
	}
	error = errno;
	(void)close(fd);
	errno = error;
	return -1;
}

static bool
net_open_inet(struct net *n, struct buf *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *a;
	int rc = getaddrinfo(n->host, n->port, &hints, &list);

	if (rc != 0)
		return net_failed(n, "host name", gai_strerror(rc), err);
	for (a = list; a != NULL && n->fd < 0; a = a->ai_next)
		n->fd = net_connect(n, a->ai_family, a->ai_addr,
		    a->ai_addrlen);
	rc = errno;
	freeaddrinfo(list);
	errno = rc;
	return n->fd >= 0;
}

bool
net_open(struct net *n, struct buf *err)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (n->fd >= 0)
		return true;
	if (n->port == NULL) {
		memcpy(un.sun_path, n->host, strlen(n->host) + 1);
		n->fd = net_connect(n, AF_UNIX, (struct sockaddr *)&un,
		    sizeof un);
	} else if (!net_open_inet(n, err) && err->n > 0) {
		return false;
	}
	if (n->fd < 0)
		return net_failed(n, "connect", strerror(errno), err);
	return true;
}

bool
net_stale(struct net *n)
{
	struct pollfd p = { .fd = n->fd, .events = POLLIN };

	return n->in.n > 0 || poll(&p, 1, 0) != 0;
}

bool
net_write(struct net *n, struct view text, struct buf *err)
{
	ssize_t done;

	while (text.n > 0) {
		done = send(n->fd, text.p, text.n, MSG_NOSIGNAL);
		if (done > 0)
			text = view_from(text, (size_t)done);
		else if (done < 0 && errno != EINTR && (errno != EAGAIN ||
		    !net_wait(n, n->fd, POLLOUT)))
			return net_failed(n, "write", strerror(errno), err);
	}
	return true;
}

static bool
net_more(struct net *n, struct buf *err)
{
	size_t room = n->in.max - n->in.n;
	ssize_t got;
	char *to;

	if (room > 8192)
		room = 8192;
	to = room > 0 ? buf_room(&n->in, room) : NULL;
	if (to == NULL)
		return net_failed(n, "read", "the reply is too long", err);
	for (;;) {
		got = recv(n->fd, to, room, 0);
		if (got > 0) {
			n->in.n += (size_t)got;
			return true;
		}
		if (got == 0)
			return net_failed(n, "read",
			    "the server closed the connection", err);
		if (errno != EINTR && (errno != EAGAIN ||
		    !net_wait(n, n->fd, POLLIN)))
			return net_failed(n, "read", strerror(errno), err);
	}
}

bool
net_read(struct net *n, size_t want, struct buf *err)
{
	while (n->in.n < want)
		if (!net_more(n, err))
			return false;
	return true;
}

bool
net_line(struct net *n, size_t max, struct view *ret, struct buf *err)
{
	size_t end;

	while ((end = view_find(buf_view(&n->in), '\n')) == n->in.n) {
		if (n->in.n > max)
			return net_failed(n, "read", "the reply is too long",
			    err);
		if (!net_more(n, err))
			return false;
	}
	*ret = view_head(buf_view(&n->in), end);
	return true;
}
