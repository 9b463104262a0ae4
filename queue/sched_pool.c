#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "lib/netaddr.h"
#include "queue/sched_pool.h"

#define WHY_MAX	400u

struct server {
	char *hop;
	unsigned weight;
	bool backup, drained;
	int64_t share;		/* smooth weighted round robin */
	uint64_t chosen;
	unsigned troubles;	/* in a row */
	bool down;
	int64_t backoff_ms;	/* of the next failure */
	struct mono retry;	/* down: when it is tried */
	char *why;
};

struct pool {
	char *name;
	struct server *list;
	size_t n;
};

struct pools {
	struct pool *list;
	size_t n;
	int64_t least_ms, most_ms;
};

/* -- the text -------------------------------------------------------------- */

/* "[host]" or "[host]:port": a pool is made of hosts, not of domains. */
static bool
hop_valid(struct view hop)
{
	size_t end = view_find(hop, ']'), i;
	struct view none;
	uint16_t port;

	if (hop.n > POOL_HOP_MAX || hop.p[0] != '[' || end == hop.n || end < 2)
		return false;
	for (i = 0; i < hop.n; i++)
		if (hop.p[i] <= ' ' || hop.p[i] >= 0x7f)
			return false;
	if (end + 1 == hop.n)
		return true;
	return hop.p[end + 1] == ':' && end + 2 < hop.n &&
	    netaddr_split_hostport(view_from(hop, end + 1), &none, &port,
	    25) && none.n == 0 && port != 0;
}

static bool
name_valid(struct view name)
{
	size_t i;

	for (i = 0; i < name.n; i++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
		    "WXYZ0123456789_.-", name.p[i]) == NULL ||
		    name.p[i] == '\0')
			return false;
	return name.n > 0 && name.n <= POOL_NAME_MAX;
}

static struct pool *
pool_find(const struct pools *p, struct view name)
{
	size_t i;

	for (i = 0; i < p->n; i++)
		if (view_is(name, p->list[i].name))
			return &p->list[i];
	return NULL;
}

static struct server *
server_find(const struct pools *p, struct view name, struct view hop)
{
	struct pool *pool = pool_find(p, name);
	size_t i;

	for (i = 0; pool != NULL && i < pool->n; i++)
		if (view_is_nocase(hop, pool->list[i].hop))
			return &pool->list[i];
	return NULL;
}

static bool
server_weight(struct view digits, unsigned *ret)
{
	unsigned n = 0;
	size_t i;

	for (i = 0; i < digits.n && n <= POOL_WEIGHT_MAX; i++) {
		if (digits.p[i] < '0' || digits.p[i] > '9')
			return false;
		n = n * 10 + (unsigned)(digits.p[i] - '0');
	}
	*ret = n;
	return digits.n > 0 && n >= 1 && n <= POOL_WEIGHT_MAX;
}

/* One word.  NULL, or what is wrong with it. */
static const char *
pools_word(struct pools *p, struct pool **pool, struct view w)
{
	struct server *s = *pool != NULL && (*pool)->n > 0 ?
	    &(*pool)->list[(*pool)->n - 1] : NULL;

	if (w.p[w.n - 1] == ':' && w.p[0] != '[') {
		w.n--;
		if (!name_valid(w))
			return "not a name of a pool";
		if (pool_find(p, w) != NULL)
			return "this pool is there twice";
		if (*pool != NULL && (*pool)->n == 0)
			return "the pool before it has no servers";
		if (p->n == POOLS_MAX)
			return "too many pools";
		*pool = &p->list[p->n++];
		(*pool)->name = mem_copy(w);
		(*pool)->list = mem_array(POOL_SERVERS_MAX,
		    sizeof *(*pool)->list);
		return NULL;
	}
	if (w.p[0] == '[') {
		if (*pool == NULL)
			return "a pool has a name first: \"NAME: [host]:port\"";
		if (!hop_valid(w))
			return "not a server: [host] or [host]:port";
		if (server_find(p, view_of((*pool)->name), w) != NULL)
			return "this server is there twice";
		if ((*pool)->n == POOL_SERVERS_MAX)
			return "too many servers";
		s = &(*pool)->list[(*pool)->n++];
		s->hop = mem_copy(w);
		s->weight = 1;
		s->backoff_ms = p->least_ms;
		return NULL;
	}
	if (s != NULL && view_is(w, "backup")) {
		s->backup = true;
		return NULL;
	}
	if (s != NULL && view_starts_nocase(w, "weight="))
		return server_weight(view_from(w, 7), &s->weight) ? NULL :
		    "a weight is 1 to 1000";
	return "expected \"NAME:\", \"[host]:port\", \"weight=N\" or "
	    "\"backup\"";
}

struct pools *
pools_parse(const char *text, int64_t least_ms, int64_t most_ms,
    char **ret_why)
{
	struct pools *p = mem_alloc(sizeof *p);
	struct view rest = view_of(text), w;
	struct pool *pool = NULL;
	const char *why = NULL;

	p->list = mem_array(POOLS_MAX, sizeof *p->list);
	p->least_ms = least_ms > 0 ? least_ms : 1;
	p->most_ms = most_ms > p->least_ms ? most_ms : p->least_ms;
	while (why == NULL && (w = conf_word(&rest)).n > 0)
		why = pools_word(p, &pool, w);
	if (why != NULL) {
		*ret_why = mem_printf("%.*s: %s",
		    VIEW_ARGS(view_head(w, 100)), why);
	} else if (pool != NULL && pool->n == 0) {
		*ret_why = mem_printf("%s: has no servers", pool->name);
		why = *ret_why;
	}
	if (why != NULL)
		pools_free(&p);
	return p;
}

void
pools_free(struct pools **pp)
{
	struct pools *p = *pp;
	size_t i, k;

	if (p == NULL)
		return;
	for (i = 0; i < p->n; i++) {
		for (k = 0; k < p->list[i].n; k++) {
			free(p->list[i].list[k].hop);
			free(p->list[i].list[k].why);
		}
		free(p->list[i].list);
		free(p->list[i].name);
	}
	free(p->list);
	free(p);
	*pp = NULL;
}

bool
pools_name(struct view nexthop, struct view *ret)
{
	if (!view_starts_nocase(nexthop, POOL_PREFIX))
		return false;
	*ret = view_from(nexthop, sizeof POOL_PREFIX - 1);
	return true;
}

/* -- who is next ----------------------------------------------------------- */

/* Out for twice as long as the last time, but not longer than that. */
static void
server_out(const struct pools *p, struct server *s, struct mono now)
{
	s->down = true;
	s->retry.us = now.us + s->backoff_ms * 1000;
	s->backoff_ms = s->backoff_ms > p->most_ms / 2 ? p->most_ms :
	    s->backoff_ms * 2;
}

static bool
server_up(const struct server *s, bool backup)
{
	return !s->drained && !s->down && s->backup == backup;
}

/*
 * The turn of the weights: each server that can be chosen grows by its weight,
 * and the largest pays for all.  3 and 1 come as a a b a.
 */
static struct server *
pool_turn(struct pool *pool, bool backup)
{
	struct server *best = NULL, *s;
	int64_t total = 0;
	size_t i;

	for (i = 0; i < pool->n; i++) {
		s = &pool->list[i];
		if (!server_up(s, backup))
			continue;
		s->share += s->weight;
		total += s->weight;
		if (best == NULL || s->share > best->share)
			best = s;
	}
	if (best != NULL)
		best->share -= total;
	return best;
}

/* One that has been out long enough: whoever waits the longest. */
static struct server *
pool_due(struct pool *pool, struct mono now)
{
	struct server *best = NULL, *s;
	size_t i;

	for (i = 0; i < pool->n; i++) {
		s = &pool->list[i];
		if (!s->drained && s->down && s->retry.us <= now.us &&
		    (best == NULL || s->retry.us < best->retry.us))
			best = s;
	}
	return best;
}

struct order {
	struct server *list[POOL_SERVERS_MAX];
	size_t n;
};

static void
order_add(struct order *o, struct server *s)
{
	size_t i;

	for (i = 0; i < o->n; i++)
		if (o->list[i] == s)
			return;
	o->list[o->n++] = s;
}

/* Those that are up; of equals in the list, by whose turn is nearest. */
static void
order_add_up(struct order *o, struct pool *pool, bool backup)
{
	size_t from, i, k;
	struct server *s;

	from = o->n;
	for (i = 0; i < pool->n; i++)
		if (server_up(&pool->list[i], backup))
			order_add(o, &pool->list[i]);
	for (i = from + 1; i < o->n; i++) {
		s = o->list[i];
		for (k = i; k > from && o->list[k - 1]->share < s->share; k--)
			o->list[k] = o->list[k - 1];
		o->list[k] = s;
	}
}

enum pool_answer
pools_usable(const struct pools *p, struct view name)
{
	const struct pool *pool = pool_find(p, name);
	size_t i;

	if (pool == NULL)
		return POOL_UNKNOWN;
	for (i = 0; i < pool->n; i++)
		if (!pool->list[i].drained)
			return POOL_SERVERS;
	return POOL_DRAINED;
}

enum pool_answer
pools_order(struct pools *p, struct view name, struct mono now,
    struct buf *out)
{
	enum pool_answer a = pools_usable(p, name);
	struct pool *pool = pool_find(p, name);
	struct order o = { .n = 0 };
	struct server *first;
	size_t i;

	if (a != POOL_SERVERS)
		return a;
	first = pool_due(pool, now);
	/* Out again, unless it answers: others do not go there meanwhile,
	 * however long it lets this one wait. */
	if (first != NULL)
		server_out(p, first, now);
	if (first == NULL)
		first = pool_turn(pool, false);
	if (first == NULL)
		first = pool_turn(pool, true);
	if (first != NULL)
		order_add(&o, first);
	order_add_up(&o, pool, false);
	order_add_up(&o, pool, true);
	/* All are down: whatever is left is better than nothing. */
	if (o.n == 0 || (o.n == 1 && o.list[0]->down))
		for (i = 0; i < pool->n; i++)
			if (!pool->list[i].drained)
				order_add(&o, &pool->list[i]);
	ensure(o.n > 0 && o.list[0] != NULL);
	o.list[0]->chosen++;
	(void)buf_printf(out, POOL_PREFIX "%s", pool->name);
	for (i = 0; i < o.n; i++)
		(void)buf_printf(out, "%s%s", i == 0 ? " " : ",",
		    o.list[i]->hop);
	return POOL_SERVERS;
}

/* -- what becomes of them -------------------------------------------------- */

bool
pools_heard(struct pools *p, struct view name, struct view hop,
    enum hop_news news, struct view why, struct mono now)
{
	struct server *s = server_find(p, name, hop);
	bool was;

	if (s == NULL)
		return false;
	was = s->down;
	if (news == HOP_UP) {
		s->down = false;
		s->troubles = 0;
		s->backoff_ms = p->least_ms;
		return was;
	}
	free(s->why);
	s->why = mem_copy(view_head(why, WHY_MAX));
	if (news == HOP_TROUBLE && ++s->troubles < POOL_TROUBLES)
		return false;
	/* Those that went there before it was out tell nothing new. */
	if (!was)
		server_out(p, s, now);
	return !was;
}

bool
pools_drain(struct pools *p, struct view name, struct view hop, bool drained)
{
	struct server *s = server_find(p, name, hop);

	if (s == NULL)
		return false;
	s->drained = drained;
	/* Whoever puts it back knows that it is well. */
	if (!drained) {
		s->down = false;
		s->troubles = 0;
		s->backoff_ms = p->least_ms;
	}
	return true;
}

void
pools_each(const struct pools *p, struct mono now,
    void (*fn)(const struct pool_facts *f, void *arg), void *arg)
{
	const struct server *s;
	size_t i, k;

	for (i = 0; i < p->n; i++)
		for (k = 0; k < p->list[i].n; k++) {
			s = &p->list[i].list[k];
			fn(&(struct pool_facts){
				.pool = p->list[i].name, .hop = s->hop,
				.state = !s->down ? "up" :
				    s->retry.us > now.us ? "down" :
				    "half-open",
				.drained = s->drained, .backup = s->backup,
				.weight = s->weight, .chosen = s->chosen,
				.retry_ms = s->down && s->retry.us > now.us ?
				    (s->retry.us - now.us) / 1000 : 0,
				.why = s->why }, arg);
		}
}
