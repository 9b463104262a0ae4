#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/resolvers.h"

#define DNS_PORT	53
#define ROOT_ANCHORS	"/usr/share/dns/root.key"

/* "address" or "address@port" */
static void
resolvers_add(struct resolvers *r, struct view word)
{
	size_t at = view_find(word, '@');
	int64_t port = DNS_PORT;
	struct netaddr a;

	if (r->n == RESOLVERS_MAX || !netaddr_parse(view_head(word, at), &a) ||
	    (at < word.n && !conf_parse_int(view_from(word, at + 1), 1, 65535,
	    &port))) {
		r->more = true;
		return;
	}
	a.port = (uint16_t)port;
	r->list[r->n++] = a;
}

void
resolvers_find(const struct conf *cf, struct resolvers *ret)
{
	struct view rest = view_of(cf->dns_resolvers), word;
	FILE *f = rest.n == 0 ? fopen(RESOLV_CONF, "re") : NULL;
	char *line = NULL;
	size_t cap = 0;

	*ret = (struct resolvers){ .n = 0 };
	while ((word = conf_word(&rest)).n > 0)
		resolvers_add(ret, word);
	while (f != NULL && getline(&line, &cap, f) > 0) {
		rest = view_of(line);
		if (view_is(view_word(&rest, " \t\r\n"), "nameserver"))
			resolvers_add(ret, view_word(&rest, " \t\r\n"));
	}
	free(line);
	if (f != NULL)
		(void)fclose(f);
}

/* 127.0.0.0/8, ::1: nobody else can send what comes from there (RFC 1122
 * section 3.2.1.3, RFC 4291 section 2.5.3). */
static bool
resolver_is_local(const struct netaddr *a)
{
	return a->family == AF_INET ? a->b[0] == 127 :
	    a->family == AF_INET6 && memcmp(a->b, &in6addr_loopback,
	    sizeof a->b) == 0;
}

static const struct netaddr *
resolvers_remote(const struct resolvers *r)
{
	size_t i;

	for (i = 0; i < r->n; i++)
		if (!resolver_is_local(&r->list[i]))
			return &r->list[i];
	return NULL;
}

static const char *
anchors_hint(void)
{
	return access(ROOT_ANCHORS, R_OK) == 0 ? " (" ROOT_ANCHORS
	    " is there)" : "";
}

enum dnssec_trust
dnssec_trust(const struct conf *cf, const struct resolvers *r,
    char why[DNSSEC_WHY_MAX])
{
	const struct netaddr *remote = resolvers_remote(r);
	char text[NETADDR_TEXT];

	if (cf->dns_trust_anchor_file[0] != '\0') {
		(void)snprintf(why, DNSSEC_WHY_MAX, "answers are validated "
		    "with dns_trust_anchor_file = %s",
		    cf->dns_trust_anchor_file);
		return DNSSEC_ANCHORS;
	}
	if (conf_choice("dns_trust_ad", view_of(cf->dns_trust_ad)) ==
	    TRUST_AD_AUTO && r->n > 0 && !r->more && remote == NULL) {
		(void)snprintf(why, DNSSEC_WHY_MAX, "the resolver on "
		    "loopback is believed (%s)",
		    netaddr_text(&r->list[0], text));
		return DNSSEC_AD;
	}
	if (remote != NULL)
		(void)snprintf(why, DNSSEC_WHY_MAX, "no dns_trust_anchor_file"
		    "%s, and the resolver %s is not on loopback",
		    anchors_hint(), netaddr_text(remote, text));
	else
		(void)snprintf(why, DNSSEC_WHY_MAX, "no dns_trust_anchor_file"
		    "%s, and %s", anchors_hint(), r->more ? "the resolvers "
		    "are not understood, or too many" : r->n == 0 ?
		    "no resolver is named in " RESOLV_CONF :
		    "dns_trust_ad = no");
	return DNSSEC_NONE;
}
