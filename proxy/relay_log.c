#include "lib/log.h"
#include "proxy/relay_log.h"

#define SECOND	1000000

bool
relay_log_delay(struct buf *b, int64_t us)
{
	int64_t unit, hundredths;

	if (us < 0)
		us = 0;		/* the clock was set back */
	unit = us >= 10 * SECOND ? SECOND : us >= SECOND ? SECOND / 10 :
	    SECOND / 100;
	hundredths = (us + unit / 2) / unit * unit / (SECOND / 100);
	if (!buf_printf(b, "%lld", (long long)(hundredths / 100)))
		return false;
	hundredths %= 100;
	if (hundredths == 0)
		return true;
	if (hundredths % 10 == 0)
		return buf_printf(b, ".%d", (int)(hundredths / 10));
	return buf_printf(b, ".%02d", (int)hundredths);
}

/* a: before the active queue, b: in it, c: connecting, d: sending */
static bool
log_delays(struct buf *b, const struct relay_times *t, struct wall now)
{
	struct wall ready = t->ready.us != 0 ? t->ready : now;

	return relay_log_delay(b, t->active.us - t->arrival.us) &&
	    buf_putc(b, '/') &&
	    relay_log_delay(b, t->begun.us - t->active.us) &&
	    buf_putc(b, '/') &&
	    relay_log_delay(b, ready.us - t->begun.us) &&
	    buf_putc(b, '/') &&
	    relay_log_delay(b, now.us - ready.us);
}

static const char *
log_status(const struct relay_line *l)
{
	bool sent = l->status == RCPT_SENT || l->status == RCPT_RELAYED;
	bool failed = l->status == RCPT_BOUNCED;

	if (l->probe)
		return sent ? "deliverable" : failed ? "undeliverable" :
		    "unknown";
	return sent ? "sent" : failed ? "bounced" : "deferred";
}

bool
relay_log_line(struct buf *b, const struct relay_line *l,
    const struct relay_times *t, struct wall now)
{
	return buf_printf(b, "%s: to=<%s>, ", l->id,
	    log_safe(l->recipient)) &&
	    (l->orig.n == 0 ||
	    buf_printf(b, "orig_to=<%s>, ", log_safe(l->orig))) &&
	    buf_printf(b, "relay=%s, ", log_safe(view_of(l->relay))) &&
	    (l->uses < 2 || buf_printf(b, "conn_use=%u, ", l->uses)) &&
	    buf_puts(b, "delay=") &&
	    relay_log_delay(b, now.us - t->arrival.us) &&
	    buf_puts(b, ", delays=") && log_delays(b, t, now) &&
	    (l->tls == NULL || buf_printf(b, ", tls=%s", l->tls)) &&
	    buf_printf(b, ", dsn=%s, status=%s (%s)", l->dsn,
	    log_status(l),
	    log_safe(l->reason));
}
