#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/address.h"
#include "queue/local_fate.h"

#define ROUTE_MAX	1000u

/* It becomes a line of a log and of a notification. */
static void
fate_clean(struct fate *f)
{
	char *p;

	for (p = f->text; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
}

static void
fate_text(struct fate *f, enum rcpt_status status, const char *dsn)
{
	f->status = status;
	(void)snprintf(f->dsn, sizeof f->dsn, "%s", dsn);
	fate_clean(f);
}

void
fate_set(struct fate *f, enum rcpt_status status, const char *dsn,
    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
	fate_text(f, status, dsn);
}

void
fate_errno(struct fate *f, const char *dsn, int error, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	(void)vsnprintf(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
	n = strlen(f->text);
	(void)snprintf(f->text + n, sizeof f->text - n, ": %s",
	    strerror(error));
	fate_text(f, RCPT_DEFERRED, dsn);
}

void
fate_pass(struct fate *f, struct view route, struct view address,
    struct arena *a)
{
	f->route = route;
	f->also = f->n > 0;
	if (f->also)
		return;
	f->addresses = arena_alloc(a, sizeof *f->addresses);
	f->addresses[0] = address;
	f->n = 1;
}

bool
fate_put(struct buf *b, const struct fate *f)
{
	uint32_t i;
	bool ok;

	ok = put_u8(b, (uint8_t)f->status) && put_view(b, view_of(f->dsn)) &&
	    put_view(b, view_of(f->text)) && put_u8(b, (uint8_t)(f->has_sender |
	    f->self << 1 | f->also << 2)) &&
	    put_view(b, f->sender) && put_view(b, f->route) &&
	    put_u32(b, f->n);
	for (i = 0; ok && i < f->n; i++)
		ok = put_view(b, f->addresses[i]);
	return ok;
}

/* "5.2.2", with the class that status has. */
static bool
fate_dsn_ok(enum rcpt_status status, struct view dsn)
{
	char class = status == RCPT_DEFERRED ? '4' :
	    status == RCPT_BOUNCED ? '5' : '2';
	size_t i, dots = 0;

	if (dsn.n < 5 || dsn.n >= sizeof ((struct fate *)0)->dsn ||
	    dsn.p[0] != class)
		return false;
	for (i = 0; i < dsn.n; i++)
		if (dsn.p[i] == '.')
			dots++;
		else if (dsn.p[i] < '0' || dsn.p[i] > '9')
			return false;
	return dots == 2;
}

bool
fate_get(struct cursor *c, struct arena *a, struct fate *ret)
{
	struct fate f = { 0 };
	struct view dsn, text;
	uint8_t flags;
	uint32_t i;

	f.status = cursor_u8(c);
	dsn = cursor_view(c);
	text = cursor_view(c);
	flags = cursor_u8(c);
	f.has_sender = (flags & 1) != 0;
	f.self = (flags & 2) != 0;
	f.also = (flags & 4) != 0;
	f.sender = cursor_view(c);
	f.route = cursor_view(c);
	f.n = cursor_u32(c);
	if (c->bad || text.n > FATE_TEXT_MAX || f.n > FATE_ADDRESSES_MAX ||
	    f.sender.n > ADDRESS_MAX || f.route.n > ROUTE_MAX ||
	    (f.status != RCPT_SENT && f.status != RCPT_DEFERRED &&
	    f.status != RCPT_BOUNCED && f.status != RCPT_DELIVERED &&
	    f.status != RCPT_EXPANDED && f.status != RCPT_RELAYED) || !fate_dsn_ok(f.status, dsn))
		return false;
	(void)snprintf(f.dsn, sizeof f.dsn, "%.*s", VIEW_ARGS(dsn));
	(void)snprintf(f.text, sizeof f.text, "%.*s", VIEW_ARGS(text));
	fate_clean(&f);
	if (f.n > 0)
		f.addresses = arena_alloc(a, f.n * sizeof *f.addresses);
	for (i = 0; i < f.n; i++) {
		f.addresses[i] = cursor_view(c);
		if (f.addresses[i].n == 0 || f.addresses[i].n > ADDRESS_MAX)
			return false;
	}
	if (c->bad)
		return false;
	*ret = f;
	return true;
}
