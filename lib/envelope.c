#include <stdio.h>

#include "lib/address.h"
#include "lib/dsn.h"
#include "lib/envelope.h"

/* First byte: form of what follows; 1 had no original addresses. */
#define ENVELOPE_FORM	2

const char *
queue_id_text(struct queue_id id, char buf[QUEUE_ID_TEXT])
{
	static const char digit[] = "0123456789ABCDEF";
	int i;

	for (i = QUEUE_ID_TEXT - 2; i >= 0; i--) {
		buf[i] = digit[id.n & 15];
		id.n >>= 4;
	}
	buf[QUEUE_ID_TEXT - 1] = '\0';
	return buf;
}

bool
queue_id_parse(struct view text, struct queue_id *ret)
{
	uint64_t n = 0;
	size_t i;
	char c;

	if (text.n != QUEUE_ID_TEXT - 1)
		return false;
	for (i = 0; i < text.n; i++) {
		c = text.p[i];
		if (c >= '0' && c <= '9')
			n = n << 4 | (uint64_t)(c - '0');
		else if (c >= 'A' && c <= 'F')
			n = n << 4 | (uint64_t)(c - 'A' + 10);
		else
			return false;
	}
	ret->n = n;
	return true;
}

const char *
envelope_name(const struct envelope *e, struct queue_id id,
    char buf[MESSAGE_NAME])
{
	if (e->name.n == 0)
		return queue_id_text(id, buf);
	(void)snprintf(buf, MESSAGE_NAME, "%.*s", VIEW_ARGS(e->name));
	return buf;
}

bool
envelope_name_good(struct view name)
{
	size_t i;

	for (i = 0; i < name.n; i++)
		if (name.p[i] <= ' ' || name.p[i] > '~')
			return false;
	return name.n > 0 && name.n < MESSAGE_NAME;
}

bool
envelope_put(struct buf *b, const struct envelope *e)
{
	uint32_t i;
	bool ok;

	ok = put_u8(b, ENVELOPE_FORM) && put_u32(b, e->flags) &&
	    put_view(b, e->sender) && put_view(b, e->client_name) &&
	    put_view(b, e->client_addr) && put_u16(b, e->client_port) &&
	    put_view(b, e->helo) && put_view(b, e->proto) &&
	    put_view(b, e->login) && put_view(b, e->envid) &&
	    put_u8(b, e->ret) && put_u32(b, e->nrcpts);
	for (i = 0; ok && i < e->nrcpts; i++)
		ok = put_view(b, e->rcpts[i].addr) &&
		    put_view(b, e->rcpts[i].orig) &&
		    put_view(b, e->rcpts[i].orcpt) &&
		    put_u8(b, e->rcpts[i].notify);
	if ((e->flags & ENVELOPE_LOCAL) != 0)
		ok = ok && put_view(b, e->full_name);
	return ok;
}

/* No byte in what becomes part of a command or a log line ends a line. */
static bool
envelope_clean(struct view v, size_t max)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < ' ' || v.p[i] == 0x7f)
			return false;
	return v.n <= max;
}

static bool
recipient_good(const struct recipient *r)
{
	struct view type, addr;

	return r->addr.n > 0 && envelope_clean(r->addr, ADDRESS_MAX) &&
	    envelope_clean(r->orig, ADDRESS_MAX) &&
	    envelope_clean(r->orcpt, ADDRESS_MAX + DSN_TYPE_MAX) &&
	    (r->orcpt.n == 0 || dsn_orcpt_split(r->orcpt, &type, &addr)) &&
	    (r->notify & NOTIFY_NEVER ? r->notify == NOTIFY_NEVER :
	    r->notify < 2 * NOTIFY_DELAY);
}

bool
envelope_get(struct view encoded, struct arena *a, struct envelope *ret)
{
	struct cursor c = cursor_of(encoded);
	struct envelope e = { 0 };
	struct recipient *r;
	uint32_t i;
	uint8_t form = cursor_u8(&c);

	if (form < 1 || form > ENVELOPE_FORM)
		return false;
	e.flags = cursor_u32(&c);
	e.sender = cursor_view(&c);
	e.client_name = cursor_view(&c);
	e.client_addr = cursor_view(&c);
	e.client_port = cursor_u16(&c);
	e.helo = cursor_view(&c);
	e.proto = cursor_view(&c);
	e.login = cursor_view(&c);
	e.envid = cursor_view(&c);
	e.ret = cursor_u8(&c);
	e.nrcpts = cursor_u32(&c);
	/* 9: the least bytes of a recipient, so the count cannot lie big. */
	if (c.bad || e.nrcpts == 0 || e.nrcpts > ENVELOPE_RCPTS_MAX ||
	    e.nrcpts > cursor_left(&c) / 9)
		return false;
	if (!envelope_clean(e.sender, ADDRESS_MAX) ||
	    !envelope_clean(e.client_name, 1024) ||
	    !envelope_clean(e.client_addr, 256) ||
	    !envelope_clean(e.helo, 1024) || !envelope_clean(e.proto, 32) ||
	    !envelope_clean(e.login, 1024) || !envelope_clean(e.envid, DSN_ENVID_MAX) ||
	    (e.ret != 0 && e.ret != 'F' && e.ret != 'H'))
		return false;
	e.rcpts = arena_alloc(a, e.nrcpts * sizeof *e.rcpts);
	for (i = 0; i < e.nrcpts; i++) {
		r = &e.rcpts[i];
		r->addr = cursor_view(&c);
		r->orig = form > 1 ? cursor_view(&c) : view_make("", 0);
		r->orcpt = cursor_view(&c);
		r->notify = cursor_u8(&c);
		if (!recipient_good(r))
			return false;
	}
	if ((e.flags & ENVELOPE_LOCAL) != 0)
		e.full_name = cursor_view(&c);
	if (!cursor_done(&c) || !envelope_clean(e.full_name, 1024))
		return false;
	*ret = e;
	return true;
}
