#include <stdio.h>
#include <time.h>

#include "queue/queue_show.h"

#define REASON_COLUMN	76	/* where the reasons end */
#define HELD_RECIPIENTS	10u	/* named in a list */

const char show_heading[] =
    "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n";

/*
 * Length of the UTF-8 character at p (RFC 3629), 0 if there is none; C1
 * controls, which some terminals obey, count as none.
 */
static size_t
utf8_length(const unsigned char *p, size_t n)
{
	size_t len, i;

	if (p[0] < 0x80)
		return 1;
	len = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 :
	    p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;
	if (len == 0 || len > n)
		return 0;
	for (i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xc2 && p[1] < 0xa0) || (p[0] == 0xe0 && p[1] < 0xa0) ||
	    (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

bool
show_text(struct buf *b, struct view v)
{
	const unsigned char *p = (const unsigned char *)v.p;
	size_t i, len;
	bool ok = true;

	for (i = 0; ok && i < v.n; i += len) {
		len = utf8_length(p + i, v.n - i);
		if (len == 0 || p[i] < ' ' || p[i] == 0x7f) {
			len = 1;
			ok = buf_putc(b, '?');
		} else {
			ok = buf_put(b, p + i, len);
		}
	}
	return ok;
}

static bool
json_char(struct buf *b, unsigned char c)
{
	switch (c) {
	case '"':
		return buf_puts(b, "\\\"");
	case '\\':
		return buf_puts(b, "\\\\");
	case '\n':
		return buf_puts(b, "\\n");
	case '\r':
		return buf_puts(b, "\\r");
	case '\t':
		return buf_puts(b, "\\t");
	default:
		if (c < ' ' || c == 0x7f)
			return buf_printf(b, "\\u%04X", c);
		return buf_putc(b, (char)c);
	}
}

bool
show_json_string(struct buf *b, struct view v)
{
	const unsigned char *p = (const unsigned char *)v.p;
	bool ok = buf_putc(b, '"');
	size_t i, len;

	for (i = 0; ok && i < v.n; i += len) {
		len = utf8_length(p + i, v.n - i);
		if (len == 1) {
			ok = json_char(b, p[i]);
		} else if (len > 1) {
			ok = buf_put(b, p + i, len);
		} else if (p[i] == 0xc2 && i + 1 < v.n && p[i + 1] >= 0x80 &&
		    p[i + 1] < 0xa0) {
			len = 2;	/* a C1 control */
			ok = buf_printf(b, "\\u%04X", p[i + 1]);
		} else {
			len = 1;
			ok = buf_puts(b, "\xef\xbf\xbd");
		}
	}
	return ok && buf_putc(b, '"');
}

static struct view
shown_sender(const struct queue_entry *e)
{
	return e->env.sender.n > 0 ? e->env.sender : view_of("MAILER-DAEMON");
}

static bool
listing_recipient(struct buf *b, struct view addr, struct view reason,
    struct view *last)
{
	int pad = REASON_COLUMN - (int)(reason.n < REASON_COLUMN ? reason.n :
	    REASON_COLUMN);

	if (reason.n > 0 && !view_eq(reason, *last))
		if (!buf_printf(b, "%*s(", pad, "") || !show_text(b, reason) ||
		    !buf_puts(b, ")\n"))
			return false;
	*last = reason;
	return buf_printf(b, "%-11s %7s %-20s ", "", "", "") &&
	    show_text(b, addr) && buf_putc(b, '\n');
}

bool
show_listing(struct buf *b, const struct queue_entry *e, bool more)
{
	char id[QUEUE_ID_TEXT], when[64] = "?", name[QUEUE_ID_TEXT + 3];
	time_t arrival = (time_t)(e->arrival.us / 1000000);
	struct view reason, last = view_make("", 0);
	struct tm tm;
	bool bounced;
	uint32_t i;
	bool ok;

	if (localtime_r(&arrival, &tm) != NULL)
		(void)strftime(when, sizeof when, "%a %b %e %H:%M:%S ", &tm);
	snprintf(name, sizeof name, "%s%s%s", queue_id_text(e->id, id),
	    e->place == PLACE_ACTIVE ? "*" : e->place == PLACE_HOLD ? "!" :
	    "", e->expire ? "#" : "");
	/* Eleven digits and a mark take one column of the size's. */
	ok = buf_printf(b, "%-12s %6llu %20.20s ", name,
	    (unsigned long long)e->text_size, when) &&
	    show_text(b, shown_sender(e)) && buf_putc(b, '\n');
	if (more && e->past.held.n > 0 && e->place == PLACE_HOLD)
		ok = ok && buf_puts(b, "    (held: ") &&
		    show_text(b, e->past.held) && buf_puts(b, ")\n");
	for (i = 0; ok && i < e->env.nrcpts; i++) {
		reason = queue_entry_reason(e, i, &bounced);
		/* Done, and not waiting for a notification either. */
		if (e->status.p[i] != '.')
			continue;
		ok = listing_recipient(b, e->env.rcpts[i].addr, reason, &last);
	}
	return ok;
}

static bool
show_open_recipients(struct buf *b, const struct queue_entry *e)
{
	const char *comma = "";
	uint32_t i, shown = 0, left = 0;
	bool ok = true;

	for (i = 0; ok && i < e->env.nrcpts; i++) {
		if (e->status.p[i] != '.')
			continue;
		if (shown++ >= HELD_RECIPIENTS) {
			left++;
			continue;
		}
		ok = buf_puts(b, comma) && show_text(b, e->env.rcpts[i].addr);
		comma = ", ";
	}
	return ok && (left == 0 || buf_printf(b, " and %u more", left));
}

bool
show_held(struct buf *b, const struct queue_entry *e)
{
	char id[QUEUE_ID_TEXT], when[64] = "?";
	time_t arrival = (time_t)(e->arrival.us / 1000000);
	struct tm tm;

	if (localtime_r(&arrival, &tm) != NULL)
		(void)strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
	return buf_printf(b, "%s  %s  %llu bytes\n    from ",
	    queue_id_text(e->id, id), when,
	    (unsigned long long)e->text_size) &&
	    show_text(b, shown_sender(e)) && buf_puts(b, " to ") &&
	    show_open_recipients(b, e) && buf_puts(b, "\n    ") &&
	    show_text(b, e->past.held.n > 0 ? e->past.held :
	    view_of("placed on hold by an administrator")) &&
	    buf_putc(b, '\n');
}

/* RFC 3461 section 4.2: "rfc822;user@example.com" */
static struct view
original_address(const struct recipient *r)
{
	return view_starts_nocase(r->orcpt, "rfc822;") ?
	    view_from(r->orcpt, strlen("rfc822;")) : view_make("", 0);
}

static bool
json_recipient(struct buf *b, const struct queue_entry *e, uint32_t i)
{
	const struct recipient *r = &e->env.rcpts[i];
	struct view orig = original_address(r), reason;
	bool ok, bounced;

	reason = queue_entry_reason(e, i, &bounced);
	ok = buf_puts(b, "{\"address\": ") && show_json_string(b, r->addr);
	if (orig.n > 0 && !view_eq(orig, r->addr))
		ok = ok && buf_puts(b, ", \"orig_address\": ") &&
		    show_json_string(b, orig);
	if (reason.n > 0)
		ok = ok && buf_puts(b, bounced ? ", \"bounce_reason\": " :
		    ", \"delay_reason\": ") && show_json_string(b, reason);
	return ok && buf_putc(b, '}');
}

static bool
json_more(struct buf *b, const struct queue_entry *e)
{
	bool ok = buf_printf(b, ", \"attempts\": %u", e->past.attempts);

	if (e->past.last.us > 0)
		ok = ok && buf_printf(b, ", \"last_attempt\": %lld",
		    (long long)(e->past.last.us / 1000000));
	if (e->next.us > 0)
		ok = ok && buf_printf(b, ", \"next_attempt\": %lld",
		    (long long)(e->next.us / 1000000));
	if (e->place == PLACE_HOLD && e->past.held.n > 0)
		ok = ok && buf_puts(b, ", \"hold_reason\": ") &&
		    show_json_string(b, e->past.held);
	return ok;
}

bool
show_json(struct buf *b, const struct queue_entry *e, bool more)
{
	char id[QUEUE_ID_TEXT];
	const char *comma = "";
	uint32_t i;
	bool ok;

	ok = buf_printf(b, "{\"queue_name\": \"%s\", \"queue_id\": \"%s\", "
	    "\"arrival_time\": %lld, \"message_size\": %llu, "
	    "\"forced_expire\": %s, \"sender\": ",
	    spool_place_names[e->place], queue_id_text(e->id, id),
	    (long long)(e->arrival.us / 1000000),
	    (unsigned long long)e->text_size, e->expire ? "true" : "false") &&
	    show_json_string(b, shown_sender(e));
	if (more)
		ok = ok && json_more(b, e);
	ok = ok && buf_puts(b, ", \"recipients\": [");
	for (i = 0; ok && i < e->env.nrcpts; i++) {
		if (e->status.p[i] != '.')
			continue;
		ok = buf_puts(b, comma) && json_recipient(b, e, i);
		comma = ", ";
	}
	return ok && buf_puts(b, "]}\n");
}

bool
show_total(struct buf *b, uint64_t bytes, uint64_t messages)
{
	return buf_printf(b, "\n-- %llu Kbytes in %llu Request%s.\n",
	    (unsigned long long)(bytes / 1024), (unsigned long long)messages,
	    messages == 1 ? "" : "s");
}
