/*
 * access(5) lookups: which keys are asked for, in which order, written as
 * lines of a table in that order.
 */
#include "t/unit/table_help.h"

#include "rules/access.h"

struct lookup {
	enum access_key kind;
	const char *key;
	bool parents;
	const char *delimiters;
	/* Every key that is asked for, in order. */
	const char *asked[10];
};

static const struct lookup lookups[] = {
	{ ACCESS_DOMAIN, "a.b.example.com", false, "",
	    { "a.b.example.com", ".b.example.com", ".example.com", ".com" } },
	{ ACCESS_DOMAIN, "a.b.example.com", true, "",
	    { "a.b.example.com", "b.example.com", "example.com", "com" } },
	{ ACCESS_CLIENT_NAME, "MX.Example.COM", true, "",
	    { "mx.example.com", "example.com", "com" } },
	{ ACCESS_CLIENT_NAME, "unknown", false, "", { "unknown" } },
	{ ACCESS_DOMAIN, "[192.0.2.1]", true, "", { "[192.0.2.1]" } },
	{ ACCESS_DOMAIN, "192.0.2.1", true, "", { "192.0.2.1" } },
	{ ACCESS_DOMAIN, ".a", true, "", { ".a" } },
	{ ACCESS_CLIENT_ADDR, "192.0.2.17", false, "",
	    { "192.0.2.17", "192.0.2", "192.0", "192" } },
	{ ACCESS_CLIENT_ADDR, "2001:db8:1::25", false, "",
	    { "2001:db8:1::25", "2001:db8:1:", "2001:db8:1", "2001:db8",
	    "2001" } },
	{ ACCESS_SENDER, "user@sub.example.com", false, "+",
	    { "user@sub.example.com", "sub.example.com", ".example.com",
	    ".com", "user@" } },
	{ ACCESS_RECIPIENT, "user+x@example.com", true, "+",
	    { "user+x@example.com", "user@example.com", "example.com", "com",
	    "user+x@", "user@" } },
	{ ACCESS_RECIPIENT, "user-x+y@example.com", true, "+-",
	    { "user-x+y@example.com", "user@example.com", "example.com",
	    "com", "user-x+y@", "user@" } },
	{ ACCESS_RECIPIENT, "owner-x@example.com", true, "-",
	    { "owner-x@example.com", "example.com", "com", "owner-x@" } },
	{ ACCESS_RECIPIENT, "+x@example.com", true, "+",
	    { "+x@example.com", "example.com", "com", "+x@" } },
	{ ACCESS_RECIPIENT, "a@b@c", true, "", { "a@b@c", "c", "a@b@" } },
	{ ACCESS_SENDER, "<>", true, "", { "<>" } },
	{ ACCESS_SENDER, "postmaster", true, "+", { "postmaster" } },
	{ ACCESS_RECIPIENT, "u@[192.0.2.1]", true, "",
	    { "u@[192.0.2.1]", "[192.0.2.1]", "u@" } },
};

static const char *const never[] = { "", "@", "x", "0", "1", "*", "b", "@c",
    "a@b", "user+x", "user", "2", "db8", "example", "192.0.2.", "2001:",
    "2001:db8:1::", "owner", "owner@" };

/* A table with these keys, whose values are their numbers. */
static struct table *
table_of(const char *const *keys, unsigned from, unsigned n)
{
	char text[2000] = "";
	size_t at = 0;

	for (unsigned i = from; i < n; i++)
		at += (size_t)snprintf(text + at, sizeof text - at,
		    "%s\t%u\n", keys[i], i);
	return open_text("texthash", text);
}

static void
test_order(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof lookups / sizeof lookups[0]; i++) {
		const struct lookup *l = &lookups[i];
		struct access_style style = { l->parents, l->delimiters };
		unsigned n = 0, line;
		struct buf value;

		buf_init(&value, 100);
		while (l->asked[n] != NULL)
			n++;
		/* Without the first k keys the next one is found. */
		for (unsigned k = 0; k <= n; k++) {
			struct table *t = table_of(l->asked, k, n);
			enum table_answer a = access_find(t, l->kind,
			    view_of(l->key), &style, &value, &line, NULL);
			char want[12];

			snprintf(want, sizeof want, "%u", k);
			if (a != (k < n ? TABLE_FOUND : TABLE_NOT_FOUND))
				fail_msg("%s: step %u: answer %d", l->key, k,
				    a);
			if (k < n && !view_is(buf_view(&value), want))
				fail_msg("%s: step %u: found %s", l->key, k,
				    buf_cstr(&value));
			table_free(&t);
		}
		buf_free(&value);
	}
}

/* Nothing else is asked for. */
static void
test_nothing_more(void **state)
{
	char text[2000] = "";
	size_t at = 0;
	struct table *t;
	struct buf value;
	unsigned line;

	(void)state;
	buf_init(&value, 100);
	for (size_t i = 1; i < sizeof never / sizeof never[0]; i++)
		at += (size_t)snprintf(text + at, sizeof text - at,
		    "%s no\n", never[i]);
	t = open_text("texthash", text);
	for (size_t i = 0; i < sizeof lookups / sizeof lookups[0]; i++) {
		struct access_style style = { lookups[i].parents,
		    lookups[i].delimiters };

		if (access_find(t, lookups[i].kind, view_of(lookups[i].key),
		    &style, &value, &line, NULL) != TABLE_NOT_FOUND)
			fail_msg("%s asked for line %u", lookups[i].key, line);
	}
	table_free(&t);
	buf_free(&value);
}

static void
test_patterns_see_whole_keys(void **state)
{
	struct access_style style = { true, "+" };
	struct table *t;
	struct buf value;
	unsigned line = 0;

	(void)state;
	buf_init(&value, 100);
	t = open_text("pcre", "/^example\\.com$/ no\n/^user@example/ no\n"
	    "/^user\\+x@example\\.com$/ yes\n");
	assert_int_equal(access_find(t, ACCESS_RECIPIENT,
	    view_of("user+x@example.com"), &style, &value, &line, NULL),
	    TABLE_FOUND);
	assert_string_equal(buf_cstr(&value), "yes");
	assert_int_equal(line, 3);
	assert_int_equal(access_find(t, ACCESS_RECIPIENT,
	    view_of("other@example.com"), &style, &value, &line, NULL),
	    TABLE_NOT_FOUND);
	table_free(&t);
	t = open_text("cidr", "192.0.2.0/24 net\n");
	assert_int_equal(access_find(t, ACCESS_CLIENT_ADDR,
	    view_of("192.0.2.9"), &style, &value, &line, NULL), TABLE_FOUND);
	assert_int_equal(access_find(t, ACCESS_CLIENT_ADDR,
	    view_of("192.0.3.9"), &style, &value, &line, NULL), TABLE_NOT_FOUND);
	table_free(&t);
	buf_free(&value);
}

static void
test_bounds(void **state)
{
	struct access_style style = { true, NULL };
	struct table *t = open_spec("static:yes");
	char key[ACCESS_KEY_MAX + 1];
	struct buf value;
	unsigned line;

	(void)state;
	buf_init(&value, 100);
	memset(key, 'a', sizeof key);
	assert_int_equal(access_find(t, ACCESS_SENDER, view_make(key,
	    sizeof key), &style, &value, &line, NULL), TABLE_NOT_FOUND);
	assert_int_equal(access_find(t, ACCESS_SENDER, view_make(key,
	    sizeof key - 1), &style, &value, &line, NULL), TABLE_FOUND);
	assert_int_equal(access_find(t, ACCESS_SENDER, view_make(key, 0),
	    &style, &value, &line, NULL), TABLE_NOT_FOUND);
	table_free(&t);
	buf_free(&value);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_nothing_more),
		cmocka_unit_test(test_patterns_see_whole_keys),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
