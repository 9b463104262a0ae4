/*
 * Two queue managers during a reload: the old one tells the new one which
 * messages to leave alone, and then, one by one, that it is done with them.
 * See the end of queue/STATES.md.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/qmgr.h"

/*
 * The one before us, and the one after us.  The first may still have a word to
 * say when the second is there already: what we learn then is passed on.
 */
static struct chan *older, *newer;
static bool waiting;		/* the older one's list is not complete yet */

static void
handover_tell(enum msg_type type, struct queue_id id)
{
	struct buf *b;

	if (newer == NULL)
		return;
	b = chan_begin(newer, type);
	put_u64(b, id.n);
	chan_end(newer);
}

void
handover_done(struct queue_id id)
{
	handover_tell(MSG_TAKE, id);
}

static void
handover_free_busy(struct known *k, void *arg)
{
	struct queue_id id = k->id;

	(void)arg;
	if (k->state != M_BUSY)
		return;
	known_remove(k);
	free(k);
	if (qmgr.handed_over)
		handover_done(id);
	else
		intake_found(id);
}

/*
 * The older one is gone, and what it left in its journal is safe in files:
 * nothing is busy any more.  Not before, or a message might be delivered and
 * gone when its record is looked at.
 */
static void
handover_recovered(void)
{
	known_each(handover_free_busy, NULL);
	intake_start();
}

static void
handover_recovered_later(void)
{
	known_each(handover_free_busy, NULL);
	intake_rescan_now();
}

static void
handover_end_wait(void)
{
	if (!waiting)
		return;
	waiting = false;
	if (qmgr.started && !qmgr.handed_over)
		journal_recover(intake_start);
}

static void
handover_busy(struct queue_id id)
{
	struct known *k;

	if (known_find(id) != NULL)
		return;
	k = mem_alloc(sizeof *k);
	k->id = id;
	k->state = M_BUSY;
	known_add(k);
	if (qmgr.handed_over)
		handover_tell(MSG_BUSY, id);
}

static void
handover_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	struct queue_id id = { 0 };
	struct known *k;

	(void)arg;
	if (c == newer) {
		chan_blame(c, "the new queue manager has nothing to say");
		return;
	}
	if (in->type != MSG_BUSY_END)
		id.n = cursor_u64(&in->body);
	if (!chan_check(c, in))
		return;
	switch ((int)in->type) {
	case MSG_BUSY:
		handover_busy(id);
		break;
	case MSG_BUSY_END:
		handover_end_wait();
		break;
	case MSG_TAKE:
		k = known_find(id);
		if (k != NULL && k->state == M_BUSY)
			handover_free_busy(k, NULL);
		else if (k == NULL && qmgr.handed_over)
			handover_done(id);
		else if (k == NULL)
			intake_found(id);
		break;
	default:
		chan_blame(c, "unexpected message");
		break;
	}
}

static void
handover_on_close(struct chan *c, void *arg)
{
	(void)arg;
	if (c == newer) {
		chan_free(&newer);
		return;
	}
	chan_free(&older);
	if (!qmgr.started)
		known_each(handover_free_busy, NULL);
	/* If there is a newer one, it does this when we are gone. */
	if (qmgr.started && !qmgr.handed_over)
		journal_recover(waiting ? handover_recovered :
		    handover_recovered_later);
	waiting = false;
}

static void
handover_announce(struct known *k, void *arg)
{
	struct message *m = (struct message *)k;

	(void)arg;
	if (k->state == M_DEFERRED)
		return;
	if (k->state == M_ACTIVE && m->n_entries == 0 && !m->evicting &&
	    m->n_failures == 0 && (newer == NULL || (m->segment == NULL &&
	    !m->status_changed))) {
		/* It is all in its file, or, when nobody takes over, in the
		 * journal for the next start. */
		message_free(&m);
		return;
	}
	handover_tell(MSG_BUSY, k->id);
}

static void
handover_forget(struct known *k, void *arg)
{
	(void)arg;
	if (k->state == M_ACTIVE)
		dest_forget((struct message *)k);
}

static void
handover_finish(struct known *k, void *arg)
{
	struct message *m = (struct message *)k;

	(void)arg;
	if (k->state == M_ACTIVE && m->n_entries == 0)
		message_finish(m);
}

/* Stop all that has not begun; what is under way goes on to its end. */
static void
handover_give(void)
{
	intake_stop();
	known_each(handover_forget, NULL);
	known_each(handover_announce, NULL);
	if (newer != NULL)
		chan_send(newer, MSG_BUSY_END);
	known_each(handover_finish, NULL);
}

void
handover_begin(bool taking, int fd)
{
	struct chan *c = chan_new(fd, ROLE_QMGR, ROLE_QMGR, 0,
	    handover_on_msg, handover_on_close, NULL);

	if (taking) {
		if (older != NULL)
			chan_free(&older);
		older = c;
		waiting = true;
		return;
	}
	if (newer != NULL)
		chan_free(&newer);
	newer = c;
	qmgr.handed_over = true;
	handover_give();
	qmgr_check_end();
}

void
handover_stop(void)
{
	handover_give();
}

bool
handover_older(void)
{
	return older != NULL;
}

bool
handover_waiting(void)
{
	return waiting;
}
