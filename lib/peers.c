#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "lib/peers.h"

/* The newest first. */
struct peer {
	struct peer *next;
	struct chan *chan;
	uint32_t generation;
};

void
peers_add(struct peers *p, struct chan *c, uint32_t generation)
{
	struct peer *e = mem_alloc(sizeof *e), **at = &p->first;

	while (*at != NULL && (*at)->generation > generation)
		at = &(*at)->next;
	*e = (struct peer){ *at, c, generation };
	*at = e;
}

void
peers_remove(struct peers *p, const struct chan *c)
{
	struct peer *e, **at = &p->first;

	while (*at != NULL && (*at)->chan != c)
		at = &(*at)->next;
	ensure(*at != NULL);
	e = *at;
	*at = e->next;
	free(e);
}

struct chan *
peers_newest(const struct peers *p)
{
	return p->first != NULL ? p->first->chan : NULL;
}
