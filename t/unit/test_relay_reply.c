/* link: proxy/relay_reply.c proxy/relay_ehlo.c proxy/relay_mechanism.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "proxy/relay_ehlo.h"
#include "proxy/relay_reply.h"

/* Feed text in pieces; returns the answer, *ret_left the bytes not taken. */
static enum relay_reply_answer
feed(struct relay_reply *r, const char *text, size_t n, size_t piece,
    size_t *ret_left)
{
	enum relay_reply_answer a = REPLY_MORE;
	struct view in;
	size_t at = 0, k;

	relay_reply_reset(r);
	while (a == REPLY_MORE && at < n) {
		k = piece > n - at ? n - at : piece;
		in = view_make(text + at, k);
		a = relay_reply_feed(r, &in);
		at += k - in.n;
		assert_true(a != REPLY_MORE || in.n == 0);
	}
	*ret_left = n - at;
	return a;
}

struct example {
	const char *text;
	enum relay_reply_answer answer;
	unsigned code;
	const char *said;
	const char *status;
	size_t left;
};

static const struct example examples[] = {
	{ "250 Ok\r\n", REPLY_DONE, 250, "250 Ok", "2.0.0", 0 },
	{ "250 Ok\r\n250 next", REPLY_DONE, 250, "250 Ok", "2.0.0", 8 },
	{ "250\r\n", REPLY_DONE, 250, "250", "2.0.0", 0 },
	{ "250 \r\n", REPLY_DONE, 250, "250", "2.0.0", 0 },
	{ "250 Ok\n", REPLY_DONE, 250, "250 Ok", "2.0.0", 0 },
	{ "250-a\r\n250-\r\n250 c\r\n", REPLY_DONE, 250,
	    "250-a 250- 250 c", "2.0.0", 0 },
	{ "250-a\r\n250\r\n", REPLY_DONE, 250, "250-a 250", "2.0.0", 0 },
	{ "550 5.1.1 no\r\n", REPLY_DONE, 550, "550 5.1.1 no", "5.1.1", 0 },
	{ "550 5.1.1\r\n", REPLY_DONE, 550, "550 5.1.1", "5.1.1", 0 },
	{ "550-5.7.509 a\r\n550 5.7.1 b\r\n", REPLY_DONE, 550,
	    "550-5.7.509 a 550 5.7.1 b", "5.7.509", 0 },
	{ "550-see\r\n550 5.7.1 b\r\n", REPLY_DONE, 550,
	    "550-see 550 5.7.1 b", "5.7.1", 0 },
	/* of another class, or malformed */
	{ "550 4.1.1 no\r\n", REPLY_DONE, 550, "550 4.1.1 no", "5.0.0", 0 },
	{ "450 4.1 no\r\n", REPLY_DONE, 450, "450 4.1 no", "4.0.0", 0 },
	{ "450 4.1.1.1 no\r\n", REPLY_DONE, 450, "450 4.1.1.1 no",
	    "4.0.0", 0 },
	{ "450 4..1 no\r\n", REPLY_DONE, 450, "450 4..1 no", "4.0.0", 0 },
	{ "450 4.1.\r\n", REPLY_DONE, 450, "450 4.1.", "4.0.0", 0 },
	{ "450 4.1234.1\r\n", REPLY_DONE, 450, "450 4.1234.1", "4.0.0", 0 },
	{ "450 4.1.x\r\n", REPLY_DONE, 450, "450 4.1.x", "4.0.0", 0 },
	/* what is not printable */
	{ "250 a\tb\033[1m\177\r\n", REPLY_DONE, 250, "250 a b?[1m?",
	    "2.0.0", 0 },
	{ "250 a\rb\r\n", REPLY_DONE, 250, "250 a?b", "2.0.0", 0 },
	{ "354 go\r\n", REPLY_DONE, 354, "354 go", "4.0.0", 0 },
	/* not a reply */
	{ "hello\r\n", REPLY_BAD, 0, NULL, NULL, 0 },
	{ "\r\n", REPLY_BAD, 0, NULL, NULL, 0 },
	{ "\n", REPLY_BAD, 0, NULL, NULL, 0 },
	{ "25\r\n", REPLY_BAD, 0, NULL, NULL, 0 },
	{ "2500 x\r\n", REPLY_BAD, 0, NULL, NULL, 0 },
	{ "150 x\r\n", REPLY_BAD, 0, NULL, NULL, 0 },
	{ "650 x\r\n", REPLY_BAD, 0, NULL, NULL, 0 },
	{ "2x0 x\r\n", REPLY_BAD, 0, NULL, NULL, 0 },
	{ "250+x\r\n", REPLY_BAD, 0, NULL, NULL, 0 },
	{ "250-a\r\n251 b\r\n", REPLY_BAD, 0, NULL, NULL, 0 },
	{ "250-a\r\nb\r\n", REPLY_BAD, 0, NULL, NULL, 0 },
	/* not yet complete */
	{ "", REPLY_MORE, 0, NULL, NULL, 0 },
	{ "250 Ok", REPLY_MORE, 0, NULL, NULL, 0 },
	{ "250-Ok\r\n", REPLY_MORE, 0, NULL, NULL, 0 },
	{ "250-Ok\r\n250 x\r", REPLY_MORE, 0, NULL, NULL, 0 },
};

static void
test_examples(void **state)
{
	const struct example *e;
	struct relay_reply r;
	struct view said;
	char status[RELAY_STATUS_MAX];
	size_t i, n, piece, left;

	(void)state;
	for (i = 0; i < sizeof examples / sizeof examples[0]; i++) {
		e = &examples[i];
		n = strlen(e->text);
		relay_reply_init(&r);
		for (piece = 1; piece <= n + 1; piece++) {
			assert_int_equal(feed(&r, e->text, n, piece, &left),
			    e->answer);
			if (e->answer != REPLY_DONE)
				continue;
			assert_int_equal(left, e->left);
			assert_int_equal(r.code, e->code);
			relay_reply_status(&r, status);
			assert_string_equal(status, e->status);
			said = relay_reply_said(&r, 1000);
			assert_int_equal(said.n, strlen(e->said));
			assert_memory_equal(said.p, e->said, said.n);
		}
		relay_reply_free(&r);
	}
}

static void
test_nul(void **state)
{
	static const char text[] = "250 a\0b\r\n";
	struct relay_reply r;
	size_t left;

	(void)state;
	relay_reply_init(&r);
	assert_int_equal(feed(&r, text, sizeof text - 1, 99, &left),
	    REPLY_DONE);
	assert_true(view_is(relay_reply_said(&r, 99), "250 a?b"));
	relay_reply_free(&r);
}

static void
test_limits(void **state)
{
	struct relay_reply r;
	struct buf b;
	size_t left, i;

	(void)state;
	relay_reply_init(&r);
	buf_init(&b, 1 << 20);

	/* a long line is cut, and ends where it ends */
	buf_puts(&b, "250 ");
	for (i = 0; i < 5000; i++)
		buf_putc(&b, 'x');
	buf_puts(&b, "\r\n250 next\r\n");
	assert_int_equal(feed(&r, b.p, b.n, 100, &left), REPLY_DONE);
	assert_int_equal(r.text.n, RELAY_REPLY_LINE_MAX);
	assert_true(relay_reply_said(&r, 10).n == 10);

	/* one without end is given up */
	buf_clear(&b);
	for (i = 0; i < 70000; i++)
		buf_putc(&b, '2');
	assert_int_equal(feed(&r, b.p, b.n, 1, &left), REPLY_BAD);
	assert_int_equal(left, 70000 - RELAY_REPLY_MAX);
	assert_true(r.text.n <= RELAY_REPLY_LINE_MAX);

	/* lines */
	buf_clear(&b);
	for (i = 0; i < RELAY_REPLY_LINES_MAX - 1; i++)
		buf_puts(&b, "250-x\r\n");
	i = b.n;
	buf_puts(&b, "250 x\r\n");
	assert_int_equal(feed(&r, b.p, b.n, 1, &left), REPLY_DONE);
	b.n = i;
	buf_puts(&b, "250-x\r\n250 x\r\n");
	assert_int_equal(feed(&r, b.p, b.n, 1, &left), REPLY_BAD);

	/* all lines as long as can be: the sum is the limit */
	buf_clear(&b);
	while (b.n < 2 * RELAY_REPLY_MAX) {
		buf_puts(&b, "250-");
		for (i = 0; i < 2044; i++)
			buf_putc(&b, 'y');
		buf_puts(&b, "\r\n");
	}
	assert_int_equal(feed(&r, b.p, b.n, 1000, &left), REPLY_BAD);
	buf_free(&b);
	relay_reply_free(&r);
}

static struct relay_ehlo
ehlo(const char *text, const char *discard)
{
	struct relay_reply r;
	struct relay_ehlo e;
	size_t left;

	relay_reply_init(&r);
	assert_int_equal(feed(&r, text, strlen(text), 7, &left), REPLY_DONE);
	relay_ehlo_read(&r, relay_ehlo_keywords(discard), &e);
	relay_reply_free(&r);
	return e;
}

static void
test_ehlo(void **state)
{
	struct relay_ehlo e;

	(void)state;
	e = ehlo("250-inside\r\n250-PIPELINING\r\n250-SIZE 1000\r\n"
	    "250-size2\r\n250-X\r\n250-8bitmime\r\n250 SMTPUTF8\r\n", "");
	assert_int_equal(e.features, FEATURE_PIPELINING | FEATURE_SIZE |
	    FEATURE_8BITMIME | FEATURE_SMTPUTF8);
	assert_int_equal(e.size_limit, 1000);
	/* the first line is a name, not a keyword */
	e = ehlo("250 PIPELINING\r\n", "");
	assert_int_equal(e.features, 0);
	/* no number, zero, none that can be: no limit */
	e = ehlo("250-x\r\n250 SIZE\r\n", "");
	assert_int_equal(e.features, FEATURE_SIZE);
	assert_int_equal(e.size_limit, 0);
	assert_int_equal(ehlo("250-x\r\n250 SIZE 0\r\n", "").size_limit, 0);
	assert_int_equal(ehlo("250-x\r\n250 SIZE -5\r\n", "").size_limit, 0);
	assert_int_equal(ehlo("250-x\r\n250 SIZE 99999999999999999999\r\n",
	    "").size_limit, 0);
	/* discarded */
	e = ehlo("250-x\r\n250-PIPELINING\r\n250 SIZE 10\r\n",
	    "size, Chunking");
	assert_int_equal(e.features, FEATURE_PIPELINING);
	assert_int_equal(e.size_limit, 0);
	e = ehlo("250-x\r\n250-chunking\r\n250 BINARYMIME\r\n", "");
	assert_int_equal(e.features, FEATURE_CHUNKING);
	e = ehlo("250-x\r\n250-CHUNKING\r\n250 DSN\r\n", "Chunking");
	assert_int_equal(e.features, FEATURE_DSN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_ehlo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
