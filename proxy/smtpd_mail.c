/*
 *	mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF
 *	Mail-parameters = esmtp-param *(SP esmtp-param)
 *	esmtp-param = "SIZE=" 1*20DIGIT /
 *	    "BODY=" ( "7BIT" / "8BITMIME" / "BINARYMIME" ) /
 *	    "SMTPUTF8" / "RET=" ( "FULL" / "HDRS" ) / "ENVID=" xtext / "PRDR" /
 *	    "AUTH=" ( xtext / "<>" ) / "REQUIRETLS"
 *
 * RFC 5321 section 4.1.1.2, RFC 1870, RFC 6152, RFC 3030, RFC 6531, RFC 3461,
 * RFC 4954, RFC 8689, draft-hall-prdr.  White space after the colon, and a path
 * without brackets, are accepted as everywhere.
 */
#include "lib/address.h"
#include "lib/dsn.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_milter.h"
#include "proxy/smtpd_tls.h"

struct mail_args {
	struct view path;	/* and what follows */
	uint32_t flags;
	uint64_t size;
	uint8_t ret;
	bool prdr;
	struct view binary;	/* BODY=BINARYMIME, in the command */
	struct view login;	/* AUTH= */
	struct buf *envid;	/* decoded */
};

/* RFC 3461.  Each once; an ENVID is never empty. */
static bool
mail_dsn(struct session *s, struct view word, struct mail_args *a)
{
	if (view_starts_nocase(word, "RET=")) {
		if (a->ret == 0)
			a->ret = dsn_ret(view_from(word, 4));
		else
			a->ret = 0;
		if (a->ret == 0)
			session_refuse(s,
			    "501 5.5.4 Bad RET parameter syntax");
		return a->ret != 0;
	}
	if (a->envid->n == 0 && dsn_envid_get(a->envid, view_from(word, 6)))
		return true;
	session_refuse(s, "501 5.5.4 Bad ENVID parameter syntax");
	return false;
}

/* The last one counts.  Binary parts become lines, maybe of 8 bits. */
static bool
mail_body(const struct session *s, struct view word, struct mail_args *a)
{
	struct view value = view_from(word, 5);
	bool binary = view_is_nocase(value, "BINARYMIME") &&
	    (s->offers & OFFER_BINARYMIME) != 0;

	if (!binary && !view_is_nocase(value, "8BITMIME") &&
	    !view_is_nocase(value, "7BIT"))
		return false;
	a->binary = binary ? word : view_of("");
	a->flags &= ~(uint32_t)ENVELOPE_8BIT;
	if (!view_is_nocase(value, "7BIT"))
		a->flags |= ENVELOPE_8BIT;
	return true;
}

/* A parameter; false: it was answered. */
static bool
mail_parameter(struct session *s, struct view word, struct mail_args *a)
{
	struct view digits;
	int64_t n;

	if (view_starts_nocase(word, "BODY=") && mail_body(s, word, a)) {
		return true;
	} else if (view_is_nocase(word, "SMTPUTF8") &&
	    (s->offers & OFFER_UTF8) != 0) {
		a->flags |= ENVELOPE_SMTPUTF8;
	} else if (view_is_nocase(word, "REQUIRETLS") &&
	    requiretls_offered(s)) {
		a->flags |= ENVELOPE_REQUIRETLS;
	} else if (view_is_nocase(word, "PRDR") &&
	    (s->offers & OFFER_PRDR) != 0) {
		a->prdr = true;
	} else if ((s->offers & OFFER_DSN) != 0 &&
	    (view_starts_nocase(word, "RET=") ||
	    view_starts_nocase(word, "ENVID="))) {
		return mail_dsn(s, word, a);
	} else if (s->server->auth != NULL &&
	    view_starts_nocase(word, "AUTH=")) {
		if (a->login.n > 0 || !auth_sender_good(view_from(word, 5))) {
			session_refuse(s, "501 5.5.4 Bad AUTH parameter "
			    "syntax");
			return false;
		}
		a->login = view_from(word, 5);
	} else if (view_starts_nocase(word, "SIZE=")) {
		digits = view_from(word, 5);
		for (n = 0; (size_t)n < digits.n; n++)
			if (!isdigit((unsigned char)digits.p[n]))
				break;
		if (digits.n == 0 || (size_t)n < digits.n) {
			session_refuse(s, "501 5.5.4 Bad message size syntax");
			return false;
		}
		/* More digits than a number has is over any limit. */
		a->size = conf_parse_int(digits, 0, INT64_MAX, &n) ?
		    (uint64_t)n : UINT64_MAX;
	} else {
		session_refuse(s, "555 5.5.4 Unsupported option: %s",
		    log_safe(view_head(word, 200)));
		return false;
	}
	return true;
}

static bool
mail_room(struct session *s, uint64_t size)
{
	const struct server *sv = s->server;
	uint64_t limit = (uint64_t)sv->cf->message_size_limit;

	const char *why = NULL;

	if (limit > 0 && size > limit)
		why = "552 5.3.4 Message size exceeds fixed limit";
	else if (sv->no_space || (size > 0 && size > sv->free_bytes))
		why = "452 4.3.1 Insufficient system storage";
	if (why == NULL)
		return true;
	session_log_reject(s, "reject", why, view_of(""));
	session_refuse(s, "%s", why);
	return false;
}

static bool
mail_parse(struct session *s, struct view args, struct buf *sender,
    struct buf *envid, struct mail_args *a)
{
	struct view rest, word;
	bool utf8;

	*a = (struct mail_args){ .envid = envid };
	if (!view_starts_nocase(args, "FROM:") ||
	    (rest = view_trim(view_from(args, 5))).n == 0) {
		session_refuse(s, "501 5.5.4 Syntax: MAIL FROM:<address>");
		return false;
	}
	if (address_path(&rest, s->server->cf->strict_rfc821_envelopes, sender,
	    &utf8) != ADDRESS_OK) {
		session_refuse(s, "501 5.1.7 Bad sender address syntax");
		return false;
	}
	while ((word = view_word(&rest, " \t")).n > 0)
		if (!mail_parameter(s, word, a))
			return false;
	return true;
}

bool
mail_check(struct session *s, struct view args)
{
	struct mail_args a;
	struct buf sender, envid;
	bool ok;

	if (s->server->cf->smtpd_helo_required && s->helo == NULL) {
		session_refuse(s, "503 5.5.1 Error: send HELO/EHLO first");
		return false;
	}
	buf_init(&sender, ADDRESS_MAX);
	buf_init(&envid, DSN_ENVID_MAX + 1);
	/* Room may come and go while the policy waits; syntax does not. */
	ok = mail_parse(s, args, &sender, &envid, &a) && mail_room(s, a.size);
	if (ok) {
		s->announced = a.size;
		auth_sender(s, a.login);
		s->announced_utf8 = (a.flags & ENVELOPE_SMTPUTF8) != 0;
		ok = session_policy(s, STAGE_MAIL, args, buf_view(&sender));
	}
	buf_free(&sender);
	buf_free(&envid);
	return ok;
}

/* For filters, what they will get. */
static struct view
mail_told(struct session *s, struct view args, const struct mail_args *a)
{
	struct view told;
	struct buf b;

	if (a->binary.n == 0)
		return arena_copy(s->tx->arena, args);
	buf_init(&b, args.n);
	ensure(buf_putv(&b, view_head(args,
	    (size_t)(a->binary.p - args.p))) &&
	    buf_puts(&b, "BODY=8BITMIME") &&
	    buf_putv(&b, view_make(a->binary.p + a->binary.n,
	    (size_t)(args.p + args.n - a->binary.p) - a->binary.n)));
	told = arena_copy(s->tx->arena, buf_view(&b));
	buf_free(&b);
	return told;
}

void
mail_proceed(struct session *s, struct view args)
{
	struct mail_args a;
	struct buf sender, envid;

	buf_init(&sender, ADDRESS_MAX);
	buf_init(&envid, DSN_ENVID_MAX + 1);
	ensure(mail_parse(s, args, &sender, &envid, &a));
	session_enter(s, SMTP_MAIL);
	s->tx->sender = arena_copy(s->tx->arena, buf_view(&sender));
	s->tx->flags = a.flags;
	s->tx->declared = a.size;
	s->tx->ret = a.ret;
	s->tx->prdr = a.prdr;
	s->tx->binarymime = a.binary.n > 0;
	/* A new transaction has room for those of one evaluation. */
	if (policy_has(s->server->policy, STAGE_MAIL) && !policy_take(s))
		panic("actions over their limit");
	/* None at hand: the first recipient gets one. */
	if (!s->server->cf->smtpd_delay_open_until_valid_rcpt)
		(void)session_slot(s);
	if (envid.n > 0)
		s->tx->envid = arena_copy(s->tx->arena, buf_view(&envid));
	buf_free(&sender);
	buf_free(&envid);
	if (s->milter == NULL) {
		mail_accepted(s);
		return;
	}
	/* Filters want to know the queue id. */
	s->tx->mail_args = mail_told(s, args, &a);
	if (session_slot(s))
		session_mail_resume(s);
	else
		session_wait_for(s, WAIT_SLOT, SLOT_WAIT_MS);
}

void
session_mail_resume(struct session *s)
{
	if (!session_slot(s)) {
		session_refuse(s, "451 4.3.0 Error: queue file write error");
		session_enter(s, SMTP_GREETED);
	} else if (milter_mail(s, s->tx->mail_args))
		mail_accepted(s);
}

void
mail_accepted(struct session *s)
{
	session_accept(s, VERB_MAIL, "250 2.1.0 Ok");
}
