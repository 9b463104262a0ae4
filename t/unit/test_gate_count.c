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

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_by_block),
		cmocka_unit_test(wide_blocks),
		cmocka_unit_test(full_lets_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
