#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/postern.h"

#define ANSWER_MAX	(1u << 20)

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
