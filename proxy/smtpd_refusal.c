/*
 * The text of a refusal, as the administrator wants it: replaced by
 * smtpd_reject_filter_maps, with a footer from smtpd_reject_footer_maps or
 * smtpd_reject_footer behind it.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd.h"

/* False: not found, or no answer, which is no reason to hide the refusal. */
static bool
refusal_find(const struct table_list *l, const char *what, struct view line,
    struct buf *value)
{
	const struct table *t;
	unsigned n;

	if (l->n == 0)
		return false;
	switch (table_list_find(l, line, value, &t, &n)) {
	case TABLE_FOUND:
		return true;
	case TABLE_FAILED:
		log_warn("%s: lookup failure", what);
		break;
	case TABLE_NOT_FOUND:
		break;
	}
	return false;
}

size_t
refusal_filter(struct session *s, char *line, size_t n, size_t size)
{
	struct view old = view_make(line, n), new;
	struct buf value;
	size_t i;

	buf_init(&value, FOOTER_MAX);
	if (refusal_find(policy_reject_filters(s->server->policy),
	    "smtpd_reject_filter_maps", old, &value)) {
		new = view_head(buf_view(&value), size - 1);
		if (!policy_is_refusal(new)) {
			log_warn("smtpd_reject_filter_maps: no refusal: %s",
			    log_safe(new));
		} else {
			log_info("%s: smtpd_reject_filter_maps: \"%s\" -> "
			    "\"%s\"", s->name != NULL ? s->name : "?",
			    log_safe(old), log_safe(new));
			n = new.n;
			/* One line of reply, whatever was in it. */
			for (i = 0; i < n; i++)
				line[i] = (unsigned char)new.p[i] < ' ' ||
				    new.p[i] == 0x7f ? ' ' : new.p[i];
		}
	}
	buf_free(&value);
	return n;
}

void
refusal_footer(struct session *s, struct view line, struct buf *out)
{
	if (!refusal_find(policy_reject_footers(s->server->policy),
	    "smtpd_reject_footer_maps", line, out)) {
		buf_clear(out);
		(void)buf_puts(out, s->server->cf->smtpd_reject_footer);
	}
}

/* Where the last line of out begins. */
static size_t
footer_line_start(const struct buf *out)
{
	size_t i = out->n;

	while (i > 0 && out->p[i - 1] != '\n')
		i--;
	return i;
}

bool
refusal_write(struct session *s, struct view reply, struct view footer)
{
	struct view status, rest = view_from(reply, 4);
	struct buf text, out;
	size_t n;
	bool ok;

	buf_init(&text, FOOTER_MAX);
	buf_init(&out, FOOTER_MAX + REPLY_MAX);
	status = view_head(rest, view_find(rest, ' '));
	if (status.n < 5 || status.n > 9 || status.p[1] != '.')
		status.n = 0;
	(void)buf_putv(&text, reply);
	if (view_starts_nocase(footer, "\\c"))
		footer = view_from(footer, 2);
	else
		(void)buf_puts(&text, "\\n");
	ok = session_expand(s, footer, &text);
	rest = buf_view(&text);
	while (ok && rest.n > 0) {
		for (n = 0; n + 1 < rest.n && (rest.p[n] != '\\' ||
		    rest.p[n + 1] != 'n'); n++)
			;
		n = n + 1 < rest.n ? n : rest.n;
		if (out.n == 0)
			ok = buf_putv(&out, view_head(rest, n));
		else
			ok = buf_printf(&out, "%.3s %.*s%s%.*s", reply.p,
			    VIEW_ARGS(status), status.n > 0 ? " " : "",
			    VIEW_ARGS(view_head(rest, n)));
		rest = view_from(rest, n + 2);
		/* All lines but the last one say that more comes. */
		if (ok && rest.n > 0)
			out.p[footer_line_start(&out) + 3] = '-';
		ok = ok && buf_puts(&out, "\r\n");
	}
	ok = ok && buf_putv(&s->out, buf_view(&out));
	buf_free(&text);
	buf_free(&out);
	return ok;
}

void
session_refuse_lines(struct session *s, unsigned code, struct view text)
{
	bool soft = s->server->cf->soft_bounce && code >= 500;
	char *plain = mem_copy(text);
	struct view line;
	struct buf b;
	size_t n;

	for (n = 0; n < text.n; n++)
		if (plain[n] != '\n' && (plain[n] < ' ' || plain[n] > '~'))
			plain[n] = '?';
	text = view_make(plain, text.n);
	if (soft)
		code -= 100;
	buf_init(&b, REPLY_MAX);
	/* A filter of replies sees one line, and may change its code. */
	while ((n = view_find(text, '\n')) < text.n) {
		line = view_head(text, n);
		text = view_from(text, n + 1);
		if (policy_reject_filters(s->server->policy)->n > 0) {
			(void)buf_printf(&b, "%.*s ", VIEW_ARGS(line));
			continue;
		}
		if (soft && line.n > 2 && line.p[0] == '5' &&
		    line.p[1] == '.')
			(void)buf_printf(&s->out, "%u-4%.*s\r\n", code,
			    VIEW_ARGS(view_from(line, 1)));
		else
			(void)buf_printf(&s->out, "%u-%.*s\r\n", code,
			    VIEW_ARGS(line));
	}
	if (soft && text.n > 2 && text.p[0] == '5' && text.p[1] == '.')
		(void)buf_printf(&b, "4%.*s", VIEW_ARGS(view_from(text, 1)));
	else
		(void)buf_putv(&b, text);
	session_refuse(s, "%u %s", code, buf_cstr(&b));
	buf_free(&b);
	free(plain);
}
