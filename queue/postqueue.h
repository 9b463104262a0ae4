/* The parts of postqueue. */
#ifndef QUEUE_POSTQUEUE_H
#define QUEUE_POSTQUEUE_H

#include "queue/queue_client.h"

/* postqueue_live.c: the table of destinations; every seconds, or once if 0. */
int live_view(const struct conf *cf, unsigned seconds, bool json);

#endif
