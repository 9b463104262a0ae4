/*
 * Which notifications a message is due, one after the other.  Each is sealed
 * before what it tells of is marked (queue/STATES.md).
 *
 * A failure is told first; then the postmaster gets his copy, if he wants
 * one.  Copies, and notices of a delay, are not worth another attempt.
 */
#include "lib/address.h"
#include "lib/conf_choice.h"
#include "lib/log.h"
#include "queue/history.h"
#include "queue/qmgr.h"

static uint32_t classes;
static char *double_bounce[3];		/* the address, in our domains */
static char *error_recipient;

void
notice_load(void)
{
	const struct conf *cf = qmgr.cf;

	classes = conf_choice("notify_classes", view_of(cf->notify_classes));
	if (cf->bounce_queue_lifetime > cf->maximal_queue_lifetime)
		log_warn("bounce_queue_lifetime is larger than "
		    "maximal_queue_lifetime, which is used for both");
	error_recipient = strchr(cf->error_notice_recipient, '@') != NULL ?
	    mem_strdup(cf->error_notice_recipient) :
	    mem_printf("%s@%s", cf->error_notice_recipient, cf->myorigin);
	double_bounce[0] = mem_printf("%s@%s", cf->double_bounce_sender,
	    cf->myhostname);
	double_bounce[1] = mem_printf("%s@%s", cf->double_bounce_sender,
	    cf->myorigin);
	double_bounce[2] = mem_printf("%s@%s", cf->double_bounce_sender,
	    cf->mydomain);
}

bool
notice_is_double(struct view addr)
{
	size_t i;

	for (i = 0; i < sizeof double_bounce / sizeof double_bounce[0]; i++)
		if (view_is_nocase(addr, double_bounce[i]))
			return true;
	return false;
}

bool
notice_is_ours(const struct envelope *e)
{
	return notice_is_double(e->sender) && e->nrcpts == 1 &&
	    view_is_nocase(e->rcpts[0].addr, error_recipient);
}

static bool
notice_has(const struct message *m, enum rcpt_status fate)
{
	uint32_t i;

	for (i = 0; i < m->n_failures; i++)
		if (m->failures[i].fate == fate)
			return true;
	return false;
}

static bool
notice_owed(const struct message *m)
{
	uint32_t i;

	for (i = 0; i < m->tail.nrcpts; i++)
		if (spool_rcpt_owed(m->status[i]))
			return true;
	return false;
}

/* It has waited long enough, and nobody was told yet. */
static bool
notice_late(const struct message *m)
{
	int64_t after = qmgr.cf->delay_warning_time;
	struct history h;
	struct arena *a;
	bool warned;

	if (after <= 0 || m->warned || !notice_has(m, RCPT_DEFERRED) ||
	    (clock_wall().us - m->arrival.us) / 1000 < after)
		return false;
	a = arena_new(m->n_history * 8 + 65536);
	warned = history_get(m->tail.history, a, &h) &&
	    (h.flags & HISTORY_WARNED) != 0;
	arena_free(&a);
	return !warned;
}

/* Nobody is told: mail from <>, when nobody wants to hear of it, and from
 * ourselves to the postmaster. */
static void
notice_drop(struct message *m, const struct envelope *e)
{
	uint32_t i, n = 0;

	for (i = 0; i < m->n_failures; i++)
		n += m->failures[i].fate == RCPT_BOUNCED;
	if (notice_is_double(e->sender))
		log_warn("%s: undeliverable postmaster notification "
		    "discarded", message_id(m));
	else
		log_info("%s: undeliverable, and the sender is <>: dropped "
		    "for %u recipients", message_id(m), n);
}

static bool
notice_is_due(struct message *m, const struct envelope *e,
    enum notice_kind kind)
{
	bool bounce = e->sender.n == 0, twice = notice_is_double(e->sender);

	switch (kind) {
	case NOTICE_FAILURE:
		if (!notice_has(m, RCPT_BOUNCED))
			return false;
		if (!bounce && !twice)
			return true;
		if (twice || (classes & (TELL_BOUNCE | TELL_2BOUNCE)) == 0)
			notice_drop(m, e);
		return false;
	case NOTICE_DOUBLE:
		return bounce && (classes & (TELL_BOUNCE | TELL_2BOUNCE)) &&
		    notice_has(m, RCPT_BOUNCED);
	case NOTICE_FAILURE_COPY:
		return !bounce && !twice && (classes & TELL_BOUNCE) != 0 &&
		    notice_has(m, RCPT_BOUNCED);
	case NOTICE_SUCCESS:
		return !bounce && !twice && notice_owed(m);
	case NOTICE_DELAY:
		return !bounce && !twice && notice_late(m);
	case NOTICE_DELAY_COPY:
		return !twice && (classes & TELL_DELAY) != 0 &&
		    m->late && notice_has(m, RCPT_DEFERRED);
	case NOTICE_KINDS:
		break;
	}
	return false;
}

bool
notice_next(struct message *m, const struct envelope *e)
{
	static const enum notice_kind order[] = {
		NOTICE_FAILURE, NOTICE_DOUBLE, NOTICE_FAILURE_COPY,
		NOTICE_SUCCESS, NOTICE_DELAY, NOTICE_DELAY_COPY,
	};
	size_t i;

	/* Most messages: delivered, and no more to say. */
	if (m->n_failures == 0 && !notice_owed(m))
		return false;
	if (m->noticed == 0)
		m->late = notice_late(m);
	for (i = 0; i < sizeof order / sizeof order[0]; i++) {
		if ((m->noticed & 1u << order[i]) != 0)
			continue;
		m->noticed |= (uint16_t)(1u << order[i]);
		if (!notice_is_due(m, e, order[i]))
			continue;
		m->notice = order[i];
		m->bounce_tries = 0;
		message_enter(m, M_BOUNCING);
		bounce_submit(m);
		return true;
	}
	/* Owed, but to nobody. */
	if (e->sender.n == 0 || notice_is_double(e->sender))
		for (i = 0; i < m->tail.nrcpts; i++)
			if (spool_rcpt_owed(m->status[i])) {
				m->status[i] = SPOOL_DONE;
				m->status_changed = true;
			}
	/* The warning counts also where only the postmaster would get it. */
	m->warned = m->warned || (m->late && e->sender.n == 0);
	return false;
}

static void
notice_mark_failed(struct message *m, bool ok)
{
	struct failure *f;
	uint32_t i;

	for (i = 0; i < m->n_failures; i++) {
		f = &m->failures[i];
		if (f->fate != RCPT_BOUNCED)
			continue;
		if (ok) {
			m->status[f->index] = SPOOL_DONE;
			m->status_changed = true;
			qmgr.bounced++;
		} else {
			/* Nobody was told, so the recipient is not done. */
			f->fate = RCPT_DEFERRED;
			m->n_deferred++;
		}
	}
}

void
notice_sealed(struct message *m, bool ok)
{
	uint32_t i;

	switch (m->notice) {
	case NOTICE_FAILURE:
	case NOTICE_DOUBLE:
		notice_mark_failed(m, ok);
		break;
	case NOTICE_SUCCESS:
		for (i = 0; ok && i < m->tail.nrcpts; i++)
			if (spool_rcpt_owed(m->status[i])) {
				m->status[i] = SPOOL_DONE;
				m->status_changed = true;
			}
		break;
	case NOTICE_DELAY:
		m->warned = m->warned || ok;
		break;
	case NOTICE_FAILURE_COPY:
	case NOTICE_DELAY_COPY:
		if (!ok)
			log_warn("%s: postmaster notice failed",
			    message_id(m));
		break;
	case NOTICE_KINDS:
		panic("%s: notice %d", message_id(m), (int)m->notice);
	}
	/* More may follow, which takes time. */
	if (ok && m->status_changed)
		message_mark(m);
}
