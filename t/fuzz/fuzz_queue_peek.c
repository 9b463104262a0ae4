/* link: queue/spool_peek.c queue/queue_entry.c queue/history.c queue/spool.c queue/spool_sync.c */
/*
 * What the queue lister reads of a file, which has no checksum to hold on to:
 * any bytes are refused, or all that is read lies inside.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/queue_entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct queue_id id = { 0x300 };
	struct queue_entry e;
	struct spool_file f;
	struct wall next;
	struct arena *a;
	struct buf bytes;
	volatile char sink = 0;
	bool bounced;
	uint32_t i;
	int fd;

	if (size > 65536)
		return 0;
	fd = memfd_create("q", 0);
	ensure(fd >= 0 && fchmod(fd, 0700) == 0);
	ensure(write(fd, data, size) == (ssize_t)size);
	buf_init(&bytes, SPOOL_TAIL_MAX + 2 * HISTORY_MAX);
	if (spool_peek_fd(fd, id, &bytes, &f, &next) == 0) {
		queue_entry_of_file(&e, &f, PLACE_DEFERRED, next);
		a = arena_new(queue_entry_room(&e));
		if (queue_entry_decode(&e, a))
			for (i = 0; i < e.env.nrcpts; i++)
				sink ^= e.status.p[i] ^ (char)
				    queue_entry_reason(&e, i, &bounced).n;
		arena_free(&a);
	}
	(void)sink;
	buf_free(&bytes);
	close(fd);
	return 0;
}
