/* link: queue/history.c queue/spool.c queue/spool_sync.c */
/*
 * A queue file of any bytes: it is refused, or what is read from it lies
 * inside it.  The corpus holds complete files without their checksum being
 * right; so that the parser behind the checksum is reached too, the input is
 * also tried with the checksum corrected.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "lib/envelope.h"
#include "lib/log.h"
#include "queue/history.h"
#include "queue/spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
use(const struct spool_file *f)
{
	struct arena *a = arena_new(f->tail.envelope.n * 16 + 65536);
	struct envelope e;
	struct edits ed;
	struct history h;
	volatile char sink = 0;
	size_t i;

	for (i = 0; i < f->status.n; i++)
		sink ^= f->status.p[i];
	(void)sink;
	ensure(f->status.n == f->tail.nrcpts);
	if (envelope_get(f->tail.envelope, a, &e))
		ensure(e.nrcpts > 0);
	arena_free(&a);
	a = arena_new(EDITS_MAX * sizeof(struct edit) + 65536);
	if (edits_get(f->tail.edits, f->text_size, a, &ed))
		ensure(edits_size(&ed, f->text_size) < UINT64_MAX / 2);
	arena_free(&a);
	a = arena_new(f->tail.history.n * 8 + 65536);
	if (history_get(f->tail.history, a, &h))
		(void)history_of(&h, 0);
	arena_free(&a);
}

static void
try(const uint8_t *data, size_t size, struct queue_id id)
{
	int fd = memfd_create("q", 0);
	struct spool_file f;

	ensure(fd >= 0 && fchmod(fd, 0700) == 0);
	ensure(write(fd, data, size) == (ssize_t)size);
	if (spool_check(fd, id, &f) == 0) {
		use(&f);
		free(f.bytes);
	}
	close(fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct queue_id id = { 0x300 };
	XXH3_state_t hash;
	uint64_t sum, nrcpts;
	uint8_t *copy;
	size_t i;

	if (size < SPOOL_TEXT_OFFSET + 20 || size > 65536)
		return 0;
	try(data, size, id);
	/* Where the status bytes are is the file's own claim; take them as the
	 * last so many before END, for small numbers. */
	for (nrcpts = 0; nrcpts < 4; nrcpts++) {
		if (size < SPOOL_TEXT_OFFSET + 16 + nrcpts)
			break;
		copy = malloc(size);
		ensure(copy != NULL);
		memcpy(copy, data, size);
		(void)XXH3_64bits_reset(&hash);
		(void)XXH3_64bits_update(&hash, copy, size - 16 - nrcpts);
		sum = XXH3_64bits_digest(&hash);
		for (i = 0; i < 8; i++)
			copy[size - 8 + i] = (uint8_t)(sum >> 8 * i);
		try(copy, size, id);
		free(copy);
	}
	return 0;
}
