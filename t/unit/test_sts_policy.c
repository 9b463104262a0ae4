/*
 * MTA-STS records and policies: the examples of RFC 8461, and what comes close
 * to them and is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rules/sts_policy.h"

#define POLICY	"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\n" \
	"mx: *.example.net\r\nmx: backupmx.example.com\r\n" \
	"max_age: 604800\r\n"

static void
record(const char *text, enum sts_record expected, const char *id)
{
	struct view got = { NULL, 0 };
	enum sts_record r = sts_record_read(view_of(text), &got);

	if (r != expected)
		fail_msg("%s: %d", text, (int)r);
	if (id != NULL)
		assert_true(view_is(got, id));
}

static void
test_records(void **state)
{
	(void)state;
	record("v=STSv1; id=20160831085700Z;", STS_RECORD_GOOD,
	    "20160831085700Z");
	record("v=STSv1;id=1", STS_RECORD_GOOD, "1");
	record("v=STSv1 ; id=1 ; ", STS_RECORD_GOOD, "1");
	record("v=STSv1; x-y.z=a:b; id=abc", STS_RECORD_GOOD, "abc");
	record("v=STSv1; id=12345678901234567890123456789012;",
	    STS_RECORD_GOOD, "12345678901234567890123456789012");
	record("v=STSv1; id=123456789012345678901234567890123;",
	    STS_RECORD_BAD, NULL);
	record("v=STSv1", STS_RECORD_BAD, NULL);
	record("v=STSv1;", STS_RECORD_BAD, NULL);
	record("v=STSv1; id=", STS_RECORD_BAD, NULL);
	record("v=STSv1; id=a-b", STS_RECORD_BAD, NULL);
	record("v=STSv1; id=1; id=1", STS_RECORD_BAD, NULL);
	record("v=STSv1;; id=1", STS_RECORD_BAD, NULL);
	record("v=STSv1; id", STS_RECORD_BAD, NULL);
	record("v=STSv1; id=1; =2", STS_RECORD_BAD, NULL);
	record("v=STSv1; id=1; a=b c", STS_RECORD_BAD, NULL);
	record("v=STSv1 id=1", STS_RECORD_BAD, NULL);
	record("v=STSv12; id=1", STS_RECORD_OTHER, NULL);
	record("V=STSv1; id=1", STS_RECORD_OTHER, NULL);
	record(" v=STSv1; id=1", STS_RECORD_OTHER, NULL);
	record("v=spf1 -all", STS_RECORD_OTHER, NULL);
	record("", STS_RECORD_OTHER, NULL);
}

static bool
reads(const char *text, struct sts_policy *ret, const char **ret_why)
{
	*ret_why = "";
	return sts_policy_read(view_of(text), ret, ret_why);
}

static void
good(const char *text, enum sts_mode mode, uint32_t n_mx, int64_t age)
{
	struct sts_policy p;
	const char *why;

	if (!reads(text, &p, &why))
		fail_msg("%s: %s", text, why);
	assert_int_equal(p.mode, mode);
	assert_int_equal(p.n_mx, n_mx);
	assert_int_equal(p.max_age, age);
}

static void
bad(const char *text, const char *expected)
{
	struct sts_policy p = { .n_mx = 77 };
	const char *why;

	if (reads(text, &p, &why))
		fail_msg("taken: %s", text);
	assert_string_equal(why, expected);
	assert_int_equal(p.n_mx, 77);
}

static void
test_policies(void **state)
{
	(void)state;
	good(POLICY, STS_MODE_ENFORCE, 3, 604800);
	good("version: STSv1\nmode: testing\nmx: a.example\nmax_age: 0",
	    STS_MODE_TESTING, 1, 0);
	good("mode:none\nmax_age:  1\t\nversion:\tSTSv1 \n\n \r\n",
	    STS_MODE_NONE, 0, 1);
	/* the first of each counts; what is not known does not */
	good("version: STSv1\nmode: none\nmode: enforce\nmax_age: 5\n"
	    "max_age: 6\nx.y: \xc3\xa4 b\nversion: STSv2\n",
	    STS_MODE_NONE, 0, 5);
	good("version: STSv1\nmode: none\nmax_age: 9999999999\n",
	    STS_MODE_NONE, 0, STS_AGE_MAX);
	/* nothing at all */
	bad("", "no version");
	bad("mode: none\nmax_age: 1\n", "no version");
	bad("version: STSv2\nmode: none\nmax_age: 1\n", "unknown version");
	bad("version: STSv1\nmax_age: 1\n", "no mode");
	bad("version: STSv1\nmode: none\n", "no max_age");
	bad("version: STSv1\nmode: enforce\nmax_age: 1\n", "no mx");
	bad("version: STSv1\nmode: Enforce\nmax_age: 1\n", "unknown mode");
	bad("version: STSv1\nmode: none\nmax_age: -1\n",
	    "max_age is not a number");
	bad("version: STSv1\nmode: none\nmax_age:\n",
	    "max_age is not a number of ten digits at most");
	bad("version: STSv1\nmode: none\nmax_age: 00000000001\n",
	    "max_age is not a number of ten digits at most");
	bad("version: STSv1\n\nmode: none\nmax_age: 1\n", "a blank line");
	bad("version: STSv1\nmode none\nmax_age: 1\n",
	    "a line is not of the form name: value");
	bad("version : STSv1\nmode: none\nmax_age: 1\n",
	    "a line is not of the form name: value");
	bad("version: STSv1\rmode: none\rmax_age: 1\r",
	    "control characters");
	bad("version: STSv1\nmode: none\nmax_age: 1\nx:\n",
	    "a field is empty");
	bad("<html>\n", "a line is not of the form name: value");
}

static void
mx(const char *value, bool ok)
{
	struct sts_policy p;
	const char *why;
	struct buf b;

	buf_init(&b, 1024);
	assert_true(buf_printf(&b, "version: STSv1\nmode: enforce\n"
	    "max_age: 1\nmx: %s\n", value));
	if (reads(buf_cstr(&b), &p, &why) != ok)
		fail_msg("%s", value);
	buf_free(&b);
}

static void
test_mx_names(void **state)
{
	(void)state;
	mx("mail.example.com", true);
	mx("*.example.com", true);
	mx("MAIL.Example.COM", true);
	mx("example.com.", false);
	mx(".example.com", false);
	mx("mail.*.example.com", false);
	mx("m*.example.com", false);
	mx("*", false);
	mx("*.", false);
	mx("a b.example.com", false);
	mx("b\xc3\xbc" "cher.example", false);
	mx("", false);
	mx("mail.example.com:25", false);
}

static void
test_many_mx(void **state)
{
	struct sts_policy p;
	const char *why;
	struct buf b;
	uint32_t i;

	(void)state;
	buf_init(&b, STS_TEXT_MAX + 100);
	assert_true(buf_puts(&b, "version: STSv1\nmode: enforce\n"
	    "max_age: 1\n"));
	for (i = 0; i < STS_MX_MAX; i++)
		assert_true(buf_printf(&b, "mx: m%u.example\n", i));
	assert_true(reads(buf_cstr(&b), &p, &why));
	assert_int_equal(p.n_mx, STS_MX_MAX);
	assert_true(buf_puts(&b, "mx: one.more.example\n"));
	assert_false(reads(buf_cstr(&b), &p, &why));
	assert_string_equal(why, "too many mx");
	while (b.n <= STS_TEXT_MAX)
		assert_true(buf_puts(&b, "\n"));
	assert_false(reads(buf_cstr(&b), &p, &why));
	assert_string_equal(why, "too long");
	buf_free(&b);
}

static void
test_put(void **state)
{
	struct sts_policy p, q;
	const char *why;
	struct buf b;

	(void)state;
	assert_true(reads("mx: MAIL.Example.com\nmax_age: 99999999\nx: y\n"
	    "mode: testing\nversion: STSv1\n", &p, &why));
	buf_init(&b, STS_TEXT_MAX);
	sts_policy_put(&p, &b);
	assert_string_equal(buf_cstr(&b), "version: STSv1\nmode: testing\n"
	    "mx: mail.example.com\nmax_age: 31557600\n");
	assert_true(sts_policy_read(buf_view(&b), &q, &why));
	assert_int_equal(q.mode, p.mode);
	buf_free(&b);
}

static void
test_match(void **state)
{
	static const struct {
		const char *pattern, *host;
		bool match;
	} cases[] = {
		{ "mail.example.com", "mail.example.com", true },
		{ "mail.example.com", "MAIL.example.com.", true },
		{ "mail.example.com", "mail.example.com..", false },
		{ "mail.example.com", "xmail.example.com", false },
		{ "mail.example.com", "a.mail.example.com", false },
		{ "*.example.com", "mail.example.com", true },
		{ "*.example.com", "Mail.Example.Com", true },
		{ "*.example.com", "a.mail.example.com", false },
		{ "*.example.com", "example.com", false },
		{ "*.example.com", ".example.com", false },
		{ "*.example.com", "*.example.com", true },
		{ "*.com", "example.com", true },
		{ "mail.example.com", "", false },
		{ "mail.example.com", ".", false },
	};
	struct sts_policy p;
	const char *why;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (sts_mx_match(view_of(cases[i].pattern),
		    view_of(cases[i].host)) != cases[i].match)
			fail_msg("%s %s", cases[i].pattern, cases[i].host);
	assert_true(reads(POLICY, &p, &why));
	assert_true(sts_policy_allows(&p, view_of("x.example.net")));
	assert_true(sts_policy_allows(&p, view_of("backupmx.example.com")));
	assert_false(sts_policy_allows(&p, view_of("mx.example.com")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_policies),
		cmocka_unit_test(test_mx_names),
		cmocka_unit_test(test_many_mx),
		cmocka_unit_test(test_put),
		cmocka_unit_test(test_match),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
