#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filters/postern_milter_child.h"
#include "lib/hits_book.h"
#include "lib/log_sink.h"
#include "lib/mem.h"
#include "lib/role_child.h"

/* What they do is called as in a gateway. */
static const char *const log_names[ROLE_KINDS] = {
	[ROLE_PMILTER] = "pmilter",
	[ROLE_FILTER] = "cleanup",
	[ROLE_POLICY] = "smtpd",
	[ROLE_LOOKUP] = "lookup",
};

static struct {
	const struct keeper_options *o;
	const struct conf *conf;
	void (*ready)(struct child *c);
	struct child *list;
	struct hits_book *hits;
} children;

void
child_log(struct child *c)
{
	enum log_sink sink;
	struct buf *b;
	int fd;

	if (c->control == NULL)
		return;
	fd = log_sink_open(children.conf->maillog_file, &sink);
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

	for (bad = children.list; bad != NULL; bad = bad->next)
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
		children.ready(c);
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
		hits_book_take(children.hits, chan, m, clock_mono());
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
		.jailed = children.o->root, .user = "", .root = "",
		.config_dir = children.o->config_dir, .sink = sink,
		.log_level = children.o->log_level };
	char *root = mem_printf("%s/empty", k->cf->data_directory), *name;
	struct buf b;

	buf_init(&b, 1024);
	name = mem_printf("%s/%s", k->cf->syslog_name, log_names[c->kind]);
	if (children.o->root) {
		in.user = k->cf->scan_user;
		in.root = root;
	}
	(void)pmilter_start_put(&b, &children.o->start);
	in.service_name = c->kind == ROLE_PMILTER ? buf_cstr(&b) :
	    role_kind_name(c->kind);
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
	int errors = log_sink_open(children.conf->maillog_file, &sink);

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

bool
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
		log = log_sink_open(children.conf->maillog_file, &sink);
		child_init(c, k, snapshot, log, sink);
		c->next = children.list;
		children.list = c;
	}
	if (pair[1] >= 0)
		(void)close(pair[1]);
	free(path);
	return ok;
}

void
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

void
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

static void
child_log_end(const struct child *c, int status)
{
	if (WIFSIGNALED(status) && !(c->retired &&
	    WTERMSIG(status) == SIGKILL))
		log_warn("process %s pid %d killed by signal %d",
		    role_kind_name(c->kind), (int)c->pid, WTERMSIG(status));
	else if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		log_warn("process %s pid %d exit status %d",
		    role_kind_name(c->kind), (int)c->pid,
		    WEXITSTATUS(status));
}

struct child *
child_ended(pid_t pid, int status)
{
	struct child **p, *c;

	for (p = &children.list; (c = *p) != NULL; p = &c->next)
		if (c->pid == pid)
			break;
	if (c == NULL)
		return NULL;
	*p = c->next;
	chan_free(&c->control);
	child_log_end(c, status);
	return c;
}

void
child_kill(struct child *c)
{
	(void)kill(c->pid, SIGKILL);
}

void
child_ask_status(struct child *c)
{
	if (c->control == NULL || !c->ready)
		return;
	put_u32(chan_begin(c->control, MSG_STATUS), 0);
	chan_end(c->control);
}

static void
child_log_hit(const struct hits_sum *s, void *arg)
{
	const struct hit *h = &s->hit;
	char *where = mem_strdup(log_safe(h->where));

	(void)arg;
	log_info("status: rule %s: %llu hits, %llu of them only warned, "
	    "%llu in the last hour, %llu in the last day, last by %s", where,
	    (unsigned long long)h->n, (unsigned long long)h->trial,
	    (unsigned long long)s->hour, (unsigned long long)s->day,
	    log_safe(h->who));
	free(where);
}

void
child_log_hits(void)
{
	hits_book_each(children.hits, clock_mono(), child_log_hit, NULL);
}

struct child *
child_list(void)
{
	return children.list;
}

void
child_set_conf(const struct conf *conf)
{
	children.conf = conf;
}

void
child_setup(const struct keeper_options *o, const struct conf *conf,
    void (*ready)(struct child *c))
{
	children.o = o;
	children.conf = conf;
	children.ready = ready;
	children.hits = hits_book_new();
}
