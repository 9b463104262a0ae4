/* link: rules/sts_policy.c rules/tls_policy.c */
/* What TLS with a next hop must be. */
#include "conf_help.h"
#include "rules/tls_policy.h"

static struct arena *arena;
static struct conf *cf;
static struct tls_policy policy;
static struct buf why;

/* The entry's policy as its key, tabs as '|'; or what is wrong with it. */
static const char *
entry(const char *text)
{
	static char out[2000];
	size_t i;

	buf_clear(&why);
	if (!tls_policy_entry(cf, view_of(text), arena, &policy, &why))
		return buf_cstr(&why);
	for (i = 0; i < policy.key.n && i + 1 < sizeof out; i++)
		out[i] = policy.key.p[i] == '\t' ? '|' : policy.key.p[i];
	out[i] = '\0';
	return out;
}

static int
setup(void **state)
{
	(void)state;
	buf_init(&said, 65536);
	buf_init(&why, 4096);
	arena = arena_new(1 << 20);
	cf = parse("smtp_tls_exclude_ciphers = RC4\n"
	    "smtp_tls_mandatory_exclude_ciphers = DES\n"
	    "smtp_tls_ciphers = medium\nsmtp_tls_mandatory_ciphers = high\n"
	    "smtp_tls_protocols = TLSv1.2\n"
	    "smtp_tls_mandatory_protocols = TLSv1.3\n"
	    "smtp_tls_fingerprint_cert_match = AA:BB\n");
	assert_non_null(cf);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	conf_free(&cf);
	arena_free(&arena);
	buf_free(&why);
	buf_free(&said);
	return 0;
}

static void
entries(void **state)
{
	(void)state;
	assert_string_equal(entry("none"), "none");
	assert_string_equal(entry("may"), "may|TLSv1.2|medium|RC4|");
	assert_string_equal(entry("Encrypt"),
	    "encrypt|TLSv1.3|high|RC4 DES|");
	assert_string_equal(entry("verify"),
	    "verify|TLSv1.3|high|RC4 DES||hostname");
	assert_string_equal(entry("secure"),
	    "secure|TLSv1.3|high|RC4 DES||nexthop|dot-nexthop");
	assert_string_equal(entry("secure match=a.example:.b.example "
	    "match=c.example, servername=hostname"), "secure|TLSv1.3|high|"
	    "RC4 DES|hostname|a.example|.b.example|c.example");
	assert_string_equal(entry("fingerprint"),
	    "fingerprint|TLSv1.3|high|RC4 DES||AA:BB");
	assert_string_equal(entry("fingerprint match=CC:DD|EE match=FF"),
	    "fingerprint|TLSv1.3|high|RC4 DES||CC:DD|EE|FF");
	assert_string_equal(entry("may protocols=TLSv1.2:TLSv1.3 "
	    "ciphers=high exclude=MD5:SHA1"),
	    "may|TLSv1.2:TLSv1.3|high|MD5:SHA1|");
	/* blanks, where braces let them be */
	assert_string_equal(entry("secure { match = a.example : b.example }"
	    " {servername = x.example}"), "secure|TLSv1.3|high|RC4 DES|"
	    "x.example|a.example|b.example");
	assert_string_equal(entry("fingerprint { match = AA:BB | CC:DD }"),
	    "fingerprint|TLSv1.3|high|RC4 DES||AA:BB|CC:DD");
	/* it replaces both lists, with nothing too */
	assert_string_equal(entry("encrypt exclude="),
	    "encrypt|TLSv1.3|high||");
}

static void
mistakes(void **state)
{
	static const char *const bad[][2] = {
		{ "", "unknown level \"\"" },
		{ "maybe", "unknown level \"maybe\"" },
		{ "none ciphers=high", "attributes at level none" },
		{ "may high", "no attribute=value: high" },
		{ "may color=red", "unknown attribute color" },
		{ "may match=a.example", "attribute match at level may" },
		{ "secure match=", "attribute match without a value" },
		{ "may ciphers=high ciphers=high", "attribute ciphers twice" },
		{ "may ciphers=", "attribute ciphers without a value" },
		{ "may ciphers=best", "ciphers: unknown grade best" },
		{ "may protocols=TLSv9", "protocols: unknown protocol TLSv9" },
		{ "may protocols=!TLSv1.3:!TLSv1.2:!TLSv1.1:!TLSv1:!SSLv3",
		    "protocols: none is left" },
		{ "may exclude=A exclude=B", "attribute exclude twice" },
		{ "may { servername = a b }",
		    "attribute servername: more than a word" },
		{ "secure policy_type=sts { mx_host_pattern = a\tb }",
		    "attribute mx_host_pattern: more than a word" },
		{ "secure match=a\vb", "a control character" },
		{ "may exclude=@SECLEVEL=0",
		    "exclude: @SECLEVEL=0 is no name of a cipher" },
	};
	struct buf many;
	unsigned i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_string_equal(entry(bad[i][0]), bad[i][1]);
	buf_init(&many, 100000);
	assert_true(buf_puts(&many, "secure match=a"));
	for (i = 0; i < TLS_MATCHES_MAX; i++)
		assert_true(buf_puts(&many, ":a"));
	assert_string_equal(entry(buf_cstr(&many)), "match: more than 100");
	buf_clear(&many);
	assert_true(buf_puts(&many, "may servername="));
	for (i = 0; i < TLS_POLICY_KEY_MAX; i++)
		assert_true(buf_putc(&many, 'a'));
	assert_string_equal(entry(buf_cstr(&many)), "the policy is too long");
	buf_free(&many);
}

static void
the_parameters(void **state)
{
	static const struct {
		const char *text;
		enum tls_level level;
	} good[] = {
		{ "", TLS_LEVEL_MAY },
		{ "compatibility_level = 3.10\n", TLS_LEVEL_NONE },
		{ "compatibility_level = 3.10\nsmtp_use_tls = yes\n",
		    TLS_LEVEL_MAY },
		{ "smtp_enforce_tls = yes\n", TLS_LEVEL_VERIFY },
		{ "smtp_enforce_tls = yes\nsmtp_tls_enforce_peername = no\n",
		    TLS_LEVEL_ENCRYPT },
		{ "smtp_tls_security_level = secure\n", TLS_LEVEL_SECURE },
		/* Empty is not a level: the older names count. */
		{ "smtp_tls_security_level =\n", TLS_LEVEL_NONE },
		{ "smtp_tls_security_level =\nsmtp_use_tls = yes\n",
		    TLS_LEVEL_MAY },
		{ "smtp_tls_security_level =\nsmtp_use_tls = yes\n"
		    "smtp_enforce_tls = yes\n", TLS_LEVEL_VERIFY },
		{ "smtp_tls_security_level =\nsmtp_enforce_tls = yes\n"
		    "smtp_tls_enforce_peername = no\n", TLS_LEVEL_ENCRYPT },
		{ "smtp_tls_security_level = none\nsmtp_enforce_tls = yes\n",
		    TLS_LEVEL_NONE },
		{ "smtp_tls_wrappermode = yes\n", TLS_LEVEL_ENCRYPT },
	};
	struct conf *one;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof good / sizeof good[0]; i++) {
		one = parse(good[i].text);
		assert_non_null(one);
		assert_true(tls_policy_conf(one, arena, &policy, &why));
		assert_int_equal(policy.level, good[i].level);
		conf_free(&one);
	}
	one = parse("smtp_tls_security_level = strong\n");
	assert_false(tls_policy_conf(one, arena, &policy, &why));
	conf_free(&one);
}

static void
hosts_of_a_domain(void **state)
{
	const struct view hosts[] = { view_of("*.Mail.example"),
		view_of("mx.example") };
	struct conf *loose;

	(void)state;
	assert_true(tls_policy_domain(cf, hosts, 2, arena, &policy, &why));
	assert_int_equal(policy.level, TLS_LEVEL_SECURE);
	assert_int_equal(policy.source, TLS_FROM_DOMAIN);
	assert_true(tls_policy_host(&policy, view_of("MX.example")));
	assert_true(tls_policy_host(&policy, view_of("a.mail.example")));
	assert_false(tls_policy_host(&policy, view_of("a.b.mail.example")));
	assert_false(tls_policy_host(&policy, view_of("mail.example")));
	assert_false(tls_policy_host(&policy, view_of(".mail.example")));
	assert_false(tls_policy_host(&policy, view_of("mx.example.net")));
	assert_false(tls_policy_host(&policy, view_of("")));
	assert_false(tls_policy_domain(cf, hosts, 0, arena, &policy, &why));
	/* any host, if it shows one of the names */
	loose = parse("smtp_tls_enforce_sts_mx_patterns = no\n");
	assert_non_null(loose);
	assert_true(tls_policy_domain(loose, hosts, 2, arena, &policy, &why));
	assert_int_equal(policy.level, TLS_LEVEL_SECURE);
	assert_true(tls_policy_host(&policy, view_of("mx.example.net")));
	assert_int_equal(policy.n_match, 2);
	assert_true(view_is(policy.match[1], "mx.example"));
	assert_true(view_is(policy.match[0], ".Mail.example"));
	conf_free(&loose);
	/* for mail that asks for no protection */
	assert_true(tls_policy_relaxed(cf, arena, &policy, &why));
	assert_int_equal(policy.level, TLS_LEVEL_MAY);
	/* without patterns all are good */
	assert_string_equal(entry("none"), "none");
	assert_true(tls_policy_host(&policy, view_of("any.example")));
}

/* As a program that knows MTA-STS says it. */
static void
hosts_of_an_entry(void **state)
{
	struct conf *loose;

	(void)state;
	assert_non_null(strstr(entry("secure match=.example.com:mx.test "
	    "servername=hostname policy_type=sts policy_domain=example.com, "
	    "policy_ttl=86400 mx_host_pattern=*.example.com "
	    "mx_host_pattern=mx.test { policy_string = version: STSv1 } "
	    "{ policy_string = mode: enforce }"), "|hostname|hostname\v"));
	assert_int_equal(policy.n_match, 1);
	assert_true(tls_policy_host(&policy, view_of("a.example.com")));
	assert_true(tls_policy_host(&policy, view_of("mx.test")));
	assert_false(tls_policy_host(&policy, view_of("mx.example.net")));
	/* Not of MTA-STS, or not to be enforced. */
	(void)entry("secure match=a.test policy_type=tlsa "
	    "mx_host_pattern=mx.test");
	assert_true(tls_policy_host(&policy, view_of("mx.example.net")));
	assert_true(view_is(policy.match[0], "a.test"));
	(void)entry("encrypt policy_type=sts mx_host_pattern=mx.test");
	assert_true(tls_policy_host(&policy, view_of("mx.example.net")));
	assert_int_equal(policy.n_match, 0);
	loose = parse("smtp_tls_enforce_sts_mx_patterns = no\n");
	assert_non_null(loose);
	assert_true(tls_policy_entry(loose, view_of("secure match=a.test "
	    "policy_type=sts mx_host_pattern=mx.test"), arena, &policy, &why));
	assert_true(tls_policy_host(&policy, view_of("mx.example.net")));
	assert_true(view_is(policy.match[0], "a.test"));
	conf_free(&loose);
	assert_non_null(strstr(entry("secure { servername = a.test }"),
	    "|a.test|"));
	assert_string_equal(entry("secure { }"), "no attribute=value: {}");
	assert_memory_equal(entry("secure {policy_string=x"), "secure|", 7);
	assert_string_equal(entry("secure { policy_strings = x }"),
	    "unknown attribute policy_strings");
}

static const char *
found(const struct table_list *maps, const char *hop)
{
	static struct buf value;
	const struct table *t;
	unsigned line;

	if (value.max == 0)
		buf_init(&value, 1000);
	switch (tls_policy_find(maps, view_of(hop), &value, &t, &line)) {
	case TABLE_FOUND:
		return buf_cstr(&value);
	case TABLE_NOT_FOUND:
		return "-";
	case TABLE_FAILED:
		return "failed";
	}
	return "?";
}

static void
next_hops(void **state)
{
	struct table_list maps;

	(void)state;
	assert_true(table_list_open("inline:{ { example.com = may }, "
	    "{ .example.com = encrypt }, { [mx.example.net] = verify }, "
	    "{ .net = secure }, { [mx.example.net]:587 = none } }", "/",
	    &maps, listener, NULL));
	assert_string_equal(found(&maps, "example.com"), "may");
	assert_string_equal(found(&maps, "Example.COM"), "may");
	assert_string_equal(found(&maps, "a.b.example.com"), "encrypt");
	assert_string_equal(found(&maps, "[mx.example.net]"), "verify");
	assert_string_equal(found(&maps, "[mx.example.net]:587"), "none");
	/* only domains have parents */
	assert_string_equal(found(&maps, "[mx.example.net]:25"), "-");
	assert_string_equal(found(&maps, "[mx.other.net]"), "-");
	assert_string_equal(found(&maps, "mx.example.net:25"), "-");
	assert_string_equal(found(&maps, "other.net"), "secure");
	assert_string_equal(found(&maps, "example.org"), "-");
	assert_string_equal(found(&maps, ""), "-");
	table_list_free(&maps);
	assert_true(table_list_open("fail:x", "/", &maps, listener, NULL));
	assert_string_equal(found(&maps, "example.org"), "failed");
	table_list_free(&maps);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries),
		cmocka_unit_test(mistakes),
		cmocka_unit_test(the_parameters),
		cmocka_unit_test(hosts_of_a_domain),
		cmocka_unit_test(hosts_of_an_entry),
		cmocka_unit_test(next_hops),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
