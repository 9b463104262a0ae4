/* link: proxy/smtpd_session.c proxy/smtpd_io.c proxy/smtpd_auth.c proxy/smtpd_auth_service.c proxy/smtpd_starttls.c proxy/smtpd_handshake.c proxy/smtpd_tls.c proxy/smtpd_tls_context.c proxy/smtpd_command.c proxy/smtpd_transaction.c proxy/smtpd_server.c proxy/smtpd_ehlo.c proxy/smtpd_mail.c proxy/smtpd_rcpt.c proxy/smtpd_data.c proxy/smtpd_bdat.c proxy/smtpd_rset.c proxy/smtpd_noop.c proxy/smtpd_vrfy.c proxy/smtpd_etrn.c proxy/smtpd_quit.c proxy/smtpd_xforward.c proxy/smtpd_text.c proxy/smtpd_binary.c proxy/smtpd_received.c proxy/smtpd_notice.c proxy/smtpd_policy.c proxy/smtpd_rate.c proxy/smtpd_ask.c proxy/smtpd_refusal.c proxy/smtpd_milter.c proxy/smtpd_xclient.c t/unit/fake_smtpd.c */
/* BDAT: where chunks are cut changes nothing, and what is in one is never a
 * command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "t/unit/fake_smtpd.h"

#define GREET	"EHLO client.example\r\n"
#define OPEN	"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@inside.example>\r\n"
/* Commands as text: nobody may see them. */
#define TRAP	"QUIT\r\nFROB\r\n"
#define TRAP_N	"12"

static int
start(void **state)
{
	(void)state;
	fake_start("smtpd_hard_error_limit = 1000\n");
	return 0;
}

static int
stop(void **state)
{
	(void)state;
	fake_stop();
	return 0;
}

static struct session *
greeted(void)
{
	struct session *s = fake_connect();

	(void)fake_say(GREET);
	assert_int_equal(s->state, SMTP_GREETED);
	return s;
}

/* The stored text behind our Received header. */
static const char *
stored(void)
{
	static char text[200000];
	ssize_t n = pread(fake.text_fd, text, sizeof text - 1, 0);
	const char *p;

	assert_true(n > 0);
	text[n] = '\0';
	p = strstr(text, ";\r\n\t");
	if (p == NULL)
		p = strstr(text, ">; ");
	assert_non_null(p);
	p = strstr(p + 3, "\r\n");
	assert_non_null(p);
	return p + 2;
}

static const struct {
	const char *in, *out;
} cases[] = {
	{ "", "" },
	{ "a", "a\r\n" },
	{ "a\r\n", "a\r\n" },
	{ "a\r\nb", "a\r\nb\r\n" },
	{ "a\r", "a \r\n" },
	{ "a\r\r\n", "a \r\n" },
	{ "a\nb\n", "a\r\nb\r\n" },
	{ "\n", "\r\n" },
	/* No dot is special, and none ends anything. */
	{ ".\r\n", ".\r\n" },
	{ "a\r\n.\r\nb\r\n", "a\r\n.\r\nb\r\n" },
	{ "a\r\n..\r\n", "a\r\n..\r\n" },
	{ "a\n.\nb", "a\r\n.\r\nb\r\n" },
	{ "a\r\n.\r\nMAIL FROM:<x>\r\n", "a\r\n.\r\nMAIL FROM:<x>\r\n" },
	{ "a\r\n.", "a\r\n.\r\n" },
	{ "a\r.\r\n", "a .\r\n" },
	{ "BDAT 5 LAST\r\n", "BDAT 5 LAST\r\n" },
	/* The first line. */
	{ "From x\r\n", "X-Mailbox-Line: From x\r\n" },
	{ ">From x\r\n", "X-Mailbox-Line: >From x\r\n" },
	{ "Fro", "Fro\r\n" },
	{ ">>", ">>\r\n" },
	{ " x\r\n", "\r\n x\r\n" },
};

static void
chunk_send(const char *p, size_t n, bool last)
{
	char line[40];

	(void)snprintf(line, sizeof line, "BDAT %zu%s\r\n", n,
	    last ? " LAST" : "");
	fake_send(line, strlen(line));
	fake_send(p, n);
}

static void
any_cut_gives_the_same(void **state)
{
	size_t i, a, b, n;
	const char *in;
	char want[100];

	(void)state;
	(void)greeted();
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		in = cases[i].in;
		n = strlen(in);
		for (a = 0; a <= n; a++)
			for (b = a; b <= n; b++) {
				(void)fake_say(OPEN);
				chunk_send(in, a, false);
				chunk_send(in + a, b - a, false);
				chunk_send(in + b, n - b, true);
				fake_run();
				(void)snprintf(want, sizeof want,
				    "250 2.0.0 Ok: %zu bytes\r\n"
				    "250 2.0.0 Ok: %zu bytes\r\n", a, b - a);
				assert_string_equal(fake.said, want);
				assert_non_null(fake.sealing);
				if (strcmp(stored(), cases[i].out) != 0)
					fail_msg("case %zu cut at %zu, %zu: "
					    "%s", i, a, b, stored());
				fake_answer(250);
				assert_memory_equal(fake.said, "250 2.0.0", 9);
			}
	}
}

/* Byte by byte, and in pieces of any size: the same replies and text. */
static void
any_packet_gives_the_same(void **state)
{
	static const char all[] = OPEN "BDAT 12\r\nSubject: x\r\n"
	    "BDAT 14\r\n\r\n.\r\nQUIT\r\nx\r\n" "BDAT 0\r\nBDAT 0 LAST\r\n";
	size_t piece, i, n = sizeof all - 1;
	char got[1000];
	size_t len;

	(void)state;
	(void)greeted();
	for (piece = 1; piece <= n; piece++) {
		len = 0;
		for (i = 0; i < n; i += piece) {
			fake_send(all + i, piece < n - i ? piece : n - i);
			fake_run();
			assert_true(len + fake.said_n < sizeof got);
			memcpy(got + len, fake.said, fake.said_n + 1);
			len += fake.said_n;
		}
		assert_string_equal(got, "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"
		    "250 2.0.0 Ok: 12 bytes\r\n250 2.0.0 Ok: 14 bytes\r\n"
		    "250 2.0.0 Ok: 0 bytes\r\n");
		assert_non_null(fake.sealing);
		assert_string_equal(stored(),
		    "Subject: x\r\n\r\n.\r\nQUIT\r\nx\r\n");
		fake_answer(250);
	}
}

/* What is refused is read all the same, exactly, and its reply comes after
 * it. */
static void
refused_is_skipped(void **state)
{
#define MAIL	"MAIL FROM:<a@b.example>\r\n"
	static const char *const before[] = { "", MAIL,
		(MAIL "RCPT TO:<u@elsewhere.example>\r\n") };
	struct session *s;
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		s = greeted();
		(void)fake_say(before[i]);
		(void)fake_say("BDAT " TRAP_N "\r\nQUIT\r\n");
		assert_string_equal(fake.said, "");
		(void)fake_say("FROB\r\nBDAT " TRAP_N " LAST\r\n" TRAP
		    "NOOP\r\n");
		assert_memory_equal(fake.said, i == 0 ? "503 5.5.1 " :
		    "554 5.5.1 ", 10);
		assert_non_null(strstr(fake.said, "\r\n503 5.5.1 "));
		assert_non_null(strstr(fake.said, "\r\n250 2.0.0 Ok\r\n"));
		assert_null(strstr(fake.said, "500 "));
		assert_int_equal(s->state, SMTP_GREETED);
		assert_null(s->tx);
	}
	/* Nothing of it, and nothing to wait for. */
	s = greeted();
	(void)fake_say("BDAT 0 LAST\r\nBDAT 0\r\nNOOP\r\n");
	assert_non_null(strstr(fake.said, "503 5.5.1 "));
	assert_non_null(strstr(fake.said, "250 2.0.0 Ok\r\n"));
	assert_false(s->chunk.on);
}

/* A size that is none: what follows could be anything. */
static void
no_size_ends_the_session(void **state)
{
	static const char *const bad[] = { "BDAT\r\n", "BDAT -1\r\n",
		"BDAT 0x10 LAST\r\n", "BDAT LAST\r\n", "BDAT 5 LAST 5\r\n",
		"BDAT 99999999999999999999999\r\n", "BDAT 5LAST\r\n",
		"BDAT 5 FIRST\r\n", "bdat +5\r\n", "BDAT 5,5\r\n" };
	unsigned ended;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		(void)greeted();
		(void)fake_say(OPEN);
		ended = fake.ended;
		fake_send(bad[i], strlen(bad[i]));
		(void)fake_say("NOOP\r\n");
		assert_string_equal(fake.said,
		    "521 5.5.4 Syntax: BDAT count [LAST]\r\n");
		assert_int_equal(fake.ended, ended + 1);
	}
	/* More than anybody wants to read. */
	(void)greeted();
	ended = fake.ended;
	(void)fake_say("BDAT 999999999999 LAST\r\n");
	assert_memory_equal(fake.said, "552 5.3.4 ", 10);
	assert_int_equal(fake.ended, ended + 1);
}

/* After a refused chunk neither sender nor recipients are left, whatever had
 * been pipelined. */
static void
error_resets_the_transaction(void **state)
{
	struct session *s;

	(void)state;
	fake_stop();
	fake_start("message_size_limit = 20000\n"
	    "smtpd_forbid_bare_newline = reject\n");
	s = greeted();
	(void)fake_say(OPEN "BDAT 6\r\nx: y\r\nBDAT 4\r\na\nb\n"
	    "BDAT 3 LAST\r\nc\r\nNOOP\r\n");
	assert_string_equal(fake.said, "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"
	    "250 2.0.0 Ok: 6 bytes\r\n"
	    "550 5.5.2 gw.example.net Error: bare <LF> received\r\n"
	    "503 5.5.1 Error: need RCPT command\r\n250 2.0.0 Ok\r\n");
	assert_null(s->tx);
	/* Announced to be too large: none of it is written. */
	(void)fake_say(OPEN "BDAT 6\r\nx: y\r\nBDAT 19995\r\n");
	assert_string_equal(fake.said, "");
	for (int i = 0; i < 19995 / 5; i++)
		fake_send("NOOP\n", 5);
	(void)fake_say("RCPT TO:<u@inside.example>\r\nNOOP\r\n");
	assert_string_equal(fake.said, "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"
	    "250 2.0.0 Ok: 6 bytes\r\n"
	    "552 5.3.4 Error: message file too big\r\n"
	    "503 5.5.1 Error: need MAIL command\r\n250 2.0.0 Ok\r\n");
	assert_null(s->tx);
}

static void
restrictions_reset_the_transaction(void **state)
{
	struct session *s;

	(void)state;
	fake_stop();
	fake_start("smtpd_data_restrictions = reject\n");
	s = greeted();
	(void)fake_say(OPEN "BDAT " TRAP_N "\r\n" TRAP "BDAT 0 LAST\r\n");
	assert_non_null(strstr(fake.said, "554 5.7.1 "));
	assert_non_null(strstr(fake.said, "503 5.5.1 Error: need RCPT"));
	assert_null(s->tx);
	fake_stop();
	fake_start("smtpd_end_of_data_restrictions = reject\n");
	s = greeted();
	(void)fake_say(OPEN "BDAT " TRAP_N "\r\n" TRAP);
	assert_non_null(strstr(fake.said, "250 2.0.0 Ok: 12 bytes\r\n"));
	(void)fake_say("BDAT 0 LAST\r\nBDAT 0 LAST\r\n");
	assert_memory_equal(fake.said, "554 5.7.1 ", 10);
	assert_non_null(strstr(fake.said, "503 5.5.1 Error: need RCPT"));
	assert_null(s->tx);
	assert_null(fake.sealing);
}

static void
large_text_goes_to_a_file(void **state)
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
	s = greeted();
	(void)fake_say(OPEN "BDAT 10000\r\n");
	for (i = 0; i < 100; i++)
		fake_send(line, 100);
	/* What stands behind it waits. */
	(void)fake_say("BDAT 100 LAST\r\n");
	assert_int_equal(s->wait, WAIT_SPILL);
	fake_spill();
	fake_run();
	assert_memory_equal(fake.said, "250 2.0.0 Ok: 10000 bytes\r\n", 27);
	(void)fake_say(line);
	assert_non_null(fake.sealing);
	assert_true(fake.sealing->spilled);
	assert_int_equal(fake.sealing->size, 10100);
	assert_int_equal(lseek(fake.text_fd, 0, SEEK_END),
	    fake.sealing->written);
	fake_answer(250);
	/* No room for it. */
	fake.refuse_spill = true;
	(void)fake_say(OPEN "BDAT 10000\r\n");
	for (i = 0; i < 100; i++)
		fake_send(line, 100);
	fake_run();
	fake_spill();
	(void)fake_say("NOOP\r\n");
	assert_memory_equal(fake.said, "452 4.3.1 ", 10);
	assert_int_equal(s->state, SMTP_GREETED);
}

/* Many small chunks: they cost no memory, and do not go on for ever. */
static void
tiny_chunks_are_bounded(void **state)
{
	struct session *s;
	unsigned ended;
	int i;

	(void)state;
	fake_stop();
	fake_start("notify_classes = protocol\n");
	s = greeted();
	(void)fake_say(OPEN);
	for (i = 0; i < 1000; i++) {
		(void)fake_say("BDAT 1\r\na");
		assert_string_equal(fake.said, "250 2.0.0 Ok: 1 bytes\r\n");
		assert_true(s->talk.n <= 8192);
		assert_int_equal(s->errors, 0);
	}
	ended = fake.ended;
	for (i = 0; i < 100 && fake.ended == ended; i++)
		(void)fake_say("BDAT 1\r\na");
	assert_int_equal(i, 20);
	assert_non_null(strstr(fake.said, "421 4.7.0 "));
	assert_null(fake.sealing);
}

static void
not_offered_not_taken(void **state)
{
	struct session *s;

	(void)state;
	fake_stop();
	fake_start("smtpd_discard_ehlo_keywords = chunking\n");
	s = greeted();
	assert_null(strstr(fake.said, "CHUNKING"));
	(void)fake_say(OPEN "BDAT " TRAP_N " LAST\r\n" TRAP "NOOP\r\n");
	assert_non_null(strstr(fake.said,
	    "502 5.5.1 Error: command not implemented\r\n250 2.0.0 Ok\r\n"));
	assert_null(s->tx);
}

#define BINARY	"MAIL FROM:<a@b.example> SIZE=9 BODY=BINARYMIME\r\n" \
		"RCPT TO:<u@inside.example>\r\n"

/* What asks for BINARYMIME is served where it is offered, with CHUNKING. */
static void
no_binarymime(void **state)
{
	static const char *const without[] = { "",
		"smtpd_binarymime_enable = yes\n"
		"smtpd_discard_ehlo_keywords = binarymime\n",
		"smtpd_binarymime_enable = yes\n"
		"smtpd_discard_ehlo_keywords = chunking\n",
		"smtpd_binarymime_enable = yes\n"
		"smtpd_discard_ehlo_keyword_address_maps = "
		"static:{chunking, dsn}\n" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof without / sizeof without[0]; i++) {
		fake_stop();
		fake_start(without[i]);
		(void)greeted();
		assert_null(strstr(fake.said, "BINARYMIME"));
		(void)fake_say(BINARY);
		assert_memory_equal(fake.said, "555 5.5.4 ", 10);
		(void)fake_say("MAIL FROM:<a@b.example> BODY=9BIT\r\n");
		assert_memory_equal(fake.said, "555 5.5.4 ", 10);
	}
}

static void
binary_start(const char *settings)
{
	char text[300];

	(void)snprintf(text, sizeof text, "smtpd_binarymime_enable = yes\n%s",
	    settings);
	fake_stop();
	fake_start(text);
	(void)greeted();
	assert_non_null(strstr(fake.said, "BINARYMIME\r\n"));
}

/* The one chunk of a message. */
static void
whole_send(const char *text)
{
	chunk_send(text, strlen(text), true);
	fake_run();
}

#define AS	"Content-Transfer-Encoding: "

static void
binarymime(void **state)
{
	static const char text[] = AS "binary\r\n\r\n\0\n.\r\nQUIT\r\n";
	size_t a;

	(void)state;
	binary_start("");
	for (a = 0; a <= sizeof text - 1; a++) {
		(void)fake_say(BINARY);
		assert_string_equal(fake.said, "250 2.1.0 Ok\r\n"
		    "250 2.1.5 Ok\r\n");
		(void)fake_say("DATA\r\n");
		assert_memory_equal(fake.said, "503 5.5.1 ", 10);
		chunk_send(text, a, false);
		chunk_send(text + a, sizeof text - 1 - a, true);
		fake_run();
		assert_non_null(fake.sealing);
		assert_string_equal(stored(), AS "base64\r\n\r\n"
		    "AAouDQpRVUlUDQo=\r\n");
		assert_int_equal(fake.sealing->flags & ENVELOPE_8BIT, 0);
		fake_answer(250);
	}
	/* In no chunk; what is said last counts; 8 bits are left. */
	(void)fake_say(BINARY "BDAT 0 LAST\r\n");
	assert_non_null(fake.sealing);
	fake_answer(250);
	(void)fake_say(BINARY "RSET\r\n" "MAIL FROM:<a@b.example> "
	    "BODY=BINARYMIME BODY=7BIT\r\nRCPT TO:<u@inside.example>\r\n");
	whole_send(AS "binary\r\n\r\na");
	assert_string_equal(stored(), AS "binary\r\n\r\na\r\n");
	fake_answer(250);
	(void)fake_say(BINARY);
	whole_send("A: \344\r\n" AS "binary\r\n\r\n");
	assert_int_equal(fake.sealing->flags & ENVELOPE_8BIT, ENVELOPE_8BIT);
	fake_answer(250);
}

static void
binarymime_refused(void **state)
{
	static const char part[] = "Content-Type: message/partial\r\n"
	    AS "binary\r\n\r\n";
	static char many[15000];
	int i;

	(void)state;
	binary_start("smtpd_forbid_bare_newline = reject\n"
	    "message_size_limit = 20000\n");
	(void)fake_say(BINARY);
	chunk_send(part, sizeof part - 1, false);
	chunk_send("QUIT\r\n", 6, true);
	fake_run();
	assert_memory_equal(fake.said, "554 5.6.1 ", 10);
	assert_non_null(strstr(fake.said, "503 5.5.1 Error: need RCPT"));
	/* A bare LF is one where it is no octet. */
	(void)fake_say(BINARY);
	whole_send(AS "binary\n\r\n\n");
	assert_memory_equal(fake.said, "550 5.5.2 ", 10);
	(void)fake_say(BINARY);
	whole_send(AS "binary\r\n\r\n\n");
	assert_non_null(fake.sealing);
	fake_answer(250);
	/* What is written counts, and what it is made of. */
	(void)fake_say(BINARY);
	chunk_send(AS "binary\r\n\r\n", 37, false);
	chunk_send(many, 15000, true);
	fake_run();
	assert_non_null(strstr(fake.said, "552 5.3.4 "));
	(void)fake_say(BINARY);
	for (i = 0; i < 1000; i++) {
		chunk_send(AS "binary\r\n", 35, false);
		fake_run();
		if (strncmp(fake.said, "552 5.3.4 ", 10) == 0)
			break;
	}
	assert_in_range(i, 500, 600);
}

int
main(void)
{
#define TEST(f)	cmocka_unit_test_setup_teardown(f, start, stop)
	const struct CMUnitTest tests[] = {
		TEST(any_cut_gives_the_same),
		TEST(any_packet_gives_the_same),
		TEST(refused_is_skipped),
		TEST(no_size_ends_the_session),
		TEST(error_resets_the_transaction),
		TEST(restrictions_reset_the_transaction),
		TEST(large_text_goes_to_a_file),
		TEST(tiny_chunks_are_bounded),
		TEST(not_offered_not_taken),
		TEST(no_binarymime),
		TEST(binarymime),
		TEST(binarymime_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
