/* link: filters/milter_client.c filters/milter_answer.c filters/milter_wire.c */
#include "t/unit/milter_client_help.h"

/* All silent: up to the end of the message. */
static void
at_end(void)
{
	ready(SILENT);
	begin_mail();
	assert_false(milter_client_message(c, &text));
	(void)heard();
}

static void
negotiation(void **state)
{
	struct view in;
	struct milter_packet p;
	uint32_t v;

	(void)state;
	assert_false(milter_client_negotiate(c));
	assert_true(milter_client_waiting(c));
	in = buf_view(milter_client_out(c));
	assert_int_equal(milter_packet_get(&in, 100, &p), MILTER_GET_PACKET);
	assert_int_equal(p.type, 'O');
	assert_true(milter_get_u32(&p.data, &v) && v == 6);
	assert_true(milter_get_u32(&p.data, &v) && v == 0x1ff);
	assert_true(milter_get_u32(&p.data, &v) && v == 0x1fffff);
	assert_int_equal(p.data.n, 0);
	says('O', "\0\0\0\6\0\0\1\1\0\0\4\1" "\0\0\0\2i {mail_addr}\0"
	    "\0\0\0\0{j}", 12 + 18 + 4 + 4);
	assert_int_equal(answer(), MILTER_GO_ON);
	(void)heard();
	assert_int_equal(milter_client_steps(c), 0x401);
	/* its own lists; and macros go out for what it does not want */
	assert_true(milter_client_connect(c, view_of("h"), '4', 25,
	    view_of("192.0.2.1")));
	assert_string_equal(heard(), "D[Cj|gw.example.com|]");
	assert_false(milter_client_mail(c, (struct view[]){ view_of("<>") },
	    1));
	assert_string_equal(heard(), "D[Mi|0123|] M[<>|]");
}

static void
bad_negotiations(void **state)
{
	static const struct {
		const char *data;
		size_t n;
		char type;
		const char *why;
	} bad[] = {
		{ "\0\0\0\6\0\0\0\0\0\0\0", 11, 'O',
		    "negotiation is cut short" },
		{ "\0\0\0\1\0\0\0\0\0\0\0\0", 12, 'O',
		    "protocol version 1, not 2 to 6" },
		{ "\0\0\0\7\0\0\0\0\0\0\0\0", 12, 'O',
		    "protocol version 7, not 2 to 6" },
		{ "\0\0\0\6\0\0\2\0\0\0\0\0", 12, 'O',
		    "wants actions 0x200 that do not exist" },
		{ "\0\0\0\6\0\0\0\0\0\x20\0\0", 12, 'O',
		    "wants steps 0x200000 that do not exist" },
		{ "\0\0\0\6\0\0\1\0\0\0\0\0\0\0\0\1i", 17, 'O',
		    "malformed list of macros" },
		{ "\0\0\0\6\0\0\1\0\0\0\0\0\0\0\0\7i\0", 18, 'O',
		    "list of macros over the limit" },
		{ "\0\0\0\6\0\0\0\0\0\0\0\0\0\0\0\1i\0", 18, 'O',
		    "list of macros that was not negotiated" },
		{ "", 0, 'c', "answer \"c\" that is not allowed now" },
		{ "", 0, '\1', "answer 0x01 that does not exist" },
	};
	size_t i;

	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_false(milter_client_negotiate(c));
		(void)heard();
		says(bad[i].type, bad[i].data, bad[i].n);
		expect_broken(bad[i].why);
		teardown(state);
		setup(state);
	}
	/* lengths that lie */
	assert_false(milter_client_negotiate(c));
	(void)heard();
	(void)buf_put(&from, "\xff\xff\xff\xffO", 5);
	expect_broken("packet of a wrong length");
	teardown(state);
	setup(state);
	assert_false(milter_client_negotiate(c));
	(void)heard();
	(void)buf_put(&from, "\0\0\0\0O", 5);
	expect_broken("packet of a wrong length");
}

/* A filter of 1999 knows neither DATA nor unknown commands. */
static void
old_version(void **state)
{
	(void)state;
	negotiate(2, 0x1f, 0);
	assert_int_equal(answer(), MILTER_GO_ON);
	begin_mail();
	assert_true(milter_client_data(c));
	assert_true(milter_client_unknown(c, view_of("XYZ")));
	assert_false(milter_client_renew(c));
	assert_string_equal(heard(), "");
}

static void
session(void **state)
{
	struct view rcpt[] = { view_of("<b@example.com>"),
		view_of("NOTIFY=NEVER") };

	(void)state;
	ready(0);
	assert_false(milter_client_connect(c, view_of("mail.example.org"), '4',
	    258, view_of("192.0.2.1")));
	assert_string_equal(heard(), "D[Cj|gw.example.com|] "
	    "C[mail.example.org|4\1\2" "192.0.2.1|]");
	SAYS('c', "");
	assert_int_equal(answer(), MILTER_GO_ON);
	assert_false(milter_client_helo(c, view_of("me")));
	assert_string_equal(heard(), "H[me|]");
	SAYS('p', "");
	SAYS('c', "");
	assert_int_equal(answer(), MILTER_GO_ON);
	begin_mail();
	assert_false(milter_client_rcpt(c, rcpt, 2, false));
	assert_string_equal(heard(), "D[R{rcpt_addr}|b@example.com|i|0123|] "
	    "R[<b@example.com>|NOTIFY=NEVER|]");
	SAYS('y', "550 5.7.1 go away\0");
	assert_int_equal(answer(), MILTER_REFUSE);
	assert_int_equal(milter_client_result(c)->code, 550);
	/* refused recipients only on demand */
	assert_true(milter_client_rcpt(c, rcpt, 1, true));
	(void)heard();
	assert_false(milter_client_unknown(c, view_of("FOO bar")));
	assert_string_equal(heard(), "D[Uj|gw.example.com|] U[FOO bar|]");
	SAYS('r', "");
	assert_int_equal(answer(), MILTER_REFUSE);
	assert_false(milter_client_data(c));
	assert_string_equal(heard(), "T");
	SAYS('c', "");
	assert_int_equal(answer(), MILTER_GO_ON);
	assert_false(milter_client_message(c, &text));
	assert_string_equal(heard(), "L[Subject|x\n y|]");
	SAYS('c', "");
	assert_false(answers());
	assert_string_equal(heard(), "L[To|b|]");
	SAYS('c', "");
	assert_false(answers());
	assert_string_equal(heard(), "N");
	SAYS('c', "");
	assert_false(answers());
	assert_string_equal(heard(), "B[line\r\n]");
	SAYS('c', "");
	assert_false(answers());
	assert_string_equal(heard(), "D[Ei|0123|] E");
	SAYS('c', "");
	assert_int_equal(answer(), MILTER_GO_ON);
	/* the next one needs no abort; one that ends half-way does, and then
	 * the connection is for no other session */
	assert_false(milter_client_abort(c));
	assert_true(milter_client_renew(c));
	assert_string_equal(heard(), "K");
	assert_false(milter_client_connect(c, view_of("x"), 'U', 0,
	    view_of("")));
	assert_string_equal(heard(), "D[Cj|gw.example.com|] C[x|U]");
	SAYS('c', "");
	assert_int_equal(answer(), MILTER_GO_ON);
	begin_mail();
	assert_true(milter_client_abort(c));
	assert_string_equal(heard(), "A");
	assert_false(milter_client_abort(c));
	assert_false(milter_client_renew(c));
	milter_client_quit(c);
	assert_string_equal(heard(), "Q");
}

/* With silence agreed upon, one write holds a whole message. */
static void
silent(void **state)
{
	(void)state;
	ready(SILENT | MILTER_LEADING_SPACE);
	assert_true(milter_client_connect(c, view_of("h"), '6', 1,
	    view_of("2001:db8::1")));
	assert_true(milter_client_helo(c, view_of("h")));
	begin_mail();
	assert_true(milter_client_data(c));
	assert_false(milter_client_message(c, &text));
	assert_string_equal(heard(), "T L[Subject| x\n y|] L[To|b|] N "
	    "B[line\r\n] D[Ei|0123|] E");
	SAYS('a', "");
	assert_int_equal(answer(), MILTER_TAKE);
	begin_mail();
	assert_false(milter_client_message(c, &text));
	(void)heard();
	/* what comes behind the answer is not its */
	SAYS('c', "");
	SAYS('c', "");
	assert_int_equal(answer(), MILTER_GO_ON);
	SAYS('c', "");
	expect_broken("answer \"c\" that is not allowed now");
}

static void
unwanted(void **state)
{
	(void)state;
	ready(SILENT | MILTER_NO_HEADERS | MILTER_NO_HEADERS_END |
	    MILTER_NO_BODY | MILTER_NO_MAIL | MILTER_NO_RCPT);
	begin_mail();
	assert_true(milter_client_rcpt(c, (struct view[]){ view_of("<b>") },
	    1, false));
	(void)heard();
	assert_false(milter_client_message(c, &text));
	assert_string_equal(heard(), "D[Ei|0123|] E");
}

/* A large body goes out as there is room for it, and up to SKIP. */
static void
large(void **state)
{
	static char body[3000000];
	struct milter_text big = { NULL, 0, { body, sizeof body } };
	size_t total = 0, max = 0, rounds = 0;
	struct buf *out;

	(void)state;
	ready(SILENT);
	begin_mail();
	assert_false(milter_client_message(c, &big));
	out = milter_client_out(c);
	while (out->n > 0) {
		total += out->n;
		max = out->n > max ? out->n : max;
		buf_clear(out);
		rounds++;
		assert_false(milter_client_written(c));
	}
	assert_true(total > sizeof body && total < sizeof body + 1000);
	assert_true(max < MILTER_OUT_MAX && rounds > 5);
	SAYS('c', "");
	assert_int_equal(answer(), MILTER_GO_ON);

	teardown(state);
	setup(state);
	ready((SILENT & ~(uint32_t)MILTER_SILENT_BODY) | MILTER_CAN_SKIP);
	begin_mail();
	assert_false(milter_client_message(c, &big));
	assert_int_equal(milter_client_out(c)->n, 5 + 5 + MILTER_CHUNK);
	buf_clear(milter_client_out(c));
	SAYS('s', "");
	assert_false(answers());
	assert_string_equal(heard(), "D[Ei|0123|] E");
	SAYS('s', "");
	expect_broken("answer \"s\" that is not allowed now");
}

/* What a filter accepted it does not hear of again, until the next. */
static void
accepting(void **state)
{
	(void)state;
	ready(0);
	assert_false(milter_client_mail(c, (struct view[]){ view_of("<>") },
	    1));
	SAYS('a', "");
	assert_int_equal(answer(), MILTER_TAKE);
	(void)heard();
	assert_true(milter_client_rcpt(c, (struct view[]){ view_of("<b>") },
	    1, false));
	assert_true(milter_client_data(c));
	assert_true(milter_client_message(c, &text));
	assert_int_equal(milter_client_result(c)->answer, MILTER_GO_ON);
	assert_string_equal(heard(), "");
	assert_false(milter_client_mail(c, (struct view[]){ view_of("<>") },
	    1));
	assert_string_equal(heard(), "A M[<>|]");
	SAYS('d', "");
	assert_int_equal(answer(), MILTER_DROP);
	assert_true(milter_client_abort(c));
	assert_string_equal(heard(), "A");
	assert_false(milter_client_abort(c));
	/* what comes before a question was sent is no answer to it */
	assert_false(milter_client_unknown(c, view_of("X")));
	SAYS('c', "");
	{
		struct view in = buf_view(&from);

		assert_true(milter_client_out(c)->n > 0);
		assert_true(milter_client_read(c, &in));
		assert_int_equal(milter_client_result(c)->answer,
		    MILTER_BROKEN);
		buf_clear(&from);
	}
	(void)teardown(NULL);
	(void)setup(NULL);
	ready(0);
	/* an unknown command before mail */
	assert_false(milter_client_unknown(c, view_of("X")));
	SAYS('a', "");
	assert_int_equal(answer(), MILTER_GO_ON);
	(void)heard();
	assert_false(milter_client_helo(c, view_of("h")));
	(void)heard();
	SAYS('a', "");
	assert_int_equal(answer(), MILTER_TAKE);
	assert_true(milter_client_mail(c, (struct view[]){ view_of("<>") },
	    1));
	assert_string_equal(heard(), "");
}

static void
ends(void **state)
{
	(void)state;
	ready(0);
	assert_false(milter_client_connect(c, view_of("h"), 'U', 0,
	    view_of("")));
	(void)heard();
	SAYS('4', "");
	assert_int_equal(answer(), MILTER_HANG_UP);
	teardown(state);
	setup(state);
	ready(0);
	assert_false(milter_client_helo(c, view_of("h")));
	(void)heard();
	SAYS('y', "421 4.3.2 later\0");
	assert_int_equal(answer(), MILTER_HANG_UP);
	assert_true(view_is(milter_client_result(c)->text, "4.3.2 later"));
	teardown(state);
	setup(state);
	ready(0);
	assert_false(milter_client_helo(c, view_of("h")));
	(void)heard();
	SAYS('t', "");
	assert_int_equal(answer(), MILTER_REFUSE);
	assert_true(milter_client_result(c)->temporary);
	assert_int_equal(milter_client_result(c)->code, 0);
	teardown(state);
	setup(state);
	ready(0);
	assert_false(milter_client_helo(c, view_of("h")));
	(void)heard();
	SAYS('d', "");
	expect_broken("answer \"d\" that is not allowed now");
	teardown(state);
	setup(state);
	ready(0);
	assert_false(milter_client_helo(c, view_of("h")));
	(void)heard();
	SAYS('f', "");
	expect_broken("says that it failed");
	teardown(state);
	setup(state);
	at_end();
	SAYS('h', "X\0" "1\0");
	assert_false(answers());
	milter_client_fail(c, "closed the connection");
	assert_false(milter_client_waiting(c));
	assert_int_equal(milter_client_result(c)->answer, MILTER_BROKEN);
	assert_true(view_is(milter_client_result(c)->text,
	    "closed the connection"));
}

static void
replies(void **state)
{
	static const struct {
		const char *data;
		size_t n;
		uint16_t code;		/* 0: refused with text as why */
		const char *text;
	} list[] = {
#define R(s) s, sizeof(s)
		{ R("550 5.7.1 no"), 550, "5.7.1 no" },
		{ R("550"), 550, "" },
		{ R("451 no"), 451, "no" },
		{ R("550 4.7.1 class"), 550, "5.7.1 class" },
		{ R("550 5.7.1"), 550, "5.7.1" },
		{ R("550 4.7.1x"), 550, "4.7.1x" },
		{ R("550-5.7.1 a\r\n550-b\n550 c"), 550, "5.7.1 a\nb\nc" },
		{ R("550 100%% \t\xff"), 550, "100% ??" },
		{ R("550-a\r\n250 ok"), 0, "reply without a code of 4xx or 5xx" },
		{ R("550-a\r\n551 b"), 0, "reply of several codes" },
		{ R("550 a\r\n550 b"), 0, "reply whose last line is not its last" },
		{ R("550-a\r\n550-b"), 0, "reply whose last line is not its last" },
		{ R("55"), 0, "reply without a code of 4xx or 5xx" },
		{ R(""), 0, "reply without a code of 4xx or 5xx" },
		{ R("650 x"), 0, "reply without a code of 4xx or 5xx" },
		{ R("5x0 x"), 0, "reply without a code of 4xx or 5xx" },
		{ R("550x"), 0, "reply without a space behind its code" },
		{ R("550 a\r\n\r\n"), 0, "reply whose last line is not its last" },
		{ "550 a", 5, 0, "malformed reply" },
		{ R("550 a\0b"), 0, "malformed reply" },
	};
	struct view got;
	size_t i;

	for (i = 0; i < sizeof list / sizeof list[0]; i++) {
		teardown(state);
		setup(state);
		ready(0);
		begin_mail();
		assert_false(milter_client_rcpt(c, (struct view[]){
		    view_of("<b>") }, 1, false));
		(void)heard();
		says('y', list[i].data, list[i].n);
		if (list[i].code == 0) {
			expect_broken(list[i].text);
			continue;
		}
		assert_int_equal(answer(), MILTER_REFUSE);
		assert_int_equal(milter_client_result(c)->code, list[i].code);
		got = milter_client_result(c)->text;
		if (!view_is(got, list[i].text))
			fail_msg("\"%.*s\", not \"%s\"", VIEW_ARGS(got),
			    list[i].text);
	}
}

static void
long_replies(void **state)
{
	struct buf b;
	int i;

	buf_init(&b, 1u << 17);
	(void)buf_puts(&b, "550 ");
	for (i = 0; i < 981; i++)
		(void)buf_putc(&b, 'x');
	(void)buf_putc(&b, '\0');
	ready(0);
	begin_mail();
	assert_false(milter_client_data(c));
	(void)heard();
	says('y', b.p, b.n);
	expect_broken("reply line over the limit");
	teardown(state);
	setup(state);
	buf_clear(&b);
	for (i = 0; i < 32; i++)
		(void)buf_puts(&b, "550-x\r\n");
	(void)buf_puts(&b, "550 x");
	(void)buf_putc(&b, '\0');
	ready(0);
	begin_mail();
	assert_false(milter_client_data(c));
	(void)heard();
	says('y', b.p, b.n);
	expect_broken("reply of too many lines");
	buf_free(&b);
}

static void
expect_edit(size_t i, enum milter_edit_kind kind, uint32_t number,
    const char *name, const char *value)
{
	size_t n;
	const struct milter_edit *e = milter_client_edits(c, &n);

	assert_true(i < n);
	assert_int_equal(e[i].kind, kind);
	assert_int_equal(e[i].number, number);
	assert_true(view_is(e[i].name, name));
	if (!view_is(e[i].value, value))
		fail_msg("\"%.*s\", not \"%s\"", VIEW_ARGS(e[i].value), value);
}

static void
changes(void **state)
{
	struct view reason;
	size_t n;

	(void)state;
	at_end();
	SAYS('h', "X-A\0 one\0");
	SAYS('i', "\0\0\0\2X-B\0two\r\n folded\nnot\n\n \t\nend\r\n\0");
	SAYS('m', "\0\0\0\1Subject\0\0");
	SAYS('+', "<new@example.com>\0");
	SAYS('2', "<n2@example.com>\0NOTIFY=NEVER\0");
	SAYS('2', "<n3@example.com>\0");
	SAYS('-', "<b@example.com>\0");
	SAYS('e', "\0RET=HDRS\0");
	SAYS('b', "new ");
	SAYS('p', "");
	SAYS('h', "X-C\0\rx\ry\0");
	SAYS('b', "body\n");
	SAYS('q', "smells\nbad\0");
	SAYS('c', "");
	assert_int_equal(answer(), MILTER_GO_ON);
	(void)milter_client_edits(c, &n);
	assert_int_equal(n, 10);
	expect_edit(0, MILTER_EDIT_ADD_HEADER, 0, "X-A", " one");
	expect_edit(1, MILTER_EDIT_INSERT_HEADER, 2, "X-B",
	    "two\n folded\n\tnot \t\n\tend");
	expect_edit(2, MILTER_EDIT_CHANGE_HEADER, 1, "Subject", "");
	expect_edit(3, MILTER_EDIT_ADD_RCPT, 0, "<new@example.com>", "");
	expect_edit(4, MILTER_EDIT_ADD_RCPT, 0, "<n2@example.com>",
	    "NOTIFY=NEVER");
	expect_edit(5, MILTER_EDIT_ADD_RCPT, 0, "<n3@example.com>", "");
	expect_edit(6, MILTER_EDIT_DELETE_RCPT, 0, "<b@example.com>", "");
	expect_edit(7, MILTER_EDIT_FROM, 0, "", "RET=HDRS");
	expect_edit(8, MILTER_EDIT_BODY, 0, "", "");
	expect_edit(9, MILTER_EDIT_ADD_HEADER, 0, "X-C", " x y");
	assert_true(view_is(milter_client_body(c), "new body\n"));
	assert_true(milter_client_quarantine(c, &reason));
	assert_true(view_is(reason, "smells?bad"));
	/* the next message has none of them */
	begin_mail();
	(void)milter_client_edits(c, &n);
	assert_int_equal(n, 0);
	assert_false(milter_client_quarantine(c, &reason));
}

static void
bad_changes(void **state)
{
	static const struct {
		char type;
		const char *data;
		size_t n;
		const char *why;
	} bad[] = {
		{ 'h', R("\0x"), "change of a header whose name is none" },
		{ 'h', R("X Y\0x"), "change of a header whose name is none" },
		{ 'h', R("X:\0x"), "change of a header whose name is none" },
		{ 'h', R("X\n\0x"), "change of a header whose name is none" },
		{ 'h', "X\0x", 3, "malformed change" },
		{ 'h', R("X\0x\0y"), "malformed change" },
		{ 'i', "\0\0\0", 3, "malformed change" },
		{ 'm', R("\0\0\0\1X"), "malformed change" },
		{ '+', "a@b", 3, "malformed change" },
		{ '+', R("<a@b>\0x"), "malformed change" },
		{ '+', R(""), "recipient of no characters" },
		{ '+', R("<a@b>\r\nRCPT"), "address with a control character" },
		{ '2', R("<a@b>\0x\0y"), "malformed change" },
		{ '2', R("<a@b>\0x\ny"), "address with a control character" },
		{ 'e', R("<a\1@b>"), "address with a control character" },
		{ 'q', R("a\0b"), "malformed change" },
		{ 'z', "", 0, "answer \"z\" that is not allowed now" },
		{ 'C', "", 0, "answer \"C\" that is not allowed now" },
		{ 's', "", 0, "answer \"s\" that is not allowed now" },
	};
	size_t i;

	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		at_end();
		SAYS('h', "X\0y\0");
		SAYS('b', "body");
		says(bad[i].type, bad[i].data, bad[i].n);
		expect_broken(bad[i].why);
		teardown(state);
		setup(state);
	}
	/* before its time, and without its right */
	ready(0);
	begin_mail();
	assert_false(milter_client_message(c, &text));
	(void)heard();
	SAYS('h', "X\0y\0");
	expect_broken("answer \"h\" that is not allowed now");
	teardown(state);
	setup(state);
	negotiate(6, ALL & ~0x10u, SILENT);
	assert_int_equal(answer(), MILTER_GO_ON);
	begin_mail();
	assert_false(milter_client_message(c, &text));
	(void)heard();
	SAYS('m', "\0\0\0\1X\0y\0");
	expect_broken("change \"m\" that was not negotiated");
}

static void
endless(void **state)
{
	static char big[100000];
	int i;

	at_end();
	for (i = 0; i <= (int)MILTER_EDITS_MAX; i++)
		SAYS('+', "<a@b>\0");
	expect_broken("changes over the limit");
	teardown(state);
	setup(state);
	at_end();
	memset(big, 'x', sizeof big - 1);
	big[1] = '\0';
	for (i = 0; i < 12; i++)
		says('h', big, sizeof big);
	expect_broken("changes over the limit");
	teardown(state);
	setup(state);
	at_end();
	for (i = 0; i < 11; i++)
		says('b', big, sizeof big);
	expect_broken("body over the limit");
	teardown(state);
	setup(state);
	at_end();
	for (i = 0; i <= (int)MILTER_PROGRESS_MAX; i++)
		SAYS('p', "");
	expect_broken("1000 times progress and no answer");
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(negotiation), T(bad_negotiations), T(old_version),
		T(session), T(silent), T(unwanted), T(large), T(accepting),
		T(ends), T(replies), T(long_replies), T(changes),
		T(bad_changes), T(endless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
