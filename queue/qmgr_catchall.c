/*
 * Domains whose servers take every recipient.  When a server took an address
 * of a domain, it is asked about one that nobody has; if it takes that as
 * well, its yes means nothing.  Asked again after a while: servers change.
 */
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "lib/log.h"
#include "queue/qmgr_probe.h"

#define DOMAINS_MAX	500u
#define AGAIN_US	(86400 * INT64_C(1000000))
#define AGAIN_ALL_US	(3600 * INT64_C(1000000))	/* takes all */
#define SHOWN		50u

struct domain {
	struct probe probe;	/* first */
	TAILQ_ENTRY(domain) link;
	char *name;
	struct mono checked;	/* us 0: never */
	bool takes_all, asking;
};

/* Used latest first. */
static TAILQ_HEAD(domain_list, domain) domains =
    TAILQ_HEAD_INITIALIZER(domains);
static unsigned n_domains;

static struct domain *
domain_find(struct view name)
{
	struct domain *d;

	TAILQ_FOREACH(d, &domains, link)
		if (view_is(name, d->name))
			break;
	if (d != NULL && d != TAILQ_FIRST(&domains)) {
		TAILQ_REMOVE(&domains, d, link);
		TAILQ_INSERT_HEAD(&domains, d, link);
	}
	return d;
}

bool
domain_takes_all(struct view name)
{
	const struct domain *d = domain_find(name);

	return d != NULL && d->takes_all;
}

static void
domain_done(struct probe *p, enum probe_result result, struct view text,
    bool told)
{
	struct domain *d = (struct domain *)p;
	bool all = result == PROBE_DELIVERABLE;

	(void)text;
	d->asking = false;
	if (!told)
		return;
	d->checked = loop_now();
	if (all && !d->takes_all)
		log_warn("%s: the server takes every recipient: that it "
		    "takes an address does not verify it",
		    log_safe(view_of(d->name)));
	if (!all && d->takes_all)
		log_info("%s: the server does not take every recipient any "
		    "more", log_safe(view_of(d->name)));
	d->takes_all = all;
}

/* NULL: no room. */
static struct domain *
domain_new(struct view name)
{
	struct domain *d;

	if (n_domains == DOMAINS_MAX) {
		d = TAILQ_LAST(&domains, domain_list);
		if (d->asking)
			return NULL;
		TAILQ_REMOVE(&domains, d, link);
		free(d->name);
		free(d);
		n_domains--;
	}
	d = mem_alloc(sizeof *d);
	d->name = mem_copy(name);
	d->probe.done = domain_done;
	TAILQ_INSERT_HEAD(&domains, d, link);
	n_domains++;
	return d;
}

/* A name that is nobody's, another one each time. */
static char *
domain_nobody(const struct domain *d)
{
	static uint64_t count;
	uint64_t from[3] = { (uint64_t)clock_wall().us,
		(uint64_t)clock_mono().us, ++count };

	return mem_printf("%016llx@%s", (unsigned long long)
	    XXH3_64bits_withSeed(from, sizeof from, (uintptr_t)d), d->name);
}

void
domain_took(struct view name)
{
	struct domain *d = domain_find(name);
	int64_t now = loop_now().us;
	char *addr;

	if (d == NULL)
		d = domain_new(name);
	if (d == NULL || d->asking || !probe_idle() || (d->checked.us != 0 &&
	    now - d->checked.us < (d->takes_all ? AGAIN_ALL_US : AGAIN_US)))
		return;
	d->asking = true;
	addr = domain_nobody(d);
	probe_start(&d->probe, view_of(addr));
	free(addr);
}

void
domain_status(struct buf *b)
{
	const struct domain *d;
	unsigned n = 0;

	TAILQ_FOREACH(d, &domains, link)
		if (d->takes_all && n++ < SHOWN)
			(void)buf_printf(b, "verify_domain %s takes every "
			    "recipient\n", log_safe(view_of(d->name)));
}
