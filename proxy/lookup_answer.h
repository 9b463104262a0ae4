/*
 * What stands in DNS records: pure functions from the bytes of a record's
 * data (uncompressed, RFC 1035 section 3.3) to values.  Records come from
 * anybody; one that is not exactly as it should be is refused.  Host names
 * come out as letters, digits, '-', '_' and dots only, without the last dot.
 */
#ifndef PROXY_LOOKUP_ANSWER_H
#define PROXY_LOOKUP_ANSWER_H

#include "lib/buf.h"
#include "lib/netaddr.h"

#define ANSWER_NAME_MAX	254	/* text of a name, with its NUL */

enum answer_name { ANSWER_BAD = 0, ANSWER_ROOT, ANSWER_HOST };

/* The name that fills data (PTR, NS, CNAME). */
enum answer_name answer_name(struct view data, char ret[ANSWER_NAME_MAX]);
/* MX: ANSWER_ROOT is the null MX of RFC 7505. */
enum answer_name answer_mx(struct view data, uint16_t *ret_preference,
    char ret[ANSWER_NAME_MAX]);
/* SRV (RFC 2782): ANSWER_ROOT says that there is no such service. */
struct answer_srv {
	uint16_t priority, weight, port;
	char target[ANSWER_NAME_MAX];
};
enum answer_name answer_srv(struct view data, struct answer_srv *ret);
/* In the order in which they are tried: by priority, then drawn by weight with
 * random(n), a number below n. */
void answer_srv_order(struct answer_srv *list, size_t n,
    uint32_t (*random)(uint32_t n));
/* TXT: its strings, joined, as much of them as there is room for.  False: it
 * is none. */
bool answer_txt(struct view data, struct buf *out);
/* A or AAAA, by family. */
bool answer_address(struct view data, int family, struct netaddr *ret);

/* A name to ask for, of printable ASCII without escapes (RFC 1035 section 5.1)
 * and not empty. */
bool answer_plain(struct view name);

/* "1.2.0.192.in-addr.arpa", "...ip6.arpa" (RFC 3596 section 2.5) */
#define ANSWER_REVERSE_MAX	80
void answer_reverse(const struct netaddr *a, char ret[ANSWER_REVERSE_MAX]);

/* A line of /etc/hosts: its address and first name. */
bool answer_hosts_line(struct view line, struct netaddr *ret_addr,
    struct view *ret_name);

#endif
