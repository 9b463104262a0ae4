/* Which resolvers there are, and which of them are believed. */
#include "conf_help.h"
#include "lib/resolvers.h"

static enum dnssec_trust
trust(const char *resolvers, const char *more, char why[DNSSEC_WHY_MAX])
{
	enum dnssec_trust got;
	struct resolvers r;
	struct conf *cf;
	char text[1000];

	(void)snprintf(text, sizeof text, "dns_resolvers = %s\n%s", resolvers,
	    more);
	cf = parse(text);
	assert_non_null(cf);
	resolvers_find(cf, &r);
	got = dnssec_trust(cf, &r, why);
	conf_free(&cf);
	return got;
}

static void
test_loopback(void **state)
{
	static const char *const believed[] = { "127.0.0.1", "127.0.0.53",
		"127.255.255.254@5353", "::1", "::1@53", "127.0.0.1 ::1",
		"::ffff:127.0.0.1" };
	static const char *const not[] = { "192.0.2.1", "128.0.0.1",
		"126.255.255.255", "0.0.0.0", "::", "::2", "2001:db8::1",
		"fe80::1", "127.0.0.1 192.0.2.1", "192.0.2.1 127.0.0.1",
		"::1 2001:db8::1", "::ffff:192.0.2.1", "::127.0.0.1",
		/* what is not understood might be anywhere */
		"127.0.0.1 fe80::1%eth0", "127.0.0.1 dns.example",
		"127.0.0.1@0", "127.0.0.1@53x", "127.1",
		"::1 ::1 ::1 ::1 ::1 ::1 ::1 ::1 192.0.2.1",
		"::1 ::1 ::1 ::1 ::1 ::1 ::1 ::1 ::1" };
	char why[DNSSEC_WHY_MAX];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof believed / sizeof believed[0]; i++) {
		assert_int_equal(trust(believed[i], "", why), DNSSEC_AD);
		assert_int_equal(trust(believed[i], "dns_trust_ad = no\n",
		    why), DNSSEC_NONE);
	}
	for (i = 0; i < sizeof not / sizeof not[0]; i++) {
		if (trust(not[i], "", why) != DNSSEC_NONE)
			fail_msg("%s", not[i]);
		assert_non_null(strstr(why, "no dns_trust_anchor_file"));
	}
}

static void
test_anchors(void **state)
{
	char why[DNSSEC_WHY_MAX];

	(void)state;
	assert_int_equal(trust("192.0.2.1", "dns_trust_anchor_file = /x\n",
	    why), DNSSEC_ANCHORS);
	assert_int_equal(trust("127.0.0.1", "dns_trust_anchor_file = /x\n",
	    why), DNSSEC_ANCHORS);
	assert_string_equal(why,
	    "answers are validated with dns_trust_anchor_file = /x");
}

static void
test_why(void **state)
{
	char why[DNSSEC_WHY_MAX];

	(void)state;
	(void)trust("127.0.0.1 192.0.2.1", "", why);
	assert_non_null(strstr(why,
	    ", and the resolver 192.0.2.1 is not on loopback"));
	(void)trust("127.0.0.1", "dns_trust_ad = no\n", why);
	assert_non_null(strstr(why, ", and dns_trust_ad = no"));
	assert_int_equal(trust("127.0.0.1", "", why), DNSSEC_AD);
	assert_string_equal(why,
	    "the resolver on loopback is believed (127.0.0.1)");
}

static void
test_find(void **state)
{
	struct resolvers r;
	struct conf *cf = parse("dns_resolvers = 192.0.2.1@54 ::1\n");

	(void)state;
	assert_non_null(cf);
	resolvers_find(cf, &r);
	assert_int_equal(r.n, 2);
	assert_false(r.more);
	assert_int_equal(r.list[0].port, 54);
	assert_int_equal(r.list[1].port, 53);
	assert_int_equal(r.list[1].family, AF_INET6);
	conf_free(&cf);
}

static int
setup(void **state)
{
	(void)state;
	buf_init(&said, 65536);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	buf_free(&said);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_anchors),
		cmocka_unit_test(test_why),
		cmocka_unit_test(test_find),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
