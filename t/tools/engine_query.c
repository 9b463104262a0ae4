/*
 * A table's engine without the role around it, but behind the same filter of
 * system calls: engine_query TYPE:FILE.cf opens a handle, says so, and
 * answers the keys that come on standard input, one a line, "\xHH" for a
 * byte, with one line each: "found VALUE", "none", "temporary WHY",
 * "wrong WHY".
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/jail.h"
#include "lib/mem.h"
#include "proxy/lookup_engine.h"

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undo \xHH, in place. */
static size_t
unescape(char *p, size_t n)
{
	size_t i, to = 0;

	for (i = 0; i < n; i++) {
		if (i + 3 < n && p[i] == '\\' && p[i + 1] == 'x' &&
		    hex(p[i + 2]) >= 0 && hex(p[i + 3]) >= 0) {
			p[to++] = (char)(hex(p[i + 2]) << 4 | hex(p[i + 3]));
			i += 3;
		} else {
			p[to++] = p[i];
		}
	}
	return to;
}

static const char *
answer_name(enum engine_answer a)
{
	switch (a) {
	case ENGINE_FOUND:
		return "found";
	case ENGINE_NOT_FOUND:
		return "none";
	case ENGINE_TEMPORARY:
		return "temporary";
	case ENGINE_WRONG:
		return "wrong";
	case ENGINE_NONE:
	default:
		return "no answer";
	}
}

static void
answer(void *h, struct view key)
{
	struct buf value, err;
	enum engine_answer a;

	buf_init(&value, ENGINE_VALUE_MAX);
	buf_init(&err, ENGINE_ERROR_MAX);
	a = engine.query(h, key, &value, &err);
	printf("%s %s\n", answer_name(a), a == ENGINE_FOUND ?
	    buf_cstr(&value) : buf_cstr(&err));
	(void)fflush(stdout);
	buf_free(&value);
	buf_free(&err);
}

int
main(int argc, char **argv)
{
	const struct jail_spec jail = { .allow = JAIL_CONNECT |
	    JAIL_THREADS | (engine.sees_files ? JAIL_READ_FILES : 0),
	    .max_files = 4096 };
	struct engine_conf *c;
	struct buf err;
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	void *h;

	buf_init(&err, 8192);
	if (argc != 2 || (c = engine_conf_load(argv[1], false, NULL, &err)) ==
	    NULL || !engine.open(c, &h, &err)) {
		printf("not opened %s\n", buf_cstr(&err));
		return 1;
	}
	/* Output gets its buffer, and asks what it is, before. */
	printf("opened\n");
	(void)fflush(stdout);
	jail_enter(&jail, NULL, NULL);
	while ((n = getline(&line, &cap, stdin)) > 0)
		answer(h, view_make(line, unescape(line, (size_t)n - 1)));
	engine.close(h);
	engine_conf_free(&c);
	buf_free(&err);
	free(line);
	return 0;
}
