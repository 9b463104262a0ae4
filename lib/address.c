#include "lib/address.h"
#include "lib/netaddr.h"

#define LOCAL_ACCEPTED	255	/* the field sends more than RFC 5321's 64 */

enum byte_class {
	BYTE_BAD = 0,		/* control, NUL */
	BYTE_ATOM,		/* may stand unquoted in a local part */
	BYTE_SPECIAL		/* space and ()<>[]:;@\," of RFC 5322 */
};

static enum byte_class
address_byte(unsigned char c)
{
	if (c < ' ' || c == 0x7f)
		return BYTE_BAD;
	return strchr(" ()<>[]:;@\\,\"", c) != NULL ? BYTE_SPECIAL : BYTE_ATOM;
}

/*
 * RFC 3629: no overlong forms, no surrogates, nothing over U+10FFFF.  C1
 * controls are refused too: some terminals act on them.
 */
bool
address_utf8(struct view v, bool *ret_any)
{
	const unsigned char *p = (const unsigned char *)v.p;
	const unsigned char *end = p + v.n;
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t u;
	unsigned n, i;
	bool any = false;

	while (p < end) {
		if (*p < 0x80) {
			p++;
			continue;
		}
		any = true;
		n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
		if (*p < 0xc2 || *p > 0xf4 || (size_t)(end - p) < n)
			return false;
		u = *p & (0xffu >> (n + 1));
		for (i = 1; i < n; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return false;
			u = u << 6 | (p[i] & 0x3fu);
		}
		if (u < least[n] || u > 0x10ffff || u < 0xa0 ||
		    (u >= 0xd800 && u <= 0xdfff))
			return false;
		p += n;
	}
	if (ret_any != NULL)
		*ret_any = any;
	return true;
}

/* Bytes of the quoted string at the start of v, with both quotes; 0: it does
 * not end, or holds a control byte. */
static size_t
address_quoted(struct view v)
{
	size_t i;

	for (i = 1; i < v.n; i++) {
		if (v.p[i] == '"')
			return i + 1;
		if (v.p[i] == '\\')
			i++;
		if (i < v.n && address_byte((unsigned char)v.p[i]) == BYTE_BAD)
			return 0;
	}
	return 0;
}

/*
 * Where the path ends: behind '>', or before a space when there are no
 * brackets.  Brackets and spaces inside quotes do not count.  n + 1: never.
 */
static size_t
address_extent(struct view v, bool bracket)
{
	size_t i = bracket ? 1 : 0, k;

	while (i < v.n) {
		if (bracket && v.p[i] == '>')
			return i + 1;
		if (!bracket && v.p[i] == ' ')
			return i;
		if (v.p[i] == '"') {
			k = address_quoted(view_from(v, i));
			if (k == 0)
				return v.n + 1;
			i += k;
		} else
			i++;
	}
	return bracket ? v.n + 1 : v.n;
}

/* The local part at the start of *v, in internal form. */
static enum address_error
address_take_local(struct view *v, struct buf *out)
{
	size_t i = 0, k, last_at = v->n, begin = out->n, j;

	/* An unquoted '@' before the last one belongs to the local part:
	 * "user@inside@gateway" is sender-specified routing, which is for
	 * policy to refuse, not for syntax. */
	for (j = 0; j < v->n; ) {
		if (v->p[j] == '"') {
			k = address_quoted(view_from(*v, j));
			if (k == 0)
				return ADDRESS_SYNTAX;
			j += k;
			continue;
		}
		if (v->p[j] == '@')
			last_at = j;
		j++;
	}
	while (i < last_at) {
		if (v->p[i] == '"') {
			k = address_quoted(view_from(*v, i));
			for (j = i + 1; j < i + k - 1; j++) {
				if (v->p[j] == '\\')
					j++;
				if (!buf_putc(out, v->p[j]))
					return ADDRESS_TOO_LONG;
			}
			i += k;
			continue;
		}
		if (v->p[i] != '@' &&
		    address_byte((unsigned char)v->p[i]) != BYTE_ATOM)
			return ADDRESS_SYNTAX;
		if (!buf_putc(out, v->p[i]))
			return ADDRESS_TOO_LONG;
		i++;
	}
	*v = view_from(*v, i);
	return out->n - begin > LOCAL_ACCEPTED ? ADDRESS_TOO_LONG : ADDRESS_OK;
}

/* "@a,@b:" in front of a path; obsolete, to be accepted and ignored. */
static bool
address_skip_route(struct view *v)
{
	size_t end;
	struct view route, hop;

	if (v->n == 0 || v->p[0] != '@')
		return true;
	end = view_find(*v, ':');
	/* "[IPv6:...]" holds a colon too, but a route has none of these. */
	if (end == v->n)
		return true;	/* "@domain": an empty local part */
	route = view_head(*v, end);
	for (;;) {
		hop = view_head(route, view_find(route, ','));
		if (hop.n < 2 || hop.p[0] != '@' ||
		    !address_valid_hostname(view_from(hop, 1)))
			return false;
		if (hop.n == route.n)
			break;
		route = view_from(route, hop.n + 1);
	}
	*v = view_from(*v, end + 1);
	return true;
}

enum address_error
address_path(struct view *rest, bool strict, struct buf *out, bool *ret_utf8)
{
	struct view v = *rest, path, domain;
	enum address_error e;
	size_t begin = out->n, end;
	bool bracket = v.n > 0 && v.p[0] == '<', utf8 = false;

	if (!bracket && (strict || v.n == 0))
		return ADDRESS_SYNTAX;
	end = address_extent(v, bracket);
	if (end > v.n)
		return ADDRESS_SYNTAX;
	path = bracket ? view_make(v.p + 1, end - 2) : view_head(v, end);
	if (!bracket && path.n > 0 && path.p[path.n - 1] == '>')
		return ADDRESS_SYNTAX;
	/* "<a@b>x": what follows must be a parameter. */
	if (end < v.n && v.p[end] != ' ')
		return ADDRESS_SYNTAX;
	if (!address_utf8(path, &utf8) || !address_skip_route(&path))
		return ADDRESS_SYNTAX;
	e = address_take_local(&path, out);
	/* A quoted '@' without a domain behind it would look like one. */
	if (e == ADDRESS_OK && path.n == 0 &&
	    view_find(view_from(buf_view(out), begin), '@') < out->n - begin)
		e = ADDRESS_SYNTAX;
	if (e == ADDRESS_OK && path.n > 0) {
		domain = view_from(path, 1);
		/* A root dot names the same domain. */
		if (domain.n > 1 && domain.p[domain.n - 1] == '.')
			domain.n--;
		if (domain.n > ADDRESS_DOMAIN_MAX)
			e = ADDRESS_TOO_LONG;
		else if (out->n == begin || (!address_valid_hostname(domain) &&
		    !address_valid_literal(domain)))
			e = ADDRESS_SYNTAX;
		else if (!buf_putc(out, '@') || !buf_putv(out, domain))
			e = ADDRESS_TOO_LONG;
	}
	if (e == ADDRESS_OK && out->n - begin > ADDRESS_MAX)
		e = ADDRESS_TOO_LONG;
	if (e != ADDRESS_OK) {
		out->n = begin;
		return e;
	}
	*rest = view_from(v, end);
	*ret_utf8 = utf8;
	return ADDRESS_OK;
}

/* Position of the last '@', or n. */
static size_t
address_at(struct view addr)
{
	size_t i = addr.n;

	while (i-- > 0)
		if (addr.p[i] == '@')
			return i;
	return addr.n;
}

struct view
address_local(struct view addr)
{
	return view_head(addr, address_at(addr));
}

struct view
address_domain(struct view addr)
{
	return view_from(addr, address_at(addr) + 1);
}

bool
address_quote(struct view addr, struct buf *out)
{
	struct view local = address_local(addr);
	bool plain = local.n > 0 && local.p[local.n - 1] != '.', ok;
	size_t i;

	for (i = 0; plain && i < local.n; i++)
		plain = address_byte((unsigned char)local.p[i]) == BYTE_ATOM &&
		    (local.p[i] != '.' || (i > 0 && local.p[i - 1] != '.'));
	if (plain || addr.n == 0)
		return buf_putv(out, addr);
	ok = buf_putc(out, '"');
	for (i = 0; ok && i < local.n; i++)
		ok = ((local.p[i] != '"' && local.p[i] != '\\') ||
		    buf_putc(out, '\\')) && buf_putc(out, local.p[i]);
	return ok && buf_putc(out, '"') &&
	    buf_putv(out, view_from(addr, local.n));
}

bool
address_valid_hostname(struct view name)
{
	size_t i, label = 0;
	bool letter = false;
	unsigned char c;

	if (name.n == 0 || name.n > ADDRESS_DOMAIN_MAX ||
	    !address_utf8(name, NULL))
		return false;
	for (i = 0; i < name.n; i++) {
		c = (unsigned char)name.p[i];
		if (c == '.') {
			if (label == 0 || name.p[i - 1] == '-')
				return false;
			label = 0;
			continue;
		}
		if (c == '-' && label == 0)
			return false;
		if (c < 0x80 && !isalnum(c) && c != '-' && c != '_')
			return false;
		if (!isdigit(c))
			letter = true;
		if (++label > 63)
			return false;
	}
	/* All digits and dots would be an address without its brackets. */
	return label > 0 && name.p[name.n - 1] != '-' && letter;
}

bool
address_valid_literal(struct view domain)
{
	struct view inside;
	struct netaddr a;

	if (domain.n < 3 || domain.p[0] != '[' ||
	    domain.p[domain.n - 1] != ']')
		return false;
	inside = view_make(domain.p + 1, domain.n - 2);
	if (!view_starts_nocase(inside, "IPv6:"))
		/* The tag tells the families apart, RFC 5321 4.1.3. */
		return view_find(inside, ':') == inside.n &&
		    netaddr_parse(inside, &a);
	return netaddr_parse(domain, &a);
}
