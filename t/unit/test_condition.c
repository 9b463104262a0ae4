/* link: filters */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "lib/log.h"
#include "rules/condition.h"
#include "t/unit/judge_help.h"

/*
 * A message for each condition.  With "NAME reject" it is refused for it, and
 * with all others refused but NAME, it is not refused for it.
 */
struct row {
	enum mime_condition c;
	struct view head;
	const char *again;	/* times */
	size_t times;
	const char *tail;
	bool own;		/* a limit with an answer of its own */
};

#define T(s)		view_s(s, sizeof s - 1)
#define view_s(s, n)	{ s, n }
#define V		"MIME-Version: 1.0\r\n"
#define TYPE(s)		V "Content-Type: " s "\r\n"
#define MIXED		TYPE("multipart/mixed; boundary=b") "\r\n"
#define PART		"--b\r\n\r\nx\r\n"
#define CODED(e, s)	TYPE("a/b") "Content-Transfer-Encoding: " e	     \
			"\r\n\r\n" s
#define ROW(c, ...)	{ c, T(__VA_ARGS__), NULL, 0, NULL, false }
#define MANY(c, h, a, n, t) { c, T(h), a, n, t, false }

static const struct row rows[] = {
	{ MIME_TOO_DEEP, T(TYPE("multipart/mixed; boundary=b") "\r\n"),
	    "--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: "
	    "multipart/mixed; boundary=b\r\n\r\n", 101, "", true },
	{ MIME_TOO_MANY_PARTS, T(MIXED), PART, 10001, "--b--\r\n", true },
	MANY(MIME_BOUNDARY_TOO_LONG, V "Content-Type: multipart/mixed; "
	    "boundary=", "x", 3000, "\r\n\r\n"),
	MANY(MIME_HEADER_TOO_LONG, "X-Long: ", "x", 110000, "\r\n\r\n"),
	ROW(MIME_HEADER_NOT_ENDED, "Subject: x\r\nno header\r\n"),
	ROW(MIME_BOUNDARY_AMBIGUOUS, TYPE("multipart/mixed; boundary=bx")
	    "\r\n--bx\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
	    PART "--bx--\r\n"),
	ROW(MIME_NO_FINAL_BOUNDARY, MIXED PART),
	ROW(MIME_DUPLICATE_TYPE, TYPE("a/b") TYPE("c/d") "\r\n"),
	ROW(MIME_DUPLICATE_ENCODING, TYPE("a/b")
	    "Content-Transfer-Encoding: base64\r\n"
	    "Content-Transfer-Encoding: 7bit\r\n\r\neA==\r\n"),
	ROW(MIME_DUPLICATE_DISPOSITION, V "Content-Disposition: inline\r\n"
	    "Content-Disposition: attachment; filename=a\r\n\r\n"),
	ROW(MIME_DUPLICATE_BOUNDARY, TYPE("multipart/mixed; boundary=a; "
	    "boundary=b") "\r\n" PART),
	ROW(MIME_DUPLICATE_PARAMETER, TYPE("a/b; name=x.txt; name=x.exe")
	    "\r\n"),
	ROW(MIME_UNKNOWN_ENCODING, CODED("zip", "x\r\n")),
	ROW(MIME_ENCODING_SYNTAX, CODED("base64, 7bit", "eA==\r\n")),
	ROW(MIME_COMPOSITE_ENCODING, TYPE("multipart/mixed; boundary=b")
	    "Content-Transfer-Encoding: quoted-printable\r\n\r\n" PART),
	ROW(MIME_COMPOSITE_BASE64, TYPE("multipart/mixed; boundary=b")
	    "Content-Transfer-Encoding: base64\r\n\r\n" PART),
	ROW(MIME_MESSAGE_BASE64, TYPE("message/rfc822")
	    "Content-Transfer-Encoding: base64\r\n\r\nYTogYg==\r\n"),
	ROW(MIME_COMPOSITE_LEAF, TYPE("multipart/mixed; boundary=b")
	    "Content-Type: text/plain\r\n\r\n" PART),
	ROW(MIME_TYPE_SYNTAX, TYPE("text") "\r\n"),
	ROW(MIME_NO_BOUNDARY, TYPE("multipart/mixed") "\r\n" PART),
	ROW(MIME_EMPTY_BOUNDARY, TYPE("multipart/mixed; boundary=\"\"")
	    "\r\n--\r\n\r\n"),
	ROW(MIME_BOUNDARY_SYNTAX, TYPE("multipart/mixed; boundary=\"b \"")
	    "\r\n" PART),
	ROW(MIME_BOUNDARY_FOLDED, TYPE("multipart/mixed; boundary*0=a; "
	    "boundary*1=b") "\r\n--ab\r\n"),
	ROW(MIME_BOUNDARY_PREFIX, MIXED "--bc\r\n\r\nx\r\n--b--\r\n"),
	ROW(MIME_BOUNDARY_REUSED, MIXED "--b\r\nContent-Type: "
	    "multipart/mixed; boundary=b\r\n\r\n" PART),
	ROW(MIME_BOUNDARY_REOPENED, MIXED PART "--b--\r\n" PART),
	ROW(MIME_PREAMBLE_PART, MIXED "Content-Type: a/b\r\n" PART),
	ROW(MIME_EPILOGUE_PART, MIXED PART "--b--\r\nContent-Type: a/b\r\n"),
	ROW(MIME_PARTIAL, TYPE("message/partial; number=1; id=x") "\r\n"),
	ROW(MIME_EXTERNAL, TYPE("message/external-body") "\r\n"),
	ROW(MIME_NO_VERSION, "Content-Type: a/b\r\n\r\n"),
	ROW(MIME_FIELD_NAME, V "Content-Type : a/b\r\n\r\n"),
	ROW(MIME_FIELD_BROKEN, MIXED "--b\r\nContent-\x01Type: a/b\r\n\r\n"),
	ROW(MIME_FIELD_BROKEN, MIXED "--b\r\nContent-Type\r\n :a/b\r\n\r\n"),
	ROW(MIME_FIELD_BROKEN, MIXED "--b\r\nContent-(c)Type: a/b\r\n\r\n"),
	ROW(MIME_FIELD_BROKEN, MIXED "--b\r\nX: y\r\n Content-Transfer-"
	    "Encoding : base64\r\n\r\n"),
	ROW(MIME_FIELD_BROKEN, "X: y\r\n Content-Type: multipart/mixed; "
	    "boundary=b\r\n\r\n"),
	ROW(MIME_FIELD_BROKEN, TYPE("Content-Type: a/b") "\r\n"),
	ROW(MIME_FIELD_BROKEN, TYPE("a/b, multipart/mixed; boundary=b")
	    "\r\n"),
	ROW(MIME_HEADER_DATA, MIXED "--b\r\nContent-Type: a/b\r\n"
	    "TVqQAAMAAAAEAAAA//8AALgAAAAAAAAA\r\n"),
	ROW(MIME_FIELD_ENCODED, CODED("=?us-ascii?b?YmFzZTY0?=",
	    "eA==\r\n")),
	ROW(MIME_FIELD_ENCODED, TYPE("=?us-ascii?q?multipart/mixed?=; "
	    "boundary=b") "\r\n" PART),
	ROW(MIME_FIELD_ENCODED, TYPE("multipart/mixed; boundary="
	    "\"=?us-ascii?q?b?=\"") "\r\n" PART),
	ROW(MIME_FIELD_BLANK, V "Content-Type: a/b;\r\n \t\r\n name=x\r\n\r\n"),
	ROW(MIME_HEADER_NUL, TYPE("a/b; name=\"a\0b\"") "\r\n"),
	ROW(MIME_HEADER_8BIT, TYPE("a/b; name=\xe9") "\r\n"),
	ROW(MIME_HEADER_STRAY, "Subject: x\rContent-Type: a/b\r\n\r\n"),
	ROW(MIME_BODY_STRAY, "\r\na\rb\r\n"),
	MANY(MIME_LINE_TOO_LONG, "\r\n", "x", 999, "\r\n"),
	MANY(MIME_PARAMETERS, V "Content-Type: a/b", "; a=b", 101,
	    "\r\n\r\n"),
	ROW(MIME_NAME_DIFFERS, TYPE("a/b; name=a.txt")
	    "Content-Disposition: attachment; filename=a.exe\r\n\r\n"),
	ROW(MIME_NAME_CONTROL, TYPE("a/b; name*=utf-8''x%00y") "\r\n"),
	ROW(MIME_NAME_BIDI, TYPE("a/b; name=\"a\xe2\x80\xaetxt.exe\"")
	    "\r\n"),
	ROW(MIME_UNKNOWN_CHARSET, TYPE("a/b; name*=klingon''x") "\r\n"),
	ROW(MIME_BASE64_GARBAGE, CODED("base64", "aG!k=\r\n")),
	ROW(MIME_BASE64_PADDING, CODED("base64", "aGk=aGk=\r\n")),
	ROW(MIME_BASE64_FOOTER, CODED("base64", "aGk=\r\nthe list\r\n")),
	ROW(MIME_BASE64_END, CODED("base64", "aGk\r\n")),
	ROW(MIME_QP_GARBAGE, CODED("quoted-printable", "a=XYb\r\n")),
	ROW(MIME_QP_CASE, CODED("quoted-printable", "a=e9b\r\n")),
	ROW(MIME_QP_END, CODED("quoted-printable", "ab=\r\n")),
	ROW(MIME_BODY_8BIT, CODED("7bit", "a\xe9" "b\r\n")),
	ROW(MIME_BODY_NUL, "\r\na\0b\r\n"),
	ROW(MIME_UUENCODE, "\r\nbegin 644 a\r\n#0V%T\r\n`\r\nend\r\n"),
	ROW(MIME_UUENCODE_BAD, "\r\nbegin 644 a\r\n#0V%T\r\n"),
	ROW(MIME_YENC, "\r\n=ybegin line=128 size=1 name=a\r\nk\r\n=yend "
	    "size=1\r\n"),
	ROW(MIME_YENC_BAD, "\r\n=ybegin line=128 size=1 name=a\r\nk\r\n=yend "
	    "size=2\r\n"),
	ROW(MIME_TNEF, CODED("base64", "eJ8+IgAA\r\n")),
	ROW(MIME_TNEF_BAD, CODED("base64", "eJ8+IgAAAQ==\r\n")),
	MANY(MIME_READINGS, V "Content-Type: multipart/mixed; boundary=b\r\n"
	    "Content-Transfer-Encoding: quoted-printable\r\n\r\n",
	    "--b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding:"
	    " quoted-printable\r\n\r\n", 1, "Content-Type: message/rfc822\r\n"
	    "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
	    "Content-Type: message/rfc822\r\n"
	    "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
	    "Content-Type: message/rfc822\r\n"
	    "Content-Transfer-Encoding: quoted-printable\r\n\r\nA: b\r\n"),
};

static void
make(const struct row *r, struct buf *b)
{
	size_t i;

	buf_clear(b);
	assert_true(buf_putv(b, r->head));
	for (i = 0; i < r->times; i++)
		assert_true(buf_puts(b, r->again));
	if (r->tail != NULL)
		assert_true(buf_puts(b, r->tail));
}

static bool
refused_for(struct judge *g, struct view text, enum mime_condition c)
{
	struct buf said, name;
	bool found;

	if (judge_text(g, text) != ACTION_REJECT)
		return false;
	buf_init(&said, 4096);
	buf_init(&name, 4096);
	(void)buf_putv(&said, g->j.verdict.text);
	(void)buf_printf(&name, " (%s): ", condition_name(c));
	found = strstr(buf_cstr(&said), buf_cstr(&name)) != NULL;
	buf_free(&said);
	buf_free(&name);
	return found;
}

static void
open_policy(struct judge *g, enum mime_condition c, bool others)
{
	struct buf b;
	enum mime_condition i;

	buf_init(&b, 65536);
	buf_puts(&b, "mime_ambiguity = ignore\nmime_ambiguity_checks =");
	for (i = 1; i < MIME_CONDITIONS; i++)
		if ((i == c) != others)
			buf_printf(&b, " %s reject,", condition_name(i));
	buf_puts(&b, "\n");
	judge_open(g, buf_cstr(&b));
	buf_free(&b);
}

static void
each_row(void **state)
{
	struct condition_set seen = { 0 };
	struct judge g;
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 4u << 20);
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct row *r = &rows[i];

		make(r, &b);
		open_policy(&g, r->c, false);
		if (r->own ? judge_text(&g, buf_view(&b)) != ACTION_REJECT :
		    !refused_for(&g, buf_view(&b), r->c))
			fail_msg("not refused: %s", condition_name(r->c));
		judge_close(&g);
		open_policy(&g, r->c, true);
		if (refused_for(&g, buf_view(&b), r->c))
			fail_msg("refused: %s", condition_name(r->c));
		judge_close(&g);
		condition_add(&seen, r->c);
	}
	/* not-opened has a test of its own: test_inner.c */
	condition_add(&seen, MIME_NOT_OPENED);
	for (i = 1; i < MIME_CONDITIONS; i++)
		if (!condition_has(seen, (enum mime_condition)i))
			fail_msg("no message for %s",
			    condition_name((enum mime_condition)i));
	buf_free(&b);
}

/* A correct message has none of them. */
static void
none(void **state)
{
	struct judge g;

	(void)state;
	open_policy(&g, MIME_CONDITION_NONE, true);
	assert_int_equal(judge_text(&g, view_of(TYPE("multipart/mixed; "
	    "boundary=\"a b\"") "Subject: x\r\n\r\npreamble\r\n\r\n--a b\r\n"
	    "\r\nx\r\n\r\n--a b\r\nContent-Type: a/b; name=\"x.pdf\"\r\n"
	    "Content-Disposition: attachment; filename=\"x.pdf\"\r\n"
	    "Content-Transfer-Encoding: base64\r\n\r\naGk=\r\n--a b\r\n"
	    "Content-Transfer-Encoding: quoted-printable\r\n\r\nx=3D=\r\ny"
	    "\r\n--a b\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n"
	    "\r\nz\r\n\r\n--a b--\r\nepilogue\r\n")), ACTION_OK);
	judge_close(&g);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_row),
		cmocka_unit_test(none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
