/* The inside of the scheduler: see queue/sched.h. */
#ifndef QUEUE_SCHED_PRIV_H
#define QUEUE_SCHED_PRIV_H

#include "lib/log.h"
#include "lib/mem.h"
#include "queue/sched.h"

#define DEST_WHY_MAX	500	/* bytes kept of a reason */
#define QUIET_US	(600 * INT64_C(1000000))
#define WINDOW_US	(60 * INT64_C(1000000))	/* a quiet one keeps it */

TAILQ_HEAD(dest_list, dest);
TAILQ_HEAD(flow_list, flow);
TAILQ_HEAD(entry_list, entry);
TAILQ_HEAD(parked_list, parked);

/* Those that could start: without any delivery in progress, then with some;
 * of each the proven, then the others. */
enum { LINE_IDLE = 0, LINE_BUSY = 2, LINE_UNPROVEN = 1, LINES = 4 };
struct line {
	struct dest_list list[LINES];
};

enum class {
	CLASS_NEW = 0, CLASS_NEW_BIG, CLASS_OLD, CLASS_OLD_BIG, CLASSES
};

/* The entries of one sender in one class of a destination. */
struct flow {
	TAILQ_ENTRY(flow) link;
	struct flow *hash_next;
	struct dest *dest;
	struct entry_list entries;
	uint32_t sender;
	uint8_t class;
};

struct transport {
	struct transport *next;
	struct sched *sched;
	char *name;
	struct sched_limits limits;
	struct line blocked;		/* could start, were it not for this */
	unsigned n_blocked, in_line;	/* dests there, and in the common one */
	unsigned busy;
	unsigned room;			/* transport_set_room() */
	bool paused;			/* rate delay, until then */
	struct mono paused_until, dead_until;
	char *dead_why;			/* NULL: alive */
};

struct dest {
	struct dest *hash_next;
	uint32_t hash;
	TAILQ_ENTRY(dest) link;		/* in *in */
	struct dest_list *in;		/* a line, or those that are quiet */
	uint64_t stamp;
	bool in_common, in_blocked;
	bool proven;			/* a delivery, and not dead since */
	TAILQ_ENTRY(dest) parked_link;	/* while it has parked */
	struct transport *transport;
	char *name;			/* user@nexthop, or the same */
	const char *nexthop;
	struct flow_list flows[CLASSES];
	uint32_t turns;
	bool big_turn;
	unsigned entries, waiting, waiting_class[CLASSES];
	uint64_t recipients;		/* waiting */
	unsigned busy, busy_big;		/* busy: with probes */
	unsigned probes, busy_probes;	/* held; underway */
	bool probed_last;		/* while mail was waiting */
	unsigned window;
	double success, failure;	/* parts of a step of the window */
	double failed_cohorts;
	bool paused;
	struct mono paused_until, dead_until, quiet_since;
	char *dead_why;			/* NULL: alive */
	char *last_error;
	int64_t average, last;
	uint64_t delivered, failed;
	size_t heap_at;			/* plus 1; 0: waits for no time */
	struct parked_list parked;
	unsigned n_parked;
};

struct sched {
	struct mono now;
	int64_t dead_for;
	struct transport *transports;
	struct line line;
	uint64_t stamp;			/* of the last that joined a line */
	unsigned active_limit;		/* messages; 0: not known */
	unsigned places;		/* of all deliveries; 0: not known */
	unsigned busy_unproven, entries_unproven;
	struct dest_list quiet;		/* nothing to do, longest first */
	struct dest_list parkers;
	struct dest **slot;		/* by name */
	size_t slots, n_dests;
	struct flow **flow_slot;
	size_t flow_slots, n_flows;
	struct dest **heap;		/* by the time they wait for */
	size_t n_heap, cap_heap;
};

uint32_t hash_bytes(uint32_t h, const void *p, size_t n);
#define HASH_START	2166136261u

/* sched_dest.c */
/* Put d where its numbers say; last in its line if it moves. */
void dest_place(struct dest *d);
/* To the end of its line. */
void dest_requeue(struct dest *d);
unsigned dest_window(const struct dest *d);
bool dest_big_allowed(const struct dest *d);
bool dest_startable(const struct dest *d);
/* No delivery to d for us, from now on. */
void dest_pause(struct dest *d, int64_t us);
void dest_die(struct dest *d, struct view why);
/* The window after a delivery. */
void dest_success(struct dest *d);
void dest_failure(struct dest *d);
void dest_free_all(struct sched *s);
void dest_forget_quiet(struct sched *s);

void dest_set_proven(struct dest *d, bool proven);

/* sched.c */
void line_init(struct line *l);
/* Whose turn it is; NULL: nobody's. */
struct dest *line_first(const struct line *l, bool unproven);

/* sched_transport.c */
bool transport_open(const struct transport *t);
/* Let those in line that it has room for. */
void transport_refill(struct transport *t);
void transport_ended(struct transport *t);
void transport_wake(struct sched *s);
bool transport_wake_at(const struct sched *s, struct mono *ret);
void transport_free_all(struct sched *s);

/* sched_flow.c */
void flow_add(struct entry *e);
void flow_remove(struct entry *e);
/* Both to the end of their rings. */
void flow_turn(struct entry *e);
/* Whose turn it is in d, of which something waits. */
struct entry *flow_choose(struct dest *d);

/* sched_timer.c: the time that d waits for has changed */
void timer_set(struct dest *d);
void timer_wake(struct sched *s);
bool timer_first(const struct sched *s, struct mono *ret);

#endif
