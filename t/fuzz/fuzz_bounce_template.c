/* link: queue/bounce_template.c queue/bounce_report.c */
/*
 * A file of templates of any bytes: it is refused, or what it gives makes a
 * notification whose lines are lines.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/bounce_report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(struct view text)
{
	size_t i, start = 0;

	for (i = 0; i < text.n; i++) {
		ensure(text.p[i] != '\0');
		ensure(text.p[i] != '\r' || (i + 1 < text.n &&
		    text.p[i + 1] == '\n'));
		if (text.p[i] != '\n')
			continue;
		ensure(i > start && text.p[i - 1] == '\r' && i - start < 998);
		start = i + 1;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf *cf;
	struct bounce_templates t;
	struct recipient r = { .addr = view_of("b@example.org") };
	struct envelope e = { .sender = view_of("a@example.org"),
		.nrcpts = 1, .rcpts = &r };
	struct bounce_outcome o = { .fate = RCPT_BOUNCED };
	struct bounce_facts f = { .kind = NOTICE_FAILURE, .env = &e,
		.to = e.sender, .outcomes = &o, .n_outcomes = 1,
		.original = view_of("") };
	struct buf b;

	if (cf == NULL) {
		log_to(LOG_SINK_FILE, -1, 0);
		cf = conf_parse(view_of("myhostname = gw.example.com\n"
		    "mynetworks =\nodd = a  b\n"), "main.cf", NULL, NULL);
		ensure(cf != NULL);
	}
	bounce_templates_init(&t, cf);
	(void)bounce_templates_read(&t, cf, view_make(data, size), "file",
	    NULL, NULL);
	f.cf = cf;
	f.templates = &t;
	buf_init(&b, 1 << 20);
	for (; f.kind < NOTICE_KINDS; f.kind++) {
		buf_clear(&b);
		ensure(bounce_report(&f, &b));
		check(buf_view(&b));
	}
	buf_free(&b);
	bounce_templates_free(&t);
	return 0;
}
