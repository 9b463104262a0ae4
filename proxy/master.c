#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/hits_book.h"
#include "lib/jail.h"
#include "lib/mem.h"
#include "proxy/master.h"
#include "proxy/master_setup.h"

#define FILES_WANTED	1048576u	/* hard limit, for smtpd and gate */
#define SURVIVOR_LIMIT_S 60u
#define BIND_TRIES	10u
#define KEPT_MAX	65536u

static const char *
master_describe(void *arg)
{
	const struct master *m = arg;

	return m->stop_stage != STOP_NOT ? "stopping" :
	    m->turn.active ? "a new generation" : "waiting";
}

static void
master_usage(const char *name)
{
	fprintf(stderr, "usage: %s -c config_directory [-d]\n"
	    "Started by `postern start`; see postern(1).\n", name);
	exit(1);
}

static void
master_options(struct master *m, int argc, char **argv)
{
	const char *dir = NULL;
	int ch;

	while ((ch = getopt(argc, argv, "c:d")) != -1) {
		switch (ch) {
		case 'c':
			dir = optarg;
			break;
		case 'd':
			m->foreground = true;
			break;
		default:
			master_usage(argv[0]);
		}
	}
	if (dir == NULL || optind != argc)
		master_usage(argv[0]);
	m->config_dir = realpath(dir, NULL);
	if (m->config_dir == NULL)
		fatal("configuration directory %s: %s", dir, strerror(errno));
}

/* -- one at a time -------------------------------------------------------- */

static void
master_lock(void)
{
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(MASTER_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
	    0644);

	if (fd < 0)
		fatal("cannot open %s: %s", MASTER_LOCK, strerror(errno));
	/* The descriptor stays open, and the lock with it, until we end. */
	if (fcntl(fd, F_SETLK, &all) != 0) {
		if (errno != EACCES && errno != EAGAIN)
			fatal("cannot lock %s: %s", MASTER_LOCK,
			    strerror(errno));
		(void)fcntl(fd, F_GETLK, &all);
		fatal("Postern is already running here (process %d)",
		    (int)all.l_pid);
	}
	(void)fchmod(fd, 0644);
	if (ftruncate(fd, 0) != 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
		fatal("cannot write %s: %s", MASTER_LOCK, strerror(errno));
}

/*
 * If an earlier master was killed, its qmgr finishes the deliveries that run
 * and then ends.  Until then the spool is not free: two owners would deliver
 * twice.  The lock belongs to an open file that each qmgr inherits.
 */
static void
master_lock_qmgr(struct master *m)
{
	unsigned waited;

	m->qmgr_lock = open(MASTER_QMGR_LOCK, O_RDWR | O_CREAT | O_CLOEXEC |
	    O_NOFOLLOW, 0600);
	if (m->qmgr_lock < 0)
		fatal("cannot open %s: %s", MASTER_QMGR_LOCK, strerror(errno));
	for (waited = 0; flock(m->qmgr_lock, LOCK_EX | LOCK_NB) != 0;
	    waited++) {
		if (waited == 0)
			log_warn("waiting for the queue manager of an earlier "
			    "master to end");
		if (waited == SURVIVOR_LIMIT_S * 10)
			fatal("the queue manager of an earlier master still "
			    "uses %s", m->now->cf->queue_directory);
		usleep(100000);
	}
}

/* -- rights --------------------------------------------------------------- */

static void
master_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return;
	if (files.rlim_max < FILES_WANTED) {
		struct rlimit more = { FILES_WANTED, FILES_WANTED };

		if (geteuid() == 0 && setrlimit(RLIMIT_NOFILE, &more) == 0)
			files = more;
	}
	files.rlim_cur = files.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files);
}

/* -- signals -------------------------------------------------------------- */

static void
master_on_signal(evutil_socket_t sig, short what, void *arg)
{
	struct master *m = arg;

	(void)what;
	switch (sig) {
	case SIGCHLD:
		instance_reap(m);
		break;
	case SIGHUP:
		if (!m->turn.active)
			watch_accept(m);
		turn_ask(m, WATCH_ALL);
		break;
	case SIGINT:
		stop_begin(m, "signal 2");
		break;
	default:
		stop_begin(m, "signal 15");
		break;
	}
}

static void
master_signals(struct master *m)
{
	static const int signals[] = { SIGCHLD, SIGHUP, SIGINT, SIGTERM };
	static struct event events[sizeof signals / sizeof signals[0]];
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	size_t i;

	(void)sigaction(SIGPIPE, &ignore, NULL);
	for (i = 0; i < sizeof signals / sizeof signals[0]; i++) {
		event_assign(&events[i], loop_base(), signals[i],
		    EV_SIGNAL | EV_PERSIST, master_on_signal, m);
		event_add(&events[i], NULL);
	}
}

/* -- start and end -------------------------------------------------------- */

void
master_is_up(struct master *m)
{
	int null;

	m->up = true;
	if (m->now->cf->soft_mode)
		log_warn("soft_mode is on: rules only log what they would "
		    "do");
	log_info("daemon started -- version %s, configuration %s",
	    m->now->cf->mail_version, m->config_dir);
	if (m->foreground)
		return;
	/* `postern start` waits for the end of this file. */
	log_tee(false);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
	    (!m->log_stderr && dup2(null, 2) < 0))
		log_warn("cannot leave the terminal: %s", strerror(errno));
	if (null > 2)
		close(null);
}

void
master_exit(struct master *m)
{
	(void)unlink(MASTER_CONTROL);
	showq_close(m);
	/* The file stays, and with it the inode that carries the lock. */
	log_info("stopped after %lld s", (long long)(mono_since(m->started,
	    clock_mono()) / 1000000));
	log_flush();
	exit(m->failed ? 1 : 0);
}

static void
master_report_nothing(bool error, const char *text, void *arg)
{
	(void)error;
	(void)text;
	(void)arg;
}

/* The gate of an earlier master may be just about to end. */
static void
master_bind(struct master *m)
{
	static const struct reporter silent = { master_report_nothing, NULL };
	unsigned tries;

	for (tries = 0; tries < BIND_TRIES; tries++) {
		if (listen_bind(m->now->listen, NULL, &silent))
			return;
		usleep(100000);
	}
	if (!listen_bind(m->now->listen, NULL, &master_log_reporter))
		fatal("cannot bind all addresses");
}

/* main.cf says where the log is, so its mistakes are kept for a moment. */
static void
master_keep(bool error, const char *text, void *arg)
{
	(void)buf_printf(arg, "%c%s\n", error ? 'e' : 'w', text);
}

static void
master_tell_kept(struct buf *kept)
{
	struct view all = buf_view(kept), line;

	while (all.n > 0) {
		line = view_head(all, view_find(all, '\n'));
		all = view_from(all, line.n + 1);
		if (line.p[0] == 'e')
			log_error("%.*s", VIEW_ARGS(view_from(line, 1)));
		else
			log_warn("%.*s", VIEW_ARGS(view_from(line, 1)));
	}
	buf_free(kept);
}

static void
master_open(struct master *m)
{
	const struct reporter *r = &master_log_reporter;
	const struct conf *cf;
	struct buf kept;

	buf_init(&kept, KEPT_MAX);
	m->now = config_load(m, &(struct reporter){ master_keep, &kept });
	if (m->now == NULL) {
		master_tell_kept(&kept);
		fatal("bad configuration");
	}
	cf = m->now->cf;
	if (!master_log_open(m, cf, r))
		fatal("no log");
	log_tee(true);
	master_tell_kept(&kept);
	if (m->root && !setup_check_accounts(cf, r))
		fatal("bad accounts");
	if (!setup_directories(cf, r))
		fatal("cannot use the directories");
	if (chdir(cf->queue_directory) != 0)
		fatal("cannot enter %s: %s", cf->queue_directory,
		    strerror(errno));
	master_lock();
	if (m->now->plan->ignored.n > 0)
		log_info("services of master.cf that Postern does without: %s",
		    buf_cstr(&m->now->plan->ignored));
	if (!m->root)
		log_warn("started by an ordinary user: the roles run as that "
		    "user, without chroot");
	master_lock_qmgr(m);
	master_bind(m);
}

int
main(int argc, char **argv)
{
	static struct master master;
	struct master *m = &master;

	log_open("postern/master", "localhost");
	chan_phase = PHASE_RUNNING;
	(void)umask(077);
	m->root = geteuid() == 0;
	m->started = clock_mono();
	m->qmgr_lock = m->showq = -1;
	buf_init(&m->failure, 2048);
	m->hits = hits_book_new();
	log_context(master_describe, m);
	master_options(m, argc, argv);
	master_open(m);
	master_limits();
	if (m->root)
		jail_drop_capabilities(true);
	master_signals(m);
	if (!control_open(m))
		fatal("cannot make the control socket %s: %s", MASTER_CONTROL,
		    strerror(errno));
	if (!showq_open(m))
		fatal("cannot make the socket %s: %s", MASTER_SHOWQ,
		    strerror(errno));
	watch_init(m);
	turn_first(m);
	loop_run();
	master_exit(m);
}
