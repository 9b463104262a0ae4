/*
 * Where a domain wants its TLS reports (RFC 8460 section 3): the TXT record at
 * _smtp._tls.DOMAIN.  Pure.
 *
 * It is read strictly, and its addresses are those of whoever owns the
 * domain: nothing but a plain address, or a host and a path, is taken.  URIs
 * of other kinds are passed over.
 */
#ifndef RULES_TLSRPT_RECORD_H
#define RULES_TLSRPT_RECORD_H

#include "lib/buf.h"

#define TLSRPT_URI_MAX	1000u		/* bytes */
#define TLSRPT_URIS_MAX	20u		/* that are looked at */

enum tlsrpt_record {
	TLSRPT_RECORD_OTHER = 1,	/* not about this: it does not count */
	TLSRPT_RECORD_BAD,
	TLSRPT_RECORD_GOOD
};

struct tlsrpt_uris {
	size_t n;
	struct view uri[TLSRPT_URIS_MAX];	/* as they stand there */
};

/* *ret has parts of text; there may be none that can be used. */
enum tlsrpt_record tlsrpt_record_read(struct view text,
    struct tlsrpt_uris *ret);
/* "mailto:a@b.example": the address is put.  False: it is none. */
bool tlsrpt_uri_mail(struct view uri, struct buf *address);
/* "https://host/path": host, in lower case, and "/path?..." are put.  No port
 * but 443, no user, no address in place of the name. */
bool tlsrpt_uri_https(struct view uri, struct buf *host, struct buf *path);

#endif
