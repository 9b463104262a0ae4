/* link: proxy/smtpd_session.c proxy/smtpd_io.c proxy/smtpd_auth.c proxy/smtpd_auth_service.c proxy/smtpd_starttls.c proxy/smtpd_handshake.c proxy/smtpd_tls.c proxy/smtpd_tls_context.c proxy/smtpd_command.c proxy/smtpd_transaction.c proxy/smtpd_server.c proxy/smtpd_ehlo.c proxy/smtpd_mail.c proxy/smtpd_rcpt.c proxy/smtpd_data.c proxy/smtpd_rset.c proxy/smtpd_noop.c proxy/smtpd_vrfy.c proxy/smtpd_etrn.c proxy/smtpd_quit.c proxy/smtpd_xforward.c proxy/smtpd_text.c proxy/smtpd_binary.c proxy/smtpd_received.c proxy/smtpd_notice.c proxy/smtpd_policy.c proxy/smtpd_rate.c proxy/smtpd_ask.c proxy/smtpd_refusal.c proxy/smtpd_milter.c proxy/smtpd_bdat.c proxy/smtpd_xclient.c t/unit/fake_smtpd.c */
/* Sessions that wait for a fact: what was said goes on as it was meant, and
 * nothing is left when it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/log.h"
#include "t/unit/fake_smtpd.h"

static void
says(const char *bytes, const char *reply)
{
	const char *said = fake_say(bytes);

	if (strncmp(said, reply, strlen(reply)) != 0 ||
	    (reply[0] == '\0' && said[0] != '\0'))
		fail_msg("%s: %s", bytes, said);
}

static void
hears(enum fact_status status, const char *reply)
{
	fake_fact(status);
	if (strncmp(fake.said, reply, strlen(reply)) != 0 ||
	    (reply[0] == '\0' && fake.said[0] != '\0'))
		fail_msg("%s", fake.said);
}

static struct session *
begin(const char *settings)
{
	struct session *s;

	fake_start(settings);
	s = fake_connect();
	says("EHLO client.example\r\n", "250-");
	return s;
}

#define UNKNOWN_SENDER	"smtpd_sender_restrictions = " \
	"reject_unknown_sender_domain\n"

static void
a_recipient_waits(void **state)
{
	struct session *s = begin(UNKNOWN_SENDER);

	(void)state;
	says("MAIL FROM:<a@b.example>\r\n", "250 2.1.0 Ok\r\n");
	/* What follows in the same packet waits too. */
	says("RCPT TO:<u@inside.example> NOTIFY=NEVER\r\nRSET\r\n", "");
	assert_int_equal(s->wait, WAIT_FACT);
	hears(FACT_NO_NAME, "");
	assert_int_equal(s->wait, WAIT_FACT);
	hears(FACT_NO_NAME, "450 4.1.8 <a@b.example>: Sender address "
	    "rejected: Domain not found\r\n250 2.0.0 Ok\r\n");
	assert_null(s->tx);
	/* What was about that sender was put away with the transaction. */
	assert_int_equal(s->facts.count[SHELF_TRANSACTION], 0);
	says("MAIL FROM:<a@b.example>\r\n", "250 2.1.0 Ok\r\n");
	says("RCPT TO:<u@inside.example> NOTIFY=NEVER\r\n", "");
	hears(FACT_NO_DATA, "");
	/* Not known now: deferred. */
	hears(FACT_TEMPORARY, "450 4.1.8 ");
	assert_null(s->pending);
	/* Once it is known, the next recipient is not asked for. */
	says("RCPT TO:<v@inside.example>\r\n", "450 4.1.8 ");
	fake_stop();
}

static void
the_client_leaves(void **state)
{
	(void)state;
	(void)begin(UNKNOWN_SENDER);
	says("MAIL FROM:<a@b.example>\r\n", "250 2.1.0 Ok\r\n");
	says("RCPT TO:<u@inside.example>\r\n", "");
	/* The end is seen when it is listened to again. */
	close(fake.client);
	fake.client = -1;
	fake_fact(FACT_TEMPORARY);
	assert_int_equal(fake.ended, 0);
	fake_fact(FACT_TEMPORARY);
	fake_run();
	assert_int_equal(fake.ended, 1);
	fake_stop();
}

static void
helo_and_mail_wait(void **state)
{
	struct session *s;

	(void)state;
	fake_start("smtpd_delay_reject = no\n"
	    "smtpd_helo_restrictions = reject_unknown_helo_hostname\n"
	    UNKNOWN_SENDER);
	s = fake_connect();
	says("EHLO no.example\r\n", "");
	hears(FACT_NO_NAME, "");
	hears(FACT_NO_NAME, "450 4.7.1 <no.example>: Helo command rejected: "
	    "Host not found\r\n");
	assert_int_equal(s->state, SMTP_CONNECTED);
	assert_null(s->helo);
	/* A doubt is kept for the recipients. */
	says("EHLO later.example\r\n", "");
	hears(FACT_TEMPORARY, "");
	hears(FACT_NO_NAME, "250-");
	assert_non_null(s->carry.helo);
	says("MAIL FROM:<a@gone.example>\r\n", "");
	hears(FACT_NO_NAME, "");
	hears(FACT_NO_DATA, "450 4.1.8 <a@gone.example>: ");
	assert_null(s->tx);
	says("MAIL FROM:<a@[192.0.2.1]> SIZE=100\r\n", "250 2.1.0 Ok\r\n");
	assert_int_equal(s->tx->declared, 100);
	says("RCPT TO:<u@inside.example>\r\n", "450 4.7.1 <later.example>: "
	    "Helo command rejected: Host not found\r\n");
	/* A name that is known takes it back. */
	says("EHLO [192.0.2.1]\r\n", "250-");
	assert_null(s->carry.helo);
	says("MAIL FROM:<>\r\nRCPT TO:<u@inside.example>\r\n",
	    "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n");
	fake_stop();
}

static void
a_verified_address_changes_nothing(void **state)
{
	struct session *s = begin(UNKNOWN_SENDER
	    "smtpd_recipient_restrictions = check_recipient_access "
	    "inline:{ h@inside.example=HOLD }\n");
	const struct transaction *tx;

	(void)state;
	says("MAIL FROM:<>\r\nRCPT TO:<u@inside.example>\r\n",
	    "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n");
	tx = s->tx;
	says("VRFY h@inside.example\r\n", "252 2.0.0 ");
	says("VRFY \xc3\xbc@inside.example SMTPUTF8\r\n", "252 2.0.0 ");
	says("VRFY nobody@outside.example\r\n", "454 4.7.1 ");
	assert_ptr_equal(s->tx, tx);
	assert_int_equal(tx->nrcpts, 1);
	assert_null(tx->actions);
	assert_int_equal(s->state, SMTP_RCPT);
	says("RCPT TO:<h@inside.example>\r\n", "250 2.1.5 Ok\r\n");
	assert_true(tx->actions->hold);
	says("RSET\r\n", "250 2.0.0 Ok\r\n");
	says("MAIL FROM:<>\r\n", "250 2.1.0 Ok\r\n");
	assert_null(s->tx->actions);
	fake_stop();
}

static void
etrn_is_answered(void **state)
{
	begin("smtpd_etrn_restrictions = check_etrn_access "
	    "inline:{ secret.inside.example=REJECT }, "
	    "reject_unknown_client_hostname\n"
	    "fast_flush_domains = inside.example, [192.0.2.7]\n");
	(void)state;
	says("ETRN\r\n", "500 5.5.4 Syntax: ETRN domain\r\n");
	says("ETRN a b\r\n", "500 5.5.4 Syntax: ETRN domain\r\n");
	says("ETRN @\r\n", "501 5.5.4 ");
	says("ETRN a..b\r\n", "501 5.5.4 ");
	says("ETRN [192.0.2\r\n", "501 5.5.4 ");
	says("ETRN secret.inside.example\r\n", "554 5.7.1 "
	    "<secret.inside.example>: Etrn command rejected: Access denied");
	says("ETRN outside.example\r\n",
	    "459 4.7.1 <outside.example>: service unavailable\r\n");
	assert_int_equal(fake.sites, 0);
	says("ETRN INSIDE.example\r\n", "250 2.0.0 Queuing started\r\n");
	says("ETRN @inside.example\r\n", "250 2.0.0 Queuing started\r\n");
	says("ETRN #a.inside.example\r\n", "250 2.0.0 Queuing ");
	says("ETRN [192.0.2.7]\r\n", "250 2.0.0 Queuing started\r\n");
	assert_int_equal(fake.sites, 4);
	fake.no_manager = true;
	says("ETRN inside.example\r\n",
	    "458 4.3.0 Unable to queue messages\r\n");
	fake_stop();
	begin("");
	/* fast_flush_domains is relay_domains. */
	says("ETRN inside.example\r\n", "250 2.0.0 Queuing started\r\n");
	says("ETRN gw.example.net\r\n", "459 4.7.1 ");
	fake_stop();
	fake_start("smtpd_helo_required = yes\n");
	fake_connect();
	says("ETRN inside.example\r\n", "503 5.5.1 Error: send HELO");
	fake_stop();
}

static void
the_end_of_a_text_waits(void **state)
{
	struct session *s = begin("smtpd_end_of_data_restrictions = "
	    "reject_unknown_sender_domain\n");

	(void)state;
	says("MAIL FROM:<a@b.example>\r\nRCPT TO:<u@inside.example>\r\n",
	    "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n");
	says("DATA\r\n", "354 ");
	says("Subject: x\r\n\r\nx\r\n.\r\n", "");
	assert_int_equal(s->wait, WAIT_FACT);
	assert_null(fake.sealing);
	hears(FACT_NO_NAME, "");
	hears(FACT_NO_NAME, "450 4.1.8 <a@b.example>: Sender address "
	    "rejected: Domain not found\r\n");
	/* Nothing is left for the next one to use. */
	assert_null(s->tx);
	assert_null(fake.sealing);
	says("RCPT TO:<u@inside.example>\r\n", "503 5.5.1 ");
	says("DATA\r\n", "503 5.5.1 ");
	says("MAIL FROM:<>\r\nRCPT TO:<u@inside.example>\r\n",
	    "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n");
	says("DATA\r\n", "354 ");
	says("Subject: y\r\n\r\ny\r\n.\r\n", "");
	assert_non_null(fake.sealing);
	fake_answer(250);
	fake_stop();
}

static void
denied(void **state)
{
	struct session *s;

	(void)state;
	fake_start("smtpd_delay_reject = no\nsmtpd_client_restrictions = "
	    "reject_rbl_client bl.example, reject\n");
	s = fake_connect();
	assert_int_equal(fake.said_n, 0);
	hears(FACT_TEMPORARY, "554 5.7.1 <client.example[203.0.113.5]>: "
	    "Client host rejected: Access denied\r\n");
	assert_int_equal(s->state, SMTP_CONNECTED);
	says("MAIL FROM:<a@b.example>\r\n", "503 5.7.0 Error: access denied "
	    "for client.example[203.0.113.5]\r\n");
	says("QUIT\r\n", "221 2.0.0 Bye\r\n");
	fake_stop();
}

/* The disk fills up while MAIL waits: what was checked stays checked. */
static void
room_goes_while_mail_waits(void **state)
{
	struct session *s = begin("smtpd_delay_reject = no\n" UNKNOWN_SENDER);

	(void)state;
	says("MAIL FROM:<a@b.example> SIZE=1000\r\n", "");
	assert_int_equal(s->wait, WAIT_FACT);
	fake.server.no_space = true;
	fake.server.free_bytes = 10;
	hears(FACT_TEMPORARY, "");
	hears(FACT_TEMPORARY, "250 2.1.0 Ok\r\n");
	says("RSET\r\nMAIL FROM:<a@b.example> SIZE=1000\r\n",
	    "250 2.0.0 Ok\r\n452 4.3.1 ");
	fake_stop();
}

/* Nobody's copy is lost because of the recipients before him. */
static void
copies_have_a_limit(void **state)
{
	struct session *s = begin("smtpd_recipient_restrictions = "
	    "check_recipient_access regexp:{ {/^(.*)@inside.example/ "
	    "BCC $$1@archive.example} }\n");
	char line[80];
	unsigned i;

	(void)state;
	says("MAIL FROM:<a@b.example>\r\n", "250 ");
	for (i = 0; i < POLICY_LIST_MAX; i++) {
		(void)snprintf(line, sizeof line,
		    "RCPT TO:<u%u@inside.example>\r\n", i);
		says(line, "250 ");
	}
	says("RCPT TO:<boss@inside.example>\r\n",
	    "452 4.5.3 Error: too many recipients\r\n");
	says("RCPT TO:<u3@inside.example>\r\n", "250 ");
	assert_int_equal(s->tx->actions->n_bcc, POLICY_LIST_MAX);
	assert_int_equal(s->tx->nrcpts, POLICY_LIST_MAX + 1);
	fake_stop();
}

/* Numbers of questions: an answer is for the question it was asked for, or for
 * nobody. */
static void
late_answers(void **state)
{
	struct session *s = begin(UNKNOWN_SENDER);
	uint32_t first, tag, i;

	(void)state;
	says("MAIL FROM:<a@b.example>\r\nRCPT TO:<u@inside.example>\r\n",
	    "250 2.1.0 Ok\r\n");
	assert_int_equal(s->wait, WAIT_FACT);
	first = session_ask(s, s);
	assert_ptr_equal(session_asked(first, WAIT_FACT), s);
	assert_null(session_asked(first, WAIT_NAME));
	for (i = 0; i < 100000; i++) {
		tag = session_ask(s, s);
		assert_null(session_asked(first, WAIT_FACT));
	}
	assert_ptr_equal(session_asked(tag, WAIT_FACT), s);
	assert_null(session_asked(0, WAIT_FACT));
	/* Of one that is gone, too, whoever has its place now. */
	session_close(s, NULL);
	assert_null(session_asked(tag, WAIT_FACT));
	fake_stop();
}

/* As slow as a refusal that needs no lookup. */
static void
refused_after_a_wait(void **state)
{
	struct session *s = begin(UNKNOWN_SENDER
	    "smtpd_error_sleep_time = 600s\nsmtpd_soft_error_limit = 1\n");

	(void)state;
	says("MAIL FROM:<a@b.example>\r\n", "250 ");
	says("RCPT TO:<u@inside.example>\r\n", "");
	hears(FACT_NO_NAME, "");
	hears(FACT_NO_NAME, "");
	assert_int_equal(s->wait, WAIT_PAUSE);
	assert_int_equal(s->errors, 1);
	fake_stop();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(room_goes_while_mail_waits),
		cmocka_unit_test(copies_have_a_limit),
		cmocka_unit_test(late_answers),
		cmocka_unit_test(refused_after_a_wait),
		cmocka_unit_test(a_recipient_waits),
		cmocka_unit_test(the_client_leaves),
		cmocka_unit_test(helo_and_mail_wait),
		cmocka_unit_test(a_verified_address_changes_nothing),
		cmocka_unit_test(etrn_is_answered),
		cmocka_unit_test(the_end_of_a_text_waits),
		cmocka_unit_test(denied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
