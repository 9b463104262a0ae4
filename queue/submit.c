#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "queue/submit.h"
#include "rules/addr_list.h"

#define DEFAULT_CONFIG	"/etc/postern"

/*
 * For the sanitizer builds: leaks are looked for by a process that attaches
 * to this one, which the kernel refuses when it is set-gid.
 */
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}

static const char *submit_program = "sendmail";
static volatile sig_atomic_t submit_signal;

void
submit_name(const char *name)
{
	submit_program = name;
	log_open(name, "localhost");
}

void
submit_fail(int status, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s: fatal: %s\n", submit_program, text);
	/* The administrator sees it too, with who it was. */
	openlog(submit_program, LOG_PID, LOG_MAIL);
	syslog(LOG_ERR, "fatal: uid=%u: %s", (unsigned)getuid(),
	    log_safe(view_of(text)));
	exit(status);
}

/* Nothing but the flag: what is to be cleaned up, main() cleans up. */
static void
submit_on_signal(int sig)
{
	submit_signal = sig;
}

bool
submit_stopped(void)
{
	return submit_signal != 0;
}

void
submit_safe_start(void)
{
	static const int ends[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	static const int ignored[] = { SIGPIPE, SIGXFSZ };
	struct sigaction sa = { .sa_handler = SIG_IGN }, old;
	sigset_t none;
	size_t i;
	int fd;

	for (fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFL) < 0 &&
		    open("/dev/null", O_RDWR) != fd)
			_exit(EX_OSERR);
	(void)close_range(3, ~0u, 0);
	for (i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		(void)sigaction(ignored[i], &sa, NULL);
	/* SIGCHLD may come ignored; then waitpid() would find nobody. */
	sa.sa_handler = SIG_DFL;
	(void)sigaction(SIGCHLD, &sa, NULL);
	sa.sa_handler = submit_on_signal;
	for (i = 0; i < sizeof ends / sizeof ends[0]; i++)
		/* nohup(1) stays in force. */
		if (sigaction(ends[i], NULL, &old) == 0 &&
		    old.sa_handler != SIG_IGN)
			(void)sigaction(ends[i], &sa, NULL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)umask(077);
}

/* -- configuration --------------------------------------------------------- */

static bool
submit_root_only(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && st.st_uid == 0 &&
	    !S_ISLNK(st.st_mode) && ((st.st_mode & (S_IWGRP | S_IWOTH)) == 0 ||
	    (S_ISDIR(st.st_mode) && (st.st_mode & S_ISVTX) != 0));
}

/*
 * path is absolute and without links, as realpath() made it.  If each of its
 * directories, and main.cf, belong to root and can be changed by nobody else,
 * nobody else decides what is read, now or between two looks.
 */
static bool
submit_trusts(const char *path)
{
	char *part = mem_printf("%s/main.cf", path), *slash;
	bool ok = submit_root_only(part);

	while (ok && (slash = strrchr(part, '/')) != NULL && slash > part) {
		*slash = '\0';
		ok = submit_root_only(part);
	}
	free(part);
	return ok && submit_root_only("/");
}

static void
submit_report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fprintf(stderr, "%s: error: %s\n", submit_program, text);
}

struct conf *
submit_conf(const char *dir)
{
	char path[PATH_MAX];
	struct conf *cf;

	if (dir == NULL || dir[0] == '\0')
		dir = getenv("MAIL_CONFIG");
	if (dir == NULL || dir[0] == '\0')
		dir = DEFAULT_CONFIG;
	if (realpath(dir, path) == NULL)
		submit_fail(EX_CONFIG, "configuration directory %s: %s", dir,
		    strerror(errno));
	if ((getegid() != getgid() || geteuid() != getuid()) &&
	    !submit_trusts(path)) {
		gid_t gid = getgid();
		uid_t uid = getuid();

		if (setresgid(gid, gid, gid) != 0 ||
		    setresuid(uid, uid, uid) != 0)
			submit_fail(EX_OSERR, "cannot give the group back");
	}
	cf = conf_load(path, submit_report, NULL);
	if (cf == NULL)
		submit_fail(EX_CONFIG, "%s/main.cf is not usable", path);
	return cf;
}

void
submit_authorize(const struct conf *cf)
{
	struct passwd *pw;
	const char *name;
	struct addr_list *l;
	enum table_answer a;

	/* Nobody is kept out by the default: do not look. */
	if (strcmp(cf->authorized_submit_users, "static:anyone") == 0)
		return;
	pw = getpwuid(getuid());
	name = pw != NULL ? pw->pw_name : "unknown";
	l = domain_list_open("authorized_submit_users",
	    cf->authorized_submit_users, false, cf->config_directory,
	    submit_report, NULL);
	if (l == NULL)
		submit_fail(EX_TEMPFAIL, "authorized_submit_users cannot be "
		    "used");
	a = domain_list_match(l, view_of(name));
	addr_list_free(&l);
	if (a == TABLE_FAILED)
		submit_fail(EX_TEMPFAIL, "authorized_submit_users: a table "
		    "cannot be read");
	if (a != TABLE_FOUND)
		submit_fail(EX_NOPERM, "User %s(%u) is not allowed to submit "
		    "mail", name, (unsigned)getuid());
}
