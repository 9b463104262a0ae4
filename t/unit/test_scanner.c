/* link: filters/scanner.c filters/scanner_keeper.c */
/*
 * Processes that scan: what one does wrong ends as a condition of the file,
 * and the next message has another.  In place of scan.c there is one that
 * obeys the name of the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "filters/scanner.h"
#include "lib/log.h"
#include "lib/mem.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZER	1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZER	1
#endif
#endif

/* -- a scanner that obeys -------------------------------------------------- */

struct scan {
	struct scan_limits limits;
};

struct scan *
scan_new(const struct scan_limits *l, const char **ret_error)
{
	struct scan *s = mem_alloc(sizeof *s);

	(void)ret_error;
	s->limits = *l;
	return s;
}

void
scan_free(struct scan **s)
{
	free(*s);
	*s = NULL;
}

void
scan_begin(struct scan *s, uint64_t size)
{
	(void)s;
	(void)size;
}

bool
scan_shallow(struct view content, struct scan_item *ret)
{
	ret->kind = (struct file_kind){ NULL, GROUP_OTHER };
	ret->size = content.n;
	return view_is(content, "plain");
}

static volatile uint64_t spun;

__attribute__((noreturn))
static void
spin(void)
{
	for (;;)
		spun++;
}

static void
members(uint32_t n, scan_tell *tell, void *arg)
{
	struct scan_item i = { .name = view_of("m"), .inside = view_of("a"),
		.kind = { "text", GROUP_TEXT }, .size = 7 };

	while (n-- > 0 && tell(arg, &i))
		;
}

static void
obey(struct scan *s, struct view name, scan_tell *tell, void *arg)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	sigset_t all;
	char *p;

	if (view_is(name, "spin"))
		spin();
	if (view_is(name, "stubborn")) {
		sigfillset(&all);
		(void)sigprocmask(SIG_BLOCK, &all, NULL);
		spin();
	}
	if (view_is(name, "eat"))
		for (;;) {
			p = mem_alloc(1u << 20);
			memset(p, 1, 1u << 20);
		}
	if (view_is(name, "crash")) {
		/* The test's own handler would begin the next test here. */
		(void)sigaction(SIGSEGV, &sa, NULL);
		(void)raise(SIGSEGV);
	}
	if (view_is(name, "exit"))
		_exit(9);
	if (view_is(name, "open"))
		if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
			_exit(1);
	if (view_is(name, "socket"))
		(void)socket(AF_INET, SOCK_STREAM, 0);
	if (view_is(name, "fork"))
		(void)fork();
	if (view_is(name, "kill"))
		(void)kill(getppid(), SIGKILL);
	if (view_is(name, "two"))
		members(2, tell, arg);
	if (view_is(name, "flood"))
		members(1000000, tell, arg);
	(void)s;
}

void
scan_file(struct scan *s, struct view content, struct scan_item *ret,
    scan_tell *tell, void *arg)
{
	ret->kind = (struct file_kind){ "zip", GROUP_ZIP };
	ret->flags |= SCAN_ARCHIVE;
	if (content.n > 0 && memcmp(content.p, "secret", 6) == 0)
		ret->flags |= SCAN_ENCRYPTED;
	obey(s, ret->name, tell, arg);
}

/* -- tests ----------------------------------------------------------------- */

static const struct scan_limits limits = { .depth = 5, .members = 100,
	.bytes = 1u << 20, .ratio = 100, .cpu_ms = 50, .memory = 16u << 20 };

static bool
locked_in(const struct jail_spec *spec)
{
	jail_enter(spec, NULL, NULL);
	return true;
}

static unsigned told, most;

static bool
tell_one(void *arg, const struct scan_item *i)
{
	(void)arg;
	assert_string_equal(i->kind.name, "text");
	assert_true(view_is(i->name, "m"));
	return ++told < most;
}

static uint64_t
flags_of(struct scanner *s, const char *name, const char *content)
{
	struct scan_item i = { .name = view_of(name) };

	told = 0;
	scanner_clear(s, 0);
	assert_true(scanner_put(s, 0, view_of(content)));
	scanner_file(s, 0, &i, tell_one, NULL);
	return i.flags;
}

static int
open_scanner(void **state)
{
	const char *error;

	most = 1000;
	*state = scanner_new(&limits, locked_in, &error);
	scanner_begin(*state, 0);
	return *state == NULL;
}

static int
close_scanner(void **state)
{
	struct scanner *s = *state;

	scanner_free(&s);
	assert_true(wait(NULL) > 0);	/* the keeper went too */
	return 0;
}

static void
bad_ones(void **state)
{
	static const struct { const char *name; uint64_t flag; } cases[] = {
		{ "spin", SCAN_LIMIT_TIME }, { "crash", SCAN_FAILED },
		{ "stubborn", SCAN_LIMIT_TIME }, { "exit", SCAN_FAILED },
#ifndef SANITIZER
		/* Those need rlimits, and a list without exceptions. */
		{ "eat", SCAN_LIMIT_MEMORY }, { "fork", SCAN_FAILED },
		{ "kill", SCAN_FAILED },
#endif
		{ "socket", SCAN_FAILED }, { "flood", SCAN_FAILED },
	};
	struct scanner *s = *state;
	size_t i;

	most = UINT32_MAX;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(flags_of(s, cases[i].name, "x"),
		    cases[i].flag);
		/* The rest of the message has it too, but what is plain. */
		assert_int_equal(flags_of(s, "two", "x"), cases[i].flag);
		assert_int_equal(told, 0);
		assert_int_equal(flags_of(s, "two", "plain"), 0);
		/* The next message does not know of it. */
		scanner_begin(s, 0);
		assert_int_equal(flags_of(s, "two", "x"), SCAN_ARCHIVE);
		assert_int_equal(told, 2);
		scanner_end(s);
		scanner_begin(s, 0);
	}
}

static void
time_is_of_the_message(void **state)
{
	struct scanner *s = *state;
	struct scanner_cost c;

	assert_int_equal(flags_of(s, "spin", "x"), SCAN_LIMIT_TIME);
	scanner_wait(s);
	c = scanner_cost(s);
	assert_int_equal(c.failed, 1);
	assert_in_range(c.cpu_us, 1, 1000000);
}

static void
one_process_for_a_message(void **state)
{
	struct scanner *s = *state;

	assert_int_equal(flags_of(s, "two", "x"), SCAN_ARCHIVE);
	assert_int_equal(flags_of(s, "two", "y"), SCAN_ARCHIVE);
	assert_int_equal(scanner_cost(s).started, 1);
	assert_int_equal(flags_of(s, "two", "plain"), 0);
	scanner_begin(s, 0);
	assert_int_equal(flags_of(s, "two", "plain"), 0);
	assert_int_equal(scanner_cost(s).started, 1);
	assert_int_equal(flags_of(s, "two", "y"), SCAN_ARCHIVE);
	assert_int_equal(scanner_cost(s).started, 2);
}

static void
stops_when_told(void **state)
{
	struct scanner *s = *state;

	/* Libraries look for files, and find none. */
#ifndef SANITIZER
	assert_int_equal(flags_of(s, "open", "x"), SCAN_ARCHIVE);
#endif
	most = 3;
	assert_int_equal(flags_of(s, "flood", "x"), SCAN_ARCHIVE);
	assert_int_equal(told, 3);
	/* The process is still good. */
	most = 1000;
	assert_int_equal(flags_of(s, "two", "x"), SCAN_ARCHIVE);
	assert_int_equal(told, 2);
}

static void
sees_what_was_put(void **state)
{
	struct scanner *s = *state;
	struct scan_item i = { .name = view_of("two") };
	static char big[1u << 20];

	assert_int_equal(flags_of(s, "two", "secret"),
	    SCAN_ARCHIVE | SCAN_ENCRYPTED);
	scanner_clear(s, 3);
	assert_true(scanner_put(s, 3, view_of("sec")));
	assert_true(scanner_put(s, 3, view_of("ret")));
	scanner_file(s, 3, &i, tell_one, NULL);
	assert_int_equal(i.flags, SCAN_ARCHIVE | SCAN_ENCRYPTED);
	scanner_clear(s, 1);
	assert_true(scanner_put(s, 1, view_make(big, sizeof big)));
	assert_false(scanner_put(s, 1, view_of("x")));
}

int
main(void)
{
#define TEST(f)	cmocka_unit_test_setup_teardown(f, open_scanner, close_scanner)
	static const struct CMUnitTest tests[] = {
		TEST(bad_ones), TEST(time_is_of_the_message),
		TEST(one_process_for_a_message), TEST(stops_when_told),
		TEST(sees_what_was_put),
	};

	log_open("test_scanner", "localhost");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
