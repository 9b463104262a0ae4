/* Does each port that is to be served greet? */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/conf_choice.h"
#include "lib/mem.h"
#include "proxy/postern.h"

#define GREETING_MAX	512u

struct caller {
	int fd;
	SSL *tls;		/* NULL: none */
	struct mono end;
};

static int64_t
left_ms(struct mono end)
{
	int64_t us = mono_since(clock_mono(), end);

	return us > 0 ? us / 1000 + 1 : 0;
}

static bool
wait_for(const struct caller *c, short events)
{
	struct pollfd p = { .fd = c->fd, .events = events };

	return poll(&p, 1, (int)left_ms(c->end)) == 1;
}

/* True: what OpenSSL waits for has come. */
static bool
tls_waited(const struct caller *c, int rc)
{
	switch (SSL_get_error(c->tls, rc)) {
	case SSL_ERROR_WANT_READ:
		return wait_for(c, POLLIN);
	case SSL_ERROR_WANT_WRITE:
		return wait_for(c, POLLOUT);
	default:
		return false;
	}
}

static ssize_t
caller_read(const struct caller *c, char *to, size_t n)
{
	int rc;

	if (c->tls == NULL)
		return wait_for(c, POLLIN) ? read(c->fd, to, n) : -1;
	do
		rc = SSL_read(c->tls, to, (int)n);
	while (rc <= 0 && tls_waited(c, rc));
	return rc;
}

/* The first reply line; false: there was none. */
static bool
caller_greeting(const struct caller *c, char *ret, size_t size)
{
	size_t have = 0;
	ssize_t k;

	while (have + 1 < size &&
	    (k = caller_read(c, ret + have, size - 1 - have)) > 0) {
		have += (size_t)k;
		ret[have] = '\0';
		if (strchr(ret, '\n') != NULL)
			break;
	}
	ret[strcspn(ret, "\r\n")] = '\0';
	return have > 0;
}

/* The end is in order too: no "lost connection" in the log. */
static void
caller_quit(const struct caller *c)
{
	static const char quit[] = "QUIT\r\n";
	char rest[256];

	if (c->tls != NULL ?
	    SSL_write(c->tls, quit, (int)strlen(quit)) <= 0 :
	    send(c->fd, quit, strlen(quit), MSG_NOSIGNAL) <= 0)
		return;
	while (caller_read(c, rest, sizeof rest) > 0)
		;
}

/* Whose certificate it is, is not asked here. */
static bool
caller_tls(struct caller *c, SSL_CTX *ctx)
{
	int rc;

	c->tls = SSL_new(ctx);
	if (c->tls == NULL || SSL_set_fd(c->tls, c->fd) != 1)
		return false;
	do
		rc = SSL_connect(c->tls);
	while (rc != 1 && tls_waited(c, rc));
	return rc == 1;
}

struct port {
	const struct netaddr *addr;
	SSL_CTX *tls;		/* it begins with TLS; NULL: it does not */
	bool silent;		/* it does not speak to whom it does not know */
	bool proxied;		/* it wants a proxy's header first */
};

/* As a proxy's own health check: no client. */
static bool
caller_header(const struct caller *c)
{
	static const char local[16] = "\r\n\r\n\0\r\nQUIT\n\x20\0\0";

	return send(c->fd, local, sizeof local, MSG_NOSIGNAL) ==
	    (ssize_t)sizeof local;
}

/* The first reply line, or why there was none. */
static void
greeting(const struct port *p, struct mono end, char *ret, size_t size)
{
	struct netaddr to = netaddr_reachable(p->addr);
	struct caller c = { .end = end };
	struct sockaddr_storage ss;
	socklen_t n = netaddr_to_sockaddr(&to, &ss);

	snprintf(ret, size, "no connection");
	c.fd = socket(to.family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    0);
	if (c.fd < 0)
		return;
	if ((connect(c.fd, (struct sockaddr *)&ss, n) != 0 &&
	    errno != EINPROGRESS) || !wait_for(&c, POLLOUT)) {
		close(c.fd);
		return;
	}
	if (p->proxied && !caller_header(&c))
		snprintf(ret, size, "no connection");
	else if (p->tls != NULL && !caller_tls(&c, p->tls))
		snprintf(ret, size, "no TLS");
	else if (p->silent)
		snprintf(ret, size, "220");
	else if (!caller_greeting(&c, ret, size))
		snprintf(ret, size, "no greeting");
	else
		caller_quit(&c);
	SSL_free(c.tls);
	ERR_clear_error();
	close(c.fd);
}

static struct port
port_of(const struct config *c, const struct listener *l, SSL_CTX *ctx)
{
	const struct team *t = config_team(c, ROLE_SMTPD, l->service);
	bool tls = t != NULL && t->cf->smtpd_tls_wrappermode;

	return (struct port){ .addr = &l->addr, .tls = tls ? ctx : NULL,
		.silent = tls && t->cf->smtpd_tls_req_ccert,
		.proxied = t != NULL && conf_choice(
		    "smtpd_upstream_proxy_protocol", view_of(
		    t->cf->smtpd_upstream_proxy_protocol)) != 0 };
}

/* One that takes whatever the server has. */
static SSL_CTX *
any_tls(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (ctx == NULL)
		fatal("no memory for TLS");
	SSL_CTX_set_security_level(ctx, 0);
	(void)SSL_CTX_set_min_proto_version(ctx, 0);
	return ctx;
}

const char *
postern_wait_ports(const struct config *c, int64_t limit_ms)
{
	static char why[GREETING_MAX + LISTEN_TEXT + 8];
	const struct listen_set *set = c->listen;
	char text[LISTEN_TEXT], said[GREETING_MAX];
	struct mono end = { clock_mono().us + limit_ms * 1000 };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	SSL_CTX *ctx = any_tls();
	struct port p;
	bool ok = true;
	size_t i;

	/* OpenSSL writes to sockets as to files. */
	(void)sigaction(SIGPIPE, &ignore, NULL);
	for (i = 0; ok && i < set->n; i++)
		for (;;) {
			p = port_of(c, &set->list[i], ctx);
			greeting(&p, end, said, sizeof said);
			if (strncmp(said, "220", 3) == 0)
				break;
			if (left_ms(end) == 0) {
				snprintf(why, sizeof why, "%s: %s",
				    listen_text(&set->list[i].addr, text),
				    said);
				ok = false;
				break;
			}
			usleep(20000);
		}
	SSL_CTX_free(ctx);
	return ok ? NULL : why;
}
