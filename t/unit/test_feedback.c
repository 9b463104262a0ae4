/* Concurrency feedback: its forms, and what they are worth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/feedback.h"

static double
value(const char *text, unsigned concurrency)
{
	struct feedback f;

	if (!feedback_parse(view_of(text), &f))
		fail_msg("refused: %s", text);
	return feedback_value(&f, concurrency);
}

static void
forms(void **state)
{
	static const char *const bad[] = {
		"", " ", "x", "-1", "+1", "1.5", "2", "1e0", "1/", "/1",
		"1/concurrency2", "1/1", "0.5/sqrt", "1/concurrency/1", ".",
		"1 1", "0.5.5", "1/sqrt_concurrency x", "00000000001",
	};
	struct feedback f = { FEEDBACK_ROOT, 7 };
	size_t i;

	(void)state;
	assert_float_equal(value("1", 10), 1, 1e-9);
	assert_float_equal(value("0", 10), 0, 1e-9);
	assert_float_equal(value(" 0.5 ", 10), 0.5, 1e-9);
	assert_float_equal(value(".25", 10), 0.25, 1e-9);
	assert_float_equal(value("1/concurrency", 10), 0.1, 1e-9);
	assert_float_equal(value("0.5 / concurrency", 10), 0.05, 1e-9);
	assert_float_equal(value("1/sqrt_concurrency", 1), 1, 1e-9);
	assert_float_equal(value("1/sqrt_concurrency", 16), 0.25, 1e-9);
	assert_float_equal(value("1/sqrt_concurrency", 10000), 0.01, 1e-9);
	assert_float_equal(value("1/concurrency", 0), 1, 1e-9);
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (feedback_parse(view_of(bad[i]), &f))
			fail_msg("accepted: \"%s\"", bad[i]);
	assert_true(f.form == FEEDBACK_ROOT && f.number == 7);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
