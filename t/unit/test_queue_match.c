/* link: queue/queue_match.c queue/queue_request.c queue/queue_entry.c queue/history.c queue/spool.c queue/spool_sync.c */
/* Which messages a pattern means; frames of the protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue/queue_match.h"
#include "queue/queue_request.h"

static const struct {
	const char *pattern, *addr;
	bool hit;
} addresses[] = {
	{ "user@example.com", "user@example.com", true },
	{ "USER@Example.COM", "user@example.com", true },
	{ "user@example.com", "user@example.org", false },
	{ "@example.com", "user@example.com", true },
	{ "example.com", "user@example.com", true },
	{ "example.com", "user@sub.example.com", false },
	{ "@*.example.com", "user@sub.example.com", true },
	{ "*@example.com", "user@example.com", true },
	{ "u*r@*", "user@example.com", true },
	{ "us?r@example.com", "user@example.com", true },
	{ "us?r@example.com", "usr@example.com", false },
	{ "", "", true }, { "<>", "", true }, { "", "user@example.com", false },
	{ "*", "", true }, { "user", "user@example.com", false },
	{ "*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@x",
	    false },
};

static void
address_patterns(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
		if (match_address(view_of(addresses[i].pattern),
		    view_of(addresses[i].addr)) != addresses[i].hit)
			fail_msg("%s against %s", addresses[i].pattern,
			    addresses[i].addr);
}

static bool
hit(struct queue_match m, const char *status)
{
	struct recipient r[2] = { { .addr = view_of("one@a.example") },
		{ .addr = view_of("two@sub.b.example") } };
	struct queue_entry e = { .place = PLACE_DEFERRED,
		.arrival = { 1000000 }, .status = view_of(status),
		.route = view_of("relay:[mx.c.example]:25"),
		.env = { .sender = view_of("s@c.example"), .nrcpts = 2,
		.rcpts = r } };

	return match_entry(&m, &e, NULL, (struct wall){ 61 * 1000000 });
}

#define M(...)	(struct queue_match){ __VA_ARGS__ }

static void
entries(void **state)
{
	(void)state;
	assert_true(hit(M(0), ".."));
	assert_true(hit(M(.places = 1u << PLACE_DEFERRED), ".."));
	assert_false(hit(M(.places = 1u << PLACE_HOLD), ".."));
	assert_true(hit(M(.by_sender = true, .sender = view_of("c.example")),
	    ".."));
	assert_false(hit(M(.by_sender = true), ".."));
	assert_true(hit(M(.recipient = view_of("one@*")), ".."));
	assert_false(hit(M(.recipient = view_of("one@*")), "D."));
	assert_true(hit(M(.site = view_of("A.example")), ".."));
	assert_false(hit(M(.site = view_of("b.example")), ".."));
	assert_true(hit(M(.site = view_of(".b.example")), ".."));
	assert_false(hit(M(.site = view_of(".ub.b.example")), ".."));
	assert_true(hit(M(.nexthop = view_of("mx.c.example")), ".."));
	assert_true(hit(M(.nexthop = view_of("[mx.c.example]")), ".."));
	assert_true(hit(M(.nexthop = view_of("[mx.c.example]:25")), ".."));
	assert_false(hit(M(.nexthop = view_of("c.example")), ".."));
	assert_true(hit(M(.older_us = 60 * 1000000), ".."));
	assert_false(hit(M(.older_us = 61 * 1000000), ".."));
	assert_true(hit(M(.newer_us = 61 * 1000000), ".."));
	assert_false(hit(M(.newer_us = 59 * 1000000), ".."));
	/* All that is set must match, for one and the same recipient. */
	assert_false(hit(M(.recipient = view_of("one@*"),
	    .site = view_of(".b.example")), ".."));
}

static void
ages(void **state)
{
	int64_t us = 5;

	(void)state;
	assert_true(match_age("90", &us) && us == 90000000);
	assert_true(match_age("2d", &us) && us == INT64_C(172800000000));
	us = 5;
	assert_false(match_age("", &us) || match_age("-1", &us) ||
	    match_age("0", &us) || match_age("1y", &us));
	assert_int_equal(us, 5);
}

static void
reasons(void **state)
{
	struct queue_match m = M(.reason = view_of("*worm*"));
	struct queue_entry e = { .place = PLACE_HOLD };
	struct wall now = { 1 };

	(void)state;
	/* put there by hand */
	assert_false(match_entry(&m, &e, NULL, now));
	e.past.held = view_of("a WORM; rule=x:1");
	assert_true(match_entry(&m, &e, NULL, now));
	/* released, and waiting for the next attempt */
	e.place = PLACE_DEFERRED;
	assert_false(match_entry(&m, &e, NULL, now));
	e.place = PLACE_HOLD;
	e.past.held = view_of("something else");
	assert_false(match_entry(&m, &e, NULL, now));
	assert_true(match_looks_inside(&m));
}

static void
match_travels(void **state)
{
	struct queue_match m = M(.places = 4, .by_sender = true,
	    .recipient = view_of("r"), .site = view_of("s"), .reason = view_of("*w*"),
	    .older_us = 9), g;
	struct cursor c;
	struct buf b;
	size_t n;

	(void)state;
	buf_init(&b, 4096);
	assert_true(match_put(&b, &m));
	c = cursor_of(buf_view(&b));
	assert_true(match_get(&c, &g) && cursor_done(&c));
	assert_true(g.by_sender && g.places == 4 && g.older_us == 9 &&
	    view_is(g.site, "s") && view_is(g.reason, "*w*"));
	for (n = 0; n < b.n; n++) {
		c = cursor_of(view_head(buf_view(&b), n));
		assert_false(match_get(&c, &g));
	}
	buf_free(&b);
}

static void
frames(void **state)
{
	struct cursor c;
	uint8_t type = 0;
	struct buf b;
	size_t at, n;
	bool bad;

	(void)state;
	buf_init(&b, 4096);
	assert_true(frame_begin(&b, 7, &at) && put_u32(&b, 99));
	frame_end(&b, at);
	for (n = 0; n < b.n; n++) {
		assert_int_equal(frame_get(view_head(buf_view(&b), n), 100,
		    &type, &c, &bad), 0);
		assert_false(bad);
	}
	assert_true(put_u8(&b, 1));	/* the next one begins */
	assert_int_equal(frame_get(buf_view(&b), 100, &type, &c, &bad),
	    b.n - 1);
	assert_int_equal(type, 7);
	assert_int_equal(cursor_u32(&c), 99);
	assert_true(cursor_done(&c));
	assert_int_equal(frame_get(buf_view(&b), 4, &type, &c, &bad), 0);
	assert_true(bad);
	assert_int_equal(frame_get(view_make("\0\0\0\0\0", 5), 100, &type, &c,
	    &bad), 0);
	assert_true(bad);
	buf_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_patterns), cmocka_unit_test(entries),
		cmocka_unit_test(ages), cmocka_unit_test(match_travels),
		cmocka_unit_test(reasons),
		cmocka_unit_test(frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
