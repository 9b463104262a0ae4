/* The processes of postern-milter: one pmilter, several filters. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filters/postern_milter.h"
#include "lib/conf_choice.h"
#include "lib/log_sink.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/role_child.h"

#define READY_LIMIT_MS	60000
#define STOP_LIMIT_MS	15000
#define TICK_MS		1000
#define PAUSE_MS	1000	/* before one that broke is started again */
#define FILTERS_MAX	64u

struct child {
	struct child *next;
	enum role_kind kind;
	pid_t pid;
	uint32_t generation;
	struct chan *control;	/* NULL: it has closed it */
	bool ready;
	bool retired;		/* told to finish */
	bool log_lost;
	struct mono since;
};

static struct {
	const struct keeper_options *o;
	struct keeper_conf now;		/* of the filters that serve */
	struct keeper_conf next;	/* of those that start; cf NULL: none */
	struct keeper_conf later;	/* after those */
	uint32_t generation;		/* of now */
	uint32_t last;			/* that was started */
	unsigned filters;		/* how many there shall be */
	struct child *children;
	void (*up)(void);		/* NULL: has been called */
	void (*ended)(int status);
	bool stopping;
	struct mono stopped;
	struct mono broke;		/* when one broke down last */
	struct event tick;
} keeper;

static void keeper_ready(struct child *c);

/* -- one process ----------------------------------------------------------- */

static void
child_log(struct child *c)
{
	enum log_sink sink;
	struct buf *b;
	int fd;

	if (c->control == NULL)
		return;
	fd = log_sink_open(keeper.now.cf->maillog_file, &sink);
	b = chan_begin(c->control, MSG_LOG);
	put_u8(b, (uint8_t)sink);
	chan_put_fd(c->control, fd, false);
	chan_end(c->control);
	c->log_lost = false;
}

static void
child_blames(const struct child *c, pid_t pid, struct view why)
{
	struct child *bad;

	for (bad = keeper.children; bad != NULL; bad = bad->next)
		if (bad->pid == pid && bad != c)
			break;
	if (bad == NULL)
		return;
	log_warn("%s[%d] says that %s[%d] broke the rules: %s",
	    role_kind_name(c->kind), (int)c->pid, role_kind_name(bad->kind),
	    (int)bad->pid, log_safe(why));
	(void)kill(bad->pid, SIGKILL);
}

static void
child_status(const struct child *c, struct view text)
{
	struct view line;

	while ((line = view_word(&text, "\n")).n > 0)
		log_info("status: %s[%d]: %s", role_kind_name(c->kind),
		    (int)c->pid, log_safe(line));
}

static void
child_on_msg(struct chan *chan, struct chan_in *m, void *arg)
{
	struct child *c = arg;
	struct view text;
	uint32_t n;

	switch ((int)m->type) {
	case MSG_READY:
		c->ready = true;
		keeper_ready(c);
		break;
	case MSG_LOG_LOST:
		/* Not at once: a new one may be as bad. */
		c->log_lost = true;
		break;
	case MSG_BLAME:
		n = cursor_u32(&m->body);
		text = cursor_view(&m->body);
		if (chan_check(chan, m))
			child_blames(c, (pid_t)n, text);
		break;
	case MSG_STATUS_IS:
		(void)cursor_u32(&m->body);
		text = cursor_view(&m->body);
		if (chan_check(chan, m))
			child_status(c, text);
		break;
	case MSG_HITS:
		/* Counted by master of a gateway only. */
		break;
	default:
		chan_blame(chan, "unexpected message");
		break;
	}
}

static void
child_on_close(struct chan *chan, void *arg)
{
	struct child *c = arg;

	(void)chan;
	chan_free(&c->control);
}

static void
child_init(const struct child *c, const struct keeper_conf *k, int snapshot,
    int log, enum log_sink sink)
{
	struct role_init in = { .generation = c->generation,
		.jailed = keeper.o->root, .user = "", .root = "",
		.config_dir = keeper.o->config_dir, .sink = sink,
		.log_level = keeper.o->log_level };
	char *root = mem_printf("%s/empty", k->cf->data_directory), *name;
	struct buf b;

	buf_init(&b, 1024);
	name = mem_printf("%s/%s", k->cf->syslog_name,
	    c->kind == ROLE_FILTER ? "cleanup" : "pmilter");
	if (keeper.o->root) {
		in.user = k->cf->scan_user;
		in.root = root;
	}
	(void)pmilter_start_put(&b, &keeper.o->start);
	in.service_name = c->kind == ROLE_FILTER ? "filter" : buf_cstr(&b);
	in.log_name = name;
	role_child_init(c->control, &in, snapshot, log);
	buf_free(&b);
	free(root);
	free(name);
}

static bool
child_fork(struct child *c, const char *path, int pair[2])
{
	const char *name = strrchr(path, '/') + 1;
	char **env = role_child_environment(), **e;
	enum log_sink sink;
	int errors = log_sink_open(keeper.now.cf->maillog_file, &sink);

	log_flush();
	c->pid = fork();
	if (c->pid == 0)
		role_child_exec(path, name, env, pair[1],
		    sink == LOG_SINK_SYSLOG ? STDERR_FILENO : errors, -1);
	(void)close(errors);
	for (e = env; *e != NULL; e++)
		free(*e);
	return c->pid > 0;
}

static bool
child_start(enum role_kind kind, uint32_t generation,
    const struct keeper_conf *k)
{
	char *path = mem_printf("%s/%s", k->cf->daemon_directory,
	    role_kind_name(kind));
	struct child *c = mem_alloc(sizeof *c);
	int pair[2] = { -1, -1 }, snapshot = -1, log;
	enum log_sink sink;
	bool ok;

	*c = (struct child){ .kind = kind, .generation = generation,
		.since = clock_mono() };
	ok = access(path, X_OK) == 0 &&
	    (snapshot = role_child_snapshot(buf_view(&k->snapshot))) >= 0 &&
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 &&
	    child_fork(c, path, pair);
	if (!ok) {
		log_error("cannot start %s: %s", path, strerror(errno));
		if (snapshot >= 0)
			(void)close(snapshot);
		if (pair[0] >= 0)
			(void)close(pair[0]);
		free(c);
	} else {
		c->control = chan_new(pair[0], ROLE_MASTER, kind, c->pid,
		    child_on_msg, child_on_close, c);
		log = log_sink_open(keeper.now.cf->maillog_file, &sink);
		child_init(c, k, snapshot, log, sink);
		c->next = keeper.children;
		keeper.children = c;
	}
	if (pair[1] >= 0)
		(void)close(pair[1]);
	free(path);
	return ok;
}

static void
child_retire(struct child *c)
{
	if (c->control != NULL)
		chan_send(c->control, MSG_RETIRE);
	c->retired = true;
}

static void
child_send_peer(struct child *to, const struct child *peer, int fd)
{
	struct buf *b = chan_begin(to->control, MSG_PEER);

	put_u8(b, (uint8_t)peer->kind);
	put_u32(b, (uint32_t)peer->pid);
	put_u32(b, peer->generation);
	put_u32(b, 0);
	chan_put_fd(to->control, fd, false);
	chan_end(to->control);
}

static void
child_join(struct child *a, struct child *b)
{
	int pair[2];

	if (a->control == NULL || b->control == NULL)
		return;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	    pair) != 0) {
		log_error("cannot join processes: %s", strerror(errno));
		return;
	}
	child_send_peer(a, b, pair[0]);
	child_send_peer(b, a, pair[1]);
}

/* -- generations ----------------------------------------------------------- */

static unsigned
keeper_cores(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
		return (unsigned)CPU_COUNT(&set);
	return 1;
}

static unsigned
keeper_count(enum role_kind kind, uint32_t generation, bool ready)
{
	const struct child *c;
	unsigned n = 0;

	for (c = keeper.children; c != NULL; c = c->next)
		n += c->kind == kind && c->generation == generation &&
		    !c->retired && (c->ready || !ready);
	return n;
}

static struct child *
keeper_front(void)
{
	struct child *c;

	for (c = keeper.children; c != NULL; c = c->next)
		if (c->kind == ROLE_PMILTER && c->ready && !c->retired)
			break;
	return c;
}

static void
keeper_set_filters(const struct conf *cf)
{
	keeper.filters = cf->role_processes > 0 ?
	    (unsigned)cf->role_processes : keeper_cores();
	if (keeper.filters > FILTERS_MAX)
		keeper.filters = FILTERS_MAX;
}

static void keeper_give_up_next(void);

static void
keeper_start_next(void)
{
	unsigned i;

	keeper_set_filters(keeper.next.cf);
	keeper.last++;
	for (i = 0; i < keeper.filters; i++)
		if (!child_start(ROLE_FILTER, keeper.last, &keeper.next))
			break;
	if (i < keeper.filters && keeper.generation > 0)
		keeper_give_up_next();
}

/* What was asked for meanwhile. */
static void
keeper_start_later(void)
{
	if (keeper.later.cf == NULL)
		return;
	keeper.next = keeper.later;
	keeper.later = (struct keeper_conf){ 0 };
	keeper_start_next();
}

/* The next generation cannot be used: the one that serves stays. */
static void
keeper_give_up_next(void)
{
	struct child *c;

	log_warn("the new rules do not take effect: the old ones stay in "
	    "charge");
	for (c = keeper.children; c != NULL; c = c->next)
		if (c->generation == keeper.last && c->kind == ROLE_FILTER) {
			c->retired = true;
			(void)kill(c->pid, SIGKILL);
		}
	keeper_conf_free(&keeper.next);
	keeper_set_filters(keeper.now.cf);
	keeper_start_later();
}

/* All filters of the next generation are ready: mail goes to them now. */
static void
keeper_turn(void)
{
	struct child *c, *front = keeper_front();

	for (c = keeper.children; c != NULL; c = c->next)
		if (c->kind == ROLE_FILTER && !c->retired &&
		    c->generation == keeper.last)
			child_join(front, c);
	for (c = keeper.children; c != NULL; c = c->next)
		if (c->kind == ROLE_FILTER && !c->retired &&
		    c->generation != keeper.last)
			child_retire(c);
	if (keeper.now.cf != keeper.next.cf)
		keeper_conf_free(&keeper.now);
	keeper.now = keeper.next;
	keeper.next = (struct keeper_conf){ 0 };
	if (keeper.generation > 0)
		log_info("reloaded: generation %u", keeper.last);
	keeper.generation = keeper.last;
	if (keeper.up != NULL)
		keeper.up();
	keeper.up = NULL;
	keeper_start_later();
}

/* One that was started again for the generation that serves. */
static void
keeper_join_late(struct child *c)
{
	struct child *front = keeper_front(), *f;

	if (c->kind == ROLE_PMILTER) {
		for (f = keeper.children; f != NULL; f = f->next)
			if (f->kind == ROLE_FILTER && f->ready &&
			    !f->retired && f->generation == keeper.generation)
				child_join(c, f);
	} else if (front != NULL)
		child_join(front, c);
}

static void
keeper_ready(struct child *c)
{
	if (keeper.stopping || c->retired)
		return;
	if (c->kind == ROLE_PMILTER || c->generation == keeper.generation)
		keeper_join_late(c);
	if (keeper.next.cf != NULL && keeper_front() != NULL &&
	    keeper_count(ROLE_FILTER, keeper.last, true) >= keeper.filters)
		keeper_turn();
}

bool
keeper_reloading(void)
{
	return keeper.next.cf != NULL;
}

void
keeper_reload(struct keeper_conf *c)
{
	if (keeper.stopping) {
		keeper_conf_free(c);
	} else if (keeper_reloading()) {
		keeper_conf_free(&keeper.later);
		keeper.later = *c;
	} else {
		keeper.next = *c;
		keeper_start_next();
	}
	*c = (struct keeper_conf){ 0 };
}

/* -- what ends ------------------------------------------------------------- */

/* Those that are missing in what serves. */
static void
keeper_fill(void)
{
	unsigned n;

	if (keeper.stopping || keeper.generation == 0)
		return;
	keeper.broke = clock_mono();
	for (n = keeper_count(ROLE_FILTER, keeper.generation, false);
	    n < keeper.filters; n++)
		if (!child_start(ROLE_FILTER, keeper.generation, &keeper.now))
			break;
	if (keeper_count(ROLE_PMILTER, 0, false) == 0)
		(void)child_start(ROLE_PMILTER, 0, &keeper.now);
}

static void
keeper_broke(const struct child *c)
{
	bool first = keeper.generation == 0;

	if (keeper.stopping || c->retired)
		return;
	if (first && !c->ready)
		keeper.ended(1);
	else if (keeper.next.cf != NULL && c->kind == ROLE_FILTER &&
	    c->generation == keeper.last)
		keeper_give_up_next();
	else if (mono_since(keeper.broke, clock_mono()) / 1000 > PAUSE_MS)
		keeper_fill();
	/* else at the next tick */
}

static void
child_ended(const struct child *c, int status)
{
	if (c->retired && keeper.stopping)
		return;
	if (WIFSIGNALED(status) && !(c->retired &&
	    WTERMSIG(status) == SIGKILL))
		log_warn("process %s pid %d killed by signal %d",
		    role_kind_name(c->kind), (int)c->pid, WTERMSIG(status));
	else if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		log_warn("process %s pid %d exit status %d",
		    role_kind_name(c->kind), (int)c->pid,
		    WEXITSTATUS(status));
}

static void
keeper_retire(enum role_kind kind)
{
	struct child *c;

	for (c = keeper.children; c != NULL; c = c->next)
		if (c->kind == kind && !c->retired)
			child_retire(c);
}

/* First the one that takes mail, then those it needs for that. */
static void
keeper_wind_down(void)
{
	const struct child *c;

	for (c = keeper.children; c != NULL; c = c->next)
		if (c->kind == ROLE_PMILTER)
			return;
	keeper_retire(ROLE_FILTER);
	if (keeper.children == NULL)
		keeper.ended(0);
}

void
keeper_reap(void)
{
	struct child **p, *c;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (p = &keeper.children; *p != NULL; p = &(*p)->next)
			if ((*p)->pid == pid)
				break;
		if (*p == NULL)
			continue;
		c = *p;
		*p = c->next;
		chan_free(&c->control);
		child_ended(c, status);
		keeper_broke(c);
		free(c);
	}
	if (keeper.stopping)
		keeper_wind_down();
}

static void
keeper_on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct mono now = clock_mono();
	struct child *c;

	(void)fd;
	(void)what;
	(void)arg;
	for (c = keeper.children; c != NULL; c = c->next) {
		if (c->log_lost)
			child_log(c);
		if (c->control == NULL || (!c->ready &&
		    mono_since(c->since, now) / 1000 > READY_LIMIT_MS) ||
		    (keeper.stopping && mono_since(keeper.stopped, now) /
		    1000 > STOP_LIMIT_MS))
			(void)kill(c->pid, SIGKILL);
	}
	if (mono_since(keeper.broke, now) / 1000 > PAUSE_MS &&
	    (keeper_count(ROLE_FILTER, keeper.generation, false) <
	    keeper.filters || keeper_count(ROLE_PMILTER, 0, false) == 0))
		keeper_fill();
	event_add(&keeper.tick, loop_timeout(TICK_MS));
}

/* -- start and end --------------------------------------------------------- */

void
keeper_start(const struct keeper_options *o, struct keeper_conf *c,
    void (*up)(void), void (*ended)(int status))
{
	keeper.o = o;
	keeper.now = keeper.next = *c;
	keeper.up = up;
	keeper.ended = ended;
	evtimer_assign(&keeper.tick, loop_base(), keeper_on_tick, NULL);
	event_add(&keeper.tick, loop_timeout(TICK_MS));
	if (!child_start(ROLE_PMILTER, 0, &keeper.now)) {
		ended(1);
		return;
	}
	keeper_start_next();
	if (keeper_count(ROLE_FILTER, keeper.last, false) < keeper.filters)
		ended(1);
}

void
keeper_stop(void)
{
	if (keeper.stopping)
		return;
	keeper.stopping = true;
	keeper.stopped = clock_mono();
	keeper_retire(ROLE_PMILTER);
	keeper_wind_down();
}

void
keeper_log_again(void)
{
	enum log_sink sink;
	struct child *c;
	int fd = log_sink_open(keeper.now.cf->maillog_file, &sink);

	log_to(sink, fd, (int)conf_choice("syslog_facility",
	    view_of(keeper.now.cf->syslog_facility)));
	for (c = keeper.children; c != NULL; c = c->next)
		child_log(c);
}

void
keeper_status(void)
{
	struct child *c;

	for (c = keeper.children; c != NULL; c = c->next)
		if (c->control != NULL && c->ready) {
			put_u32(chan_begin(c->control, MSG_STATUS), 0);
			chan_end(c->control);
		}
}
