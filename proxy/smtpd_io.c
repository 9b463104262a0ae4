/* Sockets and timers of sessions; nothing here knows a verb. */
#include <errno.h>
#include <sys/socket.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_milter.h"
#include "proxy/smtpd_tls.h"

#define READ_SIZE	65536u
#define KEPT_MAX	(160u << 10)	/* input left over from before */
#define OUT_ENOUGH	16384u		/* replies sent before more is read */

/*
 * Input of the session that is being served: what was left over, then what
 * was read.  One for the process, so that an idle session needs none.
 */
static char shared[KEPT_MAX + READ_SIZE];
static char spill[READ_SIZE];	/* input that nobody reads */

static void
session_want(struct session *s, short what)
{
	event_del(&s->io);
	event_assign(&s->io, loop_base(), s->fd,
	    (short)(what | EV_PERSIST), event_get_callback(&s->io), s);
	if (event_add(&s->io, NULL) != 0)
		fatal("cannot watch a connection");
}

/* Watch for input or not; what is so already costs nothing. */
static void
session_read_on(struct session *s, bool on)
{
	if (s->writing)
		return;
	if (s->reading != on) {
		s->reading = on;
		if (on)
			session_want(s, EV_READ);
		else
			event_del(&s->io);
	}
	/* What TLS has already, no socket tells of. */
	if (on && tls_pending(s))
		event_active(&s->io, EV_READ, 0);
}

void
session_watch(struct session *s, short what)
{
	s->reading = s->writing = false;
	if (what != 0)
		session_want(s, what);
	else
		event_del(&s->io);
}

static ssize_t
session_send(struct session *s)
{
	/* The end of the connection goes with the last reply. */
	int more = s->hangup ? MSG_MORE : 0;

	return tls_active(s) ? tls_send(s, s->out.p, s->out.n) :
	    send(s->fd, s->out.p, s->out.n, MSG_NOSIGNAL | MSG_DONTWAIT |
	    more);
}

static ssize_t
session_recv(struct session *s, char *to)
{
	return tls_active(s) ? tls_recv(s, to, READ_SIZE) :
	    recv(s->fd, to, READ_SIZE, MSG_DONTWAIT);
}

bool
session_spoke(const struct session *s)
{
	char byte;

	return tls_active(s) ? tls_spoke(s) :
	    recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

/* Send what is there.  False: the connection is gone. */
static bool
session_flush(struct session *s)
{
	ssize_t n;

	while (s->out.n > 0) {
		n = session_send(s);
		if (n > 0) {
			buf_consume(&s->out, (size_t)n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (!s->writing) {
				s->writing = true;
				s->reading = false;
				session_want(s, EV_WRITE);
			}
			return true;
		}
		return false;
	}
	buf_free(&s->out);
	if (s->writing) {
		s->writing = false;
		event_del(&s->io);
	}
	return true;
}

/* A password was in the first bytes of in. */
static void
session_wipe(struct view in, size_t used)
{
	explicit_bzero(shared + (in.p - shared), used);
}

/*
 * Work on in until it is used up, the session waits, or the replies fill the
 * connection.  False: s is closed and gone.
 */
static bool
session_work(struct session *s, struct view *in)
{
	const struct conf *cf = s->server->cf;
	size_t used;

	while (s->wait == WAIT_NONE && !s->hangup) {
		if (chunk_unwanted(s)) {
			*in = view_from(*in, chunk_skip(s, *in));
			if (s->chunk.on)
				break;
		}
		if (s->out.n >= OUT_ENOUGH) {
			if (!session_flush(s)) {
				session_close(s, "lost connection");
				return false;
			}
			if (s->out.n > 0)
				break;
		}
		if (s->server->hurry && (s->state == SMTP_CONNECTED ||
		    s->state == SMTP_GREETED)) {
			session_reply(s, "421 4.3.2 %s Service shutting down",
			    cf->myhostname);
			break;
		}
		if (s->state == SMTP_DATA || s->state == SMTP_CHUNK)
			used = session_text(s, *in);
		else if (s->errors >= (uint64_t)cf->smtpd_hard_error_limit) {
			session_reply(s, "421 4.7.0 %s Error: too many errors",
			    cf->myhostname);
			break;
		} else if (auth_expects(s)) {
			used = auth_line(s, *in);
			session_wipe(*in, used);
		} else {
			used = session_command(s, *in);
			if (s->verb == VERB_AUTH)
				session_wipe(*in, used);
		}
		if (used == 0)
			break;
		*in = view_from(*in, used);
	}
	/* Replies that an error delays are held; others go now. */
	if (((s->wait != WAIT_PAUSE && !chunk_unwanted(s)) || s->writing) &&
	    !session_flush(s)) {
		session_close(s, "lost connection");
		return false;
	}
	if (s->hangup && s->wait == WAIT_NONE && s->out.n == 0) {
		/* Unread input would make the kernel reset the connection,
		 * and the client might not see why. */
		if (s->state != SMTP_CLOSED) {
			tls_bye(s);
			(void)shutdown(s->fd, SHUT_WR);
			(void)recv(s->fd, spill, sizeof spill, MSG_DONTWAIT);
		}
		session_close(s, s->errors >=
		    (uint64_t)cf->smtpd_hard_error_limit ? "too many errors" :
		    NULL);
		return false;
	}
	return true;
}

/* Serve s with in, which lies in shared; what is left over is kept. */
static void
session_serve(struct session *s, struct view in)
{
	s->server->current = s;
	if (session_work(s, &in)) {
		/* It may have been a part of a password. */
		if (s->in.n > 0 && s->server->auth != NULL)
			explicit_bzero(s->in.p, s->in.n);
		buf_clear(&s->in);
		if (in.n == 0)
			buf_free(&s->in);
		else if (!buf_putv(&s->in, in))
			panic("session input over its maximum");
		/* While it waits, a client seldom speaks: to stop watching
		 * each time would cost more than to stop when it does. */
		if (s->wait == WAIT_NONE &&
		    (s->out.n == 0 || chunk_unwanted(s)))
			session_read_on(s, true);
		else if (s->wait == WAIT_TLS && s->out.n == 0 &&
		    s->tls == NULL)
			handshake_start(s);
	}
}

static struct view
session_kept(struct session *s)
{
	ensure(s->in.n <= KEPT_MAX);
	if (s->in.n > 0)
		memcpy(shared, s->in.p, s->in.n);
	return view_make(shared, s->in.n);
}

void
session_go(struct session *s)
{
	struct server *sv = s->server;

	session_serve(s, session_kept(s));	/* s may be gone now */
	sv->current = NULL;
}

static void
session_readable(struct session *s)
{
	struct view in;
	ssize_t n;

	if (s->wait != WAIT_NONE || s->in.n >= KEPT_MAX - READ_SIZE) {
		/* Not now; the rest stays in the kernel. */
		session_read_on(s, false);
		return;
	}
	in = session_kept(s);
	n = session_recv(s, shared + in.n);
	if (n < 0 && errno == EAGAIN && tls_wants_write(s)) {
		s->writing = true;
		s->reading = false;
		session_want(s, EV_WRITE);
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		session_close(s, "lost connection");
		return;
	}
	in.n += (size_t)n;
	if (s->wait == WAIT_NONE)
		session_timer_state(s);
	session_serve(s, in);
}

static void
session_event(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct server *sv = s->server;

	(void)fd;
	sv->current = s;
	if (s->wait == WAIT_TLS && s->tls != NULL)
		handshake_event(s);
	else if ((what & EV_READ) != 0)
		session_readable(s);
	else
		session_go(s);
	sv->current = NULL;
}

static void
session_timed_out(struct session *s)
{
	if (s->out.n > 0) {
		/* It does not take our replies: no use to send one more. */
		session_close(s, "timeout");
		return;
	}
	session_reply(s, "421 4.4.2 %s Error: timeout exceeded",
	    s->server->cf->myhostname);
	(void)session_flush(s);
	session_close(s, "timeout");
}

static void
session_timer_event(evutil_socket_t fd, short what, void *arg)
{
	struct session *s = arg;
	struct server *sv = s->server;

	(void)fd;
	(void)what;
	sv->current = s;
	switch ((enum session_wait)s->wait) {
	case WAIT_NONE:
		session_timed_out(s);
		break;
	case WAIT_NAME:
		session_named(s, NAME_TEMPFAIL, view_of("unknown"),
		    view_of("unknown"));
		break;
	case WAIT_RATE:
		session_count_lost(s);
		break;
	case WAIT_FACT:
		/* It is late, or it was only a pause. */
		session_fact(s, view_of(""));
		break;
	case WAIT_SPILL:
	case WAIT_SEAL:
		/* Too late; whatever comes now is not for this session. */
		log_warn("%s: no answer from the queue manager", s->name);
		data_lost(s->tx);
		break;
	case WAIT_SLOT:
	case WAIT_PAUSE:
		session_resume(s);
		break;
	case WAIT_MILTER:
		milter_give_up(s);
		break;
	case WAIT_AUTH:
		auth_give_up(s);
		break;
	case WAIT_TLS:
		handshake_failed(s, "timeout");
		break;
	case WAIT_CLIENT:
		xclient_begin(s);
		break;
	case WAITS:
		panic("session waits for nothing known");
	}
	sv->current = NULL;
}

void
session_timer(struct session *s, int64_t ms)
{
	event_add(&s->timer, loop_timeout(ms > 0 ? ms : 1));
}

void
session_timer_state(struct session *s)
{
	const struct conf *cf = s->server->cf;
	int64_t left;
	struct timeval tv;

	if (s->wait != WAIT_NONE || s->state == SMTP_CLOSED)
		return;
	if (s->state == SMTP_DATA || s->state == SMTP_CHUNK ||
	    s->state == SMTP_BDAT || chunk_unwanted(s)) {
		left = -mono_since(chunk_unwanted(s) ? s->chunk.deadline :
		    s->tx->deadline, loop_now()) / 1000;
		if (left < cf->smtpd_timeout) {
			/* An odd length: not one of the shared queues. */
			left = left > 0 ? left : 1;
			tv = (struct timeval){ left / 1000,
				left % 1000 * 1000 };
			event_add(&s->timer, &tv);
			return;
		}
	}
	session_timer(s, cf->smtpd_timeout);
}

void
session_io_start(struct session *s)
{
	event_assign(&s->io, loop_base(), s->fd, EV_READ | EV_PERSIST,
	    session_event, s);
	event_assign(&s->timer, loop_base(), -1, 0, session_timer_event, s);
}

void
session_io_stop(struct session *s)
{
	event_del(&s->io);
	event_del(&s->timer);
}
