#include "lib/log.h"
#include "proxy/relay_reply.h"

void
relay_reply_init(struct relay_reply *r)
{
	*r = (struct relay_reply){ 0 };
	buf_init(&r->text, RELAY_REPLY_MAX + RELAY_REPLY_LINES_MAX);
}

void
relay_reply_free(struct relay_reply *r)
{
	buf_free(&r->text);
}

void
relay_reply_reset(struct relay_reply *r)
{
	r->code = r->lines = 0;
	r->total = r->line = 0;
	buf_clear(&r->text);
}

static bool
reply_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Keep what of the open line is within its limit, made printable. */
static void
reply_keep(struct relay_reply *r, const char *p, size_t n)
{
	size_t have = r->text.n - r->line, i;
	char *to;

	if (n > RELAY_REPLY_LINE_MAX - have)
		n = RELAY_REPLY_LINE_MAX - have;
	if (n == 0)
		return;
	to = buf_room(&r->text, n);
	ensure(to != NULL);	/* the total is within its limit */
	for (i = 0; i < n; i++)
		to[i] = p[i] == '\t' ? ' ' : (unsigned char)p[i] < ' ' &&
		    p[i] != '\r' ? '?' : p[i] == 0x7f ? '?' : p[i];
	r->text.n += n;
}

/* The line that begins at r->line is complete. */
static enum relay_reply_answer
reply_line_end(struct relay_reply *r)
{
	char *p;
	size_t n, i;
	unsigned code;

	if (r->text.n == r->line)
		return REPLY_BAD;	/* an empty line */
	p = r->text.p + r->line;
	if (r->text.p[r->text.n - 1] == '\r')
		r->text.n--;
	n = r->text.n - r->line;
	for (i = 0; i < n; i++)
		if (p[i] == '\r')
			p[i] = '?';
	if (n < 3 || p[0] < '2' || p[0] > '5' || !reply_digit(p[1]) ||
	    !reply_digit(p[2]) || (n > 3 && p[3] != ' ' && p[3] != '-'))
		return REPLY_BAD;
	code = (unsigned)(p[0] - '0') * 100 + (unsigned)(p[1] - '0') * 10 +
	    (unsigned)(p[2] - '0');
	if ((r->lines > 0 && code != r->code) ||
	    ++r->lines > RELAY_REPLY_LINES_MAX)
		return REPLY_BAD;
	r->code = code;
	if (n == 3 || p[3] == ' ')
		return REPLY_DONE;
	if (!buf_putc(&r->text, '\n'))
		return REPLY_BAD;
	r->line = r->text.n;
	return REPLY_MORE;
}

enum relay_reply_answer
relay_reply_feed(struct relay_reply *r, struct view *in)
{
	enum relay_reply_answer a = REPLY_MORE;
	size_t n;

	while (a == REPLY_MORE && in->n > 0) {
		n = view_find(*in, '\n');
		r->total += n + (n < in->n);
		if (r->total > RELAY_REPLY_MAX)
			return REPLY_BAD;
		reply_keep(r, in->p, n);
		if (n < in->n)
			a = reply_line_end(r);
		*in = view_from(*in, n + 1);
	}
	return a;
}

bool
relay_reply_line(const struct relay_reply *r, size_t *pos, struct view *ret)
{
	struct view rest = view_from(buf_view(&r->text), *pos);
	size_t n = view_find(rest, '\n');

	if (*pos >= r->text.n)
		return false;
	*pos += n + 1;
	*ret = view_from(view_head(rest, n), 4);
	return true;
}

size_t
relay_status_size(struct view v, char class)
{
	size_t i, digits = 0, dots = 0;

	if (v.n < 5 || v.p[0] != class || v.p[1] != '.')
		return 0;
	for (i = 1; i < v.n && v.p[i] != ' '; i++) {
		if (v.p[i] == '.') {
			if (++dots > 2 || (dots == 2 && digits == 0))
				return 0;
			digits = 0;
		} else if (!reply_digit(v.p[i]) || ++digits > 3) {
			return 0;
		}
	}
	return dots == 2 && digits > 0 ? i : 0;
}

void
relay_reply_status(const struct relay_reply *r, char ret[RELAY_STATUS_MAX])
{
	char class = (char)('0' + r->code / 100);
	struct view line;
	size_t pos = 0, n;

	if (class == '3')
		class = '4';	/* there is no such class */
	while (relay_reply_line(r, &pos, &line)) {
		n = relay_status_size(line, class);
		if (n > 0 && n < RELAY_STATUS_MAX) {
			memcpy(ret, line.p, n);
			ret[n] = '\0';
			return;
		}
	}
	memcpy(ret, "0.0.0", 6);
	ret[0] = class;
}

struct view
relay_reply_said(struct relay_reply *r, size_t max)
{
	size_t i;

	for (i = 0; i < r->text.n; i++)
		if (r->text.p[i] == '\n')
			r->text.p[i] = ' ';
	return view_trim(view_head(buf_view(&r->text), max));
}
