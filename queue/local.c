/*
 * The role: takes deliveries from qmgr, has the keeper start an agent for
 * each, reads what that says, and reports.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/own_addr.h"
#include "lib/role.h"
#include "queue/local_role.h"
#include "rules/table_remote.h"

#define AGENTS_MAX	500u	/* at once; qmgr gives no more */
#define STARTING_MAX	32u	/* orders that the keeper has not answered */
#define REASONS_MAX	(3u << 20)	/* bytes of all in a report to qmgr */
#define FILES_MAX	8192u

struct local local;
static TAILQ_HEAD(, manager) managers = TAILQ_HEAD_INITIALIZER(managers);
/* In line for the keeper; with it, or with an agent. */
static TAILQ_HEAD(deliveries, delivery) waiting =
    TAILQ_HEAD_INITIALIZER(waiting), begun = TAILQ_HEAD_INITIALIZER(begun);
static unsigned n_waiting, n_starting, n_agents;
static uint64_t last_serial, n_sent, n_deferred, n_bounced;
static int keeper = -1;
static struct event keeper_event;

/* qmgr lets go of one that is told to end: what it has sent is done first. */
static void
local_look_for_end(void)
{
	if (role_phase() == PHASE_RETIRING && TAILQ_EMPTY(&managers) &&
	    TAILQ_EMPTY(&waiting) && TAILQ_EMPTY(&begun))
		role_exit();
}

/* -- the end of a delivery -------------------------------------------------- */

static void
delivery_free(struct delivery *d)
{
	if (d->text >= 0)
		close(d->text);
	if (d->fields >= 0)
		close(d->fields);
	if (d->report >= 0) {
		event_del(&d->event);
		close(d->report);
	}
	buf_free(&d->said);
	arena_free(&d->arena);
	free(d->fates);
	free(d);
	local_look_for_end();
}

static void
delivery_log(const struct delivery *d, uint32_t i)
{
	static const char *const words[] = {
		[RCPT_SENT] = "sent", [RCPT_DELIVERED] = "sent",
		[RCPT_EXPANDED] = "sent", [RCPT_RELAYED] = "sent",
		[RCPT_DEFERRED] = "deferred",
		[RCPT_BOUNCED] = "bounced",
	};
	const struct order *o = &d->order;
	const struct recipient *r = &o->env.rcpts[o->rcpts[i]];
	const struct fate *f = &d->fates[i];
	int64_t now = clock_wall().us;

	log_info("%s: to=<%s>, %s%s%srelay=%s, delay=%.2f, "
	    "delays=%.2f/%.2f/0/%.2f, dsn=%s, status=%s (%s)", o->id,
	    log_safe(r->addr), r->orig.n > 0 ? "orig_to=<" : "",
	    log_safe(r->orig), r->orig.n > 0 ? ">, " : "",
	    log_safe(o->transport), (double)(now - o->arrival.us) / 1e6,
	    (double)(o->active.us - o->arrival.us) / 1e6,
	    (double)(d->begun.us - o->active.us) / 1e6,
	    (double)(now - d->begun.us) / 1e6, f->dsn, words[f->status],
	    log_safe(view_of(f->text)));
	n_sent += f->status != RCPT_DEFERRED && f->status != RCPT_BOUNCED;
	n_deferred += f->status == RCPT_DEFERRED;
	n_bounced += f->status == RCPT_BOUNCED;
}

/* Nobody tells the sender of a success that he did not ask for. */
static enum rcpt_status
delivery_status(const struct delivery *d, uint32_t i)
{
	const struct order *o = &d->order;
	enum rcpt_status s = d->fates[i].status;

	return (s == RCPT_DELIVERED || s == RCPT_EXPANDED ||
	    s == RCPT_RELAYED) &&
	    (o->env.rcpts[o->rcpts[i]].notify & NOTIFY_SUCCESS) == 0 ?
	    RCPT_SENT : s;
}

void
delivery_end(struct delivery *d)
{
	const struct order *o = &d->order;
	size_t max = REASONS_MAX / o->n;
	struct buf *b;
	uint32_t i;

	for (i = 0; i < o->n; i++) {
		if (d->fates[i].status == 0)
			fate_set(&d->fates[i], RCPT_DEFERRED, "4.3.0",
			    "delivery process failed");
		if (d->fates[i].status == RCPT_BOUNCED &&
		    local.cf->soft_bounce) {
			d->fates[i].status = RCPT_DEFERRED;
			d->fates[i].dsn[0] = '4';
		}
		delivery_log(d, i);
	}
	if (d->manager != NULL) {
		b = chan_begin(d->manager->chan, MSG_DELIVERED);
		put_u64(b, o->number);
		put_u8(b, TROUBLE_NONE);
		put_view(b, view_of(""));
		put_u32(b, o->n);
		for (i = 0; i < o->n; i++) {
			put_u32(b, o->rcpts[i]);
			put_u8(b, (uint8_t)delivery_status(d, i));
			put_view(b, view_of(d->fates[i].dsn));
			put_view(b, view_head(view_of(d->fates[i].text),
			    max));
			put_view(b, view_of(""));
		}
		chan_end(d->manager->chan);
	}
	TAILQ_REMOVE(&begun, d, link);
	delivery_free(d);
}

/* -- the agent's report ----------------------------------------------------- */

/* False: it is none. */
static bool
delivery_read_report(struct delivery *d)
{
	struct cursor c = cursor_of(buf_view(&d->said));
	struct fate f;
	uint32_t i;

	while (cursor_left(&c) > 0) {
		i = cursor_u32(&c);
		if (!fate_get(&c, d->arena, &f) || i >= d->order.n ||
		    d->fates[i].status != 0)
			return false;
		d->fates[i] = f;
	}
	return !c.bad;
}

static void
delivery_on_report(evutil_socket_t fd, short what, void *arg)
{
	struct delivery *d = arg;
	char *to = buf_room(&d->said, 16384);
	ssize_t n = to == NULL ? -1 : read(fd, to, 16384);

	(void)what;
	if (n < 0 && to != NULL && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0) {
		d->said.n += (size_t)n;
		return;
	}
	event_del(&d->event);
	close(d->report);
	d->report = -1;
	n_agents--;
	if (n < 0 || !delivery_read_report(d))
		log_warn("%s: bad report of a delivery process",
		    d->order.id);
	if (!seal_begin(d))
		delivery_end(d);
}

/* -- the keeper ------------------------------------------------------------- */

static bool
keeper_give(struct delivery *d)
{
	struct keeper_order o = { .delivery = d->serial };
	int give[2] = { d->text, d->fields };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof give)];
	} c = { .head = { .cmsg_len = CMSG_LEN(sizeof give),
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec v = { &o, sizeof o };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1,
		.msg_control = &c, .msg_controllen = sizeof c.room };
	ssize_t n;

	memcpy(CMSG_DATA(&c.head), give, sizeof give);
	while ((n = sendmsg(keeper, &m, MSG_NOSIGNAL)) < 0 && errno == EINTR)
		;
	return n == (ssize_t)sizeof o;
}

/* Without it no mail is delivered: master starts us both again. */
__attribute__((noreturn))
static void
keeper_gone(void)
{
	fatal("the process that starts deliveries is gone");
}

static void
keeper_go_on(void)
{
	struct delivery *d;

	while (n_starting < STARTING_MAX &&
	    (d = TAILQ_FIRST(&waiting)) != NULL) {
		if (!keeper_give(d))
			keeper_gone();
		close(d->fields);
		d->fields = -1;
		TAILQ_REMOVE(&waiting, d, link);
		TAILQ_INSERT_TAIL(&begun, d, link);
		n_waiting--;
		n_starting++;
	}
}

static struct delivery *
keeper_delivery(uint64_t serial)
{
	struct delivery *d;

	TAILQ_FOREACH(d, &begun, link)
		if (d->serial == serial && d->report < 0)
			return d;
	return NULL;
}

static void
keeper_started(const struct keeper_answer *w, int fd)
{
	struct delivery *d = keeper_delivery(w->delivery);
	uint32_t i;

	if (d == NULL || n_starting == 0 || (fd < 0) != (w->error != 0))
		keeper_gone();
	n_starting--;
	if (fd < 0) {
		for (i = 0; i < d->order.n; i++)
			fate_errno(&d->fates[i], "4.3.0", w->error,
			    "cannot start a delivery process");
		delivery_end(d);
		return;
	}
	d->report = fd;
	(void)evutil_make_socket_nonblocking(fd);
	event_assign(&d->event, loop_base(), fd, EV_READ | EV_PERSIST,
	    delivery_on_report, d);
	event_add(&d->event, NULL);
	n_agents++;
}

static void
keeper_on_answer(evutil_socket_t sock, short what, void *arg)
{
	struct keeper_answer w;
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} c;
	struct iovec v = { &w, sizeof w };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1,
		.msg_control = &c, .msg_controllen = sizeof c.room };
	struct cmsghdr *h;
	int fd = -1;
	ssize_t n;

	(void)what;
	(void)arg;
	n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != (ssize_t)sizeof w)
		keeper_gone();
	h = CMSG_FIRSTHDR(&m);
	if (h != NULL && h->cmsg_len == CMSG_LEN(sizeof fd))
		memcpy(&fd, CMSG_DATA(h), sizeof fd);
	keeper_started(&w, fd);
	keeper_go_on();
}

static void
keeper_fork(void)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		fatal("socketpair: %s", strerror(errno));
	log_flush();
	pid = fork();
	if (pid < 0)
		fatal("fork: %s", strerror(errno));
	if (pid == 0) {
		(void)close(pair[0]);
		keeper_run(pair[1]);
	}
	(void)close(pair[1]);
	keeper = pair[0];
}

/* -- deliveries of qmgr ----------------------------------------------------- */

/* A text in memory must be sealed: what the filter judged is delivered. */
static bool
text_unsealed(int fd)
{
	const int want = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & want) != want &&
	    (seals & F_SEAL_SEAL) == 0;
}

static int
fields_file(struct view body)
{
	int fd = memfd_create("delivery", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && write(fd, body.p, body.n) == (ssize_t)body.n)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void
manager_deliver(struct manager *m, struct chan_in *in)
{
	struct delivery *d = mem_alloc(sizeof *d);
	struct view body = view_make(in->body.p, cursor_left(&in->body));

	d->manager = m;
	d->text = in->fd[0];
	in->fd[0] = -1;
	d->fields = d->report = -1;
	d->serial = ++last_serial;
	d->begun = clock_wall();
	d->arena = arena_new(ORDER_ARENA);
	buf_init(&d->said, REPORT_MAX);
	body = arena_copy(d->arena, body);
	if (!order_read(body, d->text, d->arena, &d->order) ||
	    text_unsealed(d->text)) {
		delivery_free(d);
		chan_blame(m->chan, "bad delivery");
		return;
	}
	d->fates = mem_array(d->order.n, sizeof *d->fates);
	d->fields = fields_file(body);
	if (d->fields < 0 || n_waiting + n_starting + n_agents >=
	    AGENTS_MAX) {
		TAILQ_INSERT_TAIL(&begun, d, link);
		delivery_end(d);
		return;
	}
	TAILQ_INSERT_TAIL(&waiting, d, link);
	n_waiting++;
	keeper_go_on();
}

static void
manager_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	switch ((int)in->type) {
	case MSG_DELIVER:
		manager_deliver(arg, in);
		break;
	case MSG_SLOT:
		seal_slot(arg, in);
		break;
	case MSG_SEALED:
		seal_done(arg, in);
		break;
	case MSG_SPACE:
		break;		/* it is tried all the same */
	default:
		chan_blame(c, "unexpected message");
		break;
	}
}

static void
manager_on_close(struct chan *c, void *arg)
{
	struct manager *m = arg;
	struct delivery *d, *next;

	(void)c;
	/* What is not begun is left to the next one. */
	for (d = TAILQ_FIRST(&waiting); d != NULL; d = next) {
		next = TAILQ_NEXT(d, link);
		if (d->manager != m)
			continue;
		TAILQ_REMOVE(&waiting, d, link);
		n_waiting--;
		delivery_free(d);
	}
	for (d = TAILQ_FIRST(&begun); d != NULL; d = next) {
		next = TAILQ_NEXT(d, link);
		if (d->manager != m)
			continue;
		d->manager = NULL;
		seal_cancel(d);
	}
	TAILQ_REMOVE(&managers, m, link);
	chan_free(&m->chan);
	free(m);
	local_look_for_end();
}

static void
local_peer(const struct role_peer *peer, int fd)
{
	struct manager *m;

	if (peer->kind != ROLE_QMGR) {
		close(fd);
		return;
	}
	m = mem_alloc(sizeof *m);
	m->chan = chan_new(fd, ROLE_LOCAL, ROLE_QMGR, peer->pid,
	    manager_on_msg, manager_on_close, m);
	TAILQ_INSERT_TAIL(&managers, m, link);
}

/* -- the role --------------------------------------------------------------- */

struct remote {
	const char *parameter;
	bool any;
};

static void
local_remote(uint32_t service, struct view table, void *arg)
{
	struct remote *r = arg;

	(void)service;
	log_error("%s: %s is behind a connection: it cannot be used for "
	    "delivery", r->parameter, log_safe(table));
	r->any = true;
}

/* An agent asks nobody: what is behind a connection is out of its reach. */
bool
local_tables(const char *parameter, const char *specs,
    struct table_list *ret)
{
	struct remote r = { .parameter = parameter };

	table_remote_names(view_of(specs), local_remote, &r);
	return !r.any && table_list_open(specs, local.cf->config_directory,
	    ret, log_report_errors, NULL);
}

static bool
local_has(const char *command)
{
	size_t i;

	for (i = 0; i < local.services->n; i++)
		if (service_is_local(&local.services->list[i]) &&
		    strcmp(local.services->list[i].command, command) == 0)
			return true;
	return false;
}

void
local_load(const struct conf *cf)
{
	struct netaddr own[OWN_ADDR_MAX];
	struct classes *classes;

	local.cf = cf;
	local.root = geteuid() == 0;
	local.services = master_cf_load(cf->config_directory,
	    log_report_errors, NULL);
	classes = classes_open(cf, own, own_addresses(cf, own,
	    OWN_ADDR_MAX), log_report_errors, NULL);
	if (local.services == NULL || classes == NULL)
		fatal("the configuration cannot be used");
	local.keys = addr_keys_of(cf, classes);
	if (local_has("local")) {
		alias_load();
		user_load();
	}
	if (!local_has("virtual"))
		return;
	/* The others deliver all the same. */
	local.virtual_failed =
	    !local_tables("virtual_mailbox_maps", cf->virtual_mailbox_maps,
	    &local.mailboxes) ||
	    !local_tables("virtual_uid_maps", cf->virtual_uid_maps,
	    &local.uids) ||
	    !local_tables("virtual_gid_maps", cf->virtual_gid_maps,
	    &local.gids);
}

static void
local_role_load(void)
{
	local_load(role_conf());
	tzset();
	keeper_fork();
}

static void
local_start(void)
{
	event_assign(&keeper_event, loop_base(), keeper, EV_READ | EV_PERSIST,
	    keeper_on_answer, NULL);
	event_add(&keeper_event, NULL);
}

static void
local_status(struct buf *b)
{
	(void)buf_printf(b, "deliveries %u\nwaiting %u\nsent %llu\n"
	    "deferred %llu\nbounced %llu\n", n_agents, n_waiting,
	    (unsigned long long)n_sent, (unsigned long long)n_deferred,
	    (unsigned long long)n_bounced);
}

static const struct role_def local_def = {
	.kind = ROLE_LOCAL,
	.jail = { .allow = JAIL_MEMFD, .max_files = FILES_MAX },
	.load = local_role_load,
	.start = local_start,
	.peer = local_peer,
	.retire = local_look_for_end,
	.status = local_status,
};

int
main(int argc, char **argv)
{
	return role_main(&local_def, argc, argv);
}
