/*
 * The DNS resolvers of this system: dns_resolvers, or else those that
 * /etc/resolv.conf names; and by what an answer of theirs counts as proven by
 * DNSSEC.  Read before the jail.
 */
#ifndef LIB_RESOLVERS_H
#define LIB_RESOLVERS_H

#include "lib/conf.h"
#include "lib/netaddr.h"

#define RESOLVERS_MAX	8u
#define RESOLV_CONF	"/etc/resolv.conf"

struct resolvers {
	struct netaddr list[RESOLVERS_MAX];	/* with their ports */
	size_t n;
	bool more;		/* there are others: too many, or no address */
};

void resolvers_find(const struct conf *cf, struct resolvers *ret);

enum dnssec_trust {
	DNSSEC_NONE = 0,
	DNSSEC_ANCHORS,		/* what dns_trust_anchor_file proves */
	DNSSEC_AD		/* what the resolver says to have proven: its
				 * AD bit (RFC 4035 section 3.2.3), since all
				 * resolvers are on this host's loopback */
};

/* why: which, and for DNSSEC_NONE what is missing, as the end of a sentence
 * in log lines. */
#define DNSSEC_WHY_MAX	300u
enum dnssec_trust dnssec_trust(const struct conf *cf,
    const struct resolvers *r, char why[DNSSEC_WHY_MAX]);

#endif
