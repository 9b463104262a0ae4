#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "lib/conf.h"
#include "t/unit/conf_help.h"

static void
test_references(void **state)
{
	static const char *const cases[][2] = {
		{ "$a", "A" }, { "${a}", "A" }, { "$(a)", "A" },
		{ "${ a }", "A" }, { "$a.b-c", "A.b-c" }, { "$$a", "$a" },
		{ "$$$$x", "$$x" }, { "$via", "$a" }, { "$nothing|", "|" },
		{ "${a?yes}", "yes" }, { "${a:no}|", "|" },
		{ "${nothing?yes}|", "|" }, { "${nothing:no}", "no" },
		{ "${empty?yes}|", "|" }, { "${empty:no}", "no" },
		/* "$empty" is not empty until it is expanded. */
		{ "${full?yes}", "yes" }, { "${full:no}|", "|" },
		{ "${a?{x}:{y}}", "x" }, { "${empty?{x}:{y}}", "y" },
		{ "${a ? {x} : {y}}", "x" }, { "${a ? x}", " x" },
		{ "${a?x:y}", "x:y" }, { "${empty?{x}:y}", "y" },
		{ "${a?{${b?{$a$b}}}}", "AB" }, { "${a?}|", "|" },
		{ "$(a?x)", "x" }, { "$({a}=={a}?{x}:{y})", "x" },
		{ "${a}}{${b}", "A}{B" },
	};
	char file[256];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		(void)snprintf(file, sizeof file, "a=A\nb=B\nempty=\nfull="
		    "$empty\nvia=$$a\nrelayhost = %s\n", cases[i][0]);
		check_text(file, "relayhost", cases[i][1]);
	}
	/* Order does not matter. */
	check_text("relayhost = $x\nx = $y\ny = 1\n", "relayhost", "1");
	check_warned("myorigin = $bar.foo.com\n",
	    "W main.cf:1: undefined parameter: bar\n");
	check_text("myorigin = $bar.foo.com\n", "myorigin", ".foo.com");
}

static void
test_relations(void **state)
{
	static const char *const cases[][2] = {
		{ "${{a}=={a}?{x}:{y}}", "x" },
		{ "${{a} != {a} ? {x} : {y}}", "y" },
		{ "${{2}<{10}?{x}:{y}}", "x" }, { "${{2}>{10}?{x}:{y}}", "y" },
		{ "${{abc}<{abd}?{x}:{y}}", "x" }, { "${{b}<={a}?{x}}|", "|" },
		{ "${{9a}<{10}?{x}:{y}}", "y" },
		{ "${{003}=={3}?{x}:{y}}", "x" },
		{ "${{ 3 }=={3}?{x}:{y}}", "y" }, { "${{}<{1}?{x}:{y}}", "x" },
		{ "${{b}>={a}}", "true" }, { "${{b}<{a}}|", "|" },
		{ "${{b}<{a}:no}", "no" }, { "${{a}=={a}?x:y}", "x:y" },
		{ "${{99999999999999999999}>{5}?{x}:{y}}", "x" },
		{ "${{3.7}<=level{3.10}?{x}:{y}}", "x" },
		{ "${{3.7}<={3.10}?{x}:{y}}", "y" },
		{ "${{3}==level{3.0.0}?{x}:{y}}", "x" },
		{ "${{$compatibility_level} <level {2} ? {x} : {y}}", "y" },
	};
	char file[256];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		(void)snprintf(file, sizeof file, "relayhost = %s\n",
		    cases[i][0]);
		check_text(file, "relayhost", cases[i][1]);
	}
}

static void
test_bad_expressions(void **state)
{
	static const char *const cases[][2] = {
		{ "${foo", "truncated macro reference" },
		{ "$(foo", "truncated macro reference" },
		{ "$", "empty macro name" }, { "a $ b", "empty macro name" },
		{ "${}", "parameter name expected" },
		{ "${my host}", "attribute name syntax error" },
		{ "${a.b}", "attribute name syntax error" },
		{ "${a?{A}x}", "\":\" expected" },
		{ "${a?{A}:{B}x}", "unexpected input" },
		{ "${a:{A}x}", "unexpected input" },
		{ "${{a}}", "expected at" }, { "${{a}={a}?x}", "expected at" },
		{ "${{a}=={a}x}", "\"?\" or \":\" expected" },
		{ "${{a}==a}", "\"{\" expected" },
		{ "${{3.}<level{4}?x}", "not a compatibility level" },
	};
	char file[256];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		(void)snprintf(file, sizeof file, "a = 1\nrelayhost = %s\n",
		    cases[i][0]);
		check_refused(file, cases[i][1]);
		assert_true(heard("E main.cf:2: relayhost: "));
	}
}

static void
test_cycles(void **state)
{
	struct buf b;
	int i;

	(void)state;
	check_refused("relayhost = $relayhost\n", "refers to itself");
	check_refused("a = $b\nb = $a\nrelayhost = $a\n",
	    "E main.cf:1: a: refers to itself through: \"b\"");
	check_refused("mydomain = $myorigin\nmyhostname = $mydomain\n",
	    "refers to itself");

	/* Deep, and wide: 2^60 names without a cycle. */
	buf_init(&b, 65536);
	assert_true(buf_puts(&b, "relayhost = $n0\n"));
	for (i = 0; i < 200; i++)
		assert_true(buf_printf(&b, "n%d = $n%d\n", i, i + 1));
	check_refused(buf_cstr(&b), "names other parameters too deeply");
	buf_clear(&b);
	assert_true(buf_puts(&b, "relayhost = $n0\nn60 =\n"));
	for (i = 0; i < 60; i++)
		assert_true(buf_printf(&b, "n%d = $n%d$n%d\n", i, i + 1,
		    i + 1));
	check_refused(buf_cstr(&b), "names other parameters too often");
	buf_clear(&b);
	assert_true(buf_puts(&b, "relayhost = $n0\nn30 = 0123456789\n"));
	for (i = 0; i < 30; i++)
		assert_true(buf_printf(&b, "n%d = $n%d$n%d\n", i, i + 1,
		    i + 1));
	check_refused(buf_cstr(&b), "too long when expanded");
	buf_clear(&b);
	assert_true(buf_puts(&b, "relayhost = "));
	for (i = 0; i < 3000; i++)
		assert_true(buf_puts(&b, "${q:{"));
	for (i = 0; i < 3000; i++)
		assert_true(buf_puts(&b, "}}"));
	check_refused(buf_cstr(&b), "too deeply");
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_relations),
		cmocka_unit_test(test_bad_expressions),
		cmocka_unit_test(test_cycles),
	};
	int failed;

	buf_init(&said, 1 << 20);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	buf_free(&said);
	return failed;
}
