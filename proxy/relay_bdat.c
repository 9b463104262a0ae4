#include <stdio.h>
#include <string.h>

#include "lib/log.h"
#include "proxy/relay_bdat.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_smtp.h"

#define BDAT_TURNS	16u	/* chunks written before others get a turn */

/* Servers that do not know what they offer.  Those behind a path of this host
 * count as one. */
static bool
bdat_unknown(const struct relay *r, const struct netaddr *a)
{
	size_t i;

	for (i = 0; i < RELAY_NO_BDAT && i < r->n_no_bdat; i++)
		if (r->no_bdat[i].port == a->port &&
		    netaddr_equal(&r->no_bdat[i], a))
			return true;
	return false;
}

bool
relay_bdat_due(const struct session *s)
{
	const struct delivery *d = s->delivery;

	/* A firewall that is in the way of DATA does not know BDAT at all; a
	 * filter in front of the queue is in no need of it. */
	return (s->ehlo.features & FEATURE_CHUNKING) != 0 &&
	    s->relay->conf->smtp_chunking_enable && s->pix == 0 &&
	    d->proxy == NULL && !d->probe && !d->no_bdat &&
	    !bdat_unknown(s->relay, &s->addr);
}

/* The command, right in front of the n octets at text. */
static struct view
bdat_chunk(char *text, size_t n, bool last)
{
	char command[RELAY_BDAT_ROOM];
	int k = snprintf(command, sizeof command, "BDAT %zu%s\r\n", n,
	    last ? " LAST" : "");

	ensure(k > 0 && (size_t)k < sizeof command);
	memcpy(text - k, command, (size_t)k);
	return view_make(text - k, n + (size_t)k);
}

/* Without PIPELINING, one chunk at a time. */
static bool
bdat_may_send(const struct session *s)
{
	const struct session_mail *m = &s->mail;

	return !m->text_done && session_written(s) && !s->write_failed &&
	    (smtp_pipelining(s) || m->chunks == m->chunks_taken);
}

void
relay_bdat_send(struct session *s)
{
	char *text = s->relay->encoded + RELAY_BDAT_ROOM;
	struct session_mail *m = &s->mail;
	unsigned turns;
	size_t n;

	for (turns = 0; turns < BDAT_TURNS && bdat_may_send(s); turns++) {
		if (!smtp_encode(s, text, &n))
			return;
		m->chunks++;
		session_write(s, bdat_chunk(text, n, m->text_done));
	}
	if (s->write_failed || !session_written(s))
		return;
	if (m->text_done)
		session_enter(s, RELAY_LAST);
	else if (bdat_may_send(s))
		event_add(&s->write_event, NULL);
}

/*
 * It has offered CHUNKING and does not know BDAT, as behind a proxy that
 * answers EHLO for others.  What was in the chunk may have been taken for
 * commands: such a server is never sent one again.  With LMTP, after the last
 * chunk, this may be the reply for one of several recipients.
 */
static bool
bdat_fell_back(struct session *s)
{
	struct session_mail *m = &s->mail;
	struct delivery *d = s->delivery;
	struct relay *r = s->relay;

	if ((s->reply.code != 500 && s->reply.code != 502) ||
	    m->chunks_taken > 0 || m->told > 0 || d->qmgr == NULL ||
	    (s->relay->lmtp && m->text_done && m->accepted > 1))
		return false;
	log_warn("host %s offers CHUNKING, but does not know BDAT; it gets "
	    "DATA", s->peer);
	r->no_bdat[r->n_no_bdat++ % RELAY_NO_BDAT] = s->addr;
	d->no_bdat = true;
	session_abort(s);
	delivery_again(d);
	return true;
}

void
relay_bdat_reply(struct session *s)
{
	struct session_mail *m = &s->mail;
	bool cut = s->write_failed || !session_written(s);
	bool all = m->chunks_taken + 1 == m->chunks;

	if (s->reply.code / 100 == 2) {
		if (m->chunks_taken + cut >= m->chunks) {
			/* It cannot have seen what it says it took. */
			smtp_lost(s, LOSS_PROTOCOL);
		} else if (all && s->state == RELAY_LAST) {
			smtp_dot_reply(s);
		} else {
			m->chunks_taken++;
			session_touch(s);
			/* Not at once: what else has come is no reply to the
			 * next chunk. */
			if (bdat_may_send(s))
				event_add(&s->write_event, NULL);
		}
		return;
	}
	if (bdat_fell_back(s))
		return;
	if (all && s->state == RELAY_LAST) {
		smtp_dot_reply(s);
		return;
	}
	smtp_refused(s, WHOM_ACCEPTED, 0);
	smtp_finish(s, smtp_unless_closing(s, all && !cut ? RELAY_RSET :
	    RELAY_CLOSED));
}
