/* link: queue/verify_cache.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "queue/verify_cache.h"

#define NOW	INT64_C(1700000000)

static const struct verify_times times = {
	.positive_expire = 1000, .positive_refresh = 100,
	.negative_expire = 500, .negative_refresh = 50,
};
static struct verify_cache *cache;
static unsigned dropped;
static char last_dropped[64];

static void
on_drop(struct view addr, void *arg)
{
	(void)arg;
	dropped++;
	(void)snprintf(last_dropped, sizeof last_dropped, "%.*s",
	    VIEW_ARGS(addr));
}

static int
setup(void **state)
{
	(void)state;
	cache = verify_cache_new(16384, &times);
	dropped = 0;
	verify_cache_on_drop(cache, on_drop, NULL);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	verify_cache_free(&cache);
	assert_null(cache);
	return 0;
}

static void
put(const char *addr, bool deliverable, int64_t checked)
{
	struct verify_fact f = { deliverable, checked,
		view_of(deliverable ? "" : "550 no") };

	verify_cache_put(cache, view_of(addr), &f);
}

static enum verify_age
find(const char *addr, int64_t now)
{
	struct verify_fact f;

	return verify_cache_find(cache, view_of(addr), now, &f);
}

static void
ages(void **state)
{
	static const struct {
		bool deliverable;
		int64_t age;
		enum verify_age is;
	} t[] = {
		{ true, 0, VERIFY_FRESH }, { true, 99, VERIFY_FRESH },
		{ true, 100, VERIFY_STALE }, { true, 999, VERIFY_STALE },
		{ true, 1000, VERIFY_NONE }, { false, 49, VERIFY_FRESH },
		{ false, 50, VERIFY_STALE }, { false, 499, VERIFY_STALE },
		{ false, 500, VERIFY_NONE },
		/* the clock was set back */
		{ true, -5, VERIFY_STALE }, { false, -100000, VERIFY_STALE },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof t / sizeof t[0]; i++) {
		put("a@x", t[i].deliverable, NOW - t[i].age);
		assert_int_equal(find("a@x", NOW), t[i].is);
	}
	assert_int_equal(find("b@x", NOW), VERIFY_NONE);
}

static void
says_what_was_said(void **state)
{
	struct verify_fact f;
	char text[1000];

	(void)state;
	put("a@x", false, NOW);
	assert_int_equal(verify_cache_find(cache, view_of("a@x"), NOW, &f),
	    VERIFY_FRESH);
	assert_false(f.deliverable);
	assert_int_equal(f.checked, NOW);
	assert_true(view_is(f.text, "550 no"));
	/* What points into it is put again. */
	verify_cache_put(cache, view_of("a@x"), &f);
	assert_int_equal(verify_cache_find(cache, view_of("a@x"), NOW, &f),
	    VERIFY_FRESH);
	assert_true(view_is(f.text, "550 no"));
	memset(text, 'x', sizeof text);
	f.text = view_make(text, sizeof text);
	verify_cache_put(cache, view_of("a@x"), &f);
	assert_int_equal(verify_cache_find(cache, view_of("a@x"), NOW, &f),
	    VERIFY_FRESH);
	assert_int_equal(f.text.n, VERIFY_TEXT_MAX);
	assert_int_equal(verify_cache_count(cache, false), 1);
	/* The other answer takes its place. */
	put("a@x", true, NOW);
	assert_int_equal(verify_cache_count(cache, false), 0);
	assert_int_equal(verify_cache_count(cache, true), 1);
	assert_int_equal(dropped, 0);
}

static void
refused_ones_push_out_nobody_else(void **state)
{
	char addr[40];
	unsigned i;

	(void)state;
	for (i = 0; i < 20; i++) {
		(void)snprintf(addr, sizeof addr, "good%u@x", i);
		put(addr, true, NOW);
	}
	for (i = 0; i < 100000; i++) {
		(void)snprintf(addr, sizeof addr, "random%u@x", i);
		put(addr, false, NOW);
	}
	assert_int_equal(verify_cache_count(cache, true), 20);
	assert_true(verify_cache_bytes(cache) <= 16384);
	assert_true(verify_cache_count(cache, false) > 10);
	assert_int_equal(verify_cache_count(cache, false) + dropped, 100000);
	/* The latest are there. */
	assert_int_equal(find("random99999@x", NOW), VERIFY_FRESH);
	assert_int_equal(find("random0@x", NOW), VERIFY_NONE);
}

static void
longest_unused_goes_first(void **state)
{
	char addr[40];
	unsigned i;

	(void)state;
	put("old@x", true, NOW);
	put("kept@x", true, NOW);
	for (i = 0; dropped == 0; i++) {
		(void)snprintf(addr, sizeof addr, "more%u@x", i);
		put(addr, true, NOW);
		assert_int_equal(find("kept@x", NOW), VERIFY_FRESH);
	}
	assert_string_equal(last_dropped, "old@x");
	assert_true(verify_cache_bytes(cache) <= 16384 * 3 / 4);
}

static void
sweep_drops_the_expired(void **state)
{
	(void)state;
	put("a@x", true, NOW - 999);
	put("b@x", true, NOW - 1000);
	put("c@x", false, NOW - 499);
	put("d@x", false, NOW - 500);
	verify_cache_sweep(cache, NOW);
	assert_int_equal(dropped, 2);
	assert_int_equal(verify_cache_count(cache, true), 1);
	assert_int_equal(verify_cache_count(cache, false), 1);
	/* One that is found too old is dropped, too. */
	assert_int_equal(find("a@x", NOW + 1), VERIFY_NONE);
	assert_int_equal(dropped, 3);
	assert_string_equal(last_dropped, "a@x");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(ages, setup, teardown),
		cmocka_unit_test_setup_teardown(says_what_was_said, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(
		    refused_ones_push_out_nobody_else, setup, teardown),
		cmocka_unit_test_setup_teardown(longest_unused_goes_first,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(sweep_drops_the_expired,
		    setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
