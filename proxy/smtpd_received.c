/* The trace header (RFC 5321 section 4.4), in Postfix's form. */
#include <time.h>

#include "lib/address.h"
#include "lib/clock.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_tls.h"

/* Made once a second. */
const char *
received_date(void)
{
	static const char *const day[] = { "Sun", "Mon", "Tue", "Wed", "Thu",
		"Fri", "Sat" };
	static const char *const month[] = { "Jan", "Feb", "Mar", "Apr", "May",
		"Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	static char text[80];
	static time_t made;
	time_t now = (time_t)(clock_wall().us / 1000000);
	struct tm tm;
	struct buf b;
	long off;

	if (now == made)
		return text;
	made = now;
	localtime_r(&now, &tm);
	off = tm.tm_gmtoff / 60;
	buf_init(&b, sizeof text - 1);
	/* Not strftime(): the names must not follow a locale. */
	(void)buf_printf(&b, "%s, %d %s %d %02d:%02d:%02d %c%02ld%02ld",
	    day[tm.tm_wday], tm.tm_mday, month[tm.tm_mon], tm.tm_year + 1900,
	    tm.tm_hour, tm.tm_min, tm.tm_sec, off < 0 ? '-' : '+',
	    (off < 0 ? -off : off) / 60, (off < 0 ? -off : off) % 60);
	(void)buf_printf(&b, " (%.10s)", tm.tm_zone);
	memcpy(text, b.p, b.n);
	text[b.n] = '\0';
	buf_free(&b);
	return text;
}

/* A comment of RFC 5322 section 3.2.2. */
static void
received_login(const struct session *s, struct buf *out)
{
	const char *p;

	(void)buf_puts(out, "\t(Authenticated sender: ");
	for (p = s->login->name; *p != '\0'; p++) {
		if (strchr("()\\", *p) != NULL)
			(void)buf_putc(out, '\\');
		(void)buf_putc(out, *p);
	}
	(void)buf_puts(out, ")\r\n");
}

void
received_put(const struct session *s, struct buf *out)
{
	const struct transaction *tx = s->tx;
	const struct conf *cf = s->server->cf;
	struct view name = session_client_name(s);
	char addr[NETADDR_TEXT], id[QUEUE_ID_TEXT];

	(void)buf_printf(out, "Received: from %s (%.*s [%s%s])\r\n",
	    s->helo != NULL ? s->helo : "unknown", VIEW_ARGS(name),
	    s->addr.family == AF_INET6 ? "IPv6:" : "",
	    netaddr_text(&s->addr, addr));
	if (tls_active(s) && cf->smtpd_tls_received_header)
		tls_info_received(tls_session_info(s), out);
	if (s->login != NULL && cf->smtpd_sasl_authenticated_header)
		received_login(s, out);
	/* The letters are those of ESMTP: RFC 3848. */
	(void)buf_printf(out, "\tby %s (%s) with %s%s%s id %s", cf->myhostname,
	    cf->mail_name, (tx->flags & ENVELOPE_SMTPUTF8) != 0 ? "UTF8SMTP" :
	    s->esmtp ? "ESMTP" : "SMTP", s->esmtp && tls_active(s) ? "S" : "",
	    s->esmtp && s->login != NULL ? "A" : "",
	    session_queue_id(s, id));
	/* More than one would tell recipients about each other. */
	if (tx->nrcpts == 1) {
		(void)buf_puts(out, "\r\n\tfor <");
		(void)address_quote(tx->rcpts[0].addr, out);
		(void)buf_printf(out, ">; %s\r\n", received_date());
	} else
		(void)buf_printf(out, ";\r\n\t%s\r\n", received_date());
}
