/*
 * Pools of servers inside: one next hop, "pool:NAME", that is several servers
 * which share its mail by weight.  nexthop_pools:
 *
 *	NAME: [host]:port weight=N backup, [host]:port, ...
 *
 * A server that refuses connections, or greets or answers EHLO with 4xx or
 * 5xx, leaves the pool for a while that doubles each time; so does one after
 * several conversations in a row were lost.  Then one message is sent to it
 * first (half open): when it answers, it is back.  A drained server gets no new
 * mail until it is put back.  Those behind the first in the list that
 * pools_order() makes are where a message goes if the first cannot take it:
 * backups last, and servers that are down only if all are.
 *
 * It knows no socket, no disk and no clock.
 */
#ifndef QUEUE_SCHED_POOL_H
#define QUEUE_SCHED_POOL_H

#include "lib/buf.h"
#include "lib/conf.h"
#include "lib/loop.h"
#include "lib/msg.h"

#define POOL_PREFIX	"pool:"
#define POOLS_MAX	100u
#define POOL_SERVERS_MAX 32u
#define POOL_NAME_MAX	64u
#define POOL_WEIGHT_MAX	1000u
#define POOL_HOP_MAX	260u	/* bytes of "[host]:port" */
#define POOL_LIST_MAX	16384u	/* of what pools_order() writes */
#define POOL_TROUBLES	3u	/* conversations in a row that may be lost */

struct pools;

/* Milliseconds that a server is out: the first time, and at most.  NULL: bad;
 * ret_why says what (free it). */
struct pools *pools_parse(const char *text, int64_t least_ms,
    int64_t most_ms, char **ret_why);
void pools_free(struct pools **p);

/* A next hop that is a pool: its name. */
bool pools_name(struct view nexthop, struct view *ret);

enum pool_answer { POOL_SERVERS = 1, POOL_UNKNOWN, POOL_DRAINED };
/* "pool:NAME [a]:25,[b]:25" for one delivery, the server chosen in front. */
enum pool_answer pools_order(struct pools *p, struct view name,
    struct mono now, struct buf *out);
/* The same question without making a choice. */
enum pool_answer pools_usable(const struct pools *p, struct view name);

/* What became of a server, as a relay says; others are not known any more,
 * which is no mistake.  True: its state is another one. */
bool pools_heard(struct pools *p, struct view name, struct view hop,
    enum hop_news news, struct view why, struct mono now);
/* False: no such server. */
bool pools_drain(struct pools *p, struct view name, struct view hop,
    bool drained);

struct pool_facts {
	const char *pool, *hop, *state;	/* up, down, half-open */
	bool drained, backup;
	unsigned weight;
	uint64_t chosen;		/* deliveries that began with it */
	int64_t retry_ms;		/* down: until it is tried; or 0 */
	const char *why;		/* of its last failure; or NULL */
};
void pools_each(const struct pools *p, struct mono now,
    void (*fn)(const struct pool_facts *f, void *arg), void *arg);

#endif
