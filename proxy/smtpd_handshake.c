/*
 * Handshakes of all sessions take turns.  A signature costs about as much as
 * ten messages of SMTP: if each session had it the moment it can, a flood of
 * new ones would keep the others from their mail.  So a session whose
 * handshake can go on stands in a queue, and a turn of the loop does one step
 * of the first of them.
 */
#include "lib/log.h"
#include "lib/loop.h"
#include "proxy/smtpd_tls_impl.h"

static void
handshake_log(const struct session *s)
{
	const struct tls_info *i = &s->tls->info;
	struct buf b;

	if (i->subject != NULL && (s->tls->tell & TLS_TELL_PEER) != 0)
		log_info("%s: %s: subject_CN=%s, issuer=%s, fingerprint=%s, "
		    "pkey_fingerprint=%s%s%s", s->name, tls_info_peer(i),
		    log_safe(view_of(i->subject)),
		    log_safe(view_of(i->issuer)),
		    i->fingerprint != NULL ? i->fingerprint : "",
		    i->key_fingerprint != NULL ? i->key_fingerprint : "",
		    i->verify_error != NULL ? ", " : "",
		    i->verify_error != NULL ? i->verify_error : "");
	if ((s->tls->tell & TLS_TELL_SUMMARY) == 0)
		return;
	buf_init(&b, 2000);
	tls_info_put(i, &b);
	log_info("%s TLS connection %s from %s%s%s: %s", tls_info_peer(i),
	    i->reused ? "reused" : "established", s->name,
	    s->tls->name != NULL ? " to " : "", s->tls->name != NULL ?
	    log_safe(view_of(s->tls->name)) : "", buf_cstr(&b));
	buf_free(&b);
}

static void
handshake_done(struct session *s)
{
	struct tls_server *ts = s->server->tls;

	ts->sessions++;
	if (s->tls->info.reused)
		ts->resumed++;
	handshake_log(s);
	session_secured(s);
}

void
handshake_failed(struct session *s, const char *why)
{
	s->server->tls->failed++;
	log_info("SSL_accept error from %s: %s", s->name, why);
	if (s->tls != NULL && s->tls->reason[0] != '\0')
		log_warn("TLS library problem: %s", s->tls->reason);
	session_close(s, strcmp(why, "timeout") == 0 ? why :
	    "lost connection");
}

static void
handshake_step(struct session *s)
{
	switch (tls_step(s)) {
	case TLS_STEP_READ:
		session_watch(s, EV_READ);
		break;
	case TLS_STEP_WRITE:
		session_watch(s, EV_WRITE);
		break;
	case TLS_STEP_DONE:
		handshake_done(s);
		break;
	case TLS_STEP_FAILED:
		handshake_failed(s, tls_failure(s));
		break;
	}
}

/* -- turns ----------------------------------------------------------------- */

static void
queue_wake(struct tls_server *ts)
{
	static const struct timeval now = { 0, 0 };

	event_add(&ts->turn, &now);
}

static void
on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct server *sv = arg;
	struct tls_server *ts = sv->tls;
	struct session_tls *t = ts->first;

	(void)fd;
	(void)what;
	if (t == NULL)
		return;
	handshake_forget(t->session);
	sv->current = t->session;
	handshake_step(t->session);	/* may be gone now */
	sv->current = NULL;
	if (ts->first != NULL)
		queue_wake(ts);
}

void
handshake_event(struct session *s)
{
	struct tls_server *ts = s->server->tls;
	struct session_tls *t = s->tls;

	session_watch(s, 0);
	if (t->queued)
		return;
	if (!event_initialized(&ts->turn))
		event_assign(&ts->turn, loop_base(), -1, 0, on_turn,
		    s->server);
	t->queued = true;
	t->next = NULL;
	*ts->end = t;
	ts->end = &t->next;
	if (ts->first == t)
		queue_wake(ts);
}

void
handshake_forget(struct session *s)
{
	struct tls_server *ts = s->server->tls;
	struct session_tls *t = s->tls, **p;

	if (t == NULL || !t->queued)
		return;
	for (p = &ts->first; *p != t; p = &(*p)->next)
		ensure(*p != NULL);
	*p = t->next;
	if (ts->end == &t->next)
		ts->end = p;
	t->queued = false;
}

void
handshake_start(struct session *s)
{
	tls_begin(s);
	session_watch(s, EV_READ);
}

void
handshake_wait(struct session *s)
{
	session_wait_for(s, WAIT_TLS, s->server->cf->smtpd_starttls_timeout);
}
