/*
 *	rset = "RSET" CRLF
 *
 * RFC 5321 section 4.1.1.5.
 */
#include "proxy/smtpd.h"

bool
rset_check(struct session *s, struct view args)
{
	if (args.n > 0)
		session_refuse(s, "501 5.5.4 Syntax: RSET");
	return args.n == 0;
}

void
rset_proceed(struct session *s, struct view args)
{
	(void)args;
	xforward_forget(s);
	session_enter(s, SMTP_GREETED);
	session_accept(s, VERB_RSET, "250 2.0.0 Ok");
}
