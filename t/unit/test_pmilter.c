/* link: filters/pmilter_text.c filters/pmilter_plan.c filters/pmilter_merge.c filters/pmilter_start.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "filters/pmilter.h"
#include "filters/pmilter_plan.h"

static struct pmilter_text text;
static struct arena *arena;
static char whole[4096];

static void
header_of(struct pmilter_text *t, const char *name, const char *value)
{
	pmilter_text_header(t, view_of(name), view_of(value), true);
}

static void
header(const char *name, const char *value)
{
	header_of(&text, name, value);
}

static int
setup(void **state)
{
	(void)state;
	arena = arena_new(8u << 20);
	pmilter_text_init(&text, 0);
	header("From", " a@b");
	header("X-A", " 1");
	header("Subject", " one\n\ttwo");
	header("x-a", "2");
	pmilter_text_body(&text, view_of("body\r\n"));
	assert_true(pmilter_text_end(&text));
	assert_true(text.size < sizeof whole);
	assert_true(pmilter_text_read(&text, 0, whole, text.size));
	whole[text.size] = '\0';
	return 0;
}

/* Two of the headers are not the server's. */
static int
setup_prepended(void **state)
{
	(void)state;
	arena = arena_new(16u << 20);
	pmilter_text_init(&text, 0);
	pmilter_text_prepend(&text, view_of("X-P: 1"));
	pmilter_text_prepend(&text, view_of("X-A: own"));
	header("From", " a@b");
	header("X-A", " theirs");
	pmilter_text_body(&text, view_of("body\r\n"));
	assert_true(pmilter_text_end(&text));
	assert_true(pmilter_text_read(&text, 0, whole, text.size));
	whole[text.size] = '\0';
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	pmilter_text_clear(&text);
	arena_free(&arena);
	return 0;
}

static void
test_text(void **state)
{
	(void)state;
	assert_string_equal(whole, "From: a@b\r\nX-A: 1\r\n"
	    "Subject: one\r\n\ttwo\r\nx-a:2\r\n\r\nbody\r\n");
	assert_int_equal(text.n, 4);
	assert_int_equal(text.headers[3].name, 3);
	assert_int_equal(text.head, strlen(whole) - 8);
}

static void
test_limits(void **state)
{
	struct pmilter_text t;
	uint32_t i;

	(void)state;
	pmilter_text_init(&t, 10);
	pmilter_text_body(&t, view_of("12345678"));
	assert_int_equal(t.trouble, TEXT_FINE);
	pmilter_text_body(&t, view_of("9"));
	assert_int_equal(t.trouble, TEXT_TOO_BIG);
	assert_false(pmilter_text_end(&t));
	pmilter_text_clear(&t);
	for (i = 0; i <= PMILTER_HEADERS_MAX; i++)
		pmilter_text_header(&t, view_of("A"), view_of(""), true);
	/* the limit of bytes comes first */
	assert_int_equal(t.trouble, TEXT_TOO_BIG);
	pmilter_text_clear(&t);
	t.limit = 0;
	for (i = 0; i <= PMILTER_HEADERS_MAX; i++)
		pmilter_text_header(&t, view_of("A"), view_of(""), true);
	assert_int_equal(t.trouble, TEXT_HEADERS);
	assert_int_equal(t.n, PMILTER_HEADERS_MAX);
	pmilter_text_clear(&t);
}

static void
test_prepend(void **state)
{
	struct pmilter_text t;

	(void)state;
	pmilter_text_init(&t, 15);
	pmilter_text_prepend(&t, view_of("X-One: 1"));
	pmilter_text_prepend(&t, view_of("X-Two:"));
	assert_int_equal(t.own, 2);
	assert_int_equal(t.own_size, 18);
	/* they are not what is over the limit */
	header_of(&t, "To", "123456");
	pmilter_text_body(&t, view_of("12"));
	assert_int_equal(t.trouble, TEXT_FINE);
	pmilter_text_body(&t, view_of("3"));
	assert_int_equal(t.trouble, TEXT_TOO_BIG);
	pmilter_text_clear(&t);
	assert_int_equal(t.own_size, 0);
	pmilter_text_prepend(&t, view_of("X One: 1"));
	assert_int_equal(t.trouble, TEXT_PREPEND);
	assert_false(pmilter_text_end(&t));
	pmilter_text_clear(&t);
	pmilter_text_prepend(&t, view_of(": 1"));
	assert_int_equal(t.trouble, TEXT_PREPEND);
	pmilter_text_clear(&t);
	pmilter_text_prepend(&t, view_of("none"));
	assert_int_equal(t.trouble, TEXT_PREPEND);
	pmilter_text_clear(&t);
}

/* The steps for one edit, as text. */
static const char *
planned(const char *at, uint64_t remove, const char *insert)
{
	static const char *const kinds[] = { "", "change", "delete",
		"insert", "top" };
	static char out[1000];
	struct edit e = { (uint64_t)(strstr(whole, at) - whole), remove,
		view_of(insert) };
	struct edits edits = { &e, remove > 0 || insert[0] != '\0' };
	struct plan p;
	uint32_t i;
	int n = 0;

	if (!pmilter_plan(&text, view_make(whole, text.head), &edits, arena,
	    &p))
		return "cannot";
	out[0] = '\0';
	for (i = 0; i < p.n; i++)
		n += snprintf(out + n, sizeof out - (size_t)n,
		    "%s %u %.*s=%.*s|", kinds[p.steps[i].kind],
		    p.steps[i].at, VIEW_ARGS(p.steps[i].name),
		    VIEW_ARGS(p.steps[i].value));
	if (p.body)
		(void)snprintf(out + n, sizeof out - (size_t)n, "body");
	return out;
}

static void
test_plan(void **state)
{
	(void)state;
	assert_string_equal(planned("From", 0, ""), "");
	assert_string_equal(planned("From", 11, ""), "delete 1 From=|");
	assert_string_equal(planned("x-a", 7, ""), "delete 2 x-a=|");
	assert_string_equal(planned("x-a", 5, "x-a: new"),
	    "change 2 x-a= new|");
	assert_string_equal(planned("From", 9, "To: x"),
	    "insert 0 To= x|delete 1 From=|");
	assert_string_equal(planned("X-A", 0, "New: 1\r\n 2\r\n"),
	    "insert 1 New= 1\r\n 2|");
	assert_string_equal(planned("X-A", 0, "X-A: 0\r\n"),
	    "insert 1 X-A= 0|");
	/* from within one into the next */
	assert_string_equal(planned("a@b", 13, "new\r\n"),
	    "delete 1 X-A=|delete 1 From=|insert 0 From= new|");
	/* behind the last one, and in the body */
	assert_string_equal(planned("\r\n\r\n", 0, ""), "");
	assert_string_equal(planned("body", 4, "x"), "body");
}

#define TOPS "top 0 X-A= own|top 0 X-P= 1|"

static void
test_plan_prepended(void **state)
{
	(void)state;
	assert_string_equal(whole, "X-P: 1\r\nX-A: own\r\nFrom: a@b\r\n"
	    "X-A: theirs\r\n\r\nbody\r\n");
	assert_string_equal(planned("X-P", 0, ""), TOPS);
	/* they do not count for the server */
	assert_string_equal(planned("X-A: theirs", 13, ""),
	    "delete 1 X-A=|" TOPS);
	assert_string_equal(planned("theirs", 6, "new"),
	    "change 1 X-A= new|" TOPS);
	assert_string_equal(planned("X-A: theirs", 0, "New: 1\r\n"),
	    "insert 1 New= 1|" TOPS);
	assert_string_equal(planned("From", 0, "New: 1\r\n"),
	    "insert 0 New= 1|" TOPS);
	assert_string_equal(planned("\r\nbody", 0, "New: 1\r\n"),
	    "insert 2 New= 1|" TOPS);
	/* and may be changed themselves */
	assert_string_equal(planned("X-P", 8, ""), "top 0 X-A= own|");
	assert_string_equal(planned("own", 3, "new"),
	    "top 0 X-A= new|top 0 X-P= 1|");
	assert_string_equal(planned("X-P", 0, "New: 1\r\n"),
	    "top 0 X-A= own|top 0 X-P= 1|top 0 New= 1|");
	/* from one of them into the server's */
	assert_string_equal(planned("own", 10, "all"),
	    "delete 1 From=|top 0 X-A= all a@b|top 0 X-P= 1|");
	assert_string_equal(planned("body", 4, "x"), TOPS "body");
}

static void
test_plan_refuses(void **state)
{
	(void)state;
	assert_string_equal(planned("From", 5, ""), "cannot");
	assert_string_equal(planned("From", 0, "no header\r\n"), "cannot");
	assert_string_equal(planned("a@b", 13, "runs on"), "cannot");
	/* the empty line stays */
	assert_string_equal(planned("\r\nbody", 2, ""), "cannot");
	assert_string_equal(planned("\r\nbody", 4, ""), "cannot");
}

/* -- one judgement for all ------------------------------------------------- */

static void
part(struct buf *b, const char *rcpts, enum action action, unsigned code,
    uint64_t removed)
{
	struct edit e = { 0, removed, { "", 0 } };
	struct judgement j = { .verdict = { .action = action,
		.code = (uint16_t)code, .status = view_of(code == 0 ? "" :
		code < 500 ? "4.7.1" : "5.7.1") },
		.edits = { &e, removed > 0 } };
	struct buf one;
	size_t i;

	buf_init(&one, 4096);
	put_u32(b, (uint32_t)strlen(rcpts));
	for (i = 0; rcpts[i] != '\0'; i++)
		put_u32(b, (uint32_t)(rcpts[i] - '0'));
	assert_true(judgement_put(&one, &j));
	put_view(b, buf_view(&one));
	buf_free(&one);
}

static void
test_merge(void **state)
{
	struct pmilter_answer a;
	struct buf b;

	(void)state;
	buf_init(&b, 8192);
	part(&b, "", ACTION_OK, 0, 5);
	assert_true(pmilter_merge(buf_view(&b), 1, 3, 10, arena, &a));
	assert_int_equal(a.j.verdict.action, ACTION_OK);
	assert_int_equal(a.j.edits.n, 1);
	assert_false(a.mixed);
	buf_clear(&b);
	part(&b, "02", ACTION_DISCARD, 0, 0);
	part(&b, "1", ACTION_OK, 0, 0);
	part(&b, "3", ACTION_OK, 0, 4);
	assert_true(pmilter_merge(buf_view(&b), 3, 4, 10, arena, &a));
	assert_int_equal(a.j.verdict.action, ACTION_OK);
	assert_int_equal(a.j.edits.n, 1);
	assert_true(a.mixed);
	assert_int_equal(a.n_drop, 2);
	assert_int_equal(a.drop[1], 2);
	part(&b, "4", ACTION_HOLD, 0, 0);
	assert_true(pmilter_merge(buf_view(&b), 4, 5, 10, arena, &a));
	assert_int_equal(a.j.verdict.action, ACTION_HOLD);
	part(&b, "5", ACTION_REJECT, 450, 0);
	assert_true(pmilter_merge(buf_view(&b), 5, 6, 10, arena, &a));
	assert_int_equal(a.j.verdict.code, 450);
	part(&b, "6", ACTION_REJECT, 550, 0);
	assert_true(pmilter_merge(buf_view(&b), 6, 7, 10, arena, &a));
	assert_int_equal(a.j.verdict.code, 550);
	buf_free(&b);
}

/* Each recipient once, none that is not there. */
static void
test_merge_refuses(void **state)
{
	static const char *const bad[][2] = { { "0", "0" }, { "0", "2" },
		{ "0", "" }, { "", "" }, { "01", "1" } };
	struct pmilter_answer a;
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 8192);
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		buf_clear(&b);
		part(&b, bad[i][0], ACTION_OK, 0, 0);
		part(&b, bad[i][1], ACTION_HOLD, 0, 0);
		assert_false(pmilter_merge(buf_view(&b), 2, 2, 10, arena,
		    &a));
	}
	buf_clear(&b);
	part(&b, "", ACTION_OK, 0, 11);
	assert_false(pmilter_merge(buf_view(&b), 1, 1, 10, arena, &a));
	assert_false(pmilter_merge(buf_view(&b), 0, 1, 10, arena, &a));
	assert_false(pmilter_merge(buf_view(&b), 65, 1, 10, arena, &a));
	buf_free(&b);
}

static void
test_start(void **state)
{
	struct pmilter_start s = { .mode = MODE_TAG, .socket_mode = 0660,
		.group = "mail", .socket = "unix:/run/x" }, t;
	struct buf b;

	(void)state;
	buf_init(&b, 1000);
	assert_true(pmilter_start_put(&b, &s));
	assert_true(pmilter_start_get(buf_view(&b), &t));
	assert_int_equal(t.mode, MODE_TAG);
	assert_int_equal(t.socket_mode, 0660);
	assert_string_equal(t.group, "mail");
	assert_string_equal(t.socket, "unix:/run/x");
	assert_string_equal(pmilter_socket_path(t.socket), "/run/x");
	assert_null(pmilter_socket_path("inet:1@x"));
	assert_false(pmilter_start_get(view_of("1 -1 - "), &t));
	assert_false(pmilter_start_get(view_of("9 -1 - inet:1"), &t));
	assert_false(pmilter_start_get(view_of("filter"), &t));
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_text, setup, teardown),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_prepend),
		cmocka_unit_test_setup_teardown(test_plan, setup, teardown),
		cmocka_unit_test_setup_teardown(test_plan_prepended,
		    setup_prepended, teardown),
		cmocka_unit_test_setup_teardown(test_plan_refuses, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_merge, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_refuses, setup,
		    teardown),
		cmocka_unit_test(test_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
