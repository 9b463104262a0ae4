#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "queue/local_command.h"

#define OUTPUT_MAX	4096u	/* of the program that is kept */
#define PLAIN	"1234567890!@%-_=+:,./ \tabcdefghijklmnopqrstuvwxyz" \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define WORDS_MAX	100u
#define EXEC_FAILED	120	/* of our own child, before it is another */

struct run {
	const struct command *c;
	pid_t pid;
	int ended;		/* pidfd */
	int in, out;		/* its standard input; what it says */
	struct mono deadline;
	struct buf said;
	bool late;
};

/* -- environment ------------------------------------------------------------ */

void
environment_add(struct environment *e, const char *name, struct view value,
    const char *allowed)
{
	char *text, *p;

	/* What ends a value early is not passed on. */
	value = view_head(value, view_find(value, '\0'));
	text = mem_printf("%s=%.*s", name, VIEW_ARGS(value));
	for (p = text + strlen(name) + 1; *p != '\0'; p++)
		if (allowed != NULL && strchr(allowed, *p) == NULL)
			*p = '_';
	e->list = mem_resize(e->list, e->n + 2, sizeof *e->list);
	e->list[e->n++] = text;
	e->list[e->n] = NULL;
}

void
environment_free(struct environment *e)
{
	size_t i;

	for (i = 0; i < e->n; i++)
		free(e->list[i]);
	free(e->list);
}

/* -- the child's side ------------------------------------------------------- */

/* Returns how many; 0: none, or too many. */
static size_t
child_split(const char *text, char **words)
{
	struct view rest = view_of(text), word;
	size_t n = 0;

	while ((word = view_word(&rest, " \t")).n > 0) {
		if (n == WORDS_MAX)
			return 0;
		words[n++] = mem_copy(word);
	}
	words[n] = NULL;
	return n;
}

/* The words of a text that is no more than that; false: a shell is needed. */
static bool
child_words(const char *text, char **words)
{
	return text[0] == '/' && strspn(text, PLAIN) == strlen(text) &&
	    child_split(text, words) > 0;
}

static void
child_exec(const struct command *c)
{
	char sh[] = "/bin/sh", dash[] = "-c", *words[WORDS_MAX + 2];
	size_t n;

	if (c->argv != NULL) {
		(void)execvpe(c->argv[0], c->argv, c->env);
	} else if (c->shell != NULL && c->shell[0] != '\0') {
		n = child_split(c->shell, words);
		words[n] = mem_strdup(c->text);
		words[n + 1] = NULL;
		if (n > 0)
			(void)execve(words[0], words, c->env);
	} else if (child_words(c->text, words)) {
		(void)execve(words[0], words, c->env);
	} else {
		words[0] = sh;
		words[1] = dash;
		words[2] = mem_strdup(c->text);
		words[3] = NULL;
		(void)execve(words[0], words, c->env);
	}
}

__attribute__((noreturn))
static void
child_run(const struct command *c, int in, int out)
{
	const struct rlimit none = { 0, 0 }, size = { (rlim_t)c->file_limit,
		(rlim_t)c->file_limit };
	struct sigaction sa = { .sa_handler = SIG_DFL };
	int sig;

	(void)setsid();
	/* If we are killed it must not take the end of what it got for the
	 * end of the message. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	for (sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &sa, NULL);
	(void)alarm(0);
	/* What it would hold is mail. */
	(void)setrlimit(RLIMIT_CORE, &none);
	if ((c->file_limit > 0 && setrlimit(RLIMIT_FSIZE, &size) != 0) ||
	    dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 ||
	    close_range(3, ~0u, 0) != 0)
		_exit(EXEC_FAILED);
	if (chdir(c->directory != NULL ? c->directory : "/") != 0 &&
	    (c->must_be_there || chdir("/") != 0)) {
		(void)dprintf(2, "4.3.0 cannot change directory to %s: %s",
		    c->directory, strerror(errno));
		_exit(EX_TEMPFAIL);
	}
	child_exec(c);
	(void)dprintf(2, "4.3.0 cannot execute %s: %s", c->name,
	    strerror(errno));
	_exit(EX_TEMPFAIL);
}

/* -- our side --------------------------------------------------------------- */

static bool
run_start(struct run *r, struct fate *f)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 };

	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
		fate_errno(f, "4.3.0", errno, "cannot make a pipe");
		return false;	/* this process ends anyway */
	}
	r->pid = fork();
	if (r->pid == 0)
		child_run(r->c, in[0], out[1]);
	(void)close(in[0]);
	(void)close(out[1]);
	r->in = in[1];
	r->out = out[0];
	r->ended = r->pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, r->pid, 0);
	if (r->ended < 0) {
		fate_errno(f, "4.3.0", errno, "cannot start a command");
		if (r->pid > 0)
			(void)kill(r->pid, SIGKILL);
		return false;
	}
	(void)fcntl(r->in, F_SETFL, O_NONBLOCK);
	(void)fcntl(r->out, F_SETFL, O_NONBLOCK);
	r->deadline.us = clock_mono().us + r->c->time_limit * 1000;
	return true;
}

static void
run_hear(struct run *r)
{
	char piece[4096];
	ssize_t n;

	while ((n = read(r->out, piece, sizeof piece)) > 0 ||
	    (n < 0 && errno == EINTR))
		if (n > 0)
			(void)buf_putv(&r->said, view_head(view_make(piece,
			    (size_t)n), OUTPUT_MAX - r->said.n));
	if (n == 0) {
		(void)close(r->out);
		r->out = -1;
	}
}

/* Something can be done, or false: the time is over. */
static bool
run_wait(struct run *r, bool write, bool *ret_ended)
{
	struct pollfd p[3] = {
		{ .fd = r->ended, .events = POLLIN },
		{ .fd = r->out, .events = POLLIN },
		{ .fd = write ? r->in : -1, .events = POLLOUT } };
	int64_t ms = (r->deadline.us - clock_mono().us) / 1000;
	int n = ms <= 0 ? 0 : poll(p, 3, ms > 60000 ? 60000 : (int)ms + 1);

	*ret_ended = n > 0 && (p[0].revents & POLLIN) != 0;
	if (n > 0 && p[1].revents != 0)
		run_hear(r);
	r->late = n == 0 && ms <= 0;
	return !r->late;
}

static bool
run_feed(struct view v, void *arg)
{
	struct run *r = arg;
	bool ended;
	ssize_t k;

	while (v.n > 0) {
		k = write(r->in, v.p, v.n);
		if (k >= 0) {
			v = view_from(v, (size_t)k);
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN || !run_wait(r, true, &ended))
			return false;
		/* Its children may go on to read; it does not. */
		if (ended) {
			errno = EPIPE;
			return false;
		}
	}
	return true;
}

/* -- what came of it -------------------------------------------------------- */

static const struct {
	int code;
	const char *dsn, *text;
} codes[] = {
	{ EX_USAGE, "5.3.0", "command line usage error" },
	{ EX_DATAERR, "5.6.0", "data format error" },
	{ EX_NOINPUT, "5.3.0", "cannot open input" },
	{ EX_NOUSER, "5.1.1", "user unknown" },
	{ EX_NOHOST, "5.1.2", "host name unknown" },
	{ EX_UNAVAILABLE, "5.3.0", "service unavailable" },
	{ EX_SOFTWARE, "5.3.0", "internal software error" },
	{ EX_OSERR, "4.3.0", "system resource problem" },
	{ EX_OSFILE, "5.3.0", "critical OS file missing" },
	{ EX_CANTCREAT, "5.2.0", "can't create user output file" },
	{ EX_IOERR, "4.3.0", "input/output error" },
	{ EX_TEMPFAIL, "4.3.0", "temporary failure" },
	{ EX_PROTOCOL, "5.5.0", "remote error in protocol" },
	{ EX_NOPERM, "5.7.0", "permission denied" },
	{ EX_CONFIG, "5.3.5", "local configuration error" },
	/* What a shell says of a program it cannot run. */
	{ 126, "4.3.0", "command cannot be executed" },
	{ 127, "4.3.0", "command not found" },
	{ EXEC_FAILED, "4.3.0", "command cannot be started" },
};

/* "5.1.1 text": false, if it does not begin so. */
static bool
said_status(struct view *said, char dsn[12])
{
	struct view word = view_head(*said, view_find(*said, ' '));
	size_t i, dots = 0;

	for (i = 0; i < word.n; i++)
		if (word.p[i] == '.')
			dots++;
		else if (word.p[i] < '0' || word.p[i] > '9')
			return false;
	if (dots != 2 || word.n < 5 || word.n > 9 ||
	    (word.p[0] != '4' && word.p[0] != '5') || word.p[1] != '.' ||
	    word.p[word.n - 1] == '.')
		return false;
	(void)snprintf(dsn, 12, "%.*s", VIEW_ARGS(word));
	*said = view_trim(view_from(*said, word.n));
	return true;
}

static void
run_failed(struct run *r, int status, struct fate *f)
{
	struct view said = view_trim(buf_view(&r->said));
	int code = WEXITSTATUS(status);
	const char *text = NULL;
	char dsn[12] = "5.3.0";
	size_t i;

	if (WIFSIGNALED(status)) {
		fate_set(f, RCPT_DEFERRED, "4.3.0", "Command died with signal "
		    "%d: \"%.200s\"%s%.*s", WTERMSIG(status), r->c->name,
		    said.n > 0 ? ". Command output: " : "",
		    VIEW_ARGS(view_head(said, 600)));
		return;
	}
	for (i = 0; i < sizeof codes / sizeof codes[0]; i++)
		if (codes[i].code == code) {
			text = codes[i].text;
			(void)snprintf(dsn, sizeof dsn, "%s", codes[i].dsn);
		}
	if (said_status(&said, dsn))
		text = text != NULL ? text : "";
	if (said.n > 0 && text != NULL)
		fate_set(f, dsn[0] == '4' ? RCPT_DEFERRED : RCPT_BOUNCED, dsn,
		    "%s%s%.*s", text, text[0] != '\0' ?
		    ". Command output: " : "", VIEW_ARGS(view_head(said,
		    700)));
	else if (text != NULL)
		fate_set(f, dsn[0] == '4' ? RCPT_DEFERRED : RCPT_BOUNCED, dsn,
		    "%s", text);
	else
		fate_set(f, RCPT_BOUNCED, dsn, "Command died with status %d: "
		    "\"%.200s\"%s%.*s", code, r->c->name, said.n > 0 ?
		    ". Command output: " : "", VIEW_ARGS(view_head(said,
		    600)));
}

/* Its last words, and its end. */
static void
run_end(struct run *r, enum text_end end, int error, struct fate *f)
{
	bool ended = false;
	int status = 0;

	if (r->in >= 0)
		(void)close(r->in);
	/* Without the whole message it must not think that it has it. */
	if (end == TEXT_UNREADABLE)
		(void)kill(-r->pid, SIGKILL);
	while (!ended && !r->late)
		(void)run_wait(r, false, &ended);
	if (r->late)
		(void)kill(-r->pid, SIGKILL);
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r->out >= 0 && !r->late)
		run_hear(r);
	if (r->late)
		fate_set(f, RCPT_DEFERRED, "4.3.0", "Command time limit "
		    "exceeded: \"%.200s\"", r->c->name);
	else if (end == TEXT_UNREADABLE)
		fate_errno(f, "4.3.0", error, "queue file read error");
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		fate_set(f, RCPT_DELIVERED, "2.0.0", "delivered to command: "
		    "%.400s", r->c->name);
	else
		run_failed(r, status, f);
}

void
command_run(const struct command *c, const struct local_text *t,
    struct fate *ret)
{
	struct run r = { .c = c, .in = -1, .out = -1, .ended = -1 };
	struct sigaction sa = { .sa_handler = SIG_IGN };
	enum text_end end = TEXT_REFUSED;
	int error = 0;

	(void)sigaction(SIGPIPE, &sa, NULL);
	buf_init(&r.said, OUTPUT_MAX);
	if (run_start(&r, ret)) {
		if (run_feed(c->head, &r))
			end = local_text_send(t, c->flags, c->eol, run_feed,
			    &r);
		if (end == TEXT_DONE && !run_feed(c->tail, &r))
			end = TEXT_REFUSED;
		error = errno;
		run_end(&r, end, error, ret);
	}
	if (r.out >= 0)
		(void)close(r.out);
	if (r.ended >= 0)
		(void)close(r.ended);
	buf_free(&r.said);
}
