/* link: filters */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/buf.h"
#include "rules/mime.h"

/* A stage that writes down what it is told. */
struct recorder {
	struct stage stage;
	struct buf out;
	struct mime *walk;
	bool quiet;		/* wants no lines */
	bool octets;		/* of leaves */
	const char *stop_at;	/* header name after which it stops */
};

static struct recorder *
recorder(struct stage *s)
{
	return (struct recorder *)(void *)s;
}

static const char *
visible(struct view v)
{
	static char text[65536];
	struct buf b = { .p = text, .cap = sizeof text, .max = sizeof text };

	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] == '\n')
			buf_puts(&b, "\\n");
		else
			buf_putc(&b, v.p[i]);
	}
	return buf_cstr(&b);
}

static void
on_part_begin(struct stage *s, const struct mime_part *p)
{
	static const char *const names[] = { "", "primary", "part", "nested" };

	buf_printf(&recorder(s)->out, "begin %u %s depth=%u at=%u\n", p->index,
	    names[p->block], p->depth, (unsigned)p->offset);
}

static void
on_header(struct stage *s, const struct mime_header *h)
{
	static const char kinds[] = "?PMN";
	struct recorder *r = recorder(s);

	buf_printf(&r->out, "%c %u+%u [%s]", kinds[h->kind],
	    (unsigned)h->offset, (unsigned)h->size, visible(h->text));
	if (h->kept < h->size - h->line_end)
		buf_printf(&r->out, " kept=%u", (unsigned)h->kept);
	buf_puts(&r->out, "\n");
	if (r->stop_at != NULL && view_starts_nocase(h->text, r->stop_at))
		mime_stop(r->walk);
}

static void
on_headers_end(struct stage *s, const struct mime_part *p, uint64_t offset)
{
	static const char *const names[] = { "", "leaf", "parts", "message" };
	struct recorder *r = recorder(s);

	buf_printf(&r->out, "headers %u %s at=%u\n", p->index, r->octets ?
	    names[mime_content(r->walk)] : "end", (unsigned)offset);
	if (r->octets && mime_content(r->walk) == MIME_CONTENT_LEAF)
		mime_octets(r->walk);
}

static void
on_line(struct stage *s, const struct mime_line *l)
{
	struct recorder *r = recorder(s);

	if (r->quiet) {
		s->wants_lines = false;
		return;
	}
	buf_printf(&r->out, "%c%u %u+%u/%u%s%s [%s]\n",
	    l->between ? '-' : 'b', l->part->index, (unsigned)l->offset,
	    (unsigned)l->size, (unsigned)l->section_offset,
	    l->first ? "" : " more", l->last ? "" : " cut",
	    visible(l->text));
}

static void
on_part_end(struct stage *s, const struct mime_part *p)
{
	buf_printf(&recorder(s)->out, "end %u\n", p->index);
}

static void
on_stray(struct stage *s, uint64_t offset)
{
	buf_printf(&recorder(s)->out, "stray %u\n", (unsigned)offset);
}

static void
on_condition(struct stage *s, enum mime_condition c,
    const struct mime_part *p, uint64_t offset, struct view text)
{
	(void)p;
	buf_printf(&recorder(s)->out, "! %s at=%u [%s]\n",
	    condition_name(c), (unsigned)offset, visible(view_head(text, 20)));
}

static void
on_end(struct stage *s)
{
	buf_puts(&recorder(s)->out, "done\n");
}

static const struct stage_ops recorder_ops = {
	.name = "recorder", .part_begin = on_part_begin, .header = on_header,
	.headers_end = on_headers_end, .line = on_line,
	.part_end = on_part_end, .stray = on_stray,
	.condition = on_condition, .end = on_end,
};

static const struct mime_options usual = {
	.header_size_limit = 102400, .line_length_limit = 2048,
	.nesting_limit = 100, .part_limit = 10000,
	.boundary_length_limit = 2048, .stray_is_data = true,
};

static void
recorder_init(struct recorder *r, struct mime *m)
{
	*r = (struct recorder){ .stage.ops = &recorder_ops, .walk = m };
	buf_init(&r->out, 8u << 20);
}

/* Walk the text in feeds of the sizes given; the last one repeats. */
static void
walk(struct recorder *r, struct view text, size_t first, size_t then)
{
	struct stage *stages[] = { &r->stage };
	size_t n;

	buf_clear(&r->out);
	mime_begin(r->walk, stages, 1);
	for (n = first; text.n > 0; n = then) {
		mime_feed(r->walk, view_head(text, n));
		text = view_from(text, n);
	}
	mime_end(r->walk);
}

static void
expect_with(const struct mime_options *o, const char *text,
    const char *expected)
{
	struct mime *m = mime_new(o);
	struct recorder r;
	struct view v = view_of(text);

	recorder_init(&r, m);
	walk(&r, v, v.n, v.n);
	assert_string_equal(buf_cstr(&r.out), expected);
	/* Cut anywhere, and byte by byte. */
	for (size_t i = 1; i < v.n; i++) {
		walk(&r, v, i, v.n);
		assert_string_equal(buf_cstr(&r.out), expected);
	}
	for (size_t i = 1; i < 5; i++) {
		walk(&r, v, i, i);
		assert_string_equal(buf_cstr(&r.out), expected);
	}
	buf_free(&r.out);
	mime_free(&m);
}

static void
expect(const char *text, const char *expected)
{
	expect_with(&usual, text, expected);
}

static void
plain(void **state)
{
	(void)state;
	expect("Subject: a\r\nTo: b\r\n\r\nline\r\n\r\nlast",
	    "begin 0 primary depth=0 at=0\n"
	    "P 0+12 [Subject: a]\n"
	    "P 12+7 [To: b]\n"
	    "headers 0 end at=19\n"
	    "b0 21+6/0 [line]\n"
	    "b0 27+2/6 []\n"
	    "b0 29+4/8 [last]\n"
	    "end 0\ndone\n");
	expect("", "begin 0 primary depth=0 at=0\nheaders 0 end at=0\n"
	    "end 0\ndone\n");
	/* Only headers, without a line end. */
	expect("Subject: a", "begin 0 primary depth=0 at=0\n"
	    "P 0+10 [Subject: a]\nheaders 0 end at=10\nend 0\ndone\n");
}

static void
folded(void **state)
{
	(void)state;
	expect("Subject : a\r\n b\r\n\tc\r\nX:\r\n\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "P 0+21 [Subject: a\\n b\\n\tc]\n"
	    "P 21+4 [X:]\n"
	    "headers 0 end at=25\nend 0\ndone\n");
	/* A line of white space continues too. */
	expect("A: 1\r\n \r\nB: 2\r\n\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "P 0+9 [A: 1\\n ]\nP 9+6 [B: 2]\n"
	    "headers 0 end at=15\nend 0\ndone\n");
}

static void
header_not_ended(void **state)
{
	(void)state;
	expect("A: 1\r\nno header\r\nB: 2\r\n",
	    "begin 0 primary depth=0 at=0\nP 0+6 [A: 1]\n"
	    "! header-not-ended at=6 [no header]\n"
	    "headers 0 end at=6\n"
	    "b0 6+11/0 [no header]\nb0 17+6/11 [B: 2]\n"
	    "end 0\ndone\n");
	expect(" x: y\r\n", "begin 0 primary depth=0 at=0\n"
	    "! header-not-ended at=0 [ x: y]\nheaders 0 end at=0\n"
	    "b0 0+7/0 [ x: y]\nend 0\ndone\n");
}

static void
multipart(void **state)
{
	(void)state;
	expect("Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	    "pre\r\n--b\r\nContent-Type: text/plain\r\n\r\none\r\n"
	    "--b\r\nX-Y: z\r\n\r\ntwo\r\n--b--\r\npost\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "M 0+43 [Content-Type: multipart/mixed; boundary=b]\n"
	    "headers 0 end at=43\n"
	    "-0 45+5/0 [pre]\n"
	    "-0 50+5/0 [--b]\n"
	    "begin 1 part depth=1 at=55\n"
	    "M 55+26 [Content-Type: text/plain]\n"
	    "headers 1 end at=81\n"
	    "b1 83+5/0 [one]\n"
	    "end 1\n"
	    "-0 88+5/0 [--b]\n"
	    "begin 2 part depth=1 at=93\n"
	    "M 93+8 [X-Y: z]\n"
	    "headers 2 end at=101\n"
	    "b2 103+5/0 [two]\n"
	    "end 2\n"
	    "-0 108+7/0 [--b--]\n"
	    "-0 115+6/7 [post]\n"
	    "end 0\ndone\n");
}

static void
outer_boundary_ends_inner(void **state)
{
	(void)state;
	expect("Content-Type: multipart/mixed; boundary=out\r\n\r\n"
	    "--out\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n"
	    "--in\r\n\r\nx\r\n--out\r\nA: b\r\n\r\n--in\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "M 0+45 [Content-Type: multipart/mixed; boundary=out]\n"
	    "headers 0 end at=45\n"
	    "-0 47+7/0 [--out]\n"
	    "begin 1 part depth=1 at=54\n"
	    "M 54+44 [Content-Type: multipart/mixed; boundary=in]\n"
	    "headers 1 end at=98\n"
	    "-1 100+6/0 [--in]\n"
	    "begin 2 part depth=2 at=106\n"
	    "headers 2 end at=106\n"
	    "b2 108+3/0 [x]\n"
	    "end 2\nend 1\n"
	    "-0 111+7/0 [--out]\n"
	    "begin 3 part depth=1 at=118\n"
	    "M 118+6 [A: b]\n"
	    "headers 3 end at=124\n"
	    "b3 126+6/0 [--in]\n"
	    "! no-final-boundary at=132 []\n"
	    "end 3\nend 0\ndone\n");
}

static void
nested(void **state)
{
	(void)state;
	expect("Subject: o\r\nContent-Type: message/rfc822\r\n\r\n"
	    "Subject: i\r\nContent-Type: multipart/x; boundary=b\r\n\r\n"
	    "--b\r\nQ: r\r\n\r\nz\r\n--b--\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "P 0+12 [Subject: o]\n"
	    "M 12+30 [Content-Type: message/rfc822]\n"
	    "headers 0 end at=42\n"
	    "begin 1 nested depth=1 at=44\n"
	    "N 44+12 [Subject: i]\n"
	    "M 56+39 [Content-Type: multipart/x; boundary=b]\n"
	    "headers 1 end at=95\n"
	    "-1 97+5/0 [--b]\n"
	    "begin 2 part depth=2 at=102\n"
	    "M 102+6 [Q: r]\n"
	    "headers 2 end at=108\n"
	    "b2 110+3/0 [z]\n"
	    "end 2\n"
	    "-1 113+7/0 [--b--]\n"
	    "end 1\nend 0\ndone\n");
	/* In a digest that is the default. */
	expect("Content-Type: multipart/digest; boundary=b\r\n\r\n"
	    "--b\r\n\r\nS: t\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n"
	    "S: t\r\n--b--\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "M 0+44 [Content-Type: multipart/digest; boundary=b]\n"
	    "headers 0 end at=44\n"
	    "-0 46+5/0 [--b]\n"
	    "begin 1 part depth=1 at=51\n"
	    "headers 1 end at=51\n"
	    "begin 2 nested depth=2 at=53\n"
	    "N 53+6 [S: t]\n"
	    "headers 2 end at=59\n"
	    "end 2\nend 1\n"
	    "-0 61+5/0 [--b]\n"
	    "begin 3 part depth=1 at=66\n"
	    "M 66+26 [Content-Type: text/plain]\n"
	    "headers 3 end at=92\n"
	    "b3 94+6/0 [S: t]\n"
	    "end 3\n"
	    "-0 100+7/0 [--b--]\n"
	    "end 0\ndone\n");
}

/* Each Content-Type must make "--b1" begin a part. */
static void
boundary_forms(void **state)
{
	static const char *const types[] = {
		"multipart/mixed; boundary=b1",
		"MULTIPART/Mixed;BOUNDARY=\"b1\"",
		"multipart/mixed; boundary=\"b1 \"",
		"multipart/mixed;\r\n\tboundary=\"b1\"",
		"multipart/mixed (a (nested) \\) one); x=y; boundary = b1",
		"multipart/mixed; (boundary=no) boundary=b1",
		"multipart / mixed boundary=b1",
		"multipart/mixed; boundary=b1; boundary=b2",
		"multipart/mixed; boundary=b2; boundary=b1",
		"multipart/mixed; boundary*=us-ascii'en'b%31",
		"multipart/mixed; boundary*0=b; boundary*1=1",
		"multipart/mixed; boundary*1=1; boundary*0*=''%62",
		"multipart/mixed; boundary*0=\"b\";\r\n boundary*1*=%31",
		"multipart/mixed; boundary=\"b\\1\"",
		"multipart/mixed; boundary=b1(comment)",
		"multipart/mixed; boundary=b1=x",
		"multipart/mixed; boundary=\"b1",
		"multipart/mixed; x=\"; boundary=b2\"; boundary=b1",
		"multipart/mixed; ( boundary=b1",
		"multipart/mixed; ; = ; boundary=b1",
		"multipart; boundary=b1",
		"text/plain\r\nContent-Type: multipart/mixed; boundary=b1",
		"multipart/mixed; boundary=b1\r\nContent-Type: text/plain",
	};
	struct mime *m = mime_new(&usual);
	struct recorder r;
	struct buf text;

	(void)state;
	recorder_init(&r, m);
	buf_init(&text, 4096);
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		buf_clear(&text);
		buf_printf(&text, "Content-Type: %s\r\n\r\n"
		    "--b1\r\nA: x\r\n\r\n", types[i]);
		walk(&r, buf_view(&text), text.n, 1);
		if (strstr(buf_cstr(&r.out), "[A: x]") == NULL ||
		    strstr(buf_cstr(&r.out), "M ") == NULL)
			fail_msg("%s: %s", types[i], buf_cstr(&r.out));
	}
	buf_free(&text);
	buf_free(&r.out);
	mime_free(&m);
}

/* Lines that are, or are not, a boundary "b1". */
static void
boundary_lines(void **state)
{
	static const struct {
		const char *type, *line;
		bool part;
	} cases[] = {
		{ "boundary=b1", "--b1", true },
		{ "boundary=b1", "--b1  \t", true },
		{ "boundary=b1", "--b1x", true },	/* by its begin */
		{ "boundary=b1", "--b", false },
		{ "boundary=b1", "-b1", false },
		{ "boundary=b1", " --b1", false },
		{ "boundary=b1", "--B1", false },
		{ "boundary=b1", "--b1--", false },
		{ "boundary=b1", "--b1-- x", false },
		{ "boundary=b1=x", "--b1=x", true },
		{ "boundary=b1=x", "--b1", true },
		{ "boundary=b1=x", "--b1=y", false },
		{ "boundary=\"\"", "--", true },
		{ "boundary=\"\"", "--x", false },
		{ "boundary=\"a: b\"", "--a: b", true },
	};
	struct mime *m = mime_new(&usual);
	struct recorder r;
	struct buf text;

	(void)state;
	recorder_init(&r, m);
	buf_init(&text, 4096);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		buf_clear(&text);
		buf_printf(&text, "Content-Type: multipart/x; %s\r\n\r\n"
		    "%s\r\nA: x\r\n\r\n", cases[i].type, cases[i].line);
		walk(&r, buf_view(&text), text.n, 1);
		if ((strstr(buf_cstr(&r.out), "begin 1 part") != NULL) !=
		    cases[i].part)
			fail_msg("%s %s: %s", cases[i].type, cases[i].line,
			    buf_cstr(&r.out));
	}
	buf_free(&text);
	buf_free(&r.out);
	mime_free(&m);
}

/*
 * "--a--b" closes the inner boundary "a" for who compares the begin, and
 * begins a part of the outer one for who compares lines: the headers behind
 * it must be seen, and both boundaries go on.
 */
static void
ambiguous_boundary(void **state)
{
	(void)state;
	expect("Content-Type: multipart/x; boundary=a--b\r\n\r\n--a--b\r\n"
	    "Content-Type: multipart/x; boundary=a\r\n\r\n--a\r\n\r\n"
	    "--a--b\r\nN: 1\r\n\r\n--a\r\nN: 2\r\n\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "M 0+42 [Content-Type: multipart/x; boundary=a--b]\n"
	    "headers 0 end at=42\n"
	    "-0 44+8/0 [--a--b]\n"
	    "begin 1 part depth=1 at=52\n"
	    "M 52+39 [Content-Type: multipart/x; boundary=a]\n"
	    "headers 1 end at=91\n"
	    "-1 93+5/0 [--a]\n"
	    "begin 2 part depth=2 at=98\n"
	    "headers 2 end at=98\n"
	    "! boundary-ambiguous at=100 [--a--b]\n"
	    "! boundary-prefix at=100 [--a--b]\n"
	    "end 2\n"
	    "-1 100+8/0 [--a--b]\n"
	    "begin 3 part depth=2 at=108\n"
	    "M 108+6 [N: 1]\n"
	    "headers 3 end at=114\n"
	    "end 3\n"
	    "-1 116+5/0 [--a]\n"
	    "begin 4 part depth=2 at=121\n"
	    "M 121+6 [N: 2]\n"
	    "headers 4 end at=127\n"
	    "! no-final-boundary at=129 []\n"
	    "end 4\nend 1\nend 0\ndone\n");
}

static void
boundary_without_empty_line(void **state)
{
	(void)state;
	/* A boundary that looks like a header, straight behind headers. */
	expect("Content-Type: multipart/x; boundary=\"a:b\"\r\n--a:b\r\n"
	    "C: d\r\n--a:b--\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "M 0+43 [Content-Type: multipart/x; boundary=\"a:b\"]\n"
	    "! header-not-ended at=43 [--a:b]\n"
	    "headers 0 end at=43\n"
	    "-0 43+7/0 [--a:b]\n"
	    "begin 1 part depth=1 at=50\n"
	    "M 50+6 [C: d]\n"
	    "! header-not-ended at=56 [--a:b--]\n"
	    "headers 1 end at=56\n"
	    "end 1\n"
	    "-0 56+9/0 [--a:b--]\n"
	    "end 0\ndone\n");
}

static void
strays(void **state)
{
	struct mime_options o = usual;

	(void)state;
	expect("A: 1\r2\n3\r\n\r\nx\ny\r\r\n\n\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "stray 4\nstray 6\n"
	    "P 0+10 [A: 1 2 3]\n"
	    "headers 0 end at=10\n"
	    "stray 13\nstray 15\n"
	    "b0 12+6/0 [x y ]\n"
	    "stray 18\n"
	    "b0 18+3/6 [ ]\n"
	    "end 0\ndone\n");
	o.stray_is_data = false;
	expect_with(&o, "A: 1\nB: 2\r\n\nx\ny\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "P 0+5 [A: 1]\nP 5+6 [B: 2]\n"
	    "headers 0 end at=11\n"
	    "b0 12+2/0 [x]\nb0 14+3/2 [y]\n"
	    "end 0\ndone\n");
}

static void
long_lines(void **state)
{
	struct mime_options o = usual;

	(void)state;
	o.line_length_limit = 4;
	expect_with(&o, "A:bcdefgh\r\n\r\nabcd\r\nabcde\r\nabcdefghi\r\n"
	    "abc\r\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "P 0+11 [A:bcdefgh]\n"
	    "headers 0 end at=11\n"
	    "b0 13+6/0 [abcd]\n"
	    "b0 19+4/6 cut [abcd]\n"
	    "b0 23+3/10 more [e]\n"
	    "b0 26+4/13 cut [abcd]\n"
	    "b0 30+4/17 more cut [efgh]\n"
	    "b0 34+3/21 more [i]\n"
	    "stray 40\n"
	    "b0 37+6/24 [abc ]\n"
	    "end 0\ndone\n");
	/* A further piece is never a boundary nor a header. */
	o.line_length_limit = 16;
	expect_with(&o, "Content-Type: multipart/x; boundary=b\r\n\r\n"
	    "1234567890123456--b\r\n--b 456789012345A: b\r\n\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "M 0+39 [Content-Type: multipart/x; boundary=b]\n"
	    "headers 0 end at=39\n"
	    "-0 41+16/0 cut [1234567890123456]\n"
	    "-0 57+5/16 more [--b]\n"
	    "! boundary-prefix at=62 [--b 456789012345]\n"
	    "-0 62+16/0 cut [--b 456789012345]\n"
	    "begin 1 part depth=1 at=78\n"
	    "-1 78+6/0 more [A: b]\n"
	    "headers 1 end at=84\n"
	    "! no-final-boundary at=86 []\n"
	    "end 1\nend 0\ndone\n");
}

static void
long_header(void **state)
{
	struct mime_options o = usual;

	(void)state;
	o.header_size_limit = 8;
	expect_with(&o, "A : 45678\r\n 90\r\nB: 2\r\n\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "! header-too-long at=0 [A: 45678]\n"
	    "P 0+16 [A: 45678] kept=9\n"
	    "P 16+6 [B: 2]\n"
	    "headers 0 end at=22\nend 0\ndone\n");
	/* Cut inside and at the begin of a continuation line. */
	expect_with(&o, "A: 45\r\n 9012\r\n\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "! header-too-long at=0 [A: 45\\n 9]\n"
	    "P 0+14 [A: 45\\n 9] kept=9\n"
	    "headers 0 end at=14\nend 0\ndone\n");
	expect_with(&o, "A: 45678\r\n 9\r\n\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "! header-too-long at=0 [A: 45678]\n"
	    "P 0+14 [A: 45678] kept=8\n"
	    "headers 0 end at=14\nend 0\ndone\n");
}

static void
limits(void **state)
{
	struct mime_options o = usual;
	struct mime *m;
	struct recorder r;
	struct buf text;

	(void)state;
	o.nesting_limit = 3;
	o.part_limit = 5;
	o.boundary_length_limit = 4;
	expect_with(&o, "Content-Type: multipart/x; boundary=123456\r\n\r\n"
	    "--1234\r\nA: b\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "! boundary-too-long at=0 [123456]\n"
	    "M 0+44 [Content-Type: multipart/x; boundary=123456]\n"
	    "headers 0 end at=44\n"
	    "-0 46+8/0 [--1234]\n"
	    "begin 1 part depth=1 at=54\n"
	    "M 54+6 [A: b]\n"
	    "headers 1 end at=60\n"
	    "! no-final-boundary at=60 []\n"
	    "end 1\nend 0\ndone\n");
	m = mime_new(&o);
	recorder_init(&r, m);
	buf_init(&text, 65536);
	/* The limit may be passed by one, as in Postfix; not by two. */
	for (int i = 0; i < 6; i++) {
		buf_printf(&text, "Content-Type: multipart/x; boundary=b%d\r\n"
		    "\r\n--b%d\r\n", i, i);
		walk(&r, buf_view(&text), text.n, 1);
		assert_int_equal(strstr(buf_cstr(&r.out), "too-deep") != NULL,
		    i >= 4);
	}
	/* Attached messages in attached messages. */
	buf_clear(&text);
	for (int i = 0; i < 6; i++) {
		buf_puts(&text, "Content-Type: message/rfc822\r\n\r\n");
		walk(&r, buf_view(&text), text.n, 1);
		assert_int_equal(strstr(buf_cstr(&r.out), "too-deep") != NULL,
		    i >= 3);
	}
	/* The message and five parts. */
	buf_clear(&text);
	buf_puts(&text, "Content-Type: multipart/x; boundary=b\r\n\r\n");
	for (int i = 1; i < 8; i++) {
		buf_puts(&text, "--b\r\n\r\n");
		walk(&r, buf_view(&text), text.n, 1);
		assert_int_equal(strstr(buf_cstr(&r.out), "too-many-parts") !=
		    NULL, i >= 5);
	}
	/* Many boundaries of one header, used and closed in any order; each
	 * part is within the one before for a receiver that goes on with a
	 * closed boundary. */
	buf_clear(&text);
	for (int i = 0; i < 100; i++)
		buf_puts(&text, "Content-Type: multipart/x; boundary=aa; "
		    "boundary=bb; boundary=cc\r\n\r\n--aa--\r\n--cc\r\n\r\n"
		    "--bb--\r\n--cc--\r\n--aa\r\n--cc\r\n");
	walk(&r, buf_view(&text), text.n, 1);
	assert_non_null(strstr(buf_cstr(&r.out), "too-deep"));
	buf_free(&text);
	buf_free(&r.out);
	mime_free(&m);
}

static void
one_part(void **state)
{
	struct mime_options o = usual;

	(void)state;
	o.one_part = true;
	expect_with(&o, "Content-Type: multipart/x; boundary=b\r\n\r\n"
	    "--b\r\nA: b\r\n",
	    "begin 0 primary depth=0 at=0\n"
	    "P 0+39 [Content-Type: multipart/x; boundary=b]\n"
	    "headers 0 end at=39\n"
	    "b0 41+5/0 [--b]\nb0 46+6/5 [A: b]\n"
	    "end 0\ndone\n");
}

/* In octets an LF alone begins no line that could be a boundary. */
static void
octets(void **state)
{
	static const char text[] =
	    "Content-Type: multipart/x; boundary=b\r\n\r\n--b\n"
	    "A: 1\n\nx\n--b\r\n\r\r\n--b\n\n\r\n--b--\n--b\r\n";
	static const char expected[] =
	    "begin 0 primary depth=0 at=0\n"
	    "M 0+39 [Content-Type: multipart/x; boundary=b]\n"
	    "headers 0 parts at=39\n"
	    "-0 41+4/0 [--b]\n"
	    "begin 1 part depth=1 at=45\n"
	    "M 45+5 [A: 1]\n"
	    "headers 1 leaf at=50\n"
	    "b1 51+2/0 [x]\n"
	    "b1 53+5/2 [--b]\n"
	    "b1 58+3/7 [\r]\n"
	    "end 1\n"
	    "-0 61+4/0 [--b]\n"
	    "begin 2 part depth=1 at=65\n"
	    "headers 2 leaf at=65\n"
	    "b2 66+2/0 []\n"
	    "end 2\n"
	    "-0 68+6/0 [--b--]\n";
	struct mime_options o = usual;
	struct mime *m;
	struct recorder r;

	(void)state;
	o.stray_is_data = false;
	m = mime_new(&o);
	recorder_init(&r, m);
	r.octets = true;
	for (size_t i = 1; i <= sizeof text - 1; i++) {
		walk(&r, view_of(text), i, i);
		assert_non_null(strstr(buf_cstr(&r.out), expected));
	}
	buf_free(&r.out);
	mime_free(&m);
}

static void
stop_and_quiet(void **state)
{
	static const char text[] = "A: 1\r\nB: 2\r\nContent-Type: multipart/x;"
	    " boundary=b\r\n\r\nx\r\n--b\r\nC: 3\r\n\r\ny\r\n";
	struct mime *m = mime_new(&usual);
	struct recorder r;

	(void)state;
	recorder_init(&r, m);
	r.stop_at = "B";
	for (size_t i = 1; i <= sizeof text - 1; i++) {
		walk(&r, view_of(text), i, 7);
		assert_string_equal(buf_cstr(&r.out),
		    "begin 0 primary depth=0 at=0\n"
		    "P 0+6 [A: 1]\nP 6+6 [B: 2]\n");
	}
	/* Headers are told to a stage that wants no lines. */
	r.stop_at = NULL;
	r.quiet = true;
	walk(&r, view_of(text), sizeof text, 1);
	assert_non_null(strstr(buf_cstr(&r.out), "[C: 3]"));
	assert_null(strstr(buf_cstr(&r.out), "[y]"));
	buf_free(&r.out);
	mime_free(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(folded),
		cmocka_unit_test(header_not_ended),
		cmocka_unit_test(multipart),
		cmocka_unit_test(outer_boundary_ends_inner),
		cmocka_unit_test(nested),
		cmocka_unit_test(boundary_forms),
		cmocka_unit_test(boundary_lines),
		cmocka_unit_test(ambiguous_boundary),
		cmocka_unit_test(boundary_without_empty_line),
		cmocka_unit_test(strays),
		cmocka_unit_test(long_lines),
		cmocka_unit_test(long_header),
		cmocka_unit_test(limits),
		cmocka_unit_test(one_part),
		cmocka_unit_test(octets),
		cmocka_unit_test(stop_and_quiet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
