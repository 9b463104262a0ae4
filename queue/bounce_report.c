#include <stdio.h>
#include <time.h>

#include "lib/address.h"
#include "lib/dsn.h"
#include "queue/bounce_report.h"

#define LINE_SOFT	72u	/* where a line is folded if it can be */
#define WORD_MAX	400u	/* bytes that stand together at most */
#define FIELD_MAX	900u	/* bytes of an address */

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

bool
bounce_for_postmaster(enum notice_kind kind)
{
	return kind == NOTICE_FAILURE_COPY || kind == NOTICE_DELAY_COPY ||
	    kind == NOTICE_DOUBLE;
}

bool
bounce_is_global(const struct envelope *e)
{
	return (e->flags & ENVELOPE_SMTPUTF8) != 0 || view_8bit(e->sender);
}

/* As the message does not. */
static bool
bounce_needs_no_tls(const struct envelope *e)
{
	return (e->flags & (ENVELOPE_TLS_OPTIONAL | ENVELOPE_REQUIRETLS)) ==
	    ENVELOPE_TLS_OPTIONAL;
}

/* -- pieces of text ----------------------------------------------------------- */

/* Bytes of the character at the start of v, if it may be written. */
static size_t
clean_size(struct view v, bool utf8)
{
	unsigned char c = (unsigned char)v.p[0];
	size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

	if (c < 0x80)
		return c >= ' ' && c != 0x7f;
	return utf8 && n > 1 && n <= v.n &&
	    address_utf8(view_head(v, n), NULL) ? n : 0;
}

/* v without what has no place in a report, each byte of that as '?'. */
static bool
put_clean(struct buf *out, struct view v, bool utf8)
{
	size_t n;

	for (; v.n > 0; v = view_from(v, n > 0 ? n : 1)) {
		n = clean_size(v, utf8);
		if (!(n > 0 ? buf_put(out, v.p, n) : buf_putc(out, '?')))
			return false;
	}
	return true;
}

/* At most max bytes of v, not within a character. */
static struct view
cut(struct view v, size_t max)
{
	size_t n = v.n < max ? v.n : max;

	while (n > 0 && n < v.n && ((unsigned char)v.p[n] & 0xc0) == 0x80)
		n--;
	return view_head(v, n > 0 ? n : max);
}

/* Folded text for people: peers' replies may be long.  column: where it
 * begins. */
static bool
put_folded(struct buf *out, struct view text, size_t column, bool utf8)
{
	bool first = true;
	struct view w, part;

	while ((w = view_word(&text, " \t\r\n")).n > 0) {
		do {
			part = cut(w, WORD_MAX);
			if (!first && column + part.n >= LINE_SOFT) {
				if (!buf_puts(out, "\r\n    "))
					return false;
				column = 4;
			} else if (!first) {
				if (!buf_putc(out, ' '))
					return false;
				column++;
			}
			if (!put_clean(out, part, utf8))
				return false;
			column += part.n;
			first = false;
			w = view_from(w, part.n);
		} while (w.n > 0);
	}
	return true;
}

/* The mail name where only a token may stand. */
static bool
put_token(struct buf *out, const char *name)
{
	bool any = false;

	for (; *name != '\0'; name++)
		if (isalnum((unsigned char)*name) ||
		    (any && *name == '-')) {
			if (!buf_putc(out, *name))
				return false;
			any = true;
		}
	return any || buf_puts(out, "Postern");
}

/*
 * "type; address".  In a report that is not global, UTF-8 stands in the form
 * of RFC 6533 section 3 for ASCII.
 */
static bool
put_typed(struct buf *out, struct view type, struct view addr, bool global)
{
	bool utf8 = view_is_nocase(type, "utf-8");
	size_t start;

	if (!put_clean(out, type, false) || !buf_puts(out, "; "))
		return false;
	if (!utf8 || global)
		return put_clean(out, cut(addr, FIELD_MAX), utf8);
	start = out->n;
	if (!unitext_put(out, addr))
		return false;
	if (out->n - start > FIELD_MAX) {
		/* A field cannot be folded here; not within "\x{..}". */
		out->n = start + FIELD_MAX;
		while (out->n > start + FIELD_MAX - 10 &&
		    out->p[out->n] != '\\')
			out->n--;
	}
	return true;
}

static bool
put_address(struct buf *out, struct view addr, bool global)
{
	struct buf b;
	bool ok;

	buf_init(&b, 2 * ADDRESS_MAX + 2);
	ok = address_quote(addr, &b) && put_typed(out, view_of(view_8bit(addr) ?
	    "utf-8" : "rfc822"), buf_view(&b), global);
	buf_free(&b);
	return ok;
}

/* -- what a report of this kind says ------------------------------------------- */

static const struct bounce_template *
facts_template(const struct bounce_facts *f)
{
	return &f->templates->list[f->kind == NOTICE_SUCCESS ?
	    TEMPLATE_SUCCESS : f->kind == NOTICE_DELAY ||
	    f->kind == NOTICE_DELAY_COPY ? TEMPLATE_DELAY : TEMPLATE_FAILURE];
}

static const char *
outcome_action(const struct bounce_outcome *o)
{
	switch (o->fate) {
	case RCPT_DEFERRED:
		return "delayed";
	case RCPT_RELAYED:
		return "relayed";
	case RCPT_EXPANDED:
		return "expanded";
	case RCPT_SENT:
	case RCPT_DELIVERED:
		return "delivered";
	case RCPT_BOUNCED:
	case RCPT_LOOPED:
		break;
	}
	return "failed";
}

/* RFC 3463: class "." 1*3DIGIT "." 1*3DIGIT; else what is always true. */
static struct view
outcome_status(const struct bounce_outcome *o)
{
	struct view v = o->status;
	size_t i, digits = 0, dots = 0;
	bool good = v.n > 0 && strchr("245", v.p[0]) != NULL;

	for (i = 0; good && i < v.n; i++) {
		if (v.p[i] == '.') {
			good = digits > 0 && (dots > 0 || digits == 1);
			digits = 0;
			dots++;
		} else {
			good = isdigit((unsigned char)v.p[i]) && ++digits <= 3;
		}
	}
	if (good && dots == 2 && digits > 0)
		return v;
	return view_of(o->fate == RCPT_BOUNCED ? "5.0.0" :
	    o->fate == RCPT_DEFERRED ? "4.0.0" : "2.0.0");
}

/* The reply within "host X said: 550 no (in reply to RCPT TO command)". */
static struct view
outcome_reply(const struct bounce_outcome *o)
{
	static const char said[] = " said: ", reply[] = " (in reply to ";
	struct view v = o->reason;
	const char *p;

	if (o->mta.n == 0)
		return view_make("", 0);
	p = memmem(v.p, v.n, said, sizeof said - 1);
	if (view_starts_nocase(v, "host ") && p != NULL)
		v = view_from(v, (size_t)(p - v.p) + sizeof said - 1);
	p = memmem(v.p, v.n, reply, sizeof reply - 1);
	if (p != NULL)
		v = view_head(v, (size_t)(p - v.p));
	return v.n >= 3 && strchr("245", v.p[0]) != NULL &&
	    isdigit((unsigned char)v.p[1]) && isdigit((unsigned char)v.p[2]) ?
	    v : view_make("", 0);
}

/* -- the parts ------------------------------------------------------------------ */

static bool
put_from(const struct bounce_facts *f, struct view from, struct buf *out)
{
	struct view rest = from, word;

	/* "MAILER-DAEMON (Mail Delivery System)" gets our domain. */
	if (view_find(from, '@') < from.n)
		return buf_putv(out, from);
	word = view_word(&rest, " ");
	return buf_putv(out, word) &&
	    buf_printf(out, "@%s", f->cf->myorigin) && buf_putv(out, rest);
}

static bool
put_headers(const struct bounce_facts *f, const char *boundary,
    bool body_8bit, struct buf *out)
{
	const struct bounce_template *t = facts_template(f);
	const struct conf *cf = f->cf;
	char id[QUEUE_ID_TEXT], stamp[32];
	time_t s = (time_t)(f->now.us / 1000000);
	struct view subject = t->subject;
	struct tm tm;

	if (bounce_for_postmaster(f->kind) && t->postmaster_subject.n > 0)
		subject = t->postmaster_subject;
	queue_id_text(f->note, id);
	if (gmtime_r(&s, &tm) == NULL ||
	    strftime(stamp, sizeof stamp, "%Y%m%d%H%M%S", &tm) == 0)
		return false;
	return buf_printf(out, "Received: by %s (%s)\r\n\tid %s; ",
	    cf->myhostname, cf->mail_name, id) && bounce_date(out, f->now) &&
	    (!bounce_needs_no_tls(f->env) ||
	    buf_puts(out, "\r\nTLS-Required: no")) &&
	    buf_puts(out, "\r\nDate: ") && bounce_date(out, f->now) &&
	    buf_puts(out, "\r\nFrom: ") && put_from(f, t->from, out) &&
	    buf_puts(out, "\r\nSubject: ") && buf_putv(out, subject) &&
	    buf_puts(out, "\r\nTo: ") && address_quote(f->to, out) &&
	    buf_printf(out, "\r\nAuto-Submitted: auto-replied\r\n"
	    "MIME-Version: 1.0\r\nContent-Type: multipart/report; "
	    "report-type=%sdelivery-status;\r\n\tboundary=\"%s\"\r\n"
	    "%sMessage-Id: <%s.%s@%s>\r\n\r\n"
	    "This is a MIME-encapsulated message.\r\n\r\n",
	    bounce_is_global(f->env) ? "global-" : "", boundary,
	    body_8bit ? "Content-Transfer-Encoding: 8bit\r\n" : "", stamp, id,
	    cf->myhostname);
}

static bool
put_encoding(struct buf *out, struct view part)
{
	return !view_8bit(part) ||
	    buf_puts(out, "Content-Transfer-Encoding: 8bit\r\n");
}

static bool
put_recipients(const struct bounce_facts *f, bool utf8, struct buf *out)
{
	const struct bounce_outcome *o;
	struct buf addr;
	size_t start;
	uint32_t i;
	bool ok = true;

	buf_init(&addr, 2 * ADDRESS_MAX + 2);
	for (i = 0; ok && i < f->n_outcomes; i++) {
		o = &f->outcomes[i];
		buf_clear(&addr);
		start = out->n;
		ok = address_quote(f->env->rcpts[o->index].addr, &addr) &&
		    buf_putc(out, '<') &&
		    put_clean(out, cut(buf_view(&addr), FIELD_MAX), utf8) &&
		    buf_puts(out, ">:");
		if (ok && o->fate != RCPT_BOUNCED &&
		    o->fate != RCPT_DEFERRED && o->mta.n > 0)
			ok = buf_puts(out, out->n - start > LINE_SOFT ?
			    "\r\n    " : " ") &&
			    buf_puts(out, "delivery via ") &&
			    put_clean(out, cut(o->mta, 300), utf8) &&
			    buf_putc(out, ':');
		ok = ok && buf_puts(out, out->n - start > LINE_SOFT ?
		    "\r\n    " : " ") && put_folded(out, o->reason,
		    out->n - start, utf8) && buf_puts(out, "\r\n\r\n");
	}
	buf_free(&addr);
	return ok;
}

/* Words of the template are in its charset, addresses and replies in UTF-8:
 * where that is not the same, the latter give way. */
static bool
put_explanation(const struct bounce_facts *f, const char *boundary,
    struct buf *out)
{
	const struct bounce_template *t = facts_template(f);
	bool utf8 = !t->is_8bit || view_is_nocase(t->charset, "utf-8");
	struct buf text;
	bool ok = true;

	buf_init(&text, out->max);
	/* The postmaster knows what this is. */
	if (!bounce_for_postmaster(f->kind))
		ok = buf_putv(&text, t->text) && buf_puts(&text, "\r\n");
	ok = ok && put_recipients(f, utf8, &text) &&
	    buf_printf(out, "--%s\r\nContent-Description: Notification\r\n"
	    "Content-Type: text/plain; charset=", boundary) &&
	    buf_putv(out, utf8 && view_8bit(buf_view(&text)) ?
	    view_of("utf-8") : t->charset) && buf_puts(out, "\r\n") &&
	    put_encoding(out, buf_view(&text)) && buf_puts(out, "\r\n") &&
	    buf_putv(out, buf_view(&text));
	buf_free(&text);
	return ok;
}

static bool
put_outcome(const struct bounce_facts *f, const struct bounce_outcome *o,
    bool global, struct buf *out)
{
	const struct recipient *r = &f->env->rcpts[o->index];
	struct view type, addr, reply = outcome_reply(o);
	size_t start;
	bool ok;

	ok = buf_puts(out, "\r\nFinal-Recipient: ") &&
	    put_address(out, r->addr, global);
	if (ok && dsn_orcpt_split(r->orcpt, &type, &addr))
		ok = buf_puts(out, "\r\nOriginal-Recipient: ") &&
		    put_typed(out, type, addr, global);
	ok = ok && buf_printf(out, "\r\nAction: %s\r\nStatus: ",
	    outcome_action(o)) && buf_putv(out, outcome_status(o)) &&
	    buf_puts(out, "\r\n");
	if (ok && o->mta.n > 0)
		ok = buf_puts(out, "Remote-MTA: dns; ") &&
		    put_clean(out, cut(o->mta, 300), global) &&
		    buf_puts(out, "\r\n");
	start = out->n;
	ok = ok && buf_puts(out, "Diagnostic-Code: ");
	if (ok && reply.n > 0)
		ok = buf_puts(out, "smtp; ");
	else if (ok)
		ok = buf_puts(out, "X-") &&
		    put_token(out, f->cf->mail_name) && buf_puts(out, "; ");
	ok = ok && put_folded(out, reply.n > 0 ? reply : o->reason,
	    out->n - start, global) && buf_puts(out, "\r\n");
	if (ok && o->fate == RCPT_DEFERRED)
		ok = buf_puts(out, "Last-Attempt-Date: ") &&
		    bounce_date(out, f->attempt) &&
		    buf_puts(out, "\r\nWill-Retry-Until: ") &&
		    bounce_date(out, f->until) && buf_puts(out, "\r\n");
	return ok;
}

static bool
put_status(const struct bounce_facts *f, const char *boundary,
    struct buf *out)
{
	const struct conf *cf = f->cf;
	bool global = bounce_is_global(f->env), ok;
	char id[QUEUE_ID_TEXT];
	struct buf text;
	uint32_t i;

	buf_init(&text, out->max);
	ok = buf_printf(&text, "Reporting-MTA: dns; %s\r\n", cf->myhostname);
	if (ok && f->env->envid.n > 0)
		ok = buf_puts(&text, "Original-Envelope-Id: ") &&
		    put_clean(&text, f->env->envid, false) &&
		    buf_puts(&text, "\r\n");
	ok = ok && buf_puts(&text, "X-") && put_token(&text, cf->mail_name) &&
	    buf_printf(&text, "-Queue-ID: %s\r\n",
	    queue_id_text(f->id, id));
	if (ok && f->env->sender.n > 0)
		ok = buf_puts(&text, "X-") &&
		    put_token(&text, cf->mail_name) &&
		    buf_puts(&text, "-Sender: ") &&
		    put_address(&text, f->env->sender, global) &&
		    buf_puts(&text, "\r\n");
	ok = ok && buf_puts(&text, "Arrival-Date: ") &&
	    bounce_date(&text, f->arrival) && buf_puts(&text, "\r\n");
	for (i = 0; ok && i < f->n_outcomes; i++)
		ok = put_outcome(f, &f->outcomes[i], global, &text);
	ok = ok && buf_printf(out, "--%s\r\nContent-Description: Delivery "
	    "report\r\nContent-Type: message/%sdelivery-status\r\n", boundary,
	    global ? "global-" : "") && put_encoding(out, buf_view(&text)) &&
	    buf_puts(out, "\r\n") && buf_putv(out, buf_view(&text)) &&
	    buf_puts(out, "\r\n");
	buf_free(&text);
	return ok;
}

static bool
put_original(const struct bounce_facts *f, const char *boundary,
    struct buf *out)
{
	bool global = bounce_is_global(f->env), ok;
	const char *what = f->kind == NOTICE_SUCCESS ? "Message" :
	    f->kind == NOTICE_DELAY || f->kind == NOTICE_DELAY_COPY ?
	    "Delayed Message" : "Undelivered Message";

	ok = buf_printf(out, "--%s\r\nContent-Description: %s%s\r\n"
	    "Content-Type: %s\r\n", boundary, what,
	    f->headers_only ? " Headers" : "", f->headers_only ?
	    global ? "message/global-headers" : "text/rfc822-headers" :
	    global ? "message/global" : "message/rfc822") &&
	    put_encoding(out, f->original) && buf_puts(out, "\r\n") &&
	    buf_putv(out, f->original);
	if (ok && !view_ends_nocase(f->original, view_of("\n")))
		ok = buf_puts(out, "\r\n");
	return ok && buf_printf(out, "\r\n--%s--\r\n", boundary);
}

bool
bounce_report(const struct bounce_facts *f, struct buf *out)
{
	char id[QUEUE_ID_TEXT], boundary[64];
	struct buf body;
	bool ok;

	/* Ids are unique, the time makes it hard to guess beforehand. */
	snprintf(boundary, sizeof boundary, "%s.%lld/postern",
	    queue_id_text(f->note, id), (long long)f->now.us);
	buf_init(&body, out->max);
	ok = put_explanation(f, boundary, &body) &&
	    put_status(f, boundary, &body) &&
	    put_original(f, boundary, &body) &&
	    put_headers(f, boundary, view_8bit(buf_view(&body)), out) &&
	    buf_putv(out, buf_view(&body));
	buf_free(&body);
	return ok;
}
