#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/sts_cache.h"

#define SLOTS	16384u
#define SHARE	4u		/* without a policy: a quarter */

TAILQ_HEAD(sts_list, sts_entry);

static struct {
	void (*drop)(const char *domain);
	uint64_t seed;		/* nobody shall choose who shares a slot */
	size_t max[2], count[2];	/* [0]: without a policy, [1]: with */
	struct sts_list lru[2];
	struct sts_entry *slot[SLOTS];
} cache;

void
sts_cache_load(size_t max, void (*drop)(const char *domain))
{
	cache.drop = drop;
	if (getrandom(&cache.seed, sizeof cache.seed, 0) !=
	    (ssize_t)sizeof cache.seed)
		fatal("getrandom failed");
	cache.max[0] = max / SHARE;
	cache.max[1] = max - cache.max[0];
	TAILQ_INIT(&cache.lru[0]);
	TAILQ_INIT(&cache.lru[1]);
}

static struct sts_entry **
cache_slot(struct view domain)
{
	struct sts_entry **p = &cache.slot[XXH3_64bits_withSeed(domain.p,
	    domain.n, cache.seed) % SLOTS];

	while (*p != NULL && !view_is(domain, (*p)->domain))
		p = &(*p)->hash_next;
	return p;
}

struct sts_entry *
sts_cache_find(struct view domain)
{
	return domain.n > 0 ? *cache_slot(domain) : NULL;
}

static void
cache_forget(struct sts_entry *e)
{
	struct sts_entry **slot = cache_slot(view_of(e->domain));
	bool kind = e->policy != NULL;

	ensure(*slot == e && e->stage == STS_IDLE);
	ensure(TAILQ_EMPTY(&e->waiters));
	*slot = e->hash_next;
	TAILQ_REMOVE(&cache.lru[kind], e, lru);
	cache.count[kind]--;
	event_del(&e->limit);
	event_del(&e->patience);
	free(e->domain);
	free(e->policy);
	free(e->why);
	free(e);
}

void
sts_cache_remove(struct sts_entry *e)
{
	cache_forget(e);
}

/* Make room for one more.  False: all are busy. */
static bool
cache_room(bool kind)
{
	struct sts_entry *e;

	if (cache.count[kind] < cache.max[kind])
		return true;
	TAILQ_FOREACH_REVERSE(e, &cache.lru[kind], sts_list, lru)
		if (e->stage == STS_IDLE) {
			if (kind)
				cache.drop(e->domain);
			cache_forget(e);
			return true;
		}
	return false;
}

struct sts_entry *
sts_cache_make(struct view domain)
{
	struct sts_entry *e;

	if (!cache_room(false))
		return NULL;
	e = mem_alloc(sizeof *e);
	e->domain = mem_copy(domain);
	e->answer = STS_NO_POLICY;
	TAILQ_INIT(&e->waiters);
	*cache_slot(domain) = e;
	TAILQ_INSERT_HEAD(&cache.lru[0], e, lru);
	cache.count[0]++;
	return e;
}

void
sts_cache_touch(struct sts_entry *e, int64_t now)
{
	struct sts_list *l = &cache.lru[e->policy != NULL];

	e->used = now;
	TAILQ_REMOVE(l, e, lru);
	TAILQ_INSERT_HEAD(l, e, lru);
}

void
sts_cache_policy(struct sts_entry *e, const struct sts_policy *p)
{
	bool before = e->policy != NULL, after = p != NULL;
	struct buf b;

	if (before != after) {
		TAILQ_REMOVE(&cache.lru[before], e, lru);
		cache.count[before]--;
		/* If all others are busy, there is one more for a while. */
		(void)cache_room(after);
		TAILQ_INSERT_HEAD(&cache.lru[after], e, lru);
		cache.count[after]++;
	}
	free(e->policy);
	e->policy = NULL;
	if (p == NULL)
		return;
	buf_init(&b, 2 * STS_TEXT_MAX);
	sts_policy_put(p, &b);
	e->policy = mem_copy(buf_view(&b));
	e->mode = p->mode;
	buf_free(&b);
}

void
sts_cache_each(void (*each)(struct sts_entry *e, void *arg), void *arg)
{
	struct sts_entry *e, *next;
	int kind;

	/* One that loses its policy in the call is not met again. */
	for (kind = 0; kind < 2; kind++)
		for (e = TAILQ_FIRST(&cache.lru[kind]); e != NULL; e = next) {
			next = TAILQ_NEXT(e, lru);
			each(e, arg);
		}
}

size_t
sts_cache_count(bool with_policy)
{
	return cache.count[with_policy];
}
