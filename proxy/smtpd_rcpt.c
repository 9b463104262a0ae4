/*
 *	rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" /
 *	    Forward-path ) [SP Rcpt-parameters] CRLF
 *
 *	Rcpt-parameters = rcpt-parameter *(SP rcpt-parameter)
 *	rcpt-parameter = "ORCPT=" address-type ";" xtext / "NOTIFY=" ( "NEVER" /
 *	    1#( "SUCCESS" / "FAILURE" / "DELAY" ) )
 *
 * RFC 5321 section 4.1.1.3, RFC 3461, RFC 6533 for ORCPT=utf-8;.  The first
 * accepted recipient gives the message its queue id.
 */
#include "lib/address.h"
#include "lib/dsn.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_auth.h"
#include "rules/rewrite.h"
#include "rules/verify_sender.h"

/* Policy decides about the address that it will be. */
static void
rcpt_complete(const struct conf *cf, struct buf *rcpt)
{
	struct buf out;

	buf_init(&out, ADDRESS_MAX);
	rewrite_complete_address(cf, buf_view(rcpt), &out);
	buf_clear(rcpt);
	(void)buf_putv(rcpt, buf_view(&out));
	buf_free(&out);
}

struct rcpt_args {
	struct buf addr, orcpt;
	uint8_t notify;
	/* It is <postmaster>, which every host must accept without looking
	 * further (RFC 5321 section 4.5.1), or the sender of our probes. */
	bool always;
};

static void
rcpt_args_init(struct rcpt_args *a)
{
	*a = (struct rcpt_args){ 0 };
	buf_init(&a->addr, ADDRESS_MAX);
	buf_init(&a->orcpt, DSN_ORCPT_MAX);
}

static void
rcpt_args_free(struct rcpt_args *a)
{
	buf_free(&a->addr);
	buf_free(&a->orcpt);
}

/* A parameter; false: it was answered. */
static bool
rcpt_parameter(struct session *s, struct view word, struct rcpt_args *a)
{
	bool utf8 = (s->tx->flags & ENVELOPE_SMTPUTF8) != 0;
	bool dsn = (s->offers & OFFER_DSN) != 0;

	if (dsn && view_starts_nocase(word, "NOTIFY=")) {
		a->notify = a->notify != 0 ? 0 :
		    dsn_notify(view_from(word, 7));
		if (a->notify == 0)
			session_refuse(s, "501 5.5.4 Error: Bad NOTIFY "
			    "parameter syntax");
		return a->notify != 0;
	}
	if (dsn && view_starts_nocase(word, "ORCPT=")) {
		if (a->orcpt.n == 0 &&
		    dsn_orcpt_get(&a->orcpt, view_from(word, 6), utf8))
			return true;
		session_refuse(s,
		    "501 5.5.4 Error: Bad ORCPT parameter syntax");
		return false;
	}
	session_refuse(s, "555 5.5.4 Unsupported option: %s",
	    log_safe(view_head(word, 200)));
	return false;
}

static bool
rcpt_parse(struct session *s, struct view args, struct rcpt_args *a)
{
	struct buf *rcpt = &a->addr;
	const struct conf *cf = s->server->cf;
	struct view rest, word;
	bool utf8;

	if (!view_starts_nocase(args, "TO:") ||
	    (rest = view_trim(view_from(args, 3))).n == 0) {
		session_refuse(s, "501 5.5.4 Syntax: RCPT TO:<address>");
		return false;
	}
	if (address_path(&rest, cf->strict_rfc821_envelopes, rcpt, &utf8) !=
	    ADDRESS_OK || rcpt->n == 0) {
		session_refuse(s, "501 5.1.3 Bad recipient address syntax");
		return false;
	}
	while ((word = view_word(&rest, " \t")).n > 0)
		if (!rcpt_parameter(s, word, a))
			return false;
	a->always = view_is_nocase(buf_view(rcpt), "postmaster");
	rcpt_complete(cf, rcpt);
	/* An address without a domain is one of this host's. */
	if (view_find(buf_view(rcpt), '@') == rcpt->n &&
	    (!buf_putc(rcpt, '@') || !buf_puts(rcpt, cf->myorigin))) {
		session_refuse(s, "501 5.1.3 Bad recipient address syntax");
		return false;
	}
	a->always = a->always || verify_sender_is(cf, clock_wall(),
	    buf_view(rcpt));
	return true;
}

static bool
rcpt_limit(struct session *s, size_t n)
{
	const struct conf *cf = s->server->cf;

	if (s->tx->nrcpts < (uint64_t)cf->smtpd_recipient_limit &&
	    transaction_fits(s->tx, n))
		return true;
	/* RFC 5321 4.5.3.1.10: the client sends the rest in another
	 * transaction.  That is no error until it gets out of hand. */
	if (s->overshoot++ < (uint64_t)cf->smtpd_recipient_overshoot_limit)
		session_accept(s, VERB_RCPT,
		    "452 4.5.3 Error: too many recipients");
	else
		session_refuse(s, "452 4.5.3 Error: too many recipients");
	return false;
}

bool
rcpt_check(struct session *s, struct view args)
{
	struct rcpt_args a;
	bool ok;

	rcpt_args_init(&a);
	ok = rcpt_parse(s, args, &a) &&
	    rcpt_limit(s, a.addr.n + a.orcpt.n) && (a.always ||
	    session_policy(s, STAGE_RCPT, args, buf_view(&a.addr)));
	rcpt_args_free(&a);
	return ok;
}

static void
rcpt_add(struct session *s, const struct recipient *rcpt)
{
	transaction_add(s->tx, rcpt);
	if (s->state != SMTP_RCPT)
		session_enter(s, SMTP_RCPT);
	session_accept(s, VERB_RCPT, "250 2.1.5 Ok");
}

bool
session_slot(struct session *s)
{
	char id[QUEUE_ID_TEXT];
	struct buf b;

	if (s->tx->has_slot)
		return true;
	if (!queue_take(s->tx))
		return false;
	buf_init(&b, 4096);
	auth_log(s, &b);
	xforward_log(s, &b);
	log_info("%s: client=%s%s", session_queue_id(s, id), s->name,
	    buf_cstr(&b));
	buf_free(&b);
	return true;
}

void
rcpt_proceed(struct session *s, struct view args)
{
	struct rcpt_args a;
	struct recipient rcpt = { 0 };

	rcpt_args_init(&a);
	ensure(rcpt_parse(s, args, &a));
	rcpt.addr = arena_copy(s->tx->arena, buf_view(&a.addr));
	if (a.orcpt.n > 0)
		rcpt.orcpt = arena_copy(s->tx->arena, buf_view(&a.orcpt));
	rcpt.notify = a.notify;
	rcpt_args_free(&a);
	if (session_slot(s)) {
		rcpt_add(s, &rcpt);
	} else {
		s->tx->waiting = rcpt;
		session_wait_for(s, WAIT_SLOT, SLOT_WAIT_MS);
	}
}

void
session_rcpt_resume(struct session *s)
{
	if (session_slot(s))
		rcpt_add(s, &s->tx->waiting);
	else
		session_refuse(s, "451 4.3.0 Error: queue file write error");
	s->tx->waiting = (struct recipient){ 0 };
}
