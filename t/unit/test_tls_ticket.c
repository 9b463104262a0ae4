/* Keys of session tickets, as time goes by. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/tls_ticket.h"

#define HOUR	3600000
#define AT(ms)	((struct mono){ 5000000 + (int64_t)(ms) * 1000 })

static const uint8_t seed[TLS_SEED_SIZE] = "the same for all of a generation";
static const uint8_t other[TLS_SEED_SIZE] = "that of another one, or service";

static bool
same(const struct tls_ticket_key *a, const struct tls_ticket_key *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

static void
two_processes_agree(void **state)
{
	struct tls_tickets a, b;
	int64_t ms;

	(void)state;
	tls_tickets_start(&a, seed, AT(0), HOUR, AT(0));
	for (ms = 0; ms < 30LL * HOUR; ms += HOUR / 3) {
		/* One was there all the time, one was started just now. */
		tls_tickets_turn(&a, AT(ms));
		tls_tickets_start(&b, seed, AT(0), HOUR, AT(ms));
		assert_true(same(&a.now, &b.now));
		assert_int_equal(a.has_before, ms >= HOUR);
		assert_int_equal(b.has_before, ms >= HOUR);
		assert_true(!a.has_before || same(&a.before, &b.before));
	}
}

static void
a_ticket_ends(void **state)
{
	struct tls_ticket_key first;
	struct tls_tickets t;

	(void)state;
	tls_tickets_start(&t, seed, AT(0), HOUR, AT(0));
	first = t.now;
	assert_ptr_equal(tls_tickets_find(&t, first.name), &t.now);
	tls_tickets_turn(&t, AT(HOUR - 1));
	assert_ptr_equal(tls_tickets_find(&t, first.name), &t.now);
	tls_tickets_turn(&t, AT(HOUR));
	assert_ptr_equal(tls_tickets_find(&t, first.name), &t.before);
	assert_true(same(&t.before, &first));
	assert_false(same(&t.now, &first));
	tls_tickets_turn(&t, AT(2 * HOUR));
	assert_null(tls_tickets_find(&t, first.name));
	/* Nothing of it is left, nor of what it came from. */
	assert_memory_not_equal(t.state, seed, sizeof seed);
	tls_tickets_end(&t);
	assert_null(tls_tickets_find(&t, first.name));
}

static void
a_long_sleep(void **state)
{
	struct tls_tickets t, u;

	(void)state;
	tls_tickets_start(&t, seed, AT(0), HOUR, AT(0));
	tls_tickets_turn(&t, AT(10000LL * HOUR + 5));
	tls_tickets_start(&u, seed, AT(0), HOUR, AT(9999LL * HOUR));
	assert_true(same(&t.before, &u.now));
	/* Time that goes backwards changes nothing. */
	u = t;
	tls_tickets_turn(&t, AT(0));
	assert_memory_equal(&t, &u, sizeof t);
}

static void
other_listeners(void **state)
{
	struct tls_tickets t, u;

	(void)state;
	tls_tickets_start(&t, seed, AT(0), HOUR, AT(0));
	tls_tickets_start(&u, other, AT(0), HOUR, AT(0));
	assert_null(tls_tickets_find(&t, u.now.name));
	assert_memory_not_equal(t.now.name, u.now.name, sizeof t.now.name);
	assert_memory_not_equal(t.now.cipher, u.now.cipher,
	    sizeof t.now.cipher);
	assert_memory_not_equal(t.now.mac, t.now.cipher, sizeof t.now.mac);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_processes_agree),
		cmocka_unit_test(a_ticket_ends),
		cmocka_unit_test(a_long_sleep),
		cmocka_unit_test(other_listeners),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
