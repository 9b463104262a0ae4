/* Messages that are stored as several files: see "Parts" in STATES.md. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/spool_path.h"

#define FLAGS	(O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)

/* Its header, if it is a part that waits.  ENOENT: it is none. */
static int
part_read(int fd, struct queue_id id, struct spool_split *ret)
{
	struct spool_file f = { .fd = -1 };
	char head[SPOOL_TEXT_OFFSET];
	struct stat st;
	size_t extra;
	int rc;

	if (fstat(fd, &st) != 0)
		return errno;
	if (!S_ISREG(st.st_mode) || (st.st_mode & S_IXUSR) != 0 ||
	    (st.st_mode & SPOOL_PART) == 0)
		return ENOENT;
	rc = spool_load(fd, head, sizeof head, 0);
	if (rc == 0)
		rc = spool_get_head(view_make(head, sizeof head), id,
		    (uint64_t)st.st_size, &f, &extra);
	if (rc != 0)
		return rc;
	if (!f.tail.split.part)
		return EBADMSG;
	*ret = f.tail.split;
	return 0;
}

static int
part_open(const struct spool *s, struct queue_id id, enum spool_place place)
{
	char path[SPOOL_PATH];

	return openat(s->dir[place], spool_path(s, id, place, path), FLAGS);
}

int
spool_settle_part(const struct spool *s, struct queue_id id)
{
	enum spool_place at = PLACE_INCOMING;
	struct spool_split split = { .n = 0 };
	int fd = part_open(s, id, at), rc;

	/* It may have been moved there without the mark. */
	if (fd < 0 && errno == ENOENT)
		fd = part_open(s, id, at = PLACE_HOLD);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno;
	rc = part_read(fd, id, &split);
	if (rc == 0 && split.hold && at == PLACE_INCOMING) {
		/* Not complete where it could be delivered from. */
		rc = spool_rename(s, id, at, PLACE_HOLD);
		at = PLACE_HOLD;
		/* Another thread was first; its mark may not be there yet. */
		if (rc == ENOENT)
			rc = 0;
		if (rc == 0)
			rc = spool_sync_dir(s, id, PLACE_INCOMING);
	}
	if (rc == 0 && fchmod(fd, 0700) != 0)
		rc = errno;
	if (rc == 0)
		rc = spool_sync_fd(fd);
	if (rc == 0)
		rc = spool_sync_dir(s, id, at);
	close(fd);
	return rc == ENOENT ? 0 : rc;
}

bool
spool_part_waits(const struct spool *s, struct queue_id id,
    struct queue_id *ret_leader)
{
	struct spool_split split = { .n = 0 };
	int fd = part_open(s, id, PLACE_INCOMING);
	bool waits = fd >= 0 && part_read(fd, id, &split) == 0;

	if (fd >= 0)
		close(fd);
	if (waits)
		*ret_leader = split.id;
	return waits;
}

bool
spool_is_complete(const struct spool *s, struct queue_id id)
{
	struct spool_file f;
	enum spool_place p;

	for (p = PLACE_INCOMING; p <= PLACE_HOLD; p++)
		if (spool_read(s, id, p, &f) == 0) {
			free(f.bytes);
			close(f.fd);
			return true;
		}
	return false;
}

void
spool_split_undo(const struct spool *s, struct queue_id leader,
    enum spool_place place, const struct spool_split *split)
{
	struct queue_id id = split->id;

	/* Without the leader the parts are no mail, so it goes first. */
	if (place != PLACE_NONE && spool_unlink(s, leader, place) == 0)
		(void)spool_sync_dir(s, leader, place);
	for (; id.n < split->id.n + split->n; id.n++) {
		/* One that was settled would be mail after a power cut. */
		if (spool_unlink(s, id, PLACE_INCOMING) == 0)
			(void)spool_sync_dir(s, id, PLACE_INCOMING);
		if (spool_unlink(s, id, PLACE_HOLD) == 0)
			(void)spool_sync_dir(s, id, PLACE_HOLD);
	}
}
