#include "t/unit/table_help.h"

static void
statics(void **state)
{
	struct table *t = open_spec("static:OK");

	(void)state;
	expect(t, "anything", "OK", 0);
	expect(t, "", "OK", 0);
	assert_null(table_file(t));
	assert_string_equal(table_name(t), "static:OK");
	assert_string_equal(table_origin(t), "static:OK");
	assert_false(table_is_pattern(t));
	table_free(&t);
	assert_null(t);
	table_free(&t);
	t = open_spec("static:{ two words }");
	expect(t, "x", "two words", 0);
	table_free(&t);
	refuse_spec("static:{x", "braces");
	refuse_spec("static:", "name of the table");
}

static void
inlines(void **state)
{
	struct table *t = open_spec("inline:{a=1, {Big Key = x = y}, c=,"
	    "\td={z}}");

	(void)state;
	expect(t, "a", "1", 0);
	expect(t, "A", "1", 0);
	expect(t, "big key", "x = y", 0);
	expect(t, "c", "", 0);
	expect(t, "d", "{z}", 0);
	expect(t, "e", NULL, 0);
	expect(t, "", NULL, 0);
	assert_null(table_file(t));
	table_free(&t);
	refuse_spec("inline:{a = 1}", "missing '=' after \"a\"");
	refuse_spec("inline:{a}", "missing '='");
	refuse_spec("inline:{=b}", "missing key");
	refuse_spec("inline:{}", "empty");
	refuse_spec("inline:{a=1", "inline:{key=value");
	refuse_spec("inline:a=1", "inline:{key=value");
	refuse_spec("inline:{a=1}x", "inline:{key=value");
	refuse_spec("inline:{{a=1}b=2}", "braces");
	refuse_spec("inline:{{a=1}", "inline:{key=value");
	refuse_spec("inline:{a=1, A=2}", "duplicate");
}

static void
texthashes(void **state)
{
	struct table *t = open_text("texthash",
	    "# a comment\n"
	    "user@Example.com  OK text\n"
	    "  # not the end\n"
	    "\n"
	    "   more text  \n"
	    "\"quoted key\"@x\t1\n"
	    "esc\\ aped 2\n"
	    "last value");
	char path[200];

	(void)state;
	expect(t, "USER@example.COM", "OK text   more text", 2);
	expect(t, "\"quoted key\"@x", "1", 6);
	expect(t, "esc\\ aped", "2", 7);
	expect(t, "last", "value", 8);
	expect(t, "las", NULL, 0);
	expect(t, "", NULL, 0);
	expect_bytes(t, view_make("last\0", 5), NULL, 0);
	snprintf(path, sizeof(path), "%s/table", dir);
	assert_string_equal(table_file(t), path);
	assert_string_equal(table_origin(t), path);
	assert_false(table_is_pattern(t));
	table_free(&t);

	refuse_text("texthash", "a 1\nb\n", "table:2: expected format: key whitespace value");
	refuse_text("texthash", "a 1\n\nA 2\n", "table:3: duplicate");
	refuse_text("texthash", "\"a 1\n", "table:1: unbalanced");
	refuse_text("texthash", "\n  a 1\n", "table:2: a logical line");
	t = open_text("texthash", "root: me\n");
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(reported, "table:1: record is in"));
	table_free(&t);
	t = open_text("texthash", "");
	expect(t, "a", NULL, 0);
	table_free(&t);
}

static void
texthash_of_many(void **state)
{
	struct buf text;
	struct table *t;
	char key[32], value[32];

	(void)state;
	buf_init(&text, 1u << 20);
	for (int i = 0; i < 5000; i++)
		assert_true(buf_printf(&text, "user%d@example.com %d\n", i,
		    i * 7));
	write_file("table", text.p, text.n);
	buf_free(&text);
	t = open_spec("texthash:table");
	for (int i = 0; i < 5000; i++) {
		snprintf(key, sizeof(key), "USER%d@example.com", i);
		snprintf(value, sizeof(value), "%d", i * 7);
		expect(t, key, value, (unsigned)i + 1);
	}
	expect(t, "user5000@example.com", NULL, 0);
	table_free(&t);
}

static void
cidrs(void **state)
{
	struct table *t = open_text("cidr",
	    "192.0.2.1\tOK\n"
	    "192.0.2.0/24 REJECT not\n"
	    "  here\n"
	    "if 10.0.0.0/8\n"
	    "!10.1.0.0/16 other\n"
	    "10.1.2.0/24 inner\n"
	    "endif\n"
	    "IF !172.16.0.0/12\n"
	    "[2001:db8::]/32 six\n"
	    "::ffff:198.51.100.0/120 mapped\n"
	    "ENDIF\n"
	    "10.1.9.9 after\n");

	(void)state;
	expect(t, "192.0.2.1", "OK", 1);
	expect(t, "192.0.2.2", "REJECT not  here", 2);
	expect(t, "::ffff:192.0.2.2", "REJECT not  here", 2);
	expect(t, "10.2.0.1", "other", 5);
	expect(t, "10.1.2.3", "inner", 6);
	expect(t, "10.1.9.9", "after", 12);
	expect(t, "198.51.100.7", "mapped", 10);
	/* "if" with a pattern of the other family is false, negated or not */
	expect(t, "2001:db8::1", NULL, 0);
	expect(t, "203.0.113.1", NULL, 0);
	expect(t, "[192.0.2.1]", NULL, 0);
	expect(t, "192.0.2", NULL, 0);
	expect(t, "unknown", NULL, 0);
	expect(t, "", NULL, 0);
	assert_false(table_is_pattern(t));
	table_free(&t);

	t = open_text("cidr", "[2001:db8::]/32 six\n!::/1 high\n");
	expect(t, "2001:DB8:0::1", "six", 1);
	expect(t, "fe80::1", "high", 2);
	expect(t, "::1", NULL, 0);
	expect(t, "1.2.3.4", NULL, 0);
	table_free(&t);
	t = open_spec("cidr:{{10.0.0.0/8 a}, {0.0.0.0/0 b}}");
	expect(t, "10.0.0.1", "a", 1);
	expect(t, "11.0.0.1", "b", 2);
	table_free(&t);

	refuse_text("cidr", "10.0.0.1/8 x\n", "table:1: bad network");
	refuse_text("cidr", "10.0.0.0/33 x\n", "table:1: bad network");
	refuse_text("cidr", "10.0.0/8 x\n", "table:1: bad address");
	refuse_text("cidr", "example.com x\n", "table:1: bad address");
	refuse_text("cidr", "10.0.0.0/8\n", "table:1: no result");
	refuse_text("cidr", "!\n", "table:1: no address");
	refuse_text("cidr", "if\nendif\n", "table:1: no address");
	refuse_text("cidr", "1.1.1.1 a\nif 10.0.0.0/8\n",
	    "table:2: if without endif");
	refuse_text("cidr", "1.1.1.1 a\nendif\n", "table:2: endif without if");
	refuse_text("cidr", "if 10.0.0.0/8\n  10.1.1.1 x\nendif\n",
	    "table:1: text after if");
	refuse_text("cidr", "if 10.0.0.0/8\nendif x\n",
	    "table:2: text after endif");
}

static void
specs(void **state)
{
	struct table *t;
	char path[200];

	(void)state;
	refuse_spec("regexp:missing", "missing: No such file or directory");
	refuse_spec("regexp:/no/such/file",
	    "/no/such/file: No such file or directory");
	refuse_spec("regexp:/", "/: Is a directory");
	refuse_spec("hash:/x", "/x: No such file or directory");
	refuse_spec("ftp://www.example.com", "unknown table type \"ftp\"");
	refuse_spec("/etc/passwd", "type of the table is missing");
	refuse_spec("", "type of the table is missing");
	refuse_spec(":", "unknown table type");
	write_file("abs", "a b\n", 4);
	snprintf(path, sizeof(path), "texthash:%s/abs", dir);
	t = table_open(view_of(path), "/nowhere", report, NULL);
	assert_non_null(t);
	expect(t, "a", "b", 1);
	table_free(&t);
	/* a report is not needed */
	assert_null(table_open(view_of("x:y"), dir, NULL, NULL));
}

static void
lists(void **state)
{
	struct table_list l = { 0 };
	const struct table *t = NULL;
	struct buf value;
	unsigned line = 0;

	(void)state;
	buf_init(&value, 100);
	reported[0] = '\0';
	assert_true(table_list_open("inline:{a=1, {b = 2}},\n "
	    "regexp:{{/^[bc]/ 3}}", dir, &l, report, NULL));
	assert_int_equal(l.n, 2);
	assert_int_equal(table_list_find(&l, view_of("b"), &value, &t, &line),
	    TABLE_FOUND);
	assert_true(view_is(buf_view(&value), "2"));
	assert_ptr_equal(t, l.list[0]);
	assert_int_equal(table_list_find(&l, view_of("c"), &value, &t, &line),
	    TABLE_FOUND);
	assert_ptr_equal(t, l.list[1]);
	assert_int_equal(line, 1);
	assert_int_equal(table_list_find(&l, view_of("x"), &value, &t, &line),
	    TABLE_NOT_FOUND);
	table_list_free(&l);
	assert_int_equal(l.n, 0);
	assert_true(table_list_open("", dir, &l, report, NULL));
	assert_int_equal(l.n, 0);
	assert_int_equal(table_list_find(&l, view_of("x"), &value, &t, &line),
	    TABLE_NOT_FOUND);
	table_list_free(&l);
	/* every table is looked at, so that all mistakes are reported */
	errors = 0;
	l.n = 77;
	assert_false(table_list_open("static:a foo:b static:c bar:d", dir, &l,
	    report, NULL));
	assert_int_equal(errors, 2);
	assert_int_equal(l.n, 77);
	buf_free(&value);
}

static void
long_lines(void **state)
{
	struct buf text;

	(void)state;
	buf_init(&text, 4u << 20);
	assert_true(buf_puts(&text, "/a/ b\n/c/ "));
	memset(buf_room(&text, 1u << 20), 'x', 1u << 20);
	text.n += 1u << 20;
	assert_true(buf_puts(&text, "\n/d/ e\n"));
	write_file("table", text.p, text.n);
	buf_free(&text);
	refuse_spec("regexp:table", "table:2: the line is longer");
	assert_int_equal(errors, 1);
}

static void
deep_nesting(void **state)
{
	struct buf text;

	(void)state;
	buf_init(&text, 1u << 16);
	for (int i = 0; i < 101; i++)
		assert_true(buf_puts(&text, "if /a/\n"));
	for (int i = 0; i < 101; i++)
		assert_true(buf_puts(&text, "endif\n"));
	write_file("table", text.p, text.n);
	refuse_spec("regexp:table", "table:101: if is nested over 100 deep");
	write_file("table", text.p + 7, text.n - 7 - 6);
	buf_free(&text);
	{
		struct table *t = open_spec("regexp:table");

		expect(t, "a", NULL, 0);
		table_free(&t);
	}
}

struct seen {
	unsigned n, lines;
	char last[100];
};

static void
see(struct view result, unsigned line, void *arg)
{
	struct seen *s = arg;

	s->n++;
	s->lines += line;
	snprintf(s->last, sizeof(s->last), "%.*s", VIEW_ARGS(result));
}

static void
each_result(void **state)
{
	struct table *t = open_text("regexp", "/a/ 1\nif /b/\n/c/ 2\nendif\n"
	    "/(d)(e)/ x $$ ${2}y\n");
	struct seen s = { 0 };

	(void)state;
	table_each_result(t, see, &s);
	assert_int_equal(s.n, 3);
	assert_int_equal(s.lines, 1 + 3 + 5);
	assert_string_equal(s.last, "x $ x@x:xy");
	table_free(&t);
	t = open_text("texthash", "a 1\nb 2\n");
	table_each_result(t, see, &s);
	assert_int_equal(s.n, 5);
	table_free(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(statics),
		cmocka_unit_test(inlines),
		cmocka_unit_test(texthashes),
		cmocka_unit_test(texthash_of_many),
		cmocka_unit_test(cidrs),
		cmocka_unit_test(specs),
		cmocka_unit_test(lists),
		cmocka_unit_test(long_lines),
		cmocka_unit_test(deep_nesting),
		cmocka_unit_test(each_result),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
