/*
 * Questions to the DNS, by libunbound: its thread talks to the resolvers,
 * answers come back through the event loop.  The resolvers are those of
 * dns_resolvers or of /etc/resolv.conf; /etc/hosts is known too, in both
 * directions.  Everything is read before the jail.  Questions whose answers
 * have to be proven go by proxy/lookup_ad.h instead, where resolvers on
 * loopback are believed (lib/resolvers.h): libunbound does not tell what they
 * say to have validated.
 */
#ifndef PROXY_LOOKUP_DNS_H
#define PROXY_LOOKUP_DNS_H

#include "lib/conf.h"
#include "lib/view.h"

#define DNS_RECORDS_MAX	100u	/* of one answer; the rest is dropped */

/* RFC 1035 section 3.2.2, RFC 3596 section 2.1 */
enum dns_type { DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_PTR = 12,
	DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_SRV = 33,
	DNS_TLSA = 52 };

/* Who is asked: /etc/hosts has the last word about names that it knows, unless
 * the answer is of use only if proven by DNSSEC. */
enum dns_source { DNS_AND_HOSTS = 0, DNS_ONLY, DNS_PROVEN };

enum dns_status {
	DNS_FOUND = 1,
	DNS_NO_DATA,		/* the name is there, not this type */
	DNS_NO_NAME,
	DNS_FAILED		/* no answer, or one that says nothing */
};

struct dns_answer {
	enum dns_status status;
	bool bogus;		/* DNS_FAILED: it was forged or broken */
	bool secure;		/* proven by DNSSEC, a denial too */
	struct view name;	/* that the records are of, without a dot */
	size_t n;
	struct view data[DNS_RECORDS_MAX];
};

/* The answer and the question are void after the call. */
struct dns_question;
typedef void dns_done(const struct dns_answer *a, void *arg);

void dns_load(const struct conf *cf);
/* Inside the jail: begin to serve. */
void dns_start(void);
/* NULL: cannot be asked now; done is not called.  done is never called
 * before this returns. */
struct dns_question *dns_ask(const char *name, enum dns_type type,
    enum dns_source source, dns_done *done, void *arg)
    __attribute__((warn_unused_result));
/* Its done is not called any more. */
void dns_cancel(struct dns_question **q);

#endif
