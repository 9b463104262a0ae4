/*
 * What an earlier queue manager left in its journal becomes files.  See "After
 * a crash" in queue/STATES.md.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/qmgr.h"
#include "queue/spool_path.h"

struct remains {
	struct pool_job job;
	int fd;
	unsigned moved, failed;
	int error;
	char name[256];
};
static unsigned remains_running;
static void (*remains_then)(void);

static bool
status_has(struct view status, char c)
{
	return view_find(status, c) < status.n;
}

/* Does the record's byte say more than the file's? */
static bool
status_later(char file, char record)
{
	return record == 'D' ? file != 'D' :
	    file == '.' && record != '.' && record != 'M';
}

/* Something in it is to be done, and it was not moved. */
static bool
status_live(struct view status)
{
	size_t i;

	for (i = 0; i < status.n && status.p[i] == 'D'; i++)
		;
	return i < status.n && !status_has(status, 'M');
}

/*
 * A complete file of it counts, but it may not be on the disk yet, and the
 * record may know of a recipient who is done and whose mark the file lacks.
 */
static int
remains_merge(const struct journal_record *r, enum spool_place p,
    const struct spool_file *f)
{
	char *status = mem_copy(f->status);
	bool changed = false;
	uint32_t i;
	int rc;

	for (i = 0; i < f->tail.nrcpts && i < r->tail.nrcpts; i++)
		if (status_later(status[i], r->tail.status.p[i])) {
			status[i] = r->tail.status.p[i];
			changed = true;
		}
	rc = changed ? spool_write_status(&qmgr.spool, r->id, p,
	    view_make(status, f->tail.nrcpts), f->status_offset) :
	    spool_sync_fd(f->fd);
	if (rc == 0)
		rc = spool_sync_dir(&qmgr.spool, r->id, p);
	free(status);
	return rc;
}

/* ENOENT: there is no complete file of it.  An incomplete one is removed. */
static int
remains_file(const struct journal_record *r, bool live)
{
	struct spool_file f;
	enum spool_place p;
	int rc;

	for (p = PLACE_INCOMING; p <= PLACE_HOLD; p++) {
		rc = spool_read(&qmgr.spool, r->id, p, &f);
		if (rc == 0) {
			rc = remains_merge(r, p, &f);
			free(f.bytes);
			close(f.fd);
			return rc;
		}
		if (rc == EBADMSG && live)
			(void)spool_unlink(&qmgr.spool, r->id, p);
		else if (rc != ENOENT && rc != EBADMSG)
			return rc;
	}
	return ENOENT;
}

static int
remains_make(const struct remains *w, const struct journal_record *r)
{
	struct envelope e;
	struct arena *a = arena_new(r->tail.envelope.n * 16 + 65536);
	bool ok = envelope_get(r->tail.envelope, a, &e) &&
	    e.nrcpts == r->tail.nrcpts;

	arena_free(&a);
	return !ok ? EBADMSG : spool_seal(&qmgr.spool, r->id, PLACE_INCOMING,
	    -1, w->fd, r->text_offset, r->text_size, r->arrival, &r->tail,
	    NULL);
}

static void
remains_one(const struct journal_record *r, void *arg)
{
	struct remains *w = arg;
	bool live = status_live(r->tail.status);
	int rc;

	if (!live && !status_has(r->tail.status, 'D'))
		return;
	rc = remains_file(r, live);
	if (rc == ENOENT && live) {
		rc = remains_make(w, r);
		w->moved += rc == 0;
	}
	if (rc != 0 && (live || rc != ENOENT)) {
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
	if (w->error == 0 && unlinkat(journal_dir(), w->name, 0) != 0)
		w->error = errno;
	/* It must not come back when its messages are delivered. */
	if (w->error == 0)
		w->error = spool_sync_fd(journal_dir());
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
	int fd = openat(journal_dir(), name,
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

	return fstatat(journal_dir(), name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
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
	if (journal_dir() >= 0)
		fd = openat(journal_dir(), ".",
		    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		d = fdopendir(fd);
	while (d != NULL && (e = readdir(d)) != NULL) {
		if (e->d_name[0] != '.')
			remains_segment(e->d_name);
		else if (strlen(e->d_name) > 2 && remains_stale(e->d_name))
			/* Half made when its maker died. */
			(void)unlinkat(journal_dir(), e->d_name, 0);
	}
	if (d != NULL)
		closedir(d);
	if (remains_running == 0)
		then();
}

bool
journal_recovering(void)
{
	return remains_running > 0;
}
