/*
 * What the tests of main.cf share: parse a text, and what was said about it.
 * Included by one source file of each test program.
 */
#ifndef T_UNIT_CONF_HELP_H
#define T_UNIT_CONF_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/conf_source.h"
#include "lib/log.h"

/* All reports of one parse, "E text\n" and "W text\n". */
static struct buf said;

static inline void
listener(bool error, const char *text, void *arg)
{
	(void)arg;
	assert_true(buf_printf(&said, "%c %s\n", error ? 'E' : 'W', text));
}

static inline struct conf *
parse(const char *text)
{
	buf_clear(&said);
	return conf_parse(view_of(text), "main.cf", listener, NULL);
}

static inline bool
heard(const char *text)
{
	return strstr(buf_cstr(&said), text) != NULL;
}

/* The value of `name` in a main.cf; NULL: refused. */
static inline void
check_text(const char *file, const char *name, const char *want)
{
	struct conf *cf = parse(file);

	if (cf == NULL)
		fail_msg("%s: refused: %s", file, buf_cstr(&said));
	if (strcmp(conf_text(cf, view_of(name)), want) != 0)
		fail_msg("%s: %s", file, conf_text(cf, view_of(name)));
	conf_free(&cf);
}

static inline void
check_refused(const char *file, const char *why)
{
	struct conf *cf = parse(file);

	if (cf != NULL)
		fail_msg("accepted: %s", file);
	if (!heard(why))
		fail_msg("%s: said: %s", file, buf_cstr(&said));
}

static inline void
check_warned(const char *file, const char *what)
{
	struct conf *cf = parse(file);

	assert_non_null(cf);
	if (!heard(what))
		fail_msg("%s: said: %s", file, buf_cstr(&said));
	conf_free(&cf);
}

#endif
