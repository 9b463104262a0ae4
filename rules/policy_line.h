/*
 * The log line about a command that restrictions refused or warned of, in
 * Postfix's form:
 *
 *	NOQUEUE: reject: RCPT from name[192.0.2.7]: 554 5.7.1 <a@b>: ...;
 *	    from=<c@d> to=<a@b> proto=ESMTP helo=<e> rule=/etc/access:7
 */
#ifndef RULES_POLICY_LINE_H
#define RULES_POLICY_LINE_H

#include "lib/buf.h"

struct policy_line {
	const char *id;		/* of the queue, or NOQUEUE */
	const char *action;	/* "reject" */
	const char *command;	/* "RCPT" */
	const char *client;	/* "name[addr]" */
	const char *text;
	struct view sender;	/* .p NULL: none was given */
	struct view rcpt, rule;	/* empty: none */
	const char *proto;
	const char *helo;	/* NULL: none */
	const char *login;	/* of AUTH; NULL: none */
};

/* To the log.  The views are escaped; the strings but login are so already. */
void policy_line_log(const struct policy_line *l);

#endif
