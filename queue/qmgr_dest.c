/* The scheduler at work: its parameters, its timers, what it reports. */
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "queue/qmgr.h"

#define TICK_MS		10000
#define STATUS_SHOWN	100u

static struct event wake_timer, tick_timer;
static struct mono wake_at;		/* us 0: the timer is not set */

/* --- parameters ------------------------------------------------------ */

static int64_t
param_number(const char *transport, const char *suffix, int64_t fallback)
{
	char *name = mem_printf("%s%s", transport, suffix);
	int64_t n = conf_number(qmgr.cf, view_of(name), fallback);

	free(name);
	return n;
}

/* In microseconds. */
static int64_t
param_time(const char *transport, const char *suffix, int64_t fallback)
{
	char *name = mem_printf("%s%s", transport, suffix);
	int64_t ms = conf_time(qmgr.cf, view_of(name), 's', fallback);

	free(name);
	return ms * 1000;
}

static struct feedback
param_feedback(const char *transport, const char *suffix,
    const char *fallback)
{
	char *name = mem_printf("%s%s", transport, suffix);
	const char *text = conf_text(qmgr.cf, view_of(name));
	struct feedback f = { FEEDBACK_CONSTANT, 1 };

	/* Both were checked when the configuration was read. */
	if (text == NULL || !feedback_parse(view_of(text), &f))
		(void)feedback_parse(view_of(fallback), &f);
	free(name);
	return f;
}

static unsigned
at_least_one(int64_t n)
{
	return n < 1 ? 1 : n > 1000000 ? 1000000 : (unsigned)n;
}

struct transport *
dest_find_transport(const char *transport)
{
	const struct conf *cf = qmgr.cf;
	struct transport *t = sched_transport(qmgr.sched, transport);
	struct sched_limits l = { 0 };

	if (t != NULL)
		return t;
	l.initial = at_least_one(param_number(transport,
	    "_initial_destination_concurrency",
	    cf->initial_destination_concurrency));
	l.limit = at_least_one(param_number(transport,
	    "_destination_concurrency_limit",
	    cf->default_destination_concurrency_limit));
	l.recipients = at_least_one(param_number(transport,
	    "_destination_recipient_limit",
	    services_recipients(transport)));
	/* A delivery report has no more. */
	if (l.recipients > 1000)
		l.recipients = 1000;
	l.failed_cohorts = (unsigned)param_number(transport,
	    "_destination_concurrency_failed_cohort_limit",
	    cf->default_destination_concurrency_failed_cohort_limit);
	l.positive = param_feedback(transport,
	    "_destination_concurrency_positive_feedback",
	    cf->default_destination_concurrency_positive_feedback);
	l.negative = param_feedback(transport,
	    "_destination_concurrency_negative_feedback",
	    cf->default_destination_concurrency_negative_feedback);
	l.rate_delay = param_time(transport, "_destination_rate_delay",
	    cf->default_destination_rate_delay);
	l.transport_rate_delay = param_time(transport,
	    "_transport_rate_delay", cf->default_transport_rate_delay);
	l.at_once = services_at_once(transport);
	l.relays = services_relays(transport);
	return sched_add_transport(qmgr.sched, transport, &l);
}

/* --- time ------------------------------------------------------------ */

static void
dest_set_timer(void)
{
	struct timeval tv = { 0, 1000 };
	struct mono at;
	int64_t us;

	if (!sched_wake_at(qmgr.sched, &at)) {
		if (wake_at.us != 0)
			event_del(&wake_timer);
		wake_at.us = 0;
		return;
	}
	if (at.us == wake_at.us)
		return;
	wake_at = at;
	us = at.us - loop_now().us;
	if (us > 1000) {
		/* Not early: the loop's own clock is a coarse one. */
		tv.tv_sec = (us + 1000) / 1000000;
		tv.tv_usec = (us + 1000) % 1000000;
	}
	event_add(&wake_timer, &tv);
}

void
dest_wake(void)
{
	sched_wake(qmgr.sched, loop_now());
	dest_set_timer();
}

static void
dest_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	wake_at.us = 0;
	loop_soon(&qmgr.schedule);
}

/* --- the share of a destination -------------------------------------- */

unsigned
dest_free_places(void)
{
	return qmgr.active < qmgr.active_limit ?
	    qmgr.active_limit - qmgr.active : 0;
}

/* A message for d left: others come back. */
static void
dest_invite(struct dest *d, void *arg)
{
	unsigned n = dest_invites(d, dest_free_places());

	(void)arg;
	while (n-- > 0)
		intake_unpark(dest_unpark(d), 0);
}

static void
dest_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	dest_wake();
	/* Those whose invitation came to nothing. */
	if (!qmgr.stopping && !qmgr.handed_over)
		sched_each_parked(qmgr.sched, dest_invite, NULL);
	event_add(&tick_timer, loop_timeout(TICK_MS));
}

void
dest_init(void)
{
	qmgr.sched = sched_new(qmgr.cf->minimal_backoff_time * 1000);
	sched_wake(qmgr.sched, loop_now());
	sched_active_limit(qmgr.sched, qmgr.active_limit);
	evtimer_assign(&wake_timer, loop_base(), dest_due, NULL);
	evtimer_assign(&tick_timer, loop_base(), dest_tick, NULL);
	event_add(&tick_timer, loop_timeout(TICK_MS));
}

/* --- entries of a message -------------------------------------------- */

void
dest_add(struct dest *d, struct message *m, uint32_t sender, bool passed,
    const uint32_t *rcpt, uint32_t n)
{
	struct entry *e = sched_add(d, m, sender, m->text_size,
	    m->n_history > 0, rcpt, n);

	e->passed = passed;
	e->sibling = m->entries;
	if (e->sibling != NULL)
		e->sibling->sibling_at = &e->sibling;
	e->sibling_at = &m->entries;
	m->entries = e;
	m->n_entries++;
	loop_soon(&qmgr.schedule);
}

void
dest_drop(struct entry *e)
{
	struct message *m = e->message;
	struct dest *d = e->dest;

	*e->sibling_at = e->sibling;
	if (e->sibling != NULL)
		e->sibling->sibling_at = e->sibling_at;
	m->n_entries--;
	entry_free(e);
	if (qmgr.stopping || qmgr.handed_over)
		return;
	dest_invite(d, NULL);
	/* And for one that has nothing here which could leave. */
	d = sched_parker(qmgr.sched);
	if (d != NULL)
		dest_invite(d, NULL);
}

void
dest_forget(struct message *m)
{
	struct entry *e, *next;

	for (e = m->entries; e != NULL; e = next) {
		next = e->sibling;
		sched_forget(e);
		if (entry_finished(e))
			dest_drop(e);
	}
}

/* --- life and death -------------------------------------------------- */

static void
dest_suspend(struct dest *d, const char *dsn, const char *why)
{
	char *reason = mem_strdup(why);
	struct parked *p;
	struct piece piece;

	while (sched_drain(d, &piece))
		deliver_suspended(&piece, dsn, reason);
	/* What stepped aside is not tried either, and not counted: it comes
	 * back when the destination may live again, spread over a while. */
	while ((p = dest_unpark(d)) != NULL)
		intake_unpark(p, qmgr.cf->minimal_backoff_time);
	free(reason);
}

static enum sched_result
dest_result(enum delivery_trouble trouble)
{
	switch (trouble) {
	case TROUBLE_NONE:
		return RESULT_OK;
	case TROUBLE_LOST:
		/* It may be the fault of this one message. */
		return RESULT_SHRINK;
	case TROUBLE_CONNECT:
	case TROUBLE_ROUTE:
	default:
		return RESULT_FAILED;
	}
}

static void
dest_debug(const struct dest *d, const struct dest_facts *before,
    enum sched_result result)
{
	struct dest_facts f;

	dest_facts(d, &f);
	if (f.window != before->window)
		log_info("%s:%s: concurrency %u -> %u after %s", f.transport,
		    log_safe(view_of(f.nexthop)), before->window, f.window,
		    result == RESULT_OK ? "a delivery" : "a failure");
}

bool
dest_ended(struct entry *e, enum delivery_trouble trouble,
    struct view reason, int64_t took)
{
	enum sched_result result = dest_result(trouble);
	struct dest *d = e->dest;
	struct dest_facts before;
	bool died;

	dest_facts(d, &before);
	sched_wake(qmgr.sched, loop_now());
	died = sched_ended(e, result, reason, took);
	if (qmgr.cf->destination_concurrency_feedback_debug)
		dest_debug(d, &before, result);
	loop_soon(&qmgr.schedule);
	return died;
}

void
dest_died(struct dest *d)
{
	char *why = mem_printf("delivery temporarily suspended: %s",
	    dest_dead_why(d));

	log_info("%s:%s is not tried for %lld s: %s",
	    transport_name(dest_transport(d)),
	    log_safe(view_of(dest_nexthop(d))),
	    (long long)(qmgr.cf->minimal_backoff_time / 1000),
	    log_safe(view_of(dest_dead_why(d))));
	dest_suspend(d, "4.4.1", why);
	free(why);
}

struct unserved {
	bool (*served)(uint32_t relays);
};

static void
dest_unserved(struct dest *d, void *arg)
{
	const struct unserved *u = arg;

	if (u->served(transport_relays(dest_transport(d))))
		return;
	if (transport_dead(dest_transport(d)) == NULL)
		transport_die(dest_transport(d), "mail transport unavailable",
		    qmgr.cf->transport_retry_time * 1000);
	dest_suspend(d, "4.3.0", "mail transport unavailable");
}

void
dest_no_relays(bool (*served)(uint32_t relays))
{
	struct unserved u = { served };

	sched_wake(qmgr.sched, loop_now());
	sched_each_dest(qmgr.sched, dest_unserved, &u);
	dest_set_timer();
}

void
dest_revive_all(void)
{
	sched_revive_all(qmgr.sched);
	loop_soon(&qmgr.schedule);
}

unsigned
dest_revive_site(const char *nexthop)
{
	unsigned n = sched_revive(qmgr.sched, nexthop);

	loop_soon(&qmgr.schedule);
	return n;
}

/* --- reports --------------------------------------------------------- */

void
dest_each(void (*fn)(const struct dest_facts *f, void *arg), void *arg)
{
	sched_each(qmgr.sched, fn, arg);
}

struct report {
	struct buf *b;
	unsigned shown;
};

static void
dest_report(const struct dest_facts *f, void *arg)
{
	struct report *r = arg;
	int64_t us = f->next_try.us - loop_now().us;

	if (r->shown++ >= STATUS_SHOWN)
		return;
	(void)buf_printf(r->b, "destination %s:%s waiting=%u busy=%u "
	    "window=%u/%u aside=%u held=%s", f->transport,
	    log_safe(view_of(f->user != NULL ? f->user : f->nexthop)),
	    f->waiting, f->busy, f->window, f->limit, f->parked, f->held_by);
	if (f->next_try.us > 0)
		(void)buf_printf(r->b, " next=%llds",
		    us > 0 ? (long long)(us / 1000000) : 0LL);
	if (f->average > 0)
		(void)buf_printf(r->b, " average=%.2fs",
		    (double)f->average / 1e6);
	if (f->last_error != NULL)
		(void)buf_printf(r->b, " error: %s",
		    log_safe(view_of(f->last_error)));
	(void)buf_puts(r->b, "\n");
}

void
dest_status(struct buf *b)
{
	struct report r = { b, 0 };

	(void)buf_printf(b, "destinations %u\n", sched_count(qmgr.sched));
	dest_each(dest_report, &r);
}
