#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "queue/mbox.h"

struct box {
	const struct mbox *m;
	int fd;
	char *dotlock;		/* made by us; NULL: none */
	off_t begin;		/* of what is appended */
	off_t written;
};

static void
box_pause(const struct mbox *m)
{
	struct timespec t = { m->delay / 1000, m->delay % 1000 * 1000000 };

	(void)nanosleep(&t, NULL);
}

/* -- locks ------------------------------------------------------------------ */

/*
 * Left by a process that died: nobody holds one that long.  False: it cannot
 * be removed, since another user has put it there; with another lock it does
 * not count any more, or whoever can make files could keep mail away.
 */
static bool
dotlock_remove_stale(const struct mbox *m, const char *path)
{
	struct stat st, again;
	int64_t age;

	if (lstat(path, &st) != 0)
		return true;
	age = clock_wall().us / 1000 - (int64_t)st.st_mtime * 1000;
	if (age < m->stale || lstat(path, &again) != 0 ||
	    again.st_ino != st.st_ino || again.st_dev != st.st_dev)
		return true;
	if (unlink(path) == 0) {
		log_warn("removed the lock %s, which was %lld s old", path,
		    (long long)(age / 1000));
		return true;
	}
	if ((errno != EPERM && errno != EACCES) ||
	    (m->locks & (LOCK_FCNTL | LOCK_FLOCK)) == 0)
		return true;
	log_warn("the lock %s of user id %u is %lld s old: it does not count",
	    path, (unsigned)st.st_uid, (long long)(age / 1000));
	return false;
}

/* False: another process holds it, or it cannot be made. */
static bool
dotlock_make(struct box *b, struct fate *f)
{
	const struct mbox *m = b->m;
	char *path = mem_printf("%s.lock", m->path);
	int fd = -1, error = 0;
	unsigned i;

	for (i = 0; fd < 0 && i < m->attempts; i++) {
		if (i > 0)
			box_pause(m);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW |
		    O_CLOEXEC, 0600);
		error = errno;
		if (fd < 0 && error != EEXIST)
			break;
		if (fd < 0 && !dotlock_remove_stale(m, path)) {
			error = EPERM;
			break;
		}
	}
	if (fd >= 0) {
		close(fd);
		b->dotlock = path;
		return true;
	}
	/* Where users may not make files, the other lock has to do. */
	if ((error == EACCES || error == EPERM || error == EROFS) &&
	    (m->locks & (LOCK_FCNTL | LOCK_FLOCK)) != 0) {
		free(path);
		return true;
	}
	fate_errno(f, "4.2.0", error, "unable to create lock file %s", path);
	free(path);
	return false;
}

static int
kernel_lock(int fd, enum mailbox_lock kind)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return kind == LOCK_FLOCK ? flock(fd, LOCK_EX | LOCK_NB) :
	    fcntl(fd, F_SETLK, &lock);
}

static bool
box_lock(struct box *b, enum mailbox_lock kind, struct fate *f)
{
	const struct mbox *m = b->m;
	unsigned i;

	if ((m->locks & kind) == 0)
		return true;
	for (i = 0; i < m->attempts; i++) {
		if (i > 0)
			box_pause(m);
		if (kernel_lock(b->fd, kind) == 0)
			return true;
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			break;
	}
	fate_errno(f, "4.2.0", errno, "cannot lock %s", m->path);
	return false;
}

/* -- the file --------------------------------------------------------------- */

static int
box_open_file(const char *path)
{
	const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY |
	    O_CLOEXEC;
	unsigned tries;
	int fd = -1;

	for (tries = 0; fd < 0 && tries < 3; tries++) {
		fd = open(path, flags);
		if (fd < 0 && errno == ENOENT)
			fd = open(path, flags | O_CREAT | O_EXCL, 0600);
		if (fd >= 0 || (errno != EEXIST && errno != ENOENT))
			break;
	}
	return fd;
}

static bool
box_open(struct box *b, struct fate *f)
{
	const struct mbox *m = b->m;
	struct stat st;

	b->fd = box_open_file(m->path);
	if (b->fd < 0 || fstat(b->fd, &st) != 0) {
		fate_errno(f, "4.2.0", errno, "cannot open %s", m->path);
		return false;
	}
	if (!S_ISREG(st.st_mode)) {
		fate_set(f, RCPT_DEFERRED, "4.2.0", "%s is not a regular "
		    "file", m->path);
		return false;
	}
	if (st.st_nlink != 1) {
		fate_set(f, RCPT_DEFERRED, "4.2.0", "%s has %lu hard links",
		    m->path, (unsigned long)st.st_nlink);
		return false;
	}
	if (st.st_uid != m->owner && !m->any_owner) {
		fate_set(f, RCPT_DEFERRED, "4.2.0", "%s is not owned by its "
		    "recipient", m->path);
		return false;
	}
	return true;
}

/* Somebody may have put another file there while we waited. */
static bool
box_is_there(struct box *b, struct fate *f)
{
	struct stat st, there;

	if (fstat(b->fd, &st) == 0 && lstat(b->m->path, &there) == 0 &&
	    st.st_dev == there.st_dev && st.st_ino == there.st_ino) {
		b->begin = b->written = st.st_size;
		return true;
	}
	fate_set(f, RCPT_DEFERRED, "4.2.0", "%s was replaced meanwhile",
	    b->m->path);
	return false;
}

static bool
box_write(struct view v, void *arg)
{
	struct box *b = arg;
	ssize_t k;

	if (b->m->limit > 0 && b->written + (off_t)v.n > b->m->limit) {
		errno = EFBIG;
		return false;
	}
	while (v.n > 0) {
		k = pwrite(b->fd, v.p, v.n, b->written);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			if (k == 0)
				errno = ENOSPC;
			return false;
		}
		b->written += k;
		v = view_from(v, (size_t)k);
	}
	return true;
}

/* What another program left without a line end must not swallow ours. */
static bool
box_begin_line(struct box *b)
{
	char last;

	return b->begin == 0 || (pread(b->fd, &last, 1, b->begin - 1) == 1 &&
	    (last == '\n' || box_write(view_of("\n"), b)));
}

/* asctime's form, in any locale. */
void
mbox_from_line(struct view sender, struct buf *out)
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t now = (time_t)(clock_wall().us / 1000000);
	struct tm tm;
	size_t i;

	(void)localtime_r(&now, &tm);
	(void)buf_puts(out, "From ");
	/* No white space: readers look for the date behind the first. */
	for (i = 0; i < sender.n; i++)
		(void)buf_putc(out, (unsigned char)sender.p[i] <= ' ' ||
		    sender.p[i] == 0x7f ? '_' : sender.p[i]);
	if (sender.n == 0)
		(void)buf_puts(out, "MAILER-DAEMON");
	(void)buf_printf(out, "  %.3s %.3s %2d %02d:%02d:%02d %d\n",
	    days + 3 * tm.tm_wday, months + 3 * tm.tm_mon, tm.tm_mday,
	    tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_year + 1900);
}

static enum text_end
box_append(struct box *b, const struct local_text *t)
{
	enum text_end end = TEXT_REFUSED;
	struct buf head;

	buf_init(&head, 16384);
	mbox_from_line(b->m->from, &head);
	if (buf_putv(&head, b->m->header) && box_begin_line(b) &&
	    box_write(buf_view(&head), b))
		end = local_text_send(t, TEXT_QUOTE_FROM | TEXT_BLANK, NULL,
		    box_write, b);
	buf_free(&head);
	if (end == TEXT_DONE && fsync(b->fd) != 0)
		end = TEXT_REFUSED;
	return end;
}

/* Half a message is none. */
static void
box_take_back(struct box *b)
{
	if (b->written == b->begin)
		return;
	if (ftruncate(b->fd, b->begin) != 0 || fsync(b->fd) != 0)
		log_error("%s: cannot take back %lld bytes of a message that "
		    "was not delivered: %s", b->m->path,
		    (long long)(b->written - b->begin), strerror(errno));
}

static void
box_fill(struct box *b, const struct local_text *t, struct fate *f)
{
	enum text_end end = box_append(b, t);
	int error = errno;

	if (end == TEXT_DONE) {
		fate_set(f, RCPT_DELIVERED, "2.0.0", "delivered to mailbox");
		return;
	}
	box_take_back(b);
	if (end == TEXT_UNREADABLE)
		fate_errno(f, "4.3.0", error, "queue file read error");
	else if (error == EFBIG)
		fate_set(f, RCPT_BOUNCED, "5.2.2", "mailbox is full: %s would "
		    "be larger than %lld bytes", b->m->path,
		    (long long)b->m->limit);
	else
		fate_errno(f, error == EDQUOT ? "4.2.2" : "4.2.0", error,
		    "cannot update mailbox %s", b->m->path);
}

void
mbox_deliver(const struct mbox *m, const struct local_text *t,
    struct fate *ret)
{
	struct box b = { .m = m, .fd = -1 };

	if (((m->locks & LOCK_DOT) == 0 || dotlock_make(&b, ret)) &&
	    box_open(&b, ret) && box_lock(&b, LOCK_FCNTL, ret) &&
	    box_lock(&b, LOCK_FLOCK, ret) && box_is_there(&b, ret))
		box_fill(&b, t, ret);
	/* NFS tells here at the latest; but that was synced. */
	if (b.fd >= 0)
		close(b.fd);
	if (b.dotlock != NULL)
		(void)unlink(b.dotlock);
	free(b.dotlock);
}
