/* link: proxy/relay_route.c proxy/relay_lmtp.c proxy/relay_log.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "proxy/relay_lmtp.h"
#include "proxy/relay_log.h"
#include "proxy/relay_route.h"

static void
hop(const char *text, const char *host, unsigned port, bool mx, bool numeric)
{
	struct relay_nexthop h;

	assert_true(relay_nexthop_parse(view_of(text), &h));
	assert_true(view_is(h.host, host));
	assert_int_equal(h.port, port);
	assert_int_equal(h.mx, mx);
	assert_int_equal(h.numeric, numeric);
	if (numeric)
		assert_int_equal(h.addr.port, port);
}

static void
test_nexthop(void **state)
{
	static const char *const bad[] = { "", "[", "[]", "[]:25", "[a", "a:",
		"[a]x", "[a]:", "[a]:0", "[a]:65536", "a:b:c", ":25",
		"2001:db8::1", "[a]:25:26" };
	struct relay_nexthop h;
	size_t i;

	(void)state;
	hop("example.com", "example.com", 25, true, false);
	hop("example.com:587", "example.com", 587, true, false);
	hop("example.com:smtp", "example.com", 25, true, false);
	hop("[inside]", "inside", 25, false, false);
	hop("[inside]:2525", "inside", 2525, false, false);
	hop("[192.0.2.1]", "192.0.2.1", 25, false, true);
	hop("[192.0.2.1]:26", "192.0.2.1", 26, false, true);
	hop("[2001:db8::1]:26", "2001:db8::1", 26, false, true);
	hop("[IPv6:2001:db8::1]", "2001:db8::1", 25, false, true);
	hop("192.0.2.1:26", "192.0.2.1", 26, false, true);
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(relay_nexthop_parse(view_of(bad[i]), &h));
}

static void
test_lmtp(void **state)
{
	static const char *const bad[] = { "", "unix:", "inet:", "inet:[a",
		"inet:a:", "inet:a:b:c", "[]" };
	static const struct {
		const char *text, *host, *path;
		unsigned port;
	} good[] = {
		{ "unix:private/x", "private/x", "private/x", 0 },
		{ "UNIX:/Run/X:1", "/Run/X:1", "/Run/X:1", 0 },
		{ "inet:a", "a", "", 2003 },
		{ "inet:a:lmtp", "a", "", 24 },
		{ "a", "a", "", 2003 },
		{ "a:25", "a", "", 25 },
		{ "inet:[192.0.2.1]", "192.0.2.1", "", 2003 },
		{ "[::1]:26", "::1", "", 26 },
	};
	struct relay_nexthop h;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(relay_lmtp_nexthop(view_of(bad[i]), 2003, &h));
	for (i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_true(relay_lmtp_nexthop(view_of(good[i].text), 2003,
		    &h));
		assert_true(view_is(h.host, good[i].host));
		assert_true(view_is(h.path, good[i].path));
		assert_int_equal(h.port, good[i].port);
		assert_false(h.mx);
		if (h.numeric)
			assert_int_equal(h.addr.port, h.port);
	}
	assert_int_equal(relay_lmtp_port("24"), 24);
	assert_int_equal(relay_lmtp_port("smtp"), 25);
}

static struct relay_address
address(unsigned preference, const char *text)
{
	struct relay_address a = { .preference = (uint16_t)preference };

	assert_true(netaddr_parse(view_of(text), &a.addr));
	return a;
}

static void
test_order(void **state)
{
	struct relay_address list[6];
	unsigned first[2] = { 0 }, i, k;

	(void)state;
	for (i = 0; i < 400; i++) {
		list[0] = address(20, "192.0.2.1");
		list[1] = address(10, "192.0.2.2");
		list[2] = address(10, "192.0.2.3");
		list[3] = address(20, "2001:db8::4");
		list[4] = address(20, "192.0.2.5");
		list[5] = address(65535, "192.0.2.6");
		relay_route_order(list, 6, i < 200 ? FAMILY_ANY : FAMILY_IPV6,
		    true);
		for (k = 1; k < 6; k++)
			assert_true(list[k - 1].preference <=
			    list[k].preference);
		first[list[0].addr.b[3] == 2]++;
		if (i >= 200)
			assert_int_equal(list[2].addr.family, AF_INET6);
	}
	/* equals take turns: fewer than 100 of 400 is one in 10^23 */
	assert_in_range(first[0], 100, 300);
	assert_in_range(first[1], 100, 300);
	relay_route_order(list, 0, FAMILY_ANY, true);
}

static void
test_no_shuffle(void **state)
{
	struct relay_address list[20];
	unsigned i;

	(void)state;
	for (i = 0; i < 20; i++) {
		list[i] = address(i < 10 ? 7 : 3, "192.0.2.1");
		list[i].addr.b[3] = (uint8_t)i;
	}
	relay_route_order(list, 20, FAMILY_ANY, false);
	for (i = 0; i < 20; i++)
		assert_int_equal(list[i].addr.b[3], (i + 10) % 20);
}

/* "4" and "6" in the order in which they are tried */
static void
limit(const char *have, size_t max, bool balance, const char *want)
{
	struct relay_address list[10];
	size_t n = strlen(have), i;

	for (i = 0; i < n; i++) {
		list[i] = address((unsigned)i, have[i] == '4' ? "192.0.2.1" :
		    "2001:db8::1");
	}
	assert_int_equal(relay_route_limit(list, n, max, balance),
	    strlen(want));
	for (i = 0; want[i] != '\0'; i++) {
		assert_int_equal(list[i].addr.family == AF_INET, want[i] == '4');
		if (i > 0)
			assert_true(list[i - 1].preference <
			    list[i].preference);
	}
}

static void
test_limit(void **state)
{
	(void)state;
	limit("66666644", 5, false, "66666");
	limit("66666644", 5, true, "66644");
	limit("66666644", 4, true, "6644");
	limit("44444446", 5, true, "44446");
	limit("6644444", 5, true, "66444");
	limit("64646464", 5, true, "64646");
	limit("666666", 5, true, "66666");
	limit("6644", 5, true, "6644");
	limit("6664", 1, true, "6");
	limit("6664", 2, true, "64");
	limit("", 5, true, "");
}

static void
test_only(void **state)
{
	struct relay_address list[3];

	(void)state;
	list[0] = address(1, "192.0.2.1");
	list[1] = address(1, "2001:db8::1");
	list[2] = address(1, "192.0.2.2");
	assert_int_equal(relay_route_only(list, 3, FAMILY_ANY), 3);
	assert_int_equal(relay_route_only(list, 3, FAMILY_IPV4), 2);
	assert_int_equal(list[1].addr.b[3], 2);
	assert_int_equal(relay_route_only(list, 2, FAMILY_IPV6), 0);
}

static void
test_own(void **state)
{
	struct relay_address list[4], own = address(0, "192.0.2.3");
	bool self;

	(void)state;
	list[0] = address(5, "192.0.2.1");
	list[1] = address(10, "192.0.2.2");
	list[2] = address(10, "192.0.2.3");
	list[3] = address(20, "192.0.2.4");
	assert_int_equal(relay_route_drop_own(list, 4, &own.addr, 1, &self),
	    1);
	assert_true(self);
	assert_int_equal(relay_route_drop_own(list, 4, &own.addr, 0, &self),
	    4);
	assert_false(self);
	list[0] = own;
	assert_int_equal(relay_route_drop_own(list, 4, &own.addr, 1, &self),
	    0);
	assert_true(self);
}

static void
delay(int64_t us, const char *want)
{
	struct buf b;

	buf_init(&b, 100);
	assert_true(relay_log_delay(&b, us));
	assert_string_equal(buf_cstr(&b), want);
	buf_free(&b);
}

static void
test_delay(void **state)
{
	(void)state;
	delay(0, "0");
	delay(-5, "0");
	delay(4999, "0");
	delay(5000, "0.01");
	delay(50000, "0.05");
	delay(100000, "0.1");
	delay(123456, "0.12");
	delay(994999, "0.99");
	delay(995000, "1");
	delay(1040000, "1");
	delay(1050000, "1.1");
	delay(9940000, "9.9");
	delay(9960000, "10");
	delay(12400000, "12");
	delay(123600000, "124");
	delay(INT64_C(432000000000), "432000");
}

static void
test_line(void **state)
{
	struct relay_line l = { .id = "0000000ABCD",
		.recipient = view_of("b@example.org"),
		.relay = "inside[192.0.2.1]:25", .uses = 1,
		.status = RCPT_SENT, .dsn = "2.0.0",
		.reason = view_of("250 2.0.0 Ok") };
	struct relay_times t = { { 1000000 }, { 1010000 }, { 1010000 },
		{ 1060000 } };
	struct buf b;

	(void)state;
	buf_init(&b, 4096);
	assert_true(relay_log_line(&b, &l, &t, (struct wall){ 1120000 }));
	assert_string_equal(buf_cstr(&b), "0000000ABCD: to=<b@example.org>, "
	    "relay=inside[192.0.2.1]:25, delay=0.12, delays=0.01/0/0.05/0.06, "
	    "dsn=2.0.0, status=sent (250 2.0.0 Ok)");
	/* used again; never ready: all of it was connecting; a hostile text */
	buf_clear(&b);
	l.uses = 7;
	l.status = RCPT_DEFERRED;
	l.dsn = "4.4.1";
	l.reason = view_of("a\nb");
	t.ready.us = 0;
	assert_true(relay_log_line(&b, &l, &t, (struct wall){ 31010000 }));
	assert_string_equal(buf_cstr(&b), "0000000ABCD: to=<b@example.org>, "
	    "relay=inside[192.0.2.1]:25, conn_use=7, delay=30, "
	    "delays=0.01/0/30/0, dsn=4.4.1, status=deferred (a?b)");
	l.tls = "may:none";
	buf_clear(&b);
	l.status = RCPT_BOUNCED;
	assert_true(relay_log_line(&b, &l, &t, (struct wall){ 31010000 }));
	assert_non_null(strstr(buf_cstr(&b),
	    "delays=0.01/0/30/0, tls=may:none, dsn=4.4.1, status=bounced"));
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nexthop),
		cmocka_unit_test(test_lmtp),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_only),
		cmocka_unit_test(test_no_shuffle),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_delay),
		cmocka_unit_test(test_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
