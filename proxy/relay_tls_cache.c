/*
 * Sessions that may be resumed, of each server under each policy, in memory.
 *
 * One of TLSv1.3 is used once (RFC 8446 appendix C.4), so several of a server
 * are kept, for connections that are made at the same time; each brings the
 * next.  Of an older protocol one is kept, the latest, and serves them all.
 *
 * Who the server is was verified in the handshake that the session goes back
 * to.  The key has all that this went by; what the policy compares with is
 * looked at again after each handshake, resumed or not.
 */
#include <openssl/ssl.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "proxy/relay_tls_impl.h"

#define SERVER_MAX	16u	/* sessions of one */
#define KEPT_MAX	1000u	/* of all */
#define KEPT_SIZE	32768u	/* bytes of one; nobody needs more */
#define BYTES_MAX	(8u << 20)	/* of all */
#define KEY_MAX		(2 * TLS_POLICY_KEY_MAX + 65536u)

struct kept_session {
	SSL_SESSION *session;
	size_t size;
	struct mono since;
	TAILQ_ENTRY(kept_session) link;
};

struct relay_tls_kept {
	char *key;
	TAILQ_HEAD(kept_sessions, kept_session) sessions;	/* latest first */
	size_t n;		/* never 0 */
	TAILQ_ENTRY(relay_tls_kept) link;
};

static void
kept_drop(struct relay_tls_shared *ts, struct relay_tls_kept *k,
    struct kept_session *x)
{
	TAILQ_REMOVE(&k->sessions, x, link);
	ts->n_kept--;
	ts->kept_bytes -= x->size;
	SSL_SESSION_free(x->session);
	free(x);
	k->n--;
}

/* Some were dropped: k goes when it has none any more. */
static void
kept_settle(struct relay_tls_shared *ts, struct relay_tls_kept *k)
{
	if (k->n > 0)
		return;
	TAILQ_REMOVE(&ts->kept, k, link);
	free(k->key);
	free(k);
}

static void
kept_forget(struct relay_tls_shared *ts, struct relay_tls_kept *k)
{
	struct kept_session *x, *next;

	for (x = TAILQ_FIRST(&k->sessions); x != NULL; x = next) {
		next = TAILQ_NEXT(x, link);
		kept_drop(ts, k, x);
	}
	kept_settle(ts, k);
}

/* The servers asked longest ago go. */
static void
kept_bound(struct relay_tls_shared *ts)
{
	struct relay_tls_kept *k, *next;

	for (k = TAILQ_LAST(&ts->kept, relay_tls_keeps); k != NULL &&
	    (ts->n_kept > KEPT_MAX || ts->kept_bytes > BYTES_MAX); k = next) {
		next = TAILQ_PREV(k, relay_tls_keeps, link);
		kept_forget(ts, k);
	}
}

static struct relay_tls_kept *
kept_find(struct relay_tls_shared *ts, const char *key)
{
	struct relay_tls_kept *k;

	TAILQ_FOREACH(k, &ts->kept, link)
		if (strcmp(k->key, key) == 0)
			break;
	return k;
}

/* The server, by which name it was asked, and what it must have shown. */
static char *
kept_key(const struct session *s, const char *servername)
{
	struct buf b;
	char *key;

	buf_init(&b, KEY_MAX);
	(void)buf_printf(&b, "%s\n%s\n%s\n", s->peer, servername,
	    tls_level_name(relay_tls_level(s)));
	key = !buf_putv(&b, relay_tls_policy(s)->key) ||
	    !relay_dane_key(s, &b) ? NULL : mem_copy(buf_view(&b));
	buf_free(&b);
	return key;
}

static bool
is_single_use(const SSL_SESSION *session)
{
	return SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION;
}

static bool
kept_good(const struct relay_tls_shared *ts, const struct kept_session *x)
{
	int64_t age = mono_since(x->since, loop_now()) / 1000;
	unsigned long hint = SSL_SESSION_get_ticket_lifetime_hint(x->session);

	return SSL_SESSION_is_resumable(x->session) == 1 &&
	    age < ts->cf->smtp_tls_session_cache_timeout &&
	    (hint == 0 || age / 1000 < (int64_t)hint);
}

/* -- in ------------------------------------------------------------------- */

/* Of its session and of the certificates that it holds, about. */
static size_t
session_size(SSL *ssl, SSL_SESSION *session)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
	int n = i2d_SSL_SESSION(session, NULL), i, k;
	size_t size = n > 0 ? (size_t)n : KEPT_SIZE + 1;

	for (i = 0; i < sk_X509_num(chain); i++) {
		k = i2d_X509(sk_X509_value(chain, i), NULL);
		size += k > 0 ? (size_t)k : 0;
	}
	return size;
}

/* Takes a reference over. */
static void
session_keep(struct session_tls *t, SSL_SESSION *session)
{
	struct relay_tls_shared *ts = t->shared;
	size_t size = session_size(t->ssl, session);
	struct relay_tls_kept *k;
	struct kept_session *x, *next;

	if (t->key == NULL || size > KEPT_SIZE) {
		SSL_SESSION_free(session);
		return;
	}
	k = kept_find(ts, t->key);
	if (k == NULL) {
		k = mem_alloc(sizeof *k);
		k->key = mem_strdup(t->key);
		TAILQ_INIT(&k->sessions);
	} else {
		TAILQ_REMOVE(&ts->kept, k, link);
	}
	TAILQ_INSERT_HEAD(&ts->kept, k, link);
	x = mem_alloc(sizeof *x);
	x->session = session;
	x->size = size;
	x->since = loop_now();
	TAILQ_INSERT_HEAD(&k->sessions, x, link);
	k->n++;
	ts->n_kept++;
	ts->kept_bytes += size;
	/* One of an older protocol serves all, and replaces what was there. */
	for (x = TAILQ_LAST(&k->sessions, kept_sessions);
	    k->n > (is_single_use(session) ? SERVER_MAX : 1u); x = next) {
		next = TAILQ_PREV(x, kept_sessions, link);
		kept_drop(ts, k, x);
	}
	kept_bound(ts);
}

/* The handshake, or the server at any time after it, gives one. */
int
relay_tls_on_session(SSL *ssl, SSL_SESSION *session)
{
	struct session_tls *t = SSL_get_app_data(ssl);

	if (t->held) {
		session_keep(t, session);
		return 1;
	}
	/* Before the policy is known to be held; or it is not. */
	SSL_SESSION_free(t->next);
	t->next = session;
	return 1;
}

void
relay_tls_keep(struct session *s)
{
	struct session_tls *t = s->tls;

	if (t->next != NULL && t->held)
		session_keep(t, t->next);
	else
		SSL_SESSION_free(t->next);
	t->next = NULL;
}

/* -- out ------------------------------------------------------------------- */

/* One that may be offered to the server, with a reference; NULL: none. */
static SSL_SESSION *
session_take(struct relay_tls_shared *ts, const char *key)
{
	struct relay_tls_kept *k = kept_find(ts, key);
	struct kept_session *x, *next;
	SSL_SESSION *session = NULL;

	if (k == NULL)
		return NULL;
	TAILQ_REMOVE(&ts->kept, k, link);
	TAILQ_INSERT_HEAD(&ts->kept, k, link);
	for (x = TAILQ_FIRST(&k->sessions); x != NULL && session == NULL;
	    x = next) {
		next = TAILQ_NEXT(x, link);
		if (kept_good(ts, x)) {
			session = x->session;
			ensure(SSL_SESSION_up_ref(session) == 1);
		}
		if (session == NULL || is_single_use(session))
			kept_drop(ts, k, x);
	}
	kept_settle(ts, k);
	return session;
}

void
relay_tls_resume(struct session *s, const char *servername)
{
	struct relay_tls_shared *ts = s->relay->tls;
	struct session_tls *t = s->tls;
	SSL_SESSION *session;

	if (ts->cf->smtp_tls_session_cache_timeout == 0)
		return;
	t->key = kept_key(s, servername);
	session = t->key != NULL ? session_take(ts, t->key) : NULL;
	if (session == NULL)
		return;
	t->offered = SSL_set_session(t->ssl, session) == 1;
	SSL_SESSION_free(session);
}

void
relay_tls_distrust(struct session *s)
{
	struct session_tls *t = s->tls;
	struct relay_tls_kept *k;

	if (!t->offered || t->held)
		return;
	k = kept_find(t->shared, t->key);
	if (k != NULL)
		kept_forget(t->shared, k);
}
