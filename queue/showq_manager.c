#include <stdlib.h>

#include "lib/log.h"
#include "queue/showq.h"

struct manager {
	struct manager *next;
	struct chan *chan;
	uint32_t generation;
};

static struct manager *managers;
static uint32_t last_tag;

uint32_t
manager_tag(void)
{
	return ++last_tag;
}

struct chan *
manager_first(void)
{
	return managers != NULL ? managers->chan : NULL;
}

struct chan *
manager_next(const struct chan *c)
{
	const struct manager *m;

	for (m = managers; m != NULL; m = m->next)
		if (m->chan == c)
			return m->next != NULL ? m->next->chan : NULL;
	return NULL;
}

/* An answer to what nobody waits for any more is no mistake. */
static void
manager_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	uint32_t tag;

	(void)arg;
	if (in->type == MSG_QUEUE_SITE) {
		site_start(c, in);
		return;
	}
	tag = cursor_u32(&in->body);
	switch ((int)in->type) {
	case MSG_QUEUE_LISTED:
		listing_answer(tag, in);
		break;
	case MSG_QUEUE_DESTS_ARE:
		dests_answer(tag, in);
		break;
	case MSG_QUEUE_OP_IS:
		order_answer(tag, in);
		break;
	case MSG_QUEUE_OPEN_IS:
	case MSG_QUEUE_OPEN_NONE:
		open_answer(tag, in);
		break;
	default:
		chan_blame(c, "unexpected message");
		break;
	}
}

static void
manager_on_close(struct chan *c, void *arg)
{
	struct manager *m = arg;
	struct manager **p;

	site_lost(c);
	listing_lost(c);
	order_lost(c);
	open_lost(c);
	dests_lost(c);
	for (p = &managers; *p != m; p = &(*p)->next)
		;
	*p = m->next;
	chan_free(&m->chan);
	free(m);
}

void
manager_peer(const struct role_peer *peer, int fd)
{
	struct manager *m = mem_alloc(sizeof *m), **p;

	m->generation = peer->generation;
	m->chan = chan_new(fd, ROLE_SHOWQ, ROLE_QMGR, peer->pid,
	    manager_on_msg, manager_on_close, m);
	for (p = &managers; *p != NULL && (*p)->generation > m->generation;
	    p = &(*p)->next)
		;
	m->next = *p;
	*p = m;
}
