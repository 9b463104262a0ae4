/* link: queue/spool.c queue/spool_sync.c queue/spool_walk.c */
/* Queue files: complete or nothing, at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/mem.h"
#include "queue/spool.h"

static char top[64];
static struct spool spool;

static int
make_spool(void **state)
{
	char path[128];
	enum spool_place p;

	(void)state;
	snprintf(top, sizeof top, "/tmp/test_spool.XXXXXX");
	if (mkdtemp(top) == NULL)
		return -1;
	for (p = PLACE_INCOMING; p < PLACES; p++) {
		snprintf(path, sizeof path, "%s/%s", top,
		    spool_place_names[p]);
		if (mkdir(path, 0700) != 0)
			return -1;
	}
	return spool_open(&spool, top, "deferred") + spool_prepare(&spool);
}

static int
remove_spool(void **state)
{
	pid_t pid = fork();
	enum spool_place p;

	(void)state;
	for (p = PLACE_INCOMING; p < PLACES; p++)
		close(spool.dir[p]);
	if (pid == 0) {
		execl("/bin/rm", "rm", "-rf", top, (char *)NULL);
		_exit(127);
	}
	return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

static int
text_fd(size_t n)
{
	int fd = memfd_create("t", 0);
	size_t i;
	char *p = mem_alloc(n + 1);

	for (i = 0; i < n; i++)
		p[i] = (char)('a' + i % 26);
	assert_int_equal(write(fd, p, n), n);
	free(p);
	return fd;
}

static void
envelope_bytes(struct buf *b, uint32_t n)
{
	struct recipient *r = mem_array(n, sizeof *r);
	struct envelope e = { .sender = view_of("s@x"), .nrcpts = n,
		.rcpts = r };
	uint32_t i;

	for (i = 0; i < n; i++)
		r[i].addr = view_of("r@example.com");
	buf_init(b, 1 << 20);
	assert_true(envelope_put(b, &e));
	free(r);
}

static void
seal(struct queue_id id, size_t size, bool copy, enum spool_place place)
{
	struct buf env;
	struct spool_tail t = { .edits = view_make("\0\0\0\0", 4),
		.route = view_of("smtp:[h]"), .nrcpts = 3 };
	int from = text_fd(size), copied = -1;

	envelope_bytes(&env, 3);
	t.envelope = buf_view(&env);
	if (copy)
		assert_int_equal(spool_copy(&spool, id, from, size, &copied),
		    0);
	assert_int_equal(spool_seal(&spool, id, place, copied, from, 0, size,
	    (struct wall){ 1234567 }, &t, NULL), 0);
	close(from);
	buf_free(&env);
}

static void
check_sealed(struct queue_id id, size_t size, enum spool_place place)
{
	struct spool_file f;
	char last;

	assert_int_equal(spool_read(&spool, id, place, &f), 0);
	assert_int_equal(f.text_size, size);
	assert_int_equal(f.arrival.us, 1234567);
	assert_int_equal(f.tail.nrcpts, 3);
	assert_true(view_is(f.status, "..."));
	assert_true(view_is(f.tail.route, "smtp:[h]"));
	assert_int_equal(f.status_offset, spool_status_offset(size,
	    &f.tail));
	if (size > 0) {
		assert_int_equal(pread(f.fd, &last, 1,
		    (off_t)(SPOOL_TEXT_OFFSET + size - 1)), 1);
		assert_int_equal(last, 'a' + (size - 1) % 26);
	}
	free(f.bytes);
	close(f.fd);
}

static void
sealed_files_read_back(void **state)
{
	static const size_t sizes[] = { 0, 1, 100, 16384, 16385, 300000 };
	struct queue_id id = { 0x100 };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		id.n++;
		seal(id, sizes[i], false, PLACE_INCOMING);
		check_sealed(id, sizes[i], PLACE_INCOMING);
		id.n++;
		seal(id, sizes[i], true, PLACE_INCOMING);
		check_sealed(id, sizes[i], PLACE_INCOMING);
		id.n++;
		seal(id, sizes[i], true, PLACE_HOLD);
		check_sealed(id, sizes[i], PLACE_HOLD);
		assert_false(spool_exists(&spool, id, PLACE_INCOMING));
	}
}

static void
copied_but_not_sealed_is_no_mail(void **state)
{
	struct queue_id id = { 0x200 };
	struct spool_file f;
	int from = text_fd(5000), fd;

	(void)state;
	assert_int_equal(spool_copy(&spool, id, from, 5000, &fd), 0);
	assert_int_equal(spool_read(&spool, id, PLACE_INCOMING, &f), EBADMSG);
	/* Nor does the ready mark alone make it one. */
	assert_int_equal(fchmod(fd, 0700), 0);
	assert_int_equal(spool_read(&spool, id, PLACE_INCOMING, &f), EBADMSG);
	close(fd);
	close(from);
}

static char *
read_whole(struct queue_id id, size_t *ret_n)
{
	char name[QUEUE_ID_TEXT], *p;
	struct stat st;
	int fd = openat(spool.dir[PLACE_INCOMING], queue_id_text(id, name),
	    O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	p = mem_alloc((size_t)st.st_size);
	assert_int_equal(read(fd, p, (size_t)st.st_size), st.st_size);
	close(fd);
	*ret_n = (size_t)st.st_size;
	return p;
}

static int
check_bytes(struct queue_id id, const char *p, size_t n)
{
	struct spool_file f;
	int fd = memfd_create("f", 0), rc;

	assert_int_equal(fchmod(fd, 0700), 0);
	assert_int_equal(write(fd, p, n), n);
	rc = spool_check(fd, id, &f);
	if (rc == 0)
		free(f.bytes);
	close(fd);
	return rc;
}

static void
cut_or_changed_is_no_mail(void **state)
{
	struct queue_id id = { 0x300 };
	struct spool_file f;
	uint64_t status;
	size_t n, i;
	char *p;

	(void)state;
	seal(id, 700, false, PLACE_INCOMING);
	assert_int_equal(spool_read(&spool, id, PLACE_INCOMING, &f), 0);
	status = f.status_offset;
	free(f.bytes);
	close(f.fd);
	p = read_whole(id, &n);
	assert_int_equal(check_bytes(id, p, n), 0);
	for (i = 0; i < n; i++)
		assert_int_equal(check_bytes(id, p, i), EBADMSG);
	for (i = 0; i < n; i++) {
		p[i] ^= 0x20;
		/* Only the status bytes may change. */
		assert_int_equal(check_bytes(id, p, n),
		    i >= status && i < status + 3 ? 0 : EBADMSG);
		p[i] ^= 0x20;
	}
	assert_int_equal(check_bytes((struct queue_id){ 0x301 }, p, n),
	    EBADMSG);
	free(p);
}

static void
deferring_keeps_marks_and_time(void **state)
{
	struct queue_id id = { 0x400 };
	struct spool_change change = { .status = view_of("D.D"),
		.status_changed = true, .next = { 2000000000000000 } };
	struct spool_file f;
	struct wall next;

	(void)state;
	seal(id, 100, false, PLACE_INCOMING);
	assert_int_equal(spool_rename(&spool, id, PLACE_INCOMING,
	    PLACE_ACTIVE), 0);
	assert_int_equal(spool_read(&spool, id, PLACE_ACTIVE, &f), 0);
	change.status_offset = f.status_offset;
	assert_int_equal(spool_defer(&spool, id, PLACE_ACTIVE,
	    PLACE_DEFERRED, &change), 0);
	free(f.bytes);
	close(f.fd);
	assert_false(spool_exists(&spool, id, PLACE_ACTIVE));
	assert_int_equal(spool_read(&spool, id, PLACE_DEFERRED, &f), 0);
	assert_true(view_is(f.status, "D.D"));
	free(f.bytes);
	close(f.fd);
	assert_int_equal(spool_next_time(&spool, id, PLACE_DEFERRED, &next),
	    0);
	assert_true(next.us == 2000000000000000);
}

/* Seal with a history, or without; then replace it by another. */
static void
history_stands_behind_the_end(void **state)
{
	static const char *const next[] = { "short", "a longer one", "x" };
	struct queue_id id = { 0x401 };
	struct spool_change change = { .status = view_of("..."),
		.next = { 1000000 } };
	struct spool_tail t = { .history = view_of("first"), .nrcpts = 3 };
	struct spool_file f;
	struct buf env;
	int from = text_fd(50);
	size_t i, n, k, mail = 0;
	char *p;

	(void)state;
	envelope_bytes(&env, 3);
	t.envelope = buf_view(&env);
	assert_int_equal(spool_seal(&spool, id, PLACE_INCOMING, -1, from, 0,
	    50, (struct wall){ 1 }, &t, NULL), 0);
	close(from);
	assert_int_equal(spool_read(&spool, id, PLACE_INCOMING, &f), 0);
	assert_true(view_is(f.tail.history, "first"));
	change.status_offset = f.status_offset;
	free(f.bytes);
	close(f.fd);
	for (i = 0; i < sizeof next / sizeof next[0]; i++) {
		change.history = view_of(next[i]);
		assert_int_equal(spool_defer(&spool, id, PLACE_INCOMING,
		    PLACE_INCOMING, &change), 0);
		assert_int_equal(spool_read(&spool, id, PLACE_INCOMING, &f),
		    0);
		assert_true(view_is(f.tail.history, next[i]));
		free(f.bytes);
		close(f.fd);
	}
	/* Damaged, it is no history; the message is complete all the same. */
	p = read_whole(id, &n);
	for (k = 0; k < n; k++)
		mail += check_bytes(id, p, k) == 0;
	assert_int_equal(mail, 8 + 4 + 1 + 8);
	for (k = n - mail; k < n; k++) {
		p[k] ^= 0x20;
		assert_int_equal(check_bytes(id, p, n), 0);
		p[k] ^= 0x20;
	}
	free(p);
	buf_free(&env);
}

static void
not_a_plain_file_is_not_followed(void **state)
{
	struct queue_id id = { 0x500 };
	char name[QUEUE_ID_TEXT];
	struct spool_file f;

	(void)state;
	queue_id_text(id, name);
	assert_int_equal(symlinkat("/etc/passwd",
	    spool.dir[PLACE_INCOMING], name), 0);
	assert_int_equal(spool_read(&spool, id, PLACE_INCOMING, &f), ELOOP);
	assert_int_equal(spool_unlink(&spool, id, PLACE_INCOMING), 0);
	assert_int_equal(mkfifoat(spool.dir[PLACE_INCOMING], name, 0700), 0);
	assert_int_equal(spool_read(&spool, id, PLACE_INCOMING, &f), EBADMSG);
}

static void
count_name(struct queue_id id, enum spool_place place, void *arg)
{
	(void)id;
	(void)place;
	++*(unsigned *)arg;
}

static void
walk_finds_each_once(void **state)
{
	struct queue_id id = { 0x600 };
	struct spool_walk *w;
	char path[200], name[QUEUE_ID_TEXT];
	unsigned n = 0, steps = 0, i;
	int fd;

	(void)state;
	for (i = 0; i < 40; i++) {
		id.n = 0x600 + i * 256;
		seal(id, 10, false, PLACE_INCOMING);
		assert_int_equal(spool_rename(&spool, id, PLACE_INCOMING,
		    PLACE_DEFERRED), 0);
	}
	/* One that another hash_queue_names has left at the top. */
	snprintf(path, sizeof path, "%s/deferred/%s", top,
	    queue_id_text((struct queue_id){ 0xabc00 }, name));
	fd = open(path, O_CREAT | O_WRONLY, 0700);
	assert_true(fd >= 0);
	close(fd);
	w = spool_walk_new(&spool, PLACE_DEFERRED);
	while (spool_walk_next(w, 7, count_name, &n))
		steps++;
	spool_walk_free(&w);
	/* One is there from before; what moves may be met again. */
	assert_true(n == 42 || n == 43);
	assert_true(steps >= 5);
	assert_true(spool_exists(&spool, (struct queue_id){ 0xabc00 },
	    PLACE_DEFERRED));
}

static void
a_used_id_is_refused(void **state)
{
	struct queue_id id = { 0x700 };
	struct spool_tail t = { .nrcpts = 1 };
	int from = text_fd(10);

	(void)state;
	seal(id, 10, false, PLACE_INCOMING);
	assert_int_equal(spool_seal(&spool, id, PLACE_INCOMING, -1, from, 0, 10,
	    (struct wall){ 1 }, &t, NULL), EEXIST);
	close(from);
	check_sealed(id, 10, PLACE_INCOMING);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sealed_files_read_back),
		cmocka_unit_test(copied_but_not_sealed_is_no_mail),
		cmocka_unit_test(cut_or_changed_is_no_mail),
		cmocka_unit_test(deferring_keeps_marks_and_time),
		cmocka_unit_test(history_stands_behind_the_end),
		cmocka_unit_test(not_a_plain_file_is_not_followed),
		cmocka_unit_test(walk_finds_each_once),
		cmocka_unit_test(a_used_id_is_refused),
	};

	return cmocka_run_group_tests(tests, make_spool, remove_spool);
}
