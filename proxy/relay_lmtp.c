#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "lib/role.h"
#include "proxy/relay_lmtp.h"

#define LMTP_PORT	24

uint16_t
relay_lmtp_port(const char *text)
{
	char *with_colon = mem_printf(":%s", text);
	struct view none;
	uint16_t port;

	if (!netaddr_split_hostport(view_of(with_colon), &none, &port,
	    LMTP_PORT) || none.n > 0 || port == 0) {
		log_warn("lmtp_tcp_port: bad port: %s", text);
		port = LMTP_PORT;
	}
	free(with_colon);
	return port;
}

bool
relay_lmtp_nexthop(struct view text, uint16_t port,
    struct relay_nexthop *ret)
{
	struct relay_nexthop h = { 0 };

	text = view_trim(text);
	if (view_starts_nocase(text, "unix:")) {
		h.host = h.path = view_from(text, sizeof "unix:" - 1);
		if (h.path.n == 0)
			return false;
		*ret = h;
		return true;
	}
	if (view_starts_nocase(text, "inet:"))
		text = view_from(text, sizeof "inet:" - 1);
	if (!relay_nexthop_parse(text, &h))
		return false;
	h.mx = false;
	if (!h.port_given)
		h.port = h.addr.port = port;
	*ret = h;
	return true;
}

/*
 * The path as this process sees it.  A jail's directory is queue_directory;
 * a path that leads out of it is no path there, and must not become another
 * one within.
 */
static char *
lmtp_path(const struct conf *cf, struct view path)
{
	struct view queue = view_of(cf->queue_directory);
	const char *root = role_root();
	char *whole = path.p[0] == '/' ? mem_copy(path) :
	    mem_printf("%.*s/%.*s", VIEW_ARGS(queue), VIEW_ARGS(path));
	struct view v = view_of(whole);
	size_t n = strlen(root);
	char *inside = NULL;

	if (n == 0)
		return whole;
	if (v.n > n && v.p[n] == '/' && memcmp(v.p, root, n) == 0)
		inside = mem_strdup(whole + n);
	free(whole);
	return inside;
}

int
relay_lmtp_socket(const struct conf *cf, struct view path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char *name = lmtp_path(cf, path);
	int fd, error = 0;

	if (name == NULL) {
		errno = EXDEV;
		return -1;
	}
	if (strlen(name) >= sizeof sa.sun_path) {
		free(name);
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(sa.sun_path, name, strlen(name));
	free(name);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	/* At once, or not at all: EAGAIN says that its backlog is full. */
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

const char *
relay_lmtp_error(int error)
{
	switch (error) {
	case EXDEV:
		return "outside of queue_directory, which this process is "
		    "locked into: see lmtp(8)";
	case EAGAIN:
		return "too many connections are waiting there";
	default:
		return strerror(error);
	}
}
