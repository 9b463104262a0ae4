/* Bytes of a session through TLS; nothing here knows a reply. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_tls_impl.h"

#define POST_MAX	1000u	/* messages of the handshake after it */

/* After the handshake its messages are tickets and new keys; nobody needs
 * many. */
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
	const struct conf *cf = s->relay->conf;
	struct session_tls *t = s->tls;
	struct tls_watched how = { .name = s->peer, .addr = &s->addr,
		.limit = (size_t)cf->smtp_tls_trace_size_limit,
		.parameter = s->relay->lmtp ? "lmtp_tls_trace_size_limit" :
		    "smtp_tls_trace_size_limit" };

	t->tell = how.tell = tls_tells_find(&s->relay->tls->tells,
	    view_of(s->host), &s->addr);
	t->watch = tls_watch_new(t->ssl, &how);
}

bool
relay_tls_new(struct session *s, char *servername)
{
	struct relay_tls_shared *ts = s->relay->tls;
	struct session_tls *t = mem_alloc(sizeof *t);
	SSL_CTX *ctx = relay_tls_setting(ts, relay_tls_policy(s));

	ensure(s->tls == NULL);
	s->tls = t;
	t->shared = ts;
	if (ctx != NULL) {
		t->ssl = SSL_new(ctx);
		if (t->ssl == NULL || SSL_set_fd(t->ssl, s->fd) != 1)
			fatal("no memory for TLS");
		SSL_set_connect_state(t->ssl);
		SSL_set_app_data(t->ssl, t);
		SSL_CTX_sess_set_new_cb(ctx, relay_tls_on_session);
		SSL_set_msg_callback(t->ssl, on_message);
		SSL_set_msg_callback_arg(t->ssl, t);
		begin_watch(s);
		if ((servername[0] == '\0' ||
		    SSL_set_tlsext_host_name(t->ssl, servername) == 1) &&
		    relay_dane_prepare(s, t->ssl)) {
			relay_tls_resume(s, servername);
			return true;
		}
	}
	t->broken = true;
	t->why = "no protocol or cipher can be used";
	ERR_clear_error();
	return false;
}

void
relay_tls_bye(struct session *s)
{
	struct session_tls *t = s->tls;

	if (t == NULL || !t->active || t->broken)
		return;
	t->broken = true;
	(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
}

void
relay_tls_free(struct session *s)
{
	struct session_tls *t = s->tls;

	if (t == NULL)
		return;
	relay_tls_distrust(s);
	s->tls = NULL;
	SSL_SESSION_free(t->next);
	free(t->key);
	tls_watch_end(&t->watch);
	SSL_free(t->ssl);
	tls_info_free(&t->info);
	free(t);
}

static void
step_failed(struct session_tls *t, int error)
{
	t->broken = true;
	if (error == SSL_ERROR_SYSCALL && errno != 0)
		t->why = strerror(errno);
	else if (error == SSL_ERROR_SYSCALL || error == SSL_ERROR_ZERO_RETURN)
		t->why = "lost connection";
	else {
		t->why = "failed";
		(void)snprintf(t->reason, sizeof t->reason, "%s",
		    tls_library_error("failed"));
	}
}

/* Fingerprints cost as much as the rest of what is said about a session. */
static void
tls_look(struct session *s)
{
	bool wanted = relay_tls_policy(s)->level == TLS_LEVEL_FINGERPRINT ||
	    (s->tls->tell & TLS_TELL_PEER) != 0;

	tls_info_get(&s->tls->info, s->tls->ssl, wanted ?
	    s->tls->shared->digest : NULL);
}

enum relay_tls_step
relay_tls_step(struct session *s)
{
	struct session_tls *t = s->tls;
	int rc, error;

	if (t->broken)
		return RELAY_TLS_FAILED;
	ERR_clear_error();
	errno = 0;
	rc = SSL_connect(t->ssl);
	error = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, rc);
	if (rc == 1) {
		t->active = true;
		t->had = TLS_LEVEL_ENCRYPT;
		tls_look(s);
		ERR_clear_error();
		return RELAY_TLS_DONE;
	}
	if (error == SSL_ERROR_WANT_READ)
		return RELAY_TLS_READ;
	if (error == SSL_ERROR_WANT_WRITE)
		return RELAY_TLS_WRITE;
	step_failed(t, error);
	ERR_clear_error();
	return RELAY_TLS_FAILED;
}

const char *
relay_tls_failure(const struct session *s, const char **ret_reason)
{
	*ret_reason = s->tls->reason[0] != '\0' ? s->tls->reason : NULL;
	return s->tls->why;
}

bool
relay_tls_active(const struct session *s)
{
	return s->tls != NULL && s->tls->active;
}

/* What OpenSSL could not do, as errno; 0: the end. */
static ssize_t
tls_failed(struct session_tls *t, int rc)
{
	int error = SSL_get_error(t->ssl, rc);

	if (error == SSL_ERROR_ZERO_RETURN)
		return 0;
	errno = EAGAIN;
	if (error == SSL_ERROR_WANT_READ)
		return -1;
	t->wants_write = error == SSL_ERROR_WANT_WRITE;
	if (!t->wants_write) {
		t->broken = true;
		errno = EPROTO;
	}
	return -1;
}

/*
 * All that has come, so that who looks can tell a reply that was there before
 * its command.  What is not returned now makes the socket's event fire again.
 */
ssize_t
relay_tls_recv(struct session *s, void *to, size_t size)
{
	struct session_tls *t = s->tls;
	size_t got = 0, n;
	ssize_t failed = -1;
	uint32_t post;
	int rc = 1;

	if (t->broken) {
		errno = EPROTO;
		return -1;
	}
	t->wants_write = false;
	ERR_clear_error();
	while (got < size) {
		post = t->post;
		rc = SSL_read_ex(t->ssl, (char *)to + got, size - got, &n);
		if (rc == 1) {
			got += n;
			continue;
		}
		failed = tls_failed(t, rc);
		if (failed == 0 || errno != EAGAIN || t->post == post)
			break;
		if (t->post > POST_MAX) {
			t->broken = true;
			errno = EPROTO;
			break;
		}
	}
	ERR_clear_error();
	if (got > 0) {
		if (got == size || failed == 0 || t->broken)
			event_active(&s->read_event, EV_READ, 0);
		return (ssize_t)got;
	}
	return failed;
}

ssize_t
relay_tls_send(struct session *s, const void *p, size_t n)
{
	struct session_tls *t = s->tls;
	size_t sent = 0, k;
	int error = SSL_ERROR_NONE;

	if (t->broken) {
		errno = EPIPE;
		return -1;
	}
	ERR_clear_error();
	while (sent < n && error == SSL_ERROR_NONE) {
		if (SSL_write_ex(t->ssl, (const char *)p + sent, n - sent,
		    &k) == 1)
			sent += k;
		else
			error = SSL_get_error(t->ssl, 0);
	}
	ERR_clear_error();
	if (sent > 0)
		return (ssize_t)sent;
	errno = EAGAIN;
	if (error != SSL_ERROR_WANT_WRITE) {
		/* Who reads finds that it is over. */
		t->broken = true;
		event_active(&s->read_event, EV_READ, 0);
		errno = EPIPE;
	}
	return -1;
}

bool
relay_tls_wants_write(const struct session *s)
{
	return s->tls != NULL && s->tls->wants_write;
}
