/* link: queue/history.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/envelope.h"
#include "queue/history.h"

static struct arena *arena;

static int
setup(void **state)
{
	(void)state;
	arena = arena_new(1u << 20);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	return 0;
}

static struct history_reason
reason(const char *text)
{
	return (struct history_reason){ view_of("4.4.1"), view_of(text),
		view_of("mx.example") };
}

static void
same_again(void **state)
{
	struct history_reason a = reason("refused"), b = reason("timed out");
	struct history h, g;
	struct buf buf;

	(void)state;
	history_init(&h, arena, 3);
	h.flags = HISTORY_WARNED;
	h.attempts = 7;
	h.last.us = 1234;
	h.held = view_of("by hand");
	history_add(&h, 2, &a);
	history_add(&h, 0, &b);
	history_add(&h, 5, &a);
	buf_init(&buf, HISTORY_MAX);
	assert_true(history_put(&buf, &h));
	assert_true(history_get(buf_view(&buf), arena, &g));
	assert_int_equal(g.flags, HISTORY_WARNED);
	assert_int_equal(g.attempts, 7);
	assert_int_equal(g.last.us, 1234);
	assert_true(view_is(g.held, "by hand"));
	assert_int_equal(g.n_reasons, 2);
	assert_true(view_is(history_of(&g, 0)->text, "timed out"));
	assert_true(view_is(history_of(&g, 5)->text, "refused"));
	assert_true(view_is(history_of(&g, 5)->mta, "mx.example"));
	assert_null(history_of(&g, 1));
	buf_free(&buf);
}

static void
cut_or_longer_is_refused(void **state)
{
	struct history_reason a = reason("refused");
	struct history h, g;
	struct buf buf;
	size_t i;

	(void)state;
	history_init(&h, arena, 1);
	history_add(&h, 0, &a);
	buf_init(&buf, HISTORY_MAX);
	assert_true(history_put(&buf, &h));
	for (i = 0; i < buf.n; i++) {
		assert_false(history_get(buf_part(&buf, 0, i), arena, &g));
		assert_int_equal(g.n_rcpts + g.n_reasons, 0);
	}
	assert_true(buf_putc(&buf, 0));
	assert_false(history_get(buf_view(&buf), arena, &g));
	buf_free(&buf);
}

static void
limits(void **state)
{
	struct history_reason r[HISTORY_REASONS_MAX + 9];
	char text[HISTORY_REASONS_MAX + 9][HISTORY_TEXT_MAX + 50];
	struct history h, g;
	struct buf buf;
	uint32_t i;

	(void)state;
	history_init(&h, arena, HISTORY_REASONS_MAX + 9);
	for (i = 0; i < HISTORY_REASONS_MAX + 9; i++) {
		memset(text[i], 'x', sizeof text[i] - 1);
		text[i][0] = (char)('0' + i);
		text[i][sizeof text[i] - 1] = '\0';
		r[i] = reason(text[i]);
		history_add(&h, i, &r[i]);
	}
	assert_int_equal(h.n_reasons, HISTORY_REASONS_MAX);
	buf_init(&buf, HISTORY_MAX);
	assert_true(history_put(&buf, &h));
	assert_true(history_get(buf_view(&buf), arena, &g));
	assert_int_equal(history_of(&g, 1)->text.n, HISTORY_TEXT_MAX);
	assert_int_equal(history_of(&g, 1)->text.p[0], '1');
	/* The last reason stands for those without room. */
	assert_int_equal(history_of(&g, HISTORY_REASONS_MAX + 3)->text.p[0],
	    '0' + HISTORY_REASONS_MAX - 1);
	buf_free(&buf);
}

static void
numbers_out_of_range(void **state)
{
	struct history_reason a = reason("refused");
	struct history h, g;
	struct buf buf;

	(void)state;
	history_init(&h, arena, 1);
	history_add(&h, 0, &a);
	h.rcpts[0].reason = 1;
	buf_init(&buf, HISTORY_MAX);
	assert_true(history_put(&buf, &h));
	assert_false(history_get(buf_view(&buf), arena, &g));
	h.rcpts[0] = (struct history_rcpt){ ENVELOPE_RCPTS_MAX, 0 };
	buf_clear(&buf);
	assert_true(history_put(&buf, &h));
	assert_false(history_get(buf_view(&buf), arena, &g));
	/* More recipients than bytes. */
	h.n_rcpts = 0;
	buf_clear(&buf);
	assert_true(history_put(&buf, &h));
	memset(buf.p + buf.n - 4, 0xff, 4);
	assert_false(history_get(buf_view(&buf), arena, &g));
	buf_free(&buf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(same_again, setup, teardown),
		cmocka_unit_test_setup_teardown(cut_or_longer_is_refused,
		    setup, teardown),
		cmocka_unit_test_setup_teardown(limits, setup, teardown),
		cmocka_unit_test_setup_teardown(numbers_out_of_range, setup,
		    teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
