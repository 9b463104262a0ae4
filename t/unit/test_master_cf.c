#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "lib/master_cf.h"

static struct buf said;

static void
listen(bool error, const char *text, void *arg)
{
	(void)arg;
	assert_true(buf_printf(&said, "%c %s\n", error ? 'E' : 'W', text));
}

static struct service_table *
parse(const char *text)
{
	buf_clear(&said);
	return master_cf_parse(view_of(text), "master.cf", listen, NULL);
}

static void
check_refused(const char *text, const char *why)
{
	if (parse(text) != NULL)
		fail_msg("accepted: %s", text);
	if (strstr(buf_cstr(&said), why) == NULL)
		fail_msg("%s: said: %s", text, buf_cstr(&said));
}

static void
test_columns(void **state)
{
	struct service_table *t = parse("# comment\n"
	    "smtp      inet  n       -       -       -       -       smtpd\n"
	    "\n"
	    "pickup    unix  n       n       n       60?     1       pickup\n"
	    "relay\tunix - - y - 0\n\trelay\n");
	const struct service *s;

	(void)state;
	assert_non_null(t);
	assert_int_equal(t->n, 3);
	s = &t->list[0];
	assert_string_equal(s->name, "smtp");
	assert_string_equal(s->type, "inet");
	assert_string_equal(s->command, "smtpd");
	assert_false(s->private_socket);
	assert_true(s->unprivileged);
	assert_true(s->chroot);		/* unlike Postfix since 3.0 */
	assert_int_equal(s->wakeup, 0);
	assert_int_equal(s->maxproc, -1);
	assert_int_equal(s->line, 2);
	s = &t->list[1];
	assert_false(s->private_socket);
	assert_false(s->unprivileged);
	assert_false(s->chroot);
	assert_int_equal(s->wakeup, 60);
	assert_int_equal(s->maxproc, 1);
	s = &t->list[2];
	assert_true(s->private_socket);
	assert_true(s->chroot);
	assert_int_equal(s->maxproc, 0);
	assert_string_equal(s->command, "relay");
	assert_int_equal(s->line, 5);
	master_cf_free(&t);
	assert_null(t);
	master_cf_free(&t);
}

static void
test_arguments(void **state)
{
	struct service_table *t = parse(
	    "a inet n - - - - smtpd -v -o relayhost=x,y\n"
	    "  -o { smtpd_banner = a  b } -vv\n"
	    "# between\n"
	    "  -omyorigin=z -D -o empty=\n"
	    "b unix - - - - - pipe\n"
	    "  flags=R user=v argv=/bin/x -o a=b {c d} ${recipient}\n");
	const struct service *s;

	(void)state;
	assert_non_null(t);
	s = &t->list[0];
	assert_int_equal(s->verbose, 3);
	assert_int_equal(s->n_overrides, 4);
	assert_string_equal(s->overrides[0], "relayhost=x,y");
	assert_string_equal(s->overrides[1], "smtpd_banner=a  b");
	assert_string_equal(s->overrides[2], "myorigin=z");
	assert_string_equal(s->overrides[3], "empty=");
	assert_int_equal(s->argc, 0);
	s = &t->list[1];
	assert_int_equal(s->n_overrides, 0);
	assert_int_equal(s->argc, 7);
	assert_string_equal(s->argv[2], "argv=/bin/x");
	assert_string_equal(s->argv[3], "-o");
	assert_string_equal(s->argv[5], "c d");
	assert_string_equal(s->argv[6], "${recipient}");
	assert_null(s->argv[7]);
	master_cf_free(&t);
}

static void
test_duplicates(void **state)
{
	struct service_table *t = parse("a inet n - - - - smtpd\n"
	    "a unix n - - - - smtpd\na inet n - - - 7 smtpd\n");

	(void)state;
	assert_non_null(t);
	assert_int_equal(t->n, 2);
	assert_int_equal(t->list[0].maxproc, 7);
	assert_non_null(strstr(buf_cstr(&said), "W master.cf:3: overriding "
	    "earlier entry: a/inet (line 1)"));
	master_cf_free(&t);
}

static void
test_refused(void **state)
{
	struct buf b;
	int i;

	(void)state;
	check_refused("a inet n - - - -\n",
	    "E master.cf:1: missing command field");
	check_refused("\na blah n - - - - smtpd\n",
	    "E master.cf:2: invalid type field \"blah\"");
	check_refused("a inet q - - - - smtpd\n", "private field \"q\"");
	check_refused("a inet y - - - - smtpd\n", "private field \"y\"");
	check_refused("a inet n x - - - smtpd\n", "unprivileged field");
	check_refused("a inet n - Y - - smtpd\n", "chroot field");
	check_refused("a inet n - - -1 - smtpd\n", "wakeup field");
	check_refused("a inet n - - ? - smtpd\n", "wakeup field");
	check_refused("a inet n - - - many smtpd\n", "process limit field");
	check_refused("a inet n - - - - smtpd -o foo\n",
	    "a: -o \"foo\": not name=value");
	check_refused("a inet n - - - - smtpd -o { a b = c }\n", "not name");
	check_refused("a inet n - - - - smtpd -o\n", "not name=value");
	check_refused("  a inet n - - - - smtpd\n", "start with whitespace");

	buf_init(&b, 1 << 20);
	for (i = 0; i < 1001; i++)
		assert_true(buf_printf(&b, "s%d inet n - - - - x\n", i));
	check_refused(buf_cstr(&b), "more than 1000 services");
	buf_clear(&b);
	assert_true(buf_puts(&b, "a inet n - - - - x"));
	for (i = 0; i < 1001; i++)
		assert_true(buf_puts(&b, " y"));
	check_refused(buf_cstr(&b), "more than 1000 arguments");
	buf_free(&b);
	buf_clear(&said);
	assert_null(master_cf_load("/nonexistent", listen, NULL));
	assert_non_null(strstr(buf_cstr(&said),
	    "E /nonexistent/master.cf: No such file"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_refused),
	};
	int failed;

	buf_init(&said, 1 << 20);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	buf_free(&said);
	return failed;
}
