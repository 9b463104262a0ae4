#include "lib/netaddr.h"

#include <arpa/inet.h>
#include <stdio.h>

static const unsigned char mapped_prefix[12] = {
	0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff
};

/*
 * Services of a mail system.  getservbyname() would read /etc/services, which
 * a role in its jail cannot.
 */
static const struct {
	const char *name;
	uint16_t port;
} services[] = {
	{ "smtp", 25 }, { "mail", 25 }, { "lmtp", 24 },
	{ "smtps", 465 }, { "submissions", 465 }, { "urd", 465 },
	{ "submission", 587 }, { "msa", 587 }, { "ssmtp", 465 },
	{ "qmtp", 209 }, { "qmqp", 628 }
};

/* An IPv4-mapped address becomes IPv4. */
static void
address_normalise(struct netaddr *a)
{
	if (a->family != AF_INET6 ||
	    memcmp(a->b, mapped_prefix, sizeof(mapped_prefix)) != 0)
		return;
	a->family = AF_INET;
	memmove(a->b, a->b + 12, 4);
	memset(a->b + 4, 0, 12);
}

/* inet_pton() is as strict as we want: no octal, no short form, no zone. */
static bool
address_bare(struct view text, int family, struct netaddr *ret)
{
	char s[INET6_ADDRSTRLEN + 1];
	struct netaddr a = { .family = (uint8_t)family };

	if (text.n == 0 || text.n >= sizeof(s) ||
	    memchr(text.p, '\0', text.n) != NULL)
		return false;
	memcpy(s, text.p, text.n);
	s[text.n] = '\0';
	if (inet_pton(family, s, a.b) != 1)
		return false;
	*ret = a;
	return true;
}

static int
family_of(struct view text)
{
	return view_find(text, ':') < text.n ? AF_INET6 : AF_INET;
}

/* Reads an address and leaves an IPv4-mapped one as it is. */
static bool
address_read(struct view text, struct netaddr *ret)
{
	if (text.n < 2 || text.p[0] != '[')
		return address_bare(text, family_of(text), ret);
	if (text.p[text.n - 1] != ']')
		return false;
	text = view_head(view_from(text, 1), text.n - 2);
	if (view_starts_nocase(text, "IPv6:"))
		return address_bare(view_from(text, 5), AF_INET6, ret);
	return address_bare(text, family_of(text), ret);
}

bool
netaddr_parse(struct view text, struct netaddr *ret)
{
	struct netaddr a;

	if (!address_read(text, &a))
		return false;
	address_normalise(&a);
	*ret = a;
	return true;
}

struct netaddr
netaddr_from_sockaddr(const struct sockaddr *sa, socklen_t n)
{
	struct netaddr a = { 0 };
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;

	if (sa == NULL || n < (socklen_t)sizeof(sa->sa_family))
		return a;
	if (sa->sa_family == AF_INET && n >= (socklen_t)sizeof(in4)) {
		memcpy(&in4, sa, sizeof(in4));
		a.family = AF_INET;
		memcpy(a.b, &in4.sin_addr, 4);
		a.port = ntohs(in4.sin_port);
	} else if (sa->sa_family == AF_INET6 && n >= (socklen_t)sizeof(in6)) {
		memcpy(&in6, sa, sizeof(in6));
		a.family = AF_INET6;
		memcpy(a.b, &in6.sin6_addr, 16);
		a.port = ntohs(in6.sin6_port);
		address_normalise(&a);
	}
	return a;
}

socklen_t
netaddr_to_sockaddr(const struct netaddr *a, struct sockaddr_storage *ret)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	memset(ret, 0, sizeof(*ret));
	if (a->family == AF_INET) {
		memcpy(&in4.sin_addr, a->b, 4);
		in4.sin_port = htons(a->port);
		memcpy(ret, &in4, sizeof(in4));
		return sizeof(in4);
	}
	if (a->family == AF_INET6) {
		memcpy(&in6.sin6_addr, a->b, 16);
		in6.sin6_port = htons(a->port);
		memcpy(ret, &in6, sizeof(in6));
		return sizeof(in6);
	}
	ret->ss_family = AF_UNSPEC;
	return 0;
}

const char *
netaddr_text(const struct netaddr *a, char buf[NETADDR_TEXT])
{
	if ((a->family != AF_INET && a->family != AF_INET6) ||
	    inet_ntop(a->family, a->b, buf, NETADDR_TEXT) == NULL)
		memcpy(buf, "unknown", sizeof("unknown"));
	return buf;
}

struct view
netaddr_bytes(const struct netaddr *a)
{
	return view_make(a->b, a->family == AF_INET ? 4 :
	    a->family == AF_INET6 ? 16 : 0);
}

bool
netaddr_from_bytes(struct view v, struct netaddr *ret)
{
	struct netaddr a = { 0 };

	if (v.n != 4 && v.n != 16)
		return false;
	a.family = v.n == 4 ? AF_INET : AF_INET6;
	memcpy(a.b, v.p, v.n);
	address_normalise(&a);
	*ret = a;
	return true;
}

bool
netaddr_in_block(const struct netaddr *a, const struct netaddr *block,
    unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (a->family != block->family || a->family == 0 ||
	    bits > (a->family == AF_INET ? 32u : 128u))
		return false;
	if (memcmp(a->b, block->b, whole) != 0)
		return false;
	return rest == 0 ||
	    ((a->b[whole] ^ block->b[whole]) >> (8 - rest)) == 0;
}

bool
netaddr_equal(const struct netaddr *a, const struct netaddr *b)
{
	return a->family == b->family &&
	    memcmp(a->b, b->b, netaddr_bytes(a).n) == 0;
}

/* Digits only; at most max.  False for an empty text. */
static bool
decimal(struct view text, unsigned max, unsigned *ret)
{
	unsigned n = 0;

	if (text.n == 0 || text.n > 5)
		return false;
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
		n = n * 10 + (unsigned)(text.p[i] - '0');
	}
	if (n > max)
		return false;
	*ret = n;
	return true;
}

static bool
host_bits_set(const struct netaddr *a, unsigned bits)
{
	unsigned size = a->family == AF_INET ? 4 : 16;

	for (unsigned i = bits / 8; i < size; i++) {
		unsigned keep = i == bits / 8 ? bits % 8 : 0;

		if ((a->b[i] & (0xffu >> keep)) != 0)
			return true;
	}
	return false;
}

bool
netaddr_parse_block(struct view text, struct netaddr *ret,
    unsigned *ret_bits)
{
	struct netaddr a;
	unsigned bits, max;
	struct view host = text;
	size_t slash = view_find(text, '/');
	bool inside = false;

	/* Postfix reads "[addr/len]" as well as "[addr]/len". */
	if (slash < text.n) {
		host = view_head(text, slash);
		inside = text.p[0] == '[' && text.p[text.n - 1] == ']';
		if (inside)
			host = view_from(host, 1);
	}
	if (!(inside ? address_bare(host, family_of(host), &a) :
	    address_read(host, &a)))
		return false;
	max = a.family == AF_INET ? 32 : 128;
	bits = max;
	if (slash < text.n) {
		struct view len = view_from(text, slash + 1);

		if (inside)
			len.n--;
		if (!decimal(len, max, &bits) || host_bits_set(&a, bits))
			return false;
	}
	/* A mapped block of at least 96 bits is an IPv4 block. */
	if (a.family == AF_INET6 && bits >= 96) {
		address_normalise(&a);
		if (a.family == AF_INET)
			bits -= 96;
	}
	*ret = a;
	*ret_bits = bits;
	return true;
}

static bool
port_parse(struct view text, uint16_t *ret)
{
	unsigned n;

	if (decimal(text, 65535, &n)) {
		*ret = (uint16_t)n;
		return n > 0;
	}
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		if (view_is_nocase(text, services[i].name)) {
			*ret = services[i].port;
			return true;
		}
	}
	return false;
}

static bool
all_digits(struct view text)
{
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
	return text.n > 0;
}

bool
netaddr_split_hostport(struct view text, struct view *ret_host,
    uint16_t *ret_port, uint16_t default_port)
{
	struct view host = text, port = { NULL, 0 };
	struct netaddr ignored;
	bool have_port = false;
	uint16_t number = default_port;

	for (size_t i = 0; i < text.n; i++)
		if ((unsigned char)text.p[i] <= ' ' || text.p[i] == 0x7f)
			return false;
	if (text.n > 0 && text.p[0] == '[') {
		size_t close = view_find(text, ']');

		if (close == text.n || close == 1)
			return false;
		host = view_head(view_from(text, 1), close - 1);
		port = view_from(text, close + 1);
		if (port.n > 0) {
			if (port.p[0] != ':')
				return false;
			port = view_from(port, 1);
			have_port = true;
		}
	} else {
		size_t colon = view_find(text, ':');

		if (colon < text.n) {
			host = view_head(text, colon);
			port = view_from(text, colon + 1);
			have_port = true;
			/* An IPv6 address without brackets has no port. */
			if (view_find(port, ':') < port.n) {
				if (!address_bare(text, AF_INET6, &ignored))
					return false;
				host = text;
				have_port = false;
			}
		} else if (default_port == 0 || all_digits(text)) {
			host = view_head(text, 0);
			port = text;
			have_port = true;
		}
		if (view_find(host, '[') < host.n ||
		    view_find(host, ']') < host.n)
			return false;
	}
	if (have_port ? !port_parse(port, &number) : number == 0)
		return false;
	*ret_host = host;
	*ret_port = number;
	return true;
}

struct netaddr
netaddr_reachable(const struct netaddr *a)
{
	static const uint8_t none[sizeof a->b];
	struct netaddr home;

	if (memcmp(a->b, none, a->family == AF_INET6 ? 16 : 4) != 0 ||
	    !netaddr_parse(view_of(a->family == AF_INET6 ? "::1" :
	    "127.0.0.1"), &home))
		return *a;
	home.port = a->port;
	return home;
}
