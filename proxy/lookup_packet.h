/*
 * An answer of the DNS as it came over the network (RFC 1035 section 4),
 * read with the C library's ns_parserr(): for what libunbound has not read
 * before.  Aliases are followed inside the answer, as a resolver has to put
 * them there.  It comes from anybody; what is not exactly an answer to the
 * question is a failure, and a record whose names cannot be read is none.
 */
#ifndef PROXY_LOOKUP_PACKET_H
#define PROXY_LOOKUP_PACKET_H

#include "proxy/lookup_dns.h"

#define PACKET_NAME_MAX	1026u	/* of text: each byte may need four */
#define PACKET_DATA_MAX	264u	/* of a record with a name in it */

/* What the views of the answer point to, other than the message. */
struct packet_room {
	char data[DNS_RECORDS_MAX][PACKET_DATA_MAX];
	char name[PACKET_NAME_MAX];
};

/* ret->secure is the AD bit, whoever set it. */
void packet_read(struct view message, const char *name, enum dns_type type,
    struct packet_room *room, struct dns_answer *ret);

#endif
