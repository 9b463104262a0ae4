/* Lists of addresses in headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/address_list.h"
#include "lib/buf.h"

static bool
collect(struct view addr, void *arg)
{
	struct buf *b = arg;

	assert_true(addr.n > 0);
	return buf_putv(b, addr) && buf_putc(b, '|');
}

static void
test_read(void **state)
{
	static const struct {
		const char *list, *want;
	} cases[] = {
		{ "", "" },
		{ " , ,", "" },
		{ "user", "user|" },
		{ "a@b.c", "a@b.c|" },
		{ "a@b.c, d@e.f", "a@b.c|d@e.f|" },
		{ "Joe Q. Public <joe@x.y>", "joe@x.y|" },
		{ "\"Public, Joe\" <joe@x.y>, z@x.y", "joe@x.y|z@x.y|" },
		{ "=?utf-8?Q?M=C3=BCller?= <m@x.y>", "m@x.y|" },
		{ "a@b.c (Joe (the) one, really)", "a@b.c|" },
		{ "(c)a(c)@(c)b.c(c)", "a@b.c|" },
		{ "a\r\n @b.c,\r\n\td@e.f", "a@b.c|d@e.f|" },
		{ "a . b @ c . d", "a.b@c.d|" },
		{ "undisclosed-recipients:;", "" },
		{ "Team: a@b.c, Joe <d@e.f>; , g@h.i", "a@b.c|d@e.f|g@h.i|" },
		{ "\"My: team\": a@b.c;", "a@b.c|" },
		{ "Team: a@b.c", "a@b.c|" },
		{ "<@r1,@r2.x:a@b.c>", "a@b.c|" },
		{ "\"a b\"@c.d", "a b@c.d|" },
		{ "\"a\\\"b\"@c.d", "a\"b@c.d|" },
		{ "<\"a b\"@c.d>", "a b@c.d|" },
		{ "a@[192.0.2.1]", "a@[192.0.2.1]|" },
		{ "<>", "" },
		{ "Joe <>, a@b.c", "a@b.c|" },
		{ "<user>, <a@b.c>", "user|a@b.c|" },
		{ "m\303\274ller@x.y", "m\303\274ller@x.y|" },
	};
	struct view bad;
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 4096);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		buf_clear(&b);
		if (address_list_read(view_of(cases[i].list), collect, &b,
		    &bad) != ADDRESS_LIST_OK)
			fail_msg("not read: %s", cases[i].list);
		assert_string_equal(buf_cstr(&b), cases[i].want);
	}
	buf_free(&b);
}

static void
test_refused(void **state)
{
	/* What stands before the bad item is given all the same. */
	static const struct {
		const char *list, *want, *bad;
	} cases[] = {
		{ "Joe Public", "", "Joe Public" },
		{ "a@b.c, Joe Public, d@e.f", "a@b.c|",
		    "Joe Public, d@e.f" },
		{ "a@b.c d@e.f", "", "a@b.c d@e.f" },
		{ "<a@b.c> <d@e.f>", "", "<a@b.c> <d@e.f>" },
		{ "<a@b.c> x", "", "<a@b.c> x" },
		{ "<a@b.c", "", "<a@b.c" },
		{ "a@b.c>", "", "a@b.c>" },
		{ "(a@b.c", "", "(a@b.c" },
		{ "\"a@b.c", "", "\"a@b.c" },
		{ "a@", "", "a@" },
		{ "@b.c", "", "@b.c" },
		{ "a@b@", "", "a@b@" },
		{ "a@b..c", "", "a@b..c" },
		{ "a:b:c@d.e;", "", "a:b:c@d.e;" },
		{ "a@b.c;", "", "a@b.c;" },
		{ "a@b.c\nRCPT TO:<x@y.z>", "", "a@b.c\nRCPT TO:<x@y.z>" },
		{ "a@b.c\\", "", "a@b.c\\" },
		{ "a@[1.2", "", "a@[1.2" },
		{ "\"a\nb\"@c.d", "", "\"a\nb\"@c.d" },
	};
	struct view bad = { NULL, 0 };
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 4096);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		buf_clear(&b);
		if (address_list_read(view_of(cases[i].list), collect, &b,
		    &bad) != ADDRESS_LIST_SYNTAX)
			fail_msg("read: %s", cases[i].list);
		assert_string_equal(buf_cstr(&b), cases[i].want);
		if (!view_is(bad, cases[i].bad))
			fail_msg("%s: at %.*s", cases[i].list, VIEW_ARGS(bad));
	}
	buf_free(&b);
}

static void
test_limits(void **state)
{
	char *p = malloc(200000);
	struct view bad;
	struct buf b;

	(void)state;
	assert_non_null(p);
	buf_init(&b, 16);
	/* A long name is no address, so its length is no matter. */
	memset(p, 'n', 200000);
	memcpy(p + 200000 - 8, " <a@b.c>", 8);
	assert_int_equal(address_list_read(view_make(p, 200000), collect, &b,
	    &bad), ADDRESS_LIST_OK);
	assert_string_equal(buf_cstr(&b), "a@b.c|");
	/* A long address is refused, not cut. */
	buf_clear(&b);
	memcpy(p + 200000 - 8, "nn@x.yyy", 8);
	assert_int_equal(address_list_read(view_make(p, 200000), collect, &b,
	    &bad), ADDRESS_LIST_SYNTAX);
	assert_int_equal(b.n, 0);
	/* The caller's limit ends it. */
	assert_int_equal(address_list_read(view_of("a@b.c,d@e.f,g@h.i"),
	    collect, &b, &bad), ADDRESS_LIST_STOPPED);
	/* Depth of comments costs nothing. */
	memset(p, '(', 100000);
	memset(p + 100000, ')', 100000);
	assert_int_equal(address_list_read(view_make(p, 200000), collect, &b,
	    &bad), ADDRESS_LIST_OK);
	buf_free(&b);
	free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
