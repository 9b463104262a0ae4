/*
 * refresh LOG-NAME SINK FACILITY MS DIRECTORY NAME COMMAND...
 *
 * Runs smtp_sasl_token_command once for one file of smtp_sasl_token_directory
 * and puts what the command writes in the place of that file.  master starts it
 * as smtp_sasl_token_command_user (proxy/master_token.c says why it is a
 * program of its own); descriptor 3 is the log.
 *
 * The command has NAME as its last argument, nothing to read, no descriptor but
 * those three, an environment of PATH and LANG, and MS milliseconds.  What it
 * leaves running is ended.  A file is replaced as a whole, and only by a token
 * that has not expired; only one that is there already, so that a name that
 * nobody made is none.  Exit status: 0 if it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/write_all.h"
#include "proxy/credentials_token.h"

#define LOG_FD		3
#define ERRORS_MAX	4096u	/* bytes of what it says on stderr */
#define ERROR_LINES	10u
#define ERROR_LINE	200u
#define ENDS_MAX	100	/* rounds of ending what it left */
#define PIECES_MAX	32u	/* before the clock is looked at */
#define EXEC_FAILED	127

enum { ARG_LOG = 1, ARG_SINK, ARG_FACILITY, ARG_MS, ARG_DIRECTORY, ARG_NAME,
	ARG_COMMAND };

static struct {
	const char *name;
	int directory;
	pid_t pid;
	int ended, signals;	/* descriptors */
	int out, err;		/* -1: at its end */
	struct buf token, errors;
	bool too_long;
	struct mono deadline;
} run;

/* -- the command ------------------------------------------------------------ */

__attribute__((noreturn))
static void
child_run(char **argv, int out, int err)
{
	char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin", lang[] = "LANG=C";
	char *env[] = { path, lang, NULL };
	const struct rlimit none = { 0, 0 };
	struct sigaction sa = { .sa_handler = SIG_DFL };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), sig;
	sigset_t empty;

	(void)setsid();
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	for (sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &sa, NULL);
	sigemptyset(&empty);
	(void)sigprocmask(SIG_SETMASK, &empty, NULL);
	/* What it would hold are secrets. */
	if (setrlimit(RLIMIT_CORE, &none) != 0 || null < 0 ||
	    dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 ||
	    close_range(3, ~0u, 0) != 0 || chdir("/") != 0)
		_exit(EXEC_FAILED);
	(void)execve(argv[0], argv, env);
	(void)dprintf(2, "cannot execute %s: %s\n", argv[0], strerror(errno));
	_exit(EXEC_FAILED);
}

static const char *
run_start(char **argv)
{
	int out[2], err[2];

	if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
		return strerror(errno);
	log_flush();
	run.pid = fork();
	if (run.pid == 0)
		child_run(argv, out[1], err[1]);
	if (run.pid < 0)
		return strerror(errno);
	(void)close(out[1]);
	(void)close(err[1]);
	run.out = out[0];
	run.err = err[0];
	(void)fcntl(run.out, F_SETFL, O_NONBLOCK);
	(void)fcntl(run.err, F_SETFL, O_NONBLOCK);
	run.ended = (int)syscall(SYS_pidfd_open, run.pid, 0);
	return run.ended < 0 ? strerror(errno) : NULL;
}

/* What is there to read; what has no room in b is dropped. */
static void
run_hear(int *fd, struct buf *b, bool *ret_full)
{
	char piece[4096];
	unsigned pieces = 0;
	ssize_t n = -1;
	size_t room;

	/* Not for ever: it may write faster than we read. */
	while (*fd >= 0 && pieces++ < PIECES_MAX &&
	    ((n = read(*fd, piece, sizeof piece)) > 0 ||
	    (n < 0 && errno == EINTR))) {
		if (n < 0)
			continue;
		room = b->max - b->n;
		if ((size_t)n > room && ret_full != NULL)
			*ret_full = true;
		(void)buf_putv(b, view_head(view_make(piece, (size_t)n),
		    room));
		if (ret_full != NULL && *ret_full)
			break;
	}
	explicit_bzero(piece, sizeof piece);
	if (*fd >= 0 && n == 0) {
		(void)close(*fd);
		*fd = -1;
	}
}

/* NULL: it ended by itself. */
static const char *
run_wait(void)
{
	struct pollfd p[4];
	int64_t ms;
	int n;

	for (;;) {
		p[0] = (struct pollfd){ .fd = run.ended, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = run.signals, .events = POLLIN };
		p[2] = (struct pollfd){ .fd = run.out, .events = POLLIN };
		p[3] = (struct pollfd){ .fd = run.err, .events = POLLIN };
		ms = (run.deadline.us - clock_mono().us) / 1000;
		if (ms <= 0)
			return "it took too long";
		n = poll(p, 4, ms > 60000 ? 60000 : (int)ms + 1);
		if (n < 0 && errno != EINTR)
			return strerror(errno);
		if (n <= 0)
			continue;
		run_hear(&run.out, &run.token, &run.too_long);
		run_hear(&run.err, &run.errors, NULL);
		if (run.too_long)
			return "it writes too much";
		if ((p[1].revents & POLLIN) != 0)
			return "Postern stops";
		if ((p[0].revents & POLLIN) != 0)
			return NULL;
	}
}

/* Those that left its group are our children now. */
static void
run_end_strays(void)
{
	struct view rest, word;
	char list[256];
	unsigned round;
	int64_t pid;
	ssize_t n;
	int fd;

	for (round = 0; round < ENDS_MAX; round++) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? 0 : read(fd, list, sizeof list);
		if (fd >= 0)
			(void)close(fd);
		/* The last number may have been cut; a whole one has a space
		 * behind it. */
		while (n > 0 && list[n - 1] != ' ')
			n--;
		if (n <= 0)
			return;
		rest = view_make(list, (size_t)n);
		while ((word = view_word(&rest, " ")).n > 0)
			if (conf_parse_int(word, 2, INT32_MAX, &pid))
				(void)kill((pid_t)pid, SIGKILL);
		(void)waitpid(-1, NULL, 0);
	}
}

static int
run_end(void)
{
	int status = -1;

	/* As long as the first of them is not reaped, the number is theirs. */
	(void)kill(-run.pid, SIGKILL);
	(void)kill(run.pid, SIGKILL);
	while (waitpid(run.pid, &status, 0) < 0 && errno == EINTR)
		;
	run_end_strays();
	return status;
}

/* -- what came of it -------------------------------------------------------- */

static void
errors_log(void)
{
	struct view rest = buf_view(&run.errors), line;
	unsigned n;

	for (n = 0; n < ERROR_LINES && rest.n > 0; n++) {
		line = view_head(rest, view_find(rest, '\n'));
		rest = view_from(rest, line.n < rest.n ? line.n + 1 : line.n);
		line = view_trim(view_head(line, ERROR_LINE));
		if (line.n > 0)
			log_info("token %s: the command says: %s", run.name,
			    log_safe(line));
	}
}

static const char *
file_is_there(void)
{
	struct stat st;

	if (fstatat(run.directory, run.name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return strerror(errno);
	return S_ISREG(st.st_mode) ? NULL : "not a regular file";
}

/* All or nothing; the directory says by its group who may read it. */
static const char *
file_put(struct view text)
{
	char *new = mem_printf(".%s.new", run.name);
	const char *why = NULL;
	int fd;

	(void)unlinkat(run.directory, new, 0);
	fd = openat(run.directory, new, O_WRONLY | O_CREAT | O_EXCL |
	    O_NOFOLLOW | O_CLOEXEC, 0640);
	if (fd < 0 || !write_all(fd, text) || fsync(fd) != 0 ||
	    renameat(run.directory, new, run.directory, run.name) != 0) {
		why = strerror(errno);
		if (fd >= 0)
			(void)unlinkat(run.directory, new, 0);
	}
	if (fd >= 0)
		(void)close(fd);
	free(new);
	return why;
}

static const char *
token_take(void)
{
	int64_t now = clock_wall().us / 1000000;
	struct token t;
	const char *why = token_read(buf_view(&run.token), now, &t);

	if (why != NULL)
		return why;
	if (t.expires > 0 && t.expires <= now)
		return "the token has expired";
	why = file_put(buf_view(&run.token));
	if (why != NULL)
		return why;
	if (t.expires > 0)
		log_info("token %s: renewed, good for %lld s", run.name,
		    (long long)(t.expires - now));
	else
		log_info("token %s: renewed", run.name);
	return NULL;
}

static bool
refresh(char **argv)
{
	const char *why = file_is_there(), *what = "the file";
	int status = 0;

	if (why == NULL) {
		what = "the command";
		why = run_start(argv);
		if (why == NULL)
			why = run_wait();
		if (run.pid > 0)
			status = run_end();
		/* What it wrote just before it ended is there by now. */
		run_hear(&run.out, &run.token, &run.too_long);
		run_hear(&run.err, &run.errors, NULL);
		errors_log();
	}
	if (why == NULL && run.too_long)
		why = "it writes too much";
	if (why == NULL && WIFSIGNALED(status))
		log_warn("token %s: the command was ended by signal %d",
		    run.name, WTERMSIG(status));
	else if (why == NULL && WEXITSTATUS(status) != 0)
		log_warn("token %s: the command ended with status %d",
		    run.name, WEXITSTATUS(status));
	else if (why == NULL && (why = token_take()) == NULL)
		return true;
	else
		log_warn("token %s: not renewed: %s: %s", run.name, what, why);
	return false;
}

static bool
refresh_init(int argc, char **argv)
{
	char host[256] = "localhost";
	int64_t sink, facility, ms;
	sigset_t mask;

	if (argc <= ARG_COMMAND + 1 ||
	    !conf_parse_int(view_of(argv[ARG_SINK]), 0, 2, &sink) ||
	    !conf_parse_int(view_of(argv[ARG_FACILITY]), 0, 1023, &facility) ||
	    !conf_parse_int(view_of(argv[ARG_MS]), 1, INT32_MAX, &ms) ||
	    fcntl(LOG_FD, F_SETFD, FD_CLOEXEC) != 0)
		return false;
	(void)gethostname(host, sizeof host - 1);
	log_open(argv[ARG_LOG], host);
	log_to((enum log_sink)sink, LOG_FD, (int)facility);
	run.name = argv[ARG_NAME];
	run.deadline.us = clock_mono().us + ms * 1000;
	if (geteuid() == 0 || !token_name_plain(view_of(run.name)))
		fatal("this is not run as root, nor for such a name");
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	(void)prctl(PR_SET_NAME, "refresh", 0, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0 ||
	    sigprocmask(SIG_SETMASK, &mask, NULL) != 0)
		fatal("cannot prepare: %s", strerror(errno));
	run.signals = signalfd(-1, &mask, SFD_CLOEXEC);
	run.directory = open(argv[ARG_DIRECTORY],
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (run.signals < 0 || run.directory < 0)
		fatal("%s: %s", argv[ARG_DIRECTORY], strerror(errno));
	run.out = run.err = -1;
	buf_init(&run.token, TOKEN_TEXT_MAX);
	buf_init(&run.errors, ERRORS_MAX);
	ensure(buf_room(&run.token, TOKEN_TEXT_MAX) != NULL &&
	    buf_room(&run.errors, ERRORS_MAX) != NULL);
	(void)umask(027);
	return true;
}

int
main(int argc, char **argv)
{
	bool ok;

	if (!refresh_init(argc, argv)) {
		(void)fprintf(stderr, "refresh is started by master only\n");
		return 2;
	}
	ok = refresh(argv + ARG_COMMAND);
	explicit_bzero(run.token.p, run.token.cap);
	buf_free(&run.token);
	buf_free(&run.errors);
	log_flush();
	return ok ? 0 : 1;
}
