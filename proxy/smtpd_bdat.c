/*
 *	bdat = "BDAT" SP chunk-size [SP "LAST"] CRLF
 *	chunk-size = 1*DIGIT
 *
 * RFC 3030.  So many octets follow the command at once, so they are read
 * whatever becomes of it: taken as text, or thrown away before the refusal is
 * sent.  Where a chunk ends is never a matter of what is in it.  A refused
 * chunk ends the transaction: nothing is left that the next one could be added
 * to.
 *
 * BINARYMIME is offered where smtpd_binarymime_enable says so.  A text here
 * consists of lines, for the filter, milters, mailboxes and nearly all next
 * hops; so binary parts are encoded at this door (proxy/smtpd_binary.h).  That
 * is a MIME parser in the most exposed process, and what was signed as binary
 * breaks, while a client that is not offered it must not send it (section 3),
 * and encodes by itself: hence not everywhere.
 */
#include "lib/log.h"
#include "lib/loop.h"
#include "proxy/smtpd.h"

/* A message of many small chunks costs more than its size says. */
#define TINY		256u
#define TINY_MAX	1000u
/* No more than this is read to throw it away, or the largest message. */
#define SKIP_MAX	(256u << 20)

/* "5 LAST" */
static bool
chunk_read(struct view args, struct chunk *c)
{
	struct view digits = view_word(&args, " \t");
	int64_t n;
	size_t i;

	for (i = 0; i < digits.n; i++)
		if (digits.p[i] < '0' || digits.p[i] > '9')
			return false;
	args = view_trim(args);
	c->last = view_is_nocase(args, "LAST");
	if (digits.n == 0 || (args.n > 0 && !c->last) ||
	    !conf_parse_int(digits, 0, INT64_MAX, &n))
		return false;
	c->n = c->left = (uint64_t)n;
	return true;
}

bool
chunk_begin(struct session *s, struct view line)
{
	const struct conf *cf = s->server->cf;
	struct view word = view_word(&line, " \t");
	struct chunk c = { .on = true };
	const char *why = NULL;

	if (!view_is_nocase(word, "BDAT"))
		return true;
	if (!chunk_read(view_trim(line), &c))
		why = "521 5.5.4 Syntax: BDAT count [LAST]";
	else if (c.n > SKIP_MAX && (cf->message_size_limit == 0 ?
	    INT64_MAX / 2 : cf->message_size_limit) < (int64_t)c.n)
		why = "552 5.3.4 Error: message file too big";
	if (why == NULL) {
		c.deadline.us = loop_now().us + cf->smtpd_data_timeout * 1000;
		s->chunk = c;
		return true;
	}
	s->total[VERB_BDAT]++;
	s->verb = VERB_BDAT;
	s->where = WHERE_VERB;
	session_refuse(s, "%s", why);
	/* What comes now is no command. */
	s->hangup = true;
	return false;
}

bool
chunk_unwanted(const struct session *s)
{
	return s->chunk.on && s->state != SMTP_CHUNK &&
	    s->wait == WAIT_NONE && !s->hangup;
}

size_t
chunk_skip(struct session *s, struct view in)
{
	struct chunk *c = &s->chunk;
	size_t n = in.n < c->left ? in.n : (size_t)c->left;

	if (s->tx != NULL)
		session_enter(s, SMTP_GREETED);
	c->left -= n;
	c->on = c->left > 0;
	session_timer_state(s);
	return n;
}

void
chunk_taken(struct session *s)
{
	if (data_refused(s))
		return;
	session_enter(s, SMTP_BDAT);
	session_accept(s, VERB_BDAT, "250 2.0.0 Ok: %llu bytes",
	    (unsigned long long)s->chunk.n);
}

static bool
bdat_fits(struct session *s)
{
	uint64_t limit = (uint64_t)s->server->cf->message_size_limit;
	char id[QUEUE_ID_TEXT];

	if (limit == 0 || s->chunk.n + data_size(s->tx) <= limit)
		return true;
	log_warn("%s: queue file size limit exceeded",
	    session_queue_id(s, id));
	session_refuse(s, "552 5.3.4 Error: message file too big");
	return false;
}

bool
bdat_check(struct session *s, struct view args)
{
	/* smtpd_command_filter cannot make one. */
	if ((s->offers & OFFER_CHUNKING) == 0 || !s->chunk.on) {
		session_refuse(s, "502 5.5.1 Error: command not implemented");
		return false;
	}
	if (!bdat_fits(s))
		return false;
	/* The policy is asked once for a message. */
	return s->state == SMTP_BDAT ||
	    session_policy(s, STAGE_DATA, args, view_of(""));
}

void
bdat_proceed(struct session *s, struct view args)
{
	(void)args;
	if (s->state == SMTP_BDAT) {
		session_enter(s, SMTP_CHUNK);
		s->where = WHERE_DATA;
	} else if (!data_begin(s, SMTP_CHUNK))
		return;
	if (s->chunk.n < TINY && !s->chunk.last && ++s->tx->tiny > TINY_MAX)
		s->errors++;
	session_timer_state(s);
	/* Nothing will come for it. */
	if (s->chunk.n == 0)
		(void)session_text(s, view_of(""));
}
