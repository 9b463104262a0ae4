/* Addresses in headers: places lie in the text, in order; what is found reads
 * as the same address when it is written again; rewriting a second time
 * changes nothing. */
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/mailbox.h"
#include "rules/rewrite.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char settings[] = "myhostname = h.example\n"
    "myorigin = o.example\nmydomain = o.example\n"
    "append_dot_mydomain = no\nmydestination =\n"
    "canonical_maps = inline:{ {a@b.o.example=x@y.example} "
    "{@z.example=@w.example} }\nmasquerade_domains = x.example\n";

static void
scan(struct view text)
{
	struct mailbox_scan s, again;
	struct mailbox m, b;
	struct buf quoted;
	size_t at = 0;

	mailbox_init(&s);
	mailbox_init(&again);
	buf_init(&quoted, 4 * ADDRESS_MAX);
	mailbox_begin(&s, text);
	while (mailbox_next(&s, &m)) {
		ensure(m.begin >= at && m.begin <= m.end && m.end <= text.n);
		ensure(m.addr.n <= ADDRESS_MAX);
		at = m.end;
		if (!m.has_domain || m.addr.n == 0)
			continue;
		buf_clear(&quoted);
		ensure(address_quote(m.addr, &quoted));
		mailbox_begin(&again, buf_view(&quoted));
		ensure(mailbox_next(&again, &b) && view_eq(b.addr, m.addr));
		ensure(!mailbox_next(&again, &b));
	}
	mailbox_free(&s);
	mailbox_free(&again);
	buf_free(&quoted);
}

static void
rewrite(struct rewrite *r, struct view text)
{
	struct buf header, once, twice;
	bool changed;

	buf_init(&header, 1u << 20);
	buf_init(&once, 1u << 22);
	buf_init(&twice, 1u << 22);
	ensure(buf_puts(&header, "To: ") && buf_putv(&header, text));
	ensure(rewrite_header(r, REWRITE_LOCAL, true, buf_view(&header),
	    &once, &changed) == REWRITE_DONE);
	if (changed) {
		ensure(rewrite_header(r, REWRITE_LOCAL, true,
		    buf_view(&once), &twice, &changed) == REWRITE_DONE);
		ensure(!changed);
	}
	ensure(rewrite_header(r, REWRITE_NONE, true, buf_view(&header),
	    &once, &changed) == REWRITE_DONE && !changed);
	buf_free(&header);
	buf_free(&once);
	buf_free(&twice);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* r points into it, which a leak checker has to see. */
	static struct conf *volatile cf;
	static struct rewrite *r;

	if (r == NULL) {
		cf = conf_parse(view_of(settings), "main.cf",
		    log_report_errors, NULL);
		ensure(cf != NULL);
		r = rewrite_open(cf, NULL, 0, log_report_errors, NULL);
		ensure(r != NULL);
	}
	if (size > 65536)
		return 0;
	scan(view_make(data, size));
	rewrite(r, view_make(data, size));
	return 0;
}
