#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/resolvers.h"
#include "proxy/relay_tls_context.h"
#include "rules/requiretls.h"

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

static bool
open_context(struct opening *o)
{
	struct relay_tls_shared *ts = o->ts;
	const struct conf *cf = ts->cf;
	struct view bad;

	if (!tls_options_parse(view_of(cf->tls_ssl_options), &ts->options,
	    &bad))
		return open_report(o, "tls_ssl_options: unknown option %.*s",
		    VIEW_ARGS(view_head(bad, 100)));
	ts->ctx = relay_tls_blank(cf, ts->options);
	return ts->ctx != NULL || open_report(o, "TLS: the library has none "
	    "of the groups \"%.100s %.100s\"", cf->tls_eecdh_auto_curves,
	    cf->tls_ffdhe_auto_groups);
}

/* Fetched once, not for each fingerprint. */
static bool
open_digest(struct opening *o)
{
	const char *name = o->ts->cf->smtp_tls_fingerprint_digest;
	const EVP_MD *md = EVP_get_digestbyname(name);

	o->ts->digest = md == NULL ? NULL : EVP_MD_fetch(NULL,
	    EVP_MD_get0_name(md), NULL);
	ERR_clear_error();
	return o->ts->digest != NULL || open_report(o,
	    "smtp_tls_fingerprint_digest: unknown digest %.100s", name);
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

static bool
open_tells(struct opening *o)
{
	const struct conf *cf = o->ts->cf;
	const struct tls_tell_params params = {
		"smtp_tls_loglevel", cf->smtp_tls_loglevel,
		"smtp_tls_loglevel_maps", cf->smtp_tls_loglevel_maps,
	};

	return tls_tells_open(cf, &params, &o->ts->tells, o->report, o->arg);
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
	TAILQ_INIT(&ts->settings);
	ok = open_digest(&o) && open_tells(&o) && open_policies(&o) &&
	    ((ts->maps.n == 0 && ts->policy.level == TLS_LEVEL_NONE) ||
	    (open_context(&o) && open_authorities(&o) && open_certs(&o)));
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
	relay_tls_settings_free(ts);
	SSL_CTX_free(ts->ctx);
	EVP_MD_free(ts->digest);
	tls_certs_free(&ts->certs);
	table_list_free(&ts->maps);
	table_list_free(&ts->requiretls);
	tls_tells_free(&ts->tells);
	arena_free(&ts->arena);
	free(ts);
}
