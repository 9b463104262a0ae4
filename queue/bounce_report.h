/*
 * The text of a non-delivery notification: a multipart/report (RFC 3462,
 * RFC 3464) with an explanation, the status of each recipient, and the
 * original message or its headers.  Pure: facts in, text out.
 */
#ifndef QUEUE_BOUNCE_REPORT_H
#define QUEUE_BOUNCE_REPORT_H

#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/envelope.h"

struct bounce_failure {
	uint32_t index;			/* recipient */
	struct view status;		/* "5.1.1" */
	struct view reason;
	struct view mta;		/* that refused it; may be empty */
};

struct bounce_facts {
	const struct conf *cf;
	struct queue_id id;		/* of the failed message */
	struct queue_id note;		/* of the notification */
	struct wall arrival, now;
	const struct envelope *env;
	const struct bounce_failure *failures;
	uint32_t n_failures;
	struct view original;		/* text, or just its headers */
	bool headers_only;
};

/* Appends to out, CRLF line ends.  False: it does not fit. */
bool bounce_report(const struct bounce_facts *f, struct buf *out);
/* The header block of a text, with the empty line. */
struct view bounce_headers(struct view text);
/* RFC 5322 date-time in UTC. */
bool bounce_date(struct buf *out, struct wall t);

#endif
