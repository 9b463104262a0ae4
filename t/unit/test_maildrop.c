/* link: queue/maildrop.c queue/pickup_text.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/log.h"
#include "queue/maildrop.h"
#include "queue/pickup_text.h"

static struct buf
records(void)
{
	struct buf b;

	buf_init(&b, MAILDROP_ENVELOPE_MAX);
	assert_true(maildrop_put(&b, MAILDROP_SENDER, view_of("a@x.test")));
	assert_true(maildrop_put(&b, MAILDROP_FULL_NAME, view_of("A B")));
	assert_true(maildrop_put(&b, MAILDROP_NOTIFY, view_of("6")));
	assert_true(maildrop_put(&b, MAILDROP_ORCPT,
	    view_of("rfc822;u@y.test")));
	assert_true(maildrop_put(&b, MAILDROP_RCPT, view_of("u@y.test")));
	assert_true(maildrop_put(&b, MAILDROP_RCPT, view_of("v")));
	return b;
}

/* A whole file, in memory of its own. */
static char *
file_of(struct view rec, struct view text, size_t *ret_n)
{
	int fd = memfd_create("drop", 0);
	struct maildrop_writer w;
	char *p;
	off_t n;

	maildrop_write_begin(&w, fd, rec);
	maildrop_write(&w, text);
	assert_int_equal(maildrop_write_end(&w), 0);
	n = lseek(fd, 0, SEEK_CUR);
	p = malloc((size_t)n + 1);
	assert_non_null(p);
	assert_int_equal(pread(fd, p, (size_t)n, 0), n);
	close(fd);
	*ret_n = (size_t)n;
	return p;
}

/* Read it in pieces of step bytes; the text goes to out. */
static enum maildrop_event
read_all(struct view in, size_t step, struct buf *out)
{
	enum maildrop_event e, last = MAILDROP_MORE;
	struct maildrop_reader r;
	struct view piece, text;

	maildrop_reader_init(&r);
	while (in.n > 0) {
		piece = view_head(in, step);
		in = view_from(in, piece.n);
		while ((e = maildrop_read(&r, &piece, &text)) !=
		    MAILDROP_MORE) {
			last = e;
			if (e == MAILDROP_BAD)
				goto out;
			if (e == MAILDROP_TEXT)
				assert_true(buf_putv(out, text));
		}
	}
out:
	maildrop_reader_free(&r);
	return last;
}

static void
test_round_trip(void **state)
{
	static const size_t sizes[] = { 0, 1, 5, 65535, 65536, 65537, 200000 };
	struct buf rec = records(), out;
	char *text = malloc(200000), *p;
	size_t i, n;

	(void)state;
	assert_non_null(text);
	for (i = 0; i < 200000; i++)
		text[i] = (char)(i * 7 + i / 251);
	buf_init(&out, 300000);
	for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		p = file_of(buf_view(&rec), view_make(text, sizes[i]), &n);
		for (size_t step = 1; step < 70000; step = step * 5 + 1) {
			buf_clear(&out);
			assert_int_equal(read_all(view_make(p, n), step, &out),
			    MAILDROP_END);
			assert_true(view_eq(buf_view(&out),
			    view_make(text, sizes[i])));
		}
		free(p);
	}
	buf_free(&out);
	buf_free(&rec);
	free(text);
}

/* Cut anywhere it has no end; changed anywhere it is bad, or has no end. */
static void
test_damage(void **state)
{
	struct buf rec = records(), out;
	size_t n, i;
	char *p = file_of(buf_view(&rec), view_of("hello\nworld\n"), &n);

	(void)state;
	buf_init(&out, MAILDROP_ENVELOPE_MAX);
	for (i = 0; i < n; i++)
		assert_int_not_equal(read_all(view_make(p, i), 64, &out),
		    MAILDROP_END);
	for (i = 0; i < n; i++) {
		p[i] ^= 0x41;
		assert_int_not_equal(read_all(view_make(p, n), 64, &out),
		    MAILDROP_END);
		p[i] ^= 0x41;
	}
	p[n] = 'x';
	assert_int_equal(read_all(view_make(p, n + 1), 7, &out), MAILDROP_BAD);
	buf_free(&out);
	buf_free(&rec);
	free(p);
}

static void
test_envelope(void **state)
{
	struct arena *a = arena_new(1u << 20);
	struct buf rec = records();
	const char *why = NULL;
	struct envelope e;

	(void)state;
	assert_true(maildrop_envelope(buf_view(&rec), a, &e, &why));
	assert_true(view_is(e.sender, "a@x.test"));
	assert_true(view_is(e.full_name, "A B"));
	assert_int_equal(e.nrcpts, 2);
	assert_true(view_is(e.rcpts[0].orcpt, "rfc822;u@y.test"));
	/* ORCPT is of one recipient, NOTIFY of all that follow. */
	assert_int_equal(e.rcpts[1].orcpt.n, 0);
	assert_int_equal(e.rcpts[0].notify, NOTIFY_SUCCESS | NOTIFY_FAILURE);
	assert_int_equal(e.rcpts[1].notify, NOTIFY_SUCCESS | NOTIFY_FAILURE);
	/* Nothing a client of SMTP has can be said. */
	assert_int_equal(e.client_addr.n + e.login.n + e.helo.n, 0);
	assert_int_equal(e.flags, 0);
	assert_true(maildrop_put(&rec, MAILDROP_TLS, view_of("R")));
	assert_true(maildrop_envelope(buf_view(&rec), a, &e, &why));
	assert_int_equal(e.flags, ENVELOPE_REQUIRETLS);
	assert_true(maildrop_put(&rec, MAILDROP_TLS, view_of("R")));
	assert_false(maildrop_envelope(buf_view(&rec), a, &e, &why));
	arena_free(&a);
	buf_free(&rec);
}

static void
test_records_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} bad[] = {
#define BYTES(s)	{ s, sizeof s - 1 }
		BYTES(""),
		BYTES("S\1\0aR\0\0"),			/* empty recipient */
		BYTES("S\1\0aT\1\0xR\1\0u"),		/* unknown TLS */
		BYTES("R\1\0u"),			/* no sender */
		BYTES("S\0\0"),				/* no recipient */
		BYTES("S\0\0S\0\0R\1\0u"),		/* two senders */
		BYTES("S\0\0\0\1\0xR\1\0u"),		/* type 0 */
		BYTES("S\0\0A\1\0xR\1\0u"),		/* unknown type */
		BYTES("S\0\0R\3\0u\0v"),		/* NUL */
		BYTES("S\0\0R\3\0u\nv"),		/* line breaks */
		BYTES("S\0\0R\3\0u\rv"),
		BYTES("S\0\0R\2\0u\177"),
		BYTES("S\0\0R\377\377u"),		/* cut */
		BYTES("S\0\0R\1"),
		BYTES("S\0\0N\1\0\0R\1\0u"),
		BYTES("S\0\0N\1\0""3R\1\0u"),		/* never and success */
		BYTES("S\0\0D\1\0XR\1\0u"),
		BYTES("S\0\0O\1\0xR\1\0u"),		/* no type */
		BYTES("S\0\0O\2\0;xR\1\0u"),
		BYTES("S\0\0O\4\0a;\303\244R\1\0u"),	/* type utf-8 only */
		BYTES("S\0\0E\2\0\303\244R\1\0u"),
		BYTES("S\0\0R\2\0\303("),		/* no UTF-8 */
	};
	struct arena *a = arena_new(8u << 20);
	struct envelope e;
	const char *why;
	struct buf b;
	char *longer = malloc(2000);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		why = NULL;
		assert_false(maildrop_envelope(view_make(bad[i].bytes,
		    bad[i].n), a, &e, &why));
		assert_non_null(why);
	}
	buf_init(&b, MAILDROP_ENVELOPE_MAX);
	assert_false(maildrop_put(&b, MAILDROP_RCPT, view_of("a\nb")));
	assert_false(maildrop_put(&b, MAILDROP_RCPT, view_make("a\0b", 3)));
	assert_false(maildrop_put(&b, (enum maildrop_record)0, view_of("a")));
	assert_non_null(longer);
	memset(longer, 'a', 2000);
	assert_false(maildrop_put(&b, MAILDROP_RCPT, view_make(longer, 1001)));
	assert_int_equal(b.n, 0);
	assert_true(maildrop_put(&b, MAILDROP_SENDER, view_of("")));
	for (i = 0; i < ENVELOPE_RCPTS_MAX; i++)
		assert_true(maildrop_put(&b, MAILDROP_RCPT, view_of("u")));
	assert_true(maildrop_envelope(buf_view(&b), a, &e, &why));
	arena_reset(a);
	assert_true(maildrop_put(&b, MAILDROP_RCPT, view_of("u")));
	assert_false(maildrop_envelope(buf_view(&b), a, &e, &why));
	assert_string_equal(why, "too many recipients");
	buf_free(&b);
	free(longer);
	arena_free(&a);
}

static void
test_names(void **state)
{
	(void)state;
	assert_true(maildrop_name_ok(view_of(
	    "0123456789abcdef0123456789abcdef")));
	assert_false(maildrop_name_ok(view_of(
	    "0123456789ABCDEF0123456789abcdef")));
	assert_false(maildrop_name_ok(view_of(
	    "../3456789abcdef0123456789abcdef")));
	assert_false(maildrop_name_ok(view_of("0123")));
	assert_false(maildrop_name_ok(view_of("")));
}

/* The text in CRLF form, however it is cut. */
static void
expect_lines(const char *in, const char *want, bool replace)
{
	size_t cut, n = strlen(in);
	struct pickup_text t;
	struct buf out;

	buf_init(&out, 4096);
	for (cut = 0; cut <= n; cut++) {
		buf_clear(&out);
		pickup_text_init(&t, replace);
		pickup_text_put(&t, view_make(in, cut), &out);
		pickup_text_put(&t, view_make(in + cut, n - cut), &out);
		pickup_text_end(&t, &out);
		if (!view_is(buf_view(&out), want))
			fail_msg("cut at %zu: %s", cut, buf_cstr(&out));
	}
	buf_free(&out);
}

static void
test_lines(void **state)
{
	(void)state;
	expect_lines("", "", true);
	expect_lines("a\nb\n", "a\r\nb\r\n", true);
	expect_lines("a\r\nb\r\n", "a\r\nb\r\n", true);
	expect_lines("a", "a\r\n", true);
	expect_lines("\n\n", "\r\n\r\n", true);
	expect_lines("a\rb\n", "a b\r\n", true);
	expect_lines("a\rb\n", "a\rb\r\n", false);
	expect_lines("a\r\r\nb", "a \r\nb\r\n", true);
	expect_lines("a\r", "a \r\n", true);
	expect_lines(" x: y\n", "\r\n x: y\r\n", true);
	expect_lines(".\n..\n", ".\r\n..\r\n", true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_envelope),
		cmocka_unit_test(test_records_refused),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
