/* Names in UTF-8 as the DNS knows them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "rules/idn.h"

static void
good(const char *name, const char *want)
{
	char got[256];

	assert_true(idn_to_ascii(view_of(name), got, sizeof got));
	assert_string_equal(got, want);
}

static void
bad(struct view name)
{
	char got[256];

	assert_false(idn_to_ascii(name, got, sizeof got));
}

static void
test_good(void **state)
{
	(void)state;
	good("Mail.Example.COM", "mail.example.com");
	good("b\303\274cher.example", "xn--bcher-kva.example");
	good("B\303\234CHER.Example", "xn--bcher-kva.example");
	/* u and a combining diaeresis */
	good("bu\314\210cher.example", "xn--bcher-kva.example");
	good("stra\303\237e.example", "xn--strae-oqa.example");
	good("\346\227\245\346\234\254\343\200\202jp", "xn--wgv71a.jp");
}

static void
test_bad(void **state)
{
	char name[1200], got[256];
	size_t i;

	(void)state;
	bad(view_of(""));
	bad(view_make("a\0b.example", 11));
	bad(view_of("b\374cher.example"));
	bad(view_of("\300\256.example"));
	bad(view_of("\355\240\200.example"));
	bad(view_of("\314\210x.example"));
	bad(view_of("\342\200\213\342\200\256.example"));
	/* A label of 60 letters in UTF-8 is longer in ASCII. */
	for (i = 0; i < 120; i += 2)
		memcpy(name + i, i % 4 == 0 ? "\303\274" : "\303\266", 2);
	bad(view_make(name, 120));
	memset(name, 'a', sizeof name);
	for (i = 50; i < sizeof name; i += 50)
		name[i] = '.';
	bad(view_make(name, sizeof name));
	bad(view_make(name, 256));
	assert_true(idn_to_ascii(view_make(name, 255), got, sizeof got));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
