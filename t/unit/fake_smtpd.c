#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_milter.h"
#include "t/unit/fake_smtpd.h"

struct fake fake = { .client = -1, .text_fd = -1 };

/* Any address will do: only its being there is asked. */
static char a_link;

static void
fake_report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fatal("%s", text);
}

void
fake_start(const char *settings)
{
	char *text = mem_printf("myhostname = gw.example.net\n"
	    "mydomain = example.net\nmyorigin = example.net\n"
	    "mydestination = gw.example.net\nrelay_domains = inside.example\n"
	    "mynetworks = 192.0.2.0/24\nmail_name = Postern\n"
	    "smtpd_error_sleep_time = 0\nconfig_directory = /nonexistent\n%s",
	    settings);

	fake.conf = conf_parse(view_of(text), "fake", fake_report, NULL);
	free(text);
	ensure(fake.conf != NULL);
	ensure(server_load(&fake.server, fake.conf, NULL, 0, fake_report,
	    NULL));
}

static void
fake_done(struct server *sv, void *gate, uint32_t client)
{
	(void)sv;
	(void)gate;
	(void)client;
	fake.ended++;
}

void
fake_stop(void)
{
	fake_disconnect();
	server_free(&fake.server);
	conf_free(&fake.conf);
	if (fake.text_fd >= 0)
		close(fake.text_fd);
	fake = (struct fake){ .client = -1, .text_fd = -1 };
}

struct session *
fake_connect(void)
{
	struct netaddr a = { 0 };
	struct session *s;
	int fd[2];

	fake_disconnect();
	fake.server.on_done = fake_done;
	ensure(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0, fd) == 0);
	ensure(netaddr_parse(view_of("203.0.113.5"), &a));
	fake.client = fd[0];
	s = session_new(&fake.server, fd[1], &a);
	names_find(s);
	fake_run();
	return s;
}

void
fake_disconnect(void)
{
	if (fake.client < 0)
		return;
	close(fake.client);
	fake.client = -1;
	while (fake.sealing != NULL)
		fake_answer(450);
	while (fake.spilling != NULL)
		fake_spill();
	fake_run();
}

void
fake_run(void)
{
	ssize_t n;
	int i;

	fake.said_n = 0;
	for (i = 0; i < 6; i++) {
		event_base_loop(loop_base(), EVLOOP_NONBLOCK);
		if (fake.client < 0)
			continue;
		n = recv(fake.client, fake.said + fake.said_n,
		    sizeof fake.said - 1 - fake.said_n, MSG_DONTWAIT);
		if (n > 0)
			fake.said_n += (size_t)n;
	}
	fake.said[fake.said_n] = '\0';
}

void
fake_send(const void *p, size_t n)
{
	const char *q = p;
	ssize_t k;
	int tries = 0;

	while (n > 0 && tries++ < 1000) {
		k = send(fake.client, q, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (k > 0) {
			q += k;
			n -= (size_t)k;
		} else
			event_base_loop(loop_base(), EVLOOP_NONBLOCK);
	}
}

const char *
fake_say(const char *bytes)
{
	fake_send(bytes, strlen(bytes));
	fake_run();
	return fake.said;
}

void
fake_answer(unsigned code)
{
	struct transaction *tx = fake.sealing;

	ensure(tx != NULL);
	fake.sealing = NULL;
	data_sealed(tx, code, view_of(code < 300 ? "2.0.0" : "5.7.1"),
	    view_of(code < 300 ? "Ok: queued" : "refused"), view_of(""));
	fake_run();
}

void
fake_spill(void)
{
	struct transaction *tx = fake.spilling;
	int fd = -1;

	ensure(tx != NULL);
	fake.spilling = NULL;
	if (!fake.refuse_spill) {
		fd = memfd_create("spill", MFD_CLOEXEC);
		ensure(fd >= 0);
		close(fake.text_fd);
		fake.text_fd = dup(fd);
	}
	data_spilled(tx, fd);
}

/* -- what the session asks for -------- */

void
names_find(struct session *s)
{
	session_named(s, NAME_OK, view_of("client.example"),
	    view_of("client.example"));
}

bool
facts_ask(struct session *s, const struct fact_name *name,
    struct view request, int64_t request_ms)
{
	(void)name;
	(void)request;
	(void)request_ms;
	fake.asking = s;
	return true;
}

bool
queue_verify(struct session *s, struct view addr, int64_t ms)
{
	(void)addr;
	(void)ms;
	fake.asking = s;
	return true;
}

void
fake_fact(enum fact_status status)
{
	struct session *s = fake.asking;
	struct buf b;

	ensure(s != NULL);
	fake.asking = NULL;
	buf_init(&b, 64);
	ensure(facts_put_answer(&b, status, NULL, 0));
	session_fact(s, buf_view(&b));
	buf_free(&b);
	fake_run();
}

bool
queue_take(struct transaction *tx)
{
	static uint64_t id = 0x100;

	if (fake.no_slots)
		return false;
	tx->slot.id.n = id++;
	tx->slot.fd = memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ensure(tx->slot.fd >= 0);
	tx->slot.link = (struct queue_link *)(void *)&a_link;
	tx->has_slot = true;
	if (fake.text_fd >= 0)
		close(fake.text_fd);
	fake.text_fd = dup(tx->slot.fd);
	fake.taken++;
	return true;
}

void
queue_await(struct session *s, bool on)
{
	(void)s;
	(void)on;
}

void
queue_drop(struct transaction *tx)
{
	(void)tx;
	fake.dropped++;
}

void
queue_spill(struct transaction *tx)
{
	fake.spilling = tx;
}

void
queue_seal(struct transaction *tx, const struct envelope *e)
{
	fake.sealing = tx;
	fake.rcpts = e->nrcpts;
	(void)snprintf(fake.sender, sizeof fake.sender, "%.*s",
	    VIEW_ARGS(e->sender));
}

bool
queue_notice(struct view from, struct view to, struct view text)
{
	(void)from;
	(void)to;
	fake.notices++;
	(void)snprintf(fake.notice, sizeof fake.notice, "%.*s",
	    VIEW_ARGS(text));
	return true;
}

bool
queue_site(struct view domain)
{
	(void)domain;
	if (fake.no_manager)
		return false;
	fake.sites++;
	return true;
}

void
queue_forget(struct transaction *tx)
{
	if (fake.sealing == tx)
		fake.sealing = NULL;
	if (fake.spilling == tx)
		fake.spilling = NULL;
}

void
queue_release(struct transaction *tx)
{
	tx->slot.link = NULL;
}

/* No filters outside. */
struct milter_link *
milter_link_take(void)
{
	return NULL;
}

void
milter_link_release(struct milter_link *l)
{
	(void)l;
	abort();
}

struct chan *
milter_link_chan(const struct milter_link *l)
{
	(void)l;
	abort();
}

/* -- authentication: there is no auth role --------------------------------- */

struct auth_link *
auth_link_take(void)
{
	return NULL;
}

void
auth_link_release(struct auth_link *l)
{
	(void)l;
}

struct chan *
auth_link_chan(const struct auth_link *l)
{
	(void)l;
	return NULL;
}
