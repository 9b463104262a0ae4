/*
 * What a server's replies mean: the steps of a session.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/relay_auth.h"
#include "proxy/relay_bdat.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_pix.h"
#include "proxy/relay_proxy.h"
#include "proxy/relay_smtp.h"
#include "proxy/relay_tls.h"

#define SAID_MAX	1000u	/* bytes of a reply in a reason */
#define SMTP_PORT	25

/*
 * The session lets go of its delivery and becomes what is said: free (by way
 * of RSET if a transaction stands open), or it ends.
 */
void
smtp_finish(struct session *s, enum relay_state to)
{
	struct delivery *d = s->delivery;
	/* Only if it led to something, or there would be no end of it. */
	bool more = s->mail.more && d->open > 0 && d->open < s->mail.open &&
	    d->qmgr != NULL;

	s->delivery = NULL;
	d->session = NULL;
	relay_auth_free(s);
	if (!session_written(s) || s->write_failed)
		to = RELAY_CLOSED;
	else if (to != RELAY_CLOSED && !session_keepable(s))
		to = RELAY_QUIT;
	session_enter(s, to);
	if (more)
		delivery_rest(d);
	else
		delivery_go_on(d);
}

enum relay_state
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

void
smtp_refused(struct session *s, enum delivery_whom whom, uint32_t which)
{
	char dsn[RELAY_STATUS_MAX];
	char *why;

	/* First, because the last joins the lines. */
	proxy_replied(s->delivery, &s->reply);
	relay_reply_status(&s->reply, dsn);
	why = smtp_said(s);
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
	 * another day, may take them. */
	if (s->state == RELAY_GREETING &&
	    s->relay->conf->smtp_skip_5xx_greeting)
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

	if ((s->state == RELAY_MAIL || s->state == RELAY_XFORWARD) &&
	    s->uses > 1) {
		session_abort(s);
		delivery_again(d);
		return;
	}
	proxy_replied(d, &s->reply);
	why = smtp_said(s);
	delivery_trouble(d, TROUBLE_LOST, why);
	free(why);
	smtp_refused(s, WHOM_OPEN, 0);
	smtp_finish(s, RELAY_CLOSED);
}

void
smtp_lost(struct session *s, enum session_loss loss)
{
	const char *doing = s->relay->lmtp && s->state == RELAY_EHLO ?
	    "performing the LHLO handshake" : relay_steps[s->state].doing;
	struct delivery *d = s->delivery;
	bool talking = s->state >= RELAY_XFORWARD, dot = session_dot_sent(s);
	char *why;

	if (d == NULL) {
		session_enter(s, RELAY_CLOSED);
		return;
	}
	if (loss != LOSS_LOCAL && relay_tls_lost(s, loss == LOSS_TIMEOUT ?
	    "timeout" : loss == LOSS_PROTOCOL ? "remote protocol error" :
	    "lost connection"))
		return;
	if ((s->state == RELAY_MAIL || s->state == RELAY_XFORWARD) &&
	    s->uses > 1) {
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

/* Or HELO? */
static bool
smtp_says_ehlo(const struct session *s)
{
	const struct conf *cf = s->relay->conf;

	if (s->relay->lmtp || s->delivery->proxy != NULL)
		return true;
	return (s->pix & PIX_DISABLE_ESMTP) == 0 &&
	    !cf->smtp_never_send_ehlo &&
	    (cf->smtp_always_send_ehlo || relay_ehlo_known(&s->reply));
}

static void
smtp_greeted(struct session *s)
{
	s->greeted = true;
	if (s->reply.code / 100 == 2) {
		relay_pix_greeted(s);
		session_enter(s, smtp_says_ehlo(s) ? RELAY_EHLO : RELAY_HELO);
	} else {
		smtp_unwilling(s);
	}
}

/* The conversation can begin, unless we are talking to ourselves. */
void
smtp_ready(struct session *s)
{
	const struct relay *r = s->relay;
	struct delivery *d = s->delivery;
	char *why;

	if (s->addr.port == SMTP_PORT && d->proxy == NULL &&
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
	if (relay_tls_due(s) || relay_auth_due(s))
		return;
	delivery_ready(d);
	smtp_begin(s);
}

/* Which of its keywords are passed over. */
static uint32_t
smtp_discard(const struct session *s)
{
	const struct relay *r = s->relay;
	const struct table *t;
	char addr[NETADDR_TEXT];
	uint32_t set = r->discard;
	struct buf list;
	unsigned line;

	buf_init(&list, 4096);
	switch (table_list_find(&r->discards, view_of(netaddr_text(&s->addr,
	    addr)), &list, &t, &line)) {
	case TABLE_FOUND:
		set = relay_ehlo_keywords(buf_cstr(&list));
		break;
	case TABLE_FAILED:
		log_warn("%s lookup error for \"%s\"", table_name(t), addr);
		break;
	case TABLE_NOT_FOUND:
		break;
	}
	buf_free(&list);
	return set;
}

static void
smtp_ehlo_reply(struct session *s)
{
	if (s->reply.code / 100 == 2) {
		relay_ehlo_read(&s->reply, smtp_discard(s), &s->ehlo);
		smtp_ready(s);
	} else if (s->reply.code == 421 || s->relay->lmtp) {
		/* LMTP has no HELO. */
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

/* Who does not want to know it may still want the mail. */
static void
smtp_xforward_reply(struct session *s)
{
	char *why;

	if (s->reply.code == 421) {
		smtp_closing(s);
		return;
	}
	if (s->reply.code / 100 != 2) {
		why = smtp_said(s);
		log_warn("%s", why);
		free(why);
	}
	session_enter(s, smtp_xforward_due(s) ? RELAY_XFORWARD : RELAY_MAIL);
}

/* A server that is short of something says so here.  What it said to the first
 * message of a connection goes for the others. */
static void
smtp_tell_hop(struct session *s)
{
	char *why;

	if (s->mail.mail_ok && s->uses == 1)
		delivery_hop_news(s->delivery, HOP_UP, "");
	if (s->reply.code / 100 == 4) {
		why = smtp_said(s);
		delivery_hop_news(s->delivery, HOP_TROUBLE, why);
		free(why);
	}
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
	smtp_tell_hop(s);
	if (!m->mail_ok)
		smtp_refused(s, WHOM_OPEN, 0);
	if (m->mail_ok || smtp_pipelining(s))
		session_enter(s, RELAY_RCPT);
	else
		smtp_finish(s, RELAY_IDLE);
}

static void
smtp_taken(struct session *s, enum delivery_whom whom, uint32_t which)
{
	char dsn[RELAY_STATUS_MAX];

	relay_reply_status(&s->reply, dsn);
	proxy_replied(s->delivery, &s->reply);
	delivery_sent(s->delivery, whom, which,
	    relay_reply_said(&s->reply, SAID_MAX), dsn,
	    (s->ehlo.features & FEATURE_DSN) != 0);
}

static void
smtp_rcpt_reply(struct session *s)
{
	struct session_mail *m = &s->mail;
	struct delivery *d = s->delivery;
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
	d->rcpts[which].asked = true;
	d->said_no = d->probe && m->mail_ok && s->reply.code / 100 == 5;
	if (m->mail_ok && s->reply.code / 100 == 2) {
		d->rcpts[which].accepted = true;
		m->accepted++;
	} else if (d->proxy != NULL) {
		smtp_refused(s, WHOM_OPEN, 0);
		smtp_finish(s, RELAY_RSET);
		return;
	} else if (m->mail_ok) {
		smtp_refused(s, WHOM_ONE, which);
	}
	if (d->probe) {
		/* That was all there is to ask. */
		if (m->accepted > 0)
			smtp_taken(s, WHOM_ACCEPTED, 0);
		smtp_finish(s, RELAY_RSET);
		return;
	}
	if (m->answered < m->n_todo)
		session_enter(s, RELAY_RCPT);
	else if (m->accepted > 0 && m->bdat)
		session_enter(s, RELAY_BDAT);
	else if (m->accepted > 0 || (smtp_pipelining(s) && !m->bdat))
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
		} else if (s->relay->lmtp) {
			/* There, no reply would follow (RFC 2033 4.2). */
			smtp_finish(s, RELAY_CLOSED);
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

/* A reply before the text was sent: the server has seen enough. */
static void
smtp_text_reply(struct session *s)
{
	smtp_refused(s, WHOM_ACCEPTED, 0);
	smtp_finish(s, RELAY_CLOSED);
}

/*
 * LMTP: a reply for each recipient that was accepted, in the order of their
 * RCPT commands (RFC 2033 section 4.2).  One that has its reply is settled,
 * whatever becomes of the session; 421 is one like others, for some servers go
 * on after it.
 */
static void
lmtp_dot_reply(struct session *s)
{
	struct session_mail *m = &s->mail;
	struct delivery *d = s->delivery;
	uint32_t which;

	while (!d->rcpts[m->todo[m->told]].accepted)
		m->told++;
	which = m->todo[m->told++];
	m->closing = m->closing || s->reply.code == 421;
	if (s->reply.code / 100 == 2)
		smtp_taken(s, WHOM_ONE, which);
	else
		smtp_refused(s, WHOM_ONE, which);
	d->rcpts[which].accepted = false;
	if (--m->accepted > 0)
		session_enter(s, s->state);
	else
		smtp_finish(s, m->closing ? RELAY_CLOSED : RELAY_IDLE);
}

void
smtp_dot_reply(struct session *s)
{
	bool taken = s->reply.code / 100 == 2;

	if (s->mail.accepted == 0) {
		smtp_finish(s, smtp_unless_closing(s, RELAY_RSET));
		return;
	}
	if (s->relay->lmtp) {
		lmtp_dot_reply(s);
		return;
	}
	if (taken)
		smtp_taken(s, WHOM_ACCEPTED, 0);
	else
		smtp_refused(s, WHOM_ACCEPTED, 0);
	smtp_finish(s, smtp_unless_closing(s, taken ||
	    s->state == RELAY_DOT ? RELAY_IDLE : RELAY_RSET));
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
smtp_quit_reply(struct session *s)
{
	session_enter(s, RELAY_CLOSED);
}

#define TIMEOUT(name)	offsetof(struct conf, name)
#define CLASS(digit)	(1u << (digit))
#define REFUSAL	(CLASS(4) | CLASS(5))
#define ORDINARY	(CLASS(2) | REFUSAL)
#define TO(state)	(1u << RELAY_##state)
/* Where mail can be sent, or first it logs in. */
#define TO_MAIL		(TO(CREDENTIALS) | TO(XFORWARD) | TO(MAIL))
/* Wherever a delivery may end, its session becomes free or ends. */
#define TO_END		(TO(RSET) | TO(IDLE) | TO(QUIT) | TO(CLOSED))

const struct relay_step relay_steps[RELAY_STATES] = {
	[RELAY_NONE] = { .name = "none", .next = TO(CONNECT) },
	[RELAY_CONNECT] = { .name = "connect",
		.timeout = TIMEOUT(smtp_connect_timeout),
		.next = TO(GREETING) | TO(DANE) | TO(TLS) | TO(CLOSED) },
	[RELAY_GREETING] = { .name = "greeting",
		.doing = "receiving the initial server greeting",
		.timeout = TIMEOUT(smtp_helo_timeout),
		.reply = smtp_greeted,
		.classes = ORDINARY, .next = TO(EHLO) | TO(HELO) | TO_END },
	[RELAY_EHLO] = { .name = "EHLO",
		.doing = "performing the EHLO handshake",
		.timeout = TIMEOUT(smtp_helo_timeout),
		.enter = smtp_hello, .reply = smtp_ehlo_reply,
		.classes = ORDINARY, .next = TO(HELO) | TO(DANE) |
		    TO(STARTTLS) | TO_MAIL | TO_END },
	[RELAY_HELO] = { .name = "HELO",
		.doing = "performing the HELO handshake",
		.timeout = TIMEOUT(smtp_helo_timeout),
		.enter = smtp_hello, .reply = smtp_helo_reply,
		.classes = ORDINARY, .next = TO(DANE) | TO_MAIL | TO_END },
	[RELAY_DANE] = { .name = "DANE",
		.doing = "looking for TLSA records",
		.timeout = TIMEOUT(smtp_helo_timeout),
		.enter = relay_dane_ask,
		.next = TO(STARTTLS) | TO(TLS) | TO_MAIL | TO_END },
	[RELAY_STARTTLS] = { .name = "STARTTLS",
		.doing = "performing the STARTTLS handshake",
		.command = "STARTTLS command",
		.timeout = TIMEOUT(smtp_starttls_timeout),
		.enter = relay_tls_say, .reply = relay_tls_reply,
		.classes = ORDINARY, .next = TO(TLS) | TO_MAIL | TO_END },
	[RELAY_TLS] = { .name = "TLS",
		.doing = "performing the TLS handshake",
		.timeout = TIMEOUT(smtp_starttls_timeout),
		.enter = relay_tls_begin,
		.next = TO(GREETING) | TO(EHLO) | TO_END },
	[RELAY_CREDENTIALS] = { .name = "credentials",
		.doing = "looking for its login and password",
		.timeout = TIMEOUT(smtp_helo_timeout),
		.enter = relay_auth_ask,
		.next = TO(AUTH) | TO(XFORWARD) | TO(MAIL) | TO_END },
	[RELAY_AUTH] = { .name = "AUTH",
		.doing = "performing SASL authentication",
		.command = "AUTH command",
		.timeout = TIMEOUT(smtp_helo_timeout),
		.enter = relay_auth_say, .reply = relay_auth_reply,
		.classes = CLASS(3) | ORDINARY, .next = TO(AUTH) | TO_MAIL |
		    TO_END },
	[RELAY_XFORWARD] = { .name = "XFORWARD",
		.doing = "sending XFORWARD", .command = "XFORWARD command",
		.timeout = TIMEOUT(smtp_xforward_timeout),
		.enter = smtp_xforward, .reply = smtp_xforward_reply,
		.classes = ORDINARY,
		.next = TO(XFORWARD) | TO(MAIL) | TO_END },
	[RELAY_MAIL] = { .name = "MAIL",
		.doing = "sending MAIL FROM", .command = "MAIL FROM command",
		.timeout = TIMEOUT(smtp_mail_timeout),
		.enter = smtp_mail, .reply = smtp_mail_reply,
		.classes = ORDINARY, .next = TO(RCPT) | TO_END },
	[RELAY_RCPT] = { .name = "RCPT",
		.doing = "sending RCPT TO", .command = "RCPT TO command",
		.timeout = TIMEOUT(smtp_rcpt_timeout),
		.enter = smtp_rcpt, .reply = smtp_rcpt_reply,
		.classes = ORDINARY,
		.next = TO(RCPT) | TO(DATA) | TO(BDAT) | TO_END },
	[RELAY_DATA] = { .name = "DATA",
		.doing = "sending DATA command", .command = "DATA command",
		.timeout = TIMEOUT(smtp_data_init_timeout),
		.enter = smtp_data, .reply = smtp_data_reply,
		.classes = CLASS(3) | REFUSAL,
		.next = TO(TEXT) | TO(DOT) | TO_END },
	[RELAY_TEXT] = { .name = "text",
		.doing = "sending message body",
		.command = "end of DATA command",
		.timeout = TIMEOUT(smtp_data_xfer_timeout),
		.enter = smtp_text, .reply = smtp_text_reply,
		.classes = REFUSAL, .next = TO(PAUSE) | TO(DOT) | TO_END },
	[RELAY_PAUSE] = { .name = "pause",
		.doing = "sending message body",
		.command = "end of DATA command",
		.timeout = TIMEOUT(smtp_pix_workaround_delay_time),
		.reply = smtp_text_reply,
		.classes = REFUSAL, .next = TO(DOT) | TO_END },
	[RELAY_DOT] = { .name = "dot",
		.doing = "sending end of data -- message may be sent more "
		    "than once",
		.command = "end of DATA command",
		.timeout = TIMEOUT(smtp_data_done_timeout),
		.reply = smtp_dot_reply,
		.classes = ORDINARY, .next = TO(DOT) | TO_END },
	[RELAY_BDAT] = { .name = "BDAT",
		.doing = "sending message body", .command = "BDAT command",
		.timeout = TIMEOUT(smtp_data_xfer_timeout),
		.enter = relay_bdat_send, .reply = relay_bdat_reply,
		.classes = ORDINARY, .next = TO(LAST) | TO_END },
	[RELAY_LAST] = { .name = "last",
		.doing = "sending end of data -- message may be sent more "
		    "than once",
		.command = "BDAT LAST command",
		.timeout = TIMEOUT(smtp_data_done_timeout),
		.reply = relay_bdat_reply,
		.classes = ORDINARY, .next = TO(LAST) | TO_END },
	[RELAY_RSET] = { .name = "RSET",
		.timeout = TIMEOUT(smtp_rset_timeout),
		.enter = smtp_rset, .reply = smtp_rset_reply,
		.classes = ORDINARY | CLASS(3),
		.next = TO(IDLE) | TO(QUIT) | TO(CLOSED) },
	[RELAY_IDLE] = { .name = "idle",
		.timeout = TIMEOUT(smtp_connection_cache_time_limit),
		.enter = smtp_idle,
		.next = TO(XFORWARD) | TO(MAIL) | TO_END },
	[RELAY_QUIT] = { .name = "QUIT",
		.timeout = TIMEOUT(smtp_quit_timeout),
		.enter = smtp_quit, .reply = smtp_quit_reply,
		.classes = ORDINARY | CLASS(3), .next = TO(CLOSED) },
	[RELAY_CLOSED] = { .name = "closed" },
};
