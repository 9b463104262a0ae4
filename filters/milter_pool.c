#include <stdlib.h>

#include "filters/milter_pool.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"

#define EARLY_US	600000000

struct idle {
	struct idle *next;
	const struct milter_address *address;
	struct milter_client *client;
	struct milter_link *link;
	struct event timer;
};

/* What was learnt of a filter. */
struct habit {
	struct habit *next;
	const struct milter_address *address;
	bool one_session;	/* its connections are good for no more */
	struct mono early;	/* when it last decided before the end; 0 */
};

static struct idle *pool;
static struct habit *habits;
static unsigned n_idle;

/* NULL: there is none. */
static struct idle **
idle_find(const struct milter_address *a)
{
	struct idle **p;

	for (p = &pool; *p != NULL; p = &(*p)->next)
		if ((*p)->address == a)
			return p;
	return NULL;
}

static void
idle_remove(struct idle **p)
{
	struct idle *i = *p;

	*p = i->next;
	(void)event_del(&i->timer);
	free(i);
	n_idle--;
}

static void
idle_late(evutil_socket_t fd, short what, void *arg)
{
	struct idle *i = arg, **p;

	(void)fd;
	(void)what;
	for (p = &pool; *p != i; p = &(*p)->next)
		ensure(*p != NULL);
	milter_client_quit(i->client);
	milter_link_flush(i->link);
	milter_link_free(&i->link);
	milter_client_free(&i->client);
	idle_remove(p);
}

/* NULL: nothing is known of it. */
static struct habit *
habit_find(const struct milter_address *a)
{
	struct habit *h;

	for (h = habits; h != NULL; h = h->next)
		if (h->address == a)
			return h;
	return NULL;
}

static struct habit *
habit_of(const struct milter_address *a)
{
	struct habit *h = habit_find(a);

	if (h != NULL)
		return h;
	h = mem_alloc(sizeof *h);
	h->address = a;
	h->next = habits;
	habits = h;
	return h;
}

static bool
is_distrusted(const struct milter_address *a)
{
	const struct habit *h = habit_find(a);

	return h != NULL && h->one_session;
}

void
milter_pool_distrust(const struct milter_address *a)
{
	habit_of(a)->one_session = true;
}

void
milter_pool_early(const struct milter_address *a)
{
	habit_of(a)->early = loop_now();
}

bool
milter_pool_is_early(const struct milter_address *a)
{
	const struct habit *h = habit_find(a);

	return h != NULL && h->early.us != 0 &&
	    mono_since(h->early, loop_now()) < EARLY_US;
}

bool
milter_pool_give(const struct milter_address *a,
    struct milter_client *client, struct milter_link *link, int64_t ms)
{
	struct idle *i;
	unsigned n = 0;

	for (i = pool; i != NULL; i = i->next)
		n += i->address == a;
	if (ms <= 0 || n >= MILTER_POOL_MAX || is_distrusted(a) ||
	    milter_client_waiting(client) || !milter_client_renew(client))
		return false;
	milter_link_adopt(link, NULL, NULL);
	i = mem_alloc(sizeof *i);
	i->address = a;
	i->client = client;
	i->link = link;
	i->next = pool;
	pool = i;
	n_idle++;
	evtimer_assign(&i->timer, loop_base(), idle_late, i);
	(void)event_add(&i->timer, loop_timeout(ms));
	return true;
}

bool
milter_pool_take(const struct milter_address *a,
    struct milter_client **ret_client, struct milter_link **ret_link)
{
	struct idle **p;

	while ((p = idle_find(a)) != NULL) {
		*ret_client = (*p)->client;
		*ret_link = (*p)->link;
		idle_remove(p);
		if (!is_distrusted(a) && milter_client_result(*ret_client)->answer !=
		    MILTER_BROKEN)
			return true;
		/* It closed meanwhile. */
		milter_link_free(ret_link);
		milter_client_free(ret_client);
	}
	return false;
}

unsigned
milter_pool_idle(void)
{
	return n_idle;
}
