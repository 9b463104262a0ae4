/* Addresses that smtpd asks about: see queue/qmgr_probe.h. */
#include <ctype.h>
#include <stdlib.h>
#include <xxhash.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/own_addr.h"
#include "queue/qmgr_probe.h"
#include "queue/verify_store.h"
#include "rules/facts.h"
#include "rules/verify_sender.h"

#define CACHE_BYTES	(32u << 20)
#define SLOTS		1024u
#define WAIT_MAX_MS	600000u
#define ASKERS_MAX	20000u	/* in all; their sessions have a limit, too */

struct asker {
	TAILQ_ENTRY(asker) link;
	struct chan *chan;
	uint32_t tag;
	struct mono until;
};

TAILQ_HEAD(asker_list, asker);

/* An address that is being asked for. */
struct verify {
	struct probe probe;	/* first */
	struct verify *hash_next;
	struct asker_list askers;	/* in the order they came */
	char *addr;
};

static struct {
	struct verify_cache *cache;
	struct verify_store *store;	/* NULL: none */
	struct verify *slot[SLOTS];
	unsigned n_askers;
	struct event timer;
	uint64_t asked, hits, told[PROBE_RESULTS];
} verify;

/* -- answers --------------------------------------------------------------- */

/* "+": deliverable, "-": not, "?": not known; "*": deliverable, as all of its
 * domain. */
static void
verify_answer(struct chan *c, uint32_t tag, const char *mark,
    struct view text)
{
	const struct view records[2] = { view_of(mark),
		view_head(text, VERIFY_TEXT_MAX) };
	struct buf answer, *b;

	buf_init(&answer, 1024);
	ensure(facts_put_answer(&answer, FACT_FOUND, records, 2));
	b = chan_begin(c, MSG_VERIFY_IS);
	put_u32(b, tag);
	put_view(b, buf_view(&answer));
	chan_end(c);
	buf_free(&answer);
}

static const char *
verify_mark(struct view addr, enum probe_result result)
{
	if (result == PROBE_DELIVERABLE)
		return domain_takes_all(address_domain(addr)) ? "*" : "+";
	return result == PROBE_UNDELIVERABLE ? "-" : "?";
}

/* -- those that are asked for ---------------------------------------------- */

static struct verify **
verify_slot(struct view addr)
{
	struct verify **p = &verify.slot[XXH3_64bits(addr.p, addr.n) % SLOTS];

	while (*p != NULL && !view_is(addr, (*p)->addr))
		p = &(*p)->hash_next;
	return p;
}

static void
asker_drop(struct verify *v, struct asker *a)
{
	TAILQ_REMOVE(&v->askers, a, link);
	free(a);
	verify.n_askers--;
}

static void
asker_add(struct verify *v, struct chan *c, uint32_t tag, uint32_t ms)
{
	struct asker *a, *next;

	/* Those who do not wait any more were the first. */
	for (a = TAILQ_FIRST(&v->askers); a != NULL &&
	    a->until.us < loop_now().us; a = next) {
		next = TAILQ_NEXT(a, link);
		asker_drop(v, a);
	}
	a = mem_alloc(sizeof *a);
	a->chan = c;
	a->tag = tag;
	a->until.us = loop_now().us + (int64_t)ms * 1000;
	TAILQ_INSERT_TAIL(&v->askers, a, link);
	verify.n_askers++;
}

static void
verify_remember(struct view addr, enum probe_result result, struct view text)
{
	struct verify_fact f = {
		.deliverable = result == PROBE_DELIVERABLE,
		.checked = clock_wall().us / 1000000,
	};

	if (result == PROBE_UNDELIVERABLE)
		f.text = text;
	if (result == PROBE_DELIVERABLE ||
	    (result == PROBE_UNDELIVERABLE &&
	    qmgr.cf->address_verify_negative_cache)) {
		verify_cache_put(verify.cache, addr, &f);
		verify_store_put(verify.store, addr, &f);
	}
}

static void
verify_done(struct probe *p, enum probe_result result, struct view text,
    bool told)
{
	struct verify *v = (struct verify *)p, **slot;
	struct view addr = view_of(v->addr);
	struct asker *a, *next;

	verify.told[result]++;
	/* What our tables say is known at once, and may change. */
	if (told)
		verify_remember(addr, result, text);
	slot = verify_slot(addr);
	ensure(*slot == v);
	*slot = v->hash_next;
	for (a = TAILQ_FIRST(&v->askers); a != NULL; a = next) {
		next = TAILQ_NEXT(a, link);
		verify_answer(a->chan, a->tag, verify_mark(addr, result),
		    text);
		asker_drop(v, a);
	}
	if (told && result == PROBE_DELIVERABLE)
		domain_took(address_domain(addr));
	free(v->addr);
	free(v);
}

static bool
verify_wanted(const struct probe *p)
{
	const struct verify *v = (const struct verify *)p;
	const struct asker *a = TAILQ_LAST(&v->askers, asker_list);

	return a != NULL && a->until.us >= loop_now().us;
}

/* c: who waits; NULL: nobody, it is to be known again. */
static void
verify_begin(struct view addr, struct chan *c, uint32_t tag, uint32_t ms)
{
	struct verify **slot = verify_slot(addr), *v = *slot;
	bool fresh = v == NULL;

	if (c == NULL && (!fresh || !probe_idle()))
		return;
	if (fresh) {
		v = mem_alloc(sizeof *v);
		v->addr = mem_copy(addr);
		TAILQ_INIT(&v->askers);
		v->probe.done = verify_done;
		v->probe.wanted = verify_wanted;
		*slot = v;
	}
	if (c != NULL)
		asker_add(v, c, tag, ms);
	if (fresh)
		probe_start(&v->probe, addr);
}

/* -- smtpd ----------------------------------------------------------------- */

static void
verify_ask(struct chan *c, uint32_t tag, uint32_t ms, struct view addr)
{
	struct verify_fact f;
	enum verify_age age = VERIFY_NONE;

	verify.asked++;
	if (notice_is_double(addr) || verify_is_sender(addr)) {
		verify_answer(c, tag, "+", view_of(""));
		return;
	}
	age = verify_cache_find(verify.cache, addr,
	    clock_wall().us / 1000000, &f);
	if (age != VERIFY_NONE) {
		verify.hits++;
		verify_answer(c, tag, verify_mark(addr, f.deliverable ?
		    PROBE_DELIVERABLE : PROBE_UNDELIVERABLE), f.text);
		/* After a restart that is not known any more. */
		if (f.deliverable)
			domain_took(address_domain(addr));
	}
	if (age == VERIFY_STALE)
		verify_begin(addr, NULL, 0, 0);
	else if (age == VERIFY_NONE && verify.n_askers >= ASKERS_MAX)
		verify_answer(c, tag, "?",
		    view_of("too many addresses are being verified"));
	else if (age == VERIFY_NONE)
		verify_begin(addr, c, tag, ms);
}

void
verify_asked(struct chan *c, struct chan_in *in)
{
	uint32_t tag = cursor_u32(&in->body), ms = cursor_u32(&in->body);
	struct view addr = cursor_view(&in->body), domain;
	char *key;
	size_t i;

	if (!chan_check(c, in))
		return;
	domain = address_domain(addr);
	if (addr.n == 0 || addr.n > ADDRESS_MAX || domain.n == 0 ||
	    domain.n == addr.n || ms > WAIT_MAX_MS ||
	    memchr(addr.p, '\0', addr.n) != NULL) {
		chan_blame(c, "bad address to verify");
		return;
	}
	/* The case of a local part is its server's affair. */
	key = mem_copy(addr);
	for (i = addr.n - domain.n; i < addr.n; i++)
		key[i] = (char)tolower((unsigned char)key[i]);
	verify_ask(c, tag, ms, view_make(key, addr.n));
	free(key);
}

void
verify_gone(const struct chan *c)
{
	struct asker *a, *next;
	struct verify *v;
	unsigned i;

	for (i = 0; i < SLOTS; i++)
		for (v = verify.slot[i]; v != NULL; v = v->hash_next)
			for (a = TAILQ_FIRST(&v->askers); a != NULL;
			    a = next) {
				next = TAILQ_NEXT(a, link);
				if (a->chan == c)
					asker_drop(v, a);
			}
}

bool
verify_is_sender(struct view addr)
{
	return verify_sender_is(qmgr.cf, clock_wall(), addr);
}

/* -- life ------------------------------------------------------------------ */

static const struct router *
verify_router(void)
{
	static struct conf cf;
	struct netaddr own[OWN_ADDR_MAX];
	const struct router *r = qmgr.router;

	if (router_conf_probes(qmgr.cf, &cf))
		r = router_open(&cf, own, own_addresses(&cf, own,
		    OWN_ADDR_MAX), log_report, NULL);
	if (r == NULL)
		fatal("cannot open the routing tables of address probes");
	return r;
}

static void
verify_dropped(struct view addr, void *arg)
{
	(void)arg;
	verify_store_put(verify.store, addr, NULL);
}

static void
verify_read(struct view addr, const struct verify_fact *f)
{
	verify_cache_put(verify.cache, addr, f);
}

void
verify_load(void)
{
	const struct conf *cf = qmgr.cf;
	const struct verify_times times = {
		.positive_expire = cf->address_verify_positive_expire_time /
		    1000,
		.positive_refresh = cf->address_verify_positive_refresh_time /
		    1000,
		.negative_expire = cf->address_verify_negative_expire_time /
		    1000,
		.negative_refresh = cf->address_verify_negative_refresh_time /
		    1000,
	};

	verify.cache = verify_cache_new(CACHE_BYTES, &times);
	verify.store = verify_store_open(cf->address_verify_map, verify_read);
	probe_init(verify_router());
}

void
verify_retire(void)
{
	verify_store_flush(verify.store);
}

static void
verify_sweep(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	verify_cache_sweep(verify.cache, clock_wall().us / 1000000);
	event_add(&verify.timer,
	    loop_timeout(qmgr.cf->address_verify_cache_cleanup_interval));
}

void
verify_init(void)
{
	verify_cache_on_drop(verify.cache, verify_dropped, NULL);
	verify_cache_sweep(verify.cache, clock_wall().us / 1000000);
	evtimer_assign(&verify.timer, loop_base(), verify_sweep, NULL);
	/* 0: never. */
	if (qmgr.cf->address_verify_cache_cleanup_interval > 0)
		event_add(&verify.timer, loop_timeout(
		    qmgr.cf->address_verify_cache_cleanup_interval));
}

void
verify_status(struct buf *b)
{
	unsigned waiting, underway;

	probe_counts(&waiting, &underway);
	(void)buf_printf(b, "verify_asked %llu\nverify_known %llu\n"
	    "verify_cached deliverable=%zu undeliverable=%zu bytes=%zu\n"
	    "verify_probes waiting=%u underway=%u deliverable=%llu "
	    "undeliverable=%llu unknown=%llu\n",
	    (unsigned long long)verify.asked, (unsigned long long)verify.hits,
	    verify_cache_count(verify.cache, true),
	    verify_cache_count(verify.cache, false),
	    verify_cache_bytes(verify.cache), waiting, underway,
	    (unsigned long long)verify.told[PROBE_DELIVERABLE],
	    (unsigned long long)verify.told[PROBE_UNDELIVERABLE],
	    (unsigned long long)verify.told[PROBE_UNKNOWN]);
	(void)buf_printf(b, "verify_map %s lost=%llu\n",
	    verify.store != NULL ? "in use" : "none",
	    (unsigned long long)verify_store_lost(verify.store));
	domain_status(b);
}
