/*
 *	vrfy = "VRFY" SP String [ SP "SMTPUTF8" ] CRLF
 *
 * RFC 5321 section 4.1.1.6.  The answer tells what RCPT TO would: refused, or
 * 252, which promises nothing.
 */
#include "lib/address.h"
#include "lib/log.h"
#include "proxy/smtpd.h"

static bool
vrfy_parse(struct session *s, struct view args, struct buf *rcpt,
    struct view *ret_shown, bool *ret_postmaster)
{
	struct view tail = view_of("SMTPUTF8"), rest;
	bool utf8;

	if ((s->offers & OFFER_UTF8) != 0 && view_ends_nocase(args, tail) &&
	    (args.n == tail.n || args.p[args.n - tail.n - 1] == ' '))
		args = view_trim(view_head(args, args.n - tail.n));
	if (args.n == 0) {
		session_refuse(s, "501 5.5.4 Syntax: VRFY address%s",
		    (s->offers & OFFER_UTF8) != 0 ? " [SMTPUTF8]" : "");
		return false;
	}
	rest = args;
	if (address_path(&rest, false, rcpt, &utf8) != ADDRESS_OK ||
	    rest.n > 0 || rcpt->n == 0) {
		session_refuse(s, "501 5.1.3 Bad recipient address syntax");
		return false;
	}
	*ret_postmaster = view_is_nocase(buf_view(rcpt), "postmaster");
	if (view_find(buf_view(rcpt), '@') == rcpt->n &&
	    (!buf_putc(rcpt, '@') ||
	    !buf_puts(rcpt, s->server->cf->myorigin))) {
		session_refuse(s, "501 5.1.3 Bad recipient address syntax");
		return false;
	}
	*ret_shown = args;
	return true;
}

bool
vrfy_check(struct session *s, struct view args)
{
	struct view shown;
	struct buf rcpt;
	bool ok, postmaster;

	if (s->server->cf->disable_vrfy_command) {
		session_refuse(s, "502 5.5.1 VRFY command is disabled");
		return false;
	}
	buf_init(&rcpt, ADDRESS_MAX);
	ok = vrfy_parse(s, args, &rcpt, &shown, &postmaster) && (postmaster ||
	    session_policy(s, STAGE_RCPT, args, buf_view(&rcpt)));
	buf_free(&rcpt);
	return ok;
}

void
vrfy_proceed(struct session *s, struct view args)
{
	struct view shown = args;
	struct buf rcpt;
	bool postmaster;

	buf_init(&rcpt, ADDRESS_MAX);
	ensure(vrfy_parse(s, args, &rcpt, &shown, &postmaster));
	buf_free(&rcpt);
	session_accept(s, VERB_VRFY, "252 2.0.0 %s", log_safe(shown));
}
