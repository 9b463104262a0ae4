/*
 * The relay's questions to sts: has a domain an MTA-STS policy?  A question
 * that is not answered because sts ends goes to the next one; one that nobody
 * answers in time is a failure, after which mail waits: a role that dies is no
 * reason to send without protection.
 */
#ifndef PROXY_RELAY_STS_H
#define PROXY_RELAY_STS_H

#include "lib/role.h"
#include "rules/sts_policy.h"

struct relay_sts_question;

/* p: NULL without STS_POLICY.  answer 0: it cannot be known now.  All is void
 * after the call. */
typedef void relay_sts_done(enum sts_answer answer,
    const struct sts_policy *p, struct view why, void *arg);

/* ms: how long to wait.  done is not called before this returns. */
struct relay_sts_question *relay_sts_ask(struct view domain, int64_t ms,
    relay_sts_done *done, void *arg);
/* done is not called any more.  NULL is allowed. */
void relay_sts_cancel(struct relay_sts_question **q);

/* A sts to ask. */
void relay_sts_peer(const struct role_peer *peer, int fd);

#endif
