#include "queue/sched.h"

/* Spreads what differs little (ids are times) over all 64 bits. */
static uint64_t
mix(uint64_t n)
{
	n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);
	return n ^ n >> 31;
}

int64_t
retry_delay(int64_t age, int64_t minimal, int64_t maximal, uint64_t seed)
{
	int64_t least, most;

	if (maximal < minimal)
		maximal = minimal;
	least = age < minimal ? minimal : age > maximal ? maximal : age;
	most = least + least / 4;
	if (most > maximal) {
		most = maximal;
		least = maximal - maximal / 4 < minimal ? minimal :
		    maximal - maximal / 4;
	}
	return least + (int64_t)(mix(seed) % (uint64_t)(most - least + 1));
}
