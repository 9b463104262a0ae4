/*
 * TLS reports: of any record in the DNS only clean addresses come; any message
 * of a relay, and any record of the file, is refused, or is the same when it
 * is written and read again, and makes a report without control bytes.
 */
#include <stdint.h>
#include <stdlib.h>

#include "rules/tlsrpt_record.h"
#include "rules/tlsrpt_report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int ok)
{
	if (!ok)
		abort();
}

static void
check_clean(struct view v, const char *more)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		check((v.p[i] > ' ' && v.p[i] <= '~') ||
		    (v.p[i] != '\0' && strchr(more, v.p[i]) != NULL));
}

static void
check_record(struct view v)
{
	struct tlsrpt_uris u;
	struct buf a, b;
	size_t i;

	if (tlsrpt_record_read(v, &u) != TLSRPT_RECORD_GOOD) {
		check(u.n == 0);
		return;
	}
	buf_init(&a, 2 * TLSRPT_URI_MAX);
	buf_init(&b, 2 * TLSRPT_URI_MAX);
	check(u.n > 0 && u.n <= TLSRPT_URIS_MAX);
	for (i = 0; i < u.n; i++) {
		buf_clear(&a);
		buf_clear(&b);
		if (tlsrpt_uri_mail(u.uri[i], &a)) {
			check(view_has(buf_view(&a), '@'));
			check(!view_has(buf_view(&a), ','));
			check(!tlsrpt_uri_https(u.uri[i], &a, &b));
		} else if (tlsrpt_uri_https(u.uri[i], &a, &b)) {
			check(b.n > 0 && b.p[0] == '/' && a.n <= 253);
			check(!view_has(buf_view(&a), ':'));
		}
		check_clean(buf_view(&a), "");
		check_clean(buf_view(&b), "");
	}
	buf_free(&a);
	buf_free(&b);
}

static void
check_tally(const struct tlsrpt_tally *t)
{
	struct tlsrpt_report r = { .organization = "o", .contact = "c@d",
		.from = "f@g.example", .submitter = "g.example",
		.domain = view_of("example.com"), .since = t->since,
		.until = t->since + 86399 };
	struct tlsrpt_tally *back;
	struct buf b, again;

	buf_init(&b, TLSRPT_JSON_MAX);
	buf_init(&again, TLSRPT_JSON_MAX);
	tlsrpt_tally_put(&b, t);
	check(b.n <= TLSRPT_TALLY_MAX);
	back = tlsrpt_tally_get(buf_view(&b));
	check(back != NULL);
	tlsrpt_tally_put(&again, back);
	check(view_eq(buf_view(&b), buf_view(&again)));
	tlsrpt_tally_free(&back);
	buf_clear(&b);
	check(tlsrpt_report_json(&r, t, &b));
	check_clean(buf_view(&b), " \n");
	buf_free(&b);
	buf_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view v = view_make(data, size);
	struct cursor c = cursor_of(v);
	struct tlsrpt_tally *t;
	struct tlsrpt_event e;

	check_record(v);
	if (tlsrpt_event_get(&c, &e)) {
		check_clean(e.domain, "");
		t = tlsrpt_tally_new(0);
		tlsrpt_tally_add(t, &e);
		check_tally(t);
		tlsrpt_tally_free(&t);
	}
	t = tlsrpt_tally_get(v);
	if (t != NULL)
		check_tally(t);
	tlsrpt_tally_free(&t);
	return 0;
}
