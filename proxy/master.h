/*
 * The supervisor.  It reads the configuration, binds the ports, starts the
 * roles, joins them by channels, watches them and the files they use, and
 * replaces them.  It sees neither mail nor what clients send.
 *
 *	master_config	main.cf + master.cf, worked out: what should run
 *	master_role	one process: start, INIT, end
 *	master_join	who is joined to whom
 *	master_turn	generations: which process serves, which retires
 *	master_stop	the orderly end
 *	master_watch	files that changed
 *	master_control	the socket that `postern` speaks to
 *	master_showq	the socket that the queue commands speak to
 *	master_log	the log descriptor for all
 *	master_token	the command that renews tokens
 *
 * Roles are told apart by (kind, service).  A team is what one such pair
 * should run; an instance is one process of a team.  A generation number is
 * given to each reload; a team keeps the number of the reload that made it.
 */
#ifndef PROXY_MASTER_H
#define PROXY_MASTER_H

#include <sys/types.h>

#include "lib/chan.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "proxy/master_listen.h"
#include "proxy/master_plan.h"

#define MASTER_LOCK	"pid/master.pid"	/* below queue_directory */
#define MASTER_CONTROL	"pid/control"
#define MASTER_QMGR_LOCK "pid/qmgr.lock"
#define MASTER_SHOWQ	"pid/showq"

struct master;
struct team;

/* -- what should run ------------------------------------------------------ */

struct slot {			/* the place of one instance in its team */
	struct team *team;
	uint32_t index;
	struct throttle throttle;
	struct event timer;
	bool waiting;		/* for its timer */
};

struct team {
	struct master *m;
	const struct plan_entry *entry;
	struct conf *cf;	/* with the overrides */
	struct buf snapshot;	/* the same as text, for INIT */
	uint32_t generation;	/* of its serving instances; 0: none yet */
	uint32_t next;		/* generation being started; 0: none */
	uint32_t seed_generation;	/* seed is of; 0: none yet */
	struct mono seed_from;
	uint8_t seed[32];	/* of TLS session tickets */
	struct slot *slots;
	uint32_t n_slots;	/* entry->count, 1 if on demand */
};

struct config {
	struct conf *cf;
	struct service_table *table;
	struct plan *plan;
	struct listen_set *listen;
	struct team *teams;	/* one for each entry of the plan */
	size_t n_teams;
};

/* NULL after errors went to r.  Sockets are not bound yet. */
struct config *config_load(struct master *m, const struct reporter *r);
/* No instance may refer to its teams any more. */
void config_free(struct config **c);
struct team *config_team(const struct config *c, enum role_kind kind,
    uint32_t service);

/* -- processes ------------------------------------------------------------ */

enum instance_state {
	INSTANCE_NONE = 0,
	INSTANCE_STARTING,	/* loads and locks itself in */
	INSTANCE_READY,		/* not yet in service */
	INSTANCE_SERVING,
	INSTANCE_RETIRING	/* finishes what it has */
};
const char *instance_state_name(enum instance_state s);

struct instance {
	struct instance *next;
	struct master *m;
	enum role_kind kind;
	uint32_t service, index, generation;
	pid_t pid;
	struct chan *control;	/* NULL: closed */
	enum instance_state state;
	struct event timer;	/* to get ready, or to end after closing */
	struct mono since;
	bool unwanted;		/* we killed it: its end is no news */
	bool retired;		/* was told so */
	bool log_lost;
	struct buf settings;	/* that it started with; for MSG_PEER */
	uint32_t header_ms;	/* the same, to gate */
};

/* NULL: could not be started; that was logged. */
struct instance *instance_start(struct slot *s, uint32_t generation);
/* SIGKILL; why is logged unless NULL. */
void instance_kill(struct instance *i, const char *why);
void instance_retire(struct instance *i);
/* Give each of the two an end of a new channel. */
void instance_join(struct instance *a, struct instance *b);
/* It is ready: join it to all it works with; it is serving from now on. */
void instance_serve(struct instance *i);
/* All that is known was sent to it: it may begin. */
void instance_go(struct instance *i);
/* Reap children; calls turn_ended() for each of ours. */
void instance_reap(struct master *m);

/* -- generations ---------------------------------------------------------- */

/* WATCH_ALL: main.cf or master.cf, so everything.  Else bits of roles. */
#define WATCH_ALL	1u

struct turn {
	bool active;
	bool first;		/* nothing serves yet: go on trying */
	uint32_t generation;
	uint32_t roles;		/* what it is about */
	struct config *next;	/* WATCH_ALL, not first: to take over */
	uint32_t wanted;	/* roles asked for meanwhile */
};

void turn_first(struct master *m);
/* Start new generations of these roles now, or after the present turn. */
void turn_ask(struct master *m, uint32_t roles);
/* Call-backs of master_role. */
void turn_ready(struct instance *i);
void turn_ended(struct instance *i, int status);
void turn_want(struct master *m, enum role_kind kind);
/* Give up the present turn and all restarts. */
void turn_cancel(struct master *m);

/* -- the end -------------------------------------------------------------- */

enum stop_stage { STOP_NOT = 0, STOP_GATE, STOP_SMTPD, STOP_QMGR, STOP_REST,
	STOP_DONE };

/* Orderly end: no new clients, then no new mail, then no deliveries. */
void stop_begin(struct master *m, const char *why);
/* An instance ended: go on.  When nobody is left the loop ends. */
void stop_step(struct master *m);

/* -- files ---------------------------------------------------------------- */

void watch_init(struct master *m);
/* Watch what these configurations use, and main.cf and master.cf; more (the
 * one that failed) may be NULL; its files then stand for everything. */
void watch_set(struct master *m, const struct config *now,
    const struct config *more);
/* What changed until now is going to be read. */
void watch_accept(struct master *m);
/* Build the indexes of tables whose text is newer. */
void watch_build(struct master *m);

/* -- control socket ------------------------------------------------------- */

/* Below the working directory.  False: errno. */
bool control_open(struct master *m);
/* A turn ended: answer those who wait for it. */
void control_turn_done(struct master *m, bool ok, const char *text);
void control_status_is(struct instance *i, uint32_t tag, struct view lines);
void control_pool_is(struct instance *i, uint32_t tag, struct view lines,
    struct view error);
void control_order_is(struct instance *i, uint32_t tag, bool refused,
    struct view lines);
/* What it was asked will not be answered. */
void control_ended(const struct instance *i);

/* -- the socket of showq -------------------------------------------------- */

/* Below the working directory.  False: errno. */
bool showq_open(struct master *m);
/* Start a showq when somebody connects, unless one runs. */
void showq_watch(struct master *m);
void showq_listen(struct instance *i);
void showq_close(struct master *m);

/* -- tokens --------------------------------------------------------------- */

/*
 * Credentials says that the token in this file is no good any more: run
 * smtp_sasl_token_command for it, unless that runs or has run lately.  All who
 * may ask for that file are told when it has ended.
 */
void token_command_want(struct instance *i, struct view name);
/* A child ended that is no instance. */
void token_command_ended(struct master *m, pid_t pid);
/* End those that run.  False: there are none. */
bool token_command_stop(struct master *m);

/* -- log ------------------------------------------------------------------ */

/* Open it for master itself.  False after an error. */
bool master_log_open(struct master *m, const struct conf *cf,
    const struct reporter *r);
/* A descriptor for a role, to be given away; *ret_sink. */
int master_log_fd(struct master *m, enum log_sink *ret_sink);
/* Open again, tell all roles. */
void master_log_again(struct master *m);
/* i cannot write its log any more. */
void master_log_lost(struct instance *i);
/* For configuration mistakes found while running. */
extern const struct reporter master_log_reporter;

/* ------------------------------------------------------------------------- */

struct master {
	const char *config_dir;		/* absolute */
	bool foreground;
	bool root;
	struct config *now;		/* in force; never NULL once running */
	uint32_t generation;		/* the last number given */
	struct instance *instances;
	struct turn turn;
	struct mono started;
	bool up;			/* the first turn is done */
	bool failed;			/* it failed, so we end */
	bool stale;			/* main.cf waits for being right */
	uint32_t held;			/* roles whose turn has to wait */

	enum stop_stage stop_stage;
	struct event stop_timer, session_timer;
	int qmgr_lock;			/* held by us and each qmgr */

	char *log_file;
	bool log_stderr;	/* there is nothing else */			/* "": syslog */
	int log_facility;
	struct event log_timer;

	struct watch *watch;
	struct control *control;
	int showq;			/* listening; -1: not */
	struct event showq_event;
	struct hits_book *hits;		/* what rules did */
	struct buf failure;		/* why the last turn failed */
};

/* The first turn is complete: the command that started us may go on. */
void master_is_up(struct master *m);
/* All roles are gone. */
void master_exit(struct master *m) __attribute__((noreturn));

/* -- traces of TLS (master_trace.c) ------------------------------------------ */

/* i wants a file for the trace of a session with this address; it gets an
 * answer, with its tag. */
void trace_want(struct instance *i, uint32_t tag, struct view address);

#endif
