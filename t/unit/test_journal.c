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
		cmocka_unit_test_setup_teardown(a_segment_in_use_is_locked,
		    setup, teardown),
		cmocka_unit_test(other_files_are_no_segments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
