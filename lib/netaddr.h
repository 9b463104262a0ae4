/*
 * Network addresses and blocks.  An address is a value; IPv4-mapped IPv6 is
 * turned into IPv4 when it is read, so one client has one form.
 */
#ifndef LIB_NETADDR_H
#define LIB_NETADDR_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/view.h"

struct netaddr {
	uint8_t family;		/* AF_INET, AF_INET6; 0: none (unix socket) */
	uint8_t b[16];		/* network order; IPv4 uses the first 4 */
	uint16_t port;		/* host order; 0 where it has no meaning */
};

/* "192.0.2.1" or "2001:db8::1", optionally as "[...]" or "[IPv6:...]". */
bool netaddr_parse(struct view text, struct netaddr *ret);
struct netaddr netaddr_from_sockaddr(const struct sockaddr *sa, socklen_t n);
/* Returns the length for bind() and connect(). */
socklen_t netaddr_to_sockaddr(const struct netaddr *a,
    struct sockaddr_storage *ret);
/* Numeric text without port, in the caller's buffer; returns buf. */
#define NETADDR_TEXT	48
const char *netaddr_text(const struct netaddr *a, char buf[NETADDR_TEXT]);
/* Bytes of the address: 4 or 16. */
struct view netaddr_bytes(const struct netaddr *a);
/* From 4 or 16 bytes. */
bool netaddr_from_bytes(struct view v, struct netaddr *ret);
/* True if the first `bits` bits are the same and so is the family. */
bool netaddr_in_block(const struct netaddr *a, const struct netaddr *block,
    unsigned bits);
bool netaddr_equal(const struct netaddr *a, const struct netaddr *b);
/* Who listens everywhere (0.0.0.0, ::) is reached at home; others where they
 * are. */
struct netaddr netaddr_reachable(const struct netaddr *a);
/*
 * "192.0.2.0/24", "[2001:db8::]/32", "2001:db8::/32", or an address alone
 * (then bits is 32 or 128).  A block with host bits set is refused, as
 * Postfix does.
 */
bool netaddr_parse_block(struct view text, struct netaddr *ret,
    unsigned *ret_bits);
/*
 * "host:port", ":port", "port", "[v6]:port", "addr:port".  Host may be empty
 * or a name; it comes back without its brackets.  Ports may be service names
 * (smtp, submission, smtps, ...; from a table of our own, no file is read).
 * Text without a colon is a port if it is digits, or if default_port is 0;
 * else a host.
 */
bool netaddr_split_hostport(struct view text, struct view *ret_host,
    uint16_t *ret_port, uint16_t default_port);

#endif
