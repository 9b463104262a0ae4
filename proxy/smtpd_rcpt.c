/*
 *	rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" /
 *	    Forward-path ) [SP Rcpt-parameters] CRLF
 *
 * RFC 5321 section 4.1.1.3.  No Rcpt-parameters are announced, so none is
 * accepted.  The first accepted recipient gives the message its queue id.
 */
#include "lib/address.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd.h"

/* *ret_postmaster: it is <postmaster>, which every host must accept without
 * looking further (RFC 5321 section 4.5.1). */
static bool
rcpt_parse(struct session *s, struct view args, struct buf *rcpt,
    bool *ret_postmaster)
{
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
	word = view_word(&rest, " \t");
	if (word.n > 0) {
		session_refuse(s, "555 5.5.4 Unsupported option: %s",
		    log_safe(view_head(word, 200)));
		return false;
	}
	*ret_postmaster = view_is_nocase(buf_view(rcpt), "postmaster");
	/* An address without a domain is one of this host's. */
	if (view_find(buf_view(rcpt), '@') == rcpt->n &&
	    (!buf_putc(rcpt, '@') || !buf_puts(rcpt, cf->myorigin))) {
		session_refuse(s, "501 5.1.3 Bad recipient address syntax");
		return false;
	}
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

/* The text of a refusal as a reply line. */
static void
rcpt_reply_text(const struct policy_reply *r, struct buf *b)
{
	(void)buf_printf(b, "%u %s %s", r->code, r->status, r->text);
}

bool
rcpt_policy(struct session *s, struct view sender, struct view rcpt)
{
	const struct policy_facts facts = {
		.client = s->addr,
		.client_name = session_client_name(s),
		.helo = session_helo(s),
		.sender = sender,
		.recipient = rcpt,
	};
	/* Too big for the stack of a loop turn, and used by one at a time. */
	static struct policy_result r;
	struct buf text;
	unsigned i;

	policy_recipient(s->server->policy, &facts, &r);
	/* All facts it can ask for are known before the greeting. */
	ensure(r.outcome != POLICY_NEED && r.outcome != POLICY_NONE);
	buf_init(&text, 2000);
	for (i = 0; i < r.n_warned; i++) {
		rcpt_reply_text(&r.warned[i], &text);
		session_log_reject(s, "reject_warning", buf_cstr(&text), rcpt);
		buf_clear(&text);
	}
	if (r.outcome == POLICY_REFUSE) {
		rcpt_reply_text(&r.reply, &text);
		if (s->server->cf->soft_bounce && text.p[0] == '5') {
			/* As it will be sent. */
			text.p[0] = '4';
			if (text.p[4] == '5')
				text.p[4] = '4';
		}
		session_log_reject(s, "reject", buf_cstr(&text), rcpt);
		session_refuse(s, "%s", buf_cstr(&text));
	}
	buf_free(&text);
	return r.outcome == POLICY_PERMIT;
}

bool
rcpt_check(struct session *s, struct view args)
{
	struct buf rcpt;
	bool ok, postmaster;

	buf_init(&rcpt, ADDRESS_MAX);
	ok = rcpt_parse(s, args, &rcpt, &postmaster) &&
	    rcpt_limit(s, rcpt.n) && (postmaster ||
	    rcpt_policy(s, s->tx->sender, buf_view(&rcpt)));
	buf_free(&rcpt);
	return ok;
}

static void
rcpt_add(struct session *s, struct view rcpt)
{
	transaction_add(s->tx, rcpt);
	if (s->state != SMTP_RCPT)
		session_enter(s, SMTP_RCPT);
	session_accept(s, VERB_RCPT, "250 2.1.5 Ok");
}

/* False: no slot is here now. */
static bool
rcpt_slot(struct session *s)
{
	char id[QUEUE_ID_TEXT];

	if (s->tx->has_slot)
		return true;
	if (!queue_take(s->tx))
		return false;
	log_info("%s: client=%s", session_queue_id(s, id), s->name);
	return true;
}

void
rcpt_proceed(struct session *s, struct view args)
{
	struct buf rcpt;
	bool postmaster;

	buf_init(&rcpt, ADDRESS_MAX);
	ensure(rcpt_parse(s, args, &rcpt, &postmaster));
	if (rcpt_slot(s)) {
		rcpt_add(s, buf_view(&rcpt));
	} else {
		s->tx->waiting = arena_copy(s->tx->arena, buf_view(&rcpt));
		session_wait_for(s, WAIT_SLOT, SLOT_WAIT_MS);
	}
	buf_free(&rcpt);
}

void
session_rcpt_resume(struct session *s)
{
	if (rcpt_slot(s))
		rcpt_add(s, s->tx->waiting);
	else
		session_refuse(s, "451 4.3.0 Error: queue file write error");
	s->tx->waiting = (struct view){ NULL, 0 };
}
