/* Levels of TLS logging, and the tables that have them. */
#include "conf_help.h"
#include "rules/tls_tell.h"

static void
on_report(bool error, const char *text, void *arg)
{
	(void)error;
	(void)buf_puts(arg, text);
}

/* As letters: Summary, Peer, sTeps, Handshake, Bytes, tRace; or the word. */
static const char *
letters(uint32_t tell)
{
	static char text[10];

	(void)snprintf(text, sizeof text, "%s%s%s%s%s%s",
	    (tell & TLS_TELL_SUMMARY) != 0 ? "S" : "",
	    (tell & TLS_TELL_PEER) != 0 ? "P" : "",
	    (tell & TLS_TELL_STEPS) != 0 ? "T" : "",
	    (tell & TLS_TELL_HANDSHAKE) != 0 ? "H" : "",
	    (tell & TLS_TELL_BYTES) != 0 ? "B" : "",
	    (tell & TLS_TELL_TRACE) != 0 ? "R" : "");
	return text;
}

static const char *
level(const char *words)
{
	static char wrong[100];
	struct view bad;
	uint32_t tell;

	if (tls_tell_parse(view_of(words), &tell, &bad))
		return letters(tell);
	(void)snprintf(wrong, sizeof wrong, "bad %.*s", VIEW_ARGS(bad));
	return wrong;
}

static void
test_levels(void **state)
{
	(void)state;
	assert_string_equal(level("0"), "");
	assert_string_equal(level("none"), "");
	assert_string_equal(level(""), "");
	assert_string_equal(level("1"), "S");
	assert_string_equal(level("Routine"), "S");
	assert_string_equal(level("2"), "SPT");
	assert_string_equal(level("3"), "SPTH");
	assert_string_equal(level("4"), "SPTHB");
	assert_string_equal(level("9"), "SPTHB");
	assert_string_equal(level("0,trace"), "R");
	assert_string_equal(level("1, trace"), "SR");
	assert_string_equal(level("trace 2"), "SPTR");
	assert_string_equal(level("summary,peercert"), "SP");
	assert_string_equal(level("10"), "bad 10");
	assert_string_equal(level("-1"), "bad -1");
	assert_string_equal(level("1,trac"), "bad trac");
}

/* By default 1; or what is wrong. */
static const char *
found(const char *more, const char *maps, const char *name, const char *addr)
{
	static char wrong[1000];
	struct conf *cf = parse(more);
	const struct tls_tell_params p = { "x_loglevel", "1",
		"smtpd_tls_loglevel_maps", maps };
	struct netaddr a = { 0 };
	struct tls_tells t = { 0 };
	const char *is;
	struct buf b;

	buf_init(&b, sizeof wrong - 1);
	if (addr[0] != '\0')
		assert_true(netaddr_parse(view_of(addr), &a));
	if (tls_tells_open(cf, &p, &t, on_report, &b)) {
		is = letters(tls_tells_find(&t, view_of(name), &a));
		tls_tells_free(&t);
	} else {
		(void)snprintf(wrong, sizeof wrong, "%s", buf_cstr(&b));
		is = wrong;
	}
	buf_free(&b);
	conf_free(&cf);
	return is;
}

static void
test_maps(void **state)
{
	static const char list[] = "inline:{ {mx.example.com = 2} "
	    "{.example.net = 3} {192.0.2 = 4} {2001:db8 = 0} "
	    "{quiet.example.com = DUNNO} {192.0.2.9 = trace} "
	    "{unknown = 0} } cidr:{ {10.0.0.0/8 2,trace} }";
	static const char parents[] =
	    "parent_domain_matches_subdomains = smtpd_tls_loglevel_maps\n";

	(void)state;
	assert_string_equal(found("", list, "mx.example.com", "10.1.1.1"),
	    "SPT");
	assert_string_equal(found("", list, "a.b.EXAMPLE.net", "10.1.1.1"),
	    "SPTH");
	assert_string_equal(found("", list, "example.net", "198.51.100.1"),
	    "S");
	assert_string_equal(found(parents, "inline:{example.net=3}",
	    "a.example.net", ""), "SPTH");
	assert_string_equal(found("", list, "other.example", "192.0.2.1"),
	    "SPTHB");
	assert_string_equal(found("", list, "unknown", "192.0.2.9"), "R");
	assert_string_equal(found("", list, "unknown", "2001:db8::1"), "");
	assert_string_equal(found("", list, "", "10.0.0.1"), "SPTR");
	assert_string_equal(found("", list, "quiet.example.com", "10.0.0.1"),
	    "S");
	assert_string_equal(found("", list, "unknown", ""), "S");
	assert_string_equal(found("", "", "mx.example.com", "10.0.0.1"), "S");
	assert_string_equal(found("", "fail:x", "mx.example.com", "10.0.0.1"),
	    "S");
}

static void
test_mistakes(void **state)
{
	(void)state;
	assert_non_null(strstr(found("", "inline:{a=loud}", "a", ""),
	    "loud is no level of TLS logging"));
	assert_non_null(strstr(found("", "nosuch:x", "a", ""), "nosuch"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_mistakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
