/* Which processes of postern-milter there are, and which of them serve. */
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "filters/postern_milter_child.h"
#include "lib/conf_choice.h"
#include "lib/log_sink.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "rules/policy_inside.h"

#define READY_LIMIT_MS	60000
#define STOP_LIMIT_MS	15000
#define TICK_MS		1000
#define PAUSE_MS	1000	/* before one that broke is started again */
#define FILTERS_MAX	64u

/* One pmilter stays; a generation is of the others, which have read rules. */
static const enum role_kind members[] = { ROLE_LOOKUP, ROLE_POLICY,
	ROLE_FILTER };
#define MEMBERS	(sizeof members / sizeof members[0])

/* Who has a channel to whom. */
static const struct {
	enum role_kind a, b;
} joined[] = {
	{ ROLE_PMILTER, ROLE_FILTER },
	{ ROLE_PMILTER, ROLE_POLICY },
	{ ROLE_POLICY, ROLE_LOOKUP },
};

static struct {
	struct keeper_conf now;		/* of the generation that serves */
	struct keeper_conf next;	/* of that which starts; cf NULL: none */
	struct keeper_conf later;	/* after that */
	uint32_t generation;		/* of now */
	uint32_t last;			/* that was started */
	void (*up)(void);		/* NULL: has been called */
	void (*ended)(int status);
	bool stopping;
	struct mono stopped;
	struct mono broke;		/* when one broke down last */
	struct event tick;
} keeper;

static unsigned
keeper_cores(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
		return (unsigned)CPU_COUNT(&set);
	return 1;
}

/* How many there shall be. */
static unsigned
keeper_want(enum role_kind kind, const struct conf *cf)
{
	unsigned n = cf->role_processes > 0 ? (unsigned)cf->role_processes :
	    keeper_cores();

	if (kind == ROLE_FILTER)
		return n < FILTERS_MAX ? n : FILTERS_MAX;
	return policy_inside_stages(cf) != 0;
}

static unsigned
keeper_count(enum role_kind kind, uint32_t generation, bool ready)
{
	const struct child *c;
	unsigned n = 0;

	for (c = child_list(); c != NULL; c = c->next)
		n += c->kind == kind && c->generation == generation &&
		    !c->retired && (c->ready || !ready);
	return n;
}

/* Has it all that it shall have? */
static bool
keeper_complete(uint32_t generation, const struct conf *cf, bool ready)
{
	size_t i;

	for (i = 0; i < MEMBERS; i++)
		if (keeper_count(members[i], generation, ready) <
		    keeper_want(members[i], cf))
			return false;
	return true;
}

/* -- channels -------------------------------------------------------------- */

static bool
keeper_pair(const struct child *a, const struct child *b)
{
	size_t i;

	for (i = 0; i < sizeof joined / sizeof joined[0]; i++)
		if ((a->kind == joined[i].a && b->kind == joined[i].b) ||
		    (a->kind == joined[i].b && b->kind == joined[i].a))
			return true;
	return false;
}

/* Join c with those of this generation; 0: with the pmilter. */
static void
keeper_join(struct child *c, uint32_t generation)
{
	struct child *b;

	for (b = child_list(); b != NULL; b = b->next)
		if (b != c && b->ready && !b->retired &&
		    b->generation == generation && keeper_pair(b, c))
			child_join(b, c);
}

/* -- generations ----------------------------------------------------------- */

/* False: something cannot be started. */
static bool
keeper_start_missing(uint32_t generation, const struct keeper_conf *k)
{
	unsigned n;
	size_t i;

	for (i = 0; i < MEMBERS; i++)
		for (n = keeper_count(members[i], generation, false);
		    n < keeper_want(members[i], k->cf); n++)
			if (!child_start(members[i], generation, k))
				return false;
	return true;
}

static void keeper_give_up_next(void);

static void
keeper_start_next(void)
{
	keeper.last++;
	if (!keeper_start_missing(keeper.last, &keeper.next) &&
	    keeper.generation > 0)
		keeper_give_up_next();
}

/* What was asked for meanwhile. */
static void
keeper_start_later(void)
{
	if (keeper.later.cf == NULL)
		return;
	keeper.next = keeper.later;
	keeper.later = (struct keeper_conf){ 0 };
	keeper_start_next();
}

/* The next generation cannot be used: the one that serves stays. */
static void
keeper_give_up_next(void)
{
	struct child *c;

	log_warn("the new rules do not take effect: the old ones stay in "
	    "charge");
	for (c = child_list(); c != NULL; c = c->next)
		if (c->generation == keeper.last) {
			c->retired = true;
			child_kill(c);
		}
	keeper_conf_free(&keeper.next);
	keeper_start_later();
}

/* All of the next generation are ready: mail goes to them now. */
static void
keeper_turn(void)
{
	struct child *c;

	for (c = child_list(); c != NULL; c = c->next)
		if (c->generation == keeper.last && !c->retired)
			keeper_join(c, 0);
	for (c = child_list(); c != NULL; c = c->next)
		if (c->generation > 0 && c->generation != keeper.last &&
		    !c->retired)
			child_retire(c);
	child_set_conf(keeper.next.cf);
	if (keeper.now.cf != keeper.next.cf)
		keeper_conf_free(&keeper.now);
	keeper.now = keeper.next;
	keeper.next = (struct keeper_conf){ 0 };
	if (keeper.generation > 0)
		log_info("reloaded: generation %u", keeper.last);
	keeper.generation = keeper.last;
	if (keeper.up != NULL)
		keeper.up();
	keeper.up = NULL;
	keeper_start_later();
}

static void
keeper_ready(struct child *c)
{
	if (keeper.stopping || c->retired)
		return;
	if (c->kind == ROLE_PMILTER) {
		keeper_join(c, keeper.generation);
	} else {
		keeper_join(c, c->generation);
		if (c->generation == keeper.generation)
			keeper_join(c, 0);
	}
	if (keeper.next.cf != NULL &&
	    keeper_complete(keeper.last, keeper.next.cf, true) &&
	    keeper_count(ROLE_PMILTER, 0, true) > 0)
		keeper_turn();
}

bool
keeper_reloading(void)
{
	return keeper.next.cf != NULL;
}

void
keeper_reload(struct keeper_conf *c)
{
	if (keeper.stopping) {
		keeper_conf_free(c);
	} else if (keeper_reloading()) {
		keeper_conf_free(&keeper.later);
		keeper.later = *c;
	} else {
		keeper.next = *c;
		keeper_start_next();
	}
	*c = (struct keeper_conf){ 0 };
}

/* -- what ends ------------------------------------------------------------- */

/* Those that are missing in what serves. */
static void
keeper_fill(void)
{
	if (keeper.stopping || keeper.generation == 0)
		return;
	keeper.broke = clock_mono();
	(void)keeper_start_missing(keeper.generation, &keeper.now);
	if (keeper_count(ROLE_PMILTER, 0, false) == 0)
		(void)child_start(ROLE_PMILTER, 0, &keeper.now);
}

static bool
keeper_missing(void)
{
	return keeper_count(ROLE_PMILTER, 0, false) == 0 ||
	    !keeper_complete(keeper.generation, keeper.now.cf, false);
}

static void
keeper_broke(const struct child *c)
{
	if (keeper.stopping || c->retired)
		return;
	if (keeper.generation == 0)
		keeper.ended(1);
	else if (keeper.next.cf != NULL && c->generation == keeper.last)
		keeper_give_up_next();
	else if (mono_since(keeper.broke, clock_mono()) / 1000 > PAUSE_MS)
		keeper_fill();
	/* else at the next tick */
}

/* First the one that takes mail, then those it needs for that. */
static void
keeper_wind_down(void)
{
	struct child *c;

	for (c = child_list(); c != NULL; c = c->next)
		if (c->kind == ROLE_PMILTER)
			return;
	for (c = child_list(); c != NULL; c = c->next)
		if (!c->retired)
			child_retire(c);
	if (child_list() == NULL)
		keeper.ended(0);
}

void
keeper_reap(void)
{
	struct child *c;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		c = child_ended(pid, status);
		if (c != NULL)
			keeper_broke(c);
		free(c);
	}
	if (keeper.stopping)
		keeper_wind_down();
}

static void
keeper_on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct mono now = clock_mono();
	struct child *c;

	(void)fd;
	(void)what;
	(void)arg;
	for (c = child_list(); c != NULL; c = c->next) {
		if (c->log_lost)
			child_log(c);
		if (c->control == NULL || (!c->ready &&
		    mono_since(c->since, now) / 1000 > READY_LIMIT_MS) ||
		    (keeper.stopping && mono_since(keeper.stopped, now) /
		    1000 > STOP_LIMIT_MS))
			child_kill(c);
	}
	if (mono_since(keeper.broke, now) / 1000 > PAUSE_MS &&
	    keeper_missing())
		keeper_fill();
	event_add(&keeper.tick, loop_timeout(TICK_MS));
}

/* -- start and end --------------------------------------------------------- */

void
keeper_start(const struct keeper_options *o, struct keeper_conf *c,
    void (*up)(void), void (*ended)(int status))
{
	keeper.now = keeper.next = *c;
	keeper.up = up;
	keeper.ended = ended;
	child_setup(o, c->cf, keeper_ready);
	evtimer_assign(&keeper.tick, loop_base(), keeper_on_tick, NULL);
	event_add(&keeper.tick, loop_timeout(TICK_MS));
	if (!child_start(ROLE_PMILTER, 0, &keeper.now)) {
		ended(1);
		return;
	}
	keeper_start_next();
	if (!keeper_complete(keeper.last, keeper.next.cf, false))
		ended(1);
}

void
keeper_stop(void)
{
	struct child *c;

	if (keeper.stopping)
		return;
	keeper.stopping = true;
	keeper.stopped = clock_mono();
	for (c = child_list(); c != NULL; c = c->next)
		if (c->kind == ROLE_PMILTER && !c->retired)
			child_retire(c);
	keeper_wind_down();
}

void
keeper_log_again(void)
{
	enum log_sink sink;
	struct child *c;
	int fd = log_sink_open(keeper.now.cf->maillog_file, &sink);

	log_to(sink, fd, (int)conf_choice("syslog_facility",
	    view_of(keeper.now.cf->syslog_facility)));
	for (c = child_list(); c != NULL; c = c->next)
		child_log(c);
}

void
keeper_status(void)
{
	struct child *c;

	for (c = child_list(); c != NULL; c = c->next)
		child_ask_status(c);
	child_log_hits();
}
