/*
 * The spool: queue files and the directories they are in.  queue/STATES.md
 * says what they mean and which sync precedes which promise; this file is
 * the only code that makes, reads, renames or removes them.
 *
 * All functions that can wait for the disk say "waits" and are called from
 * the pool (queue/spool_pool.h); they use no state but their arguments and
 * the directory descriptors.  They return 0 or an errno value.
 */
#ifndef QUEUE_SPOOL_H
#define QUEUE_SPOOL_H

#include "lib/clock.h"
#include "lib/edit.h"
#include "lib/envelope.h"

enum spool_place {
	PLACE_NONE = 0, PLACE_INCOMING, PLACE_ACTIVE, PLACE_DEFERRED,
	PLACE_HOLD, PLACE_CORRUPT, PLACES
};
extern const char *const spool_place_names[PLACES];

#define SPOOL_TEXT_OFFSET	64u	/* where the text starts in the file */
#define SPOOL_TAIL_MAX		(8u << 20)

/*
 * The status byte of a recipient.  What is neither OPEN nor DONE needs no more
 * attempts, but its notice of success is due.
 */
enum spool_rcpt {
	SPOOL_OPEN = '.',
	SPOOL_DONE = 'D',
	SPOOL_RELAYED = 'R',
	SPOOL_DELIVERED = 'L',
	SPOOL_EXPANDED = 'X',
};
static inline bool
spool_rcpt_owed(char c)
{
	return c != SPOOL_OPEN && c != SPOOL_DONE;
}
/* All recipients are DONE. */
bool spool_rcpts_done(struct view status);

/* Mode bit of a complete file: its sender gets it back at the next attempt
 * that does not deliver it. */
#define SPOOL_EXPIRE		0010

#define SPOOL_PATH	40		/* longest "D/0123456789A" and more */

struct spool {
	int dir[PLACES];
	uint32_t hashed;		/* 1 << place: one level below it */
	bool read_only;			/* a walk puts nothing right */
};

/*
 * A message that is stored as several files, one for each part of its
 * recipients.  They are mail together or not at all: the parts wait, with
 * SPOOL_PART instead of the ready mark, for the leader to be complete.
 */
#define SPOOL_PART		0001	/* mode bit */
#define SPOOL_PARTS_MAX		64u
struct spool_split {
	struct queue_id id;		/* of a part: the leader; of the
					 * leader: the first part, and the
					 * others follow it */
	uint32_t n;			/* parts besides the leader; or 0 */
	bool part;
	bool hold;			/* a part that goes to hold/ */
};

/* What is stored with a text.  All views. */
struct spool_tail {
	struct view envelope;		/* encoded */
	struct view edits;		/* encoded */
	struct view route;		/* "transport:nexthop"; empty: resolve */
	struct view status;		/* to store; empty: all open */
	struct view history;		/* encoded; empty: nothing known */
	uint32_t nrcpts;
	struct spool_split split;	/* none: all zero */
};

/* Where the status bytes of such a file are. */
uint64_t spool_status_offset(uint64_t text_size, const struct spool_tail *t);

/* Open the directories under queue_directory (a descriptor for each; before
 * the jail).  hash: the parameter hash_queue_names. */
int spool_open(struct spool *s, const char *directory, const char *hash);

/* Make the subdirectories that are missing, as the owner of the spool. */
int spool_prepare(const struct spool *s);

/* waits: an unnamed file for a text that outgrows memory */
int spool_unnamed(const struct spool *s, int *ret_fd);

/*
 * waits: make incoming/ID from the text in from (text_size bytes at its
 * start), without tail and header: not mail yet.  The descriptor is open for
 * reading and writing.  *ret_hash is the running checksum of the text.
 */
int spool_copy(const struct spool *s, struct queue_id id, int from,
    uint64_t text_size, int *ret_fd);

/*
 * waits: make the message complete and durable in place (incoming or hold).
 * copied is the descriptor from spool_copy(), or -1: then the text is taken
 * from `from`, at from_offset, and the file is created.  On failure nothing is
 * left.  On success *ret_fd, if asked, is the file.
 */
int spool_seal(const struct spool *s, struct queue_id id,
    enum spool_place place, int copied, int from, uint64_t from_offset,
    uint64_t text_size, struct wall arrival, const struct spool_tail *tail,
    int *ret_fd);

/*
 * Parts (queue/spool_split.c).  waits: the leader is complete, so the part
 * gets its ready mark and its place; both are synced.  0 too when it is there
 * no more, or was settled before.
 */
int spool_settle_part(const struct spool *s, struct queue_id id);
/* waits: is this a part in incoming/ that waits for *ret_leader? */
bool spool_part_waits(const struct spool *s, struct queue_id id,
    struct queue_id *ret_leader);
/* waits: is there a complete file of this id? */
bool spool_is_complete(const struct spool *s, struct queue_id id);
/* waits: remove a leader (PLACE_NONE: it was not made) and parts. */
void spool_split_undo(const struct spool *s, struct queue_id leader,
    enum spool_place place, const struct spool_split *split);

/* A complete file as it was read. */
struct spool_file {
	int fd;
	struct queue_id id;
	struct wall arrival;
	uint64_t text_size;
	struct spool_tail tail;		/* views into bytes */
	struct view status;		/* one byte for each recipient */
	uint64_t status_offset;		/* in the file */
	char *bytes;			/* owned: free() */
	size_t n_bytes;
	bool expire;			/* SPOOL_EXPIRE is set */
};

/* waits: open and check all of it.  EBADMSG: not complete. */
int spool_read(const struct spool *s, struct queue_id id,
    enum spool_place place, struct spool_file *ret);
/* The checks alone, on an open file (for tests and postcat). */
int spool_check(int fd, struct queue_id id, struct spool_file *ret);

/*
 * waits: what there is to list of a queue file, without its text and so without
 * its checksum; everything else is checked.  Into bytes, to which the views
 * in *ret point (ret->bytes and ret->fd are not used).  The file is also found
 * where another setting of hash_queue_names has put it.  *ret_next: its
 * modification time.  EBADMSG: not complete, or no queue file at all.
 */
int spool_peek(const struct spool *s, struct queue_id id,
    enum spool_place place, struct buf *bytes, struct spool_file *ret,
    struct wall *ret_next);
/* The same for an open file. */
int spool_peek_fd(int fd, struct queue_id id, struct buf *bytes,
    struct spool_file *ret, struct wall *ret_next);
/* waits: open for reading, wherever it is below place; -1 and errno. */
int spool_open_file(const struct spool *s, struct queue_id id,
    enum spool_place place);
/* waits: set SPOOL_EXPIRE. */
int spool_expire(const struct spool *s, struct queue_id id,
    enum spool_place place);
/* Is there a complete one?  One that another setting of hash_queue_names has
 * put elsewhere is moved to its place. */
bool spool_settle(const struct spool *s, struct queue_id id,
    enum spool_place place);

int spool_rename(const struct spool *s, struct queue_id id,
    enum spool_place from, enum spool_place to);
int spool_unlink(const struct spool *s, struct queue_id id,
    enum spool_place place);
/* What an attempt has changed. */
struct spool_change {
	struct view status;
	uint64_t status_offset;
	bool status_changed;
	struct view history;		/* empty: it stays as it is */
	struct wall next;		/* time of the next attempt */
};
/*
 * waits: store it, then move from one place to another (or stay).  The status
 * bytes are synced before the move, the history is not.  After an error with
 * them it stays where it was.
 */
int spool_defer(const struct spool *s, struct queue_id id,
    enum spool_place from, enum spool_place to,
    const struct spool_change *change);
/* A descriptor to read what spool_copy() has made, and nothing else; -1 and
 * errno. */
int spool_open_copy(const struct spool *s, struct queue_id id);
/* A descriptor to change the status bytes; -1 and errno. */
int spool_open_status(const struct spool *s, struct queue_id id,
    enum spool_place place);
/* waits: write and sync them */
int spool_write_status(const struct spool *s, struct queue_id id,
    enum spool_place place, struct view status, uint64_t offset);
/* Has it got the ready mark and a header, which are written last? */
bool spool_marked(const struct spool *s, struct queue_id id,
    enum spool_place place);
/* waits: fsync a place with all its subdirectories */
int spool_sync_place(const struct spool *s, enum spool_place place);
/* waits: fsync the directory a file of this id is in */
int spool_sync_dir(const struct spool *s, struct queue_id id,
    enum spool_place place);
int spool_next_time(const struct spool *s, struct queue_id id,
    enum spool_place place, struct wall *ret);
bool spool_exists(const struct spool *s, struct queue_id id,
    enum spool_place place);
/* Free bytes for us; blocks of the file system in *ret_block. */
int spool_space(const struct spool *s, uint64_t *ret_free);

/*
 * Walk a place without reading any file: each call handles up to max names
 * and returns false when there are no more.  Names that are no queue ids are
 * reported once and left alone.
 */
struct spool_walk;
struct spool_walk *spool_walk_new(const struct spool *s,
    enum spool_place place);
bool spool_walk_next(struct spool_walk *w, unsigned max,
    void (*each)(struct queue_id id, enum spool_place place, void *arg),
    void *arg);
void spool_walk_free(struct spool_walk **w);

#endif
