/* link: proxy/smtpd_session.c proxy/smtpd_io.c proxy/smtpd_auth.c proxy/smtpd_auth_service.c proxy/smtpd_starttls.c proxy/smtpd_handshake.c proxy/smtpd_tls.c proxy/smtpd_tls_context.c proxy/smtpd_command.c proxy/smtpd_transaction.c proxy/smtpd_server.c proxy/smtpd_ehlo.c proxy/smtpd_mail.c proxy/smtpd_rcpt.c proxy/smtpd_data.c proxy/smtpd_rset.c proxy/smtpd_noop.c proxy/smtpd_vrfy.c proxy/smtpd_etrn.c proxy/smtpd_quit.c proxy/smtpd_xforward.c proxy/smtpd_text.c proxy/smtpd_binary.c proxy/smtpd_received.c proxy/smtpd_notice.c proxy/smtpd_policy.c proxy/smtpd_rate.c proxy/smtpd_ask.c proxy/smtpd_refusal.c proxy/smtpd_milter.c proxy/smtpd_bdat.c proxy/smtpd_xclient.c t/unit/fake_smtpd.c */
/* Sessions: every verb in every state, and what a transaction leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "t/unit/fake_smtpd.h"

#define GREET	"EHLO client.example\r\n"
#define MAIL	"MAIL FROM:<a@b.example>\r\n"
#define RCPT	"RCPT TO:<u@inside.example>\r\n"

static int
start(void **state)
{
	(void)state;
	fake_start("");
	return 0;
}

static int
stop(void **state)
{
	(void)state;
	fake_stop();
	return 0;
}

/* A session in that state. */
static struct session *
in_state(enum smtp_state want)
{
	struct session *s = fake_connect();

	assert_memory_equal(fake.said, "220 ", 4);
	if (want >= SMTP_GREETED)
		(void)fake_say(GREET);
	if (want >= SMTP_MAIL)
		(void)fake_say(MAIL);
	if (want >= SMTP_RCPT)
		(void)fake_say(RCPT);
	if (want == SMTP_CHUNK)
		(void)fake_say("BDAT 10\r\n12345");
	else if (want == SMTP_BDAT)
		(void)fake_say("BDAT 5\r\n12345");
	else if (want >= SMTP_DATA)
		(void)fake_say("DATA\r\n");
	if (want >= SMTP_SEALING)
		(void)fake_say("Subject: x\r\n\r\ntext\r\n.\r\n");
	assert_int_equal(s->state, want);
	return s;
}

static const char *const command[VERBS] = {
	[VERB_UNKNOWN] = "FROB\r\n",
	[VERB_HELO] = "HELO client.example\r\n",
	[VERB_EHLO] = GREET,
	[VERB_MAIL] = MAIL,
	[VERB_RCPT] = RCPT,
	[VERB_DATA] = "DATA\r\n",
	[VERB_BDAT] = "BDAT 0 LAST\r\n",
	[VERB_RSET] = "RSET\r\n",
	[VERB_NOOP] = "NOOP\r\n",
	[VERB_VRFY] = "VRFY u@inside.example\r\n",
	[VERB_ETRN] = "ETRN inside.example\r\n",
	[VERB_QUIT] = "QUIT\r\n",
	[VERB_XFORWARD] = "XFORWARD NAME=a.example\r\n",
	[VERB_XCLIENT] = "XCLIENT NAME=a.example\r\n",
	[VERB_STARTTLS] = "STARTTLS\r\n",
	[VERB_AUTH] = "AUTH PLAIN\r\n",
};

struct outcome {
	const char *reply;
	enum smtp_state state;	/* SMTP_CLOSED: the session is gone */
};

/* Written down apart from the tables of the session: a second opinion. */
static const struct outcome outcome[SMTP_STATES][VERBS] = {
	[SMTP_CONNECTED] = {
		[VERB_UNKNOWN] = { "500 5.5.2", SMTP_CONNECTED },
		[VERB_HELO] = { "250 gw", SMTP_GREETED },
		[VERB_EHLO] = { "250-gw", SMTP_GREETED },
		[VERB_MAIL] = { "250 2.1.0", SMTP_MAIL },
		[VERB_RCPT] = { "503 5.5.1 Error: need MAIL", SMTP_CONNECTED },
		[VERB_DATA] = { "503 5.5.1 Error: need RCPT", SMTP_CONNECTED },
		[VERB_BDAT] = { "503 5.5.1 Error: need RCPT", SMTP_CONNECTED },
		[VERB_RSET] = { "250 2.0.0", SMTP_CONNECTED },
		[VERB_NOOP] = { "250 2.0.0", SMTP_CONNECTED },
		[VERB_VRFY] = { "252 2.0.0", SMTP_CONNECTED },
		[VERB_ETRN] = { "250 2.0.0 Queuing", SMTP_CONNECTED },
		[VERB_XFORWARD] = { "550 5.7.0 Error: insuff", SMTP_CONNECTED },
		[VERB_XCLIENT] = { "550 5.7.0 Error: insuff", SMTP_CONNECTED },
		[VERB_STARTTLS] = { "502 5.5.1", SMTP_CONNECTED },
		[VERB_AUTH] = { "503 5.5.1 Error: send EHLO", SMTP_CONNECTED },
		[VERB_QUIT] = { "221 2.0.0", SMTP_CLOSED },
	},
	[SMTP_GREETED] = {
		[VERB_UNKNOWN] = { "500 5.5.2", SMTP_GREETED },
		[VERB_HELO] = { "250 gw", SMTP_GREETED },
		[VERB_EHLO] = { "250-gw", SMTP_GREETED },
		[VERB_MAIL] = { "250 2.1.0", SMTP_MAIL },
		[VERB_RCPT] = { "503 5.5.1 Error: need MAIL", SMTP_GREETED },
		[VERB_DATA] = { "503 5.5.1 Error: need RCPT", SMTP_GREETED },
		[VERB_BDAT] = { "503 5.5.1 Error: need RCPT", SMTP_GREETED },
		[VERB_RSET] = { "250 2.0.0", SMTP_GREETED },
		[VERB_NOOP] = { "250 2.0.0", SMTP_GREETED },
		[VERB_VRFY] = { "252 2.0.0", SMTP_GREETED },
		[VERB_ETRN] = { "250 2.0.0 Queuing", SMTP_GREETED },
		[VERB_XFORWARD] = { "550 5.7.0 Error: insuff", SMTP_GREETED },
		[VERB_XCLIENT] = { "550 5.7.0 Error: insuff", SMTP_GREETED },
		[VERB_STARTTLS] = { "502 5.5.1", SMTP_GREETED },
		[VERB_AUTH] = { "503 5.5.1 Error: authenti", SMTP_GREETED },
		[VERB_QUIT] = { "221 2.0.0", SMTP_CLOSED },
	},
	[SMTP_MAIL] = {
		[VERB_UNKNOWN] = { "500 5.5.2", SMTP_MAIL },
		[VERB_HELO] = { "250 gw", SMTP_GREETED },
		[VERB_EHLO] = { "250-gw", SMTP_GREETED },
		[VERB_MAIL] = { "503 5.5.1 Error: nested MAIL", SMTP_MAIL },
		[VERB_RCPT] = { "250 2.1.5", SMTP_RCPT },
		[VERB_DATA] = { "554 5.5.1 Error: no valid", SMTP_MAIL },
		[VERB_BDAT] = { "554 5.5.1 Error: no valid", SMTP_GREETED },
		[VERB_RSET] = { "250 2.0.0", SMTP_GREETED },
		[VERB_NOOP] = { "250 2.0.0", SMTP_MAIL },
		[VERB_VRFY] = { "252 2.0.0", SMTP_MAIL },
		[VERB_ETRN] = { "503 5.5.1 Error: MAIL tr", SMTP_MAIL },
		[VERB_XFORWARD] = { "503 5.5.1 Error: MAIL tr", SMTP_MAIL },
		[VERB_XCLIENT] = { "503 5.5.1 Error: MAIL tr", SMTP_MAIL },
		[VERB_STARTTLS] = { "503 5.5.1 Error: MAIL tr", SMTP_MAIL },
		[VERB_AUTH] = { "503 5.5.1 Error: MAIL tr", SMTP_MAIL },
		[VERB_QUIT] = { "221 2.0.0", SMTP_CLOSED },
	},
	[SMTP_RCPT] = {
		[VERB_UNKNOWN] = { "500 5.5.2", SMTP_RCPT },
		[VERB_HELO] = { "250 gw", SMTP_GREETED },
		[VERB_EHLO] = { "250-gw", SMTP_GREETED },
		[VERB_MAIL] = { "503 5.5.1 Error: nested MAIL", SMTP_RCPT },
		[VERB_RCPT] = { "250 2.1.5", SMTP_RCPT },
		[VERB_DATA] = { "354 End", SMTP_DATA },
		[VERB_BDAT] = { "", SMTP_SEALING },
		[VERB_RSET] = { "250 2.0.0", SMTP_GREETED },
		[VERB_NOOP] = { "250 2.0.0", SMTP_RCPT },
		[VERB_VRFY] = { "252 2.0.0", SMTP_RCPT },
		[VERB_ETRN] = { "503 5.5.1 Error: MAIL tr", SMTP_RCPT },
		[VERB_XFORWARD] = { "503 5.5.1 Error: MAIL tr", SMTP_RCPT },
		[VERB_XCLIENT] = { "503 5.5.1 Error: MAIL tr", SMTP_RCPT },
		[VERB_STARTTLS] = { "503 5.5.1 Error: MAIL tr", SMTP_RCPT },
		[VERB_AUTH] = { "503 5.5.1 Error: MAIL tr", SMTP_RCPT },
		[VERB_QUIT] = { "221 2.0.0", SMTP_CLOSED },
	},
	[SMTP_BDAT] = {
		[VERB_UNKNOWN] = { "500 5.5.2", SMTP_BDAT },
		[VERB_HELO] = { "250 gw", SMTP_GREETED },
		[VERB_EHLO] = { "250-gw", SMTP_GREETED },
		[VERB_MAIL] = { "503 5.5.1 Error: the mess", SMTP_BDAT },
		[VERB_RCPT] = { "503 5.5.1 Error: the mess", SMTP_BDAT },
		[VERB_DATA] = { "503 5.5.1 Error: the mess", SMTP_BDAT },
		[VERB_BDAT] = { "", SMTP_SEALING },
		[VERB_RSET] = { "250 2.0.0", SMTP_GREETED },
		[VERB_NOOP] = { "250 2.0.0", SMTP_BDAT },
		[VERB_VRFY] = { "252 2.0.0", SMTP_BDAT },
		[VERB_ETRN] = { "503 5.5.1 Error: the mess", SMTP_BDAT },
		[VERB_XFORWARD] = { "503 5.5.1 Error: the mess", SMTP_BDAT },
		[VERB_XCLIENT] = { "503 5.5.1 Error: the mess", SMTP_BDAT },
		[VERB_STARTTLS] = { "503 5.5.1 Error: the mess", SMTP_BDAT },
		[VERB_AUTH] = { "503 5.5.1 Error: the mess", SMTP_BDAT },
		[VERB_QUIT] = { "221 2.0.0", SMTP_CLOSED },
	},
};

/* Nothing of an earlier transaction may take part in the next one. */
static void
nothing_left(const struct session *s)
{
	assert_null(s->tx);
	(void)fake_say("DATA\r\n");
	assert_memory_equal(fake.said, "503 ", 4);
	(void)fake_say("MAIL FROM:<new@b.example>\r\n");
	assert_memory_equal(fake.said, "250 ", 4);
	(void)fake_say("DATA\r\n");
	assert_memory_equal(fake.said, "554 ", 4);
	(void)fake_say(RCPT "DATA\r\n");
	assert_non_null(strstr(fake.said, "354 "));
	(void)fake_say(".\r\n");
	assert_non_null(fake.sealing);
	assert_int_equal(fake.rcpts, 1);
	assert_string_equal(fake.sender, "new@b.example");
	fake_answer(250);
	assert_memory_equal(fake.said, "250 ", 4);
}

static void
every_verb_in_every_state(void **state)
{
	const struct outcome *o;
	enum smtp_state from;
	struct session *s;
	unsigned ended;
	enum verb v;

	(void)state;
	for (from = SMTP_CONNECTED; from <= SMTP_BDAT; from++)
		for (v = 0; v < VERBS; v++) {
			/* Here commands are text. */
			if (from == SMTP_DATA || from == SMTP_CHUNK)
				continue;
			o = &outcome[from][v];
			s = in_state(from);
			ended = fake.ended;
			(void)fake_say(command[v]);
			if (strncmp(fake.said, o->reply, strlen(o->reply)) != 0)
				fail_msg("%s in %s: %s", command[v],
				    smtp_state_name(from), fake.said);
			if (o->state == SMTP_CLOSED) {
				assert_int_equal(fake.ended, ended + 1);
				continue;
			}
			assert_int_equal(fake.ended, ended);
			assert_int_equal(s->state, o->state);
			assert_int_equal(s->tx != NULL, o->state >= SMTP_MAIL &&
			    o->state <= SMTP_SEALING);
			if (o->state == SMTP_SEALING)
				fake_answer(250);
			if (from >= SMTP_MAIL && o->state == SMTP_GREETED) {
				if (v == VERB_HELO)
					(void)fake_say(GREET);
				nothing_left(s);
			}
		}
	fake_disconnect();
	/* Every slot became a message or was given back. */
	assert_int_equal(fake.server.n, 0);
	assert_int_equal(fake.taken, fake.dropped +
	    fake.server.messages);
}

static void
nothing_left_after_the_text(void **state)
{
	static const unsigned code[] = { 250, 450, 550 };
	struct session *s;
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		s = in_state(SMTP_SEALING);
		assert_string_equal(fake.said, "");
		fake_answer(code[i]);
		assert_int_equal(strtoul(fake.said, NULL, 10), code[i]);
		assert_int_equal(s->state, SMTP_GREETED);
		nothing_left(s);
	}
	s = in_state(SMTP_SEALING);
	data_lost(s->tx);
	fake_run();
	assert_memory_equal(fake.said, "451 4.3.0", 9);
	nothing_left(s);
}

static void
client_leaves_in_every_state(void **state)
{
	enum smtp_state from;
	unsigned ended;

	(void)state;
	for (from = SMTP_CONNECTED; from <= SMTP_SEALING; from++) {
		(void)in_state(from);
		ended = fake.ended;
		fake_disconnect();
		assert_int_equal(fake.ended, ended + 1);
		assert_int_equal(fake.server.n, 0);
	}
	assert_int_equal(fake.taken, fake.dropped + 1);
}

/* All in one packet, and one byte at a time: the same replies. */
static void
pipelining(void **state)
{
	static const char all[] = MAIL RCPT "RCPT TO:<u@elsewhere.example>\r\n"
	    "NOOPE\r\n" RCPT "DATA\r\n";
	char first[2000];
	size_t i;

	(void)state;
	(void)in_state(SMTP_GREETED);
	(void)fake_say(all);
	memcpy(first, fake.said, fake.said_n + 1);
	assert_string_equal(first, "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"
	    "454 4.7.1 <u@elsewhere.example>: Relay access denied\r\n"
	    "500 5.5.2 Error: command not recognized\r\n250 2.1.5 Ok\r\n"
	    "354 End data with <CR><LF>.<CR><LF>\r\n");
	(void)in_state(SMTP_GREETED);
	for (i = 0; i + 1 < sizeof all; i++)
		fake_send(all + i, 1);
	fake_run();
	assert_string_equal(fake.said, first);
	(void)fake_say("x\r\n.\r\nRSET\r\nQUIT\r\n");
	assert_string_equal(fake.said, "");
	assert_int_equal(fake.rcpts, 2);
	fake_answer(250);
	assert_string_equal(fake.said, "250 2.0.0 Ok: queued\r\n"
	    "250 2.0.0 Ok\r\n221 2.0.0 Bye\r\n");
	assert_int_equal(fake.server.n, 0);
}

static void
waits_for_a_slot(void **state)
{
	struct session *s = in_state(SMTP_MAIL);

	(void)state;
	fake.no_slots = true;
	(void)fake_say(RCPT);
	assert_string_equal(fake.said, "");
	assert_int_equal(s->wait, WAIT_SLOT);
	fake.no_slots = false;
	session_resume(s);
	fake_run();
	assert_string_equal(fake.said, "250 2.1.5 Ok\r\n");
	assert_int_equal(s->state, SMTP_RCPT);
	/* And in vain. */
	s = in_state(SMTP_MAIL);
	fake.no_slots = true;
	(void)fake_say(RCPT "RSET\r\n");
	session_resume(s);
	fake_run();
	assert_string_equal(fake.said, "451 4.3.0 Error: queue file write "
	    "error\r\n250 2.0.0 Ok\r\n");
	fake.no_slots = false;
}

static void
large_text(void **state)
{
	char line[101];
	struct session *s;
	int i;

	(void)state;
	fake_stop();
	fake_start("queue_memory_text_limit = 4096\n"
	    "message_size_limit = 100000\n");
	memset(line, 'a', 98);
	memcpy(line + 98, "\r\n", 3);
	s = in_state(SMTP_DATA);
	for (i = 0; i < 100; i++)
		fake_send(line, 100);
	fake_run();
	assert_int_equal(s->wait, WAIT_SPILL);
	fake_spill();
	(void)fake_say(".\r\n");
	assert_non_null(fake.sealing);
	assert_true(fake.sealing->spilled);
	assert_int_equal(lseek(fake.text_fd, 0, SEEK_END),
	    fake.sealing->written);
	assert_int_equal(fake.sealing->size, 10000);
	fake_answer(250);
	/* No room for it. */
	fake.refuse_spill = true;
	(void)in_state(SMTP_DATA);
	for (i = 0; i < 100; i++)
		fake_send(line, 100);
	fake_run();
	fake_spill();
	(void)fake_say(".\r\n");
	assert_memory_equal(fake.said, "452 4.3.1 ", 10);
	fake.refuse_spill = false;
	/* Over the limit: read to its end, then refused. */
	s = in_state(SMTP_DATA);
	for (i = 0; i < 2000; i++) {
		fake_send(line, 100);
		if (fake.spilling != NULL)
			fake_spill();
	}
	(void)fake_say(".\r\n");
	assert_memory_equal(fake.said, "552 5.3.4 ", 10);
	assert_int_equal(s->state, SMTP_GREETED);
	nothing_left(s);
}

static void
limits(void **state)
{
	char long_line[5000];
	struct session *s;
	int i;

	(void)state;
	fake_stop();
	fake_start("smtpd_recipient_limit = 2\nsmtpd_hard_error_limit = 5\n"
	    "smtpd_recipient_overshoot_limit = 2\n"
	    "smtpd_junk_command_limit = 3\n");
	s = in_state(SMTP_RCPT);
	(void)fake_say(RCPT);
	for (i = 0; i < 3; i++) {
		(void)fake_say(RCPT);
		assert_memory_equal(fake.said, "452 4.5.3 ", 10);
		assert_int_equal(s->errors, i < 2 ? 0 : 1);
	}
	s = in_state(SMTP_GREETED);
	memset(long_line, 'x', sizeof long_line - 1);
	long_line[sizeof long_line - 1] = '\0';
	(void)fake_say(long_line);
	assert_string_equal(fake.said, "");
	assert_true(s->in.n < 4096);
	(void)fake_say("\r\nNOOP\r\n");
	assert_memory_equal(fake.said, "500 5.5.2 ", 10);
	assert_non_null(strstr(fake.said, "250 2.0.0 Ok"));
	for (i = 0; i < 4; i++)
		(void)fake_say("RSET\r\n");
	assert_int_equal(s->errors, 3);
	(void)fake_say("FROB\r\nFROB\r\nFROB\r\n");
	assert_non_null(strstr(fake.said,
	    "421 4.7.0 gw.example.net Error: too many errors\r\n"));
	assert_int_equal(fake.server.n, 0);
}

static void
synchronization(void **state)
{
	static const char *const bad[] = { GREET "NOOP\r\n",
		"HELO x\r\nNOOP\r\n", GREET MAIL };
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		(void)fake_connect();
		(void)fake_say(bad[i]);
		assert_string_equal(fake.said,
		    "554 5.5.0 Error: SMTP protocol synchronization\r\n");
		assert_int_equal(fake.server.n, 0);
	}
	(void)in_state(SMTP_RCPT);
	(void)fake_say("DATA\r\nx\r\n.\r\n");
	assert_string_equal(fake.said,
	    "554 5.5.0 Error: SMTP protocol synchronization\r\n");
	assert_null(fake.sealing);
}

static void
idle_holds_no_buffers(void **state)
{
	struct session *s = in_state(SMTP_GREETED);

	(void)state;
	assert_null(s->in.p);
	assert_null(s->out.p);
	assert_null(s->tx);
	assert_true(sizeof *s < 1024);
}

static void
notice_has(const char *text)
{
	if (strstr(fake.notice, text) == NULL)
		fail_msg("no \"%s\" in\n%s", text, fake.notice);
}

static void
postmaster_hears_what_he_wants(void **state)
{
	(void)state;
	fake_stop();
	fake_start("notify_classes = policy, bounce\n");
	(void)in_state(SMTP_MAIL);
	/* Mistakes of the protocol are another class. */
	(void)fake_say("MAIL FROM:<b@c>\r\nNOOPE\r\nRCPT TO:<>\r\n"
	    "RCPT TO:<user@inside.example> NOTIFY=X\r\n");
	fake_disconnect();
	assert_int_equal(fake.notices, 0);
	(void)in_state(SMTP_MAIL);
	(void)fake_say("RCPT TO:<u@elsewhere.example>\r\nQUIT\r\n");
	assert_int_equal(fake.notices, 1);
	notice_has("To: postmaster@example.net\r\n");
	notice_has("Subject: Postern SMTP server: errors from "
	    "client.example[203.0.113.5]\r\n");
	notice_has("(notify_classes: policy)");
	notice_has("Out: 220 gw.example.net ESMTP Postern\r\nIn: EHLO ");
	notice_has("In: RCPT TO:<u@elsewhere.example>\r\nOut: 454 4.7.1 ");
	notice_has("\r\nIn: QUIT\r\nOut: 221 2.0.0 Bye\r\n");
	/* What one client says is not the next one's. */
	(void)in_state(SMTP_GREETED);
	fake_disconnect();
	assert_int_equal(fake.notices, 1);
}

static void
postmaster_is_not_flooded(void **state)
{
	char line[600];
	unsigned i;

	(void)state;
	fake_stop();
	fake_start("notify_classes = protocol\nsmtpd_hard_error_limit = 1000\n"
	    "error_notice_recipient = errors@x.example\n");
	(void)in_state(SMTP_GREETED);
	memset(line, 'x', sizeof line);
	memcpy(line + sizeof line - 3, "\r\n", 3);
	for (i = 0; i < 60; i++)
		(void)fake_say(line);
	(void)fake_say("LAST\r\n");
	fake_disconnect();
	assert_int_equal(fake.notices, 1);
	notice_has("To: errors@x.example\r\n");
	notice_has("In: LAST\r\nOut: 500 5.5.2 ");
	/* The end of it, with whole lines. */
	assert_null(strstr(fake.notice, "220 gw.example.net"));
	assert_true(strlen(fake.notice) < 10000);
	assert_true(strlen(fake.notice) > 6000);
	assert_true(strstr(fake.notice, "last:\r\n\r\nIn: xxx") != NULL ||
	    strstr(fake.notice, "last:\r\n\r\nOut: 500") != NULL);
	for (i = 0; i < 100; i++) {
		(void)in_state(SMTP_GREETED);
		(void)fake_say("NOOPE\r\n");
		fake_disconnect();
	}
	assert_int_equal(fake.notices, 20);
}

static void
nothing_is_kept_for_other_classes(void **state)
{
	struct session *s;

	(void)state;
	fake_stop();
	fake_start("notify_classes = resource\n");
	s = in_state(SMTP_SEALING);
	assert_null(s->talk.p);
	data_lost(s->tx);
	fake_disconnect();
	assert_int_equal(fake.notices, 1);
	notice_has("(notify_classes: resource)");
	assert_null(strstr(fake.notice, "In: "));
	/* Nor is a full spool filled with it. */
	fake.server.no_space = true;
	(void)in_state(SMTP_GREETED);
	(void)fake_say(MAIL);
	assert_memory_equal(fake.said, "452 4.3.1 ", 10);
	fake_disconnect();
	assert_int_equal(fake.notices, 1);
}

/* smtpd_delay_open_until_valid_rcpt = no: the queue id comes with MAIL, if one
 * is at hand, and is given back if nothing comes of it. */
static void
queue_id_at_mail(void **state)
{
	struct session *s;

	(void)state;
	fake_stop();
	fake_start("smtpd_delay_open_until_valid_rcpt = no\n");
	s = in_state(SMTP_MAIL);
	assert_true(s->tx->has_slot);
	assert_int_equal(fake.taken, 1);
	(void)fake_say("RCPT TO:<u@far.example>\r\nRSET\r\n");
	assert_int_equal(fake.dropped, 1);
	(void)fake_say(MAIL RCPT);
	assert_int_equal(fake.taken, 2);
	fake_disconnect();
	assert_int_equal(fake.dropped, 2);
	fake.no_slots = true;
	s = in_state(SMTP_MAIL);
	assert_false(s->tx->has_slot);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_verb_in_every_state,
		    start, stop),
		cmocka_unit_test_setup_teardown(nothing_left_after_the_text,
		    start, stop),
		cmocka_unit_test_setup_teardown(client_leaves_in_every_state,
		    start, stop),
		cmocka_unit_test_setup_teardown(pipelining, start, stop),
		cmocka_unit_test_setup_teardown(waits_for_a_slot, start, stop),
		cmocka_unit_test_setup_teardown(large_text, start, stop),
		cmocka_unit_test_setup_teardown(limits, start, stop),
		cmocka_unit_test_setup_teardown(synchronization, start, stop),
		cmocka_unit_test_setup_teardown(idle_holds_no_buffers, start,
		    stop),
		cmocka_unit_test_setup_teardown(
		    postmaster_hears_what_he_wants, start, stop),
		cmocka_unit_test_setup_teardown(postmaster_is_not_flooded,
		    start, stop),
		cmocka_unit_test_setup_teardown(
		    nothing_is_kept_for_other_classes, start, stop),
		cmocka_unit_test_setup_teardown(queue_id_at_mail, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
