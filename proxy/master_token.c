/*
 * smtp_sasl_token_command: a program that gets a new token.
 *
 * It speaks with a server of the provider, so credentials, which has all
 * logins and no network, is not the place for it; and what it writes comes from
 * there, so master is not the one who reads that.  Master only starts the
 * program refresh, as the configured account and with nothing of its own memory
 * or descriptors; that runs the command, checks what it writes, and replaces
 * the file.  Nothing here is done as root but fork() and becoming that account.
 *
 * Credentials says which file.  A credentials that was taken over can have the
 * command run for files that are there anyway, each once in
 * smtp_sasl_token_command_interval, COMMANDS_MAX at a time; it chooses neither
 * the command nor the account.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "lib/conf.h"
#include "lib/mem.h"
#include "lib/role_child.h"
#include "proxy/credentials_token.h"
#include "proxy/master.h"
#include "proxy/master_setup.h"

#define COMMANDS_MAX	4u	/* that run at the same time */
#define FILES_MAX	64u	/* that are kept in mind */
#define WORDS_MAX	64u	/* of the command */
#define FIXED_WORDS	7u	/* before those of the command */
#define FULL_WARN_MS	60000
#define REFRESH_LOG_FD	3

static struct file {
	char *directory, *name;		/* NULL: not in use */
	struct mono started;
	int64_t interval;		/* ms */
	pid_t pid;			/* 0: it does not run */
} files[FILES_MAX];

static unsigned n_running;
static struct mono full_warned;		/* 0: never */

/* -- the child's side ------------------------------------------------------- */

/* pw NULL: we are an ordinary user already. */
__attribute__((noreturn))
static void
child_exec(char **argv, char **env, const struct passwd *pw, int log)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	sigset_t none;
	/* The way to it may be root's only. */
	int program = open(argv[0], O_PATH | O_CLOEXEC), null;

	if (pw != NULL && (setgroups(1, &pw->pw_gid) != 0 ||
	    setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) != 0 ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) != 0))
		_exit(126);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		_exit(126);
	/* Out of the way of the numbers they get. */
	log = fcntl(log, F_DUPFD, 16);
	program = fcntl(program, F_DUPFD_CLOEXEC, 16);
	null = open("/dev/null", O_RDWR);
	if (log < 0 || program < 0 || null < 0 || dup2(null, 0) < 0 ||
	    dup2(null, 1) < 0 || dup2(log, 2) < 0 ||
	    dup2(log, REFRESH_LOG_FD) < 0 || close_range(REFRESH_LOG_FD + 1,
	    ~0u, CLOSE_RANGE_CLOEXEC) != 0)
		_exit(126);
	(void)sigaction(SIGPIPE, &sa, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execveat(program, "", argv, env, AT_EMPTY_PATH);
	_exit(127);
}

/* -- our side --------------------------------------------------------------- */

static void
files_tell(struct master *m, const char *directory, struct view name)
{
	const struct team *t;
	struct instance *i;
	struct buf *b;

	for (i = m->instances; i != NULL; i = i->next) {
		t = config_team(m->now, i->kind, i->service);
		if (i->kind != ROLE_CREDENTIALS || i->control == NULL ||
		    t == NULL ||
		    strcmp(t->cf->smtp_sasl_token_directory, directory) != 0)
			continue;
		b = chan_begin(i->control, MSG_TOKEN_TRIED);
		put_view(b, name);
		chan_end(i->control);
	}
}

static bool
file_is_busy(const struct file *f)
{
	return f->pid != 0 || (f->name != NULL &&
	    mono_since(f->started, loop_now()) / 1000 < f->interval);
}

/* A new one only if there is one more that may run. */
static struct file *
file_find(const char *directory, struct view name)
{
	struct file *unused = NULL;
	size_t i;

	for (i = 0; i < FILES_MAX; i++) {
		if (files[i].name != NULL && view_is(name, files[i].name) &&
		    strcmp(files[i].directory, directory) == 0)
			return &files[i];
		if (unused == NULL && !file_is_busy(&files[i]))
			unused = &files[i];
	}
	if (unused == NULL || n_running >= COMMANDS_MAX)
		return NULL;
	free(unused->directory);
	free(unused->name);
	*unused = (struct file){ .directory = mem_strdup(directory),
		.name = mem_copy(name) };
	return unused;
}

/* The words of refresh_main.c; NULL: too many. */
static char **
command_words(const struct conf *cf, const struct file *f, enum log_sink sink,
    int facility)
{
	struct view rest = view_of(cf->smtp_sasl_token_command), word;
	char **words = mem_array(FIXED_WORDS + WORDS_MAX + 2, sizeof *words);
	size_t n = 0;

	words[n++] = mem_printf("%s/refresh", cf->daemon_directory);
	words[n++] = mem_printf("%s/refresh", cf->syslog_name);
	words[n++] = mem_printf("%d", (int)sink);
	words[n++] = mem_printf("%d", facility);
	words[n++] = mem_printf("%lld",
	    (long long)cf->smtp_sasl_token_command_time_limit);
	words[n++] = mem_strdup(f->directory);
	words[n++] = mem_strdup(f->name);
	ensure(n == FIXED_WORDS);
	while ((word = view_word(&rest, " \t")).n > 0 &&
	    n < FIXED_WORDS + WORDS_MAX)
		words[n++] = mem_copy(word);
	words[n++] = mem_strdup(f->name);
	words[n] = NULL;
	return words;
}

/* What must hold of the account; *ret_pw NULL: we cannot become another. */
static const char *
command_account(const struct master *m, const struct conf *cf,
    const struct passwd **ret_pw)
{
	const struct passwd *pw;
	uid_t uid;

	*ret_pw = NULL;
	if (!m->root)
		return NULL;
	pw = getpwnam(cf->smtp_sasl_token_command_user);
	if (pw == NULL)
		return "no such account";
	if (pw->pw_uid == 0 || pw->pw_gid == 0)
		return "the account is privileged (user or group 0)";
	uid = pw->pw_uid;
	/* Postern's processes could be signalled and traced. */
	if (setup_account_is_own(m->now->cf, uid))
		return "the account is one of Postern's own";
	*ret_pw = getpwnam(cf->smtp_sasl_token_command_user);
	return *ret_pw == NULL ? "no such account" : NULL;
}

static void
command_start(struct master *m, const struct conf *cf, struct file *f)
{
	const struct passwd *pw;
	const char *why = command_account(m, cf, &pw);
	char **words, **env, **w;
	enum log_sink sink;
	pid_t pid;
	int log;

	f->started = loop_now();
	f->interval = cf->smtp_sasl_token_command_interval;
	if (why != NULL) {
		log_warn("smtp_sasl_token_command_user: %s: %s",
		    cf->smtp_sasl_token_command_user, why);
		return;
	}
	log = master_log_fd(m, &sink);
	words = command_words(cf, f, sink, m->log_facility);
	env = role_child_environment();
	log_flush();
	pid = fork();
	if (pid == 0)
		child_exec(words, env, pw, log);
	if (pid < 0)
		log_error("cannot start %s: fork: %s", words[0],
		    strerror(errno));
	close(log);
	for (w = words; *w != NULL; w++)
		free(*w);
	free(words);
	for (w = env; *w != NULL; w++)
		free(*w);
	f->pid = pid > 0 ? pid : 0;
	n_running += pid > 0;
}

void
token_command_want(struct instance *i, struct view name)
{
	const struct team *t = config_team(i->m->now, i->kind, i->service);
	const struct conf *cf;
	struct file *f;

	if (!token_name_plain(name)) {
		chan_blame(i->control, "a token of no such name");
		return;
	}
	if (t == NULL || i->m->stop_stage != STOP_NOT ||
	    *t->cf->smtp_sasl_token_command != '/')
		return;
	cf = t->cf;
	f = file_find(cf->smtp_sasl_token_directory, name);
	if (f == NULL && (full_warned.us == 0 ||
	    mono_since(full_warned, loop_now()) / 1000 > FULL_WARN_MS)) {
		full_warned = loop_now();
		log_warn("token %s: not now: smtp_sasl_token_command runs for "
		    "too many others", log_safe(name));
	}
	if (f != NULL && !file_is_busy(f) && n_running < COMMANDS_MAX)
		command_start(i->m, cf, f);
	if (f == NULL || f->pid == 0)
		files_tell(i->m, cf->smtp_sasl_token_directory, name);
}

void
token_command_ended(struct master *m, pid_t pid)
{
	size_t i;

	for (i = 0; i < FILES_MAX; i++)
		if (files[i].pid != 0 && files[i].pid == pid)
			break;
	if (i == FILES_MAX)
		return;
	files[i].pid = 0;
	n_running--;
	files_tell(m, files[i].directory, view_of(files[i].name));
	if (m->stop_stage != STOP_NOT)
		stop_step(m);
}

bool
token_command_stop(struct master *m)
{
	size_t i;

	(void)m;
	for (i = 0; i < FILES_MAX; i++)
		if (files[i].pid != 0)
			(void)kill(files[i].pid, SIGTERM);
	return n_running > 0;
}
