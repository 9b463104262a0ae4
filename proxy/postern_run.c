#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/conf_source.h"
#include "lib/log_sink.h"
#include "lib/mem.h"
#include "proxy/postern.h"

#define START_LIMIT_MS	30000
#define STOP_MARGIN_S	30
#define SHOWN_MAX	50u	/* lines of the log after a failed start */
#define MAIN_CF_MAX	(1u << 20)

static void
run_silent(bool error, const char *text, void *arg)
{
	(void)error;
	(void)text;
	(void)arg;
}

/*
 * The settings of main.cf that any text is good for.  Stopping, or asking what is
 * wrong, must be possible with a broken main.cf, and takes no more than
 * queue_directory.
 */
static struct conf *
run_conf_texts(const char *config_dir)
{
	char *path = mem_printf("%s/main.cf", config_dir), *line = NULL;
	FILE *f = fopen(path, "re");
	const struct conf_param *param;
	struct conf *cf = NULL;
	struct view v, name;
	bool keep = false;
	struct buf text;
	size_t cap = 0;
	ssize_t n;

	buf_init(&text, MAIN_CF_MAX);
	while (f != NULL && (n = getline(&line, &cap, f)) > 0) {
		v = view_make(line, (size_t)n);
		if (!view_space(line[0])) {
			name = view_head(v, view_find(v, '='));
			keep = name.n < v.n && line[0] != '#';
			param = conf_param_find(view_trim(name));
			if (param == NULL)
				param = conf_composed(view_trim(name));
			if (param != NULL && !conf_param_is_text(param))
				keep = false;
			/* Else what is set for each of them counts. */
			if (view_is(view_trim(name), "filter_policy_classes"))
				keep = false;
		}
		if (keep && !buf_putv(&text, v))
			break;
	}
	if (f != NULL) {
		fclose(f);
		cf = conf_parse(buf_view(&text), path, run_silent, NULL);
	}
	free(line);
	free(path);
	buf_free(&text);
	return cf;
}

/* What the verbs below need of main.cf; mistakes are `check`'s business. */
struct conf *
postern_conf(const struct postern *p)
{
	struct conf *cf = conf_load(p->config_dir, run_silent, NULL);

	if (cf == NULL)
		cf = run_conf_texts(p->config_dir);
	if (cf == NULL)
		fatal("cannot use %s/main.cf", p->config_dir);
	return cf;
}

static void
run_no_words(int argc, char **argv)
{
	if (argc != 1)
		fatal("usage: postern %s", argv[0]);
}

/* -- start ---------------------------------------------------------------- */

static struct config *
start_check(struct postern *p)
{
	struct conf *cf = postern_conf(p);
	struct config *c;
	pid_t pid = postern_running(cf);

	if (pid != 0)
		fatal("Postern is already running here (process %d)",
		    (int)pid);
	conf_free(&cf);
	c = postern_check_all(p, false);
	if (c == NULL)
		fatal("not started: see the errors above");
	return c;
}

int
postern_start_fg(struct postern *p, int argc, char **argv)
{
	struct config *c;
	char *path, *args[5];

	run_no_words(argc, argv);
	c = start_check(p);
	path = mem_printf("%s/master", c->cf->daemon_directory);
	args[0] = mem_strdup("master");
	args[1] = mem_strdup("-c");
	args[2] = mem_strdup(p->config_dir);
	args[3] = mem_strdup("-d");
	args[4] = NULL;
	log_flush();
	(void)execv(path, args);
	fatal("cannot execute %s: %s", path, strerror(errno));
}

__attribute__((noreturn))
static void
start_exec(const struct config *c, const char *config_dir, int errors)
{
	char *path = mem_printf("%s/master", c->cf->daemon_directory);
	char *args[4];
	int null = open("/dev/null", O_RDWR);

	args[0] = mem_strdup("master");
	args[1] = mem_strdup("-c");
	args[2] = mem_strdup(config_dir);
	args[3] = NULL;
	(void)setsid();
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
	    dup2(errors, 2) < 0)
		_exit(126);
	(void)close_range(3, ~0u, 0);
	(void)execv(path, args);
	log_error("cannot execute %s: %s", path, strerror(errno));
	_exit(127);
}

/*
 * Show what master has to say until it is up (it closes the pipe) or gone.
 * False: the time is over.
 */
static bool
start_listen(int fd, struct mono end)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char text[4096];
	int64_t left;
	ssize_t n;

	for (;;) {
		left = mono_since(clock_mono(), end) / 1000;
		if (left <= 0)
			return false;
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		n = read(fd, text, sizeof text);
		if (n <= 0)
			return true;
		(void)fwrite(text, 1, (size_t)n, stderr);
	}
}

/* Is there nothing that is written to but what this command writes to? */
static bool
start_no_log(const struct conf *cf)
{
	enum log_sink sink;

	if (cf->maillog_file[0] != '\0')
		return false;
	close(log_sink_open("", &sink));
	return sink == LOG_SINK_STDERR;
}

/*
 * The same without a pipe: what logs to our standard error keeps that open.
 * False: the time is over.
 */
static bool
start_await(const struct conf *cf, pid_t pid, struct mono end)
{
	const char *why;

	while (mono_since(clock_mono(), end) > 0) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return true;
		if (postern_running(cf) == pid &&
		    postern_ask(cf, "up", &why))
			return true;
		usleep(20000);
	}
	return false;
}

/* What the roles found wrong stands in the log only: show it here too. */
static void
start_show_log(const struct conf *cf, off_t from)
{
	static const char *const bad[] = { ": fatal: ", ": panic: ",
		": error: " };
	FILE *f = cf->maillog_file[0] != '\0' ?
	    fopen(cf->maillog_file, "re") : NULL;
	char *line = NULL;
	size_t cap = 0, i;
	unsigned shown = 0;

	if (f == NULL)
		return;
	(void)fseeko(f, from, SEEK_SET);
	while (shown < SHOWN_MAX && getline(&line, &cap, f) > 0)
		for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
			if (strstr(line, bad[i]) != NULL) {
				(void)fputs(line, stderr);
				shown++;
				break;
			}
	free(line);
	fclose(f);
}

__attribute__((noreturn))
static void
start_failed(const struct conf *cf, off_t log, pid_t pid, const char *why)
{
	int status;

	(void)kill(pid, SIGTERM);
	(void)waitpid(pid, &status, 0);
	start_show_log(cf, log);
	fatal("not started: %s", why);
}

int
postern_start(struct postern *p, int argc, char **argv)
{
	struct mono end = { clock_mono().us + START_LIMIT_MS * 1000 };
	struct config *c;
	struct stat st;
	const char *why;
	int pair[2];
	bool no_log;
	off_t log;
	pid_t pid;

	if (argc == 2 && strcmp(argv[1], "-d") == 0)
		return postern_start_fg(p, 1, argv);
	run_no_words(argc, argv);
	c = start_check(p);
	log = stat(c->cf->maillog_file, &st) == 0 ? st.st_size : 0;
	no_log = start_no_log(c->cf);
	if (pipe2(pair, O_CLOEXEC) != 0)
		fatal("pipe: %s", strerror(errno));
	fflush(stderr);
	pid = fork();
	if (pid < 0)
		fatal("fork: %s", strerror(errno));
	if (pid == 0)
		start_exec(c, p->config_dir, no_log ? STDERR_FILENO :
		    pair[1]);
	close(pair[1]);
	if (no_log ? !start_await(c->cf, pid, end) :
	    !start_listen(pair[0], end))
		start_failed(c->cf, log, pid, "it did not get ready in time");
	/* Only a living master answers; a port may belong to somebody else. */
	if (!postern_ask(c->cf, "up", &why))
		start_failed(c->cf, log, pid, "see above");
	why = postern_wait_ports(c,
	    mono_since(clock_mono(), end) / 1000);
	if (why != NULL)
		start_failed(c->cf, log, pid, why);
	printf("Postern is running (process %d)\n", (int)pid);
	config_free(&c);
	return 0;
}

/* -- the others ----------------------------------------------------------- */

static pid_t
run_pid(const struct conf *cf)
{
	pid_t pid = postern_running(cf);

	if (pid == 0)
		fatal("Postern is not running");
	return pid;
}

int
postern_stop(struct postern *p, int argc, char **argv)
{
	struct conf *cf = postern_conf(p);
	const char *why;
	int64_t tries;
	pid_t pid;

	run_no_words(argc, argv);
	pid = run_pid(cf);
	/* The answer is the end of the connection. */
	if (!postern_ask(cf, "stop", &why) && why != NULL &&
	    kill(pid, SIGTERM) != 0 && errno != ESRCH)
		fatal("cannot stop process %d: %s", (int)pid, why);
	tries = cf->stop_time_limit / 10 + STOP_MARGIN_S * 100;
	while (postern_running(cf) == pid) {
		if (tries-- == 0)
			fatal("process %d does not end", (int)pid);
		usleep(10000);
	}
	conf_free(&cf);
	return 0;
}

int
postern_reload(struct postern *p, int argc, char **argv)
{
	/* The new main.cf may be broken: that is master's to say. */
	struct config *c;
	struct conf *cf;
	const char *why = NULL;

	run_no_words(argc, argv);
	cf = postern_conf(p);
	(void)run_pid(cf);
	if (postern_ask(cf, "reload", &why)) {
		conf_free(&cf);
		return 0;
	}
	/* What a role found wrong stands in the log; say it here as well. */
	c = postern_check_all(p, false);
	config_free(&c);
	conf_free(&cf);
	fatal("%s", why != NULL ? why : "master ended meanwhile");
}

int
postern_status(struct postern *p, int argc, char **argv)
{
	struct conf *cf = postern_conf(p);
	const char *why = NULL;

	run_no_words(argc, argv);
	if (postern_running(cf) == 0) {
		printf("Postern is not running\n");
		conf_free(&cf);
		return POSTERN_NOT_RUNNING;
	}
	if (!postern_ask(cf, "status", &why))
		fatal("%s", why != NULL ? why : "master ended meanwhile");
	conf_free(&cf);
	return 0;
}

/* A command without further ado. */
static int
run_simple(const struct postern *p, const char *command)
{
	struct conf *cf = postern_conf(p);
	const char *why = NULL;

	(void)run_pid(cf);
	if (!postern_ask(cf, command, &why))
		fatal("%s", why != NULL ? why : "master ended meanwhile");
	conf_free(&cf);
	return 0;
}

int
postern_flush_all(struct postern *p)
{
	return run_simple(p, "flush");
}

int
postern_log(struct postern *p, int argc, char **argv)
{
	run_no_words(argc, argv);
	return run_simple(p, "log");
}
