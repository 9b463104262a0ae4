/*
 * Time, in one replaceable place: a test links its own clock.o and moves
 * days in milliseconds.  Two types that the compiler keeps apart: mono for
 * intervals (does not jump), wall for dates that are stored or shown.
 * Both count microseconds.
 */
#ifndef LIB_CLOCK_H
#define LIB_CLOCK_H

#include <stdint.h>

struct mono { int64_t us; };
struct wall { int64_t us; };	/* since 1970, UTC */

struct mono clock_mono(void);
struct wall clock_wall(void);

static inline int64_t
mono_since(struct mono then, struct mono now)
{
	return now.us - then.us;
}

#endif
