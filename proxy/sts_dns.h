/*
 * Questions to the DNS, by way of lookup.  One that lookup does not answer
 * because it ends is asked again of the next one; so who asks has a limit of
 * time, and cancels.
 */
#ifndef PROXY_STS_DNS_H
#define PROXY_STS_DNS_H

#include "lib/role.h"
#include "rules/facts.h"

struct sts_question;

/* Not called once the question is cancelled.  f is void after the call. */
typedef void sts_dns_done(const struct fact *f, void *arg);

struct sts_question *sts_dns_ask(enum fact_dns type, const char *name,
    sts_dns_done *done, void *arg);
/* NULL is allowed. */
void sts_dns_cancel(struct sts_question **q);

/* A lookup to ask; self: who we are. */
void sts_dns_peer(enum role_kind self, const struct role_peer *peer, int fd);

#endif
