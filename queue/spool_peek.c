/* What there is to list of a queue file: header, tail, history; no text. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/history.h"
#include "queue/spool_path.h"

#define FLAGS	(O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

int
spool_open_file(const struct spool *s, struct queue_id id,
    enum spool_place place)
{
	struct spool other = *s;
	char path[SPOOL_PATH];
	int fd = openat(s->dir[place], spool_path(s, id, place, path), FLAGS);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	/* Where it was before hash_queue_names was changed. */
	other.hashed ^= 1u << place;
	return openat(s->dir[place], spool_path(&other, id, place, path),
	    FLAGS);
}

int
spool_peek_fd(int fd, struct queue_id id, struct buf *bytes,
    struct spool_file *ret, struct wall *ret_next)
{
	struct spool_file f = { .fd = -1 };
	char head[SPOOL_TEXT_OFFSET];
	size_t extra, hashed;
	struct stat st;
	uint64_t sum;
	int rc;

	if (fstat(fd, &st) != 0)
		return errno;
	if (!S_ISREG(st.st_mode) || (st.st_mode & S_IXUSR) == 0)
		return EBADMSG;
	rc = spool_load(fd, head, sizeof head, 0);
	if (rc == 0)
		rc = spool_get_head(view_make(head, sizeof head), id,
		    (uint64_t)st.st_size, &f, &extra);
	if (rc != 0)
		return rc;
	buf_clear(bytes);
	f.bytes = buf_room(bytes, f.n_bytes + extra);
	if (f.bytes == NULL)
		return EBADMSG;
	rc = spool_load(fd, f.bytes, f.n_bytes + extra,
	    SPOOL_TEXT_OFFSET + f.text_size);
	if (rc == 0)
		rc = spool_get_tail(&f, extra, &hashed, &sum);
	if (rc != 0)
		return rc;
	f.expire = (st.st_mode & SPOOL_EXPIRE) != 0;
	ret_next->us = (int64_t)st.st_mtim.tv_sec * 1000000 +
	    st.st_mtim.tv_nsec / 1000;
	*ret = f;
	return 0;
}

int
spool_peek(const struct spool *s, struct queue_id id, enum spool_place place,
    struct buf *bytes, struct spool_file *ret, struct wall *ret_next)
{
	int fd = spool_open_file(s, id, place), rc;

	if (fd < 0)
		return errno == ELOOP || errno == ENXIO ? EBADMSG : errno;
	rc = spool_peek_fd(fd, id, bytes, ret, ret_next);
	close(fd);
	return rc;
}

int
spool_expire(const struct spool *s, struct queue_id id,
    enum spool_place place)
{
	struct stat st;
	int fd = spool_open_file(s, id, place), rc = 0;

	if (fd < 0)
		return errno;
	/* Only what is complete: the ready mark is not ours to set.  And no
	 * other name of somebody else's file, should root do this. */
	if (fstat(fd, &st) != 0)
		rc = errno;
	else if (!S_ISREG(st.st_mode) || (st.st_mode & S_IXUSR) == 0 ||
	    st.st_nlink != 1)
		rc = EBADMSG;
	else if (fchmod(fd, 0700 | SPOOL_EXPIRE) != 0)
		rc = errno;
	close(fd);
	return rc;
}

bool
spool_settle(const struct spool *s, struct queue_id id, enum spool_place place)
{
	char path[SPOOL_PATH], was[SPOOL_PATH];
	struct spool other = *s;
	struct stat st;

	spool_path(s, id, place, path);
	other.hashed ^= 1u << place;
	spool_path(&other, id, place, was);
	if (fstatat(s->dir[place], path, &st, AT_SYMLINK_NOFOLLOW) != 0 &&
	    (fstatat(s->dir[place], was, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    renameat(s->dir[place], was, s->dir[place], path) != 0))
		return false;
	return S_ISREG(st.st_mode) && (st.st_mode & S_IXUSR) != 0;
}
