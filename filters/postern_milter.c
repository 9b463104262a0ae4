/*
 * postern-milter -c DIR -p SOCKET: the rules of Postern inside another mail
 * server.  See filters/pmilter.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "filters/postern_milter.h"
#include "lib/conf_choice.h"
#include "lib/jail.h"
#include "lib/log_sink.h"
#include "lib/loop.h"
#include "lib/mem.h"

#define FILES_WANTED	16384

static struct {
	struct keeper_options o;
	const char *config_dir, *pid_file;
	bool foreground;
	int started;		/* a pipe to who waits for us; -1: nobody */
} prog = { .o.start = { .mode = MODE_REJECT, .socket_mode = -1 },
	.started = -1 };

__attribute__((noreturn))
static void
usage(void)
{
	fprintf(stderr, "usage: postern-milter -c config_dir -p socket "
	    "[-f] [-m reject|tag|quarantine]\n"
	    "\t[-P pid_file] [-u user] [-s socket_mode] [-g socket_group] "
	    "[-d level]\n");
	exit(1);
}

/* -- options --------------------------------------------------------------- */

static void
option_text(char *to, size_t size, const char *value, const char *what)
{
	if (strlen(value) >= size || value[0] == '\0' ||
	    strpbrk(value, " \t\n") != NULL)
		fatal("%s: not a %s", value, what);
	(void)snprintf(to, size, "%s", value);
}

static void
option_mode(const char *value)
{
	int64_t mode = 0;
	const char *p;

	for (p = value; *p >= '0' && *p <= '7' && mode <= 0777; p++)
		mode = mode * 8 + (*p - '0');
	if (*p != '\0' || p == value || mode > 0777)
		fatal("-s %s: not an octal mode up to 777", value);
	prog.o.start.socket_mode = mode;
}

static void
options(int argc, char **argv)
{
	struct pmilter_start *s = &prog.o.start;
	int64_t level;
	int c;

	while ((c = getopt(argc, argv, "c:d:fg:m:p:P:s:u:")) >= 0)
		switch (c) {
		case 'c':
			prog.config_dir = optarg;
			break;
		case 'd':
			if (!conf_parse_int(view_of(optarg), 0, 9, &level))
				fatal("-d %s: not a level from 0 to 9",
				    optarg);
			prog.o.log_level = (int)level;
			break;
		case 'f':
			prog.foreground = true;
			break;
		case 'g':
			option_text(s->group, sizeof s->group, optarg,
			    "group");
			break;
		case 'm':
			if (!pmilter_mode_parse(optarg, &s->mode))
				fatal("-m %s: not reject, tag or quarantine",
				    optarg);
			break;
		case 'p':
			option_text(s->socket, sizeof s->socket, optarg,
			    "socket");
			break;
		case 'P':
			prog.pid_file = optarg;
			break;
		case 's':
			option_mode(optarg);
			break;
		case 'u':
			prog.o.user = optarg;
			break;
		default:
			usage();
		}
	if (optind < argc || prog.config_dir == NULL || s->socket[0] == '\0')
		usage();
}

/* Relative names would mean something else later. */
static void
check_paths(void)
{
	const char *file = pmilter_socket_path(prog.o.start.socket);

	prog.o.config_dir = realpath(prog.config_dir, NULL);
	if (prog.o.config_dir == NULL)
		fatal("configuration directory %s: %s", prog.config_dir,
		    strerror(errno));
	if (file != NULL && file[0] != '/')
		fatal("-p %s: the path must begin with /",
		    prog.o.start.socket);
	if (prog.pid_file != NULL && prog.pid_file[0] != '/')
		fatal("-P %s: the path must begin with /", prog.pid_file);
}

/* libmilter would put its socket in the place of another's. */
static void
check_socket(void)
{
	const char *file = pmilter_socket_path(prog.o.start.socket);
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	if (file == NULL)
		return;
	if (strlen(file) >= sizeof un.sun_path)
		fatal("-p %s: the path is too long", prog.o.start.socket);
	memcpy(un.sun_path, file, strlen(file));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fatal("socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&un, sizeof un) == 0)
		fatal("-p %s: somebody serves this socket",
		    prog.o.start.socket);
	(void)close(fd);
}

static void
check_account(const char *user)
{
	const struct passwd *pw = getpwnam(user);

	if (pw == NULL)
		fatal("no such account: %s (scan_user, or -u)", user);
	if (pw->pw_uid == 0 || pw->pw_gid == 0)
		fatal("account %s is privileged", user);
}

/* -- log, directories ------------------------------------------------------ */

static void
open_log(const struct conf *cf)
{
	char host[256] = "localhost", *name;
	enum log_sink sink;
	int fd = log_sink_open(cf->maillog_file, &sink);

	(void)gethostname(host, sizeof host - 1);
	name = mem_printf("%s/postern-milter", cf->syslog_name);
	log_open(name, host);
	free(name);
	log_to(sink, fd, (int)conf_choice("syslog_facility",
	    view_of(cf->syslog_facility)));
	log_verbose(prog.o.log_level);
	if (sink == LOG_SINK_STDERR)
		log_warn("no log %s: logging to standard error",
		    cf->maillog_file[0] != '\0' ? cf->maillog_file :
		    "at /dev/log");
	/* Until we are up somebody looks at the terminal. */
	log_tee(sink != LOG_SINK_STDERR);
}

static void
make_directory(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0 && chmod(path, mode) == 0)
		return;
	if (errno != EEXIST || stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
		fatal("cannot make the directory %s: %s", path,
		    strerror(errno));
}

/* The empty root directory of the processes. */
static void
make_root(const struct conf *cf)
{
	char *path = mem_printf("%s/empty", cf->data_directory);

	make_directory(cf->data_directory, 0755);
	make_directory(path, 0555);
	free(path);
}

/* For pmilter, which cannot raise it: two for each connection. */
static void
raise_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 &&
	    files.rlim_max < FILES_WANTED) {
		files.rlim_max = FILES_WANTED;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* -- in the background ----------------------------------------------------- */

/* The first process stays until the second says how it went. */
static void
go_background(void)
{
	char status = 1;
	int pair[2];
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) != 0)
		fatal("pipe: %s", strerror(errno));
	log_flush();
	pid = fork();
	if (pid < 0)
		fatal("fork: %s", strerror(errno));
	if (pid > 0) {
		(void)close(pair[1]);
		_exit(read(pair[0], &status, 1) == 1 ? status : 1);
	}
	(void)close(pair[0]);
	(void)setsid();
	prog.started = pair[1];
}

static void
write_pid(void)
{
	char *new;
	FILE *f;

	if (prog.pid_file == NULL)
		return;
	new = mem_printf("%s.new", prog.pid_file);
	(void)unlink(new);
	f = fopen(new, "wxe");
	if (f == NULL || fprintf(f, "%d\n", (int)getpid()) < 0 ||
	    fclose(f) != 0 || rename(new, prog.pid_file) != 0)
		fatal("cannot write %s: %s", prog.pid_file, strerror(errno));
	free(new);
}

static void
prog_up(void)
{
	int null;

	log_info("daemon started -- configuration %s, socket %s",
	    prog.o.config_dir, prog.o.start.socket);
	log_tee(false);
	if (prog.started < 0)
		return;
	(void)!write(prog.started, "", 1);
	(void)close(prog.started);
	prog.started = -1;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		(void)dup2(null, 0);
		(void)dup2(null, 1);
		(void)dup2(null, 2);
	}
}

__attribute__((noreturn))
static void
prog_ended(int status)
{
	const char *file = pmilter_socket_path(prog.o.start.socket);

	if (file != NULL)
		(void)unlink(file);
	if (prog.pid_file != NULL)
		(void)unlink(prog.pid_file);
	if (status == 0)
		log_info("stopped");
	else
		log_error("not started");
	log_flush();
	exit(status);
}

/* -- signals --------------------------------------------------------------- */

static void prog_changed(void);

static void
prog_reload(void)
{
	struct keeper_conf c;

	if (!keeper_conf_load(&prog.o, &c)) {
		log_warn("the new configuration does not take effect: the "
		    "old one stays in charge");
		return;
	}
	keeper_watch(&prog.o, c.cf, prog_changed);
	keeper_reload(&c);
}

static void
prog_changed(void)
{
	prog_reload();
}

static void
prog_on_signal(evutil_socket_t sig, short what, void *arg)
{
	(void)what;
	(void)arg;
	switch (sig) {
	case SIGCHLD:
		keeper_reap();
		break;
	case SIGHUP:
		keeper_log_again();
		keeper_watch_accept();
		prog_reload();
		break;
	case SIGUSR1:
		keeper_status();
		break;
	default:
		keeper_stop();
		break;
	}
}

static void
prog_signals(void)
{
	static const int signals[] = { SIGCHLD, SIGHUP, SIGINT, SIGTERM,
		SIGUSR1 };
	static struct event events[sizeof signals / sizeof signals[0]];
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	size_t i;

	(void)sigaction(SIGPIPE, &ignore, NULL);
	for (i = 0; i < sizeof signals / sizeof signals[0]; i++) {
		event_assign(&events[i], loop_base(), signals[i],
		    EV_SIGNAL | EV_PERSIST, prog_on_signal, NULL);
		event_add(&events[i], NULL);
	}
}

int
main(int argc, char **argv)
{
	struct keeper_conf c;

	log_open("postern-milter", "localhost");
	options(argc, argv);
	check_paths();
	check_socket();
	prog.o.root = geteuid() == 0;
	if (!keeper_conf_load(&prog.o, &c))
		fatal("the configuration cannot be used");
	if (prog.o.root) {
		check_account(c.cf->scan_user);
		make_root(c.cf);
	} else
		log_warn("not started by root: no process changes its account "
		    "or root directory");
	if (!prog.foreground)
		go_background();
	/* With the process id that it has now. */
	open_log(c.cf);
	write_pid();
	if (prog.o.root) {
		raise_files();
		jail_drop_capabilities(false);
	}
	chan_phase = PHASE_RUNNING;
	prog_signals();
	keeper_watch(&prog.o, c.cf, prog_changed);
	keeper_start(&prog.o, &c, prog_up, prog_ended);
	loop_run();
	return 0;
}
