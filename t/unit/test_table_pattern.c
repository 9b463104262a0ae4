#include "rules/verdict.h"
#include "t/unit/table_help.h"

/* What both kinds of pattern have in common */
static void
patterns(const char *type)
{
	struct table *t = open_text(type,
	    "# comment\n"
	    "/^Subject:.*ILOVEYOU/\tREJECT\n"
	    "/^(.*)name=\"?(.*)\\.(bat|exe)\"?(.*)$/ 550 No .$3 in ${2}.$(3)!\n"
	    "~/slash~ pay $$5\n"
	    "  and\n"
	    "# in between\n"
	    "\n"
	    "\tmore\n"
	    "=a\\=b=\tequals\n"
	    "/Case/i\tsensitive\n"
	    "if /^x/\n"
	    "if !/^xy/\n"
	    "/z$/ xz\n"
	    "endif\n"
	    "!/1/ no one\n"
	    "endif\n"
	    "! ! /twice/ even\n"
	    "/^(q)|(or)$/ <$1$2>\n"
	    "/^l1$/m multi\n"
	    "/^never$/ last");

	expect(t, "subject: fwd: iloveyou", "REJECT", 2);
	expect(t, "Content-Type: a; name=\"x.Exe\"", "550 No .Exe in x.Exe!",
	    3);
	expect(t, "a/slash", "pay $5  and\tmore", 4);
	expect(t, "xa=b", "equals", 9);
	expect(t, "Case", "sensitive", 10);
	expect(t, "case", NULL, 0);
	expect(t, "x1z", "xz", 13);
	expect(t, "xy1z", NULL, 0);
	expect(t, "xy", "no one", 15);
	expect(t, "twice", "even", 17);
	expect(t, "q", "<q>", 18);
	expect(t, "nor", "<or>", 18);
	expect(t, "a\nl1\nb", "multi", 19);
	expect(t, "a\nnever\nb", NULL, 0);
	expect(t, "never", "last", 20);
	expect(t, "", NULL, 0);
	/* a key is bytes, and ends where it ends */
	expect_bytes(t, view_make("never mind", 5), "last", 20);
	expect_bytes(t, view_make("x\0z", 3), "xz", 13);
	assert_true(table_is_pattern(t));
	table_free(&t);

	t = open_text(type, "!/a/ not a\n/./ some\n");
	expect(t, "", "not a", 1);
	expect(t, "b", "not a", 1);
	expect(t, "a", "some", 2);
	table_free(&t);

	/* the literal start of a pattern is compared before the rest */
	t = open_text(type,
	    "/^a|b/ 1\n/^ca*d/ 2\n/^[(]e|f/ 3\n/^g\\.h(i|j)/ 4\n"
	    "/^kl[]|)]m/ 5\n/^no{0,1}p/ 6\n/^Q?r/ 7\n/^st+/ 8\n"
	    "/^(u)v|w/ 9\n/^XY/i 10\n/^x[yz]|[12]$/ 11\n/^%@`~/ 12\n");
	expect(t, "ab", "1", 1);
	expect(t, "xb", "1", 1);
	expect(t, "CD", "2", 2);
	expect(t, "caad", "2", 2);
	expect(t, "(e", "3", 3);
	expect(t, "xf", "3", 3);
	expect(t, "G.Hj", "4", 4);
	expect(t, "gxhj", NULL, 0);
	expect(t, "kl|m", "5", 5);
	expect(t, "np", "6", 6);
	expect(t, "R", "7", 7);
	expect(t, "STT", "8", 8);
	expect(t, "ts", NULL, 0);
	expect(t, "1w", "9", 9);
	expect(t, "XY", "10", 10);
	expect(t, "Xy", "11", 11);
	expect(t, "k2", "11", 11);
	expect(t, "%@`~", "12", 12);
	expect(t, "%``~", NULL, 0);
	expect(t, "%@@~", NULL, 0);
	expect(t, "s", NULL, 0);
	table_free(&t);
	t = open_text(type, "/^a literal start of over 23 bytes/ long\n");
	expect(t, "A literal start of over 23 bytes, too", "long", 1);
	expect(t, "A literal start of over 24 bytes", NULL, 0);
	expect(t, "A literal", NULL, 0);
	table_free(&t);

	refuse_text(type, "/a/ b\n/c/\n", "table:2: no result");
	refuse_text(type, "/a b\n", "table:1: no closing");
	refuse_text(type, "/a\\/ b\n", "table:1: no closing");
	refuse_text(type, "/a/q b\n", "unknown regexp option \"q\"");
	refuse_text(type, "/a(/ b\n", "table:1: ");
	refuse_text(type, "/a[/ b\n", "table:1: ");
	refuse_text(type, "/a/ $1\n", "table:1: $1 in the result");
	refuse_text(type, "/(a)/ $2\n", "table:1: $2 in the result");
	refuse_text(type, "/(a)/ $100\n", "table:1: bad replacement");
	refuse_text(type, "/(a)/ $0\n", "table:1: bad replacement");
	refuse_text(type, "/(a)/ $1x\n", "table:1: bad replacement");
	refuse_text(type, "/(a)/ ${1\n", "table:1: bad replacement");
	refuse_text(type, "/(a)/ cost $\n", "table:1: bad replacement");
	refuse_text(type, "!/(a)/ $1\n", "table:1: $1 in the result of a neg");
	refuse_text(type, "!\n", "table:1: no regexp");
	refuse_text(type, "!apata x\n", "table:1: \"a\" cannot be");
	refuse_text(type, "if\nendif\n", "table:1: no regexp");
	refuse_text(type, "reject all\n", "table:1: not a rule");
	refuse_text(type, "iffy /a/\n", "table:1: not a rule");
	refuse_text(type, "if /a/\n/b/ c\n", "table:1: if without endif");
	refuse_text(type, "/b/ c\nendif\n", "table:2: endif without if");
	refuse_text(type, "if /a/\n  /b/ c\nendif\n", "table:1: text after if");
	refuse_text(type, "if /a/\nendif if\n", "table:2: text after endif");
	refuse_text(type, "  /a/ b\n", "table:1: a logical line");
	/* all mistakes are reported at once */
	refuse_text(type, "/a/\n/b(/ c\n/d/ e\nfoo\n", "table:4: not a rule");
	assert_int_equal(errors, 3);

	write_file("table", "/a/ b\n/c\0/ d\n", 13);
	t = try_spec(strcmp(type, "pcre") == 0 ? "pcre:table" :
	    "regexp:table");
	assert_null(t);
	assert_non_null(strstr(reported, "table:2: there is a NUL"));
}

static void
posix_patterns(void **state)
{
	struct table *t;

	(void)state;
	patterns("regexp");
	t = open_text("regexp",
	    "/foo/!/bar/i yes\n"
	    "/f(o+)/!!/Z/i $1\n"
	    "/f(o+)/ !/Z/ text\n"
	    "/a|b|ab+/x basic\n");
	expect(t, "xfoo", "yes", 1);
	expect(t, "fooBar", "yes", 1);
	expect(t, "fooobarZ", "ooo", 2);
	expect(t, "fooobar", "!/Z/ text", 3);
	expect(t, "a|b|ab+", "basic", 4);
	expect(t, "ab", NULL, 0);
	table_free(&t);
	/* leftmost longest, as POSIX says */
	t = open_text("regexp", "/(a|ab)(c|bcd)?/ $1,$2\n");
	expect(t, "abcd", "a,bcd", 1);
	table_free(&t);
	refuse_text("regexp", "/a/s b\n", "unknown regexp option \"s\"");
	refuse_text("regexp", "/a/! b\n", "table:1: ");
	refuse_text("regexp", "/a/!/b( c\n", "table:1: no closing");
}

static void
pcre_patterns(void **state)
{
	struct table *t;

	(void)state;
	patterns("pcre");
	t = open_text("pcre",
	    "/^a.b$/ dot\n"
	    "/^c.d$/s line\n"
	    "/e  f # g/x extended\n"
	    "/h/A anchored\n"
	    "/^i$/E end\n"
	    "/j(.+)k/U <$1>\n"
	    "/^(?!owner-)(.*)-outgoing@(.*)/ 550 Use ${1}@${2} instead\n");
	expect(t, "a\nb", "dot", 1);
	expect(t, "c\nd", NULL, 0);
	expect(t, "c.d", "line", 2);
	expect(t, "EF", "extended", 3);
	expect(t, "ah", NULL, 0);
	expect(t, "ha", "anchored", 4);
	expect(t, "i\n", NULL, 0);
	expect(t, "i", "end", 5);
	expect(t, "j1k2k", "<1>", 6);
	expect(t, "list-outgoing@x", "550 Use list@x instead", 7);
	expect(t, "owner-list-outgoing@x", NULL, 0);
	table_free(&t);
	t = open_text("pcre", "/a/X b\n");
	assert_int_equal(warnings, 1);
	table_free(&t);
	refuse_text("pcre", "/a/!/b/ c\n", "unknown regexp option \"!\"");
	refuse_text("pcre", "/(?<a/ c\n", "error in regex at offset");
	/* text of a stranger against a pattern in UTF mode */
	t = open_text("pcre", "/(*UTF)\xc3\xa4+/ umlaut\n");
	expect(t, "\xff\xfe\xc3\x84\xff", "umlaut", 1);
	expect(t, "\xff\xc3", NULL, 0);
	table_free(&t);
	t = open_text("pcre", "/(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)/ $11$10\n");
	expect(t, "abcdefghijk", "kj", 1);
	table_free(&t);
}

/* A pattern that would need ages counts as not matching, and only it. */
static void
match_limits(void **state)
{
	struct table *t;

	(void)state;
	table_pattern_limits(5000);
	t = open_text("pcre", "/^(a+)+$/ slow\n!/^(a+)+$/ negated\n"
	    "if !/^(a+)+$/\n/b/ inside\nendif\n/b$/ next\n");
	assert_int_equal(table_limit_hits(t), 0);
	expect(t, "aaaa", "slow", 1);
	expect(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "next", 6);
	assert_int_equal(table_limit_hits(t), 3);
	expect(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "next", 6);
	assert_int_equal(table_limit_hits(t), 6);
	table_free(&t);
	table_pattern_limits(1000000);
	t = open_spec("static:x");
	assert_int_equal(table_limit_hits(t), 0);
	table_free(&t);
}

/* More than the stack of compiled code can take is no way around a rule. */
static void
long_key(void **state)
{
	struct table *t = open_text("pcre", "/^((a|b)(c|d))*$/ all\n");
	struct buf key;

	(void)state;
	buf_init(&key, 100000);
	for (int i = 0; i < 20000; i++)
		assert_true(buf_puts(&key, i % 2 ? "ac" : "bd"));
	expect_bytes(t, buf_view(&key), "all", 1);
	assert_int_equal(table_limit_hits(t), 0);
	assert_true(buf_putc(&key, 'x'));
	expect_bytes(t, buf_view(&key), NULL, 0);
	buf_free(&key);
	table_free(&t);
}

static void
small_value(void **state)
{
	struct table *t = open_text("regexp", "/(.*)/ $1$1\n");
	struct buf value;
	unsigned line;

	(void)state;
	buf_init(&value, 7);
	assert_int_equal(table_find(t, view_of("abc"), &value, &line),
	    TABLE_FOUND);
	assert_int_equal(table_find(t, view_of("abcd"), &value, &line),
	    TABLE_FAILED);
	assert_int_equal(value.n, 0);
	buf_free(&value);
	table_free(&t);
}

static void
find_again(void **state)
{
	struct table *t = open_text("regexp", "/a/ 1\nif /b/\n/c/ 2\n"
	    "/a/ 3\nendif\n/a/ 4\n");
	struct buf value;
	size_t pos = 0;
	unsigned line;

	(void)state;
	buf_init(&value, 100);
	assert_int_equal(table_find_from(t, &pos, view_of("abc"), &value,
	    &line), TABLE_FOUND);
	assert_int_equal(line, 1);
	assert_int_equal(table_find_from(t, &pos, view_of("abc"), &value,
	    &line), TABLE_FOUND);
	assert_int_equal(line, 3);
	assert_true(view_is(buf_view(&value), "2"));
	assert_int_equal(table_find_from(t, &pos, view_of("abc"), &value,
	    &line), TABLE_FOUND);
	assert_int_equal(line, 4);
	assert_int_equal(table_find_from(t, &pos, view_of("abc"), &value,
	    &line), TABLE_FOUND);
	assert_int_equal(line, 6);
	assert_int_equal(table_find_from(t, &pos, view_of("abc"), &value,
	    &line), TABLE_NOT_FOUND);
	assert_int_equal(table_find_from(t, &pos, view_of("abc"), &value,
	    &line), TABLE_NOT_FOUND);
	table_free(&t);
	t = open_spec("static:x");
	pos = 0;
	assert_int_equal(table_find_from(t, &pos, view_of("a"), &value,
	    &line), TABLE_FOUND);
	assert_int_equal(table_find_from(t, &pos, view_of("a"), &value,
	    &line), TABLE_NOT_FOUND);
	table_free(&t);
	buf_free(&value);
}

static void
inline_patterns(void **state)
{
	struct table *t = open_spec("regexp:{ { /^a{2}$/ two }, "
	    "{if /b/} {/c/ bc}\t{endif} }");

	(void)state;
	expect(t, "aa", "two", 1);
	expect(t, "bc", "bc", 3);
	expect(t, "c", NULL, 0);
	assert_null(table_file(t));
	table_free(&t);
	refuse_spec("regexp:{/a/ b}", "needs braces");
	refuse_spec("regexp:{{/a/ b}", "braces do not balance");
	refuse_spec("pcre:{{/a/}}", ":1: no result");
}

static bool
samples(const char *text)
{
	struct table *t = open_text("pcre", text);
	bool ok = table_check_samples(t, report, NULL);

	table_free(&t);
	return ok;
}

static void
sample_comments(void **state)
{
	struct table *t;

	(void)state;
	assert_true(samples(
	    "# match: Subject: ILOVEYOU\n"
	    "# pass:  Subject: hello  \n"
	    "#\n"
	    "# MATCH: subject: iloveyou too\n"
	    "/^Subject:.*ILOVEYOU/\n"
	    "# match: xfoo\n"
	    "\tREJECT\n"
	    "# match: not a sample\n"
	    "# of this rule\n"
	    "/foo|not a sample/ REJECT\n"
	    "# match: x\n"
	    "# pass: y\n"
	    "if /x/\n"
	    "# match: y\n"
	    "# pass: z\n"
	    "!/z/ OK\n"
	    "endif\n"));
	assert_false(samples("/a/ b\n# match: x\n# pass: d\n/d/ e\n"));
	assert_int_equal(errors, 2);
	assert_non_null(strstr(reported,
	    "table:2: this sample does not match the rule on line 4"));
	assert_non_null(strstr(reported,
	    "table:3: this sample should pass, but matches"));
	assert_false(samples("/a/ b\n# match: a\n"));
	assert_non_null(strstr(reported, "table:2: no rule follows"));
	t = open_spec("static:x");
	assert_true(table_check_samples(t, report, NULL));
	table_free(&t);
}

/* The rule files we ship: their samples hold in both kinds of table. */
static void
stock_rules(void **state)
{
	static const char *const stock[] = {
		"regexp:rules/stock/header_checks",
		"pcre:rules/stock/header_checks",
		"regexp:rules/stock/body_checks",
		"pcre:rules/stock/body_checks",
		"regexp:rules/stock/attachment_checks",
		"pcre:rules/stock/attachment_checks"
	};

	(void)state;
	for (size_t i = 0; i < sizeof(stock) / sizeof(stock[0]); i++) {
		struct table *t;

		reported[0] = '\0';
		t = table_open(view_of(stock[i]), ".", report, NULL);
		if (t == NULL || !table_check_samples(t, report, NULL) ||
		    !verdict_check_table(t, DIALECT_CHECKS, report, NULL))
			fail_msg("%s", reported);
		assert_string_equal(reported, "");
		table_free(&t);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(posix_patterns),
		cmocka_unit_test(pcre_patterns),
		cmocka_unit_test(match_limits),
		cmocka_unit_test(long_key),
		cmocka_unit_test(small_value),
		cmocka_unit_test(find_again),
		cmocka_unit_test(inline_patterns),
		cmocka_unit_test(sample_comments),
		cmocka_unit_test(stock_rules),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
