#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "proxy/smtpd_tls_context.h"
#include "rules/sni_maps.h"

#define CIPHERS_MAX	8000u
#define DAY		86400

struct tls_name {
	char *name;		/* "www.example.com" or ".example.com" */
	SSL_CTX *ctx;
};

struct loader {
	struct tls_server *ts;
	struct tls_protocols protocols;
	uint64_t options;
	struct buf ciphers;
	const char *service;
	conf_report *report;
	void *arg;
	bool ok;
};

/* Returns false. */
__attribute__((format(printf, 2, 3)))
static bool
loader_report(const struct loader *l, const char *fmt, ...)
{
	struct buf b;
	va_list ap;

	buf_init(&b, 4096);
	va_start(ap, fmt);
	(void)buf_vprintf(&b, fmt, ap);
	va_end(ap);
	l->report(true, buf_cstr(&b), l->arg);
	buf_free(&b);
	return false;
}

/* -- words ----------------------------------------------------------------- */

static bool
load_words(struct loader *l)
{
	const struct conf *cf = l->ts->cf;
	bool must = l->ts->mandatory;
	const char *grade = must ? cf->smtpd_tls_mandatory_ciphers :
	    cf->smtpd_tls_ciphers;
	struct view bad;
	char *exclude;
	bool ok;

	if (!tls_protocols_parse(view_of(must ?
	    cf->smtpd_tls_mandatory_protocols : cf->smtpd_tls_protocols),
	    &l->protocols, &bad))
		return loader_report(l, "smtpd_tls_%sprotocols: %s%.*s",
		    must ? "mandatory_" : "", bad.n > 0 ?
		    "unknown protocol " : "no protocol is left",
		    VIEW_ARGS(view_head(bad, 100)));
	if (!tls_options_parse(view_of(cf->tls_ssl_options), &l->options,
	    &bad))
		return loader_report(l, "tls_ssl_options: unknown option "
		    "%.*s", VIEW_ARGS(view_head(bad, 100)));
	exclude = mem_printf("%s %s", cf->smtpd_tls_exclude_ciphers,
	    must ? cf->smtpd_tls_mandatory_exclude_ciphers : "");
	ok = tls_ciphers_put(cf, grade, exclude, &l->ciphers, &bad);
	free(exclude);
	if (!ok)
		return loader_report(l, "smtpd_tls_exclude_ciphers: %.*s is "
		    "no name of a cipher", VIEW_ARGS(view_head(bad, 100)));
	l->ts->digest = EVP_get_digestbyname(
	    cf->smtpd_tls_fingerprint_digest);
	if (l->ts->digest == NULL)
		return loader_report(l, "smtpd_tls_fingerprint_digest: "
		    "unknown digest %s", cf->smtpd_tls_fingerprint_digest);
	return true;
}

static const char *
load_groups(const struct conf *cf, char **ret_free)
{
	*ret_free = NULL;
	if (view_is_nocase(view_of(cf->smtpd_tls_eecdh_grade), "strong"))
		return "prime256v1";
	if (view_is_nocase(view_of(cf->smtpd_tls_eecdh_grade), "ultra"))
		return "secp384r1";
	return *ret_free = mem_printf("%s %s", cf->tls_eecdh_auto_curves,
	    cf->tls_ffdhe_auto_groups);
}

/* -- call-backs ------------------------------------------------------------ */

/* Whoever it is may speak to us; what is made of the certificate is a
 * question for the policy. */
static int
on_verify(int ok, X509_STORE_CTX *store)
{
	(void)ok;
	(void)store;
	return 1;
}

static int
on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv,
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
	struct tls_server *ts = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	const struct tls_ticket_key *k;
	OSSL_PARAM mac_with[3];
	char sha256[] = "SHA256";
	uint8_t key[32];
	int ok;

	if (!ts->tickets.ready)
		return seal ? -1 : 0;
	tls_tickets_turn(&ts->tickets, loop_now());
	k = seal ? &ts->tickets.now : tls_tickets_find(&ts->tickets, name);
	if (k == NULL)
		return 0;
	if (seal) {
		memcpy(name, k->name, sizeof k->name);
		if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(
		    EVP_aes_256_cbc())) != 1)
			return -1;
	}
	memcpy(key, k->mac, sizeof key);
	mac_with[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY,
	    key, sizeof key);
	mac_with[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
	    sha256, 0);
	mac_with[2] = OSSL_PARAM_construct_end();
	ok = EVP_MAC_CTX_set_params(mac, mac_with) == 1 &&
	    EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->cipher, iv,
	    seal) == 1;
	OPENSSL_cleanse(key, sizeof key);
	/* 2: an old key, so the client gets a new ticket. */
	return !ok ? -1 : k == &ts->tickets.now ? 1 : 2;
}

static int
name_compare(const void *a, const void *b)
{
	return strcmp(((const struct tls_name *)a)->name,
	    ((const struct tls_name *)b)->name);
}

static SSL_CTX *
name_find(const struct tls_server *ts, char *name)
{
	const struct tls_name key = { .name = name };
	const struct tls_name *found = bsearch(&key, ts->names, ts->n_names,
	    sizeof *ts->names, name_compare);

	return found != NULL ? found->ctx : NULL;
}

static int
on_name(SSL *ssl, int *alert, void *arg)
{
	const struct tls_server *ts = arg;
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	SSL_CTX *ctx = NULL;
	char *name, *p;
	size_t i;

	(void)alert;
	if (asked == NULL || ts->n_names == 0)
		return SSL_TLSEXT_ERR_OK;
	name = mem_strdup(asked);
	for (i = 0; name[i] != '\0'; i++)
		name[i] = (char)tolower((unsigned char)name[i]);
	if (i > 1 && name[i - 1] == '.')
		name[i - 1] = '\0';
	for (p = name; p != NULL && ctx == NULL; p = strchr(p + 1, '.'))
		ctx = name_find(ts, p);
	if (ctx != NULL)
		(void)SSL_set_SSL_CTX(ssl, ctx);
	free(name);
	return SSL_TLSEXT_ERR_OK;
}

/* -- contexts -------------------------------------------------------------- */

static bool
context_verify(struct loader *l, SSL_CTX *ctx)
{
	struct tls_server *ts = l->ts;
	const struct conf *cf = ts->cf;
	X509_STORE *store;

	if (!cf->smtpd_tls_ask_ccert && !cf->smtpd_tls_req_ccert)
		return true;
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE,
	    on_verify);
	SSL_CTX_set_verify_depth(ctx, (int)cf->smtpd_tls_ccert_verifydepth);
	if (ts->ctx == NULL)
		return tls_authorities(ctx, cf->smtpd_tls_CAfile,
		    cf->smtpd_tls_CApath, l->report, l->arg);
	store = SSL_CTX_get_cert_store(ts->ctx);
	X509_STORE_up_ref(store);
	SSL_CTX_set_cert_store(ctx, store);
	SSL_CTX_set_client_CA_list(ctx, SSL_dup_CA_list(
	    SSL_CTX_get_client_CA_list(ts->ctx)));
	return true;
}

static void
context_sessions(const struct loader *l, SSL_CTX *ctx)
{
	size_t n = strlen(l->service);

	/* A ticket of another service is worth nothing here. */
	(void)SSL_CTX_set_session_id_context(ctx,
	    (const unsigned char *)l->service, (unsigned)(n < 32 ? n : 32));
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_timeout(ctx,
	    (long)(l->ts->cf->smtpd_tls_session_cache_timeout / 1000));
	(void)SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
	/* Until there are keys: tls_server_seed(). */
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	(void)SSL_CTX_set_num_tickets(ctx, 0);
}

/* All but the certificates. */
static SSL_CTX *
context_new(struct loader *l)
{
	const struct conf *cf = l->ts->cf;
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	const char *groups;
	char *made;
	bool ok;

	if (ctx == NULL)
		fatal("TLS: %s", tls_library_error("no context"));
	SSL_CTX_set_app_data(ctx, l->ts);
	/* Protocols before TLSv1.2 sign with SHA-1. */
	SSL_CTX_set_security_level(ctx, l->protocols.old ? 0 : 1);
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION |
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF |
	    l->options | l->protocols.off);
	/* Passwords. */
	if (cf->smtpd_sasl_auth_enable)
		SSL_CTX_set_options(ctx, SSL_OP_CLEANSE_PLAINTEXT);
	if (cf->tls_preempt_cipherlist)
		SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS |
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
	    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_max_cert_list(ctx, TLS_CLIENT_CERTS_MAX);
	SSL_CTX_set_dh_auto(ctx, 1);
	context_sessions(l, ctx);
	groups = load_groups(cf, &made);
	ok = SSL_CTX_set_min_proto_version(ctx, l->protocols.min) == 1 &&
	    SSL_CTX_set_max_proto_version(ctx, l->protocols.max) == 1;
	if (!ok || SSL_CTX_set_cipher_list(ctx, buf_cstr(&l->ciphers)) != 1)
		ok = loader_report(l, "TLS: %s: %s", ok ? "ciphers" :
		    "protocols", tls_library_error("not possible"));
	else if (!tls_groups_set(ctx, groups))
		ok = loader_report(l, "TLS: the library has none of the "
		    "groups \"%.200s\"", groups);
	free(made);
	if (!ok || !context_verify(l, ctx)) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

static char *
load_path(const struct conf *cf, struct view name)
{
	return name.p[0] == '/' ? mem_copy(name) :
	    mem_printf("%s/%.*s", cf->config_directory, VIEW_ARGS(name));
}

static bool
load_chains(struct loader *l, SSL_CTX *ctx, struct view files)
{
	struct view word;
	char *path;
	bool ok = true;

	while (ok && (word = conf_word(&files)).n > 0) {
		path = load_path(l->ts->cf, word);
		ok = tls_chain_file(ctx, path, &l->ts->certs, l->report,
		    l->arg);
		free(path);
	}
	return ok;
}

static bool
load_none(const char *file)
{
	return file[0] == '\0' || view_is_nocase(view_of(file), "none");
}

/* The files of single parameters. */
static bool
load_pairs(struct loader *l)
{
	const struct conf *cf = l->ts->cf;
	const struct {
		const char *cert, *key;
	} pairs[] = {
		{ cf->smtpd_tls_cert_file, cf->smtpd_tls_key_file },
		{ cf->smtpd_tls_eccert_file, cf->smtpd_tls_eckey_file },
		{ cf->smtpd_tls_dcert_file, cf->smtpd_tls_dkey_file },
	};
	char *cert, *key;
	bool ok = true;
	size_t i;

	for (i = 0; ok && i < sizeof pairs / sizeof pairs[0]; i++) {
		if (load_none(pairs[i].cert))
			continue;
		cert = load_path(cf, view_of(pairs[i].cert));
		key = load_path(cf, view_of(pairs[i].key));
		ok = tls_chain_pair(l->ts->ctx, cert, key, &l->ts->certs,
		    l->report, l->arg);
		free(cert);
		free(key);
	}
	return ok;
}

static void
load_name(struct view name, struct view files, void *arg)
{
	struct loader *l = arg;
	struct tls_server *ts = l->ts;
	size_t before = ts->certs.n;
	SSL_CTX *ctx;

	if (!l->ok)
		return;
	if (ts->n_names == SNI_NAMES_MAX) {
		l->ok = loader_report(l, "tls_server_sni_maps: more than %u "
		    "names", SNI_NAMES_MAX);
		return;
	}
	ctx = context_new(l);
	if (ctx == NULL || !load_chains(l, ctx, files)) {
		l->ok = false;
		SSL_CTX_free(ctx);
		return;
	}
	if (ts->certs.n == before) {
		l->ok = loader_report(l, "tls_server_sni_maps: %.*s: no "
		    "file", VIEW_ARGS(view_head(name, 200)));
		SSL_CTX_free(ctx);
		return;
	}
	ts->names = mem_resize(ts->names, ts->n_names + 1,
	    sizeof *ts->names);
	ts->names[ts->n_names++] = (struct tls_name){ mem_copy(name), ctx };
}

static bool
load_names(struct loader *l)
{
	struct tls_server *ts = l->ts;

	if (ts->cf->tls_server_sni_maps[0] == '\0')
		return true;
	if (!sni_maps_each(ts->cf, load_name, l, l->report, l->arg) ||
	    !l->ok)
		return false;
	if (ts->n_names > 0)
		qsort(ts->names, ts->n_names, sizeof *ts->names,
		    name_compare);
	(void)SSL_CTX_set_tlsext_servername_callback(ts->ctx, on_name);
	(void)SSL_CTX_set_tlsext_servername_arg(ts->ctx, ts);
	return true;
}

static bool
load_all(struct loader *l)
{
	struct tls_server *ts = l->ts;
	const struct conf *cf = ts->cf;

	if (!load_words(l) || (ts->ctx = context_new(l)) == NULL)
		return false;
	if (cf->smtpd_tls_chain_files[0] != '\0' ?
	    !load_chains(l, ts->ctx, view_of(cf->smtpd_tls_chain_files)) :
	    !load_pairs(l))
		return false;
	if (ts->certs.n > 0)
		return load_names(l);
	if (ts->mandatory)
		return loader_report(l, "TLS is mandatory for service %s, "
		    "but there is no certificate (smtpd_tls_chain_files or "
		    "smtpd_tls_cert_file)", l->service);
	l->report(false, "smtpd_tls_security_level = may, but there is no "
	    "certificate (smtpd_tls_chain_files or smtpd_tls_cert_file): TLS "
	    "is not offered", l->arg);
	return true;
}

static bool
load_tells(struct loader *l)
{
	const struct conf *cf = l->ts->cf;
	const struct tls_tell_params params = {
		"smtpd_tls_loglevel", cf->smtpd_tls_loglevel,
		"smtpd_tls_loglevel_maps", cf->smtpd_tls_loglevel_maps,
	};

	return tls_tells_open(cf, &params, &l->ts->tells, l->report, l->arg);
}

/* What tells a client who the server is says nothing to a server, but that TLS
 * is meant to be mandatory. */
static bool
load_level(const struct loader *l, const struct conf *cf, enum tls_level *ret)
{
	char *text;

	if (!tls_server_level(cf, ret))
		return loader_report(l, "smtpd_tls_security_level: must be "
		    "none, may or encrypt");
	if (*ret <= TLS_LEVEL_ENCRYPT)
		return true;
	text = mem_printf("smtpd_tls_security_level = %s is a level of "
	    "clients: encrypt is used", tls_level_name(*ret));
	l->report(false, text, l->arg);
	free(text);
	*ret = TLS_LEVEL_ENCRYPT;
	return true;
}

bool
tls_server_open(const struct conf *cf, const char *service,
    struct tls_server **ret, conf_report *report, void *arg)
{
	struct loader l = { .service = service, .report = report, .arg = arg,
		.ok = true };
	enum tls_level level;
	struct tls_server *ts;
	bool ok;

	*ret = NULL;
	if (!load_level(&l, cf, &level))
		return false;
	if (level == TLS_LEVEL_NONE && !cf->smtpd_tls_wrappermode)
		return true;
	l.ts = ts = mem_alloc(sizeof *ts);
	ts->cf = cf;
	ts->end = &ts->first;
	ts->wrapper = cf->smtpd_tls_wrappermode;
	ts->mandatory = ts->wrapper || level == TLS_LEVEL_ENCRYPT;
	ts->need_cert = cf->smtpd_tls_req_ccert && ts->mandatory;
	if (cf->smtpd_tls_req_ccert && !ts->mandatory)
		report(false, "smtpd_tls_req_ccert without TLS being "
		    "mandatory: certificates are asked for, no more", arg);
	buf_init(&l.ciphers, CIPHERS_MAX);
	ok = load_tells(&l) && load_all(&l);
	buf_free(&l.ciphers);
	if (!ok || ts->certs.n == 0)
		tls_server_free(&ts);
	else
		(void)tls_server_expiry(ts, report, arg);
	*ret = ts;
	return ok;
}

void
tls_server_free(struct tls_server **tsp)
{
	struct tls_server *ts = *tsp;
	size_t i;

	if (ts == NULL)
		return;
	*tsp = NULL;
	for (i = 0; i < ts->n_names; i++) {
		SSL_CTX_free(ts->names[i].ctx);
		free(ts->names[i].name);
	}
	free(ts->names);
	SSL_CTX_free(ts->ctx);
	tls_certs_free(&ts->certs);
	tls_tickets_end(&ts->tickets);
	tls_tells_free(&ts->tells);
	free(ts);
}

static void
context_tickets(SSL_CTX *ctx)
{
	SSL_CTX_clear_options(ctx, SSL_OP_NO_TICKET);
	(void)SSL_CTX_set_num_tickets(ctx, 1);
}

void
tls_server_seed(struct tls_server *ts, const uint8_t seed[TLS_SEED_SIZE],
    struct mono from)
{
	const struct conf *cf = ts->cf;
	struct view bad;
	uint64_t options = 0;
	size_t i;

	if (cf->smtpd_tls_session_cache_timeout == 0 ||
	    !tls_options_parse(view_of(cf->tls_ssl_options), &options,
	    &bad) || (options & SSL_OP_NO_TICKET) != 0)
		return;
	tls_tickets_start(&ts->tickets, seed, from,
	    cf->smtpd_tls_session_cache_timeout, loop_now());
	context_tickets(ts->ctx);
	for (i = 0; i < ts->n_names; i++)
		context_tickets(ts->names[i].ctx);
}

int64_t
tls_server_expiry(const struct tls_server *ts, conf_report *report, void *arg)
{
	const struct tls_cert *first = tls_certs_first(&ts->certs), *c;
	int64_t now = clock_wall().us / 1000000, left;
	int64_t warn = ts->cf->smtpd_tls_expiry_warn_time / 1000;
	char *text;
	size_t i;

	for (i = 0; i < ts->certs.n && warn > 0 && report != NULL; i++) {
		c = &ts->certs.list[i];
		left = c->ends - now;
		if (left > warn)
			continue;
		if (left < 0)
			text = mem_printf("%s: the certificate expired %lld "
			    "days ago", c->file, (long long)(-left / DAY));
		else
			text = mem_printf("%s: the certificate expires in "
			    "%lld days", c->file, (long long)(left / DAY));
		report(false, text, arg);
		free(text);
	}
	left = first->ends - now;
	return left >= 0 ? left / DAY : -(-left / DAY) - 1;
}
