#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/gate_count.h"

#define PLACES	65536u

struct client {
	struct gate_client is;		/* its block */
	uint32_t n;			/* connections now */
	uint32_t did[CLIENT_EVENTS];	/* since the beginning of its unit */
	bool timed;			/* it has a unit of time */
	struct mono since;
	struct client *next;
};

struct gate_count {
	unsigned bits4, bits6;
	int64_t unit_us;
	uint32_t max, n;
	uint64_t seed, missed;
	struct client *place[PLACES];
};

struct gate_count *
gate_count_new(unsigned ipv4_bits, unsigned ipv6_bits, uint32_t max_clients,
    int64_t unit_ms)
{
	struct gate_count *g = mem_alloc(sizeof *g);

	g->bits4 = ipv4_bits;
	g->bits6 = ipv6_bits;
	g->max = max_clients;
	g->unit_us = unit_ms * 1000;
	/* Nobody outside may choose addresses that meet in one place. */
	if (getrandom(&g->seed, sizeof g->seed, 0) != sizeof g->seed)
		fatal("getrandom failed");
	return g;
}

struct netaddr
gate_count_block(const struct gate_count *g, const struct netaddr *a,
    unsigned *ret_bits)
{
	unsigned bits = a->family == AF_INET ? g->bits4 : g->bits6, i;
	struct netaddr b = *a;

	*ret_bits = bits;
	b.port = 0;
	for (i = 0; i < sizeof b.b; i++) {
		if (bits >= 8) {
			bits -= 8;
			continue;
		}
		b.b[i] &= (uint8_t)(0xff00u >> bits);
		bits = 0;
	}
	return b;
}

static struct client **
gate_count_find(struct gate_count *g, const struct gate_client *k)
{
	struct view v = netaddr_bytes(&k->addr);
	uint64_t h = g->seed ^ k->service;
	struct client **p;
	size_t i;

	for (i = 0; i < v.n; i++) {
		h = (h ^ (unsigned char)v.p[i]) * 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	for (p = &g->place[h % PLACES]; *p != NULL; p = &(*p)->next)
		if ((*p)->is.service == k->service &&
		    netaddr_equal(&(*p)->is.addr, &k->addr))
			break;
	return p;
}

static struct gate_client
gate_count_key(const struct gate_count *g, const struct gate_client *k)
{
	unsigned bits;

	return (struct gate_client){ gate_count_block(g, &k->addr, &bits),
		k->service };
}

/* NULL: the table is full. */
static struct client *
gate_count_have(struct gate_count *g, const struct gate_client *k)
{
	struct gate_client key = gate_count_key(g, k);
	struct client **p = gate_count_find(g, &key);

	if (*p == NULL && g->n >= g->max) {
		g->missed++;
	} else if (*p == NULL) {
		*p = mem_alloc(sizeof **p);
		(*p)->is = key;
		g->n++;
	}
	return *p;
}

static void
gate_count_forget(struct gate_count *g, struct client **p)
{
	struct client *c = *p;

	*p = c->next;
	free(c);
	g->n--;
}

uint32_t
gate_count_add(struct gate_count *g, const struct gate_client *k)
{
	struct client *c = gate_count_have(g, k);

	return c != NULL ? ++c->n : 0;
}

static bool
gate_count_over(const struct gate_count *g, const struct client *c,
    struct mono now)
{
	return !c->timed || mono_since(c->since, now) >= g->unit_us;
}

uint32_t
gate_count_event(struct gate_count *g, const struct gate_client *k,
    enum client_event event, struct mono now)
{
	struct client *c = gate_count_have(g, k);

	if (c == NULL)
		return 0;
	if (gate_count_over(g, c, now)) {
		memset(c->did, 0, sizeof c->did);
		c->timed = true;
		c->since = now;
	}
	if (c->did[event] < UINT32_MAX)
		c->did[event]++;
	return c->did[event];
}

void
gate_count_sweep(struct gate_count *g, struct mono now)
{
	struct client **p, *c;
	size_t i;

	for (i = 0; i < PLACES; i++)
		for (p = &g->place[i]; (c = *p) != NULL; ) {
			if (c->n == 0 && gate_count_over(g, c, now))
				gate_count_forget(g, p);
			else
				p = &c->next;
		}
}

void
gate_count_drop(struct gate_count *g, const struct gate_client *k)
{
	struct gate_client key = gate_count_key(g, k);
	struct client **p = gate_count_find(g, &key), *c = *p;

	/* NULL: it came while the table was full. */
	if (c == NULL || c->n == 0 || --c->n > 0)
		return;
	/* What it did lately counts until gate_count_sweep(). */
	if (!c->timed)
		gate_count_forget(g, p);
}

uint32_t
gate_count_clients(const struct gate_count *g)
{
	return g->n;
}

uint64_t
gate_count_missed(struct gate_count *g)
{
	uint64_t n = g->missed;

	g->missed = 0;
	return n;
}

void
gate_count_free(struct gate_count **gp)
{
	struct gate_count *g = *gp;
	struct client *c;
	size_t i;

	if (g == NULL)
		return;
	for (i = 0; i < PLACES; i++)
		while ((c = g->place[i]) != NULL) {
			g->place[i] = c->next;
			free(c);
		}
	free(g);
	*gp = NULL;
}
