#include "lib/address.h"
#include "lib/netaddr.h"
#include "rules/access.h"
#include "rules/table_impl.h"
#include "rules/table_row.h"

struct access_query {
	const struct table *table;
	const struct access_style *style;
	struct buf *value;
	unsigned *ret_line;
	uint64_t *ret_row;
};

static enum table_answer
query_ask(const struct access_query *q, struct view key)
{
	enum table_answer a;

	if (key.n == 0)
		return TABLE_NOT_FOUND;
	a = table_find(q->table, key, q->value, q->ret_line);
	if (a == TABLE_FOUND && q->ret_row != NULL)
		*q->ret_row = table_row_hash(q->table, *q->ret_line, key,
		    buf_view(q->value));
	return a;
}

/* The name and, down to its last label, the domains it is in. */
static enum table_answer
access_domain(const struct access_query *q, struct view name)
{
	enum table_answer a;
	struct netaddr addr;
	size_t dot;

	a = query_ask(q, name);
	if (a != TABLE_NOT_FOUND || name.n == 0 || name.p[0] == '[' ||
	    netaddr_parse(name, &addr))
		return a;
	for (;;) {
		dot = view_find(view_from(name, 1), '.') + 1;
		if (dot >= name.n)
			return TABLE_NOT_FOUND;
		name = view_from(name, dot + (q->style->parent_matches ?
		    1 : 0));
		a = query_ask(q, name);
		if (a != TABLE_NOT_FOUND)
			return a;
	}
}

static enum table_answer
access_network(const struct access_query *q, struct view addr)
{
	char mark = view_find(addr, ':') < addr.n ? ':' : '.';
	enum table_answer a;

	for (;;) {
		a = query_ask(q, addr);
		if (a != TABLE_NOT_FOUND)
			return a;
		while (addr.n > 0 && addr.p[addr.n - 1] != mark)
			addr.n--;
		if (addr.n == 0)
			return TABLE_NOT_FOUND;
		addr.n--;
	}
}

/*
 * The local part without its extension.  Names that mean the administrator
 * are not split, and neither is a local part that begins with a delimiter.
 */
static struct view
access_user(const struct access_style *style, struct view local)
{
	const char *marks = style->delimiters != NULL ? style->delimiters : "";
	size_t i;

	if (view_is_nocase(local, "postmaster") ||
	    view_is_nocase(local, "mailer-daemon"))
		return local;
	if (strchr(marks, '-') != NULL && (view_starts_nocase(local,
	    "owner-") || (local.n > 8 && view_ends_nocase(local,
	    view_of("-request")))))
		return local;
	for (i = 0; i < local.n; i++)
		if (local.p[i] != '\0' && strchr(marks, local.p[i]) != NULL)
			break;
	return i > 0 ? view_head(local, i) : local;
}

/* user and what follows it, as one key */
static enum table_answer
query_join(const struct access_query *q, struct view user, struct view rest)
{
	char text[ACCESS_KEY_MAX];

	if (user.n > sizeof text || rest.n > sizeof text - user.n)
		return TABLE_NOT_FOUND;
	if (user.n > 0)
		memcpy(text, user.p, user.n);
	if (rest.n > 0)
		memcpy(text + user.n, rest.p, rest.n);
	return query_ask(q, view_make(text, user.n + rest.n));
}

static enum table_answer
access_address(const struct access_query *q, struct view addr)
{
	struct view local = address_local(addr);
	struct view user = access_user(q->style, local);
	struct view at = view_from(addr, local.n);
	enum table_answer a;

	a = query_ask(q, addr);
	if (a == TABLE_NOT_FOUND && user.n < local.n)
		a = query_join(q, user, at);
	if (a != TABLE_NOT_FOUND || at.n == 0)
		return a;
	a = access_domain(q, view_from(at, 1));
	if (a == TABLE_NOT_FOUND)
		a = query_join(q, local, view_of("@"));
	if (a == TABLE_NOT_FOUND && user.n < local.n)
		a = query_join(q, user, view_of("@"));
	return a;
}

enum table_answer
access_find(const struct table *t, enum access_key kind, struct view key,
    const struct access_style *style, struct buf *value, unsigned *ret_line,
    uint64_t *ret_row)
{
	struct access_query q = { t, style, value, ret_line, ret_row };
	enum table_answer a;

	buf_clear(value);
	if (key.n == 0 || key.n > ACCESS_KEY_MAX)
		return TABLE_NOT_FOUND;
	if (table_kind_of(t)->access != NULL) {
		a = table_kind_of(t)->access(table_data_of(t), kind, key,
		    value, ret_line);
		if (a == TABLE_FOUND && ret_row != NULL)
			*ret_row = table_row_hash(t, *ret_line, key,
			    buf_view(value));
		return a;
	}
	if (table_is_pattern(t))
		return query_ask(&q, key);
	switch (kind) {
	case ACCESS_DOMAIN:
	case ACCESS_CLIENT_NAME:
		return access_domain(&q, key);
	case ACCESS_CLIENT_ADDR:
		return access_network(&q, key);
	case ACCESS_SENDER:
	case ACCESS_RECIPIENT:
	case ACCESS_ADDRESS:
		return access_address(&q, key);
	case ACCESS_NAME:
	case ACCESS_NONE:
		break;
	}
	return query_ask(&q, key);
}

void
access_each(const struct table *t,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	if (table_kind_of(t)->access_each != NULL)
		table_kind_of(t)->access_each(table_data_of(t), fn, arg);
	else
		table_each_result(t, fn, arg);
}
