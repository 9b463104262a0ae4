/*
 * Replies of an SMTP server (RFC 5321 section 4.2), read from bytes that
 * arrive in any pieces.  What the server may make us keep is bounded: 2,048
 * bytes of a line, 100 lines and 64 KB of a reply; more, a line that does
 * not begin with a code, or codes that differ within a reply, are a protocol
 * error.  A code without text is accepted, and LF without CR.
 */
#ifndef PROXY_RELAY_REPLY_H
#define PROXY_RELAY_REPLY_H

#include "lib/buf.h"
#include "lib/view.h"

#define RELAY_REPLY_LINE_MAX	2048u
#define RELAY_REPLY_LINES_MAX	100u
#define RELAY_REPLY_MAX		65536u

enum relay_reply_answer { REPLY_MORE = 1, REPLY_DONE, REPLY_BAD };

struct relay_reply {
	unsigned code;		/* 200 to 599 */
	unsigned lines;
	size_t total;		/* bytes read, including those not kept */
	size_t line;		/* where the open line begins in text */
	/* The lines with their codes, separated by LF; control bytes are
	 * '?'. */
	struct buf text;
};

void relay_reply_init(struct relay_reply *r);
void relay_reply_free(struct relay_reply *r);
/* Forget the reply, before the next one. */
void relay_reply_reset(struct relay_reply *r);
/* Take bytes off *in, up to the end of the reply. */
enum relay_reply_answer relay_reply_feed(struct relay_reply *r,
    struct view *in);

/* The next line, without code; *pos is 0 at first.  False after the last. */
bool relay_reply_line(const struct relay_reply *r, size_t *pos,
    struct view *ret);
/* Of "c.d.d" at the start of v: its length, or 0. */
size_t relay_status_size(struct view v, char class);
/*
 * The enhanced status code (RFC 2034, RFC 3463) in the reply, if it is well
 * formed and of the class of the code; else "c.0.0".
 */
#define RELAY_STATUS_MAX	12
void relay_reply_status(const struct relay_reply *r,
    char ret[RELAY_STATUS_MAX]);
/* The whole reply as one line, at most max bytes of it, as it stands in the
 * log and in a notification. */
struct view relay_reply_said(struct relay_reply *r, size_t max);

#endif
