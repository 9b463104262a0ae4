/*
 * What is said to a server.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/address.h"
#include "lib/dsn.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_bdat.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_pix.h"
#include "proxy/relay_proxy.h"
#include "proxy/relay_requiretls.h"
#include "proxy/relay_smtp.h"

#define TEXT_TURNS	16u	/* pieces written before others get a turn */

void
smtp_hello(struct session *s)
{
	const struct delivery_proxy *p = s->delivery->proxy;
	struct view name = p != NULL ? p->ehlo :
	    view_of(s->relay->conf->smtp_helo_name);
	struct buf *b = &s->relay->commands;

	buf_clear(b);
	(void)buf_printf(b, "%s %.*s\r\n", s->relay->lmtp ? "LHLO" :
	    s->state == RELAY_EHLO ? "EHLO" : "HELO", VIEW_ARGS(name));
	session_write(s, buf_view(b));
}

/* RFC 6531 is needed for an address; the flag alone is only a wish. */
static bool
smtp_8bit_address(const struct delivery *d)
{
	uint32_t i;

	if (view_8bit(d->env.sender))
		return true;
	for (i = 0; i < d->n_rcpts; i++)
		if (view_8bit(d->rcpts[i].out))
			return true;
	return false;
}

/* Things that the server need not be asked about.  True: refused. */
static bool
smtp_unfit(struct session *s)
{
	struct delivery *d = s->delivery;
	char *why;

	if (s->ehlo.size_limit > 0 && d->size > s->ehlo.size_limit) {
		why = mem_printf("message size %llu exceeds size limit %llu "
		    "of server %s", (unsigned long long)d->size,
		    (unsigned long long)s->ehlo.size_limit, s->peer_short);
		proxy_unfit(d, "5.3.4", why);
		delivery_failed(d, WHOM_OPEN, 0, true, "5.3.4", why);
		free(why);
		return true;
	}
	if ((s->ehlo.features & FEATURE_SMTPUTF8) == 0 &&
	    (smtp_8bit_address(d) ||
	    ((d->env.flags & ENVELOPE_SMTPUTF8) != 0 &&
	    relay_source_header_8bit(&s->mail.source, s->relay->piece,
	    sizeof s->relay->piece)))) {
		why = mem_printf("SMTPUTF8 is required, but was not offered "
		    "by host %s", s->peer_short);
		proxy_unfit(d, "5.6.7", why);
		delivery_failed(d, WHOM_OPEN, 0, true, "5.6.7", why);
		free(why);
		return true;
	}
	if (!relay_requiretls_allows(s, d)) {
		relay_requiretls_refuse(s);
		return true;
	}
	return false;
}

/* A server that does not say how many recipients it takes is asked all. */
static bool
smtp_room(const struct session *s, struct view addr)
{
	const struct delivery *d = s->delivery;
	const struct session_mail *m = &s->mail;
	const struct relay_ehlo *e = &s->ehlo;
	struct view domain = address_domain(addr), one;
	uint32_t i, k, domains = 1;

	/* A filter answers for all. */
	if (d->proxy != NULL)
		return true;
	if (e->rcpt_max > 0 && m->n_todo >= e->rcpt_max)
		return false;
	for (i = 0; e->rcpt_domain_max > 0 && i < m->n_todo; i++) {
		one = address_domain(d->rcpts[m->todo[i]].out);
		if (view_eq_nocase(one, domain))
			return true;
		for (k = 0; k < i; k++)
			if (view_eq_nocase(one, address_domain(
			    d->rcpts[m->todo[k]].out)))
				break;
		domains += k == i;
	}
	return e->rcpt_domain_max == 0 || domains <= e->rcpt_domain_max;
}

/* Those who are asked this time. */
static void
smtp_choose(struct session *s)
{
	struct delivery *d = s->delivery;
	struct session_mail *m = &s->mail;
	bool some = false;
	uint32_t i;

	if (d->todo == NULL)
		d->todo = arena_alloc(d->arena, d->n_rcpts * sizeof *d->todo);
	m->todo = d->todo;
	for (i = 0; i < d->n_rcpts && d->resting && !some; i++)
		some = d->rcpts[i].status == 0 && !d->rcpts[i].asked;
	d->resting = some;
	for (i = 0; i < d->n_rcpts; i++) {
		if (d->rcpts[i].status != 0 || (some && d->rcpts[i].asked))
			continue;
		d->rcpts[i].asked = false;
		if (smtp_room(s, d->rcpts[i].out))
			m->todo[m->n_todo++] = i;
		else
			m->more = true;
	}
	m->open = d->open;
}

void
smtp_begin(struct session *s)
{
	struct delivery *d = s->delivery;
	struct session_mail *m = &s->mail;

	s->uses++;
	*m = (struct session_mail){ 0 };
	smtp_choose(s);
	ensure(m->n_todo > 0 && m->n_todo <= d->open);
	relay_source_init(&m->source, d->fd, d->text_offset, d->text_size,
	    &d->edits);
	m->bdat = relay_bdat_due(s);
	relay_text_init(&m->text,
	    (size_t)s->relay->conf->smtp_line_length_limit, m->bdat);
	if (smtp_unfit(s))
		smtp_finish(s, RELAY_IDLE);
	else
		session_enter(s, smtp_xforward_due(s) ? RELAY_XFORWARD :
		    RELAY_MAIL);
}

bool
smtp_xforward_due(const struct session *s)
{
	return (s->relay->conf->smtp_send_xforward_command ||
	    s->delivery->proxy != NULL) && !s->delivery->probe &&
	    (s->ehlo.xforward & ~s->mail.forwarded) != 0;
}

/* What is known of it; empty: nothing. */
static struct view
xforward_value(const struct delivery *d, enum relay_xforward what,
    char number[16])
{
	const struct envelope *e = &d->env;

	switch (what) {
	case XFORWARD_NAME:
		return view_is(e->client_name, "unknown") ? view_of("") :
		    e->client_name;
	case XFORWARD_ADDR:
		return e->client_addr;
	case XFORWARD_PORT:
		(void)snprintf(number, 16, "%u", (unsigned)e->client_port);
		return view_of(e->client_port > 0 ? number : "");
	case XFORWARD_PROTO:
		return e->proto;
	case XFORWARD_HELO:
		return e->helo;
	case XFORWARD_IDENT:
		return view_of(d->id);
	case XFORWARD_SOURCE:
		return view_of((e->flags & ENVELOPE_LOCAL) != 0 ? "LOCAL" :
		    "REMOTE");
	case XFORWARDS:
		break;
	}
	return view_of("");
}

/* A line of the size that any server takes; the rest is in the next one.  One
 * value, each byte of which may become three, always fits. */
#define XFORWARD_LINE	500u
#define XFORWARD_VALUE	160u

void
smtp_xforward(struct session *s)
{
	struct session_mail *m = &s->mail;
	struct buf *b = &s->relay->commands, one;
	char number[16];
	struct view v;
	uint32_t i;

	buf_clear(b);
	buf_init(&one, 3 * XFORWARD_VALUE + 8);
	(void)buf_puts(b, "XFORWARD");
	for (i = 0; i < XFORWARDS; i++) {
		if ((s->ehlo.xforward & ~m->forwarded & 1u << i) == 0)
			continue;
		v = view_head(xforward_value(s->delivery, i, number),
		    XFORWARD_VALUE);
		buf_clear(&one);
		if (i == XFORWARD_ADDR && view_find(v, ':') < v.n)
			(void)buf_puts(&one, "IPV6:");
		(void)(v.n > 0 ? xtext_put(&one, v) :
		    buf_puts(&one, "[UNAVAILABLE]"));
		if (b->n + one.n > XFORWARD_LINE)
			break;
		(void)buf_printf(b, " %s=%.*s", relay_xforward_names[i],
		    VIEW_ARGS(buf_view(&one)));
		m->forwarded |= 1u << i;
	}
	(void)buf_puts(b, "\r\n");
	buf_free(&one);
	session_write(s, buf_view(b));
}

/*
 * The text is sent as it is to a server without 8BITMIME: all in use are
 * 8-bit clean, and a conversion would break signatures.
 */
static void
smtp_put_mail(const struct session *s, struct buf *b)
{
	const struct delivery *d = s->delivery;
	uint32_t features = s->ehlo.features;

	(void)buf_puts(b, "MAIL FROM:<");
	(void)address_quote(d->env.sender, b);
	(void)buf_puts(b, ">");
	if ((features & FEATURE_SIZE) != 0 && !d->probe)
		(void)buf_printf(b, " SIZE=%llu", (unsigned long long)d->size);
	if ((features & FEATURE_8BITMIME) != 0 &&
	    (d->env.flags & ENVELOPE_8BIT) != 0)
		(void)buf_puts(b, " BODY=8BITMIME");
	if ((features & FEATURE_SMTPUTF8) != 0 &&
	    ((d->env.flags & ENVELOPE_SMTPUTF8) != 0 || smtp_8bit_address(d)))
		(void)buf_puts(b, " SMTPUTF8");
	if (relay_requiretls_asks(s))
		(void)buf_puts(b, " REQUIRETLS");
	if ((features & FEATURE_DSN) != 0 && d->env.ret != 0)
		(void)buf_printf(b, " RET=%s", d->env.ret == 'H' ? "HDRS" :
		    "FULL");
	if ((features & FEATURE_DSN) != 0 && d->env.envid.n > 0) {
		(void)buf_puts(b, " ENVID=");
		(void)xtext_put(b, d->env.envid);
	}
	/* RFC 4954 section 5: nobody vouches for the sender. */
	if (s->authenticated && s->relay->conf->smtp_send_dummy_mail_auth)
		(void)buf_puts(b, " AUTH=<>");
	(void)buf_puts(b, "\r\n");
}

/*
 * RFC 3461 section 5.2.1 lets us give the recipient as we received it as the
 * original one when the client gave none; other MTAs' notices then name it.
 */
static void
smtp_put_orcpt(const struct recipient *r, struct buf *b)
{
	size_t n = b->n;
	struct buf quoted;

	(void)buf_puts(b, " ORCPT=");
	if (r->orcpt.n > 0) {
		(void)dsn_orcpt_put(b, r->orcpt);
	} else {
		buf_init(&quoted, 2 * ADDRESS_MAX + 2);
		(void)address_quote(r->addr, &quoted);
		(void)(view_8bit(r->addr) ? buf_puts(b, "utf-8;") &&
		    unitext_put(b, buf_view(&quoted)) :
		    buf_puts(b, "rfc822;") && xtext_put(b, buf_view(&quoted)));
		buf_free(&quoted);
	}
	/* Longer than the other side must accept: better without it. */
	if (b->n - n > sizeof " ORCPT=" - 1 + DSN_ORCPT_MAX)
		b->n = n;
}

static void
smtp_put_rcpt(struct session *s, struct buf *b)
{
	struct session_mail *m = &s->mail;
	const struct delivery *d = s->delivery;
	const struct delivery_rcpt *to = &d->rcpts[m->todo[m->sent++]];
	const struct recipient *r = &d->env.rcpts[to->index];

	(void)buf_puts(b, "RCPT TO:<");
	(void)address_quote(to->out, b);
	(void)buf_puts(b, ">");
	if ((s->ehlo.features & FEATURE_DSN) != 0) {
		if (r->notify != 0) {
			(void)buf_puts(b, " NOTIFY=");
			(void)dsn_notify_put(b, r->notify);
		}
		smtp_put_orcpt(r, b);
	}
	(void)buf_puts(b, "\r\n");
}

/* The rest of the group that may be sent ahead, up to DATA; many recipients
 * go in several writes, so that they need not all stand in memory. */
static void
smtp_send_group(struct session *s)
{
	struct session_mail *m = &s->mail;
	struct buf *b = &s->relay->commands;

	while (!m->data_sent && !s->write_failed && session_written(s)) {
		buf_clear(b);
		if (m->sent == 0)
			smtp_put_mail(s, b);
		while (m->sent < m->n_todo && b->n < RELAY_COMMANDS)
			smtp_put_rcpt(s, b);
		if (m->sent == m->n_todo && b->n < RELAY_COMMANDS) {
			if (!s->delivery->probe && !m->bdat)
				(void)buf_puts(b, "DATA\r\n");
			m->data_sent = true;
		}
		session_write(s, buf_view(b));
	}
}

bool
smtp_pipelining(const struct session *s)
{
	/* A filter is not to see DATA before it took all recipients. */
	return (s->ehlo.features & FEATURE_PIPELINING) != 0 && !s->once;
}

/* Commands sent ahead wait for their replies, or to be sent. */
static bool
smtp_in_group(const struct session *s)
{
	return smtp_pipelining(s) &&
	    (s->state == RELAY_MAIL || s->state == RELAY_RCPT);
}

bool
smtp_more_due(const struct session *s)
{
	const struct session_mail *m = &s->mail;

	/* With chunks, the last RCPT ends the group, not DATA. */
	return smtp_in_group(s) && !(m->bdat && s->state == RELAY_RCPT &&
	    m->answered + 1 >= m->n_todo);
}

void
smtp_mail(struct session *s)
{
	struct buf *b = &s->relay->commands;

	if (smtp_pipelining(s)) {
		smtp_send_group(s);
		return;
	}
	buf_clear(b);
	smtp_put_mail(s, b);
	session_write(s, buf_view(b));
}

void
smtp_rcpt(struct session *s)
{
	struct buf *b = &s->relay->commands;

	if (smtp_pipelining(s))
		return;
	buf_clear(b);
	smtp_put_rcpt(s, b);
	session_write(s, buf_view(b));
}

void
smtp_data(struct session *s)
{
	if (!s->mail.data_sent)
		session_write(s, view_of("DATA\r\n"));
	s->mail.data_sent = true;
}

bool
smtp_encode(struct session *s, char *out, size_t *ret_n)
{
	struct session_mail *m = &s->mail;
	struct relay *r = s->relay;
	struct view piece;
	size_t n = 0;

	/* Several small pieces (edits) are one. */
	while (n < RELAY_PIECE && !relay_source_at_end(&m->source)) {
		if (relay_source_read(&m->source, r->piece, sizeof r->piece,
		    &piece) == SOURCE_FAILED) {
			log_warn("%s: cannot read the message: %s",
			    s->delivery->id, strerror(errno));
			smtp_lost(s, LOSS_LOCAL);
			return false;
		}
		n += relay_text_encode(&m->text, piece, out + n);
	}
	if (relay_source_at_end(&m->source)) {
		n += relay_text_end(&m->text, out + n);
		m->text_done = true;
	}
	*ret_n = n;
	return true;
}

/* Write the text, as long as the socket takes it; the dot goes with the last
 * piece. */
void
smtp_text(struct session *s)
{
	struct relay *r = s->relay;
	struct session_mail *m = &s->mail;
	unsigned turns;
	size_t n;

	for (turns = 0; turns < TEXT_TURNS && !m->text_done &&
	    session_written(s) && !s->write_failed; turns++) {
		if (!smtp_encode(s, r->encoded, &n))
			return;
		if (m->text_done) {
			/* What comes last is ".\r\n". */
			m->dot_waits = relay_pix_waits(s);
			n -= m->dot_waits ? 3 : 0;
		}
		session_write(s, view_make(r->encoded, n));
	}
	if (s->write_failed || !session_written(s))
		return;
	if (m->text_done)
		session_enter(s, m->dot_waits ? RELAY_PAUSE : RELAY_DOT);
	else
		event_add(&s->write_event, NULL);
}

void
smtp_writable(struct session *s)
{
	if (s->write_failed)
		return;
	if (s->state == RELAY_TEXT)
		smtp_text(s);
	else if (s->state == RELAY_BDAT)
		relay_bdat_send(s);
	else if (smtp_in_group(s))
		smtp_send_group(s);
}

void
smtp_rset(struct session *s)
{
	session_write(s, view_of("RSET\r\n"));
}

void
smtp_quit(struct session *s)
{
	session_write(s, view_of("QUIT\r\n"));
	/* Who has the mail may take its time to say goodbye. */
	if (s->relay->conf->smtp_skip_quit_response && session_written(s))
		session_enter(s, RELAY_CLOSED);
}
