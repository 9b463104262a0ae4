/*
 * What TLS with a next hop must be: the parameters smtp_tls_*, an entry of
 * smtp_tls_policy_maps in their place (tls_policy(5)), or what the receiving
 * domain publishes (RFC 8461).  Pure; what it says about a session is held by
 * who has the session.
 *
 * All views of a policy are of the configuration or of the arena it was made
 * with.
 */
#ifndef RULES_TLS_POLICY_H
#define RULES_TLS_POLICY_H

#include "lib/conf.h"
#include "lib/mem.h"
#include "lib/tls_words.h"
#include "rules/table.h"

#define TLS_MATCHES_MAX		100u
#define TLS_POLICY_KEY_MAX	16384u

enum tls_source { TLS_FROM_CONF = 1, TLS_FROM_TABLE, TLS_FROM_DOMAIN };

struct tls_policy {
	enum tls_level level;
	enum tls_source source;
	struct view protocols, ciphers, exclude;
	struct view servername;	/* "", "hostname", "nexthop" or a name */
	/* Names, or at level fingerprint those: one must be shown. */
	struct view match[TLS_MATCHES_MAX];
	size_t n_match;
	/* The hosts that mail may go to, "*.example.com" or a name; none: all
	 * of the MX. */
	struct view hosts[TLS_MATCHES_MAX];
	size_t n_hosts;
	/* All of the above as a text: sessions made for equal ones may be
	 * exchanged. */
	struct view key;
};

/* Is level one at which the server must be known? */
static inline bool
tls_level_matches(enum tls_level level)
{
	return level > TLS_LEVEL_ENCRYPT;
}

/* Does it compare with names, or fingerprints, that are told here? */
static inline bool
tls_level_names(enum tls_level level)
{
	return level == TLS_LEVEL_FINGERPRINT || level > TLS_LEVEL_DANE_ONLY;
}

/* By the parameters alone.  False: *why is what is wrong with them. */
bool tls_policy_conf(const struct conf *cf, struct arena *a,
    struct tls_policy *ret, struct buf *why);
/* The same for mail that need not be protected (RFC 8689 section 5). */
bool tls_policy_relaxed(const struct conf *cf, struct arena *a,
    struct tls_policy *ret, struct buf *why);
/* By an entry of a table; what it does not say, the parameters do. */
bool tls_policy_entry(const struct conf *cf, struct view entry,
    struct arena *a, struct tls_policy *ret, struct buf *why);
/*
 * By what the domain says in its mode "enforce": only these hosts, each with
 * a certificate that an authority has signed for its name.  Without
 * smtp_tls_enforce_sts_mx_patterns: any host, with a certificate for one of
 * these names.
 */
bool tls_policy_domain(const struct conf *cf, const struct view *hosts,
    size_t n, struct arena *a, struct tls_policy *ret, struct buf *why);
/* May mail go to this host? */
bool tls_policy_host(const struct tls_policy *p, struct view host);

/*
 * The entry for a next hop as transport_maps has it: for the whole of it, then
 * for its parent domains with a dot in front, if it is a domain.
 */
enum table_answer tls_policy_find(const struct table_list *maps,
    struct view hop, struct buf *value, const struct table **ret_table,
    unsigned *ret_line);

#endif
