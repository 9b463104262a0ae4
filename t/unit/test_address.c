/* Paths of MAIL and RCPT, and the parts and forms of addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "lib/address.h"

/* The path at the start of in; NULL: refused.  left: what follows it. */
static const char *
path(const char *in, bool strict, const char *left)
{
	static struct buf b;
	struct view v = view_of(in);
	bool utf8;

	if (b.max == 0)
		buf_init(&b, ADDRESS_MAX);
	buf_clear(&b);
	if (address_path(&v, strict, &b, &utf8) != ADDRESS_OK) {
		assert_int_equal(b.n, 0);
		return NULL;
	}
	assert_true(view_is(v, left));
	return buf_cstr(&b);
}

static void
good_paths(void **state)
{
	static const struct {
		const char *in, *out, *left;
	} t[] = {
		{ "<a@example.com>", "a@example.com", "" },
		{ "<a@example.com> SIZE=1", "a@example.com", " SIZE=1" },
		{ "<>", "", "" },
		{ "<> BODY=7BIT", "", " BODY=7BIT" },
		{ "a@example.com SIZE=1", "a@example.com", " SIZE=1" },
		{ "<postmaster>", "postmaster", "" },
		{ "<\"a b\"@example.com>", "a b@example.com", "" },
		{ "<\"a\\\"b\\\\\"@c.org>", "a\"b\\@c.org", "" },
		{ "<\"a>b\"@c.org> X", "a>b@c.org", " X" },
		{ "<\"abc\"@c.org>", "abc@c.org", "" },
		{ "<a.\"b c\".d@e.org>", "a.b c.d@e.org", "" },
		{ "<@x.org,@y.org:u@z.org>", "u@z.org", "" },
		{ "<@x.org:u@z.org>", "u@z.org", "" },
		{ "<u@in@out.org>", "u@in@out.org", "" },
		{ "<u%in@out.org>", "u%in@out.org", "" },
		{ "<in!u@out.org>", "in!u@out.org", "" },
		{ "<u@[192.0.2.1]>", "u@[192.0.2.1]", "" },
		{ "<u@[IPv6:2001:db8::1]>", "u@[IPv6:2001:db8::1]", "" },
		{ "<u@c.org.>", "u@c.org", "" },
		{ "<u@a_b.org>", "u@a_b.org", "" },
		{ "<a..b@c.org>", "a..b@c.org", "" },
		{ "<!#$%&'*+-/=?^_`{|}~@c.org>", "!#$%&'*+-/=?^_`{|}~@c.org",
			"" },
		{ "<\xc3\xa9@\xc3\xa9.org>", "\xc3\xa9@\xc3\xa9.org", "" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof t / sizeof t[0]; i++) {
		const char *got = path(t[i].in, false, t[i].left);

		assert_non_null(got);
		assert_string_equal(got, t[i].out);
	}
}

static void
bad_paths(void **state)
{
	static const char *const t[] = {
		"", "<", "<a", "a>", "<a@b.org", "<a@b.org>x", "<a b@c.org>",
		"<a@>", "<@>", "<@b.org>", "<a@b..org>", "<a@-b.org>",
		"<a@b-.org>", "<a@.org>", "<a@[1.2.3]>", "<a@[999.1.1.1]>",
		"<a@[IPv6:zz]>", "<a@[2001:db8::1]>", "<a@b.org]>",
		"<\"a@b.org>", "<\"a\tb\"@c.org>", "<a\x01@b.org>",
		"<a\x7f@b.org>", "<a(x)@b.org>", "<a,b@c.org>", "<a;@b.org>",
		"<a\\b@c.org>", "<a@b.org,c@d.org>", "<@x.org u@z.org>",
		"<@:u@z.org>", "<@x.org,:u@z.org>", "<@-x:u@z.org>",
		"<\xff@b.org>", "<\xc0\xaf@b.org>", "<\xed\xa0\x80@b.org>",
		"<\xc2\x80@b.org>", "<a@b\xf5.org>", "<a@1.2.3.4>",
		"<<a@b.org>>", "<a@b c.org>", "<\"a@b.org\">",
		"<\"a@b\"c.org>",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof t / sizeof t[0]; i++)
		if (path(t[i], false, "") != NULL)
			fail_msg("accepted: %s", t[i]);
	assert_null(path("a@b.org", true, ""));
	assert_non_null(path("<a@b.org>", true, ""));
}

static void
nul_is_refused(void **state)
{
	struct view v = { "<a\0b@c.org>", 11 };
	struct buf b;
	bool utf8;

	(void)state;
	buf_init(&b, 100);
	assert_int_equal(address_path(&v, false, &b, &utf8), ADDRESS_SYNTAX);
	assert_int_equal(v.n, 11);
	buf_free(&b);
}

static void
lengths(void **state)
{
	char in[1200];
	struct buf b;
	struct view v;
	bool utf8;

	(void)state;
	buf_init(&b, ADDRESS_MAX);
	memset(in, 'a', sizeof in);
	in[0] = '<';
	memcpy(in + 256, "@b.org>", 7);
	v = view_make(in, 263);		/* 255 bytes of local part */
	assert_int_equal(address_path(&v, true, &b, &utf8), ADDRESS_OK);
	assert_false(utf8);
	buf_clear(&b);
	memset(in + 256, 'a', 10);
	memcpy(in + 257, "@b.org>", 7);
	v = view_make(in, 264);
	assert_int_equal(address_path(&v, true, &b, &utf8), ADDRESS_TOO_LONG);
	assert_int_equal(b.n, 0);
	buf_free(&b);
}

/* Quoting, then reading again, gives the same address. */
static void
quoting(void **state)
{
	static const struct {
		const char *in, *out;
	} t[] = {
		{ "a@b.org", "a@b.org" }, { "", "" },
		{ "a b@c.org", "\"a b\"@c.org" },
		{ "a\"b\\@c.org", "\"a\\\"b\\\\\"@c.org" },
		{ "a..b@c.org", "\"a..b\"@c.org" },
		{ ".a@c.org", "\".a\"@c.org" }, { "a.@c.org", "\"a.\"@c.org" },
		{ "u@in@out.org", "\"u@in\"@out.org" },
		{ "postmaster", "postmaster" },
		{ "\xc3\xa9@b.org", "\xc3\xa9@b.org" },
	};
	char again[200];
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 200);
	for (i = 0; i < sizeof t / sizeof t[0]; i++) {
		buf_clear(&b);
		assert_true(address_quote(view_of(t[i].in), &b));
		assert_string_equal(buf_cstr(&b), t[i].out);
		again[0] = '<';
		memcpy(again + 1, b.p, b.n);
		memcpy(again + 1 + b.n, ">", 2);
		assert_string_equal(path(again, true, ""), t[i].in);
	}
	buf_free(&b);
}

static void
parts(void **state)
{
	(void)state;
	assert_true(view_is(address_local(view_of("a@b@c")), "a@b"));
	assert_true(view_is(address_domain(view_of("a@b@c")), "c"));
	assert_true(view_is(address_local(view_of("abc")), "abc"));
	assert_int_equal(address_domain(view_of("abc")).n, 0);
	assert_int_equal(address_domain(view_of("abc@")).n, 0);
}

static void
names(void **state)
{
	char label[80];

	(void)state;
	assert_true(address_valid_hostname(view_of("a-b.example")));
	assert_true(address_valid_hostname(view_of("3com.com")));
	assert_true(address_valid_hostname(view_of("localhost")));
	assert_false(address_valid_hostname(view_of("a.")));
	assert_false(address_valid_hostname(view_of("")));
	assert_false(address_valid_hostname(view_of("a b")));
	assert_false(address_valid_hostname(view_of("192.0.2.1")));
	memset(label, 'x', sizeof label);
	assert_true(address_valid_hostname(view_make(label, 63)));
	assert_false(address_valid_hostname(view_make(label, 64)));
	assert_true(address_valid_literal(view_of("[192.0.2.1]")));
	assert_false(address_valid_literal(view_of("192.0.2.1")));
	assert_false(address_valid_literal(view_of("[]")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_paths),
		cmocka_unit_test(bad_paths),
		cmocka_unit_test(nul_is_refused),
		cmocka_unit_test(lengths),
		cmocka_unit_test(quoting),
		cmocka_unit_test(parts),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
