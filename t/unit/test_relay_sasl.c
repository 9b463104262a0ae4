/* link: proxy/relay_sasl.c proxy/relay_scram.c proxy/relay_mechanism.c */
/*
 * The client's side of SASL: the examples of RFC 2195, 4616, 5802, 7628 and
 * 7677, and servers that do something else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <openssl/evp.h>

#include "lib/mem.h"
#include "proxy/relay_sasl.h"

static const char *why;

static struct view
base64(const char *text)
{
	static char space[SASL_TEXT_MAX + 8];

	return view_make(space, (size_t)EVP_EncodeBlock(
	    (unsigned char *)space, (const unsigned char *)text,
	    (int)strlen(text)));
}

/* Our word to a challenge, both without BASE64, NUL as '|'; NULL: refused. */
static const char *
say(struct relay_sasl *x, const char *challenge)
{
	static char text[SASL_TEXT_MAX + 8];
	struct buf out;
	size_t pad = 0;
	int n, i;

	buf_init(&out, SASL_TEXT_MAX + 64);
	why = NULL;
	if (relay_sasl_step(x, base64(challenge), &out, &why) ==
	    RELAY_SASL_BAD) {
		assert_non_null(why);
		assert_int_equal(out.n, 0);
		assert_false(relay_sasl_complete(x));
		return NULL;
	}
	assert_null(why);
	assert_true(sasl_base64_good(buf_view(&out)));
	while (pad < 2 && out.n > 0 && out.p[out.n - 1 - pad] == '=')
		pad++;
	n = EVP_DecodeBlock((unsigned char *)text,
	    (const unsigned char *)out.p, (int)out.n) - (int)pad;
	buf_free(&out);
	for (i = 0; i < n; i++)
		if (text[i] == '\0')
			text[i] = '|';
	text[n] = '\0';
	return text;
}

static struct relay_sasl *
begin(enum relay_mechanism m, const char *user, const char *secret,
    const char *nonce)
{
	struct relay_sasl_about about = { .mechanism = m,
		.user = view_of(user), .secret = view_of(secret),
		.host = view_of("server.example.com"), .port = 143 };

	return relay_sasl_new(&about, nonce);
}

static void
test_plain(void **state)
{
	struct relay_sasl *x = begin(MECHANISM_PLAIN, "tim",
	    "tanstaaftanstaaf", NULL);

	(void)state;
	assert_true(relay_sasl_first(x));
	assert_false(relay_sasl_complete(x));
	assert_string_equal(say(x, ""), "|tim|tanstaaftanstaaf");
	assert_true(relay_sasl_complete(x));
	assert_null(say(x, "again?"));
	assert_null(say(x, ""));
	relay_sasl_free(&x);
	assert_null(x);
	relay_sasl_free(&x);
}

static void
test_login(void **state)
{
	struct relay_sasl *x = begin(MECHANISM_LOGIN, "tim", "s3cret", NULL);

	(void)state;
	assert_false(relay_sasl_first(x));
	assert_string_equal(say(x, "Username:"), "tim");
	assert_false(relay_sasl_complete(x));
	assert_string_equal(say(x, "anything"), "s3cret");
	assert_true(relay_sasl_complete(x));
	assert_null(say(x, "Password:"));
	relay_sasl_free(&x);
}

/* RFC 2195 section 3 */
static void
test_cram(void **state)
{
	struct relay_sasl *x = begin(MECHANISM_CRAM_MD5, "tim",
	    "tanstaaftanstaaf", NULL);

	(void)state;
	assert_false(relay_sasl_first(x));
	assert_string_equal(say(x,
	    "<1896.697170952@postoffice.reston.mci.net>"),
	    "tim b913a602c7eda7a495b4e6e7334d3890");
	assert_true(relay_sasl_complete(x));
	assert_null(say(x, "<1@x>"));
	relay_sasl_free(&x);
	x = begin(MECHANISM_CRAM_MD5, "tim", "x", NULL);
	assert_null(say(x, ""));
	relay_sasl_free(&x);
}

/* RFC 5802 section 5 */
static void
test_scram_sha_1(void **state)
{
	struct relay_sasl *x = begin(MECHANISM_SCRAM_SHA_1, "user", "pencil",
	    "fyko+d2lbbFgONRv9qkxdawL");

	(void)state;
	assert_string_equal(say(x, ""),
	    "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
	assert_string_equal(say(x, "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs"
	    "7j,s=QSXCR+Q6sek8bf92,i=4096"), "c=biws,r=fyko+d2lbbFgONRv9qkxda"
	    "wL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=");
	assert_false(relay_sasl_complete(x));
	assert_string_equal(say(x, "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="), "");
	assert_true(relay_sasl_complete(x));
	assert_null(say(x, "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="));
	relay_sasl_free(&x);
}

/* RFC 7677 section 3 */
#define NONCE	"rOprNGfwEbeRWgbNEkqO"
#define FIRST	"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," \
	"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define FINAL	"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="

static struct relay_sasl *
pencil(void)
{
	struct relay_sasl *x = begin(MECHANISM_SCRAM_SHA_256, "user",
	    "pencil", NONCE);

	assert_string_equal(say(x, ""), "n,,n=user,r=" NONCE);
	return x;
}

static void
test_scram_sha_256(void **state)
{
	struct relay_sasl *x = pencil();

	(void)state;
	assert_string_equal(say(x, FIRST), "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvY"
	    "DpWUa2RaTCAfuxFIlj)hNlF$k0,"
	    "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
	assert_false(relay_sasl_complete(x));
	assert_string_equal(say(x, FINAL), "");
	assert_true(relay_sasl_complete(x));
	relay_sasl_free(&x);
	/* What may stand behind. */
	x = pencil();
	assert_non_null(say(x, FIRST ",x=later"));
	relay_sasl_free(&x);
}

static void
test_scram_names(void **state)
{
	struct relay_sasl *x = begin(MECHANISM_SCRAM_SHA_256, "a=b,c",
	    "pencil", NONCE), *y;

	(void)state;
	assert_string_equal(say(x, ""), "n,,n=a=3Db=2Cc,r=" NONCE);
	relay_sasl_free(&x);
	/* No two have the same nonce. */
	x = begin(MECHANISM_SCRAM_SHA_256, "u", "p", NULL);
	y = begin(MECHANISM_SCRAM_SHA_256, "u", "p", NULL);
	char *one = mem_strdup(say(x, ""));
	assert_int_equal(strlen(one), strlen("n,,n=u,r=") + 32);
	assert_string_not_equal(one, say(y, ""));
	free(one);
	relay_sasl_free(&x);
	relay_sasl_free(&y);
}

/* RFC 5929: what the channel is called, then what it is. */
static void
test_scram_plus(void **state)
{
	struct relay_binding b = { .type = "tls-exporter", .n = 4 };
	struct relay_sasl_about about = {
		.mechanism = MECHANISM_SCRAM_SHA_256_PLUS,
		.user = view_of("user"), .secret = view_of("pencil"),
		.binding = &b };
	struct relay_sasl *x;
	const char *text;

	(void)state;
	memcpy(b.data, "\1\2\3\4", 4);
	x = relay_sasl_new(&about, NONCE);
	assert_string_equal(say(x, ""), "p=tls-exporter,,n=user,r=" NONCE);
	text = say(x, FIRST);
	/* "p=tls-exporter,," 01 02 03 04 */
	assert_memory_equal(text, "c=cD10bHMtZXhwb3J0ZXIsLAECAwQ=,r=", 33);
	/* It proves itself for another channel. */
	assert_null(say(x, FINAL));
	relay_sasl_free(&x);

	about.mechanism = MECHANISM_SCRAM_SHA_256;
	about.could_bind = true;
	x = relay_sasl_new(&about, NONCE);
	assert_string_equal(say(x, ""), "y,,n=user,r=" NONCE);
	assert_memory_equal(say(x, FIRST), "c=eSws,r=", 9);
	relay_sasl_free(&x);
}

static void
test_scram_hostile(void **state)
{
	static const char *const first[] = {
		"", "r", "r=", "x", "r=,s=,i=",
		"e=other-error", "m=ext," FIRST,
		/* not our nonce, or nothing added to it */
		"r=xOprNGfwEbeRWgbNEkqOhv,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"r=rOprNGfwEbe,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"r=rOprNGfwEbeRWgbNEkqO\x01,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W,i=4096",
		"r=rOprNGfwEbeRWgbNEkqOx,s=====,i=4096",
		"r=rOprNGfwEbeRWgbNEkqOx,i=4096",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=-1",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=200001",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,"
		    "i=4294971392",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,"
		    "i=99999999999999999999",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096x",
	};
	static const char *const final[] = {
		"", "v=", "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", "e=invalid-proof",
		"x=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4",
		FIRST,
	};
	char long_nonce[600];
	struct relay_sasl *x;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof first / sizeof first[0]; i++) {
		x = pencil();
		assert_null(say(x, first[i]));
		/* There is no way back. */
		assert_null(say(x, FIRST));
		relay_sasl_free(&x);
	}
	for (i = 0; i < sizeof final / sizeof final[0]; i++) {
		x = pencil();
		assert_non_null(say(x, FIRST));
		assert_null(say(x, final[i]));
		assert_null(say(x, FINAL));
		relay_sasl_free(&x);
	}
	(void)snprintf(long_nonce, sizeof long_nonce, "r=%s%0300d,"
	    "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", NONCE, 1);
	x = pencil();
	assert_null(say(x, long_nonce));
	assert_string_equal(why, "SCRAM: the server's nonce is too long");
	relay_sasl_free(&x);
	(void)snprintf(long_nonce, sizeof long_nonce, "r=%sx,s=%0400d,i=4096",
	    NONCE, 1);
	x = pencil();
	assert_null(say(x, long_nonce));
	assert_string_equal(why,
	    "SCRAM: the server's salt is malformed or too long");
	relay_sasl_free(&x);
}

/* RFC 7628 section 4 */
static void
test_tokens(void **state)
{
	struct relay_sasl *x = begin(MECHANISM_OAUTHBEARER,
	    "user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
	    NULL);

	(void)state;
	assert_string_equal(say(x, ""), "n,a=user@example.com,\1host=server."
	    "example.com\1port=143\1auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdml"
	    "zdGEuY29tCg==\1\1");
	assert_true(relay_sasl_complete(x));
	assert_string_equal(relay_sasl_detail(x), "");
	assert_string_equal(say(x, "{\"status\":\"invalid\ntoken\"}"), "\1");
	assert_false(relay_sasl_complete(x));
	assert_string_equal(relay_sasl_detail(x),
	    "{\"status\":\"invalid?token\"}");
	assert_null(say(x, "more"));
	relay_sasl_free(&x);

	x = begin(MECHANISM_XOAUTH2, "someuser@example.com", "ya29.vF9dft4qmTc",
	    NULL);
	assert_string_equal(say(x, ""), "user=someuser@example.com\1auth=Bearer "
	    "ya29.vF9dft4qmTc\1\1");
	assert_string_equal(say(x, "{}"), "");
	assert_false(relay_sasl_complete(x));
	assert_null(say(x, "{}"));
	relay_sasl_free(&x);
}

static void
test_not_base64(void **state)
{
	static const char *const bad[] = { "=", "A", "AB", "ABC", "A===",
		"AB=C", "A?==", "\xff\xff\xff\xff", "AAAA AAAA", "AAAA=" };
	struct relay_sasl *x;
	struct buf out;
	char *text;
	size_t i;

	(void)state;
	buf_init(&out, SASL_TEXT_MAX + 64);
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		x = begin(MECHANISM_CRAM_MD5, "u", "p", NULL);
		assert_int_equal(relay_sasl_step(x, view_of(bad[i]), &out,
		    &why), RELAY_SASL_BAD);
		assert_int_equal(out.n, 0);
		relay_sasl_free(&x);
	}
	text = mem_alloc(SASL_TEXT_MAX + 4);
	memset(text, 'A', SASL_TEXT_MAX + 4);
	x = begin(MECHANISM_CRAM_MD5, "u", "p", NULL);
	assert_int_equal(relay_sasl_step(x, view_make(text,
	    SASL_TEXT_MAX + 4), &out, &why), RELAY_SASL_BAD);
	relay_sasl_free(&x);
	x = begin(MECHANISM_CRAM_MD5, "u", "p", NULL);
	assert_int_equal(relay_sasl_step(x, view_make(text, SASL_TEXT_MAX),
	    &out, &why), RELAY_SASL_SAY);
	relay_sasl_free(&x);
	free(text);
	buf_free(&out);
}

/* A secret that does not fit is not cut. */
static void
test_too_long(void **state)
{
	char *text = mem_alloc(20001);
	struct relay_sasl *x;
	int m;

	(void)state;
	memset(text, 'p', 20000);
	for (m = 1; m < MECHANISMS; m++) {
		if (relay_mechanisms[m].binding || m == MECHANISM_CRAM_MD5 ||
		    m == MECHANISM_SCRAM_SHA_1 || m == MECHANISM_SCRAM_SHA_256)
			continue;
		x = begin(m, "u", text, NULL);
		if (m == MECHANISM_LOGIN)
			assert_non_null(say(x, "Username:"));
		assert_null(say(x, ""));
		relay_sasl_free(&x);
	}
	free(text);
}

static void
test_offered(void **state)
{
	(void)state;
	assert_int_equal(relay_sasl_offered(view_of("")), 0);
	assert_int_equal(relay_sasl_offered(view_of("GSSAPI PLAINX")), 0);
	assert_int_equal(relay_sasl_offered(view_of(" plain LOGIN  GSSAPI")),
	    1u << MECHANISM_PLAIN | 1u << MECHANISM_LOGIN);
	assert_int_equal(relay_sasl_offered(view_of("SCRAM-SHA-256-PLUS")),
	    1u << MECHANISM_SCRAM_SHA_256_PLUS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_cram),
		cmocka_unit_test(test_scram_sha_1),
		cmocka_unit_test(test_scram_sha_256),
		cmocka_unit_test(test_scram_names),
		cmocka_unit_test(test_scram_plus),
		cmocka_unit_test(test_scram_hostile),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_not_base64),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_offered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
