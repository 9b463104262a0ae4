#include <time.h>

#include "lib/address.h"
#include "rules/tlsrpt_report.h"

#define LINE_BYTES	57u	/* that base64 makes 76 of */

void
tlsrpt_report_id(const struct tlsrpt_report *r, struct buf *out)
{
	(void)buf_printf(out, "%.*s.%lld-%lld@%s", VIEW_ARGS(r->domain),
	    (long long)r->since, (long long)r->until, r->submitter);
}

void
tlsrpt_report_file(const struct tlsrpt_report *r, struct buf *out)
{
	(void)buf_printf(out, "%s!%.*s!%lld!%lld.json.gz", r->submitter,
	    VIEW_ARGS(r->domain), (long long)r->since, (long long)r->until);
}

/* -- JSON (RFC 8259) ------------------------------------------------------- */

static bool
json_string(struct buf *out, struct view v)
{
	bool utf8 = address_utf8(v, NULL), ok = buf_putc(out, '"');
	size_t i;

	for (i = 0; i < v.n; i++) {
		unsigned char c = (unsigned char)v.p[i];

		if (c == '"' || c == '\\')
			ok = buf_printf(out, "\\%c", c);
		else if (c < ' ' || c == 127)
			ok = buf_printf(out, "\\u%04x", c);
		else
			ok = buf_putc(out, c > 127 && !utf8 ? '?' : (char)c);
	}
	return ok && buf_putc(out, '"');
}

/* "name": "value", with a comma in front or not; each on a line. */
static void
json_member(struct buf *out, bool first, const char *name, struct view v)
{
	(void)buf_printf(out, "%s\"%s\":", first ? "" : ",\n", name);
	(void)json_string(out, v);
}

static void
json_time(struct buf *out, bool first, const char *name, int64_t s)
{
	time_t t = (time_t)s;
	struct tm tm = { 0 };
	char text[40] = "";

	(void)gmtime_r(&t, &tm);
	(void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_member(out, first, name, view_of(text));
}

/* Those of lines that begin with key, "" being none, without that. */
static void
json_lines(struct buf *out, const char *name, struct view lines,
    const char *key)
{
	struct view line;
	bool first = true;

	(void)buf_printf(out, ",\n\"%s\":[", name);
	while (lines.n > 0) {
		line = view_head(lines, view_find(lines, '\n'));
		lines = view_from(lines, line.n + 1);
		if (!view_starts_nocase(line, key))
			continue;
		if (!first)
			(void)buf_puts(out, ",\n");
		first = false;
		(void)json_string(out, view_trim(view_from(line,
		    strlen(key))));
	}
	(void)buf_putc(out, ']');
}

static void
json_failure(struct buf *out, bool first, const struct tlsrpt_failure *f)
{
	static const char *const names[TLSRPT_TEXTS] = {
		[TLSRPT_SENDING_IP] = "sending-mta-ip",
		[TLSRPT_MX_HOST] = "receiving-mx-hostname",
		[TLSRPT_IP] = "receiving-ip",
		[TLSRPT_REASON] = "failure-reason-code",
	};
	size_t i;

	(void)buf_puts(out, first ? "{" : ",\n{");
	json_member(out, true, "result-type",
	    view_of(tlsrpt_result_name(f->result)));
	for (i = 0; i < TLSRPT_TEXTS; i++)
		if (f->text[i][0] != '\0')
			json_member(out, false, names[i],
			    view_of(f->text[i]));
	(void)buf_printf(out, ",\n\"failed-session-count\":%llu}",
	    (unsigned long long)f->n);
}

static void
json_policy(struct buf *out, struct view domain,
    const struct tlsrpt_policy *p)
{
	const struct tlsrpt_failure *f;

	(void)buf_puts(out, "{\"policy\":{");
	json_member(out, true, "policy-type",
	    view_of(tlsrpt_policy_name(p->type)));
	if (p->lines[0] != '\0')
		json_lines(out, "policy-string", view_of(p->lines), "");
	json_member(out, false, "policy-domain", domain);
	if (p->type == TLSRPT_STS && p->lines[0] != '\0')
		json_lines(out, "mx-host", view_of(p->lines), "mx:");
	(void)buf_printf(out, "},\n\"summary\":{"
	    "\"total-successful-session-count\":%llu,\n"
	    "\"total-failure-session-count\":%llu}",
	    (unsigned long long)p->succeeded, (unsigned long long)p->failed);
	if (!TAILQ_EMPTY(&p->failures)) {
		(void)buf_puts(out, ",\n\"failure-details\":[");
		TAILQ_FOREACH(f, &p->failures, link)
			json_failure(out, f == TAILQ_FIRST(&p->failures), f);
		(void)buf_putc(out, ']');
	}
	(void)buf_putc(out, '}');
}

bool
tlsrpt_report_json(const struct tlsrpt_report *r,
    const struct tlsrpt_tally *t, struct buf *out)
{
	const struct tlsrpt_policy *p;
	struct buf id;

	buf_init(&id, 2000);
	tlsrpt_report_id(r, &id);
	(void)buf_putc(out, '{');
	json_member(out, true, "organization-name", view_of(r->organization));
	(void)buf_puts(out, ",\n\"date-range\":{");
	json_time(out, true, "start-datetime", r->since);
	json_time(out, false, "end-datetime", r->until);
	(void)buf_putc(out, '}');
	json_member(out, false, "contact-info", view_of(r->contact));
	json_member(out, false, "report-id", buf_view(&id));
	(void)buf_puts(out, ",\n\"policies\":[");
	TAILQ_FOREACH(p, &t->policies, link) {
		if (p != TAILQ_FIRST(&t->policies))
			(void)buf_puts(out, ",\n");
		json_policy(out, r->domain, p);
	}
	buf_free(&id);
	/* What was over the maximum before leaves no room for this. */
	return out->n + 4096 < out->max && buf_puts(out, "]}\n");
}

/* -- mail ------------------------------------------------------------------ */

static void
put_base64(struct buf *out, struct view v)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned long w;
	size_t i, k, n;

	for (i = 0; i < v.n; i += n) {
		n = v.n - i < 3 ? v.n - i : 3;
		w = 0;
		for (k = 0; k < 3; k++)
			w = w << 8 | (k < n ? (unsigned char)v.p[i + k] : 0);
		for (k = 0; k < 4; k++)
			(void)buf_putc(out, k > n ? '=' :
			    digits[w >> (18 - 6 * k) & 63]);
		if ((i + n) % LINE_BYTES == 0 || i + n == v.n)
			(void)buf_puts(out, "\r\n");
	}
}

static void
put_date(struct buf *out, struct wall now)
{
	time_t s = (time_t)(now.us / 1000000);
	struct tm tm = { 0 };
	char text[64] = "";

	(void)gmtime_r(&s, &tm);
	/* Names of days and months are English in the C locale. */
	(void)strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S +0000", &tm);
	(void)buf_puts(out, text);
}

/* In a header of ours: no control bytes, ASCII. */
static void
put_clean(struct buf *out, const char *s)
{
	for (; *s != '\0'; s++)
		(void)buf_putc(out, *s >= ' ' && *s <= '~' ? *s : '?');
}

static void
put_headers(const struct tlsrpt_report *r, const struct view *to, size_t n_to,
    struct wall now, struct view id, struct buf *out)
{
	size_t i;

	(void)buf_puts(out, "Date: ");
	put_date(out, now);
	(void)buf_puts(out, "\r\nFrom: ");
	(void)address_quote(view_of(r->from), out);
	for (i = 0; i < n_to; i++) {
		(void)buf_puts(out, i == 0 ? "\r\nTo: " : ",\r\n\t");
		(void)address_quote(to[i], out);
	}
	(void)buf_printf(out, "\r\nSubject: Report Domain: %.*s\r\n"
	    " Submitter: %s\r\n Report-ID: <%.*s>\r\n"
	    "TLS-Report-Domain: %.*s\r\nTLS-Report-Submitter: %s\r\n"
	    "TLS-Required: No\r\nAuto-Submitted: auto-generated\r\n"
	    "Message-ID: <tlsrpt.%.*s>\r\nMIME-Version: 1.0\r\n"
	    "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n"
	    "\tboundary=\"=_tlsrpt_%lld\"\r\n\r\n", VIEW_ARGS(r->domain),
	    r->submitter, VIEW_ARGS(id), VIEW_ARGS(r->domain), r->submitter,
	    VIEW_ARGS(id), (long long)now.us);
}

bool
tlsrpt_report_mail(const struct tlsrpt_report *r, struct view gzip,
    const struct view *to, size_t n_to, struct wall now, struct buf *out)
{
	struct buf id, name;

	buf_init(&id, 2000);
	buf_init(&name, 2000);
	tlsrpt_report_id(r, &id);
	tlsrpt_report_file(r, &name);
	put_headers(r, to, n_to, now, buf_view(&id), out);
	(void)buf_printf(out, "--=_tlsrpt_%lld\r\n"
	    "Content-Type: text/plain; charset=us-ascii\r\n\r\n"
	    "This is an aggregate report on TLS connections to the mail "
	    "servers of\r\n%.*s, sent by ", (long long)now.us,
	    VIEW_ARGS(r->domain));
	put_clean(out, r->organization);
	(void)buf_puts(out, " (");
	put_clean(out, r->contact);
	(void)buf_printf(out, ").\r\n\r\n--=_tlsrpt_%lld\r\n"
	    "Content-Type: application/tlsrpt+gzip\r\n"
	    "Content-Transfer-Encoding: base64\r\n"
	    "Content-Disposition: attachment;\r\n\tfilename=\"%s\"\r\n\r\n",
	    (long long)now.us, buf_cstr(&name));
	put_base64(out, gzip);
	(void)buf_printf(out, "\r\n--=_tlsrpt_%lld--\r\n", (long long)now.us);
	buf_free(&id);
	buf_free(&name);
	return out->n + 4096 < out->max;
}
