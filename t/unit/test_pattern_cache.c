/* The directory of compiled sets: what is damaged, foreign or too much. */
#include <fcntl.h>
#include <sys/stat.h>

#include "rules/pattern_cache.h"
#include "t/unit/cache_help.h"
#include "t/unit/table_help.h"

static void
cache_expect(const char *question, const char *answer)
{
	struct buf b;

	buf_init(&b, 1000);
	assert_int_equal(pattern_cache_get(cache, view_of(question), &b),
	    answer != NULL);
	assert_string_equal(buf_cstr(&b), answer != NULL ? answer : "");
	buf_free(&b);
}

static void
cache_keep(const char *question, const char *answer)
{
	assert_true(pattern_cache_put(cache, view_of(question),
	    view_of(answer)));
}

/* Whatever is wrong with a file, it is as if there was none. */
static void
test_cache_damage(void **unused)
{
	char path[500];
	struct stat st;

	(void)unused;
	cache_expect("q", NULL);
	cache_keep("q", "answer");
	cache_expect("q", "answer");
	cache_expect("p", NULL);
	assert_int_equal(cache_files(path, sizeof(path)), 1);
	assert_int_equal(stat(path, &st), 0);
	for (off_t i = 0; i < st.st_size; i++) {
		change_byte(path, i);
		cache_expect("q", NULL);
		change_byte(path, i);
	}
	cache_expect("q", "answer");
	for (off_t i = st.st_size - 1; i >= 0; i--) {
		assert_int_equal(truncate(path, i), 0);
		cache_expect("q", NULL);
	}
	cache_keep("q", "answer");
	cache_expect("q", "answer");
	cache_remove();
}

/* What somebody else could have written is not read. */
static void
test_cache_owner(void **unused)
{
	char path[500], other[600];

	(void)unused;
	cache_keep("q", "answer");
	assert_int_equal(cache_files(path, sizeof(path)), 1);
	assert_int_equal(chmod(path, 0620), 0);
	cache_expect("q", NULL);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(chmod(cache, 0770), 0);
	cache_expect("q", NULL);
	assert_false(pattern_cache_put(cache, view_of("p"), view_of("a")));
	assert_int_equal(chmod(cache, 0700), 0);
	cache_expect("q", "answer");
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 65534, 65534), 0);
		cache_expect("q", NULL);
		assert_int_equal(chown(path, 0, 0), 0);
	}
	snprintf(other, sizeof(other), "%s.real", path);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
	cache_expect("q", NULL);
	cache_keep("q", "new");
	cache_expect("q", "new");
	cache_remove();
}

/* It stays small, and what is not its own stays. */
static void
test_cache_size(void **unused)
{
	char path[500], q[20];
	int fd;

	(void)unused;
	cache_keep("first", "answer");
	snprintf(path, sizeof(path), "%s/other", cache);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	for (unsigned i = 0; i < 2 * PATTERN_CACHE_FILES_MAX; i++) {
		snprintf(q, sizeof(q), "%u", i);
		cache_keep(q, "answer");
	}
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(cache_files(path, sizeof(path)),
	    PATTERN_CACHE_FILES_MAX + 1);
	cache_expect(q, "answer");
	cache_remove();
}

static int
set_up(void **unused)
{
	(void)unused;
	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(cache, sizeof(cache), "%s/cache", dir);
	return 0;
}

static int
tear_down(void **unused)
{
	(void)unused;
	cache_remove();
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cache_damage),
		cmocka_unit_test(test_cache_owner),
		cmocka_unit_test(test_cache_size),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
