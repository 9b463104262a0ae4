#include "lib/conf_line.h"

struct conf_lines
conf_lines_of(struct view text)
{
	return (struct conf_lines){ text, 0 };
}

bool
conf_line_physical(struct conf_lines *in, struct view *ret)
{
	size_t n;

	if (in->rest.n == 0)
		return false;
	n = view_find(in->rest, '\n');
	*ret = view_head(in->rest, n);
	in->rest = view_from(in->rest, n + 1);
	in->line++;
	return true;
}

bool
conf_line_blank(struct view line)
{
	struct view v = view_trim(line);

	return v.n == 0 || v.p[0] == '#';
}

static enum conf_line
line_fault(struct view v, struct buf *out)
{
	if (view_find(v, '\0') < v.n)
		return CONF_LINE_NUL;
	return buf_putv(out, v) ? CONF_LINE_TEXT : CONF_LINE_LONG;
}

enum conf_line
conf_line_next(struct conf_lines *in, struct buf *out, unsigned *ret_line)
{
	struct conf_lines ahead;
	enum conf_line result = CONF_LINE_NONE, fault;
	struct view v;

	buf_clear(out);
	for (;;) {
		ahead = *in;
		if (!conf_line_physical(&ahead, &v))
			return result;
		if (conf_line_blank(v)) {
			*in = ahead;
			continue;
		}
		if (result == CONF_LINE_NONE) {
			*ret_line = ahead.line;
			result = view_space(v.p[0]) ? CONF_LINE_ORPHAN :
			    CONF_LINE_TEXT;
		} else if (!view_space(v.p[0])) {
			return result;
		}
		*in = ahead;
		/* The first fault stays; the rest of the line is skipped. */
		if (result == CONF_LINE_LONG || result == CONF_LINE_NUL)
			continue;
		fault = line_fault(v, out);
		if (fault != CONF_LINE_TEXT)
			result = fault;
	}
}
