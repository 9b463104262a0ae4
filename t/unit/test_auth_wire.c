/* link: proxy/auth_dovecot_wire.c */
/* Lines of Dovecot's protocol, and what is common to all authentication. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "proxy/auth_dovecot_wire.h"

static struct dovecot_line l;

static enum dovecot_word
read_line(const char *text)
{
	dovecot_read(view_of(text), &l);
	return l.word;
}

static void
test_words(void **state)
{
	(void)state;
	assert_int_equal(read_line("VERSION\t1\t2"), DOVECOT_VERSION);
	assert_int_equal(l.major, 1);
	assert_int_equal(l.minor, 2);
	assert_int_equal(read_line("VERSION\t1\t2\tmore"), DOVECOT_VERSION);
	assert_int_equal(read_line("DONE"), DOVECOT_DONE);
	assert_int_equal(read_line("SPID\t12"), DOVECOT_OTHER);
	assert_int_equal(read_line("ok\t1"), DOVECOT_OTHER);
	assert_int_equal(read_line(""), DOVECOT_BAD);
	assert_int_equal(read_line("VERSION"), DOVECOT_BAD);
	assert_int_equal(read_line("VERSION\t1"), DOVECOT_BAD);
	assert_int_equal(read_line("VERSION\t1\t-2"), DOVECOT_BAD);
	assert_int_equal(read_line("VERSION\t1\t4294967296"), DOVECOT_BAD);
	dovecot_read(view_make("DONE\0", 5), &l);
	assert_int_equal(l.word, DOVECOT_BAD);
}

static void
test_mechanisms(void **state)
{
	(void)state;
	assert_int_equal(read_line("MECH\tSCRAM-SHA-256-PLUS\tmutual-auth\tx\t"
	    "active"), DOVECOT_MECH);
	assert_true(view_is(l.mechanism, "SCRAM-SHA-256-PLUS"));
	assert_int_equal(l.properties, SASL_MUTUAL | SASL_ACTIVE);
	assert_int_equal(read_line("MECH\tX"), DOVECOT_MECH);
	assert_int_equal(l.properties, 0);
	assert_int_equal(read_line("MECH"), DOVECOT_BAD);
	assert_int_equal(read_line("MECH\t"), DOVECOT_BAD);
	assert_int_equal(read_line("MECH\tplain"), DOVECOT_BAD);
	assert_int_equal(read_line("MECH\tPLAIN LOGIN"), DOVECOT_BAD);
	assert_int_equal(read_line("MECH\tABCDEFGHIJKLMNOPQRSTU"),
	    DOVECOT_BAD);
}

static void
test_outcomes(void **state)
{
	(void)state;
	assert_int_equal(read_line("OK\t7\tx=y\tuser=a\001tb\001nc\001r\0011"),
	    DOVECOT_OK);
	assert_int_equal(l.id, 7);
	assert_int_equal(l.login_n, 7);
	assert_memory_equal(l.login, "a\tb\nc\r\001", 7);
	/* Written so by nobody: there is no name. */
	assert_int_equal(read_line("OK\t7\tuser=a\001"), DOVECOT_OK);
	assert_int_equal(l.login_n, 0);
	assert_int_equal(read_line("OK\t7\tuser=a\001x"), DOVECOT_OK);
	assert_int_equal(l.login_n, 0);
	assert_int_equal(read_line("FAIL\t8\tuser=joe\treason=no\ttemp"),
	    DOVECOT_FAIL);
	assert_true(l.temporary);
	assert_int_equal(l.login_n, 3);
	assert_int_equal(l.reason_n, 2);
	assert_int_equal(read_line("FAIL\t8"), DOVECOT_FAIL);
	assert_false(l.temporary);
	assert_int_equal(l.login_n, 0);
	assert_int_equal(read_line("FAIL\t8\tcode=temp_fail"), DOVECOT_FAIL);
	assert_true(l.temporary);
	assert_int_equal(read_line("CONT\t9\tYQ=="), DOVECOT_CONT);
	assert_true(view_is(l.challenge, "YQ=="));
	assert_int_equal(read_line("CONT\t9\t"), DOVECOT_CONT);
	assert_int_equal(l.challenge.n, 0);
	assert_int_equal(read_line("CONT\t9"), DOVECOT_CONT);
	assert_int_equal(read_line("CONT\t9\tYQ"), DOVECOT_BAD);
	assert_int_equal(read_line("CONT\t9\tYQ==\tYQ=="), DOVECOT_BAD);
	assert_int_equal(read_line("CONT"), DOVECOT_BAD);
	assert_int_equal(read_line("OK\tx"), DOVECOT_BAD);
}

static void
test_long_values(void **state)
{
	char text[DOVECOT_VALUE_MAX + 32] = "OK\t1\tuser=";
	size_t n = strlen(text);

	(void)state;
	memset(text + n, 'x', DOVECOT_VALUE_MAX);
	assert_int_equal(read_line(text), DOVECOT_OK);
	assert_int_equal(l.login_n, DOVECOT_VALUE_MAX);
	text[n + DOVECOT_VALUE_MAX] = 'x';
	assert_int_equal(read_line(text), DOVECOT_OK);
	assert_int_equal(l.login_n, 0);
}

static void
test_begin(void **state)
{
	struct auth_begin a = {
		.mechanism = view_of("PLAIN"), .service = view_of("a\tb\nc"),
		.client_addr = view_of("192.0.2.1"), .client_port = 9,
		.server_addr = view_of("192.0.2.2"), .server_port = 25,
	};
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_true(dovecot_put_begin(&b, 5, &a));
	assert_string_equal(buf_cstr(&b), "AUTH\t5\tPLAIN\tservice=a\001tb"
	    "\001nc\tnologin\tlip=192.0.2.2\tlport=25\trip=192.0.2.1\trport=9"
	    "\n");
	buf_clear(&b);
	a.tls = a.has_response = true;
	a.response = view_of("YQ==");
	a.service = view_of("smtp");
	a.tls_name = view_of("mx.example");
	assert_true(dovecot_put_begin(&b, 5, &a));
	assert_string_equal(buf_cstr(&b), "AUTH\t5\tPLAIN\tservice=smtp"
	    "\tnologin\tlip=192.0.2.2\tlport=25\trip=192.0.2.1\trport=9"
	    "\tsecured\tlocal_name=mx.example\tresp=YQ==\n");
	buf_free(&b);
	buf_init(&b, 50);
	assert_false(dovecot_put_begin(&b, 5, &a));
	buf_free(&b);
}

static void
test_base64(void **state)
{
	static const char *const good[] = { "", "YQ==", "YWI=", "YWJj",
		"+/+/", "YWJjYWJj" };
	static const char *const bad[] = { "Y", "YQ", "YQ=", "=", "====",
		"Y===", "YQ==YQ==", "Y=Q=", "YQ= ", "YQ-_", "YQ\n=" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_true(sasl_base64_good(view_of(good[i])));
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(sasl_base64_good(view_of(bad[i])));
}

static void
test_logins(void **state)
{
	char text[SASL_LOGIN_MAX + 2];

	(void)state;
	assert_true(sasl_login_good(view_of("joe@example.com")));
	assert_true(sasl_login_good(view_of("J\303\266e, D")));
	assert_false(sasl_login_good(view_of("")));
	assert_false(sasl_login_good(view_of("a\nb")));
	assert_false(sasl_login_good(view_of("a\177")));
	assert_false(sasl_login_good(view_make("a\0b", 3)));
	memset(text, 'x', sizeof text);
	assert_true(sasl_login_good(view_make(text, SASL_LOGIN_MAX)));
	assert_false(sasl_login_good(view_make(text, SASL_LOGIN_MAX + 1)));
}

static void
test_options(void **state)
{
	(void)state;
	assert_true(sasl_permitted(0, SASL_PLAINTEXT | SASL_ANONYMOUS));
	assert_false(sasl_permitted(0, SASL_PRIVATE));
	assert_false(sasl_permitted(SASL_NO_PLAINTEXT, SASL_PLAINTEXT));
	assert_true(sasl_permitted(SASL_NO_PLAINTEXT, SASL_DICTIONARY));
	assert_false(sasl_permitted(SASL_NO_PLAINTEXT | SASL_NO_DICTIONARY,
	    SASL_DICTIONARY));
	assert_false(sasl_permitted(SASL_NO_ACTIVE, SASL_ACTIVE));
	assert_false(sasl_permitted(SASL_NO_ANONYMOUS, SASL_ANONYMOUS));
	assert_false(sasl_permitted(SASL_NEED_MUTUAL, 0));
	assert_true(sasl_permitted(SASL_NEED_MUTUAL, SASL_MUTUAL));
	assert_false(sasl_permitted(SASL_NEED_FORWARD_SECRECY, SASL_MUTUAL));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_mechanisms),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_long_values),
		cmocka_unit_test(test_begin),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_logins),
		cmocka_unit_test(test_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
