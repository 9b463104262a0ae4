/* link: queue/bounce_template.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "queue/bounce_template.h"

static struct conf *cf;
static struct bounce_templates t;
static char said[4096];

static void
report(bool error, const char *text, void *arg)
{
	size_t n = strlen(said);

	(void)arg;
	assert_false(error);	/* the built-in ones remain */
	snprintf(said + n, sizeof said - n, "%s\n", text);
}

static int
setup(void **state)
{
	(void)state;
	cf = conf_parse(view_of("myhostname = gw.example.com\nmynetworks =\n"
	    "delay_warning_time = 36h\nmaximal_queue_lifetime = 10d\n"
	    "mine = $myhostname!\nlong = "
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"),
	    "main.cf", NULL, NULL);
	assert_non_null(cf);
	bounce_templates_init(&t, cf);
	said[0] = '\0';
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	bounce_templates_free(&t);
	conf_free(&cf);
	return 0;
}

static bool
try(const char *text)
{
	said[0] = '\0';
	return bounce_templates_read(&t, cf, view_of(text), "file", report,
	    NULL);
}

static void
refused(const char *text, const char *why)
{
	struct view before = t.list[TEMPLATE_FAILURE].text;

	assert_false(try(text));
	if (strstr(said, why) == NULL)
		fail_msg("no \"%s\" in \"%s\"", why, said);
	/* What was in force stays. */
	assert_ptr_equal(t.list[TEMPLATE_FAILURE].text.p, before.p);
}

static void
builtin_is_complete(void **state)
{
	unsigned i;

	(void)state;
	for (i = 0; i < TEMPLATES; i++) {
		assert_true(view_is(t.list[i].charset, "us-ascii"));
		assert_true(view_is(t.list[i].from,
		    "MAILER-DAEMON (Mail Delivery System)"));
		assert_true(t.list[i].subject.n > 0);
		assert_true(view_starts_nocase(t.list[i].text,
		    "This is the mail system at host gw.example.com.\r\n"));
	}
	assert_non_null(strstr(t.list[TEMPLATE_DELAY].text.p,
	    "more than 36 hours.\r\nDelivery will be tried until it is 10 "
	    "days old.\r\n"));
}

static void
file_replaces_one(void **state)
{
	struct bounce_template old = t.list[TEMPLATE_DELAY];

	(void)state;
	assert_true(try("# a comment\n\n"
	    "failure_template = <<EOF\n"
	    "Charset: utf-8\r\n"
	    "subject: Zur\303\274ck an Absender? Nein: ASCII\n"
	    "\n"
	    "EOF\n") == false);
	assert_true(try("# a comment\n\n"
	    "failure_template = <<EOF\n"
	    "Charset: utf-8\n"
	    "From: Post <mailer@example.com>\n"
	    "Subject: Returned\n"
	    "\n"
	    "Zur\303\274ck von $myhostname, ${mine} $(mine) $$5 "
	    "$delay_warning_time_minutes ${maximal_queue_lifetime_weeks}\r\n"
	    "\n"
	    "# no comment\n"
	    "EOF\n"
	    "success_template=<<END\n\nEOF\nEND\n"));
	assert_true(view_is(t.list[TEMPLATE_FAILURE].text,
	    "Zur\303\274ck von gw.example.com, gw.example.com! gw.example.com!"
	    " $5 2160 1\r\n\r\n# no comment\r\n"));
	assert_true(t.list[TEMPLATE_FAILURE].is_8bit);
	assert_true(view_is(t.list[TEMPLATE_FAILURE].from,
	    "Post <mailer@example.com>"));
	/* What it does not say stays. */
	assert_true(view_is(t.list[TEMPLATE_FAILURE].postmaster_subject,
	    "Postmaster Copy: Undelivered Mail"));
	assert_true(view_is(t.list[TEMPLATE_SUCCESS].text, "EOF\r\n"));
	assert_ptr_equal(t.list[TEMPLATE_DELAY].text.p, old.text.p);
}

#define BEGIN	"failure_template = <<EOF\n"

static void
mistakes(void **state)
{
	char text[3000];
	size_t n;

	(void)state;
	refused("failure_template = x\n", "file:1: \"name = <<END\"");
	refused("failure_template\n", "file:1: ");
	refused("x_template = <<EOF\n" BEGIN "EOF\n",
	    "file:1: unknown template: x_template");
	refused(BEGIN "\ntext\n", "file:1: no end mark EOF; the built-in "
	    "failure_template is used");
	refused(BEGIN "Subject: x\n\nEOF\n", "file:1: there is no text");
	refused(BEGIN "Subject: x\nEOF\n", "there is no text");
	refused(BEGIN "Subject:\n\nx\nEOF\n", "file:2: Subject: is empty");
	refused(BEGIN "To: me\n\nx\nEOF\n", "file:2: no header of a template");
	refused(BEGIN "Charset: a; b=c\n\nx\nEOF\n", "file:2: a byte that");
	refused(BEGIN "Subject: \303\274\n\nx\nEOF\n", "file:2: a byte that");
	refused(BEGIN "\n\303\274\nEOF\n", "8-bit text needs a Charset");
	refused(BEGIN "\n$nothing_known\nEOF\n",
	    "file:3: undefined parameter nothing_known");
	refused(BEGIN "\ncosts 5 $\nEOF\n", "file:3: a name must follow $");
	refused(BEGIN "\n${mine\nEOF\n", "file:3: a name must follow $");
	refused("success_template = <<EOF\nPostmaster-Subject: x\n\nx\nEOF\n",
	    "file:2: no header of a template: Postmaster-Subject");
	n = (size_t)snprintf(text, sizeof text, BEGIN "\n");
	memset(text + n, 'x', 1000);
	memcpy(text + n + 1000, "\nEOF\n", 6);
	refused(text, "file:3: the line is too long");
	/* Short as it is written, long as it is sent. */
	n = (size_t)snprintf(text, sizeof text, BEGIN "\n");
	while (n < 150)
		n += (size_t)snprintf(text + n, sizeof text - n, "$long ");
	memcpy(text + n, "\nEOF\n", 6);
	refused(text, "a line is too long when expanded");
	/* A mistake in one does not void another. */
	assert_false(try("delay_template = <<A\nFoo: x\n\nx\nA\n"
	    "verify_template = <<B\n\nverified\nB\n"));
	assert_true(view_is(t.list[TEMPLATE_VERIFY].text, "verified\r\n"));
	assert_false(try(BEGIN "\none\nEOF\n" BEGIN "\ntwo\nEOF\n"));
	assert_true(view_is(t.list[TEMPLATE_FAILURE].text, "one\r\n"));
}

static void
no_file(void **state)
{
	(void)state;
	assert_false(bounce_templates_load(&t, cf, "/nonexistent/bounce.cf",
	    report, NULL));
	assert_non_null(strstr(said, "/nonexistent/bounce.cf: No such file"));
	assert_false(bounce_templates_load(&t, cf, "/dev/null/x", report,
	    NULL));
	assert_false(bounce_templates_load(&t, cf, "/", report, NULL));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(builtin_is_complete, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(file_replaces_one, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(mistakes, setup, teardown),
		cmocka_unit_test_setup_teardown(no_file, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
