/* link: proxy/credentials_find.c proxy/credentials_token.c */
/* Logins at other servers: the order of keys, entries, files of tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "lib/mem.h"
#include "proxy/credentials_find.h"
#include "proxy/credentials_token.h"

static void
on_error(bool error, const char *text, void *arg)
{
	(void)error;
	(void)arg;
	fail_msg("%s", text);
}

static const char *
find(const char *table, const char *sender, const char *hop,
    const char *host, uint16_t port)
{
	static char text[100];
	struct credentials_about about = { view_of(sender), view_of(hop),
		view_of(host), port };
	struct table_list maps;
	const struct table *t;
	enum table_answer a;
	struct buf value;
	unsigned line;

	assert_true(table_list_open(table, "/", &maps, on_error, NULL));
	buf_init(&value, CREDENTIALS_VALUE_MAX);
	a = credentials_find(&maps, "+", &about, &value, &t, &line);
	(void)snprintf(text, sizeof text, "%s", a == TABLE_FOUND ?
	    buf_cstr(&value) : a == TABLE_FAILED ? "failed" : "");
	buf_free(&value);
	table_list_free(&maps);
	return text;
}

static void
test_order(void **state)
{
	static const char *const keys[] = { "j+x@example.com",
		"j@example.com", "@example.com", "mx.example.net:587",
		"mx.example.net", "[hop.example.net]:587" };
	char table[1000];
	size_t i, k, n;

	(void)state;
	for (i = 0; i < 6; i++) {
		n = (size_t)snprintf(table, sizeof table, "inline:{");
		for (k = i; k < 6; k++)
			n += (size_t)snprintf(table + n, sizeof table - n,
			    " {%s = %zu:x}", keys[k], k);
		(void)snprintf(table + n, sizeof table - n, " }");
		char want[8];
		(void)snprintf(want, sizeof want, "%zu:x", i);
		assert_string_equal(find(table, "j+x@example.com",
		    "[hop.example.net]:587", "mx.example.net", 587), want);
		/* Without a sender, those by sender are for nobody. */
		(void)snprintf(want, sizeof want, "%zu:x", i < 3 ? 3 : i);
		assert_string_equal(find(table, "", "[hop.example.net]:587",
		    "mx.example.net", 587), want);
	}
	assert_string_equal(find("inline:{ {a = b:c} }", "x@example.org",
	    "hop", "host", 25), "");
	assert_string_equal(find("inline:{ {host = b:c} }", "", "hop", "host2",
	    25), "");
	assert_string_equal(find("inline:{ {hop = b:c} }", "noat", "[hop]",
	    "", 25), "");
	assert_string_equal(find("fail:x", "", "hop", "host", 25), "failed");
	/* "+" in front is no extension. */
	assert_string_equal(find("inline:{ {@d = no:no} }", "+x@d2", "h", "h",
	    1), "");
}

static void
test_split(void **state)
{
	static const char *const bad[] = { "", ":", "a", "a:", ":b",
		"\x01:b" };
	struct view user, secret;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(credentials_split(view_of(bad[i]), &user,
		    &secret));
	assert_false(credentials_split(view_make("a:b\0c", 5), &user,
	    &secret));
	assert_true(credentials_split(view_of("a@b:c:d "), &user, &secret));
	assert_true(view_is(user, "a@b"));
	assert_true(view_is(secret, "c:d "));
}

static const char *
token(const char *text)
{
	static char shown[200];
	struct token t;
	const char *why = token_read(view_of(text), 1000, &t);

	if (why != NULL)
		return why;
	(void)snprintf(shown, sizeof shown, "%.*s %lld", VIEW_ARGS(t.text),
	    (long long)t.expires);
	return shown;
}

static void
test_tokens(void **state)
{
	static const char *const broken[] = {
		"{", "{\"access_token\"", "{\"access_token\":",
		"{\"access_token\":\"a", "{\"access_token\":\"a\"",
		"{\"access_token\":\"a\",", "{\"access_token\":\"a\"} x",
		"{\"access_token\":\"a\" \"b\":1}", "{access_token:\"a\"}",
		"{\"access_token\":\"a\",\"access_token\":\"b\"}",
		"{\"access_token\":\"a\",\"expires_in\":\"soon\"}",
		"{\"access_token\":\"a\",\"x\":[}", "{\"x\":\"\\\"}",
		"{\"a\":[[[[[[[[[[1]]]]]]]]]],\"access_token\":\"a\"}" };
	char *large = mem_alloc(TOKEN_TEXT_MAX + 2);
	size_t i;

	(void)state;
	assert_string_equal(token("ya29.abc\n"), "ya29.abc 0");
	assert_string_equal(token(" ya29.abc\r\n"), "ya29.abc 0");
	assert_string_equal(token("{\"access_token\": \"eyJ0.x\", \"expires_in\""
	    ":3599,\"token_type\":\"Bearer\"}"), "eyJ0.x 4599");
	assert_string_equal(token("{\"expiry\":\"1700000000\",\"user\":\"a\","
	    "\"scopes\":[\"a}\",{\"access_token\":\"no\"}],\"ok\":true,"
	    "\"access_token\":\"yes\"}\n"), "yes 1700000000");
	assert_string_equal(token("{\"access_token\":\"t\",\"expires_at\":"
	    "1700000000.75}"), "t 1700000000");
	for (i = 0; i < sizeof broken / sizeof broken[0]; i++)
		assert_string_equal(token(broken[i]),
		    "the JSON cannot be read");
	assert_string_equal(token(""), "the file is empty");
	assert_string_equal(token(" \n"), "the file is empty");
	assert_string_equal(token("{}"), "there is no access_token");
	assert_string_equal(token("two words"),
	    "the token is malformed or too long");
	assert_string_equal(token("a\x01" "b"),
	    "the token is malformed or too long");
	assert_string_equal(token("{\"access_token\":\"a\\u0001\"}"),
	    "a\\u0001 0");
	memset(large, 'a', TOKEN_TEXT_MAX + 1);
	assert_string_equal(token(large), "the file is too large");
	large[TOKEN_MAX + 1] = '\0';
	assert_string_equal(token(large),
	    "the token is malformed or too long");
	free(large);
	assert_true(token_name_good(view_of("joe@example.com")));
	assert_false(token_name_good(view_of("")));
	assert_false(token_name_good(view_of(".hidden")));
	assert_false(token_name_good(view_of("..")));
	assert_false(token_name_good(view_of("a/b")));
	assert_false(token_name_good(view_of("a\n")));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
