/* link: proxy/relay_tls_settings.c rules/sts_policy.c rules/tls_policy.c */
/* Contexts of OpenSSL, one for each set of protocols and ciphers. */
#include "conf_help.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "proxy/relay_tls_context.h"

static struct relay_tls_shared ts;
static struct conf *cf;
static struct arena *arena;

static SSL_CTX *
setting(const char *entry)
{
	struct tls_policy p;
	struct buf why;
	bool ok;

	buf_init(&why, 1000);
	ok = tls_policy_entry(cf, view_of(entry), arena, &p, &why);
	buf_free(&why);
	assert_true(ok);
	return relay_tls_setting(&ts, &p);
}

static void
own_certificate(void)
{
	EVP_PKEY *key = EVP_EC_gen("prime256v1");
	X509 *cert = X509_new();

	assert_non_null(key);
	assert_non_null(cert);
	assert_int_equal(X509_set_pubkey(cert, key), 1);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_cert_and_key(ts.ctx, cert, key, NULL, 1),
	    1);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static int
setup(void **state)
{
	(void)state;
	buf_init(&said, 65536);
	cf = parse("");
	assert_non_null(cf);
	arena = arena_new(1 << 20);
	ts.cf = cf;
	TAILQ_INIT(&ts.settings);
	ts.options = SSL_OP_NO_TICKET;
	ts.ctx = relay_tls_blank(cf, ts.options);
	assert_non_null(ts.ctx);
	own_certificate();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	relay_tls_settings_free(&ts);
	assert_int_equal(ts.n_settings, 0);
	SSL_CTX_free(ts.ctx);
	arena_free(&arena);
	conf_free(&cf);
	buf_free(&said);
	return 0;
}

static void
one_of_each(void **state)
{
	SSL_CTX *a, *b;

	(void)state;
	a = setting("may protocols=>=TLSv1.3 ciphers=high exclude=AES128");
	assert_non_null(a);
	assert_int_equal(SSL_CTX_get_min_proto_version(a), TLS1_3_VERSION);
	assert_int_equal(SSL_CTX_get_security_level(a), 1);
	/* Level and names are no settings of the library. */
	b = setting("secure match=x.example protocols=>=TLSv1.3 ciphers=high "
	    "exclude=AES128");
	assert_ptr_equal(a, b);
	assert_int_equal(ts.n_settings, 1);
	b = setting("may protocols=TLSv1:TLSv1.2 ciphers=high exclude=AES128");
	assert_ptr_not_equal(a, b);
	assert_int_equal(SSL_CTX_get_security_level(b), 0);
	assert_true((SSL_CTX_get_options(b) & SSL_OP_NO_TLSv1_1) != 0);
	assert_true((SSL_CTX_get_options(b) & SSL_OP_NO_TLSv1) == 0);
	assert_ptr_not_equal(setting("may protocols=>=TLSv1.3 ciphers=medium "
	    "exclude=AES128"), a);
	assert_ptr_not_equal(setting("may protocols=>=TLSv1.3 ciphers=high "
	    "exclude=AES256"), a);
	assert_int_equal(ts.n_settings, 4);
}

static void
what_they_share(void **state)
{
	SSL_CTX *ctx = setting("encrypt exclude=CAMELLIA");

	(void)state;
	assert_non_null(ctx);
	assert_ptr_equal(SSL_CTX_get_cert_store(ctx),
	    SSL_CTX_get_cert_store(ts.ctx));
	assert_non_null(SSL_CTX_get0_certificate(ctx));
	assert_ptr_equal(SSL_CTX_get0_certificate(ctx),
	    SSL_CTX_get0_certificate(ts.ctx));
	assert_ptr_equal(SSL_CTX_get0_privatekey(ctx),
	    SSL_CTX_get0_privatekey(ts.ctx));
	assert_true((SSL_CTX_get_options(ctx) & SSL_OP_NO_TICKET) != 0);
	assert_int_equal(SSL_CTX_get_verify_depth(ctx),
	    cf->smtp_tls_scert_verifydepth);
}

/* Tables may name any number of sets; sessions keep what they use. */
static void
not_too_many(void **state)
{
	SSL *ssl = SSL_new(setting("may exclude=AES128"));
	char entry[100];
	unsigned i;

	(void)state;
	assert_non_null(ssl);
	for (i = 0; i < 100; i++) {
		(void)snprintf(entry, sizeof entry, "may exclude=%s%u",
		    "NO-SUCH-CIPHER-", i);
		assert_non_null(setting(entry));
		/* One in use is not the oldest. */
		assert_non_null(setting("may exclude=AES256"));
	}
	assert_int_equal(ts.n_settings, 32);
	assert_non_null(SSL_get_ciphers(ssl));
	SSL_free(ssl);
}

static void
nothing_is_left(void **state)
{
	(void)state;
	assert_null(setting("may protocols=TLSv1.2 exclude=ALL"));
	assert_null(setting("may protocols=TLSv1.2 exclude=ALL"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_of_each),
		cmocka_unit_test(what_they_share),
		cmocka_unit_test(not_too_many),
		cmocka_unit_test(nothing_is_left),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
