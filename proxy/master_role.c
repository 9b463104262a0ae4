#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/hits_book.h"
#include "lib/mem.h"
#include "lib/role_child.h"
#include "proxy/master.h"
#include "rules/proxy_filter.h"

#define READY_LIMIT_MS	60000
#define CLOSED_LIMIT_MS	3000	/* between end of file and end of process */
#define STATUS_MAX	65536u
#define ORDER_MAX	(1000u << 10)

const char *
instance_state_name(enum instance_state s)
{
	static const char *const names[] = {
		[INSTANCE_NONE] = "none",
		[INSTANCE_STARTING] = "starting",
		[INSTANCE_READY] = "ready",
		[INSTANCE_SERVING] = "serving",
		[INSTANCE_RETIRING] = "retiring",
	};

	return names[s];
}

/* What the jail of this role looks like from here. */
static void
instance_jail(const struct instance *i, const struct team *t,
    const char **ret_user, char **ret_root)
{
	const struct conf *cf = t->cf;

	*ret_user = "";
	*ret_root = NULL;
	if (!i->m->root)
		return;
	switch ((int)i->kind) {
	case ROLE_QMGR:
	case ROLE_BOUNCE:
	case ROLE_PICKUP:
	case ROLE_SHOWQ:
	case ROLE_LOCAL:
		*ret_user = cf->mail_owner;
		break;
	case ROLE_FILTER:
	case ROLE_MILTER:
		*ret_user = cf->scan_user;
		break;
	case ROLE_RELAY:
		*ret_user = cf->relay_user;
		break;
	case ROLE_AUTH:
	case ROLE_CREDENTIALS:
		*ret_user = cf->auth_user;
		break;
	default:
		*ret_user = cf->net_user;
		break;
	}
	/* A socket outside of the spool is reached by its path only. */
	if (!t->entry->chroot || t->entry->sockets == MILTERS_ELSEWHERE)
		return;
	if (i->kind == ROLE_CREDENTIALS &&
	    *t->cf->smtp_sasl_token_directory != '\0')
		*ret_root = mem_strdup(t->cf->smtp_sasl_token_directory);
	else if ((i->kind == ROLE_LOOKUP && plan_policy_sockets(cf)) ||
	    t->entry->sockets == MILTERS_BELOW_QUEUE ||
	    (i->kind == ROLE_RELAY && t->entry->lmtp) ||
	    i->kind == ROLE_QMGR || i->kind == ROLE_BOUNCE ||
	    i->kind == ROLE_PICKUP || i->kind == ROLE_SHOWQ)
		*ret_root = mem_strdup(cf->queue_directory);
	else
		*ret_root = mem_printf("%s/empty", cf->data_directory);
}

static void
instance_send_init(struct instance *i, const struct team *t, int snapshot)
{
	enum log_sink sink = LOG_SINK_STDERR;
	struct role_init in;
	const char *user;
	char *root, *name;
	int log;

	log = master_log_fd(i->m, &sink);
	instance_jail(i, t, &user, &root);
	name = mem_printf("%s/%s", t->cf->syslog_name,
	    i->kind == ROLE_TABLE || i->kind == ROLE_AUTH ?
	    plan_program(t->entry) :
	    i->kind == ROLE_RELAY && t->entry->lmtp ? "lmtp" :
	    plan_log_name(i->kind));
	in = (struct role_init){ .generation = i->generation,
		.index = i->index, .service = i->service,
		.jailed = i->m->root, .user = user,
		.root = root != NULL ? root : "",
		.config_dir = i->m->config_dir,
		.service_name = t->entry->name,
		.lmtp = t->entry->lmtp, .log_name = name,
		.sink = sink };
	role_child_init(i->control, &in, snapshot, log);
	free(root);
	free(name);
}

/* Sessions may be resumed with any process of a generation, and with no
 * other: what a client was allowed to is not so for ever. */
static void
instance_send_tickets(struct instance *i, struct team *t)
{
	struct buf *b;

	if (t->seed_generation != i->generation) {
		if (getrandom(t->seed, sizeof t->seed, 0) !=
		    (ssize_t)sizeof t->seed)
			fatal("getrandom: %s", strerror(errno));
		t->seed_generation = i->generation;
		t->seed_from = clock_mono();
	}
	b = chan_begin(i->control, MSG_TICKETS);
	put_u64(b, (uint64_t)t->seed_from.us);
	put_view(b, view_make((const char *)t->seed, sizeof t->seed));
	chan_end(i->control);
}

static void
instance_blame(struct instance *i, pid_t pid, struct view why)
{
	struct instance *bad;

	/* The word of a role counts only against another role of ours. */
	for (bad = i->m->instances; bad != NULL; bad = bad->next)
		if (bad->pid == pid && bad != i)
			break;
	if (bad == NULL) {
		log_warn("%s[%d] blames process %d, which is none of ours",
		    role_kind_name(i->kind), (int)i->pid, (int)pid);
		return;
	}
	log_warn("%s[%d] says that %s[%d] broke the rules: %s",
	    role_kind_name(i->kind), (int)i->pid, role_kind_name(bad->kind),
	    (int)bad->pid, log_safe(why));
	(void)kill(bad->pid, SIGKILL);
}

static void
instance_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct instance *i = arg;
	struct view text, more;
	bool refused;
	uint32_t n;

	switch ((int)m->type) {
	case MSG_READY:
		turn_ready(i);
		break;
	case MSG_LOG_LOST:
		master_log_lost(i);
		break;
	case MSG_BLAME:
		n = cursor_u32(&m->body);
		text = cursor_view(&m->body);
		if (chan_check(c, m))
			instance_blame(i, (pid_t)n, text);
		break;
	case MSG_WANT:
		n = cursor_u8(&m->body);
		if (chan_check(c, m))
			turn_want(i->m, (enum role_kind)n);
		break;
	case MSG_TOKEN_STALE:
		text = cursor_view(&m->body);
		if (chan_check(c, m))
			token_command_want(i, text);
		break;
	case MSG_TLS_TRACE:
		n = cursor_u32(&m->body);
		text = cursor_view(&m->body);
		if (chan_check(c, m))
			trace_want(i, n, text);
		break;
	case MSG_HITS:
		hits_book_take(i->m->hits, i->control, m, clock_mono());
		break;
	case MSG_POOL_IS:
		n = cursor_u32(&m->body);
		text = cursor_view(&m->body);
		more = cursor_view(&m->body);
		if (chan_check(c, m))
			control_pool_is(i, n, text, more);
		break;
	case MSG_STATUS_IS:
		n = cursor_u32(&m->body);
		text = cursor_view(&m->body);
		if (chan_check(c, m))
			control_status_is(i, n, view_head(text, STATUS_MAX));
		break;
	case MSG_ORDER_IS:
		n = cursor_u32(&m->body);
		refused = cursor_u8(&m->body) != 0;
		text = cursor_view(&m->body);
		if (chan_check(c, m))
			control_order_is(i, n, refused, view_head(text,
			    ORDER_MAX));
		break;
	default:
		chan_blame(c, "unexpected message");
		break;
	}
}

static void
instance_on_time(evutil_socket_t fd, short what, void *arg)
{
	struct instance *i = arg;

	(void)fd;
	(void)what;
	if (i->control == NULL)
		instance_kill(i, "it closed its control channel");
	else if (i->state == INSTANCE_STARTING)
		instance_kill(i, "it did not get ready in time");
}

static void
instance_on_close(struct chan *c, void *arg)
{
	struct instance *i = arg;

	(void)c;
	chan_free(&i->control);
	/* Usually it is ending; if not, it has lost its senses or its way. */
	event_add(&i->timer, loop_timeout(CLOSED_LIMIT_MS));
}

void
instance_kill(struct instance *i, const char *why)
{
	if (why != NULL)
		log_warn("killing %s pid %d: %s", role_kind_name(i->kind),
		    (int)i->pid, why);
	else
		i->unwanted = true;
	(void)kill(i->pid, SIGKILL);
}

struct instance *
instance_start(struct slot *s, uint32_t generation)
{
	struct team *t = s->team;
	struct master *m = t->m;
	enum role_kind kind = t->entry->kind;
	struct instance *i = NULL;
	enum log_sink sink;
	char *path, **env;
	int pair[2] = { -1, -1 }, snapshot = -1, errors;
	pid_t pid;

	path = mem_printf("%s/%s", t->cf->daemon_directory,
	    plan_program(t->entry));
	if (access(path, X_OK) != 0) {
		log_error("cannot start %s: %s", path, strerror(errno));
		goto out;
	}
	snapshot = role_child_snapshot(buf_view(&t->snapshot));
	if (snapshot < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
	    pair) != 0) {
		log_error("cannot start %s: %s", path, strerror(errno));
		goto out;
	}
	env = role_child_environment();
	errors = master_log_fd(m, &sink);
	log_flush();
	pid = fork();
	if (pid == 0)
		role_child_exec(path, plan_program(t->entry), env, pair[1],
		    sink == LOG_SINK_SYSLOG ? STDERR_FILENO : errors,
		    kind == ROLE_QMGR ? m->qmgr_lock : -1);
	close(errors);
	for (char **e = env; *e != NULL; e++)
		free(*e);
	if (pid < 0) {
		log_error("cannot start %s: fork: %s", path, strerror(errno));
		goto out;
	}
	i = mem_alloc(sizeof *i);
	*i = (struct instance){ .m = m, .kind = kind, .index = s->index,
		.service = t->entry->service, .generation = generation,
		.pid = pid, .state = INSTANCE_STARTING, .since = clock_mono(),
		.next = m->instances };
	m->instances = i;
	buf_init(&i->settings, PROXY_FILTER_MAX);
	if (kind == ROLE_SMTPD)
		proxy_filter_put(&i->settings, t->cf, t->entry->maxproc);
	if (kind == ROLE_SMTPD && conf_choice("smtpd_upstream_proxy_protocol",
	    view_of(t->cf->smtpd_upstream_proxy_protocol)) != 0)
		i->header_ms =
		    (uint32_t)t->cf->smtpd_upstream_proxy_timeout;
	i->control = chan_new(pair[0], ROLE_MASTER, kind, pid,
	    instance_on_msg, instance_on_close, i);
	pair[0] = -1;
	instance_send_init(i, t, snapshot);
	snapshot = -1;
	if (kind == ROLE_SMTPD)
		instance_send_tickets(i, t);
	event_assign(&i->timer, loop_base(), -1, 0, instance_on_time, i);
	event_add(&i->timer, loop_timeout(READY_LIMIT_MS));
out:
	if (snapshot >= 0)
		close(snapshot);
	if (pair[0] >= 0)
		close(pair[0]);
	if (pair[1] >= 0)
		close(pair[1]);
	free(path);
	return i;
}

void
instance_retire(struct instance *i)
{
	if (i->control != NULL)
		chan_send(i->control, MSG_RETIRE);
	i->state = INSTANCE_RETIRING;
	i->retired = true;
	i->since = loop_now();
}

static void
instance_send_peer(struct instance *to, const struct instance *peer, int fd)
{
	struct buf *b = chan_begin(to->control, MSG_PEER);

	put_u8(b, (uint8_t)peer->kind);
	put_u32(b, (uint32_t)peer->pid);
	put_u32(b, peer->generation);
	put_u32(b, peer->service);
	if (to->kind == ROLE_QMGR)
		(void)buf_putv(b, buf_view(&peer->settings));
	else if (to->kind == ROLE_GATE)
		put_u32(b, peer->header_ms);
	chan_put_fd(to->control, fd, false);
	chan_end(to->control);
}

void
instance_join(struct instance *a, struct instance *b)
{
	int pair[2];

	if (a->control == NULL || b->control == NULL)
		return;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	    pair) != 0) {
		log_error("cannot join %s and %s: %s", role_kind_name(a->kind),
		    role_kind_name(b->kind), strerror(errno));
		return;
	}
	instance_send_peer(a, b, pair[0]);
	instance_send_peer(b, a, pair[1]);
}

/* In the words of Postfix's master. */
static void
instance_log_end(const struct instance *i, int status)
{
	const struct team *t = config_team(i->m->now, i->kind, i->service);
	const char *dir = t != NULL ? t->cf->daemon_directory : "";
	const char *name = t != NULL ? plan_program(t->entry) :
	    role_kind_name(i->kind);

	if (i->unwanted)
		return;
	if (WIFSIGNALED(status))
		log_warn("process %s/%s pid %d killed by signal %d", dir, name,
		    (int)i->pid, WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		log_warn("process %s/%s pid %d exit status %d", dir, name,
		    (int)i->pid, WEXITSTATUS(status));
	else if (i->state != INSTANCE_RETIRING && i->kind != ROLE_BOUNCE &&
	    i->kind != ROLE_SHOWQ)
		log_warn("process %s/%s pid %d ended without being told", dir,
		    name, (int)i->pid);
}

void
instance_reap(struct master *m)
{
	struct instance **p, *i;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (p = &m->instances; *p != NULL; p = &(*p)->next)
			if ((*p)->pid == pid)
				break;
		/* As process 1 of a container we inherit strangers. */
		if (*p == NULL) {
			token_command_ended(m, pid);
			continue;
		}
		i = *p;
		*p = i->next;
		event_del(&i->timer);
		chan_free(&i->control);
		instance_log_end(i, status);
		control_ended(i);
		turn_ended(i, status);
		buf_free(&i->settings);
		free(i);
	}
}
