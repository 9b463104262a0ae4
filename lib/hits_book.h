/*
 * The sums of what rules did, as roles report it to who started them
 * (lib/hits.h): since the start, in the last hour, in the last day.  They are in memory
 * only, and bounded: past the limit, the row that fired longest ago makes
 * room.
 *
 * The last hour is the present 5 minutes and the 11 before; the last day the
 * present hour and the 23 before.
 */
#ifndef LIB_HITS_BOOK_H
#define LIB_HITS_BOOK_H

#include "lib/chan.h"
#include "lib/clock.h"
#include "lib/hits.h"

#define HITS_BOOK_MAX	8192u	/* rows */

struct hits_book;

struct hits_sum {
	struct hit hit;
	uint64_t hour, day;
};

struct hits_book *hits_book_new(void);
void hits_book_free(struct hits_book **b);
void hits_book_add(struct hits_book *b, const struct hit *h, struct mono now);
/* A message HITS; a bad one is its sender's fault. */
void hits_book_take(struct hits_book *b, struct chan *from, struct chan_in *m,
    struct mono now);
/* Call each for all rows; the views live for the call. */
void hits_book_each(const struct hits_book *b, struct mono now,
    void (*each)(const struct hits_sum *sum, void *arg), void *arg);

#endif
