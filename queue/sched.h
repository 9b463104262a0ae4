/*
 * The scheduler: which recipients of which message go to which destination,
 * and when.  It knows no disk, no socket and no clock: time is what
 * sched_wake() was told, so a test drives days of it in milliseconds.
 *
 * Nouns.  A transport is a service of master.cf.  A destination is a
 * transport and a next hop - and a recipient, when the transport takes one
 * recipient at a time.  An entry is what one message has for one destination;
 * a piece is what of it one delivery gets.
 *
 * Order.  Destinations take turns; one without a delivery in progress comes
 * before those that have some, so a second connection to one place is made
 * only when no other place waits.  Those that have not taken a delivery, or none
 * since they were dead, leave a quarter of all places to the others: thousands
 * of them may just be timing out.  In a destination senders take turns, then
 * the messages of a sender, one piece each; a piece is cut when it is given
 * away.  Of SCHED_SHARE turns one belongs to mail that was tried before, if
 * there is any, and big texts leave one place of a window free.
 *
 * Window.  It starts at the transport's initial concurrency, changes by the
 * feedback parameters, between 1 and the limit.  When a whole window (a
 * cohort) failed to connect, failed_cohorts times without a success between,
 * the destination is dead for a while; then it begins anew.
 *
 * Probes of addresses (no mail) take places of a window, too, so that a server
 * never sees more connections than it was thought to bear.  Mail comes first:
 * while some waits, probes have one place, and not twice in a row.  They do not
 * count for rate delays, and a conversation of theirs that breaks off does not
 * make the window smaller: it need not be the server's fault.
 *
 * Cost: every call is O(1), or O(log n) in the number of destinations that
 * wait for a time; sched_wake() pays for each that became due.
 */
#ifndef QUEUE_SCHED_H
#define QUEUE_SCHED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "lib/clock.h"
#include "lib/feedback.h"
#include "lib/view.h"

#define SCHED_SHARE	5u		/* 1 turn of 5 for mail tried before */
#define SCHED_BIG	(1u << 20)	/* a text over this many bytes is big */

struct sched;
struct transport;
struct dest;
struct flow;
struct message;			/* the caller's; never looked into */

struct sched_limits {
	unsigned initial, limit;	/* window; at least 1 */
	unsigned recipients;		/* of a piece; at least 1 */
	unsigned failed_cohorts;	/* 0: never dead */
	unsigned at_once;		/* of the transport; 0: no limit */
	uint32_t relays;		/* which processes serve it */
	struct feedback positive, negative;
	int64_t rate_delay;		/* us; over 0: one at a time */
	int64_t transport_rate_delay;	/* us; over 0: one at a time */
};

struct entry {
	TAILQ_ENTRY(entry) link;	/* in its flow, while some wait */
	struct flow *flow;		/* NULL: none wait */
	struct dest *dest;
	struct message *message;
	struct entry *sibling, **sibling_at;	/* the caller's */
	uint32_t n;			/* recipients */
	uint32_t given;			/* the first of them, given away */
	uint32_t busy;			/* pieces in delivery */
	uint32_t sender;		/* hash */
	uint8_t class;
	bool passed;			/* the caller's */
	uint32_t rcpt[];
};

struct piece {
	struct entry *entry;
	uint32_t first, n;		/* of entry->rcpt */
};

/* A message that stepped aside because its destination holds too much. */
struct parked {
	TAILQ_ENTRY(parked) link;
	struct dest *dest;		/* NULL: it is not parked */
};

enum sched_result {
	RESULT_OK = 1,		/* the conversation took place */
	RESULT_SHRINK,		/* broke off: fewer at once, but not dead */
	RESULT_FAILED		/* no conversation */
};

/* dead_for: microseconds. */
struct sched *sched_new(int64_t dead_for);
/* All entries and parked must be gone. */
void sched_free(struct sched **s);

/* How many deliveries there can be in all; 0: any number. */
void sched_places(struct sched *s, unsigned places);
/* How many messages there can be; 0: any number. */
void sched_active_limit(struct sched *s, unsigned messages);

/* Time passes; call it before the others when it has.  What was dead or
 * paused until then is not any more, quiet destinations are forgotten. */
void sched_wake(struct sched *s, struct mono now);
/* When sched_wake() changes something next; false: never by itself. */
bool sched_wake_at(const struct sched *s, struct mono *ret);

/* NULL: not added yet. */
struct transport *sched_transport(const struct sched *s, const char *name);
struct transport *sched_add_transport(struct sched *s, const char *name,
    const struct sched_limits *limits);
/* user: the recipient, where recipients is 1; else NULL.  A destination with
 * nothing to do is gone ten minutes after that; its window after one. */
struct dest *sched_dest(struct transport *t, const char *nexthop,
    const char *user);

/* Queue a new entry.  sender: a hash; tried: not the first attempt. */
struct entry *sched_add(struct dest *d, struct message *m, uint32_t sender,
    uint64_t text_size, bool tried, const uint32_t *rcpt, uint32_t n);
/* Take off what of e waits. */
void sched_forget(struct entry *e);
/* Nothing of e waits or is in delivery: free it. */
bool entry_finished(const struct entry *e);
void entry_free(struct entry *e);

/* How many more deliveries the processes that serve t can take; at first any
 * number.  Others of the same processes take them, too. */
void transport_set_room(struct transport *t, unsigned room);
uint32_t transport_relays(const struct transport *t);
void sched_each_transport(struct sched *s,
    void (*fn)(struct transport *t, void *arg), void *arg);
/* The next delivery; false: none may start. */
bool sched_next(struct sched *s, struct piece *ret);
/* A piece of e is finished, after took microseconds.  True: d is dead now;
 * take what waits with sched_drain(). */
bool sched_ended(struct entry *e, enum sched_result result, struct view why,
    int64_t took);
/* It never began; that tells nothing about the destination. */
void sched_returned(struct entry *e);
/* What waits for d, one entry at a time; false: nothing. */
bool sched_drain(struct dest *d, struct piece *ret);

/*
 * Probes.  hold: d is kept in memory while it has some, waiting or begun; each
 * is released.  begin: false: not now.  ended: as sched_ended(), of one that
 * began.
 */
unsigned dest_probes(const struct dest *d);
void dest_probe_hold(struct dest *d);
void dest_probe_release(struct dest *d);
bool dest_probe_begin(struct dest *d);
bool dest_probe_ended(struct dest *d, enum sched_result result,
    struct view why);

/* A transport without a process: nothing of it is given away until then.  Its
 * destinations are to be drained. */
void transport_die(struct transport *t, const char *why, int64_t us);
const char *transport_dead(const struct transport *t);
unsigned transport_recipients(const struct transport *t);
void sched_revive_transports(struct sched *s);

/* Why it is dead, or NULL. */
const char *dest_dead_why(const struct dest *d);
/* Forget that it is dead: one, all of that next hop (returns how many), all. */
void dest_revive(struct dest *d);
unsigned sched_revive(struct sched *s, const char *nexthop);
void sched_revive_all(struct sched *s);
/* Deliveries and windows. */
const char *dest_nexthop(const struct dest *d);
struct transport *dest_transport(const struct dest *d);
const char *transport_name(const struct transport *t);

/*
 * One destination must not fill the active queue: it may have as many
 * messages there as places are free, and always one.  So n of them that take
 * all they can leave one part in n + 1 to the others.  And those that have
 * taken no delivery yet, or none since they were dead, leave a quarter of
 * them all to the others.  What is over steps aside, and comes back as
 * messages leave.
 */
bool dest_room(const struct dest *d, unsigned free_places);
/* More than half is taken: only then can dest_room() be false. */
static inline bool
sched_crowded(unsigned active, unsigned limit)
{
	return active > limit / 2;
}
void dest_park(struct dest *d, struct parked *p);
/* How many of its parked are to come back now that one of its messages left:
 * two while it has much room, so that its share fills again. */
unsigned dest_invites(const struct dest *d, unsigned free_places);
void parked_remove(struct parked *p);
/* The one that waits longest, taken off; NULL: none. */
struct parked *dest_unpark(struct dest *d);
unsigned dest_parked(const struct dest *d);

/* What there is to know of a destination. */
struct dest_facts {
	const char *transport, *nexthop;
	const char *user;		/* the recipient it is for; NULL: all */
	const char *held_by;		/* see dest_held_by() */
	const char *last_error;		/* NULL: none since it is known */
	unsigned messages;		/* in the active queue */
	unsigned waiting;		/* of these, with recipients waiting */
	uint64_t recipients;		/* waiting */
	unsigned busy;			/* deliveries underway */
	unsigned window, limit;
	unsigned parked;		/* messages that stepped aside */
	struct mono next_try;		/* us 0: now, when it is its turn */
	int64_t average, last;		/* of a delivery, us; 0: none yet */
	uint64_t delivered, failed;	/* deliveries; since it is known */
};
void dest_facts(const struct dest *d, struct dest_facts *ret);
/*
 * What keeps d from its next delivery:
 *
 *	none		nothing waits
 *	dead		connections failed
 *	rate		TRANSPORT_destination_rate_delay
 *	limit		TRANSPORT_destination_concurrency_limit
 *	window		the window, which is below the limit
 *	transport	the transport's limit, its rate delay, or no process
 *	relays		nothing of its own: it is in line, no relay has room
 */
const char *dest_held_by(const struct dest *d);
/* fn must not change anything. */
void sched_each(const struct sched *s,
    void (*fn)(const struct dest_facts *f, void *arg), void *arg);
/* One that has parked messages, another one each time; NULL: none has. */
struct dest *sched_parker(struct sched *s);
/* All of them; fn may unpark. */
void sched_each_parked(struct sched *s, void (*fn)(struct dest *d, void *arg),
    void *arg);
/* fn must not name new ones. */
void sched_each_dest(struct sched *s, void (*fn)(struct dest *d, void *arg),
    void *arg);
unsigned sched_count(const struct sched *s);

/*
 * When a message that failed is tried again: after the time it is old, within
 * minimal and maximal, so the distance doubles; and up to a quarter more, or
 * less at the maximum, so that what failed together does not come back
 * together.  Never before minimal.  All in milliseconds; seed is any number
 * that differs.
 */
int64_t retry_delay(int64_t age, int64_t minimal, int64_t maximal,
    uint64_t seed);

#endif
