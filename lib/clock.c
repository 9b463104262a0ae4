#include <time.h>

#include "lib/clock.h"
#include "lib/log.h"

static int64_t
clock_us(clockid_t id)
{
	struct timespec t;

	if (clock_gettime(id, &t) != 0)
		panic("clock_gettime");
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

struct mono
clock_mono(void)
{
	return (struct mono){ clock_us(CLOCK_MONOTONIC) };
}

struct wall
clock_wall(void)
{
	return (struct wall){ clock_us(CLOCK_REALTIME) };
}
