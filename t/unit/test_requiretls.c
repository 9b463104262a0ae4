/* link: rules/requiretls.c rules/sts_policy.c rules/tls_policy.c */
/* REQUIRETLS: what is asked of whom, what has it, and what headers say. */
#include "conf_help.h"
#include "lib/envelope.h"
#include "lib/header_watch.h"
#include "rules/requiretls.h"

static void
on_report(bool error, const char *text, void *arg)
{
	(void)error;
	(void)buf_puts(arg, text);
}

/* The policy for hop, or what is wrong with the list; "?": a table failed. */
static const char *
policy(const char *list, const char *hop)
{
	static const char *const names[] = {
		[REQUIRETLS_OFF] = "off", [REQUIRETLS_DISABLE] = "disable",
		[REQUIRETLS_OPPORTUNISTIC] = "opportunistic",
		[REQUIRETLS_STARTTLS] = "opportunistic+starttls",
		[REQUIRETLS_ENFORCE] = "enforce",
	};
	static char wrong[4096];
	const struct table *table;
	enum requiretls_policy p;
	struct table_list l;
	struct buf b;
	bool ok;

	buf_init(&b, sizeof wrong - 1);
	ok = requiretls_open(list, "/nowhere", &l, on_report, &b);
	(void)snprintf(wrong, sizeof wrong, "%s", buf_cstr(&b));
	buf_free(&b);
	if (!ok)
		return wrong;
	ok = requiretls_find(&l, view_of(hop), &p, &table);
	table_list_free(&l);
	return ok ? names[p] : "?";
}

static void
test_policy(void **state)
{
	static const char list[] = "inline:{ {example.com = opportunistic} "
	    "{.example.com = Opportunistic+StartTLS} {x.test = disable} } "
	    "cidr:{ {10.0.0.0/8 opportunistic} }";
	char with_last[400];

	(void)state;
	assert_string_equal(policy(list, "example.com"), "opportunistic");
	assert_string_equal(policy(list, "a.b.example.com"),
	    "opportunistic+starttls");
	assert_string_equal(policy(list, "x.test"), "disable");
	assert_string_equal(policy(list, "a.x.test"), "enforce");
	assert_string_equal(policy(list, "10.1.2.3"), "opportunistic");
	assert_string_equal(policy(list, "192.0.2.1"), "enforce");
	assert_string_equal(policy(list, ""), "enforce");
	assert_string_equal(policy("", "example.com"), "enforce");
	(void)snprintf(with_last, sizeof with_last, "%s disable", list);
	/* A parent's entry comes before the word for the rest. */
	assert_string_equal(policy(with_last, "a.example.com"),
	    "opportunistic+starttls");
	assert_string_equal(policy(with_last, "other.test"), "disable");
	assert_string_equal(policy("fail:x enforce", "a.test"), "?");
}

static void
test_mistakes(void **state)
{
	(void)state;
	assert_string_equal(policy("maybe", "x"), "smtp_requiretls_policy: "
	    "unknown REQUIRETLS policy \"maybe\"");
	assert_non_null(strstr(policy("inline:{ {a = must} }", "x"),
	    "unknown REQUIRETLS policy \"must\""));
	assert_non_null(strstr(policy("nosuch:x", "x"), "nosuch"));
}

static void
test_default(void **state)
{
	struct conf *cf;

	(void)state;
	cf = parse("mydomain = example.com\nmyhostname = gw.example.com\n");
	assert_non_null(cf);
	assert_string_equal(policy(cf->smtp_requiretls_policy, "example.com"),
	    "opportunistic");
	assert_string_equal(policy(cf->smtp_requiretls_policy,
	    "exchange.example.com"), "opportunistic");
	assert_string_equal(policy(cf->smtp_requiretls_policy, "10.0.0.1"),
	    "opportunistic");
	assert_string_equal(policy(cf->smtp_requiretls_policy, "::1"),
	    "opportunistic");
	assert_string_equal(policy(cf->smtp_requiretls_policy,
	    "example.net"), "enforce");
	assert_string_equal(policy(cf->lmtp_requiretls_policy,
	    "example.net"), "opportunistic");
	conf_free(&cf);
}

/* What a session has -> what the log says, and for which policies it will do
 * (o: opportunistic, s: +starttls, e: enforce). */
static void
test_sessions(void **state)
{
	static const struct {
		bool tls, offered;
		enum tls_level held;
		const char *lacks, *allows;
		bool asks;
	} cases[] = {
		{ false, false, TLS_LEVEL_NONE, "nostarttls", "o", false },
		/* Before STARTTLS anybody may have said it. */
		{ false, true, TLS_LEVEL_NONE, "nostarttls", "o", false },
		{ true, false, TLS_LEVEL_ENCRYPT, "none", "os", false },
		{ true, false, TLS_LEVEL_SECURE, "none", "os", false },
		{ true, true, TLS_LEVEL_ENCRYPT, "nocertmatch", "os", true },
		{ true, true, TLS_LEVEL_HALFDANE, "nocertmatch", "os", true },
		{ true, true, TLS_LEVEL_FINGERPRINT, NULL, "ose", true },
		{ true, true, TLS_LEVEL_DANE, NULL, "ose", true },
		{ true, true, TLS_LEVEL_DANE_ONLY, NULL, "ose", true },
		{ true, true, TLS_LEVEL_VERIFY, NULL, "ose", true },
		{ true, true, TLS_LEVEL_SECURE, NULL, "ose", true },
	};
	struct requiretls_session s;
	const char *lacks;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		s = (struct requiretls_session){ .tls = cases[i].tls,
			.held = cases[i].held, .offered = cases[i].offered };
		lacks = requiretls_lacks(&s);
		assert_string_equal(lacks != NULL ? lacks : "",
		    cases[i].lacks != NULL ? cases[i].lacks : "");
		assert_true(requiretls_allows(REQUIRETLS_OFF, &s));
		assert_true(requiretls_allows(REQUIRETLS_DISABLE, &s));
		assert_false(requiretls_asks(REQUIRETLS_OFF, &s));
		assert_false(requiretls_asks(REQUIRETLS_DISABLE, &s));
		assert_int_equal(requiretls_allows(REQUIRETLS_OPPORTUNISTIC,
		    &s), strchr(cases[i].allows, 'o') != NULL);
		assert_int_equal(requiretls_allows(REQUIRETLS_STARTTLS, &s),
		    strchr(cases[i].allows, 's') != NULL);
		assert_int_equal(requiretls_allows(REQUIRETLS_ENFORCE, &s),
		    strchr(cases[i].allows, 'e') != NULL);
		assert_int_equal(requiretls_asks(REQUIRETLS_OPPORTUNISTIC,
		    &s), cases[i].asks);
	}
}

/* -- headers --------------------------------------------------------------- */

static uint32_t
watched(const char *text, size_t step)
{
	struct view v = view_of(text);
	struct header_watch w;

	header_watch_init(&w);
	for (; v.n > 0; v = view_from(v, step < v.n ? step : v.n))
		header_watch_feed(&w, view_head(v, step));
	return header_watch_flags(&w);
}

static void
test_headers(void **state)
{
	static const struct {
		const char *text;
		uint32_t flags;
	} cases[] = {
		{ "", 0 },
		{ "TLS-Required: No\r\n\r\n", ENVELOPE_TLS_OPTIONAL },
		{ "TLS-Required: no", ENVELOPE_TLS_OPTIONAL },
		{ "Subject: x\r\ntls-required:no \r\n\r\nbody\r\n",
		    ENVELOPE_TLS_OPTIONAL },
		{ "TLS-Required:\r\n\tno\r\n\r\n", ENVELOPE_TLS_OPTIONAL },
		{ "TLS-Required:\r\n \r\n  no\r\nX: y\r\n\r\n",
		    ENVELOPE_TLS_OPTIONAL },
		{ "TLS-Required : no\r\n\r\n", ENVELOPE_TLS_OPTIONAL },
		/* Anything else, or twice, or not in the header. */
		{ "TLS-Required: yes\r\n\r\n", 0 },
		{ "TLS-Required: no way\r\n\r\n", 0 },
		{ "TLS-Required: no\r\n yes\r\n\r\n", 0 },
		{ "TLS-Required:\r\n\r\n", 0 },
		{ "TLS-Required: no\r\nTLS-Required: no\r\n\r\n", 0 },
		{ "TLS-Required: yes\r\nTLS-Required: no\r\n\r\n", 0 },
		{ "X: y\r\n TLS-Required: no\r\n\r\n", 0 },
		{ "XTLS-Required: no\r\n\r\n", 0 },
		{ "\r\nTLS-Required: no\r\n\r\n", 0 },
		{ "X: y\r\n\r\nTLS-Required: no\r\n", 0 },
		{ "Require-TLS-ESMTP: yes\r\n\r\n", ENVELOPE_REQUIRETLS },
		{ "Require-TLS-ESMTP: yes\r\nRequire-TLS-ESMTP: Yes\r\n\r\n",
		    ENVELOPE_REQUIRETLS },
		{ "Require-TLS-ESMTP: no\r\n\r\n", 0 },
		{ "TLS-Required: no\r\nRequire-TLS-ESMTP: yes\r\n\r\n",
		    ENVELOPE_REQUIRETLS | ENVELOPE_TLS_OPTIONAL },
		/* Lines too long for it. */
		{ "Subject: 0123456789012345678901234567890123456789012345678"
		    "90123456789\r\nTLS-Required: no\r\n\r\n",
		    ENVELOPE_TLS_OPTIONAL },
		{ "TLS-Required: no (01234567890123456789012345678901234567890"
		    "123456789)\r\n\r\n", 0 },
		{ "X: 012345678901234567890123456789012345678901234567890123456"
		    "789\r\n TLS-Required: no\r\n\r\n", 0 },
		{ "TLS-Required:                                              "
		    "                                 no\r\n\r\n",
		    ENVELOPE_TLS_OPTIONAL },
	};
	size_t i, step;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (step = 1; step < 200; step++)
			if (watched(cases[i].text, step) != cases[i].flags)
				fail_msg("%s\nby %zu: %x, not %x",
				    cases[i].text, step,
				    watched(cases[i].text, step),
				    cases[i].flags);
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
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_sessions),
		cmocka_unit_test(test_headers),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
