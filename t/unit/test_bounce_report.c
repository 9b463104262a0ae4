/* link: queue/bounce_report.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/bounce_report.h"

static struct conf cf;
static struct recipient rcpt[2];
static struct envelope env;
static struct bounce_failure failure;

static struct bounce_facts
facts(void)
{
	cf.myhostname = "gw.example.com";
	cf.myorigin = "example.com";
	cf.mail_name = "Postern";
	rcpt[0].addr = view_of("fine@example.com");
	rcpt[1].addr = view_of("no body@example.com");
	rcpt[1].orcpt = view_of("rfc822;nobody@old.example");
	env = (struct envelope){ .sender = view_of("ann@client.example"),
		.envid = view_of("QQ314159"), .nrcpts = 2, .rcpts = rcpt };
	failure = (struct bounce_failure){ .index = 1,
		.status = view_of("5.1.1"),
		.reason = view_of("host inside[10.0.0.1] said: 550 5.1.1 User "
		    "unknown in local recipient table (in reply to RCPT TO)"),
		.mta = view_of("inside") };
	return (struct bounce_facts){ .cf = &cf, .id = { 0x111 },
		.note = { 0x222 }, .arrival = { 0 },
		.now = { 1795230511000000 }, .env = &env,
		.failures = &failure, .n_failures = 1,
		.original = view_of("Subject: hello\r\n\r\nbody\r\n") };
}

static void
has(struct buf *b, const char *text)
{
	if (strstr(buf_cstr(b), text) == NULL)
		fail_msg("no \"%s\" in\n%s", text, buf_cstr(b));
}

static void
report_has_its_three_parts(void **state)
{
	struct bounce_facts f = facts();
	struct buf b;

	(void)state;
	buf_init(&b, 100000);
	assert_true(bounce_report(&f, &b));
	has(&b, "From: MAILER-DAEMON@example.com");
	has(&b, "To: ann@client.example\r\n");
	has(&b, "Auto-Submitted: auto-replied\r\n");
	has(&b, "Content-Type: multipart/report; "
	    "report-type=delivery-status;\r\n");
	has(&b, "Date: Sat, 21 Nov 2026 03:08:31 +0000 (UTC)\r\n");
	has(&b, "Content-Type: message/delivery-status\r\n\r\n"
	    "Reporting-MTA: dns; gw.example.com\r\n"
	    "Original-Envelope-Id: QQ314159\r\n");
	has(&b, "\r\n\r\nFinal-Recipient: rfc822; \"no body\"@example.com\r\n"
	    "Original-Recipient: rfc822;nobody@old.example\r\n"
	    "Action: failed\r\nStatus: 5.1.1\r\n"
	    "Remote-MTA: dns; inside\r\nDiagnostic-Code: smtp; ");
	has(&b, "Content-Type: message/rfc822\r\n\r\nSubject: hello\r\n\r\n"
	    "body\r\n\r\n--");
	assert_null(strstr(buf_cstr(&b), "fine@example.com"));
	buf_free(&b);
}

static void
report_has_short_lines_and_line_ends(void **state)
{
	struct bounce_facts f = facts();
	struct buf b;
	size_t i, start = 0;

	(void)state;
	buf_init(&b, 100000);
	assert_true(bounce_report(&f, &b));
	for (i = 0; i < b.n; i++) {
		if (b.p[i] != '\n')
			continue;
		assert_true(i > 0 && b.p[i - 1] == '\r');
		assert_true(i - start < 100);
		start = i + 1;
	}
	assert_int_equal(start, b.n);
	buf_free(&b);
}

static void
headers_alone_and_a_full_buffer(void **state)
{
	struct bounce_facts f = facts();
	struct buf b;
	size_t max;

	(void)state;
	assert_true(view_is(bounce_headers(view_of("A: b\r\n\r\nx\r\n\r\ny")),
	    "A: b\r\n\r\n"));
	assert_true(view_is(bounce_headers(view_of("A: b\r\n")), "A: b\r\n"));
	assert_true(view_is(bounce_headers(view_of("\r\nbody\r\n\r\n")),
	    "\r\n"));
	f.headers_only = true;
	buf_init(&b, 100000);
	assert_true(bounce_report(&f, &b));
	has(&b, "Content-Type: text/rfc822-headers\r\n");
	max = b.n;
	buf_free(&b);
	buf_init(&b, max - 1);
	assert_false(bounce_report(&f, &b));
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(report_has_its_three_parts),
		cmocka_unit_test(report_has_short_lines_and_line_ends),
		cmocka_unit_test(headers_alone_and_a_full_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
