/* link: queue/spool.c queue/spool_sync.c queue/spool_journal.c */
/* Journal segments: what a group promised is found again, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/mem.h"
#include "queue/spool_journal.h"

#define SIZE	(8u << 20)

static char top[64];
static int dir;
static struct journal_segment seg;
static struct buf env[3];
static struct spool_tail tail[3];
static int text[3];

static const size_t text_size[3] = { 100, 5000, 0 };

static int
setup(void **state)
{
	struct recipient r[2] = { { .addr = view_of("a@example.com") },
		{ .addr = view_of("b@example.com") } };
	struct envelope e = { .sender = view_of("s@x"), .rcpts = r };
	char *p;
	size_t i;

	(void)state;
	snprintf(top, sizeof top, "/tmp/test_journal.XXXXXX");
	if (mkdtemp(top) == NULL)
		return -1;
	dir = open(top, O_RDONLY | O_DIRECTORY);
	for (i = 0; i < 3; i++) {
		e.nrcpts = i == 1 ? 2 : 1;
		buf_init(&env[i], 10000);
		if (!envelope_put(&env[i], &e))
			return -1;
		tail[i] = (struct spool_tail){ .envelope = buf_view(&env[i]),
			.route = view_of("smtp:h"), .nrcpts = e.nrcpts };
		text[i] = memfd_create("t", 0);
		p = mem_alloc(text_size[i] + 1);
		memset(p, (int)('a' + i), text_size[i]);
		if (write(text[i], p, text_size[i]) != (ssize_t)text_size[i])
			return -1;
		free(p);
	}
	if (journal_create(dir, "one", SIZE, &seg) != 0)
		return -1;
	return journal_reset(&seg, 1);
}

static int
teardown(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++) {
		buf_free(&env[i]);
		close(text[i]);
	}
	close(seg.fd);
	(void)unlinkat(dir, "one", 0);
	close(dir);
	return rmdir(top);
}

static void
fill(struct journal_entry *e, size_t n, uint64_t first_id)
{
	size_t i;

	for (i = 0; i < n; i++)
		e[i] = (struct journal_entry){ .id = { first_id + i },
			.arrival = { 42 }, .text = text[i % 3],
			.text_size = text_size[i % 3], .tail = &tail[i % 3] };
}

struct found {
	unsigned n, finished;
	uint64_t ids[64];
	int fd;
};

static void
note(const struct journal_record *r, void *arg)
{
	struct found *f = arg;
	char c;

	/* Finished ones are reported too. */
	if (view_find(r->tail.status, '.') == r->tail.status.n) {
		f->finished++;
		return;
	}
	assert_true(f->n < 64);
	f->ids[f->n++] = r->id.n;
	assert_int_equal(r->arrival.us, 42);
	assert_true(view_is(r->tail.route, "smtp:h"));
	if (r->text_size > 0) {
		assert_int_equal(pread(f->fd, &c, 1,
		    (off_t)(r->text_offset + r->text_size - 1)), 1);
		assert_true(c >= 'a' && c <= 'c');
	}
}

static unsigned
scan(int fd, struct found *f)
{
	*f = (struct found){ .fd = fd };
	assert_int_equal(journal_scan(fd, note, f), 0);
	return f->n;
}

static void
groups_are_found_in_order(void **state)
{
	struct journal_entry e[7];
	struct found f;

	(void)state;
	assert_int_equal(scan(seg.fd, &f), 0);
	fill(e, 3, 100);
	assert_int_equal(journal_commit(&seg, e, 3), 0);
	assert_int_equal(seg.end % JOURNAL_BLOCK, 0);
	fill(e, 7, 200);
	assert_int_equal(journal_commit(&seg, e, 7), 0);
	assert_int_equal(scan(seg.fd, &f), 10);
	assert_int_equal(f.ids[0], 100);
	assert_int_equal(f.ids[2], 102);
	assert_int_equal(f.ids[3], 200);
	assert_int_equal(f.ids[9], 206);
}

static void
what_is_done_is_not_found(void **state)
{
	struct journal_entry e[3];
	struct found f;

	(void)state;
	fill(e, 3, 100);
	assert_int_equal(journal_commit(&seg, e, 3), 0);
	assert_int_equal(pwrite(seg.fd, "D", 1, (off_t)e[0].status_offset),
	    1);
	assert_int_equal(scan(seg.fd, &f), 2);
	/* One of two recipients: the message is still there. */
	assert_int_equal(pwrite(seg.fd, "D", 1,
	    (off_t)e[1].status_offset + 1), 1);
	assert_int_equal(scan(seg.fd, &f), 2);
	assert_int_equal(pwrite(seg.fd, "D", 1, (off_t)e[1].status_offset),
	    1);
	assert_int_equal(scan(seg.fd, &f), 1);
	assert_int_equal(f.ids[0], 102);
}

static void
an_earlier_use_leaves_nothing(void **state)
{
	struct journal_entry e[6];
	struct found f;

	(void)state;
	fill(e, 6, 100);
	assert_int_equal(journal_commit(&seg, e, 6), 0);
	assert_int_equal(journal_commit(&seg, e, 6), 0);
	assert_int_equal(scan(seg.fd, &f), 12);
	assert_int_equal(journal_reset(&seg, 2), 0);
	assert_int_equal(scan(seg.fd, &f), 0);
	/* A short group over a long one: its old rest is no record. */
	fill(e, 1, 300);
	assert_int_equal(journal_commit(&seg, e, 1), 0);
	assert_int_equal(scan(seg.fd, &f), 1);
	assert_int_equal(f.ids[0], 300);
}

static int
copy_of(uint64_t size)
{
	char *p = mem_alloc((size_t)size);
	int fd = memfd_create("c", 0);

	assert_int_equal(pread(seg.fd, p, (size_t)size, 0), (ssize_t)size);
	assert_int_equal(write(fd, p, (size_t)size), (ssize_t)size);
	free(p);
	return fd;
}

static void
cut_or_damaged_at_every_byte(void **state)
{
	struct journal_entry e[3];
	uint64_t first, last, at, step;
	struct found f;
	unsigned n;
	char c;
	int fd;

	(void)state;
	fill(e, 2, 100);
	assert_int_equal(journal_commit(&seg, e, 2), 0);
	first = seg.end;
	fill(e, 1, 200);
	assert_int_equal(journal_commit(&seg, e, 1), 0);
	last = first + journal_entry_size(&e[0]);
	/* The group before is found whatever becomes of the last record. */
	for (at = first; at < last; at++) {
		fd = copy_of(seg.end);
		assert_int_equal(ftruncate(fd, (off_t)at), 0);
		assert_int_equal(ftruncate(fd, (off_t)seg.end), 0);
		n = scan(fd, &f);
		/* The padding of a record is zero anyway. */
		assert_true(n == 2 || (n == 3 && last - at <= 8));
		close(fd);
	}
	fd = copy_of(seg.end);
	for (at = first; at < last; at++) {
		assert_int_equal(pread(fd, &c, 1, (off_t)at), 1);
		c ^= 1;
		assert_int_equal(pwrite(fd, &c, 1, (off_t)at), 1);
		n = scan(fd, &f);
		step = at - first;
		/* Status bytes and padding are outside the checksum. */
		assert_true(n == 2 || at == e[0].status_offset ||
		    step >= JOURNAL_HEAD + 100);
		c ^= 1;
		assert_int_equal(pwrite(fd, &c, 1, (off_t)at), 1);
	}
	assert_int_equal(scan(fd, &f), 3);
	close(fd);
}

/* What a disk may show of a group that was not synced. */
enum damage { CUT, ZEROS, GARBAGE, OLDER, DAMAGES };

static void
damage(char *p, uint64_t at, uint64_t size, enum damage how,
    const char *older)
{
	uint64_t i;

	for (i = at; i < size; i++)
		p[i] = how == GARBAGE ? (char)(i * 131 + 7) :
		    how == OLDER ? older[i] : 0;
}

static int
file_of(const char *p, uint64_t size)
{
	int fd = memfd_create("c", 0);

	assert_int_equal(write(fd, p, (size_t)size), (ssize_t)size);
	return fd;
}

/* But for the status bytes. */
static bool
same(const char *a, const char *b, uint64_t from, uint64_t to,
    const struct journal_entry *e)
{
	for (; from < to; from++)
		if (a[from] != b[from] && (from < e->status_offset ||
		    from >= e->status_offset + e->tail->nrcpts))
			return false;
	return true;
}

/*
 * A group of three records, the second with two recipients, torn at every
 * byte: what is behind it are zeros, garbage, or what an earlier use of the
 * segment has left there.  The groups before it are found, of itself only
 * records that are whole, and nothing of the earlier use.
 */
static void
a_torn_group_at_every_byte(void **state)
{
	struct journal_entry e[6], last[3];
	char *older, *whole, *torn;
	uint64_t first, size, at, end[3];
	enum damage how;
	struct found f;
	unsigned n, i, want;
	int fd;

	(void)state;
	fill(e, 6, 900);
	assert_int_equal(journal_commit(&seg, e, 6), 0);
	assert_int_equal(journal_commit(&seg, e, 6), 0);
	size = seg.end;
	older = mem_alloc(size);
	assert_int_equal(pread(seg.fd, older, size, 0), (ssize_t)size);
	assert_int_equal(journal_reset(&seg, 2), 0);
	fill(e, 1, 100);
	assert_int_equal(journal_commit(&seg, e, 1), 0);
	first = seg.end;
	fill(last, 3, 200);
	assert_int_equal(journal_commit(&seg, last, 3), 0);
	assert_true(seg.end <= size);
	for (i = 0, at = first; i < 3; i++) {
		at += journal_entry_size(&last[i]);
		end[i] = at;
	}
	whole = mem_alloc(size);
	torn = mem_alloc(size);
	assert_int_equal(pread(seg.fd, whole, size, 0), (ssize_t)size);
	for (how = CUT; how < DAMAGES; how++) {
		for (at = first; at <= end[2]; at++) {
			memcpy(torn, whole, size);
			damage(torn, at, size, how, older);
			fd = file_of(torn, how == CUT ? at : size);
			n = scan(fd, &f);
			close(fd);
			assert_true(n >= 1 && f.ids[0] == 100);
			/* All that are whole, and none that is not. */
			for (i = 0, want = 1; i < 3; i++)
				want += at >= end[i];
			assert_true(n >= want);
			for (i = 0; i + 1 < n; i++)
				assert_true(same(torn, whole, i == 0 ? first :
				    end[i - 1], end[i] - 7, &last[i]));
			for (i = 1; i < n; i++)
				assert_int_equal(f.ids[i], 199 + i);
		}
	}
	free(older);
	free(whole);
	free(torn);
}

/* Blocks reach the disk in any order: each subset of the group's. */
static void
a_group_of_which_blocks_are_missing(void **state)
{
	struct journal_entry e[6], last[3];
	char *older, *whole, *torn;
	uint64_t first, size, blocks, set, b;
	struct found f;
	unsigned n, i;
	int fd;

	(void)state;
	fill(e, 6, 900);
	assert_int_equal(journal_commit(&seg, e, 6), 0);
	assert_int_equal(journal_commit(&seg, e, 6), 0);
	size = seg.end;
	older = mem_alloc(size);
	assert_int_equal(pread(seg.fd, older, size, 0), (ssize_t)size);
	assert_int_equal(journal_reset(&seg, 2), 0);
	fill(e, 1, 100);
	assert_int_equal(journal_commit(&seg, e, 1), 0);
	first = seg.end;
	fill(last, 3, 200);
	assert_int_equal(journal_commit(&seg, last, 3), 0);
	blocks = (seg.end - first) / 512;
	assert_true(blocks > 8 && blocks < 20);
	whole = mem_alloc(size);
	torn = mem_alloc(size);
	assert_int_equal(pread(seg.fd, whole, size, 0), (ssize_t)size);
	for (set = 0; set < UINT64_C(1) << blocks; set += 1 + set % 13) {
		memcpy(torn, whole, size);
		for (b = 0; b < blocks; b++)
			if ((set & UINT64_C(1) << b) == 0)
				memcpy(torn + first + b * 512,
				    older + first + b * 512, 512);
		fd = file_of(torn, size);
		n = scan(fd, &f);
		close(fd);
		assert_true(n >= 1 && f.ids[0] == 100);
		for (i = 1; i < n; i++)
			assert_true(f.ids[i] >= 200 && f.ids[i] <= 202);
	}
	free(older);
	free(whole);
	free(torn);
}

/* A failure is told once by the kernel; here it is told to all. */
static void
a_sync_that_failed_has_failed_for_good(void **state)
{
	struct journal_entry e[2];
	struct found f;

	(void)state;
	fill(e, 2, 100);
	assert_int_equal(journal_commit(&seg, e, 2), 0);
	seg.sync_failed = EIO;
	assert_int_equal(journal_sync(&seg), EIO);
	assert_int_equal(journal_commit(&seg, e, 2), EIO);
	assert_true(seg.bad);
	assert_int_equal(journal_commit(&seg, e, 2), EIO);
	/* What is taken back is finished, and nobody of it is done. */
	journal_void(&seg, e, 2);
	assert_int_equal(scan(seg.fd, &f), 2);
	assert_int_equal(f.finished, 2);
}

static void
a_segment_in_use_is_locked(void **state)
{
	int fd = openat(dir, "one", O_RDWR);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
	assert_int_equal(errno, EWOULDBLOCK);
	close(fd);
}

static void
other_files_are_no_segments(void **state)
{
	struct found f = { 0 };
	int fd = memfd_create("x", 0);

	(void)state;
	assert_int_equal(journal_scan(fd, note, &f), EBADMSG);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(journal_scan(fd, note, &f), EBADMSG);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(groups_are_found_in_order,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_done_is_not_found,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(an_earlier_use_leaves_nothing,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(cut_or_damaged_at_every_byte,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(a_torn_group_at_every_byte,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(
		    a_group_of_which_blocks_are_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    a_sync_that_failed_has_failed_for_good, setup, teardown),
		cmocka_unit_test_setup_teardown(a_segment_in_use_is_locked,
		    setup, teardown),
		cmocka_unit_test(other_files_are_no_segments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
