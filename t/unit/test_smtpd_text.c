/* link: proxy/smtpd_text.c */
/* From the wire to the stored text, cut at every position. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proxy/smtpd_text.h"

struct result {
	char out[4096];
	size_t n, used;
	bool end, bare_lf;
};

/* Decode in, cut at a and b. */
static void
decode(struct view in, size_t a, size_t b, bool replace, struct result *r)
{
	const size_t cut[4] = { 0, a, b, in.n };
	struct text t;
	size_t i, got, used;

	*r = (struct result){ .n = 0 };
	text_init(&t, replace);
	for (i = 0; i < 3 && t.state != TEXT_END; i++) {
		/* Memory of the exact size: a sanitizer sees a byte more. */
		size_t n = cut[i + 1] - cut[i];
		char *piece = malloc(n + 1), *out = malloc(2 * n + TEXT_SPARE);

		assert_non_null(piece);
		assert_non_null(out);
		if (n > 0)
			memcpy(piece, in.p + cut[i], n);
		used = text_decode(&t, view_make(piece, n), out, &got);
		assert_true(got <= 2 * n + TEXT_SPARE);
		assert_true(used == n || t.state == TEXT_END);
		memcpy(r->out + r->n, out, got);
		r->n += got;
		r->used += used;
		free(piece);
		free(out);
	}
	r->end = t.state == TEXT_END;
	r->bare_lf = t.bare_lf;
}

static const struct {
	const char *in, *out;
	bool end, bare_lf;
} cases[] = {
	{ "a\r\n.\r\n", "a\r\n", true, false },
	{ ".\r\n", "", true, false },
	{ "\r\n.\r\n", "\r\n", true, false },
	{ "..\r\n.\r\n", ".\r\n", true, false },
	{ "...\r\n.\r\n", "..\r\n", true, false },
	{ ".x\r\n.\r\n", "x\r\n", true, false },
	{ "a.\r\n.\r\n", "a.\r\n", true, false },
	{ "a\r\n.\r\nQUIT\r\n", "a\r\n", true, false },
	{ "a\r\n..b\r\n...\r\n.\r\n", "a\r\n.b\r\n..\r\n", true, false },
	/* The smugglers' ends of a message: data, all of them. */
	{ "a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", true, true },
	{ "a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", true, true },
	{ "a\r\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", true, true },
	{ "a\r.\rb\r\n.\r\n", "a . b\r\n", true, false },
	{ "a\r\n.\rb\r\n.\r\n", "a\r\n b\r\n", true, false },
	{ "a\r\n.\r\r\nb\r\n.\r\n", "a\r\n \r\nb\r\n", true, false },
	{ "a\r\r\n.\r\nb", "a \r\n", true, false },
	{ "a\r\n\r.\r\n.\r\n", "a\r\n .\r\n", true, false },
	{ "a\n.\r.\r\n.\r\n", "a\r\n .\r\n", true, true },
	{ "a\n\r\n.\r\n", "a\r\n\r\n", true, true },
	{ "a\r\n.\n.\r\nb\r\n.\r\n", "a\r\n.\r\n.\r\nb\r\n", true, true },
	{ "a\n..b\n.\r\n.\r\n", "a\r\n.b\r\n.\r\n", true, true },
	{ "a\r\n.\r\n\r\n", "a\r\n", true, false },
	{ "\n.\r\n.\r\n", "\r\n.\r\n", true, true },
	/* Not yet the end. */
	{ "a\r\n.\r", "a\r\n", false, false },
	{ "a\r\n.", "a\r\n", false, false },
	{ "a\r", "a", false, false },
	{ "", "", false, false },
	/* The first line. */
	{ "From x\r\n.\r\n", "X-Mailbox-Line: From x\r\n", true, false },
	{ ">From x\r\n.\r\n", "X-Mailbox-Line: >From x\r\n", true, false },
	{ "From: x\r\n.\r\n", "From: x\r\n", true, false },
	{ "Fro\r\n.\r\n", "Fro\r\n", true, false },
	{ ">>x\r\n.\r\n", ">>x\r\n", true, false },
	{ ">\r\n.\r\n", ">\r\n", true, false },
	{ ">.\r\n.\r\n", ">.\r\n", true, false },
	{ "a\r\nFrom x\r\n.\r\n", "a\r\nFrom x\r\n", true, false },
	{ " x\r\n.\r\n", "\r\n x\r\n", true, false },
	{ "\tx\r\n.\r\n", "\r\n\tx\r\n", true, false },
};

static void
every_cut(void **state)
{
	struct result r;
	size_t i, a, b;
	struct view in;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		in = view_of(cases[i].in);
		for (a = 0; a <= in.n; a++)
			for (b = a; b <= in.n; b++) {
				decode(in, a, b, true, &r);
				if (!view_eq(view_make(r.out, r.n),
				    view_of(cases[i].out)) ||
				    r.end != cases[i].end ||
				    r.bare_lf != cases[i].bare_lf)
					fail_msg("case %zu cut at %zu, %zu: "
					    "%.*s", i, a, b, (int)r.n, r.out);
			}
	}
}

/* What follows the final dot is not touched. */
static void
stops_at_the_end(void **state)
{
	struct view in = view_of("a\r\n.\r\nMAIL FROM:<x>\r\n");
	struct result r;

	(void)state;
	decode(in, in.n, in.n, true, &r);
	assert_int_equal(r.used, 6);
}

static void
stray_cr_may_stay(void **state)
{
	struct view in = view_of("a\rb\r\r\n.\r\n");
	struct result r;
	size_t a;

	(void)state;
	for (a = 0; a <= in.n; a++) {
		decode(in, a, in.n, false, &r);
		assert_true(view_is(view_make(r.out, r.n), "a\rb\r\r\n"));
	}
}

static void
nul_is_data(void **state)
{
	struct view in = { "a\0b\r\n.\r\n", 8 };
	struct result r;

	(void)state;
	decode(in, 2, 2, true, &r);
	assert_true(r.end);
	assert_int_equal(r.n, 5);
	assert_memory_equal(r.out, "a\0b\r\n", 5);
}

/*
 * All texts of up to seven bytes over the bytes that matter: the end is seen
 * exactly where CRLF.CRLF (or .CRLF at the start) first stands, and the
 * stored text has no CR or LF but in CRLF.
 */
static void
exhaustive(void **state)
{
	static const char byte[] = { '\r', '\n', '.', 'x' };
	char in[8], framed[12];
	struct result r;
	unsigned n, k, code, total;
	const char *end;

	(void)state;
	for (n = 0; n <= 7; n++) {
		total = 1u << (2 * n);
		for (code = 0; code < total; code++) {
			for (k = 0; k < n; k++)
				in[k] = byte[code >> (2 * k) & 3];
			memcpy(framed, "\r\n", 2);
			memcpy(framed + 2, in, n);
			end = memmem(framed, n + 2, "\r\n.\r\n", 5);
			decode(view_make(in, n), n / 2, n / 2, true, &r);
			assert_int_equal(r.end, end != NULL);
			if (end != NULL)
				assert_int_equal(r.used, end - framed + 3);
			for (k = 0; k < r.n; k++) {
				if (r.out[k] == '\r')
					assert_true(k + 1 < r.n &&
					    r.out[k + 1] == '\n');
				if (r.out[k] == '\n')
					assert_true(k > 0 &&
					    r.out[k - 1] == '\r');
			}
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cut),
		cmocka_unit_test(stops_at_the_end),
		cmocka_unit_test(stray_cr_may_stay),
		cmocka_unit_test(nul_is_data),
		cmocka_unit_test(exhaustive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
