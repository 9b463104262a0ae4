#include <stdlib.h>
#include <sys/random.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/gate_count.h"

#define PLACES	65536u

struct client {
	struct netaddr block;
	uint32_t n;		/* connections now */
	uint32_t rate;		/* since the beginning of its time unit */
	struct mono since;
	struct client *next;
};

struct gate_count {
	unsigned bits4, bits6;
	uint32_t max, n;
	uint64_t seed;
	struct client *place[PLACES];
};

struct gate_count *
gate_count_new(unsigned ipv4_bits, unsigned ipv6_bits, uint32_t max_clients)
{
	struct gate_count *g = mem_alloc(sizeof *g);

	g->bits4 = ipv4_bits;
	g->bits6 = ipv6_bits;
	g->max = max_clients;
	/* Nobody outside may choose addresses that meet in one place. */
	if (getrandom(&g->seed, sizeof g->seed, 0) != sizeof g->seed)
		fatal("getrandom failed");
	return g;
}

static struct netaddr
gate_count_block(const struct gate_count *g, const struct netaddr *a)
{
	unsigned bits = a->family == AF_INET ? g->bits4 : g->bits6, i;
	struct netaddr b = *a;

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
gate_count_find(struct gate_count *g, const struct netaddr *block)
{
	struct view v = netaddr_bytes(block);
	uint64_t h = g->seed;
	struct client **p;
	size_t i;

	for (i = 0; i < v.n; i++) {
		h = (h ^ (unsigned char)v.p[i]) * 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	for (p = &g->place[h % PLACES]; *p != NULL; p = &(*p)->next)
		if (netaddr_equal(&(*p)->block, block))
			break;
	return p;
}

/* NULL: the table is full. */
static struct client *
gate_count_have(struct gate_count *g, const struct netaddr *a)
{
	struct netaddr block = gate_count_block(g, a);
	struct client **p = gate_count_find(g, &block);

	if (*p == NULL && g->n < g->max) {
		*p = mem_alloc(sizeof **p);
		(*p)->block = block;
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
gate_count_add(struct gate_count *g, const struct netaddr *a)
{
	struct client *c = gate_count_have(g, a);

	return c != NULL ? ++c->n : 0;
}

uint32_t
gate_count_rate(struct gate_count *g, const struct netaddr *a,
    struct mono now, int64_t unit_ms)
{
	struct client *c = gate_count_have(g, a);

	if (c == NULL)
		return 0;
	if (c->rate == 0 || mono_since(c->since, now) >= unit_ms * 1000) {
		c->rate = 0;
		c->since = now;
	}
	if (c->rate < UINT32_MAX)
		c->rate++;
	return c->rate;
}

void
gate_count_sweep(struct gate_count *g, struct mono now, int64_t unit_ms)
{
	struct client **p, *c;
	size_t i;

	for (i = 0; i < PLACES; i++)
		for (p = &g->place[i]; (c = *p) != NULL; ) {
			if (c->n == 0 && mono_since(c->since, now) >=
			    unit_ms * 1000)
				gate_count_forget(g, p);
			else
				p = &c->next;
		}
}

void
gate_count_drop(struct gate_count *g, const struct netaddr *a)
{
	struct netaddr block = gate_count_block(g, a);
	struct client **p = gate_count_find(g, &block), *c = *p;

	/* NULL: it came while the table was full. */
	if (c == NULL || c->n == 0 || --c->n > 0)
		return;
	/* What it did lately counts until gate_count_sweep(). */
	if (c->rate == 0)
		gate_count_forget(g, p);
}

uint32_t
gate_count_clients(const struct gate_count *g)
{
	return g->n;
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
