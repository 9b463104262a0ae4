/* link: queue/sched.c queue/sched_dest.c queue/sched_flow.c queue/sched_timer.c queue/sched_transport.c queue/sched_retry.c */
/*
 * Days that take milliseconds: scenarios are tables of hosts and of the mail
 * that comes for them; what is asserted are the scheduler's choices.
 */
#include "t/unit/sim_help.h"

/* --- scenarios ------------------------------------------------------- */

#define LIVE	20

/* Live hosts first: each a message a second, of a second; then others. */
static unsigned
live(struct host *hosts)
{
	static const char *const names[LIVE] = {
		"a", "b", "c", "d", "e", "f", "g", "h", "i", "j",
		"k", "l", "m", "n", "o", "p", "q", "r", "s", "t",
	};
	unsigned i;

	for (i = 0; i < LIVE; i++)
		hosts[i] = (struct host){ .name = names[i], .every = S,
			.burst = 10, .until = 2 * HOUR,
			.takes = S / 2 + i * S / 100,
			.down_from = NEVER, .down_until = NEVER };
	return LIVE;
}

static struct result
live_sum(void)
{
	struct result sum = { 0 };
	unsigned i;

	for (i = 0; i < LIVE; i++) {
		sum.delivered += sim.r[i].delivered;
		sum.waited += sim.r[i].waited;
		if (sim.r[i].longest > sum.longest)
			sum.longest = sim.r[i].longest;
	}
	return sum;
}

/* Live mail with the others is served exactly as without them. */
static void
compare(const struct host *hosts, unsigned n)
{
	struct result alone, with;

	sim_start(hosts, LIVE);
	sim_run(3 * HOUR);
	alone = live_sum();
	assert_int_equal(alone.delivered, LIVE * (10 + 2 * 3600));
	sim_end();
	sim_start(hosts, n);
	sim_run(3 * HOUR);
	with = live_sum();
	assert_int_equal(with.delivered, alone.delivered);
	assert_int_equal(with.waited, alone.waited);
	assert_int_equal(with.longest, alone.longest);
}

static const struct host dead = {
	.name = "dead", .burst = 50000, .takes = S, .timeout = 30 * S,
	.down_from = 0, .down_until = NEVER
};

static void
a_dead_host_delays_nobody(void **state)
{
	static struct host hosts[HOSTS_MAX];
	unsigned n = live(hosts), i;
	struct result r;
	bool deferred;

	(void)state;
	/* New mail, and mail that comes due all at once. */
	for (deferred = false;; deferred = true) {
		hosts[n] = dead;
		hosts[n].deferred = deferred;
		compare(hosts, n + 1);
		r = sim.r[n];
		assert_int_equal(r.delivered, 0);
		/* Two connections for every time it is found dead again. */
		assert_in_range(r.attempts, 4, 2 * 3 * 3600 / 300);
		assert_int_equal(r.most_running, 2);
		assert_true(r.shortest_retry >= MINIMAL);
		/* Nothing was lost on the way. */
		for (i = 0; i < sim.n; i++)
			assert_true(sim.messages[i]->state == DONE ||
			    sim.messages[i]->host == n);
		sim_end();
		if (deferred)
			break;
	}
	/* Without the share it does delay them: the test can fail. */
	sim_start(hosts, n + 1);
	sim.no_share = true;
	sim_run(3 * HOUR);
	r = live_sum();
	assert_true(r.longest > 10 * S);
	sim_end();
}

static void
many_dead_hosts_delay_nobody(void **state)
{
	static struct host hosts[HOSTS_MAX];
	unsigned n = live(hosts), i;
	static char names[30][8];

	(void)state;
	for (i = 0; i < 30; i++, n++) {
		(void)snprintf(names[i], sizeof names[i], "dead%u", i);
		hosts[n] = dead;
		hosts[n].name = names[i];
		hosts[n].burst = 5000;
	}
	compare(hosts, n);
	sim_end();
}

/* More of them than there are places for deliveries, all timing out. */
static void
ten_thousand_dead_hosts_delay_nobody(void **state)
{
	static struct host hosts[HOSTS_MAX];
	static char names[10000][8];
	unsigned n = live(hosts), i;

	(void)state;
	for (i = 0; i < 10000; i++, n++) {
		(void)snprintf(names[i], sizeof names[i], "h%u", i);
		hosts[n] = (struct host){ .name = names[i], .from = MINUTE,
			.every = 1, .until = MINUTE + 3, .timeout = 30 * S,
			.down_from = 0, .down_until = NEVER };
	}
	compare(hosts, n);
	sim_end();
}

static void
a_slow_host_delays_nobody(void **state)
{
	static struct host hosts[HOSTS_MAX];
	unsigned n = live(hosts);

	(void)state;
	/* Twenty at once of a minute each: a third of what comes in. */
	hosts[n] = (struct host){ .name = "slow", .burst = 30000, .every = S,
		.until = 2 * HOUR, .takes = 60 * S, .down_from = NEVER,
		.down_until = NEVER };
	compare(hosts, n + 1);
	assert_int_equal(sim.r[n].most_running, 20);
	/* It got what it can take: 20 a minute, once the window has grown. */
	assert_in_range(sim.r[n].delivered, 3400, 3600);
	sim_end();
}

static void
an_outage_of_a_day(void **state)
{
	static const struct host hosts[] = {
		{ .name = "inside", .burst = 1, .every = 20 * S,
		    .until = 2 * DAY, .takes = S, .timeout = 30 * S,
		    .down_from = 6 * HOUR, .down_until = 30 * HOUR },
	};
	struct result *r = &sim.r[0];
	unsigned before_it, i;

	(void)state;
	sim_start(hosts, 1);
	sim_run(6 * HOUR);
	before_it = r->attempts;
	sim_run(15 * HOUR);
	sim_restart();
	sim_run(16 * HOUR);
	sim_restart();
	sim_run(30 * HOUR);
	/* Two connections in five minutes (and those of each restart). */
	assert_in_range(r->attempts - before_it, 2 * 200, 2 * 24 * 12 + 10);
	assert_true(r->shortest_retry >= MINIMAL);
	/* It is back, and the administrator cannot wait: thousands are due.
	 * Two at once, and only success makes it more. */
	sim_flush();
	r->most_running = 0;
	sim_run(30 * HOUR + S / 2);
	assert_int_equal(r->before_success, 2);
	assert_int_equal(r->most_running, 2);
	sim_run(30 * HOUR + S + S / 2);
	assert_in_range(r->most_running, 3, 4);
	sim_run(31 * HOUR);
	assert_int_equal(r->most_running, 20);
	for (i = 0; i < sim.n; i++)
		if (sim.messages[i]->arrival < 30 * HOUR)
			assert_int_equal(sim.messages[i]->state, DONE);
	sim_run(3 * DAY);
	assert_int_equal(r->delivered, sim.n);
	sim_end();
}

/* The same without help: who waits is delivered at its own time, none of them
 * later than the longest distance of attempts. */
static void
an_outage_ends_by_itself(void **state)
{
	static const struct host hosts[] = {
		{ .name = "inside", .every = 5 * S, .until = HOUR,
		    .takes = S, .timeout = 30 * S, .down_from = 0,
		    .down_until = 20 * HOUR },
	};
	const struct result *r = &sim.r[0];

	(void)state;
	sim_start(hosts, 1);
	sim_run(20 * HOUR);
	assert_int_equal(r->delivered, 0);
	sim_run(20 * HOUR + MAXIMAL + MINIMAL);
	assert_int_equal(r->delivered, 720);
	assert_true(r->shortest_retry >= MINIMAL);
	assert_in_range(r->before_success, 1, 2);
	sim_end();
}

static void
rate_delay_for_a_day(void **state)
{
	static const struct host hosts[] = {
		{ .name = "fragile", .burst = 500, .every = 30 * S,
		    .until = DAY, .takes = 2 * S, .timeout = 30 * S,
		    .down_from = 5 * HOUR, .down_until = 6 * HOUR },
		{ .name = "other", .burst = 100, .every = MINUTE,
		    .until = DAY, .takes = 2 * S, .down_from = NEVER,
		    .down_until = NEVER },
	};

	(void)state;
	sim_start(hosts, 2);
	sim.limits.rate_delay = 10 * S;
	sim_run(2 * DAY);
	assert_int_equal(sim.r[0].most_running, 1);
	assert_int_equal(sim.r[0].shortest_pause, 10 * S);
	assert_int_equal(sim.r[0].delivered, 500 + 2 * 24 * 60);
	assert_int_equal(sim.r[1].shortest_pause, 10 * S);
	assert_int_equal(sim.r[1].delivered, 100 + 24 * 60);
	sim_end();
}

static void
scarce_slots_are_shared(void **state)
{
	struct host hosts[5];
	unsigned i;
	static const char *const names[] = { "a", "b", "c", "d", "e" };
	static const unsigned burst[] = { 100000, 9000, 5000, 2000, 1500 };

	(void)state;
	for (i = 0; i < 5; i++)
		hosts[i] = (struct host){ .name = names[i],
			.burst = burst[i], .takes = S, .down_from = NEVER,
			.down_until = NEVER };
	sim_start(hosts, 5);
	sim.slots = 10;
	sim_run(600 * S);
	/* Ten a second; nobody has run dry: a fifth each. */
	for (i = 0; i < 5; i++)
		assert_in_range(sim.r[i].delivered, 1150, 1250);
	sim_end();
	for (i = 0; i < 5; i++)
		hosts[i].burst = 1000;
	/* Slots for all but one: each has one before anyone has two. */
	sim_start(hosts, 5);
	sim.slots = 4;
	sim_run(3 * S);
	for (i = 0; i < 5; i++) {
		assert_int_equal(sim.r[i].most_running, 1);
		assert_in_range(sim.r[i].delivered, 2, 3);
	}
	sim_end();
}

/* Ten thousand next hops: each gets its first delivery before any gets its
 * second, whatever limits there are. */
static void
ten_thousand_destinations(void **state)
{
	struct sched_limits limits = {
		.initial = 2, .limit = 20, .recipients = 50, .at_once = 700,
		.failed_cohorts = 1, .rate_delay = S,
		.positive = { FEEDBACK_SHARE, 1 },
		.negative = { FEEDBACK_SHARE, 1 },
	};
	struct sched *s = sched_new(MINIMAL);
	struct transport *t = sched_add_transport(s, "smtp", &limits);
	static struct piece running[700];
	unsigned i, k, n, count, began = 0;
	struct mono now = { 0 };
	uint32_t zero = 0;
	char name[16];

	(void)state;
	for (k = 0; k < 5; k++)
		for (i = 0; i < 10000; i++) {
			(void)snprintf(name, sizeof name, "h%u", i);
			(void)sched_add(sched_dest(t, name, NULL),
			    (struct message *)(void *)(uintptr_t)(k + 1), i,
			    100, false, &zero, 1);
		}
	assert_int_equal(sched_count(s), 10000);
	for (count = 0; count < 50000; count += n) {
		for (n = 0; sched_next(s, &running[n]); n++) {
			k = (unsigned)(uintptr_t)running[n].entry->message;
			assert_true(k == 1 || began >= 10000);
			began++;
			if (n == 699) {
				n++;
				break;
			}
		}
		now.us += S / 10;
		sched_wake(s, now);
		for (i = 0; i < n; i++) {
			(void)sched_ended(running[i].entry, RESULT_OK,
			    view_of(""), 1);
			entry_free(running[i].entry);
		}
		if (n == 0) {
			now.us += S;
			sched_wake(s, now);
		}
	}
	now.us += 700 * S;
	sched_wake(s, now);
	now.us += 700 * S;
	sched_wake(s, now);
	assert_int_equal(sched_count(s), 0);
	sched_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_dead_host_delays_nobody),
		cmocka_unit_test(many_dead_hosts_delay_nobody),
		cmocka_unit_test(ten_thousand_dead_hosts_delay_nobody),
		cmocka_unit_test(a_slow_host_delays_nobody),
		cmocka_unit_test(an_outage_of_a_day),
		cmocka_unit_test(an_outage_ends_by_itself),
		cmocka_unit_test(rate_delay_for_a_day),
		cmocka_unit_test(scarce_slots_are_shared),
		cmocka_unit_test(ten_thousand_destinations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
