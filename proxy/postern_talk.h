/*
 * A conversation with an SMTP server, shown as it is spoken: "S:" and "C:".
 * For commands: blocking, with one deadline for each command.  What a server
 * says is bounded: TALK_REPLY_MAX bytes in a reply.
 */
#ifndef PROXY_POSTERN_TALK_H
#define PROXY_POSTERN_TALK_H

#include <openssl/types.h>

#include "lib/netaddr.h"

#define TALK_REPLY_MAX	16384u

struct talk {
	int fd;			/* -1: none */
	SSL *tls;
	SSL_CTX *ctx;
	int64_t limit_ms;	/* for each answer */
	char in[TALK_REPLY_MAX];	/* not yet read lines */
	size_t have;
	char reply[TALK_REPLY_MAX];	/* the last, lines joined by '\n' */
	const char *why;	/* there was no reply */
};

/* False with t->why: no connection, or no TLS where tls is set. */
bool talk_open(struct talk *t, const struct netaddr *to, bool tls,
    int64_t limit_ms);
/* The next reply's code; 0 with t->why: there is none. */
int talk_reply(struct talk *t);
/* Say a line, and the reply's code. */
int talk_say(struct talk *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* After a 220 to STARTTLS.  No certificate is refused here. */
bool talk_tls(struct talk *t);
/* The text of a message (LF lines), with its dot; the reply's code. */
int talk_message(struct talk *t, const char *text);
/* Is this keyword in the last reply, which was to EHLO? */
bool talk_offers(const struct talk *t, const char *keyword);
void talk_close(struct talk *t);

#endif
