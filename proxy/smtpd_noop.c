/*
 *	noop = "NOOP" [ SP String ] CRLF
 *
 * RFC 5321 section 4.1.1.9.
 */
#include "proxy/smtpd.h"

bool
noop_check(struct session *s, struct view args)
{
	(void)s;
	(void)args;
	return true;
}

void
noop_proceed(struct session *s, struct view args)
{
	(void)args;
	session_accept(s, VERB_NOOP, "250 2.0.0 Ok");
}
