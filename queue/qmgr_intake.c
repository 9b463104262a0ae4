/*
 * What waits on disk or in line: the walk over the directories at start (and
 * now and then), the deferred messages by time, and whose turn it is when the
 * active queue has room - one new message, one deferred, and so on.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/qmgr.h"

#define WALK_STEP	500u	/* names in one turn of the loop */
#define LOADS_MAX	32u	/* files read at once */

/* Files found that nobody has read yet. */
struct found {
	struct queue_id id;
	enum spool_place place;
};

static struct {
	struct found *list;
	size_t first, n, cap;
} backlog;

static struct message *sealed, **sealed_end = &sealed;

static struct {
	struct deferred **at;
	size_t n, cap;
} heap;

static size_t n_parked;
static struct spool_walk *walk;
static enum spool_place walk_place;
static unsigned loading;
static bool deferred_turn;
static bool walking = true;	/* not all on disk is known yet */
static bool flush_found;	/* what the walk finds is due at once */
static struct event walk_timer, due_timer, rescan_timer;
static struct loop_work more_work;

static void intake_walk(evutil_socket_t fd, short what, void *arg);

/* --- the deferred, earliest first ------------------------------------------ */

static void
heap_set(size_t i, struct deferred *d)
{
	heap.at[i] = d;
	d->heap_at = i;
}

static void
heap_up(size_t i)
{
	struct deferred *d = heap.at[i];

	while (i > 0 && heap.at[(i - 1) / 2]->next.us > d->next.us) {
		heap_set(i, heap.at[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_set(i, d);
}

static void
heap_down(size_t i)
{
	struct deferred *d = heap.at[i];
	size_t k;

	while ((k = 2 * i + 1) < heap.n) {
		if (k + 1 < heap.n &&
		    heap.at[k + 1]->next.us < heap.at[k]->next.us)
			k++;
		if (heap.at[k]->next.us >= d->next.us)
			break;
		heap_set(i, heap.at[k]);
		i = k;
	}
	heap_set(i, d);
}

static void
heap_push(struct deferred *d)
{
	if (heap.n == heap.cap) {
		heap.cap = heap.cap > 0 ? heap.cap * 2 : 256;
		heap.at = mem_resize(heap.at, heap.cap, sizeof *heap.at);
	}
	heap.n++;
	heap_set(heap.n - 1, d);
	heap_up(heap.n - 1);
}

static void
heap_remove(struct deferred *d)
{
	struct deferred *last = heap.at[--heap.n];

	if (last == d)
		return;
	heap_set(d->heap_at, last);
	heap_up(last->heap_at);
	heap_down(last->heap_at);
}

static void
intake_set_due(void)
{
	struct timeval tv = { 0, 0 };
	int64_t us;

	if (heap.n == 0)
		return;
	us = heap.at[0]->next.us - clock_wall().us;
	/* The clock may be set: look again within a minute at most. */
	if (us > 60000000)
		us = 60000000;
	if (us > 0) {
		tv.tv_sec = us / 1000000;
		tv.tv_usec = us % 1000000;
	}
	event_add(&due_timer, &tv);
}

static struct deferred *
deferred_new(struct queue_id id, struct wall next)
{
	struct deferred *d;

	if (qmgr.handed_over || known_find(id) != NULL)
		return NULL;
	d = mem_alloc(sizeof *d);
	d->known.id = id;
	d->known.state = M_DEFERRED;
	d->next = next;
	known_add(&d->known);
	return d;
}

void
intake_deferred(struct queue_id id, struct wall next)
{
	struct deferred *d = deferred_new(id, next);

	if (d == NULL)
		return;
	heap_push(d);
	if (heap.at[0] == d)
		intake_set_due();
}

void
intake_park(struct queue_id id, struct dest *d)
{
	struct deferred *p = deferred_new(id, clock_wall());

	if (p == NULL)
		return;
	dest_park(d, &p->parked);
	n_parked++;
}

void
intake_unpark(struct parked *parked, int64_t delay)
{
	struct deferred *d = (struct deferred *)((char *)parked -
	    offsetof(struct deferred, parked));

	if (delay > 0)
		d->next.us = clock_wall().us + 1000 * retry_delay(0, delay,
		    qmgr.cf->maximal_backoff_time, d->known.id.n);
	n_parked--;
	heap_push(d);
	if (heap.at[0] == d)
		intake_set_due();
}

void
intake_forget(struct deferred *d)
{
	if (d->parked.dest != NULL) {
		parked_remove(&d->parked);
		n_parked--;
	} else
		heap_remove(d);
	known_remove(&d->known);
	free(d);
}

void
intake_due_now(struct deferred *d)
{
	d->next.us = 0;
	if (d->parked.dest != NULL) {
		parked_remove(&d->parked);
		n_parked--;
		heap_push(d);
	} else
		heap_up(d->heap_at);
	intake_set_due();
	intake_more();
}

void
intake_flush(void)
{
	size_t i;

	flush_found = walking;
	/* Equal times are a heap in any order. */
	for (i = 0; i < heap.n; i++)
		heap.at[i]->next.us = 0;
	intake_set_due();
	intake_more();
}

/* --- reading --------------------------------------------------------------- */

static struct message *
job_message(struct pool_job *j)
{
	return (struct message *)((char *)j - offsetof(struct message, job));
}

/*
 * What is in incoming/ may be a part of a message, or lead parts; the leader
 * settles them before it goes on (STATES.md, "Parts").
 */
static int
intake_settle(const struct spool_file *f)
{
	const struct spool_split *split = &f->tail.split;
	struct queue_id id = split->id;
	int rc = 0;

	for (; rc == 0 && !split->part && id.n < split->id.n + split->n;
	    id.n++)
		rc = spool_settle_part(&qmgr.spool, id);
	return rc;
}

static void
intake_load_work(struct pool_job *j)
{
	struct message *m = job_message(j);

	m->leader.n = 0;
	m->error = spool_read(&qmgr.spool, m->known.id, m->place, &m->file);
	if (m->place != PLACE_INCOMING)
		return;
	/* No part that waits: its leader may have settled it just now. */
	if (m->error == EBADMSG &&
	    !spool_part_waits(&qmgr.spool, m->known.id, &m->leader))
		m->error = spool_read(&qmgr.spool, m->known.id, m->place,
		    &m->file);
	if (m->error == 0 && (m->error = intake_settle(&m->file)) != 0) {
		free(m->file.bytes);
		close(m->file.fd);
	}
}

/* A part without the mark: it is mail if its leader is. */
static void
intake_part_work(struct pool_job *j)
{
	struct message *m = job_message(j);

	m->error = 0;
	if (spool_is_complete(&qmgr.spool, m->leader))
		m->error = spool_settle_part(&qmgr.spool, m->known.id);
	/* Without one, too: it may have settled it, and be gone by now. */
	if (m->error == 0)
		m->error = spool_read(&qmgr.spool, m->known.id, m->place,
		    &m->file);
}

/* What is there is not a complete queue file. */
static void
intake_incomplete(struct message *m)
{
	int rc;

	if (m->place == PLACE_INCOMING && !spool_marked(&qmgr.spool,
	    m->known.id, m->place)) {
		/* Never promised: file and directory are synced before 250.
		 * With mark and header that is not so sure: the disk may
		 * have damaged it since. */
		rc = spool_unlink(&qmgr.spool, m->known.id, m->place);
		log_info("%s: incomplete file in incoming removed%s%s",
		    message_id(m), rc != 0 ? ": " : "",
		    rc != 0 ? strerror(rc) : "");
		return;
	}
	rc = spool_rename(&qmgr.spool, m->known.id, m->place, PLACE_CORRUPT);
	log_error("%s: damaged queue file moved from %s to corrupt%s%s",
	    message_id(m), spool_place_names[m->place],
	    rc != 0 ? ": " : "", rc != 0 ? strerror(rc) : "");
}

/* m leads parts that may have been found before they were settled. */
static void
intake_find_parts(const struct message *m)
{
	const struct spool_split *split = &m->file.tail.split;
	struct queue_id id = split->id;

	for (; !split->part && id.n < split->id.n + split->n; id.n++)
		intake_found(id);
}

static void intake_load_done(struct pool_job *j);

/* m is a part and not complete.  Where its leader is worked on, here or in an
 * older queue manager, it is settled there. */
static void
intake_part(struct message *m)
{
	const struct known *k = known_find(m->leader);
	struct queue_id id = m->known.id;

	if (k == NULL) {
		m->job.work = intake_part_work;
		m->job.done = intake_load_done;
		m->leader_asked = true;
		pool_submit(&m->job);
		return;
	}
	loading--;
	message_free(&m);
	if (qmgr.handed_over)
		handover_done(id);
	else if (k->state != M_BUSY)
		intake_found(id);
	intake_more();
}

/*
 * An older queue manager may be at it, and not have said so: a part of a
 * message that it splits has an id that it did not have at the handover.  It
 * says when it has finished, and after its end all is read again.
 */
static bool
intake_is_others(const struct message *m)
{
	const struct spool_split *split = &m->file.tail.split;
	const struct known *k;

	if (m->place != PLACE_INCOMING || !m->early)
		return false;
	if (m->error != 0)
		return m->error == EBADMSG;
	k = split->part ? known_find(split->id) : NULL;
	return k != NULL && k->state == M_BUSY;
}

static void
intake_leave(struct message *m)
{
	struct queue_id id = m->known.id;

	if (m->error == 0) {
		free(m->file.bytes);
		close(m->file.fd);
	}
	loading--;
	message_free(&m);
	if (qmgr.handed_over)
		handover_done(id);
	else if (!handover_older())
		intake_found(id);
	intake_more();
}

static void
intake_load_done(struct pool_job *j)
{
	struct message *m = job_message(j);
	struct spool_file *f = &m->file;
	struct envelope e;
	struct arena *a;
	bool ok;

	if (m->error == EBADMSG && m->leader.n != 0 && !m->leader_asked) {
		intake_part(m);
		return;
	}
	if (intake_is_others(m)) {
		intake_leave(m);
		return;
	}
	loading--;
	if (m->error == 0) {
		a = arena_new(f->tail.envelope.n * 16 + 65536);
		ok = envelope_get(f->tail.envelope, a, &e) &&
		    e.nrcpts == f->tail.nrcpts;
		arena_free(&a);
		if (!ok) {
			m->error = EBADMSG;
			free(f->bytes);
			m->fd = f->fd;	/* closed with the message */
		}
	}
	if (m->error == EBADMSG)
		intake_incomplete(m);
	else if (m->error != 0 && m->error != ENOENT)
		log_error("%s: cannot read %s/%s: %s", message_id(m),
		    spool_place_names[m->place], message_id(m),
		    strerror(m->error));
	if (m->error != 0) {
		struct queue_id id = m->known.id;

		message_free(&m);
		if (qmgr.handed_over)
			handover_done(id);
		intake_more();
		return;
	}
	message_set_tail(m, &f->tail);
	memcpy(m->status, f->status.p, f->status.n);
	m->status_offset = f->status_offset;
	m->arrival = f->arrival;
	m->text_size = f->text_size;
	m->text_offset = SPOOL_TEXT_OFFSET;
	m->expire = f->expire;
	m->fd = f->fd;
	free(f->bytes);
	if (m->place == PLACE_INCOMING)
		intake_find_parts(m);
	message_enter(m, M_INCOMING);
	message_activate(m);
	intake_more();
}

static void
intake_load(struct queue_id id, enum spool_place place)
{
	struct message *m = message_new(id, M_LOADING);

	m->place = place;
	m->early = handover_older();
	m->job.work = intake_load_work;
	m->job.done = intake_load_done;
	loading++;
	pool_submit(&m->job);
}

/* --- whose turn ------------------------------------------------------------- */

static void
intake_add(struct queue_id id, enum spool_place place)
{
	if (backlog.first + backlog.n == backlog.cap) {
		if (backlog.first > 0) {
			memmove(backlog.list, backlog.list + backlog.first,
			    backlog.n * sizeof *backlog.list);
			backlog.first = 0;
		} else {
			backlog.cap = backlog.cap > 0 ? backlog.cap * 2 : 256;
			backlog.list = mem_resize(backlog.list, backlog.cap,
			    sizeof *backlog.list);
		}
	}
	backlog.list[backlog.first + backlog.n++] =
	    (struct found){ id, place };
}

static bool
intake_new(void)
{
	struct message *m;
	struct found f;

	if (sealed != NULL) {
		m = sealed;
		sealed = m->next;
		if (sealed == NULL)
			sealed_end = &sealed;
		m->next = NULL;
		message_activate(m);
		return true;
	}
	while (backlog.n > 0) {
		f = backlog.list[backlog.first++];
		backlog.n--;
		if (known_find(f.id) != NULL)
			continue;
		intake_load(f.id, f.place);
		return true;
	}
	backlog.first = 0;
	return false;
}

static bool
intake_old(void)
{
	struct deferred *d;
	struct queue_id id;

	if (heap.n == 0 || heap.at[0]->next.us > clock_wall().us)
		return false;
	d = heap.at[0];
	id = d->known.id;
	intake_forget(d);
	intake_load(id, PLACE_DEFERRED);
	return true;
}

/* How many recipients the next message has is seen when it is read: the last
 * one taken may go beyond the limit. */
bool
intake_room(void)
{
	return qmgr.active + loading + tables_asking() <
	    qmgr.active_limit &&
	    qmgr.recipients <
	    (uint64_t)qmgr.cf->qmgr_message_recipient_limit;
}

static void
intake_take(void *arg)
{
	bool took;

	(void)arg;
	if (!qmgr.started || qmgr.stopping || qmgr.handed_over)
		return;
	while (loading < LOADS_MAX && intake_room()) {
		took = deferred_turn ? intake_old() || intake_new() :
		    intake_new() || intake_old();
		deferred_turn = !deferred_turn;
		if (!took)
			break;
	}
	intake_set_due();
}

void
intake_more(void)
{
	loop_soon(&more_work);
}

/* Sealed, but the active queue is full.  What has a file is read again, so
 * that what waits costs no memory and no descriptor. */
void
intake_waiting(struct message *m)
{
	struct queue_id id = m->known.id;
	enum spool_place place = m->place;

	m->next = NULL;
	if (m->segment == NULL && !m->status_changed) {
		message_free(&m);
		if (place == PLACE_DEFERRED)
			intake_deferred(id, clock_wall());
		else
			intake_add(id, place);
		return;
	}
	*sealed_end = m;
	sealed_end = &m->next;
}

void
intake_unwait(struct message *m)
{
	struct message **p;

	for (p = &sealed; *p != m; p = &(*p)->next)
		if (*p == NULL)
			return;
	*p = m->next;
	if (*p == NULL)
		sealed_end = p;
	m->next = NULL;
}

static void
intake_due(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	intake_more();
}

/* --- the walk ---------------------------------------------------------------- */

static void
intake_name(struct queue_id id, enum spool_place place, void *arg)
{
	struct wall next;

	(void)arg;
	if (known_find(id) != NULL)
		return;
	if (place != PLACE_DEFERRED)
		intake_add(id, place);
	else if (spool_next_time(&qmgr.spool, id, place, &next) == 0) {
		if (flush_found)
			next.us = 0;
		intake_deferred(id, next);
	}
}

void
intake_found(struct queue_id id)
{
	enum spool_place p;

	for (p = PLACE_INCOMING; p <= PLACE_DEFERRED; p++)
		if (spool_exists(&qmgr.spool, id, p)) {
			intake_name(id, p, NULL);
			break;
		}
	intake_more();
}

static void
intake_walk(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval now;

	(void)fd;
	(void)what;
	(void)arg;
	if (qmgr.stopping || qmgr.handed_over) {
		spool_walk_free(&walk);
		return;
	}
	if (walk == NULL)
		walk = spool_walk_new(&qmgr.spool, walk_place);
	if (!spool_walk_next(walk, WALK_STEP, intake_name, NULL)) {
		spool_walk_free(&walk);
		walk_place++;
	}
	intake_more();
	if (walk_place <= PLACE_DEFERRED)
		event_add(&walk_timer, &now);
	else {
		walking = flush_found = false;
		event_add(&rescan_timer,
		    loop_timeout(qmgr.cf->queue_run_delay));
	}
}

static void
intake_rescan(evutil_socket_t fd, short what, void *arg)
{
	/* What an administrator put there by hand is found.  What waits for
	 * room need not be found again. */
	walking = true;
	walk_place = backlog.n > 0 ? PLACE_DEFERRED : PLACE_INCOMING;
	intake_walk(fd, what, arg);
}

void
intake_rescan_now(void)
{
	/* A walk that runs already began before: another one follows it. */
	event_add(&rescan_timer, loop_timeout(walk != NULL ? 1000 : 1));
}

void
intake_init(void)
{
	more_work.fn = intake_take;
	evtimer_assign(&walk_timer, loop_base(), intake_walk, NULL);
	evtimer_assign(&due_timer, loop_base(), intake_due, NULL);
	evtimer_assign(&rescan_timer, loop_base(), intake_rescan, NULL);
}

void
intake_start(void)
{
	walk_place = PLACE_INCOMING;
	intake_walk(-1, 0, NULL);
}

static void
intake_stop_parked(struct dest *d, void *arg)
{
	struct parked *p;

	(void)arg;
	while ((p = dest_unpark(d)) != NULL)
		intake_unpark(p, 0);
}

void
intake_stop(void)
{
	struct message *m;

	while ((m = sealed) != NULL) {
		sealed = m->next;
		message_free(&m);
	}
	sealed_end = &sealed;
	tables_stop();
	backlog.n = backlog.first = 0;
	sched_each_parked(qmgr.sched, intake_stop_parked, NULL);
	while (heap.n > 0)
		intake_forget(heap.at[0]);
	spool_walk_free(&walk);
}

size_t
intake_backlog(void)
{
	const struct message *m;
	size_t n = backlog.n;

	for (m = sealed; m != NULL; m = m->next)
		n++;
	return n;
}

void
intake_status(struct buf *b)
{
	(void)buf_printf(b, "incoming %zu\nactive %u\nactive_recipients "
	    "%llu\ndeferred %zu\naside %zu\n", intake_backlog(),
	    qmgr.active, (unsigned long long)qmgr.recipients,
	    heap.n + n_parked, n_parked);
}
