/* link: queue/qmgr_dest.c */
/* Destinations: windows, turns, the dead list; with a clock of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/mem.h"
#include "queue/qmgr.h"

struct qmgr qmgr;
static struct conf cf;
static int64_t now_us = 1000000;
static unsigned suspended;

/* In place of lib/clock.c. */
struct mono
clock_mono(void)
{
	return (struct mono){ now_us };
}

struct wall
clock_wall(void)
{
	return (struct wall){ now_us };
}

/* In place of lib/conf.c: no transport has settings of its own. */
int64_t
conf_number(const struct conf *c, struct view name, int64_t fallback)
{
	(void)c;
	(void)name;
	return fallback;
}

static void
entry_done(struct entry *e)
{
	struct entry **p;

	for (p = &e->message->entries; *p != e; p = &(*p)->sibling)
		;
	*p = e->sibling;
	e->message->n_entries--;
	free(e);
}

void
deliver_suspended(struct entry *e, const char *why)
{
	assert_non_null(why);
	suspended++;
	entry_done(e);
}

static int
setup(void **state)
{
	(void)state;
	cf.initial_destination_concurrency = 2;
	cf.default_destination_concurrency_limit = 5;
	cf.default_destination_concurrency_failed_cohort_limit = 1;
	cf.minimal_backoff_time = 300000;
	qmgr.cf = &cf;
	suspended = 0;
	return 0;
}

static struct message one;

static struct dest *
dest_with(const char *name, unsigned n)
{
	struct dest *d = dest_get("smtp", name);
	uint32_t rcpt = 0;

	while (n-- > 0)
		dest_add(d, &one, &rcpt, 1);
	return d;
}

/* Start all that may start; returns how many, the entries in e. */
static unsigned
start(struct entry **e, unsigned max)
{
	unsigned n = 0;

	while (n < max && (e[n] = dest_next()) != NULL)
		n++;
	return n;
}

static void
finish(struct entry *e, enum delivery_trouble trouble)
{
	struct dest *d = e->dest;

	entry_done(e);
	dest_ended(d, trouble, view_of("Connection refused"));
}

static void
window_starts_at_two_grows_and_has_a_limit(void **state)
{
	struct dest *d = dest_with("grow", 100);
	struct entry *e[100];
	unsigned n, round, want[] = { 2, 3, 4, 5, 5 };

	(void)state;
	assert_ptr_equal(d, dest_get("smtp", "grow"));
	for (round = 0; round < 5; round++) {
		n = start(e, 100);
		assert_int_equal(n, want[round]);
		while (n > 0)
			finish(e[--n], TROUBLE_NONE);
	}
	while ((n = start(e, 100)) > 0)
		while (n > 0)
			finish(e[--n], TROUBLE_NONE);
	assert_int_equal(one.n_entries, 0);
}

static void
window_does_not_grow_unused(void **state)
{
	struct dest *d = dest_get("smtp", "unused");
	struct entry *e[10];
	uint32_t rcpt = 0;
	unsigned i;

	(void)state;
	for (i = 0; i < 10; i++) {
		dest_add(d, &one, &rcpt, 1);
		assert_int_equal(start(e, 10), 1);
		finish(e[0], TROUBLE_NONE);
	}
	(void)dest_with("unused", 10);
	assert_int_equal(start(e, 10), 2);
	finish(e[0], TROUBLE_NONE);
	finish(e[1], TROUBLE_NONE);
	while ((i = start(e, 10)) > 0)
		while (i > 0)
			finish(e[--i], TROUBLE_NONE);
}

static void
destinations_take_turns(void **state)
{
	struct dest *big = dest_with("big", 50);
	struct dest *a = dest_with("a", 1), *b = dest_with("b", 1);
	struct entry *e[60];
	unsigned n, i;

	(void)state;
	/* One connection for each before the second for anyone. */
	n = start(e, 60);
	assert_int_equal(n, 4);
	assert_ptr_equal(e[0]->dest, big);
	assert_ptr_equal(e[1]->dest, a);
	assert_ptr_equal(e[2]->dest, b);
	assert_ptr_equal(e[3]->dest, big);
	for (i = 0; i < n; i++)
		finish(e[i], TROUBLE_NONE);
	while ((n = start(e, 60)) > 0)
		while (n > 0)
			finish(e[--n], TROUBLE_NONE);
}

static void
a_dead_destination_costs_nothing(void **state)
{
	struct dest *d = dest_with("dead", 1000), *live;
	struct entry *e[10];
	uint32_t rcpt = 0;

	(void)state;
	assert_int_equal(start(e, 10), 2);
	assert_null(dest_dead(d));
	finish(e[0], TROUBLE_CONNECT);
	assert_null(dest_dead(d));
	live = dest_with("live", 1);
	finish(e[1], TROUBLE_CONNECT);
	/* A whole window has failed: the other 998 step aside untried. */
	assert_string_equal(dest_dead(d), "Connection refused");
	assert_int_equal(suspended, 998);
	assert_int_equal(start(e, 10), 1);
	assert_ptr_equal(e[0]->dest, live);
	finish(e[0], TROUBLE_NONE);
	/* It lives again after minimal_backoff_time, starting slowly. */
	now_us += 299 * INT64_C(1000000);
	event_base_loop(loop_base(), EVLOOP_NONBLOCK);
	assert_non_null(dest_dead(d));
	dest_revive_all();
	assert_null(dest_dead(d));
	dest_add(d, &one, &rcpt, 1);
	dest_add(d, &one, &rcpt, 1);
	dest_add(d, &one, &rcpt, 1);
	assert_int_equal(start(e, 10), 2);
	finish(e[0], TROUBLE_NONE);
	finish(e[1], TROUBLE_NONE);
	assert_int_equal(start(e, 10), 1);
	finish(e[0], TROUBLE_NONE);
}

static void
one_success_forgives(void **state)
{
	struct dest *d = dest_with("shaky", 30);
	struct entry *e[10];
	unsigned i, n;

	(void)state;
	cf.default_destination_concurrency_failed_cohort_limit = 3;
	for (i = 0; i < 6; i++) {
		n = start(e, 1);
		assert_int_equal(n, 1);
		finish(e[0], i % 2 == 0 ? TROUBLE_LOST : TROUBLE_NONE);
		assert_null(dest_dead(d));
	}
	while ((n = start(e, 10)) > 0)
		while (n > 0)
			finish(e[--n], TROUBLE_NONE);
}

static void
entries_of_a_message_can_be_taken_back(void **state)
{
	struct message other = { 0 };
	struct dest *d = dest_with("back", 2);
	struct entry *e[10];
	uint32_t rcpt = 0;
	unsigned n;

	(void)state;
	dest_add(d, &other, &rcpt, 1);
	dest_add(d, &one, &rcpt, 1);
	assert_int_equal(other.n_entries, 1);
	dest_forget(&other);
	assert_int_equal(other.n_entries, 0);
	assert_null(other.entries);
	n = start(e, 10);
	assert_int_equal(n, 2);
	assert_ptr_equal(e[0]->message, &one);
	assert_ptr_equal(e[1]->message, &one);
	finish(e[0], TROUBLE_NONE);
	n = start(e, 1);
	assert_int_equal(n, 1);
	assert_ptr_equal(e[0]->message, &one);
	finish(e[0], TROUBLE_NONE);
	finish(e[1], TROUBLE_NONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
		    window_starts_at_two_grows_and_has_a_limit, setup),
		cmocka_unit_test_setup(window_does_not_grow_unused, setup),
		cmocka_unit_test_setup(destinations_take_turns, setup),
		cmocka_unit_test_setup(a_dead_destination_costs_nothing,
		    setup),
		cmocka_unit_test_setup(one_success_forgives, setup),
		cmocka_unit_test_setup(entries_of_a_message_can_be_taken_back,
		    setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
