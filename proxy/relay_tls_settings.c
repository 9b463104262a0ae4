/*
 * A context of OpenSSL for each set of protocols and ciphers: what these words
 * come to is worked out once, and a session costs SSL_new().  The sets that
 * parameters and files of policies name are few; tables behind a connection
 * could name any, so those used longest ago go.  A context lives on in its
 * sessions.
 */
#include <openssl/ssl.h>
#include <stdlib.h>

#include "lib/log.h"
#include "proxy/relay_tls_context.h"

#define CIPHERS_MAX	8000u
#define SETTINGS_MAX	32u

struct relay_tls_setting {
	char *protocols, *ciphers, *exclude;
	SSL_CTX *ctx;
	TAILQ_ENTRY(relay_tls_setting) link;
};

/* By a handshake that goes on whoever the server is: what is made of that is a
 * question for the policy. */
SSL_CTX *
relay_tls_blank(const struct conf *cf, uint64_t options)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	char *groups;

	if (ctx == NULL)
		fatal("TLS: %s", tls_library_error("no context"));
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION |
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF | options);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS |
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
	    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_clear_mode(ctx, SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_verify_depth(ctx, (int)cf->smtp_tls_scert_verifydepth);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT |
	    SSL_SESS_CACHE_NO_INTERNAL);
	if (SSL_CTX_dane_enable(ctx) != 1)
		fatal("TLS: %s", tls_library_error("no DANE"));
	groups = mem_printf("%s %s", cf->tls_eecdh_auto_curves,
	    cf->tls_ffdhe_auto_groups);
	if (!tls_groups_set(ctx, groups)) {
		SSL_CTX_free(ctx);
		ctx = NULL;
	}
	free(groups);
	return ctx;
}

/* Authorities and certificates are the same objects in all of them. */
static void
setting_share(SSL_CTX *from, SSL_CTX *to)
{
	STACK_OF(X509) *chain;
	long more;

	SSL_CTX_set1_cert_store(to, SSL_CTX_get_cert_store(from));
	for (more = SSL_CTX_set_current_cert(from, SSL_CERT_SET_FIRST);
	    more == 1;
	    more = SSL_CTX_set_current_cert(from, SSL_CERT_SET_NEXT)) {
		chain = NULL;
		(void)SSL_CTX_get0_chain_certs(from, &chain);
		if (SSL_CTX_use_cert_and_key(to,
		    SSL_CTX_get0_certificate(from),
		    SSL_CTX_get0_privatekey(from), chain, 1) != 1)
			fatal("TLS: %s", tls_library_error("a certificate "
			    "cannot be used"));
	}
}

static SSL_CTX *
setting_context(const struct relay_tls_shared *ts, const struct tls_policy *p)
{
	char *grade = mem_copy(p->ciphers), *exclude = mem_copy(p->exclude);
	struct tls_protocols v;
	SSL_CTX *ctx = NULL;
	struct view bad;
	struct buf b;

	buf_init(&b, CIPHERS_MAX);
	if (tls_ciphers_put(ts->cf, grade, exclude, &b, &bad) &&
	    tls_protocols_parse(p->protocols, &v, &bad))
		ctx = relay_tls_blank(ts->cf, ts->options | v.off);
	if (ctx != NULL) {
		/* Protocols before TLSv1.2 sign with SHA-1. */
		SSL_CTX_set_security_level(ctx, v.old ? 0 : 1);
		setting_share(ts->ctx, ctx);
		if (SSL_CTX_set_min_proto_version(ctx, v.min) != 1 ||
		    SSL_CTX_set_max_proto_version(ctx, v.max) != 1 ||
		    SSL_CTX_set_cipher_list(ctx, buf_cstr(&b)) != 1) {
			SSL_CTX_free(ctx);
			ctx = NULL;
		}
	}
	free(grade);
	free(exclude);
	buf_free(&b);
	return ctx;
}

static void
setting_free(struct relay_tls_shared *ts, struct relay_tls_setting *x)
{
	TAILQ_REMOVE(&ts->settings, x, link);
	ts->n_settings--;
	SSL_CTX_free(x->ctx);
	free(x->protocols);
	free(x->ciphers);
	free(x->exclude);
	free(x);
}

static bool
setting_is(const struct relay_tls_setting *x, const struct tls_policy *p)
{
	return view_is(p->protocols, x->protocols) &&
	    view_is(p->ciphers, x->ciphers) &&
	    view_is(p->exclude, x->exclude);
}

SSL_CTX *
relay_tls_setting(struct relay_tls_shared *ts, const struct tls_policy *p)
{
	struct relay_tls_setting *x;
	SSL_CTX *ctx;

	TAILQ_FOREACH(x, &ts->settings, link)
		if (setting_is(x, p))
			break;
	if (x != NULL) {
		TAILQ_REMOVE(&ts->settings, x, link);
		TAILQ_INSERT_HEAD(&ts->settings, x, link);
		return x->ctx;
	}
	ctx = setting_context(ts, p);
	if (ctx == NULL)
		return NULL;
	if (ts->n_settings == SETTINGS_MAX)
		setting_free(ts, TAILQ_LAST(&ts->settings,
		    relay_tls_settings));
	x = mem_alloc(sizeof *x);
	x->protocols = mem_copy(p->protocols);
	x->ciphers = mem_copy(p->ciphers);
	x->exclude = mem_copy(p->exclude);
	x->ctx = ctx;
	TAILQ_INSERT_HEAD(&ts->settings, x, link);
	ts->n_settings++;
	return ctx;
}

void
relay_tls_settings_free(struct relay_tls_shared *ts)
{
	struct relay_tls_setting *x, *next;

	for (x = TAILQ_FIRST(&ts->settings); x != NULL; x = next) {
		next = TAILQ_NEXT(x, link);
		setting_free(ts, x);
	}
}
