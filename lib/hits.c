#include "lib/hits.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/role.h"

#define SEND_MS		1000
#define UNSENT_MAX	(1u << 20)	/* a master that does not listen */
#define SLOTS		512u		/* of which half is used; a power of 2 */

/* What master has not been told yet. */
struct pending {
	uint64_t hash, n, trial;
	int64_t last_us;
	uint16_t where_n, who_n;
	char where[HITS_WHERE_MAX], who[HITS_WHO_MAX];
};

static struct {
	struct pending list[HITS_ROWS_MAX];
	uint16_t slot[SLOTS];	/* 1 + place in list; 0: empty */
	uint32_t n;
	struct event timer;
	bool timer_made;
} hits;

static uint16_t
text_copy(char *to, size_t max, struct view v)
{
	size_t i;

	v = view_head(v, max);
	for (i = 0; i < v.n; i++)
		to[i] = v.p[i] < ' ' || v.p[i] > '~' ? '?' : v.p[i];
	return (uint16_t)v.n;
}

static bool
text_good(struct view v, size_t max)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if (v.p[i] < ' ' || v.p[i] > '~')
			return false;
	return v.n > 0 && v.n <= max;
}

void
hits_put(struct buf *b, const struct hit *h)
{
	put_view(b, h->where);
	put_u64(b, h->hash);
	put_u64(b, h->n);
	put_u64(b, h->trial);
	put_u64(b, (uint64_t)h->last_us);
	put_view(b, h->who);
}

void
hits_get(struct cursor *c, struct hit *ret)
{
	struct hit h;

	h.where = cursor_view(c);
	h.hash = cursor_u64(c);
	h.n = cursor_u64(c);
	h.trial = cursor_u64(c);
	h.last_us = (int64_t)cursor_u64(c);
	h.who = cursor_view(c);
	if (c->bad || !text_good(h.where, HITS_WHERE_MAX) ||
	    !text_good(h.who, HITS_WHO_MAX) || h.n == 0 ||
	    h.n > UINT32_MAX || h.trial > h.n || h.last_us < 0)
		c->bad = true;
	else
		*ret = h;
}

void
hits_flush(void)
{
	struct chan *c = role_control();
	const struct pending *p;
	struct hit h;
	struct buf *b;
	uint32_t i;

	/* Without master, or with one that is stuck, counts are the least. */
	if (hits.n > 0 && c != NULL && chan_unsent(c) < UNSENT_MAX) {
		b = chan_begin(c, MSG_HITS);
		put_u32(b, hits.n);
		for (i = 0; i < hits.n; i++) {
			p = &hits.list[i];
			h = (struct hit){ view_make(p->where, p->where_n),
				p->hash, p->n, p->trial, p->last_us,
				view_make(p->who, p->who_n) };
			hits_put(b, &h);
		}
		chan_end(c);
	}
	memset(hits.slot, 0, sizeof hits.slot);
	hits.n = 0;
	if (hits.timer_made)
		event_del(&hits.timer);
}

static void
hits_on_time(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	hits_flush();
}

static void
hits_wait(void)
{
	if (!hits.timer_made)
		event_assign(&hits.timer, loop_base(), -1, 0, hits_on_time,
		    NULL);
	hits.timer_made = true;
	event_add(&hits.timer, loop_timeout(SEND_MS));
}

/* FNV-1a; rows are the administrator's. */
static uint32_t
hits_slot(struct view where, uint64_t hash)
{
	uint32_t h = (uint32_t)hash ^ 2166136261u;
	size_t i;

	for (i = 0; i < where.n; i++)
		h = (h ^ (unsigned char)where.p[i]) * 16777619u;
	return h % SLOTS;
}

static struct pending *
hits_find(struct view where, uint64_t hash)
{
	struct pending *p;
	uint32_t i;

	where = view_head(where, HITS_WHERE_MAX);
	i = hits_slot(where, hash);
	for (; hits.slot[i] != 0; i = (i + 1) % SLOTS) {
		p = &hits.list[hits.slot[i] - 1];
		if (p->hash == hash && view_eq(where, view_make(p->where,
		    p->where_n)))
			return p;
	}
	if (hits.n == HITS_ROWS_MAX) {
		hits_flush();
		i = hits_slot(where, hash);
	}
	if (hits.n == 0)
		hits_wait();
	p = &hits.list[hits.n++];
	hits.slot[i] = (uint16_t)hits.n;
	*p = (struct pending){ .hash = hash };
	p->where_n = text_copy(p->where, sizeof p->where, where);
	return p;
}

void
hits_add(struct view where, uint64_t hash, bool trial, struct view who)
{
	struct pending *p;

	if (role_control() == NULL || where.n == 0 || who.n == 0)
		return;
	p = hits_find(where, hash);
	p->n++;
	p->trial += trial ? 1 : 0;
	p->last_us = clock_wall().us;
	p->who_n = text_copy(p->who, sizeof p->who, who);
}
