/* link: filters */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "filters/engine.h"
#include "lib/log.h"

/*
 * Rules, a message, and what the engine makes of it: the verdict, the text
 * after the edits, and a piece of the log.
 */
struct fixture {
	struct conf *conf;
	struct engine *engine;
	struct arena *arena;
	char dir[64];
	struct buf text;	/* after the edits */
	struct buf reported;
	struct judgement j;
};

static int log_fd = -1;

static void
report(bool error, const char *text, void *arg)
{
	struct fixture *f = arg;

	buf_printf(&f->reported, "%s%s\n", error ? "" : "warning: ", text);
}

static void
conf_complain(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fail_msg("%s", text);
}

static void
write_file(const char *dir, const char *name, const char *text)
{
	char path[128];
	struct buf b = { .p = path, .cap = sizeof path, .max = sizeof path };
	FILE *f;

	buf_printf(&b, "%s/%s", dir, name);
	f = fopen(buf_cstr(&b), "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* settings: main.cf; header, body: the files hc and bc there (or NULL) */
static bool
begin(struct fixture *f, const char *settings, const char *header,
    const char *body)
{
	struct buf b;

	*f = (struct fixture){ .dir = "/tmp/test_checks.XXXXXX" };
	assert_non_null(mkdtemp(f->dir));
	buf_init(&b, 65536);
	buf_init(&f->text, 8u << 20);
	buf_init(&f->reported, 65536);
	f->arena = arena_new(1u << 20);
	if (header != NULL)
		write_file(f->dir, "hc", header);
	if (body != NULL)
		write_file(f->dir, "bc", body);
	buf_printf(&b, "config_directory = %s\n%s%s%s", f->dir,
	    header != NULL ? "header_checks = regexp:hc\n" : "",
	    body != NULL ? "body_checks = pcre:bc\n" : "", settings);
	f->conf = conf_parse(buf_view(&b), "main.cf", conf_complain, NULL);
	assert_non_null(f->conf);
	buf_free(&b);
	f->engine = engine_open(f->conf, report, f);
	return f->engine != NULL;
}

static void
end(struct fixture *f)
{
	char path[128];
	static const char *const names[] = { "/hc", "/bc", "/mc", "/nc", "" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct buf b = { .p = path, .cap = sizeof path,
			.max = sizeof path };

		buf_printf(&b, "%s%s", f->dir, names[i]);
		if (names[i][0] == '\0')
			rmdir(buf_cstr(&b));
		else
			unlink(buf_cstr(&b));
	}
	engine_free(&f->engine);
	conf_free(&f->conf);
	arena_free(&f->arena);
	buf_free(&f->text);
	buf_free(&f->reported);
}

static void
judge_view(struct fixture *f, struct view text, uint32_t flags)
{
	struct recipient rcpts[] = {
		{ .addr = view_of("first@example.com") },
		{ .addr = view_of("rcpt@example.com") } };
	struct envelope e = { .flags = flags, .sender = view_of("a@b.org"),
		.client_name = view_of("mx.b.org"),
		.client_addr = view_of("192.0.2.1"),
		.helo = view_of("mx.b"), .proto = view_of("ESMTP"),
		.nrcpts = 2, .rcpts = rcpts };
	struct queue_id id = { 0x1234 };
	struct buf b;
	struct edits back;
	uint64_t at = 0;
	uint32_t i;

	log_flush();
	assert_int_equal(ftruncate(log_fd, 0), 0);
	arena_reset(f->arena);
	engine_judge(f->engine, text, &e, id, &f->j, f->arena);
	log_flush();
	/* The list must be one that the receiver takes. */
	buf_init(&b, EDITS_BYTES_MAX);
	assert_true(edits_put(&b, &f->j.edits));
	assert_true(edits_get(buf_view(&b), text.n, f->arena, &back));
	buf_clear(&f->text);
	for (i = 0; i < back.n; i++) {
		buf_put(&f->text, text.p + at, back.list[i].offset - at);
		buf_putv(&f->text, back.list[i].insert);
		at = back.list[i].offset + back.list[i].remove;
	}
	buf_putv(&f->text, view_from(text, at));
	buf_free(&b);
}

static void
judge(struct fixture *f, const char *text)
{
	judge_view(f, view_of(text), 0);
}

/* The log of the last message, without dates. */
static const char *
logged(void)
{
	static char text[1u << 20];
	ssize_t n = pread(log_fd, text, sizeof text - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void
expect_logged(const char *piece)
{
	if (strstr(logged(), piece) == NULL)
		fail_msg("not in the log: %s\n%s", piece, logged());
}

static void
expect_reply(struct fixture *f, unsigned code, const char *status,
    const char *text)
{
	assert_int_equal(f->j.verdict.action, ACTION_REJECT);
	assert_int_equal(f->j.verdict.code, code);
	assert_true(view_is(f->j.verdict.status, status));
	if (!view_is(f->j.verdict.text, text))
		fail_msg("text is %.*s", VIEW_ARGS(f->j.verdict.text));
}

static void
expect_text(struct fixture *f, const char *text)
{
	assert_string_equal(buf_cstr(&f->text), text);
}

/* -- the rules of the articles --------------------------------------------- */

static void
loveletter(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "",
	    "/^Subject:.*ILOVEYOU/\tREJECT\n"
	    "/^Subject:.*Important message from/ REJECT\n", NULL));
	judge(&f, "From: x\r\nSubject: fwd: iloveyou\r\n\r\nkindly\r\n");
	expect_reply(&f, 550, "5.7.1", "message content rejected");
	expect_logged(": reject: header Subject: fwd: iloveyou from "
	    "mx.b.org[192.0.2.1]; from=<a@b.org> to=<rcpt@example.com> "
	    "proto=ESMTP helo=<mx.b>: 5.7.1 message content rejected; "
	    "rule=/tmp/test_checks.");
	expect_logged("/hc:1\n");
	judge(&f, "Subject: I love you\r\n\r\nSubject: ILOVEYOU\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	/* A folded one, and one with an obsolete space. */
	judge(&f, "Subject:\r\n ILOVEYOU\r\n\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_REJECT);
	judge(&f, "Subject : Important message from me\r\n\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_REJECT);
	end(&f);
}

#define PARTS								\
	"Subject: x\r\nMIME-Version: 1.0\r\n"				\
	"Content-Type: multipart/mixed; boundary=\"=_b\"\r\n\r\n"	\
	"--=_b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--=_b\r\n"

static void
attachment_by_body_checks(void **state)
{
	static const char *const caught[] = {
		PARTS "Content-Type: application/octet-stream;\r\n"
		"\tname=\"invoice.pdf.exe\"\r\n\r\nTVqQ\r\n--=_b--\r\n",
		PARTS "Content-Type: application/octet-stream;\r\n"
		" charset=x;\r\n name=invoice.pdf.exe\r\n\r\nTVqQ\r\n",
		PARTS "Content-Disposition: attachment;\r\n"
		"\tfilename=\"invoice.pdf.exe\"\r\n\r\nTVqQ\r\n--=_b--\r\n",
		/* in an attached message */
		PARTS "Content-Type: message/rfc822\r\n\r\nSubject: y\r\n"
		"Content-Type: x/y;\r\n name=\"a.exe\"\r\n\r\nTVqQ\r\n",
		/* the message is the attachment */
		"Subject: x\r\nContent-Type: x/y; name=\"a.exe\"\r\n\r\nTV\r\n",
	};
	struct fixture f;
	size_t i;

	(void)state;
	assert_true(begin(&f, "", NULL,
	    "/^(.*)name=\"?(.*)\\.(bat|chm|cmd|com|eml|exe|hta|js|jse|lnk|"
	    "pif|scr|shs|vbs|vbe|vxd)\"?(.*)$/ REJECT\n"));
	for (i = 0; i < sizeof caught / sizeof caught[0]; i++) {
		judge(&f, caught[i]);
		if (f.j.verdict.action != ACTION_REJECT)
			fail_msg("not caught: %s", caught[i]);
		expect_reply(&f, 550, "5.7.1", "message content rejected");
		expect_logged(": reject: header Content-");
		expect_logged("/bc:1\n");
	}
	judge(&f, PARTS "Content-Type: x/y; name=\"a.txt\"\r\n\r\nx\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	/* Not other headers of the message. */
	judge(&f, "X-Remark: name=a.exe\r\n\r\nx\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	end(&f);
}

static void
code_and_text(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "", NULL,
	    "/^(.*)name=\"(.*)\\.(exe|vbs)\"?(.*)$/ 550 This Email "
	    "potentially contains LoveLetter worm payload\n"
	    "/^later/ 451 4.7.0 try again\n"
	    "/^plain/ REJECT\n/^dsn(.*)/ REJECT 5.7.9 no$1\n"));
	judge(&f, PARTS "Content-Type: x/y;\r\n\tname=\"L.TXT.vbs\"\r\n\r\n");
	expect_reply(&f, 550, "5.7.1",
	    "This Email potentially contains LoveLetter worm payload");
	judge(&f, "A: b\r\n\r\nlater\r\nplain\r\n");
	expect_reply(&f, 451, "4.7.0", "try again");
	expect_logged(": reject: body later from mx.b.org[192.0.2.1];");
	assert_null(strstr(logged(), "body plain"));
	judge(&f, "A: b\r\n\r\ndsn at all\r\n");
	expect_reply(&f, 550, "5.7.9", "no at all");
	end(&f);
}

/* -- classes of headers ---------------------------------------------------- */

static void
classes(void **state)
{
	static const char text[] =
	    "Subject: primary\r\nMIME-Version: 1.0\r\n"
	    "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	    "--b\r\nContent-Type: message/rfc822\r\nX-Part: p\r\n\r\n"
	    "Subject: nested\r\nContent-Type: multipart/mixed; boundary=c\r\n"
	    "\r\n--c\r\nContent-ID: deep\r\nSubject: odd\r\n\r\n"
	    "Subject: text\r\n--c--\r\n--b--\r\n";
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "mime_header_checks = regexp:mc\n"
	    "nested_header_checks = static:{INFO n}\n",
	    "/./ INFO h\n", "/./ INFO b\n") == false);
	assert_non_null(strstr(buf_cstr(&f.reported), "/mc"));
	write_file(f.dir, "mc", "/./ INFO m\n");
	f.engine = engine_open(f.conf, report, &f);
	if (f.engine == NULL)
		fail_msg("%s", buf_cstr(&f.reported));
	judge(&f, text);
	expect_logged("header Subject: primary from mx.b.org[192.0.2.1]; "
	    "from=<a@b.org> to=<rcpt@example.com> proto=ESMTP helo=<mx.b>: h;");
	expect_logged("MIME-Version: 1.0 from mx.b.org[192.0.2.1]; "
	    "from=<a@b.org> to=<rcpt@example.com> proto=ESMTP helo=<mx.b>: m;");
	expect_logged("info: header X-Part: p from mx.b.org[192.0.2.1]; "
	    "from=<a@b.org> to=<rcpt@example.com> proto=ESMTP helo=<mx.b>: m;");
	expect_logged("info: header X-Part: p from mx.b.org[192.0.2.1]; "
	    "from=<a@b.org> to=<rcpt@example.com> proto=ESMTP helo=<mx.b>: b;");
	expect_logged("Subject: nested from mx.b.org[192.0.2.1]; "
	    "from=<a@b.org> to=<rcpt@example.com> proto=ESMTP helo=<mx.b>: n; "
	    "rule=static:{INFO n}\n");
	expect_logged("Subject: odd from mx.b.org[192.0.2.1]; "
	    "from=<a@b.org> to=<rcpt@example.com> proto=ESMTP helo=<mx.b>: m;");
	expect_logged("info: body Subject: text from");
	expect_logged("info: body --c from");
	expect_logged("info: body --b-- from");
	assert_null(strstr(logged(), "Subject: primary from mx.b.org"
	    "[192.0.2.1]; from=<a@b.org> to=<rcpt@example.com> proto=ESMTP "
	    "helo=<mx.b>: b;"));
	end(&f);
}

static void
no_mime(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "disable_mime_input_processing = yes\n"
	    "mime_header_checks =\n", "/^Content-Type:/ INFO h\n",
	    "/^Content-/ INFO b\n"));
	judge(&f, PARTS "Content-Type: x/y;\r\n name=z\r\n\r\n");
	expect_logged("info: header Content-Type: multipart");
	expect_logged("info: body Content-Type: x/y; from");
	end(&f);
}

/* -- actions --------------------------------------------------------------- */

static void
edits(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "",
	    "/^X-Drop:/ IGNORE\n/^X-Strip:/ STRIP noted\n"
	    "/^Subject: (.*)$/ REPLACE Subject: [list] $1\n"
	    "/^To:/ PREPEND X-Seen: yes\n"
	    "/^X-Bad:/ PREPEND nonsense\n"
	    "/^X-Also:/ REPLACE nonsense\n",
	    "/^gone/ IGNORE\n/^(.)other(.*)/ REPLACE $2$1\n"
	    "/^with/ PREPEND a line\n"));
	judge(&f, "X-Drop: 1\r\n 2\r\nSubject: s\r\nX-Strip: 1\r\nTo: a,\r\n"
	    " b\r\nX-Bad: 1\r\nX-Also: 2\r\n\r\n"
	    "gone\r\nanother one\r\nwith\r\nend\r\ngone");
	expect_text(&f, "Subject: [list] s\r\nX-Seen: yes\r\nTo: a,\r\n b\r\n"
	    "X-Bad: 1\r\nX-Also: 2\r\n\r\n"
	    "another one\r\na line\r\nwith\r\nend\r\n");
	expect_logged(": replace: header Subject: s from");
	expect_logged(": Subject: [list] s; rule=");
	expect_logged(": strip: header X-Strip: 1 from");
	expect_logged(": noted; rule=");
	expect_logged(": prepend: header To: a,? b from");
	expect_logged("bad PREPEND header text \"nonsense\"");
	expect_logged("bad REPLACE header text \"nonsense\"");
	assert_null(strstr(logged(), "header X-Drop"));
	judge(&f, "A: b\r\n\r\nnother one\r\n");
	expect_text(&f, "A: b\r\n\r\nonen\r\n");
	end(&f);
}

/* What $1 takes from a message must not end the header, nor hide in it. */
static void
inserted_text_is_clean(void **state)
{
	static const char text[] = "X-A: 1\0\033[2J\r\n 2\r\n\r\nq\0\033r\r\n";
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "header_checks = pcre:bc\n", NULL,
	    "/^X-A: (.*)\\n (.*)$/ REPLACE X-A: $1$2\n"
	    "/^X-B: (.*?\\n) ?(.*)/ REPLACE X-B: $1$2\n"
	    "/^q(.*)r$/ REPLACE <$1>\n"));
	judge_view(&f, view_make(text, sizeof text - 1), 0);
	assert_true(view_is(buf_view(&f.text),
	    "X-A: 1  [2J2\r\n\r\n<  >\r\n"));
	judge(&f, "X-B: one\r\n two\r\n\r\n");
	expect_text(&f, "X-B: one\r\n\ttwo\r\n\r\n");
	end(&f);
}

static void
pieces_of_long_lines(void **state)
{
	struct fixture f;
	struct buf b, want;

	(void)state;
	assert_true(begin(&f, "line_length_limit = 512\n", NULL,
	    "/^a+$/ IGNORE\n/^b+$/ REPLACE B\n/^c+$/ PREPEND C\n"));
	buf_init(&b, 65536);
	buf_init(&want, 65536);
	buf_puts(&b, "A: b\r\n\r\nx");
	for (int i = 0; i < 511; i++)
		buf_puts(&b, "x");
	buf_puts(&b, "aaa\r\ny\r\n");	/* its last piece is dropped */
	for (int i = 0; i < 512; i++)
		buf_puts(&b, "a");	/* its first piece is */
	buf_puts(&b, "zzz\r\n");
	for (int i = 0; i < 512; i++)
		buf_puts(&b, "z");
	buf_puts(&b, "bbb\r\n");
	judge_view(&f, buf_view(&b), 0);
	buf_puts(&want, "A: b\r\n\r\n");
	for (int i = 0; i < 512; i++)
		buf_puts(&want, "x");
	buf_puts(&want, "\r\ny\r\nzzz\r\n");
	for (int i = 0; i < 512; i++)
		buf_puts(&want, "z");
	buf_puts(&want, "B\r\n");
	expect_text(&f, buf_cstr(&want));
	buf_free(&b);
	buf_free(&want);
	end(&f);
}

static void
strongest(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "",
	    "/^X-Hold: (.*)/ HOLD $1\n/^X-Discard:/ DISCARD silently\n"
	    "/^X-Reject:/ REJECT no\n/^X-Dunno:/ DUNNO\n/^X-Dunno:/ REJECT\n"
	    "/^X-Ok:/ OK\n/^X-Pass:/ PASS\n/^X-Warn:/ WARN careful\n"
	    "/^X-Redirect: (.*)/ REDIRECT $1@example.com\n"
	    "/^X-Bcc: (.*)/ BCC $1@example.com\n"
	    "/^X-Filter:/ FILTER smtp:[127.0.0.1]:10025\n", NULL));
	judge(&f, "X-Hold: 1\r\nX-Hold: 2\r\nX-Warn: x\r\n\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_HOLD);
	assert_true(view_is(f.j.verdict.text, "1"));
	assert_true(view_ends_nocase(f.j.verdict.where, view_of("/hc:1")));
	assert_null(strstr(logged(), "hold: header X-Hold: 2"));
	expect_logged(": warning: header X-Warn: x from");
	expect_logged(": careful; rule=");
	judge(&f, "X-Hold: 1\r\nX-Reject: 2\r\nX-Warn: x\r\n\r\n");
	expect_reply(&f, 550, "5.7.1", "no");
	assert_null(strstr(logged(), "X-Warn"));
	judge(&f, "X-Discard: 2\r\nX-Reject: 2\r\n\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_DISCARD);
	expect_logged(": discard: header X-Discard: 2 from");
	judge(&f, "X-Dunno: 2\r\nX-Ok: 1\r\n\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	judge(&f, "X-Pass: 2\r\nX-Reject: 1\r\n\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	expect_logged(": pass: header X-Pass: 2 from");
	judge(&f, "X-Redirect: a\r\nX-Redirect: b\r\nX-Bcc: c\r\nX-Bcc: d\r\n"
	    "X-Bcc: c\r\nX-Filter: e\r\n\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	assert_true(view_is(f.j.redirect, "b@example.com"));
	assert_true(view_is(f.j.filter, "smtp:[127.0.0.1]:10025"));
	assert_int_equal(f.j.n_bcc, 2);
	assert_true(view_is(f.j.bcc[1], "d@example.com"));
	expect_logged(": redirect: header X-Redirect: b from");
	expect_logged(": bcc: header X-Bcc: d from");
	expect_logged(": filter: header X-Filter: e from");
	/* The next message begins anew. */
	judge(&f, "A: b\r\n\r\n");
	assert_int_equal(f.j.n_bcc + f.j.redirect.n + f.j.filter.n, 0);
	end(&f);
}

static void
internal_mail(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "", "/^Subject:/ REJECT\n", "/./ REJECT\n"));
	judge_view(&f, view_of("Subject: a\r\n\r\nb\r\n"),
	    ENVELOPE_NO_FILTER);
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	end(&f);
}

static void
too_many_edits(void **state)
{
	struct fixture f;
	struct buf b;

	(void)state;
	assert_true(begin(&f, "", NULL,
	    "/^x/ PREPEND y\n/^(z.)/ BCC $1@a.b\n"));
	buf_init(&b, 1u << 20);
	buf_puts(&b, "A: b\r\n\r\n");
	for (unsigned i = 0; i < EDITS_MAX - 1; i++)
		buf_puts(&b, "x\r\n");
	judge_view(&f, buf_view(&b), 0);
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	assert_int_equal(f.j.edits.n, EDITS_MAX - 1);
	buf_puts(&b, "x\r\n");
	judge_view(&f, buf_view(&b), 0);
	assert_int_equal(f.j.verdict.action, ACTION_REJECT);
	assert_int_equal(f.j.verdict.code, 451);
	assert_int_equal(f.j.edits.n, 0);
	expect_logged("too many edits by rules");
	buf_clear(&b);
	buf_puts(&b, "A: b\r\n\r\n");
	for (char c = 'a'; c < 'a' + 17; c++)
		buf_printf(&b, "z%c\r\n", c);
	judge_view(&f, buf_view(&b), 0);
	assert_int_equal(f.j.verdict.code, 451);
	buf_free(&b);
	end(&f);
}

static void
body_size_limit(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "body_checks_size_limit = 10\n", NULL,
	    "/^bad/ REJECT\n"));
	judge(&f, "A: b\r\n\r\n12345678\r\nbad\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	judge(&f, "A: b\r\n\r\n1234567\r\nbad\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_REJECT);
	/* Each part begins anew. */
	judge(&f, PARTS "\r\n12345678\r\nbad\r\n--=_b\r\n\r\nbad\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_REJECT);
	end(&f);
	assert_true(begin(&f, "body_checks_size_limit = 0\n", NULL,
	    "/^bad/ REJECT\n"));
	judge(&f, "A: b\r\n\r\n12345678\r\nbad\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_REJECT);
	end(&f);
}

/* -- without rules --------------------------------------------------------- */

static void
message_id(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "", NULL, NULL));
	judge(&f, "Message-Id: <a@b>\r\nMessage-ID:\r\n <c@d>\r\n\r\n");
	assert_true(view_is(f.j.message_id, "<a@b>"));
	expect_logged(": message-id=<a@b>\n");
	judge(&f, "Resent-Message-Id: <r@b>\r\n\r\nMessage-ID: <x>\r\n");
	assert_int_equal(f.j.message_id.n, 0);
	expect_logged(": resent-message-id=<r@b>\n");
	expect_logged(": message-id=<>\n");
	assert_int_equal(f.j.edits.n, 0);
	end(&f);
}

static void
hops(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "hopcount_limit = 3\nmyhostname = gw.a\n"
	    "own_hopcount_limit = 2\n", NULL, NULL));
	judge(&f, "Received: 1\r\nReceived: 2\r\nDelivered-To: a\r\n"
	    "Content-Type: message/rfc822\r\n\r\nReceived: 3\r\n\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	judge(&f, "Received: 1\r\nReceived: 2\r\nReceived: 3\r\n\r\n");
	expect_reply(&f, 554, "5.4.0", "Error: too many hops");
	expect_logged("message rejected: hopcount exceeded");
	judge(&f, "Delivered-To: 1\r\nDelivered-To: 2\r\nDelivered-To: 3\r\n");
	expect_reply(&f, 554, "5.4.0", "Error: too many hops");
	judge(&f, "Received: from by (gw.a [1])\r\n\tby GW.a id 1;\r\n"
	    "Received: by gw.a.b for <by gw.a>; now\r\n");
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	judge(&f, "Received: from a\r\n\tby GW.a id 1;\r\n"
	    "Received: by gw.a (gw)\r\n");
	expect_reply(&f, 554, "5.4.6", "Error: mail loops back to this host");
	end(&f);
}

static void
strays(void **state)
{
	struct fixture f;
	struct buf b;

	(void)state;
	assert_true(begin(&f, "", "/^X-Gone:/ IGNORE\n/^X-Pre:/ PREPEND P: q\n"
	    "/^X-Rep:/ REPLACE X-Rep: z\n", "/^a b$/ REPLACE ok\n"));
	judge(&f, "A: 1\n.\r2\r\nX-Pre: \r1\r\nX-Gone: \r2\r\nX-Rep: \n3\r\n"
	    "B: \r4\r\n\r\na\rb\r\n.\r.\r\n");
	expect_text(&f, "A: 1 . 2\r\nP: q\r\nX-Pre:  1\r\nX-Rep: z\r\n"
	    "B:  4\r\n\r\nok\r\n. .\r\n");
	/* An edit at the begin of a line inside a row of strays. */
	judge(&f, "A: 1\r\r\nX-Pre: \r1\r\r\nX-Gone: \r\r\nC: \r\r\n\r\n");
	expect_text(&f, "A: 1 \r\nP: q\r\nX-Pre:  1 \r\nC:  \r\n\r\n");
	/* A binary text of nothing else is one edit. */
	buf_init(&b, 4u << 20);
	buf_puts(&b, "A: b\r\n\r\n");
	for (int i = 0; i < 100000; i++)
		buf_puts(&b, "ab\rc\n");
	judge_view(&f, buf_view(&b), 0);
	assert_int_equal(f.j.verdict.action, ACTION_OK);
	assert_null(memchr(f.text.p + 8, '\r', f.text.n - 8));
	assert_null(memchr(f.text.p + 8, '\n', f.text.n - 8));
	assert_int_equal(f.text.n, b.n);
	assert_true(f.j.edits.n <= 2);
	/* Too much of it is refused. */
	for (int i = 0; i < 200000; i++)
		buf_puts(&b, "ab\rc\n");
	judge_view(&f, buf_view(&b), 0);
	expect_reply(&f, 550, "5.6.0", "too many stray <CR> or <LF>");
	buf_free(&b);
	end(&f);
	assert_true(begin(&f, "cleanup_replace_stray_cr_lf = no\n", NULL,
	    NULL));
	judge(&f, "A: 1\n .\r2\r\n\r\na\rb\n");
	assert_int_equal(f.j.edits.n, 0);
	end(&f);
}

static void
header_block(void **state)
{
	static const char text[] = "A: b\r\nnot a header\r\nC: d\r\n";
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "", NULL, "/^not/ PREPEND x\n"));
	judge(&f, text);
	expect_text(&f, "A: b\r\n\r\nx\r\nnot a header\r\nC: d\r\n");
	end(&f);
	assert_true(begin(&f, "non_empty_end_of_header_action = add_header\n",
	    NULL, NULL));
	judge(&f, text);
	expect_text(&f, "A: b\r\nMIME-Error: message header was not "
	    "terminated by empty line\r\n\r\nnot a header\r\nC: d\r\n");
	end(&f);
	assert_true(begin(&f, "non_empty_end_of_header_action = reject\n",
	    NULL, NULL));
	judge(&f, text);
	expect_reply(&f, 550, "5.6.0",
	    "primary header was terminated with non-empty line");
	expect_logged(": reject: mime-error primary header was terminated "
	    "with non-empty line: not a header from mx.b.org[192.0.2.1]; "
	    "from=<a@b.org> to=<rcpt@example.com> proto=ESMTP helo=<mx.b>\n");
	end(&f);
}

static void
long_header(void **state)
{
	struct fixture f;
	struct buf b;

	(void)state;
	assert_true(begin(&f, "header_size_limit = 1024\n", NULL, NULL));
	buf_init(&b, 65536);
	buf_puts(&b, "A: ");
	for (int i = 0; i < 600; i++)
		buf_puts(&b, "x");
	buf_puts(&b, "\r\n ");
	for (int i = 0; i < 600; i++)
		buf_puts(&b, "y");
	buf_puts(&b, "\r\nC: d\r\n\r\nbody\r\n");
	judge_view(&f, buf_view(&b), 0);
	assert_int_equal(f.text.n, b.n - 181);
	assert_non_null(strstr(buf_cstr(&f.text), "yyy\r\nC: d\r\n\r\nbody"));
	/* No colon within the limit: nothing of it may stay. */
	buf_clear(&b);
	buf_puts(&b, "B: 1\r\n");
	for (int i = 0; i < 1500; i++)
		buf_puts(&b, "n");
	buf_puts(&b, ": v\r\nC: d\r\n\r\nbody\r\n");
	judge_view(&f, buf_view(&b), 0);
	expect_text(&f, "B: 1\r\nC: d\r\n\r\nbody\r\n");
	buf_free(&b);
	end(&f);
}

static void
nesting(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "mime_nesting_limit = 1\nmime_part_limit = 3\n",
	    NULL, NULL));
	judge(&f, "Content-Type: multipart/x; boundary=a\r\n\r\n--a\r\n"
	    "Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\n"
	    "Content-Type: multipart/x; boundary=c\r\n\r\n--c\r\n");
	expect_reply(&f, 550, "5.6.0", "MIME nesting exceeds safety limit");
	expect_logged(": reject: mime-error MIME nesting exceeds safety limit:"
	    " Content-Type: multipart/x; boundary=c from");
	judge(&f, "Content-Type: multipart/x; boundary=a\r\n\r\n--a\r\n\r\n"
	    "--a\r\n\r\n--a\r\n\r\n--a\r\n\r\n");
	expect_reply(&f, 550, "5.6.0",
	    "MIME part count exceeds safety limit");
	end(&f);
}

/* -- loading --------------------------------------------------------------- */

static void
broken_rules(void **state)
{
	static const struct {
		const char *rules, *place;
	} cases[] = {
		{ "/ok/ REJECT\n/(/ REJECT\n", "/hc:2: " },
		{ "/ok/ REJECT\n\n/x/ REJCT\n", "/hc:3: " },
		{ "/x/ BCC nobody\n", "/hc:1: " },
		{ "/x/ FILTER nothing\n", "/hc:1: " },
		{ "/x/ PREPEND\n", "/hc:1: " },
		{ "if /x/\n/y/ REJECT\n", "/hc:1: " },
	};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (begin(&f, "", cases[i].rules, NULL))
			fail_msg("accepted: %s", cases[i].rules);
		if (strstr(buf_cstr(&f.reported), cases[i].place) == NULL)
			fail_msg("%s: %s", cases[i].rules,
			    buf_cstr(&f.reported));
		end(&f);
	}
}

static void
check_only(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(begin(&f, "",
	    "# match: Subject: x\n# pass: Subject: y\n/^Subject: x/ REJECT\n",
	    NULL));
	assert_true(engine_check(f.conf, report, &f));
	write_file(f.dir, "hc", "# match: Subject: z\n/^Subject: x/ REJECT\n");
	assert_false(engine_check(f.conf, report, &f));
	assert_non_null(strstr(buf_cstr(&f.reported), "/hc:"));
	end(&f);
}

static int
log_begin(void **state)
{
	(void)state;
	log_fd = memfd_create("log", 0);
	(void)fcntl(log_fd, F_SETFL, O_APPEND);
	log_open("postern/cleanup", "host");
	log_to(LOG_SINK_FILE, dup(log_fd), 0);
	return log_fd < 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loveletter),
		cmocka_unit_test(attachment_by_body_checks),
		cmocka_unit_test(code_and_text),
		cmocka_unit_test(classes),
		cmocka_unit_test(no_mime),
		cmocka_unit_test(edits),
		cmocka_unit_test(inserted_text_is_clean),
		cmocka_unit_test(pieces_of_long_lines),
		cmocka_unit_test(strongest),
		cmocka_unit_test(internal_mail),
		cmocka_unit_test(too_many_edits),
		cmocka_unit_test(body_size_limit),
		cmocka_unit_test(message_id),
		cmocka_unit_test(hops),
		cmocka_unit_test(strays),
		cmocka_unit_test(header_block),
		cmocka_unit_test(long_header),
		cmocka_unit_test(nesting),
		cmocka_unit_test(broken_rules),
		cmocka_unit_test(check_only),
	};

	return cmocka_run_group_tests(tests, log_begin, NULL);
}
