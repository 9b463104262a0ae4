#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>

#include "lib/log.h"
#include "proxy/relay.h"

static void
own_add(struct relay *r, const struct sockaddr *sa, socklen_t n)
{
	struct netaddr a = netaddr_from_sockaddr(sa, n);

	if (a.family != 0 && r->n_own < RELAY_OWN_MAX)
		r->own[r->n_own++] = a;
}

/* Addresses of the interfaces that are up. */
static void
own_interfaces(struct relay *r, bool loopback_only)
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
			own_add(r, i->ifa_addr, sizeof(struct sockaddr_in));
		else if (i->ifa_addr->sa_family == AF_INET6)
			own_add(r, i->ifa_addr, sizeof(struct sockaddr_in6));
	}
	freeifaddrs(list);
}

static void
own_name(struct relay *r, struct view word)
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
		own_add(r, i->ai_addr, i->ai_addrlen);
	freeaddrinfo(list);
}

void
relay_load_own(struct relay *r)
{
	struct view rest = view_of(r->conf->inet_interfaces), word;
	struct netaddr a;

	while ((word = conf_word(&rest)).n > 0) {
		if (view_is_nocase(word, "all"))
			own_interfaces(r, false);
		else if (view_is_nocase(word, "loopback-only"))
			own_interfaces(r, true);
		else if (!netaddr_parse(word, &a))
			own_name(r, word);
		else if (r->n_own < RELAY_OWN_MAX)
			r->own[r->n_own++] = a;
	}
}
