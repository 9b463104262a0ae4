/*
 * What the files of the spool share among themselves: queue/spool*.c.
 */
#ifndef QUEUE_SPOOL_PATH_H
#define QUEUE_SPOOL_PATH_H

#include "queue/spool.h"

/* Where a file is, below the descriptor of its place. */
const char *spool_path(const struct spool *s, struct queue_id id,
    enum spool_place place, char path[SPOOL_PATH]);
/*
 * The parts of a queue file: header, then what stands behind the text (with
 * extra bytes behind END), which f->bytes holds.  EBADMSG: not exact.  The
 * checksum is the caller's to compare.
 */
int spool_get_head(struct view head, struct queue_id id, uint64_t file_size,
    struct spool_file *f, size_t *ret_extra);
int spool_get_tail(struct spool_file *f, size_t extra, size_t *ret_hashed,
    uint64_t *ret_sum);
/* waits */
int spool_sync_fd(int fd);
/* waits: all n bytes at a place in a file; EBADMSG: the file is shorter. */
int spool_write(int fd, const char *p, size_t n, uint64_t at);
int spool_load(int fd, char *p, size_t n, uint64_t at);
/* Tail without END.  *ret_status: where in b the status bytes start. */
bool spool_put_tail(struct buf *b, const struct spool_tail *t,
    size_t *ret_status);

#endif
