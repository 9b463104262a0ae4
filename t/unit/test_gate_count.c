/* link: proxy/gate_count.c proxy/gate_peaks.c */
/* Connections per client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/log.h"
#include "proxy/gate_peaks.h"

static struct gate_client
addr(const char *text)
{
	struct gate_client a = { .service = 1 };

	assert_true(netaddr_parse(view_of(text), &a.addr));
	return a;
}

static void
counts_by_block(void **state)
{
	struct gate_count *g = gate_count_new(32, 84, 100, 60000);
	struct gate_client a = addr("192.0.2.1"), b = addr("192.0.2.2"),
	    x = addr("2001:db8:0:0:0:1::1"), y = addr("2001:db8:0:0:0:2::9"),
	    z = addr("2001:db8:0:0:8000:1::1");

	(void)state;
	a.addr.port = 1000;
	assert_int_equal(gate_count_add(g, &a), 1);
	a.addr.port = 2000;
	assert_int_equal(gate_count_add(g, &a), 2);
	assert_int_equal(gate_count_add(g, &b), 1);
	/* The same 84 bits, and other ones. */
	assert_int_equal(gate_count_add(g, &x), 1);
	assert_int_equal(gate_count_add(g, &y), 2);
	assert_int_equal(gate_count_add(g, &z), 1);
	assert_int_equal(gate_count_clients(g), 4);
	gate_count_drop(g, &y);
	gate_count_drop(g, &x);
	gate_count_drop(g, &b);
	assert_int_equal(gate_count_clients(g), 2);
	assert_int_equal(gate_count_add(g, &b), 1);
	gate_count_free(&g);
	assert_null(g);
}

static void
wide_blocks(void **state)
{
	struct gate_count *g = gate_count_new(20, 1, 100, 60000);
	struct gate_client a = addr("192.0.2.1"), b = addr("192.0.15.255"),
	    c = addr("192.0.16.0");

	(void)state;
	assert_int_equal(gate_count_add(g, &a), 1);
	assert_int_equal(gate_count_add(g, &b), 2);
	assert_int_equal(gate_count_add(g, &c), 1);
	gate_count_free(&g);
}

static void
full_lets_in(void **state)
{
	struct gate_count *g = gate_count_new(32, 84, 2, 60000);
	struct gate_client a = addr("192.0.2.1"), b = addr("192.0.2.2"),
	    c = addr("192.0.2.3");

	(void)state;
	assert_int_equal(gate_count_add(g, &a), 1);
	assert_int_equal(gate_count_add(g, &b), 1);
	assert_int_equal(gate_count_add(g, &c), 0);
	gate_count_drop(g, &c);
	assert_int_equal(gate_count_add(g, &a), 2);
	assert_int_equal(gate_count_clients(g), 2);
	gate_count_free(&g);
}

static void
rates(void **state)
{
	struct gate_count *g = gate_count_new(24, 84, 2, 60000);
	struct gate_client a = addr("192.0.2.1"), b = addr("192.0.2.2"),
	    c = addr("198.51.100.1"), d = addr("203.0.113.1");
	struct mono t0 = { 1000000 }, t1 = { 60999999 }, t2 = { 61000000 };

	(void)state;
	assert_int_equal(gate_count_event(g, &a, EVENT_CONNECTION, t0), 1);
	assert_int_equal(gate_count_event(g, &b, EVENT_CONNECTION, t1), 2);
	/* It is kept when its connections end. */
	assert_int_equal(gate_count_add(g, &a), 1);
	gate_count_drop(g, &a);
	gate_count_drop(g, &a);
	assert_int_equal(gate_count_event(g, &a, EVENT_CONNECTION, t1), 3);
	assert_int_equal(gate_count_event(g, &a, EVENT_CONNECTION, t2), 1);
	assert_int_equal(gate_count_event(g, &c, EVENT_CONNECTION, t0), 1);
	/* No room for one more: it is not limited. */
	assert_int_equal(gate_count_event(g, &d, EVENT_CONNECTION, t2), 0);
	gate_count_sweep(g, t2);
	assert_int_equal(gate_count_clients(g), 1);
	assert_int_equal(gate_count_add(g, &d), 1);
	assert_int_equal(gate_count_event(g, &d, EVENT_CONNECTION, t0), 1);
	/* One with connections stays. */
	gate_count_sweep(g, (struct mono){ 200000000 });
	assert_int_equal(gate_count_clients(g), 1);
	gate_count_drop(g, &d);
	gate_count_sweep(g, (struct mono){ 200000000 });
	assert_int_equal(gate_count_clients(g), 0);
	gate_count_free(&g);
}

/* One unit of time for all that a client does; a service of its own. */
static void
events(void **state)
{
	struct gate_count *g = gate_count_new(32, 84, 3, 60000);
	struct gate_client a = addr("192.0.2.1"), b = a;
	struct mono t0 = { 0 }, t1 = { 59999999 }, t2 = { 60000000 };
	unsigned i;

	(void)state;
	b.service = 2;
	assert_int_equal(gate_count_event(g, &a, EVENT_MESSAGE, t0), 1);
	for (i = 1; i <= 5; i++)
		assert_int_equal(gate_count_event(g, &a, EVENT_RECIPIENT,
		    t1), i);
	assert_int_equal(gate_count_event(g, &a, EVENT_MESSAGE, t1), 2);
	assert_int_equal(gate_count_event(g, &b, EVENT_MESSAGE, t1), 1);
	assert_int_equal(gate_count_event(g, &a, EVENT_MESSAGE, t2), 1);
	assert_int_equal(gate_count_event(g, &a, EVENT_RECIPIENT, t2), 1);
	assert_int_equal(gate_count_clients(g), 2);
	gate_count_free(&g);
}

/* A flood of addresses takes no more than the table; who was in it before
 * goes on being counted. */
static void
flood(void **state)
{
	struct gate_count *g = gate_count_new(32, 84, 1000, 60000);
	struct gate_client a = addr("192.0.2.1"), x = addr("2001:db8::1");
	struct mono t0 = { 1 };
	uint32_t i;

	(void)state;
	assert_int_equal(gate_count_event(g, &a, EVENT_MESSAGE, t0), 1);
	for (i = 0; i < 200000; i++) {
		memcpy(x.addr.b, &i, sizeof i);
		(void)gate_count_event(g, &x, EVENT_RECIPIENT, t0);
	}
	assert_int_equal(gate_count_clients(g), 1000);
	assert_int_equal(gate_count_missed(g), 200000 - 999);
	assert_int_equal(gate_count_missed(g), 0);
	assert_int_equal(gate_count_event(g, &a, EVENT_MESSAGE, t0), 2);
	gate_count_sweep(g, (struct mono){ 60000001 });
	assert_int_equal(gate_count_clients(g), 0);
	gate_count_free(&g);
}

static char said[2000];

static void
hear(int fd)
{
	ssize_t n;

	log_flush();
	n = pread(fd, said, sizeof said - 1, 0);

	assert_true(n >= 0);
	said[n] = '\0';
	assert_int_equal(ftruncate(fd, 0), 0);
}

/* The report says the most of each kind, and of whom; once. */
static void
peaks(void **state)
{
	struct gate_peaks p = { 0 };
	struct gate_client a = addr("192.0.2.1"), b = addr("2001:db8::");
	int fd = memfd_create("log", 0);

	(void)state;
	log_to(LOG_SINK_FILE, dup(fd), 0);
	gate_peaks_log(&p, 60000);
	hear(fd);
	assert_string_equal(said, "");
	gate_peaks_see(&p, EVENT_MESSAGE, 7, &a.addr, 32, "smtp");
	gate_peaks_see(&p, EVENT_MESSAGE, 6, &b.addr, 84, "smtp");
	gate_peaks_see(&p, PEAK_CONNECTIONS, 2, &b.addr, 84, "submission");
	gate_peaks_see(&p, PEAK_CLIENTS, 3, NULL, 0, "");
	gate_peaks_log(&p, 60000);
	hear(fd);
	assert_non_null(strstr(said, "statistics: max message rate 7/60s for "
	    "(smtp:192.0.2.1) at "));
	assert_non_null(strstr(said, "statistics: max connection count 2 for "
	    "(submission:2001:db8::/84) at "));
	assert_non_null(strstr(said, "statistics: max cache size 3 at "));
	assert_null(strstr(said, "recipient rate"));
	gate_peaks_log(&p, 60000);
	hear(fd);
	assert_string_equal(said, "");
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_by_block),
		cmocka_unit_test(wide_blocks),
		cmocka_unit_test(full_lets_in),
		cmocka_unit_test(rates),
		cmocka_unit_test(events),
		cmocka_unit_test(flood),
		cmocka_unit_test(peaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
