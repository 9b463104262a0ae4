/* link: proxy/gate_count.c */
/* Connections per client. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "proxy/gate_count.h"

static struct netaddr
addr(const char *text)
{
	struct netaddr a = { 0 };

	assert_true(netaddr_parse(view_of(text), &a));
	return a;
}

static void
counts_by_block(void **state)
{
	struct gate_count *g = gate_count_new(32, 84, 100);
	struct netaddr a = addr("192.0.2.1"), b = addr("192.0.2.2"),
	    x = addr("2001:db8:0:0:0:1::1"), y = addr("2001:db8:0:0:0:2::9"),
	    z = addr("2001:db8:0:0:8000:1::1");

	(void)state;
	a.port = 1000;
	assert_int_equal(gate_count_add(g, &a), 1);
	a.port = 2000;
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
	struct gate_count *g = gate_count_new(20, 1, 100);
	struct netaddr a = addr("192.0.2.1"), b = addr("192.0.15.255"),
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
	struct gate_count *g = gate_count_new(32, 84, 2);
	struct netaddr a = addr("192.0.2.1"), b = addr("192.0.2.2"),
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
	struct gate_count *g = gate_count_new(24, 84, 2);
	struct netaddr a = addr("192.0.2.1"), b = addr("192.0.2.2"),
	    c = addr("198.51.100.1"), d = addr("203.0.113.1");
	struct mono t0 = { 1000000 }, t1 = { 60999999 }, t2 = { 61000000 };

	(void)state;
	assert_int_equal(gate_count_rate(g, &a, t0, 60000), 1);
	assert_int_equal(gate_count_rate(g, &b, t1, 60000), 2);
	/* It is kept when its connections end. */
	assert_int_equal(gate_count_add(g, &a), 1);
	gate_count_drop(g, &a);
	gate_count_drop(g, &a);
	assert_int_equal(gate_count_rate(g, &a, t1, 60000), 3);
	assert_int_equal(gate_count_rate(g, &a, t2, 60000), 1);
	assert_int_equal(gate_count_rate(g, &c, t0, 60000), 1);
	/* No room for one more: it is not limited. */
	assert_int_equal(gate_count_rate(g, &d, t2, 60000), 0);
	gate_count_sweep(g, t2, 60000);
	assert_int_equal(gate_count_clients(g), 1);
	assert_int_equal(gate_count_add(g, &d), 1);
	assert_int_equal(gate_count_rate(g, &d, t0, 60000), 1);
	/* One with connections stays. */
	gate_count_sweep(g, (struct mono){ 200000000 }, 60000);
	assert_int_equal(gate_count_clients(g), 1);
	gate_count_drop(g, &d);
	gate_count_sweep(g, (struct mono){ 200000000 }, 60000);
	assert_int_equal(gate_count_clients(g), 0);
	gate_count_free(&g);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_by_block),
		cmocka_unit_test(wide_blocks),
		cmocka_unit_test(full_lets_in),
		cmocka_unit_test(rates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
