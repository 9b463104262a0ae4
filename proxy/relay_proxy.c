/*
 * A filter that answers for the message (smtpd_proxy_filter): a delivery of
 * its own kind.  One server, one transaction with all recipients, nothing sent
 * ahead; the first refusal is the answer for all of them, and then DATA is not
 * said.  Nothing is known of the message on the disk here or there before the
 * filter has said 250, and qmgr keeps nothing of it afterwards.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_proxy.h"
#include "rules/proxy_filter.h"

#define TEXT_MAX	400u	/* of a reply, so that ours is a line of SMTP */
#define EHLO_MAX	255u

/* The lines of a reply as one, without codes. */
static struct view
proxy_reply_text(struct delivery *d, const struct relay_reply *r,
    const char *dsn)
{
	struct view line, rest, said;
	struct buf b;
	size_t pos = 0;

	buf_init(&b, RELAY_REPLY_MAX);
	while (b.n < TEXT_MAX && relay_reply_line(r, &pos, &line)) {
		rest = line;
		if (view_is(view_word(&rest, " "), dsn))
			line = rest;
		line = view_trim(line);
		if (b.n > 0 && line.n > 0)
			(void)buf_puts(&b, " ");
		(void)buf_putv(&b, line);
	}
	said = arena_copy(d->arena, view_head(buf_view(&b), TEXT_MAX));
	buf_free(&b);
	return said;
}

void
proxy_replied(struct delivery *d, const struct relay_reply *r)
{
	struct delivery_proxy *p = d->proxy;

	if (p == NULL || p->code != 0)
		return;
	relay_reply_status(r, p->dsn);
	p->text = proxy_reply_text(d, r, p->dsn);
	/* Our client's session does not end with the filter's. */
	p->code = r->code % 100 == 21 ? 451 : r->code / 100 == 2 ? 250 :
	    r->code;
}

void
proxy_unfit(struct delivery *d, const char *dsn, const char *why)
{
	struct delivery_proxy *p = d->proxy;

	if (p == NULL || p->code != 0)
		return;
	(void)snprintf(p->dsn, sizeof p->dsn, "%s", dsn);
	p->text = arena_copy(d->arena, view_head(view_of(why), TEXT_MAX));
	p->code = 554;
}

void
proxy_report(struct delivery *d)
{
	const struct delivery_proxy *p = d->proxy;
	struct buf *b = chan_begin(d->qmgr, MSG_PROXY_SAID);

	put_u64(b, d->number);
	put_u16(b, (uint16_t)p->code);
	put_view(b, view_of(p->code != 0 ? p->dsn : d->why_dsn));
	put_view(b, p->code != 0 ? p->text : view_head(view_of(d->why),
	    2 * TEXT_MAX));
	chan_end(d->qmgr);
}

bool
proxy_read(struct delivery *d, struct view body)
{
	struct cursor c = cursor_of(arena_copy(d->arena, body));
	struct delivery_proxy *p = arena_alloc(d->arena, sizeof *p);
	struct view edits, env, ehlo;
	struct queue_id id;
	uint64_t ms;
	uint32_t i;

	*p = (struct delivery_proxy){ 0 };
	d->proxy = p;
	d->number = id.n = cursor_u64(&c);
	(void)queue_id_text(id, d->id);
	d->transport = view_of("");
	d->hop_list = cursor_view(&c);
	ehlo = cursor_view(&c);
	ms = cursor_u64(&c);
	d->text_offset = cursor_u64(&c);
	d->text_size = cursor_u64(&c);
	edits = cursor_view(&c);
	env = cursor_view(&c);
	if (!cursor_done(&c) || ms == 0 || ms > INT64_C(86400000) ||
	    ehlo.n > EHLO_MAX || d->text_size > INT64_MAX ||
	    d->text_offset > INT64_MAX - d->text_size ||
	    !envelope_get(env, d->arena, &d->env) || d->env.nrcpts == 0 ||
	    !edits_get(edits, d->text_size, d->arena, &d->edits))
		return false;
	p->ehlo = ehlo;
	p->timeout = (int64_t)ms;
	d->limit = PROXY_FILTER_STEPS * p->timeout;
	d->n_rcpts = d->open = d->env.nrcpts;
	d->rcpts = arena_alloc(d->arena, d->n_rcpts * sizeof *d->rcpts);
	memset(d->rcpts, 0, d->n_rcpts * sizeof *d->rcpts);
	for (i = 0; i < d->n_rcpts; i++) {
		d->rcpts[i].index = i;
		d->rcpts[i].addr = d->rcpts[i].out = d->env.rcpts[i].addr;
	}
	d->times.arrival = d->times.active = d->times.begun;
	d->size = edits_size(&d->edits, d->text_size);
	return true;
}
