/*
 * How often each rule fires.  smtpd, filter and relay count; what they counted
 * goes to master once a second (MSG_HITS), and when they end.  Master keeps the
 * sums, which outlive a role and a reload, for `postern rules`.  A role that
 * breaks down takes its last second with it.
 *
 * A row is what the log has behind "rule=" ("/etc/postern/access:7"), and the
 * hash of what is written there (rules/table_row.h): an edited row starts from
 * nothing.
 */
#ifndef LIB_HITS_H
#define LIB_HITS_H

#include "lib/cursor.h"

#define HITS_WHERE_MAX	512u	/* bytes; a longer one is cut */
#define HITS_WHO_MAX	64u
#define HITS_ROWS_MAX	256u	/* in one message */

struct hit {
	struct view where;
	uint64_t hash;		/* 0: not known */
	uint64_t n;
	uint64_t trial;		/* of these, a warning instead of a refusal */
	int64_t last_us;	/* wall clock */
	struct view who;	/* queue id, or address of a client */
};

/* One more; nothing happens outside of a role.  trial: it only warned. */
void hits_add(struct view where, uint64_t hash, bool trial, struct view who);
/* Tell master now: before the role ends. */
void hits_flush(void);

/* One row of MSG_HITS.  hits_get() sets c->bad if it is none: its texts are
 * printable, and neither empty nor over their limit. */
void hits_put(struct buf *b, const struct hit *h);
void hits_get(struct cursor *c, struct hit *ret);

#endif
