/* link: queue/queue_show.c queue/queue_entry.c queue/history.c queue/spool.c queue/spool_sync.c */
/* The listing and the JSON of a message, and what must not get through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "queue/queue_show.h"

static struct buf out, env, hist, fail;
static struct arena *arena;
static struct recipient rcpts[3];

static int
setup(void **state)
{
	(void)state;
	(void)setenv("TZ", "UTC", 1);
	arena = arena_new(1u << 20);
	buf_init(&out, 1u << 20);
	buf_init(&env, 1u << 16);
	buf_init(&hist, 1u << 16);
	buf_init(&fail, 1u << 16);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	buf_free(&out);
	buf_free(&env);
	buf_free(&hist);
	buf_free(&fail);
	return 0;
}

/* Three recipients: b's status is given; a and c were deferred. */
static struct queue_entry
entry(const char *sender, const char *status, const char *reason)
{
	struct envelope v = { .sender = view_of(sender), .nrcpts = 3,
		.rcpts = rcpts };
	struct history_reason r = { view_of("4.4.1"), view_of(reason),
		view_of("") };
	struct queue_entry e = { .id = { 0xabc }, .place = PLACE_DEFERRED,
		.arrival = { INT64_C(1763706368) * 1000000 },
		.text_size = 4321 };
	struct history h;

	rcpts[0] = (struct recipient){ .addr = view_of("a@x.example"),
		.orcpt = view_of("rfc822;alias@x.example") };
	rcpts[1] = (struct recipient){ .addr = view_of("b@x.example") };
	rcpts[2] = (struct recipient){ .addr = view_of("c@x.example") };
	buf_clear(&env);
	buf_clear(&hist);
	buf_clear(&out);
	assert_true(envelope_put(&env, &v));
	history_init(&h, arena, 3);
	h.attempts = 2;
	history_add(&h, 0, &r);
	history_add(&h, 2, &r);
	assert_true(history_put(&hist, &h));
	e.envelope = buf_view(&env);
	e.history = buf_view(&hist);
	e.status = view_of(status);
	assert_true(queue_entry_decode(&e, arena));
	return e;
}

static void
listing(void **state)
{
	struct queue_entry e = entry("me@y.example", "...", "no route");

	(void)state;
	assert_true(show_listing(&out, &e, false));
	assert_string_equal(buf_cstr(&out),
	    "00000000ABC    4321 Fri Nov 21 06:26:08  me@y.example\n"
	    "                                                            "
	    "        (no route)\n"
	    "                                         a@x.example\n"
	    "                                         b@x.example\n"
	    "                                                            "
	    "        (no route)\n"
	    "                                         c@x.example\n");
	/* Rows that do not fit keep their order. */
	e = entry("", ".D.", "no route");
	e.place = PLACE_ACTIVE;
	e.expire = true;
	assert_true(show_listing(&out, &e, false));
	assert_non_null(strstr(buf_cstr(&out), "00000000ABC*#"));
	assert_non_null(strstr(buf_cstr(&out), "  MAILER-DAEMON\n"));
	assert_null(strstr(buf_cstr(&out), "b@x.example"));
}

static void
totals(void **state)
{
	(void)state;
	buf_clear(&out);
	assert_true(show_total(&out, 5000, 1) && show_total(&out, 0, 2));
	assert_string_equal(buf_cstr(&out), "\n-- 4 Kbytes in 1 Request.\n"
	    "\n-- 0 Kbytes in 2 Requests.\n");
}

static void
json(void **state)
{
	struct queue_entry e = entry("me@y.example", ".D.", "no \"route\"\t");

	(void)state;
	assert_true(show_json(&out, &e, false));
	assert_string_equal(buf_cstr(&out),
	    "{\"queue_name\": \"deferred\", \"queue_id\": \"00000000ABC\", "
	    "\"arrival_time\": 1763706368, \"message_size\": 4321, "
	    "\"forced_expire\": false, \"sender\": \"me@y.example\", "
	    "\"recipients\": [{\"address\": \"a@x.example\", "
	    "\"orig_address\": \"alias@x.example\", "
	    "\"delay_reason\": \"no \\\"route\\\"\\t\"}, "
	    "{\"address\": \"c@x.example\", "
	    "\"delay_reason\": \"no \\\"route\\\"\\t\"}]}\n");
}

static void
bounced(void **state)
{
	struct queue_failure f = { 1, true, view_of("5.1.1"), view_of("unknown"),
		view_of("") };
	struct queue_entry e = entry("me@y.example", "...", "later");

	(void)state;
	buf_clear(&fail);
	assert_true(queue_failure_put(&fail, &f));
	e.failures = buf_view(&fail);
	e.n_failures = 1;
	assert_true(queue_entry_decode(&e, arena));
	assert_true(show_json(&out, &e, false));
	assert_non_null(strstr(buf_cstr(&out), "{\"address\": \"b@x.example\","
	    " \"bounce_reason\": \"unknown\"}"));
	/* A failure of a recipient that there is not. */
	f.index = 3;
	buf_clear(&fail);
	assert_true(queue_failure_put(&fail, &f));
	e.failures = buf_view(&fail);
	assert_false(queue_entry_decode(&e, arena));
}

static const struct {
	const char *raw, *text, *json;
} strings[] = {
	{ "plain", "plain", "\"plain\"" },
	{ "\x1b[2J", "?[2J", "\"\\u001B[2J\"" },
	{ "\x7f", "?", "\"\\u007F\"" },
	{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f",
	    "\"gr\xc3\xbc\xc3\x9f\"" },
	{ "\xff", "?", "\"\xef\xbf\xbd\"" },
	{ "a\xc3", "a?", "\"a\xef\xbf\xbd\"" },
	{ "\xc2\x9b" "31m", "??31m", "\"\\u009B31m\"" },
	{ "\xc0\xaf", "??", "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
	{ "\xed\xa0\x80", "???", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
	{ "\xf4\x90\x80\x80", "????",
	    "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
	{ "\xf0\x9f\x93\xa7", "\xf0\x9f\x93\xa7", "\"\xf0\x9f\x93\xa7\"" },
	{ "\\\n\r", "\\??", "\"\\\\\\n\\r\"" },
};

static void
hostile_strings(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof strings / sizeof strings[0]; i++) {
		buf_clear(&out);
		assert_true(show_text(&out, view_of(strings[i].raw)));
		assert_string_equal(buf_cstr(&out), strings[i].text);
		buf_clear(&out);
		assert_true(show_json_string(&out, view_of(strings[i].raw)));
		assert_string_equal(buf_cstr(&out), strings[i].json);
	}
}

static void
there_and_back(void **state)
{
	struct queue_entry e = entry("me@y.example", "...", "later"), g;
	struct cursor c;
	size_t n;

	(void)state;
	e.next.us = 77;
	assert_true(queue_entry_put(&out, &e));
	c = cursor_of(buf_view(&out));
	assert_true(queue_entry_get(&c, &g) && cursor_done(&c));
	assert_true(queue_entry_decode(&g, arena));
	assert_int_equal(g.id.n, 0xabc);
	assert_int_equal(g.next.us, 77);
	assert_int_equal(g.env.nrcpts, 3);
	assert_int_equal(g.past.attempts, 2);
	for (n = 0; n < out.n; n++) {
		c = cursor_of(view_head(buf_view(&out), n));
		assert_false(queue_entry_get(&c, &g));
	}
	/* One status byte for each recipient. */
	e.status = view_of("..");
	assert_false(queue_entry_decode(&e, arena));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listing), cmocka_unit_test(totals),
		cmocka_unit_test(json), cmocka_unit_test(bounced),
		cmocka_unit_test(hostile_strings),
		cmocka_unit_test(there_and_back),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
