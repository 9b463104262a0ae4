#include <stdio.h>
#include <time.h>

#include "lib/address.h"
#include "queue/bounce_report.h"

struct view
bounce_headers(struct view text)
{
	const char *end = memmem(text.p, text.n, "\r\n\r\n", 4);

	if (text.n >= 2 && memcmp(text.p, "\r\n", 2) == 0)
		return view_head(text, 2);
	return end != NULL ? view_head(text, (size_t)(end - text.p) + 4) :
	    text;
}

bool
bounce_date(struct buf *out, struct wall t)
{
	time_t s = (time_t)(t.us / 1000000);
	char text[64];
	struct tm tm;

	/* Names of days and months are English in the C locale. */
	if (gmtime_r(&s, &tm) == NULL || strftime(text, sizeof text,
	    "%a, %d %b %Y %H:%M:%S +0000 (UTC)", &tm) == 0)
		return false;
	return buf_puts(out, text);
}

static bool
put_address(struct buf *out, struct view addr)
{
	return address_quote(addr, out);
}

/* Wrapped text for people: peers' replies may be long. */
static bool
put_wrapped(struct buf *out, struct view text, const char *indent)
{
	size_t column = 0;
	struct view w;

	while ((w = view_word(&text, " ")).n > 0) {
		if (column > 0 && column + w.n > 68) {
			if (!buf_printf(out, "\r\n%s", indent))
				return false;
			column = 0;
		}
		if ((column > 0 && !buf_putc(out, ' ')) || !buf_putv(out, w))
			return false;
		column += w.n + 1;
	}
	return true;
}

static bool
put_headers(const struct bounce_facts *f, const char *boundary,
    struct buf *out)
{
	const struct conf *cf = f->cf;
	char id[QUEUE_ID_TEXT], stamp[32];
	time_t s = (time_t)(f->now.us / 1000000);
	struct tm tm;

	queue_id_text(f->note, id);
	if (gmtime_r(&s, &tm) == NULL ||
	    strftime(stamp, sizeof stamp, "%Y%m%d%H%M%S", &tm) == 0)
		return false;
	return buf_printf(out, "Received: by %s (%s)\r\n\tid %s; ",
	    cf->myhostname, cf->mail_name, id) && bounce_date(out, f->now) &&
	    buf_puts(out, "\r\nDate: ") && bounce_date(out, f->now) &&
	    buf_printf(out, "\r\nFrom: MAILER-DAEMON@%s (Mail Delivery "
	    "System)\r\nSubject: Undelivered Mail Returned to Sender\r\nTo: ",
	    cf->myorigin) && put_address(out, f->env->sender) &&
	    buf_printf(out, "\r\nAuto-Submitted: auto-replied\r\n"
	    "MIME-Version: 1.0\r\nContent-Type: multipart/report; "
	    "report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n"
	    "%sMessage-Id: <%s.%s@%s>\r\n\r\n"
	    "This is a MIME-encapsulated message.\r\n\r\n", boundary,
	    (f->env->flags & ENVELOPE_8BIT) != 0 ?
	    "Content-Transfer-Encoding: 8bit\r\n" : "", stamp, id,
	    cf->myhostname);
}

static bool
put_explanation(const struct bounce_facts *f, const char *boundary,
    struct buf *out)
{
	const struct conf *cf = f->cf;
	uint32_t i;
	bool ok;

	ok = buf_printf(out, "--%s\r\nContent-Description: Notification\r\n"
	    "Content-Type: text/plain; charset=%s\r\n\r\n"
	    "This is the mail system at host %s.\r\n\r\n"
	    "Your message could not be delivered to one or more recipients,"
	    "\r\nand the system will not try again.  What each of them means"
	    " is below.\r\nFor help write to <postmaster@%s> and include this"
	    " report.\r\n\r\n", boundary,
	    (f->env->flags & ENVELOPE_SMTPUTF8) != 0 ? "utf-8" : "us-ascii",
	    cf->myhostname, cf->myorigin);
	for (i = 0; ok && i < f->n_failures; i++)
		ok = buf_putc(out, '<') && put_address(out,
		    f->env->rcpts[f->failures[i].index].addr) &&
		    buf_puts(out, ">: ") && put_wrapped(out,
		    f->failures[i].reason, "    ") &&
		    buf_puts(out, "\r\n\r\n");
	return ok;
}

static bool
put_status(const struct bounce_facts *f, const char *boundary,
    struct buf *out)
{
	const struct conf *cf = f->cf;
	const char *type = (f->env->flags & ENVELOPE_SMTPUTF8) != 0 ?
	    "utf-8" : "rfc822";
	const struct bounce_failure *b;
	const struct recipient *r;
	char id[QUEUE_ID_TEXT];
	uint32_t i;
	bool ok;

	ok = buf_printf(out, "--%s\r\nContent-Description: Delivery report"
	    "\r\nContent-Type: message/%sdelivery-status\r\n\r\n"
	    "Reporting-MTA: dns; %s\r\n", boundary,
	    type[0] == 'u' ? "global-" : "", cf->myhostname);
	if (ok && f->env->envid.n > 0)
		ok = buf_puts(out, "Original-Envelope-Id: ") &&
		    buf_putv(out, f->env->envid) && buf_puts(out, "\r\n");
	ok = ok && buf_printf(out, "X-%s-Queue-ID: %s\r\nX-%s-Sender: %s; ",
	    cf->mail_name, queue_id_text(f->id, id), cf->mail_name, type) &&
	    put_address(out, f->env->sender) &&
	    buf_puts(out, "\r\nArrival-Date: ") &&
	    bounce_date(out, f->arrival) && buf_puts(out, "\r\n");
	for (i = 0; ok && i < f->n_failures; i++) {
		b = &f->failures[i];
		r = &f->env->rcpts[b->index];
		ok = buf_printf(out, "\r\nFinal-Recipient: %s; ", type) &&
		    put_address(out, r->addr);
		if (ok && r->orcpt.n > 0)
			ok = buf_puts(out, "\r\nOriginal-Recipient: ") &&
			    buf_putv(out, r->orcpt);
		ok = ok && buf_puts(out, "\r\nAction: failed\r\nStatus: ") &&
		    buf_putv(out, b->status) && buf_puts(out, "\r\n");
		if (ok && b->mta.n > 0)
			ok = buf_puts(out, "Remote-MTA: dns; ") &&
			    buf_putv(out, b->mta) && buf_puts(out, "\r\n");
		ok = ok && buf_printf(out, "Diagnostic-Code: %s; ",
		    b->mta.n > 0 ? "smtp" : "X-Postern") &&
		    put_wrapped(out, b->reason, "    ") &&
		    buf_puts(out, "\r\n");
	}
	return ok && buf_puts(out, "\r\n");
}

static bool
put_original(const struct bounce_facts *f, const char *boundary,
    struct buf *out)
{
	bool ok;

	ok = buf_printf(out, "--%s\r\nContent-Description: %s\r\n"
	    "Content-Type: %s\r\n%s\r\n", boundary,
	    f->headers_only ? "Undelivered Message Headers" :
	    "Undelivered Message",
	    f->headers_only ? "text/rfc822-headers" : "message/rfc822",
	    (f->env->flags & ENVELOPE_8BIT) != 0 ?
	    "Content-Transfer-Encoding: 8bit\r\n" : "") &&
	    buf_putv(out, f->original);
	if (ok && !view_ends_nocase(f->original, view_of("\n")))
		ok = buf_puts(out, "\r\n");
	return ok && buf_printf(out, "\r\n--%s--\r\n", boundary);
}

bool
bounce_report(const struct bounce_facts *f, struct buf *out)
{
	char id[QUEUE_ID_TEXT], boundary[64];

	/* Ids are unique, the time makes it hard to guess beforehand. */
	snprintf(boundary, sizeof boundary, "%s.%lld/postern",
	    queue_id_text(f->note, id), (long long)f->now.us);
	return put_headers(f, boundary, out) &&
	    put_explanation(f, boundary, out) &&
	    put_status(f, boundary, out) && put_original(f, boundary, out);
}
