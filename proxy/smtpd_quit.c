/*
 *	quit = "QUIT" CRLF
 *
 * RFC 5321 section 4.1.1.10.  An argument is overlooked: the client leaves in
 * any case.
 */
#include "proxy/smtpd.h"

bool
quit_check(struct session *s, struct view args)
{
	(void)s;
	(void)args;
	return true;
}

void
quit_proceed(struct session *s, struct view args)
{
	(void)args;
	session_enter(s, SMTP_CLOSED);
	session_accept(s, VERB_QUIT, "221 2.0.0 Bye");
}
