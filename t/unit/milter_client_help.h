/*
 * A filter that is played: what the milter client said to it, and its
 * answers.
 */
#ifndef T_UNIT_MILTER_CLIENT_HELP_H
#define T_UNIT_MILTER_CLIENT_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "filters/milter_client.h"

#define ALL	0x1ffu
#define SILENT	0xff080u	/* all SILENT bits */

static struct milter_client *c;
static struct buf from;		/* what the filter says */

static __attribute__((unused)) bool
macro(void *arg, struct view name, struct view *ret)
{
	(void)arg;
	if (view_is(name, "i"))
		*ret = view_of("0123");
	else if (view_is(name, "j"))
		*ret = view_of("gw.example.com");
	else if (view_is(name, "rcpt_addr"))
		*ret = view_of("b@example.com");
	else
		return false;
	return true;
}

static __attribute__((unused)) int
setup_with(bool pipelining)
{
	struct milter_settings s = { .version = 6, .rejected_rcpts = true,
		.body_max = 1000000, .unknown_macros = view_of("j"),
		.pipelining = pipelining };

	s.macros[MILTER_MACROS_CONNECT] = view_of("j {daemon_name}, _");
	s.macros[MILTER_MACROS_RCPT] = view_of("{rcpt_addr} i");
	s.macros[MILTER_MACROS_BODY_END] = view_of("i");
	c = milter_client_new(&s, macro, NULL);
	buf_init(&from, 4u << 20);
	return 0;
}

static __attribute__((unused)) int
setup(void **state)
{
	(void)state;
	return setup_with(false);
}

static __attribute__((unused)) int
teardown(void **state)
{
	(void)state;
	milter_client_free(&c);
	milter_client_free(&c);
	buf_free(&from);
	return 0;
}

/* What was said since the last time, as "TYPE[data] ..."; NUL is "|". */
static const char *
heard(void)
{
	static char text[4000];
	struct view in = buf_view(milter_client_out(c));
	struct milter_packet p;
	size_t i, n = 0;

	text[0] = '\0';
	while (milter_packet_get(&in, 1u << 20, &p) == MILTER_GET_PACKET) {
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%c",
		    n > 0 ? " " : "", p.type);
		if (p.data.n > 0)
			text[n++] = '[';
		for (i = 0; i < p.data.n && n < sizeof(text) - 3; i++)
			text[n++] = p.data.p[i] == '\0' ? '|' : p.data.p[i];
		if (p.data.n > 0)
			text[n++] = ']';
		text[n] = '\0';
	}
	assert_int_equal(in.n, 0);
	buf_clear(milter_client_out(c));
	return text;
}

static __attribute__((unused)) void
says(char type, const void *data, size_t n)
{
	assert_true(milter_put_packet(&from, type, view_make(data, n)));
}

#define SAYS(type, s)	says(type, s, sizeof(s) - 1)

/* Byte by byte; is there an answer? */
static __attribute__((unused)) bool
answers(void)
{
	struct view in = buf_view(&from), part;
	bool ret = false;
	size_t n;

	/* What was asked is on its way, whether the test looks or not. */
	buf_clear(milter_client_out(c));
	for (n = 1; n <= in.n && !ret; n++) {
		part = view_head(in, n);
		ret = milter_client_read(c, &part);
		if (part.n < n) {
			in = view_from(in, n - part.n);
			n = part.n;
		}
	}
	buf_clear(&from);
	return ret;
}

static __attribute__((unused)) enum milter_answer
answer(void)
{
	assert_true(answers());
	assert_false(milter_client_waiting(c));
	return milter_client_result(c)->answer;
}

static __attribute__((unused)) void
expect_broken(const char *why)
{
	struct view text;
	size_t n;

	assert_int_equal(answer(), MILTER_BROKEN);
	text = milter_client_result(c)->text;
	if (!view_is(text, why))
		fail_msg("\"%.*s\", not \"%s\"", VIEW_ARGS(text), why);
	(void)milter_client_edits(c, &n);
	assert_int_equal(n, 0);
	assert_int_equal(milter_client_body(c).n, 0);
	/* and it stays so */
	assert_true(milter_client_helo(c, view_of("x")));
	assert_int_equal(milter_client_result(c)->answer, MILTER_BROKEN);
	assert_string_equal(heard(), "");
}

static __attribute__((unused)) void
negotiate(uint32_t version, uint32_t actions, uint32_t steps)
{
	struct buf b;

	assert_false(milter_client_negotiate(c));
	(void)heard();
	buf_init(&b, 100);
	(void)milter_put_u32(&b, version);
	(void)milter_put_u32(&b, actions);
	(void)milter_put_u32(&b, steps);
	says('O', b.p, b.n);
	buf_free(&b);
}

static __attribute__((unused)) void
ready(uint32_t steps)
{
	negotiate(6, ALL, steps);
	assert_int_equal(answer(), MILTER_GO_ON);
}

static __attribute__((unused)) void
begin_mail(void)
{
	struct view args[] = { view_of("<a@example.org>"),
		view_of("SIZE=10") };

	if (!milter_client_mail(c, args, 2)) {
		SAYS('c', "");
		assert_int_equal(answer(), MILTER_GO_ON);
	}
	(void)heard();
}

static const struct milter_header headers[] = {
	{ { "Subject", 7 }, { " x\n y", 5 } },
	{ { "To", 2 }, { "b", 1 } },
};
static const struct milter_text text = { headers, 2, { "line\r\n", 6 } };

#endif
