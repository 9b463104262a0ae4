/* link: filters/milter_client.c filters/milter_answer.c filters/milter_wire.c filters/milter_mail.c */
/*
 * A filter that says anything.  Input: its packets, as they come.  A fixed
 * conversation goes on as far as it lets it; what it changes is applied, and
 * both ways to give the changed message out must agree.
 */
#include <stdint.h>
#include <stdlib.h>

#include "filters/milter_mail.h"
#include "lib/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char text[] = "Received: by us\r\n\tfor you\r\n"
    "Subject: one\r\n two\r\nTo: a\r\nto: b\r\n\r\nbody\r\n";
static const struct edits none;

static bool
macro(void *arg, struct view name, struct view *ret)
{
	(void)arg;
	*ret = name;
	return name.n != 1;
}

static bool
put(void *arg, struct view piece)
{
	return buf_putv(arg, piece);
}

static void
apply_edits(struct view t, const struct edits *e, struct buf *ret)
{
	uint64_t at = 0;
	uint32_t i;

	for (i = 0; i < e->n; i++) {
		ensure(e->list[i].offset >= at);
		(void)buf_putv(ret, view_head(view_from(t, (size_t)at),
		    (size_t)(e->list[i].offset - at)));
		(void)buf_putv(ret, e->list[i].insert);
		at = e->list[i].offset + e->list[i].remove;
		ensure(at <= t.n);
	}
	(void)buf_putv(ret, view_from(t, (size_t)at));
}

static void
check_outcome(struct milter_mail *m, struct milter_client *c)
{
	struct view t = view_make(text, sizeof text - 1);
	const struct milter_edit *list;
	struct edits e;
	struct arena *a = arena_new(1u << 20);
	struct buf written, edited;
	size_t i, n;

	list = milter_client_edits(c, &n);
	for (i = 0; i < n; i++)
		ensure(view_find(list[i].name, '\n') == list[i].name.n &&
		    view_find(list[i].value, '\r') == list[i].value.n);
	buf_init(&written, 8u << 20);
	buf_init(&edited, 8u << 20);
	if (milter_mail_apply(m, list, n, milter_client_body(c), false) &&
	    milter_mail_write(m, put, &written) &&
	    milter_mail_edits(m, a, &e)) {
		apply_edits(t, &e, &edited);
		ensure(view_eq(buf_view(&edited), buf_view(&written)));
	}
	buf_free(&written);
	buf_free(&edited);
	arena_free(&a);
}

/* Reads until an answer is there; false: no more input, or a broken filter. */
static bool
hear(struct milter_client *c, bool known, struct view *in)
{
	while (!known) {
		buf_clear(milter_client_out(c));
		if (!milter_client_waiting(c))
			return false;
		known = milter_client_written(c) || milter_client_read(c, in);
		if (!known && in->n == 0)
			return false;
		if (!known && milter_client_out(c)->n == 0)
			return false;
	}
	return milter_client_result(c)->answer != MILTER_BROKEN;
}

static void
transaction(struct milter_client *c, struct milter_mail *m, struct view *in)
{
	struct view args[] = { view_of("<a@b>"), view_of("SIZE=1") };

	if (!hear(c, milter_client_mail(c, args, 2), in) ||
	    !hear(c, milter_client_rcpt(c, args, 1, false), in) ||
	    !hear(c, milter_client_unknown(c, args[1]), in) ||
	    !hear(c, milter_client_data(c), in))
		return;
	ensure(milter_mail_begin(m, view_make(text, sizeof text - 1), &none,
	    1));
	if (hear(c, milter_client_message(c, milter_mail_text(m)), in))
		check_outcome(m, c);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct milter_settings s = { .version = 6, .rejected_rcpts = true,
		.body_max = 1u << 20, .unknown_macros = view_of("j {x}"),
		.pipelining = n > 0 && (data[n - 1] & 1) != 0 };
	struct view in = view_make(data, n);
	struct milter_client *c = milter_client_new(&s, macro, NULL);
	struct milter_mail *m = milter_mail_new(1u << 20);

	if (hear(c, milter_client_negotiate(c), &in) &&
	    hear(c, milter_client_connect(c, view_of("h"), '4', 25,
	    view_of("192.0.2.1")), &in) &&
	    hear(c, milter_client_helo(c, view_of("h")), &in)) {
		transaction(c, m, &in);
		if (!milter_client_waiting(c)) {
			(void)milter_client_abort(c);
			transaction(c, m, &in);
		}
	}
	milter_client_free(&c);
	milter_mail_free(&m);
	return 0;
}
