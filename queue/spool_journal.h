/*
 * Journal segments: files of fixed size, written once from front to back and
 * then used again, into which messages are appended in groups with one sync
 * for each group.  queue/STATES.md says when a message lives there.
 *
 * A segment begins with a header of 4096 bytes (magic, epoch, checksum).  Each
 * use has a new epoch, so what an earlier use left behind is not taken for
 * records of this one.  A group of records begins at a multiple of 4096, so
 * nothing that was promised shares a block with what is being written.
 *
 * A record: header of 64 bytes with epoch and checksum; the tail of a queue
 * file (envelope, edits, route, status bytes); the text.  The status bytes are
 * outside the checksum and change in place; when all are 'D' the record is
 * finished.  Of a message that has another place now, those bytes that are not
 * 'D' become 'M': a 'D' is a recipient who is done, wherever the message is.
 *
 * Functions that wait for the disk say "waits" (see queue/spool.h).
 */
#ifndef QUEUE_SPOOL_JOURNAL_H
#define QUEUE_SPOOL_JOURNAL_H

#include <pthread.h>

#include "queue/spool.h"

#define JOURNAL_BLOCK		4096u
#define JOURNAL_HEAD		64u
#define JOURNAL_GROUP_MAX	(4u << 20)	/* bytes of one group */

struct journal_segment {
	struct journal_segment *next;
	int fd;
	char name[64];
	uint64_t epoch;
	uint64_t size;
	uint64_t end;		/* where the next group goes */
	unsigned live;		/* records that are not finished */
	bool dirty;		/* status bytes were changed since the sync */
	bool bad;		/* a sync failed: no group is written again */
	pthread_mutex_t sync;	/* one at a time */
	int sync_failed;
};

/* One message of a group. */
struct journal_entry {
	struct queue_id id;
	struct wall arrival;
	int text;			/* descriptor, text at its start */
	uint64_t text_size;
	const struct spool_tail *tail;
	uint64_t status_offset;		/* result: in the segment */
};

/* waits: a new segment, zero-filled, locked (flock) while it is open. */
int journal_create(int dir, const char *name, uint64_t size,
    struct journal_segment *ret);
/* waits: begin to use it (again) under a new epoch. */
int journal_reset(struct journal_segment *s, uint64_t epoch);
/* Bytes that an entry takes in a group. */
uint64_t journal_entry_size(const struct journal_entry *e);
/*
 * waits: append a group and sync.  After an error none of it may be promised,
 * and the segment is bad.
 */
int journal_commit(struct journal_segment *s, struct journal_entry *list,
    size_t n);
/*
 * waits: after journal_commit() has failed, finish what it may have written:
 * its messages go another way, and must not come back from here.
 */
void journal_void(struct journal_segment *s,
    const struct journal_entry *list, size_t n);
/*
 * waits.  The kernel reports a failure once, to whoever comes first, so after
 * one failure each later call fails too.
 */
int journal_sync(struct journal_segment *s);

/* A record found by journal_scan(); views are valid during the call. */
struct journal_record {
	struct queue_id id;
	struct wall arrival;
	uint64_t text_offset, text_size;
	struct spool_tail tail;		/* status included */
};

/*
 * waits: call each for every complete record, finished or not, in order;
 * stops at the first place that is no record of this epoch.  EBADMSG: not a
 * segment.
 */
int journal_scan(int fd, void (*each)(const struct journal_record *r,
    void *arg), void *arg);

#endif
