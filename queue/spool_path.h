/*
 * What the files of the spool share among themselves: queue/spool*.c.
 */
#ifndef QUEUE_SPOOL_PATH_H
#define QUEUE_SPOOL_PATH_H

#include "queue/spool.h"

/* Where a file is, below the descriptor of its place. */
const char *spool_path(const struct spool *s, struct queue_id id,
    enum spool_place place, char path[SPOOL_PATH]);
/* waits */
int spool_sync_fd(int fd);

#endif
