/*
 * The gate role: accepts connections, counts them per client, and hands each
 * to an smtpd.  It reads nothing from them, except a proxy's header that says
 * whose the connection is (gate_proxied.c).
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/role.h"
#include "proxy/gate_peaks.h"
#include "proxy/gate_proxied.h"
#include "rules/addr_list.h"

#define ACCEPTS_PER_TURN	64u
#define BACK_OFF_MS		1000
#define CLIENTS_MAX		100000u	/* counted at once */
#define NUMBERS_STEP		256u

struct service {
	uint32_t number;
	const char *name;	/* of a listener of it; "": none is here */
	uint32_t generation;	/* the newest of its smtpds */
	uint32_t header_ms;	/* to wait for a proxy's header; 0: none */
	struct service *next;
};

struct listener {
	int fd;
	char *name;
	struct service *service;
	struct event ev;
	bool on;
	struct listener *next;
};

struct smtpd {
	struct chan *c;
	struct service *service;
	uint32_t generation;
	uint32_t sessions;
	struct smtpd *next;
};

/* A connection that an smtpd has; its number is its place. */
struct client {
	struct smtpd *smtpd;	/* NULL: free */
	struct netaddr addr;
	bool counted;
	uint32_t next_free;
};

static struct {
	const struct conf *cf;
	struct addr_list *exceptions;
	struct gate_count *count;
	struct gate_peaks peaks;
	struct event sweep, report;
	struct service *services;
	struct listener *listeners;
	struct smtpd *smtpds;
	struct client *clients;
	uint32_t cap, n, free;	/* free: first free number, cap: none */
	struct event back_off;
	bool backing_off;
	uint64_t accepted, refused;
} gate;

static struct service *
gate_service(uint32_t number)
{
	struct service *v;

	for (v = gate.services; v != NULL; v = v->next)
		if (v->number == number)
			return v;
	v = mem_alloc(sizeof *v);
	v->number = number;
	v->name = "";
	v->next = gate.services;
	gate.services = v;
	return v;
}

/* The least busy smtpd with room; NULL: leave clients in the backlog. */
static struct smtpd *
gate_pick(const struct service *v)
{
	struct smtpd *p, *best = NULL;

	for (p = gate.smtpds; p != NULL; p = p->next)
		if (p->service == v && p->generation == v->generation &&
		    p->sessions < (uint64_t)gate.cf->smtpd_session_limit &&
		    (best == NULL || p->sessions < best->sessions))
			best = p;
	return best;
}

/* Listen where there is somebody to give clients to. */
static void
gate_listen(void)
{
	struct listener *l;
	bool on;

	for (l = gate.listeners; l != NULL; l = l->next) {
		on = !gate.backing_off && role_phase() == PHASE_RUNNING &&
		    gate_pick(l->service) != NULL;
		if (on == l->on)
			continue;
		l->on = on;
		if (on)
			event_add(&l->ev, NULL);
		else
			event_del(&l->ev);
	}
}

static void
gate_back_off(const char *why)
{
	log_warn("accepting connections: %s; pausing", why);
	gate.backing_off = true;
	event_add(&gate.back_off, loop_timeout(BACK_OFF_MS));
	gate_listen();
}

static void
gate_back_on(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	gate.backing_off = false;
	gate_listen();
}

static uint32_t
gate_number(void)
{
	uint32_t no, i;

	if (gate.free == gate.cap) {
		gate.clients = mem_resize(gate.clients,
		    gate.cap + NUMBERS_STEP, sizeof *gate.clients);
		for (i = gate.cap; i < gate.cap + NUMBERS_STEP; i++)
			gate.clients[i] = (struct client){
				.next_free = i + 1 };
		gate.cap += NUMBERS_STEP;
	}
	no = gate.free;
	gate.free = gate.clients[no].next_free;
	gate.n++;
	return no;
}

static void
gate_forget(uint32_t no)
{
	struct client *k = &gate.clients[no];

	if (k->counted)
		gate_count_drop(gate.count, &(struct gate_client){ k->addr,
			k->smtpd->service->number });
	k->smtpd->sessions--;
	k->smtpd = NULL;
	k->next_free = gate.free;
	gate.free = no;
	gate.n--;
}

/* Over its limit: told so, and gone. */
static void
gate_refuse(int fd, const struct netaddr *a, const struct listener *l,
    const char *what, uint32_t n)
{
	char addr[NETADDR_TEXT], text[512];
	int len;

	netaddr_text(a, addr);
	log_warn("Connection %s limit exceeded: %u from unknown[%s] for "
	    "service %s", what, n, addr, l->name);
	len = snprintf(text, sizeof text, "421 4.7.0 %.255s Error: too many "
	    "connections from %s\r\n", gate.cf->myhostname, addr);
	(void)send(fd, text, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
	gate.refused++;
}

static bool
gate_limited(const struct netaddr *a)
{
	return a->family != 0 && net_list_match(gate.exceptions,
	    view_of("unknown"), a) != TABLE_FOUND;
}

static void
gate_see(unsigned kind, uint32_t n, const struct gate_client *k,
    const struct service *v)
{
	unsigned bits;
	struct netaddr block = gate_count_block(gate.count, &k->addr, &bits);

	gate_peaks_see(&gate.peaks, kind, n, &block, bits, v->name);
	gate_peaks_see(&gate.peaks, PEAK_CLIENTS,
	    gate_count_clients(gate.count), NULL, 0, "");
}

static uint32_t
gate_count_see(enum client_event event, const struct gate_client *k,
    const struct service *v)
{
	uint32_t n = gate_count_event(gate.count, k, event, loop_now());

	gate_see(event, n, k, v);
	return n;
}

/*
 * Count a connection.  False: the client has too many, or begins too many.
 * One that is refused for its rate counts, as with Postfix: who does not wait
 * stays out.
 */
static bool
gate_count_client(int fd, const struct netaddr *a, const struct listener *l,
    uint32_t *ret_n)
{
	const struct conf *cf = gate.cf;
	struct gate_client k = { *a, l->service->number };
	uint64_t most = (uint64_t)cf->smtpd_client_connection_count_limit,
	    most_rate = (uint64_t)cf->smtpd_client_connection_rate_limit;
	uint32_t n = gate_count_add(gate.count, &k),
	    rate = gate_count_see(EVENT_CONNECTION, &k, l->service);

	gate_see(PEAK_CONNECTIONS, n, &k, l->service);
	if (most > 0 && n > most)
		gate_refuse(fd, a, l, "concurrency", n);
	else if (most_rate > 0 && rate > most_rate)
		gate_refuse(fd, a, l, "rate", rate);
	else {
		*ret_n = n;
		return true;
	}
	if (n > 0)
		gate_count_drop(gate.count, &k);
	return false;
}

static void
gate_put_address(struct buf *b, const struct netaddr *a)
{
	struct sockaddr_storage ss;
	socklen_t n = a->family != 0 ? netaddr_to_sockaddr(a, &ss) : 0;

	(void)put_view(b, view_make(&ss, n));
}

static void
gate_pass(const struct listener *l, struct smtpd *p, int fd,
    const struct netaddr *remote, const struct netaddr *local)
{
	bool counted = gate_limited(remote);
	uint32_t n = 0, no;
	struct buf *b;

	if (counted && !gate_count_client(fd, remote, l, &n))
		return;
	no = gate_number();
	gate.clients[no].smtpd = p;
	gate.clients[no].addr = *remote;
	gate.clients[no].counted = counted && n > 0;
	p->sessions++;
	gate.accepted++;
	b = chan_begin(p->c, MSG_CLIENT);
	(void)put_u32(b, no);
	gate_put_address(b, remote);
	gate_put_address(b, local);
	chan_put_fd(p->c, fd, false);
	chan_end(p->c);
}

static void
gate_end_if_done(void)
{
	struct smtpd *p;

	if (role_phase() != PHASE_RETIRING || proxied_waiting() > 0)
		return;
	/* What was accepted must reach its smtpd first. */
	for (p = gate.smtpds; p != NULL; p = p->next)
		chan_drain(p->c);
	gate_peaks_log(&gate.peaks, gate.cf->anvil_rate_time_unit);
	role_exit();
}

/* A connection from a proxy: the listener may be gone meanwhile. */
static void
gate_proxied_gone(void *who)
{
	struct listener *l = who;

	free(l->name);
	free(l);
	gate_end_if_done();
}

static void
gate_proxied(void *who, int fd, const struct netaddr *remote,
    const struct netaddr *local)
{
	struct listener *l = who;
	struct smtpd *p = gate_pick(l->service);

	if (p != NULL) {
		gate_pass(l, p, fd, remote, local);
	} else {
		log_warn("no process of service %s has room for a client "
		    "from a proxy", l->name);
		close(fd);
	}
	gate_proxied_gone(l);
}

static void
gate_take(const struct listener *l, struct smtpd *p, int fd,
    const struct sockaddr_storage *ss, socklen_t n)
{
	struct netaddr remote = netaddr_from_sockaddr(
	    (const struct sockaddr *)ss, n), local = { .family = 0 };
	struct sockaddr_storage own;
	struct listener *from;

	n = sizeof own;
	if (getsockname(fd, (struct sockaddr *)&own, &n) == 0)
		local = netaddr_from_sockaddr((struct sockaddr *)&own, n);
	if (l->service->header_ms == 0) {
		gate_pass(l, p, fd, &remote, &local);
		return;
	}
	from = mem_alloc(sizeof *from);
	from->service = l->service;
	from->name = mem_strdup(l->name);
	proxied_wait(fd, &remote, &local, l->service->header_ms, gate_proxied,
	    gate_proxied_gone, from);
}

static void
gate_accept(evutil_socket_t lfd, short what, void *arg)
{
	struct listener *l = arg;
	struct sockaddr_storage remote;
	struct smtpd *p;
	socklen_t n;
	unsigned i;
	int fd;

	(void)what;
	for (i = 0; i < ACCEPTS_PER_TURN; i++) {
		p = gate_pick(l->service);
		if (p == NULL) {
			gate_listen();
			return;
		}
		n = sizeof remote;
		fd = accept4(lfd, (struct sockaddr *)&remote, &n,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			gate_take(l, p, fd, &remote, n);
			continue;
		}
		switch (errno) {
		case EAGAIN:
			return;
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			gate_back_off(strerror(errno));
			return;
		default:
			/* That connection broke before it was accepted. */
			break;
		}
	}
}

static void
gate_smtpd_free(struct smtpd *p)
{
	struct smtpd **q;
	uint32_t i;

	/* An old generation goes on with its sessions, out of our sight; so
	 * does one that died, in its way. */
	for (i = 0; p->sessions > 0 && i < gate.cap; i++)
		if (gate.clients[i].smtpd == p)
			gate_forget(i);
	for (q = &gate.smtpds; *q != p; q = &(*q)->next)
		ensure(*q != NULL);
	*q = p->next;
	/* Clients on their way to it must not be lost. */
	chan_drain(p->c);
	chan_free(&p->c);
	free(p);
	gate_listen();
}

/* smtpd says what its client did, and waits to know how often. */
static void
gate_on_event(struct smtpd *p, struct chan_in *m)
{
	uint32_t no = cursor_u32(&m->body);
	uint8_t event = cursor_u8(&m->body);
	uint32_t tag = cursor_u32(&m->body), n;
	struct gate_client k;
	struct buf *b;

	if (!chan_check(p->c, m))
		return;
	if (no >= gate.cap || gate.clients[no].smtpd != p ||
	    event <= EVENT_CONNECTION || event >= CLIENT_EVENTS) {
		chan_blame(p->c, "an event of no client");
		return;
	}
	k = (struct gate_client){ gate.clients[no].addr, p->service->number };
	n = k.addr.family != 0 ? gate_count_see((enum client_event)event, &k,
	    p->service) : 0;
	b = chan_begin(p->c, MSG_CLIENT_RATE);
	(void)put_u32(b, tag);
	(void)put_u32(b, n);
	chan_end(p->c);
}

static void
gate_on_done(struct smtpd *p, struct chan_in *m)
{
	uint32_t no = cursor_u32(&m->body);

	if (!chan_check(p->c, m))
		return;
	if (no >= gate.cap || gate.clients[no].smtpd != p) {
		chan_blame(p->c, "a client that it does not have");
		return;
	}
	gate_forget(no);
	gate_listen();
}

static void
gate_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	(void)c;
	if (m->type == MSG_CLIENT_EVENT)
		gate_on_event(arg, m);
	else
		gate_on_done(arg, m);
}

static void
gate_on_close(struct chan *c, void *arg)
{
	(void)c;
	gate_smtpd_free(arg);
}

static void
gate_peer(const struct role_peer *peer, int fd)
{
	struct service *v = gate_service(peer->service);
	struct smtpd *p, *next;

	struct cursor settings = cursor_of(peer->settings);
	uint32_t header_ms = cursor_u32(&settings);

	if (peer->kind != ROLE_SMTPD || peer->generation < v->generation) {
		close(fd);
		return;
	}
	v->header_ms = header_ms;
	if (peer->generation > v->generation) {
		v->generation = peer->generation;
		for (p = gate.smtpds; p != NULL; p = next) {
			next = p->next;
			if (p->service == v)
				gate_smtpd_free(p);
		}
	}
	p = mem_alloc(sizeof *p);
	p->service = v;
	p->generation = peer->generation;
	p->c = chan_new(fd, ROLE_GATE, ROLE_SMTPD, peer->pid, gate_on_msg,
	    gate_on_close, p);
	p->next = gate.smtpds;
	gate.smtpds = p;
	gate_listen();
}

static void
gate_control(struct chan_in *m)
{
	uint32_t service;
	struct view name;
	struct listener *l;
	int on = 1;

	if (m->type != MSG_LISTEN)
		return;
	service = cursor_u32(&m->body);
	name = cursor_view(&m->body);
	if (!chan_check(role_control(), m))
		return;
	l = mem_alloc(sizeof *l);
	l->fd = m->fd[0];
	m->fd[0] = -1;
	l->name = mem_copy(name);
	l->service = gate_service(service);
	if (l->service->name[0] == '\0')
		l->service->name = l->name;
	/* Accepted connections inherit it: replies are written whole. */
	(void)setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	evutil_make_socket_nonblocking(l->fd);
	event_assign(&l->ev, loop_base(), l->fd, EV_READ | EV_PERSIST,
	    gate_accept, l);
	l->next = gate.listeners;
	gate.listeners = l;
	gate_listen();
}

static void
gate_on_sweep(evutil_socket_t fd, short what, void *arg)
{
	uint64_t missed = gate_count_missed(gate.count);

	(void)fd;
	(void)what;
	(void)arg;
	if (missed > 0)
		log_warn("more than %u clients at once: %llu times a client "
		    "was not counted", CLIENTS_MAX,
		    (unsigned long long)missed);
	gate_count_sweep(gate.count, loop_now());
	event_add(&gate.sweep, loop_timeout(gate.cf->anvil_rate_time_unit));
}

static void
gate_on_report(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	gate_peaks_log(&gate.peaks, gate.cf->anvil_rate_time_unit);
	event_add(&gate.report, loop_timeout(
	    gate.cf->anvil_status_update_time));
}

static void
gate_load(void)
{
	const struct conf *cf = gate.cf = role_conf();

	gate.exceptions = net_list_open("smtpd_client_event_limit_exceptions",
	    cf->smtpd_client_event_limit_exceptions, cf->config_directory,
	    log_report, NULL);
	if (gate.exceptions == NULL)
		fatal("the configuration cannot be used");
	gate.count = gate_count_new(
	    (unsigned)cf->smtpd_client_ipv4_prefix_length,
	    (unsigned)cf->smtpd_client_ipv6_prefix_length, CLIENTS_MAX,
	    cf->anvil_rate_time_unit);
	/* The time zone's file is out of reach inside the jail. */
	tzset();
	event_assign(&gate.back_off, loop_base(), -1, 0, gate_back_on, NULL);
	event_assign(&gate.sweep, loop_base(), -1, 0, gate_on_sweep, NULL);
	event_add(&gate.sweep, loop_timeout(cf->anvil_rate_time_unit));
	event_assign(&gate.report, loop_base(), -1, 0, gate_on_report, NULL);
	event_add(&gate.report, loop_timeout(cf->anvil_status_update_time));
}

static void
gate_retire(void)
{
	struct listener *l;

	while ((l = gate.listeners) != NULL) {
		gate.listeners = l->next;
		event_del(&l->ev);
		close(l->fd);
		l->service->name = "";
		free(l->name);
		free(l);
	}
	gate_end_if_done();
}

static void
gate_status(struct buf *b)
{
	unsigned long long refused = gate.refused + proxied_refused();

	(void)buf_printf(b, "clients %u\naccepted %llu\nrefused %llu\n",
	    gate.n, (unsigned long long)gate.accepted, refused);
}

static const struct role_def def = {
	.kind = ROLE_GATE,
	.jail = { .allow = JAIL_ACCEPT, .max_files = 4096 },
	.load = gate_load,
	.start = gate_listen,
	.peer = gate_peer,
	.retire = gate_retire,
	.control = gate_control,
	.status = gate_status,
};

int
main(int argc, char **argv)
{
	return role_main(&def, argc, argv);
}
