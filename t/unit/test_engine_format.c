/* link: proxy/engine_conf.c proxy/engine_format.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proxy/engine_format.h"

static struct engine_conf *
conf(const char *text)
{
	struct engine_conf *c;
	struct buf err;

	buf_init(&err, ENGINE_ERROR_MAX);
	c = engine_conf_parse("test:/etc/x.cf", view_of(text), &err);
	assert_non_null(c);
	buf_free(&err);
	return c;
}

static void
bad(const char *text, const char *why)
{
	struct buf err;

	buf_init(&err, ENGINE_ERROR_MAX);
	assert_null(engine_conf_parse("test:/x", view_of(text), &err));
	assert_string_equal(buf_cstr(&err), why);
	buf_free(&err);
}

static void
test_conf(void **state)
{
	struct engine_conf *c = conf("# a comment\nhost = one,\n two\n"
	    "port=3\nyes = yes\nwait = 2m\nempty =\nport = 4\n"
	    "user = a=b $c\n");

	(void)state;
	assert_string_equal(engine_conf_str(c, "host", ""), "one, two");
	assert_string_equal(engine_conf_str(c, "user", ""), "a=b $c");
	assert_string_equal(engine_conf_str(c, "empty", "no"), "");
	assert_string_equal(engine_conf_str(c, "other", "no"), "no");
	assert_int_equal(engine_conf_int(c, "port", 1, 1, 65535), 4);
	assert_true(engine_conf_bool(c, "yes", false));
	assert_int_equal(engine_conf_time(c, "wait", 's', 1), 120000);
	assert_int_equal(engine_conf_time(c, "port", 's', 1), 4000);
	assert_string_equal(engine_conf_name(c), "/etc/x.cf");
	assert_int_equal(engine_conf_mistakes(c).n, 0);
	assert_int_equal(engine_conf_int(c, "port", 9, 5, 65535), 9);
	assert_true(view_is(engine_conf_mistakes(c),
	    "port: need a number from 5 to 65535"));
	assert_false(engine_conf_bool(c, "host", false));
	engine_conf_free(&c);
	assert_null(c);
	bad("a\n", "line 1: need \"name = value\"");
	bad(" a = b\n", "line 1: continues nothing");
	bad("\n= b\n", "line 2: need \"name = value\"");
}

/* NULL: not asked for. */
static void
query(struct engine_format *f, const char *key, const char *want)
{
	struct buf b;
	bool wanted;

	assert_int_equal(engine_format_wants(f, view_of(key)), want != NULL);
	if (want == NULL)
		return;
	buf_init(&b, 100);
	assert_true(engine_format_query(f, view_of(key), NULL, NULL, &b,
	    &wanted));
	assert_true(wanted);
	assert_string_equal(buf_cstr(&b), want);
	buf_free(&b);
}

static struct engine_format *
format(struct engine_conf *c)
{
	struct engine_format *f = engine_format_new(c, "query", NULL);

	assert_int_equal(engine_conf_mistakes(c).n, 0);
	engine_conf_free(&c);
	return f;
}

static void
test_query(void **state)
{
	struct engine_format *f = format(conf("query = <%s|%U|%d|%%>\n"));

	(void)state;
	query(f, "a@b.c", "<a@b.c|a|b.c|%>");
	query(f, "a@b@c", "<a@b@c|a@b|c|%>");
	query(f, "a", NULL);
	query(f, "@b", NULL);
	query(f, "a@", NULL);
	query(f, "", NULL);
	engine_format_free(&f);
	f = format(conf("query = %1 %2 %3\n"));
	query(f, "u@mail.example.com", "com example mail");
	query(f, "u@a.mail.example.com", "com example mail");
	query(f, "u@example.com", NULL);
	query(f, "u@.example.com", NULL);
	query(f, "mail.example.com", NULL);
	engine_format_free(&f);
	f = format(conf("query = %u\ndomain = One.example, two.example\n"));
	query(f, "u@one.EXAMPLE", "u");
	query(f, "u@two.example", "u");
	query(f, "u@three.example", NULL);
	query(f, "@one.example", NULL);
	query(f, "one.example", NULL);
	engine_format_free(&f);
	f = format(conf("query = x\nresult_format = %s %D\n"));
	query(f, "u@one", "x");
	query(f, "u", NULL);
	engine_format_free(&f);
}

static void
test_mistakes(void **state)
{
	static const char *const wrong[] = { "query = %x\n", "query = 5 %\n",
		"query =\n", "", "query = a\nresult_format = %q\n",
		"query = a\nexpansion_limit = -1\n",
		"query = a\ndomain = hash:/x\n",
		"query = a\ndomain = /no/such/file\n" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct engine_conf *c = conf(wrong[i]);
		struct engine_format *f = engine_format_new(c, "query", NULL);

		assert_true(engine_conf_mistakes(c).n > 0);
		engine_format_free(&f);
		engine_conf_free(&c);
	}
}

static void
test_result(void **state)
{
	struct engine_format *f = format(conf("query = x\n"
	    "result_format = smtp:[%d]:%1,%S\nexpansion_limit = 2\n"));
	struct view key = view_of("u@k.org");
	struct buf b, err;
	unsigned n = 0;

	(void)state;
	buf_init(&b, 60);
	buf_init(&err, ENGINE_ERROR_MAX);
	assert_int_equal(engine_format_result(f, key, view_of("a@h.net"), &n,
	    &b, &err), ENGINE_FOUND);
	assert_string_equal(buf_cstr(&b), "smtp:[h.net]:org,u@k.org");
	/* without a domain, or empty: passed over */
	assert_int_equal(engine_format_result(f, key, view_of("plain"), &n,
	    &b, &err), ENGINE_FOUND);
	assert_int_equal(engine_format_result(f, key, view_of(""), &n,
	    &b, &err), ENGINE_FOUND);
	assert_int_equal(n, 1);
	assert_string_equal(buf_cstr(&b), "smtp:[h.net]:org,u@k.org");
	assert_int_equal(engine_format_result(f, key,
	    view_of("a@long.long.long.long.long.long"), &n, &b, &err),
	    ENGINE_TEMPORARY);
	assert_string_equal(buf_cstr(&b), "smtp:[h.net]:org,u@k.org");
	assert_int_equal(engine_format_result(f, key, view_of("a@i"), &n,
	    &b, &err), ENGINE_FOUND);
	assert_int_equal(n, 2);
	buf_clear(&err);
	assert_int_equal(engine_format_result(f, key, view_of("a@j"), &n,
	    &b, &err), ENGINE_TEMPORARY);
	assert_string_equal(buf_cstr(&err),
	    "more than expansion_limit = 2 results");
	buf_free(&b);
	buf_free(&err);
	engine_format_free(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conf),
		cmocka_unit_test(test_query),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_result),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
