/*
 * The live view: what qmgr knows of its destinations, beside what waits for
 * each of them in deferred/.  qmgr does not know the latter: of a deferred
 * message it keeps id and time.  So the files are read here, which is not done
 * more often than it is cheap, however many look on.
 */
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "queue/showq.h"

#define GROUPS_MAX	20000u
#define HASH		4096u
#define AGE_US		2000000		/* least, of what is shown again */
#define AGE_FACTOR	10		/* at most a tenth of the time */

/* Deferred messages for one destination. */
struct group {
	struct group *hash_next;
	char *transport, *nexthop;
	uint32_t deferred[DEST_AGES];
	int64_t next;			/* attempt; 0: none */
	char *why;
	int64_t why_at;
	bool shown;
};

struct summary {
	struct group *hash[HASH];
	unsigned n;
};

struct viewer {
	struct viewer *next;
	struct client *client;
	uint32_t tag;
	struct chan *asking;		/* NULL: waits for the summary */
};

static struct summary *now_shown, *making;
static struct mono made_at, begun_at;
static int64_t took_us;
static struct viewer *viewers;

static unsigned
group_hash(struct view transport, struct view nexthop)
{
	uint32_t h = 2166136261u;
	size_t i;

	for (i = 0; i < transport.n; i++)
		h = (h ^ (unsigned char)transport.p[i]) * 16777619u;
	h = (h ^ 0xffu) * 16777619u;
	for (i = 0; i < nexthop.n; i++)
		h = (h ^ (unsigned char)nexthop.p[i]) * 16777619u;
	return h % HASH;
}

static struct group *
group_find(struct summary *s, struct view transport, struct view nexthop,
    bool make)
{
	struct group **p = &s->hash[group_hash(transport, nexthop)], *g;

	for (g = *p; g != NULL; g = g->hash_next)
		if (view_is(transport, g->transport) &&
		    view_is(nexthop, g->nexthop))
			return g;
	if (!make || s->n == GROUPS_MAX)
		return NULL;
	g = mem_alloc(sizeof *g);
	g->transport = mem_copy(transport);
	g->nexthop = mem_copy(nexthop);
	g->hash_next = *p;
	*p = g;
	s->n++;
	return g;
}

static void
summary_free(struct summary **sp)
{
	struct summary *s = *sp;
	struct group *g;
	unsigned i;

	*sp = NULL;
	for (i = 0; s != NULL && i < HASH; i++)
		while ((g = s->hash[i]) != NULL) {
			s->hash[i] = g->hash_next;
			free(g->transport);
			free(g->nexthop);
			free(g->why);
			free(g);
		}
	free(s);
}

static unsigned
age_class(int64_t us)
{
	int64_t limit = 5;
	unsigned i;

	for (i = 0; i < DEST_AGES - 1 && us > limit * 60000000; i++)
		limit *= 2;
	return i;
}

/* One recipient's destination; a message counts once for each. */
static void
summary_recipient(const struct queue_entry *e, uint32_t i, struct buf *t,
    struct buf *h, struct group **last)
{
	const struct history_reason *why;
	struct view transport, nexthop;
	struct group *g;

	if (e->route.n > 0) {
		route_split(e->route, &transport, &nexthop);
		if (nexthop.n == 0)
			nexthop = address_domain(e->env.rcpts[i].addr);
	} else {
		buf_clear(t);
		buf_clear(h);
		(void)route_find(showq.router, e->env.sender,
		    e->env.rcpts[i].addr, t, h);
		transport = buf_view(t);
		nexthop = buf_view(h);
	}
	g = group_find(making, transport, nexthop, true);
	if (g == NULL || g == *last)
		return;
	*last = g;
	g->deferred[age_class(clock_wall().us - e->arrival.us)]++;
	if (e->next.us > 0 && (g->next == 0 || e->next.us < g->next))
		g->next = e->next.us;
	why = history_of(&e->past, i);
	if (why != NULL && (g->why == NULL || e->past.last.us > g->why_at)) {
		free(g->why);
		g->why = mem_copy(why->text);
		g->why_at = e->past.last.us;
	}
}

static void
summary_found(struct view frames, void *arg)
{
	struct queue_entry e;
	struct cursor r;
	struct group *last = NULL;
	struct arena *a;
	struct buf t, h;
	uint8_t type;
	uint32_t i;
	size_t n;
	bool bad;

	(void)arg;
	buf_init(&t, 256);
	buf_init(&h, 2048);
	while ((n = frame_get(frames, REPLY_MAX, &type, &r, &bad)) > 0) {
		frames = view_from(frames, n);
		if (!queue_entry_get(&r, &e))
			continue;
		a = arena_new(queue_entry_room(&e));
		last = NULL;
		if (!queue_entry_decode(&e, a))
			e.env.nrcpts = 0;
		for (i = 0; i < e.env.nrcpts; i++)
			if (e.status.p[i] == '.')
				summary_recipient(&e, i, &t, &h, &last);
		arena_free(&a);
	}
	buf_free(&t);
	buf_free(&h);
}

static void viewers_answer(void);

static void
summary_done(void *arg)
{
	(void)arg;
	summary_free(&now_shown);
	now_shown = making;
	making = NULL;
	made_at = clock_mono();
	took_us = mono_since(begun_at, made_at);
	viewers_answer();
}

static bool
summary_fresh(void)
{
	int64_t limit = took_us * AGE_FACTOR;

	if (now_shown == NULL)
		return false;
	return mono_since(made_at, clock_mono()) <
	    (limit > AGE_US ? limit : AGE_US);
}

static void
summary_make(void)
{
	static const struct list_def def = {
		.match = { .places = 1u << PLACE_DEFERRED },
		.found = summary_found, .done = summary_done };

	if (making != NULL)
		return;
	making = mem_alloc(sizeof *making);
	begun_at = clock_mono();
	(void)listing_start(&def);
}

/* -- viewers -------------------------------------------------------------- */

static void
viewer_free(struct viewer *v)
{
	struct viewer **p;

	for (p = &viewers; *p != v; p = &(*p)->next)
		;
	*p = v->next;
	free(v);
}

static void
put_dest(struct buf *b, const struct queue_dest *d, const struct group *g)
{
	size_t at;
	unsigned i;

	if (!frame_begin(b, REPLY_DEST, &at))
		return;
	(void)queue_dest_put(b, d);
	for (i = 0; i < DEST_AGES; i++)
		(void)put_u32(b, g != NULL ? g->deferred[i] : 0);
	(void)put_u64(b, g != NULL ? (uint64_t)g->next : 0);
	(void)put_view(b, g != NULL && g->why != NULL ? view_of(g->why) :
	    view_make("", 0));
	frame_end(b, at);
}

/* What is deferred for destinations that qmgr has nothing for now. */
static void
put_rest(struct buf *b)
{
	struct queue_dest d = { .held_by = view_of("none") };
	struct group *g;
	unsigned i;

	for (i = 0; i < HASH; i++)
		for (g = now_shown->hash[i]; g != NULL; g = g->hash_next) {
			if (!g->shown) {
				d.transport = view_of(g->transport);
				d.nexthop = view_of(g->nexthop);
				put_dest(b, &d, g);
			}
			g->shown = false;
		}
}

static void
viewer_finish(struct viewer *v, struct buf *b)
{
	struct client *c = v->client;

	put_rest(b);
	viewer_free(v);
	if (b->n > 0)
		client_add(c, buf_view(b));
	client_end(c, REPLY_OK, NULL);
}

static void
viewer_ask(struct viewer *v)
{
	struct buf *b, none;

	v->asking = manager_first();
	if (v->asking == NULL) {
		buf_init(&none, REPLY_MAX);
		viewer_finish(v, &none);
		buf_free(&none);
		return;
	}
	v->tag = manager_tag();
	b = chan_begin(v->asking, MSG_QUEUE_DESTS);
	put_u32(b, v->tag);
	chan_end(v->asking);
}

static void
viewers_answer(void)
{
	struct viewer *v, *next;

	for (v = viewers; v != NULL; v = next) {
		next = v->next;
		if (v->asking == NULL)
			viewer_ask(v);
	}
}

void
dests_start(struct client *c)
{
	struct viewer *v = mem_alloc(sizeof *v);

	v->client = c;
	v->next = viewers;
	viewers = v;
	if (summary_fresh())
		viewer_ask(v);
	else
		summary_make();
}

void
dests_forget(const struct client *c)
{
	struct viewer *v, *next;

	for (v = viewers; v != NULL; v = next) {
		next = v->next;
		if (v->client == c)
			viewer_free(v);
	}
}

void
dests_answer(uint32_t tag, struct chan_in *in)
{
	uint32_t n = cursor_u32(&in->body), i;
	struct queue_dest d;
	struct viewer *v;
	struct group *g;
	struct buf b;

	for (v = viewers; v != NULL && (v->tag != tag || v->asking == NULL);
	    v = v->next)
		;
	if (v == NULL)
		return;
	buf_init(&b, REPLY_MAX);
	for (i = 0; i < n && i < QUEUE_DESTS_MAX; i++) {
		if (!queue_dest_get(&in->body, &d)) {
			buf_free(&b);
			chan_blame(v->asking, "bad destinations");
			return;
		}
		g = group_find(now_shown, d.transport, d.nexthop, false);
		if (g != NULL)
			g->shown = true;
		put_dest(&b, &d, g);
	}
	viewer_finish(v, &b);
	buf_free(&b);
}

void
dests_lost(const struct chan *c)
{
	struct viewer *v, *next;

	for (v = viewers; v != NULL; v = next) {
		next = v->next;
		if (v->asking == c) {
			v->asking = NULL;
			client_end(v->client, REPLY_FAILED,
			    "the queue manager has ended");
			viewer_free(v);
		}
	}
}
