#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "queue/qmgr.h"

const char *const message_state_names[M_STATES] = {
	[M_NONE] = "none",
	[M_WRITING] = "writing",
	[M_COPYING] = "copying",
	[M_JUDGING] = "judging",
	[M_MILTERING] = "with filters",
	[M_PROXYING] = "proxying",
	[M_SYNCING] = "syncing",
	[M_INCOMING] = "incoming",
	[M_LOADING] = "loading",
	[M_ACTIVE] = "active",
	[M_BOUNCING] = "bouncing",
	[M_DEFERRING] = "deferring",
	[M_DEFERRED] = "deferred",
	[M_BUSY] = "busy",
};

/* What may follow what; 0 is refused. */
static const bool follows[M_STATES][M_STATES] = {
	[M_WRITING] = { [M_COPYING] = true, [M_JUDGING] = true,
		[M_MILTERING] = true, [M_SYNCING] = true },
	[M_COPYING] = { [M_JUDGING] = true, [M_MILTERING] = true,
		[M_SYNCING] = true },
	/* From M_PROXYING it goes nowhere but out of memory. */
	[M_JUDGING] = { [M_MILTERING] = true, [M_PROXYING] = true,
		[M_SYNCING] = true },
	[M_MILTERING] = { [M_PROXYING] = true, [M_SYNCING] = true },
	[M_SYNCING] = { [M_INCOMING] = true },
	[M_INCOMING] = { [M_ACTIVE] = true, [M_DEFERRING] = true },
	[M_LOADING] = { [M_INCOMING] = true },
	[M_ACTIVE] = { [M_BOUNCING] = true, [M_DEFERRING] = true },
	[M_BOUNCING] = { [M_ACTIVE] = true },
	[M_DEFERRING] = { [M_NONE] = true },
};

static const char *
message_describe(void *arg)
{
	const struct message *m = arg;

	return message_state_names[m->known.state];
}

const char *
message_id(const struct message *m)
{
	static char ring[4][QUEUE_ID_TEXT];
	static unsigned next;

	return queue_id_text(m->known.id, ring[next++ % 4]);
}

int
message_readable(const struct message *m)
{
	return m->copied ? spool_open_copy(&qmgr.spool, m->known.id) :
	    fcntl(m->fd, F_DUPFD_CLOEXEC, 0);
}

struct message *
message_new(struct queue_id id, enum message_state state)
{
	struct message *m = mem_alloc(sizeof *m);

	m->known.id = id;
	m->known.state = state;
	m->fd = m->spill = -1;
	m->since = loop_now();
	known_add(&m->known);
	qmgr.messages++;
	return m;
}

static void
message_leave_active(const struct message *m)
{
	qmgr.active--;
	qmgr.recipients -= m->tail.nrcpts;
}

void
message_enter(struct message *m, enum message_state state)
{
	if (!follows[m->known.state][state]) {
		log_context(message_describe, m);
		panic("%s: from %s to %s", message_id(m),
		    message_state_names[m->known.state],
		    message_state_names[state]);
	}
	log_debug("%s: %s -> %s", message_id(m),
	    message_state_names[m->known.state], message_state_names[state]);
	if (m->known.state == M_ACTIVE && state == M_DEFERRING)
		message_leave_active(m);
	if (state == M_ACTIVE && m->known.state == M_INCOMING) {
		qmgr.active++;
		qmgr.recipients += m->tail.nrcpts;
	}
	m->known.state = state;
	m->since = loop_now();
}

static void
message_drop_failures(struct message *m)
{
	uint32_t i;

	for (i = 0; i < m->n_failures; i++) {
		free(m->failures[i].status);
		free(m->failures[i].reason);
		free(m->failures[i].mta);
	}
	free(m->failures);
	m->failures = NULL;
	m->n_failures = 0;
	m->noticed = 0;
}

void
message_free(struct message **mp)
{
	struct message *m = *mp;

	if (m == NULL)
		return;
	*mp = NULL;
	if (m->known.state == M_ACTIVE || m->known.state == M_BOUNCING)
		message_leave_active(m);
	tables_forget(m);
	journal_leave(m);
	origin_forget(m);
	if (event_initialized(&m->timer))
		event_del(&m->timer);
	known_remove(&m->known);
	ensure(m->entries == NULL);
	message_drop_failures(m);
	if (m->fd >= 0)
		close(m->fd);
	if (m->spill >= 0)
		close(m->spill);
	ensure(m->parts == NULL);
	free(m->asked);
	free(m->judged);
	split_free(m);
	free(m->answers);
	free(m->bytes);
	free(m->status);
	free(m->history);
	free(m);
	qmgr.messages--;
}

void
message_set_tail(struct message *m, const struct spool_tail *t)
{
	size_t n = t->envelope.n + t->edits.n + t->route.n;
	char *p;

	free(m->bytes);
	free(m->status);
	if (t->history.n > 0 && t->history.p != m->history) {
		free(m->history);
		m->history = mem_copy(t->history);
		m->n_history = t->history.n;
	}
	m->tail.history = view_make(m->history, m->n_history);
	m->bytes = p = mem_alloc(n + 1);
	m->n_bytes = n;
	m->tail.nrcpts = t->nrcpts;
	m->tail.envelope = view_make(p, t->envelope.n);
	memcpy(p, t->envelope.p, t->envelope.n);
	p += t->envelope.n;
	m->tail.edits = view_make(p, t->edits.n);
	if (t->edits.n > 0)
		memcpy(p, t->edits.p, t->edits.n);
	p += t->edits.n;
	m->tail.route = view_make(p, t->route.n);
	if (t->route.n > 0)
		memcpy(p, t->route.p, t->route.n);
	m->status = mem_alloc(t->nrcpts + 1u);
	memset(m->status, '.', t->nrcpts);
}

void
message_envelope(const struct message *m, struct arena *a,
    struct envelope *ret)
{
	if (!envelope_get(m->tail.envelope, a, ret) ||
	    ret->nrcpts != m->tail.nrcpts)
		panic("%s: envelope changed in memory", message_id(m));
}

int
message_text(struct message *m)
{
	char id[QUEUE_ID_TEXT];
	struct spool_file f;
	int rc;

	if (m->fd >= 0)
		return m->fd;
	rc = spool_read(&qmgr.spool, m->known.id, m->place, &f);
	if (rc != 0) {
		log_error("%s: cannot read %s/%s: %s", message_id(m),
		    spool_place_names[m->place], queue_id_text(m->known.id,
		    id), strerror(rc));
		return -1;
	}
	free(f.bytes);
	m->fd = f.fd;
	m->text_offset = SPOOL_TEXT_OFFSET;
	return m->fd;
}

/* Sealed while the new queue manager is at work already: it is theirs. */
static void
message_give_up(struct message *m)
{
	struct queue_id id = m->known.id;

	if (m->segment != NULL) {
		/* In a journal that they cannot read: it becomes a file. */
		message_enter(m, M_ACTIVE);
		message_finish(m);
		return;
	}
	message_free(&m);
	handover_done(id);
}

void
message_activate(struct message *m)
{
	struct arena *a;
	struct envelope e;
	int rc;

	ensure(m->known.state == M_INCOMING);
	if (qmgr.handed_over) {
		message_give_up(m);
		return;
	}
	if (qmgr.stopping) {
		message_free(&m);
		return;
	}
	if (m->wish != 0) {
		message_enter(m, M_ACTIVE);
		message_finish(m);
		return;
	}
	if (!intake_room()) {
		intake_waiting(m);
		return;
	}
	if (tables_ask(m))
		return;
	if (sched_crowded(qmgr.active, qmgr.active_limit) &&
	    resolve_no_room(m))
		return;
	if (m->segment == NULL && m->place != PLACE_ACTIVE) {
		rc = spool_rename(&qmgr.spool, m->known.id, m->place,
		    PLACE_ACTIVE);
		if (rc != 0) {
			/* It stays safe where it is; the next walk finds it. */
			log_error("%s: cannot move from %s to active: %s",
			    message_id(m), spool_place_names[m->place],
			    strerror(rc));
			message_free(&m);
			return;
		}
		m->place = PLACE_ACTIVE;
	}
	message_enter(m, M_ACTIVE);
	m->active = clock_wall();
	a = arena_new(m->tail.envelope.n * 16 + 65536);
	message_envelope(m, a, &e);
	log_info("%s: from=<%s>, size=%llu, nrcpt=%u (queue active)",
	    message_id(m), log_safe(e.sender),
	    (unsigned long long)m->text_size, e.nrcpts);
	arena_free(&a);
	resolve_message(m);
}

void
message_mark(struct message *m)
{
	int fd = m->segment != NULL ? m->segment->fd :
	    spool_open_status(&qmgr.spool, m->known.id, m->place);

	if (fd < 0 || pwrite(fd, m->status, m->tail.nrcpts,
	    (off_t)m->status_offset) != (ssize_t)m->tail.nrcpts)
		log_error("%s: cannot store the status of recipients: %s",
		    message_id(m), strerror(errno));
	if (m->segment != NULL)
		m->segment->dirty = true;
	else if (fd >= 0)
		journal_sync_later(fd);
}

static bool
message_failed_already(const struct message *m, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < m->n_failures; i++)
		if (m->failures[i].index == index)
			return true;
	return false;
}

static void
message_note(struct message *m, uint32_t index, enum rcpt_status fate,
    struct view dsn, struct view reason, struct view mta)
{
	struct failure *f;

	ensure(!message_failed_already(m, index));
	if (m->n_failures % 64 == 0)
		m->failures = mem_resize(m->failures, m->n_failures + 64u,
		    sizeof *m->failures);
	f = &m->failures[m->n_failures++];
	f->index = index;
	f->fate = fate;
	f->status = mem_copy(dsn);
	f->reason = mem_copy(reason);
	f->mta = mem_copy(mta);
}

void
message_rcpt(struct message *m, uint32_t index, enum rcpt_status status,
    struct view dsn, struct view reason, struct view mta)
{
	static const char owed[] = {
		[RCPT_RELAYED] = SPOOL_RELAYED,
		[RCPT_DELIVERED] = SPOOL_DELIVERED,
		[RCPT_EXPANDED] = SPOOL_EXPANDED,
	};

	ensure(index < m->tail.nrcpts && m->status[index] == SPOOL_OPEN);
	switch (status) {
	case RCPT_SENT:
		m->status[index] = SPOOL_DONE;
		m->status_changed = true;
		qmgr.delivered++;
		/* Others may take hours; a crash until then must not repeat
		 * this one. */
		if (m->tail.nrcpts > 1)
			message_mark(m);
		break;
	case RCPT_RELAYED:
	case RCPT_DELIVERED:
	case RCPT_EXPANDED:
		/* A crash before the notice is sealed repeats neither. */
		m->status[index] = owed[status];
		m->status_changed = true;
		qmgr.delivered++;
		message_mark(m);
		message_note(m, index, status, dsn, reason, mta);
		break;
	case RCPT_DEFERRED:
		m->n_deferred++;
		message_note(m, index, status, dsn, reason, mta);
		break;
	case RCPT_BOUNCED:
		message_note(m, index, status, dsn, reason, mta);
		break;
	case RCPT_LOOPED:
	default:
		panic("%s: recipient status %d", message_id(m), (int)status);
	}
}

static void
message_defer_work(struct pool_job *j)
{
	struct message *m =
	    (struct message *)((char *)j - offsetof(struct message, job));

	struct spool_change change = {
		.status = view_make(m->status, m->tail.nrcpts),
		.status_offset = m->status_offset,
		.status_changed = m->status_changed,
		.history = m->tail.history,
		.next = m->retry,
	};

	m->error = 0;
	if (m->segment != NULL) {
		/* From the journal: a file that is complete, then moved. */
		change.status_changed = false;
		change.history = view_make("", 0);
		m->error = journal_to_file(m, m->status);
		if (m->error == 0)
			m->error = spool_defer(&qmgr.spool, m->known.id,
			    PLACE_INCOMING, m->to, &change);
		return;
	}
	m->error = spool_defer(&qmgr.spool, m->known.id, m->place, m->to,
	    &change);
}

static void
message_defer_again(evutil_socket_t fd, short what, void *arg)
{
	struct message *m = arg;

	(void)fd;
	(void)what;
	pool_submit(&m->job);
}

static void
message_defer_done(struct pool_job *j)
{
	struct message *m =
	    (struct message *)((char *)j - offsetof(struct message, job));
	struct queue_id id = m->known.id;
	struct wall retry = m->retry;
	bool aside = m->aside;
	bool held = m->to == PLACE_HOLD && m->error == 0;
	enum queue_op wish = m->wish;

	if (m->error != 0 && m->error != ENOENT &&
	    (m->segment != NULL || m->status_changed)) {
		/* It stays in the journal, or active, where the next one to
		 * read it would not know who is done.  Once more, later. */
		log_error("%s: cannot write to deferred: %s", message_id(m),
		    strerror(m->error));
		evtimer_assign(&m->timer, loop_base(), message_defer_again,
		    m);
		event_add(&m->timer, loop_timeout(10000));
		return;
	}
	if (m->error != 0)
		log_error("%s: cannot move to %s: %s", message_id(m),
		    spool_place_names[m->to], strerror(m->error));
	else if (held)
		log_info("%s: placed on hold", message_id(m));
	journal_finish(m);
	message_enter(m, M_NONE);
	message_free(&m);
	if (held)
		qmgr.changed |= 1u << PLACE_HOLD;
	else
		qmgr.deferred_total += !aside;
	if (qmgr.handed_over)
		handover_done(id);
	else if (!held)
		intake_deferred(id, retry);
	/* It came while the file was being moved. */
	if (wish != 0 && !held)
		(void)op_apply(wish, id);
	intake_more();
}

static struct wall
message_retry_time(const struct message *m)
{
	struct wall now = clock_wall();
	int64_t delay = retry_delay((now.us - m->arrival.us) / 1000,
	    qmgr.cf->minimal_backoff_time, qmgr.cf->maximal_backoff_time,
	    m->known.id.n ^ (uint64_t)now.us);

	return (struct wall){ now.us + delay * 1000 };
}

static void message_remove_again(evutil_socket_t fd, short what, void *arg);

static void
message_defer(struct message *m, struct wall retry)
{
	m->retry = retry;
	m->to = m->wish == QUEUE_HOLD ? PLACE_HOLD : PLACE_DEFERRED;
	message_enter(m, M_DEFERRING);
	m->job.work = message_defer_work;
	m->job.done = message_defer_done;
	pool_submit(&m->job);
}

void
message_step_aside(struct message *m, struct dest *d)
{
	struct queue_id id = m->known.id;

	if (m->segment == NULL && m->place == PLACE_DEFERRED) {
		message_free(&m);
		intake_park(id, d);
		return;
	}
	/* When it is found there, it is with its destination. */
	m->aside = true;
	message_defer(m, clock_wall());
}

static void
message_remove(struct message *m)
{
	struct queue_id id = m->known.id;
	int rc = 0;

	if (m->segment != NULL)
		journal_finish(m);
	else {
		rc = spool_unlink(&qmgr.spool, id, m->place);
		qmgr.unlinked = true;
	}
	if (rc != 0 && rc != ENOENT) {
		/* Out of memory it would be found, and delivered again. */
		if (rc != m->error)
			log_error("%s: cannot remove %s/%s: %s",
			    message_id(m), spool_place_names[m->place],
			    message_id(m), strerror(rc));
		m->error = rc;
		message_mark(m);
		if (event_initialized(&m->timer))
			event_del(&m->timer);
		evtimer_assign(&m->timer, loop_base(), message_remove_again,
		    m);
		event_add(&m->timer, loop_timeout(10000));
		return;
	}
	log_info("%s: removed", message_id(m));
	qmgr.removed++;
	message_free(&m);
	if (qmgr.handed_over)
		handover_done(id);
	intake_more();
	qmgr_check_end();
}

static void
message_remove_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	message_remove(arg);
}

/* Mark what needs no more attempts; keep the deferred ones. */
static void
message_settle_failures(struct message *m)
{
	struct failure *f;
	uint32_t i;

	for (i = 0; i < m->n_failures; i++) {
		f = &m->failures[i];
		if (f->fate == RCPT_BOUNCED &&
		    m->status[f->index] == SPOOL_OPEN) {
			m->status[f->index] = SPOOL_DONE;
			m->status_changed = true;
			qmgr.bounced++;
		}
	}
	message_drop_failures(m);
}

void
message_bounced(struct message *m, bool ok)
{
	message_enter(m, M_ACTIVE);
	notice_sealed(m, ok);
	message_finish(m);
}

void
message_finish(struct message *m)
{
	struct view status = view_make(m->status, m->tail.nrcpts);
	struct arena *a;
	struct envelope e;
	bool busy, untried;

	ensure(m->known.state == M_ACTIVE && m->n_entries == 0);
	if (m->evicting) {
		m->finish_waits = true;
		return;
	}
	if (m->wish == QUEUE_DELETE) {
		/* Nobody is told: that is what was asked for. */
		message_drop_failures(m);
		memset(m->status, SPOOL_DONE, m->tail.nrcpts);
		message_remove(m);
		return;
	}
	a = arena_new(m->tail.envelope.n * 16 + 65536);
	message_envelope(m, a, &e);
	if (m->noticed == 0)
		message_expire(m, &e);
	busy = notice_next(m, &e);
	arena_free(&a);
	if (busy)
		return;
	if (m->n_deferred > 0)
		message_remember_attempt(m);
	message_settle_failures(m);
	if (spool_rcpts_done(status)) {
		message_remove(m);
		return;
	}
	/* What was not even tried, because somebody else shall, is due now. */
	untried = m->n_deferred == 0 &&
	    view_find(status, SPOOL_OPEN) < status.n;
	message_defer(m, untried || m->wish == QUEUE_REQUEUE ? clock_wall() :
	    message_retry_time(m));
}
