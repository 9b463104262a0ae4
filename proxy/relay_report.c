/* What becomes of recipients: to the log, and to qmgr. */
#include <stdio.h>

#include "lib/chan.h"
#include "lib/log.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_proxy.h"
#include "proxy/relay_session.h"
#include "proxy/relay_tls.h"

#define REPORT_MAX	(3u << 20)	/* bytes of all reasons in a report */

/* What became of a recipient is settled and goes to the log. */
static void
delivery_settle(struct delivery *d, struct delivery_rcpt *rcpt,
    enum rcpt_status status, const char *dsn, struct view reason)
{
	const struct session *s = d->session;
	struct relay *r = d->relay;
	struct relay_line line = { .id = d->id, .recipient = rcpt->addr,
		.orig = d->env.rcpts[rcpt->index].orig,
		.relay = s != NULL ? s->peer : "none",
		.uses = s != NULL ? s->uses : 0 };
	char tls[RELAY_TLS_WORD];
	struct buf b;

	ensure(rcpt->status == 0 && d->open > 0);
	(void)snprintf(rcpt->dsn, sizeof rcpt->dsn, "%s", dsn);
	if (status == RCPT_BOUNCED && r->conf->soft_bounce && !d->probe) {
		status = RCPT_DEFERRED;
		rcpt->dsn[0] = '4';
	}
	rcpt->status = status;
	rcpt->reason = reason;
	if (s != NULL)
		rcpt->mta = arena_copy(d->arena, view_of(s->host));
	d->open--;
	/* qmgr logs what the filter says, or where it goes instead. */
	if (d->proxy != NULL || status == RCPT_LOOPED)
		return;
	if (!d->probe) {
		r->sent += status == RCPT_SENT || status == RCPT_RELAYED;
		r->deferred += status == RCPT_DEFERRED;
		r->bounced += status == RCPT_BOUNCED;
	}

	line.probe = d->probe;
	line.status = d->probe && status == RCPT_BOUNCED && !d->said_no ?
	    RCPT_DEFERRED : status;
	line.tls = relay_tls_word(d, tls, sizeof tls);
	line.dsn = rcpt->dsn;
	line.reason = reason;
	buf_init(&b, 8192);
	if (relay_log_line(&b, &line, &d->times, clock_wall()))
		log_info("%s", buf_cstr(&b));
	else
		log_warn("%s: log line over its maximum", d->id);
	buf_free(&b);
}

static struct view
delivery_reason(struct delivery *d, struct view reason)
{
	return arena_copy(d->arena, view_head(reason, DELIVERY_REASON_MAX));
}

static bool
rcpt_meant(const struct delivery *d, uint32_t i, enum delivery_whom whom,
    uint32_t which)
{
	const struct delivery_rcpt *rcpt = &d->rcpts[i];

	return rcpt->status == 0 && (whom != WHOM_ONE || i == which) &&
	    (whom != WHOM_ACCEPTED || rcpt->accepted);
}

void
delivery_sent(struct delivery *d, enum delivery_whom whom, uint32_t which,
    struct view reason, const char *dsn, bool has_dsn)
{
	enum rcpt_status told = d->relay->lmtp &&
	    d->relay->conf->lmtp_assume_final ? RCPT_DELIVERED : RCPT_RELAYED;
	uint32_t i;

	reason = delivery_reason(d, reason);
	for (i = 0; i < d->n_rcpts; i++)
		/* Nobody behind us will tell the sender: we do. */
		if (rcpt_meant(d, i, whom, which))
			delivery_settle(d, &d->rcpts[i], !has_dsn &&
			    (d->env.rcpts[d->rcpts[i].index].notify &
			    NOTIFY_SUCCESS) != 0 ? told : RCPT_SENT, dsn,
			    reason);
}

void
delivery_failed(struct delivery *d, enum delivery_whom whom, uint32_t which,
    bool may_retry, const char *dsn, const char *reason)
{
	enum rcpt_status status = dsn[0] == '5' ? RCPT_BOUNCED :
	    RCPT_DEFERRED;
	struct view copy = { 0 };
	uint32_t i;

	/* A filter is one server, whatever addresses it has. */
	may_retry = may_retry && d->proxy == NULL;
	if (status == RCPT_DEFERRED && may_retry && !delivery_at_end(d)) {
		log_info("%s: %s", d->id, log_safe(view_of(reason)));
		delivery_why(d, dsn, reason);
		for (i = 0; i < d->n_rcpts; i++)
			if (whom != WHOM_ONE || i == which)
				d->rcpts[i].accepted = false;
		return;
	}
	for (i = 0; i < d->n_rcpts; i++) {
		if (!rcpt_meant(d, i, whom, which))
			continue;
		if (copy.p == NULL)
			copy = delivery_reason(d, view_of(reason));
		delivery_settle(d, &d->rcpts[i], status, dsn, copy);
	}
	if (d->proxy != NULL && reason != d->why)
		delivery_why(d, dsn, reason);
}

/* qmgr gives it to best_mx_transport: nothing is wrong with the next hop. */
void
delivery_looped(struct delivery *d)
{
	struct view reason = delivery_reason(d, view_of(d->why));
	uint32_t i;

	for (i = 0; i < d->n_rcpts; i++)
		if (d->rcpts[i].status == 0)
			delivery_settle(d, &d->rcpts[i], RCPT_LOOPED,
			    d->why_dsn, reason);
	delivery_trouble(d, TROUBLE_NONE, NULL);
}

void
delivery_hop_news(struct delivery *d, enum hop_news news, const char *why)
{
	struct buf *b;

	if (d->pool.n == 0 || d->fell_back || d->qmgr == NULL ||
	    d->hop_told)
		return;
	d->hop_told = true;
	b = chan_begin(d->qmgr, MSG_HOP);
	put_view(b, d->pool);
	put_view(b, d->hop_text);
	put_u8(b, (uint8_t)news);
	put_view(b, view_head(view_of(why), DELIVERY_REASON_MAX));
	chan_end(d->qmgr);
}

/*
 * Report to qmgr.  Reasons are cut if there are so many recipients that the
 * report would pass what a channel carries.
 */
static void
mail_report(struct delivery *d)
{
	size_t max = REPORT_MAX / d->n_rcpts;
	struct delivery_rcpt *rcpt;
	struct buf *b;
	uint32_t i;

	b = chan_begin(d->qmgr, MSG_DELIVERED);
	put_u64(b, d->number);
	put_u8(b, (uint8_t)(d->trouble != 0 ? d->trouble : TROUBLE_NONE));
	put_view(b, view_of(d->trouble > TROUBLE_NONE ? d->why : ""));
	put_u32(b, d->n_rcpts);
	for (i = 0; i < d->n_rcpts; i++) {
		rcpt = &d->rcpts[i];
		put_u32(b, rcpt->index);
		put_u8(b, (uint8_t)rcpt->status);
		put_view(b, view_of(rcpt->dsn));
		put_view(b, view_head(rcpt->reason, max));
		put_view(b, view_head(rcpt->mta, 64));
	}
	chan_end(d->qmgr);
}

static void
probe_report(struct delivery *d)
{
	const struct delivery_rcpt *rcpt = &d->rcpts[0];
	enum probe_result result = rcpt->status == RCPT_SENT ?
	    PROBE_DELIVERABLE : d->said_no ? PROBE_UNDELIVERABLE :
	    rcpt->status == RCPT_LOOPED ? PROBE_LOOPED : PROBE_UNKNOWN;
	struct buf *b = chan_begin(d->qmgr, MSG_PROBED);

	put_u64(b, d->number);
	put_u8(b, (uint8_t)(d->trouble != 0 ? d->trouble : TROUBLE_NONE));
	put_view(b, view_of(d->trouble > TROUBLE_NONE ? d->why : ""));
	put_u8(b, (uint8_t)result);
	put_view(b, view_of(rcpt->dsn));
	put_view(b, rcpt->reason);
	chan_end(d->qmgr);
}

void
delivery_report(struct delivery *d)
{
	if (d->qmgr == NULL)
		return;
	if (d->proxy != NULL)
		proxy_report(d);
	else if (d->probe)
		probe_report(d);
	else
		mail_report(d);
}
