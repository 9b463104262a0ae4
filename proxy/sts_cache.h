/*
 * What is known of domains and their MTA-STS policies, in memory: bounded.
 * Domains without a policy come from whoever writes an address, so they have
 * only a quarter of the places, and never push out one that has a policy.
 *
 * Times are seconds since 1970: what is stored must be of use after a restart.
 */
#ifndef PROXY_STS_CACHE_H
#define PROXY_STS_CACHE_H

#include <sys/queue.h>

#include "lib/chan.h"
#include "lib/loop.h"
#include "proxy/sts_dns.h"
#include "proxy/sts_fetch.h"
#include "rules/sts_policy.h"

struct sts_waiter {
	TAILQ_ENTRY(sts_waiter) link;
	struct chan *chan;	/* NULL: the administrator */
	uint32_t tag;
};
TAILQ_HEAD(sts_waiters, sts_waiter);

enum sts_stage {
	STS_IDLE = 0,
	STS_RECORD,		/* asks for the record in the DNS */
	STS_ADDRESS,		/* for the address of the web server */
	STS_QUEUED,		/* until there is a place to fetch */
	STS_FETCHING
};

struct sts_entry {
	TAILQ_ENTRY(sts_entry) lru;
	TAILQ_ENTRY(sts_entry) queue;
	struct sts_entry *hash_next;
	char *domain;		/* ASCII, lower case */

	/* The policy in force; NULL: none */
	char *policy;
	char id[STS_ID_MAX + 1];
	enum sts_mode mode;
	int64_t fetched, expires;

	/* What the last look came to */
	enum sts_answer answer;	/* without a policy */
	char *why;		/* there is none, or no new one; NULL: fine */
	int64_t used, next_check, retry_at;
	unsigned failures;
	char failed_id[STS_ID_MAX + 1];

	/* The look that is under way */
	enum sts_stage stage;
	char new_id[STS_ID_MAX + 1];
	struct netaddr addr[STS_FETCH_ADDRESSES];
	size_t n_addr;
	struct sts_question *question;
	struct sts_fetch *fetch;
	struct sts_waiters waiters;
	bool overdue;		/* the old policy is the answer meanwhile */
	bool forced;		/* fetch, whatever was there before */
	struct event limit, patience;
};

/* drop is called for one with a policy that has to make room. */
void sts_cache_load(size_t max, void (*drop)(const char *domain));
struct sts_entry *sts_cache_find(struct view domain);
/* A new one, not in the cache yet.  NULL: all places are taken by others that
 * are being looked at. */
struct sts_entry *sts_cache_make(struct view domain);
/* It was asked for. */
void sts_cache_touch(struct sts_entry *e, int64_t now);
/* NULL: it has none any more.  All of *p is copied. */
void sts_cache_policy(struct sts_entry *e, const struct sts_policy *p);
/* Only if it is idle. */
void sts_cache_remove(struct sts_entry *e);
/* Those without a policy first; e may be removed in the call. */
void sts_cache_each(void (*each)(struct sts_entry *e, void *arg), void *arg);
size_t sts_cache_count(bool with_policy);

static inline bool
sts_cache_valid(const struct sts_entry *e, int64_t now)
{
	return e->policy != NULL && now < e->expires;
}

#endif
