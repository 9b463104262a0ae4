#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "lib/hits_book.h"

#define SLOTS		(2 * HITS_BOOK_MAX)
#define SHORT_US	(300 * (int64_t)1000000)
#define LONG_US		(3600 * (int64_t)1000000)
#define SHORTS		12
#define LONGS		24

/* Counts by time: the one of `at` and those before it, in a circle. */
struct circle {
	int64_t at;
	uint64_t n[LONGS];
};

struct book_row {
	char *where;
	uint64_t hash, n, trial;
	int64_t last_us;
	struct mono heard;
	char who[HITS_WHO_MAX + 1];
	struct circle hour, day;
	uint32_t next;		/* 1 + place of the next in its slot */
};

struct hits_book {
	uint32_t slot[SLOTS];
	struct book_row *list;
	uint32_t n;
};

static void
circle_turn(struct circle *c, int64_t at, int64_t size)
{
	int64_t i;

	for (i = c->at + 1; i <= at && i <= c->at + size; i++)
		c->n[i % size] = 0;
	c->at = at;
}

static uint64_t
circle_sum(const struct circle *c, int64_t at, int64_t size)
{
	uint64_t sum = 0;
	int64_t i;

	for (i = at - size + 1; i <= c->at; i++)
		if (i >= 0 && i > c->at - size)
			sum += c->n[i % size];
	return sum;
}

struct hits_book *
hits_book_new(void)
{
	return mem_alloc(sizeof(struct hits_book));
}

void
hits_book_free(struct hits_book **bp)
{
	struct hits_book *b = *bp;
	uint32_t i;

	if (b == NULL)
		return;
	*bp = NULL;
	for (i = 0; i < b->n; i++)
		free(b->list[i].where);
	free(b->list);
	free(b);
}

static uint32_t *
book_slot(struct hits_book *b, struct view where, uint64_t hash)
{
	uint32_t h = (uint32_t)(hash ^ hash >> 32) ^ 2166136261u;
	size_t i;

	for (i = 0; i < where.n; i++)
		h = (h ^ (unsigned char)where.p[i]) * 16777619u;
	return &b->slot[h % SLOTS];
}

/* The row of the longest silence is forgotten; its place is free. */
static struct book_row *
book_evict(struct hits_book *b)
{
	struct book_row *old = &b->list[0];
	uint32_t i, *at;

	for (i = 1; i < b->n; i++)
		if (b->list[i].heard.us < old->heard.us)
			old = &b->list[i];
	at = book_slot(b, view_of(old->where), old->hash);
	while (&b->list[*at - 1] != old)
		at = &b->list[*at - 1].next;
	*at = old->next;
	free(old->where);
	return old;
}

static struct book_row *
book_find(struct hits_book *b, const struct hit *h)
{
	uint32_t *slot = book_slot(b, h->where, h->hash), i;
	struct book_row *r;

	for (i = *slot; i != 0; i = b->list[i - 1].next) {
		r = &b->list[i - 1];
		if (r->hash == h->hash && view_is(h->where, r->where))
			return r;
	}
	if (b->n == HITS_BOOK_MAX) {
		r = book_evict(b);
	} else {
		b->list = mem_resize(b->list, b->n + 1, sizeof *b->list);
		r = &b->list[b->n++];
	}
	*r = (struct book_row){ .where = mem_copy(h->where),
		.hash = h->hash, .next = *slot };
	*slot = (uint32_t)(r - b->list) + 1;
	return r;
}

void
hits_book_add(struct hits_book *b, const struct hit *h, struct mono now)
{
	struct book_row *r = book_find(b, h);
	struct view who = view_head(h->who, HITS_WHO_MAX);

	circle_turn(&r->hour, now.us / SHORT_US, SHORTS);
	circle_turn(&r->day, now.us / LONG_US, LONGS);
	r->hour.n[r->hour.at % SHORTS] += h->n;
	r->day.n[r->day.at % LONGS] += h->n;
	r->n += h->n;
	r->trial += h->trial;
	r->heard = now;
	/* Several processes report, not in the order of what happened. */
	if (h->last_us < r->last_us)
		return;
	r->last_us = h->last_us;
	memcpy(r->who, who.p, who.n);
	r->who[who.n] = '\0';
}

void
hits_book_take(struct hits_book *b, struct chan *from, struct chan_in *m,
    struct mono now)
{
	uint32_t n = cursor_u32(&m->body), k;
	struct hit rows[HITS_ROWS_MAX];

	if (n > HITS_ROWS_MAX)
		m->body.bad = true;
	for (k = 0; k < n && !m->body.bad; k++)
		hits_get(&m->body, &rows[k]);
	if (!chan_check(from, m) || m->body.bad)
		return;
	for (k = 0; k < n; k++)
		hits_book_add(b, &rows[k], now);
}

void
hits_book_each(const struct hits_book *b, struct mono now,
    void (*each)(const struct hits_sum *sum, void *arg), void *arg)
{
	const struct book_row *r;
	struct hits_sum s;
	uint32_t i;

	for (i = 0; i < b->n; i++) {
		r = &b->list[i];
		s.hit = (struct hit){ view_of(r->where), r->hash, r->n,
			r->trial, r->last_us, view_of(r->who) };
		s.hour = circle_sum(&r->hour, now.us / SHORT_US, SHORTS);
		s.day = circle_sum(&r->day, now.us / LONG_US, LONGS);
		each(&s, arg);
	}
}
