#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "lib/own_addr.h"

struct own {
	struct netaddr *list;
	size_t n, max;
};

static void
own_add(struct own *o, const struct sockaddr *sa, socklen_t n)
{
	struct netaddr a = netaddr_from_sockaddr(sa, n);

	if (a.family != 0 && o->n < o->max)
		o->list[o->n++] = a;
}

/* Addresses of the interfaces that are up. */
static void
own_interfaces(struct own *o, bool loopback_only)
{
	struct ifaddrs *list, *i;

	if (getifaddrs(&list) != 0) {
		log_warn("getifaddrs: %s", strerror(errno));
		return;
	}
	for (i = list; i != NULL; i = i->ifa_next) {
		if (i->ifa_addr == NULL || (i->ifa_flags & IFF_UP) == 0 ||
		    (loopback_only && (i->ifa_flags & IFF_LOOPBACK) == 0))
			continue;
		if (i->ifa_addr->sa_family == AF_INET)
			own_add(o, i->ifa_addr, sizeof(struct sockaddr_in));
		else if (i->ifa_addr->sa_family == AF_INET6)
			own_add(o, i->ifa_addr, sizeof(struct sockaddr_in6));
	}
	freeifaddrs(list);
}

static void
own_name(struct own *o, struct view word)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *i;
	char name[256];
	int rc;

	if (word.n >= sizeof name)
		return;
	memcpy(name, word.p, word.n);
	name[word.n] = '\0';
	rc = getaddrinfo(name, NULL, &hints, &list);
	if (rc != 0) {
		log_warn("inet_interfaces: %s: %s", name, gai_strerror(rc));
		return;
	}
	for (i = list; i != NULL; i = i->ai_next)
		own_add(o, i->ai_addr, i->ai_addrlen);
	freeaddrinfo(list);
}

size_t
own_addresses(const struct conf *cf, struct netaddr *ret, size_t max)
{
	struct view rest = view_of(cf->inet_interfaces), word;
	struct own o = { ret, 0, max };
	struct netaddr a;

	while ((word = conf_word(&rest)).n > 0) {
		if (view_is_nocase(word, "all"))
			own_interfaces(&o, false);
		else if (view_is_nocase(word, "loopback-only"))
			own_interfaces(&o, true);
		else if (!netaddr_parse(word, &a))
			own_name(&o, word);
		else if (o.n < o.max)
			o.list[o.n++] = a;
	}
	return o.n;
}

bool
own_proxy_parse(struct view text, struct netaddr ret[OWN_ADDR_MAX],
    size_t *ret_n, char *why, size_t why_size)
{
	struct netaddr a;
	struct view word;
	size_t n = 0;

	while ((word = conf_word(&text)).n > 0) {
		if (!netaddr_parse(word, &a)) {
			(void)snprintf(why, why_size, "not an IP address: "
			    "%.*s", VIEW_ARGS(view_head(word, 100)));
			return false;
		}
		if (n == OWN_ADDR_MAX) {
			(void)snprintf(why, why_size, "more than %u addresses",
			    OWN_ADDR_MAX);
			return false;
		}
		ret[n++] = a;
	}
	*ret_n = n;
	return true;
}

struct netaddr *
own_and_proxies(const struct conf *cf, const struct netaddr *own, size_t n,
    size_t *ret_n)
{
	struct netaddr proxies[OWN_ADDR_MAX], *list;
	size_t n_proxies = 0;
	char why[256];

	/* It was checked when main.cf was read. */
	(void)own_proxy_parse(view_of(cf->proxy_interfaces), proxies,
	    &n_proxies, why, sizeof why);
	list = mem_array(n + n_proxies, sizeof *list);
	if (n > 0)
		memcpy(list, own, n * sizeof *list);
	if (n_proxies > 0)
		memcpy(list + n, proxies, n_proxies * sizeof *list);
	*ret_n = n + n_proxies;
	return list;
}
