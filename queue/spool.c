#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY	/* the size of its state */
#include <xxhash.h>

#include "lib/clock.h"
#include "lib/conf_choice.h"
#include "lib/log.h"
#include "queue/history.h"
#include "queue/spool_path.h"

#define COPY_SIZE	65536u
#define SMALL_TEXT	16384u	/* written with one system call */
#define FORM		1u
#define END_SIZE	16u	/* magic and checksum */
#define HISTORY_FRAME	20u	/* magic, length, checksum */

/* Breaks if a copy changes line ends. */
static const char magic[8] = "PSTRNQ\r\n";
static const char end_magic[8] = "\nEND\r\n\n\n";
static const char history_magic[8] = "\nHIST\r\n\n";

const char *const spool_place_names[PLACES] = {
	[PLACE_NONE] = "none",
	[PLACE_INCOMING] = "incoming",
	[PLACE_ACTIVE] = "active",
	[PLACE_DEFERRED] = "deferred",
	[PLACE_HOLD] = "hold",
	[PLACE_CORRUPT] = "corrupt",
};

/* The low digits change fastest and spread best. */
const char *
spool_path(const struct spool *s, struct queue_id id, enum spool_place place,
    char path[SPOOL_PATH])
{
	char text[QUEUE_ID_TEXT];

	queue_id_text(id, text);
	if ((s->hashed & 1u << place) != 0)
		snprintf(path, SPOOL_PATH, "%c/%s",
		    text[QUEUE_ID_TEXT - 3], text);
	else
		snprintf(path, SPOOL_PATH, "%s", text);
	return path;
}

int
spool_prepare(const struct spool *s)
{
	char name[2] = "?";
	enum spool_place p;
	const char *c;

	for (p = PLACE_INCOMING; p < PLACES; p++) {
		if ((s->hashed & 1u << p) == 0)
			continue;
		for (c = "0123456789ABCDEF"; *c != '\0'; c++) {
			name[0] = *c;
			if (mkdirat(s->dir[p], name, 0700) != 0 &&
			    errno != EEXIST)
				return errno;
		}
	}
	return 0;
}

static uint32_t
hashed_places(uint32_t names)
{
	static const uint32_t name_of[PLACES] = {
		[PLACE_INCOMING] = HASH_INCOMING,
		[PLACE_ACTIVE] = HASH_ACTIVE,
		[PLACE_DEFERRED] = HASH_DEFERRED,
		[PLACE_HOLD] = HASH_HOLD,
		[PLACE_CORRUPT] = HASH_CORRUPT,
	};
	uint32_t places = 0;
	enum spool_place p;

	for (p = PLACE_INCOMING; p < PLACES; p++)
		if ((names & name_of[p]) != 0)
			places |= 1u << p;
	return places;
}

int
spool_open(struct spool *s, const char *directory, const char *hash)
{
	struct stat first = { 0 }, st;
	enum spool_place p;
	int top, rc;

	*s = (struct spool){ 0 };
	for (p = 0; p < PLACES; p++)
		s->dir[p] = -1;
	s->hashed = hashed_places(conf_choice("hash_queue_names",
	    view_of(hash)));
	top = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0)
		return errno;
	for (p = PLACE_INCOMING; p < PLACES; p++) {
		s->dir[p] = openat(top, spool_place_names[p],
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (s->dir[p] < 0 || fstat(s->dir[p], &st) != 0) {
			rc = errno;
			log_error("%s/%s: %s", directory,
			    spool_place_names[p], strerror(rc));
			close(top);
			return rc;
		}
		if (p == PLACE_INCOMING)
			first = st;
		if (st.st_dev != first.st_dev) {
			log_error("%s/%s is on another file system: rename "
			    "between queues must be atomic", directory,
			    spool_place_names[p]);
			close(top);
			return EXDEV;
		}
	}
	close(top);
	return 0;
}

int
spool_unnamed(const struct spool *s, int *ret_fd)
{
	char path[SPOOL_PATH];
	int fd = openat(s->dir[PLACE_INCOMING], ".",
	    O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	/* Not every file system can: then a name that lives an instant.  It is
	 * no queue id, so nobody takes it for mail if we die in between. */
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR ||
	    errno == EINVAL)) {
		snprintf(path, sizeof path, ".unnamed.%d.%d", (int)getpid(),
		    (int)gettid());
		fd = openat(s->dir[PLACE_INCOMING], path,
		    O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd >= 0)
			(void)unlinkat(s->dir[PLACE_INCOMING], path, 0);
	}
	if (fd < 0)
		return errno;
	*ret_fd = fd;
	return 0;
}

int
spool_write(int fd, const char *p, size_t n, uint64_t at)
{
	ssize_t k;

	while (n > 0) {
		k = pwrite(fd, p, n, (off_t)at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return errno;
		p += k;
		n -= (size_t)k;
		at += (uint64_t)k;
	}
	return 0;
}

int
spool_load(int fd, char *p, size_t n, uint64_t at)
{
	ssize_t k;

	while (n > 0) {
		k = pread(fd, p, n, (off_t)at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return errno;
		if (k == 0)
			return EBADMSG;
		p += k;
		n -= (size_t)k;
		at += (uint64_t)k;
	}
	return 0;
}

static int
spool_create(const struct spool *s, struct queue_id id,
    enum spool_place place, int *ret_fd)
{
	char path[SPOOL_PATH];
	int fd;

	fd = openat(s->dir[place], spool_path(s, id, place, path),
	    O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	*ret_fd = fd;
	return 0;
}

static int
copy_text(int to, uint64_t to_at, int from, uint64_t from_at, uint64_t n,
    XXH3_state_t *hash)
{
	char small[8192], *big = NULL, *p = small;
	size_t size = sizeof small, k;
	int rc = 0;

	if (n > sizeof small) {
		size = COPY_SIZE;
		p = big = mem_alloc(size);
	}
	while (rc == 0 && n > 0) {
		k = n < size ? (size_t)n : size;
		rc = spool_load(from, p, k, from_at);
		if (rc == 0 && to >= 0)
			rc = spool_write(to, p, k, to_at);
		if (rc == 0 && hash != NULL)
			(void)XXH3_64bits_update(hash, p, k);
		from_at += k;
		to_at += k;
		n -= k;
	}
	free(big);
	return rc;
}

int
spool_copy(const struct spool *s, struct queue_id id, int from,
    uint64_t text_size, int *ret_fd)
{
	int fd = -1, rc;

	rc = spool_create(s, id, PLACE_INCOMING, &fd);
	if (rc != 0)
		return rc;
	rc = copy_text(fd, SPOOL_TEXT_OFFSET, from, 0, text_size, NULL);
	if (rc != 0) {
		close(fd);
		(void)spool_unlink(s, id, PLACE_INCOMING);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

/* Flags of a split in the header. */
#define HEAD_PART	1u
#define HEAD_HOLD	2u

static void
spool_header(struct buf *b, struct queue_id id, struct wall arrival,
    uint64_t text_size, uint64_t tail_size, const struct spool_split *split)
{
	static const char zero[SPOOL_TEXT_OFFSET];

	(void)buf_put(b, magic, sizeof magic);
	(void)put_u32(b, FORM);
	(void)put_u64(b, id.n);
	(void)put_u64(b, (uint64_t)arrival.us);
	(void)put_u64(b, text_size);
	(void)put_u64(b, tail_size);
	(void)put_u64(b, split->id.n);
	(void)put_u32(b, split->n);
	(void)put_u8(b, (uint8_t)((split->part ? HEAD_PART : 0) |
	    (split->hold ? HEAD_HOLD : 0)));
	(void)buf_put(b, zero, SPOOL_TEXT_OFFSET - b->n);
}

bool
spool_rcpts_done(struct view status)
{
	size_t i;

	for (i = 0; i < status.n; i++)
		if (status.p[i] != SPOOL_DONE)
			return false;
	return true;
}

uint64_t
spool_status_offset(uint64_t text_size, const struct spool_tail *t)
{
	/* Three views with their lengths, and the number of recipients. */
	return SPOOL_TEXT_OFFSET + text_size + 4 + t->envelope.n + 4 +
	    t->edits.n + 4 + t->route.n + 4;
}

bool
spool_put_tail(struct buf *b, const struct spool_tail *t, size_t *ret_status)
{
	char *p;

	if (!put_view(b, t->envelope) || !put_view(b, t->edits) ||
	    !put_view(b, t->route) || !put_u32(b, t->nrcpts))
		return false;
	*ret_status = b->n;
	p = buf_room(b, t->nrcpts);
	if (p == NULL)
		return false;
	if (t->status.n > 0) {
		ensure(t->status.n == t->nrcpts);
		memcpy(p, t->status.p, t->nrcpts);
	} else
		memset(p, '.', t->nrcpts);
	b->n += t->nrcpts;
	return true;
}

static bool
put_history(struct buf *b, struct view history)
{
	return buf_put(b, history_magic, sizeof history_magic) &&
	    put_view(b, history) &&
	    put_u64(b, XXH3_64bits(history.p, history.n));
}

/* END, and what stands behind it. */
static bool
put_end(struct buf *b, XXH3_state_t *hash, struct view history)
{
	return buf_put(b, end_magic, sizeof end_magic) &&
	    put_u64(b, XXH3_64bits_digest(hash)) &&
	    (history.n == 0 || put_history(b, history));
}

/* Text, tail and END of a text in memory, written together. */
static int
spool_write_small(int fd, int from, uint64_t from_at, size_t text_size,
    struct buf *tail, size_t hashed, XXH3_state_t *hash, struct view history)
{
	char text[SMALL_TEXT];
	struct iovec iov[2];
	ssize_t n;
	int rc;

	rc = spool_load(from, text, text_size, from_at);
	if (rc != 0)
		return rc;
	(void)XXH3_64bits_update(hash, text, text_size);
	(void)XXH3_64bits_update(hash, tail->p, hashed);
	if (!put_end(tail, hash, history))
		return EFBIG;
	iov[0] = (struct iovec){ text, text_size };
	iov[1] = (struct iovec){ tail->p, tail->n };
	n = pwritev(fd, iov, 2, SPOOL_TEXT_OFFSET);
	if (n < 0)
		return errno;
	return (size_t)n == text_size + tail->n ? 0 : ENOSPC;
}

/* The same for a text of any size, or one that is in the file already. */
static int
spool_write_large(int fd, bool has_text, int from, uint64_t from_at,
    uint64_t text_size, struct buf *tail, size_t hashed, XXH3_state_t *hash,
    struct view history)
{
	int rc;

	if (has_text)
		rc = copy_text(-1, 0, fd, SPOOL_TEXT_OFFSET, text_size, hash);
	else
		rc = copy_text(fd, SPOOL_TEXT_OFFSET, from, from_at,
		    text_size, hash);
	if (rc != 0)
		return rc;
	(void)XXH3_64bits_update(hash, tail->p, hashed);
	if (!put_end(tail, hash, history))
		return EFBIG;
	return spool_write(fd, tail->p, tail->n, SPOOL_TEXT_OFFSET + text_size);
}

static int
spool_finish(const struct spool *s, struct queue_id id,
    enum spool_place place, int fd, bool has_text, int from,
    uint64_t from_at, uint64_t text_size, struct wall arrival,
    const struct spool_tail *tail)
{
	XXH3_state_t hash;
	struct buf head, b;
	size_t hashed = 0;
	int rc;

	buf_init(&head, SPOOL_TEXT_OFFSET);
	buf_init(&b, SPOOL_TAIL_MAX + HISTORY_MAX + HISTORY_FRAME);
	if (!spool_put_tail(&b, tail, &hashed)) {
		buf_free(&b);
		return EFBIG;
	}
	spool_header(&head, id, arrival, text_size, b.n, &tail->split);
	(void)XXH3_64bits_reset(&hash);
	(void)XXH3_64bits_update(&hash, head.p, head.n);
	if (!has_text && text_size <= SMALL_TEXT)
		rc = spool_write_small(fd, from, from_at,
		    (size_t)text_size, &b, hashed, &hash, tail->history);
	else
		rc = spool_write_large(fd, has_text, from, from_at,
		    text_size, &b, hashed, &hash, tail->history);
	if (rc == 0)
		rc = spool_write(fd, head.p, head.n, 0);
	if (rc == 0 && fchmod(fd, tail->split.part ? 0600 | SPOOL_PART :
	    0700) != 0)
		rc = errno;
	if (rc == 0)
		rc = spool_sync_fd(fd);
	if (rc == 0)
		rc = spool_sync_dir(s, id, place);
	buf_free(&head);
	buf_free(&b);
	return rc;
}

int
spool_seal(const struct spool *s, struct queue_id id, enum spool_place place,
    int copied, int from, uint64_t from_offset, uint64_t text_size,
    struct wall arrival, const struct spool_tail *tail, int *ret_fd)
{
	enum spool_place at = place;
	int fd = copied, rc = 0;

	if (copied < 0) {
		rc = spool_create(s, id, place, &fd);
		if (rc != 0)
			return rc;
	} else if (place != PLACE_INCOMING) {
		/* Still incomplete, so it may move without a sync. */
		rc = spool_rename(s, id, PLACE_INCOMING, place);
		if (rc != 0)
			at = PLACE_INCOMING;
	}
	if (rc == 0)
		rc = spool_finish(s, id, place, fd, copied >= 0, from,
		    from_offset, text_size, arrival, tail);
	if (rc != 0) {
		/*
		 * What the kernel could not write once it may have dropped,
		 * and a second fsync would not say so: the file goes.  It
		 * may be complete already, and its client will be told to
		 * send again, so it shall not come back either.
		 */
		(void)fchmod(fd, 0600);
		if (spool_unlink(s, id, at) != 0)
			(void)spool_sync_fd(fd);
		else
			(void)spool_sync_dir(s, id, at);
		close(fd);
		return rc;
	}
	if (ret_fd != NULL)
		*ret_fd = fd;
	else
		close(fd);
	return 0;
}

/* How much of what stands behind END can be a history. */
static size_t
history_size(uint64_t n)
{
	return n <= HISTORY_MAX + HISTORY_FRAME ? (size_t)n : 0;
}

/* Empty unless it is complete. */
static struct view
get_history(struct view bytes)
{
	struct cursor c = cursor_of(bytes);
	struct view v = cursor_bytes(&c, sizeof history_magic), history;

	if (!view_eq(v, view_make(history_magic, sizeof history_magic)))
		return view_make("", 0);
	history = cursor_view(&c);
	return cursor_u64(&c) == XXH3_64bits(history.p, history.n) &&
	    cursor_done(&c) ? history : view_make("", 0);
}

int
spool_get_head(struct view head, struct queue_id id, uint64_t file_size,
    struct spool_file *f, size_t *ret_extra)
{
	struct cursor c = cursor_of(head);
	struct view v = cursor_bytes(&c, sizeof magic);
	uint64_t tail_size, end;
	unsigned flags;

	if (!view_eq(v, view_make(magic, sizeof magic)) ||
	    cursor_u32(&c) != FORM)
		return EBADMSG;
	f->id.n = cursor_u64(&c);
	f->arrival.us = (int64_t)cursor_u64(&c);
	f->text_size = cursor_u64(&c);
	tail_size = cursor_u64(&c);
	f->tail.split.id.n = cursor_u64(&c);
	f->tail.split.n = cursor_u32(&c);
	flags = cursor_u8(&c);
	f->tail.split.part = (flags & HEAD_PART) != 0;
	f->tail.split.hold = (flags & HEAD_HOLD) != 0;
	end = SPOOL_TEXT_OFFSET + f->text_size + tail_size + END_SIZE;
	if (f->id.n != id.n || tail_size > SPOOL_TAIL_MAX ||
	    f->text_size > file_size || end > file_size ||
	    f->tail.split.n > SPOOL_PARTS_MAX)
		return EBADMSG;
	f->n_bytes = (size_t)tail_size + END_SIZE;
	*ret_extra = history_size(file_size - end);
	return 0;
}

int
spool_get_tail(struct spool_file *f, size_t extra, size_t *ret_hashed,
    uint64_t *ret_sum)
{
	struct cursor c = cursor_of(view_make(f->bytes, f->n_bytes));
	struct view v;

	f->tail.history = get_history(view_make(f->bytes + f->n_bytes, extra));
	f->tail.envelope = cursor_view(&c);
	f->tail.edits = cursor_view(&c);
	f->tail.route = cursor_view(&c);
	f->tail.nrcpts = cursor_u32(&c);
	*ret_hashed = f->n_bytes - cursor_left(&c);
	f->status = cursor_bytes(&c, f->tail.nrcpts);
	f->status_offset = SPOOL_TEXT_OFFSET + f->text_size + *ret_hashed;
	v = cursor_bytes(&c, sizeof end_magic);
	*ret_sum = cursor_u64(&c);
	/* No checksum covers them, so a hole must not look like done. */
	return cursor_done(&c) &&
	    view_eq(v, view_make(end_magic, sizeof end_magic)) &&
	    view_find(f->status, '\0') == f->status.n ? 0 : EBADMSG;
}

int
spool_check(int fd, struct queue_id id, struct spool_file *ret)
{
	struct spool_file f = { .fd = fd };
	XXH3_state_t hash;
	struct stat st;
	char head[SPOOL_TEXT_OFFSET];
	uint64_t sum = 0;
	size_t hashed = 0, extra;
	int rc;

	if (fstat(fd, &st) != 0)
		return errno;
	if (!S_ISREG(st.st_mode) || (st.st_mode & S_IXUSR) == 0 ||
	    (uint64_t)st.st_size < SPOOL_TEXT_OFFSET + END_SIZE)
		return EBADMSG;
	f.expire = (st.st_mode & SPOOL_EXPIRE) != 0;
	rc = spool_load(fd, head, sizeof head, 0);
	if (rc == 0)
		rc = spool_get_head(view_make(head, sizeof head), id,
		    (uint64_t)st.st_size, &f, &extra);
	if (rc != 0)
		return rc;
	f.bytes = mem_alloc(f.n_bytes + extra);
	rc = spool_load(fd, f.bytes, f.n_bytes + extra,
	    SPOOL_TEXT_OFFSET + f.text_size);
	(void)XXH3_64bits_reset(&hash);
	(void)XXH3_64bits_update(&hash, head, sizeof head);
	if (rc == 0)
		rc = copy_text(-1, 0, fd, SPOOL_TEXT_OFFSET, f.text_size,
		    &hash);
	if (rc == 0)
		rc = spool_get_tail(&f, extra, &hashed, &sum);
	if (rc == 0) {
		(void)XXH3_64bits_update(&hash, f.bytes, hashed);
		if (XXH3_64bits_digest(&hash) != sum)
			rc = EBADMSG;
	}
	if (rc != 0) {
		free(f.bytes);
		return rc;
	}
	*ret = f;
	return 0;
}

int
spool_read(const struct spool *s, struct queue_id id, enum spool_place place,
    struct spool_file *ret)
{
	char path[SPOOL_PATH];
	int fd, rc;

	fd = openat(s->dir[place], spool_path(s, id, place, path),
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno;
	rc = spool_check(fd, id, ret);
	if (rc != 0)
		close(fd);
	return rc;
}

int
spool_rename(const struct spool *s, struct queue_id id,
    enum spool_place from, enum spool_place to)
{
	char a[SPOOL_PATH], b[SPOOL_PATH];

	return renameat(s->dir[from], spool_path(s, id, from, a), s->dir[to],
	    spool_path(s, id, to, b)) == 0 ? 0 : errno;
}

int
spool_unlink(const struct spool *s, struct queue_id id,
    enum spool_place place)
{
	char path[SPOOL_PATH];

	return unlinkat(s->dir[place], spool_path(s, id, place, path), 0)
	    == 0 ? 0 : errno;
}

/* It ends the file, so what was there before is gone. */
static int
write_history(int fd, const struct spool_change *change)
{
	uint64_t at = change->status_offset + change->status.n + END_SIZE;
	struct buf b;
	int rc;

	buf_init(&b, HISTORY_MAX + HISTORY_FRAME);
	rc = put_history(&b, change->history) ?
	    spool_write(fd, b.p, b.n, at) : EFBIG;
	if (rc == 0 && ftruncate(fd, (off_t)(at + b.n)) != 0)
		rc = errno;
	buf_free(&b);
	return rc;
}

int
spool_defer(const struct spool *s, struct queue_id id, enum spool_place from,
    enum spool_place to, const struct spool_change *change)
{
	char path[SPOOL_PATH];
	struct timespec t[2];
	int fd, rc = 0;

	fd = openat(s->dir[from], spool_path(s, id, from, path),
	    O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno;
	/* Without it the message is as safe, so an error does not count. */
	if (change->history.n > 0)
		(void)write_history(fd, change);
	if (change->status_changed) {
		rc = spool_write(fd, change->status.p, change->status.n,
		    change->status_offset);
		if (rc == 0 && fdatasync(fd) != 0)
			rc = errno;
		if (rc != 0) {
			/* From there it would go to them again. */
			close(fd);
			return rc;
		}
	}
	t[0].tv_sec = t[1].tv_sec = (time_t)(change->next.us / 1000000);
	t[0].tv_nsec = t[1].tv_nsec =
	    (long)(change->next.us % 1000000) * 1000;
	if (futimens(fd, t) != 0 && rc == 0)
		rc = errno;
	close(fd);
	if (to != from && spool_rename(s, id, from, to) != 0 && rc == 0)
		rc = errno;
	return rc;
}

int
spool_open_copy(const struct spool *s, struct queue_id id)
{
	char path[SPOOL_PATH];

	return openat(s->dir[PLACE_INCOMING], spool_path(s, id,
	    PLACE_INCOMING, path), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
}

int
spool_open_status(const struct spool *s, struct queue_id id,
    enum spool_place place)
{
	char path[SPOOL_PATH];

	return openat(s->dir[place], spool_path(s, id, place, path),
	    O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
}

int
spool_next_time(const struct spool *s, struct queue_id id,
    enum spool_place place, struct wall *ret)
{
	char path[SPOOL_PATH];
	struct stat st;

	if (fstatat(s->dir[place], spool_path(s, id, place, path), &st,
	    AT_SYMLINK_NOFOLLOW) != 0)
		return errno;
	ret->us = (int64_t)st.st_mtim.tv_sec * 1000000 +
	    st.st_mtim.tv_nsec / 1000;
	return 0;
}

bool
spool_marked(const struct spool *s, struct queue_id id, enum spool_place place)
{
	char path[SPOOL_PATH], head[sizeof magic] = "";
	struct stat st;
	int fd = openat(s->dir[place], spool_path(s, id, place, path),
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool yes = fd >= 0 && fstat(fd, &st) == 0 &&
	    (st.st_mode & S_IXUSR) != 0 &&
	    spool_load(fd, head, sizeof head, 0) == 0 &&
	    memcmp(head, magic, sizeof magic) == 0;

	if (fd >= 0)
		close(fd);
	return yes;
}

int
spool_write_status(const struct spool *s, struct queue_id id,
    enum spool_place place, struct view status, uint64_t offset)
{
	int fd = spool_open_status(s, id, place), rc;

	if (fd < 0)
		return errno;
	rc = spool_write(fd, status.p, status.n, offset);
	if (rc == 0)
		rc = spool_sync_fd(fd);
	close(fd);
	return rc;
}

bool
spool_exists(const struct spool *s, struct queue_id id,
    enum spool_place place)
{
	struct wall t;

	return spool_next_time(s, id, place, &t) == 0;
}

int
spool_space(const struct spool *s, uint64_t *ret_free)
{
	struct statvfs v;

	if (fstatvfs(s->dir[PLACE_INCOMING], &v) != 0)
		return errno;
	/* No inodes left is no room either. */
	*ret_free = v.f_files > 0 && v.f_favail == 0 ? 0 :
	    (uint64_t)v.f_bavail * v.f_frsize;
	return 0;
}
