/* link: proxy/credentials_refused.c */
/* Logins that a server has refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "proxy/credentials_refused.h"

#define SECOND	1000	/* ms */

static struct refused_login
login(const char *host, uint16_t port, const char *user, const char *secret)
{
	return (struct refused_login){ view_of(host), view_of(user),
		view_of(secret), port };
}

static const char *
find(const char *host, uint16_t port, const char *user, const char *secret,
    int64_t at_s)
{
	struct refused_login l = login(host, port, user, secret);

	return refused_find(&l, 10 * SECOND,
	    (struct mono){ at_s * 1000000 });
}

static void
put(const char *host, uint16_t port, const char *user, const char *secret,
    const char *said, int64_t at_s)
{
	struct refused_login l = login(host, port, user, secret);

	refused_put(&l, view_of(said), (struct mono){ at_s * 1000000 });
}

static void
that_one_only(void **state)
{
	(void)state;
	put("mx.example", 587, "joe", "pw", "5.7.8 535 no", 100);
	assert_string_equal(find("mx.example", 587, "joe", "pw", 100),
	    "5.7.8 535 no");
	assert_string_equal(find("MX.Example", 587, "joe", "pw", 109),
	    "5.7.8 535 no");
	assert_null(find("mx.example", 25, "joe", "pw", 101));
	assert_null(find("mx.example.", 587, "joe", "pw", 101));
	assert_null(find("mx.example", 587, "Joe", "pw", 101));
	assert_null(find("mx.example", 587, "joe", "pw2", 101));
	assert_null(find("mx.example", 587, "joe", "p", 101));
	refused_clear();
	assert_null(find("mx.example", 587, "joe", "pw", 101));
}

static void
for_a_time(void **state)
{
	(void)state;
	put("mx.example", 587, "joe", "pw", "first", 100);
	assert_null(find("mx.example", 587, "joe", "pw", 110));
	/* It was forgotten then. */
	assert_null(find("mx.example", 587, "joe", "pw", 101));
	put("mx.example", 587, "joe", "pw", "first", 100);
	put("mx.example", 587, "joe", "pw", "second", 108);
	assert_string_equal(find("mx.example", 587, "joe", "pw", 117),
	    "second");
	refused_clear();
}

static void
not_too_many(void **state)
{
	char user[20];
	unsigned i;

	(void)state;
	for (i = 0; i < REFUSED_MAX + 10; i++) {
		(void)snprintf(user, sizeof user, "u%u", i);
		put("mx.example", 25, user, "pw", "no", 1);
	}
	assert_null(find("mx.example", 25, "u9", "pw", 1));
	assert_non_null(find("mx.example", 25, "u10", "pw", 1));
	refused_clear();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(that_one_only),
		cmocka_unit_test(for_a_time),
		cmocka_unit_test(not_too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
