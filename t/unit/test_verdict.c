#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "rules/verdict.h"

static void
expect(enum verdict_dialect dialect, const char *rhs, enum action action,
    unsigned code, const char *status, const char *text)
{
	struct verdict v;
	const char *error = "?";

	if (!verdict_parse(view_of(rhs), dialect, &v, &error))
		fail_msg("\"%s\" was refused: %s", rhs, error);
	if (v.action != action || v.code != code ||
	    !view_is(v.status, status) || !view_is(v.text, text))
		fail_msg("\"%s\": got %s %u \"%.*s\" \"%.*s\"", rhs,
		    action_name(v.action), v.code, VIEW_ARGS(v.status),
		    VIEW_ARGS(v.text));
	assert_int_equal(v.where.n, 0);
}

static void
refuse(enum verdict_dialect dialect, const char *rhs, const char *why)
{
	struct verdict v = { .code = 77 };
	const char *error = NULL;

	if (verdict_parse(view_of(rhs), dialect, &v, &error))
		fail_msg("\"%s\" was accepted", rhs);
	if (strstr(error, why) == NULL)
		fail_msg("\"%s\": refused because \"%s\"", rhs, error);
	assert_int_equal(v.code, 77);
}

static void
checks_reject(void **state)
{
	const enum verdict_dialect d = DIALECT_CHECKS;

	(void)state;
	expect(d, "REJECT", ACTION_REJECT, 550, "5.7.1",
	    "message content rejected");
	expect(d, "reject go away", ACTION_REJECT, 550, "5.7.1", "go away");
	expect(d, "REJECT\t  go  away  ", ACTION_REJECT, 550, "5.7.1",
	    "go  away");
	expect(d, "REJECT 5.7.2 no", ACTION_REJECT, 550, "5.7.2", "no");
	expect(d, "REJECT 5.7.2", ACTION_REJECT, 550, "5.7.2",
	    "message content rejected");
	/* the class of a REJECT follows its status, as in cleanup(8) */
	expect(d, "REJECT 4.7.1 later", ACTION_REJECT, 451, "4.7.1", "later");
	expect(d, "REJECT 2.7.1 odd", ACTION_REJECT, 451, "4.7.1", "odd");
	/* not quite a status is text */
	expect(d, "REJECT 5.7.1: no", ACTION_REJECT, 550, "5.7.1", "5.7.1: no");
	expect(d, "REJECT 5.7 no", ACTION_REJECT, 550, "5.7.1", "5.7 no");
	expect(d, "REJECT 5.7.1234 no", ACTION_REJECT, 550, "5.7.1",
	    "5.7.1234 no");
	expect(d, "REJECT 3.7.1 no", ACTION_REJECT, 550, "5.7.1", "3.7.1 no");
}

static void
codes(void **state)
{
	const enum verdict_dialect d = DIALECT_CHECKS, a = DIALECT_ACCESS;

	(void)state;
	expect(d, "550 This Email potentially contains LoveLetter worm payload",
	    ACTION_REJECT, 550, "5.7.1",
	    "This Email potentially contains LoveLetter worm payload");
	expect(d, "450 4.7.1 try later", ACTION_REJECT, 450, "4.7.1",
	    "try later");
	expect(a, "450 4.7.1 try later", ACTION_REJECT, 450, "4.7.1",
	    "try later");
	expect(a, "421 bye", ACTION_REJECT, 421, "4.7.1", "bye");
	expect(d, "554", ACTION_REJECT, 554, "5.7.1",
	    "message content rejected");
	expect(d, "451", ACTION_REJECT, 451, "4.7.1", "service unavailable");
	/* the code wins over a status of another class */
	expect(d, "550 4.7.1 text", ACTION_REJECT, 550, "5.7.1", "text");
	expect(d, "450 5.1.10 text", ACTION_REJECT, 450, "4.1.10", "text");
	expect(a, "550 2.1.5 text", ACTION_REJECT, 550, "5.1.5", "text");
	expect(a, "550 4.0.30 text", ACTION_REJECT, 550, "5.0.30", "text");
	expect(a, "550 4.7.31 text", ACTION_REJECT, 550, "5.7.1", "text");
	expect(a, "550 4.8.0 text", ACTION_REJECT, 550, "5.7.1", "text");
	expect(a, "550 5.999.999 text", ACTION_REJECT, 550, "5.999.999",
	    "text");

	refuse(d, "250 fine", "reply code");
	refuse(d, "650 fine", "reply code");
	refuse(d, "55 fine", "reply code");
	refuse(d, "5500 fine", "reply code");
	refuse(d, "250", "reply code");
	refuse(d, "55x fine", "unknown action");
}

static void
access_actions(void **state)
{
	const enum verdict_dialect d = DIALECT_ACCESS;
	struct verdict v;
	const char *error;

	(void)state;
	expect(d, "OK", ACTION_OK, 0, "", "");
	expect(d, "ok whatever", ACTION_OK, 0, "", "");
	expect(d, "RELAY", ACTION_OK, 0, "", "");
	expect(d, "1234567890", ACTION_OK, 0, "", "");
	expect(d, "1", ACTION_OK, 0, "", "");
	refuse(d, "550", "needs a text");
	refuse(d, "1234567890 x", "reply code");
	expect(d, "REJECT", ACTION_REJECT, 554, "5.7.1", "Access denied");
	expect(d, "REJECT 4.7.1 x", ACTION_REJECT, 554, "5.7.1", "x");
	expect(d, "DEFER", ACTION_DEFER, 450, "4.7.1", "Access denied");
	expect(d, "DEFER 5.7.0 x", ACTION_DEFER, 450, "4.7.0", "x");
	expect(d, "DUNNO", ACTION_DUNNO, 0, "", "");
	expect(d, "PREPEND X-Foo: bar", ACTION_PREPEND, 0, "", "X-Foo: bar");
	refuse(d, "PREPEND foo bar", "headername");
	refuse(d, "PREPEND", "needs a text");
	refuse(d, "IGNORE", "header and body checks only");
	refuse(d, "REPLACE x: y", "header and body checks only");
	refuse(d, "reject_unknown_client", "unknown action");
	refuse(d, "", "no action");
	refuse(d, "  \t ", "no action");

	assert_true(verdict_parse(view_of("defer_if_permit"), d, &v, &error));
	assert_int_equal(v.action, ACTION_DEFER);
	assert_int_equal(v.when, DEFER_IF_PERMIT);
	assert_true(view_is(v.text, "Service unavailable"));
	assert_true(verdict_parse(view_of("DEFER_IF_REJECT 4.3.0 x"), d, &v,
	    &error));
	assert_int_equal(v.when, DEFER_IF_REJECT);
	assert_true(view_is(v.status, "4.3.0"));
}

static void
checks_actions(void **state)
{
	const enum verdict_dialect d = DIALECT_CHECKS;

	(void)state;
	expect(d, "OK", ACTION_DUNNO, 0, "", "");
	expect(d, "dunno x", ACTION_DUNNO, 0, "", "");
	expect(d, "IGNORE", ACTION_IGNORE, 0, "", "");
	expect(d, "STRIP noted", ACTION_STRIP, 0, "", "noted");
	expect(d, "PASS", ACTION_PASS, 0, "", "");
	expect(d, "INFO a b", ACTION_INFO, 0, "", "a b");
	expect(d, "WARN", ACTION_WARN, 0, "", "");
	expect(d, "HOLD look", ACTION_HOLD, 0, "", "look");
	expect(d, "DISCARD", ACTION_DISCARD, 0, "", "");
	expect(d, "PREPEND any text", ACTION_PREPEND, 0, "", "any text");
	expect(d, "REPLACE X-A: b", ACTION_REPLACE, 0, "", "X-A: b");
	expect(d, "BCC a@b", ACTION_BCC, 0, "", "a@b");
	expect(d, "REDIRECT a@b", ACTION_REDIRECT, 0, "", "a@b");
	expect(d, "FILTER smtp:[127.0.0.1]:10025", ACTION_FILTER, 0, "",
	    "smtp:[127.0.0.1]:10025");
	expect(d, "FILTER smtp:", ACTION_FILTER, 0, "", "smtp:");

	refuse(d, "REPLACE", "needs a text");
	refuse(d, "PREPEND  ", "needs a text");
	refuse(d, "BCC", "user@domain");
	refuse(d, "BCC somebody", "user@domain");
	refuse(d, "BCC @domain", "user@domain");
	refuse(d, "REDIRECT user@", "user@domain");
	refuse(d, "REDIRECT a@b\nX: y", "user@domain");
	refuse(d, "FILTER smtp", "transport:destination");
	refuse(d, "FILTER :x", "transport:destination");
	refuse(d, "FILTER", "transport:destination");
	refuse(d, "DEFER", "access tables only");
	refuse(d, "RELAY", "access tables only");
	refuse(d, "REJECTED", "unknown action");
	refuse(d, "REJECT,text", "unknown action");
	refuse(d, "0", "reply code");
}

static void
long_address(void **state)
{
	char rhs[2000];
	struct verdict v;
	const char *error;
	size_t n;

	(void)state;
	n = (size_t)snprintf(rhs, sizeof(rhs), "BCC %0994d@x.org", 0);
	assert_int_equal(n, 4 + 1000);
	assert_true(verdict_parse(view_make(rhs, n), DIALECT_CHECKS, &v,
	    &error));
	n = (size_t)snprintf(rhs, sizeof(rhs), "BCC %0995d@x.org", 0);
	assert_false(verdict_parse(view_make(rhs, n), DIALECT_CHECKS, &v,
	    &error));
}

static void
header_text(void **state)
{
	(void)state;
	assert_true(verdict_text_is_header(view_of("X-A: b")));
	assert_true(verdict_text_is_header(view_of("X-A:")));
	assert_true(verdict_text_is_header(view_of("X-A : b")));
	assert_false(verdict_text_is_header(view_of("X-A b")));
	assert_false(verdict_text_is_header(view_of("X A: b")));
	assert_false(verdict_text_is_header(view_of(": b")));
	assert_false(verdict_text_is_header(view_of(" X: b")));
	assert_false(verdict_text_is_header(view_of("")));
	assert_false(verdict_text_is_header(view_of("X\xc3\xa4: b")));
}

/* -- messages ------------------------------------------------------------ */

static struct judgement
example(void)
{
	static struct edit edits[2] = {
		{ 0, 0, { "X-A: b\r\n", 8 } }, { 10, 5, { NULL, 0 } }
	};
	struct judgement j = {
		.verdict = {
			.action = ACTION_REJECT, .code = 550,
			.status = view_of("5.7.1"), .text = view_of("no"),
			.where = view_of("/etc/postern/header_checks:12")
		},
		.redirect = view_of("other@example.com"),
		.filter = view_of("smtp:[127.0.0.1]:10025"),
		.bcc = { view_of("a@example.com"), view_of("b@example.com") },
		.n_bcc = 2,
		.message_id = view_of("<1@example.com>"),
		.edits = { edits, 2 }
	};

	return j;
}

static void
judgement_round_trip(void **state)
{
	struct judgement in = example(), out;
	struct arena *a = arena_new(1u << 20);
	struct buf b;

	(void)state;
	buf_init(&b, 4096);
	assert_true(judgement_put(&b, &in));
	assert_true(judgement_get(buf_view(&b), 15, a, &out));
	assert_int_equal(out.verdict.action, ACTION_REJECT);
	assert_int_equal(out.verdict.code, 550);
	assert_true(view_is(out.verdict.status, "5.7.1"));
	assert_true(view_is(out.verdict.text, "no"));
	assert_true(view_is(out.verdict.where,
	    "/etc/postern/header_checks:12"));
	assert_true(view_is(out.redirect, "other@example.com"));
	assert_true(view_is(out.filter, "smtp:[127.0.0.1]:10025"));
	assert_int_equal(out.n_bcc, 2);
	assert_true(view_is(out.bcc[1], "b@example.com"));
	assert_true(view_is(out.message_id, "<1@example.com>"));
	assert_int_equal(out.edits.n, 2);
	assert_int_equal(out.edits.list[1].remove, 5);
	/* an edit outside the text */
	assert_false(judgement_get(buf_view(&b), 14, a, &out));
	/* cut anywhere, it is none */
	for (size_t n = 0; n < b.n; n++)
		assert_false(judgement_get(view_make(b.p, n), 15, a, &out));
	assert_true(buf_putc(&b, 'x'));
	assert_false(judgement_get(buf_view(&b), 15, a, &out));
	buf_free(&b);
	/* too small a buffer */
	buf_init(&b, 100);
	assert_false(judgement_put(&b, &in));
	buf_free(&b);
	arena_free(&a);
}

static bool
survives(const struct judgement *j)
{
	struct arena *a = arena_new(1u << 20);
	struct judgement out;
	struct buf b;
	bool ok;

	buf_init(&b, 65536);
	assert_true(judgement_put(&b, j));
	ok = judgement_get(buf_view(&b), 1000, a, &out);
	buf_free(&b);
	arena_free(&a);
	return ok;
}

static void
judgement_checks(void **state)
{
	struct judgement j = example();

	(void)state;
	assert_true(survives(&j));
	j.verdict.code = 250;
	assert_false(survives(&j));
	j = example(), j.verdict.code = 450;
	assert_false(survives(&j));	/* 5.7.1 does not go with 450 */
	j = example(), j.verdict.status = view_of("5.7.1 250");
	assert_false(survives(&j));
	j = example(), j.verdict.status = view_of("");
	assert_false(survives(&j));
	j = example(), j.verdict.action = ACTION_BCC;
	assert_false(survives(&j));
	j = example(), j.verdict.action = ACTION_NONE;
	assert_false(survives(&j));
	j = example(), j.verdict.action = (enum action)200;
	assert_false(survives(&j));
	j = example(), j.verdict.when = DEFER_IF_REJECT;
	assert_false(survives(&j));
	/* code and status belong to a refusal only */
	j = example(), j.verdict.action = ACTION_HOLD;
	assert_false(survives(&j));
	j.verdict.code = 0, j.verdict.status = view_of("");
	assert_true(survives(&j));
	j = example(), j.redirect = view_of("nobody");
	assert_false(survives(&j));
	j = example(), j.bcc[1] = view_of("a@b\r\nc");
	assert_false(survives(&j));
	j = example(), j.bcc[1] = view_of("");
	assert_false(survives(&j));
	j = example(), j.filter = view_of("smtp");
	assert_false(survives(&j));
	j = example(), j.redirect = j.filter = view_of(""), j.n_bcc = 0;
	assert_true(survives(&j));
}

static void
judgement_too_many_bcc(void **state)
{
	struct judgement j = example();
	struct buf b;

	(void)state;
	j.n_bcc = JUDGEMENT_BCC_MAX + 1;
	buf_init(&b, 4096);
	assert_false(judgement_put(&b, &j));
	buf_free(&b);
}

/* What $1 brought from a message must not break a reply. */
static void
judgement_text_is_one_line(void **state)
{
	struct judgement j = example(), out;
	struct arena *a = arena_new(1u << 20);
	static char text[5000];
	struct buf b;

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text, "a\r\n250 ok\0b", 11);
	j.verdict.text = j.message_id = view_make(text, sizeof(text));
	buf_init(&b, 65536);
	assert_true(judgement_put(&b, &j));
	assert_true(judgement_get(buf_view(&b), 1000, a, &out));
	assert_int_equal(out.verdict.text.n, VERDICT_TEXT_MAX);
	assert_memory_equal(out.verdict.text.p, "a  250 ok bxx", 13);
	assert_int_equal(out.message_id.n, 1000);
	buf_free(&b);
	arena_free(&a);
}

/* -- tables -------------------------------------------------------------- */

static char reported[4000];

static void
report(bool error, const char *text, void *arg)
{
	(void)error;
	(void)arg;
	strncat(reported, text, sizeof(reported) - strlen(reported) - 2);
	strncat(reported, "\n", sizeof(reported) - strlen(reported) - 1);
}

static bool
check_table(const char *spec, enum verdict_dialect dialect)
{
	struct table *t;
	bool ok;

	reported[0] = '\0';
	t = table_open(view_of(spec), NULL, report, NULL);
	if (t == NULL)
		fail_msg("%s", reported);
	ok = verdict_check_table(t, dialect, report, NULL);
	table_free(&t);
	return ok;
}

static void
whole_tables(void **state)
{
	(void)state;
	assert_true(check_table("regexp:{{/a/ REJECT}, {if /b/}, "
	    "{/(b)/ 550 not $1}, {endif}}", DIALECT_CHECKS));
	/* what stands for $1 passes as an argument, but not as an action */
	assert_true(check_table("pcre:{{/(a)/ REDIRECT $1}, {/(a)/ BCC $1}, "
	    "{/(a)/ PREPEND $1}, {/(a)/ FILTER $1}}", DIALECT_CHECKS));
	assert_false(check_table("pcre:{{/(a)/ $1 text}}", DIALECT_CHECKS));
	assert_non_null(strstr(reported, ":1: unknown action"));

	assert_false(check_table("regexp:{{/a/ REJECT}, {/b/ REDIRECT x}, "
	    "{/c/ DROP}}", DIALECT_CHECKS));
	assert_non_null(strstr(reported, ":2: need user@domain"));
	assert_non_null(strstr(reported, ":3: unknown action: \"DROP\""));
	assert_null(strstr(reported, ":1:"));

	assert_true(check_table("inline:{a=OK, {b = 550 no}}",
	    DIALECT_ACCESS));
	assert_false(check_table("inline:{a=OK, b=IGNORE}", DIALECT_ACCESS));
	assert_true(check_table("cidr:{{10.0.0.0/8 OK}}", DIALECT_ACCESS));
	assert_false(check_table("cidr:{{10.0.0.0/8 NO}}", DIALECT_ACCESS));
	assert_true(check_table("static:OK", DIALECT_ACCESS));
	assert_false(check_table("static:{STRIP x}", DIALECT_ACCESS));
}

/* header_checks(5): what smtp_header_checks can do. */
static void
delivery_actions(void **state)
{
	static const char *const late[] = { "REJECT", "REJECT no", "550 no",
		"450 no", "HOLD", "DISCARD", "FILTER smtp:[127.0.0.1]:25",
		"BCC a@b", "REDIRECT a@b", "PASS", "RENAME x", "QUARANTINE",
		"DEFER", "REPLACE", "PREPEND", "200", "0" };
	const enum verdict_dialect d = DIALECT_DELIVERY;
	struct verdict v;
	const char *error;
	size_t i;

	(void)state;
	expect(d, "OK", ACTION_DUNNO, 0, "", "");
	expect(d, "DUNNO x", ACTION_DUNNO, 0, "", "");
	expect(d, "ignore", ACTION_IGNORE, 0, "", "");
	expect(d, "STRIP noted", ACTION_STRIP, 0, "", "noted");
	expect(d, "INFO a", ACTION_INFO, 0, "", "a");
	expect(d, "WARN b", ACTION_WARN, 0, "", "b");
	expect(d, "PREPEND A: b", ACTION_PREPEND, 0, "", "A: b");
	expect(d, "REPLACE A: b", ACTION_REPLACE, 0, "", "A: b");
	for (i = 0; i < sizeof late / sizeof late[0]; i++) {
		error = NULL;
		assert_false(verdict_parse(view_of(late[i]), d, &v, &error));
		assert_non_null(error);
	}
}

static void
wire(const char *text, bool header, bool line_end, const char *want)
{
	struct buf b;

	buf_init(&b, 1000);
	assert_true(verdict_text_wire(&b, view_of(text), header, line_end));
	assert_string_equal(buf_cstr(&b), want);
	buf_free(&b);
}

static void
text_on_the_wire(void **state)
{
	struct buf b;

	(void)state;
	wire("A: b", true, false, "A: b");
	wire("A: b", true, true, "A: b\r\n");
	wire("A: b\nBcc: c\n d\n\te", true, true,
	    "A: b\r\n\tBcc: c\r\n d\r\n\te\r\n");
	wire("A: b\r\nC: d\n\nx", true, false,
	    "A: b \r\n\tC: d\r\n\t\r\n\tx");
	wire("A: b\n", true, true, "A: b \r\n");
	wire("a\nb\rc\177d\te", false, false, "a b c d\te");
	buf_init(&b, 4);
	assert_false(verdict_text_wire(&b, view_of("abcd"), false, true));
	assert_false(verdict_text_wire(&b, view_of("abcde"), true, false));
	buf_free(&b);
}

static void
names(void **state)
{
	(void)state;
	for (unsigned a = 0; a < ACTIONS; a++)
		assert_non_null(action_name((enum action)a));
	assert_string_equal(action_name(ACTION_REJECT), "REJECT");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checks_reject),
		cmocka_unit_test(codes),
		cmocka_unit_test(access_actions),
		cmocka_unit_test(checks_actions),
		cmocka_unit_test(long_address),
		cmocka_unit_test(header_text),
		cmocka_unit_test(judgement_round_trip),
		cmocka_unit_test(judgement_checks),
		cmocka_unit_test(judgement_too_many_bcc),
		cmocka_unit_test(judgement_text_is_one_line),
		cmocka_unit_test(whole_tables),
		cmocka_unit_test(delivery_actions),
		cmocka_unit_test(text_on_the_wire),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
