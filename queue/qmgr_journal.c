/*
 * The journal in use: messages are made durable in groups, while one group is
 * synced the next one gathers; segments take turns.  What does not fit - no
 * segment is free, too much text is in memory - is written as a file, the
 * plain way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/qmgr.h"
#include "queue/spool_path.h"

#define MEMORY_TEXT_MAX	(128u << 20)	/* of messages in the journal */
#define TICK_MS		1000
#define CREATE_AGAIN_US	5000000	/* after a segment could not be made */

static struct {
	int dir;			/* -1: no journal */
	struct journal_segment *segments, *now;
	unsigned n_segments;
	uint64_t epoch;			/* of the last reset */
	struct message *pending, **pending_end;
	bool running;			/* a group is being written */
	bool ready;			/* the first segment is there */
	struct mono create_again;
	struct event tick;
	uint64_t groups, messages;
} journal = { .dir = -1, .pending_end = &journal.pending };

/* -- one group --------------------------------------------------------------- */

static struct group {
	struct pool_job job;
	struct message *list;
	struct journal_entry *entries;
	size_t n, cap;
	struct journal_segment *segment;
	bool create, reset;
	char name[64];
	uint64_t epoch;
	int error;
} group;

static void
group_work(struct pool_job *j)
{
	(void)j;
	group.error = 0;
	if (group.create) {
		group.segment = mem_alloc(sizeof *group.segment);
		group.error = journal_create(journal.dir, group.name,
		    (uint64_t)qmgr.cf->queue_journal_segment_size,
		    group.segment);
		if (group.error != 0) {
			free(group.segment);
			group.segment = NULL;
			return;
		}
	}
	if (group.reset)
		group.error = journal_reset(group.segment, group.epoch);
	if (group.error == 0 && group.n > 0) {
		group.error = journal_commit(group.segment, group.entries,
		    group.n);
		if (group.error != 0)
			journal_void(group.segment, group.entries, group.n);
	}
}

static struct journal_segment *
segment_free(void)
{
	struct journal_segment *s;

	for (s = journal.segments; s != NULL; s = s->next)
		if (s != journal.now && s->live == 0 && !s->bad)
			return s;
	return NULL;
}

int
journal_to_file(struct message *m, const char *status)
{
	struct spool_tail t = m->tail;
	int rc, tries = 2;

	t.status = view_make(status, t.nrcpts);
	do {
		rc = spool_seal(&qmgr.spool, m->known.id, PLACE_INCOMING, -1,
		    m->fd, 0, m->text_size, m->arrival, &t, NULL);
		/* Left by an attempt that failed: the record counts. */
	} while (rc == EEXIST && --tries > 0 && spool_unlink(&qmgr.spool,
	    m->known.id, PLACE_INCOMING) == 0);
	return rc;
}

static void
evict_end(struct message *m)
{
	free(m->moved_status);
	m->moved_status = NULL;
	m->evicting = false;
	if (m->finish_waits) {
		m->finish_waits = false;
		message_finish(m);
	}
}

static void evict_done(struct pool_job *j);

static void
evict_mark_work(struct pool_job *j)
{
	struct message *m =
	    (struct message *)((char *)j - offsetof(struct message, job));

	m->error = spool_write_status(&qmgr.spool, m->known.id,
	    PLACE_INCOMING, view_make(m->moved_status, m->tail.nrcpts),
	    spool_status_offset(m->text_size, &m->tail));
}

static void
evict_done(struct pool_job *j)
{
	struct message *m =
	    (struct message *)((char *)j - offsetof(struct message, job));

	if (m->error != 0) {
		log_error("%s: cannot move from the journal to a file: %s",
		    message_id(m), strerror(m->error));
		(void)spool_unlink(&qmgr.spool, m->known.id, PLACE_INCOMING);
		evict_end(m);
		return;
	}
	/* Who is done since then is so in the record only. */
	if (memcmp(m->moved_status, m->status, m->tail.nrcpts) != 0) {
		memcpy(m->moved_status, m->status, m->tail.nrcpts);
		m->job.work = evict_mark_work;
		pool_submit(&m->job);
		return;
	}
	journal_finish(m);
	m->place = PLACE_INCOMING;
	m->status_offset = spool_status_offset(m->text_size, &m->tail);
	if (spool_rename(&qmgr.spool, m->known.id, PLACE_INCOMING,
	    PLACE_ACTIVE) == 0)
		m->place = PLACE_ACTIVE;
	evict_end(m);
}

static void
evict_work(struct pool_job *j)
{
	struct message *m =
	    (struct message *)((char *)j - offsetof(struct message, job));

	m->error = journal_to_file(m, m->moved_status);
}

struct evict {
	struct journal_segment *segment;
	unsigned n;
};

static void
evict_one(struct known *k, void *arg)
{
	struct message *m = (struct message *)k;
	struct evict *e = arg;

	if (k->state != M_ACTIVE || m->segment != e->segment || m->evicting ||
	    e->n == 0)
		return;
	e->n--;
	m->evicting = true;
	m->moved_status = mem_copy(view_make(m->status, m->tail.nrcpts));
	m->job.work = evict_work;
	m->job.done = evict_done;
	pool_submit(&m->job);
}

static void
segment_evict(struct journal_segment *s)
{
	struct evict e = { s, 1000 };

	known_each(evict_one, &e);
}

/* All segments hold somebody back: free the one with the fewest. */
static void
journal_evict(void)
{
	struct journal_segment *s, *best = NULL;

	for (s = journal.segments; s != NULL; s = s->next)
		if (s != journal.now && !s->bad &&
		    (best == NULL || s->live < best->live))
			best = s;
	if (best != NULL)
		segment_evict(best);
}

static void group_done(struct pool_job *j);

/* Choose where the group goes; false: nowhere now. */
static bool
group_segment(uint64_t bytes)
{
	struct journal_segment *s = journal.now;

	group.create = group.reset = false;
	group.segment = s;
	if (s != NULL && !s->bad && s->size - s->end >= bytes)
		return true;
	group.reset = true;
	group.epoch = (uint64_t)clock_wall().us;
	if (group.epoch <= journal.epoch)
		group.epoch = journal.epoch + 1;
	journal.epoch = group.epoch;
	group.segment = segment_free();
	if (group.segment != NULL)
		return true;
	if (journal.n_segments >= (unsigned)qmgr.cf->queue_journal_segments) {
		journal_evict();
		return false;
	}
	/* To try takes the room that others need. */
	if (loop_now().us < journal.create_again.us)
		return false;
	group.create = true;
	snprintf(group.name, sizeof group.name, "%llx.%d",
	    (unsigned long long)group.epoch, (int)getpid());
	return true;
}

static struct message *
pending_take(void)
{
	struct message *m = journal.pending;

	journal.pending = m->next;
	if (journal.pending == NULL)
		journal.pending_end = &journal.pending;
	m->next = NULL;
	return m;
}

static void
group_start(void)
{
	uint64_t bytes = JOURNAL_BLOCK, size;
	struct journal_entry e;
	struct message *m, **end;

	if (journal.running || journal.pending == NULL)
		return;
	group.n = 0;
	group.list = NULL;
	end = &group.list;
	while ((m = journal.pending) != NULL) {
		e = (struct journal_entry){ .id = m->known.id,
			.arrival = m->arrival, .text = m->fd,
			.text_size = m->text_size, .tail = &m->tail };
		size = journal_entry_size(&e);
		if (group.n > 0 && bytes + size > JOURNAL_GROUP_MAX)
			break;
		bytes += size;
		(void)pending_take();
		*end = m;
		end = &m->next;
		if (group.n == group.cap) {
			group.cap = group.cap * 2 + 64;
			group.entries = mem_resize(group.entries, group.cap,
			    sizeof *group.entries);
		}
		group.entries[group.n++] = e;
	}
	if (!group_segment(bytes)) {
		/* The plain way for these, and for those behind them. */
		while ((m = group.list) != NULL) {
			group.list = m->next;
			m->next = NULL;
			writer_seal_file(m);
		}
		while (journal.pending != NULL)
			writer_seal_file(pending_take());
		return;
	}
	journal.running = true;
	group.job.work = group_work;
	group.job.done = group_done;
	pool_submit(&group.job);
}

static void
group_failed(void)
{
	struct message *m;

	log_error("journal: cannot write: %s", strerror(group.error));
	if (group.segment == NULL) {
		journal.create_again = loop_now();
		journal.create_again.us += CREATE_AGAIN_US;
	}
	/* The kernel may have dropped what it could not write: nothing of this
	 * segment is written again, and these go the plain way. */
	if (group.segment == journal.now)
		journal.now = NULL;
	while ((m = group.list) != NULL) {
		group.list = m->next;
		m->next = NULL;
		writer_seal_file(m);
	}
}

static void
group_done(struct pool_job *j)
{
	struct journal_segment *s = group.segment;
	struct message *m;
	size_t i = 0;

	(void)j;
	journal.running = false;
	ensure(s != NULL || group.error != 0);
	if (group.create && s != NULL) {
		s->next = journal.segments;
		journal.segments = s;
		journal.n_segments++;
	}
	if (group.error != 0) {
		group_failed();
		group_start();
		return;
	}
	journal.now = s;
	journal.ready = true;
	journal.groups++;
	while ((m = group.list) != NULL) {
		group.list = m->next;
		m->next = NULL;
		m->segment = s;
		m->status_offset = group.entries[i++].status_offset;
		s->live++;
		qmgr.memory_text += m->text_size;
		journal.messages++;
		writer_sealed(m);
	}
	group_start();
}

bool
journal_takes(const struct message *m)
{
	return journal.ready && !m->hold && !m->copied &&
	    !qmgr.handed_over && intake_room() &&
	    qmgr.memory_text + m->text_size <= MEMORY_TEXT_MAX &&
	    m->text_size + m->tail.envelope.n + m->tail.edits.n <
	    JOURNAL_GROUP_MAX / 4;
}

void
journal_append(struct message *m)
{
	m->next = NULL;
	*journal.pending_end = m;
	journal.pending_end = &m->next;
	group_start();
}

/* Records that should be finished, but the write failed. */
struct unfinished {
	struct unfinished *next;
	struct journal_segment *segment;
	uint64_t offset;
	size_t n;
	char status[];
};
static struct unfinished *unfinished;

static bool
unfinished_write(const struct unfinished *u)
{
	if (spool_write(u->segment->fd, u->status, u->n, u->offset) != 0)
		return false;
	u->segment->dirty = true;
	ensure(u->segment->live > 0);
	u->segment->live--;
	return true;
}

static void
unfinished_again(void)
{
	struct unfinished **p = &unfinished, *u;

	while ((u = *p) != NULL) {
		if (unfinished_write(u)) {
			*p = u->next;
			free(u);
		} else
			p = &u->next;
	}
}

/* m has another place now, or none: its record is finished. */
void
journal_finish(struct message *m)
{
	struct unfinished *u;
	size_t i;

	if (m->segment == NULL)
		return;
	u = mem_alloc(sizeof *u + m->tail.nrcpts);
	u->segment = m->segment;
	u->offset = m->status_offset;
	u->n = m->tail.nrcpts;
	/* D says that somebody is done, which is true wherever it is. */
	for (i = 0; i < u->n; i++)
		u->status[i] = m->status[i] == 'D' ? 'D' : 'M';
	if (unfinished_write(u))
		free(u);
	else {
		if (unfinished == NULL)
			log_error("%s: cannot mark as finished in the journal:"
			    " %s", message_id(m), strerror(errno));
		u->next = unfinished;
		unfinished = u;
	}
	journal_leave(m);
}

void
journal_leave(struct message *m)
{
	if (m->segment == NULL)
		return;
	/* The record counts as live until journal_finish(). */
	m->segment = NULL;
	qmgr.memory_text -= m->text_size;
}

/* -- once a second: what was marked becomes durable ---------------------------- */

#define MARKS_MAX	256u

/* Queue files with new status bytes. */
static struct marks {
	int fd[MARKS_MAX];
	unsigned n;
	bool more;		/* than fit */
} marks;

static struct {
	struct pool_job job;
	bool running;
	uint32_t places;	/* 1 << place */
	struct journal_segment *list[64], *drop[64];
	size_t n, n_drop;
	struct marks marks;
	int error;
} sync_run;

void
journal_sync_later(int fd)
{
	if (marks.n < MARKS_MAX)
		marks.fd[marks.n++] = fd;
	else {
		marks.more = true;
		close(fd);
	}
}

static void
sync_marks(struct marks *k)
{
	while (k->n > 0) {
		if (fdatasync(k->fd[--k->n]) != 0)
			sync_run.error = errno;
		close(k->fd[k->n]);
	}
	if (k->more && syncfs(qmgr.spool.dir[PLACE_ACTIVE]) != 0)
		sync_run.error = errno;
}

static void
sync_work(struct pool_job *j)
{
	size_t i;
	int rc;

	(void)j;
	sync_run.error = 0;
	for (i = 0; i < sync_run.n; i++)
		if ((rc = journal_sync(sync_run.list[i])) != 0)
			sync_run.error = rc;
	for (i = 0; i < sync_run.n_drop; i++)
		(void)unlinkat(journal.dir, sync_run.drop[i]->name, 0);
	if (sync_run.n_drop > 0)
		(void)spool_sync_fd(journal.dir);
	sync_marks(&sync_run.marks);
	for (i = PLACE_INCOMING; i < PLACES; i++)
		if ((sync_run.places & 1u << i) != 0 && (rc =
		    spool_sync_place(&qmgr.spool, (enum spool_place)i)) != 0)
			sync_run.error = rc;
}

static void
sync_done(struct pool_job *j)
{
	size_t i;

	(void)j;
	sync_run.running = false;
	if (sync_run.error != 0)
		log_error("cannot sync finished messages: %s",
		    strerror(sync_run.error));
	for (i = 0; i < sync_run.n; i++)
		if (sync_run.list[i]->sync_failed != 0)
			sync_run.list[i]->bad = true;
	if (journal.now != NULL && journal.now->bad)
		journal.now = NULL;
	for (i = 0; i < sync_run.n_drop; i++) {
		close(sync_run.drop[i]->fd);
		free(sync_run.drop[i]);
	}
}

/* What cannot be trusted any more is emptied, and then removed. */
static void
segments_drop_bad(void)
{
	struct journal_segment **p = &journal.segments, *s;

	while ((s = *p) != NULL) {
		if (!s->bad || (journal.running && group.segment == s)) {
			p = &s->next;
			continue;
		}
		if (s->live > 0 || sync_run.n_drop == 64) {
			segment_evict(s);
			p = &s->next;
			continue;
		}
		*p = s->next;
		journal.n_segments--;
		sync_run.drop[sync_run.n_drop++] = s;
	}
}

static void
sync_tick(evutil_socket_t fd, short what, void *arg)
{
	struct journal_segment *s;

	(void)fd;
	(void)what;
	(void)arg;
	event_add(&journal.tick, loop_timeout(TICK_MS));
	if (sync_run.running)
		return;
	unfinished_again();
	sync_run.n = sync_run.n_drop = 0;
	segments_drop_bad();
	sync_run.marks = marks;
	marks = (struct marks){ 0 };
	for (s = journal.segments; s != NULL && sync_run.n < 64; s = s->next)
		if (s->dirty && !s->bad) {
			s->dirty = false;
			sync_run.list[sync_run.n++] = s;
		}
	sync_run.places = qmgr.changed |
	    (qmgr.unlinked ? 1u << PLACE_ACTIVE : 0);
	qmgr.unlinked = false;
	qmgr.changed = 0;
	if (sync_run.n == 0 && sync_run.places == 0 && sync_run.n_drop == 0 &&
	    sync_run.marks.n == 0 && !sync_run.marks.more)
		return;
	sync_run.running = true;
	sync_run.job.work = sync_work;
	sync_run.job.done = sync_done;
	pool_submit(&sync_run.job);
}

/* -- life ------------------------------------------------------------------------ */

void
journal_load(void)
{
	char *path = mem_printf("%s/journal", qmgr.cf->queue_directory);

	/* It is opened even if it is not to be used: an earlier one may have
	 * left messages there. */
	journal.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (journal.dir < 0 && qmgr.cf->queue_journal)
		log_warn("%s: %s: messages are written as files", path,
		    strerror(errno));
	free(path);
}

int
journal_dir(void)
{
	return journal.dir;
}

void
journal_start(void)
{
	evtimer_assign(&journal.tick, loop_base(), sync_tick, NULL);
	event_add(&journal.tick, loop_timeout(TICK_MS));
	if (journal.dir < 0 || !qmgr.cf->queue_journal)
		return;
	/* An empty group makes the first segment. */
	group.n = 0;
	if (!group_segment(JOURNAL_BLOCK))
		return;
	journal.running = true;
	group.job.work = group_work;
	group.job.done = group_done;
	pool_submit(&group.job);
}

/* Before the process ends: what is marked shall not come back. */
void
journal_end(void)
{
	struct journal_segment *s;
	int rc;

	unfinished_again();
	for (s = journal.segments; s != NULL; s = s->next)
		if (s->dirty && !s->bad && (rc = journal_sync(s)) != 0)
			log_error("journal: cannot sync: %s", strerror(rc));
}

void
journal_status(struct buf *b)
{
	const struct journal_segment *s;
	unsigned live = 0;

	for (s = journal.segments; s != NULL; s = s->next)
		live += s->live;
	(void)buf_printf(b, "journal_segments %u\njournal_messages %u\n"
	    "journal_groups %llu\njournal_total %llu\n", journal.n_segments,
	    live, (unsigned long long)journal.groups,
	    (unsigned long long)journal.messages);
}
