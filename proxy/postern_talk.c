#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "proxy/postern_talk.h"

#define SAID_MAX	2048u
#define MESSAGE_MAX	65536u

static int
left_ms(struct mono end)
{
	int64_t us = mono_since(clock_mono(), end);

	return us > 0 ? (int)(us / 1000 + 1) : 0;
}

static struct mono
talk_end(const struct talk *t)
{
	return (struct mono){ clock_mono().us + t->limit_ms * 1000 };
}

static bool
talk_wait(const struct talk *t, short events, struct mono end)
{
	struct pollfd p = { .fd = t->fd, .events = events };

	return poll(&p, 1, left_ms(end)) == 1;
}

/* True: what OpenSSL waits for has come. */
static bool
talk_waited(const struct talk *t, int rc, struct mono end)
{
	switch (SSL_get_error(t->tls, rc)) {
	case SSL_ERROR_WANT_READ:
		return talk_wait(t, POLLIN, end);
	case SSL_ERROR_WANT_WRITE:
		return talk_wait(t, POLLOUT, end);
	default:
		return false;
	}
}

bool
talk_tls(struct talk *t)
{
	struct mono end = talk_end(t);
	int rc;

	t->why = "no TLS: the handshake failed";
	t->have = 0;	/* RFC 3207 section 4.2: what came before is void */
	t->ctx = SSL_CTX_new(TLS_client_method());
	if (t->ctx == NULL)
		return false;
	(void)SSL_CTX_set_default_verify_paths(t->ctx);
	t->tls = SSL_new(t->ctx);
	if (t->tls == NULL || SSL_set_fd(t->tls, t->fd) != 1)
		return false;
	do
		rc = SSL_connect(t->tls);
	while (rc != 1 && talk_waited(t, rc, end));
	ERR_clear_error();
	return rc == 1;
}

bool
talk_open(struct talk *t, const struct netaddr *to, bool tls,
    int64_t limit_ms)
{
	struct sockaddr_storage ss;
	socklen_t n = netaddr_to_sockaddr(to, &ss), size = sizeof(int);
	int error = 0;

	*t = (struct talk){ .limit_ms = limit_ms, .why = "no connection" };
	t->fd = socket(to->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    0);
	if (t->fd < 0)
		return false;
	if (connect(t->fd, (struct sockaddr *)&ss, n) != 0)
		error = errno;
	if (error == EINPROGRESS) {
		error = ETIMEDOUT;
		if (talk_wait(t, POLLOUT, talk_end(t)))
			(void)getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error,
			    &size);
	}
	if (error != 0) {
		t->why = strerror(error);
		return false;
	}
	return !tls || talk_tls(t);
}

static bool
talk_more(struct talk *t, struct mono end)
{
	char *to = t->in + t->have;
	size_t room = sizeof t->in - t->have;
	ssize_t n;
	int rc;

	t->why = "the reply is too long";
	if (room == 0)
		return false;
	t->why = "no reply in time, or the connection was closed";
	if (t->tls != NULL) {
		do
			rc = SSL_read(t->tls, to, (int)room);
		while (rc <= 0 && talk_waited(t, rc, end));
		n = rc;
	} else {
		n = talk_wait(t, POLLIN, end) ? read(t->fd, to, room) : -1;
	}
	if (n <= 0)
		return false;
	t->have += (size_t)n;
	return true;
}

/* One line without its end, taken off t->in; false: there is none. */
static bool
talk_line(struct talk *t, struct mono end, char *line, size_t size)
{
	size_t n;

	while ((n = view_find(view_make(t->in, t->have), '\n')) == t->have)
		if (!talk_more(t, end))
			return false;
	snprintf(line, size, "%.*s", (int)(n > 0 && t->in[n - 1] == '\r' ?
	    n - 1 : n), t->in);
	memmove(t->in, t->in + n + 1, t->have - n - 1);
	t->have -= n + 1;
	return true;
}

int
talk_reply(struct talk *t)
{
	struct mono end = talk_end(t);
	char line[SAID_MAX];
	size_t n = 0, i;

	t->reply[0] = '\0';
	do {
		if (!talk_line(t, end, line, sizeof line)) {
			printf("    (%s)\n", t->why);
			return 0;
		}
		printf("    S: %s\n", log_safe(view_of(line)));
		if (n + strlen(line) + 2 > sizeof t->reply) {
			t->why = "the reply is too long";
			return 0;
		}
		n += (size_t)snprintf(t->reply + n, sizeof t->reply - n,
		    "%s%s", n > 0 ? "\n" : "", line);
	} while (strlen(line) > 3 && line[3] == '-');
	for (i = 0; i < 3; i++)
		if (line[i] < '0' || line[i] > '9') {
			t->why = "that is no SMTP reply";
			return 0;
		}
	return (line[0] - '0') * 100 + (line[1] - '0') * 10 + line[2] - '0';
}

static bool
talk_send(struct talk *t, const char *p, size_t n)
{
	struct mono end = talk_end(t);
	ssize_t k;
	int rc;

	while (n > 0) {
		if (t->tls != NULL) {
			do
				rc = SSL_write(t->tls, p, (int)n);
			while (rc <= 0 && talk_waited(t, rc, end));
			k = rc;
		} else {
			k = talk_wait(t, POLLOUT, end) ?
			    send(t->fd, p, n, MSG_NOSIGNAL) : -1;
		}
		if (k <= 0)
			return false;
		p += k;
		n -= (size_t)k;
	}
	return true;
}

int
talk_say(struct talk *t, const char *fmt, ...)
{
	char line[SAID_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof line - 2, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof line - 2) {
		t->why = "the command is too long";
		return 0;
	}
	printf("    C: %s\n", log_safe(view_of(line)));
	memcpy(line + n, "\r\n", 3);
	/* A server may answer, and close, before it has read all. */
	(void)talk_send(t, line, (size_t)n + 2);
	return talk_reply(t);
}

int
talk_message(struct talk *t, const char *text)
{
	struct view rest = view_of(text), line;
	struct buf b;
	bool ok = true;

	buf_init(&b, MESSAGE_MAX);
	while (rest.n > 0) {
		line = view_head(rest, view_find(rest, '\n'));
		rest = view_from(rest, line.n + 1);
		printf("    C: %s\n", log_safe(line));
		ok = ok && (line.n == 0 || line.p[0] != '.' ||
		    buf_putc(&b, '.')) && buf_putv(&b, line) &&
		    buf_puts(&b, "\r\n");
	}
	printf("    C: .\n");
	ok = ok && buf_puts(&b, ".\r\n") && talk_send(t, b.p, b.n);
	buf_free(&b);
	if (!ok) {
		t->why = "the text could not be sent";
		return 0;
	}
	return talk_reply(t);
}

bool
talk_offers(const struct talk *t, const char *keyword)
{
	struct view rest = view_of(t->reply), line, word;

	while (rest.n > 0) {
		line = view_head(rest, view_find(rest, '\n'));
		rest = view_from(rest, line.n + 1);
		line = view_from(line, 4);
		word = view_head(line, view_find(line, ' '));
		if (view_is_nocase(word, keyword))
			return true;
	}
	return false;
}

void
talk_close(struct talk *t)
{
	SSL_free(t->tls);
	SSL_CTX_free(t->ctx);
	t->tls = NULL;
	t->ctx = NULL;
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}
