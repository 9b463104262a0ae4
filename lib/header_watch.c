#include "lib/envelope.h"
#include "lib/header.h"
#include "lib/header_watch.h"

void
header_watch_init(struct header_watch *w)
{
	*w = (struct header_watch){ .start = true };
}

/* A field is complete, unfolded. */
static void
watch_field(struct header_watch *w)
{
	struct view name, value;

	if (w->n < HEADER_WATCH_LINE &&
	    header_split(view_make(w->line, w->n), &name, &value)) {
		value = view_trim(view_from(value, 1));
		if (view_is_nocase(name, "TLS-Required")) {
			w->tls_required_no = view_is_nocase(value, "no");
			w->tls_required += w->tls_required < 2;
		} else if (view_is_nocase(name, "Require-TLS-ESMTP") &&
		    view_is_nocase(value, "yes")) {
			w->require_tls = true;
		}
	}
	w->n = 0;
}

static void
watch_byte(struct header_watch *w, char c)
{
	bool blank = c == ' ' || c == '\t';

	if (w->start) {
		w->start = false;
		/* Or it goes on in this line. */
		if (!blank)
			watch_field(w);
		if (c == '\r' || c == '\n') {
			w->over = true;
			return;
		}
	}
	/* Any amount of it is as good as one. */
	if (blank && w->n > 0 && w->line[w->n - 1] == ' ')
		return;
	if (c != '\r' && w->n < HEADER_WATCH_LINE)
		w->line[w->n++] = blank ? ' ' : c;
}

void
header_watch_feed(struct header_watch *w, struct view text)
{
	const char *lf;
	size_t i;

	for (i = 0; i < text.n && !w->over; i++) {
		if (text.p[i] == '\n') {
			if (w->start)
				watch_byte(w, '\n');
			w->start = true;
			continue;
		}
		if (w->n == HEADER_WATCH_LINE && !w->start) {
			/* Of no interest up to its end. */
			lf = memchr(text.p + i, '\n', text.n - i);
			if (lf == NULL)
				return;
			i = (size_t)(lf - text.p) - 1;
			continue;
		}
		watch_byte(w, text.p[i]);
	}
}

uint32_t
header_watch_flags(struct header_watch *w)
{
	if (!w->over)
		watch_field(w);
	w->over = true;
	return (w->require_tls ? ENVELOPE_REQUIRETLS : 0u) |
	    (w->tls_required == 1 && w->tls_required_no ?
	    ENVELOPE_TLS_OPTIONAL : 0u);
}
