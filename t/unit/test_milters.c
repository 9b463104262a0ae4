/* link: rules/milters.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "rules/milters.h"

static struct conf *cf;
static char reported[2000];
static unsigned errors;

static void
report(bool error, const char *text, void *arg)
{
	(void)arg;
	assert_true(error);
	errors++;
	snprintf(reported, sizeof reported, "%s", text);
}

static int
setup(void **state)
{
	(void)state;
	cf = conf_parse(view_of("milter_default_action = tempfail\n"
	    "milter_command_timeout = 7\nmyhostname = gw.example.com\n"),
	    "test", NULL, NULL);
	assert_non_null(cf);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	conf_free(&cf);
	return 0;
}

static struct milter_specs
read_specs(const char *text)
{
	struct milter_specs s;

	if (!milter_specs_open(cf, "smtpd_milters", text, &s, report, NULL))
		fail_msg("%s: %s", text, reported);
	return s;
}

static void
good(void **state)
{
	struct milter_specs s = read_specs("inet:127.0.0.1:8891, "
	    "{ unix:/run/a b.sock , connect_timeout = 10s,command_timeout=2m,"
	    "content_timeout=1h, default_action = Quarantine, protocol=2 }\n"
	    " inet6:[::1]:99 local:rel/sock inet:[2001:db8::1]:smtp");

	(void)state;
	assert_int_equal(s.n, 5);
	assert_string_equal(s.list[0].name, "inet:127.0.0.1:8891");
	assert_int_equal(s.list[0].family, AF_UNSPEC);
	assert_string_equal(s.list[0].host, "127.0.0.1");
	assert_string_equal(s.list[0].port, "8891");
	assert_int_equal(s.list[0].connect_ms, 30000);
	assert_int_equal(s.list[0].command_ms, 7000);
	assert_int_equal(s.list[0].content_ms, 300000);
	assert_int_equal(s.list[0].fallback, MILTER_DEFAULT_TEMPFAIL);
	assert_int_equal(s.list[0].version, 6);
	assert_string_equal(s.list[1].name, "unix:/run/a b.sock");
	assert_int_equal(s.list[1].family, AF_UNIX);
	assert_string_equal(s.list[1].host, "/run/a b.sock");
	assert_null(s.list[1].port);
	assert_int_equal(s.list[1].connect_ms, 10000);
	assert_int_equal(s.list[1].command_ms, 120000);
	assert_int_equal(s.list[1].content_ms, 3600000);
	assert_int_equal(s.list[1].fallback, MILTER_DEFAULT_QUARANTINE);
	assert_int_equal(s.list[1].version, 2);
	assert_int_equal(s.list[2].family, AF_INET6);
	assert_string_equal(s.list[2].host, "::1");
	assert_string_equal(s.list[3].host, "rel/sock");
	assert_string_equal(s.list[4].host, "2001:db8::1");
	assert_string_equal(s.list[4].port, "smtp");
	milter_specs_free(&s);
	assert_int_equal(s.n, 0);
	s = read_specs(" ");
	assert_int_equal(s.n, 0);
	milter_specs_free(&s);
}

static void
bad(void **state)
{
	static const struct { const char *text, *why; } list[] = {
		{ "127.0.0.1:25", "127.0.0.1:25: need inet:host:port or unix:path" },
		{ "inet:25", "inet:25: need inet:host:port" },
		{ "inet::25", "inet::25: need inet:host:port" },
		{ "inet:a:0", "inet:a:0: need inet:host:port" },
		{ "inet:a:65536", "inet:a:65536: need inet:host:port" },
		{ "inet:a:", "inet:a:: need inet:host:port" },
		{ "inet:[::1:25", "inet:[::1:25: need inet:host:port" },
		{ "inet:[]:25", "inet:[]:25: need inet:host:port" },
		{ "unix:", "unix:: bad path" },
		{ "{", "{: braces do not match" },
		{ "{}", "{}: need inet:host:port or unix:path" },
		{ "{inet:a:1, x}", "x: need name=value" },
		{ "{inet:a:1, x=y}", "x: no such setting" },
		{ "{inet:a:1, connect_timeout=x}", "connect_timeout: need a time" },
		{ "{inet:a:1, content_timeout=0}", "content_timeout: need a time" },
		{ "{inet:a:1, protocol=7}", "7: need a version from 2 to 6" },
		{ "{inet:a:1, default_action=drop}", "drop: must be accept, reject, "
		    "tempfail, quarantine or shutdown" },
		{ "{unix:/a}b", "{unix:/a}b: braces do not match" },
	};
	char want[300], path[200];
	struct milter_specs s;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof list / sizeof list[0]; i++) {
		assert_false(milter_specs_open(cf, "smtpd_milters",
		    list[i].text, &s, report, NULL));
		snprintf(want, sizeof want, "main.cf: smtpd_milters: %s",
		    list[i].why);
		assert_string_equal(reported, want);
		assert_int_equal(s.n, 0);
	}
	memset(path, 'x', sizeof path - 1);
	memcpy(path, "unix:", 5);
	path[sizeof path - 1] = '\0';
	assert_false(milter_specs_open(cf, "p", path, &s, report, NULL));
	/* each mistake is named */
	errors = 0;
	assert_false(milter_specs_open(cf, "p", "a b inet:c:1", &s, report,
	    NULL));
	assert_int_equal(errors, 2);
	assert_false(milter_specs_open(cf, "p", "inet:a:1 inet:a:1 inet:a:1 "
	    "inet:a:1 inet:a:1 inet:a:1 inet:a:1 inet:a:1 inet:a:1 inet:a:1 "
	    "inet:a:1 inet:a:1 inet:a:1 inet:a:1 inet:a:1 inet:a:1 inet:a:1",
	    &s, report, NULL));
	assert_string_equal(reported, "main.cf: p: inet:a:1: too many filters");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good), cmocka_unit_test(bad),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
