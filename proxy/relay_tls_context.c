#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/resolvers.h"
#include "proxy/relay_tls_context.h"
#include "rules/requiretls.h"

#define CIPHERS_MAX	8000u
#define POLICY_MAX	65536u

struct opening {
	struct relay_tls_shared *ts;
	const struct table *table;
	conf_report *report;
	void *arg;
	bool dane;		/* some entry is */
	bool ok;
};

/* Returns false. */
__attribute__((format(printf, 2, 3)))
static bool
open_report(const struct opening *o, const char *fmt, ...)
{
	struct buf b;
	va_list ap;

	buf_init(&b, 4096);
	va_start(ap, fmt);
	(void)buf_vprintf(&b, fmt, ap);
	va_end(ap);
	o->report(true, buf_cstr(&b), o->arg);
	buf_free(&b);
	return false;
}

/* -- our certificates ------------------------------------------------------ */

static char *
open_path(const struct conf *cf, struct view name)
{
	return name.p[0] == '/' ? mem_copy(name) :
	    mem_printf("%s/%.*s", cf->config_directory, VIEW_ARGS(name));
}

static bool
open_pair(struct opening *o, const char *cert, const char *key)
{
	struct relay_tls_shared *ts = o->ts;
	char *cert_file, *key_file;
	bool ok;

	if (cert[0] == '\0' || view_is_nocase(view_of(cert), "none"))
		return true;
	cert_file = open_path(ts->cf, view_of(cert));
	key_file = open_path(ts->cf, view_of(key));
	ok = tls_chain_pair(ts->ctx, cert_file, key_file, &ts->certs,
	    o->report, o->arg);
	free(cert_file);
	free(key_file);
	return ok;
}

static bool
open_certs(struct opening *o)
{
	struct relay_tls_shared *ts = o->ts;
	const struct conf *cf = ts->cf;
	struct view rest = view_of(cf->smtp_tls_chain_files), word;
	char *path;
	bool ok = true;

	if (view_trim(rest).n == 0)
		return open_pair(o, cf->smtp_tls_cert_file,
		    cf->smtp_tls_key_file) && open_pair(o,
		    cf->smtp_tls_eccert_file, cf->smtp_tls_eckey_file);
	while (ok && (word = conf_word(&rest)).n > 0) {
		path = open_path(cf, word);
		ok = tls_chain_file(ts->ctx, path, &ts->certs, o->report,
		    o->arg);
		free(path);
	}
	return ok;
}

static bool
open_authorities(struct opening *o)
{
	const struct conf *cf = o->ts->cf;
	char *file = NULL, *directory = NULL;
	bool ok;

	if (cf->smtp_tls_CAfile[0] != '\0')
		file = open_path(cf, view_of(cf->smtp_tls_CAfile));
	/* Who follows policies of domains needs what these rely on. */
	else if (cf->smtp_tls_sts && cf->smtp_tls_CApath[0] == '\0')
		file = open_path(cf, view_of(cf->smtp_tls_sts_CAfile));
	if (cf->smtp_tls_CApath[0] != '\0')
		directory = open_path(cf, view_of(cf->smtp_tls_CApath));
	ok = tls_authorities(o->ts->ctx, file != NULL ? file : "",
	    directory != NULL ? directory : "", o->report, o->arg);
	free(file);
	free(directory);
	return ok;
}

/* -- the context ----------------------------------------------------------- */

/* By a handshake that goes on whoever the server is: what is made of that is a
 * question for the policy. */
static bool
open_context(struct opening *o)
{
	struct relay_tls_shared *ts = o->ts;
	const struct conf *cf = ts->cf;
	uint64_t options;
	struct view bad;
	char *groups;
	bool ok;

	if (!tls_options_parse(view_of(cf->tls_ssl_options), &options, &bad))
		return open_report(o, "tls_ssl_options: unknown option %.*s",
		    VIEW_ARGS(view_head(bad, 100)));
	ts->ctx = SSL_CTX_new(TLS_client_method());
	if (ts->ctx == NULL)
		fatal("TLS: %s", tls_library_error("no context"));
	SSL_CTX_set_options(ts->ctx, SSL_OP_NO_COMPRESSION |
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF | options);
	SSL_CTX_set_mode(ts->ctx, SSL_MODE_RELEASE_BUFFERS |
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
	    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_clear_mode(ts->ctx, SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_read_ahead(ts->ctx, 1);
	SSL_CTX_set_verify(ts->ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_verify_depth(ts->ctx,
	    (int)cf->smtp_tls_scert_verifydepth);
	SSL_CTX_set_session_cache_mode(ts->ctx, SSL_SESS_CACHE_CLIENT |
	    SSL_SESS_CACHE_NO_INTERNAL);
	if (SSL_CTX_dane_enable(ts->ctx) != 1)
		fatal("TLS: %s", tls_library_error("no DANE"));
	groups = mem_printf("%s %s", cf->tls_eecdh_auto_curves,
	    cf->tls_ffdhe_auto_groups);
	ok = tls_groups_set(ts->ctx, groups) || open_report(o, "TLS: the "
	    "library has none of the groups \"%.200s\"", groups);
	free(groups);
	return ok;
}

bool
relay_tls_prepare(const struct relay_tls_shared *ts, SSL *ssl,
    const struct tls_policy *p)
{
	struct tls_protocols v;
	char *grade = mem_copy(p->ciphers), *exclude = mem_copy(p->exclude);
	struct view bad;
	struct buf b;
	bool ok;

	buf_init(&b, CIPHERS_MAX);
	ok = tls_ciphers_put(ts->cf, grade, exclude, &b, &bad) &&
	    tls_protocols_parse(p->protocols, &v, &bad);
	if (ok) {
		/* Protocols before TLSv1.2 sign with SHA-1. */
		SSL_set_security_level(ssl, v.old ? 0 : 1);
		(void)SSL_set_options(ssl, v.off);
		ok = SSL_set_min_proto_version(ssl, v.min) == 1 &&
		    SSL_set_max_proto_version(ssl, v.max) == 1 &&
		    SSL_set_cipher_list(ssl, buf_cstr(&b)) == 1;
	}
	free(grade);
	free(exclude);
	buf_free(&b);
	return ok;
}

/* -- policies -------------------------------------------------------------- */

static bool
level_is_dane(const struct tls_policy *p)
{
	return p->level == TLS_LEVEL_DANE || p->level == TLS_LEVEL_DANE_ONLY;
}

static void
open_entry(struct view result, unsigned line, void *arg)
{
	struct opening *o = arg;
	struct arena *a = arena_new(POLICY_MAX);
	struct tls_policy p;
	struct buf why;

	buf_init(&why, 2000);
	if (result.n > POLICY_MAX / 2 ||
	    !tls_policy_entry(o->ts->cf, result, a, &p, &why)) {
		/* The others are good: its next hops wait. */
		struct buf b;

		buf_init(&b, 4096);
		(void)buf_printf(&b, "%s:%u: %s", table_origin(o->table), line,
		    buf_cstr(&why));
		o->report(false, buf_cstr(&b), o->arg);
		buf_free(&b);
	} else if (level_is_dane(&p)) {
		o->dane = true;
	}
	buf_free(&why);
	arena_free(&a);
}

/* Whether DANE is more than a word. */
static void
open_dnssec(struct opening *o, const char *where)
{
	char why[DNSSEC_WHY_MAX], text[DNSSEC_WHY_MAX + 400];
	struct resolvers r;

	resolvers_find(o->ts->cf, &r);
	if (dnssec_trust(o->ts->cf, &r, why) != DNSSEC_NONE)
		return;
	(void)snprintf(text, sizeof text, "%s is dane, but nothing is proven "
	    "by DNSSEC: %s", where, why);
	o->report(false, text, o->arg);
}

static bool
open_policies(struct opening *o)
{
	struct relay_tls_shared *ts = o->ts;
	struct buf why;
	size_t i;
	bool ok;

	buf_init(&why, 2000);
	ok = (tls_policy_conf(ts->cf, ts->arena, &ts->policy, &why) &&
	    tls_policy_relaxed(ts->cf, ts->arena, &ts->relaxed, &why)) ||
	    open_report(o, "smtp_tls: %s", buf_cstr(&why));
	buf_free(&why);
	if (ok && level_is_dane(&ts->policy))
		open_dnssec(o, "smtp_tls_security_level");
	if (!ok || !requiretls_open(ts->cf->smtp_requiretls_policy,
	    ts->cf->config_directory, &ts->requiretls, o->report, o->arg) ||
	    !table_list_open(ts->cf->smtp_tls_policy_maps,
	    ts->cf->config_directory, &ts->maps, o->report, o->arg))
		return false;
	for (i = 0; i < ts->maps.n; i++) {
		o->table = ts->maps.list[i];
		table_each_result(o->table, open_entry, o);
	}
	if (o->dane && !level_is_dane(&ts->policy))
		open_dnssec(o, "smtp_tls_policy_maps");
	return true;
}

bool
relay_tls_open(const struct conf *cf, struct relay_tls_shared **ret,
    conf_report *report, void *arg)
{
	struct opening o = { .report = report, .arg = arg, .ok = true };
	struct relay_tls_shared *ts;
	bool ok;

	*ret = NULL;
	ts = o.ts = mem_alloc(sizeof *ts);
	ts->cf = cf;
	ts->arena = arena_new(POLICY_MAX);
	TAILQ_INIT(&ts->kept);
	ts->digest = EVP_get_digestbyname(cf->smtp_tls_fingerprint_digest);
	if (ts->digest == NULL)
		ok = open_report(&o, "smtp_tls_fingerprint_digest: unknown "
		    "digest %.100s", cf->smtp_tls_fingerprint_digest);
	else
		ok = open_policies(&o) && ((ts->maps.n == 0 &&
		    ts->policy.level == TLS_LEVEL_NONE) ||
		    (open_context(&o) && open_authorities(&o) &&
		    open_certs(&o)));
	if (!ok)
		relay_tls_close(&ts);
	*ret = ts;
	return ok;
}

void
relay_tls_close(struct relay_tls_shared **tsp)
{
	struct relay_tls_shared *ts = *tsp;

	if (ts == NULL)
		return;
	*tsp = NULL;
	SSL_CTX_free(ts->ctx);
	tls_certs_free(&ts->certs);
	table_list_free(&ts->maps);
	table_list_free(&ts->requiretls);
	arena_free(&ts->arena);
	free(ts);
}
