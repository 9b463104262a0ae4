/* link: filters */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "filters/leaf.h"
#include "filters/tnef.h"
#include "lib/mem.h"
#include "rules/mime.h"

/*
 * A sink that writes down what it is told: "[part type/subtype name|name]",
 * the bytes, "[end]".
 */
struct recorder {
	struct leaf_sink sink;
	struct buf log, stack[LEAF_SLOTS];
	struct condition_set all;
};

static bool
on_begin(struct leaf_sink *s, const struct leaf *l)
{
	struct recorder *r = (struct recorder *)(void *)s;

	buf_clear(&r->stack[l->slot]);
	return true;
}

static void
on_bytes(struct leaf_sink *s, const struct leaf *l, struct view v)
{
	struct recorder *r = (struct recorder *)(void *)s;

	assert_true(v.n > 0);
	assert_true(buf_putv(&r->stack[l->slot], v));
}

static void
on_end(struct leaf_sink *s, const struct leaf *l)
{
	static const char *const origins[] = { "", "part", "uu", "yenc",
		"tnef" };
	struct recorder *r = (struct recorder *)(void *)s;
	size_t i;

	assert_int_equal(l->size, r->stack[l->slot].n);
	buf_printf(&r->log, "<%s %.*s/%.*s", origins[l->origin],
	    VIEW_ARGS(l->type), VIEW_ARGS(l->subtype));
	for (i = 0; i < l->names->n; i++)
		buf_printf(&r->log, " [%.*s]",
		    VIEW_ARGS(l->names->list[i].text));
	buf_puts(&r->log, ">");
	buf_putv(&r->log, buf_view(&r->stack[l->slot]));
	buf_puts(&r->log, "</>");
	r->all.bits |= l->conditions.bits;
}

static void
on_condition(struct leaf_sink *s, enum mime_condition c,
    const struct mime_part *p, uint64_t offset, struct view what)
{
	struct recorder *r = (struct recorder *)(void *)s;

	(void)offset;
	(void)what;
	assert_non_null(p);
	condition_add(&r->all, c);
}

static const struct leaf_ops ops = { "recorder", on_begin, on_bytes, on_end,
	on_condition };

static struct {
	struct charsets *charsets;
	struct leaves *leaves;
	struct mime *walk;
	struct recorder r;
} t;

static int
setup(void **state)
{
	struct mime_options o = { .header_size_limit = 10000,
		.line_length_limit = 2048, .nesting_limit = 20,
		.part_limit = 100, .boundary_length_limit = 200,
		.stray_is_data = true };
	size_t i;

	(void)state;
	t.charsets = charsets_open();
	t.leaves = leaves_new(t.charsets);
	t.walk = mime_new(&o);
	t.r.sink.ops = &ops;
	buf_init(&t.r.log, 1u << 20);
	for (i = 0; i < LEAF_SLOTS; i++)
		buf_init(&t.r.stack[i], 1u << 20);
	return 0;
}

static int
teardown(void **state)
{
	size_t i;

	(void)state;
	leaves_free(&t.leaves);
	charsets_free(&t.charsets);
	mime_free(&t.walk);
	buf_free(&t.r.log);
	for (i = 0; i < LEAF_SLOTS; i++)
		buf_free(&t.r.stack[i]);
	return 0;
}

static const char *
walk_cut(struct view text, size_t cut)
{
	struct stage *stages[] = { leaves_stage(t.leaves) };
	struct leaf_sink *sinks[] = { &t.r.sink };
	struct view left = text;

	buf_clear(&t.r.log);
	t.r.all.bits = 0;
	leaves_begin(t.leaves, text, sinks, 1);
	mime_begin(t.walk, stages, 1);
	for (; left.n > 0; left = view_from(left, cut))
		mime_feed(t.walk, view_head(left, cut));
	mime_end(t.walk);
	return buf_cstr(&t.r.log);
}

static void
expect(const char *text, const char *leaves)
{
	assert_string_equal(walk_cut(view_of(text), 1u << 20), leaves);
	assert_string_equal(walk_cut(view_of(text), 1), leaves);
}

#define V	"MIME-Version: 1.0\r\n"
#define MIXED	V "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
#define B64(s)	V "Content-Type: a/b\r\nContent-Transfer-Encoding: base64"  \
	"\r\n\r\n" s
#define QP(s)	V "Content-Type: a/b\r\nContent-Transfer-Encoding: "	     \
	"quoted-printable\r\n\r\n" s
#define AB(s)	"<part a/b>" s "</>"

static void
plain_leaves(void **state)
{
	(void)state;
	expect("Subject: x\r\n\r\none\r\ntwo\r\n",
	    "<part text/plain>one\r\ntwo</>");
	expect(MIXED "pre\r\n--b\r\n\r\none\r\n\r\n--b\r\nContent-Type: c/d;"
	    " name=n\r\n\r\ntwo\r\n--b--\r\npost\r\n",
	    "<part text/plain>one\r\n</><part c/d [n]>two</>");
	assert_int_equal(t.r.all.bits, 0);
	expect(MIXED "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: y"
	    "\r\n\r\nin\r\n--b--\r\n", "<part text/plain>in</>");
}

static void
base64_leaves(void **state)
{
	(void)state;
	expect(B64("aGVsbG8=\r\n"), AB("hello"));
	assert_int_equal(t.r.all.bits, 0);
	expect(B64("a\r\nG Vs\r\nb\tG8=\r\n"), AB("hello"));
	expect(B64("aGVsbG8\r\n"), AB("hello"));
	assert_true(condition_has(t.r.all, MIME_BASE64_END));
	expect(B64("aGV!s#bG8="), AB("hello"));
	assert_true(condition_has(t.r.all, MIME_BASE64_GARBAGE));
	/* the end, the next piece, or nothing */
	expect(B64("aGU=bGxv\r\n"), AB("hello") AB("he") AB("he\x1b\x1b"
	    "\x1b"));
	assert_true(condition_has(t.r.all, MIME_BASE64_PADDING));
	/* so is a footer */
	expect(B64("aGU=\r\n-- \r\nbGxv\r\n"), AB("hello") AB("he")
	    AB("he\x1b\x1b\x1b"));
	assert_true(condition_has(t.r.all, MIME_BASE64_FOOTER));
	assert_false(condition_has(t.r.all, MIME_BASE64_PADDING));
}

static void
qp_leaves(void **state)
{
	(void)state;
	expect(QP("h=65llo\r\n"), AB("hello"));
	expect(QP("hel=\r\nlo=3D"), AB("hello="));
	expect(QP("hel= \t\r\nlo  \r\nx"), AB("hello\r\nx"));
	/* what is none is kept, and left out with the byte behind it */
	expect(QP("=e9=ZZ=4"), AB("\xe9=ZZ=4") AB("\xe9Z"));
	assert_true(condition_has(t.r.all, MIME_QP_GARBAGE));
	assert_true(condition_has(t.r.all, MIME_QP_CASE));
	expect(QP("x="), AB("x"));
	/* blanks at the begin of a line, where no text is */
	expect(QP("\t=4D=\r\n =5A"), AB("\tM Z") AB("MZ"));
}

static void
all_readings(void **state)
{
	(void)state;
	expect(V "Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n"
	    "Content-Transfer-Encoding: 7bit\r\n\r\naGk=\r\n",
	    AB("hi") AB("aGk="));
	assert_true(condition_has(t.r.all, MIME_DUPLICATE_ENCODING));
	expect(V "Content-Type: a/b\r\nContent-Transfer-Encoding: base64 x\r\n"
	    "\r\naGk=\r\n", AB("hi") AB("aGk="));
	assert_true(condition_has(t.r.all, MIME_ENCODING_SYNTAX));
	/* one that nobody knows: all */
	expect(V "Content-Type: a/b\r\nContent-Transfer-Encoding: bas(e)64"
	    "\r\n\r\naGk=\r\n", AB("aGk=") AB("hi") AB("aGk"));
	assert_true(condition_has(t.r.all, MIME_UNKNOWN_ENCODING));
	/* a leaf and a multipart */
	expect(V "Content-Type: a/b\r\nContent-Type: multipart/mixed; "
	    "boundary=b\r\n\r\n--b\r\n\r\nin\r\n--b--\r\n",
	    "<part text/plain>in</>" AB("--b\r\n\r\nin\r\n--b--"));
	assert_true(condition_has(t.r.all, MIME_COMPOSITE_LEAF));
	assert_true(condition_has(t.r.all, MIME_DUPLICATE_TYPE));
}

static void
files_in_bodies(void **state)
{
	(void)state;
	expect("\r\nhi\r\nbegin 644 a b.exe\r\n#0V%T\r\n`\r\nend\r\nbegin "
	    "0755 c\r\n#0V%T\r\n \r\nend\r\n",
	    "<uu application/octet-stream [a b.exe]>Cat</>"
	    "<uu application/octet-stream [c]>Cat</>"
	    "<part text/plain>hi\r\nbegin 644 a b.exe\r\n#0V%T\r\n`\r\nend"
	    "\r\nbegin 0755 c\r\n#0V%T\r\n \r\nend</>");
	assert_false(condition_has(t.r.all, MIME_UUENCODE_BAD));
	expect("\r\n=ybegin line=128 size=3 name=x.exe\r\n\x6d\x8b\x9e\r\n"
	    "=yend size=3 crc32=a6130548\r\n",
	    "<yenc application/octet-stream [x.exe]>Cat</>"
	    "<part text/plain>=ybegin line=128 size=3 name=x.exe\r\n"
	    "\x6d\x8b\x9e\r\n=yend size=3 crc32=a6130548</>");
	assert_true(condition_has(t.r.all, MIME_YENC));
}

/* What follows "begin 644 x" tells uuencode from prose. */
static void
uuencode_or_prose(void **state)
{
	static const char *const files[] = {
		"#0V%T\r\n`\r\nend\r\n",
		"\r\n#0V%T\r\n",
		"M2&5L;&\\L('=O<FQD(2!4:&ES(&ES(&$@;&]N9V5R(&QI;F4@;V8@=&5X=\"X*\r\n",
		/* blanks lost at the end of the line */
		"M35J0  ,    $    __\\  +@         0\r\n",
		/* with small letters, as only decoders know them */
		("Mrfelrlflrtkslrflbksfkrelfkrlflslrlelklflslekrkklsfllerlflslf\r\n"
		"Mrfelrlflrtkslrflbksfkrelfkrlflslrlelklflslekrkklsfllerlflslf\r\n"),
	};
	static const char *const prose[] = {
		"the big clean-up, as we said.\r\na cat\r\nend\r\n",
		"", "end\r\n", "\r\n\r\n`\r\nend\r\n", "HELLO WORLD\r\n",
		("gr\xc3\xbc\xc3\x9f" "e\r\n"),
	};
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 4096);
	for (i = 0; i < sizeof files / sizeof files[0]; i++) {
		buf_clear(&b);
		buf_printf(&b, "\r\nbegin 644 x\r\n%s", files[i]);
		walk_cut(buf_view(&b), 1u << 20);
		if (!condition_has(t.r.all, MIME_UUENCODE))
			fail_msg("not found: %s", files[i]);
	}
	for (i = 0; i < sizeof prose / sizeof prose[0]; i++) {
		buf_clear(&b);
		buf_printf(&b, "\r\nbegin 2000 with %s", prose[i]);
		walk_cut(buf_view(&b), 1u << 20);
		if (condition_has(t.r.all, MIME_UUENCODE))
			fail_msg("found: %s", prose[i]);
		buf_clear(&b);
		buf_printf(&b, "\r\nbegin 644 x\r\n%s", prose[i]);
		walk_cut(buf_view(&b), 1u << 20);
		if (condition_has(t.r.all, MIME_UUENCODE))
			fail_msg("found: %s", prose[i]);
	}
	buf_free(&b);
}

/* Whatever else is told: is "a.exe" among the names? */
static void
known_name(void **state)
{
	static const char *const list[] = {
		"filename=\"=?utf-8?q?a=2Ee?= =?utf-8?q?xe?=\"",
		"filename*1=exe; filename*0=\"a.\"",
		"filename*0*=utf-8''a%2E; filename*1*=%65xe",
		"filename*0=\"a.\"; filename*1*=%65xe",
		"filename*00=a.; filename*01=exe",
		"filename*=utf-16be''%00a%00.%00e%00x%00e",
		"filename*=utf-7''a.+AGU-xe",
		"filename*=''a.exe", "filename*=a.exe",
		"filename*0*=utf-8'en'a.; filename*1=exe; filename=a.txt",
		"filename=\"=?utf-8?b?YS5leGU?=\"",
		"filename=\"=?utf-8*en?Q?a.ex=65?=\"",
		"filename==?utf-8?q?a.exe?=", "filename=\"a.exe", "filename=a.exe;",
		"filename=\"a.e\\xe\"", "filename=\"a.e\r\n\txe\"; filename=a.exe",
		"filename*=utf-8''a.exe%00.txt", "filename=\"a.exe. . \"",
		"x=y; name=a.exe", "filename=a.txt; filename=a.exe",
		"filename=a.exe; filename=a.txt",
		"filename=a.exe[1]", "filename*=us-ascii''=?utf-8?q?a.exe?=",
	};
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 4096);
	for (i = 0; i < sizeof list / sizeof list[0]; i++) {
		buf_clear(&b);
		buf_printf(&b, V "Content-Disposition: attachment; %s\r\n\r\n",
		    list[i]);
		if (strstr(walk_cut(buf_view(&b), 1u << 20), "[a.exe]") ==
		    NULL)
			fail_msg("%s:\n%s", list[i], buf_cstr(&t.r.log));
	}
	buf_free(&b);
}

static void
every_name(void **state)
{
	(void)state;
	expect(V "Content-Type: a/b; name=\"=?utf-8?q?x=2Eexe?=\"\r\n\r\n",
	    "<part a/b [=?utf-8?q?x=2Eexe?=] [x.exe]></>");
	expect(V "Content-Type: a/b; name=\"=?iso-8859-1?b?6Q==?= "
	    "=?iso-8859-1?b?6Q==?=\"\r\n\r\n", "<part a/b [=?iso-8859-1?b?6Q"
	    "==?= =?iso-8859-1?b?6Q==?=] [\xc3\xa9\xc3\xa9]></>");
	expect(V "Content-Disposition: x; filename*=koi8-r''%C1.exe\r\n\r\n",
	    "<part text/plain [\xd0\xb0.exe] [koi8-r''%C1.exe]></>");
	expect(V "Content-Type: a/b; name=\"a.exe. \"\r\n\r\n",
	    "<part a/b [a.exe. ] [a.exe]></>");
}

/* -- TNEF ------------------------------------------------------------------ */

static void
le(struct buf *b, uint32_t v, unsigned n)
{
	for (; n > 0; n--, v >>= 8)
		buf_putc(b, (char)(v & 255));
}

static void
attribute(struct buf *b, uint32_t id, struct view v)
{
	buf_putc(b, 2);
	le(b, id, 4);
	le(b, (uint32_t)v.n, 4);
	buf_putv(b, v);
	le(b, 0, 2);
}

/* As a body in base64: a TNEF byte must not be a line end. */
static void
put_base64(struct buf *to, struct view v)
{
	static const char a[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq"
	    "rstuvwxyz0123456789+/";
	uint32_t w;

	for (; v.n > 0; v = view_from(v, 3)) {
		w = (uint32_t)(unsigned char)v.p[0] << 16;
		w |= v.n > 1 ? (uint32_t)(unsigned char)v.p[1] << 8 : 0;
		w |= v.n > 2 ? (unsigned char)v.p[2] : 0;
		buf_putc(to, a[w >> 18]);
		buf_putc(to, a[w >> 12 & 63]);
		if (v.n > 1)
			buf_putc(to, a[w >> 6 & 63]);
		if (v.n > 2)
			buf_putc(to, a[w & 63]);
	}
	buf_puts(to, "\r\n");
}

static void
long_name(struct buf *b, const char *name)
{
	size_t n = strlen(name), i;

	le(b, 1, 4);
	le(b, 0x3707001f, 4);
	le(b, 1, 4);
	le(b, (uint32_t)n * 2, 4);
	for (i = 0; i < n; i++)
		le(b, (uint32_t)name[i], 2);
	le(b, 0, (unsigned)(4 - n * 2 % 4) % 4);
}

static void
tnef_leaves(void **state)
{
	struct buf b, props, in, mail;
	struct view head = view_of("MIME-Version: 1.0\r\nContent-Type: a/b\r\n"
	    "Content-Transfer-Encoding: base64\r\n\r\n");
	size_t n;

	(void)state;
	buf_init(&b, 4096);
	buf_init(&mail, 8192);
	buf_init(&props, 4096);
	buf_init(&in, 4096);
	/* an attachment inside an embedded message */
	buf_puts(&in, TNEF_SIGNATURE);
	le(&in, 0, 2);
	attribute(&in, 0x00069002, view_of("render"));
	attribute(&in, 0x0006800f, view_of("inner"));
	buf_puts(&b, TNEF_SIGNATURE);
	le(&b, 0, 2);
	attribute(&b, 0x00069002, view_of("render"));
	attribute(&b, 0x00018010, view_of("A~1.TXT"));
	attribute(&b, 0x0006800f, view_of("outer"));
	long_name(&props, "a.exe");
	attribute(&b, 0x00069005, buf_view(&props));
	attribute(&b, 0x00069002, view_of("render"));
	buf_clear(&props);
	le(&props, 1, 4);
	le(&props, 0x3701000d, 4);
	le(&props, 1, 4);
	le(&props, (uint32_t)in.n + 16, 4);
	buf_puts(&props, "0123456789abcdef");
	buf_putv(&props, buf_view(&in));
	le(&props, 0, (unsigned)(4 - in.n % 4) % 4);
	attribute(&b, 0x00069005, buf_view(&props));
	buf_putv(&mail, head);
	put_base64(&mail, buf_view(&b));
	walk_cut(buf_view(&mail), 1);
	assert_non_null(strstr(buf_cstr(&t.r.log), "<tnef application/"
	    "octet-stream [A~1.TXT] [a.exe]>outer</>"));
	assert_non_null(strstr(buf_cstr(&t.r.log), "<tnef application/"
	    "octet-stream>inner</>"));
	assert_true(condition_has(t.r.all, MIME_TNEF));
	assert_false(condition_has(t.r.all, MIME_TNEF_BAD));
	for (n = head.n + 7; n < mail.n; n++) {
		walk_cut(view_head(buf_view(&mail), n), 100);
		assert_true(condition_has(t.r.all, MIME_TNEF));
	}
	buf_free(&b);
	buf_free(&mail);
	buf_free(&props);
	buf_free(&in);
}

/* -- conditions ------------------------------------------------------------ */

#define TYPE(s)	V "Content-Type: " s "\r\n"
#define PART	"--b\r\n\r\nx\r\n"
static const struct {
	const char *text;
	enum mime_condition c;
} conditions[] = {
	{ TYPE("a/b") TYPE("c/d") "\r\n", MIME_DUPLICATE_TYPE },
	{ TYPE("multipart/mixed; boundary=a; boundary=b") "\r\n" PART,
	    MIME_DUPLICATE_BOUNDARY },
	{ TYPE("multipart/mixed; boundary*0=a; boundary*1=b") "\r\n" PART,
	    MIME_BOUNDARY_FOLDED },
	{ TYPE("multipart/mixed; boundary=\"\"") "\r\n" PART,
	    MIME_EMPTY_BOUNDARY },
	{ TYPE("multipart/mixed") "\r\n" PART, MIME_NO_BOUNDARY },
	{ TYPE("multipart/mixed; boundary=\"b \"") "\r\n" PART,
	    MIME_BOUNDARY_SYNTAX },
	{ MIXED "--bc\r\n\r\nx\r\n--b--\r\n", MIME_BOUNDARY_PREFIX },
	{ MIXED PART "--b--\r\n" PART, MIME_BOUNDARY_REOPENED },
	{ MIXED "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
	    PART, MIME_BOUNDARY_REUSED },
	{ MIXED "Content-Type: a/b; name=a.exe\r\n" PART,
	    MIME_PREAMBLE_PART },
	{ MIXED PART "--b--\r\nContent-Type: a/b\r\n", MIME_EPILOGUE_PART },
	{ MIXED PART, MIME_NO_FINAL_BOUNDARY },
	{ TYPE("a/b") "Content-Transfer-Encoding: zip\r\n\r\n",
	    MIME_UNKNOWN_ENCODING },
	{ TYPE("multipart/mixed; boundary=b") "Content-Transfer-Encoding: "
	    "base64\r\n\r\n" PART, MIME_COMPOSITE_BASE64 },
	{ TYPE("multipart/mixed; boundary=b") "Content-Transfer-Encoding: "
	    "quoted-printable\r\n\r\n" PART, MIME_COMPOSITE_ENCODING },
	{ TYPE("text") "\r\n", MIME_TYPE_SYNTAX },
	{ "Content-Type: a/b\r\n\r\n", MIME_NO_VERSION },
	{ V "Content-Type : a/b\r\n\r\n", MIME_FIELD_NAME },
	{ MIXED "--b\r\nContent-\x01Type: a/b\r\n\r\n", MIME_FIELD_BROKEN },
	{ TYPE("a/b; name=\xe9") "\r\n", MIME_HEADER_8BIT },
	{ TYPE("a/b; name=x.txt; name=x.exe") "\r\n", MIME_NAME_DIFFERS },
	{ TYPE("a/b; name=x.txt; name=x.exe") "\r\n",
	    MIME_DUPLICATE_PARAMETER },
	{ TYPE("a/b; name*=utf-8''x%00y") "\r\n", MIME_NAME_CONTROL },
	{ TYPE("a/b; name=\"a\xe2\x80\xaetxt.exe\"") "\r\n", MIME_NAME_BIDI },
	{ TYPE("a/b; name*=klingon''x") "\r\n", MIME_UNKNOWN_CHARSET },
	{ TYPE("a/b") "\r\n\xe9\r\n", MIME_BODY_8BIT },
	{ TYPE("a/b") "\r\na\rb\r\n", MIME_BODY_STRAY },
	{ TYPE("message/partial; number=1; id=x") "\r\n", MIME_PARTIAL },
	{ TYPE("message/external-body") "\r\n", MIME_EXTERNAL },
	{ V "Content-Type: a/\rb\r\n\r\n", MIME_HEADER_STRAY },
};

static void
each_condition(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof conditions / sizeof conditions[0]; i++) {
		walk_cut(view_of(conditions[i].text), 1u << 20);
		if (!condition_has(t.r.all, conditions[i].c))
			fail_msg("not %s:\n%s", condition_name(conditions[i].c),
			    conditions[i].text);
	}
}

/* What mail programs write: nothing that is deceit. */
static const char *const ordinary[] = {
	"From: a\r\n\r\nno MIME\r\n",
	TYPE("text/plain; charset=utf-8; format=flowed\r\n")
	"Content-Transfer-Encoding: 8bit\r\n\r\nna\xc3\xafve\r\n",
	TYPE("multipart/mixed;\r\n boundary=\"----=_NextPart_000_0A_01C\"")
	"\r\nThis is a multi-part message in MIME format.\r\n\r\n"
	"------=_NextPart_000_0A_01C\r\nContent-Type: text/plain;\r\n"
	"\tcharset=\"iso-8859-1\"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
	"x\r\n\r\n------=_NextPart_000_0A_01C\r\nContent-Type: application/"
	"pdf;\r\n\tname=\"=?iso-8859-1?Q?r=E9sum=E9.pdf?=\"\r\n"
	"Content-Transfer-Encoding: base64\r\nContent-Disposition: "
	"attachment;\r\n\tfilename=\"=?iso-8859-1?Q?r=E9sum=E9.pdf?=\"\r\n\r\n"
	"JVBERi0xLjQK\r\n\r\n------=_NextPart_000_0A_01C--\r\n",
	TYPE("multipart/mixed; boundary=\"Apple-Mail=_8F5E\"") "\r\n"
	"--Apple-Mail=_8F5E\r\nContent-Disposition: attachment;\r\n"
	"\tfilename*=utf-8''na%C3%AFve.txt\r\nContent-Type: text/plain;\r\n"
	"\tx-unix-mode=0644;\r\n\tname=\"=?utf-8?Q?na=C3=AFve=2Etxt?=\"\r\n"
	"Content-Transfer-Encoding: quoted-printable\r\n\r\nx=\r\n\r\n"
	"--Apple-Mail=_8F5E--\r\n",
	TYPE("multipart/report; report-type=delivery-status;\r\n"
	"\tboundary=\"4F/mx.example.org\"") "\r\nThis is a MIME-encapsulated "
	"message.\r\n\r\n--4F/mx.example.org\r\nContent-Type: text/plain\r\n"
	"\r\nsorry\r\n\r\n--4F/mx.example.org\r\nContent-Type: message/"
	"delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n--4F/mx.example."
	"org\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\nContent-Type"
	": multipart/mixed; boundary=q\r\n\r\n--q\r\n\r\nz\r\n--q--\r\n"
	"--4F/mx.example.org--\r\n",
	TYPE("multipart/alternative; boundary=b1") "\r\n--b1\r\n\r\nx\r\n--b1"
	"\r\nContent-Type: multipart/related; boundary=b1x\r\n\r\n--b1x\r\n"
	"Content-Type: text/html\r\n\r\n<p>\r\n--b1x--\r\n\r\n--b1--\r\n",
	TYPE("text/plain") "Content-Type: text/plain\r\n\r\nthe same twice\r\n",
	TYPE("text/plain") "Content-Transfer-Encoding: 7-bit\r\n\r\nx\r\n",
	MIXED PART "--b--\r\n\r\n-- \r\na list's footer: x\r\n",
};

static void
ordinary_mail(void **state)
{
	enum mime_condition c;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof ordinary / sizeof ordinary[0]; i++) {
		walk_cut(view_of(ordinary[i]), 1u << 20);
		for (c = 1; c < MIME_CONDITIONS; c++)
			if (condition_has(t.r.all, c) &&
			    condition_class(c) != CONDITION_ODD)
				fail_msg("%s:\n%s", condition_name(c),
				    ordinary[i]);
	}
}

/* conditions(5) lists each of them. */
static void
manual_page(void **state)
{
	static char page[65536];
	FILE *f = fopen("man/conditions.5", "r");
	enum mime_condition c;
	char line[100];

	(void)state;
	assert_non_null(f);
	assert_true(fread(page, 1, sizeof page - 1, f) > 0);
	(void)fclose(f);
	for (c = 1; c < MIME_CONDITIONS; c++) {
		(void)snprintf(line, sizeof line, ".It Ic %s\n",
		    condition_name(c));
		if (strstr(page, line) == NULL)
			fail_msg("%s", line);
		assert_int_equal(condition_find(view_of(condition_name(c))),
		    c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_leaves),
		cmocka_unit_test(base64_leaves),
		cmocka_unit_test(qp_leaves),
		cmocka_unit_test(all_readings),
		cmocka_unit_test(files_in_bodies),
		cmocka_unit_test(uuencode_or_prose),
		cmocka_unit_test(every_name),
		cmocka_unit_test(known_name),
		cmocka_unit_test(tnef_leaves),
		cmocka_unit_test(each_condition),
		cmocka_unit_test(ordinary_mail),
		cmocka_unit_test(manual_page),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
