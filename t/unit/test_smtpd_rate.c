/* link: proxy/smtpd_session.c proxy/smtpd_io.c proxy/smtpd_auth.c proxy/smtpd_auth_service.c proxy/smtpd_starttls.c proxy/smtpd_handshake.c proxy/smtpd_tls.c proxy/smtpd_tls_context.c proxy/smtpd_command.c proxy/smtpd_transaction.c proxy/smtpd_server.c proxy/smtpd_ehlo.c proxy/smtpd_mail.c proxy/smtpd_rcpt.c proxy/smtpd_data.c proxy/smtpd_rset.c proxy/smtpd_noop.c proxy/smtpd_vrfy.c proxy/smtpd_etrn.c proxy/smtpd_quit.c proxy/smtpd_xforward.c proxy/smtpd_text.c proxy/smtpd_binary.c proxy/smtpd_received.c proxy/smtpd_notice.c proxy/smtpd_policy.c proxy/smtpd_rate.c proxy/smtpd_ask.c proxy/smtpd_refusal.c proxy/smtpd_milter.c proxy/smtpd_bdat.c proxy/smtpd_xclient.c t/unit/fake_smtpd.c */
/* How often a client may say MAIL and RCPT: gate's numbers, or our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "t/unit/fake_smtpd.h"

static struct session *counting;	/* waits for its number */
static enum client_event counted;
static unsigned asked;
static int a_gate;

static void
on_event(struct server *sv, struct session *s, enum client_event event,
    uint32_t tag)
{
	(void)sv;
	(void)tag;
	counting = s;
	counted = event;
	asked++;
}

static void
begin(const char *settings)
{
	fake_start(settings);
	fake.server.on_event = on_event;
	counting = NULL;
	asked = 0;
}

static struct session *
greeted(bool gate)
{
	struct session *s = fake_connect();

	s->gate = gate ? &a_gate : NULL;
	(void)fake_say("EHLO client.example\r\n");
	return s;
}

static void
told(uint32_t n, const char *reply)
{
	struct session *s = counting;

	counting = NULL;
	session_counted(s, n);
	fake_run();
	assert_string_equal(fake.said, reply);
}

#define LIMITS	"smtpd_client_message_rate_limit = 3\n" \
	"smtpd_client_recipient_rate_limit = 10\n"

static void
gate_counts(void **state)
{
	struct session *s;

	(void)state;
	begin(LIMITS);
	s = greeted(true);
	/* Nothing is said, nothing more is done, before the number is here. */
	assert_string_equal(fake_say("MAIL FROM:<a@b.example>\r\n"
	    "RCPT TO:<u@inside.example>\r\nDATA\r\n"), "");
	assert_int_equal(counted, EVENT_MESSAGE);
	assert_int_equal(s->state, SMTP_GREETED);
	told(3, "250 2.1.0 Ok\r\n");
	assert_int_equal(counted, EVENT_RECIPIENT);
	told(11, "450 4.7.1 Error: too many recipients from 203.0.113.5\r\n"
	    "554 5.5.1 Error: no valid recipients\r\n");
	assert_int_equal(s->errors, 2);
	(void)fake_say("RSET\r\nMAIL FROM:<a@b.example>\r\n");
	told(4, "450 4.7.1 Error: too much mail from 203.0.113.5\r\n");
	assert_int_equal(s->state, SMTP_GREETED);
	/* One that it does not count. */
	(void)fake_say("MAIL FROM:<a@b.example>\r\n");
	told(0, "250 2.1.0 Ok\r\n");
	/* What the table of states refuses is no message. */
	asked = 0;
	(void)fake_say("MAIL FROM:<a@b.example>\r\n");
	assert_memory_equal(fake.said, "503 ", 4);
	assert_int_equal(asked, 0);
	fake_stop();
}

static void
without_gate(void **state)
{
	struct session *s;
	unsigned i;

	(void)state;
	begin(LIMITS);
	(void)greeted(false);
	for (i = 0; i < 3; i++) {
		assert_memory_equal(fake_say("MAIL FROM:<a@b.example>\r\n"),
		    "250 ", 4);
		(void)fake_say("RSET\r\n");
	}
	assert_memory_equal(fake_say("MAIL FROM:<a@b.example>\r\n"), "450 ",
	    4);
	assert_int_equal(asked, 0);
	/* It goes away while it is asked. */
	s = greeted(true);
	(void)fake_say("MAIL FROM:<a@b.example>\r\n");
	s->gate = NULL;
	session_count_lost(counting);
	fake_run();
	assert_string_equal(fake.said, "250 2.1.0 Ok\r\n");
	/* So does the client. */
	s = greeted(true);
	(void)fake_say("MAIL FROM:<a@b.example>\r\n");
	assert_int_equal(s->wait, WAIT_RATE);
	fake_stop();
}

static void
who_is_not_asked(void **state)
{
	(void)state;
	begin("smtpd_client_event_limit_exceptions = 203.0.113.0/24\n" LIMITS);
	(void)greeted(true);
	assert_memory_equal(fake_say("MAIL FROM:<a@b.example>\r\n"), "250 ",
	    4);
	fake_stop();
	begin("smtpd_client_recipient_rate_limit = 1\n");
	(void)greeted(true);
	assert_memory_equal(fake_say("MAIL FROM:<a@b.example>\r\n"), "250 ",
	    4);
	assert_int_equal(asked, 0);
	fake_stop();
}

/* A refusal that had to be waited for is as slow as any other. */
static void
errors_are_slow(void **state)
{
	struct session *s;

	(void)state;
	begin(LIMITS "smtpd_error_sleep_time = 600s\n"
	    "smtpd_soft_error_limit = 2\n");
	s = greeted(true);
	(void)fake_say("MAIL FROM:<a@b.example>\r\n");
	told(4, "450 4.7.1 Error: too much mail from 203.0.113.5\r\n");
	(void)fake_say("MAIL FROM:<a@b.example>\r\n");
	told(5, "");
	assert_int_equal(s->wait, WAIT_PAUSE);
	fake_stop();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gate_counts),
		cmocka_unit_test(without_gate),
		cmocka_unit_test(who_is_not_asked),
		cmocka_unit_test(errors_are_slow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
