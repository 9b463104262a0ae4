/*
 * sendmail's access map, with the features access_db (skip),
 * blocklist_recipients and delay_checks(friend) as most sites have them.
 *
 * For each key the tagged entry comes before the untagged one.  What it says
 * becomes an action of access(5):
 *
 *	RELAY	OK; for a sender, who may be anybody, as OK
 *	OK	permit_auth_destination: sendmail's OK does not mean relaying
 *	REJECT	550 with sendmail's text
 *	SKIP	not found, and no less qualified key is looked up
 *	QUARANTINE:text	HOLD text
 *	FRIEND	with the tag Spam: only, and after To: and what has no tag:
 *		permit_auth_destination
 *	ERROR:D.S.N:code text, ERROR:code text, code text: that reply
 */
#include "lib/address.h"
#include "lib/netaddr.h"
#include "rules/sendmail_table.h"

struct query {
	const struct memory_table *m;
	const char *tag;	/* "Connect:" */
	bool tagged;		/* entries without a tag are not meant */
	struct view value;
	unsigned line;
};

/* The tagged entry, else the untagged. */
static bool
query_has(struct query *q, struct view key)
{
	struct view tag = view_of(q->tag);
	char text[SENDMAIL_KEY_MAX];
	size_t n = tag.n;

	if (key.n == 0 || key.n > sizeof text - n)
		return false;
	if (n > 0)
		memcpy(text, tag.p, n);
	memcpy(text + n, key.p, key.n);
	return memory_has(q->m, view_make(text, n + key.n), &q->value,
	    &q->line) || (!q->tagged &&
	    memory_has(q->m, key, &q->value, &q->line));
}

static bool
query_join(struct query *q, struct view a, struct view b)
{
	char text[SENDMAIL_KEY_MAX];

	if (a.n > sizeof text || b.n > sizeof text - a.n)
		return false;
	if (a.n > 0)
		memcpy(text, a.p, a.n);
	if (b.n > 0)
		memcpy(text + a.n, b.p, b.n);
	return query_has(q, view_make(text, a.n + b.n));
}

/* The name and what it is in; an address in brackets from its end. */
static bool
query_domain(struct query *q, struct view name)
{
	size_t dot;

	if (name.n > 0 && name.p[name.n - 1] == '.')
		name.n--;
	for (;;) {
		if (query_has(q, name))
			return true;
		dot = view_find(name, '.');
		if (dot >= name.n || name.p[0] == '[')
			return false;
		name = view_from(name, dot + 1);
	}
}

static bool
query_network(struct query *q, const char *prefix, struct view addr)
{
	while (addr.n > 0) {
		if (query_join(q, view_of(prefix), addr))
			return true;
		while (addr.n > 0 && addr.p[addr.n - 1] != '.' &&
		    addr.p[addr.n - 1] != ':')
			addr.n--;
		while (addr.n > 0 && (addr.p[addr.n - 1] == '.' ||
		    addr.p[addr.n - 1] == ':'))
			addr.n--;
	}
	return false;
}

/* sendmail writes an IPv6 address with all its zeros, or, if told to, in the
 * short form; files have either. */
static bool
query_address(struct query *q, struct view addr)
{
	char full[64];
	struct buf b = { .p = full, .cap = sizeof full, .max = sizeof full };
	struct netaddr a;

	if (!netaddr_parse(addr, &a) || a.family != AF_INET6)
		return query_network(q, "", addr);
	for (unsigned i = 0; i < 16; i += 2)
		(void)buf_printf(&b, "%s%x", i > 0 ? ":" : "",
		    a.b[i] << 8 | a.b[i + 1]);
	if (query_join(q, view_of("IPv6:"), addr))
		return true;
	return query_network(q, "IPv6:", buf_view(&b)) ||
	    query_network(q, "IPv6:", addr);
}

/* user+ext@domain, user@domain; user+ext@, user@; the domain */
static bool
query_mail(struct query *q, struct view addr)
{
	struct view local = address_local(addr), at, user;
	size_t plus = view_find(view_from(local, 1), '+') + 1;

	at = view_from(addr, local.n);
	user = view_head(local, plus);
	if (at.n > 0 && at.p[at.n - 1] == '.')
		at.n--;
	if (at.n > 1 && (query_join(q, local, at) ||
	    (user.n < local.n && query_join(q, user, at))))
		return true;
	if (query_join(q, local, view_of("@")) ||
	    (user.n < local.n && query_join(q, user, view_of("@"))))
		return true;
	return at.n > 1 && query_domain(q, view_from(at, 1));
}

/* -- what an entry says ---------------------------------------------------- */

static bool
put_action(struct view value, enum access_key kind, struct buf *out)
{
	bool rcpt = kind == ACCESS_RECIPIENT;

	if (view_is_nocase(value, "OK"))
		return buf_puts(out, "permit_auth_destination");
	if (view_is_nocase(value, "RELAY"))
		return buf_puts(out, kind == ACCESS_SENDER ?
		    "permit_auth_destination" : "OK");
	if (view_is_nocase(value, "REJECT"))
		return buf_puts(out, rcpt ? "550 5.2.1 Mailbox disabled for "
		    "this recipient" : "550 5.7.1 Access denied");
	if (view_is_nocase(value, "DISCARD"))
		return buf_puts(out, "DISCARD");
	if (view_starts_nocase(value, "QUARANTINE:"))
		return buf_puts(out, "HOLD ") &&
		    buf_putv(out, view_trim(view_from(value, 11)));
	if (view_starts_nocase(value, "ERROR:"))
		return sendmail_error(view_from(value, 6), "", out);
	return sendmail_error(value, "", out);
}

/* FRIEND and HATER answer another question: access_friend(). */
static bool
says_nothing(struct view value)
{
	return view_is_nocase(value, "SKIP") ||
	    view_is_nocase(value, "FRIEND") || view_is_nocase(value, "HATER");
}

/* A recipient who wants all mail: what checks senders and clients behind
 * this is not for him.  HATER turns that round, for whole lists of checks,
 * and cannot be had here. */
static enum table_answer
access_friend(const struct memory_table *m, struct view rcpt,
    struct buf *value, unsigned *ret_line)
{
	struct query q = { .m = m, .tag = "Spam:", .tagged = true };

	if (!query_mail(&q, rcpt) || !view_is_nocase(q.value, "FRIEND"))
		return TABLE_NOT_FOUND;
	*ret_line = q.line;
	return buf_puts(value, "permit_auth_destination") ? TABLE_FOUND :
	    TABLE_FAILED;
}

static enum table_answer
access_answer(const struct query *q, enum access_key kind, struct buf *value,
    unsigned *ret_line)
{
	if (says_nothing(q->value))
		return TABLE_NOT_FOUND;
	if (!put_action(q->value, kind, value)) {
		buf_clear(value);
		return TABLE_FAILED;
	}
	*ret_line = q->line;
	return TABLE_FOUND;
}

static enum table_answer
sendmail_access_ask(void *data, enum access_key kind, struct view key,
    struct buf *value, unsigned *ret_line)
{
	struct query q = { .m = data, .tag = "" };
	bool found = false;

	switch (kind) {
	case ACCESS_CLIENT_NAME:
		q.tag = "Connect:";
		/* A client without a name has none in sendmail's file. */
		found = !view_is(key, "unknown") && query_domain(&q, key);
		break;
	case ACCESS_CLIENT_ADDR:
		q.tag = "Connect:";
		found = query_address(&q, key);
		break;
	case ACCESS_SENDER:
		q.tag = "From:";
		found = !view_is(key, "<>") && query_mail(&q, key);
		break;
	case ACCESS_RECIPIENT:
		q.tag = "To:";
		found = query_mail(&q, key);
		break;
	case ACCESS_NONE:
	case ACCESS_DOMAIN:
	case ACCESS_NAME:
	case ACCESS_ADDRESS:
		/* sendmail does not look up such names. */
		break;
	}
	if (kind == ACCESS_RECIPIENT && (!found || says_nothing(q.value)))
		return access_friend(data, key, value, ret_line);
	if (!found)
		return TABLE_NOT_FOUND;
	return access_answer(&q, kind, value, ret_line);
}

/* A key as it stands in the file, with its tag. */
static enum table_answer
sendmail_access_find(void *data, size_t *pos, struct view key,
    struct buf *value, unsigned *ret_line)
{
	struct query q = { .m = data, .tag = "" };
	enum access_key kind = view_starts_nocase(key, "to:") ?
	    ACCESS_RECIPIENT : view_starts_nocase(key, "from:") ?
	    ACCESS_SENDER : ACCESS_CLIENT_NAME;

	if ((*pos)++ > 0 || !query_has(&q, key))
		return TABLE_NOT_FOUND;
	return access_answer(&q, kind, value, ret_line);
}

/* -- loading --------------------------------------------------------------- */

static void *
sendmail_access_load(const char *type, struct view name,
    struct table_source *s, struct table_loader *l)
{
	(void)type;
	(void)name;
	return sendmail_read(s, l, NULL);
}

struct each {
	void (*fn)(struct view result, unsigned line, void *arg);
	void *arg;
};

static void
each_action(struct view value, unsigned line, void *arg)
{
	const struct each *e = arg;
	char text[2000];
	struct buf out = { .p = text, .cap = sizeof text,
	    .max = sizeof text };

	if (!says_nothing(value) && put_action(value, ACCESS_RECIPIENT, &out))
		e->fn(buf_view(&out), line, e->arg);
}

static void
sendmail_access_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	struct each e = { fn, arg };

	memory_each(data, each_action, &e);
}

const struct table_kind sendmail_access = {
	.type = "sendmail-access", .pattern = true, .source = true,
	.load = sendmail_access_load, .release = memory_release,
	.row_hash = memory_row_hash, .plain_lines = true,
	.find = sendmail_access_find, .each = sendmail_access_each,
	.access = sendmail_access_ask
};
