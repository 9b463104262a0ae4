/* link: queue/bounce_order.c queue/bounce_report.c queue/bounce_template.c */
/*
 * An order for a notification of any bytes: it is refused, or it makes a
 * notification of clean, short lines, and nobody is told who did not ask.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/bounce_order.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct conf *cf;
static struct bounce_templates templates;

static void
check(struct view text)
{
	size_t i, start = 0;

	for (i = 0; i < text.n; i++) {
		if (text.p[i] == '\r')
			ensure(i + 1 < text.n && text.p[i + 1] == '\n');
		else if (text.p[i] != '\n')
			ensure((unsigned char)text.p[i] >= ' ' ||
			    text.p[i] == '\t');
		if (text.p[i] != '\n')
			continue;
		/* To: is as long as an address in our format can be. */
		ensure(i > start && text.p[i - 1] == '\r' &&
		    i - start < 2 * 1000 + 20);
		start = i + 1;
	}
	ensure(start == text.n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bounce_order o;
	struct bounce_facts f = { 0 };
	struct arena *a;
	struct buf b;
	uint32_t i;

	if (cf == NULL) {
		log_to(LOG_SINK_FILE, -1, 0);
		cf = conf_parse(view_of("myhostname = gw.example.com\n"
		    "mynetworks =\n"), "main.cf", NULL, NULL);
		ensure(cf != NULL);
		bounce_templates_init(&templates, cf);
	}
	a = arena_new(bounce_order_memory(size));
	if (!bounce_order_read(view_make(data, size), a, &o)) {
		arena_free(&a);
		return 0;
	}
	bounce_order_wanted(&o);
	for (i = 0; i < o.n_outcomes; i++)
		ensure(bounce_for_postmaster(o.kind) || o.env.rcpts[
		    o.outcomes[i].index].notify != NOTIFY_NEVER);
	f = (struct bounce_facts){ .cf = cf, .templates = &templates,
		.kind = o.kind, .id = o.id, .note = { 1 },
		.arrival = o.arrival, .now = { 1795230511000000 },
		.attempt = o.attempt, .until = o.until, .env = &o.env,
		.to = o.env.sender, .outcomes = o.outcomes,
		.n_outcomes = o.n_outcomes, .original = view_of("A: b\r\n") };
	buf_init(&b, 8 << 20);
	/* Dates that no calendar has make no report. */
	if (bounce_report(&f, &b))
		check(buf_view(&b));
	buf_free(&b);
	arena_free(&a);
	return 0;
}
