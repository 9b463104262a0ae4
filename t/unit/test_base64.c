/* link: filters */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "filters/base64.h"
#include "lib/buf.h"

static const enum base64_padding readings[] = { BASE64_GOES_ON, BASE64_STOPS,
	BASE64_IS_GARBAGE };

/* What is found in text, given by lines or with its line ends, in pieces. */
static struct condition_set
found(struct view text, enum base64_padding padding, bool lines, size_t cut)
{
	struct base64 b;
	char *out = malloc(BASE64_ROOM(cut));
	struct condition_set said;

	assert_non_null(out);
	base64_begin(&b, padding);
	while (text.n > 0) {
		size_t n = view_find(text, '\n');
		struct view line = view_head(text, lines ? n : text.n);

		text = view_from(text, lines ? n + 1 : text.n);
		for (; line.n > 0; line = view_from(line, cut))
			(void)base64_decode(&b, view_head(line, cut), out);
		if (lines)
			base64_line_end(&b);
	}
	(void)base64_end(&b, out);
	said = b.conditions;
	free(out);
	return said;
}

/* In all readings, however it comes. */
static void
expect(const char *text, enum mime_condition c)
{
	struct condition_set s;
	struct view v = view_of(text);
	size_t i, cut;

	for (i = 0; i < 3; i++)
		for (cut = 1; cut < 100; cut += 33) {
			s = found(v, readings[i], true, cut);
			if (condition_has(s, MIME_BASE64_PADDING) !=
			    (c == MIME_BASE64_PADDING) ||
			    condition_has(s, MIME_BASE64_FOOTER) !=
			    (c == MIME_BASE64_FOOTER))
				fail_msg("reading %zu by %zu: %s", i, cut,
				    text);
		}
}

#define BODY	"SGVsbG8sIHdvcmxkIQ==\r\n"

static const char *const footers[] = {
	BODY "_______________________________________________\r\n"
	"Python-list mailing list\r\nPython-list@python.example\r\n"
	"https://mail.python.example/mailman/listinfo/python-list\r\n",
	BODY "\r\n-- \r\nTo leave: https://list.example/leave?list=club&id=17\r\n",
	"SGk=\r\n==========\r\nclub\r\n==========\r\n",
	"SGk=\r\nunsubscribe\r\n",
	"SGk=\r\nAbmeldung von der Mannschaftsmeisterschaftsliste:\r\n"
	"mailto:meister-request@verein.example?subject=unsubscribe\r\n",
	"SGk=\r\n\xd0\x9e\xd1\x82\xd0\xbf\xd0\xb8\xd1\x81\xd0\xb0\xd1\x82\xd1"
	"\x8c\xd1\x81\xd1\x8f: https://list.example/x\r\n",
	"SGk=\r\n\x1b$B%a!<%j%s%0%j%9%H\x1b(B list@list.example\r\n",
};

static const char *const data[] = {
	/* on the line of the padding */
	"SGk=SGk=\r\n", "SGk= SGk=\r\n", "SGk=x\r\n", "====SGk\r\n",
	/* padded again */
	"SGk=\r\nSGk=\r\n", "SGk=\r\nS G k=\r\n", "SGk=\r\nSGk=x\r\n",
	"SGk=\r\nSGk =\r\nSGk ==\r\nSGk=\r\n",
	"SGk=\r\nlist-owner@x.example\r\nSGk==\r\n-- \r\n",
	/* a line of it, as encoders write it */
	"SGk=\r\nw6TDtsO8w5/DpMO2w7zDn8Okw7bDvMOfw6TDtsO8w5/DpMO2w7zD\r\n",
	/* text: "Hello, wonderful world", at each place of a group */
	"SGk=\r\nSGVsbG8sIHdvbmRl cmZ1bCB3b3JsZA\r\n",
	"SGk=\r\n- A SGVsbG8sIHdvbmRl cmZ1bCB3b3JsZA\r\n",
	"SGk=\r\n- AA SGVsbG8sIHdvbmRl cmZ1bCB3b3JsZA\r\n",
	"SGk=\r\n- AAA SGVsbG8sIHdvbmRl cmZ1bCB3b3JsZA\r\n",
	"SGk=\r\nS.G.V.s b-G-8-s I_H_d_v b!m!R!l cmZ!1bC B3b 3-JsZA\r\n",
	("SGk=\r\nS\r\nG\r\nV\r\ns\r\nb\r\nG\r\n8\r\ns\r\nI\r\nH\r\nd\r\nv\r\nb\r\n"
	"m\r\nR\r\nl\r\nc\r\nm\r\nZ\r\n1\r\nb\r\nC\r\nB\r\n3\r\nb\r\n"),
	/* each piece padded, which other characters hide */
	"SGk=\r\nSGVsbA.= bywgdw.= b25kZQ.= cmZ1bA.= IHdvcg.= bGQ.=\r\n",
	/* the same in UTF-16 */
	"SGk=\r\nSABlAGwAbABvACwA IAB3AG8AcgBsAGQA\r\n",
};

static void
list_footers(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof footers / sizeof footers[0]; i++)
		expect(footers[i], MIME_BASE64_FOOTER);
	expect(BODY, MIME_CONDITION_NONE);
	expect(BODY "\r\n--- ... ---\r\n", MIME_CONDITION_NONE);
}

static void
data_behind(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof data / sizeof data[0]; i++)
		expect(data[i], MIME_BASE64_PADDING);
}

static void
without_lines(void **state)
{
	struct condition_set s;

	(void)state;
	s = found(view_of(footers[0]), BASE64_GOES_ON, false, 100);
	assert_true(condition_has(s, MIME_BASE64_PADDING));
}

static void
long_footer(void **state)
{
	struct buf b;
	size_t n = 0;

	(void)state;
	buf_init(&b, 65536);
	assert_true(buf_puts(&b, "SGk=\n"));
	for (; n + 7 < BASE64_FOOTER_MAX; n += 7)
		assert_true(buf_puts(&b, "a b-c. "));
	for (; n + 1 < BASE64_FOOTER_MAX; n++)
		assert_true(buf_putc(&b, '.'));
	assert_true(buf_putc(&b, 'x'));
	expect(buf_cstr(&b), MIME_BASE64_FOOTER);
	/* what is no base64 does not count */
	assert_true(buf_puts(&b, "....\n"));
	expect(buf_cstr(&b), MIME_BASE64_FOOTER);
	assert_true(buf_puts(&b, "a"));
	expect(buf_cstr(&b), MIME_BASE64_PADDING);
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(list_footers),
		cmocka_unit_test(data_behind),
		cmocka_unit_test(without_lines),
		cmocka_unit_test(long_footer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
