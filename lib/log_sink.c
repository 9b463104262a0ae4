#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/log_sink.h"

/* For a container: its log is where the first process writes. */
static int
sink_standard(const char *file)
{
	if (strcmp(file, "/dev/stdout") == 0)
		return STDOUT_FILENO;
	if (strcmp(file, "/dev/stderr") == 0)
		return STDERR_FILENO;
	return -1;
}

static int
sink_file(const char *file)
{
	int fd = sink_standard(file);
	mode_t mask;

	if (fd >= 0)
		return fcntl(fd, F_DUPFD_CLOEXEC, 3);
	mask = umask(0);
	fd = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY,
	    0640);
	(void)umask(mask);
	return fd;
}

static int
sink_syslog(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX,
		.sun_path = "/dev/log" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&un, sizeof un) == 0)
		return fd;
	close(fd);
	return -1;
}

int
log_sink_open(const char *file, enum log_sink *ret_sink)
{
	int fd;

	*ret_sink = file[0] != '\0' ? LOG_SINK_FILE : LOG_SINK_SYSLOG;
	fd = file[0] != '\0' ? sink_file(file) : sink_syslog();
	if (fd >= 0)
		return fd;
	/* No log is no reason not to move mail. */
	*ret_sink = LOG_SINK_STDERR;
	fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		fatal("cannot duplicate a descriptor: %s", strerror(errno));
	return fd;
}
