/* link: filters/milter_envelope.c */
/* What filters change in an envelope: all of it or nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "filters/milter_envelope.h"

static struct conf *cf;
static struct arena *a;
static struct recipient rcpts[3];
static struct envelope was, is;
static bool changed;
static struct rewrite *rewrite;		/* NULL: no tables */

static int
setup(void **state)
{
	(void)state;
	cf = conf_parse(view_of("myhostname = gw.example.com\n"
	    "myorigin = example.com\nappend_dot_mydomain = no\n"), "test",
	    NULL, NULL);
	assert_non_null(cf);
	a = arena_new(10u << 20);
	rcpts[0] = (struct recipient){ .addr = view_of("one@example.com") };
	rcpts[1] = (struct recipient){ .addr = view_of("new@inside.example"),
		.orig = view_of("old@example.com") };
	rcpts[2] = (struct recipient){ .addr = view_of("a b@example.com") };
	was = (struct envelope){ .sender = view_of("from@client.example"),
		.nrcpts = 3, .rcpts = rcpts };
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	conf_free(&cf);
	arena_free(&a);
	return 0;
}

static const char *
apply(const struct milter_edit *list, size_t n)
{
	const char *why = milter_envelope_apply(cf, rewrite, &was, list, n,
	    a, &is, &changed);

	assert_int_equal(was.nrcpts, 3);
	assert_true(view_is(was.sender, "from@client.example"));
	if (why != NULL) {
		assert_false(changed);
		assert_ptr_equal(is.rcpts, was.rcpts);
		assert_int_equal(is.nrcpts, 3);
	}
	return why;
}

static const char *
one(enum milter_edit_kind kind, const char *name, const char *value)
{
	struct milter_edit e = { kind, 0, view_of(name), view_of(value) };

	return apply(&e, 1);
}

/* Recipients, ";" behind each. */
static void
expect(const char *want)
{
	struct buf b;
	uint32_t i;

	assert_true(changed);
	buf_init(&b, 10000);
	for (i = 0; i < is.nrcpts; i++)
		(void)buf_printf(&b, "%.*s;", VIEW_ARGS(is.rcpts[i].addr));
	assert_string_equal(buf_cstr(&b), want);
	buf_free(&b);
}

static void
nothing(void **state)
{
	(void)state;
	assert_null(apply(NULL, 0));
	assert_false(changed);
	assert_null(one(MILTER_EDIT_ADD_HEADER, "To", "x"));
	assert_false(changed);
	assert_ptr_equal(is.rcpts, rcpts);
}

static void
senders(void **state)
{
	(void)state;
	assert_null(one(MILTER_EDIT_FROM, "<x@y.example>",
	    "RET=HDRS ENVID=a+2Bb SIZE=1 X=y"));
	assert_true(view_is(is.sender, "x@y.example"));
	assert_int_equal(is.ret, 'H');
	assert_true(view_is(is.envid, "a+b"));
	expect("one@example.com;new@inside.example;a b@example.com;");
	assert_null(one(MILTER_EDIT_FROM, "<>", "RET=NO ENVID=+0A"));
	assert_int_equal(is.sender.n, 0);
	assert_int_equal(is.ret, 0);
	assert_int_equal(is.envid.n, 0);
	assert_null(one(MILTER_EDIT_FROM, "", ""));
	assert_int_equal(is.sender.n, 0);
	assert_null(one(MILTER_EDIT_FROM, "local", ""));
	assert_true(view_is(is.sender, "local@example.com"));
	assert_non_null(one(MILTER_EDIT_FROM, "<a@b> x", ""));
	assert_non_null(one(MILTER_EDIT_FROM, "<a@b", ""));
	assert_non_null(one(MILTER_EDIT_FROM, "a\nb@c", ""));
}

static void
recipients(void **state)
{
	struct milter_edit list[] = {
		{ MILTER_EDIT_DELETE_RCPT, 0, view_of("<ONE@example.com>"),
		    view_of("") },
		{ MILTER_EDIT_DELETE_RCPT, 0, view_of("<one@EXAMPLE.com>"),
		    view_of("") },
		{ MILTER_EDIT_ADD_RCPT, 0, view_of("<x@y.example>"),
		    view_of("") },
		{ MILTER_EDIT_ADD_RCPT, 0, view_of("x@Y.example"),
		    view_of("") },
		{ MILTER_EDIT_ADD_RCPT, 0, view_of("<\"c d\"@z.example>"),
		    view_of("NOTIFY=NEVER ORCPT=rfc822;q@z.example A=b") },
		{ MILTER_EDIT_DELETE_RCPT, 0, view_of("<old@example.com>"),
		    view_of("") },
	};

	(void)state;
	/* one is deleted by its own name only; a pair that is the same is
	 * one; who was rewritten is known by both names */
	assert_null(apply(list, 6));
	expect("a b@example.com;x@y.example;c d@z.example;");
	assert_int_equal(is.rcpts[2].notify, NOTIFY_NEVER);
	assert_true(view_is(is.rcpts[2].orcpt, "rfc822;q@z.example"));
	assert_null(one(MILTER_EDIT_DELETE_RCPT, "\"a b\"@example.com", ""));
	expect("one@example.com;new@inside.example;");
	assert_null(one(MILTER_EDIT_DELETE_RCPT, "nobody@example.com", ""));
	expect("one@example.com;new@inside.example;a b@example.com;");
	assert_null(one(MILTER_EDIT_ADD_RCPT, "local", ""));
	assert_true(view_is(is.rcpts[3].addr, "local@example.com"));
	assert_non_null(one(MILTER_EDIT_ADD_RCPT, "<>", ""));
	assert_non_null(one(MILTER_EDIT_ADD_RCPT, "a b@c", ""));
	assert_non_null(one(MILTER_EDIT_DELETE_RCPT, "<a@b", ""));
}

/* Aliases of what is added, not of what is there. */
static void
aliases(void **state)
{
	struct conf *with = conf_parse(view_of("myhostname = gw.example.com\n"
	    "myorigin = example.com\nvirtual_alias_maps = inline:{"
	    "{all@example.com=x@y.example, new@inside.example, z@y.example},"
	    "{one@example.com=other@example.com}}\n"), "test", NULL, NULL);
	struct milter_edit twice[] = {
		{ MILTER_EDIT_ADD_RCPT, 0, view_of("all"), view_of("") },
		{ MILTER_EDIT_ADD_RCPT, 0, view_of("last@y.example"),
		    view_of("") },
	};

	(void)state;
	assert_non_null(with);
	rewrite = rewrite_open(with, NULL, 0, NULL, NULL);
	assert_non_null(rewrite);
	assert_null(apply(twice, 2));
	expect("one@example.com;new@inside.example;a b@example.com;"
	    "x@y.example;z@y.example;last@y.example;");
	assert_true(view_is(is.rcpts[3].orig, "all@example.com"));
	assert_null(one(MILTER_EDIT_DELETE_RCPT, "one@example.com", ""));
	expect("new@inside.example;a b@example.com;");
	rewrite_free(&rewrite);
	conf_free(&with);
}

/* All are deleted: that is for the caller. */
static void
nobody(void **state)
{
	struct milter_edit list[3];
	static const char *const names[] = { "one@example.com",
		"new@inside.example", "\"a b\"@example.com" };
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++)
		list[i] = (struct milter_edit){ MILTER_EDIT_DELETE_RCPT, 0,
			view_of(names[i]), view_of("") };
	assert_null(apply(list, 3));
	assert_int_equal(is.nrcpts, 0);
	/* a bad one at the end takes all back */
	list[2].name = view_of("<");
	assert_non_null(apply(list, 3));
}

static void
limits(void **state)
{
	struct recipient *many = mem_array(ENVELOPE_RCPTS_MAX, sizeof *many);
	uint32_t i;

	(void)state;
	for (i = 0; i < ENVELOPE_RCPTS_MAX; i++)
		many[i].addr = view_of("one@example.com");
	was.rcpts = many;
	was.nrcpts = ENVELOPE_RCPTS_MAX;
	assert_non_null(milter_envelope_apply(cf, NULL, &was, (struct milter_edit[])
	    { { MILTER_EDIT_ADD_RCPT, 0, view_of("x@y.example"),
	    view_of("") } }, 1, a, &is, &changed));
	assert_false(changed);
	free(many);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(nothing), T(senders), T(recipients), T(aliases), T(nobody), T(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
