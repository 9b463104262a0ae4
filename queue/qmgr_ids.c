/* Queue ids. */
#include "queue/qmgr.h"

static uint64_t last_id;

/*
 * Microseconds, modulo 2^44 (half a year): unique in this process, and not
 * used by a file that is older only if it is held that long, which
 * spool_seal() would notice.
 */
struct queue_id
writer_new_id(void)
{
	uint64_t n = (uint64_t)clock_wall().us & ((UINT64_C(1) << 44) - 1);

	if (n <= last_id && last_id - n < 1000000)
		n = last_id + 1;
	while (known_find((struct queue_id){ n }) != NULL)
		n++;
	last_id = n;
	return (struct queue_id){ n };
}

struct queue_id
writer_new_ids(uint32_t n)
{
	struct queue_id first = writer_new_id();
	uint32_t i = 1;

	while (i < n) {
		if (known_find((struct queue_id){ first.n + i }) == NULL) {
			i++;
			continue;
		}
		first.n += i + 1;
		i = 0;
	}
	last_id = first.n + n - 1;
	return first;
}
