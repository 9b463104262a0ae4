/*
 *	starttls = "STARTTLS" CRLF
 *
 * RFC 3207.  Nothing may have been sent behind it: what a stranger on the way
 * put there would be taken for the client's, inside TLS (CVE-2011-0411).  What
 * the client said before is forgotten.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_tls.h"

bool
starttls_offered(const struct session *s)
{
	return s->server->tls != NULL && !s->server->tls->wrapper &&
	    (s->offers & OFFER_STARTTLS) != 0 && s->tls == NULL;
}

bool
requiretls_offered(const struct session *s)
{
	return (s->offers & OFFER_REQUIRETLS) != 0 && tls_active(s);
}

bool
starttls_check(struct session *s, struct view args)
{
	/* TLS from the first byte on: nobody said a word. */
	if (s->state == SMTP_NAMELESS)
		return true;
	if (args.n > 0)
		session_refuse(s, "501 5.5.4 Syntax: STARTTLS");
	else if (tls_active(s))
		session_refuse(s, "554 5.5.1 Error: TLS already active");
	else if (!starttls_offered(s))
		session_refuse(s, "502 5.5.1 Error: command not implemented");
	else
		return true;
	return false;
}

void
starttls_proceed(struct session *s, struct view args)
{
	(void)args;
	if (s->state != SMTP_NAMELESS)
		session_reply(s, "220 2.0.0 Ready to start TLS");
	handshake_wait(s);
	/* smtpd_io.c: handshake_start() when the reply is sent. */
}

void
starttls_refuse(struct session *s)
{
	/* Who waits for TLS would not understand a reply. */
	if (s->state == SMTP_NAMELESS)
		s->hangup = true;
	else
		session_refuse(s, "454 4.7.0 Error: too many new TLS "
		    "sessions from %s", s->name);
}

bool
starttls_wrap(struct session *s)
{
	const struct tls_server *ts = s->server->tls;

	if (ts == NULL || !ts->wrapper)
		return false;
	s->verb = VERB_STARTTLS;
	if (session_count(s, EVENT_TLS, view_of("")))
		starttls_proceed(s, view_of(""));
	return true;
}

/* RFC 3207 section 4.2: as if it had just connected. */
static void
starttls_forget(struct session *s)
{
	free(s->helo);
	s->helo = NULL;
	s->helo_n = 0;
	s->esmtp = false;
	s->pipelined = false;
	xforward_forget(s);
	auth_forget(s);
	/* What a proxy has said is not the client's word. */
	xclient_login(s);
	free(s->carry.helo);
	free(s->carry.mail);
	s->carry.helo = s->carry.mail = NULL;
	session_enter(s, SMTP_CONNECTED);
	s->good[VERB_STARTTLS]++;
}

void
tls_facts(const struct session *s, struct policy_facts *f)
{
	const struct tls_info *i = tls_session_info(s);

	if (i == NULL)
		return;
	f->tls_protocol = view_of(i->protocol);
	f->tls_cipher = view_of(i->cipher);
	f->tls_bits = (uint32_t)i->bits;
	f->tls_sni = tls_session_name(s);
	/* A proxy's certificate is not its client's. */
	if (i->subject == NULL || s->xclient != NULL)
		return;
	f->tls_trusted = i->trusted;
	f->tls_subject = view_of(i->subject);
	f->tls_issuer = view_of(i->issuer);
	if (i->fingerprint != NULL)
		f->tls_fingerprint = view_of(i->fingerprint);
	if (i->key_fingerprint != NULL)
		f->tls_pubkey_fingerprint = view_of(i->key_fingerprint);
}

void
session_secured(struct session *s)
{
	const struct tls_info *i = tls_session_info(s);

	s->wait = WAIT_NONE;
	if (s->server->tls->need_cert && !i->trusted) {
		log_info("NOQUEUE: abort: TLS from %s: %s", s->name,
		    i->subject == NULL ? "No client certificate presented" :
		    "Client certificate not trusted");
		session_close(s, NULL);
		return;
	}
	if (s->state == SMTP_NAMELESS)
		session_admit(s);
	else {
		starttls_forget(s);
		session_timer_state(s);
		session_go(s);
	}
}
