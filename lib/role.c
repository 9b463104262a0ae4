#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/hits.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/role.h"

#define CONTROL_FD	3
#define SNAPSHOT_MAX	(4u << 20)
#define ORPHAN_LIMIT_MS	15000	/* master's limit for SMTP sessions */

/*
 * For the sanitizer builds: leaks are looked for at exit by a process that
 * attaches to this one, which the jail forbids; the unit tests look for them.
 */
const char *__asan_default_options(void);

const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* A process has one role, so this is as static as its text. */
static struct {
	const struct role_def *def;
	struct conf *conf;
	struct chan *control;
	enum role_phase phase;
	uint32_t generation, index, service;
	char *service_name;
	bool jailed, lmtp;
	char *user, *root;	/* of the jail; NULL: skipped */
	int log_facility;
} role = { .phase = PHASE_STARTING };

const struct conf *
role_conf(void)
{
	return role.conf;
}

struct chan *
role_control(void)
{
	return role.control;
}

void
role_answer(uint32_t tag, const char *refused, struct view lines)
{
	struct buf *b;

	if (role.control == NULL)
		return;		/* master is gone */
	b = chan_begin(role.control, MSG_ORDER_IS);
	put_u32(b, tag);
	put_u8(b, refused != NULL);
	put_view(b, refused != NULL ? view_of(refused) : lines);
	chan_end(role.control);
}

uint32_t
role_index(void)
{
	return role.index;
}

uint32_t
role_service(void)
{
	return role.service;
}

const char *
role_service_name(void)
{
	return role.service_name != NULL ? role.service_name : "";
}

uint32_t
role_generation(void)
{
	return role.generation;
}

bool
role_jailed(void)
{
	return role.jailed;
}

bool
role_lmtp(void)
{
	return role.lmtp;
}

const char *
role_root(void)
{
	return role.root != NULL ? role.root : "";
}

enum role_phase
role_phase(void)
{
	return role.phase;
}

void
role_exit(void)
{
	hits_flush();
	if (role.control != NULL)
		chan_drain(role.control);
	log_flush();
	exit(0);
}

static void
role_enter(enum role_phase phase)
{
	role.phase = phase;
	chan_phase = phase;
}

static void
role_retire(void)
{
	if (role.phase == PHASE_RETIRING) {
		if (role.def->hurry != NULL)
			role.def->hurry();
		return;
	}
	role_enter(PHASE_RETIRING);
	if (role.def->retire != NULL)
		role.def->retire();
	else
		role_exit();
}

static void
role_blame(pid_t pid, const char *why)
{
	struct buf *b;

	if (role.control == NULL)
		return;
	b = chan_begin(role.control, MSG_BLAME);
	put_u32(b, (uint32_t)pid);
	put_view(b, view_of(why));
	chan_end(role.control);
}

static void
role_log_lost(void)
{
	static bool asked;

	if (asked || role.control == NULL || role.phase == PHASE_STARTING)
		return;
	asked = true;	/* chan_send may log, and so come back here */
	chan_send(role.control, MSG_LOG_LOST);
	asked = false;
}

static struct conf *
role_read_conf(int fd)
{
	struct buf b;
	struct conf *cf;
	struct stat st;
	char *to;
	ssize_t n;

	buf_init(&b, SNAPSHOT_MAX);
	if (fstat(fd, &st) != 0 || (uint64_t)st.st_size > SNAPSHOT_MAX ||
	    (to = buf_room(&b, (size_t)st.st_size + 1)) == NULL)
		fatal("configuration from master is unreadable");
	n = pread(fd, to, (size_t)st.st_size, 0);
	if (n != st.st_size)
		fatal("configuration from master is short");
	b.n = (size_t)n;
	cf = conf_parse(buf_view(&b), "main.cf", log_report_errors, NULL);
	buf_free(&b);
	if (cf == NULL)
		fatal("bad configuration");
	return cf;
}

bool
role_jail(const struct jail_spec *spec)
{
	if (role.conf->sandbox)
		jail_enter(spec, role.user, role.root);
	else
		jail_enter_unfiltered(spec, role.user, role.root);
	return role.conf->sandbox;
}

static void
role_begin(void)
{
	const struct role_def *def = role.def;

	if (def->load != NULL)
		def->load();
	(void)role_jail(&def->jail);
	role_enter(PHASE_RUNNING);
	if (def->start != NULL)
		def->start();
	chan_send(role.control, MSG_READY);
}

static void
role_init(struct chan_in *m)
{
	struct cursor *c = &m->body;
	struct view user, root;
	char host[256] = "localhost", *name;
	uint8_t sink;

	role.generation = cursor_u32(c);
	role.index = cursor_u32(c);
	role.service = cursor_u32(c);
	role.jailed = cursor_u8(c) != 0;
	role.lmtp = cursor_u8(c) != 0;
	user = cursor_view(c);
	root = cursor_view(c);
	(void)cursor_view(c);	/* config directory: stands in the snapshot */
	role.service_name = mem_copy(cursor_view(c));
	name = mem_copy(cursor_view(c));
	sink = cursor_u8(c);
	log_verbose(cursor_u8(c));
	if (!cursor_done(c) || role.conf != NULL)
		panic("bad INIT message");
	(void)gethostname(host, sizeof host - 1);
	log_open(name, host);
	free(name);
	log_to(sink, m->fd[1], LOG_MAIL);
	m->fd[1] = -1;
	log_on_lost(role_log_lost);
	role.conf = role_read_conf(m->fd[0]);
	role.log_facility = (int)conf_choice("syslog_facility",
	    view_of(role.conf->syslog_facility));
	log_facility(role.log_facility);
	role.user = role.jailed && user.n > 0 ? mem_copy(user) : NULL;
	role.root = role.jailed && root.n > 0 ? mem_copy(root) : NULL;
	role_begin();
}

static void
role_status(uint32_t tag)
{
	struct buf text, *b;

	buf_init(&text, 65536);
	if (role.def->status != NULL)
		role.def->status(&text);
	b = chan_begin(role.control, MSG_STATUS_IS);
	put_u32(b, tag);
	put_view(b, buf_view(&text));
	chan_end(role.control);
	buf_free(&text);
}

static void
role_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct role_peer peer = { 0 };
	uint32_t tag;
	uint8_t sink;

	(void)arg;
	if (m->type != MSG_INIT && role.conf == NULL)
		panic("message %s before INIT", msg_rules[m->type].name);
	switch ((int)m->type) {
	case MSG_INIT:
		role_init(m);
		break;
	case MSG_PEER:
		peer.kind = cursor_u8(&m->body);
		peer.pid = (pid_t)cursor_u32(&m->body);
		peer.generation = cursor_u32(&m->body);
		peer.service = cursor_u32(&m->body);
		peer.settings = cursor_bytes(&m->body, cursor_left(&m->body));
		if (!chan_check(c, m) || role.def->peer == NULL)
			return;
		role.def->peer(&peer, m->fd[0]);
		m->fd[0] = -1;
		break;
	case MSG_RETIRE:
		role_retire();
		break;
	case MSG_LOG:
		sink = cursor_u8(&m->body);
		if (!chan_check(c, m))
			return;
		log_to(sink, m->fd[0], role.log_facility);
		m->fd[0] = -1;
		break;
	case MSG_STATUS:
		tag = cursor_u32(&m->body);
		if (chan_check(c, m))
			role_status(tag);
		break;
	default:
		if (role.def->control != NULL)
			role.def->control(m);
		break;
	}
}

static void
role_on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	log_warn("master is gone, and the time to finish is over");
	role_exit();
}

/*
 * Master is gone.  Nobody can replace this process: finish, as in an orderly
 * stop and within its limits, for the next start waits until the queue is
 * free.
 */
static void
role_on_close(struct chan *c, void *arg)
{
	static struct event timer;
	bool hurry = role.def->hurry != NULL;

	(void)c;
	(void)arg;
	chan_free(&role.control);
	chan_on_blame = NULL;
	if (role.conf == NULL)
		exit(1);
	evtimer_assign(&timer, loop_base(), role_on_time, NULL);
	event_add(&timer, loop_timeout(hurry ? ORPHAN_LIMIT_MS :
	    role.conf->stop_time_limit));
	role_retire();
	if (hurry)
		role.def->hurry();
}

int
role_main(const struct role_def *def, int argc, char **argv)
{
	static const int ignored[] = { SIGPIPE, SIGINT, SIGHUP, SIGTERM,
		SIGUSR1, SIGUSR2 };
	struct sigaction sa = { .sa_handler = SIG_IGN };
	size_t i;

	role.def = def;
	log_open(role_kind_name(def->kind), "localhost");
	if (argc != 1 || fcntl(CONTROL_FD, F_GETFL) < 0) {
		fprintf(stderr, "%s is started by master, not by hand\n",
		    argv[0]);
		return 1;
	}
	(void)fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC);
	/* Master alone decides when a role ends. */
	for (i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		(void)sigaction(ignored[i], &sa, NULL);
	role_enter(PHASE_STARTING);
	chan_on_blame = role_blame;
	role.control = chan_new(CONTROL_FD, def->kind, ROLE_MASTER, getppid(),
	    role_on_msg, role_on_close, NULL);
	loop_run();
	role_exit();
}
