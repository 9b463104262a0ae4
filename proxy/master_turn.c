#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/master.h"
#include "proxy/master_setup.h"

#define RETIRING_MAX	128u	/* processes of earlier generations */
#define BIT(kind)	(1u << (kind))

/* Servers before those who use them, the gate last. */
static const enum role_kind serve_order[] = { ROLE_TABLE, ROLE_LOOKUP,
	ROLE_STS, ROLE_CREDENTIALS, ROLE_FILTER, ROLE_MILTER, ROLE_AUTH,
	ROLE_TLSRPT, ROLE_RELAY, ROLE_LOCAL, ROLE_BOUNCE, ROLE_QMGR, ROLE_SMTPD,
	ROLE_PICKUP, ROLE_SHOWQ, ROLE_GATE };
#define SERVE_ORDER	(sizeof serve_order / sizeof serve_order[0])

static void turn_begin(struct master *m, uint32_t roles);

static struct config *
turn_config(const struct master *m)
{
	return m->turn.next != NULL ? m->turn.next : m->now;
}

static bool
turn_has(const struct instance *i)
{
	return i->m->turn.active && i->generation == i->m->turn.generation;
}

/* -- starting, again ------------------------------------------------------ */

static struct instance *
slot_instance(const struct slot *s, uint32_t generation)
{
	const struct team *t = s->team;
	struct instance *i;

	for (i = t->m->instances; i != NULL; i = i->next)
		if (i->kind == t->entry->kind && i->index == s->index &&
		    i->service == t->entry->service &&
		    i->generation == generation &&
		    i->state != INSTANCE_RETIRING)
			return i;
	return NULL;
}

static void slot_on_time(evutil_socket_t fd, short what, void *arg);

static void
slot_later(struct slot *s, int64_t ms)
{
	if (s->waiting)
		return;
	s->waiting = true;
	event_assign(&s->timer, loop_base(), -1, 0, slot_on_time, s);
	/* Not at once even if ms is 0: callers are going through lists. */
	event_add(&s->timer, loop_timeout(ms > 0 ? ms : 1));
}

static void
slot_forget(struct slot *s)
{
	if (s->waiting)
		event_del(&s->timer);
	s->waiting = false;
}

static void
slot_on_time(evutil_socket_t fd, short what, void *arg)
{
	struct slot *s = arg;
	struct team *t = s->team;
	uint32_t generation = t->next != 0 ? t->next : t->generation;

	(void)fd;
	(void)what;
	s->waiting = false;
	if (slot_instance(s, generation) == NULL &&
	    instance_start(s, generation) == NULL)
		slot_later(s, t->cf->service_throttle_time);
}

/* After a turn that failed: what died meanwhile is wanted again. */
static void
turn_fill(struct master *m)
{
	struct team *t;
	uint32_t k;
	size_t n;

	for (n = 0; n < m->now->n_teams; n++) {
		t = &m->now->teams[n];
		for (k = 0; k < t->entry->count && t->generation != 0; k++)
			if (slot_instance(&t->slots[k], t->generation) == NULL)
				slot_later(&t->slots[k], 0);
	}
}

/* -- a new generation ----------------------------------------------------- */

static void
turn_done(struct master *m, bool ok, const char *text)
{
	uint32_t wanted = m->turn.wanted;

	m->turn = (struct turn){ 0 };
	control_turn_done(m, ok, text);
	if (wanted != 0)
		turn_begin(m, wanted);
}

static void
turn_abort(struct master *m, const char *why)
{
	struct config *next = m->turn.next;
	struct instance *i;
	uint32_t generation = 0;
	size_t n;

	/* Not active any more: their ends are not ours to judge. */
	m->turn.active = false;
	m->turn.next = NULL;
	for (i = m->instances; i != NULL; i = i->next)
		if (i->generation == m->turn.generation)
			instance_kill(i, NULL);
	for (n = 0; n < m->now->n_teams; n++) {
		m->now->teams[n].next = 0;
		if ((m->turn.roles & (WATCH_ALL |
		    BIT(m->now->teams[n].entry->kind))) != 0 &&
		    m->now->teams[n].generation > generation)
			generation = m->now->teams[n].generation;
	}
	buf_clear(&m->failure);
	(void)buf_printf(&m->failure, "reload failed: %s; keeping "
	    "generation %u", why, generation);
	log_error("%s", buf_cstr(&m->failure));
	if ((m->turn.roles & WATCH_ALL) != 0) {
		m->stale = true;
		watch_set(m, m->now, next);
	}
	config_free(&next);
	turn_fill(m);
	turn_done(m, false, buf_cstr(&m->failure));
}

/* Old processes that never end must not pile up. */
static void
turn_limit_retiring(struct master *m)
{
	struct instance *i, *oldest = NULL;
	unsigned n = 0;

	for (i = m->instances; i != NULL; i = i->next)
		if (i->state == INSTANCE_RETIRING && !i->unwanted) {
			n++;
			oldest = i;	/* new ones are put in front */
		}
	if (n > RETIRING_MAX) {
		instance_kill(oldest, "too many processes of earlier "
		    "generations");
		oldest->unwanted = true;
	}
}

static void
turn_commit(struct master *m)
{
	struct config *old = NULL;
	struct instance *i;
	const struct team *t;
	uint32_t k;
	size_t n;

	if (m->turn.next != NULL) {
		old = m->now;
		m->now = m->turn.next;
		m->turn.next = NULL;
	}
	/* First everybody who leaves, so that nobody new is joined to him. */
	for (i = m->instances; i != NULL; i = i->next) {
		t = config_team(m->now, i->kind, i->service);
		if (turn_has(i) || i->state == INSTANCE_RETIRING ||
		    (t != NULL && t->next == 0 &&
		    t->generation == i->generation))
			continue;
		if (i->state == INSTANCE_SERVING)
			i->state = INSTANCE_RETIRING;
		else
			instance_kill(i, NULL);
	}
	for (n = 0; n < m->now->n_teams; n++) {
		if (m->now->teams[n].next == 0)
			continue;
		m->now->teams[n].generation = m->now->teams[n].next;
		m->now->teams[n].next = 0;
		for (k = 0; k < m->now->teams[n].n_slots; k++)
			slot_forget(&m->now->teams[n].slots[k]);
	}
	for (n = 0; n < SERVE_ORDER; n++)
		for (i = m->instances; i != NULL; i = i->next)
			if (turn_has(i) && i->kind == serve_order[n])
				instance_serve(i);
	for (n = 0; n < SERVE_ORDER; n++)
		for (i = m->instances; i != NULL; i = i->next)
			if (turn_has(i) && i->kind == serve_order[n])
				instance_go(i);
	for (i = m->instances; i != NULL; i = i->next)
		if (i->state == INSTANCE_RETIRING && !i->retired)
			instance_retire(i);
	turn_limit_retiring(m);
	if (old != NULL && (strcmp(old->cf->maillog_file,
	    m->now->cf->maillog_file) != 0 || strcmp(old->cf->syslog_name,
	    m->now->cf->syslog_name) != 0)) {
		(void)master_log_open(m, m->now->cf, &master_log_reporter);
		master_log_again(m);
	}
	config_free(&old);
	if ((m->turn.roles & WATCH_ALL) != 0) {
		m->stale = false;
		watch_set(m, m->now, NULL);
	}
	showq_watch(m);
	if (m->turn.first)
		master_is_up(m);
	else
		log_info("generation %u is in service", m->turn.generation);
	turn_done(m, true, "");
}

/* Is everybody of the new generation ready? */
static void
turn_check(struct master *m)
{
	const struct config *c = turn_config(m);
	const struct instance *i;
	const struct team *t;
	uint32_t k;
	size_t n;

	for (n = 0; n < c->n_teams; n++) {
		t = &c->teams[n];
		for (k = 0; k < t->entry->count && t->next != 0; k++) {
			i = slot_instance(&t->slots[k], t->next);
			if (i == NULL || i->state != INSTANCE_READY)
				return;
		}
	}
	turn_commit(m);
}

static void
turn_report(bool error, const char *text, void *arg)
{
	struct master *m = arg;

	if (!error) {
		log_warn("%s", text);
		return;
	}
	log_error("%s", text);
	if (m->failure.n == 0)
		(void)buf_puts(&m->failure, text);
}

/* What only a stop and a start can change. */
static bool
turn_same_place(const struct master *m, const struct config *next,
    const struct reporter *r)
{
	if (strcmp(m->now->cf->queue_directory,
	    next->cf->queue_directory) == 0)
		return true;
	report_error(r, "queue_directory cannot change while Postern runs");
	return false;
}

static bool
turn_load(struct master *m)
{
	struct reporter r = { turn_report, m };
	struct config *next;
	char *why;

	buf_clear(&m->failure);
	next = config_load(m, &r);
	m->turn.next = next;
	if (next != NULL) {
		watch_set(m, m->now, next);
		if (turn_same_place(m, next, &r) &&
		    (!m->root || setup_check_accounts(next->cf, &r)) &&
		    setup_directories(next->cf, &r) &&
		    listen_bind(next->listen, m->now->listen, &r))
			return true;
	}
	why = mem_strdup(buf_cstr(&m->failure));
	turn_abort(m, why[0] != '\0' ? why : "bad configuration");
	free(why);
	return false;
}

static bool
turn_has_retiring_qmgr(const struct master *m)
{
	const struct instance *i;

	for (i = m->instances; i != NULL; i = i->next)
		if (i->kind == ROLE_QMGR && i->state == INSTANCE_RETIRING)
			return true;
	return false;
}

/*
 * The queue is handed from one qmgr to the next, never to a third while the
 * first still works: then this qmgr stays for the moment, and its turn comes
 * when the one before it has ended.
 */
static bool
turn_hold(struct master *m, struct team *t)
{
	const struct team *now = config_team(m->now, ROLE_QMGR, 0);

	if (t->entry->kind != ROLE_QMGR || now == NULL ||
	    !turn_has_retiring_qmgr(m))
		return false;
	log_info("qmgr stays until the one before it has ended");
	t->generation = now->generation;
	m->held |= BIT(ROLE_QMGR);
	return true;
}

static void
turn_begin(struct master *m, uint32_t roles)
{
	struct config *c;
	struct team *t;
	uint32_t k;
	size_t n;

	if (m->stale)
		roles |= WATCH_ALL;
	m->turn.active = true;
	m->turn.roles = roles;
	m->turn.wanted = 0;
	m->turn.generation = ++m->generation;
	if (!m->turn.first) {
		log_info("reload -- generation %u, configuration %s",
		    m->turn.generation, m->config_dir);
		if ((roles & WATCH_ALL) != 0 && !turn_load(m))
			return;
	}
	c = turn_config(m);
	watch_build(m);
	for (n = 0; n < c->n_teams; n++) {
		t = &c->teams[n];
		if ((roles & (WATCH_ALL | BIT(t->entry->kind))) != 0 &&
		    !turn_hold(m, t))
			t->next = m->turn.generation;
	}
	for (n = 0; n < c->n_teams; n++) {
		t = &c->teams[n];
		for (k = 0; k < t->entry->count && t->next != 0; k++) {
			if (instance_start(&t->slots[k], t->next) != NULL)
				continue;
			if (!m->turn.first) {
				turn_abort(m, "cannot start a process");
				return;
			}
			slot_later(&t->slots[k],
			    t->cf->service_throttle_time);
		}
	}
	turn_check(m);		/* there may be nobody to wait for */
}

void
turn_cancel(struct master *m)
{
	struct instance *i;
	struct team *t;
	uint32_t k;
	size_t n;

	for (n = 0; n < m->now->n_teams; n++) {
		t = &m->now->teams[n];
		for (k = 0; k < t->n_slots; k++)
			slot_forget(&t->slots[k]);
	}
	if (!m->turn.active)
		return;
	for (i = m->instances; i != NULL; i = i->next)
		if (turn_has(i))
			instance_kill(i, NULL);
	m->turn.active = false;
	config_free(&m->turn.next);
	control_turn_done(m, false, "Postern is being stopped");
}

void
turn_first(struct master *m)
{
	m->turn.first = true;
	watch_set(m, m->now, NULL);
	turn_begin(m, WATCH_ALL);
}

void
turn_ask(struct master *m, uint32_t roles)
{
	if (m->stop_stage != STOP_NOT)
		return;
	if (m->turn.active)
		m->turn.wanted |= roles;
	else
		turn_begin(m, roles);
}

/* -- what instances tell -------------------------------------------------- */

void
turn_ready(struct instance *i)
{
	if (i->state != INSTANCE_STARTING) {
		chan_blame(i->control, "ready twice");
		return;
	}
	event_del(&i->timer);
	i->state = INSTANCE_READY;
	if (turn_has(i)) {
		turn_check(i->m);
	} else {
		instance_serve(i);
		instance_go(i);
	}
}

static void
turn_failed_start(struct master *m, const struct instance *i, int status)
{
	struct buf b;

	buf_init(&b, 256);
	if (WIFSIGNALED(status))
		(void)buf_printf(&b, "%s was killed by signal %d before it "
		    "was ready", plan_log_name(i->kind), WTERMSIG(status));
	else
		(void)buf_printf(&b, "%s ended with status %d before it was "
		    "ready", plan_log_name(i->kind), WEXITSTATUS(status));
	turn_abort(m, buf_cstr(&b));
	buf_free(&b);
}

void
turn_ended(struct instance *i, int status)
{
	struct master *m = i->m;
	struct team *t;
	struct slot *s;
	bool was_ready = i->state == INSTANCE_SERVING;

	if (m->stop_stage != STOP_NOT) {
		stop_step(m);
		return;
	}
	if (i->kind == ROLE_SHOWQ)
		showq_watch(m);
	if (m->held != 0 && i->kind == ROLE_QMGR &&
	    !turn_has_retiring_qmgr(m)) {
		turn_ask(m, m->held);
		m->held = 0;
	}
	if (turn_has(i) && !m->turn.first) {
		turn_failed_start(m, i, status);
		return;
	}
	t = config_team(m->now, i->kind, i->service);
	if (i->unwanted || i->state == INSTANCE_RETIRING || t == NULL)
		return;
	if (!turn_has(i) && (t->generation != i->generation || t->next != 0))
		return;		/* a later one takes its place anyway */
	s = &t->slots[i->index];
	if (t->entry->on_demand && was_ready && status == 0)
		return;		/* it had nothing to do any more */
	if (was_ready) {
		slot_later(s, throttle_delay(&s->throttle, clock_mono(),
		    t->cf->service_throttle_time));
		return;
	}
	if (m->turn.first && !m->foreground) {
		/* Somebody waits for us, who can do more than try again. */
		m->failed = true;
		stop_begin(m, "a failed start");
		return;
	}
	log_warn("%s/%s: bad command startup -- throttling",
	    t->cf->daemon_directory, role_kind_name(i->kind));
	slot_later(s, t->cf->service_throttle_time);
}

void
turn_want(struct master *m, enum role_kind kind)
{
	struct team *t = config_team(m->now, kind, 0);

	if (t == NULL || !t->entry->on_demand) {
		log_warn("%s is wanted, but master.cf has no such service",
		    kind > ROLE_NONE && kind < ROLE_KINDS ?
		    role_kind_name(kind) : "an unknown role");
		return;
	}
	if (m->stop_stage != STOP_NOT && m->stop_stage != STOP_QMGR)
		return;
	if (!t->slots[0].waiting && t->generation != 0 &&
	    slot_instance(&t->slots[0], t->generation) == NULL)
		slot_later(&t->slots[0], 0);
}
