/* link: proxy/relay_checks.c proxy/relay_source.c */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_checks.h"
#include "proxy/relay_source.h"

/* Rules for a text while it is delivered, without a gateway around it. */

static struct conf *conf;
static struct relay relay;
static unsigned turns;
static const char *why;

static void
report(bool error, const char *text, void *arg)
{
	unsigned *n = arg;

	(void)text;
	*n += error;
}

static void
complain(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fail_msg("%s", text);
}

static struct relay_checks *
rules(const char *header, const char *mime, const char *nested,
    const char *body)
{
	struct relay_checks *c = NULL;
	struct conf cf = *conf;
	unsigned errors = 0;

	cf.smtp_header_checks = header;
	cf.smtp_mime_header_checks = mime;
	cf.smtp_nested_header_checks = nested;
	cf.smtp_body_checks = body;
	assert_true(relay_checks_open(&cf, report, &errors, &c));
	assert_int_equal(errors, 0);
	return c;
}

static struct delivery *
delivery(const char *text, size_t n)
{
	struct delivery *d = mem_alloc(sizeof *d);

	d->relay = &relay;
	(void)memcpy(d->id, "TEST", 5);
	d->arena = arena_new(16u << 20);
	d->fd = memfd_create("text", 0);
	assert_true(d->fd >= 0);
	assert_int_equal(write(d->fd, "offset", 6), 6);
	assert_int_equal(write(d->fd, text, n), n);
	d->text_offset = 6;
	d->text_size = d->size = n;
	return d;
}

static void
delivery_end(struct delivery *d)
{
	relay_check_cancel(d);
	close(d->fd);
	arena_free(&d->arena);
	free(d);
}

static struct relay_checks *present;
static enum relay_checked result;

static void
go_on(struct delivery *d)
{
	turns++;
	result = relay_check(present, d, go_on, &why);
}

static enum relay_checked
check(struct relay_checks *c, struct delivery *d)
{
	present = c;
	turns = 0;
	result = relay_check(c, d, go_on, &why);
	while (result == CHECKED_MORE)
		assert_int_equal(event_base_loop(loop_base(), EVLOOP_ONCE),
		    0);
	return result;
}

static void
sends(struct delivery *d, const char *want)
{
	struct relay_source s;
	struct view v;
	struct buf b;

	buf_init(&b, 16u << 20);
	relay_source_init(&s, d->fd, d->text_offset, d->text_size, &d->edits);
	while (relay_source_read(&s, relay.piece, 100, &v) == SOURCE_DATA)
		assert_true(buf_putv(&b, v));
	assert_string_equal(buf_cstr(&b), want);
	assert_int_equal(d->size, b.n);
	buf_free(&b);
}

static void
becomes(struct relay_checks *c, const char *text, const char *want)
{
	struct delivery *d = delivery(text, strlen(text));

	assert_int_equal(check(c, d), CHECKED_DONE);
	sends(d, want);
	delivery_end(d);
}

static void
nothing_set(void **state)
{
	(void)state;
	assert_null(rules("", " ", "", ""));
}

static void
each_list_sees_its_own(void **state)
{
	struct relay_checks *c = rules(
	    "pcre:{ {/(.*)/ REPLACE H: $1} }", "pcre:{ {/(.*)/ REPLACE M: $1} }",
	    "pcre:{ {/(.*)/ REPLACE N: $1} }", "pcre:{ {/(.*)/ REPLACE b $1} }");

	(void)state;
	becomes(c, "A: 1\r\nContent-Type: multipart/mixed; boundary=x\r\n"
	    "B: 2\r\n\t3\r\n\r\npre\r\n--x\r\nC: 4\r\n\r\nbody\r\n\r\n--x\r\n"
	    "Content-Type: message/rfc822\r\n\r\nD: 5\r\n"
	    "Content-Type: text/plain\r\n\r\nin\r\n--x--\r\nend",
	    "H: A: 1\r\nM: Content-Type: multipart/mixed; boundary=x\r\n"
	    "H: B: 2\r\n\t3\r\n\r\nb pre\r\nb --x\r\nM: C: 4\r\n\r\nb body\r\n"
	    "\r\nb --x\r\nM: Content-Type: message/rfc822\r\n\r\nN: D: 5\r\n"
	    "M: Content-Type: text/plain\r\n\r\nb in\r\nb --x--\r\nb end");
	relay_checks_free(&c);
	c = rules("pcre:{ {/^A:/ IGNORE}, {/^X/ IGNORE} }", "", "", "");
	becomes(c, "A: 1\r\n\t2\r\nX-Y: 1\r\nB: 1\r\n\r\nA: 1\r\n",
	    "B: 1\r\n\r\nA: 1\r\n");
	becomes(c, "A: 1\r\n", "");
	becomes(c, "", "");
	becomes(c, "A: 1", "");
	relay_checks_free(&c);
}

static void
a_text_that_is_no_header(void **state)
{
	struct relay_checks *c = rules("pcre:{ {/^A/ REPLACE no header}, "
	    "{/^B/ PREPEND neither}, {/^C/ PREPEND D: e} }", "", "",
	    "pcre:{ {/^A/ REPLACE any} }");

	(void)state;
	becomes(c, "A: 1\r\nB: 2\r\nC: 3\r\n\r\nA\r\n",
	    "A: 1\r\nB: 2\r\nD: e\r\nC: 3\r\n\r\nany\r\n");
	relay_checks_free(&c);
}

/* Many turns; another delivery comes in between; one is given up. */
static void
in_turns(void **state)
{
	struct relay_checks *c = rules("", "", "",
	    "pcre:{ {/^drop/ IGNORE}, {/^x1$$/ REPLACE y} }");
	struct delivery *d, *small, *gone;
	struct buf text, want;
	unsigned i;

	(void)state;
	buf_init(&text, 16u << 20);
	buf_init(&want, 16u << 20);
	assert_true(buf_puts(&text, "A: b\r\n\r\n"));
	assert_true(buf_puts(&want, "A: b\r\n\r\n"));
	for (i = 0; i < 200000; i++) {
		assert_true(buf_printf(&text, "x%u\r\ndrop\r\n", i));
		assert_true(i == 1 ? buf_puts(&want, "y\r\n") :
		    buf_printf(&want, "x%u\r\n", i));
		if (i % 4 != 0)
			continue;
		/* not more edits than are kept */
		assert_true(buf_puts(&text, "drop\r\n"));
		for (unsigned k = 0; k < 100; k++)
			assert_true(buf_puts(&text, "z") &&
			    buf_puts(&want, "z"));
		assert_true(buf_puts(&text, "\r\n") &&
		    buf_puts(&want, "\r\n"));
		i += 3;
	}
	d = delivery(text.p, text.n);
	gone = delivery(text.p, text.n);
	present = c;
	turns = 0;
	result = relay_check(c, d, go_on, &why);
	assert_int_equal(result, CHECKED_MORE);
	assert_int_equal(relay_check(c, gone, go_on, &why), CHECKED_MORE);
	small = delivery("A: b\r\n\r\ndrop\r\n", 14);
	assert_int_equal(relay_check(c, small, go_on, &why), CHECKED_DONE);
	sends(small, "A: b\r\n\r\n");
	delivery_end(small);
	delivery_end(gone);
	while (result == CHECKED_MORE)
		assert_int_equal(event_base_loop(loop_base(), EVLOOP_ONCE),
		    0);
	assert_int_equal(result, CHECKED_DONE);
	assert_true(turns > 1);
	sends(d, buf_cstr(&want));
	delivery_end(d);
	relay_checks_free(&c);
	buf_free(&text);
	buf_free(&want);
}

static void
failures(void **state)
{
	struct relay_checks *c = rules("", "", "",
	    "pcre:{ {/^x/ REPLACE y} }");
	struct delivery *d = delivery("A: b\r\n\r\nx\r\n", 12);
	struct buf text;
	unsigned i;

	(void)state;
	/* The file is shorter than it was said to be. */
	d->text_size = 100;
	assert_int_equal(check(c, d), CHECKED_FAILED);
	assert_non_null(why);
	assert_null(d->checking);
	delivery_end(d);
	buf_init(&text, 16u << 20);
	assert_true(buf_puts(&text, "A: b\r\n\r\n"));
	for (i = 0; i <= RELAY_CHECKS_EDITS; i++)
		assert_true(buf_puts(&text, "x\r\nz\r\n"));
	d = delivery(text.p, text.n);
	assert_int_equal(check(c, d), CHECKED_FAILED);
	assert_int_equal(d->edits.n, 0);
	delivery_end(d);
	/* One less is sent. */
	d = delivery(text.p, text.n - 6);
	assert_int_equal(check(c, d), CHECKED_DONE);
	assert_true(d->edits.n >= RELAY_CHECKS_EDITS);
	delivery_end(d);
	buf_free(&text);
	relay_checks_free(&c);
}

static void
wrong_actions(void **state)
{
	static const char *const bad[] = { "pcre:{ {/x/ REJECT} }",
		"pcre:{ {/x/ HOLD} }", "pcre:{ {/x/ 550 no} }",
		"pcre:{ {/(x/ IGNORE} }" };
	struct relay_checks *c = NULL;
	struct conf cf = *conf;
	unsigned errors;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		for (k = 0; k < 4; k++) {
			cf.smtp_header_checks = k == 0 ? bad[i] : "";
			cf.smtp_mime_header_checks = k == 1 ? bad[i] : "";
			cf.smtp_nested_header_checks = k == 2 ? bad[i] : "";
			cf.smtp_body_checks = k == 3 ? bad[i] : "";
			errors = 0;
			assert_false(relay_checks_open(&cf, report, &errors,
			    &c));
			assert_int_equal(errors, 1);
			assert_null(c);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_set),
		cmocka_unit_test(each_list_sees_its_own),
		cmocka_unit_test(a_text_that_is_no_header),
		cmocka_unit_test(in_turns),
		cmocka_unit_test(failures),
		cmocka_unit_test(wrong_actions),
	};

	int failed;

	log_open("postern/smtp", "host");
	log_to(LOG_SINK_FILE, open("/dev/null", O_WRONLY), 0);
	conf = conf_parse(view_of("rules_cache_directory =\n"), "main.cf",
	    complain, NULL);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	conf_free(&conf);
	return failed;
}
