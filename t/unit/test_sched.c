/* link: queue/sched.c queue/sched_dest.c queue/sched_flow.c queue/sched_timer.c queue/sched_transport.c queue/sched_retry.c */
/* The scheduler's rules, one by one. */
#include "t/unit/sched_help.h"

#define MANY	200

/* --- windows --------------------------------------------------------- */

/* One after another all of a round end as told; what starts in the next. */
static void
rounds(const char *results, const unsigned *want)
{
	struct dest *d = dest("window");
	struct piece p[MANY];
	unsigned n, i, k;

	add_many(d, 2000);
	for (i = 0; results[i] != '\0'; i++) {
		n = start(p, MANY);
		if (n != want[i])
			fail_msg("round %u: %u began, not %u", i, n, want[i]);
		for (k = 0; k < n; k++)
			assert_false(finish(&p[k], results[i] == '+' ?
			    RESULT_OK : RESULT_FAILED));
	}
	(void)drain(d);
}

static void
window_starts_at_two_grows_to_the_limit(void **state)
{
	(void)state;
	rounds("+++++", (unsigned[]){ 2, 3, 4, 5, 5 });
}

/*
 * By hand: a delivery counts while the window is below the deliveries
 * underway, itself included, plus the initial two.  So in each round the
 * first two count: a half each, one step.
 */
static void
window_by_constant_parts(void **state)
{
	(void)state;
	limits.limit = 20;
	limits.positive.number = 0.5;
	rounds("+++++", (unsigned[]){ 2, 3, 4, 5, 6 });
}

/*
 * At 2: 1/2, 1: a step.  At 3 two of a round count: 1/3, 2/3, and the first
 * of the next round makes it 1.  At 4: 1/4, 2/4; 3/4, 1.
 */
static void
window_by_share(void **state)
{
	(void)state;
	limits.limit = 20;
	limits.positive.form = FEEDBACK_SHARE;
	rounds("++++++", (unsigned[]){ 2, 3, 3, 4, 4, 5 });
}

static void
window_shrinks_by_one_or_by_share(void **state)
{
	struct dest *d;
	struct piece p[MANY];
	unsigned n, k;

	(void)state;
	limits.limit = 20;
	limits.initial = 10;
	limits.failed_cohorts = 1000;
	limits.negative.form = FEEDBACK_SHARE;
	d = dest("shrink");
	add_many(d, 500);
	/* 1/10 for the first failure, and it is taken at once; the next
	 * nine are paid from that step. */
	n = start(p, MANY);
	assert_int_equal(n, 10);
	(void)finish(&p[0], RESULT_FAILED);
	assert_int_equal(facts(d).window, 9);
	for (k = 1; k < 9; k++) {
		(void)finish(&p[k], RESULT_FAILED);
		assert_int_equal(facts(d).window, 9);
	}
	(void)finish(&p[9], RESULT_FAILED);
	assert_int_equal(facts(d).window, 8);
	/* Lost in the middle counts the same way. */
	for (k = 0; k < 200; k++) {
		assert_true(start(p, 1) == 1);
		(void)finish(&p[0], RESULT_SHRINK);
	}
	assert_int_equal(facts(d).window, 1);
	assert_null(dest_dead_why(d));
	(void)drain(d);
}

static void
window_by_root_and_up_and_down(void **state)
{
	struct dest *d;
	struct piece p[MANY];
	unsigned k;

	(void)state;
	limits.limit = 20;
	limits.initial = 4;
	limits.failed_cohorts = 10;
	limits.positive.form = FEEDBACK_ROOT;
	d = dest("root");
	add_many(d, 500);
	assert_int_equal(start(p, MANY), 4);
	/* 1/2 each: 0.5 + 0.25 no; 1.0 yes. */
	(void)finish(&p[0], RESULT_OK);
	assert_int_equal(facts(d).window, 4);
	(void)finish(&p[1], RESULT_OK);
	assert_int_equal(facts(d).window, 5);
	/* A failure takes one back, and what was saved up. */
	(void)finish(&p[2], RESULT_FAILED);
	assert_int_equal(facts(d).window, 4);
	(void)finish(&p[3], RESULT_FAILED);
	assert_int_equal(facts(d).window, 3);
	for (k = 0; k < 2; k++) {
		assert_int_equal(start(p, 1), 1);
		(void)finish(&p[0], RESULT_OK);
	}
	/* 1/sqrt(3) = 0.577, with half of it 0.87; twice: over 1 */
	assert_int_equal(facts(d).window, 4);
	(void)drain(d);
}

static void
window_does_not_grow_unused(void **state)
{
	struct dest *d;
	struct piece p[MANY];
	unsigned i;

	(void)state;
	limits.limit = 20;
	d = dest("unused");
	for (i = 0; i < 50; i++) {
		add_many(d, 1);
		assert_int_equal(start(p, MANY), 1);
		(void)finish(&p[0], RESULT_OK);
	}
	/* One at a time never needs more than one and the initial two. */
	assert_int_equal(facts(d).window, 3);
}

/* --- turns ----------------------------------------------------------- */

static void
destinations_take_turns(void **state)
{
	struct dest *big, *a, *b;
	struct piece p[MANY];
	unsigned n;

	(void)state;
	big = dest("big");
	a = dest("a");
	b = dest("b");
	add_many(big, 50);
	add_many(a, 1);
	add_many(b, 1);
	/* One connection for each before the second for anyone. */
	n = start(p, MANY);
	assert_int_equal(n, 4);
	assert_ptr_equal(p[0].entry->dest, big);
	assert_ptr_equal(p[1].entry->dest, a);
	assert_ptr_equal(p[2].entry->dest, b);
	assert_ptr_equal(p[3].entry->dest, big);
	while (n > 0)
		(void)finish(&p[--n], RESULT_OK);
	empty();
}

static void
long_lists_do_not_starve_small_messages(void **state)
{
	struct dest *d;
	struct piece p;
	uint32_t next = 0, expect;
	unsigned i;

	(void)state;
	limits.initial = limits.limit = 1;
	d = dest("list");
	(void)add(d, 1, 100, 10000);
	for (i = 0; i < 3; i++)
		(void)add(d, 10 + i, i, 1);
	/* A piece of the list, then each of the others, then the list. */
	for (i = 0; i < 5; i++) {
		assert_true(sched_next(s, &p));
		assert_int_equal((uintptr_t)p.entry->message,
		    i == 0 || i == 4 ? 1 : 9 + i);
		if (p.entry->n == 10000) {
			assert_int_equal(p.first, next);
			assert_int_equal(p.n, 50);
			next += 50;
		}
		(void)finish(&p, RESULT_OK);
	}
	/* Every recipient once, in order. */
	for (expect = next; sched_next(s, &p); expect += p.n) {
		assert_int_equal(p.first, expect);
		(void)finish(&p, RESULT_OK);
	}
	assert_int_equal(expect, 10000);
}

static void
senders_take_turns(void **state)
{
	struct dest *d;
	struct piece p;
	unsigned i;

	(void)state;
	limits.initial = limits.limit = 1;
	d = dest("senders");
	for (i = 0; i < 5000; i++)
		(void)add(d, 1, 7, 1);
	(void)add(d, 2, 8, 1);
	for (i = 0; i < 5000; i++)
		(void)add(d, 3, 9, 1);
	/* The small one is third at the latest; then the two alternate. */
	for (i = 0; i < 3; i++) {
		assert_true(sched_next(s, &p));
		assert_int_equal((uintptr_t)p.entry->message, i + 1);
		(void)finish(&p, RESULT_OK);
	}
	for (i = 0; i < 20; i++) {
		assert_true(sched_next(s, &p));
		assert_int_equal((uintptr_t)p.entry->message,
		    i % 2 == 0 ? 1 : 3);
		(void)finish(&p, RESULT_OK);
	}
	empty();
}

static void
old_mail_has_its_share(void **state)
{
	uint32_t zero = 0;
	struct dest *d;
	struct piece p;
	unsigned i, old = 0, last = 0;

	(void)state;
	limits.initial = limits.limit = 1;
	d = dest("share");
	for (i = 0; i < 100; i++) {
		(void)sched_add(d, MESSAGE(1), i, 1000, false, &zero, 1);
		(void)sched_add(d, MESSAGE(2), i, 1000, true, &zero, 1);
	}
	for (i = 1; i <= 100; i++) {
		assert_true(sched_next(s, &p));
		if ((uintptr_t)p.entry->message == 2) {
			assert_int_equal(i - last, SCHED_SHARE);
			last = i;
			old++;
		}
		(void)finish(&p, RESULT_OK);
	}
	assert_int_equal(old, 100 / SCHED_SHARE);
	empty();
}

static void
big_texts_leave_a_place(void **state)
{
	uint32_t zero = 0, i;
	struct dest *d;
	struct piece p[MANY];

	(void)state;
	limits.initial = limits.limit = 4;
	d = dest("big");
	for (i = 0; i < 10; i++)
		(void)sched_add(d, MESSAGE(1), i, SCHED_BIG + 1, false,
		    &zero, 1);
	assert_int_equal(start(p, MANY), 3);
	assert_string_equal(dest_held_by(d), "limit");
	/* Small ones come by while the big ones take their time. */
	for (i = 0; i < 10; i++) {
		(void)sched_add(d, MESSAGE(2), i, SCHED_BIG, false, &zero, 1);
		assert_int_equal(start(p + 3, 1), 1);
		assert_int_equal((uintptr_t)p[3].entry->message, 2);
		(void)finish(&p[3], RESULT_OK);
	}
	while (i-- > 7)
		(void)finish(&p[i - 7], RESULT_OK);
	/* At a window of 1 they take turns. */
	empty();
}

static void
the_unproven_leave_places(void **state)
{
	struct dest *known;
	struct piece p[MANY];
	unsigned i, n;
	char name[16];

	(void)state;
	sched_places(s, 20);
	known = dest("known");
	add_many(known, 1);
	assert_int_equal(start(p, MANY), 1);
	(void)finish(&p[0], RESULT_OK);
	for (i = 0; i < 100; i++) {
		(void)snprintf(name, sizeof name, "new%u", i);
		add_many(dest(name), 1);
	}
	n = start(p, MANY);
	assert_int_equal(n, 15);
	assert_string_equal(dest_held_by(dest("new99")), "relays");
	add_many(known, 2);
	assert_int_equal(start(p + n, MANY - n), 2);
	assert_ptr_equal(p[n].entry->dest, known);
	/* One that proves itself makes place for another that has not. */
	(void)finish(&p[0], RESULT_OK);
	assert_int_equal(start(p, 1), 1);
	assert_int_equal(start(p + n + 2, 1), 0);
	for (i = 0; i < n + 2; i++)
		(void)finish(&p[i], i % 2 == 0 ? RESULT_OK : RESULT_FAILED);
	sched_places(s, 0);
	empty();
}

/* --- limits ---------------------------------------------------------- */

static void
rate_delay_is_a_pause_after_the_end(void **state)
{
	struct dest *d;
	struct piece p[MANY];
	struct mono at;
	int i;

	(void)state;
	limits.rate_delay = 10 * S;
	d = dest("rate");
	add_many(d, 5);
	for (i = 0; i < 5; i++) {
		assert_int_equal(start(p, MANY), 1);
		pass(3 * S);
		assert_int_equal(start(p + 1, MANY), 0);
		(void)finish(&p[0], RESULT_OK);
		assert_true(sched_wake_at(s, &at));
		assert_int_equal(at.us, now.us + 10 * S);
		pass(10 * S - 1);
		assert_false(sched_next(s, &p[1]));
		if (i < 4)
			assert_string_equal(dest_held_by(d), "rate");
		pass(1);
	}
	assert_string_equal(dest_held_by(d), "none");
}

static void
transport_has_its_own_limits(void **state)
{
	struct sched_limits own;
	struct transport *t;
	struct piece p[MANY];
	char name[16];
	unsigned n, i;

	(void)state;
	limits.at_once = 3;
	for (i = 0; i < 10; i++) {
		(void)snprintf(name, sizeof name, "d%u", i);
		add_many(dest(name), 2);
	}
	own = limits;
	own.at_once = 0;
	own.transport_rate_delay = 5 * S;
	t = sched_add_transport(s, "slow", &own);
	add_many(sched_dest(t, "x", NULL), 1);
	add_many(sched_dest(t, "y", NULL), 1);
	n = start(p, MANY);
	assert_int_equal(n, 4);		/* three, and one of the slow */
	assert_string_equal(dest_held_by(dest("d9")), "transport");
	assert_string_equal(dest_held_by(sched_dest(t, "y", NULL)),
	    "transport");
	assert_string_equal(transport_name(
	    dest_transport(p[3].entry->dest)), "slow");
	(void)finish(&p[0], RESULT_OK);
	assert_int_equal(start(p, MANY), 1);
	assert_string_equal(dest_nexthop(p[0].entry->dest), "d3");
	(void)finish(&p[3], RESULT_OK);
	assert_false(sched_next(s, &p[3]));
	pass(5 * S);
	assert_true(sched_next(s, &p[3]));
	assert_string_equal(dest_nexthop(p[3].entry->dest), "y");
	for (i = 0; i < 4; i++)
		(void)finish(&p[i], RESULT_OK);
	empty();
	assert_int_equal(facts(dest("d9")).delivered, 2);
}

static void
one_recipient_at_a_time_is_a_destination_each(void **state)
{
	struct transport *t;
	struct dest *a, *b;
	struct piece p[MANY];

	(void)state;
	limits.recipients = 1;
	limits.rate_delay = 10 * S;
	t = transport();
	a = sched_dest(t, "host", "a");
	b = sched_dest(t, "host", "b");
	assert_ptr_not_equal(a, b);
	assert_ptr_equal(a, sched_dest(t, "host", "a"));
	assert_string_equal(dest_nexthop(a), "host");
	assert_string_equal(facts(a).user, "a@host");
	assert_null(facts(dest("host")).user);
	add_many(a, 2);
	add_many(b, 1);
	/* The pause is each recipient's own. */
	assert_int_equal(start(p, MANY), 2);
	assert_ptr_not_equal(p[0].entry->dest, p[1].entry->dest);
	(void)finish(&p[0], RESULT_OK);
	(void)finish(&p[1], RESULT_OK);
	assert_int_equal(start(p, MANY), 0);
	empty();
	/* One site has several; they are revived together. */
	assert_int_equal(sched_revive(s, "host"), 3);
	assert_int_equal(sched_revive(s, "other"), 0);
}

/* --- death ----------------------------------------------------------- */

static void
a_dead_destination_costs_nothing(void **state)
{
	struct dest *d;
	struct piece p[MANY];
	struct mono at;

	(void)state;
	d = dest("dead");
	add_many(d, 1000);
	assert_int_equal(start(p, MANY), 2);
	assert_false(finish(&p[0], RESULT_FAILED));
	assert_null(dest_dead_why(d));
	add_many(dest("live"), 1);
	assert_true(finish(&p[1], RESULT_FAILED));
	assert_string_equal(dest_dead_why(d), "Connection refused");
	assert_string_equal(dest_held_by(d), "dead");
	assert_string_equal(facts(d).last_error, "Connection refused");
	assert_int_equal(start(p, MANY), 1);
	assert_string_equal(dest_nexthop(p[0].entry->dest), "live");
	(void)finish(&p[0], RESULT_OK);
	assert_int_equal(drain(d), 998);
	assert_true(sched_wake_at(s, &at));
	assert_int_equal(at.us, now.us + 300 * S);
	pass(300 * S - 1);
	assert_non_null(dest_dead_why(d));
	pass(1);
	assert_null(dest_dead_why(d));
	/* It begins slowly again. */
	add_many(d, 10);
	assert_int_equal(start(p, MANY), 2);
	(void)finish(&p[0], RESULT_OK);
	(void)finish(&p[1], RESULT_OK);
	empty();
}

static void
failures_that_come_late_do_not_count_twice(void **state)
{
	struct dest *d;
	struct piece p[MANY];
	unsigned i;

	(void)state;
	limits.initial = limits.limit = 20;
	d = dest("late");
	add_many(d, 20);
	assert_int_equal(start(p, MANY), 20);
	for (i = 0; i < 20; i++)
		(void)finish(&p[i], RESULT_FAILED);
	pass(300 * S);
	assert_null(dest_dead_why(d));
	assert_int_equal(facts(d).window, 20);
	add_many(d, 20);
	assert_int_equal(start(p, MANY), 20);
	assert_false(finish(&p[0], RESULT_FAILED));
	for (i = 1; i < 20; i++)
		(void)finish(&p[i], RESULT_OK);
}

static void
one_success_forgives(void **state)
{
	struct dest *d;
	struct piece p;
	unsigned i;

	(void)state;
	d = dest("shaky");
	add_many(d, 30);
	/* At a window of 2 a failure is half a cohort, and the window 1; the
	 * success after it makes it 2 again. */
	for (i = 0; i < 10; i++) {
		assert_true(sched_next(s, &p));
		assert_false(finish(&p, RESULT_FAILED));
		assert_true(sched_next(s, &p));
		assert_false(finish(&p, RESULT_OK));
	}
	assert_true(sched_next(s, &p));
	assert_false(finish(&p, RESULT_FAILED));
	assert_true(sched_next(s, &p));
	assert_true(finish(&p, RESULT_FAILED));
	(void)drain(d);
}

static void
a_lost_connection_is_not_death(void **state)
{
	struct dest *d;
	struct piece p;
	unsigned i;

	(void)state;
	d = dest("lost");
	add_many(d, 100);
	for (i = 0; i < 100; i++) {
		assert_true(sched_next(s, &p));
		assert_false(finish(&p, RESULT_SHRINK));
	}
	assert_int_equal(facts(d).window, 1);
	assert_int_equal(facts(d).failed, 100);
}

static void
a_transport_without_processes(void **state)
{
	struct transport *t;
	struct dest *d;
	struct piece p;

	(void)state;
	d = dest("host");
	t = transport();
	add_many(d, 3);
	transport_die(t, "unavailable", 60 * S);
	assert_false(sched_next(s, &p));
	assert_string_equal(dest_held_by(d), "transport");
	assert_string_equal(transport_dead(t), "unavailable");
	pass(60 * S);
	assert_null(transport_dead(t));
	assert_true(sched_next(s, &p));
	(void)finish(&p, RESULT_OK);
	transport_die(t, "unavailable", 60 * S);
	assert_false(sched_next(s, &p));
	sched_revive_all(s);
	empty();
	assert_int_equal(facts(d).delivered, 3);
}

/* --- what is taken back, and what steps aside ------------------------ */

static void
entries_can_be_taken_back(void **state)
{
	struct dest *d;
	struct entry *list, *one;
	struct piece p[MANY];

	(void)state;
	limits.recipients = 10;
	d = dest("back");
	list = add(d, 1, 1, 25);
	one = add(d, 2, 2, 1);
	assert_true(sched_next(s, &p[0]));
	assert_ptr_equal(p[0].entry, list);
	assert_int_equal(facts(d).recipients, 16);
	sched_forget(list);
	sched_forget(one);
	assert_int_equal(facts(d).recipients, 0);
	assert_false(entry_finished(list));
	assert_true(entry_finished(one));
	entry_free(one);
	assert_false(sched_next(s, &p[1]));
	/* What never began tells nothing. */
	sched_returned(list);
	assert_int_equal(facts(d).failed, 0);
	assert_true(entry_finished(list));
	entry_free(list);
	assert_int_equal(facts(d).messages, 0);
}

static void
a_destination_leaves_room(void **state)
{
	unsigned limit = 90, active = 0, i;
	struct dest *d[2];
	struct parked *p, *other;

	(void)state;
	d[0] = dest("hog");
	d[1] = dest("hog2");
	/* The first takes half; then the second a quarter, one each... */
	while (dest_room(d[0], limit - active))
		add_many(d[0], 1), active++;
	assert_int_equal(active, 45);
	assert_false(sched_crowded(45, limit));
	while (dest_room(d[1], limit - active))
		add_many(d[1], 1), active++;
	assert_int_equal(active, 68);
	assert_true(dest_room(dest("third"), 1));
	assert_false(dest_room(d[0], limit - active));
	p = mem_array(3, sizeof *p);
	other = p + 2;
	for (i = 0; i < 3; i++)
		dest_park(d[0], &p[i]);
	assert_int_equal(facts(d[0]).parked, 3);
	parked_remove(&p[1]);
	assert_ptr_equal(dest_unpark(d[0]), &p[0]);
	assert_ptr_equal(dest_unpark(d[0]), other);
	assert_null(dest_unpark(d[0]));
	free(p);
	empty();
}

/* --- what is known --------------------------------------------------- */

static void
count_one(const struct dest_facts *f, void *arg)
{
	unsigned *n = arg;

	assert_non_null(f->nexthop);
	(*n)++;
}

static void
quiet_destinations_are_forgotten(void **state)
{
	struct parked parked;
	unsigned n = 0;
	struct dest *d;

	(void)state;
	d = dest("quiet");
	add_many(d, 1);
	add_many(dest("busy"), 1);
	{
		struct piece p;

		assert_true(sched_next(s, &p));
		(void)finish(&p, RESULT_OK);
	}
	assert_int_equal(facts(d).average, 1000);
	assert_int_equal(facts(d).window, 3);
	pass(59 * S);
	assert_ptr_equal(dest("quiet"), d);
	assert_int_equal(facts(d).window, 3);
	dest_park(d, &parked);
	(void)dest_unpark(d);
	/* A minute later it is as new, ten minutes later it is gone. */
	pass(60 * S);
	assert_ptr_equal(dest("quiet"), d);
	assert_int_equal(facts(d).window, 2);
	dest_park(d, &parked);
	(void)dest_unpark(d);
	pass(600 * S - 1);
	assert_int_equal(sched_count(s), 2);
	pass(1);
	assert_int_equal(sched_count(s), 1);
	sched_each(s, count_one, &n);
	assert_int_equal(n, 1);
	empty();
}

static void
retry_doubles_within_bounds(void **state)
{
	int64_t least = INT64_MAX, most = 0, d, age = 0;
	uint64_t seed;
	int i;

	(void)state;
	for (seed = 0; seed < 10000; seed++) {
		d = retry_delay(0, 300000, 4000000, seed);
		least = d < least ? d : least;
		most = d > most ? d : most;
		assert_in_range(retry_delay(1000000, 300000, 4000000, seed),
		    1000000, 1250000);
		assert_in_range(retry_delay(INT64_C(500000000), 300000,
		    4000000, seed), 3000000, 4000000);
	}
	/* Never early; and the jitter is used. */
	assert_in_range(least, 300000, 301000);
	assert_in_range(most, 374000, 375000);
	assert_int_equal(retry_delay(-5, 1000, 1000, 3), 1000);
	assert_int_equal(retry_delay(99999, 5000, 1000, 3), 5000);
	/* The age doubles until the maximum is reached. */
	for (i = 0; i < 8; i++) {
		d = retry_delay(age, 300000, 4000000, (uint64_t)i);
		if (age >= 300000 && age <= 3000000)
			assert_in_range(d, age, age * 5 / 4);
		age += d;
	}
}

#define T(f)	cmocka_unit_test_setup_teardown(f, sched_setup, sched_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(window_starts_at_two_grows_to_the_limit),
		T(window_by_constant_parts),
		T(window_by_share),
		T(window_shrinks_by_one_or_by_share),
		T(window_by_root_and_up_and_down),
		T(window_does_not_grow_unused),
		T(destinations_take_turns),
		T(long_lists_do_not_starve_small_messages),
		T(senders_take_turns),
		T(old_mail_has_its_share),
		T(big_texts_leave_a_place),
		T(the_unproven_leave_places),
		T(rate_delay_is_a_pause_after_the_end),
		T(transport_has_its_own_limits),
		T(one_recipient_at_a_time_is_a_destination_each),
		T(a_dead_destination_costs_nothing),
		T(failures_that_come_late_do_not_count_twice),
		T(one_success_forgives),
		T(a_lost_connection_is_not_death),
		T(a_transport_without_processes),
		T(entries_can_be_taken_back),
		T(a_destination_leaves_room),
		T(quiet_destinations_are_forgotten),
		T(retry_doubles_within_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
