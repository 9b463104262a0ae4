/*
 * The text of a notification: a multipart/report (RFC 6522, RFC 3464; RFC
 * 6533 when addresses are UTF-8) with an explanation, the status of each
 * recipient, and the original message or its headers.  Pure: facts in, text
 * out.
 *
 * Whatever a peer's reply or an address holds, the report has lines of at most
 * 998 bytes, no control bytes, and UTF-8 only where it says so.
 */
#ifndef QUEUE_BOUNCE_REPORT_H
#define QUEUE_BOUNCE_REPORT_H

#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/envelope.h"
#include "lib/msg.h"
#include "queue/bounce_template.h"

/* What became of a recipient. */
struct bounce_outcome {
	uint32_t index;			/* in the envelope */
	enum rcpt_status fate;
	struct view status;		/* "5.1.1" */
	struct view reason;
	struct view mta;		/* that said so; may be empty */
};

struct bounce_facts {
	const struct conf *cf;
	const struct bounce_templates *templates;
	enum notice_kind kind;
	struct queue_id id;		/* of the message it is about */
	struct queue_id note;		/* of the notification */
	struct wall arrival, now;
	struct wall attempt, until;	/* of delivery; for delays */
	const struct envelope *env;
	struct view to;			/* who gets it */
	const struct bounce_outcome *outcomes;
	uint32_t n_outcomes;
	struct view original;		/* text, or just its headers */
	bool headers_only;
};

/* Appends to out, CRLF line ends.  False: it does not fit. */
bool bounce_report(const struct bounce_facts *f, struct buf *out);
/* It has UTF-8 addresses, or a message whose sender asked for SMTPUTF8. */
bool bounce_is_global(const struct envelope *e);
/* For a person who looks after mail here, not for the sender. */
bool bounce_for_postmaster(enum notice_kind kind);
/* The header block of a text, with the empty line. */
struct view bounce_headers(struct view text);
/* RFC 5322 date-time in UTC. */
bool bounce_date(struct buf *out, struct wall t);

#endif
