/*
 * auth-dovecot: one connection to each Dovecot auth server, over which all
 * conversations go.  The server may be dead, hang, or say what is no sense:
 * then the connection is given up, those who used it are told to try again
 * later, and another is tried for; what it offered is remembered, so that
 * clients that come meanwhile do not see a service without AUTH.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/netaddr.h"
#include "proxy/auth_dovecot_wire.h"

#define IN_SIZE		65536u
#define OUT_MAX		(4u << 20)
#define RETRY_MS	1000		/* the first time, then twice that */
#define RETRY_MAX_MS	30000
#define LOST		"Connection lost to authentication server"

enum link_state { LINK_DOWN = 0, LINK_CONNECTING, LINK_GREETING, LINK_UP };

struct dovecot {
	struct auth_server *server;
	struct sockaddr_storage addr;
	socklen_t addr_n;
	/* The same socket where queue_directory is the root. */
	struct sockaddr_un inside;
	enum link_state state;
	int fd;
	bool versioned, writing;
	uint32_t minor;
	int64_t retry_ms;
	struct mono tried, heard;
	struct event io, timer;
	struct buf out;
	size_t n;		/* of in */
	char in[IN_SIZE];
	/* What it has offered on this connection. */
	struct auth_server offered;
};

static pid_t own_pid;
static int64_t limit_ms;

static void link_connect(struct dovecot *d);
static void link_event(evutil_socket_t fd, short what, void *arg);
static void link_timer(evutil_socket_t fd, short what, void *arg);

/* -- the connection --------------------------------------------------------- */

static void
out_wipe(struct dovecot *d)
{
	if (d->out.cap > d->out.n)
		explicit_bzero(d->out.p + d->out.n, d->out.cap - d->out.n);
}

/* It is of no use any more.  why: for the log. */
static void
link_fail(struct dovecot *d, const char *why)
{
	unsigned n;

	log_warn("authentication server %s: %s", d->server->name, why);
	if (d->fd >= 0) {
		event_del(&d->io);
		close(d->fd);
		d->fd = -1;
	}
	buf_clear(&d->out);
	out_wipe(d);
	explicit_bzero(d->in, sizeof d->in);
	d->n = 0;
	d->state = LINK_DOWN;
	n = auth_fail_all(d->server, LOST);
	if (n > 0)
		log_warn("authentication server %s: %u authentications "
		    "broken off", d->server->name, n);
	if (!d->server->told)
		auth_offer(d->server);
	event_add(&d->timer, loop_timeout(d->retry_ms));
	d->retry_ms = d->retry_ms * 2 < RETRY_MAX_MS ? d->retry_ms * 2 :
	    RETRY_MAX_MS;
}

static void
link_want(struct dovecot *d, short what)
{
	event_del(&d->io);
	event_assign(&d->io, loop_base(), d->fd, what | EV_PERSIST,
	    link_event, d);
	event_add(&d->io, NULL);
}

/* The nearest end of somebody's patience. */
static void
link_watch(struct dovecot *d)
{
	const struct auth_talk *t = auth_oldest(d->server);
	int64_t left = limit_ms;

	if (d->state == LINK_UP && t == NULL) {
		event_del(&d->timer);
		return;
	}
	left -= mono_since(d->state == LINK_UP ? t->since : d->tried,
	    loop_now()) / 1000;
	event_add(&d->timer, loop_timeout(left > 0 ? left : 1));
}

static void
link_write(struct dovecot *d)
{
	ssize_t n;

	while (d->out.n > 0) {
		n = send(d->fd, d->out.p, d->out.n,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			link_fail(d, strerror(errno));
			return;
		}
		buf_consume(&d->out, (size_t)n);
		out_wipe(d);
	}
	if (d->writing != (d->out.n > 0)) {
		d->writing = d->out.n > 0;
		link_want(d, d->writing ? EV_READ | EV_WRITE : EV_READ);
	}
}

static void
link_connected(struct dovecot *d)
{
	d->state = LINK_GREETING;
	d->writing = true;
	/* Before anything that already waits to be sent. */
	link_write(d);
	if (d->state != LINK_DOWN)
		link_want(d, d->writing ? EV_READ | EV_WRITE : EV_READ);
}

static void
link_connect(struct dovecot *d)
{
	int rc;

	ensure(d->state == LINK_DOWN && d->fd < 0);
	event_del(&d->timer);
	d->tried = loop_now();
	d->versioned = false;
	d->offered.n = 0;
	d->fd = socket(d->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK |
	    SOCK_CLOEXEC, 0);
	if (d->fd < 0) {
		link_fail(d, strerror(errno));
		return;
	}
	event_assign(&d->io, loop_base(), d->fd, EV_WRITE | EV_PERSIST,
	    link_event, d);
	rc = connect(d->fd, (struct sockaddr *)&d->addr, d->addr_n);
	if (rc != 0 && errno == ENOENT && d->inside.sun_family == AF_UNIX)
		rc = connect(d->fd, (struct sockaddr *)&d->inside,
		    sizeof d->inside);
	/* A full backlog (EAGAIN) is no connection. */
	if (rc != 0 && errno != EINPROGRESS) {
		link_fail(d, strerror(errno));
		return;
	}
	(void)buf_printf(&d->out, "VERSION\t1\t1\nCPID\t%u\n",
	    (unsigned)own_pid);
	link_watch(d);
	d->state = LINK_CONNECTING;
	if (rc == 0)
		link_connected(d);
	else
		event_add(&d->io, NULL);
}

/* -- what it says ----------------------------------------------------------- */

static bool
mechanism_add(struct dovecot *d, const struct dovecot_line *l)
{
	struct auth_server *o = &d->offered;

	if (o->n == SASL_MECHANISMS_MAX)
		return false;
	(void)snprintf(o->mechanisms[o->n].name,
	    sizeof o->mechanisms[o->n].name, "%.*s",
	    VIEW_ARGS(l->mechanism));
	o->mechanisms[o->n++].properties = l->properties;
	return true;
}

/* A line of the greeting; NULL: it is good. */
static const char *
hear_greeting(struct dovecot *d, const struct dovecot_line *l)
{
	switch (l->word) {
	case DOVECOT_VERSION:
		if (l->major != 1)
			return "it speaks another version of the protocol";
		d->versioned = true;
		d->minor = l->minor;
		return NULL;
	case DOVECOT_MECH:
		return mechanism_add(d, l) ? NULL : "too many mechanisms";
	case DOVECOT_DONE:
		if (!d->versioned || d->offered.n == 0)
			return "it offers nothing";
		d->state = LINK_UP;
		d->retry_ms = RETRY_MS;
		d->server->n = d->offered.n;
		memcpy(d->server->mechanisms, d->offered.mechanisms,
		    sizeof d->server->mechanisms);
		auth_offer(d->server);
		return NULL;
	case DOVECOT_OTHER:
		return NULL;
	case DOVECOT_BAD:
	case DOVECOT_OK:
	case DOVECOT_CONT:
	case DOVECOT_FAIL:
		break;
	}
	return "its greeting makes no sense";
}

static const char *
hear_answer(struct dovecot *d, const struct dovecot_line *l)
{
	struct view login = view_make(l->login, l->login_n);
	struct view reason = view_make(l->reason, l->reason_n);
	struct auth_talk *t;

	if (l->word == DOVECOT_OTHER || l->word == DOVECOT_MECH)
		return NULL;
	if (l->word != DOVECOT_OK && l->word != DOVECOT_CONT &&
	    l->word != DOVECOT_FAIL)
		return "it says what makes no sense";
	t = auth_talk_find(l->id);
	/* One that was given up; there are no others that it could mean. */
	if (t == NULL || t->server != d->server)
		return NULL;
	if (l->word != DOVECOT_FAIL && t->waits != AUTH_WAITS_SERVER)
		return "it answers what nobody asked";
	if (l->word == DOVECOT_CONT)
		auth_say(t, AUTH_SAYS_CHALLENGE, l->challenge, view_of(""));
	else if (l->word == DOVECOT_FAIL)
		auth_say(t, l->temporary ? AUTH_SAYS_TEMPORARY :
		    AUTH_SAYS_FAILURE, reason, login);
	else if (sasl_login_good(login))
		auth_say(t, AUTH_SAYS_SUCCESS, view_of(""), login);
	else
		return "it lets somebody in without a name";
	return NULL;
}

static void
link_line(struct dovecot *d, struct view line)
{
	static struct dovecot_line l;
	const char *wrong;

	dovecot_read(line, &l);
	wrong = d->state == LINK_UP ? hear_answer(d, &l) :
	    hear_greeting(d, &l);
	explicit_bzero(&l, sizeof l);
	if (wrong != NULL)
		link_fail(d, wrong);
}

static void
link_read(struct dovecot *d)
{
	size_t done = 0, lf;
	struct view all;
	ssize_t n;

	n = recv(d->fd, d->in + d->n, sizeof d->in - d->n, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		link_fail(d, n == 0 ? "it closed the connection" :
		    strerror(errno));
		return;
	}
	d->heard = loop_now();
	d->n += (size_t)n;
	for (;;) {
		all = view_make(d->in + done, d->n - done);
		lf = view_find(all, '\n');
		if (lf > DOVECOT_LINE_MAX) {
			link_fail(d, "its line is too long");
			return;
		}
		if (lf == all.n)
			break;
		link_line(d, view_head(all, lf));
		if (d->state == LINK_DOWN)
			return;
		done += lf + 1;
	}
	memmove(d->in, d->in + done, d->n - done);
	d->n -= done;
	explicit_bzero(d->in + d->n, done);
	link_watch(d);
}

static void
link_event(evutil_socket_t fd, short what, void *arg)
{
	struct dovecot *d = arg;
	socklen_t n = sizeof(int);
	int error = 0;

	if (d->state == LINK_CONNECTING) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
			error = errno;
		if (error != 0)
			link_fail(d, strerror(error));
		else
			link_connected(d);
		return;
	}
	if ((what & EV_WRITE) != 0)
		link_write(d);
	if (d->state != LINK_DOWN && (what & EV_READ) != 0)
		link_read(d);
}

/* Somebody has waited too long; or it is time to try again. */
static void
link_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dovecot *d = arg;
	struct auth_talk *t;

	(void)fd;
	(void)what;
	if (d->state == LINK_DOWN) {
		link_connect(d);
		return;
	}
	if (d->state != LINK_UP) {
		link_fail(d, "no greeting in time");
		return;
	}
	while ((t = auth_oldest(d->server)) != NULL &&
	    mono_since(t->since, loop_now()) / 1000 >= limit_ms) {
		/* It says nothing to anybody: it hangs. */
		if (d->heard.us < t->since.us) {
			link_fail(d, "no answer in time");
			return;
		}
		log_warn("authentication server %s: no answer in time",
		    d->server->name);
		auth_backend_stop(t);
		auth_say(t, AUTH_SAYS_TEMPORARY, view_of("no answer of the "
		    "authentication server"), view_of(""));
	}
	link_watch(d);
}

/* -- for auth_main.c -------------------------------------------------------- */

static void
dovecot_send(struct dovecot *d)
{
	if (d->state == LINK_UP || d->state == LINK_GREETING)
		link_write(d);
	if (d->state != LINK_DOWN)
		link_watch(d);
}

void
auth_backend_begin(struct auth_talk *t, const struct auth_begin *a)
{
	struct dovecot *d = t->server->backend;
	uint32_t id = t->id;

	/* Whoever asks is a reason to try again, but not too often. */
	if (d->state == LINK_DOWN && mono_since(d->tried, loop_now()) >=
	    RETRY_MS * 1000)
		link_connect(d);
	if (d->state == LINK_DOWN) {
		/* A connection that failed took it along. */
		if (auth_talk_find(id) != NULL)
			auth_say(t, AUTH_SAYS_TEMPORARY, view_of(LOST),
			    view_of(""));
		return;
	}
	if (dovecot_put_begin(&d->out, t->id, a))
		dovecot_send(d);
	else
		link_fail(d, "it does not read what it is sent");
}

void
auth_backend_go_on(struct auth_talk *t, struct view response)
{
	struct dovecot *d = t->server->backend;

	if (buf_printf(&d->out, "CONT\t%u\t", t->id) &&
	    buf_putv(&d->out, response) && buf_putc(&d->out, '\n'))
		dovecot_send(d);
	else
		link_fail(d, "it does not read what it is sent");
}

void
auth_backend_stop(struct auth_talk *t)
{
	struct dovecot *d = t->server->backend;

	if (d->state == LINK_UP && d->minor >= 1 &&
	    buf_printf(&d->out, "CANCEL\t%u\n", t->id))
		event_active(&d->io, EV_WRITE, 0);
}

static bool
open_unix(struct dovecot *d, const char *path, const struct conf *cf)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&d->addr;
	size_t n = strlen(cf->queue_directory);
	int k;

	if (strncmp(path, cf->queue_directory, n) == 0 && path[n] == '/')
		path += n + 1;
	k = path[0] == '/' ? snprintf(un->sun_path, sizeof un->sun_path,
	    "%s", path) : snprintf(un->sun_path, sizeof un->sun_path,
	    "%s/%s", cf->queue_directory, path);
	if (k < 0 || (size_t)k >= sizeof un->sun_path) {
		log_error("authentication server %s: the path is too long",
		    d->server->name);
		return false;
	}
	un->sun_family = AF_UNIX;
	d->addr_n = sizeof *un;
	if (path[0] == '/')
		return true;
	d->inside.sun_family = AF_UNIX;
	(void)snprintf(d->inside.sun_path, sizeof d->inside.sun_path, "/%s",
	    path);
	return true;
}

/* Names are looked up once: who is in a jail cannot. */
static bool
open_inet(struct dovecot *d, struct view text)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	struct view host;
	uint16_t port;
	char *h, *p;
	int rc;

	if (!netaddr_split_hostport(text, &host, &port, 1) || host.n == 0) {
		log_error("authentication server %s: need inet:host:port",
		    d->server->name);
		return false;
	}
	h = mem_copy(host);
	p = mem_printf("%u", port);
	rc = getaddrinfo(h, p, &hints, &list);
	free(h);
	free(p);
	if (rc != 0) {
		log_error("authentication server %s: %s", d->server->name,
		    gai_strerror(rc));
		return false;
	}
	memcpy(&d->addr, list->ai_addr, list->ai_addrlen);
	d->addr_n = list->ai_addrlen;
	freeaddrinfo(list);
	return true;
}

static void
dovecot_first(void *arg)
{
	link_connect(arg);
}

bool
auth_backend_open(struct auth_server *s, const struct conf *cf)
{
	struct dovecot *d = mem_alloc(sizeof *d);
	struct loop_work *first = mem_alloc(sizeof *first);

	d->server = s;
	s->backend = d;
	d->fd = -1;
	d->retry_ms = RETRY_MS;
	own_pid = getpid();
	limit_ms = cf->smtpd_sasl_time_limit;
	buf_init(&d->out, OUT_MAX);
	/* It does not move while it has little. */
	ensure(buf_room(&d->out, IN_SIZE) != NULL);
	event_assign(&d->timer, loop_base(), -1, 0, link_timer, d);
	event_assign(&d->io, loop_base(), -1, 0, link_event, d);
	*first = (struct loop_work){ .fn = dovecot_first, .arg = d };
	loop_soon(first);
	if (strncasecmp(s->name, "inet:", 5) == 0)
		return open_inet(d, view_from(view_of(s->name), 5));
	return open_unix(d, strncasecmp(s->name, "unix:", 5) == 0 ?
	    s->name + 5 : s->name, cf);
}

const struct role_def auth_backend_role = {
	.kind = ROLE_AUTH,
	.jail = { .allow = JAIL_CONNECT, .max_files = 1024, .groups = true },
};
