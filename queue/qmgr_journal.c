/*
 * The journal in use: messages are made durable in groups, while one group is
 * synced the next one gathers; segments take turns.  What does not fit - no
 * segment is free, too much text is in memory - is written as a file, the
 * plain way.
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/qmgr.h"

#define MEMORY_TEXT_MAX	(128u << 20)	/* of messages in the journal */
#define TICK_MS		1000

static struct {
	int dir;			/* -1: no journal */
	struct journal_segment *segments, *now;
	unsigned n_segments;
	uint64_t epoch;			/* of the last reset */
	struct message *pending, **pending_end;
	bool running;			/* a group is being written */
	bool ready;			/* the first segment is there */
	bool scanning;
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
	struct journal_segment created;
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
		group.error = journal_create(journal.dir, group.name,
		    (uint64_t)qmgr.cf->queue_journal_segment_size,
		    &group.created);
		if (group.error != 0)
			return;
		group.segment = mem_alloc(sizeof *group.segment);
		*group.segment = group.created;
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

static void
evict_done(struct pool_job *j)
{
	struct message *m =
	    (struct message *)((char *)j - offsetof(struct message, job));

	m->evicting = false;
	if (m->error != 0)
		log_error("%s: cannot move from the journal to a file: %s",
		    message_id(m), strerror(m->error));
	else {
		journal_finish(m);
		m->place = PLACE_INCOMING;
		m->status_offset = spool_status_offset(m->text_size,
		    &m->tail);
		if (spool_rename(&qmgr.spool, m->known.id, PLACE_INCOMING,
		    PLACE_ACTIVE) == 0)
			m->place = PLACE_ACTIVE;
		/* Recipients that were finished meanwhile. */
		if (m->status_changed)
			message_mark(m);
	}
	if (m->finish_waits) {
		m->finish_waits = false;
		message_finish(m);
	}
}

static void
evict_work(struct pool_job *j)
{
	struct message *m =
	    (struct message *)((char *)j - offsetof(struct message, job));

	m->error = spool_seal(&qmgr.spool, m->known.id, PLACE_INCOMING, -1,
	    m->fd, 0, m->text_size, m->arrival, &m->tail, NULL);
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
	m->job.work = evict_work;
	m->job.done = evict_done;
	pool_submit(&m->job);
}

/* All segments hold somebody back: free the one with the fewest. */
static void
journal_evict(void)
{
	struct journal_segment *s, *best = NULL;
	struct evict e;

	for (s = journal.segments; s != NULL; s = s->next)
		if (s != journal.now && !s->bad &&
		    (best == NULL || s->live < best->live))
			best = s;
	if (best == NULL)
		return;
	e = (struct evict){ best, 1000 };
	known_each(evict_one, &e);
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

/* m has another place now, or none: its record is finished. */
void
journal_finish(struct message *m)
{
	struct journal_segment *s = m->segment;
	char small[64], *p = small;

	if (s == NULL)
		return;
	if (m->tail.nrcpts > sizeof small)
		p = mem_alloc(m->tail.nrcpts);
	memset(p, 'D', m->tail.nrcpts);
	if (pwrite(s->fd, p, m->tail.nrcpts, (off_t)m->status_offset) !=
	    (ssize_t)m->tail.nrcpts)
		log_error("%s: cannot mark as finished in the journal: %s",
		    message_id(m), strerror(errno));
	if (p != small)
		free(p);
	s->dirty = true;
	journal_leave(m);
}

void
journal_leave(struct message *m)
{
	if (m->segment == NULL)
		return;
	ensure(m->segment->live > 0);
	m->segment->live--;
	m->segment = NULL;
	qmgr.memory_text -= m->text_size;
}

/* -- once a second: what was marked becomes durable ---------------------------- */

static struct {
	struct pool_job job;
	bool running, active_dir;
	struct journal_segment *list[64];
	size_t n;
	int error;
} sync_run;

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
	if (sync_run.active_dir &&
	    (rc = spool_sync_place(&qmgr.spool, PLACE_ACTIVE)) != 0)
		sync_run.error = rc;
}

static void
sync_done(struct pool_job *j)
{
	(void)j;
	sync_run.running = false;
	if (sync_run.error != 0)
		log_error("cannot sync finished messages: %s",
		    strerror(sync_run.error));
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
	sync_run.n = 0;
	for (s = journal.segments; s != NULL && sync_run.n < 64; s = s->next)
		if (s->dirty && !s->bad) {
			s->dirty = false;
			sync_run.list[sync_run.n++] = s;
		}
	sync_run.active_dir = qmgr.unlinked;
	qmgr.unlinked = false;
	if (sync_run.n == 0 && !sync_run.active_dir)
		return;
	sync_run.running = true;
	sync_run.job.work = sync_work;
	sync_run.job.done = sync_done;
	pool_submit(&sync_run.job);
}

/* -- what an earlier queue manager left ----------------------------------------- */

struct remains {
	struct pool_job job;
	int fd;
	unsigned moved, failed;
	int error;
	char name[256];
};
static unsigned remains_running;
static void (*remains_then)(void);

/* Is there a complete file of it?  What is incomplete is removed. */
static bool
remains_known(struct queue_id id)
{
	struct spool_file f;
	enum spool_place p;
	int rc;

	for (p = PLACE_INCOMING; p <= PLACE_HOLD; p++) {
		rc = spool_read(&qmgr.spool, id, p, &f);
		if (rc == 0) {
			free(f.bytes);
			close(f.fd);
			return true;
		}
		if (rc == EBADMSG)
			(void)spool_unlink(&qmgr.spool, id, p);
	}
	return false;
}

static void
remains_one(const struct journal_record *r, void *arg)
{
	struct remains *w = arg;
	struct envelope e;
	struct arena *a;
	bool ok;
	int rc;

	if (remains_known(r->id))
		return;
	a = arena_new(r->tail.envelope.n * 16 + 65536);
	ok = envelope_get(r->tail.envelope, a, &e) &&
	    e.nrcpts == r->tail.nrcpts;
	arena_free(&a);
	rc = !ok ? EBADMSG : spool_seal(&qmgr.spool, r->id, PLACE_INCOMING,
	    -1, w->fd, r->text_offset, r->text_size, r->arrival, &r->tail,
	    NULL);
	if (rc == 0)
		w->moved++;
	else {
		w->failed++;
		w->error = rc;
	}
}

static void
remains_work(struct pool_job *j)
{
	struct remains *w = (struct remains *)j;
	int rc = journal_scan(w->fd, remains_one, w);

	if (rc != 0 && rc != EBADMSG)
		w->error = rc;
	/* Only now: until each is a file, the segment is all there is. */
	if (w->error == 0 && unlinkat(journal.dir, w->name, 0) != 0)
		w->error = errno;
}

static void
remains_done(struct pool_job *j)
{
	struct remains *w = (struct remains *)j;

	if (w->moved > 0)
		log_info("journal: %u messages recovered from %s", w->moved,
		    w->name);
	if (w->error != 0)
		log_error("journal: %s: %u messages not recovered: %s",
		    w->name, w->failed, strerror(w->error));
	close(w->fd);
	free(w);
	if (--remains_running == 0 && remains_then != NULL)
		remains_then();
}

static void
remains_segment(const char *name)
{
	struct remains *w;
	int fd = openat(journal.dir, name,
	    O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return;
	/* Locked: ours, or of another queue manager that is alive. */
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		close(fd);
		return;
	}
	w = mem_alloc(sizeof *w);
	w->fd = fd;
	snprintf(w->name, sizeof w->name, "%s", name);
	w->job.work = remains_work;
	w->job.done = remains_done;
	remains_running++;
	pool_submit(&w->job);
}

/* A hidden name without a lock for a while is nobody's any more. */
static bool
remains_stale(const char *name)
{
	struct stat st;

	return fstatat(journal.dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) &&
	    (int64_t)st.st_mtim.tv_sec * 1000000 <
	    clock_wall().us - INT64_C(600000000);
}

void
journal_recover(void (*then)(void))
{
	struct dirent *e;
	DIR *d = NULL;
	int fd = -1;

	remains_then = then;
	if (journal.dir >= 0)
		fd = openat(journal.dir, ".",
		    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		d = fdopendir(fd);
	while (d != NULL && (e = readdir(d)) != NULL) {
		if (e->d_name[0] != '.')
			remains_segment(e->d_name);
		else if (strlen(e->d_name) > 2 && remains_stale(e->d_name))
			/* Half made when its maker died. */
			(void)unlinkat(journal.dir, e->d_name, 0);
	}
	if (d != NULL)
		closedir(d);
	if (remains_running == 0)
		then();
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

	for (s = journal.segments; s != NULL; s = s->next)
		if (s->dirty && !s->bad && journal_sync(s) != 0)
			log_error("journal: cannot sync: %s",
			    strerror(errno));
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
