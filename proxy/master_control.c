#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/hits_book.h"
#include "lib/mem.h"
#include "proxy/master.h"

#define CLIENTS_MAX	8u
#define LINE_MAX_BYTES	4096u
#define IDLE_S		5
#define STATUS_MS	1000
#define POOL_MS		10000
#define STATUS_LINE	"%-7s pid %-7d generation %-4u %-9s %llds"

enum client_wait { WAIT_COMMAND = 0, WAIT_RELOAD, WAIT_STATUS, WAIT_ORDER,
	WAIT_STOP, WAIT_POOL, WAIT_CLOSE };

struct client {
	struct control *control;
	struct bufferevent *io;
	enum client_wait wait;
	bool next_turn;		/* the present turn began before it asked */
	struct event timer;	/* of a status, of an order */
	uint32_t tag;
	pid_t pid;		/* who got its order */
	unsigned pending;	/* roles that have not answered */
	struct evbuffer *part[ROLE_KINDS];	/* answers, by role */
};

struct control {
	struct master *m;
	int fd;
	struct event accept;
	struct client *clients[CLIENTS_MAX];
	uint32_t tag;
};

static void
client_free(struct client *c)
{
	size_t i;

	for (i = 0; i < CLIENTS_MAX; i++)
		if (c->control->clients[i] == c)
			c->control->clients[i] = NULL;
	for (i = 0; i < ROLE_KINDS; i++)
		if (c->part[i] != NULL)
			evbuffer_free(c->part[i]);
	event_del(&c->timer);
	bufferevent_free(c->io);
	free(c);
}

__attribute__((format(printf, 2, 3)))
static void
client_say(struct client *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)evbuffer_add_vprintf(bufferevent_get_output(c->io), fmt, ap);
	va_end(ap);
}

/* The last line; the connection ends when it is written. */
static void
client_finish(struct client *c, const char *error)
{
	static const struct timeval limit = { IDLE_S, 0 };

	if (error == NULL)
		client_say(c, "OK\n");
	else
		client_say(c, "ERROR %s\n", error);
	c->wait = WAIT_CLOSE;
	bufferevent_set_timeouts(c->io, NULL, &limit);
}

/* -- status --------------------------------------------------------------- */

static void
client_status_end(struct client *c)
{
	size_t k;

	event_del(&c->timer);
	for (k = 0; k < ROLE_KINDS; k++)
		if (c->part[k] != NULL)
			(void)evbuffer_add_buffer(
			    bufferevent_get_output(c->io), c->part[k]);
	if (c->pending > 0)
		client_say(c, "%u of the processes did not answer in time\n",
		    c->pending);
	client_finish(c, NULL);
}

static void
client_on_time(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;

	(void)fd;
	(void)what;
	if (c->wait == WAIT_STATUS)
		client_status_end(c);
	else if (c->wait == WAIT_ORDER)
		client_finish(c, "no answer in time");
}

/* Answers come in any order; they are shown by role. */
static void
client_add_instance(struct client *c, const struct instance *i,
    struct view lines)
{
	const struct team *t = config_team(i->m->now, i->kind, i->service);
	struct evbuffer **part = &c->part[i->kind];
	struct view line;

	if (*part == NULL && (*part = evbuffer_new()) == NULL)
		fatal("no memory for a status");
	(void)evbuffer_add_printf(*part, STATUS_LINE "%s%s\n",
	    role_kind_name(i->kind), (int)i->pid, i->generation,
	    instance_state_name(i->state),
	    (long long)(mono_since(i->since, clock_mono()) / 1000000),
	    i->kind == ROLE_SMTPD && t != NULL ? "  service " : "",
	    i->kind == ROLE_SMTPD && t != NULL ? t->entry->name : "");
	while (lines.n > 0) {
		line = view_head(lines, view_find(lines, '\n'));
		lines = view_from(lines, line.n + 1);
		if (line.n > 0)
			(void)evbuffer_add_printf(*part, "        %s\n",
			    log_safe(line));
	}
}

static void
client_status(struct client *c)
{
	struct master *m = c->control->m;
	struct instance *i;
	struct buf *b;

	client_say(c, STATUS_LINE "  configuration %s\n", "master",
	    (int)getpid(), m->generation,
	    m->stop_stage != STOP_NOT ? "stopping" :
	    m->turn.active ? "reloading" : "serving",
	    (long long)(mono_since(m->started, clock_mono()) / 1000000),
	    m->config_dir);
	if (m->stale)
		client_say(c, "        the configuration on disk is not in "
		    "force: %s\n", buf_cstr(&m->failure));
	if (m->now->cf->soft_mode)
		client_say(c, "        soft_mode is on: rules only log what "
		    "they would do\n");
	c->wait = WAIT_STATUS;
	c->tag = ++c->control->tag;
	c->pending = 0;
	for (i = m->instances; i != NULL; i = i->next) {
		if (i->control == NULL || i->state == INSTANCE_STARTING) {
			client_add_instance(c, i, view_make(NULL, 0));
			continue;
		}
		b = chan_begin(i->control, MSG_STATUS);
		put_u32(b, c->tag);
		chan_end(i->control);
		c->pending++;
	}
	if (c->pending == 0)
		client_status_end(c);
	else
		event_add(&c->timer, loop_timeout(STATUS_MS));
}

static struct client *
control_client(const struct master *m, uint32_t tag, enum client_wait wait)
{
	struct client *c;
	size_t n;

	for (n = 0; n < CLIENTS_MAX; n++) {
		c = m->control->clients[n];
		if (c != NULL && c->tag == tag && c->wait == wait)
			return c;
	}
	return NULL;
}

void
control_status_is(struct instance *i, uint32_t tag, struct view lines)
{
	struct client *c = control_client(i->m, tag, WAIT_STATUS);

	if (c == NULL)
		return;		/* too late */
	client_add_instance(c, i, lines);
	if (--c->pending == 0)
		client_status_end(c);
}

/* -- rules ---------------------------------------------------------------- */

static void
client_hit(const struct hits_sum *s, void *arg)
{
	const struct hit *h = &s->hit;

	client_say(arg, "%016llx %llu %llu %llu %llu %lld %.*s %.*s\n",
	    (unsigned long long)h->hash, (unsigned long long)h->n,
	    (unsigned long long)h->trial, (unsigned long long)s->hour,
	    (unsigned long long)s->day, (long long)h->last_us,
	    VIEW_ARGS(view_head(h->who, view_find(h->who, ' '))),
	    VIEW_ARGS(h->where));
}

static void
client_rules(struct client *c)
{
	hits_book_each(c->control->m->hits, clock_mono(), client_hit, c);
	client_finish(c, NULL);
}

/* -- commands ------------------------------------------------------------- */

static struct instance *
client_serving(const struct client *c, enum role_kind kind)
{
	struct instance *i;

	for (i = c->control->m->instances; i != NULL; i = i->next)
		if (i->kind == kind && i->control != NULL &&
		    i->state == INSTANCE_SERVING)
			break;
	return i;
}

/* What the role answers is shown, line by line. */
static void
client_order(struct client *c, enum role_kind kind, struct view words,
    int64_t limit)
{
	struct instance *i = client_serving(c, kind);
	struct buf *b;

	if (i == NULL) {
		client_finish(c, "it is not used here, or not serving now");
		return;
	}
	c->wait = WAIT_ORDER;
	c->tag = ++c->control->tag;
	c->pid = i->pid;
	b = chan_begin(i->control, MSG_ORDER);
	put_u32(b, c->tag);
	put_view(b, words);
	chan_end(i->control);
	event_add(&c->timer, loop_timeout(limit + STATUS_MS));
}

void
control_order_is(struct instance *i, uint32_t tag, bool refused,
    struct view lines)
{
	struct client *c = control_client(i->m, tag, WAIT_ORDER);
	struct view line;
	char error[100];

	if (c == NULL || c->pid != i->pid)
		return;		/* too late */
	event_del(&c->timer);
	if (refused) {
		snprintf(error, sizeof error, "%s", log_safe(lines));
		client_finish(c, error);
		return;
	}
	while (lines.n > 0) {
		line = view_head(lines, view_find(lines, '\n'));
		lines = view_from(lines, line.n + 1);
		client_say(c, "%s\n", log_safe(line));
	}
	client_finish(c, NULL);
}

void
control_ended(const struct instance *i)
{
	struct control *k = i->m->control;
	size_t n;

	for (n = 0; k != NULL && n < CLIENTS_MAX; n++)
		if (k->clients[n] != NULL && k->clients[n]->pid == i->pid &&
		    k->clients[n]->wait == WAIT_ORDER) {
			event_del(&k->clients[n]->timer);
			client_finish(k->clients[n], "the process has ended");
		}
}

/* NULL: the client was told that there is none. */
static struct instance *
client_qmgr(struct client *c)
{
	struct instance *i = client_serving(c, ROLE_QMGR);

	if (i == NULL)
		client_finish(c, "no queue manager is serving");
	return i;
}

static void
client_flush(struct client *c)
{
	struct instance *i = client_qmgr(c);

	if (i == NULL)
		return;
	chan_send(i->control, MSG_FLUSH);
	client_finish(c, NULL);
}

static void
client_on_pool_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	client_finish(arg, "the queue manager did not answer in time");
}

static void
client_pool(struct client *c, struct view command)
{
	struct instance *i;
	struct buf *b;

	/* The next queue manager has read what is drained already. */
	if (c->control->m->turn.active) {
		client_finish(c, "a reload is under way; try again");
		return;
	}
	i = client_qmgr(c);
	if (i == NULL)
		return;
	c->wait = WAIT_POOL;
	c->tag = ++c->control->tag;
	b = chan_begin(i->control, MSG_POOL);
	put_u32(b, c->tag);
	put_view(b, command);
	chan_end(i->control);
	event_assign(&c->timer, loop_base(), -1, 0, client_on_pool_time, c);
	event_add(&c->timer, loop_timeout(POOL_MS));
}

void
control_pool_is(struct instance *i, uint32_t tag, struct view lines,
    struct view error)
{
	struct control *k = i->m->control;
	struct client *c;
	char *why;
	size_t n;

	for (n = 0; n < CLIENTS_MAX; n++) {
		c = k->clients[n];
		if (c == NULL || c->tag != tag || c->wait != WAIT_POOL)
			continue;
		event_del(&c->timer);
		(void)evbuffer_add(bufferevent_get_output(c->io), lines.p,
		    lines.n);
		why = mem_copy(error);
		client_finish(c, error.n > 0 ? why : NULL);
		free(why);
	}
}

static void
client_reload(struct client *c)
{
	struct master *m = c->control->m;

	if (m->stop_stage != STOP_NOT) {
		client_finish(c, "Postern is being stopped");
		return;
	}
	c->wait = WAIT_RELOAD;
	/* What runs now may have read the files before they were changed. */
	c->next_turn = m->turn.active;
	if (!m->turn.active)
		watch_accept(m);
	turn_ask(m, WATCH_ALL);
}

static void
client_command(struct client *c, struct view line)
{
	struct view rest = line, verb = view_word(&rest, " ");
	static const struct timeval idle = { IDLE_S, 0 };

	bufferevent_set_timeouts(c->io, NULL, &idle);
	rest = view_trim(rest);
	if (view_is(verb, "status")) {
		client_status(c);
	} else if (view_is(verb, "rules")) {
		client_rules(c);
	} else if (view_is(verb, "up")) {
		client_finish(c, c->control->m->up ? NULL : "starting");
	} else if (view_is(verb, "reload")) {
		client_reload(c);
	} else if (view_is(verb, "flush")) {
		client_flush(c);
	} else if (view_is(verb, "pool")) {
		client_pool(c, rest);
	} else if (view_is(verb, "sts")) {
		client_order(c, ROLE_STS, rest,
		    c->control->m->now->cf->smtp_tls_sts_timeout);
	} else if (view_is(verb, "tlsrpt")) {
		client_order(c, ROLE_TLSRPT, rest, 0);
	} else if (view_is(verb, "log")) {
		master_log_again(c->control->m);
		client_finish(c, NULL);
	} else if (view_is(verb, "stop")) {
		/* Answered by our end. */
		c->wait = WAIT_STOP;
		stop_begin(c->control->m, "request of postern stop");
	} else {
		client_finish(c, "unknown command");
	}
}

void
control_turn_done(struct master *m, bool ok, const char *text)
{
	struct client *c;
	size_t i;

	for (i = 0; m->control != NULL && i < CLIENTS_MAX; i++) {
		c = m->control->clients[i];
		if (c == NULL || c->wait != WAIT_RELOAD)
			continue;
		if (c->next_turn && m->stop_stage == STOP_NOT) {
			c->next_turn = false;
			continue;
		}
		if (ok)
			client_say(c, "generation %u is in service\n",
			    m->generation);
		client_finish(c, ok ? NULL : text);
	}
}

/* -- connections ---------------------------------------------------------- */

static void
client_on_read(struct bufferevent *io, void *arg)
{
	struct client *c = arg;
	struct evbuffer *in = bufferevent_get_input(io);
	size_t n;
	char *line;

	if (c->wait != WAIT_COMMAND) {
		(void)evbuffer_drain(in, evbuffer_get_length(in));
		return;
	}
	line = evbuffer_readln(in, &n, EVBUFFER_EOL_LF);
	if (line != NULL) {
		client_command(c, view_make(line, n));
		free(line);
	} else if (evbuffer_get_length(in) >= LINE_MAX_BYTES) {
		client_finish(c, "command too long");
	}
}

static void
client_on_written(struct bufferevent *io, void *arg)
{
	struct client *c = arg;

	if (c->wait == WAIT_CLOSE &&
	    evbuffer_get_length(bufferevent_get_output(io)) == 0)
		client_free(c);
}

static void
client_on_event(struct bufferevent *io, short what, void *arg)
{
	(void)io;
	(void)what;
	client_free(arg);
}

static void
control_on_accept(evutil_socket_t listening, short what, void *arg)
{
	static const struct timeval idle = { IDLE_S, 0 };
	struct control *k = arg;
	struct ucred peer;
	socklen_t n = sizeof peer;
	struct client *c;
	size_t i;
	int fd;

	(void)what;
	fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	for (i = 0; i < CLIENTS_MAX && k->clients[i] != NULL; i++)
		;
	/* The mode of the socket says the same; two locks are better. */
	if (i == CLIENTS_MAX || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer,
	    &n) != 0 || (peer.uid != 0 && peer.uid != geteuid())) {
		close(fd);
		return;
	}
	c = mem_alloc(sizeof *c);
	c->control = k;
	c->io = bufferevent_socket_new(loop_base(), fd, BEV_OPT_CLOSE_ON_FREE);
	if (c->io == NULL)
		fatal("no memory for a control connection");
	event_assign(&c->timer, loop_base(), -1, 0, client_on_time, c);
	bufferevent_setcb(c->io, client_on_read, client_on_written,
	    client_on_event, c);
	bufferevent_setwatermark(c->io, EV_READ, 0, LINE_MAX_BYTES);
	bufferevent_set_timeouts(c->io, &idle, &idle);
	bufferevent_enable(c->io, EV_READ | EV_WRITE);
	k->clients[i] = c;
}

bool
control_open(struct master *m)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX,
		.sun_path = MASTER_CONTROL };
	struct control *k = mem_alloc(sizeof *k);
	mode_t mask;
	int rc;

	m->control = k;
	k->m = m;
	/* We hold the lock, so nobody else listens there. */
	(void)unlink(MASTER_CONTROL);
	k->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (k->fd < 0)
		return false;
	mask = umask(0177);
	rc = bind(k->fd, (struct sockaddr *)&un, sizeof un);
	(void)umask(mask);
	if (rc != 0 || listen(k->fd, CLIENTS_MAX) != 0)
		return false;
	event_assign(&k->accept, loop_base(), k->fd, EV_READ | EV_PERSIST,
	    control_on_accept, k);
	event_add(&k->accept, NULL);
	return true;
}
