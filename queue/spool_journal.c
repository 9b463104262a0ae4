#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "queue/spool_journal.h"
#include "queue/spool_path.h"

static const char segment_magic[8] = "PSTRNJ\r\n";
static const char record_magic[8] = "\nRECORD\n";

static uint64_t
round_up(uint64_t n, uint64_t to)
{
	return (n + to - 1) / to * to;
}

int
journal_create(int dir, const char *name, uint64_t size,
    struct journal_segment *ret)
{
	struct journal_segment s = { .size = size,
	    .sync = PTHREAD_MUTEX_INITIALIZER };
	char *zero, hidden[256];
	uint64_t at;
	int rc = 0;

	snprintf(s.name, sizeof s.name, "%s", name);
	/* Under its name it is seen by others, so it is locked before. */
	snprintf(hidden, sizeof hidden, ".%.200s", name);
	s.fd = openat(dir, hidden, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW |
	    O_CLOEXEC, 0600);
	if (s.fd < 0)
		return errno;
	/* Real zeros: a sync then has no block allocation to write too. */
	zero = mem_alloc(1 << 20);
	for (at = 0; rc == 0 && at < size; at += 1 << 20)
		rc = spool_write(s.fd, zero, 1 << 20, at);
	free(zero);
	if (rc == 0 && flock(s.fd, LOCK_EX | LOCK_NB) != 0)
		rc = errno;
	if (rc == 0)
		rc = spool_sync_fd(s.fd);
	if (rc == 0 && renameat(dir, hidden, dir, name) != 0)
		rc = errno;
	if (rc == 0)
		rc = spool_sync_fd(dir);
	if (rc != 0) {
		(void)unlinkat(dir, hidden, 0);
		close(s.fd);
		return rc;
	}
	*ret = s;
	return 0;
}

static int
segment_head(struct buf *b, uint64_t epoch)
{
	(void)buf_put(b, segment_magic, sizeof segment_magic);
	(void)put_u64(b, epoch);
	(void)put_u64(b, XXH3_64bits(b->p, b->n));
	return 0;
}

int
journal_reset(struct journal_segment *s, uint64_t epoch)
{
	struct buf b;
	int rc;

	ensure(s->live == 0);
	buf_init(&b, JOURNAL_BLOCK);
	(void)segment_head(&b, epoch);
	rc = spool_write(s->fd, b.p, b.n, 0);
	buf_free(&b);
	if (rc == 0)
		rc = journal_sync(s);
	if (rc != 0) {
		s->bad = true;
		return rc;
	}
	s->epoch = epoch;
	s->end = JOURNAL_BLOCK;
	return 0;
}

int
journal_sync(struct journal_segment *s)
{
	int rc;

	pthread_mutex_lock(&s->sync);
	if (s->sync_failed == 0 && fdatasync(s->fd) != 0)
		s->sync_failed = errno;
	rc = s->sync_failed;
	pthread_mutex_unlock(&s->sync);
	return rc;
}

static uint64_t
tail_size(const struct spool_tail *t)
{
	return 4 + t->envelope.n + 4 + t->edits.n + 4 + t->route.n + 4 +
	    t->nrcpts;
}

uint64_t
journal_entry_size(const struct journal_entry *e)
{
	return round_up(JOURNAL_HEAD + tail_size(e->tail) + e->text_size, 8);
}

/* All of one record, appended to b, which is where at begins in the file. */
static int
record_put(const struct journal_segment *s, struct journal_entry *e,
    struct buf *b, uint64_t at)
{
	size_t start = b->n, status, text;
	struct buf sum;
	XXH3_state_t hash;
	char *to;
	int rc;

	(void)buf_put(b, record_magic, sizeof record_magic);
	(void)put_u64(b, s->epoch);
	(void)put_u64(b, e->id.n);
	(void)put_u64(b, (uint64_t)e->arrival.us);
	(void)put_u64(b, e->text_size);
	(void)put_u32(b, (uint32_t)tail_size(e->tail));
	(void)put_u32(b, e->tail->nrcpts);
	(void)put_u64(b, 0);
	(void)put_u64(b, 0);		/* the checksum's place */
	if (!spool_put_tail(b, e->tail, &status))
		return EFBIG;
	text = b->n;
	to = buf_room(b, (size_t)e->text_size);
	if (to == NULL)
		return EFBIG;
	rc = spool_load(e->text, to, (size_t)e->text_size, 0);
	if (rc != 0)
		return rc;
	b->n += (size_t)e->text_size;
	(void)XXH3_64bits_reset(&hash);
	(void)XXH3_64bits_update(&hash, b->p + start, status - start);
	(void)XXH3_64bits_update(&hash, b->p + text, (size_t)e->text_size);
	buf_init(&sum, 8);
	(void)put_u64(&sum, XXH3_64bits_digest(&hash));
	memcpy(b->p + start + JOURNAL_HEAD - 8, sum.p, 8);
	buf_free(&sum);
	e->status_offset = at + status;
	return 0;
}

int
journal_commit(struct journal_segment *s, struct journal_entry *list,
    size_t n)
{
	static const char zero[JOURNAL_BLOCK];
	struct buf b;
	size_t i;
	int rc = 0;

	ensure(s->end % JOURNAL_BLOCK == 0);
	if (s->bad)
		return EIO;
	buf_init(&b, JOURNAL_GROUP_MAX + JOURNAL_BLOCK);
	for (i = 0; rc == 0 && i < n; i++) {
		rc = record_put(s, &list[i], &b, s->end);
		if (rc == 0)
			(void)buf_put(&b, zero, round_up(b.n, 8) - b.n);
	}
	if (rc == 0) {
		(void)buf_put(&b, zero, round_up(b.n, JOURNAL_BLOCK) - b.n);
		ensure(b.n <= s->size - s->end);
		rc = spool_write(s->fd, b.p, b.n, s->end);
	}
	if (rc == 0)
		rc = journal_sync(s);
	if (rc == 0)
		s->end += b.n;
	else
		s->bad = true;
	buf_free(&b);
	return rc;
}

void
journal_void(struct journal_segment *s, const struct journal_entry *list,
    size_t n)
{
	char *done;
	size_t i;

	for (i = 0; i < n; i++) {
		if (list[i].status_offset == 0)
			continue;
		done = mem_alloc(list[i].tail->nrcpts);
		memset(done, 'M', list[i].tail->nrcpts);
		(void)spool_write(s->fd, done, list[i].tail->nrcpts,
		    list[i].status_offset);
		free(done);
	}
	/* As well as it can be done now. */
	(void)fdatasync(s->fd);
}

/* The record at p, or 0. */
static uint64_t
record_get(const char *p, uint64_t left, uint64_t epoch,
    struct journal_record *r)
{
	struct cursor c;
	XXH3_state_t hash;
	struct view v, known;
	uint64_t sum, tail, n;
	size_t status, i;
	uint32_t nrcpts;

	if (left < JOURNAL_HEAD)
		return 0;
	c = cursor_of(view_make(p, JOURNAL_HEAD));
	v = cursor_bytes(&c, sizeof record_magic);
	if (memcmp(v.p, record_magic, sizeof record_magic) != 0 ||
	    cursor_u64(&c) != epoch)
		return 0;
	*r = (struct journal_record){ 0 };
	r->id.n = cursor_u64(&c);
	r->arrival.us = (int64_t)cursor_u64(&c);
	r->text_size = cursor_u64(&c);
	tail = cursor_u32(&c);
	nrcpts = cursor_u32(&c);
	(void)cursor_u64(&c);
	sum = cursor_u64(&c);
	left -= JOURNAL_HEAD;
	if (tail > left || r->text_size > left - tail)
		return 0;
	n = JOURNAL_HEAD + tail + r->text_size;
	c = cursor_of(view_make(p + JOURNAL_HEAD, (size_t)tail));
	r->tail.envelope = cursor_view(&c);
	r->tail.edits = cursor_view(&c);
	r->tail.route = cursor_view(&c);
	r->tail.nrcpts = cursor_u32(&c);
	r->tail.status = cursor_bytes(&c, r->tail.nrcpts);
	if (!cursor_done(&c) || nrcpts == 0 || r->tail.nrcpts != nrcpts)
		return 0;
	known = view_of(".DRLXM");	/* no checksum covers them */
	for (i = 0; i < r->tail.status.n; i++)
		if (view_find(known, r->tail.status.p[i]) == known.n)
			return 0;
	status = (size_t)(JOURNAL_HEAD + tail) - nrcpts;
	r->text_offset = JOURNAL_HEAD + tail;
	(void)XXH3_64bits_reset(&hash);
	(void)XXH3_64bits_update(&hash, p, JOURNAL_HEAD - 8);
	(void)XXH3_64bits_update(&hash, "\0\0\0\0\0\0\0\0", 8);
	(void)XXH3_64bits_update(&hash, p + JOURNAL_HEAD,
	    status - JOURNAL_HEAD);
	(void)XXH3_64bits_update(&hash, p + r->text_offset,
	    (size_t)r->text_size);
	return XXH3_64bits_digest(&hash) == sum ? n : 0;
}

int
journal_scan(int fd, void (*each)(const struct journal_record *r, void *arg),
    void *arg)
{
	struct journal_record r;
	struct cursor c;
	struct stat st;
	uint64_t at = JOURNAL_BLOCK, size, epoch, n;
	struct view v;
	char *p;
	int rc;

	if (fstat(fd, &st) != 0)
		return errno;
	size = (uint64_t)st.st_size;
	if (!S_ISREG(st.st_mode) || size < JOURNAL_BLOCK || size > 1u << 30)
		return EBADMSG;
	p = mem_alloc((size_t)size);
	rc = spool_load(fd, p, (size_t)size, 0);
	c = cursor_of(view_make(p, JOURNAL_BLOCK));
	v = cursor_bytes(&c, sizeof segment_magic);
	epoch = cursor_u64(&c);
	if (rc == 0 && (memcmp(v.p, segment_magic, sizeof segment_magic) != 0 ||
	    cursor_u64(&c) != XXH3_64bits(p, 16)))
		rc = EBADMSG;
	while (rc == 0 && at < size) {
		n = record_get(p + at, size - at, epoch, &r);
		if (n > 0) {
			r.text_offset += at;
			each(&r, arg);
			at = round_up(at + n, 8);
		} else if (at % JOURNAL_BLOCK != 0)
			at = round_up(at, JOURNAL_BLOCK);	/* next group */
		else
			break;
	}
	free(p);
	return rc;
}
