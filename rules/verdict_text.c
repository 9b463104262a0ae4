#include "rules/verdict.h"

bool
verdict_text_is_header(struct view text)
{
	size_t n = 0;

	while (n < text.n && text.p[n] > ' ' && text.p[n] < 0x7f &&
	    text.p[n] != ':')
		n++;
	if (n == 0)
		return false;
	/* RFC 822 allowed white space before the colon. */
	while (n < text.n && (text.p[n] == ' ' || text.p[n] == '\t'))
		n++;
	return n < text.n && text.p[n] == ':';
}

bool
verdict_text_wire(struct buf *b, struct view text, bool header,
    bool line_end)
{
	bool ok = true;
	size_t i;

	buf_clear(b);
	for (i = 0; i < text.n && ok; i++) {
		unsigned char ch = (unsigned char)text.p[i];

		if (ch == '\n' && header && i + 1 < text.n) {
			ok = buf_puts(b, "\r\n");
			if (text.p[i + 1] != ' ' && text.p[i + 1] != '\t')
				ok = ok && buf_putc(b, '\t');
		} else if ((ch < ' ' && ch != '\t') || ch == 127)
			ok = buf_putc(b, ' ');
		else
			ok = buf_putc(b, (char)ch);
	}
	return ok && (!line_end || buf_puts(b, "\r\n"));
}
