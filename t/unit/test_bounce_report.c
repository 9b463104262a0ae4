/* link: queue/bounce_report.c queue/bounce_template.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "queue/bounce_report.h"

#define JOERG	"j\xc3\xb6rg@example.com"

static struct conf *cf;
static struct bounce_templates templates;
static struct recipient rcpt[3];
static struct envelope env;
static struct bounce_outcome outcome;

static int
setup(void **state)
{
	(void)state;
	cf = conf_parse(view_of("myhostname = gw.example.com\n"
	    "myorigin = example.com\ndelay_warning_time = 4h\n"
	    "maximal_queue_lifetime = 5d\nmynetworks =\n"), "main.cf", NULL,
	    NULL);
	assert_non_null(cf);
	bounce_templates_init(&templates, cf);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	bounce_templates_free(&templates);
	conf_free(&cf);
	return 0;
}

static struct bounce_facts
facts(void)
{
	rcpt[0] = (struct recipient){ .addr = view_of("fine@example.com") };
	rcpt[1] = (struct recipient){ .addr = view_of("no body@example.com"),
		.orcpt = view_of("rfc822;nobody+x@old.example") };
	rcpt[2] = (struct recipient){ .addr = view_of(JOERG),
		.orcpt = view_of("utf-8;" JOERG) };
	env = (struct envelope){ .sender = view_of("ann@client.example"),
		.envid = view_of("QQ 314+159"), .nrcpts = 3, .rcpts = rcpt };
	outcome = (struct bounce_outcome){ .index = 1,
		.fate = RCPT_BOUNCED, .status = view_of("5.1.1"),
		.reason = view_of("host inside[10.0.0.1] said: 550 5.1.1 User "
		    "unknown in local recipient table (in reply to RCPT TO "
		    "command)"),
		.mta = view_of("inside") };
	return (struct bounce_facts){ .cf = cf, .templates = &templates,
		.kind = NOTICE_FAILURE, .id = { 0x111 }, .note = { 0x222 },
		.arrival = { 0 }, .now = { 1795230511000000 },
		.attempt = { 1795230510000000 }, .until = { 1795580000000000 },
		.env = &env, .to = env.sender, .outcomes = &outcome,
		.n_outcomes = 1,
		.original = view_of("Subject: hello\r\n\r\nbody\r\n") };
}

static void
report_is(const struct bounce_facts *f, const char *want)
{
	struct buf b;
	size_t i;

	buf_init(&b, 100000);
	assert_true(bounce_report(f, &b));
	for (i = 0; i < b.n && want[i] != '\0' && b.p[i] == want[i]; i++)
		;
	if (i < b.n || want[i] != '\0')
		fail_msg("differs at \"%.60s\", wanted \"%.60s\"\n%s",
		    buf_cstr(&b) + i, want + i, buf_cstr(&b));
	buf_free(&b);
}

static void
has(struct buf *b, const char *text)
{
	if (strstr(buf_cstr(b), text) == NULL)
		fail_msg("no \"%s\" in\n%s", text, buf_cstr(b));
}

static void
has_not(struct buf *b, const char *text)
{
	if (strstr(buf_cstr(b), text) != NULL)
		fail_msg("there is \"%s\" in\n%s", text, buf_cstr(b));
}

#define HEADERS(subject, to, more)					\
	"Received: by gw.example.com (Postern)\r\n"			\
	"\tid 00000000222; Sat, 21 Nov 2026 03:08:31 +0000 (UTC)\r\n"	\
	"Date: Sat, 21 Nov 2026 03:08:31 +0000 (UTC)\r\n"		\
	"From: MAILER-DAEMON@example.com (Mail Delivery System)\r\n"	\
	"Subject: " subject "\r\nTo: " to "\r\n"				\
	"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"		\
	"Content-Type: multipart/report; " more				\
	"Message-Id: <20261121030831.00000000222@gw.example.com>\r\n"	\
	"\r\nThis is a MIME-encapsulated message.\r\n\r\n"
#define PLAIN	"report-type=delivery-status;\r\n"			\
	"\tboundary=\"00000000222.1795230511000000/postern\"\r\n"
#define GLOBAL	"report-type=global-delivery-status;\r\n"		\
	"\tboundary=\"00000000222.1795230511000000/postern\"\r\n"	\
	"Content-Transfer-Encoding: 8bit\r\n"
#define BOUNDARY	"--00000000222.1795230511000000/postern"
#define MESSAGE	"Reporting-MTA: dns; gw.example.com\r\n"		\
	"Original-Envelope-Id: QQ 314+159\r\n"				\
	"X-Postern-Queue-ID: 00000000111\r\n"
#define ARRIVAL	"Arrival-Date: Thu, 01 Jan 1970 00:00:00 +0000 (UTC)\r\n"

static void
failure_as_a_whole(void **state)
{
	struct bounce_facts f = facts();

	(void)state;
	report_is(&f, HEADERS("Undelivered Mail Returned to Sender",
	    "ann@client.example", PLAIN)
	    BOUNDARY "\r\n"
	    "Content-Description: Notification\r\n"
	    "Content-Type: text/plain; charset=us-ascii\r\n"
	    "\r\n"
	    "This is the mail system at host gw.example.com.\r\n"
	    "\r\n"
	    "Your message could not be delivered to one or more recipients, "
	    "and this\r\n"
	    "system will not try again.  The reasons are below, then come a "
	    "report for\r\n"
	    "programs and your message or its headers.\r\n"
	    "\r\n"
	    "For help write to postmaster, and include this report.\r\n"
	    "\r\n"
	    "<\"no body\"@example.com>: host inside[10.0.0.1] said: 550 5.1.1 "
	    "User\r\n"
	    "    unknown in local recipient table (in reply to RCPT TO "
	    "command)\r\n"
	    "\r\n" BOUNDARY "\r\n"
	    "Content-Description: Delivery report\r\n"
	    "Content-Type: message/delivery-status\r\n"
	    "\r\n" MESSAGE
	    "X-Postern-Sender: rfc822; ann@client.example\r\n" ARRIVAL
	    "\r\n"
	    "Final-Recipient: rfc822; \"no body\"@example.com\r\n"
	    "Original-Recipient: rfc822; nobody+x@old.example\r\n"
	    "Action: failed\r\n"
	    "Status: 5.1.1\r\n"
	    "Remote-MTA: dns; inside\r\n"
	    "Diagnostic-Code: smtp; 550 5.1.1 User unknown in local recipient "
	    "table\r\n"
	    "\r\n" BOUNDARY "\r\n"
	    "Content-Description: Undelivered Message\r\n"
	    "Content-Type: message/rfc822\r\n"
	    "\r\n"
	    "Subject: hello\r\n\r\nbody\r\n"
	    "\r\n" BOUNDARY "--\r\n");
}

static void
delay_as_a_whole(void **state)
{
	struct bounce_facts f = facts();

	(void)state;
	f.kind = NOTICE_DELAY;
	outcome.index = 0;
	outcome.fate = RCPT_DEFERRED;
	outcome.status = view_of("4.4.1");
	outcome.reason = view_of("connect to inside[10.0.0.1]:25: Connection "
	    "refused");
	outcome.mta.n = 0;
	f.headers_only = true;
	f.original = view_of("Subject: hello\r\n\r\n");
	report_is(&f, HEADERS("Delayed Mail (still being retried)",
	    "ann@client.example", PLAIN)
	    BOUNDARY "\r\n"
	    "Content-Description: Notification\r\n"
	    "Content-Type: text/plain; charset=us-ascii\r\n"
	    "\r\n"
	    "This is the mail system at host gw.example.com.\r\n"
	    "\r\n"
	    "THIS IS ONLY A WARNING.  YOU NEED NOT SEND YOUR MESSAGE AGAIN."
	    "\r\n\r\n"
	    "Your message has been waiting for more than 4 hours.\r\n"
	    "Delivery will be tried until it is 5 days old.\r\n"
	    "\r\n"
	    "For help write to postmaster, and include this report.\r\n"
	    "\r\n"
	    "<fine@example.com>: connect to inside[10.0.0.1]:25: Connection "
	    "refused\r\n"
	    "\r\n" BOUNDARY "\r\n"
	    "Content-Description: Delivery report\r\n"
	    "Content-Type: message/delivery-status\r\n"
	    "\r\n" MESSAGE
	    "X-Postern-Sender: rfc822; ann@client.example\r\n" ARRIVAL
	    "\r\n"
	    "Final-Recipient: rfc822; fine@example.com\r\n"
	    "Action: delayed\r\n"
	    "Status: 4.4.1\r\n"
	    "Diagnostic-Code: X-Postern; connect to inside[10.0.0.1]:25: "
	    "Connection\r\n    refused\r\n"
	    "Last-Attempt-Date: Sat, 21 Nov 2026 03:08:30 +0000 (UTC)\r\n"
	    "Will-Retry-Until: Wed, 25 Nov 2026 04:13:20 +0000 (UTC)\r\n"
	    "\r\n" BOUNDARY "\r\n"
	    "Content-Description: Delayed Message Headers\r\n"
	    "Content-Type: text/rfc822-headers\r\n"
	    "\r\n"
	    "Subject: hello\r\n\r\n"
	    "\r\n" BOUNDARY "--\r\n");
}

static void
success_in_utf8_as_a_whole(void **state)
{
	struct bounce_facts f = facts();

	(void)state;
	f.kind = NOTICE_SUCCESS;
	env.flags = ENVELOPE_SMTPUTF8;
	env.sender = f.to = view_of("\xc3\xa4nn@client.example");
	outcome.index = 2;
	outcome.fate = RCPT_RELAYED;
	outcome.status = view_of("2.0.0");
	outcome.reason = view_of("250 2.0.0 Ok: gr\xc3\xbc\xc3\x9f Gott");
	f.headers_only = true;
	f.original = view_of("Subject: gr\xc3\xbc\xc3\x9f\r\n\r\n");
	report_is(&f, HEADERS("Successful Mail Delivery Report",
	    "\xc3\xa4nn@client.example", GLOBAL)
	    BOUNDARY "\r\n"
	    "Content-Description: Notification\r\n"
	    "Content-Type: text/plain; charset=utf-8\r\n"
	    "Content-Transfer-Encoding: 8bit\r\n"
	    "\r\n"
	    "This is the mail system at host gw.example.com.\r\n"
	    "\r\n"
	    "Your message went to the recipients below, as you wanted to know."
	    "  Where it\r\n"
	    "was given to another system, that one may still tell you of "
	    "failures.\r\n"
	    "\r\n"
	    "<" JOERG ">: delivery via inside: 250 2.0.0 Ok: gr\xc3\xbc\xc3\x9f"
	    " Gott\r\n"
	    "\r\n" BOUNDARY "\r\n"
	    "Content-Description: Delivery report\r\n"
	    "Content-Type: message/global-delivery-status\r\n"
	    "Content-Transfer-Encoding: 8bit\r\n"
	    "\r\n" MESSAGE
	    "X-Postern-Sender: utf-8; \xc3\xa4nn@client.example\r\n" ARRIVAL
	    "\r\n"
	    "Final-Recipient: utf-8; " JOERG "\r\n"
	    "Original-Recipient: utf-8; " JOERG "\r\n"
	    "Action: relayed\r\n"
	    "Status: 2.0.0\r\n"
	    "Remote-MTA: dns; inside\r\n"
	    "Diagnostic-Code: smtp; 250 2.0.0 Ok: gr\xc3\xbc\xc3\x9f Gott\r\n"
	    "\r\n" BOUNDARY "\r\n"
	    "Content-Description: Message Headers\r\n"
	    "Content-Type: message/global-headers\r\n"
	    "Content-Transfer-Encoding: 8bit\r\n"
	    "\r\n"
	    "Subject: gr\xc3\xbc\xc3\x9f\r\n\r\n"
	    "\r\n" BOUNDARY "--\r\n");
}

static void
utf8_for_a_sender_without_smtputf8(void **state)
{
	struct bounce_facts f = facts();
	struct buf b;

	(void)state;
	outcome.index = 2;
	outcome.reason = view_of("550 gr\xc3\xbc\xc3\x9f Gott");
	buf_init(&b, 100000);
	assert_true(bounce_report(&f, &b));
	has(&b, "Content-Type: message/delivery-status\r\n\r\n");
	has(&b, "Final-Recipient: utf-8; j\\x{F6}rg@example.com\r\n");
	has(&b, "Original-Recipient: utf-8; j\\x{F6}rg@example.com\r\n");
	has(&b, "Diagnostic-Code: smtp; 550 gr???? Gott\r\n");
	/* Words for people may say more. */
	has(&b, "charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n");
	has(&b, "<" JOERG ">: 550 gr\xc3\xbc\xc3\x9f Gott\r\n");
	has(&b, "Content-Type: message/rfc822\r\n\r\n");
	buf_free(&b);
}

static void
postmaster_copy(void **state)
{
	struct bounce_facts f = facts();
	struct buf b;

	(void)state;
	f.kind = NOTICE_DOUBLE;
	env.sender = view_of("");
	f.to = view_of("postmaster@example.com");
	buf_init(&b, 100000);
	assert_true(bounce_report(&f, &b));
	has(&b, "Subject: Postmaster Copy: Undelivered Mail\r\n"
	    "To: postmaster@example.com\r\n");
	has(&b, "charset=us-ascii\r\n\r\n<\"no body\"@example.com>:");
	has_not(&b, "X-Postern-Sender");
	buf_clear(&b);
	f.kind = NOTICE_DELAY_COPY;
	assert_true(bounce_report(&f, &b));
	has(&b, "Subject: Postmaster Warning: Delayed Mail\r\n");
	buf_free(&b);
}

static void
lines_are_short(struct buf *b)
{
	size_t i, start = 0;

	for (i = 0; i < b->n; i++) {
		if (b->p[i] == '\n') {
			assert_true(i > 0 && b->p[i - 1] == '\r');
			assert_true(i - start < 998);
			start = i + 1;
		} else if (b->p[i] == '\r') {
			assert_true(i + 1 < b->n && b->p[i + 1] == '\n');
		} else {
			assert_true((unsigned char)b->p[i] >= ' ' ||
			    b->p[i] == '\t');
		}
	}
	assert_int_equal(start, b->n);
}

static void
hostile_words(void **state)
{
	static char reason[4000], host[3000], local[256], id[101];
	struct bounce_facts f = facts();
	struct buf b;
	size_t i;

	(void)state;
	/* One word of any length, line ends, controls, halves of UTF-8. */
	for (i = 0; i < sizeof reason; i++)
		reason[i] = i % 7 == 0 ? '\xc3' : (char)('a' + i % 26);
	memcpy(reason + 100, "\r\nBcc: x@y\n\r\0\x7f\x1b[31m", 20);
	memset(host, 'h', sizeof host);
	host[10] = '\n';
	memset(local, '"', sizeof local - 1);
	memset(id, ' ', sizeof id - 1);
	outcome.reason = view_make(reason, sizeof reason);
	outcome.mta = view_make(host, sizeof host);
	outcome.status = view_of("5.1.1\r\nX: y");
	rcpt[1].addr = view_of(mem_printf("%s@%.250s", local, reason + 200));
	rcpt[1].orcpt = view_make("x\n;\r\n\0", 6);
	env.envid = view_of(id);
	buf_init(&b, 1000000);
	for (f.kind = 1; f.kind < NOTICE_KINDS; f.kind++)
		for (i = 0; i < 2; i++) {
			env.flags = i > 0 ? ENVELOPE_SMTPUTF8 : 0;
			buf_clear(&b);
			assert_true(bounce_report(&f, &b));
			lines_are_short(&b);
			has(&b, "\r\nStatus: 5.0.0\r\n");
			has_not(&b, "\nBcc:");
			has_not(&b, "\r\nX: y");
		}
	buf_free(&b);
	free((void *)(uintptr_t)rcpt[1].addr.p);
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
		cmocka_unit_test(failure_as_a_whole),
		cmocka_unit_test(delay_as_a_whole),
		cmocka_unit_test(success_in_utf8_as_a_whole),
		cmocka_unit_test(utf8_for_a_sender_without_smtputf8),
		cmocka_unit_test(postmaster_copy),
		cmocka_unit_test(hostile_words),
		cmocka_unit_test(headers_alone_and_a_full_buffer),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
