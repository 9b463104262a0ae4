/* link: filters */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "filters/cms.h"
#include "lib/log.h"
#include "t/unit/judge_help.h"

/*
 * Messages inside encoded parts: rules see what is in there.  The worm is a
 * part whose name ends in ".worm".
 */
#define RULES	"mime_header_checks = pcre:{ {/name=.*\\.worm/ REJECT} }\n"  \
	"nested_header_checks = pcre:{ {/^Subject: worm/ REJECT} }\n"	     \
	"body_checks = pcre:{ {/^a worm$$/ REJECT} }\n"			     \
	"decoded_body_checks = pcre:{ {/decoded worm/ REJECT} }\n"
#define V	"MIME-Version: 1.0\r\n"
#define WORM	V "Content-Type: multipart/mixed; boundary=w\r\n\r\n--w\r\n" \
	"Content-Type: a/b; name=x.worm\r\n\r\nx\r\n--w--\r\n"

/* head, the message in base64, tail */
static void
wrap(struct buf *b, const char *head, struct view in, const char *tail)
{
	buf_clear(b);
	buf_puts(b, head);
	judge_base64(b, in);
	buf_puts(b, tail);
}

#define RFC822	V "Content-Type: message/rfc822\r\n"			     \
	"Content-Transfer-Encoding: base64\r\n\r\n"
#define OCTET(name) V "Content-Type: application/octet-stream; name=\""	     \
	name "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
#define MULTI	V "Content-Type: multipart/mixed; boundary=w\r\n"	     \
	"Content-Transfer-Encoding: base64\r\n\r\n"
#define IN_PART	V "Content-Type: multipart/mixed; boundary=o\r\n\r\n"	     \
	"--o\r\n\r\nhello\r\n--o\r\n"

static const struct {
	const char *head, *in, *tail;
	bool found;
} cases[] = {
	{ RFC822, WORM, "", true },
	{ RFC822, "Subject: worm\r\n\r\n", "", true },
	{ RFC822, "Subject: x\r\n\r\na worm\r\n", "", true },
	{ RFC822, "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
	    "deco=64ed worm\r\n", "", true },
	{ RFC822, "Subject: no worm\r\n\r\nx\r\n", "", false },
	{ IN_PART RFC822, WORM, "--o--\r\n", true },
	{ MULTI, "--w\r\nContent-Type: a/b; name=x.worm\r\n\r\nx\r\n--w--\r\n",
	    "", true },
	{ MULTI, "--x\r\nContent-Type: a/b; name=x.worm\r\n\r\nx\r\n--x--\r\n",
	    "", false },
	/* files that mail programs open */
	{ OCTET("a.eml"), WORM, "", true },
	{ OCTET("a.EML"), WORM, "", true },
	{ OCTET("a.e\\ml"), WORM, "", true },
	{ OCTET("=?utf-8?q?a=2Eeml?="), WORM, "", true },
	{ OCTET("a.mht"), WORM, "", true },
	{ OCTET("a.doc"), WORM, "", true },
	{ OCTET("a.doc"), "\r\n \r\nmime-version: 1.0\r\n" WORM, "", true },
	{ OCTET("a.doc"), "Subject: worm\r\n\r\n", "", false },
	/* text that shows one */
	{ "Content-Transfer-Encoding: base64\r\n\r\n", WORM, "", false },
	{ "Content-Transfer-Encoding: base64\r\nContent-Disposition: "
	    "attachment; filename=a\r\n\r\n", WORM, "", true },
	{ IN_PART OCTET("a.eml"), WORM, "--o--\r\n", true },
	{ V "Content-Type: text/plain; name=a.eml\r\n\r\n" WORM, "", "", true },
};

static void
found(void **state)
{
	struct judge g;
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 1u << 20);
	judge_open(&g, RULES);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		wrap(&b, cases[i].head, view_of(cases[i].in), cases[i].tail);
		if (judge_text(&g, buf_view(&b)) !=
		    (cases[i].found ? ACTION_REJECT : ACTION_OK))
			fail_msg("%zu: %s:\n%s%s", i, cases[i].found ?
			    "not found" : "found", cases[i].head, cases[i].in);
	}
	/* in uuencode, too */
	assert_int_equal(judge_text(&g, view_of("\r\nbegin 644 a.eml\r\n"
	    "14W5B:F5C=#H@=V]R;0T*#0H \r\n`\r\nend\r\n")), ACTION_REJECT);
	judge_close(&g);
	buf_free(&b);
}

/*
 * What `openssl cms -sign -nodetach` writes, with lengths and (-stream)
 * without; up to where the signatures begin.
 */
static const char signed_der[] =
	"MIICzAYJKoZIhvcNAQcCoIICvTCCArkCAQExDTALBglghkgBZQMEAgEwbQYJKoZI\r\n"
	"hvcNAQcBoGAEXkNvbnRlbnQtVHlwZTogbXVsdGlwYXJ0L21peGVkOyBib3VuZGFy\r\n"
	"eT13DQoNCi0tdw0KQ29udGVudC1UeXBlOiBhL2I7IG5hbWU9eC53b3JtDQoNCngN\r\n"
	"Ci0tdy0tDQoxggI0\r\n";
static const char signed_ber[] =
	"MIAGCSqGSIb3DQEHAqCAMIACAQExDTALBglghkgBZQMEAgEwgAYJKoZIhvcNAQcB\r\n"
	"oIAkgAReQ29udGVudC1UeXBlOiBtdWx0aXBhcnQvbWl4ZWQ7IGJvdW5kYXJ5PXcN\r\n"
	"Cg0KLS13DQpDb250ZW50LVR5cGU6IGEvYjsgbmFtZT14Lndvcm0NCg0KeA0KLS13\r\n"
	"LS0NCgAAAAAAADGC\r\n";

static void
opaque_signature(void **state)
{
	static const char *const heads[] = {
		V "Content-Type: application/pkcs7-mime; smime-type=signed-data; "
		"name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n",
		OCTET("a.p7m"), V "Content-Type: Application/X-PKCS7-MIME\r\n"
		"Content-Transfer-Encoding: base64\r\n\r\n",
	};
	const char *const bodies[] = { signed_der, signed_ber };
	struct judge g;
	struct buf b;
	size_t i, n;

	(void)state;
	buf_init(&b, 65536);
	judge_open(&g, RULES);
	for (i = 0; i < 6; i++) {
		buf_clear(&b);
		buf_printf(&b, "%s%s", heads[i % 3], bodies[i / 3]);
		assert_int_equal(judge_text(&g, buf_view(&b)), ACTION_REJECT);
		/* cut anywhere */
		for (n = b.n; n > strlen(heads[i % 3]); n--)
			(void)judge_text(&g, view_head(buf_view(&b), n));
	}
	/* not as a picture */
	buf_clear(&b);
	buf_printf(&b, "%s%s", V "Content-Type: image/png\r\n"
	    "Content-Transfer-Encoding: base64\r\n\r\n", signed_der);
	assert_int_equal(judge_text(&g, buf_view(&b)), ACTION_OK);
	judge_close(&g);
	buf_free(&b);
}

/* Elements without length inside each other, and parts of parts. */
static void
nested_elements(void **state)
{
	struct buf b, out;
	size_t i;

	(void)state;
	buf_init(&b, 1u << 20);
	buf_init(&out, 1u << 20);
	for (i = 0; i < 300000; i++)
		buf_puts(&b, i % 2 ? "\x24\x80" : "\x30\x80");
	assert_false(cms_content(buf_view(&b), &out));
	buf_clear(&b);
	for (i = 0; i < 300000; i++)
		buf_puts(&b, "\x30\x88\xff\xff\xff");
	assert_false(cms_content(buf_view(&b), &out));
	assert_int_equal(out.n, 0);
	buf_free(&b);
	buf_free(&out);
}

/* Careless programs say so of what they did not encode. */
static void
quoted_printable(void **state)
{
	static const char head[] = V "Content-Type: multipart/mixed; "
	    "boundary=\"=_w\"\r\nContent-Transfer-Encoding: "
	    "quoted-printable\r\n\r\n";
	static const char *const honest[] = {
		"--=_w\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=\r\n"
		"--=_w\r\nContent-Type: text/plain\r\n\r\nx\r\n--=_w--\r\n",
		"--=_w\r\nContent-Transfer-Encoding: base64\r\n\r\naGk=\r\n"
		"--=_w\r\nContent-Type: multipart/mixed; boundary=\"=_x\"\r\n"
		"Content-Transfer-Encoding: quoted-printable\r\n\r\n--=_x\r\n"
		"\r\na=20b\r\n--=_x--\r\n--=_w--\r\n",
	};
	static const char *const worms[] = {
		"=2D-=_w\r\nContent-Type: a/b; name=x.w=6Frm\r\n\r\n",
		"--=_w\r\n\r\nx\r\n-=\r\n-=_w\r\nContent-Type: a/b; "
		"name=x.w=\r\norm\r\n\r\n",
	};
	struct judge g;
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 1u << 20);
	judge_open(&g, RULES "mime_ambiguity = reject\n");
	for (i = 0; i < sizeof honest / sizeof honest[0]; i++) {
		buf_clear(&b);
		buf_printf(&b, "%s%s", head, honest[i]);
		if (judge_text(&g, buf_view(&b)) != ACTION_OK)
			fail_msg("%.*s:\n%s",
			    VIEW_ARGS(g.j.verdict.text), honest[i]);
	}
	judge_close(&g);
	judge_open(&g, RULES);
	for (i = 0; i < sizeof worms / sizeof worms[0]; i++) {
		buf_clear(&b);
		buf_printf(&b, "%s%s", head, worms[i]);
		if (judge_text(&g, buf_view(&b)) != ACTION_REJECT)
			fail_msg("%s", worms[i]);
	}
	judge_close(&g);
	buf_free(&b);
}

/* Each depth adds a base64 around it. */
static void
depth(void **state)
{
	struct judge g;
	struct buf b[2];
	size_t i;

	(void)state;
	buf_init(&b[0], 1u << 20);
	buf_init(&b[1], 1u << 20);
	judge_open(&g, RULES "mime_ambiguity = hold\n");
	buf_puts(&b[0], WORM);
	for (i = 1; i <= 7; i++) {
		wrap(&b[i % 2], RFC822, buf_view(&b[(i - 1) % 2]), "");
		assert_int_equal(judge_text(&g, buf_view(&b[i % 2])),
		    i <= 4 ? ACTION_REJECT : ACTION_HOLD);
	}
	judge_close(&g);
	buf_free(&b[0]);
	buf_free(&b[1]);
}

static void
number(void **state)
{
	struct judge g;
	struct buf b;
	size_t i, n;

	(void)state;
	buf_init(&b, 1u << 20);
	judge_open(&g, RULES "mime_ambiguity = hold\n");
	for (n = 15; n <= 17; n++) {
		buf_clear(&b);
		buf_puts(&b, "\r\n");
		for (i = 0; i < n; i++)
			buf_puts(&b, "begin 644 a.eml\r\n.4W5B:F5C=#H@> T*#0H "
			    "\r\n`\r\nend\r\n");
		assert_int_equal(judge_text(&g, buf_view(&b)), n <= 16 ?
		    ACTION_OK : ACTION_HOLD);
	}
	judge_close(&g);
	buf_free(&b);
}

/* What is walked in all is limited, and that is told. */
static void
budget(void **state)
{
	struct judge g;
	struct buf b[2];
	size_t i;

	(void)state;
	buf_init(&b[0], 32u << 20);
	buf_init(&b[1], 32u << 20);
	judge_open(&g, RULES "mime_ambiguity_checks = not-opened reject\n"
	    "mime_ambiguity = ignore\n");
	buf_puts(&b[0], "Subject: x\r\n\r\n");
	for (i = 0; i < 250000; i++)
		buf_puts(&b[0], "0123456\r\n");
	wrap(&b[1], RFC822, buf_view(&b[0]), "");
	assert_int_equal(judge_text(&g, buf_view(&b[1])), ACTION_OK);
	/* Each depth has two readings that are as long: too much in all. */
	for (i = 1; i <= 4; i++) {
		buf_clear(&b[i % 2]);
		buf_puts(&b[i % 2], RFC822 "WA==\r\n");
		judge_base64(&b[i % 2], buf_view(&b[(i - 1) % 2]));
	}
	assert_int_equal(judge_text(&g, buf_view(&b[0])), ACTION_REJECT);
	judge_close(&g);
	buf_free(&b[0]);
	buf_free(&b[1]);
}

/* Rules that would change it do not, and others go on. */
static void
edits(void **state)
{
	struct judge g;
	struct buf b;

	(void)state;
	buf_init(&b, 1u << 20);
	judge_open(&g, "nested_header_checks = pcre:{ {/^X: / IGNORE} "
	    "{/^Y: / REPLACE Z: z} {/^Subject: worm/ REJECT} }\n"
	    "body_checks = pcre:{ {/./ PREPEND p} }\n");
	wrap(&b, "Content-Transfer-Encoding: base64\r\nContent-Type: "
	    "message/rfc822\r\n\r\n", view_of("X: 1\r\nY: 2\r\n\r\nz\r\n"),
	    "");
	assert_int_equal(judge_text(&g, buf_view(&b)), ACTION_OK);
	/* body_checks: the line of base64; "p" cannot stand among headers */
	assert_int_equal(g.j.edits.n, 1);
	wrap(&b, RFC822, view_of("X: 1\r\nSubject: worm\r\n\r\nz\r\n"), "");
	assert_int_equal(judge_text(&g, buf_view(&b)), ACTION_REJECT);
	judge_close(&g);
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found),
		cmocka_unit_test(opaque_signature),
		cmocka_unit_test(nested_elements),
		cmocka_unit_test(quoted_printable),
		cmocka_unit_test(depth),
		cmocka_unit_test(number),
		cmocka_unit_test(budget),
		cmocka_unit_test(edits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
