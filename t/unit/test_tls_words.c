/* The words of TLS parameters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/ssl.h>

#include "lib/mem.h"
#include "lib/tls_words.h"

/* "min max" and which of the protocols are off, as letters 3 0 1 2 T. */
static const char *
protocols(const char *words)
{
	static char text[200];
	struct tls_protocols p;
	struct view bad;

	if (!tls_protocols_parse(view_of(words), &p, &bad)) {
		(void)snprintf(text, sizeof text, "bad \"%.*s\"",
		    VIEW_ARGS(bad));
		return text;
	}
	(void)snprintf(text, sizeof text, "%x %x %s%s%s%s%s%s", p.min, p.max,
	    (p.off & SSL_OP_NO_SSLv3) != 0 ? "3" : "",
	    (p.off & SSL_OP_NO_TLSv1) != 0 ? "0" : "",
	    (p.off & SSL_OP_NO_TLSv1_1) != 0 ? "1" : "",
	    (p.off & SSL_OP_NO_TLSv1_2) != 0 ? "2" : "",
	    (p.off & SSL_OP_NO_TLSv1_3) != 0 ? "T" : "",
	    p.old ? " old" : "");
	return text;
}

static void
protocol_words(void **state)
{
	(void)state;
	assert_string_equal(protocols(">=TLSv1.2"), "303 0 ");
	assert_string_equal(protocols(">=TLSv1.2, <=TLSv1.3"), "303 304 ");
	assert_string_equal(protocols(">=tlsv1"), "301 0  old");
	assert_string_equal(protocols("!SSLv2, !SSLv3, !TLSv1, !TLSv1.1"),
	    "0 0 301");
	assert_string_equal(protocols("!SSLv2:!SSLv3"), "0 0 3 old");
	assert_string_equal(protocols("TLSv1.2 TLSv1.3"), "0 0 301");
	assert_string_equal(protocols("TLSv1.3, !TLSv1.2"), "0 0 3012");
	assert_string_equal(protocols(">=0x0303"), "303 0 ");
	assert_string_equal(protocols(""), "0 0  old");
	assert_string_equal(protocols(">=SSLv2"), "0 0  old");
}

static void
protocol_mistakes(void **state)
{
	(void)state;
	assert_string_equal(protocols("TLSv1.4"), "bad \"TLSv1.4\"");
	assert_string_equal(protocols("TLSv1.2, >TLSv1.2"),
	    "bad \">TLSv1.2\"");
	assert_string_equal(protocols(">= TLSv1.2"), "bad \">=\"");
	assert_string_equal(protocols("!"), "bad \"!\"");
	assert_string_equal(protocols("0x03zz"), "bad \"0x03zz\"");
	assert_string_equal(protocols("0x030303"), "bad \"0x030303\"");
	assert_string_equal(protocols("0x"), "bad \"0x\"");
	/* Nothing is left. */
	assert_string_equal(protocols(">=TLSv1.3 <=TLSv1.2"), "bad \"\"");
	assert_string_equal(protocols("SSLv2"), "bad \"\"");
	assert_string_equal(protocols("TLSv1.2, !TLSv1.2"), "bad \"\"");
	assert_string_equal(protocols(">=TLSv1.3, !TLSv1.3"), "bad \"\"");
}

static void
levels(void **state)
{
	enum tls_level l = TLS_LEVEL_MAY;

	(void)state;
	assert_true(tls_client_level_parse(view_of(" "), &l));
	assert_int_equal(l, TLS_LEVEL_NONE);
	assert_true(tls_client_level_parse(view_of("May"), &l));
	assert_int_equal(l, TLS_LEVEL_MAY);
	assert_true(tls_client_level_parse(view_of("dane"), &l));
	assert_int_equal(l, TLS_LEVEL_DANE);
	assert_false(tls_client_level_parse(view_of("may encrypt"), &l));
	assert_int_equal(l, TLS_LEVEL_DANE);
}

/* -1: no such level. */
static int
server_level(const char *level, bool enforce, bool use)
{
	struct conf cf = { .smtpd_tls_security_level = level,
		.smtpd_enforce_tls = enforce, .smtpd_use_tls = use };
	enum tls_level l;

	return tls_server_level(&cf, &l) ? (int)l : -1;
}

static void
levels_of_a_server(void **state)
{
	(void)state;
	assert_int_equal(server_level("", false, false), TLS_LEVEL_NONE);
	assert_int_equal(server_level(" ", false, true), TLS_LEVEL_MAY);
	assert_int_equal(server_level("", true, false), TLS_LEVEL_ENCRYPT);
	assert_int_equal(server_level("none", true, true), TLS_LEVEL_NONE);
	assert_int_equal(server_level("May", true, true), TLS_LEVEL_MAY);
	assert_int_equal(server_level("encrypt", false, false),
	    TLS_LEVEL_ENCRYPT);
	assert_int_equal(server_level("fingerprint", false, false),
	    TLS_LEVEL_FINGERPRINT);
	assert_int_equal(server_level("verify", false, false),
	    TLS_LEVEL_VERIFY);
	assert_int_equal(server_level("secure", false, false),
	    TLS_LEVEL_SECURE);
	/* A server of Postfix does not start with these. */
	assert_int_equal(server_level("dane", true, true), -1);
	assert_int_equal(server_level("dane-only", true, true), -1);
	assert_int_equal(server_level("may encrypt", true, true), -1);
}

static void
options(void **state)
{
	struct view bad;
	uint64_t bits = 1;

	(void)state;
	assert_true(tls_options_parse(view_of("no_ticket, NO_RENEGOTIATION"),
	    &bits, &bad));
	assert_true(bits == (SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION));
	assert_false(tls_options_parse(view_of("NO_TICKET ALL"), &bits,
	    &bad));
	assert_true(view_is(bad, "ALL"));
}

static void
nobody(bool error, const char *text, void *arg)
{
	(void)error;
	(void)text;
	(void)arg;
}

/* The library's names for what the words are, or why not. */
static const char *
ciphers(const char *settings, const char *grade, const char *exclude)
{
	static char text[8000];
	struct conf *cf = conf_parse(view_of(settings), "main.cf", nobody,
	    NULL);
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	STACK_OF(SSL_CIPHER) *all;
	struct view bad;
	struct buf b, names;
	int i;

	assert_non_null(cf);
	buf_init(&b, 4000);
	buf_init(&names, sizeof text - 1);
	if (!tls_ciphers_put(cf, grade, exclude, &b, &bad))
		(void)snprintf(text, sizeof text, "bad %.*s",
		    VIEW_ARGS(bad));
	else if (SSL_CTX_set_cipher_list(ctx, buf_cstr(&b)) != 1)
		(void)snprintf(text, sizeof text, "none");
	else {
		all = SSL_CTX_get_ciphers(ctx);
		for (i = 0; i < sk_SSL_CIPHER_num(all); i++)
			assert_true(buf_printf(&names, "%s ",
			    SSL_CIPHER_get_name(sk_SSL_CIPHER_value(all, i))));
		(void)snprintf(text, sizeof text, "%s", buf_cstr(&names));
	}
	buf_free(&b);
	buf_free(&names);
	SSL_CTX_free(ctx);
	conf_free(&cf);
	return text;
}

static void
cipher_lists(void **state)
{
	const char *got;

	(void)state;
	got = ciphers("", "medium", "");
	assert_non_null(strstr(got, "ECDHE-RSA-AES256-GCM-SHA384 "));
	assert_non_null(strstr(got, "ECDHE-ECDSA-AES128-GCM-SHA256 "));
	assert_null(strstr(got, "ADH-"));
	assert_null(strstr(got, "AECDH"));
	assert_null(strstr(got, "NULL"));
	assert_null(strstr(got, "PSK"));
	assert_null(strstr(got, "DES-CBC3"));
	assert_null(strstr(got, "RC4"));
	assert_null(strstr(got, "SEED"));
	/* What main.cf says does not bring them back. */
	got = ciphers("tls_medium_cipherlist = ALL:COMPLEMENTOFALL:aNULL\n",
	    "low", "");
	assert_null(strstr(got, "ADH-"));
	assert_null(strstr(got, "NULL"));
	got = ciphers("", "medium", "ECDHE, aRSA");
	assert_null(strstr(got, "ECDHE-RSA"));
	got = ciphers("tls_high_cipherlist = ECDHE-RSA-AES256-GCM-SHA384\n",
	    "HIGH", "");
	assert_non_null(strstr(got, "ECDHE-RSA-AES256-GCM-SHA384 "));
	assert_null(strstr(got, "AES128-GCM-SHA256 ECDHE"));
	assert_string_equal(ciphers("", "high", "MD5 @SECLEVEL=0"),
	    "bad @SECLEVEL=0");
	assert_string_equal(ciphers("", "high", "!aNULL"), "bad !aNULL");
	assert_string_equal(ciphers("tls_high_cipherlist = nonsense\n",
	    "high", ""), "none");
}

#define ONE_SEGMENT	1220	/* bytes, with IPv6 on a tunnel */
#define NIDS_MAX	50

/* What a ClientHello with them offers, as "name name"; its size is *ret_n. */
static const char *
groups_of(const char *words, size_t *ret_n)
{
	char name[] = "a-rather-long-name-of-a-mail-server.mail."
	    "protection.example.com";
	static char text[300];
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	SSL *client = SSL_new(ctx), *server = SSL_new(ctx);
	BIO *wire = BIO_new(BIO_s_mem());
	int nid[NIDS_MAX], n, i;
	size_t k = 0;

	(void)snprintf(text, sizeof text, "none");
	if (!tls_groups_set(ctx, words))
		goto out;
	SSL_free(client);
	SSL_free(server);
	client = SSL_new(ctx);
	server = SSL_new(ctx);
	assert_true(BIO_up_ref(wire));
	SSL_set_bio(client, BIO_new(BIO_s_mem()), wire);
	assert_true(BIO_up_ref(wire));
	SSL_set_bio(server, wire, BIO_new(BIO_s_mem()));
	assert_int_equal(SSL_set_tlsext_host_name(client, name), 1);
	assert_int_equal(SSL_connect(client), -1);
	*ret_n = BIO_ctrl_pending(wire);
	/* It has no certificate: it reads, no more. */
	(void)SSL_accept(server);
	n = (int)SSL_get1_groups(server, nid);
	assert_in_range(n, 1, NIDS_MAX);
	for (i = 0; i < n && k < sizeof text; i++)
		k += (size_t)snprintf(text + k, sizeof text - k, "%s%s",
		    i > 0 ? " " : "", (nid[i] & TLSEXT_nid_unknown) != 0 ?
		    "?" : OBJ_nid2sn(nid[i]));
out:
	SSL_free(client);
	SSL_free(server);
	BIO_free(wire);
	SSL_CTX_free(ctx);
	return text;
}

static void
groups(void **state)
{
	size_t n;

	(void)state;
	assert_string_equal(groups_of("X25519, prime256v1", &n),
	    "X25519 prime256v1");
	assert_string_equal(groups_of("not-there secp384r1:X25519", &n),
	    "secp384r1 X25519");
	assert_string_equal(groups_of("not-there", &n), "none");
	/* The syntax of OpenSSL 3.5, wherever we are. */
	assert_string_equal(groups_of("?NotThere / ?*X25519:?prime256v1 / "
	    "-ffdhe2048", &n), "X25519 prime256v1");
}

/* The library's own: more than most would name. */
static void
groups_default(void **state)
{
	char one[300];
	size_t n;

	(void)state;
	(void)snprintf(one, sizeof one, "%s", groups_of("", &n));
	assert_non_null(strstr(one, "X25519"));
	assert_non_null(strstr(one, "secp521r1"));
	assert_string_equal(groups_of(" , ", &n), one);
}

/* There are firewalls, and servers, that fail with a ClientHello in two
 * segments. */
static void
groups_in_one_segment(void **state)
{
	struct conf *cf = conf_parse(view_of(""), "main.cf", nobody, NULL);
	char *words = mem_printf("%s %s", cf->tls_eecdh_auto_curves,
	    cf->tls_ffdhe_auto_groups);
	const char *list;
	size_t n = 0;

	(void)state;
	list = groups_of(words, &n);
	assert_non_null(strstr(list, "X25519 "));
	assert_non_null(strstr(list, "prime256v1"));
	assert_non_null(strstr(list, "ffdhe2048"));
	assert_in_range(n, 200, ONE_SEGMENT);
	free(words);
	conf_free(&cf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(protocol_words),
		cmocka_unit_test(protocol_mistakes),
		cmocka_unit_test(levels),
		cmocka_unit_test(levels_of_a_server),
		cmocka_unit_test(options),
		cmocka_unit_test(cipher_lists),
		cmocka_unit_test(groups),
		cmocka_unit_test(groups_default),
		cmocka_unit_test(groups_in_one_segment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
