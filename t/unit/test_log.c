#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/clock.h"
#include "lib/log.h"

/* The log, with a clock of its own. */

static int64_t now;

struct mono
clock_mono(void)
{
	return (struct mono){ now * 1000000 };
}

struct wall
clock_wall(void)
{
	return (struct wall){ now * 1000000 };
}

static char written[65536];

/* What is in the file since the last time. */
static const char *
take(int fd)
{
	ssize_t n;

	log_flush();
	n = pread(fd, written, sizeof written - 1, 0);
	assert_true(n >= 0);
	written[n] = '\0';
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_true(lseek(fd, 0, SEEK_SET) == 0);
	return written;
}

static int
open_log(enum log_sink sink)
{
	int fd = memfd_create("log", 0);

	assert_true(fd >= 0);
	log_open("postern/test", "host.example");
	log_to(sink, fd, LOG_MAIL);
	return fd;
}

static void
last_word_looks_like_a_line(void **state)
{
	static const char *const zones[] = { "UTC",
		"CET-1CEST,M3.5.0,M10.5.0/3", "IST-5:30", "MST7" };
	const int64_t day = 86400;
	char line[4096];
	size_t z;
	int fd;

	(void)state;
	fd = open_log(LOG_SINK_FILE);
	for (z = 0; z < sizeof zones / sizeof zones[0]; z++) {
		assert_int_equal(setenv("TZ", zones[z], 1), 0);
		tzset();
		/* every day of 9 years, one of them divisible by 400 */
		for (now = 820454400; now < 820454400 + 9 * 366 * day;
		    now += day + 3671) {
			log_error("x name (7)");
			(void)snprintf(line, sizeof line, "%s", take(fd));
			log_from_signal("x ", "name", 7);
			assert_string_equal(take(fd), line);
		}
	}
	log_from_signal("x ", NULL, 4294967295);
	assert_non_null(strstr(take(fd), ": error: x ? (4294967295)\n"));
	log_to(LOG_SINK_STDERR, STDERR_FILENO, LOG_MAIL);
}

static void
last_word_in_other_logs(void **state)
{
	char line[4096];
	int fd;

	(void)state;
	now = 1700000000;
	fd = open_log(LOG_SINK_SYSLOG);
	log_error("x name (7)");
	(void)snprintf(line, sizeof line, "%s", take(fd));
	assert_non_null(strstr(line, "<19>"));
	log_from_signal("x ", "name", 7);
	assert_string_equal(take(fd), line);
	log_to(LOG_SINK_STDERR, STDERR_FILENO, LOG_MAIL);
}

/* What was collected comes first. */
static void
nothing_is_left_behind(void **state)
{
	const char *said, *at;
	int fd;

	(void)state;
	fd = open_log(LOG_SINK_FILE);
	log_info("first");
	log_info("second");
	log_from_signal("x ", "name", 7);
	said = take(fd);
	at = strstr(said, ": first\n");
	assert_non_null(at);
	at = strstr(at, ": second\n");
	assert_non_null(at);
	assert_non_null(strstr(at, ": error: x name (7)\n"));
	log_to(LOG_SINK_STDERR, STDERR_FILENO, LOG_MAIL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(last_word_looks_like_a_line),
		cmocka_unit_test(last_word_in_other_logs),
		cmocka_unit_test(nothing_is_left_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
