/* link: proxy/engine_reply.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proxy/engine_reply.h"

/* value: what is found, or a part of the error. */
static void
expect(enum engine_answer (*fn)(struct view, struct buf *, struct buf *),
    const char *line, enum engine_answer want,
    const char *value)
{
	struct buf v, err;

	buf_init(&v, 40);
	buf_init(&err, ENGINE_ERROR_MAX);
	assert_int_equal(fn(view_of(line), &v, &err), want);
	if (want == ENGINE_FOUND)
		assert_string_equal(buf_cstr(&v), value);
	else
		assert_int_equal(v.n, 0);
	if (value != NULL && want != ENGINE_FOUND)
		assert_non_null(strstr(buf_cstr(&err), value));
	buf_free(&v);
	buf_free(&err);
}

static void
test_tcp(void **state)
{
	struct buf b;

	(void)state;
	expect(tcp_reply, "200 yes", ENGINE_FOUND, "yes");
	expect(tcp_reply, "200 a%20b%25%c3%A4\r", ENGINE_FOUND, "a b%\xc3\xa4");
	expect(tcp_reply, "200 a b", ENGINE_FOUND, "a b");
	expect(tcp_reply, "200 ", ENGINE_NOT_FOUND, NULL);
	expect(tcp_reply, "500 no", ENGINE_NOT_FOUND, NULL);
	expect(tcp_reply, "400 busy%20now", ENGINE_TEMPORARY, "busy now");
	expect(tcp_reply, "200 %", ENGINE_NONE, "not encoded");
	expect(tcp_reply, "200 %4", ENGINE_NONE, "not encoded");
	expect(tcp_reply, "200 %4g", ENGINE_NONE, "not encoded");
	expect(tcp_reply, "2000", ENGINE_NONE, "no sense");
	expect(tcp_reply, "200", ENGINE_NONE, "no sense");
	expect(tcp_reply, "201 x", ENGINE_NONE, "no sense");
	expect(tcp_reply, "", ENGINE_NONE, "no sense");
	expect(tcp_reply, "200 0123456789012345678901234567890123456789x",
	    ENGINE_NONE, NULL);
	buf_init(&b, 30);
	assert_true(tcp_encode(view_make("a b%\n\0\xc3", 7), &b));
	assert_string_equal(buf_cstr(&b), "a%20b%25%0A%00%C3");
	buf_free(&b);
}

static void
test_socketmap(void **state)
{
	(void)state;
	expect(socketmap_reply, "OK value with blanks", ENGINE_FOUND,
	    "value with blanks");
	expect(socketmap_reply, "OK ", ENGINE_NOT_FOUND, NULL);
	expect(socketmap_reply, "OK", ENGINE_NONE, "no sense");
	expect(socketmap_reply, "NOTFOUND ", ENGINE_NOT_FOUND, NULL);
	expect(socketmap_reply, "NOTFOUND", ENGINE_NOT_FOUND, NULL);
	expect(socketmap_reply, "TEMP later", ENGINE_TEMPORARY, "later");
	expect(socketmap_reply, "TIMEOUT ", ENGINE_TEMPORARY, NULL);
	expect(socketmap_reply, "PERM never", ENGINE_WRONG, "never");
	expect(socketmap_reply, "ok x", ENGINE_NONE, "no sense");
	expect(socketmap_reply, "", ENGINE_NONE, "no sense");
	expect(socketmap_reply,
	    "OK 0123456789012345678901234567890123456789x",
	    ENGINE_TEMPORARY, "too long");
}

/* n: 0 more, -1 bad, else the length read. */
static void
head(const char *text, int n, size_t used)
{
	size_t length = 99;
	bool bad;

	assert_int_equal(netstring_head(view_of(text), 1000, &length, &bad),
	    used);
	assert_int_equal(bad, n < 0);
	assert_int_equal(length, used > 0 ? (size_t)n : 99);
}

static void
test_netstring(void **state)
{
	(void)state;
	head("", 0, 0);
	head("1", 0, 0);
	head("0:", 0, 2);
	head("12:x", 12, 3);
	head("1000:", 1000, 5);
	head("1001:", -1, 0);
	head("01:", -1, 0);
	head(":", -1, 0);
	head("x", -1, 0);
	head("1x", -1, 0);
	head("-1:", -1, 0);
	head("99999", 0, 0);
	head("999999x", -1, 0);
	head("9999999", -1, 0);
}

static void
test_memcache(void **state)
{
	struct view key = view_of("k");
	size_t n = 99;

	(void)state;
	assert_int_equal(memcache_head(view_of("END\r"), key, 10, &n),
	    ENGINE_NOT_FOUND);
	assert_int_equal(memcache_head(view_of("VALUE k 0 11\r"), key, 10,
	    &n), ENGINE_NONE);
	assert_int_equal(memcache_head(view_of("VALUE q 0 1\r"), key, 10, &n),
	    ENGINE_NONE);
	assert_int_equal(memcache_head(view_of("ERROR\r"), key, 10, &n),
	    ENGINE_NONE);
	assert_int_equal(memcache_head(view_of("VALUE k 0 -1"), key, 10, &n),
	    ENGINE_NONE);
	assert_int_equal(n, 99);
	assert_int_equal(memcache_head(view_of("VALUE k 7 10\r"), key, 10,
	    &n), ENGINE_FOUND);
	assert_int_equal(n, 10);
	assert_true(memcache_key_ok(view_of("user@example.com")));
	assert_false(memcache_key_ok(view_of("")));
	assert_false(memcache_key_ok(view_of("a b")));
	assert_false(memcache_key_ok(view_of("a\r\nflush_all")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_socketmap),
		cmocka_unit_test(test_netstring),
		cmocka_unit_test(test_memcache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
