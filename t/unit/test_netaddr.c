#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/un.h>

#include <cmocka.h>

#include "lib/netaddr.h"

static void
expect_address(const char *text, const char *want)
{
	struct netaddr a = { 0 };
	char s[NETADDR_TEXT];
	bool ok = netaddr_parse(view_of(text), &a);

	if (want == NULL) {
		if (ok)
			fail_msg("\"%s\" was accepted", text);
		return;
	}
	if (!ok)
		fail_msg("\"%s\" was refused", text);
	assert_string_equal(netaddr_text(&a, s), want);
	assert_int_equal(a.port, 0);
}

static void
addresses(void **state)
{
	(void)state;
	expect_address("192.0.2.1", "192.0.2.1");
	expect_address("[192.0.2.1]", "192.0.2.1");
	expect_address("2001:DB8:0:0::1", "2001:db8::1");
	expect_address("[2001:db8::1]", "2001:db8::1");
	expect_address("[IPv6:2001:db8::1]", "2001:db8::1");
	expect_address("[ipv6:::1]", "::1");
	/* IPv4-mapped: one client, one form */
	expect_address("::ffff:192.0.2.1", "192.0.2.1");
	expect_address("[IPv6:::ffff:c000:201]", "192.0.2.1");

	expect_address("", NULL);
	expect_address("192.0.2", NULL);
	expect_address("192.0.2.01", NULL);
	expect_address("0x7f.0.0.1", NULL);
	expect_address("192.0.2.256", NULL);
	expect_address("192.0.2.1 ", NULL);
	expect_address(" 192.0.2.1", NULL);
	expect_address("192.0.2.1.", NULL);
	expect_address("[192.0.2.1", NULL);
	expect_address("192.0.2.1]", NULL);
	expect_address("[]", NULL);
	expect_address("[", NULL);
	expect_address("[IPv6:192.0.2.1]", NULL);
	expect_address("IPv6:2001:db8::1", NULL);
	expect_address("fe80::1%eth0", NULL);
	expect_address("2001:db8::1/64", NULL);
	expect_address("1:2:3:4:5:6:7:8:9", NULL);
	expect_address("example.com", NULL);
	expect_address("0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000",
	    NULL);
}

static void
address_with_nul(void **state)
{
	struct netaddr a;

	(void)state;
	assert_false(netaddr_parse(view_make("192.0.2.1\0", 10), &a));
}

static void
expect_block(const char *text, const char *net, unsigned bits)
{
	struct netaddr a;
	char s[NETADDR_TEXT];
	unsigned got = 999;
	bool ok = netaddr_parse_block(view_of(text), &a, &got);

	if (net == NULL) {
		if (ok)
			fail_msg("\"%s\" was accepted", text);
		return;
	}
	if (!ok)
		fail_msg("\"%s\" was refused", text);
	assert_string_equal(netaddr_text(&a, s), net);
	assert_int_equal(got, bits);
}

static void
blocks(void **state)
{
	(void)state;
	expect_block("192.0.2.0/24", "192.0.2.0", 24);
	expect_block("192.0.2.1", "192.0.2.1", 32);
	expect_block("0.0.0.0/0", "0.0.0.0", 0);
	expect_block("192.0.2.128/25", "192.0.2.128", 25);
	expect_block("[2001:db8::]/32", "2001:db8::", 32);
	expect_block("[2001:db8::/32]", "2001:db8::", 32);
	expect_block("2001:db8::/32", "2001:db8::", 32);
	expect_block("2001:db8::1", "2001:db8::1", 128);
	expect_block("::/0", "::", 0);
	expect_block("::ffff:192.0.2.0/120", "192.0.2.0", 24);
	expect_block("::ffff:0:0/96", "0.0.0.0", 0);

	expect_block("192.0.2.1/24", NULL, 0);
	expect_block("192.0.2.128/24", NULL, 0);
	expect_block("2001:db8::1/64", NULL, 0);
	expect_block("::ffff:192.0.2.0/80", NULL, 0);
	expect_block("192.0.2.0/33", NULL, 0);
	expect_block("2001:db8::/129", NULL, 0);
	expect_block("192.0.2.0/", NULL, 0);
	expect_block("192.0.2.0/-1", NULL, 0);
	expect_block("192.0.2.0/+8", NULL, 0);
	expect_block("192.0.2.0/24/24", NULL, 0);
	expect_block("192.0.2.0/255.255.255.0", NULL, 0);
	expect_block("[192.0.2.0/24", NULL, 0);
	expect_block("/24", NULL, 0);
	expect_block("/", NULL, 0);
	expect_block("", NULL, 0);
	expect_block("192.0.2/24", NULL, 0);
}

static bool
in(const char *addr, const char *block)
{
	struct netaddr a, b;
	unsigned bits;

	assert_true(netaddr_parse(view_of(addr), &a));
	assert_true(netaddr_parse_block(view_of(block), &b, &bits));
	return netaddr_in_block(&a, &b, bits);
}

static void
membership(void **state)
{
	struct netaddr none = { 0 }, v4;

	(void)state;
	assert_true(in("192.0.2.255", "192.0.2.0/24"));
	assert_false(in("192.0.3.0", "192.0.2.0/24"));
	assert_true(in("192.0.2.127", "192.0.2.0/25"));
	assert_false(in("192.0.2.128", "192.0.2.0/25"));
	assert_true(in("10.1.2.3", "0.0.0.0/0"));
	assert_true(in("10.1.2.3", "10.1.2.3"));
	assert_false(in("10.1.2.4", "10.1.2.3"));
	assert_true(in("2001:db8:1::", "2001:db8::/32"));
	assert_false(in("2001:db9::", "2001:db8::/32"));
	assert_true(in("2001:db8:8000::", "2001:db8:8000::/33"));
	assert_false(in("2001:db8:7fff::", "2001:db8:8000::/33"));
	assert_true(in("::1", "::/0"));
	/* families do not mix, but a mapped client is an IPv4 client */
	assert_false(in("10.1.2.3", "::/0"));
	assert_false(in("::1", "0.0.0.0/0"));
	assert_true(in("::ffff:10.1.2.3", "10.0.0.0/8"));

	assert_true(netaddr_parse(view_of("10.0.0.1"), &v4));
	assert_false(netaddr_in_block(&none, &none, 0));
	assert_false(netaddr_in_block(&v4, &v4, 33));
}

static void
equality(void **state)
{
	struct netaddr a, b;

	(void)state;
	assert_true(netaddr_parse(view_of("192.0.2.1"), &a));
	b = a;
	b.port = 25;
	b.b[9] = 7;		/* bytes behind an IPv4 address mean nothing */
	assert_true(netaddr_equal(&a, &b));
	b.b[3] = 2;
	assert_false(netaddr_equal(&a, &b));
	assert_true(netaddr_parse(view_of("::1"), &b));
	assert_false(netaddr_equal(&a, &b));
}

static void
who_listens_everywhere_is_at_home(void **state)
{
	static const char *const pairs[][2] = {
		{ "0.0.0.0", "127.0.0.1" }, { "::", "::1" },
		{ "192.0.2.1", "192.0.2.1" }, { "::2", "::2" },
	};
	struct netaddr a, b;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		assert_true(netaddr_parse(view_of(pairs[i][0]), &a));
		assert_true(netaddr_parse(view_of(pairs[i][1]), &b));
		a.port = 25;
		a = netaddr_reachable(&a);
		assert_true(netaddr_equal(&a, &b));
		assert_int_equal(a.port, 25);
	}
}

static void
sockaddrs(void **state)
{
	struct sockaddr_storage ss;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct netaddr a, b;
	char s[NETADDR_TEXT];
	socklen_t n;

	(void)state;
	assert_true(netaddr_parse(view_of("192.0.2.1"), &a));
	a.port = 2525;
	n = netaddr_to_sockaddr(&a, &ss);
	assert_int_equal(n, sizeof(struct sockaddr_in));
	b = netaddr_from_sockaddr((struct sockaddr *)&ss, n);
	assert_true(netaddr_equal(&a, &b));
	assert_int_equal(b.port, 2525);

	assert_true(netaddr_parse(view_of("2001:db8::1"), &a));
	a.port = 25;
	n = netaddr_to_sockaddr(&a, &ss);
	assert_int_equal(n, sizeof(struct sockaddr_in6));
	b = netaddr_from_sockaddr((struct sockaddr *)&ss, n);
	assert_true(netaddr_equal(&a, &b));
	assert_int_equal(b.port, 25);
	/* cut short by whoever filled it in */
	b = netaddr_from_sockaddr((struct sockaddr *)&ss, 10);
	assert_int_equal(b.family, 0);

	assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.9",
	    &in6.sin6_addr), 1);
	in6.sin6_port = htons(99);
	b = netaddr_from_sockaddr((struct sockaddr *)&in6, sizeof(in6));
	assert_int_equal(b.family, AF_INET);
	assert_int_equal(b.port, 99);
	assert_string_equal(netaddr_text(&b, s), "192.0.2.9");

	b = netaddr_from_sockaddr((struct sockaddr *)&un, sizeof(un));
	assert_int_equal(b.family, 0);
	assert_int_equal(netaddr_to_sockaddr(&b, &ss), 0);
	assert_string_equal(netaddr_text(&b, s), "unknown");
}

static void
bytes(void **state)
{
	struct netaddr a, b;

	(void)state;
	assert_true(netaddr_parse(view_of("192.0.2.1"), &a));
	assert_true(view_eq(netaddr_bytes(&a), view_make("\xc0\0\2\1", 4)));
	assert_true(netaddr_from_bytes(netaddr_bytes(&a), &b));
	assert_true(netaddr_equal(&a, &b));
	assert_true(netaddr_from_bytes(view_make(
	    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1", 16), &b));
	assert_true(netaddr_equal(&a, &b));
	assert_false(netaddr_from_bytes(view_make("\xc0\0\2", 3), &b));
	assert_false(netaddr_from_bytes(view_make("", 0), &b));
}

static void
expect_hostport(const char *text, uint16_t fallback, const char *host,
    unsigned port)
{
	struct view h = view_of("untouched");
	uint16_t p = 1;
	bool ok = netaddr_split_hostport(view_of(text), &h, &p, fallback);

	if (host == NULL) {
		if (ok)
			fail_msg("\"%s\" was accepted", text);
		assert_true(view_is(h, "untouched"));
		assert_int_equal(p, 1);
		return;
	}
	if (!ok)
		fail_msg("\"%s\" was refused", text);
	if (!view_is(h, host) || p != port)
		fail_msg("\"%s\": got host \"%.*s\" port %u", text,
		    VIEW_ARGS(h), p);
}

static void
hosts_and_ports(void **state)
{
	(void)state;
	expect_hostport("mail.example.com:2525", 25, "mail.example.com", 2525);
	expect_hostport("mail.example.com", 25, "mail.example.com", 25);
	expect_hostport("[mail.example.com]:587", 25, "mail.example.com", 587);
	expect_hostport("[mail.example.com]", 25, "mail.example.com", 25);
	expect_hostport("[2001:db8::1]:26", 25, "2001:db8::1", 26);
	expect_hostport("[2001:db8::1]", 25, "2001:db8::1", 25);
	expect_hostport("2001:db8::1", 25, "2001:db8::1", 25);
	expect_hostport("127.0.0.1:2525", 0, "127.0.0.1", 2525);
	expect_hostport(":2525", 0, "", 2525);
	expect_hostport("2525", 0, "", 2525);
	expect_hostport("2525", 25, "", 2525);
	expect_hostport("smtp", 0, "", 25);
	expect_hostport("submission", 0, "", 587);
	expect_hostport("Submissions", 0, "", 465);
	expect_hostport("localhost:smtps", 25, "localhost", 465);
	/* a host may be called smtp */
	expect_hostport("smtp", 25, "smtp", 25);

	expect_hostport("", 0, NULL, 0);
	expect_hostport("host:", 25, NULL, 0);
	expect_hostport("host:0", 25, NULL, 0);
	expect_hostport("host:65536", 25, NULL, 0);
	expect_hostport("host:-1", 25, NULL, 0);
	expect_hostport("host:25x", 25, NULL, 0);
	expect_hostport("host:no-such-service", 25, NULL, 0);
	expect_hostport("no-such-service", 0, NULL, 0);
	expect_hostport("ho st:25", 25, NULL, 0);
	expect_hostport("[]:25", 25, NULL, 0);
	expect_hostport("[host:25", 25, NULL, 0);
	expect_hostport("[host]25", 25, NULL, 0);
	expect_hostport("ho]st:25", 25, NULL, 0);
	expect_hostport("a:b:25", 25, NULL, 0);
	expect_hostport("65536", 25, NULL, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses),
		cmocka_unit_test(address_with_nul),
		cmocka_unit_test(blocks),
		cmocka_unit_test(membership),
		cmocka_unit_test(equality),
		cmocka_unit_test(who_listens_everywhere_is_at_home),
		cmocka_unit_test(sockaddrs),
		cmocka_unit_test(bytes),
		cmocka_unit_test(hosts_and_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
