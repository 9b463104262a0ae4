/*
 * Addresses, blocks, hosts with ports, and addresses as bytes.
 */
#include "lib/log.h"
#include "lib/netaddr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_address(const struct netaddr *a)
{
	char text[NETADDR_TEXT];
	struct sockaddr_storage ss;
	struct netaddr again;
	socklen_t n;

	ensure(a->family == AF_INET || a->family == AF_INET6);
	ensure(netaddr_parse(view_of(netaddr_text(a, text)), &again));
	ensure(netaddr_equal(a, &again));
	n = netaddr_to_sockaddr(a, &ss);
	again = netaddr_from_sockaddr((struct sockaddr *)&ss, n);
	ensure(netaddr_equal(a, &again));
	ensure(netaddr_from_bytes(netaddr_bytes(a), &again));
	ensure(netaddr_equal(a, &again));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view v = view_make(data, size), host;
	struct sockaddr_storage ss = { 0 };
	struct netaddr a;
	unsigned bits;
	uint16_t port;

	if (netaddr_parse(v, &a))
		check_address(&a);
	if (netaddr_parse_block(v, &a, &bits)) {
		ensure(bits <= (a.family == AF_INET ? 32u : 128u));
		ensure(netaddr_in_block(&a, &a, bits));
	}
	for (uint16_t fallback = 0; fallback <= 25; fallback += 25) {
		if (netaddr_split_hostport(v, &host, &port, fallback)) {
			ensure(port > 0);
			ensure(host.n == 0 || (host.p >= v.p &&
			    host.p + host.n <= v.p + v.n));
		}
	}
	if (netaddr_from_bytes(v, &a))
		check_address(&a);
	memcpy(&ss, data, size < sizeof(ss) ? size : sizeof(ss));
	a = netaddr_from_sockaddr((struct sockaddr *)&ss,
	    (socklen_t)(size < sizeof(ss) ? size : sizeof(ss)));
	if (a.family != 0)
		check_address(&a);
	return 0;
}
