#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "lib/mem.h"
#include "rules/table_remote.h"

static struct table *
open_table(const char *spec)
{
	struct table *t = table_open(view_of(spec), "/", NULL, NULL);

	assert_non_null(t);
	return t;
}

static enum table_answer
find(const struct table *t, const char *key, const char *value)
{
	enum table_answer a;
	struct buf b;
	unsigned line;

	buf_init(&b, 1000);
	a = table_find(t, view_of(key), &b, &line);
	if (a == TABLE_FOUND)
		assert_string_equal(buf_cstr(&b), value);
	buf_free(&b);
	return a;
}

static void
test_needs(void **state)
{
	struct table *t = open_table("unionmap:{ proxy:ldap:/a.cf, "
	    "inline:{ {k=own} }, tcp:h:1 }");
	struct table_known *k = table_known_new();
	struct table_need need;

	(void)state;
	/* Without anything to know from: failed, not "not found". */
	assert_int_equal(find(t, "k", ""), TABLE_FAILED);
	table_known_begin(k);
	assert_false(table_known_needs());
	assert_int_equal(find(t, "K", ""), TABLE_FAILED);
	assert_true(table_known_needs());
	/* The first is what is needed. */
	assert_int_equal(find(t, "q", ""), TABLE_FAILED);
	assert_true(table_known_end(k, &need));
	assert_true(view_is(need.table, "ldap:/a.cf"));
	assert_true(view_is(need.key, "k"));
	assert_string_equal(table_remote_type(need.service), "ldap");
	table_known_add(k, TABLE_REPLY_FOUND, view_of("far"));
	table_known_begin(k);
	assert_int_equal(find(t, "k", ""), TABLE_FAILED);
	assert_true(table_known_end(k, &need));
	assert_true(view_is(need.table, "tcp:h:1"));
	table_known_add(k, TABLE_REPLY_NONE, view_of(""));
	table_known_begin(k);
	assert_int_equal(find(t, "k", "far,own"), TABLE_FOUND);
	assert_false(table_known_end(k, &need));
	/* what failed stays failed, and is not needed again */
	table_known_begin(k);
	assert_int_equal(find(t, "z", ""), TABLE_FAILED);
	assert_true(table_known_end(k, &need));
	table_known_add(k, TABLE_REPLY_FAILED, view_of(""));
	table_known_begin(k);
	assert_int_equal(find(t, "z", ""), TABLE_FAILED);
	assert_false(table_known_end(k, &need));
	table_known_free(&k);
	table_free(&t);
}

static void
test_case(void **state)
{
	struct table *t = open_table("tcp:h:1");
	struct table_known *k = table_known_new();
	struct table_need need;

	(void)state;
	assert_true(table_is_pattern(t));
	table_known_begin(k);
	assert_int_equal(find(t, "User@Example", ""), TABLE_FAILED);
	assert_true(table_known_end(k, &need));
	assert_true(view_is(need.key, "User@Example"));
	table_known_free(&k);
	table_free(&t);
	t = open_table("redis:/x");
	assert_false(table_is_pattern(t));
	table_free(&t);
}

static void
test_without(void **state)
{
	struct table_need need;

	(void)state;
	table_known_begin(NULL);
	assert_false(table_known_needs());
	assert_false(table_known_end(NULL, &need));
}

static void
test_limits(void **state)
{
	struct table *t = open_table("redis:/x");
	struct table_known *k = table_known_new();
	struct table_need need;
	unsigned i;
	char key[32];
	char *big = mem_alloc(1026);

	(void)state;
	memset(big, 'x', 1025);
	assert_int_equal(find(t, big, ""), TABLE_NOT_FOUND);
	assert_int_equal(find(t, "", ""), TABLE_NOT_FOUND);
	for (i = 0; ; i++) {
		(void)snprintf(key, sizeof key, "k%u", i);
		table_known_begin(k);
		assert_int_equal(find(t, key, ""), TABLE_FAILED);
		if (!table_known_end(k, &need))
			break;
		table_known_add(k, TABLE_REPLY_NONE, view_of(""));
	}
	assert_int_equal(i, 20000);
	free(big);
	table_known_free(&k);
	table_free(&t);
}

/* What is needed for one address does not hide what is for the next. */
static void
test_gathered(void **state)
{
	struct table *t = open_table("redis:/x");
	struct table_known *k = table_known_gather();
	struct table_need need;
	unsigned i, passes = 0;
	char key[32];
	size_t n;
	bool more;

	(void)state;
	table_known_begin(k);
	assert_int_equal(find(t, "a", ""), TABLE_FAILED);
	assert_true(table_known_goes_on());
	assert_int_equal(find(t, "A", ""), TABLE_FAILED);
	assert_int_equal(find(t, "b", ""), TABLE_FAILED);
	assert_true(table_known_end(k, &need));
	assert_true(table_known_need(k, 1, &need));
	assert_true(view_is(need.key, "b"));
	assert_false(table_known_need(k, 2, &need));
	table_known_answer(k, 1, TABLE_REPLY_FOUND, view_of("2"));
	table_known_answer(k, 0, TABLE_REPLY_NONE, view_of(""));
	table_known_begin(k);
	assert_int_equal(find(t, "b", "2"), TABLE_FOUND);
	assert_int_equal(find(t, "a", ""), TABLE_NOT_FOUND);
	assert_false(table_known_needs());
	assert_false(table_known_end(k, &need));

	do {
		passes++;
		table_known_begin(k);
		for (i = 0; i < 1000 && !table_known_full(); i++) {
			(void)snprintf(key, sizeof key, "k%u", i);
			(void)find(t, key, "");
		}
		assert_int_equal(table_known_goes_on(), !table_known_full() &&
		    table_known_needs());
		more = table_known_end(k, &need);
		for (n = 0; table_known_need(k, n, &need); n++)
			table_known_answer(k, n, TABLE_REPLY_NONE,
			    view_of(""));
		assert_true(n <= TABLE_NEEDS_MAX);
	} while (more);
	assert_int_equal(passes, 1000 / TABLE_NEEDS_MAX + 2);
	table_known_free(&k);
	table_free(&t);
}

static void
name(uint32_t service, struct view table, void *arg)
{
	struct buf *b = arg;

	(void)buf_printf(b, "%u=%.*s ", service, VIEW_ARGS(table));
}

static void
names(const char *value, const char *want)
{
	struct buf b;

	buf_init(&b, 1000);
	table_remote_names(view_of(value), name, &b);
	assert_string_equal(buf_cstr(&b), want);
	buf_free(&b);
}

static void
test_names(void **state)
{
	(void)state;
	names("", "");
	names("hash:/a, ldap:/b", "1=ldap:/b ");
	names("!proxy:ldap:/b unionmap:{debug:mysql:/c,{tcp:h:1}}",
	    "1=ldap:/b 2=mysql:/c 8=tcp:h:1 ");
	names("check_recipient_access { search_order=a redis:/x }",
	    "5=redis:/x ");
	names("socketmap:inet:h:1:name socketmap:unix:/p:n",
	    "7=socketmap:inet:h:1:name 7=socketmap:unix:/p:n ");
	names("ldap: ldaps:/x inet:tcp:1 xldap:/b", "");
	assert_true(view_is(table_remote_file(view_of("ldap:/b.cf")),
	    "/b.cf"));
	assert_int_equal(table_remote_file(view_of("ldap:b")).n, 0);
	assert_int_equal(table_remote_file(view_of("tcp:/b")).n, 0);
	assert_null(table_remote_type(0));
	assert_null(table_remote_type(9));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_needs),
		cmocka_unit_test(test_case),
		cmocka_unit_test(test_without),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_gathered),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
