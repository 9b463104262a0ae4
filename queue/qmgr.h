/*
 * The queue manager: sole owner of the spool.  What its files share.
 *
 * A message has one struct for its whole time in memory: from the slot a
 * writer fills, through filter and disk, to its last delivery.  It is in one
 * state (below), entered by message_enter() only, and has at most one thing
 * outstanding: a verdict, a pool job, a bounce - or, when active, its
 * deliveries.  queue/STATES.md says what is on disk in each state.
 */
#ifndef QUEUE_QMGR_H
#define QUEUE_QMGR_H

#include "lib/chan.h"
#include "lib/conf.h"
#include "lib/loop.h"
#include "lib/role.h"
#include "queue/sched.h"
#include "queue/spool.h"
#include "queue/spool_journal.h"
#include "queue/spool_pool.h"
#include "rules/route.h"
#include "rules/verdict.h"

enum message_state {
	M_NONE = 0,
	M_WRITING,	/* W: a slot, the writer has it */
	M_COPYING,	/* C: pool copies a large text */
	M_JUDGING,	/* J: with a filter, or waiting for one */
	M_MILTERING,	/* with the milter role: filters outside */
	M_PROXYING,	/* P: with a filter that answers for it */
	M_SYNCING,	/* S: pool makes it durable */
	M_INCOMING,	/* I: sealed, waits for room in the active queue */
	M_LOADING,	/* pool reads it from disk */
	M_ACTIVE,	/* A: has jobs and deliveries */
	M_BOUNCING,	/* A: a notification is being written */
	M_DEFERRING,	/* A to D: pool stores it */
	M_DEFERRED,	/* D: only id and time are kept (struct deferred) */
	M_BUSY,		/* another qmgr works on it */
	M_STATES
};
extern const char *const message_state_names[M_STATES];

struct writer;

/* Anything known by its queue id. */
struct known {
	struct known *hash_next;
	struct queue_id id;
	enum message_state state;
};

/* A deferred message costs this much memory.  One that stepped aside (see
 * queue/sched.h) is with its destination, not in the heap. */
struct deferred {
	struct known known;
	struct wall next;
	size_t heap_at;
	struct parked parked;
};

/* What became of one recipient, for the notification: not of RCPT_SENT. */
struct failure {
	uint32_t index;
	enum rcpt_status fate;
	char *status, *reason, *mta;
};

struct message {
	struct known known;		/* first */
	struct pool_job job;
	struct message *next;		/* in one of several lists */
	struct writer *writer;		/* to answer; NULL: gone or answered */
	struct filter *filter;
	struct bouncer *bouncer;	/* M_BOUNCING: who writes; NULL: it
					 * waits for one */
	struct proxy *proxy;		/* answers for it; NULL: we do */
	struct chan *relay;		/* M_PROXYING: who asks it; NULL: it
					 * waits for a place */
	enum spool_place place;
	struct wall arrival;
	struct wall active;
	struct mono since;		/* state entered */
	int fd;				/* text: memfd or queue file; -1 */
	int spill;			/* writer's unnamed file; -1 */
	uint64_t text_offset, text_size;
	char *asked;			/* by the policy, until it is judged */
	size_t n_asked;
	uint32_t milter_pid, milter_session, milter_events; /* which filters
					 * have seen its session; 0: none */
	uint32_t writer_pid;
	struct milter *milter;		/* M_MILTERING: who asks them */
	struct mono milter_since;
	struct split *split;		/* the same: part by part; or NULL */
	char *judged;			/* the same: the judgement by now */
	size_t n_judged;
	char *answers;			/* for each recipient, encoded; NULL:
					 * all the same */
	size_t n_answers;
	unsigned answers_code;		/* the reply they belong to */
	struct message *parts;		/* M_SYNCING: made durable with it */
	char *bytes;			/* envelope, edits, route */
	size_t n_bytes;
	struct spool_tail tail;		/* views into bytes */
	char *status;			/* one byte for each recipient */
	uint64_t status_offset;
	struct entry *entries;		/* see queue/sched.h */
	struct failure *failures;
	uint32_t n_failures, n_deferred;
	char *history;			/* as it is on disk; NULL: none */
	size_t n_history;
	uint32_t n_entries;		/* not finished */
	struct journal_segment *segment;	/* it lives there */
	struct event timer;		/* a failed write is tried again */
	struct origin *origin;		/* its file in maildrop/, or NULL */
	int error;			/* of the pool job */
	struct wall retry;		/* time of the next attempt */
	uint8_t bounce_tries;
	enum notice_kind notice;	/* M_BOUNCING: which */
	uint16_t noticed;		/* 1 << kind: considered this time */
	bool late, warned;		/* the delay is one; was told */
	bool copied;			/* text is in incoming/ID */
	bool status_changed;
	bool hold;
	bool internal;
	bool each;			/* a reply for each recipient will do */
	bool from_smtpd;
	bool milters_asked;		/* they may change what others cannot */
	bool unchecked;			/* the filter was late: see there */
	bool table_waits;		/* the filter has it, but asks a table */
	bool seal_asked;
	bool aside;			/* goes to deferred untried */
	bool evicting;			/* pool moves it to a file */
	bool finish_waits;		/* until that is done */
	char *moved_status;		/* what it has stored of status */
	bool expire;			/* return it if this attempt fails */
	enum queue_op wish;		/* of the administrator; 0: none */
	enum spool_place to;		/* M_DEFERRING: where it goes */
	struct spool_file file;		/* M_LOADING */
	struct queue_id leader;		/* the same: it is a part of that */
	bool leader_asked;		/* whether that is complete */
	bool early;			/* an older queue manager lived then */
	struct table_known *tables;	/* M_INCOMING: qmgr_tables.c */
	struct table_asking *tables_asking;
};

struct qmgr {
	const struct conf *cf;
	struct spool spool;
	struct router *router;
	struct loop_work schedule;	/* try to start deliveries */
	struct sched *sched;
	unsigned active, active_limit;
	uint64_t recipients;		/* of active messages */
	unsigned messages;		/* structs in memory */
	bool started;			/* the spool is ours */
	bool stopping;			/* start nothing new */
	bool handed_over;		/* another qmgr took the spool */
	bool relays_differ;		/* some transports have their own */
	bool unlinked;			/* active/ wants a sync */
	uint32_t changed;		/* 1 << place: so do these */
	uint64_t memory_text;		/* bytes that live in memory */
	uint64_t sealed, delivered, deferred_total, bounced, removed;
};
extern struct qmgr qmgr;

/* qmgr_known.c */
struct known *known_find(struct queue_id id);
void known_add(struct known *k);
void known_remove(struct known *k);
void known_each(void (*fn)(struct known *k, void *arg), void *arg);
struct message *message_find(struct queue_id id);
size_t known_count(void);
/*
 * Some of all, at a time: begins at 0 and goes on at what was returned, until
 * that is 0.  Ends early when fn has returned false for one (the others of its
 * chain are shown all the same).  Who is known all the time is shown at least
 * once.
 */
uint64_t known_scan(uint64_t where, size_t chains,
    bool (*fn)(struct known *k, void *arg), void *arg);

/* qmgr_message.c */
struct message *message_new(struct queue_id id, enum message_state state);
void message_enter(struct message *m, enum message_state state);
/* Free all of it; descriptors are closed. */
void message_free(struct message **m);
const char *message_id(const struct message *m);
/*
 * A descriptor of the text before it is sealed, for another role to read: a
 * memory file nobody can write to any more, or the file in incoming/ opened
 * anew, read-only.  -1: errno.
 */
int message_readable(const struct message *m);
/* Decode the envelope; views into m->bytes; rcpts in a.  Panics if it is not
 * what was accepted before. */
void message_envelope(const struct message *m, struct arena *a,
    struct envelope *ret);
/* Copy what a message is made of into one piece of memory; the history, which
 * changes, into another. */
void message_set_tail(struct message *m, const struct spool_tail *t);
/* Sealed and on disk: make it active, now or later. */
void message_activate(struct message *m);
/* A recipient's fate.  RCPT_SENT and RCPT_BOUNCED need no more attempts. */
void message_rcpt(struct message *m, uint32_t index, enum rcpt_status status,
    struct view dsn, struct view reason, struct view mta);
/* Store the status bytes where m lives now, if that can be done at once. */
void message_mark(struct message *m);
/* All its entries are finished: notify, defer or remove. */
void message_finish(struct message *m);
/* The notification it waits for is sealed (ok), or could not be written. */
void message_bounced(struct message *m, bool ok);
/* To deferred/, due at once, and not counted as an attempt: m is M_INCOMING,
 * and gone after this. */
void message_step_aside(struct message *m, struct dest *d);
/* A text descriptor for reading; -1 after logging why not. */
int message_text(struct message *m);

/* qmgr_expire.c */
struct wall message_end_of_life(const struct message *m,
    const struct envelope *e);
/* If it is over: what was deferred is bounced now. */
void message_expire(struct message *m, const struct envelope *e);

/* qmgr_notice.c */
void notice_load(void);
/* The address of our mail to the postmaster. */
bool notice_is_double(struct view addr);
/* From there to error_notice_recipient: what smtpd may send unfiltered. */
bool notice_is_ours(const struct envelope *e);
/* Order the next notification that m is due; false: there is none. */
bool notice_next(struct message *m, const struct envelope *e);
void notice_sealed(struct message *m, bool ok);

/* qmgr_history.c: see queue/history.h */
/* m was not delivered to those of its failures that are deferred. */
void message_remember_attempt(struct message *m);
void message_remember_hold(struct message *m, const struct verdict *v);

/* qmgr_ids.c: one that is not in use; the first of n that follow one another */
struct queue_id writer_new_id(void);
struct queue_id writer_new_ids(uint32_t n);

/* qmgr_writer.c: smtpd, bounce, pickup and local */
void writer_init(void);
void writer_peer(const struct role_peer *peer, int fd);
void writer_retire(void);
/* The same on a channel that is somebody else's: what is written there is
 * given to writer_said(). */
struct writer *writer_attach(struct chan *c, enum role_kind kind);
void writer_said(struct writer *w, struct chan_in *in);
void writer_detach(struct writer *w);
bool writer_busy(void);
struct chan;
/* The reply to the client. */
void writer_reply(struct message *m, unsigned code, const char *status,
    const char *text);
void writer_judged(struct message *m, const struct judgement *j);
/* A new text, sealed, in place of the one it had; fd is taken. */
void writer_new_text(struct message *m, int fd, uint64_t size);
/* What a judgement makes of m's envelope, edits, route and place.  False,
 * after a line in the log: it cannot be. */
bool writer_take(struct message *m, const struct judgement *j)
    __attribute__((warn_unused_result));
/* The answer to what the pool could not store. */
void writer_not_stored(struct message *m);
/* What the policy asked for (qmgr_asked.c).  asked_keep: false: it is no
 * judgement, or one that a policy cannot make. */
bool asked_keep(struct message *m, struct view asked)
    __attribute__((warn_unused_result));
void asked_judged(struct message *m, const struct judgement *j);
/* REDIRECT and BCC of j; e gets recipients of its own, in a. */
void asked_readdress(struct envelope *e, const struct judgement *j,
    struct arena *a);
/* The same for the judgements of parts, in place; a holds what they need. */
struct split_part;
void asked_parts(struct message *m, struct split_part *parts, uint32_t n,
    struct arena *a);
void writer_failed(struct message *m, unsigned code, const char *status,
    const char *text);
void writer_space_check(void);
void writer_status(struct buf *b);

/* qmgr_proxy.c: filters that answer for the message (smtpd_proxy_filter) */
/* The one of a smtpd, by its settings (MSG_PEER); NULL: it has none. */
struct proxy *proxy_find(struct view settings);
/* It becomes the way of what is stored instead (held, split). */
struct view proxy_route(const struct proxy *p);
/* m was judged: what m->proxy says is its client's answer. */
void proxy_submit(struct message *m);
/* MSG_PROXY_SAID. */
void proxy_said(struct chan *relay, struct chan_in *in);
/* Those that were asked over it get no answer. */
void proxy_relay_gone(const struct chan *relay);
void proxy_check(struct mono now);
/* There may be room. */
void proxy_schedule(void);
void proxy_status(struct buf *b);

/* qmgr_origin.c: see queue/MAILDROP.md */
enum origin_state { ORIGIN_NEW = 1, ORIGIN_BUSY, ORIGIN_TAKEN };
void origin_load(void);
/* False: pickup broke the rules. */
bool origin_set(struct message *m, struct view name, struct view refusal);
enum origin_state origin_state(const struct message *m);
/* Why it goes back to its sender ("5.3.4 text"); NULL: it does not. */
const char *origin_refusal(const struct message *m);
/* m is answered with 250: remove the file. */
void origin_taken(struct message *m);
void origin_forget(struct message *m);

/* qmgr_split.c: recipients who get different judgements */
/* What the arena of split_judged() may hold beside its arguments. */
#define SPLIT_ARENA	(64u << 20)
struct split_part {
	const uint32_t *rcpts;	/* indices into m's envelope */
	uint32_t n;
	struct judgement judged;
};
void split_load(void);
/* Parts as they stand in MSG_FILTERED; false: each recipient must be in one,
 * and is not, or it is no judgement.  Up to n in list; the rest in a. */
bool split_get(const struct message *m, struct view encoded,
    struct split_part *list, uint32_t n, struct arena *a)
    __attribute__((warn_unused_result));
/* m is judged: takes the place of asked_judged().  a, which holds what parts
 * point into, is taken. */
void split_judged(struct message *m, const struct split_part *parts,
    uint32_t n, struct arena *a);
/* Filters outside have seen the part; text: it has a new one, or -1. */
void split_part_judged(struct message *m, const struct judgement *j,
    int text, uint64_t size);
void split_free(struct message *m);

/* A sealed text and its envelope are here; see flow_delays(). */
void writer_go_on(struct message *m);
/* m is durable: tell the client, deliver it. */
void writer_sealed(struct message *m);
/* Make m durable as a file of its own. */
void writer_seal_file(struct message *m);

/* qmgr_flow.c */
void flow_init(void);
/* Once a second: does more come in than goes out? */
void flow_check(void);
/* True: writer_go_on() for that message is called later. */
bool flow_delays(struct queue_id id);
void flow_status(struct buf *b);

/* qmgr_journal.c */
void journal_load(void);
void journal_start(void);
/* The directory; -1: none. */
int journal_dir(void);
bool journal_takes(const struct message *m);
/* m's sealing: writer_sealed() follows. */
void journal_append(struct message *m);
/* Its record is finished: m is done, or has a file. */
void journal_finish(struct message *m);
/* waits: make incoming/ID of a message that has a live record */
int journal_to_file(struct message *m, const char *status);
/* A file's status bytes were changed: sync it within a second, close it. */
void journal_sync_later(int fd);
/* m leaves memory; its record stays as it is. */
void journal_leave(struct message *m);
void journal_end(void);
/* Files may still be made of what an earlier queue manager left. */
bool journal_recovering(void);
void journal_status(struct buf *b);

/* qmgr_recover.c */
/* Make files of what an earlier queue manager left, then call then. */
void journal_recover(void (*then)(void));

/* qmgr_filter.c */
void filter_peer(const struct role_peer *peer, int fd);
void filter_submit(struct message *m);
/* A value that is none of filter_timeout_action is fatal. */
void filter_load(void);
void filter_status(struct buf *b);

/* qmgr_milter.c: filters outside that are told of sessions and messages */
void milter_peer(const struct role_peer *peer, int fd);
void milter_load(void);
/* m is judged by our own rules: writer_judged() follows. */
void milter_judged(struct message *m, const struct judgement *j);
/* Are there any for m? */
bool milter_applies(const struct message *m);
/* Ask them about m, or about a part of it: e has its recipients, and filters
 * are told of the transaction again.  split_part_judged() follows if m->split
 * is there, else writer_judged(). */
void milter_ask(struct message *m, const struct judgement *j,
    const struct envelope *e, bool again);
void milter_status(struct buf *b);

/* qmgr_dest.c: the scheduler of queue/sched.h, its parameters and timers */
void dest_init(void);
/* What a transport's mail is limited to; transport: of master.cf. */
struct transport *dest_find_transport(const char *transport);
/* Queue recipients of m for a destination.  passed: see resolve_loop(). */
void dest_add(struct dest *d, struct message *m, uint32_t sender, bool passed,
    const uint32_t *rcpt, uint32_t n);
/* e is finished: it leaves m. */
void dest_drop(struct entry *e);
/* A delivery ended: trouble as the relay saw it; took: microseconds.  True:
 * the destination has died of it; dest_died() is to follow. */
bool dest_ended(struct entry *e, enum delivery_trouble trouble,
    struct view reason, int64_t took);
/* All its mail steps aside; messages may be gone after that. */
void dest_died(struct dest *d);
/* Look at the clock; set it for what comes next. */
void dest_wake(void);
/* No process serves these transports: transport_relays() is in none. */
void dest_no_relays(bool (*served)(uint32_t relays));
/* Take all queued entries of m off. */
void dest_forget(struct message *m);
/* Forget what is dead: all; one next hop, returns how many there were. */
void dest_revive_all(void);
unsigned dest_revive_site(const char *nexthop);
/* Places of the active queue that are free. */
unsigned dest_free_places(void);
/* qmgr_pool.c: next hops that are several servers (queue/sched_pool.h).  Before
 * the jail: */
void qpool_load(void);
/* NULL, or why nothing can go to d. */
const char *qpool_unusable(const struct dest *d);
/* The next hop of one delivery to d: servers in their order. */
void qpool_put_nexthop(struct buf *b, const struct dest *d);
/* MSG_HOP, MSG_POOL */
void qpool_heard(struct chan *relay, struct chan_in *in);
void qpool_command(struct chan_in *in);
void qpool_status(struct buf *b);
/* Which servers of a next hop that is a pool are not up; else nothing. */
void qpool_summary(const char *nexthop, struct buf *out);
/*
 * What holds which destination back, for tools and `postern status`.  Times
 * in facts are those of clock_mono().
 */
void dest_each(void (*fn)(const struct dest_facts *f, void *arg), void *arg);
void dest_status(struct buf *b);

/* qmgr_services.c */
/* Before the jail: which transports there are. */
void services_load(void);
/* A transport that processes of ours serve, or NULL. */
struct service;
const struct service *services_find(const char *transport);
/* A service whose command is "error" or "discard" is that one, whatever its
 * name. */
void services_name(struct buf *transport);
/* Where mail goes that a client of SMTP finds to loop (best_mx_transport);
 * empty: back to its sender. */
struct view services_best_mx(const char *transport);
/* maxproc of the transport in master.cf; 0: none given. */
unsigned services_at_once(const char *transport);
/* Recipients of one delivery, if main.cf does not say. */
unsigned services_recipients(const char *transport);
/* Which relays serve it: service_relays(). */
uint32_t services_relays(const char *transport);

/* qmgr_resolve.c */
/* Destinations of the open recipients of m; they are queued. */
void resolve_message(struct message *m);
/*
 * A relay says that this host is the best MX for these recipients of e: they
 * are queued for best_mx_transport, or bounced.  Those of an entry that has
 * come by it are bounced: mail is passed on once in an attempt.
 */
void resolve_loop(const struct entry *e, const uint32_t *rcpt, uint32_t n,
    const char *reason);
/* Where m goes there is too much in the active queue already: it has stepped
 * aside, and is gone from memory. */
bool resolve_no_room(struct message *m);
/* The recipients of a piece are not tried now. */
void resolve_defer(const struct piece *p, const char *dsn, const char *why);

/* Work out where m goes, and nothing comes of it. */
void resolve_rehearse(const struct message *m);

/* qmgr_resolve.c, for a probe: NULL: no server to ask; then *ret_result and
 * why (cleared first) say what is to be said. */
struct dest *resolve_probe(const struct router *router, struct view addr,
    enum probe_result *ret_result, struct buf *why);
/* The same for one that loops, as why says, at d: see resolve_loop(). */
struct dest *resolve_probe_loop(const struct dest *d, bool passed,
    enum probe_result *ret_result, struct buf *why);

/* qmgr_tables.c */
/* True: the way of m, which is M_INCOMING, depends on a table that has to be
 * asked; message_activate() comes again. */
bool tables_ask(struct message *m);
/* m does not wait for an answer any more; nor are the earlier ones needed. */
void tables_unwait(struct message *m);
void tables_forget(struct message *m);
/* Free all that wait: the next qmgr finds them. */
void tables_stop(void);
unsigned tables_asking(void);

/* qmgr_deliver.c */
void relay_peer(const struct role_peer *peer, int fd);
void relay_init(void);
bool relay_busy(void);
void deliver_schedule(void *arg);
/* A piece taken off its queue is deferred untried; its message may be gone
 * after that. */
void deliver_suspended(const struct piece *p, const char *dsn,
    const char *why);
void relay_status(struct buf *b);
/* A relay that takes one more probe: it counts there until it is put back.
 * NULL: none. */
struct chan *relay_take_probe(uint32_t relays);
void relay_put_probe(const struct chan *c);
/* The same for a message that a filter answers for. */
struct chan *relay_take_proxy(void);
void relay_put_proxy(const struct chan *c);
/* What a relay was given at since may take limit_ms: has it passed that? */
bool relay_late(struct mono since, int64_t limit_ms, struct mono now);
/* It has: the relay is ended. */
void relay_hung(const struct chan *c);

/* qmgr_intake.c: what is on disk */
void intake_init(void);
/* The spool is ours: look through it. */
void intake_start(void);
void intake_stop(void);
/* Look through the directories again. */
void intake_rescan_now(void);
/* Room in the active queue: take more. */
void intake_more(void);
/* id is on disk and nobody works on it: find it. */
void intake_found(struct queue_id id);
void intake_deferred(struct queue_id id, struct wall next);
/* In deferred/, due, but d holds too much of the active queue. */
void intake_park(struct queue_id id, struct dest *d);
/* It comes back now (delay 0), or after that many ms. */
void intake_unpark(struct parked *p, int64_t delay);
/* Forget one that is deferred: it is taken out of memory. */
void intake_forget(struct deferred *d);
/* One more message may become active. */
bool intake_room(void);
/* Messages that wait for that. */
size_t intake_backlog(void);
void intake_flush(void);
void intake_status(struct buf *b);
void intake_waiting(struct message *m);
/* m does not wait any more. */
void intake_unwait(struct message *m);
/* Due now. */
void intake_due_now(struct deferred *d);

/* qmgr_bounce.c: the bounce role is a writer that also takes orders */
void bounce_ready(struct chan *c);
void bounce_gone(struct chan *c);
void bounce_submit(struct message *m);
void bounce_done(struct chan *c, struct chan_in *in);
bool bounce_busy(void);

/* qmgr_showq.c: lists, for the queue commands */
void showq_peer(const struct role_peer *peer, int fd);

/* qmgr_op.c: what the queue commands want done */
enum queue_result op_apply(enum queue_op op, struct queue_id id);

/* qmgr_site.c: sites asked for from outside */
/* False: that is no name. */
bool site_wanted(struct view name);
void site_showq(struct chan *c);
void site_showq_gone(const struct chan *c);
void site_done(struct chan *c, struct chan_in *in);

/* qmgr_verify.c, qmgr_probe.c: see queue/qmgr_probe.h */
void verify_load(void);
void verify_init(void);
/* Store what is not stored yet. */
void verify_retire(void);
/* MSG_VERIFY of a smtpd, and its end. */
void verify_asked(struct chan *c, struct chan_in *in);
void verify_gone(const struct chan *c);
void verify_status(struct buf *b);
/* Mail to the sender of probes ends here. */
bool verify_is_sender(struct view addr);
/* Start what may start now: before and after mail is given away. */
void probe_schedule(void);
void probe_ended(struct chan *relay, struct chan_in *in);
/* Who was asked over it gets no answer. */
void probe_relay_gone(const struct chan *relay);
void probe_check(struct mono now);

/* qmgr_quarantine.c */
void quarantine_init(void);

/* qmgr_handover.c */
void handover_begin(bool taking, int fd);
bool handover_waiting(void);
/* There is one before us. */
bool handover_older(void);
/* The same without a successor: master stops. */
void handover_stop(void);
/* m is settled on disk and leaves memory: tell the new qmgr. */
void handover_done(struct queue_id id);

/* qmgr_main.c */
/* End the process if nothing is left to do. */
void qmgr_check_end(void);

#endif
