/* Channels: order, descriptors, pieces, and what breaks the rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/chan.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"

static struct {
	unsigned msgs, closed, blamed;
	enum msg_type last;
	uint64_t sum;
	int fd;
	size_t bytes;
	unsigned wanted;
} got;

/* What a test waits for has come. */
static void
count(unsigned *what)
{
	(*what)++;
	if (got.msgs + got.closed + got.blamed == got.wanted)
		loop_stop();
}

static void
on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	(void)arg;
	count(&got.msgs);
	got.last = m->type;
	switch ((int)m->type) {
	case MSG_SLOT:
		got.sum = got.sum * 31 + cursor_u64(&m->body);
		if (!chan_check(c, m))
			return;
		if (got.fd >= 0)
			close(got.fd);
		got.fd = m->fd[0];
		m->fd[0] = -1;
		break;
	case MSG_SEALED:
		(void)cursor_u64(&m->body);
		(void)cursor_u16(&m->body);
		(void)cursor_view(&m->body);
		got.bytes += cursor_view(&m->body).n;
		(void)chan_check(c, m);
		break;
	default:
		break;
	}
}

static void
on_close(struct chan *c, void *arg)
{
	(void)c;
	(void)arg;
	count(&got.closed);
}

static void
on_blame(pid_t pid, const char *why)
{
	(void)why;
	assert_int_equal(pid, 99);
	count(&got.blamed);
}

static void
stop(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	loop_stop();
}

static void
turn(struct timeval limit)
{
	struct event timer;

	evtimer_assign(&timer, loop_base(), stop, NULL);
	event_add(&timer, &limit);
	loop_run();
	event_del(&timer);
}

/* Until so many have come; and no more come soon. */
static void
wait_for(unsigned wanted)
{
	got.wanted = wanted;
	if (got.msgs + got.closed + got.blamed < wanted)
		turn((struct timeval){ 20, 0 });
	got.wanted = 0;
	turn((struct timeval){ 0, 20000 });
}

static struct chan *a, *b;
static int raw;

static int
setup(void **state)
{
	int s[2];

	(void)state;
	memset(&got, 0, sizeof got);
	got.fd = -1;
	chan_on_blame = on_blame;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) != 0)
		return -1;
	a = chan_new(s[0], ROLE_QMGR, ROLE_SMTPD, 98, on_msg, on_close, NULL);
	b = chan_new(s[1], ROLE_SMTPD, ROLE_QMGR, 99, on_msg, on_close, NULL);
	return 0;
}

static int
setup_raw(void **state)
{
	int s[2];

	(void)state;
	memset(&got, 0, sizeof got);
	got.fd = -1;
	chan_on_blame = on_blame;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) != 0)
		return -1;
	raw = s[0];
	a = NULL;
	b = chan_new(s[1], ROLE_SMTPD, ROLE_QMGR, 99, on_msg, on_close, NULL);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	chan_free(&a);
	chan_free(&b);
	if (raw > 0)
		close(raw);
	raw = 0;
	if (got.fd >= 0)
		close(got.fd);
	return 0;
}

static void
many_messages_with_descriptors_in_order(void **state)
{
	uint64_t sum = 0;
	unsigned i;
	struct buf *m;
	char c;
	int fd;

	(void)state;
	for (i = 0; i < 300; i++) {
		fd = memfd_create("x", 0);
		c = (char)i;
		assert_int_equal(write(fd, &c, 1), 1);
		m = chan_begin(a, MSG_SLOT);
		put_u64(m, i);
		chan_put_fd(a, fd, false);
		chan_end(a);
		sum = sum * 31 + i;
		/* Others between them do not disturb the order. */
		m = chan_begin(a, MSG_SPACE);
		put_u8(m, 1);
		put_u64(m, i);
		chan_end(a);
	}
	chan_drain(a);
	wait_for(600);
	assert_int_equal(got.msgs, 600);
	assert_true(got.sum == sum);
	assert_int_equal(pread(got.fd, &c, 1, 0), 1);
	assert_int_equal((unsigned char)c, 299 & 255);
	assert_int_equal(got.blamed, 0);
}

static void
a_large_message_comes_in_pieces(void **state)
{
	size_t n = 3000000;
	char *p = mem_alloc(n);
	struct buf *m = chan_begin(a, MSG_SEALED);

	(void)state;
	put_u64(m, 1);
	put_u16(m, 250);
	put_view(m, view_of("2.0.0"));
	put_view(m, view_make(p, n));
	chan_end(a);
	wait_for(1);
	assert_int_equal(chan_unsent(a), 0);
	assert_int_equal(got.msgs, 1);
	assert_int_equal(got.bytes, n);
	free(p);
}

static void
what_breaks_the_rules_is_blamed(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} bad[] = {
		/* too short, too long, unknown, not allowed, no descriptor */
		{ "\7\0\0\0\1\0\0\0", 8 },
		{ "\0\0\0\x7f\1\0\0\0", 8 },
		{ "\x8\0\0\0\xff\xff\0\0", 8 },
		{ "\x8\0\0\0\1\0\2\0", 8 },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (i > 0) {
			teardown(NULL);
			setup_raw(NULL);
		}
		assert_int_equal(write(raw, bad[i].bytes, bad[i].n),
		    bad[i].n);
		wait_for(1);
		assert_int_equal(got.msgs, 0);
		assert_int_equal(got.blamed, 1);
	}
}

static void
a_descriptor_that_is_missing_is_blamed(void **state)
{
	unsigned char m[16] = { 16, 0, 0, 0, MSG_SLOT, 0, 1, 0 };

	(void)state;
	assert_int_equal(write(raw, m, sizeof m), sizeof m);
	wait_for(1);
	assert_int_equal(got.msgs, 0);
	assert_int_equal(got.blamed, 1);
}

static void
fields_too_many_are_blamed(void **state)
{
	struct buf *m = chan_begin(a, MSG_SLOT);

	(void)state;
	put_u64(m, 1);
	put_u8(m, 1);
	chan_put_fd(a, memfd_create("x", 0), false);
	chan_end(a);
	chan_drain(a);
	wait_for(1);
	assert_int_equal(got.blamed, 1);
}

static void
a_closed_end_is_told(void **state)
{
	(void)state;
	close(raw);
	raw = 0;
	wait_for(1);
	assert_int_equal(got.closed, 1);
	assert_int_equal(got.blamed, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    many_messages_with_descriptors_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    a_large_message_comes_in_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    what_breaks_the_rules_is_blamed, setup_raw, teardown),
		cmocka_unit_test_setup_teardown(
		    a_descriptor_that_is_missing_is_blamed, setup_raw,
		    teardown),
		cmocka_unit_test_setup_teardown(fields_too_many_are_blamed,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(a_closed_end_is_told,
		    setup_raw, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
