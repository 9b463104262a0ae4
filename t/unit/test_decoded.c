/* link: filters */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "filters/html.h"
#include "lib/log.h"
#include "t/unit/judge_help.h"

/*
 * decoded_header_checks and decoded_body_checks: the rule looks for a word,
 * and the messages write it in all ways in which a reader sees it.
 */
#define RULE	"pcre:{ {/^Subject: .*(magic|na\xc3\xafve) word\\b/ REJECT} }"
#define LINE	"pcre:{ {/(magic|na\xc3\xafve) word\\b/ REJECT} }"
#define V	"MIME-Version: 1.0\r\n"
#define TEXT(type, encoding, body) V "Content-Type: text/" type "\r\n"	     \
	"Content-Transfer-Encoding: " encoding "\r\n\r\n" body
#define S	"Subject: "

static const char *const headers[] = {
	S "the magic word\r\n\r\n",
	S "the magic\r\n word\r\n\r\n",
	S "=?utf-8?q?the_m=61gic_word?=\r\n\r\n",
	S "=?us-ascii?b?dGhlIG1hZ2ljIHdvcmQ=?=\r\n\r\n",
	S "=?utf-8?q?the_ma?=\r\n =?utf-8?b?Z2ljIHdvcmQ=?=\r\n\r\n",
	S "=?iso-8859-1?q?na=EFve?= word\r\n\r\n",
	S "=?UTF-8*EN?Q?na=c3=afve?= word\r\n\r\n",
	/* a character cut in two */
	S "=?utf-8?q?na=c3?= =?utf-8?q?=afve?= word\r\n\r\n",
	/* raw, in either */
	S "na\xc3\xafve word\r\n\r\n",
	S "na\xefve word\r\n\r\n",
	/* of a part, and of an attached message */
	V "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nSubject: "
	"=?utf-8?q?magic_word?=\r\n\r\n--b--\r\n",
	V "Content-Type: message/rfc822\r\n\r\nSubject: =?utf-8?q?magic_?=\r\n"
	" =?utf-8?q?word?=\r\n\r\n",
};

static const char *const other_headers[] = {
	S "the =?utf-8?q?magic?= sword\r\n\r\n",
	"X-Subject: the magic word\r\n\r\n",
	S "x\r\n\r\nSubject: the magic word\r\n",
};

static const char *const bodies[] = {
	"\r\nthe magic word\r\n",
	TEXT("plain", "7bit", "magic word"),
	TEXT("plain", "base64", "dGhlIG1hZ2ljIHdvcmQ=\r\n"),
	TEXT("plain", "base64", "dG\r\nhlIG1hZ2\r\nljIHdvcmQ=\r\n"),
	TEXT("plain", "quoted-printable", "the m=61gic wo=\r\nrd\r\n"),
	TEXT("plain; charset=iso-8859-1", "8bit", "na\xefve word\r\n"),
	TEXT("plain; charset=iso-8859-1", "quoted-printable",
	"na=EFve word\r\n"),
	TEXT("plain; charset=utf-8", "8bit", "na\xc3\xafve word\r\n"),
	/* no charset, or the wrong one */
	TEXT("plain", "8bit", "na\xefve word\r\n"),
	TEXT("plain; charset=us-ascii", "8bit", "na\xc3\xafve word\r\n"),
	TEXT("plain; charset=utf-7", "7bit", "na+AO8-ve wor+AGQ-\r\n"),
	/* "magic word" in UTF-16, of each order, with a mark and without */
	TEXT("plain; charset=utf-16le", "base64",
	"bQBhAGcAaQBjACAAdwBvAHIAZAAKAA==\r\n"),
	TEXT("plain; charset=UTF16BE", "base64",
	"AG0AYQBnAGkAYwAgAHcAbwByAGQACg==\r\n"),
	TEXT("plain; charset=\"utf-16\"", "base64",
	"/v8AbQBhAGcAaQBjACAAdwBvAHIAZAAK\r\n"),
	TEXT("plain", "base64", "//5tAGEAZwBpAGMAIAB3AG8AcgBkAAoA\r\n"),
	/* HTML */
	TEXT("html", "7bit", "<p>the ma<b>g</b>ic <i>word</i></p>\r\n"),
	TEXT("html", "7bit", "ma<!-- x > y -->gic\r\nword"),
	TEXT("html", "7bit", "ma<span\r\n title='a > b' x>gic</span> word"),
	TEXT("html", "7bit", "&#109;&#x61;gic&nbsp;&#119&#111&#114&#100;"),
	TEXT("html", "7bit", "mag&shy;ic w&#x200b;ord"),
	TEXT("html; charset=utf-8", "8bit",
	"ma\xe2\x80\x8bgic wo\xc2\xadrd"),
	TEXT("html", "7bit", "na&iuml;ve word"),
	TEXT("html", "7bit", "<script>var x = '</p>' < 1;</script>magic word"),
	TEXT("html", "base64", "bTxiPmE8L2I+Z2ljIHdvcmQ=\r\n"),
	TEXT("html", "7bit", "<a href=\"http://x/?magic word\">x</a>"),
	/* behind a file, in a part, in a message in base64 */
	V "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type"
	": a/b\r\n\r\nx\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
	"bWFnaWMgd29yZA==\r\n--b--\r\n",
	V "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64"
	"\r\n\r\nU3ViamVjdDogeA0KDQptYWdpYyB3b3JkDQo=\r\n",
	/* each reading counts */
	TEXT("plain", "7bit\r\nContent-Transfer-Encoding: base64",
	"bWFnaWMgd29yZA==\r\n"),
};

static const char *const other_bodies[] = {
	"Subject: magic word\r\n\r\nmagic sword\r\n",
	/* no text */
	V "Content-Type: image/png\r\n\r\nmagic word\r\n",
	/* not shown in one line */
	TEXT("html", "7bit", "<p>magic</p><p>word</p>"),
	TEXT("html", "7bit", "<table><tr><td>magic<td>word</table>"),
	TEXT("html", "7bit", "<style>magic\r\nword</style>"),
	TEXT("plain", "base64", "bWFnaWM=\r\n"),
	TEXT("plain", "7bit", "bWFnaWMgd29yZA==\r\n"),
	TEXT("plain; charset=utf-16be", "base64",
	"bQBhAGcAaQBjACAAdwBvAHIAZAAKAA==\r\n"),
};

static void
each(const char *settings, const char *const *list, size_t n,
    enum action expect)
{
	struct judge g;
	size_t i;

	judge_open(&g, settings);
	for (i = 0; i < n; i++)
		if (judge_text(&g, view_of(list[i])) != expect)
			fail_msg("%s:\n%s", action_name(expect), list[i]);
	judge_close(&g);
}

#define EACH(settings, list, expect)					     \
	each(settings, list, sizeof list / sizeof list[0], expect)

static void
header_lines(void **state)
{
	(void)state;
	EACH("decoded_header_checks = " RULE "\n", headers, ACTION_REJECT);
	EACH("decoded_header_checks = " RULE "\n", other_headers, ACTION_OK);
	EACH("decoded_header_checks = " RULE "\n", bodies, ACTION_OK);
}

static void
body_lines(void **state)
{
	(void)state;
	EACH("decoded_body_checks = " LINE "\n", bodies, ACTION_REJECT);
	EACH("decoded_body_checks = " LINE "\n", other_bodies, ACTION_OK);
	each("decoded_body_checks = " LINE "\n", other_headers, 2, ACTION_OK);
}

/* The raw ones see none of it but what is written so. */
static void
raw_lines(void **state)
{
	(void)state;
	each("body_checks = " LINE "\n", bodies + 2, 2, ACTION_OK);
	each("header_checks = " RULE "\n", headers + 2, 3, ACTION_OK);
}

/* A header can be edited, though the decoded form matched. */
static void
header_edits(void **state)
{
	struct judge g;

	(void)state;
	judge_open(&g, "decoded_header_checks = pcre:{ {/magic/ REPLACE "
	    "Subject: other} }\n");
	assert_int_equal(judge_text(&g, view_of("Subject: =?utf-8?q?m=61gic?="
	    "\r\n\r\nx\r\n")), ACTION_OK);
	assert_int_equal(g.j.edits.n, 1);
	assert_int_equal(g.j.edits.list[0].offset, 0);
	assert_true(view_is(g.j.edits.list[0].insert, "Subject: other"));
	assert_int_equal(g.j.edits.list[0].remove, 28);
	judge_close(&g);
}

static unsigned errors;

static void
count(bool error, const char *text, void *arg)
{
	(void)arg;
	errors += error;
	assert_non_null(strstr(text, "decoded text cannot be changed"));
}

/* Text that is not in the message cannot be changed there. */
static void
body_edits(void **state)
{
	static const char *const edits[] = { "REPLACE x", "PREPEND x",
		"STRIP", "IGNORE" };
	struct conf *conf;
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 4096);
	for (i = 0; i < sizeof edits / sizeof edits[0]; i++) {
		buf_clear(&b);
		buf_printf(&b, "decoded_body_checks = pcre:{ {/x/ %s} }\n",
		    edits[i]);
		conf = conf_parse(buf_view(&b), "main.cf", judge_report,
		    NULL);
		errors = 0;
		assert_null(engine_open(conf, count, NULL));
		assert_int_equal(errors, 1);
		conf_free(&conf);
	}
	buf_free(&b);
}

static void
limits(void **state)
{
	struct judge g;
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 1u << 20);
	judge_open(&g, "decoded_body_checks = " LINE "\n"
	    "body_checks_size_limit = 1000\n");
	/* in sight */
	buf_puts(&b, "\r\n");
	for (i = 0; i < 97; i++)
		buf_puts(&b, "12345678\r\n");
	buf_puts(&b, "magic word\r\n");
	assert_int_equal(judge_text(&g, buf_view(&b)), ACTION_REJECT);
	/* beyond the limit */
	b.n -= 12;
	for (i = 0; i < 3; i++)
		buf_puts(&b, "12345678\r\n");
	buf_puts(&b, "magic word\r\n");
	assert_int_equal(judge_text(&g, buf_view(&b)), ACTION_OK);
	judge_close(&g);
	/* long lines come in pieces; each of them is asked */
	judge_open(&g, "decoded_body_checks = pcre:{ {/^magic/ REJECT} }\n"
	    "line_length_limit = 512\n");
	buf_clear(&b);
	buf_puts(&b, "\r\n");
	for (i = 0; i < 512; i++)
		buf_putc(&b, 'x');
	buf_puts(&b, "magic");
	for (i = 0; i < 100000; i++)
		buf_putc(&b, 'y');
	assert_int_equal(judge_text(&g, buf_view(&b)), ACTION_REJECT);
	judge_close(&g);
	/* a megabyte of kanji in a charset that switches, without line ends */
	judge_open(&g, "decoded_body_checks = " LINE "\n"
	    "body_checks_size_limit = 0\n");
	buf_clear(&b);
	buf_puts(&b, TEXT("html; charset=iso-2022-jp", "7bit", "\x1b$B"));
	for (i = 0; i < 400000; i++)
		buf_puts(&b, "$\"");
	buf_puts(&b, "\x1b(B\r\n<!--&#x\r\nmagic word");
	assert_int_equal(judge_text(&g, buf_view(&b)), ACTION_REJECT);
	judge_close(&g);
	buf_free(&b);
}

/* -- HTML ------------------------------------------------------------------ */

static void
add_line(struct view line, void *arg)
{
	struct buf *b = arg;

	assert_true(line.n > 0);
	assert_true(buf_putv(b, line) && buf_putc(b, '|'));
}

static void
shown(const char *source, const char *expect)
{
	static struct html h;
	struct buf b;
	size_t cut, n = strlen(source);

	for (cut = 1; cut <= n; cut += n > 8 ? n - 1 : 1) {
		struct view v = view_of(source);

		buf_init(&b, 65536);
		html_begin(&h, add_line, &b);
		for (; v.n > 0; v = view_from(v, cut))
			html_feed(&h, view_head(v, cut));
		html_end(&h);
		assert_string_equal(buf_cstr(&b), expect);
		buf_free(&b);
	}
}

static void
html_text(void **state)
{
	(void)state;
	shown("", "");
	shown("a  b\t\r\nc", "a b c|");
	shown("<p>a<br/>b<BR >c</p>", "a|b|c|");
	shown("a < b, a<b>c</b>, 1<2", "a < b, ac, 1<2|");
	shown("&lt;p&gt; &amp;amp; &unknown; & &;", "<p> &amp; &unknown & &|");
	shown("&#65&#x42;&#0;&#1114112;&#xd800;&#99999999999;", "AB|");
	shown("a<!-->b<!-- --!>c<!--- x --->d<!doctype x>e<?y?>f", "abcdef|");
	shown("<style>x</STYLE>a<script>'</scrip' </script >b", "ab|");
	shown("<b title=\"a>b\" c='>'>d", "d|");
	shown("<a", "");
	shown("x<!--", "x|");
	shown("&#x", "&#x|");
	shown("\xe2\x80\x8b\xc3\xa9\xc2\xa0\xe2\x82\xac\xf0\x9f\x98\x80",
	    "\xc3\xa9 \xe2\x82\xac\xf0\x9f\x98\x80|");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_lines),
		cmocka_unit_test(body_lines),
		cmocka_unit_test(raw_lines),
		cmocka_unit_test(header_edits),
		cmocka_unit_test(body_edits),
		cmocka_unit_test(limits),
		cmocka_unit_test(html_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
