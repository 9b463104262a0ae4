/*
 * Every file of t/table: a table and what it answers.
 *
 *	texthash:table			what to open
 *	key value			the text of the file "table"
 *	==
 *	key	value			found, with this value
 *	key	-			not found
 *	key	!			failed
 *	CLIENT_ADDR 192.0.2.1	OK	asked by access_find()
 *
 * Keys and values are divided by one tab.  Other kinds of keys: DOMAIN,
 * CLIENT_NAME, SENDER, RECIPIENT; parents are asked for without a dot, and
 * extensions begin with '+'.
 */
#include "t/unit/table_help.h"

#include <dirent.h>

#include "rules/access.h"

#define CASES	"t/table"

static char text[100000];

static const struct {
	const char *name;
	enum access_key kind;
} kinds[] = {
	{ "DOMAIN ", ACCESS_DOMAIN },
	{ "CLIENT_NAME ", ACCESS_CLIENT_NAME },
	{ "CLIENT_ADDR ", ACCESS_CLIENT_ADDR },
	{ "SENDER ", ACCESS_SENDER },
	{ "RECIPIENT ", ACCESS_RECIPIENT },
};

static enum access_key
kind_of(struct view *key)
{
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (view_starts_nocase(*key, kinds[i].name)) {
			*key = view_from(*key, strlen(kinds[i].name));
			return kinds[i].kind;
		}
	return ACCESS_NONE;
}

static struct view
next_line(struct view *rest)
{
	struct view line = view_head(*rest, view_find(*rest, '\n'));

	*rest = view_from(*rest, line.n + 1);
	return line;
}

static void
one_key(const char *name, const struct table *t, struct view line)
{
	const struct access_style style = { true, "+" };
	struct view key = view_head(line, view_find(line, '\t'));
	struct view want = view_from(line, key.n + 1);
	enum table_answer a, expected = TABLE_FOUND;
	enum access_key kind = kind_of(&key);
	struct buf value;
	unsigned n = 0;

	if (view_is(want, "-"))
		expected = TABLE_NOT_FOUND;
	else if (view_is(want, "!"))
		expected = TABLE_FAILED;
	buf_init(&value, 100000);
	if (kind == ACCESS_NONE)
		a = table_find(t, key, &value, &n);
	else
		a = access_find(t, kind, key, &style, &value, &n, NULL);
	if (a != expected || (a == TABLE_FOUND &&
	    !view_eq(buf_view(&value), want)))
		fail_msg("%s: %.*s: answer %d, \"%s\"", name,
		    VIEW_ARGS(line), a, buf_cstr(&value));
	buf_free(&value);
}

static void
one_case(const char *name)
{
	struct view rest, spec, line;
	char path[300], *spec_text;
	unsigned keys = 0;
	const char *source;
	struct table *t;
	size_t n;
	FILE *f;

	snprintf(path, sizeof path, CASES "/%s", name);
	f = fopen(path, "r");
	assert_non_null(f);
	n = fread(text, 1, sizeof text, f);
	assert_true(n > 0 && n < sizeof text);
	fclose(f);
	rest = view_make(text, n);
	spec = next_line(&rest);
	source = rest.p;
	do {
		assert_true(rest.n > 0);
		line = next_line(&rest);
	} while (!view_is(line, "=="));
	write_file("table", source, (size_t)(line.p - source));
	spec_text = mem_copy(spec);
	t = open_spec(spec_text);
	free(spec_text);
	for (; rest.n > 0; keys++)
		one_key(name, t, next_line(&rest));
	assert_true(keys > 0);
	table_free(&t);
	snprintf(path, sizeof path, "%s/table.lmdb", dir);
	unlink(path);
}

static void
test_cases(void **state)
{
	struct dirent *e;
	unsigned n = 0;
	DIR *d = opendir(CASES);

	(void)state;
	assert_non_null(d);
	setenv("POSTERN_TEST", "text of it", 1);
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.') {
			one_case(e->d_name);
			n++;
		}
	closedir(d);
	assert_true(n > 10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
