#include <ctype.h>
#include <stdio.h>

#include "lib/conf.h"
#include "proxy/engine_reply.h"

/* -- tcp: ------------------------------------------------------------------ */

static bool
tcp_plain(unsigned char c)
{
	return c > ' ' && c < 127 && c != '%';
}

bool
tcp_encode(struct view text, struct buf *out)
{
	size_t i;

	for (i = 0; i < text.n; i++)
		if (!(tcp_plain((unsigned char)text.p[i]) ?
		    buf_putc(out, text.p[i]) :
		    buf_printf(out, "%%%02X", (unsigned char)text.p[i])))
			return false;
	return true;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
tcp_decode(struct view text, struct buf *out)
{
	int high, low;
	size_t i;

	for (i = 0; i < text.n; i++) {
		if (text.p[i] != '%') {
			if (!buf_putc(out, text.p[i]))
				return false;
			continue;
		}
		if (text.n - i < 3)
			return false;
		high = hex_digit(text.p[i + 1]);
		low = hex_digit(text.p[i + 2]);
		if (high < 0 || low < 0 ||
		    !buf_putc(out, (char)(high << 4 | low)))
			return false;
		i += 2;
	}
	return true;
}

enum engine_answer
tcp_reply(struct view line, struct buf *value, struct buf *err)
{
	enum engine_answer a;
	struct buf *to = err;

	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (line.n < 4 || line.p[3] != ' ') {
		(void)buf_puts(err, "the server's reply makes no sense");
		return ENGINE_NONE;
	}
	if (memcmp(line.p, "200", 3) == 0) {
		a = ENGINE_FOUND;
		to = value;
	} else if (memcmp(line.p, "500", 3) == 0) {
		return ENGINE_NOT_FOUND;
	} else if (memcmp(line.p, "400", 3) == 0) {
		a = ENGINE_TEMPORARY;
		(void)buf_puts(err, "server: ");
	} else {
		(void)buf_puts(err, "the server's reply makes no sense");
		return ENGINE_NONE;
	}
	line = view_from(line, 4);
	if (to == err) {
		(void)tcp_decode(view_head(line, 200), err);
		return a;
	}
	if (!tcp_decode(line, to)) {
		buf_clear(value);
		(void)buf_puts(err, "the server's reply is not encoded");
		return ENGINE_NONE;
	}
	/* An empty answer is one that cannot be told from none. */
	return value->n > 0 ? a : ENGINE_NOT_FOUND;
}

/* -- socketmap: ------------------------------------------------------------ */

size_t
netstring_head(struct view bytes, size_t max, size_t *ret_length,
    bool *ret_bad)
{
	size_t n = 0, i;

	*ret_bad = false;
	for (i = 0; i < bytes.n && i < NETSTRING_DIGITS; i++) {
		if (!isdigit((unsigned char)bytes.p[i]))
			break;
		n = n * 10 + (size_t)(bytes.p[i] - '0');
	}
	if (i == bytes.n && i < NETSTRING_DIGITS)
		return 0;
	/* "0:" is one; "00:" and "01:" are not. */
	if (i == 0 || (i > 1 && bytes.p[0] == '0')) {
		*ret_bad = true;
		return 0;
	}
	if (i == bytes.n)
		return 0;
	if (bytes.p[i] != ':' || n > max) {
		*ret_bad = true;
		return 0;
	}
	*ret_length = n;
	return i + 1;
}

enum engine_answer
socketmap_reply(struct view text, struct buf *value, struct buf *err)
{
	size_t space = view_find(text, ' ');
	struct view word = view_head(text, space);
	struct view rest = view_from(text, space + 1);

	if (view_is(word, "OK") && space < text.n) {
		if (rest.n == 0)
			return ENGINE_NOT_FOUND;
		if (buf_putv(value, rest))
			return ENGINE_FOUND;
		(void)buf_puts(err, "the server's reply is too long");
		return ENGINE_TEMPORARY;
	}
	if (view_is(word, "NOTFOUND"))
		return ENGINE_NOT_FOUND;
	if (view_is(word, "TEMP") || view_is(word, "TIMEOUT") ||
	    view_is(word, "PERM")) {
		(void)buf_printf(err, "server: %.*s", VIEW_ARGS(view_head(
		    text, 200)));
		return view_is(word, "PERM") ? ENGINE_WRONG :
		    ENGINE_TEMPORARY;
	}
	(void)buf_puts(err, "the server's reply makes no sense");
	return ENGINE_NONE;
}

/* -- memcache: ------------------------------------------------------------- */

bool
memcache_key_ok(struct view key)
{
	size_t i;

	if (key.n == 0 || key.n > 250)
		return false;
	for (i = 0; i < key.n; i++)
		if ((unsigned char)key.p[i] <= ' ' || key.p[i] == 127)
			return false;
	return true;
}

enum engine_answer
memcache_head(struct view line, struct view key, size_t max,
    size_t *ret_length)
{
	int64_t n, flags;

	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (view_is(line, "END"))
		return ENGINE_NOT_FOUND;
	if (!view_is(view_word(&line, " "), "VALUE") ||
	    !view_eq(view_word(&line, " "), key) ||
	    !conf_parse_int(view_word(&line, " "), 0, UINT32_MAX, &flags) ||
	    !conf_parse_int(view_word(&line, " "), 0, (int64_t)max, &n))
		return ENGINE_NONE;
	*ret_length = (size_t)n;
	return ENGINE_FOUND;
}
