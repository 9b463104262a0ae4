/*
 * The line a delivery leaves in the log, in Postfix's form.
 */
#ifndef PROXY_RELAY_LOG_H
#define PROXY_RELAY_LOG_H

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/msg.h"

/* Moments of a delivery; us 0: not reached. */
struct relay_times {
	struct wall arrival;	/* the message came */
	struct wall active;	/* it entered the active queue */
	struct wall begun;	/* this delivery began */
	struct wall ready;	/* the server was ready for MAIL FROM */
};

struct relay_line {
	const char *id;
	struct view recipient, orig;	/* orig: empty if it is the same */
	const char *relay;	/* "host[addr]:port" or "none" */
	unsigned uses;		/* of the connection; logged from 2 on */
	enum rcpt_status status;
	bool probe;		/* no mail: status=deliverable, ... */
	const char *tls;	/* what was wanted, and had; NULL: not told */
	const char *dsn;
	struct view reason;
};

/* "12", "1.2", "0.12", "0.01", "0": two digits, none under 10 ms. */
bool relay_log_delay(struct buf *b, int64_t us);
bool relay_log_line(struct buf *b, const struct relay_line *l,
    const struct relay_times *t, struct wall now);

#endif
