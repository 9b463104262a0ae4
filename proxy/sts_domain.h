/*
 * One domain's policy, from the record in the DNS to the text of its web
 * server (RFC 8461).  However many ask for a domain, it is looked at once at
 * a time.  A policy in force is the answer whatever goes wrong with a new one,
 * up to its end (section 5.1).
 */
#ifndef PROXY_STS_DOMAIN_H
#define PROXY_STS_DOMAIN_H

#include "lib/conf.h"
#include "proxy/sts_cache.h"

void sts_domain_load(const struct conf *cf);
/* In the jail: begin to care for what is in the cache. */
void sts_domain_start(void);
/* The answer to MSG_STS goes to chan, at once or later; that to MSG_ORDER,
 * without one, to master.  forced: look, whatever is known. */
void sts_domain_ask(struct chan *chan, uint32_t tag, struct view domain,
    bool forced);
/* Nobody listens there any more. */
void sts_domain_forget(struct chan *chan);

/* Commands: "list", "query DOMAIN", "refresh DOMAIN", "flush [DOMAIN]" */
void sts_order(uint32_t tag, struct view words);
/* What it says of one domain, in lines. */
void sts_order_describe(const struct sts_entry *e, struct buf *b);

struct sts_counts {
	uint64_t asked, looked, fetched, failed;
	size_t open;		/* looks under way */
};
const struct sts_counts *sts_domain_counts(void);

#endif
