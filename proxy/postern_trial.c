/* The roles of a trial: started as master starts them. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/mem.h"
#include "lib/role_child.h"
#include "proxy/postern_trial_impl.h"

#define READY_MS	60000
#define LINE_MAX_BYTES	8192u

const struct config *
trial_config(const struct trial *t)
{
	return t->config;
}

/* -- the loop -------------------------------------------------------------- */

void
trial_stop_waiting(struct trial *t)
{
	if (t->waiting)
		loop_stop();
}

void
trial_fail(struct trial *t, const char *why)
{
	if (!t->failed)
		log_error("%s", why);
	t->failed = true;
	trial_stop_waiting(t);
}

static void
trial_on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	trial_fail(arg, "no answer in time");
}

bool
trial_wait(struct trial *t, const bool *done, int64_t ms)
{
	event_add(&t->timer, loop_timeout(ms));
	t->waiting = true;
	while (!*done && !t->failed)
		loop_run();
	t->waiting = false;
	event_del(&t->timer);
	return !t->failed;
}

/* -- logs ------------------------------------------------------------------ */

static void
role_line(struct trial_role *r, struct view line)
{
	size_t at = view_find(line, ':');
	struct trial *t = r->trial;

	/* "postern/smtpd: text" */
	line = view_trim(view_from(line, at + 1));
	if (!r->ready || t->o.on_line == NULL) {
		if (!r->ready)
			fprintf(stderr, "postern: %s: %.*s\n",
			    role_kind_name(r->kind), VIEW_ARGS(line));
		return;
	}
	t->o.on_line(r->kind, line, t->o.arg);
}

static void
role_read_log(struct trial_role *r)
{
	struct view all;
	size_t end;
	ssize_t n;
	char *to;

	for (;;) {
		to = buf_room(&r->line, 4096);
		if (to == NULL) {
			buf_clear(&r->line);
			continue;
		}
		n = read(r->log, to, 4096);
		if (n <= 0)
			break;
		r->line.n += (size_t)n;
		while (all = buf_view(&r->line),
		    (end = view_find(all, '\n')) < all.n) {
			role_line(r, view_head(all, end));
			buf_consume(&r->line, end + 1);
		}
	}
	if (n == 0)
		event_del(&r->log_event);
}

void
trial_logs(struct trial *t)
{
	role_read_log(&t->smtpd);
	role_read_log(&t->filter);
	role_read_log(&t->lookup);
}

static void
role_on_log(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	role_read_log(arg);
}

/* -- start ----------------------------------------------------------------- */

static void
role_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct trial_role *r = arg;

	(void)c;
	if (m->type == MSG_READY) {
		r->ready = true;
		trial_stop_waiting(r->trial);
	} else if (m->type == MSG_BLAME) {
		trial_fail(r->trial, "a role found fault with this command");
	}
}

static void
role_on_close(struct chan *c, void *arg)
{
	struct trial_role *r = arg;
	char *why;

	(void)c;
	chan_free(&r->control);
	role_read_log(r);
	why = mem_printf("%s has ended: %s", role_kind_name(r->kind),
	    r->ready ? "it broke down" : "it cannot use the configuration");
	trial_fail(r->trial, why);
	free(why);
}

__attribute__((noreturn))
static void
role_exec(const char *path, const char *name, int control, int log)
{
	char *argv[2] = { mem_strdup(name), NULL };
	int null;

	control = fcntl(control, F_DUPFD, 16);
	log = fcntl(log, F_DUPFD, 16);
	null = open("/dev/null", O_RDWR);
	if (control < 0 || log < 0 || null < 0 || dup2(null, 0) < 0 ||
	    dup2(null, 1) < 0 || dup2(log, 2) < 0 || dup2(control, 3) < 0)
		_exit(126);
	(void)close_range(4, ~0u, 0);
	(void)execv(path, argv);
	_exit(127);
}

static int
role_snapshot(const struct team *team)
{
	struct view text = buf_view(&team->snapshot);
	int fd = memfd_create("main.cf", MFD_CLOEXEC);

	if (fd < 0 || write(fd, text.p, text.n) != (ssize_t)text.n)
		fatal("cannot make a memory file: %s", strerror(errno));
	return fd;
}

const char *
trial_user(const struct team *team)
{
	const enum role_kind kind = team->entry->kind;
	const char *user = kind == ROLE_FILTER ? team->cf->scan_user :
	    kind == ROLE_RELAY ? team->cf->relay_user : team->cf->net_user;

	return getpwnam(user) != NULL ? user : "nobody";
}

static void
role_send_init(struct trial_role *r, const struct team *team, int log)
{
	char *root = mem_printf("%s/empty", team->cf->data_directory);
	char *name = mem_printf("postern/%s", role_kind_name(r->kind));
	struct stat st;
	bool empty = geteuid() == 0 && r->kind != ROLE_LOOKUP &&
	    stat(root, &st) == 0 && S_ISDIR(st.st_mode);
	struct role_init in = { .generation = 1,
		.service = team->entry->service, .jailed = geteuid() == 0,
		.user = geteuid() == 0 ? trial_user(team) : "",
		.root = empty ? root : "",
		.config_dir = team->m->config_dir,
		.service_name = team->entry->name, .log_name = name,
		.sink = LOG_SINK_STDERR,
		.log_level = r->trial->o.trace ? LOG_LEVEL_TRACE : 0 };

	role_child_init(r->control, &in, role_snapshot(team), log);
	free(root);
	free(name);
}

static void
role_start(struct trial *t, struct trial_role *r, const struct team *team)
{
	int pair[2], logs[2];
	char *path;

	r->trial = t;
	r->kind = team->entry->kind;
	path = mem_printf("%s/%s", team->cf->daemon_directory,
	    role_kind_name(r->kind));
	if (access(path, X_OK) != 0)
		fatal("%s: %s", path, strerror(errno));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0 ||
	    pipe2(logs, O_CLOEXEC) != 0 ||
	    fcntl(logs[0], F_SETFL, O_NONBLOCK) != 0)
		fatal("cannot start %s: %s", path, strerror(errno));
	log_flush();
	r->pid = fork();
	if (r->pid < 0)
		fatal("cannot start %s: %s", path, strerror(errno));
	if (r->pid == 0)
		role_exec(path, role_kind_name(r->kind), pair[1], logs[1]);
	close(pair[1]);
	r->log = logs[0];
	buf_init(&r->line, LINE_MAX_BYTES);
	event_assign(&r->log_event, loop_base(), r->log, EV_READ | EV_PERSIST,
	    role_on_log, r);
	event_add(&r->log_event, NULL);
	r->control = chan_new(pair[0], ROLE_MASTER, r->kind, r->pid,
	    role_on_msg, role_on_close, r);
	role_send_init(r, team, logs[1]);
	free(path);
}

/* -- a trial --------------------------------------------------------------- */

static const struct team *
trial_team(const struct trial *t, enum role_kind kind, const char *name)
{
	size_t i;

	for (i = 0; i < t->config->n_teams; i++)
		if (t->config->teams[i].entry->kind == kind &&
		    (name == NULL || strcmp(t->config->teams[i].entry->name,
		    name) == 0))
			return &t->config->teams[i];
	log_error("%s: there is no %s%s%s in master.cf",
	    t->master.config_dir, role_kind_name(kind),
	    name != NULL ? " service " : "", name != NULL ? name : "");
	return NULL;
}

struct trial *
trial_open(const char *config_dir, const struct trial_options *o)
{
	struct reporter all = postern_reporter;
	const struct reporter errors = { report_errors_only, &all };
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct trial *t = mem_alloc(sizeof *t);
	const struct team *smtpd, *lookup, *filter;

	(void)sigaction(SIGPIPE, &ignore, NULL);
	chan_phase = PHASE_RUNNING;
	t->o = *o;
	t->fd = -1;
	t->smtpd.log = t->lookup.log = t->filter.log = -1;
	t->master.config_dir = config_dir;
	event_assign(&t->timer, loop_base(), -1, 0, trial_on_time, t);
	buf_init(&t->question, 4096);
	t->config = config_load(&t->master, &errors);
	if (t->config == NULL ||
	    (smtpd = trial_team(t, ROLE_SMTPD, o->service)) == NULL ||
	    (lookup = trial_team(t, ROLE_LOOKUP, NULL)) == NULL ||
	    (filter = trial_team(t, ROLE_FILTER, NULL)) == NULL) {
		trial_free(&t);
		return NULL;
	}
	role_start(t, &t->smtpd, smtpd);
	role_start(t, &t->lookup, lookup);
	role_start(t, &t->filter, filter);
	if (!trial_wait(t, &t->smtpd.ready, READY_MS) ||
	    !trial_wait(t, &t->lookup.ready, READY_MS) ||
	    !trial_wait(t, &t->filter.ready, READY_MS)) {
		trial_free(&t);
		return NULL;
	}
	trial_link_open(t);
	return t;
}

static void
role_end(struct trial_role *r)
{
	if (r->pid <= 0)
		return;
	chan_free(&r->control);
	(void)kill(r->pid, SIGKILL);
	(void)waitpid(r->pid, NULL, 0);
	event_del(&r->log_event);
	close(r->log);
	buf_free(&r->line);
}

void
trial_free(struct trial **tp)
{
	struct trial *t = *tp;

	if (t == NULL)
		return;
	*tp = NULL;
	trial_smtp_free(t);
	trial_link_free(t);
	trial_deliver_free(t);
	role_end(&t->smtpd);
	role_end(&t->lookup);
	role_end(&t->filter);
	event_del(&t->timer);
	config_free(&t->config);
	buf_free(&t->question);
	free(t);
}
