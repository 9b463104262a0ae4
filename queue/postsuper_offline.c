/*
 * The spool without a queue manager.  A lock that each queue manager holds
 * says that there is none, and keeps one from starting meanwhile.
 *
 * What an earlier one left in its journal counts as mail too.  A file beside
 * a live record of the same message is the message; but without it the record
 * would bring the message back, so what is deleted is finished there as well.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/postsuper.h"
#include "queue/spool_journal.h"

#define QMGR_LOCK	"pid/qmgr.lock"
#define SEGMENTS_MAX	1024u
#define LOCK_TRIES	40u
#define STALE_S		600

struct record {
	struct queue_id id;
	int fd;				/* of its segment */
	uint64_t status_at;
	uint32_t nrcpts;
};

struct offline {
	const struct conf *cf;
	struct spool spool;
	struct router *router;
	int lock;
	uid_t uid;
	gid_t gid;
	uint32_t changed;		/* 1 << place */
	int journal;
	int segment[SEGMENTS_MAX];
	unsigned n_segments;
	struct record *records;
	size_t n_records;
};

struct segment_scan {
	struct offline *o;
	int fd;
	/* for one id: */
	struct queue_id id;
	enum spool_place place;
	int error;
	/* for a list: */
	const struct queue_match *match;
	queue_each *each;
	void *arg;
};

/* -- journal -------------------------------------------------------------- */

/* Not finished: see queue/STATES.md. */
static bool
record_live(const struct journal_record *r)
{
	struct view s = r->tail.status;
	bool open = false;
	size_t i;

	for (i = 0; i < s.n; i++) {
		if (s.p[i] == 'M')
			return false;
		open = open || s.p[i] != SPOOL_DONE;
	}
	return open;
}

static void
record_add(const struct journal_record *r, void *arg)
{
	struct segment_scan *s = arg;
	struct offline *o = s->o;

	if (!record_live(r))
		return;
	if ((o->n_records & (o->n_records + 1)) == 0)
		o->records = mem_resize(o->records, o->n_records * 2 + 2,
		    sizeof *o->records);
	/* The status bytes are the end of the tail, before the text. */
	o->records[o->n_records++] = (struct record){ r->id, s->fd,
		r->text_offset - r->tail.nrcpts, r->tail.nrcpts };
}

static int
record_order(const void *a, const void *b)
{
	const struct record *x = a, *y = b;

	return x->id.n < y->id.n ? -1 : x->id.n > y->id.n;
}

static struct record *
record_find(const struct offline *o, struct queue_id id)
{
	struct record key = { .id = id };

	return o->n_records == 0 ? NULL : bsearch(&key, o->records,
	    o->n_records, sizeof key, record_order);
}

static void
journal_open(struct offline *o)
{
	struct segment_scan s = { .o = o };
	struct dirent *e;
	DIR *d;
	int fd;

	o->journal = open("journal", O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
	    O_CLOEXEC);
	if (o->journal < 0 || (d = opendir("journal")) == NULL)
		return;
	while ((e = readdir(d)) != NULL && o->n_segments < SEGMENTS_MAX) {
		if (e->d_name[0] == '.')
			continue;
		fd = openat(o->journal, e->d_name,
		    O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
			close(fd);
			continue;
		}
		o->segment[o->n_segments++] = fd;
		s.fd = fd;
		(void)journal_scan(fd, record_add, &s);
	}
	closedir(d);
	if (o->n_records > 1)
		qsort(o->records, o->n_records, sizeof *o->records,
		    record_order);
}

/* Nothing brings it back: all its recipients count as done. */
static bool
record_finish(struct record *r)
{
	char *done = mem_alloc(r->nrcpts + 1u);
	bool ok;

	memset(done, 'D', r->nrcpts);
	ok = pwrite(r->fd, done, r->nrcpts, (off_t)r->status_at) ==
	    (ssize_t)r->nrcpts && fdatasync(r->fd) == 0;
	free(done);
	if (!ok)
		log_error("cannot write to the journal: %s", strerror(errno));
	return ok;
}

static void
record_seal(const struct journal_record *r, void *arg)
{
	struct segment_scan *s = arg;
	struct offline *o = s->o;
	int fd;

	if (r->id.n != s->id.n || s->error == 0 || !record_live(r))
		return;
	s->error = spool_seal(&o->spool, r->id, s->place, -1, s->fd,
	    r->text_offset, r->text_size, r->arrival, &r->tail, &fd);
	if (s->error != 0)
		return;
	if (geteuid() == 0 && fchown(fd, o->uid, o->gid) != 0)
		s->error = errno;
	close(fd);
}

/* It gets a file of its own in this place. */
static int
record_to_file(struct offline *o, struct record *r, enum spool_place place)
{
	struct segment_scan s = { .o = o, .fd = r->fd, .id = r->id,
		.place = place, .error = ENOENT };

	(void)journal_scan(r->fd, record_seal, &s);
	return s.error;
}

static void
record_list(const struct journal_record *r, void *arg)
{
	struct segment_scan *s = arg;
	struct queue_entry e = {
		.id = r->id, .place = PLACE_INCOMING, .in_memory = true,
		.arrival = r->arrival, .text_size = r->text_size,
		.route = r->tail.route, .edits = r->tail.edits,
		.envelope = r->tail.envelope, .status = r->tail.status,
	};
	enum spool_place p;
	struct arena *a;

	if (!record_live(r))
		return;
	for (p = PLACE_INCOMING; p <= PLACE_HOLD; p++)
		if (spool_settle(&s->o->spool, r->id, p))
			return;
	a = arena_new(queue_entry_room(&e));
	if (queue_entry_decode(&e, a) && match_entry(s->match, &e,
	    s->o->router, clock_wall()))
		s->each(&e, s->arg);
	arena_free(&a);
}

/* -- files ---------------------------------------------------------------- */

static void
offline_report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		log_error("%s", text);
}

struct offline *
offline_open(const struct conf *cf)
{
	struct offline *o = mem_alloc(sizeof *o);
	struct passwd *pw;
	unsigned tries;

	o->cf = cf;
	o->uid = geteuid();
	o->gid = getegid();
	if (chdir(cf->queue_directory) != 0)
		queue_fatal(EXIT_SYSTEM, "%s: %s", cf->queue_directory,
		    strerror(errno));
	o->lock = open(QMGR_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
	    0600);
	if (o->lock < 0)
		queue_fatal(EXIT_NO_PERM, "use of this command is reserved "
		    "for the superuser: %s", strerror(errno));
	/* A master that was stopped may hold it for an instant more. */
	for (tries = 0; flock(o->lock, LOCK_EX | LOCK_NB) != 0; tries++) {
		if (tries < LOCK_TRIES) {
			usleep(50000);
			continue;
		}
		queue_fatal(EXIT_UNAVAILABLE, "a queue manager is running, "
		    "but the mail system does not answer");
	}
	if (geteuid() == 0) {
		pw = getpwnam(cf->mail_owner);
		if (pw == NULL)
			queue_fatal(EXIT_NO_USER, "no such account: %s",
			    cf->mail_owner);
		o->uid = pw->pw_uid;
		o->gid = pw->pw_gid;
	}
	if (spool_open(&o->spool, cf->queue_directory,
	    cf->hash_queue_names) != 0)
		queue_fatal(EXIT_SYSTEM, "cannot open the spool %s",
		    cf->queue_directory);
	/* Without own addresses, which only matter for user@[address]. */
	o->router = router_open(cf, NULL, 0, offline_report, NULL);
	journal_open(o);
	return o;
}

void
offline_list(struct offline *o, const struct queue_match *m,
    queue_each *each, void *arg)
{
	struct segment_scan s = { .o = o, .match = m, .each = each,
		.arg = arg };
	unsigned i;

	(void)queue_scan(&o->spool, m, o->router, each, arg);
	for (i = 0; i < o->n_segments; i++) {
		s.fd = o->segment[i];
		(void)journal_scan(s.fd, record_list, &s);
	}
}

static enum queue_result
offline_move(struct offline *o, struct queue_id id, enum spool_place from,
    enum spool_place to)
{
	struct spool_change due = { .next = clock_wall() };
	int rc = to == PLACE_HOLD ? spool_rename(&o->spool, id, from, to) :
	    spool_defer(&o->spool, id, from, to, &due);

	o->changed |= 1u << from | 1u << to;
	if (rc != 0)
		log_error("cannot move to %s: %s", spool_place_names[to],
		    strerror(rc));
	return rc == 0 ? QUEUE_DONE : QUEUE_FAILED;
}

static enum queue_result
offline_file(struct offline *o, enum queue_op op, struct queue_id id,
    enum spool_place p)
{
	struct record *r = record_find(o, id);
	int rc;

	switch (op) {
	case QUEUE_HOLD:
		return p == PLACE_HOLD ? QUEUE_DONE :
		    offline_move(o, id, p, PLACE_HOLD);
	case QUEUE_RELEASE:
		return p != PLACE_HOLD ? QUEUE_NOT_FOUND :
		    offline_move(o, id, p, PLACE_DEFERRED);
	case QUEUE_REQUEUE:
		return offline_move(o, id, p, PLACE_DEFERRED);
	case QUEUE_EXPIRE:
		rc = spool_expire(&o->spool, id, p);
		break;
	case QUEUE_DELETE:
		/* First what would bring it back. */
		if (r != NULL && !record_finish(r))
			return QUEUE_FAILED;
		rc = spool_unlink(&o->spool, id, p);
		o->changed |= 1u << p;
		break;
	case QUEUE_FLUSH:
	case QUEUE_FLUSH_ALL:
	case QUEUE_OPS:
	default:
		return QUEUE_NOT_FOUND;
	}
	if (rc != 0)
		log_error("%s: %s", spool_place_names[p], strerror(rc));
	return rc == 0 ? QUEUE_DONE : QUEUE_FAILED;
}

static enum queue_result
offline_record(struct offline *o, enum queue_op op, struct queue_id id,
    struct record *r)
{
	enum spool_place to = op == QUEUE_HOLD ? PLACE_HOLD : PLACE_INCOMING;
	int rc;

	if (op == QUEUE_DELETE)
		return record_finish(r) ? QUEUE_DONE : QUEUE_FAILED;
	if (op == QUEUE_REQUEUE)
		return QUEUE_DONE;	/* the next start tries it */
	if (op != QUEUE_HOLD && op != QUEUE_EXPIRE)
		return QUEUE_NOT_FOUND;
	rc = record_to_file(o, r, to);
	if (rc == 0 && op == QUEUE_EXPIRE)
		rc = spool_expire(&o->spool, id, to);
	if (rc != 0)
		log_error("cannot make a file of what is in the journal: %s",
		    strerror(rc));
	return rc == 0 ? QUEUE_DONE : QUEUE_FAILED;
}

enum queue_result
offline_apply(struct offline *o, enum queue_op op, struct queue_id id)
{
	struct record *r;
	enum spool_place p;

	for (p = PLACE_INCOMING; p <= PLACE_HOLD; p++)
		if (spool_settle(&o->spool, id, p))
			return offline_file(o, op, id, p);
	r = record_find(o, id);
	return r != NULL ? offline_record(o, op, id, r) : QUEUE_NOT_FOUND;
}

static void
structure_count(struct queue_id id, enum spool_place place, void *arg)
{
	unsigned *n = arg;

	(void)id;
	(void)place;
	(*n)++;
}

/* Subdirectories belong to the owner of the spool, whoever made them. */
static void
structure_owner(const struct offline *o)
{
	char name[2] = "?";
	enum spool_place p;
	const char *c;

	if (geteuid() != 0)
		return;
	for (p = PLACE_INCOMING; p < PLACES; p++)
		for (c = "0123456789ABCDEF"; *c != '\0'; c++) {
			name[0] = *c;
			(void)!fchownat(o->spool.dir[p], name, o->uid,
			    o->gid, AT_SYMLINK_NOFOLLOW);
		}
}

void
offline_structure(struct offline *o)
{
	struct spool_walk *w;
	enum spool_place p;
	unsigned n = 0;
	int rc = spool_prepare(&o->spool);

	if (rc != 0)
		queue_fatal(EXIT_SYSTEM, "cannot make subdirectories: %s",
		    strerror(rc));
	structure_owner(o);
	for (p = PLACE_INCOMING; p < PLACES; p++) {
		w = spool_walk_new(&o->spool, p);
		while (spool_walk_next(w, 1000, structure_count, &n))
			;
		spool_walk_free(&w);
		o->changed |= 1u << p;
	}
	log_info("structure checked: %u files", n);
}

static bool
purge_is_stale(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) &&
	    st.st_mtime < clock_wall().us / 1000000 - STALE_S;
}

static unsigned
purge_hidden(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;
	unsigned n = 0;

	while (d != NULL && (e = readdir(d)) != NULL)
		if (e->d_name[0] == '.' && strlen(e->d_name) > 2 &&
		    purge_is_stale(dir, e->d_name) &&
		    unlinkat(dir, e->d_name, 0) == 0)
			n++;
	if (d != NULL)
		closedir(d);
	return n;
}

struct purge {
	struct offline *o;
	unsigned n;
};

/* For what is not complete nobody was promised anything. */
static void
purge_name(struct queue_id id, enum spool_place place, void *arg)
{
	struct purge *p = arg;
	char name[QUEUE_ID_TEXT];

	if (spool_settle(&p->o->spool, id, place))
		return;
	if (spool_unlink(&p->o->spool, id, place) == 0) {
		log_info("%s: incomplete file in incoming removed",
		    queue_id_text(id, name));
		p->n++;
	}
}

void
offline_purge(struct offline *o)
{
	struct purge p = { .o = o };
	struct spool_walk *w = spool_walk_new(&o->spool, PLACE_INCOMING);

	while (spool_walk_next(w, 1000, purge_name, &p))
		;
	spool_walk_free(&w);
	p.n += purge_hidden(o->spool.dir[PLACE_INCOMING]);
	if (o->journal >= 0)
		p.n += purge_hidden(o->journal);
	o->changed |= 1u << PLACE_INCOMING;
	log_info("purged: %u files", p.n);
}

void
offline_close(struct offline **op)
{
	struct offline *o = *op;
	enum spool_place p;
	int rc;

	*op = NULL;
	for (p = PLACE_INCOMING; p < PLACES; p++)
		if ((o->changed & 1u << p) != 0 &&
		    (rc = spool_sync_place(&o->spool, p)) != 0)
			log_error("cannot sync %s: %s", spool_place_names[p],
			    strerror(rc));
	/* All locks end with the process. */
	router_free(&o->router);
	free(o->records);
	free(o);
}
