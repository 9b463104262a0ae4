#include "lib/mem.h"
#include "proxy/master.h"

#define BIT(kind)	(1u << (kind))

/*
 * In this order nobody loses his server: the gate stops to accept, smtpd ends
 * its transactions, qmgr the deliveries that run; then the rest has nothing
 * left to do.
 */
static const uint32_t stop_roles[STOP_DONE] = {
	[STOP_GATE] = BIT(ROLE_GATE),
	[STOP_SMTPD] = BIT(ROLE_SMTPD) | BIT(ROLE_PICKUP),
	[STOP_QMGR] = BIT(ROLE_QMGR),
	[STOP_REST] = ~0u,
};
#define SESSION_LIMIT_MS 15000

static void
stop_on_time(evutil_socket_t fd, short what, void *arg)
{
	struct master *m = arg;
	struct instance *i;

	(void)fd;
	(void)what;
	for (i = m->instances; i != NULL; i = i->next)
		instance_kill(i, "stop_time_limit is over");
}

/* What these clients have not got an answer for, they will send again. */
static void
stop_sessions(evutil_socket_t fd, short what, void *arg)
{
	struct master *m = arg;
	struct instance *i;

	(void)fd;
	(void)what;
	if (m->stop_stage != STOP_SMTPD)
		return;
	log_info("ending the SMTP sessions that are left");
	for (i = m->instances; i != NULL; i = i->next)
		if (i->kind == ROLE_SMTPD || i->kind == ROLE_PICKUP)
			instance_kill(i, NULL);
}

/*
 * Told once an smtpd goes on until its clients leave, as in a reload; told
 * twice it closes the idle sessions.
 */
static void
stop_hurry(struct master *m)
{
	struct instance *i;

	for (i = m->instances; i != NULL; i = i->next)
		if ((i->kind == ROLE_SMTPD || i->kind == ROLE_SHOWQ) &&
		    i->control != NULL)
			chan_send(i->control, MSG_RETIRE);
	event_assign(&m->session_timer, loop_base(), -1, 0, stop_sessions, m);
	event_add(&m->session_timer, loop_timeout(SESSION_LIMIT_MS));
}

void
stop_step(struct master *m)
{
	struct instance *i;
	bool busy;

	while (m->stop_stage < STOP_DONE) {
		busy = false;
		for (i = m->instances; i != NULL; i = i->next) {
			if ((BIT(i->kind) & stop_roles[m->stop_stage]) == 0)
				continue;
			busy = true;
			if (i->state == INSTANCE_SERVING)
				instance_retire(i);
			else if (i->state != INSTANCE_RETIRING)
				instance_kill(i, NULL);
		}
		if (busy || (m->stop_stage == STOP_REST &&
		    token_command_stop(m)))
			return;
		m->stop_stage++;
		if (m->stop_stage == STOP_SMTPD)
			stop_hurry(m);
	}
	loop_stop();
}

void
stop_begin(struct master *m, const char *why)
{
	if (m->stop_stage != STOP_NOT)
		return;
	log_info("terminating on %s", why);
	m->stop_stage = STOP_GATE;
	turn_cancel(m);
	/* Deliveries wait for them. */
	(void)token_command_stop(m);
	/* Connections that the gate has not accepted get a reset, and the
	 * client tries the next MX or later. */
	listen_free(&m->now->listen);
	m->now->listen = mem_alloc(sizeof *m->now->listen);
	event_assign(&m->stop_timer, loop_base(), -1, 0, stop_on_time, m);
	event_add(&m->stop_timer, loop_timeout(m->now->cf->stop_time_limit));
	stop_step(m);
}
