#include "lib/log.h"
#include "queue/pickup_text.h"

void
pickup_text_init(struct pickup_text *t, bool replace_cr)
{
	*t = (struct pickup_text){ .replace_cr = replace_cr };
}

static void
text_stray(struct pickup_text *t, struct buf *out)
{
	t->cr = false;
	ensure(buf_putc(out, t->replace_cr ? ' ' : '\r'));
	t->in_line = true;
}

void
pickup_text_put(struct pickup_text *t, struct view in, struct buf *out)
{
	unsigned char high = 0;
	size_t i;

	/* It would continue the header that we put in front. */
	if (!t->begun && in.n > 0 && (in.p[0] == ' ' || in.p[0] == '\t'))
		ensure(buf_put(out, "\r\n", 2));
	t->begun = t->begun || in.n > 0;
	while (in.n > 0) {
		if (in.p[0] == '\n') {
			t->cr = t->in_line = false;
			ensure(buf_put(out, "\r\n", 2));
			in = view_from(in, 1);
			continue;
		}
		if (t->cr)
			text_stray(t, out);
		if (in.p[0] == '\r') {
			t->cr = true;
			in = view_from(in, 1);
			continue;
		}
		for (i = 0; i < in.n && in.p[i] != '\n' && in.p[i] != '\r'; i++)
			high |= (unsigned char)in.p[i];
		ensure(buf_putv(out, view_head(in, i)));
		t->in_line = true;
		in = view_from(in, i);
	}
	if (high >= 0x80)
		t->eight_bit = true;
}

void
pickup_text_end(struct pickup_text *t, struct buf *out)
{
	if (t->cr)
		text_stray(t, out);
	if (t->in_line)
		ensure(buf_put(out, "\r\n", 2));
	t->in_line = false;
}
