/* link: queue/sched.c queue/sched_dest.c queue/sched_flow.c queue/sched_probe.c queue/sched_timer.c queue/sched_transport.c queue/sched_retry.c */
/* Probes of addresses and mail in one window. */
#include "t/unit/sched_help.h"

static void
hold(struct dest *d, unsigned n)
{
	while (n-- > 0)
		dest_probe_hold(d);
}

static void
ended(struct dest *d, enum sched_result result)
{
	(void)dest_probe_ended(d, result, view_of("no"));
	dest_probe_release(d);
}

static void
window_holds_for_both(void **state)
{
	struct dest *d;
	struct piece p;

	(void)state;
	d = dest("a");
	hold(d, 5);
	assert_true(dest_probe_begin(d));
	assert_true(dest_probe_begin(d));
	assert_false(dest_probe_begin(d));
	(void)add(d, 1, 1, 1);
	assert_false(sched_next(s, &p));
	ended(d, RESULT_OK);
	/* The place is free for mail, and no probe goes before it. */
	assert_false(dest_probe_begin(d));
	assert_true(sched_next(s, &p));
	assert_false(dest_probe_begin(d));
	(void)finish(&p, RESULT_OK);
	assert_true(dest_probe_begin(d));
	ended(d, RESULT_OK);
	ended(d, RESULT_OK);
	assert_int_equal(dest_probes(d), 2);
	dest_probe_release(d);
	dest_probe_release(d);
}

static void
mail_and_probes_alternate_in_one_place(void **state)
{
	struct dest *d;
	struct piece p;
	unsigned i;

	(void)state;
	limits.initial = limits.limit = 1;
	d = dest("a");
	hold(d, 10);
	for (i = 0; i < 10; i++)
		(void)add(d, i + 1, 1, 1);
	for (i = 0; i < 9; i++) {
		assert_true(dest_probe_begin(d));
		assert_false(sched_next(s, &p));
		ended(d, RESULT_OK);
		assert_false(dest_probe_begin(d));
		assert_true(sched_next(s, &p));
		(void)finish(&p, RESULT_OK);
	}
	assert_true(sched_next(s, &p));
	(void)finish(&p, RESULT_OK);
	assert_true(dest_probe_begin(d));
	ended(d, RESULT_OK);
}

static void
failures_make_it_dead(void **state)
{
	struct dest *d;
	struct mono at;

	(void)state;
	d = dest("a");
	hold(d, 3);
	assert_true(dest_probe_begin(d));
	assert_true(dest_probe_begin(d));
	assert_false(dest_probe_ended(d, RESULT_FAILED, view_of("refused")));
	assert_true(dest_probe_ended(d, RESULT_FAILED, view_of("refused")));
	assert_string_equal(dest_dead_why(d), "refused");
	assert_false(dest_probe_begin(d));
	assert_true(sched_wake_at(s, &at));
	pass(300 * S);
	assert_null(dest_dead_why(d));
	assert_true(dest_probe_begin(d));
	/* A conversation, even one that breaks off, is no such failure. */
	assert_false(dest_probe_ended(d, RESULT_SHRINK, view_of("lost")));
	assert_true(dest_probe_begin(d));
	assert_true(dest_probe_begin(d));
	(void)dest_probe_ended(d, RESULT_OK, view_of(""));
	(void)dest_probe_ended(d, RESULT_OK, view_of(""));
	dest_probe_release(d);
	dest_probe_release(d);
	dest_probe_release(d);
}

static void
held_is_not_forgotten(void **state)
{
	struct dest *d;

	(void)state;
	d = dest("a");
	hold(d, 1);
	pass(3600 * S);
	assert_int_equal(sched_count(s), 1);
	assert_true(dest_probe_begin(d));
	pass(3600 * S);
	assert_int_equal(sched_count(s), 1);
	ended(d, RESULT_OK);
	pass(3600 * S);
	assert_int_equal(sched_count(s), 0);
}

static void
transport_limit_holds(void **state)
{
	struct dest *a, *b;
	struct piece p;

	(void)state;
	limits.at_once = 2;
	a = dest("a");
	b = dest("b");
	hold(a, 2);
	hold(b, 1);
	assert_true(dest_probe_begin(a));
	assert_true(dest_probe_begin(a));
	assert_false(dest_probe_begin(b));
	(void)add(b, 1, 1, 1);
	assert_false(sched_next(s, &p));
	ended(a, RESULT_OK);
	assert_true(sched_next(s, &p));
	(void)finish(&p, RESULT_OK);
	assert_true(dest_probe_begin(b));
	ended(b, RESULT_OK);
	ended(a, RESULT_OK);
}

int
main(void)
{
#define T(name)	cmocka_unit_test_setup_teardown(name, sched_setup, \
		sched_teardown)
	const struct CMUnitTest tests[] = {
		T(window_holds_for_both),
		T(mail_and_probes_alternate_in_one_place),
		T(failures_make_it_dead),
		T(held_is_not_forgotten),
		T(transport_limit_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
