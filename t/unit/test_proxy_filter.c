#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rules/proxy_filter.h"

static unsigned reports;

static void
count(bool error, const char *text, void *arg)
{
	(void)text;
	(void)arg;
	reports += error;
}

static void
check(const char *value, const char *want)
{
	struct conf cf = { .smtpd_proxy_filter = value,
		.smtpd_proxy_ehlo = "gw.example", .smtpd_proxy_timeout = 1000 };
	bool ok = want == NULL || strcmp(want, "[127.0.0.1]:1") != 0;
	struct proxy_filter f;
	struct buf b;

	reports = 0;
	assert_true(proxy_filter_check(&cf, count, NULL) == ok);
	assert_int_equal(reports, !ok);
	buf_init(&b, PROXY_FILTER_MAX);
	proxy_filter_put(&b, &cf, 7);
	if (want == NULL) {
		assert_int_equal(b.n, 0);
		assert_false(proxy_filter_get(buf_view(&b), &f));
	} else {
		assert_true(proxy_filter_get(buf_view(&b), &f));
		assert_true(view_is(f.hop, want));
		assert_true(view_is(f.ehlo, "gw.example"));
		assert_int_equal(f.timeout, 1000);
		assert_int_equal(f.limit, 7);
		/* neither less nor more */
		assert_false(proxy_filter_get(view_head(buf_view(&b), b.n - 1),
		    &f));
		(void)buf_puts(&b, "x");
		assert_false(proxy_filter_get(buf_view(&b), &f));
	}
	buf_free(&b);
}

static void
values(void **state)
{
	(void)state;
	check("", NULL);
	check("  ", NULL);
	check("127.0.0.1:10024", "[127.0.0.1]:10024");
	check(" inet:scan.example:10024 ", "[scan.example]:10024");
	check("INET:[::1]:10024", "[::1]:10024");
	check("localhost:10024", "[127.0.0.1]:10024");
	check(":10024", "[127.0.0.1]:10024");
	check("10024", "[127.0.0.1]:10024");
	/* what cannot be used is nobody, not nothing */
	check("unix:/run/filter", "[127.0.0.1]:1");
	check("scan.example", "[127.0.0.1]:1");
	check("a b:10024", "[127.0.0.1]:1");
	check("127.0.0.1:0", "[127.0.0.1]:1");
	check("a]:25,[b:10024", "[127.0.0.1]:1");
}

static void
limit(void **state)
{
	struct conf cf = { .smtpd_proxy_filter = ":10024",
		.smtpd_proxy_ehlo = "", .smtpd_proxy_timeout = 1000 };
	struct proxy_filter f;
	struct buf b;

	(void)state;
	buf_init(&b, PROXY_FILTER_MAX);
	proxy_filter_put(&b, &cf, 0);
	assert_true(proxy_filter_get(buf_view(&b), &f));
	assert_int_equal(f.limit, PROXY_FILTER_LIMIT);
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values),
		cmocka_unit_test(limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
