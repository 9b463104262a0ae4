/*
 * What is known of addresses that were verified: an address, whether a server
 * took it, when it was asked, and what it said if it refused.
 *
 * Bounded in bytes.  Refused addresses have a quarter of them at most, so a
 * client that asks for a million random ones pushes out what other such
 * clients asked, and never an address that exists.  Within each kind the one
 * that was not asked for longest goes first.
 *
 * No clock: times are seconds since 1970 and come from the caller.
 */
#ifndef QUEUE_VERIFY_CACHE_H
#define QUEUE_VERIFY_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/view.h"

#define VERIFY_TEXT_MAX	250u	/* bytes kept of a server's words */

struct verify_cache;

/* In seconds; refresh over expire: never refreshed. */
struct verify_times {
	int64_t positive_expire, positive_refresh;
	int64_t negative_expire, negative_refresh;
};

enum verify_age {
	VERIFY_NONE = 0,	/* not known, or too old to be of use */
	VERIFY_FRESH,
	VERIFY_STALE		/* good, and to be asked again */
};

struct verify_fact {
	bool deliverable;
	int64_t checked;
	struct view text;	/* until the cache changes */
};

struct verify_cache *verify_cache_new(size_t bytes,
    const struct verify_times *times);
void verify_cache_free(struct verify_cache **c);
/* Called with each address that is dropped for age or want of room. */
void verify_cache_on_drop(struct verify_cache *c,
    void (*fn)(struct view addr, void *arg), void *arg);

enum verify_age verify_cache_find(struct verify_cache *c, struct view addr,
    int64_t now, struct verify_fact *ret);
/* Replaces what was there. */
void verify_cache_put(struct verify_cache *c, struct view addr,
    const struct verify_fact *f);
/* Drop what is too old.  Looks at all. */
void verify_cache_sweep(struct verify_cache *c, int64_t now);

size_t verify_cache_count(const struct verify_cache *c, bool deliverable);
size_t verify_cache_bytes(const struct verify_cache *c);

#endif
