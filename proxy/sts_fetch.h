/*
 * A policy, fetched from its web server (RFC 8461 section 3.3): libevent's
 * HTTP over OpenSSL.  The certificate is verified for the name of the host;
 * nothing but "200" with a text of at most STS_TEXT_MAX bytes is an answer;
 * no redirect is followed and nothing is cached.
 *
 * A TLS report is sent to its web server in the same way (RFC 8460 section
 * 5.4): any "2xx" is an answer, its text does not matter.
 */
#ifndef PROXY_STS_FETCH_H
#define PROXY_STS_FETCH_H

#include "lib/conf.h"
#include "lib/netaddr.h"

#define STS_FETCH_ADDRESSES	4u	/* that are tried */

enum sts_fetched { FETCHED_TEXT = 1, FETCHED_NOTHING,
	FETCHED_CERTIFICATE	/* nothing: it is not that host's, or expired */
};

struct sts_fetch;
/* text and why are void after the call. */
typedef void sts_fetch_done(enum sts_fetched what, struct view text,
    const char *why, void *arg);

/* Before the jail.  Fatal if the authorities cannot be read. */
void sts_fetch_load(const struct conf *cf);

/* What is sent; void after sts_fetch_begin(). */
struct sts_post {
	const char *path;	/* "/a?b": clean, it stands in the request */
	const char *type;	/* of the body */
	struct view body;
};

/* post: NULL, fetch a policy.  n is at least 1; those over STS_FETCH_ADDRESSES
 * are not used.  done is never called before this returns, nor after
 * sts_fetch_cancel(). */
struct sts_fetch *sts_fetch_begin(const char *host,
    const struct netaddr *addr, size_t n, const struct sts_post *post,
    sts_fetch_done *done, void *arg);
/* NULL is allowed. */
void sts_fetch_cancel(struct sts_fetch **f);

/* Is that an address to connect to: of the Internet, or others may be? */
bool sts_fetch_may(const struct netaddr *addr);

/* "text/plain", with parameters or without. */
bool sts_fetch_plain(const char *content_type);

#endif
