#include <stdlib.h>

#include "lib/conf.h"
#include "proxy/relay_route.h"

#define SMTP_PORT	25

bool
relay_nexthop_parse(struct view text, struct relay_nexthop *ret)
{
	struct relay_nexthop h = { .port = SMTP_PORT, .mx = true,
		.service = view_of("smtp") };
	struct view rest, none, literal;
	size_t n;
	uint16_t port;

	text = view_trim(text);
	if (text.n > 0 && text.p[0] == '[') {
		n = view_find(text, ']');
		if (n == text.n)
			return false;
		literal = view_head(text, n + 1);
		h.host = view_from(view_head(text, n), 1);
		rest = view_from(text, n + 1);
		h.mx = false;
	} else {
		n = view_find(text, ':');
		literal = h.host = view_head(text, n);
		rest = view_from(text, n);
	}
	if (h.host.n == 0 || h.host.n > 255)
		return false;
	if (rest.n > 0) {
		/* ":port", where port may be a service name */
		if (rest.p[0] != ':' || rest.n == 1 ||
		    view_find(view_from(rest, 1), ':') + 1 != rest.n ||
		    !netaddr_split_hostport(rest, &none, &port, SMTP_PORT) ||
		    none.n > 0 || port == 0)
			return false;
		h.port = port;
		h.service = view_from(rest, 1);
		if (h.service.p[0] >= '0' && h.service.p[0] <= '9')
			h.service.n = 0;
		h.port_given = true;
	}
	/* A numeric host without brackets is not a domain either. */
	if (netaddr_parse(literal, &h.addr)) {
		if (view_starts_nocase(h.host, "IPv6:"))
			h.host = view_from(h.host, 5);
		h.addr.port = h.port;
		h.numeric = true;
		h.mx = false;
	}
	*ret = h;
	return true;
}

static int
route_compare(const void *a, const void *b)
{
	const struct relay_address *x = a, *y = b;

	return (x->preference > y->preference) -
	    (x->preference < y->preference);
}

static int
route_compare_ipv4(const void *a, const void *b)
{
	const struct relay_address *x = a, *y = b;
	int order = route_compare(a, b);

	return order != 0 ? order : (x->addr.family != AF_INET) -
	    (y->addr.family != AF_INET);
}

static int
route_compare_ipv6(const void *a, const void *b)
{
	const struct relay_address *x = a, *y = b;
	int order = route_compare(a, b);

	return order != 0 ? order : (x->addr.family != AF_INET6) -
	    (y->addr.family != AF_INET6);
}

/* Insertion keeps equals in their (shuffled) order, as qsort() need not. */
static void
route_sort(struct relay_address *list, size_t n,
    int (*compare)(const void *, const void *))
{
	struct relay_address one;
	size_t i, k;

	for (i = 1; i < n; i++) {
		one = list[i];
		for (k = i; k > 0 && compare(&list[k - 1], &one) > 0; k--)
			list[k] = list[k - 1];
		list[k] = one;
	}
}

void
relay_route_order(struct relay_address *list, size_t n,
    enum relay_family preferred, bool shuffle)
{
	struct relay_address one;
	size_t i, k;

	for (i = shuffle ? n : 0; i > 1; i--) {
		k = arc4random_uniform((uint32_t)i);
		one = list[i - 1];
		list[i - 1] = list[k];
		list[k] = one;
	}
	route_sort(list, n, preferred == FAMILY_IPV4 ? route_compare_ipv4 :
	    preferred == FAMILY_IPV6 ? route_compare_ipv6 : route_compare);
}

size_t
relay_route_only(struct relay_address *list, size_t n,
    enum relay_family family)
{
	size_t i, kept = 0;

	for (i = 0; i < n; i++)
		if (family == FAMILY_ANY ||
		    (family == FAMILY_IPV4) == (list[i].addr.family == AF_INET))
			list[kept++] = list[i];
	return kept;
}

size_t
relay_route_drop_own(struct relay_address *list, size_t n,
    const struct netaddr *own, size_t n_own, bool *ret_self)
{
	size_t i, k;
	unsigned preference = UINT16_MAX + 1u;

	for (i = 0; i < n; i++)
		for (k = 0; k < n_own; k++)
			if (netaddr_equal(&list[i].addr, &own[k]) &&
			    list[i].preference < preference)
				preference = list[i].preference;
	*ret_self = preference <= UINT16_MAX;
	for (i = 0; i < n; i++)
		if (list[i].preference >= preference)
			break;
	return i;
}

size_t
relay_route_limit(struct relay_address *list, size_t n, size_t max,
    bool balance)
{
	size_t of[2] = { 0 }, may[2] = { max, max }, i, kept = 0, k;

	if (n <= max)
		return n;
	for (i = 0; i < n; i++)
		of[list[i].addr.family == AF_INET6]++;
	for (k = 0; balance && k < 2; k++)
		/* The odd place is for whoever comes first. */
		if (of[k] > 0 && of[!k] > 0 && max > 1)
			may[k] = max - (of[!k] < max / 2 ? of[!k] : max / 2);
	for (i = 0; i < n && kept < max; i++) {
		k = list[i].addr.family == AF_INET6;
		if (may[k] == 0)
			continue;
		may[k]--;
		list[kept++] = list[i];
	}
	return kept;
}
