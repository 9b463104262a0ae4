/*
 * What the tests of tables share: a directory for their files, and what was
 * reported last.  Included by one source file of each test program.
 */
#ifndef T_UNIT_TABLE_HELP_H
#define T_UNIT_TABLE_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "rules/table.h"

static char reported[8000];
static unsigned errors, warnings;
static char dir[] = "/tmp/test_table.XXXXXX";

static inline void
report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		errors++;
	else
		warnings++;
	strncat(reported, text, sizeof(reported) - strlen(reported) - 2);
	strncat(reported, "\n", sizeof(reported) - strlen(reported) - 1);
}

static inline void
write_file(const char *name, const char *text, size_t n)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static inline struct table *
try_spec(const char *spec)
{
	reported[0] = '\0';
	errors = warnings = 0;
	return table_open(view_of(spec), dir, report, NULL);
}

static inline struct table *
open_spec(const char *spec)
{
	struct table *t = try_spec(spec);

	if (t == NULL)
		fail_msg("%s: %s", spec, reported);
	assert_int_equal(errors, 0);
	return t;
}

/* A table of the given type whose file has this text. */
static inline struct table *
open_text(const char *type, const char *text)
{
	char spec[64];

	write_file("table", text, strlen(text));
	snprintf(spec, sizeof(spec), "%s:table", type);
	return open_spec(spec);
}

/* The file must be refused, with this in what is reported. */
static inline void
refuse_text(const char *type, const char *text, const char *why)
{
	char spec[64];
	struct table *t;

	write_file("table", text, strlen(text));
	snprintf(spec, sizeof(spec), "%s:table", type);
	t = try_spec(spec);
	if (t != NULL)
		fail_msg("%s was accepted: %s", type, text);
	if (errors == 0 || strstr(reported, why) == NULL)
		fail_msg("%s: reported \"%s\" instead of \"%s\"", text,
		    reported, why);
}

static inline void
refuse_spec(const char *spec, const char *why)
{
	struct table *t = try_spec(spec);

	if (t != NULL)
		fail_msg("%s was accepted", spec);
	if (errors == 0 || strstr(reported, why) == NULL)
		fail_msg("%s: reported \"%s\"", spec, reported);
}

/* want NULL: there is no answer */
static inline void
expect_bytes(const struct table *t, struct view key, const char *want,
    unsigned line)
{
	struct buf value;
	unsigned got_line = 9999;
	enum table_answer a;

	buf_init(&value, 10000);
	assert_true(buf_puts(&value, "left from before"));
	a = table_find(t, key, &value, &got_line);
	if (want == NULL && a != TABLE_NOT_FOUND)
		fail_msg("\"%.*s\" gave \"%.*s\"", VIEW_ARGS(key),
		    VIEW_ARGS(buf_view(&value)));
	if (want != NULL && (a != TABLE_FOUND ||
	    !view_is(buf_view(&value), want) || got_line != line))
		fail_msg("\"%.*s\": answer %d, \"%.*s\", line %u",
		    VIEW_ARGS(key), a, VIEW_ARGS(buf_view(&value)), got_line);
	buf_free(&value);
}

static inline void
expect(const struct table *t, const char *key, const char *want,
    unsigned line)
{
	expect_bytes(t, view_of(key), want, line);
}

static inline int
make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL;
}

static inline int
remove_dir(void **state)
{
	char path[200];

	(void)state;
	snprintf(path, sizeof(path), "%s/table", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/abs", dir);
	unlink(path);
	return rmdir(dir);
}

#endif
