/* link: proxy/lookup_answer.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proxy/lookup_answer.h"

#define DATA(text)	view_make(text, sizeof text - 1)

static void
name(struct view data, enum answer_name kind, const char *text)
{
	char got[ANSWER_NAME_MAX] = "before";

	assert_int_equal(answer_name(data, got), kind);
	assert_string_equal(got, kind == ANSWER_BAD ? "before" : text);
}

static void
test_name(void **state)
{
	(void)state;
	name(DATA("\4mail\7example\3org\0"), ANSWER_HOST,
	    "mail.example.org");
	name(DATA("\3a-b\3c_d\0"), ANSWER_HOST, "a-b.c_d");
	name(DATA("\0"), ANSWER_ROOT, "");
	/* not complete, or not all of it */
	name(DATA(""), ANSWER_BAD, "");
	name(DATA("\4mai"), ANSWER_BAD, "");
	name(DATA("\4mail"), ANSWER_BAD, "");
	name(DATA("\4mail\0x"), ANSWER_BAD, "");
	name(DATA("\0\0"), ANSWER_BAD, "");
	/* compression pointers, other label types */
	name(DATA("\xc0\x0c"), ANSWER_BAD, "");
	name(DATA("\4mail\xc0\x00"), ANSWER_BAD, "");
	name(DATA("\x41x\0"), ANSWER_BAD, "");
	/* bytes that no host name has */
	name(DATA("\3a.b\0"), ANSWER_BAD, "");
	name(DATA("\3a b\0"), ANSWER_BAD, "");
	name(DATA("\3a\0b\0"), ANSWER_BAD, "");
	name(DATA("\3a\nb\0"), ANSWER_BAD, "");
	name(DATA("\2\xc3\xa4\0"), ANSWER_BAD, "");
	name(DATA("\1*\0"), ANSWER_BAD, "");
}

/* Names as long as they can be, and longer: 253 bytes of text. */
static void
test_long_name(void **state)
{
	char data[300], got[ANSWER_NAME_MAX];
	size_t last, n;

	(void)state;
	for (last = 1; last <= 63; last++) {
		memset(data, 'x', sizeof data);
		data[0] = data[64] = data[128] = 63;
		data[192] = (char)last;
		n = 193 + last;
		data[n++] = '\0';
		if (last <= 61) {
			assert_int_equal(answer_name(view_make(data, n), got),
			    ANSWER_HOST);
			assert_int_equal(strlen(got), 192 + last);
		} else {
			assert_int_equal(answer_name(view_make(data, n), got),
			    ANSWER_BAD);
		}
	}
}

static void
test_srv_record(void **state)
{
	static const char data[] =
	    "\0\1\0\2\2\113\4mail\3org\0....................";
	struct answer_srv got = { .port = 7 };
	size_t n;

	(void)state;
	for (n = 0; n < sizeof data; n++) {
		if (n == 16)
			continue;
		assert_int_equal(answer_srv(view_make(data, n), &got),
		    ANSWER_BAD);
		assert_int_equal(got.port, 7);
	}
	assert_int_equal(answer_srv(view_make(data, 16), &got), ANSWER_HOST);
	assert_int_equal(got.priority, 1);
	assert_int_equal(got.weight, 2);
	assert_int_equal(got.port, 587);
	assert_string_equal(got.target, "mail.org");
	assert_int_equal(answer_srv(DATA("\0\0\0\0\0\0\0"), &got),
	    ANSWER_ROOT);
	assert_int_equal(answer_srv(DATA("\0\0\0\0\0\0\1a\0"), &got),
	    ANSWER_BAD);
}

/* The same numbers each time. */
static uint32_t seed;

static uint32_t
not_random(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static void
test_srv_order(void **state)
{
	struct answer_srv list[5];
	unsigned first[5] = { 0 }, i;

	(void)state;
	seed = 0;
	for (i = 0; i < 4000; i++) {
		list[0] = (struct answer_srv){ .priority = 9, .port = 1 };
		list[1] = (struct answer_srv){ .priority = 1, .weight = 1,
			.port = 2 };
		list[2] = (struct answer_srv){ .priority = 1, .weight = 8,
			.port = 3 };
		list[3] = (struct answer_srv){ .priority = 1, .weight = 0,
			.port = 4 };
		list[4] = (struct answer_srv){ .priority = 65535,
			.weight = 65535, .port = 5 };
		answer_srv_order(list, 5, not_random);
		assert_int_equal(list[3].port, 1);
		assert_int_equal(list[4].port, 5);
		assert_int_equal(list[0].priority, 1);
		assert_int_equal(list[2].priority, 1);
		first[list[0].port - 1]++;
	}
	/* 1, 8 and 1 of ten */
	assert_in_range(first[1], 300, 500);
	assert_in_range(first[2], 3000, 3400);
	assert_in_range(first[3], 300, 500);
	assert_int_equal(first[0] + first[4], 0);
	answer_srv_order(list, 0, not_random);
}

static void
test_mx(void **state)
{
	static const char data[] = "\1\2\4mail\3org\0....................";
	char got[ANSWER_NAME_MAX];
	uint16_t preference = 7;
	size_t n;

	(void)state;
	for (n = 0; n < sizeof data; n++) {
		if (n == 12)
			continue;
		assert_int_equal(answer_mx(view_make(data, n), &preference,
		    got), ANSWER_BAD);
		assert_int_equal(preference, 7);
	}
	assert_int_equal(answer_mx(view_make(data, 12), &preference, got),
	    ANSWER_HOST);
	assert_int_equal(preference, 258);
	assert_string_equal(got, "mail.org");
	assert_int_equal(answer_mx(DATA("\xff\xff\0"), &preference, got),
	    ANSWER_ROOT);
	assert_int_equal(preference, 65535);
}

static void
test_address(void **state)
{
	static const char data[17] = "\x20\1\xd\xb8";
	struct netaddr a;
	char text[NETADDR_TEXT];
	size_t n;

	(void)state;
	for (n = 0; n <= 17; n++) {
		assert_int_equal(answer_address(view_make(data, n), AF_INET,
		    &a), n == 4);
		assert_int_equal(answer_address(view_make(data, n), AF_INET6,
		    &a), n == 16);
	}
	assert_string_equal(netaddr_text(&a, text), "2001:db8::");
}

static void
reverse(const char *addr, const char *want)
{
	char got[ANSWER_REVERSE_MAX];
	struct netaddr a;

	assert_true(netaddr_parse(view_of(addr), &a));
	answer_reverse(&a, got);
	assert_string_equal(got, want);
}

static void
test_reverse(void **state)
{
	(void)state;
	reverse("192.0.2.1", "1.2.0.192.in-addr.arpa");
	reverse("255.255.255.255", "255.255.255.255.in-addr.arpa");
	reverse("2001:db8::a1", "1.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0."
	    "0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
}

static void
test_hosts_line(void **state)
{
	static const char *const bad[] = { "", "#1.2.3.4 x", "1.2.3.4",
		"1.2.3.4 #x", "x 1.2.3.4", "1.2.3 x", "1.2.3.4 x/y",
		"1.2.3.4 x\"y" };
	char text[NETADDR_TEXT];
	struct netaddr a;
	struct view n;
	size_t i;

	(void)state;
	assert_true(answer_hosts_line(view_of("1.2.3.4\tx.y z # c"), &a, &n));
	assert_string_equal(netaddr_text(&a, text), "1.2.3.4");
	assert_true(view_is(n, "x.y"));
	assert_true(answer_hosts_line(view_of("  ::1 localhost\r"), &a, &n));
	assert_string_equal(netaddr_text(&a, text), "::1");
	assert_true(view_is(n, "localhost"));
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(answer_hosts_line(view_of(bad[i]), &a, &n));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_long_name),
		cmocka_unit_test(test_mx),
		cmocka_unit_test(test_srv_record),
		cmocka_unit_test(test_srv_order),
		cmocka_unit_test(test_address),
		cmocka_unit_test(test_reverse),
		cmocka_unit_test(test_hosts_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
