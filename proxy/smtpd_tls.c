/* Bytes of a session through TLS; nothing here knows a verb. */
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_tls_impl.h"

#define WIRE_SIZE	32768u
#define RAW_MAX		(2 * WIRE_SIZE)
#define RECORD_DATA	23	/* RFC 8446 section 5.1 */
#define POST_MAX	1000u	/* messages of the handshake after it */

/*
 * What one read of a socket gave, while it is worked on: one for the process.
 * What is left of it after a step is kept with the session.
 */
static struct {
	char bytes[WIRE_SIZE];
	size_t at, n;
	bool read;		/* in this step, and once is enough */
} wire;

enum tls_head
tls_head_check(const uint8_t *p, size_t n)
{
	size_t record, hello;

	if ((n > 0 && p[0] != 22) || (n > 1 && p[1] != 3) ||
	    (n > 5 && p[5] != 1))
		return TLS_HEAD_OTHER;
	if (n < TLS_HEAD_SIZE)
		return TLS_HEAD_MORE;
	record = (size_t)p[3] << 8 | p[4];
	hello = (size_t)p[6] << 16 | (size_t)p[7] << 8 | p[8];
	/* The length of the message must stand in the first record. */
	if (record < 4)
		return TLS_HEAD_OTHER;
	return hello > TLS_HELLO_MAX ? TLS_HEAD_TOO_LONG : TLS_HEAD_GOOD;
}

/* -- between OpenSSL and the socket ---------------------------------------- */

/* The head of the stream is looked at before OpenSSL makes room for what it
 * announces. */
static bool
wire_head(struct session_tls *t)
{
	size_t n = TLS_HEAD_SIZE - t->head_n;

	if (n > wire.n)
		n = wire.n;
	memcpy(t->head + t->head_n, wire.bytes, n);
	t->head_n = (uint8_t)(t->head_n + n);
	switch (tls_head_check(t->head, t->head_n)) {
	case TLS_HEAD_MORE:
	case TLS_HEAD_GOOD:
		return true;
	case TLS_HEAD_OTHER:
		t->why = "no TLS handshake";
		break;
	case TLS_HEAD_TOO_LONG:
		t->why = "ClientHello too long";
		break;
	}
	return false;
}

/* True: there is something in wire. */
static bool
wire_fill(struct session_tls *t, BIO *bio, int *ret)
{
	ssize_t n;

	*ret = -1;
	if (wire.at < wire.n)
		return true;
	if (wire.read) {
		BIO_set_retry_read(bio);
		return false;
	}
	wire.read = true;
	do
		n = recv(t->session->fd, wire.bytes, sizeof wire.bytes,
		    MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		BIO_set_retry_read(bio);
	if (n == 0) {
		t->ended = true;
		*ret = 0;
	}
	if (n <= 0)
		return false;
	wire.at = 0;
	wire.n = (size_t)n;
	return t->head_n == TLS_HEAD_SIZE || wire_head(t);
}

static int
wire_read(BIO *bio, char *to, int size)
{
	struct session_tls *t = BIO_get_data(bio);
	size_t n = size > 0 ? (size_t)size : 0;
	int failed;

	BIO_clear_retry_flags(bio);
	if (t->raw.n > 0) {
		n = n < t->raw.n ? n : t->raw.n;
		memcpy(to, t->raw.p, n);
		buf_consume(&t->raw, n);
		if (t->raw.n == 0)
			buf_free(&t->raw);
		return (int)n;
	}
	if (!wire_fill(t, bio, &failed))
		return failed;
	n = n < wire.n - wire.at ? n : wire.n - wire.at;
	memcpy(to, wire.bytes + wire.at, n);
	wire.at += n;
	return (int)n;
}

static int
wire_write(BIO *bio, const char *p, int size)
{
	struct session_tls *t = BIO_get_data(bio);
	int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
	ssize_t n;

	BIO_clear_retry_flags(bio);
	/* The client has said more, which is answered at once: what it is told
	 * now (a ticket) can go with that. */
	if (t->last || wire.at < wire.n)
		flags |= MSG_MORE;
	do
		n = send(t->session->fd, p, size > 0 ? (size_t)size : 0,
		    flags);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		BIO_set_retry_write(bio);
	return (int)n;
}

static long
wire_ctrl(BIO *bio, int command, long n, void *p)
{
	(void)n;
	(void)p;
	if (command == BIO_CTRL_EOF)
		return ((struct session_tls *)BIO_get_data(bio))->ended;
	return command == BIO_CTRL_FLUSH;
}

static const BIO_METHOD *
wire_method(void)
{
	static BIO_METHOD *m;

	if (m != NULL)
		return m;
	m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK,
	    "session");
	if (m == NULL || BIO_meth_set_read(m, wire_read) != 1 ||
	    BIO_meth_set_write(m, wire_write) != 1 ||
	    BIO_meth_set_ctrl(m, wire_ctrl) != 1)
		fatal("no memory for TLS");
	return m;
}

static void
wire_begin(void)
{
	wire.at = wire.n = 0;
	wire.read = false;
	ERR_clear_error();
}

static void
wire_end(struct session_tls *t)
{
	if (wire.at < wire.n &&
	    !buf_put(&t->raw, wire.bytes + wire.at, wire.n - wire.at))
		panic("TLS input over its maximum");
	wire.at = wire.n = 0;
}

/* -- life ------------------------------------------------------------------ */

/* After the handshake its messages are new keys (which cost us more than the
 * client) and attempts to begin again; nobody needs many. */
static void
on_message(int ours, int version, int type, const void *p, size_t n,
    SSL *ssl, void *arg)
{
	struct session_tls *t = arg;

	tls_watch_message(t->watch, ours, version, type, p, n, ssl);
	if (!ours && type == SSL3_RT_HANDSHAKE && t->active)
		t->post++;
}

static void
begin_watch(struct session *s)
{
	const struct conf *cf = s->server->cf;
	struct session_tls *t = s->tls;
	struct tls_watched how = { .name = s->name, .addr = &s->addr,
		.limit = (size_t)cf->smtpd_tls_trace_size_limit,
		.parameter = "smtpd_tls_trace_size_limit" };

	t->tell = how.tell = tls_tells_find(&s->server->tls->tells,
	    session_client_name(s), &s->addr);
	t->watch = tls_watch_new(t->ssl, &how);
}

void
tls_begin(struct session *s)
{
	struct session_tls *t = mem_alloc(sizeof *t);
	BIO *bio = BIO_new(wire_method());

	ensure(s->tls == NULL);
	t->session = s;
	buf_init(&t->raw, RAW_MAX);
	t->ssl = SSL_new(s->server->tls->ctx);
	if (t->ssl == NULL || bio == NULL)
		fatal("no memory for TLS");
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_accept_state(t->ssl);
	SSL_set_msg_callback(t->ssl, on_message);
	SSL_set_msg_callback_arg(t->ssl, t);
	s->tls = t;
	begin_watch(s);
}

void
tls_free(struct session *s)
{
	struct session_tls *t = s->tls;

	if (t == NULL)
		return;
	handshake_forget(s);
	tls_bye(s);
	tls_watch_end(&t->watch);
	SSL_free(t->ssl);
	tls_info_free(&t->info);
	buf_free(&t->raw);
	free(t->name);
	s->tls = NULL;
	free(t);
}

void
tls_bye(struct session *s)
{
	struct session_tls *t = s->tls;

	if (t == NULL || !t->active || t->broken || t->said_bye)
		return;
	t->said_bye = true;
	t->last = false;
	wire_begin();
	(void)SSL_shutdown(t->ssl);
	wire_end(t);
	ERR_clear_error();
}

/* -- the handshake --------------------------------------------------------- */

static void
step_failed(struct session_tls *t, int error)
{
	t->broken = true;
	if (t->why != NULL)
		return;
	if (t->ended)
		t->why = "lost connection";
	else if (error == SSL_ERROR_SYSCALL)
		t->why = errno != 0 ? strerror(errno) : "lost connection";
	else {
		t->why = "failed";
		(void)snprintf(t->reason, sizeof t->reason, "%s",
		    tls_library_error("failed"));
	}
}

static void
step_done(struct session_tls *t)
{
	const char *name = SSL_get_servername(t->ssl,
	    TLSEXT_NAMETYPE_host_name);

	t->active = true;
	if (name != NULL)
		t->name = mem_strdup(name);
	tls_info_get(&t->info, t->ssl, t->session->server->tls->digest);
}

enum tls_step
tls_step(struct session *s)
{
	struct session_tls *t = s->tls;
	enum tls_step step = TLS_STEP_FAILED;
	int rc, error;

	wire_begin();
	errno = 0;
	rc = SSL_accept(t->ssl);
	error = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, rc);
	if (rc == 1)
		step = TLS_STEP_DONE;
	else if (error == SSL_ERROR_WANT_READ)
		step = TLS_STEP_READ;
	else if (error == SSL_ERROR_WANT_WRITE)
		step = TLS_STEP_WRITE;
	else
		step_failed(t, error);
	wire_end(t);
	if (step == TLS_STEP_DONE)
		step_done(t);
	ERR_clear_error();
	return step;
}

const char *
tls_failure(const struct session *s)
{
	return s->tls->reason[0] != '\0' ? s->tls->reason : s->tls->why;
}

/* -- bytes ----------------------------------------------------------------- */

bool
tls_active(const struct session *s)
{
	return s->tls != NULL && s->tls->active;
}

const struct tls_info *
tls_session_info(const struct session *s)
{
	return tls_active(s) ? &s->tls->info : NULL;
}

struct view
tls_session_name(const struct session *s)
{
	return view_of(tls_active(s) && s->tls->name != NULL ? s->tls->name :
	    "");
}

/* What OpenSSL could not do, as errno. */
static ssize_t
tls_failed(struct session_tls *t, int rc)
{
	switch (SSL_get_error(t->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_WANT_WRITE:
		t->wants_write = true;
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		t->broken = true;
		errno = EPROTO;
		return -1;
	}
}

/* There may be more to read without asking the socket, which would say so. */
static bool
tls_holds(const struct session_tls *t)
{
	return t->raw.n > 0 || wire.at < wire.n || SSL_has_pending(t->ssl);
}

ssize_t
tls_recv(struct session *s, void *to, size_t size)
{
	struct session_tls *t = s->tls;
	size_t got = 0, n;
	ssize_t failed = 0;
	int rc = 1;

	if (t->broken) {
		errno = EPROTO;
		return -1;
	}
	t->wants_write = false;
	wire_begin();
	/* All of one read of the socket: it fits, as size is larger than that
	 * and what OpenSSL may have kept of a record. */
	while (rc == 1 && got < size && (got == 0 || tls_holds(t))) {
		rc = SSL_read_ex(t->ssl, (char *)to + got, size - got, &n);
		if (rc == 1)
			got += n;
		else
			failed = tls_failed(t, rc);
	}
	wire_end(t);
	ERR_clear_error();
	if (t->post > POST_MAX) {
		t->broken = true;
		errno = EPROTO;
		return -1;
	}
	return got > 0 ? (ssize_t)got : failed;
}

ssize_t
tls_send(struct session *s, const void *p, size_t n)
{
	struct session_tls *t = s->tls;
	ssize_t failed = -1;
	size_t sent;
	bool ok;

	if (t->broken) {
		errno = EPROTO;
		return -1;
	}
	/* Behind the last reply comes our close_notify: tls_bye(). */
	t->last = s->hangup;
	wire_begin();
	ok = SSL_write_ex(t->ssl, p, n, &sent) == 1;
	if (!ok)
		failed = tls_failed(t, 0);
	wire_end(t);
	ERR_clear_error();
	t->wants_write = false;
	if (!ok && failed == 0)
		errno = EPIPE;
	return ok ? (ssize_t)sent : -1;
}

bool
tls_wants_write(const struct session *s)
{
	return s->tls != NULL && s->tls->wants_write;
}

bool
tls_pending(const struct session *s)
{
	return s->tls != NULL && (s->tls->raw.n > 0 ||
	    (s->tls->active && SSL_pending(s->tls->ssl) > 0));
}

bool
tls_spoke(const struct session *s)
{
	char byte;

	return tls_pending(s) || (recv(s->fd, &byte, 1, MSG_PEEK |
	    MSG_DONTWAIT) == 1 && byte == RECORD_DATA);
}
