/*
 * Sessions that may be resumed: the latest of each server and policy, kept in
 * memory.  One is used once (RFC 8446 appendix C.4); the session that it was
 * used for brings the next, or before TLSv1.3 is the next.
 */
#include <openssl/ssl.h>
#include <stdlib.h>

#include "lib/loop.h"
#include "proxy/relay_tls_impl.h"

#define KEPT_MAX	500u
#define KEPT_SIZE	16384	/* bytes of one; nobody needs more */

struct relay_tls_kept {
	char *key;
	SSL_SESSION *session;
	struct mono since;
	TAILQ_ENTRY(relay_tls_kept) link;
};

static void
kept_free(struct relay_tls_shared *ts, struct relay_tls_kept *k)
{
	TAILQ_REMOVE(&ts->kept, k, link);
	ts->n_kept--;
	SSL_SESSION_free(k->session);
	free(k->key);
	free(k);
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

static char *
kept_key(const struct session *s, const struct tls_policy *p)
{
	return mem_printf("%s\n%.*s", s->peer, VIEW_ARGS(p->key));
}

/* The handshake, or the server at any time after it, gives one. */
int
relay_tls_on_session(SSL *ssl, SSL_SESSION *session)
{
	struct session_tls *t = SSL_get_app_data(ssl);

	SSL_SESSION_free(t->next);
	t->next = session;
	return 1;
}

void
relay_tls_resume(struct session *s)
{
	struct relay_tls_shared *ts = s->relay->tls;
	const struct tls_policy *p = relay_tls_policy(s);
	struct session_tls *t = s->tls;
	struct relay_tls_kept *k;

	/* With DANE each handshake is looked at anew. */
	if (ts->cf->smtp_tls_session_cache_timeout == 0 || s->dane != NULL)
		return;
	t->key = kept_key(s, p);
	k = kept_find(ts, t->key);
	if (k == NULL)
		return;
	if (mono_since(k->since, loop_now()) / 1000 <
	    ts->cf->smtp_tls_session_cache_timeout)
		(void)SSL_set_session(t->ssl, k->session);
	kept_free(ts, k);
}

/* One that came to nothing is not worth keeping. */
void
relay_tls_keep(struct session *s)
{
	struct relay_tls_shared *ts = s->relay->tls;
	struct session_tls *t = s->tls;
	struct relay_tls_kept *k;

	if (t->next == NULL && t->info.reused &&
	    SSL_version(t->ssl) < TLS1_3_VERSION)
		t->next = SSL_get1_session(t->ssl);
	if (!t->held || t->key == NULL || t->next == NULL ||
	    i2d_SSL_SESSION(t->next, NULL) > KEPT_SIZE)
		return;
	k = kept_find(ts, t->key);
	if (k != NULL)
		kept_free(ts, k);
	if (ts->n_kept == KEPT_MAX)
		kept_free(ts, TAILQ_LAST(&ts->kept, relay_tls_keeps));
	k = mem_alloc(sizeof *k);
	k->key = t->key;
	k->session = t->next;
	k->since = loop_now();
	t->key = NULL;
	t->next = NULL;
	TAILQ_INSERT_HEAD(&ts->kept, k, link);
	ts->n_kept++;
}
