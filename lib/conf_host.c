/*
 * What main.cf leaves to the machine: its name, its domain, its networks.
 */
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/conf_source.h"
#include "lib/netaddr.h"

#define BLOCKS_MAX	256
#define DEFAULT_DOMAIN	"localdomain"

struct block {
	struct netaddr addr;
	unsigned bits;
};

struct networks {
	struct block list[BLOCKS_MAX];
	size_t n;
	struct netaddr listen[BLOCKS_MAX];	/* of inet_interfaces */
	size_t n_listen;
	bool all, loopback;
	bool ipv4, ipv6;
};

static void
networks_add(struct networks *nets, const struct netaddr *a, unsigned bits)
{
	struct netaddr masked = *a;
	unsigned i, full = a->family == AF_INET ? 4 : 16;

	for (i = 0; i < full; i++) {
		unsigned keep = bits > i * 8 ? bits - i * 8 : 0;

		if (keep < 8)
			masked.b[i] &= (uint8_t)(0xff00u >> keep);
	}
	masked.port = 0;
	for (i = 0; i < nets->n; i++)
		if (nets->list[i].bits <= bits && netaddr_in_block(&masked,
		    &nets->list[i].addr, nets->list[i].bits))
			return;
	if (nets->n < BLOCKS_MAX)
		nets->list[nets->n++] = (struct block){ masked, bits };
}

static void
networks_add_text(struct networks *nets, const char *text, unsigned bits)
{
	struct netaddr a;

	if (netaddr_parse(view_of(text), &a))
		networks_add(nets, &a, bits);
}

static void
networks_listen(struct networks *nets, const struct netaddr *a)
{
	if (nets->n_listen < BLOCKS_MAX)
		nets->listen[nets->n_listen++] = *a;
}

/* A word of inet_interfaces. */
static void
networks_interface(struct networks *nets, struct view word)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *ai;
	struct netaddr a;
	char *name;

	if (view_is_nocase(word, "all")) {
		nets->all = true;
	} else if (view_is_nocase(word, "loopback-only") ||
	    view_is_nocase(word, "localhost")) {
		nets->loopback = true;
	} else if (netaddr_parse(word, &a)) {
		networks_listen(nets, &a);
	} else if (word.n <= NI_MAXHOST) {
		name = mem_copy(word);
		if (getaddrinfo(name, NULL, &hints, &list) == 0) {
			for (ai = list; ai != NULL; ai = ai->ai_next) {
				a = netaddr_from_sockaddr(ai->ai_addr,
				    ai->ai_addrlen);
				networks_listen(nets, &a);
			}
			freeaddrinfo(list);
		}
		free(name);
	}
}

static bool
networks_wanted(const struct networks *nets, const struct ifaddrs *ifa,
    const struct netaddr *a)
{
	size_t i;

	if (a->family == AF_INET ? !nets->ipv4 : !nets->ipv6)
		return false;
	if (nets->all || (nets->loopback &&
	    (ifa->ifa_flags & IFF_LOOPBACK) != 0))
		return true;
	for (i = 0; i < nets->n_listen; i++)
		if (netaddr_equal(a, &nets->listen[i]))
			return true;
	return false;
}

static unsigned
mask_bits(const struct sockaddr *mask, unsigned full)
{
	const struct sockaddr_in *in4;
	const struct sockaddr_in6 *in6;
	const uint8_t *p;
	unsigned bits = 0;

	if (mask == NULL)
		return full;
	in4 = (const struct sockaddr_in *)(const void *)mask;
	in6 = (const struct sockaddr_in6 *)(const void *)mask;
	p = full == 32 ? (const uint8_t *)&in4->sin_addr :
	    in6->sin6_addr.s6_addr;
	while (bits < full && (p[bits / 8] & (0x80u >> bits % 8)) != 0)
		bits++;
	/* No mask at all would let the whole world relay. */
	return bits > 0 ? bits : full;
}

static unsigned
class_bits(const struct netaddr *a, unsigned subnet)
{
	if (a->family != AF_INET)
		return subnet;
	return a->b[0] < 128 ? 8 : a->b[0] < 192 ? 16 : a->b[0] < 224 ? 24 :
	    32;
}

static void
networks_protocols(struct networks *nets, struct view protocols)
{
	char why[256];
	uint32_t set;

	/* It may not have been checked yet. */
	if (!conf_choice_good("inet_protocols", protocols, why, sizeof why))
		return;
	set = conf_choice("inet_protocols", protocols);
	nets->ipv4 = (set & PROTOCOL_IPV4) != 0;
	nets->ipv6 = (set & PROTOCOL_IPV6) != 0;
}

static void
networks_put(const struct networks *nets, struct buf *out)
{
	char text[NETADDR_TEXT];
	size_t i;

	for (i = 0; i < nets->n; i++) {
		const struct block *b = &nets->list[i];

		(void)netaddr_text(&b->addr, text);
		(void)buf_printf(out, b->addr.family == AF_INET ?
		    "%s%s/%u" : "%s[%s]/%u", i > 0 ? " " : "", text, b->bits);
	}
}

bool
conf_default_networks(struct view style, struct view interfaces,
    struct view protocols, struct buf *out)
{
	char why[256];
	enum networks_style s;
	struct networks *nets;
	struct ifaddrs *list = NULL, *ifa;
	struct netaddr a;
	struct view word;
	unsigned full, bits;

	if (!conf_choice_good("mynetworks_style", style, why, sizeof why))
		return false;
	s = conf_choice("mynetworks_style", style);
	nets = mem_alloc(sizeof *nets);
	networks_protocols(nets, protocols);
	while ((word = conf_word(&interfaces)).n > 0)
		networks_interface(nets, word);
	if (nets->ipv4)
		networks_add_text(nets, "127.0.0.0", 8);
	if (nets->ipv6)
		networks_add_text(nets, "::1", 128);
	if (getifaddrs(&list) != 0)
		list = NULL;
	for (ifa = list; ifa != NULL; ifa = ifa->ifa_next) {
		if (ifa->ifa_addr == NULL ||
		    (ifa->ifa_addr->sa_family != AF_INET &&
		    ifa->ifa_addr->sa_family != AF_INET6))
			continue;
		full = ifa->ifa_addr->sa_family == AF_INET ? 32 : 128;
		a = netaddr_from_sockaddr(ifa->ifa_addr, full == 32 ?
		    sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
		if (!networks_wanted(nets, ifa, &a))
			continue;
		bits = mask_bits(ifa->ifa_netmask, full);
		networks_add(nets, &a, s == NETWORKS_HOST ? full :
		    s == NETWORKS_CLASS ? class_bits(&a, bits) : bits);
	}
	if (list != NULL)
		freeifaddrs(list);
	networks_put(nets, out);
	free(nets);
	return true;
}

/* Expanded without reports: the parameter's own turn to report comes. */
static void
quiet_value(struct conf_source *src, const char *name, struct buf *out)
{
	struct conf_reporter quiet = { NULL, NULL, src->origin, 0 };
	struct view value = { NULL, 0 };
	unsigned line = 0;

	(void)conf_source_value(src, view_of(name), &value, &line);
	if (!conf_expand_into(src, &quiet, view_of(name), line, value, out))
		buf_clear(out);
}

static bool
is_set(const struct conf_source *src, const char *name)
{
	const struct conf_setting *s = conf_source_find(src, view_of(name));

	return s != NULL && s->value.n > 0;
}

static void
compute(struct conf_source *src, const char *name, struct view value)
{
	struct conf_setting *s;

	s = conf_source_set(src, view_of(name), view_trim(value), 0);
	if (s != NULL)
		s->computed = true;
}

/* As one would write it in main.cf: expansion gives `domain` again. */
static void
compute_domain(struct conf_source *src, struct view domain)
{
	struct buf b;
	size_t i;
	bool ok = true;

	buf_init(&b, CONF_LINE_MAX);
	for (i = 0; ok && i < domain.n; i++)
		ok = (domain.p[i] != '$' || buf_putc(&b, '$')) &&
		    buf_putc(&b, domain.p[i]);
	compute(src, "mydomain", ok && b.n > 0 ? buf_view(&b) :
	    view_of(DEFAULT_DOMAIN));
	buf_free(&b);
}

static void
compute_name(struct conf_source *src)
{
	bool named = is_set(src, "myhostname");
	char host[256] = "";
	size_t dot;
	struct buf b;

	buf_init(&b, CONF_EXPANDED_MAX);
	if (named) {
		quiet_value(src, "myhostname", &b);
	} else {
		if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0')
			(void)buf_puts(&b, "localhost");
		else
			(void)buf_puts(&b, host);
	}
	dot = view_find(buf_view(&b), '.');
	if (!is_set(src, "mydomain"))
		compute_domain(src, view_trim(view_from(buf_view(&b),
		    dot + 1)));
	if (!named) {
		if (dot == b.n)
			(void)buf_puts(&b, ".$mydomain");
		compute(src, "myhostname", buf_view(&b));
	}
	buf_free(&b);
}

void
conf_source_compute(struct conf_source *src)
{
	struct buf style, interfaces, protocols, nets;

	compute_name(src);
	/* An empty mynetworks is a decision: nobody may relay. */
	if (conf_source_find(src, view_of("mynetworks")) != NULL)
		return;
	buf_init(&style, CONF_EXPANDED_MAX);
	buf_init(&interfaces, CONF_EXPANDED_MAX);
	buf_init(&protocols, CONF_EXPANDED_MAX);
	buf_init(&nets, CONF_LINE_MAX);
	quiet_value(src, "mynetworks_style", &style);
	quiet_value(src, "inet_interfaces", &interfaces);
	quiet_value(src, "inet_protocols", &protocols);
	/* Another style is reported with the other values. */
	if (conf_default_networks(view_trim(buf_view(&style)),
	    buf_view(&interfaces), buf_view(&protocols), &nets))
		compute(src, "mynetworks", buf_view(&nets));
	buf_free(&style);
	buf_free(&interfaces);
	buf_free(&protocols);
	buf_free(&nets);
}
