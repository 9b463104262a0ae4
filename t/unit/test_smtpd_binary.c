/* link: proxy/smtpd_text.c proxy/smtpd_binary.c */
/* BINARYMIME becomes lines: by hand, cut everywhere, and at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <openssl/evp.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_binary.h"

#define ENC	"Content-Transfer-Encoding: "
#define BIN	ENC "binary\r\n"
#define B64	ENC "base64\r\n"
#define MIXED	"Content-Type: multipart/mixed; boundary=b\r\n"
#define OF(s)	{ s, sizeof s - 1 }

static const struct mime_options usual = {
	.header_size_limit = 102400, .line_length_limit = 2048,
	.nesting_limit = 5, .part_limit = 10000,
	.boundary_length_limit = 200
};

struct result {
	struct buf out;
	const char *refusal;
	bool is_8bit, bare_lf;
};

static void
result_free(struct result *r)
{
	buf_free(&r->out);
}

/* In pieces of first bytes, then of the others; 0: of random sizes. */
static void
convert(struct view in, size_t first, size_t then, struct result *r)
{
	struct text t;
	struct binary *b;
	size_t n;
	char *piece;

	*r = (struct result){ .refusal = NULL };
	buf_init(&r->out, 16u << 20);
	text_init_chunks(&t, true);
	b = binary_new(&usual, &t);
	for (; in.n > 0; in = view_from(in, n)) {
		n = first > 0 ? first : (size_t)random() %
		    (random() % 4 == 0 ? 20000 : 100) + 1;
		if (n > in.n)
			n = in.n;
		/* Memory of its own: it is not there afterwards. */
		piece = mem_alloc(n);
		memcpy(piece, in.p, n);
		binary_decode(b, view_make(piece, n), &r->out);
		free(piece);
		if (first != 0)
			first = then;
	}
	binary_finish(b, &r->out);
	assert_int_equal(t.state, TEXT_END);
	r->refusal = binary_refusal(b);
	r->is_8bit = binary_is_8bit(b);
	r->bare_lf = t.bare_lf;
	binary_free(&b);
	assert_null(b);
}

/* -- by hand --------------------------------------------------------------- */

struct row {
	struct view in, out;
};

static const struct row rows[] = {
	/* No multipart: the body is all that comes. */
	{ OF("A: b\r\n" BIN "C: d\r\n\r\n\0\r\n.\r\nQUIT\r\n"),
	  OF("A: b\r\nC: d\r\n" B64 "\r\nAA0KLg0KUVVJVA0K\r\n") },
	{ OF(BIN "\r\n"), OF(B64 "\r\n") },
	{ OF(BIN), OF(B64) },
	{ OF(ENC "binary"), OF(B64) },
	{ OF(BIN "A: b"), OF("A: b\r\n" B64) },
	{ OF(""), OF("") },
	{ OF(BIN "\r\n\n"), OF(B64 "\r\nCg==\r\n") },
	{ OF(BIN "\r\n--b\r\n"), OF(B64 "\r\nLS1iDQo=\r\n") },
	/* As it is written, folded, with comments, with bare LF. */
	{ OF("content-transfer-encoding :\r\n (x)\r\n BINARY (y)\r\n\r\na"),
	  OF(B64 "\r\nYQ==\r\n") },
	{ OF(ENC "binary\nA: b\n\na\n"), OF("A: b\r\n" B64 "\r\nYQo=\r\n") },
	{ OF(BIN BIN "\r\na"), OF(B64 "\r\nYQ==\r\n") },
	/* No header behind it, and no empty line. */
	{ OF(BIN "what\r\n"), OF(B64 "\r\nd2hhdA0K\r\n") },
	/* Text too: what it is made of stays. */
	{ OF("Content-Type: text/plain\r\n" BIN "\r\na\n\r\n"),
	  OF("Content-Type: text/plain\r\n" B64 "\r\nYQoNCg==\r\n") },
	/* Declared otherwise, or not at all: lines. */
	{ OF(ENC "8bit\r\n\r\na\0b\rc\nd"),
	  OF(ENC "8bit\r\n\r\na\0b c\r\nd\r\n") },
	{ OF("A: b\r\n\r\n.\r\na\nb"), OF("A: b\r\n\r\n.\r\na\r\nb\r\n") },
	{ OF(ENC "binaries\r\n\r\na\n"), OF(ENC "binaries\r\n\r\na\r\n") },
	{ OF("From x\r\n" BIN "\r\na\n"),
	  OF("X-Mailbox-Line: From x\r\n" BIN "\r\na\r\n") },
	/* Parts: the last CRLF is the boundary's. */
	{ OF(MIXED BIN "\r\npre\n--b\r\n" BIN "\r\n\r\na\r\n\r\n--b\r\n"
	    "A: b\r\n\r\nc\nd\r\n--b--\r\nepi\rlogue"),
	  OF(MIXED ENC "8bit\r\n\r\npre\r\n--b\r\n" B64 "\r\nDQphDQo=\r\n"
	    "--b\r\nA: b\r\n\r\nc\r\nd\r\n--b--\r\nepi logue\r\n") },
	{ OF(MIXED "\r\n--b\r\n" BIN "\r\n\n--b\r\r\n--b\n--b\r\n"),
	  OF(MIXED "\r\n--b\r\n" B64 "\r\nCi0tYg0=\r\n--b\r\n--b\r\n") },
	{ OF(MIXED "\r\n--b\r\n" BIN "\r\n--b--"),
	  OF(MIXED "\r\n--b\r\n" B64 "\r\n--b--\r\n") },
	{ OF(MIXED "\r\n--b\r\n" BIN "\r\n\r\n--b--"),
	  OF(MIXED "\r\n--b\r\n" B64 "\r\n--b--\r\n") },
	{ OF(MIXED "\r\n--b\r\n" BIN "--b--\r\n"),
	  OF(MIXED "\r\n--b\r\n" B64 "--b--\r\n") },
	/* The final boundary is missing; nearly one. */
	{ OF(MIXED "\r\n--b\r\n" BIN "\r\na\r\n--\r\n-b\r\n"),
	  OF(MIXED "\r\n--b\r\n" B64 "\r\nYQ0KLS0NCi1iDQo=\r\n") },
	{ OF(MIXED "\r\n--b\r\n" BIN "\r\na\r\n--"),
	  OF(MIXED "\r\n--b\r\n" B64 "\r\nYQ0KLS0=\r\n") },
	{ OF(MIXED "\r\n--b\r\n" BIN "\r\na\r"),
	  OF(MIXED "\r\n--b\r\n" B64 "\r\nYQ0=\r\n") },
	/* An attached message: what is in it. */
	{ OF("Content-Type: message/rfc822\r\n" BIN "\r\nA: b\n" BIN "\r\n"
	    "\xff"),
	  OF("Content-Type: message/rfc822\r\n" ENC "8bit\r\n\r\nA: b\r\n"
	    B64 "\r\n/w==\r\n") },
	{ OF("Content-Type: message/rfc822\r\n" BIN "\r\nA: b\n\nc\n"),
	  OF("Content-Type: message/rfc822\r\n" ENC "8bit\r\n\r\nA: b\r\n"
	    "\r\nc\r\n") },
	{ OF("Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n" BIN
	    "\r\n" BIN "\r\n\1\r\n--b--\r\n"),
	  OF("Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n" ENC
	    "8bit\r\n\r\n" B64 "\r\nAQ==\r\n--b--\r\n") },
	/* Of these nobody knows what is in them, but they are text. */
	{ OF("Content-Type: message/delivery-status\r\n" BIN "\r\na: b\n"),
	  OF("Content-Type: message/delivery-status\r\n" ENC "8bit\r\n\r\n"
	    "a: b\r\n") },
	/* An inner one ends with the outer. */
	{ OF(MIXED "\r\n--b\r\nContent-Type: multipart/x; boundary=c\r\n\r\n"
	    "--c\r\n" BIN "\r\n\xfe\r\n--b\r\n" BIN "\r\n--c\r\n--b--"),
	  OF(MIXED "\r\n--b\r\nContent-Type: multipart/x; boundary=c\r\n\r\n"
	    "--c\r\n" B64 "\r\n/g==\r\n--b\r\n" B64 "\r\nLS1j\r\n--b--\r\n")
	},
};

static void
any_cut_gives_the_same(void **state)
{
	struct result r;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
		for (k = 0; k <= rows[i].in.n; k++) {
			convert(rows[i].in, k == 0 ? 1 : k, k == 0 ? 1 : 999,
			    &r);
			assert_null(r.refusal);
			if (!view_eq(buf_view(&r.out), rows[i].out))
				fail_msg("row %zu cut at %zu: %s", i, k,
				    buf_cstr(&r.out));
			assert_int_equal(r.is_8bit, view_8bit(rows[i].out));
			result_free(&r);
		}
}

static void
refused(void **state)
{
	static const struct {
		const char *in, *reply;
	} bad[] = {
		{ "Content-Type: message/partial\r\n" BIN "\r\n", "5.6.1" },
		{ BIN "Content-Type: message/external-body\r\n\r\n",
		  "5.6.1" },
		{ BIN ENC "7bit\r\n\r\na", "two " },
		{ ENC "base64\r\n" BIN "\r\na", "two " },
		{ BIN "Content-Type: multipart/x; boundary=\""
		  "0123456789012345678901234567890123456789012345678901234567"
		  "0123456789012345678901234567890123456789012345678901234567"
		  "0123456789012345678901234567890123456789012345678901234567"
		  "0123456789012345678901234567890123456789012345678901234567"
		  "\"\r\n\r\n", "boundary too long" },
#define NEST	"Content-Type: message/rfc822\r\n\r\n"
		{ NEST NEST NEST NEST NEST NEST BIN "\r\na", "too deep" },
	};
	struct result r;
	size_t i, k;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		for (k = 1; k <= strlen(bad[i].in); k++) {
			convert(view_of(bad[i].in), k, 7, &r);
			assert_non_null(r.refusal);
			assert_memory_equal(r.refusal, "554 5.6.", 8);
			assert_non_null(strstr(r.refusal, bad[i].reply));
			result_free(&r);
		}
}

/* A header of any size passes; a long one that matters does not. */
static void
long_headers(void **state)
{
	struct buf in, want;
	struct result r;
	int i, k;

	(void)state;
	buf_init(&in, 1u << 20);
	buf_init(&want, 1u << 20);
	(void)buf_puts(&in, "A: b\r\n");
	for (i = 0; i < 10000; i++)
		(void)buf_puts(&in, " 0123456789 0123456789\r\n");
	(void)buf_putv(&want, buf_view(&in));
	(void)buf_puts(&in, BIN "\r\na");
	(void)buf_puts(&want, B64 "\r\nYQ==\r\n");
	for (k = 0; k < 20; k++) {
		convert(buf_view(&in), 0, 0, &r);
		assert_null(r.refusal);
		assert_int_equal(r.out.n, want.n);
		assert_memory_equal(r.out.p, want.p, want.n);
		result_free(&r);
	}
	/* One line of it. */
	buf_clear(&in);
	(void)buf_puts(&in, "A: ");
	for (i = 0; i < 20000; i++)
		(void)buf_puts(&in, "0123456789");
	(void)buf_puts(&in, "\r\n" BIN "\r\na");
	convert(buf_view(&in), 0, 0, &r);
	assert_null(r.refusal);
	assert_non_null(strstr(buf_cstr(&r.out), "9\r\n" B64 "\r\nYQ==\r\n"));
	result_free(&r);
	for (i = 0; i < 2; i++) {
		buf_clear(&in);
		(void)buf_puts(&in, i == 0 ? ENC : "Content-Type: a/b");
		for (k = 0; k < 30000; k++)
			(void)buf_puts(&in, i == 0 ? " (xx)\r\n" : ";\r\n a");
		(void)buf_puts(&in, " binary\r\n\r\na");
		convert(buf_view(&in), 0, 0, &r);
		assert_non_null(r.refusal);
		assert_non_null(strstr(r.refusal, "header too long"));
		result_free(&r);
	}
	buf_free(&in);
	buf_free(&want);
}

/* -- at random ------------------------------------------------------------- */

struct pair {
	struct buf in, want;
};

static void
both(struct pair *p, const char *text)
{
	assert_true(buf_puts(&p->in, text) && buf_puts(&p->want, text));
}

static void
make_octets(struct pair *p)
{
	static const struct view tokens[] = { OF("\r\n"), OF("\n"), OF("\r"),
		OF("."), OF("\r\n.\r\n"), OF("--"), OF("--b"),
		OF("\r\n--"), OF("\r\n--b"), OF("QUIT\r\n"), OF(BIN),
		OF("\r\nContent-Type: message/rfc822\r\n\r\n") };
	static unsigned char octets[70000];
	char line[100];
	struct view s;
	size_t n = 0, k, want, i;

	want = (size_t)random() % (random() % 8 == 0 ? 60000 : 300);
	while (n < want) {
		if (random() % 4 == 0) {
			s = tokens[(size_t)random() % (sizeof tokens /
			    sizeof tokens[0])];
			memcpy(octets + n, s.p, s.n);
			n += s.n;
			/* None of the boundaries: those go on with a digit. */
			octets[n++] = 'x';
		} else
			octets[n++] = (unsigned char)random();
	}
	assert_true(buf_put(&p->in, octets, n));
	for (i = 0; i < n; i += k) {
		k = n - i < 57 ? n - i : 57;
		(void)EVP_EncodeBlock((unsigned char *)line, octets + i,
		    (int)k);
		assert_true(buf_printf(&p->want, "%s\r\n", line));
	}
}

/* An entity: its header block, and its body without a line end behind it;
 * *ret_line: with one in what is wanted. */
static void
make_entity(struct pair *p, unsigned depth, bool *ret_line)
{
	static unsigned serial;
	unsigned id = ++serial, n;
	bool binary = random() % 2 == 0, line;
	char text[200];

	*ret_line = false;
	if (random() % 2 == 0)
		both(p, "X-One: two\r\n three\r\n");
	if (binary)
		(void)buf_puts(&p->in, BIN);
	switch (depth < 4 ? random() % 5 : 4) {
	case 0:
	case 1:
		(void)snprintf(text, sizeof text, "Content-Type: "
		    "multipart/mixed;\r\n boundary=\"b%u=%u\"\r\n", id, id);
		both(p, text);
		if (binary)
			(void)buf_puts(&p->want, ENC "8bit\r\n");
		both(p, random() % 2 == 0 ? "\r\nsome words" : "");
		both(p, "\r\n");
		for (n = (unsigned)random() % 4 + 1; n > 0; n--) {
			(void)snprintf(text, sizeof text, "--b%u=%u\r\n", id,
			    id);
			both(p, text);
			make_entity(p, depth + 1, &line);
			(void)buf_puts(&p->in, "\r\n");
			if (!line)
				(void)buf_puts(&p->want, "\r\n");
		}
		(void)snprintf(text, sizeof text, "--b%u=%u--", id, id);
		both(p, text);
		break;
	case 2:
		both(p, "Content-Type: message/rfc822\r\n");
		if (binary)
			(void)buf_puts(&p->want, ENC "8bit\r\n");
		both(p, "\r\n");
		make_entity(p, depth + 1, ret_line);
		break;
	default:
		both(p, "Content-Type: image/png\r\n");
		if (binary)
			(void)buf_puts(&p->want, B64);
		both(p, "\r\n");
		if (!binary) {
			both(p, "a line\r\n.\r\nand another");
			break;
		}
		make_octets(p);
		*ret_line = true;
	}
}

static void
random_ones(void **state)
{
	struct pair p;
	struct result r;
	bool line;
	int i;

	(void)state;
	srandom(20261122);
	buf_init(&p.in, 16u << 20);
	buf_init(&p.want, 16u << 20);
	for (i = 0; i < 3000; i++) {
		buf_clear(&p.in);
		buf_clear(&p.want);
		make_entity(&p, 0, &line);
		if (!line)
			(void)buf_puts(&p.want, "\r\n");
		convert(buf_view(&p.in), 0, 0, &r);
		assert_null(r.refusal);
		if (!view_eq(buf_view(&r.out), buf_view(&p.want)))
			fail_msg("%d: %s\n-- is --\n%s", i, buf_cstr(&p.want),
			    buf_cstr(&r.out));
		assert_false(r.is_8bit || r.bare_lf);
		result_free(&r);
	}
	buf_free(&p.in);
	buf_free(&p.want);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_cut_gives_the_same),
		cmocka_unit_test(refused),
		cmocka_unit_test(long_headers),
		cmocka_unit_test(random_ones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
