#include "lib/address.h"
#include "rules/addr_find.h"

/* An address in external form. */
#define QUOTED_MAX	(2 * ADDRESS_MAX + 2)

struct addr_keys
addr_keys_of(const struct conf *cf, const struct classes *classes)
{
	return (struct addr_keys){
		.delimiters = cf->recipient_delimiter,
		.owner_request_special = cf->owner_request_special,
		.double_bounce = cf->double_bounce_sender,
		.myorigin = cf->myorigin,
		.classes = classes,
	};
}

static bool
addr_never_split(const struct addr_keys *k, struct view local)
{
	return view_is_nocase(local, "postmaster") ||
	    view_is_nocase(local, "mailer-daemon") ||
	    view_is_nocase(local, k->double_bounce) ||
	    (k->owner_request_special && strchr(k->delimiters, '-') != NULL &&
	    (view_starts_nocase(local, "owner-") || (local.n > 8 &&
	    view_ends_nocase(local, view_of("-request")))));
}

struct view
addr_extension(const struct addr_keys *k, struct view addr)
{
	struct view local = address_local(addr);
	size_t i;

	if (k->delimiters[0] == '\0' || addr_never_split(k, local))
		return view_make("", 0);
	for (i = 0; i < local.n; i++)
		if (local.p[i] != '\0' &&
		    strchr(k->delimiters, local.p[i]) != NULL)
			break;
	/* There must be a user in front of it. */
	return i == 0 ? view_make("", 0) : view_from(local, i);
}

enum table_answer
addr_find_key(const struct table_list *maps, struct view key, bool partial,
    struct buf *value, struct addr_found *ret)
{
	enum table_answer a;
	unsigned line = 0;
	size_t i;

	for (i = 0; i < maps->n; i++) {
		if (partial && table_is_pattern(maps->list[i]))
			continue;
		a = table_find(maps->list[i], key, value, &line);
		if (a == TABLE_FOUND)
			*ret = (struct addr_found){
				.table = maps->list[i], .line = line };
		if (a != TABLE_NOT_FOUND)
			return a;
	}
	return TABLE_NOT_FOUND;
}

/* local@domain, quoted where that makes a difference, then as it is. */
static enum table_answer
addr_find_form(const struct table_list *maps, struct view local,
    struct view at_domain, bool partial, struct buf *value,
    struct addr_found *ret)
{
	char plain_text[ADDRESS_MAX + 1], quoted_text[QUOTED_MAX + 1];
	struct buf plain = { .p = plain_text, .cap = sizeof plain_text,
		.max = ADDRESS_MAX };
	struct buf quoted = { .p = quoted_text, .cap = sizeof quoted_text,
		.max = QUOTED_MAX };
	enum table_answer a;

	if (!buf_putv(&plain, local) || !buf_putv(&plain, at_domain))
		return TABLE_NOT_FOUND;
	if (address_quote(buf_view(&plain), &quoted) &&
	    !view_eq(buf_view(&plain), buf_view(&quoted))) {
		a = addr_find_key(maps, buf_view(&quoted), partial, value,
		    ret);
		if (a != TABLE_NOT_FOUND)
			return a;
	}
	return addr_find_key(maps, buf_view(&plain), partial, value, ret);
}

/* The user of a domain that is this host's, or where local mail is from. */
static enum table_answer
addr_find_user(const struct addr_keys *k, const struct table_list *maps,
    struct view local, struct view extension, struct view domain,
    struct buf *value, struct addr_found *ret)
{
	struct view none = { "", 0 };
	enum table_answer a = TABLE_FOUND;

	if (!view_is_nocase(domain, k->myorigin))
		a = class_local(k->classes, domain);
	if (a != TABLE_FOUND)
		return a;
	a = addr_find_form(maps, local, none, true, value, ret);
	if (a != TABLE_NOT_FOUND || extension.n == 0)
		return a;
	a = addr_find_form(maps, view_head(local, local.n - extension.n),
	    none, true, value, ret);
	if (a == TABLE_FOUND)
		ret->extension = extension;
	return a;
}

enum table_answer
addr_find(const struct addr_keys *k, const struct table_list *maps,
    struct view addr, struct buf *value, struct addr_found *ret)
{
	struct view local = address_local(addr), domain, at_domain;
	struct view extension;
	enum table_answer a;

	buf_clear(value);
	if (maps->n == 0 || addr.n > ADDRESS_MAX)
		return TABLE_NOT_FOUND;
	domain = address_domain(addr);
	at_domain = view_from(addr, local.n);
	a = addr_find_form(maps, local, at_domain, false, value, ret);
	if (a != TABLE_NOT_FOUND)
		return a;
	extension = addr_extension(k, addr);
	if (extension.n > 0) {
		a = addr_find_form(maps, view_head(local,
		    local.n - extension.n), at_domain, true, value, ret);
		if (a == TABLE_FOUND)
			ret->extension = extension;
		if (a != TABLE_NOT_FOUND)
			return a;
	}
	if (at_domain.n == 0)
		return TABLE_NOT_FOUND;
	a = addr_find_user(k, maps, local, extension, domain, value, ret);
	if (a != TABLE_NOT_FOUND)
		return a;
	a = addr_find_key(maps, at_domain, true, value, ret);
	/* "@domain" stands for the user with all it has. */
	return a;
}

void
addr_found_where(const struct addr_found *f, struct buf *out)
{
	buf_clear(out);
	(void)buf_puts(out, table_origin(f->table));
	if (f->line > 0)
		(void)buf_printf(out, ":%u", f->line);
}
