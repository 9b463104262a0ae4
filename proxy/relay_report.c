#include "lib/chan.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_proxy.h"

#define REPORT_MAX	(3u << 20)	/* bytes of all reasons in a report */

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
	    PROBE_UNKNOWN;
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
