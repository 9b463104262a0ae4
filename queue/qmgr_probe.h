/*
 * Address verification in the queue manager, because it alone knows where
 * mail for an address goes, how much its server bears, and which servers are
 * dead.
 *
 * qmgr_probe.c: one question to one server.  A probe finds the destination of
 * its address, waits for a place in that destination's window (queue/sched.h),
 * is given to a relay, and ends with a result - at once if the destination is
 * dead, or if too many probes wait.  It never becomes mail and is never tried
 * again: who needs to know asks again.
 *
 * qmgr_verify.c: who asks, and what is known.  Those who ask for one address
 * share one probe; an answer that gets old is good while it is asked for again
 * in the background.  A domain that takes a recipient nobody can have takes
 * all: that it takes an address says nothing.
 *
 * What strangers can make grow: probes (PROBES_MAX, PROBES_DEST_MAX), askers
 * (sessions of an smtpd, each with one question), the cache (bytes, refused
 * addresses a quarter of it), domains (DOMAINS_MAX).
 */
#ifndef QUEUE_QMGR_PROBE_H
#define QUEUE_QMGR_PROBE_H

#include "queue/qmgr.h"

#define PROBES_MAX	1000u	/* in all */
#define PROBES_DEST_MAX	200u	/* of one destination, begun or waiting */

/* Part of its owner, who keeps it until it was done. */
struct probe {
	TAILQ_ENTRY(probe) link;
	uint64_t number;	/* 0: it does not exist */
	struct dest *dest;	/* held; NULL: not known yet */
	bool passed;		/* by best_mx_transport */
	struct chan *relay;	/* who has it; NULL: it waits */
	struct mono since;	/* so long */
	char *addr;
	struct table_known *tables;
	struct table_question *question;
	/* Somebody waits for it; NULL: nobody does.  While it waits for its
	 * turn, a probe that nobody waits for gives way to another one. */
	bool (*wanted)(const struct probe *p);
	/* The text is void after it; told: a server said so. */
	void (*done)(struct probe *p, enum probe_result result,
	    struct view text, bool told);
};

/* router: see route_find(). */
void probe_init(const struct router *router);
/* done() may come before this returns. */
void probe_start(struct probe *p, struct view addr);
/* Room for work that can wait. */
bool probe_idle(void);
void probe_counts(unsigned *ret_waiting, unsigned *ret_underway);

/* qmgr_catchall.c: names in lower case */
/* A server took an address of this domain: does it take all? */
void domain_took(struct view name);
bool domain_takes_all(struct view name);
void domain_status(struct buf *b);

#endif
