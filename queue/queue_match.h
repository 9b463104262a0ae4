/*
 * Which messages: by queue, sender, recipient, next hop, site, age, and why a
 * rule holds them.  What is
 * not set matches everything; all that is set must match.
 *
 * A pattern for addresses is "user@domain", "@domain" or "domain" (all users
 * there), or "" for the null sender; * and ? stand for any bytes and any one
 * byte, and case is ignored.  Recipients are those that are not done yet.
 */
#ifndef QUEUE_QUEUE_MATCH_H
#define QUEUE_QUEUE_MATCH_H

#include "queue/queue_entry.h"
#include "rules/route.h"

#define MATCH_TEXT_MAX	1024u

struct queue_match {
	uint32_t places;		/* 1 << place; 0: all but corrupt */
	bool by_sender;			/* sender is set, though it be empty */
	struct view sender, recipient, nexthop;
	struct view site;		/* "domain", or ".domain": below it */
	struct view reason;		/* of the hold: a pattern with * and ? */
	int64_t older_us, newer_us;	/* than so long; 0: not asked */
};

bool match_put(struct buf *b, const struct queue_match *m);
bool match_get(struct cursor *c, struct queue_match *ret)
    __attribute__((warn_unused_result));
bool match_place(const struct queue_match *m, enum spool_place p);
/* Does it ask for more than the place?  Else an entry need not be decoded. */
bool match_looks_inside(const struct queue_match *m);
/* e is decoded.  router may be NULL: then nexthop is known only of messages
 * that have a route of their own.  Thread-safe but for the router. */
bool match_entry(const struct queue_match *m, const struct queue_entry *e,
    const struct router *router, struct wall now);
bool match_glob(struct view pattern, struct view text);
bool match_address(struct view pattern, struct view addr);
/* "90", "30m", "2d": an age; a bare number is seconds. */
bool match_age(const char *text, int64_t *ret_us);

#endif
