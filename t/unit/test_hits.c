/* What rules did: the messages, and master's sums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/hits_book.h"

#define MINUTE	(60 * (int64_t)1000000)
#define HOUR	(60 * MINUTE)

static struct hit
hit(const char *where, uint64_t hash, uint64_t n, int64_t last_us)
{
	return (struct hit){ view_of(where), hash, n, n / 2, last_us,
		view_of("192.0.2.1") };
}

static bool
comes_through(struct hit h)
{
	struct cursor c;
	struct hit back;
	struct buf b;
	bool ok;

	buf_init(&b, 4096);
	hits_put(&b, &h);
	c = cursor_of(buf_view(&b));
	hits_get(&c, &back);
	ok = cursor_done(&c);
	if (ok) {
		assert_true(view_eq(back.where, h.where));
		assert_true(view_eq(back.who, h.who));
		assert_int_equal(back.hash, h.hash);
		assert_int_equal(back.n, h.n);
		assert_int_equal(back.trial, h.trial);
		assert_int_equal(back.last_us, h.last_us);
	}
	buf_free(&b);
	return ok;
}

/* A role that was taken over cannot write lines of its own to a terminal. */
static void
messages(void **state)
{
	char text[HITS_WHERE_MAX + 1];
	struct hit h = hit("/etc/x:7", 5, 2, 9);

	(void)state;
	assert_true(comes_through(h));
	h.where = view_of("");
	assert_false(comes_through(h));
	h.where = view_of("a\nOK");
	assert_false(comes_through(h));
	memset(text, 'x', sizeof text);
	h.where = view_make(text, sizeof text);
	assert_false(comes_through(h));
	h.where = view_make(text, sizeof text - 1);
	assert_true(comes_through(h));
	h.who = view_of("\x1b[2J");
	assert_false(comes_through(h));
	h = hit("x", 1, 0, 9);
	assert_false(comes_through(h));
	h = hit("x", 1, (uint64_t)UINT32_MAX + 1, 9);
	assert_false(comes_through(h));
	h = hit("x", 1, 2, -1);
	assert_false(comes_through(h));
	h = hit("x", 1, 2, 1);
	h.trial = 3;
	assert_false(comes_through(h));
}

static struct hits_sum found;
static char found_who[HITS_WHO_MAX + 1];
static unsigned count;

static void
take(const struct hits_sum *s, void *arg)
{
	count++;
	if (!view_is(s->hit.where, arg))
		return;
	found = *s;
	(void)snprintf(found_who, sizeof found_who, "%.*s",
	    VIEW_ARGS(s->hit.who));
}

static void
look(const struct hits_book *b, int64_t now, const char *where)
{
	count = 0;
	found = (struct hits_sum){ 0 };
	hits_book_each(b, (struct mono){ now }, take,
	    (void *)(uintptr_t)where);
}

static void
add(struct hits_book *b, struct hit h, int64_t now)
{
	hits_book_add(b, &h, (struct mono){ now });
}

static void
sums(void **state)
{
	struct hits_book *b = hits_book_new();
	/* any machine has been up for some time */
	const int64_t start = 1000 * HOUR + 3 * MINUTE;
	struct hit h;

	(void)state;
	look(b, start, "a");
	assert_int_equal(count, 0);
	add(b, hit("a", 1, 4, 100), start);
	add(b, hit("a", 2, 7, 100), start);
	add(b, hit("b", 1, 9, 100), start);
	look(b, start, "b");
	/* another text on the same line, and another line, are other rows */
	assert_int_equal(count, 3);
	assert_int_equal(found.hit.n, 9);
	assert_int_equal(found.hit.trial, 4);
	assert_int_equal(found.hour, 9);
	assert_int_equal(found.day, 9);
	/* the last hit is the latest, whoever reports first */
	h = hit("b", 1, 1, 50);
	h.who = view_of("early");
	add(b, h, start + 30 * MINUTE);
	look(b, start + 30 * MINUTE, "b");
	assert_int_equal(found.hit.last_us, 100);
	assert_string_equal(found_who, "192.0.2.1");
	assert_int_equal(found.hour, 10);
	/* time passes without a hit */
	look(b, start + 70 * MINUTE, "b");
	assert_int_equal(found.hour, 1);
	assert_int_equal(found.day, 10);
	look(b, start + 95 * MINUTE, "b");
	assert_int_equal(found.hour, 0);
	look(b, start + 25 * HOUR, "b");
	assert_int_equal(found.day, 0);
	assert_int_equal(found.hit.n, 10);
	/* and with one */
	add(b, hit("b", 1, 3, 200), start + 26 * HOUR);
	look(b, start + 26 * HOUR, "b");
	assert_int_equal(found.hour, 3);
	assert_int_equal(found.day, 3);
	assert_int_equal(found.hit.n, 13);
	look(b, start + 1000 * HOUR, "b");
	assert_int_equal(found.day, 0);
	hits_book_free(&b);
	assert_null(b);
}

/* A full book forgets what has been silent for the longest time. */
static void
bounded(void **state)
{
	struct hits_book *b = hits_book_new();
	char name[32];
	unsigned i;

	(void)state;
	for (i = 0; i < HITS_BOOK_MAX; i++) {
		(void)snprintf(name, sizeof name, "row %u", i);
		add(b, hit(name, i, 1, 1), i + 1);
	}
	add(b, hit("row 0", 0, 1, 2), HOUR);
	for (i = 0; i < 100; i++) {
		(void)snprintf(name, sizeof name, "new %u", i);
		add(b, hit(name, 0, 1, 1), HOUR + 1 + i);
	}
	look(b, HOUR, "row 0");
	assert_int_equal(count, HITS_BOOK_MAX);
	assert_int_equal(found.hit.n, 2);
	look(b, HOUR, "row 100");
	assert_int_equal(found.hit.n, 0);
	look(b, HOUR, "row 101");
	assert_int_equal(found.hit.n, 1);
	look(b, HOUR, "new 0");
	assert_int_equal(found.hit.n, 1);
	/* who is still there is found again, and not made twice */
	add(b, hit("new 99", 0, 1, 1), HOUR + 200);
	add(b, hit("row 8191", 8191, 1, 1), HOUR + 200);
	look(b, HOUR, "row 8191");
	assert_int_equal(count, HITS_BOOK_MAX);
	assert_int_equal(found.hit.n, 2);
	hits_book_free(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages),
		cmocka_unit_test(sums),
		cmocka_unit_test(bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
