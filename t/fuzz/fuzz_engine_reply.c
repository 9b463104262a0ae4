/* link: proxy/engine_reply.c */
/*
 * What servers of tcp:, socketmap: and memcache: tables answer.  A netstring's
 * length read in pieces is the one read at once; an answer keeps to its
 * maximum, and only what is found has a value.
 */
#include <stdint.h>
#include <stdlib.h>

#include "proxy/engine_reply.h"

#define VALUE_MAX	100u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int ok)
{
	if (!ok)
		abort();
}

static void
check_reply(enum engine_answer (*fn)(struct view, struct buf *, struct buf *),
    struct view text)
{
	enum engine_answer a;
	struct buf value, err;

	buf_init(&value, VALUE_MAX);
	buf_init(&err, ENGINE_ERROR_MAX);
	a = fn(text, &value, &err);
	check(value.n <= VALUE_MAX && (value.n > 0) == (a == ENGINE_FOUND));
	if (a == ENGINE_NONE || a == ENGINE_WRONG)
		check(err.n > 0);
	buf_free(&value);
	buf_free(&err);
}

static void
check_netstring(struct view text)
{
	size_t n, used, length = 0, first = 0;
	bool bad, at_end;

	used = netstring_head(text, 70000, &length, &at_end);
	check(used <= text.n && (used == 0 || length <= 70000));
	for (n = 0; n <= text.n; n++) {
		length = 0;
		first = netstring_head(view_head(text, n), 70000, &length,
		    &bad);
		if (first > 0 || bad)
			break;
	}
	check(first == used && bad == at_end);
}

static void
check_encoding(struct view text)
{
	struct buf line, value, err;

	buf_init(&line, 3 * text.n + 8);
	buf_init(&value, text.n + 1);
	buf_init(&err, ENGINE_ERROR_MAX);
	check(buf_puts(&line, "200 ") && tcp_encode(text, &line));
	check(view_find(buf_view(&line), '\n') == line.n);
	check(tcp_reply(buf_view(&line), &value, &err) == (text.n > 0 ?
	    ENGINE_FOUND : ENGINE_NOT_FOUND));
	check(value.n == text.n && (text.n == 0 ||
	    memcmp(value.p, text.p, text.n) == 0));
	buf_free(&line);
	buf_free(&value);
	buf_free(&err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view text = view_make(size > 0 ? (const void *)data : "",
	    size < 4096 ? size : 4096);
	size_t length = 0;

	check_reply(tcp_reply, text);
	check_reply(socketmap_reply, text);
	check_netstring(text);
	check_encoding(text);
	if (memcache_head(text, view_of("k"), 70000, &length) == ENGINE_FOUND)
		check(length <= 70000);
	(void)memcache_key_ok(text);
	return 0;
}
