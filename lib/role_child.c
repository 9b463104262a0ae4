#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/mem.h"
#include "lib/role_child.h"

#define CONTROL_FD	3
#define LOCK_FD		4

/* Of our environment a role gets only this. */
char **
role_child_environment(void)
{
	static const char *const kept[] = { "TZ", "ASAN_OPTIONS",
		"UBSAN_OPTIONS", "LSAN_OPTIONS" };
	static char *env[2 + sizeof kept / sizeof kept[0] + 1];
	const char *value;
	size_t n = 0, i;

	env[n++] = mem_strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
	env[n++] = mem_strdup("LANG=C");
	for (i = 0; i < sizeof kept / sizeof kept[0]; i++)
		if ((value = getenv(kept[i])) != NULL)
			env[n++] = mem_printf("%s=%s", kept[i], value);
	env[n] = NULL;
	return env;
}

void
role_child_exec(const char *path, const char *name, char **env, int control,
    int errors, int lock)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	char *argv[2] = { mem_strdup(name), NULL };
	int null, top = CONTROL_FD;
	sigset_t none;

	/* Out of the way of the numbers they get. */
	control = fcntl(control, F_DUPFD, 16);
	errors = fcntl(errors, F_DUPFD, 16);
	if (lock >= 0)
		lock = fcntl(lock, F_DUPFD, 16);
	null = open("/dev/null", O_RDWR);
	if (control < 0 || errors < 0 || null < 0 || dup2(null, 0) < 0 ||
	    dup2(null, 1) < 0 || dup2(errors, 2) < 0 ||
	    dup2(control, CONTROL_FD) < 0)
		_exit(126);
	if (lock >= 0 && dup2(lock, top = LOCK_FD) < 0)
		_exit(126);
	(void)close_range((unsigned)top + 1, ~0u, 0);
	(void)sigaction(SIGPIPE, &sa, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	execve(path, argv, env);
	_exit(127);
}

int
role_child_snapshot(struct view text)
{
	int fd = memfd_create("main.cf", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK |
	    F_SEAL_SEAL) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

void
role_child_init(struct chan *c, const struct role_init *in, int snapshot,
    int log)
{
	struct buf *b = chan_begin(c, MSG_INIT);

	put_u32(b, in->generation);
	put_u32(b, in->index);
	put_u32(b, in->service);
	put_u8(b, in->jailed);
	put_u8(b, in->lmtp);
	put_view(b, view_of(in->user));
	put_view(b, view_of(in->root));
	put_view(b, view_of(in->config_dir));
	put_view(b, view_of(in->service_name));
	put_view(b, view_of(in->log_name));
	put_u8(b, (uint8_t)in->sink);
	put_u8(b, (uint8_t)in->log_level);
	chan_put_fd(c, snapshot, false);
	chan_put_fd(c, log, false);
	chan_end(c);
}
