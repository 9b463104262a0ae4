/*
 * What the files of the role itself share: see queue/local.h.
 */
#ifndef QUEUE_LOCAL_ROLE_H
#define QUEUE_LOCAL_ROLE_H

#include <sys/queue.h>

#include "lib/chan.h"
#include "lib/loop.h"
#include "queue/local.h"

struct manager {		/* a qmgr; there are two during a reload */
	TAILQ_ENTRY(manager) link;
	struct chan *chan;
};

struct delivery {
	TAILQ_ENTRY(delivery) link;
	struct manager *manager;	/* NULL: gone */
	uint64_t serial;		/* ours: for the keeper */
	int text, fields;		/* fields -1: given away */
	int report;			/* the agent's pipe; -1: none yet */
	struct event event;
	struct buf said;
	struct arena *arena;
	struct order order;
	struct fate *fates;		/* one for each recipient */
	struct wall begun;
	TAILQ_ENTRY(delivery) seal_link;
	uint32_t seal;			/* recipient whose list is next */
	bool sealing;			/* in the list of those */
	struct queue_id note;		/* the new message; 0: no slot yet */
};

/*
 * Make durable what lists have come to, each a message of its own, before any
 * recipient is reported: false, if there is nothing (more) to make, or nobody
 * to make it for.  Else delivery_end() is called in the end.
 */
bool seal_begin(struct delivery *d);
void seal_slot(struct manager *m, struct chan_in *in);
void seal_done(struct manager *m, struct chan_in *in);
/* Its qmgr is gone. */
void seal_cancel(struct delivery *d);

void delivery_end(struct delivery *d);

#endif
