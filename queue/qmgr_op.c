/*
 * What an administrator wants done to a message, in each state that it can be
 * in.  What is not under way happens at once.  A message that is being
 * delivered takes part in no further attempt: the wish is fulfilled when the
 * attempt has ended, with the recipients that are left; until then it is kept
 * in memory only, and QUEUE_LATER says so.  Asking again for what was done is
 * answered QUEUE_DONE where that can be seen (hold).
 */
#include <errno.h>

#include "lib/log.h"
#include "queue/qmgr.h"

static const char *
op_id(struct queue_id id)
{
	static char text[QUEUE_ID_TEXT];

	return queue_id_text(id, text);
}

static enum queue_result
op_failed(struct queue_id id, enum spool_place place, const char *what, int rc)
{
	if (rc == ENOENT)
		return QUEUE_NOT_FOUND;
	log_error("%s: cannot %s %s/%s: %s", op_id(id), what,
	    spool_place_names[place], op_id(id), strerror(rc));
	return QUEUE_FAILED;
}

static void
op_changed(enum spool_place place)
{
	qmgr.changed |= 1u << place;
}

/* -- files that nobody works on ------------------------------------------- */

static enum queue_result
op_delete_file(struct queue_id id, enum spool_place place)
{
	int rc = spool_unlink(&qmgr.spool, id, place);

	if (rc != 0)
		return op_failed(id, place, "remove", rc);
	op_changed(place);
	log_info("%s: removed", op_id(id));
	qmgr.removed++;
	return QUEUE_DONE;
}

static enum queue_result
op_hold_file(struct queue_id id, enum spool_place place)
{
	int rc = spool_rename(&qmgr.spool, id, place, PLACE_HOLD);

	if (rc != 0)
		return op_failed(id, place, "move to hold", rc);
	op_changed(place);
	op_changed(PLACE_HOLD);
	log_info("%s: placed on hold", op_id(id));
	return QUEUE_DONE;
}

static enum queue_result
op_expire_file(struct queue_id id, enum spool_place place)
{
	int rc = spool_expire(&qmgr.spool, id, place);

	if (rc != 0)
		return op_failed(id, place, "mark as expired", rc);
	log_info("%s: expired", op_id(id));
	return QUEUE_DONE;
}

/* From hold: due at once. */
static enum queue_result
op_release(struct queue_id id, enum queue_op op)
{
	struct spool_change due = { .next = clock_wall() };
	int rc = spool_defer(&qmgr.spool, id, PLACE_HOLD, PLACE_DEFERRED,
	    &due);

	if (rc != 0)
		return op_failed(id, PLACE_HOLD, "release", rc);
	op_changed(PLACE_HOLD);
	op_changed(PLACE_DEFERRED);
	log_info("%s: %s", op_id(id), op == QUEUE_RELEASE ?
	    "released from hold" : "requeued");
	intake_deferred(id, due.next);
	return QUEUE_DONE;
}

static enum queue_result
op_held(struct queue_id id, enum queue_op op)
{
	switch (op) {
	case QUEUE_HOLD:
		return QUEUE_DONE;	/* it is */
	case QUEUE_RELEASE:
	case QUEUE_REQUEUE:
		return op_release(id, op);
	case QUEUE_DELETE:
		return op_delete_file(id, PLACE_HOLD);
	case QUEUE_EXPIRE:
		return op_expire_file(id, PLACE_HOLD);
	case QUEUE_FLUSH:
	case QUEUE_FLUSH_ALL:
	case QUEUE_OPS:
		break;
	}
	return QUEUE_NOT_FOUND;
}

static enum queue_result
op_deferred(struct deferred *d, enum queue_op op)
{
	struct queue_id id = d->known.id;
	enum queue_result r = QUEUE_NOT_FOUND;

	switch (op) {
	case QUEUE_HOLD:
		r = op_hold_file(id, PLACE_DEFERRED);
		break;
	case QUEUE_DELETE:
		r = op_delete_file(id, PLACE_DEFERRED);
		break;
	case QUEUE_REQUEUE:
		log_info("%s: requeued", op_id(id));
		intake_due_now(d);
		return QUEUE_DONE;
	case QUEUE_FLUSH:
		intake_due_now(d);
		return QUEUE_DONE;
	case QUEUE_EXPIRE:
		return op_expire_file(id, PLACE_DEFERRED);
	case QUEUE_RELEASE:
	case QUEUE_FLUSH_ALL:
	case QUEUE_OPS:
		return QUEUE_NOT_FOUND;
	}
	/* Not there any more: so it need not be known either. */
	if (r != QUEUE_FAILED)
		intake_forget(d);
	return r;
}

/* In incoming or active, found but not read yet: reading finds it gone. */
static enum queue_result
op_waiting_file(struct queue_id id, enum spool_place place, enum queue_op op)
{
	switch (op) {
	case QUEUE_HOLD:
		return op_hold_file(id, place);
	case QUEUE_DELETE:
		return op_delete_file(id, place);
	case QUEUE_EXPIRE:
		return op_expire_file(id, place);
	case QUEUE_REQUEUE:
	case QUEUE_FLUSH:
		return QUEUE_DONE;	/* it is tried anyway */
	case QUEUE_RELEASE:
	case QUEUE_FLUSH_ALL:
	case QUEUE_OPS:
		break;
	}
	return QUEUE_NOT_FOUND;
}

static enum queue_result
op_file(struct queue_id id, enum queue_op op)
{
	struct known *k;
	enum spool_place p;

	if (qmgr.handed_over || qmgr.stopping)
		return QUEUE_NOT_FOUND;
	if (!qmgr.started || journal_recovering())
		return QUEUE_BUSY;
	if (spool_settle(&qmgr.spool, id, PLACE_HOLD))
		return op_held(id, op);
	for (p = PLACE_INCOMING; p <= PLACE_ACTIVE; p++)
		if (spool_settle(&qmgr.spool, id, p))
			return op_waiting_file(id, p, op);
	if (!spool_settle(&qmgr.spool, id, PLACE_DEFERRED))
		return QUEUE_NOT_FOUND;
	/* The walk has not come there yet. */
	intake_found(id);
	k = known_find(id);
	return k != NULL && k->state == M_DEFERRED ?
	    op_deferred((struct deferred *)k, op) : QUEUE_BUSY;
}

/* -- messages in memory --------------------------------------------------- */

static enum queue_result
op_expire(struct message *m)
{
	m->expire = true;
	/* One that lives in the journal is returned before it gets a file,
	 * unless it is delivered. */
	if (m->segment != NULL || m->known.state == M_DEFERRING)
		return QUEUE_DONE;
	return op_expire_file(m->known.id, m->place);
}

static enum queue_result
op_message(struct message *m, enum queue_op op)
{
	struct queue_id id = m->known.id;

	if (op == QUEUE_EXPIRE)
		return op_expire(m);
	if (op == QUEUE_FLUSH)
		return QUEUE_DONE;
	if (op != QUEUE_HOLD && op != QUEUE_DELETE && op != QUEUE_REQUEUE)
		return QUEUE_NOT_FOUND;
	if (m->wish != QUEUE_DELETE)
		m->wish = op;
	if (m->known.state == M_INCOMING) {
		intake_unwait(m);
		tables_forget(m);
		message_enter(m, M_ACTIVE);
	}
	if (m->known.state != M_ACTIVE)
		return QUEUE_LATER;
	/* Whatever waits does not begin; what has begun goes on to its end. */
	dest_forget(m);
	if (m->n_entries > 0)
		return QUEUE_LATER;
	message_finish(m);
	return op == QUEUE_REQUEUE || known_find(id) == NULL ? QUEUE_DONE :
	    QUEUE_LATER;
}

enum queue_result
op_apply(enum queue_op op, struct queue_id id)
{
	struct known *k = known_find(id);

	if (k == NULL)
		return op_file(id, op);
	switch (k->state) {
	case M_BUSY:
		return QUEUE_BUSY;
	case M_DEFERRED:
		return op_deferred((struct deferred *)k, op);
	case M_LOADING:
	case M_INCOMING:
	case M_ACTIVE:
	case M_BOUNCING:
	case M_DEFERRING:
		return op_message((struct message *)k, op);
	case M_NONE:
	case M_WRITING:
	case M_COPYING:
	case M_JUDGING:
	case M_MILTERING:
	case M_PROXYING:
	case M_SYNCING:
	case M_STATES:
		break;
	}
	/* Nothing that was promised to anybody. */
	return QUEUE_NOT_FOUND;
}
