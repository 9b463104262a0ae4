/*
 * What is said to a server and what its replies mean: the steps of a
 * session.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_session.h"

#define SAID_MAX	1000u	/* bytes of a reply in a reason */
#define SMTP_PORT	25
#define TEXT_TURNS	16u	/* pieces written before others get a turn */

/*
 * The session lets go of its delivery and becomes what is said: free (by way
 * of RSET if a transaction stands open), or it ends.
 */
static void
smtp_finish(struct session *s, enum relay_state to)
{
	struct delivery *d = s->delivery;

	s->delivery = NULL;
	d->session = NULL;
	if (!session_written(s) || s->write_failed)
		to = RELAY_CLOSED;
	else if (to != RELAY_CLOSED && !session_keepable(s))
		to = RELAY_QUIT;
	session_enter(s, to);
	delivery_go_on(d);
}

/* What a session becomes after the reply at hand. */
static enum relay_state
smtp_unless_closing(const struct session *s, enum relay_state to)
{
	return s->reply.code == 421 ? RELAY_CLOSED : to;
}

/* "host a[b] said: 550 5.1.1 no (in reply to RCPT TO command)" */
static char *
smtp_said(struct session *s)
{
	struct view said = relay_reply_said(&s->reply, SAID_MAX);

	return mem_printf("host %s said: %.*s (in reply to %s)",
	    s->peer_short, VIEW_ARGS(said), relay_steps[s->state].command);
}

/* The server refuses the message, or one recipient, by its reply. */
static void
smtp_refused(struct session *s, enum delivery_whom whom, uint32_t which)
{
	char dsn[RELAY_STATUS_MAX];
	char *why = smtp_said(s);

	relay_reply_status(&s->reply, dsn);
	delivery_failed(s->delivery, whom, which, true, dsn, why);
	free(why);
}

/* The server does not want to talk to us at all. */
static void
smtp_unwilling(struct session *s)
{
	struct view said;
	char dsn[RELAY_STATUS_MAX];
	char *why;

	relay_reply_status(&s->reply, dsn);
	/* A greeting says nothing about our recipients: another server, or
	 * another day, may take them (smtp_skip_5xx_greeting). */
	if (s->state == RELAY_GREETING)
		dsn[0] = '4';
	said = relay_reply_said(&s->reply, SAID_MAX);
	why = mem_printf("host %s refused to talk to me: %.*s",
	    s->peer_short, VIEW_ARGS(said));
	delivery_trouble(s->delivery, TROUBLE_CONNECT, why);
	delivery_failed(s->delivery, WHOM_OPEN, 0, true, dsn, why);
	free(why);
	smtp_finish(s, smtp_unless_closing(s, RELAY_QUIT));
}

/*
 * 421 comes at any time and ends the session (RFC 5321 section 3.8).  On a
 * kept connection it means no more than that it was kept too long.
 */
static void
smtp_closing(struct session *s)
{
	struct delivery *d = s->delivery;
	char *why;

	if (s->state == RELAY_MAIL && s->uses > 1) {
		session_abort(s);
		delivery_again(d);
		return;
	}
	why = smtp_said(s);
	delivery_trouble(d, TROUBLE_LOST, why);
	free(why);
	smtp_refused(s, WHOM_OPEN, 0);
	smtp_finish(s, RELAY_CLOSED);
}

void
smtp_lost(struct session *s, enum session_loss loss)
{
	const char *doing = relay_steps[s->state].doing;
	struct delivery *d = s->delivery;
	bool talking = s->state >= RELAY_MAIL, dot = session_dot_sent(s);
	char *why;

	if (d == NULL) {
		session_enter(s, RELAY_CLOSED);
		return;
	}
	if (s->state == RELAY_MAIL && s->uses > 1) {
		/* A kept connection was dead already; no harm was done. */
		session_abort(s);
		delivery_again(d);
		return;
	}
	if (loss == LOSS_TIMEOUT)
		why = mem_printf("conversation with %s timed out while %s",
		    s->peer_short, doing);
	else if (loss == LOSS_PROTOCOL)
		why = mem_printf("remote protocol error in reply from %s "
		    "while %s", s->peer_short, doing);
	else if (loss == LOSS_LOCAL)
		why = mem_printf("local data error while talking to %s",
		    s->peer_short);
	else
		why = mem_printf("lost connection with %s while %s",
		    s->peer_short, doing);
	if (loss != LOSS_LOCAL)
		delivery_trouble(d, talking ? TROUBLE_LOST : TROUBLE_CONNECT,
		    why);
	/*
	 * After the dot the server may have the message, so no other server is
	 * asked to take the recipients that this one accepted.
	 */
	delivery_failed(d, dot ? WHOM_ACCEPTED : WHOM_OPEN, 0, !dot,
	    loss == LOSS_PROTOCOL ? "4.5.0" : loss == LOSS_LOCAL ? "4.3.0" :
	    "4.4.2", why);
	free(why);
	smtp_finish(s, RELAY_CLOSED);
}

static void
smtp_greeted(struct session *s)
{
	if (s->reply.code / 100 == 2)
		session_enter(s, RELAY_EHLO);
	else
		smtp_unwilling(s);
}

static void
smtp_hello(struct session *s)
{
	struct buf *b = &s->relay->commands;

	buf_clear(b);
	(void)buf_printf(b, "%s %s\r\n", s->state == RELAY_EHLO ? "EHLO" :
	    "HELO", s->relay->conf->smtp_helo_name);
	session_write(s, buf_view(b));
}

/* The conversation can begin, unless we are talking to ourselves. */
static void
smtp_ready(struct session *s)
{
	const struct relay *r = s->relay;
	struct delivery *d = s->delivery;
	char *why;

	if (s->addr.port == SMTP_PORT &&
	    view_is_nocase(s->ehlo.name, r->conf->myhostname)) {
		log_warn("host %s replied to HELO/EHLO with my own hostname "
		    "%s", s->peer, r->conf->myhostname);
		why = mem_printf("mail for %.*s loops back to myself",
		    VIEW_ARGS(d->hop.host));
		delivery_failed(d, WHOM_OPEN, 0, true,
		    delivery_at_best(d) ? "5.4.6" : "4.4.6", why);
		free(why);
		smtp_finish(s, RELAY_QUIT);
		return;
	}
	s->ehlo.name.n = 0;	/* void with the reply */
	delivery_ready(d);
	smtp_begin(s);
}

static void
smtp_ehlo_reply(struct session *s)
{
	if (s->reply.code / 100 == 2) {
		relay_ehlo_read(&s->reply, s->relay->discard, &s->ehlo);
		smtp_ready(s);
	} else if (s->reply.code == 421) {
		smtp_unwilling(s);
	} else {
		session_enter(s, RELAY_HELO);
	}
}

static void
smtp_helo_reply(struct session *s)
{
	struct view line;
	size_t pos = 0;

	if (s->reply.code / 100 != 2) {
		smtp_unwilling(s);
		return;
	}
	s->ehlo = (struct relay_ehlo){ 0 };
	if (relay_reply_line(&s->reply, &pos, &line))
		s->ehlo.name = view_word(&line, " ");
	smtp_ready(s);
}

static bool
smtp_8bit(struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] > 127)
			return true;
	return false;
}

/* RFC 6531 is needed for an address; the flag alone is only a wish. */
static bool
smtp_8bit_address(const struct delivery *d)
{
	uint32_t i;

	if (smtp_8bit(d->env.sender))
		return true;
	for (i = 0; i < d->n_rcpts; i++)
		if (smtp_8bit(d->rcpts[i].addr))
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
		delivery_failed(d, WHOM_OPEN, 0, true, "5.6.7", why);
		free(why);
		return true;
	}
	return false;
}

void
smtp_begin(struct session *s)
{
	struct delivery *d = s->delivery;
	struct session_mail *m = &s->mail;
	uint32_t i;

	s->uses++;
	*m = (struct session_mail){ 0 };
	m->todo = arena_alloc(d->arena, d->n_rcpts * sizeof *m->todo);
	for (i = 0; i < d->n_rcpts; i++)
		if (d->rcpts[i].status == 0)
			m->todo[m->n_todo++] = i;
	ensure(m->n_todo > 0 && m->n_todo == d->open);
	relay_source_init(&m->source, d->fd, d->text_offset, d->text_size,
	    &d->edits);
	relay_text_init(&m->text,
	    (size_t)s->relay->conf->smtp_line_length_limit);
	if (smtp_unfit(s))
		smtp_finish(s, RELAY_IDLE);
	else
		session_enter(s, RELAY_MAIL);
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
	if ((features & FEATURE_SIZE) != 0)
		(void)buf_printf(b, " SIZE=%llu", (unsigned long long)d->size);
	if ((features & FEATURE_8BITMIME) != 0 &&
	    (d->env.flags & ENVELOPE_8BIT) != 0)
		(void)buf_puts(b, " BODY=8BITMIME");
	if ((features & FEATURE_SMTPUTF8) != 0 &&
	    ((d->env.flags & ENVELOPE_SMTPUTF8) != 0 || smtp_8bit_address(d)))
		(void)buf_puts(b, " SMTPUTF8");
	(void)buf_puts(b, "\r\n");
}

static void
smtp_put_rcpt(struct session *s, struct buf *b)
{
	struct session_mail *m = &s->mail;

	(void)buf_puts(b, "RCPT TO:<");
	(void)address_quote(s->delivery->rcpts[m->todo[m->sent++]].addr, b);
	(void)buf_puts(b, ">\r\n");
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
			(void)buf_puts(b, "DATA\r\n");
			m->data_sent = true;
		}
		session_write(s, buf_view(b));
	}
}

static bool
smtp_pipelining(const struct session *s)
{
	return (s->ehlo.features & FEATURE_PIPELINING) != 0;
}

bool
smtp_more_due(const struct session *s)
{
	return smtp_pipelining(s) &&
	    (s->state == RELAY_MAIL || s->state == RELAY_RCPT);
}

static void
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

static void
smtp_rcpt(struct session *s)
{
	struct buf *b = &s->relay->commands;

	if (smtp_pipelining(s))
		return;
	buf_clear(b);
	smtp_put_rcpt(s, b);
	session_write(s, buf_view(b));
}

static void
smtp_data(struct session *s)
{
	if (!s->mail.data_sent)
		session_write(s, view_of("DATA\r\n"));
	s->mail.data_sent = true;
}

static void
smtp_mail_reply(struct session *s)
{
	struct session_mail *m = &s->mail;

	if (s->reply.code == 421) {
		smtp_closing(s);
		return;
	}
	delivery_trouble(s->delivery, TROUBLE_NONE, NULL);
	m->mail_ok = s->reply.code / 100 == 2;
	if (!m->mail_ok)
		smtp_refused(s, WHOM_OPEN, 0);
	if (m->mail_ok || smtp_pipelining(s))
		session_enter(s, RELAY_RCPT);
	else
		smtp_finish(s, RELAY_IDLE);
}

static void
smtp_rcpt_reply(struct session *s)
{
	struct session_mail *m = &s->mail;
	uint32_t which = m->todo[m->answered];

	if (s->reply.code == 421) {
		smtp_closing(s);
		return;
	}
	if (m->answered == m->sent) {
		smtp_lost(s, LOSS_PROTOCOL);
		return;
	}
	m->answered++;
	if (m->mail_ok && s->reply.code / 100 == 2) {
		s->delivery->rcpts[which].accepted = true;
		m->accepted++;
	} else if (m->mail_ok) {
		smtp_refused(s, WHOM_ONE, which);
	}
	if (m->answered < m->n_todo)
		session_enter(s, RELAY_RCPT);
	else if (m->accepted > 0 || smtp_pipelining(s))
		session_enter(s, RELAY_DATA);
	else
		smtp_finish(s, RELAY_RSET);
}

static void
smtp_data_reply(struct session *s)
{
	struct session_mail *m = &s->mail;

	if (s->reply.code == 421 && m->accepted > 0) {
		smtp_closing(s);
	} else if (s->reply.code / 100 == 3) {
		/*
		 * A server may accept DATA though it refused every recipient;
		 * it must be left that state without a message (RFC 2920
		 * section 3.1).
		 */
		if (m->accepted > 0) {
			session_enter(s, RELAY_TEXT);
		} else {
			session_write(s, view_of(".\r\n"));
			session_enter(s, RELAY_DOT);
		}
	} else {
		if (m->accepted > 0)
			smtp_refused(s, WHOM_ACCEPTED, 0);
		smtp_finish(s, smtp_unless_closing(s, RELAY_RSET));
	}
}

/*
 * Encode the text and write it, as long as the socket takes it.  Several
 * small pieces (edits) are written together, and the dot with the last.
 */
static void
smtp_text(struct session *s)
{
	struct relay *r = s->relay;
	struct session_mail *m = &s->mail;
	struct view piece;
	unsigned turns;
	size_t n;

	for (turns = 0; turns < TEXT_TURNS && !m->text_done &&
	    session_written(s) && !s->write_failed; turns++) {
		n = 0;
		while (n < RELAY_PIECE && !relay_source_at_end(&m->source)) {
			if (relay_source_read(&m->source, r->piece,
			    sizeof r->piece, &piece) == SOURCE_FAILED) {
				log_warn("%s: cannot read the message: %s",
				    s->delivery->id, strerror(errno));
				smtp_lost(s, LOSS_LOCAL);
				return;
			}
			n += relay_text_encode(&m->text, piece,
			    r->encoded + n);
		}
		if (relay_source_at_end(&m->source)) {
			n += relay_text_end(&m->text, r->encoded + n);
			m->text_done = true;
		}
		session_write(s, view_make(r->encoded, n));
	}
	if (s->write_failed || !session_written(s))
		return;
	if (m->text_done)
		session_enter(s, RELAY_DOT);
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
	else if (smtp_more_due(s))
		smtp_send_group(s);
}

/* A reply before the text was sent: the server has seen enough. */
static void
smtp_text_reply(struct session *s)
{
	smtp_refused(s, WHOM_ACCEPTED, 0);
	smtp_finish(s, RELAY_CLOSED);
}

static void
smtp_dot_reply(struct session *s)
{
	if (s->mail.accepted == 0) {
		smtp_finish(s, smtp_unless_closing(s, RELAY_RSET));
		return;
	}
	if (s->reply.code / 100 == 2)
		delivery_sent(s->delivery,
		    relay_reply_said(&s->reply, SAID_MAX));
	else
		smtp_refused(s, WHOM_ACCEPTED, 0);
	smtp_finish(s, smtp_unless_closing(s, RELAY_IDLE));
}

static void
smtp_rset(struct session *s)
{
	session_write(s, view_of("RSET\r\n"));
}

static void
smtp_rset_reply(struct session *s)
{
	session_enter(s, s->reply.code / 100 == 2 && session_keepable(s) ?
	    RELAY_IDLE : RELAY_QUIT);
}

static void
smtp_idle(struct session *s)
{
	struct relay *r = s->relay;

	relay_reply_free(&s->reply);
	buf_free(&s->out);
	if (r->n_idle > RELAY_IDLE_MAX)
		session_enter(TAILQ_LAST(&r->idle, session_list), RELAY_QUIT);
}

static void
smtp_quit(struct session *s)
{
	session_write(s, view_of("QUIT\r\n"));
}

static void
smtp_quit_reply(struct session *s)
{
	session_enter(s, RELAY_CLOSED);
}

#define TIMEOUT(name)	offsetof(struct conf, smtp_##name)
#define CLASS(digit)	(1u << (digit))
#define REFUSAL	(CLASS(4) | CLASS(5))
#define ORDINARY	(CLASS(2) | REFUSAL)
#define TO(state)	(1u << RELAY_##state)
/* Wherever a delivery may end, its session becomes free or ends. */
#define TO_END		(TO(RSET) | TO(IDLE) | TO(QUIT) | TO(CLOSED))

const struct relay_step relay_steps[RELAY_STATES] = {
	[RELAY_NONE] = { .name = "none", .next = TO(CONNECT) },
	[RELAY_CONNECT] = { .name = "connect",
		.timeout = TIMEOUT(connect_timeout),
		.next = TO(GREETING) | TO(CLOSED) },
	[RELAY_GREETING] = { .name = "greeting",
		.doing = "receiving the initial server greeting",
		.timeout = TIMEOUT(helo_timeout),
		.reply = smtp_greeted,
		.classes = ORDINARY, .next = TO(EHLO) | TO_END },
	[RELAY_EHLO] = { .name = "EHLO",
		.doing = "performing the EHLO handshake",
		.timeout = TIMEOUT(helo_timeout),
		.enter = smtp_hello, .reply = smtp_ehlo_reply,
		.classes = ORDINARY, .next = TO(HELO) | TO(MAIL) | TO_END },
	[RELAY_HELO] = { .name = "HELO",
		.doing = "performing the HELO handshake",
		.timeout = TIMEOUT(helo_timeout),
		.enter = smtp_hello, .reply = smtp_helo_reply,
		.classes = ORDINARY, .next = TO(MAIL) | TO_END },
	[RELAY_MAIL] = { .name = "MAIL",
		.doing = "sending MAIL FROM", .command = "MAIL FROM command",
		.timeout = TIMEOUT(mail_timeout),
		.enter = smtp_mail, .reply = smtp_mail_reply,
		.classes = ORDINARY, .next = TO(RCPT) | TO_END },
	[RELAY_RCPT] = { .name = "RCPT",
		.doing = "sending RCPT TO", .command = "RCPT TO command",
		.timeout = TIMEOUT(rcpt_timeout),
		.enter = smtp_rcpt, .reply = smtp_rcpt_reply,
		.classes = ORDINARY, .next = TO(RCPT) | TO(DATA) | TO_END },
	[RELAY_DATA] = { .name = "DATA",
		.doing = "sending DATA command", .command = "DATA command",
		.timeout = TIMEOUT(data_init_timeout),
		.enter = smtp_data, .reply = smtp_data_reply,
		.classes = CLASS(3) | REFUSAL,
		.next = TO(TEXT) | TO(DOT) | TO_END },
	[RELAY_TEXT] = { .name = "text",
		.doing = "sending message body",
		.command = "end of DATA command",
		.timeout = TIMEOUT(data_xfer_timeout),
		.enter = smtp_text, .reply = smtp_text_reply,
		.classes = REFUSAL, .next = TO(DOT) | TO_END },
	[RELAY_DOT] = { .name = "dot",
		.doing = "sending end of data -- message may be sent more "
		    "than once",
		.command = "end of DATA command",
		.timeout = TIMEOUT(data_done_timeout),
		.reply = smtp_dot_reply,
		.classes = ORDINARY, .next = TO_END },
	[RELAY_RSET] = { .name = "RSET",
		.timeout = TIMEOUT(rset_timeout),
		.enter = smtp_rset, .reply = smtp_rset_reply,
		.classes = ORDINARY | CLASS(3),
		.next = TO(IDLE) | TO(QUIT) | TO(CLOSED) },
	[RELAY_IDLE] = { .name = "idle",
		.timeout = TIMEOUT(connection_cache_time_limit),
		.enter = smtp_idle, .next = TO(MAIL) | TO_END },
	[RELAY_QUIT] = { .name = "QUIT",
		.timeout = TIMEOUT(quit_timeout),
		.enter = smtp_quit, .reply = smtp_quit_reply,
		.classes = ORDINARY | CLASS(3), .next = TO(CLOSED) },
	[RELAY_CLOSED] = { .name = "closed" },
};
