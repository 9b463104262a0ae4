#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/postern.h"

#define ANSWER_MAX	(1u << 20)
#define GREETING_MAX	512u

pid_t
postern_running(const struct conf *cf)
{
	char *path = mem_printf("%s/%s", cf->queue_directory, MASTER_LOCK);
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 && errno != ENOENT)
		fatal("cannot open %s: %s", path, strerror(errno));
	free(path);
	if (fd < 0)
		return 0;
	/* Only who could set the lock knows that it is free. */
	if (fcntl(fd, F_GETLK, &all) != 0)
		fatal("cannot ask for the lock of master: %s",
		    strerror(errno));
	close(fd);
	return all.l_type == F_UNLCK ? 0 : all.l_pid;
}

/*
 * A socket's path has at most 107 bytes, a queue directory may have more: so
 * we go there for the moment.
 */
static int
postern_connect(const struct conf *cf)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX,
		.sun_path = MASTER_CONTROL };
	int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int saved;

	if (fd < 0)
		fatal("socket: %s", strerror(errno));
	if (chdir(cf->queue_directory) != 0 ||
	    connect(fd, (struct sockaddr *)&un, sizeof un) != 0) {
		saved = errno;
		close(fd);
		fd = -1;
		errno = saved;
	}
	saved = errno;
	if (here >= 0) {
		if (fchdir(here) != 0)
			log_warn("cannot return to the directory I came from");
		close(here);
	}
	errno = saved;
	return fd;
}

/* What is complete stays, without the last line, which is the result. */
static bool
postern_result(struct buf *answer, const char **ret_error)
{
	static char error[2048];
	struct view all = buf_view(answer), line;
	size_t start = all.n;

	if (start > 0 && all.p[start - 1] == '\n')
		all.n--;
	for (start = all.n; start > 0 && all.p[start - 1] != '\n'; start--)
		;
	line = view_from(all, start);
	answer->n = start;
	if (view_is(line, "OK"))
		return true;
	*ret_error = NULL;
	if (view_starts_nocase(line, "ERROR ")) {
		line = view_from(line, strlen("ERROR "));
		snprintf(error, sizeof error, "%.*s", VIEW_ARGS(line));
		*ret_error = error;
	}
	return false;
}

bool
postern_fetch(const struct conf *cf, const char *command, struct buf *answer,
    const char **ret_error)
{
	int fd = postern_connect(cf);
	ssize_t n;
	char *to;

	*ret_error = "cannot reach master";
	if (fd < 0) {
		*ret_error = errno == EACCES || errno == EPERM ?
		    "only the owner of this instance may do that" :
		    "Postern is not running";
		return false;
	}
	if (dprintf(fd, "%s\n", command) < 0) {
		close(fd);
		return false;
	}
	while ((to = buf_room(answer, 4096)) != NULL) {
		n = read(fd, to, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		answer->n += (size_t)n;
	}
	close(fd);
	return postern_result(answer, ret_error);
}

bool
postern_ask(const struct conf *cf, const char *command,
    const char **ret_error)
{
	struct buf answer;
	bool ok;

	buf_init(&answer, ANSWER_MAX);
	ok = postern_fetch(cf, command, &answer, ret_error);
	if (answer.n > 0)
		(void)fwrite(answer.p, 1, answer.n, stdout);
	fflush(stdout);
	buf_free(&answer);
	return ok;
}

/* -- do the ports answer? -------------------------------------------------- */

static int64_t
left_ms(struct mono end)
{
	int64_t us = mono_since(clock_mono(), end);

	return us > 0 ? us / 1000 + 1 : 0;
}

static bool
wait_for(int fd, short events, struct mono end)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, (int)left_ms(end)) == 1;
}

/* Who listens everywhere is reached at home. */
static struct netaddr
reachable(const struct netaddr *a)
{
	static const uint8_t none[sizeof a->b];
	struct netaddr home;

	if (memcmp(a->b, none, sizeof none) != 0 || !netaddr_parse(view_of(
	    a->family == AF_INET6 ? "::1" : "127.0.0.1"), &home))
		return *a;
	home.port = a->port;
	return home;
}

/* The first reply line, or why there was none. */
static void
greeting(const struct netaddr *a, struct mono end, char *ret, size_t size)
{
	static const char quit[] = "QUIT\r\n";
	struct netaddr to = reachable(a);
	struct sockaddr_storage ss;
	socklen_t n = netaddr_to_sockaddr(&to, &ss);
	size_t have = 0;
	ssize_t k;
	int fd;

	snprintf(ret, size, "no connection");
	fd = socket(to.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if ((connect(fd, (struct sockaddr *)&ss, n) != 0 &&
	    errno != EINPROGRESS) || !wait_for(fd, POLLOUT, end)) {
		close(fd);
		return;
	}
	snprintf(ret, size, "no greeting");
	while (have + 1 < size && wait_for(fd, POLLIN, end) &&
	    (k = read(fd, ret + have, size - 1 - have)) > 0) {
		have += (size_t)k;
		ret[have] = '\0';
		if (strchr(ret, '\n') != NULL)
			break;
	}
	ret[strcspn(ret, "\r\n")] = '\0';
	/* The end is in order too: no "lost connection" in the log. */
	if (send(fd, quit, strlen(quit), MSG_NOSIGNAL) > 0)
		while (wait_for(fd, POLLIN, end) &&
		    read(fd, (char[256]){ 0 }, 256) > 0)
			;
	close(fd);
}

const char *
postern_wait_ports(const struct listen_set *set, int64_t limit_ms)
{
	static char why[GREETING_MAX + LISTEN_TEXT + 8];
	char text[LISTEN_TEXT], said[GREETING_MAX];
	struct mono end = { clock_mono().us + limit_ms * 1000 };
	size_t i;

	for (i = 0; i < set->n; i++)
		for (;;) {
			greeting(&set->list[i].addr, end, said, sizeof said);
			if (strncmp(said, "220", 3) == 0)
				break;
			if (left_ms(end) == 0) {
				snprintf(why, sizeof why, "%s: %s",
				    listen_text(&set->list[i].addr, text),
				    said);
				return why;
			}
			usleep(20000);
		}
	return NULL;
}
