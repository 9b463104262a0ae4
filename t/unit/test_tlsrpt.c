/*
 * TLS reports: the record in the DNS, what is counted and its bounds, and the
 * report as JSON and as mail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rules/tlsrpt_record.h"
#include "rules/tlsrpt_report.h"

/* -- the record ------------------------------------------------------------ */

static void
record(const char *text, enum tlsrpt_record expected, size_t n,
    const char *first)
{
	struct tlsrpt_uris u;
	enum tlsrpt_record r = tlsrpt_record_read(view_of(text), &u);

	if (r != expected || u.n != n || (n > 0 && !view_is(u.uri[0], first)))
		fail_msg("%s: %d, %zu", text, (int)r, u.n);
}

static void
test_records(void **state)
{
	char many[2000] = "v=TLSRPTv1;rua=mailto:a@b.example";
	size_t i;

	(void)state;
	record("v=TLSRPTv1; rua=mailto:reports@example.com;",
	    TLSRPT_RECORD_GOOD, 1, "mailto:reports@example.com");
	record("v=TLSRPTv1;rua=https://reporting.example.com/v1/tlsrpt",
	    TLSRPT_RECORD_GOOD, 1,
	    "https://reporting.example.com/v1/tlsrpt");
	record("v=TLSRPTv1 ; x=y ; rua=mailto:a@b.example , https://b.example/",
	    TLSRPT_RECORD_GOOD, 2, "mailto:a@b.example");
	record("v=TLSRPTv1", TLSRPT_RECORD_OTHER, 0, "");
	record("v=TLSRPTv10; rua=mailto:a@b.example", TLSRPT_RECORD_OTHER, 0,
	    "");
	record("v=tlsrptv1; rua=mailto:a@b.example", TLSRPT_RECORD_OTHER, 0,
	    "");
	record("v=spf1 -all", TLSRPT_RECORD_OTHER, 0, "");
	record("", TLSRPT_RECORD_OTHER, 0, "");
	record("v=TLSRPTv1;", TLSRPT_RECORD_BAD, 0, "");
	record("v=TLSRPTv1; rua=", TLSRPT_RECORD_BAD, 0, "");
	record("v=TLSRPTv1; rua=mailto:a@b.example,", TLSRPT_RECORD_BAD, 0,
	    "");
	record("v=TLSRPTv1; rua=mailto:a@b.example; rua=mailto:c@b.example",
	    TLSRPT_RECORD_BAD, 0, "");
	record("v=TLSRPTv1; rua=mailto:a@b.example\r\nBcc: x",
	    TLSRPT_RECORD_BAD, 0, "");
	record("v=TLSRPTv1; =x; rua=mailto:a@b.example", TLSRPT_RECORD_BAD, 0,
	    "");
	for (i = 1; i < 3 * TLSRPT_URIS_MAX; i++)
		strcat(many, ",mailto:a@b.example");
	record(many, TLSRPT_RECORD_GOOD, TLSRPT_URIS_MAX,
	    "mailto:a@b.example");
}

static void
test_addresses(void **state)
{
	static const struct {
		const char *uri, *address;
	} cases[] = {
		{ "mailto:a@b.example", "a@b.example" },
		{ "MAILTO:a%2Bb@b.example?subject=x", "a+b@b.example" },
		{ "mailto:a", NULL },
		{ "mailto:", NULL },
		{ "mailto:@b.example", NULL },
		{ "mailto:a@b..example", NULL },
		{ "mailto:a@[192.0.2.1]", NULL },
		{ "mailto:a%0d%0aBcc:x@b.example", NULL },
		{ "mailto:a%00@b.example", NULL },
		{ "mailto:a%4", NULL },
		{ "mailto:a%c3%a9@b.example", NULL },
		{ "mailto:a%2Cc@b.example", NULL },
		{ "mailto:%22a%20b%22@b.example", NULL },
		{ "mailto:a@b.example,c@b.example", NULL },
		{ "https://b.example/", NULL },
	};
	struct buf b;
	size_t i;

	(void)state;
	buf_init(&b, 4 * TLSRPT_URI_MAX);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		buf_clear(&b);
		if (tlsrpt_uri_mail(view_of(cases[i].uri), &b) !=
		    (cases[i].address != NULL) || !view_is(buf_view(&b),
		    cases[i].address != NULL ? cases[i].address : ""))
			fail_msg("%s", cases[i].uri);
	}
	buf_free(&b);
}

static void
test_https(void **state)
{
	static const struct {
		const char *uri, *host, *path;
	} cases[] = {
		{ "https://B.example/v1?x=y", "b.example", "/v1?x=y" },
		{ "https://b.example", "b.example", "/" },
		{ "https://b.example?x", "b.example", "/?x" },
		{ "https://b.example:443/", "b.example", "/" },
		{ "https://b.xn--90ae/", "b.xn--90ae", "/" },
		{ "https://b.example:25/", NULL, NULL },
		{ "https://user@b.example/", NULL, NULL },
		{ "https://127.0.0.1/", NULL, NULL },
		{ "https://127.1/", NULL, NULL },
		{ "https://0x7f.0x1/", NULL, NULL },
		{ "https://[::1]/", NULL, NULL },
		{ "https://localhost/", NULL, NULL },
		{ "https://b.example\\@c.example/", NULL, NULL },
		{ "https://b.example/#x", NULL, NULL },
		{ "https://b.example/ HTTP/1.1", NULL, NULL },
		{ "https:///", NULL, NULL },
		{ "http://b.example/", NULL, NULL },
		{ "mailto:a@b.example", NULL, NULL },
	};
	struct buf host, path;
	size_t i;

	(void)state;
	buf_init(&host, 4 * TLSRPT_URI_MAX);
	buf_init(&path, 4 * TLSRPT_URI_MAX);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		buf_clear(&host);
		buf_clear(&path);
		if (tlsrpt_uri_https(view_of(cases[i].uri), &host, &path) !=
		    (cases[i].host != NULL) || (cases[i].host != NULL &&
		    (!view_is(buf_view(&host), cases[i].host) ||
		    !view_is(buf_view(&path), cases[i].path))))
			fail_msg("%s", cases[i].uri);
	}
	buf_free(&host);
	buf_free(&path);
}

/* -- counts ---------------------------------------------------------------- */

static struct tlsrpt_event
event(enum tlsrpt_policy_type type, const char *lines, enum tlsrpt_result r,
    const char *host)
{
	struct tlsrpt_event e = { .domain = view_of("example.com"),
		.type = type, .lines = view_of(lines), .result = r };

	if (r != TLSRPT_SUCCESS) {
		e.text[TLSRPT_SENDING_IP] = view_of("2001:db8::1");
		e.text[TLSRPT_MX_HOST] = view_of(host);
		e.text[TLSRPT_IP] = view_of("192.0.2.1");
		e.text[TLSRPT_REASON] = view_of("a \"reason\"");
	}
	return e;
}

static void
test_events(void **state)
{
	static const char *const bad_domains[] = { "", "Example.com",
		"a b", "a..b", "b\xc3\xbc.example" };
	struct tlsrpt_event e = event(TLSRPT_STS, "version: STSv1",
	    TLSRPT_CERTIFICATE_EXPIRED, "mx.example.com"), back;
	struct cursor c;
	struct buf b;
	size_t i, n;

	(void)state;
	buf_init(&b, 20000);
	assert_true(tlsrpt_event_put(&b, &e));
	c = cursor_of(buf_view(&b));
	assert_true(tlsrpt_event_get(&c, &back));
	assert_true(view_is(back.domain, "example.com"));
	assert_int_equal(back.result, TLSRPT_CERTIFICATE_EXPIRED);
	assert_true(view_is(back.text[TLSRPT_IP], "192.0.2.1"));
	/* Cut anywhere, or longer, it is none. */
	for (n = 0; n < b.n; n++) {
		c = cursor_of(view_head(buf_view(&b), n));
		assert_false(tlsrpt_event_get(&c, &back));
	}
	assert_true(buf_putc(&b, 0));
	c = cursor_of(buf_view(&b));
	assert_false(tlsrpt_event_get(&c, &back));
	for (i = 0; i < sizeof bad_domains / sizeof bad_domains[0]; i++) {
		e.domain = view_of(bad_domains[i]);
		assert_false(tlsrpt_event_put(&b, &e));
	}
	e.domain = view_of("example.com");
	e.text[TLSRPT_IP] = view_of("not an address");
	assert_false(tlsrpt_event_put(&b, &e));
	e.text[TLSRPT_IP] = view_of("");
	e.text[TLSRPT_REASON] = view_of("a\nb");
	assert_false(tlsrpt_event_put(&b, &e));
	e.text[TLSRPT_REASON] = view_of("");
	e.result = TLSRPT_RESULTS;
	assert_false(tlsrpt_event_put(&b, &e));
	buf_free(&b);
}

static void
test_bounds(void **state)
{
	struct tlsrpt_tally *t = tlsrpt_tally_new(1000), *back;
	uint64_t good, bad;
	struct tlsrpt_event e;
	char lines[40], host[260];
	struct buf b;
	size_t i, k;

	(void)state;
	memset(host, 'h', sizeof host);
	for (i = 0; i < 2 * TLSRPT_POLICIES_MAX; i++) {
		(void)snprintf(lines, sizeof lines, "v: %zu", i);
		for (k = 0; k < 3 * TLSRPT_FAILURES_MAX; k++) {
			(void)snprintf(host + 240, 15, "%zu", k);
			e = event(TLSRPT_STS, lines,
			    TLSRPT_VALIDATION_FAILURE, host);
			tlsrpt_tally_add(t, &e);
			tlsrpt_tally_add(t, &e);
		}
	}
	assert_int_equal(t->n_policies, TLSRPT_POLICIES_MAX);
	assert_int_equal(TAILQ_FIRST(&t->policies)->n_failures,
	    TLSRPT_FAILURES_MAX);
	tlsrpt_tally_sums(t, &good, &bad);
	assert_int_equal(good, 0);
	assert_int_equal(bad, TLSRPT_POLICIES_MAX * 6 * TLSRPT_FAILURES_MAX);
	/* The largest fits, comes back, and adds up. */
	buf_init(&b, TLSRPT_TALLY_MAX);
	tlsrpt_tally_put(&b, t);
	back = tlsrpt_tally_get(buf_view(&b));
	assert_non_null(back);
	assert_int_equal(back->since, 1000);
	tlsrpt_tally_merge(back, t);
	tlsrpt_tally_sums(back, &good, &bad);
	assert_int_equal(bad, 2 * TLSRPT_POLICIES_MAX * 6 *
	    TLSRPT_FAILURES_MAX);
	assert_int_equal(TAILQ_FIRST(&TAILQ_FIRST(&back->policies)->
	    failures)->n, 4);
	tlsrpt_tally_free(&back);
	for (i = 0; i < b.n; i += 97)
		assert_null(tlsrpt_tally_get(view_head(buf_view(&b), i)));
	buf_free(&b);
	tlsrpt_tally_free(&t);
	assert_null(t);
}

/* -- the report ------------------------------------------------------------ */

static const struct tlsrpt_report report = {
	.organization = "Company \"X\" \\ \x01",
	.contact = "sts-reporting@company-x.example",
	.from = "tlsrpt@mail.company-x.example",
	.submitter = "mail.company-x.example",
	.domain = { "company-y.example", 17 },
	.since = 1459468800, .until = 1459555199,
};

/* Appendix B of RFC 8460, as far as it is said there. */
static void
test_json(void **state)
{
	static const char expected[] =
	    "{\"organization-name\":\"Company \\\"X\\\" \\\\ \\u0001\",\n"
	    "\"date-range\":{\"start-datetime\":\"2016-04-01T00:00:00Z\",\n"
	    "\"end-datetime\":\"2016-04-01T23:59:59Z\"},\n"
	    "\"contact-info\":\"sts-reporting@company-x.example\",\n"
	    "\"report-id\":\"company-y.example.1459468800-1459555199@"
	    "mail.company-x.example\",\n"
	    "\"policies\":[{\"policy\":{\"policy-type\":\"sts\",\n"
	    "\"policy-string\":[\"version: STSv1\",\n\"mode: testing\",\n"
	    "\"mx: *.mail.company-y.example\",\n\"max_age: 86400\"],\n"
	    "\"policy-domain\":\"company-y.example\",\n"
	    "\"mx-host\":[\"*.mail.company-y.example\"]},\n"
	    "\"summary\":{\"total-successful-session-count\":1,\n"
	    "\"total-failure-session-count\":2},\n"
	    "\"failure-details\":[{\"result-type\":\"certificate-expired\",\n"
	    "\"sending-mta-ip\":\"2001:db8::1\",\n"
	    "\"receiving-mx-hostname\":\"mx1.mail.company-y.example\",\n"
	    "\"receiving-ip\":\"192.0.2.1\",\n"
	    "\"failure-reason-code\":\"a \\\"reason\\\"\",\n"
	    "\"failed-session-count\":2}]},\n"
	    "{\"policy\":{\"policy-type\":\"no-policy-found\",\n"
	    "\"policy-domain\":\"company-y.example\"},\n"
	    "\"summary\":{\"total-successful-session-count\":1,\n"
	    "\"total-failure-session-count\":0}}]}\n";
	static const char policy[] = "version: STSv1\nmode: testing\n"
	    "mx: *.mail.company-y.example\nmax_age: 86400";
	struct tlsrpt_tally *t = tlsrpt_tally_new(report.since);
	struct tlsrpt_event e;
	struct buf b;
	int i;

	(void)state;
	e = event(TLSRPT_STS, policy, TLSRPT_SUCCESS, "");
	tlsrpt_tally_add(t, &e);
	e = event(TLSRPT_STS, policy, TLSRPT_CERTIFICATE_EXPIRED,
	    "mx1.mail.company-y.example");
	for (i = 0; i < 2; i++)
		tlsrpt_tally_add(t, &e);
	e = event(TLSRPT_NO_POLICY, "", TLSRPT_SUCCESS, "");
	tlsrpt_tally_add(t, &e);
	buf_init(&b, TLSRPT_JSON_MAX);
	assert_true(tlsrpt_report_json(&report, t, &b));
	assert_string_equal(buf_cstr(&b), expected);
	buf_free(&b);
	tlsrpt_tally_free(&t);
}

static bool
has(struct buf *b, const char *text)
{
	return strstr(buf_cstr(b), text) != NULL;
}

static void
test_mail(void **state)
{
	struct view to[] = { { "a@company-y.example", 19 },
		{ "b@company-z.example", 19 } };
	struct wall now = { INT64_C(1459560000000000) };
	char gzip[100];
	struct buf b;
	size_t i, line = 0;

	(void)state;
	for (i = 0; i < sizeof gzip; i++)
		gzip[i] = (char)(i * 7);
	buf_init(&b, TLSRPT_MAIL_MAX);
	assert_true(tlsrpt_report_mail(&report, view_make(gzip, 100), to, 2,
	    now, &b));
	assert_true(has(&b, "\r\nTo: a@company-y.example,\r\n\t"
	    "b@company-z.example\r\n"));
	assert_true(has(&b, "\r\nSubject: Report Domain: company-y.example\r\n"
	    " Submitter: mail.company-x.example\r\n Report-ID: <company-y."
	    "example.1459468800-1459555199@mail.company-x.example>\r\n"));
	assert_true(has(&b, "\r\nTLS-Report-Domain: company-y.example\r\n"));
	assert_true(has(&b,
	    "\r\nTLS-Report-Submitter: mail.company-x.example\r\n"));
	assert_true(has(&b, "\r\nTLS-Required: No\r\n"));
	assert_true(has(&b, "report-type=\"tlsrpt\";"));
	assert_true(has(&b, "\r\nContent-Type: application/tlsrpt+gzip\r\n"));
	assert_true(has(&b, "filename=\"mail.company-x.example!company-y."
	    "example!1459468800!1459555199.json.gz\"\r\n"));
	assert_true(has(&b, "\r\n\r\nAAcOFRwjKjE4P0ZNVFtiaXB3foWMk5qhqK+2vc"
	    "TL0tng5+71/AMKERgfJi00O0JJUFdeZWxzeoGI\r\n"
	    "j5adpKuyucDHztXc4+rx+P8GDRQbIikwNz5FTFNaYWhvdn2Ei5KZoKeutQ=="
	    "\r\n\r\n--"));
	/* Lines as mail has them, and nothing of the organization's. */
	for (i = 0; i < b.n; i++) {
		assert_true(b.p[i] != '\x01' && (unsigned char)b.p[i] < 127);
		if (b.p[i] != '\n')
			continue;
		assert_true(b.p[i - 1] == '\r' && i - line < 990);
		line = i + 1;
	}
	assert_int_equal(line, b.n);
	buf_free(&b);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_https),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_mail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
