/* The parts of postsuper. */
#ifndef QUEUE_POSTSUPER_H
#define QUEUE_POSTSUPER_H

#include "queue/queue_client.h"

/* How messages are reached: through showq, or straight in the spool. */
struct super {
	const struct conf *cf;
	struct queue_client *client;	/* NULL: the system is down */
	struct offline *offline;	/* or this */
};

/* postsuper_offline.c: the spool is ours until the end; fatal() if not. */
struct offline *offline_open(const struct conf *cf);
/* Also messages of the journal, which a start would bring back. */
void offline_list(struct offline *o, const struct queue_match *m,
    queue_each *each, void *arg);
enum queue_result offline_apply(struct offline *o, enum queue_op op,
    struct queue_id id);
/* Files to their places, what is nobody's away.  Counts. */
void offline_structure(struct offline *o);
void offline_purge(struct offline *o);
/* What was changed is on disk. */
void offline_close(struct offline **o);

#endif
