/* link: filters */
/* Headers of local mail: what is added, what is removed, what stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "filters/complete.h"
#include "filters/engine.h"
#include "lib/log.h"

static void
report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fail_msg("%s", text);
}

struct message {
	uint32_t flags;
	const char *sender, *name;
	const char *settings, *text;
};

/* The text after the edits; the caller frees it. */
static char *
judge(const struct message *m)
{
	struct recipient rcpt = { .addr = view_of("u@x.test") };
	struct envelope e = { .flags = m->flags, .rcpts = &rcpt, .nrcpts = 1,
		.sender = view_of(m->sender), .full_name = view_of(m->name),
		.proto = view_of("local") };
	struct arena *a = arena_new(1u << 20);
	struct view text = view_of(m->text);
	struct engine *engine;
	struct judgement j;
	struct conf *cf;
	struct buf b;
	uint64_t at = 0;
	uint32_t i;
	char *out;

	buf_init(&b, 65536);
	/* Addresses are completed by another stage. */
	assert_true(buf_printf(&b, "myhostname = gw.test\n"
	    "append_at_myorigin = no\n%s", m->settings));
	cf = conf_parse(buf_view(&b), "main.cf", report, NULL);
	assert_non_null(cf);
	engine = engine_open(cf, report, NULL);
	assert_non_null(engine);
	engine_judge(engine, text, &e, (struct queue_id){ 0x1234 }, &j, a);
	assert_int_equal(j.verdict.action, ACTION_OK);
	buf_clear(&b);
	for (i = 0; i < j.edits.n; i++) {
		assert_true(j.edits.list[i].offset >= at);
		assert_true(buf_putv(&b, view_make(text.p + at,
		    (size_t)(j.edits.list[i].offset - at))));
		assert_true(buf_putv(&b, j.edits.list[i].insert));
		at = j.edits.list[i].offset + j.edits.list[i].remove;
	}
	assert_true(buf_putv(&b, view_from(text, (size_t)at)));
	out = mem_copy(buf_view(&b));
	buf_free(&b);
	engine_free(&engine);
	conf_free(&cf);
	arena_free(&a);
	return out;
}

static void
expect(const struct message *m, const char *const *there,
    const char *const *absent)
{
	char *out = judge(m);

	for (; *there != NULL; there++)
		if (strstr(out, *there) == NULL)
			fail_msg("no \"%s\" in:\n%s", *there, out);
	for (; *absent != NULL; absent++)
		if (strstr(out, *absent) != NULL)
			fail_msg("\"%s\" in:\n%s", *absent, out);
	free(out);
}

#define LIST(...)	(const char *const[]){ __VA_ARGS__, NULL }

static void
test_added(void **state)
{
	struct message m = { ENVELOPE_LOCAL, "a@b.test", "A B", "",
		"Subject: x\r\n\r\nbody\r\n" };

	(void)state;
	expect(&m, LIST("\r\nFrom: A B <a@b.test>\r\n", "\r\nDate: ",
	    ".00000001234@gw.test>\r\n", "\r\n\r\nbody\r\n"),
	    LIST("\r\nTo:", "Resent"));
	m.name = "";
	m.sender = "q x@b.test";
	expect(&m, LIST("\r\nFrom: \"q x\"@b.test\r\n"), LIST("<q"));
	m.sender = "";
	expect(&m, LIST("\r\nFrom: MAILER-DAEMON@gw.test\r\n"), LIST("<>"));
	m.settings = "undisclosed_recipients_header = To: nobody:;\n";
	expect(&m, LIST("\r\nTo: nobody:;\r\n"), LIST("Resent"));
	m.text = "Cc: x\r\n\r\n";
	expect(&m, LIST("Cc: x\r\n"), LIST("nobody:;"));
	/* Only a header, without the line that ends it; only a body. */
	m.text = "Subject: y\r\n";
	expect(&m, LIST("Subject: y\r\n", "\r\nDate: "), LIST("Resent"));
	m.text = "no header\r\n";
	expect(&m, LIST("Date: ", "\r\n\r\nno header\r\n"),
	    LIST("no header\r\nDate"));
	m.text = "";
	expect(&m, LIST("Date: ", "From: "), LIST("Resent"));
}

static void
test_there_already(void **state)
{
	struct message m = { ENVELOPE_LOCAL, "a@b.test", "A B", "",
		"from: me\r\nDATE : then\r\nMessage-id:\r\n <x@y>\r\n\r\n" };
	char *out = judge(&m);

	(void)state;
	assert_string_equal(out, m.text);
	free(out);
	/* Of a message that came by SMTP nothing is added. */
	m.flags = 0;
	m.text = "Subject: x\r\n\r\n";
	out = judge(&m);
	assert_string_equal(out, m.text);
	free(out);
	m.settings = "always_add_missing_headers = yes\n";
	expect(&m, LIST("\r\nFrom: ", "\r\nDate: "), LIST("Resent"));
	m.flags = ENVELOPE_NO_FILTER;
	out = judge(&m);
	assert_string_equal(out, m.text);
	free(out);
}

static void
test_resent(void **state)
{
	struct message m = { ENVELOPE_LOCAL, "a@b.test", "", "",
		"Resent-To: z\r\nSubject: x\r\n\r\n" };

	(void)state;
	expect(&m, LIST("\r\nResent-From: a@b.test\r\n", "\r\nResent-Date: ",
	    "\r\nResent-Message-Id: <"),
	    LIST("\r\nFrom:", "\r\nDate:", "\r\nMessage-Id:"));
}

static void
test_dropped(void **state)
{
	struct message m = { 0, "a@b.test", "", "",
		"BCC: a,\r\n\tb\r\nTo: c\r\nContent-Length: 3\r\n"
		"Return-Path: <x>\r\nX-Bcc: y\r\nResent-Bcc: z\r\n\r\n"
		"Bcc: body\r\n" };
	char *out = judge(&m);

	(void)state;
	assert_string_equal(out,
	    "To: c\r\nX-Bcc: y\r\n\r\nBcc: body\r\n");
	free(out);
	m.settings = "message_drop_headers =\n";
	out = judge(&m);
	assert_string_equal(out, m.text);
	free(out);
	/* Those of attached messages are text. */
	m.settings = "";
	m.text = "Content-Type: message/rfc822\r\n\r\nBcc: inside\r\n\r\nx\r\n";
	out = judge(&m);
	assert_string_equal(out, m.text);
	free(out);
}

static void
expect_phrase(const char *name, const char *want)
{
	struct buf b;

	buf_init(&b, 4096);
	assert_true(complete_put_phrase(&b, view_of(name), "utf-8"));
	assert_string_equal(buf_cstr(&b), want);
	buf_free(&b);
}

static void
test_phrase(void **state)
{
	char name[200] = "";
	const char *p, *end;
	struct buf b;
	size_t i;

	(void)state;
	expect_phrase("", "");
	expect_phrase("  A B ", "A B");
	expect_phrase("A. B", "\"A. B\"");
	expect_phrase("a\"b\\", "\"a\\\"b\\\\\"");
	expect_phrase("x\r\nBcc: y", "\"x  Bcc: y\"");
	expect_phrase("=?utf-8?Q?x?=", "\"=?utf-8?Q?x?=\"");
	expect_phrase("\303\244 b_", "=?utf-8?Q?=C3=A4_b=5F?=");
	expect_phrase("\303\244\r\n.", "=?utf-8?Q?=C3=A4=0D=0A=2E?=");
	/* No word is over 75 bytes, none cuts a character. */
	for (i = 0; i < 66; i++)
		memcpy(name + 3 * i, "\342\202\254", 4);
	buf_init(&b, 4096);
	assert_true(complete_put_phrase(&b, view_of(name), "utf-8"));
	for (p = buf_cstr(&b); *p != '\0'; p = end + (*end != '\0') * 3) {
		end = strstr(p, "\r\n ");
		end = end != NULL ? end : p + strlen(p);
		assert_true(end - p <= 75);
		assert_int_equal((end - p - 12) % 9, 0);
	}
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_added),
		cmocka_unit_test(test_there_already),
		cmocka_unit_test(test_resent),
		cmocka_unit_test(test_dropped),
		cmocka_unit_test(test_phrase),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
