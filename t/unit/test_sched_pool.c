/* link: queue/sched_pool.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "lib/mem.h"
#include "queue/sched_pool.h"

static struct pools *p;
static struct mono now;

static void
pools(const char *text)
{
	char *why = NULL;

	pools_free(&p);
	now.us = INT64_C(1000000000);
	p = pools_parse(text, 10000, 60000, &why);
	if (p == NULL)
		fail_msg("%s", why);
}

static void
order(const char *want)
{
	struct buf b;

	buf_init(&b, POOL_LIST_MAX);
	assert_int_equal(pools_order(p, view_of("ex"), now, &b), POOL_SERVERS);
	assert_string_equal(buf_cstr(&b), want);
	buf_free(&b);
}

static bool
heard(const char *hop, enum hop_news news)
{
	return pools_heard(p, view_of("ex"), view_of(hop), news,
	    view_of("because"), now);
}

static void
test_bad(void **state)
{
	static const char *const bad[][2] = {
		{ "[a]:25", "[a]:25: a pool has a name first: "
		    "\"NAME: [host]:port\"" },
		{ "ex:", "ex: has no servers" },
		{ "ex: b: [a]", "b:: the pool before it has no servers" },
		{ "ex: [a] ex: [b]", "ex:: this pool is there twice" },
		{ "e/x: [a]", "e/x:: not a name of a pool" },
		{ ": [a]", ":: not a name of a pool" },
		{ "ex: a", "a: expected \"NAME:\", \"[host]:port\", "
		    "\"weight=N\" or \"backup\"" },
		{ "ex: weight=2 [a]", "weight=2: expected \"NAME:\", "
		    "\"[host]:port\", \"weight=N\" or \"backup\"" },
		{ "ex: [a] weight=0", "weight=0: a weight is 1 to 1000" },
		{ "ex: [a] weight=1001", "weight=1001: a weight is 1 to 1000" },
		{ "ex: [a] weight=99999999999999999999",
		    "weight=99999999999999999999: a weight is 1 to 1000" },
		{ "ex: [a] weight=", "weight=: a weight is 1 to 1000" },
		{ "ex: [a]:0", "[a]:0: not a server: [host] or [host]:port" },
		{ "ex: [a]:", "[a]:: not a server: [host] or [host]:port" },
		{ "ex: []", "[]: not a server: [host] or [host]:port" },
		{ "ex: [", "[: not a server: [host] or [host]:port" },
		{ "ex: [a]x", "[a]x: not a server: [host] or [host]:port" },
		{ "ex: [a]:25, [A]:25", "[A]:25: this server is there twice" },
	};
	struct view name;
	char *why;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		why = NULL;
		assert_null(pools_parse(bad[i][0], 1, 1, &why));
		assert_string_equal(why, bad[i][1]);
		free(why);
	}
	pools("");
	assert_int_equal(pools_usable(p, view_of("ex")), POOL_UNKNOWN);
	assert_true(pools_name(view_of("pool:ex"), &name));
	assert_true(view_is(name, "ex"));
	assert_false(pools_name(view_of("pool.example.com"), &name));
}

static void
test_weights(void **state)
{
	(void)state;
	pools("other: [x] ex: [a]:25 weight=3, [b]:25 [c] backup");
	order("pool:ex [a]:25,[b]:25,[c]");
	order("pool:ex [a]:25,[b]:25,[c]");
	order("pool:ex [b]:25,[a]:25,[c]");
	order("pool:ex [a]:25,[b]:25,[c]");
	order("pool:ex [a]:25,[b]:25,[c]");
}

static void
test_down_and_half_open(void **state)
{
	(void)state;
	pools("ex: [a], [b], [c] backup");
	order("pool:ex [a],[b],[c]");
	assert_true(heard("[a]", HOP_DOWN));
	assert_false(heard("[a]", HOP_DOWN));
	order("pool:ex [b],[c]");
	order("pool:ex [b],[c]");
	now.us += 9999000;
	order("pool:ex [b],[c]");
	now.us += 1000;
	/* One goes there; the next 20 s nobody, until it answers. */
	order("pool:ex [a],[b],[c]");
	order("pool:ex [b],[c]");
	assert_false(heard("[a]", HOP_DOWN));
	now.us += 19999000;
	order("pool:ex [b],[c]");
	now.us += 1000;
	order("pool:ex [a],[b],[c]");
	assert_true(heard("[a]", HOP_UP));
	assert_false(heard("[a]", HOP_UP));
	order("pool:ex [b],[a],[c]");
	/* From the beginning again: 10 s. */
	assert_true(heard("[a]", HOP_DOWN));
	now.us += 10000000;
	order("pool:ex [a],[b],[c]");
}

static void
test_backoff_has_a_limit(void **state)
{
	static const int seconds[] = { 10, 20, 40, 60, 60, 60 };
	size_t i;

	(void)state;
	pools("ex: [a], [b]");
	assert_true(heard("[a]", HOP_DOWN));
	for (i = 0; i < 6; i++) {
		now.us += seconds[i] * INT64_C(1000000) - 1;
		order("pool:ex [b]");
		now.us += 1;
		order("pool:ex [a],[b]");
	}
}

static void
test_all_down(void **state)
{
	(void)state;
	pools("ex: [a], [b], [c] backup");
	assert_true(heard("[a]", HOP_DOWN));
	assert_true(heard("[b]", HOP_DOWN));
	order("pool:ex [c]");
	assert_true(heard("[c]", HOP_DOWN));
	order("pool:ex [a],[b],[c]");
	now.us += 10000000;
	order("pool:ex [a],[b],[c]");
	order("pool:ex [b],[a],[c]");
	assert_true(heard("[b]", HOP_UP));
	/* [c] is due. */
	order("pool:ex [c],[b]");
	order("pool:ex [b]");
}

static void
test_trouble(void **state)
{
	unsigned i;

	(void)state;
	pools("ex: [a], [b]");
	for (i = 0; i < 10; i++) {
		assert_false(heard("[a]", HOP_TROUBLE));
		assert_false(heard("[a]", HOP_TROUBLE));
		assert_false(heard("[a]", HOP_UP));
	}
	assert_false(heard("[a]", HOP_TROUBLE));
	assert_false(heard("[a]", HOP_TROUBLE));
	assert_true(heard("[a]", HOP_TROUBLE));
	order("pool:ex [b]");
	/* not known any more */
	assert_false(heard("[gone]", HOP_DOWN));
	assert_false(pools_heard(p, view_of("gone"), view_of("[a]"), HOP_DOWN,
	    view_of(""), now));
}

static void
fact(const struct pool_facts *f, void *arg)
{
	struct buf *b = arg;

	(void)buf_printf(b, "%s %s %s%s%s %u %llu %lld %s\n", f->pool, f->hop,
	    f->state, f->drained ? " drained" : "", f->backup ? " backup" :
	    "", f->weight, (unsigned long long)f->chosen,
	    (long long)f->retry_ms, f->why != NULL ? f->why : "-");
}

static void
test_drain(void **state)
{
	struct buf b;

	(void)state;
	pools("ex: [a] weight=2, [b], [c] backup");
	assert_true(pools_drain(p, view_of("ex"), view_of("[a]"), true));
	assert_false(pools_drain(p, view_of("ex"), view_of("[x]"), true));
	assert_false(pools_drain(p, view_of("no"), view_of("[a]"), true));
	order("pool:ex [b],[c]");
	assert_true(heard("[b]", HOP_DOWN));
	/* A drained one is not even the last resort. */
	order("pool:ex [c]");
	assert_true(heard("[c]", HOP_DOWN));
	order("pool:ex [b],[c]");
	buf_init(&b, 4096);
	pools_each(p, now, fact, &b);
	assert_string_equal(buf_cstr(&b), "ex [a] up drained 2 0 0 -\n"
	    "ex [b] down 1 2 10000 because\n"
	    "ex [c] down backup 1 1 10000 because\n");
	buf_free(&b);
	assert_true(pools_drain(p, view_of("ex"), view_of("[b]"), true));
	assert_true(pools_drain(p, view_of("ex"), view_of("[c]"), true));
	assert_int_equal(pools_usable(p, view_of("ex")), POOL_DRAINED);
	buf_init(&b, 4096);
	assert_int_equal(pools_order(p, view_of("ex"), now, &b), POOL_DRAINED);
	assert_int_equal(b.n, 0);
	buf_free(&b);
	assert_true(pools_drain(p, view_of("ex"), view_of("[b]"), false));
	order("pool:ex [b]");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_down_and_half_open),
		cmocka_unit_test(test_backoff_has_a_limit),
		cmocka_unit_test(test_all_down),
		cmocka_unit_test(test_trouble),
		cmocka_unit_test(test_drain),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	pools_free(&p);
	return failed;
}
