/* The smtpd role: SMTP sessions, thousands in each process. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/own_addr.h"
#include "lib/table_client.h"
#include "lib/tls_library.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_link.h"
#include "proxy/smtpd_tls_context.h"
#include "rules/pattern_set.h"

#define DAY_MS	86400000

static struct server server;

/* Gates that gave us clients. */
struct gate {
	struct chan *c;
	struct gate *next;
};
static struct gate *gates;

static struct role_def smtpd;

static const char *
smtpd_describe(void *arg)
{
	static char text[400];
	const struct session *s = server.current;

	(void)arg;
	if (s == NULL)
		return "no session";
	(void)snprintf(text, sizeof text, "session %u, client %s, state %s, "
	    "verb %s", s->no, s->name != NULL ? s->name : "?",
	    smtp_state_name(s->state), s->verb != VERB_UNKNOWN ?
	    verb_rules[s->verb].name : "none");
	return text;
}

static void
smtpd_end_if_idle(void)
{
	if (role_phase() != PHASE_RETIRING || server.n > 0 || gates != NULL)
		return;
	queue_end();
	role_exit();
}

static void
smtpd_idle_work(void *arg)
{
	(void)arg;
	smtpd_end_if_idle();
}
static struct loop_work idle_work = { .fn = smtpd_idle_work };

static void
smtpd_done(struct server *sv, void *arg, uint32_t client)
{
	struct gate *g = arg;
	struct buf *b;

	if (g != NULL) {
		b = chan_begin(g->c, MSG_CLIENT_DONE);
		(void)put_u32(b, client);
		chan_end(g->c);
	}
	if (sv->n == 0)
		loop_soon(&idle_work);
}

static void
smtpd_event(struct server *sv, struct session *s, enum client_event event,
    uint32_t tag)
{
	const struct gate *g = s->gate;
	struct buf *b = chan_begin(g->c, MSG_CLIENT_EVENT);

	(void)sv;
	(void)put_u32(b, s->client);
	(void)put_u8(b, (uint8_t)event);
	(void)put_u32(b, tag);
	chan_end(g->c);
}

static void
smtpd_rate(struct gate *g, struct chan_in *m)
{
	uint32_t tag = cursor_u32(&m->body), n = cursor_u32(&m->body);
	struct session *s;

	if (!chan_check(g->c, m))
		return;
	s = session_asked(tag, WAIT_RATE);
	if (s != NULL && s->gate == g)
		session_counted(s, n);
}

static void
smtpd_client(struct gate *g, struct chan_in *m)
{
	uint32_t client = cursor_u32(&m->body);
	struct view remote = cursor_view(&m->body);
	struct view local = cursor_view(&m->body);
	struct sockaddr_storage ss = { 0 };
	struct netaddr addr;
	struct session *s;
	struct buf *b;

	if (!chan_check(g->c, m))
		return;
	if (remote.n > sizeof ss || local.n > sizeof ss) {
		chan_blame(g->c, "bad address of a client");
		return;
	}
	if (remote.n > 0)
		memcpy(&ss, remote.p, remote.n);
	addr = netaddr_from_sockaddr((struct sockaddr *)&ss,
	    (socklen_t)remote.n);
	if (server.n >= (uint64_t)server.cf->smtpd_session_limit) {
		b = chan_begin(g->c, MSG_CLIENT_DONE);
		(void)put_u32(b, client);
		chan_end(g->c);
		return;
	}
	s = session_new(&server, m->fd[0], &addr);
	memset(&ss, 0, sizeof ss);
	if (local.n > 0)
		memcpy(&ss, local.p, local.n);
	s->local = netaddr_from_sockaddr((struct sockaddr *)&ss,
	    (socklen_t)local.n);
	m->fd[0] = -1;
	s->gate = g;
	s->client = client;
	/* Until qmgr has said whether there is room, nobody is greeted: what
	 * is offered must be true from the first client on. */
	if (server.space_known && auth_known(&server))
		names_find(s);
	else
		session_wait_for(s, WAIT_NAME, SPACE_WAIT_MS);
}

static void
smtpd_on_gate(struct chan *c, struct chan_in *m, void *arg)
{
	(void)c;
	if (m->type == MSG_CLIENT_RATE)
		smtpd_rate(arg, m);
	else
		smtpd_client(arg, m);
}

static void
smtpd_on_gate_close(struct chan *c, void *arg)
{
	struct gate *g = arg, **p;
	struct session *s;
	uint32_t i;

	(void)c;
	for (i = 0; i < server.cap; i++) {
		s = server.sessions[i];
		if (s == NULL || s->gate != g)
			continue;
		s->gate = NULL;
		if (s->wait == WAIT_RATE)
			session_count_lost(s);
	}
	for (p = &gates; *p != g; p = &(*p)->next)
		ensure(*p != NULL);
	*p = g->next;
	chan_free(&g->c);
	free(g);
	smtpd_end_if_idle();
}

static void
smtpd_peer(const struct role_peer *peer, int fd)
{
	struct gate *g;

	if (peer->kind == ROLE_QMGR) {
		queue_peer(peer, fd);
	} else if (peer->kind == ROLE_LOOKUP) {
		names_peer(peer, fd);
	} else if (peer->kind == ROLE_TABLE) {
		table_client_peer(peer, fd);
	} else if (peer->kind == ROLE_MILTER) {
		milters_peer(peer, fd);
	} else if (peer->kind == ROLE_AUTH) {
		auths_peer(peer, fd);
	} else if (peer->kind == ROLE_GATE) {
		g = mem_alloc(sizeof *g);
		g->c = chan_new(fd, ROLE_SMTPD, ROLE_GATE, peer->pid,
		    smtpd_on_gate, smtpd_on_gate_close, g);
		g->next = gates;
		gates = g;
	} else
		close(fd);
}

/* -- TLS ------------------------------------------------------------------- */

static void
smtpd_daily(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	(void)tls_server_expiry(server.tls, log_report, NULL);
	event_add(&server.tls->daily, loop_timeout(DAY_MS));
}

/* Keys are read now; in the jail nobody could. */
static void
smtpd_load_tls(const struct conf *cf)
{
	/* One of them says what there is to warn of. */
	bool first = role_index() == 0;

	if (!tls_server_open(cf, role_service_name(), &server.tls, first ?
	    log_report : log_report_errors, NULL))
		fatal("the configuration cannot be used");
	if (server.tls == NULL || !first)
		return;
	event_assign(&server.tls->daily, loop_base(), -1, 0, smtpd_daily,
	    NULL);
	event_add(&server.tls->daily, loop_timeout(DAY_MS));
}

static void
smtpd_control(struct chan_in *m)
{
	struct view seed;
	struct mono from;

	if (m->type == MSG_TLS_TRACE_FILE || m->type == MSG_TLS_TRACE_NONE)
		tls_watch_answer(role_control(), m);
	if (m->type != MSG_TICKETS)
		return;
	from.us = (int64_t)cursor_u64(&m->body);
	seed = cursor_view(&m->body);
	if (seed.n != TLS_SEED_SIZE)
		m->body.bad = true;
	if (chan_check(role_control(), m) && server.tls != NULL)
		tls_server_seed(server.tls, (const uint8_t *)seed.p, from);
}

static void
smtpd_load(void)
{
	const struct conf *cf = role_conf();
	struct netaddr own[OWN_ADDR_MAX];

	/* The time zone's file is out of reach inside the jail. */
	tzset();
	tls_library_load(cf);
	table_pattern_sets(pattern_sets(), NULL, NULL);
	/* A session takes one descriptor, and one more with a message. */
	smtpd.jail.max_files = (uint64_t)cf->smtpd_session_limit * 2 + 1024;
	if (!server_load(&server, cf, own, own_addresses(cf, own,
	    OWN_ADDR_MAX), log_report, NULL))
		fatal("the configuration cannot be used");
	smtpd_load_tls(cf);
	server.on_done = smtpd_done;
	server.on_event = smtpd_event;
	log_context(smtpd_describe, NULL);
	table_client_init(ROLE_SMTPD, cf->lookup_table_time_limit);
	names_init(&server);
	queue_init(&server);
	milters_init(&server);
	auths_init(&server);
}

static void
smtpd_retire(void)
{
	/* Sessions go on until they end; gate has got our successor. */
	smtpd_end_if_idle();
}

/* Postern stops: idle sessions end now, the others with their transaction. */
static void
smtpd_hurry(void)
{
	uint32_t i;

	server.hurry = true;
	for (i = 0; i < server.cap; i++)
		if (server.sessions[i] != NULL)
			session_hurry(server.sessions[i]);
}

static void
smtpd_status(struct buf *b)
{
	(void)buf_printf(b, "sessions %u\nconnections %llu\nmessages %llu\n"
	    "refused %llu\nsoftened %llu\n", server.n,
	    (unsigned long long)server.connections,
	    (unsigned long long)server.messages,
	    (unsigned long long)server.refused,
	    (unsigned long long)server.soft);
	if (server.tls == NULL)
		return;
	(void)buf_printf(b, "tls_sessions %llu\ntls_resumed %llu\n"
	    "tls_failed %llu\ncertificate_days %lld %s\n",
	    (unsigned long long)server.tls->sessions,
	    (unsigned long long)server.tls->resumed,
	    (unsigned long long)server.tls->failed,
	    (long long)tls_server_expiry(server.tls, NULL, NULL),
	    tls_certs_first(&server.tls->certs)->file);
}

static struct role_def smtpd = {
	.kind = ROLE_SMTPD,
	.jail = { .allow = 0 },
	.load = smtpd_load,
	.peer = smtpd_peer,
	.retire = smtpd_retire,
	.hurry = smtpd_hurry,
	.control = smtpd_control,
	.status = smtpd_status,
};

int
main(int argc, char **argv)
{
	return role_main(&smtpd, argc, argv);
}
