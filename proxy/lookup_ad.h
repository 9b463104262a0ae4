/*
 * Questions of which it has to be known whether the answer is proven by DNSSEC,
 * to resolvers that are believed when they say so: by c-ares, since libunbound
 * drops the AD bit of what it has not validated itself.
 *
 * Only for resolvers on loopback (dnssec_trust() says DNSSEC_AD).  The
 * questions ask for the bit (AD and DO set, RFC 6840 section 5.7, RFC 3225);
 * answers come from the resolver's own address and port, by a connected
 * socket.  What was cut short by UDP is asked again by TCP; a resolver that
 * fails or is silent, after the others and about 20 seconds, is DNS_FAILED, as
 * is the SERVFAIL for an answer that was forged.  Nothing is kept: that is the
 * resolver's part.
 */
#ifndef PROXY_LOOKUP_AD_H
#define PROXY_LOOKUP_AD_H

#include "lib/resolvers.h"
#include "proxy/lookup_dns.h"

#define AD_OPEN_MAX	8000u	/* questions at once */

struct ad_question;

/* Before the jail; of r only these are asked. */
void ad_load(const struct conf *cf, const struct resolvers *r);
/* Inside. */
void ad_start(void);
/* NULL: too many are open.  done as with dns_ask(), with which the question is
 * void. */
struct ad_question *ad_ask(const char *name, enum dns_type type,
    dns_done *done, void *arg) __attribute__((warn_unused_result));
/* done is not called any more. */
void ad_cancel(struct ad_question **q);

#endif
