/* link: filters/milter_mail.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "filters/milter_mail.h"

static struct milter_mail *m;
static struct arena *arena;
static struct buf out;

static const char mail[] =
    "Received: by us\r\n\tfor you\r\n"
    "Subject: one\r\n two\r\n"
    "To: a\r\n"
    "to: b\r\n"
    "\r\n"
    "body\r\n";
static const struct edits none;

static int
setup(void **state)
{
	(void)state;
	m = milter_mail_new(1u << 20);
	arena = arena_new(1u << 20);
	buf_init(&out, 4u << 20);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	milter_mail_free(&m);
	milter_mail_free(&m);
	arena_free(&arena);
	buf_free(&out);
	return 0;
}

static bool
put(void *arg, struct view piece)
{
	return buf_putv(arg, piece);
}

static struct view
written(void)
{
	buf_clear(&out);
	assert_true(milter_mail_write(m, put, &out));
	return buf_view(&out);
}

static void
edited(struct view text, const struct edits *e, struct buf *ret)
{
	uint64_t at = 0;
	uint32_t i;

	for (i = 0; i < e->n; i++) {
		assert_true(e->list[i].offset >= at);
		(void)buf_putv(ret, view_head(view_from(text, (size_t)at),
		    (size_t)(e->list[i].offset - at)));
		(void)buf_putv(ret, e->list[i].insert);
		at = e->list[i].offset + e->list[i].remove;
		assert_true(at <= text.n);
	}
	(void)buf_putv(ret, view_from(text, (size_t)at));
}

/* Both ways out give the same; *ret: edits were possible. */
static void
expect(struct view text, const char *want)
{
	struct edits e;
	struct buf b;

	if (!view_is(written(), want))
		fail_msg("\"%.*s\", not \"%s\"", VIEW_ARGS(buf_view(&out)),
		    want);
	buf_init(&b, 4u << 20);
	if (milter_mail_edits(m, arena, &e)) {
		edited(text, &e, &b);
		assert_true(view_is(buf_view(&b), want));
	}
	buf_free(&b);
}

static void
shows(const char *want, const char *body)
{
	const struct milter_text *t = milter_mail_text(m);
	struct buf b;
	size_t i;

	buf_init(&b, 10000);
	for (i = 0; i < t->n_headers; i++)
		(void)buf_printf(&b, "%.*s|%.*s;", VIEW_ARGS(
		    t->headers[i].name), VIEW_ARGS(t->headers[i].value));
	assert_string_equal(buf_cstr(&b), want);
	assert_true(view_is(t->body, body));
	buf_free(&b);
}

static void
apply(enum milter_edit_kind kind, uint32_t number, const char *name,
    const char *value)
{
	struct milter_edit e = { kind, number, view_of(name),
		view_of(value) };

	assert_true(milter_mail_apply(m, &e, 1, view_of(value), false));
}

static void
begin(const char *text, bool own)
{
	assert_true(milter_mail_begin(m, view_of(text), &none, own));
}

static void
as_it_was(void **state)
{
	struct edits e;

	(void)state;
	begin(mail, true);
	shows("Subject| one\n two;To| a;to| b;", "body\r\n");
	expect(view_of(mail), mail);
	assert_true(milter_mail_edits(m, arena, &e));
	assert_int_equal(e.n, 0);
	begin("", false);
	shows("", "");
	expect(view_of(""), "");
	begin("\r\n", true);
	shows("", "");
	begin("no header\r\n", false);
	shows("", "no header\r\n");
	begin("A: b", false);
	shows("A| b;", "");
	expect(view_of("A: b"), "A: b");
}

static void
headers(void **state)
{
	struct edits e;

	(void)state;
	begin(mail, true);
	apply(MILTER_EDIT_INSERT_HEADER, 1, "X", "1\n\t2");
	shows("X| 1\n\t2;Subject| one\n two;To| a;to| b;", "body\r\n");
	assert_true(milter_mail_edits(m, arena, &e));
	assert_int_equal(e.n, 1);
	assert_int_equal(e.list[0].remove, 0);
	assert_true(view_is(e.list[0].insert, "X: 1\r\n\t2\r\n"));
	apply(MILTER_EDIT_INSERT_HEADER, 0, "Top", "t");
	apply(MILTER_EDIT_INSERT_HEADER, 99, "End", "e");
	apply(MILTER_EDIT_ADD_HEADER, 0, "Last", "l");
	/* the second To, and a third that is not there */
	apply(MILTER_EDIT_CHANGE_HEADER, 2, "TO", "c");
	apply(MILTER_EDIT_CHANGE_HEADER, 3, "TO", "d");
	apply(MILTER_EDIT_CHANGE_HEADER, 4, "TO", "");
	apply(MILTER_EDIT_CHANGE_HEADER, 1, "To", "");
	/* our own is out of reach */
	apply(MILTER_EDIT_CHANGE_HEADER, 1, "Received", "");
	expect(view_of(mail), "Top: t\r\n"
	    "Received: by us\r\n\tfor you\r\n"
	    "X: 1\r\n\t2\r\n"
	    "Subject: one\r\n two\r\n"
	    "TO: c\r\n"
	    "End: e\r\n"
	    "Last: l\r\n"
	    "TO: d\r\n"
	    "\r\n"
	    "body\r\n");
}

static void
odd_ends(void **state)
{
	(void)state;
	begin("A: b", false);
	apply(MILTER_EDIT_ADD_HEADER, 0, "X", "y");
	expect(view_of("A: b"), "A: b\r\nX: y\r\n");
}

static void
bodies(void **state)
{
	(void)state;
	begin(mail, true);
	apply(MILTER_EDIT_BODY, 0, "", "new\nlines\r\nend");
	shows("Subject| one\n two;To| a;to| b;", "new\r\nlines\r\nend\r\n");
	begin("A: b\r\n\r\nold", false);
	apply(MILTER_EDIT_BODY, 0, "", "");
	expect(view_of(""), "A: b\r\n\r\n");
	begin("A: b", false);
	apply(MILTER_EDIT_BODY, 0, "", "x");
	expect(view_of(""), "A: b\r\n\r\nx\r\n");
	begin("A: b\r\nno header\r\n", false);
	apply(MILTER_EDIT_ADD_HEADER, 0, "X", "y");
	expect(view_of("A: b\r\nno header\r\n"),
	    "A: b\r\nX: y\r\n\r\nno header\r\n");
}

/* What rules changed before is seen, and stays. */
static void
after_rules(void **state)
{
	struct edit list[] = {
		{ 0, 0, { "First: f\r\n", 10 } },
		{ 26, 20, { "Subject: s\r\n", 12 } },	/* replaced */
		{ 63, 4, { "BODY", 4 } },
	};
	struct edits e = { list, 3 }, after;
	size_t subject = (size_t)(strstr(mail, "Subject") - mail);
	size_t body = (size_t)(strstr(mail, "body") - mail);

	(void)state;
	list[1].offset = subject;
	list[1].remove = (size_t)(strstr(mail, "To:") - mail) - subject;
	list[2].offset = body;
	assert_true(milter_mail_begin(m, view_of(mail), &e, false));
	shows("First| f;Received| by us\n\tfor you;Subject| s;To| a;to| b;",
	    "BODY\r\n");
	apply(MILTER_EDIT_CHANGE_HEADER, 1, "to", "x");
	expect(view_of(mail), "First: f\r\n"
	    "Received: by us\r\n\tfor you\r\n"
	    "Subject: s\r\n"
	    "to: x\r\n"
	    "to: b\r\n"
	    "\r\n"
	    "BODY\r\n");
	assert_true(milter_mail_edits(m, arena, &after));
	assert_int_equal(after.n, 2);
	assert_int_equal(after.list[1].offset, body);
	/* ours, behind what a rule put in front of it; or taken out by one */
	assert_true(milter_mail_begin(m, view_of(mail), &e, true));
	shows("First| f;Subject| s;To| a;to| b;", "BODY\r\n");
	list[0] = (struct edit){ 0, subject, { "", 0 } };
	e.n = 1;
	assert_true(milter_mail_begin(m, view_of("Received: by us\r\n"
	    "\tfor you\r\nReceived: by others\r\n\r\n"), &e, true));
	shows("Received| by others;", "");
}

static void
limits(void **state)
{
	struct milter_edit many[3];
	struct edits e;
	static char value[MILTER_HEADER_BYTES_MAX / 4];
	struct buf b;
	size_t i;

	(void)state;
	memset(value, 'x', sizeof value);
	begin(mail, true);
	for (i = 0; i < 3; i++)
		many[i] = (struct milter_edit){ MILTER_EDIT_ADD_HEADER, 0,
			view_of("X"), view_make(value, sizeof value) };
	/* all or nothing */
	assert_false(milter_mail_apply(m, many, 3, view_of(""), true));
	expect(view_of(mail), mail);
	assert_true(milter_mail_edits(m, arena, &e));
	assert_int_equal(e.n, 0);
	/* more than edits can hold: it can still be written */
	many[0].value.n = EDITS_BYTES_MAX;
	assert_true(milter_mail_apply(m, many, 1, view_of(""), true));
	assert_false(milter_mail_edits(m, arena, &e));
	assert_true(written().n > sizeof mail + EDITS_BYTES_MAX);
	many[0] = (struct milter_edit){ .kind = MILTER_EDIT_BODY };
	begin(mail, true);
	buf_init(&b, 2u << 20);
	for (i = 0; i < (1u << 20) - 1; i++)
		(void)buf_putc(&b, 'x');
	assert_false(milter_mail_apply(m, many, 1, buf_view(&b), true));
	expect(view_of(mail), mail);
	buf_clear(&b);
	for (i = 0; i <= MILTER_HEADERS_MAX; i++)
		(void)buf_puts(&b, "a:\n");
	assert_false(milter_mail_begin(m, buf_view(&b), &none, false));
	buf_free(&b);
}

/* Whatever is changed: both ways out agree. */
static void
agreement(void **state)
{
	static const char *const texts[] = { mail, "", "\r\n", "A: b",
		"A: b\r\n\r\n", "x\r\n", "A: b\nC: d\n\ne", "a:\r\n\r\n\r\n" };
	static const char *const names[] = { "to", "Subject", "A", "new" };
	static const char *const values[] = { "", "v", "v\n w", "one\n two" };
	struct edit first = { 0, 0, { "Ins: x\r\n", 8 } };
	struct edits e, before = { &first, 1 }, *with;
	struct milter_edit change[4];
	unsigned seed = 1;
	struct buf b;
	int round;
	size_t i;

	(void)state;
	buf_init(&b, 100000);
	for (round = 0; round < 20000; round++) {
		const char *text = texts[rand_r(&seed) % 8];

		with = rand_r(&seed) % 2 == 0 ? &before :
		    (struct edits *)(uintptr_t)&none;
		assert_true(milter_mail_begin(m, view_of(text), with,
		    rand_r(&seed) % 2 == 0));
		for (i = 0; i < 4; i++)
			change[i] = (struct milter_edit){
				(enum milter_edit_kind)(1 + rand_r(&seed) % 3),
				(uint32_t)rand_r(&seed) % 5,
				view_of(names[rand_r(&seed) % 4]),
				view_of(values[rand_r(&seed) % 4]) };
		assert_true(milter_mail_apply(m, change, 4, view_of(""),
		    false));
		arena_reset(arena);
		if (!milter_mail_edits(m, arena, &e))
			continue;
		buf_clear(&b);
		edited(view_of(text), &e, &b);
		if (!view_eq(buf_view(&b), written()))
			fail_msg("round %d: \"%.*s\", not \"%.*s\"", round,
			    VIEW_ARGS(buf_view(&b)), VIEW_ARGS(buf_view(&out)));
	}
	buf_free(&b);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(as_it_was), T(headers), T(odd_ends), T(bodies),
		T(after_rules), T(limits), T(agreement),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
