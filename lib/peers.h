/*
 * The processes of another role that this one may ask, of which there are two
 * generations while one takes over from the other: the newest is asked.  Who
 * asks learns from its channel's end that it has to ask again.
 */
#ifndef LIB_PEERS_H
#define LIB_PEERS_H

#include "lib/chan.h"

struct peers {
	struct peer *first;	/* all zero: none */
};

/* c is not owned. */
void peers_add(struct peers *p, struct chan *c, uint32_t generation);
/* Before chan_free(). */
void peers_remove(struct peers *p, const struct chan *c);
/* Of several of one generation the last one added; NULL: there is none. */
struct chan *peers_newest(const struct peers *p);

#endif
