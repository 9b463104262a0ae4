#include <stdlib.h>
#include <sys/queue.h>
#include <xxhash.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "queue/verify_cache.h"

#define SLOTS	65536u
#define SHARE	4u		/* refused addresses: a quarter */

struct verify_entry {
	TAILQ_ENTRY(verify_entry) link;
	struct verify_entry *hash_next;
	int64_t checked;
	uint16_t addr_n, text_n;
	bool deliverable;
	char bytes[];		/* address, text */
};
TAILQ_HEAD(verify_list, verify_entry);

/* [0]: refused, [1]: deliverable; asked for latest first. */
struct verify_cache {
	struct verify_times times;
	uint64_t seed;		/* nobody shall choose who shares a slot */
	struct verify_list lru[2];
	size_t count[2], bytes[2], max[2];
	void (*drop)(struct view addr, void *arg);
	void *drop_arg;
	struct verify_entry *slot[SLOTS];
};

struct verify_cache *
verify_cache_new(size_t bytes, const struct verify_times *times)
{
	struct verify_cache *c = mem_alloc(sizeof *c);
	int64_t now[2] = { clock_wall().us, clock_mono().us };

	c->times = *times;
	c->seed = XXH3_64bits_withSeed(now, sizeof now, (uintptr_t)c);
	c->max[0] = bytes / SHARE;
	c->max[1] = bytes - c->max[0];
	TAILQ_INIT(&c->lru[0]);
	TAILQ_INIT(&c->lru[1]);
	return c;
}

static struct view
entry_addr(const struct verify_entry *e)
{
	return view_make(e->bytes, e->addr_n);
}

static size_t
entry_size(const struct verify_entry *e)
{
	return sizeof *e + e->addr_n + e->text_n;
}

/* Where it stands, or would stand. */
static struct verify_entry **
cache_slot(struct verify_cache *c, struct view addr)
{
	struct verify_entry **p = &c->slot[XXH3_64bits_withSeed(addr.p,
	    addr.n, c->seed) % SLOTS];

	while (*p != NULL && !view_eq(entry_addr(*p), addr))
		p = &(*p)->hash_next;
	return p;
}

static void
cache_remove(struct verify_cache *c, struct verify_entry **slot)
{
	struct verify_entry *e = *slot;
	int kind;

	ensure(e != NULL);
	kind = e->deliverable;
	*slot = e->hash_next;
	TAILQ_REMOVE(&c->lru[kind], e, link);
	c->count[kind]--;
	c->bytes[kind] -= entry_size(e);
	free(e);
}

static void
cache_drop(struct verify_cache *c, struct verify_entry *e)
{
	if (c->drop != NULL)
		c->drop(entry_addr(e), c->drop_arg);
	cache_remove(c, cache_slot(c, entry_addr(e)));
}

void
verify_cache_free(struct verify_cache **cp)
{
	struct verify_cache *c = *cp;
	struct verify_entry *e;
	int kind;

	if (c == NULL)
		return;
	for (kind = 0; kind < 2; kind++)
		while ((e = TAILQ_FIRST(&c->lru[kind])) != NULL) {
			TAILQ_REMOVE(&c->lru[kind], e, link);
			free(e);
		}
	free(c);
	*cp = NULL;
}

void
verify_cache_on_drop(struct verify_cache *c,
    void (*fn)(struct view addr, void *arg), void *arg)
{
	c->drop = fn;
	c->drop_arg = arg;
}

static enum verify_age
entry_age(const struct verify_cache *c, const struct verify_entry *e,
    int64_t now)
{
	const struct verify_times *t = &c->times;
	int64_t age = now - e->checked;

	if (age >= (e->deliverable ? t->positive_expire : t->negative_expire))
		return VERIFY_NONE;
	/* From the future: the clock was set back, and nobody knows. */
	if (age < 0 || age >= (e->deliverable ? t->positive_refresh :
	    t->negative_refresh))
		return VERIFY_STALE;
	return VERIFY_FRESH;
}

enum verify_age
verify_cache_find(struct verify_cache *c, struct view addr, int64_t now,
    struct verify_fact *ret)
{
	struct verify_entry *e = *cache_slot(c, addr);
	enum verify_age age;

	if (e == NULL)
		return VERIFY_NONE;
	age = entry_age(c, e, now);
	if (age == VERIFY_NONE) {
		cache_drop(c, e);
		return VERIFY_NONE;
	}
	TAILQ_REMOVE(&c->lru[e->deliverable], e, link);
	TAILQ_INSERT_HEAD(&c->lru[e->deliverable], e, link);
	*ret = (struct verify_fact){ .deliverable = e->deliverable,
		.checked = e->checked,
		.text = view_make(e->bytes + e->addr_n, e->text_n) };
	return age;
}

void
verify_cache_put(struct verify_cache *c, struct view addr,
    const struct verify_fact *f)
{
	struct view text = view_head(f->text, VERIFY_TEXT_MAX);
	struct verify_entry **slot = cache_slot(c, addr), *e;
	int kind = f->deliverable;

	if (addr.n > UINT16_MAX)
		return;
	e = mem_alloc(sizeof *e + addr.n + text.n);
	e->checked = f->checked;
	e->deliverable = f->deliverable;
	e->addr_n = (uint16_t)addr.n;
	e->text_n = (uint16_t)text.n;
	memcpy(e->bytes, addr.p, addr.n);
	if (text.n > 0)
		memcpy(e->bytes + addr.n, text.p, text.n);
	/* f may point into what is replaced. */
	if (*slot != NULL)
		cache_remove(c, slot);
	slot = cache_slot(c, entry_addr(e));
	*slot = e;
	TAILQ_INSERT_HEAD(&c->lru[kind], e, link);
	c->count[kind]++;
	c->bytes[kind] += entry_size(e);
	while (c->bytes[kind] > c->max[kind])
		cache_drop(c, TAILQ_LAST(&c->lru[kind], verify_list));
}

void
verify_cache_sweep(struct verify_cache *c, int64_t now)
{
	struct verify_entry *e, *next;
	int kind;

	for (kind = 0; kind < 2; kind++)
		for (e = TAILQ_FIRST(&c->lru[kind]); e != NULL; e = next) {
			next = TAILQ_NEXT(e, link);
			if (entry_age(c, e, now) == VERIFY_NONE)
				cache_drop(c, e);
		}
}

size_t
verify_cache_count(const struct verify_cache *c, bool deliverable)
{
	return c->count[deliverable];
}

size_t
verify_cache_bytes(const struct verify_cache *c)
{
	return c->bytes[0] + c->bytes[1];
}
