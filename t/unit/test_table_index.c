/*
 * Indexed tables: what is built when, what is not, and what readers see of
 * changes.
 */
#include "t/unit/table_help.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>

#include "rules/table_build.h"

static const char *
path_of(const char *name)
{
	static char path[4][200];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof path[i], "%s/%s", dir, name);
	return path[i];
}

static void
source(const char *text, long seconds)
{
	struct timespec times[2] = { { 1000000000 + seconds, 0 },
	    { 1000000000 + seconds, 0 } };

	write_file("table", text, strlen(text));
	assert_int_equal(utimensat(AT_FDCWD, path_of("table"), times, 0), 0);
}

static struct stat
stat_of(const char *name)
{
	struct stat st = { 0 };

	(void)lstat(path_of(name), &st);
	return st;
}

static bool
exists(const char *name)
{
	return stat_of(name).st_nlink > 0;
}

static void
forget(void)
{
	unlink(path_of("table"));
	unlink(path_of("table.lmdb"));
	assert_int_equal(chmod(dir, 0700), 0);
}

/* Ask once, with a table of its own. */
static void
ask(const char *key, const char *want)
{
	struct table *t = open_spec("lmdb:table");

	expect(t, key, want, 0);
	table_free(&t);
}

static void
test_built_by_itself(void **state)
{
	struct stat st;

	(void)state;
	forget();
	source("a 1\nB Two\n", 0);
	assert_int_equal(chmod(path_of("table"), 0640), 0);
	ask("a", "1");
	ask("b", "Two");
	assert_int_equal(warnings, 0);
	st = stat_of("table.lmdb");
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_mtim.tv_sec, 1000000000);

	/* newer: built again, and keeps what was set */
	assert_int_equal(chmod(path_of("table.lmdb"), 0600), 0);
	source("a 2\n", 1);
	ask("a", "2");
	ask("b", NULL);
	assert_int_equal(stat_of("table.lmdb").st_mode & 07777, 0600);

	/* older: somebody built it by hand; it is left alone */
	st = stat_of("table.lmdb");
	source("a 3\n", -5);
	ask("a", "2");
	assert_int_equal(stat_of("table.lmdb").st_ino, st.st_ino);
	/* nothing is left lying about */
	forget();
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(mkdir(dir, 0700), 0);
}

static void
test_mistakes(void **state)
{
	struct stat before;
	struct table *t;

	(void)state;
	forget();
	source("a 1\nb\n", 0);
	refuse_spec("hash:table", "table:2: expected format: key whitespace "
	    "value");
	assert_false(exists("table.lmdb"));
	refuse_spec("hash:nothing", "nothing: No such file or directory");

	/* the old one stays */
	source("a 1\n", 0);
	ask("a", "1");
	before = stat_of("table.lmdb");
	source("a 2\nb\n", 5);
	t = try_spec("hash:table");
	assert_non_null(t);
	assert_true(errors == 1 && warnings == 1);
	assert_non_null(strstr(reported, "table:2: expected"));
	expect(t, "a", "1", 0);
	table_free(&t);
	assert_int_equal(stat_of("table.lmdb").st_ino, before.st_ino);

	/* duplicates: the first, as postmap has it */
	source("a 1\nA 2\n", 10);
	t = try_spec("hash:table");
	assert_true(errors == 0 && warnings == 1);
	assert_non_null(strstr(reported, "table:2: duplicate entry: \"A\""));
	expect(t, "a", "1", 0);
	table_free(&t);
	forget();
}

/* A key that LMDB cannot hold. */
static void
test_long_keys(void **state)
{
	char text[1100], key[600];
	struct table *t;

	(void)state;
	forget();
	memset(key, 'k', sizeof key);
	snprintf(text, sizeof text, "%.510s v\n", key);
	source(text, 0);
	key[510] = '\0';
	ask(key, "v");
	key[510] = 'k';
	snprintf(text, sizeof text, "short v\n%.511s v\n", key);
	source(text, 1);
	t = try_spec("lmdb:table");
	assert_non_null(t);
	assert_non_null(strstr(reported, "table:2: a key over 510 bytes"));
	key[511] = '\0';
	expect(t, key, NULL, 0);
	table_free(&t);
	forget();
}

static struct table *
in_memory(const char *why)
{
	struct table *t = try_spec("lmdb:table");

	assert_non_null(t);
	assert_true(errors == 0 && warnings == 1);
	if (strstr(reported, why) == NULL)
		fail_msg("%s", reported);
	return t;
}

static void
test_not_safe(void **state)
{
	struct table *t;

	(void)state;
	forget();
	source("a 1\n", 0);
	assert_int_equal(chmod(dir, 0770), 0);
	t = in_memory("others may write to the directory");
	/* A table in memory has lines. */
	expect(t, "a", "1", 1);
	table_free(&t);
	assert_false(exists("table.lmdb"));

	assert_int_equal(chmod(dir, 0700), 0);
	ask("a", "1");
	assert_int_equal(chmod(path_of("table.lmdb"), 0666), 0);
	t = in_memory("others may write to the index");
	table_free(&t);
	/* without a text it is nothing */
	unlink(path_of("table"));
	refuse_spec("lmdb:table", "others may write to the index");
	forget();

	/* not through a link */
	source("a 2\n", 0);
	write_file("other", "x", 1);
	assert_int_equal(symlink("other", path_of("table.lmdb")), 0);
	source("a 2\n", 2000000000 - 1000000000);
	t = in_memory("not a plain file");
	expect(t, "a", "2", 1);
	table_free(&t);
	assert_int_equal(stat_of("other").st_size, 1);
	unlink(path_of("other"));
	forget();
}

/* -- other writers --------------------------------------------------------- */

static MDB_env *
writer(size_t map)
{
	MDB_env *env;

	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_set_mapsize(env, map), 0);
	assert_int_equal(mdb_env_open(env, path_of("table.lmdb"),
	    MDB_NOSUBDIR | MDB_NOLOCK, 0600), 0);
	return env;
}

static void
put(MDB_env *env, const char *key, const char *value, bool nul)
{
	MDB_val k = { strlen(key) + nul, (void *)(uintptr_t)key };
	MDB_val v = { strlen(value) + nul, (void *)(uintptr_t)value };
	MDB_txn *txn;
	MDB_dbi dbi;

	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
	assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
}

static void
test_changes_in_place(void **state)
{
	char key[40];
	struct table *t;
	MDB_env *env;

	(void)state;
	forget();
	source("a 1\n", 0);
	t = open_spec("lmdb:table");
	env = writer(64 << 20);
	put(env, "a", "2", true);
	expect(t, "a", "2", 0);
	put(env, "bare", "no nul", false);
	expect(t, "bare", "no nul", 0);
	/* far beyond the map that was made when it was opened */
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(key, sizeof key, "key%u", i);
		put(env, key, "a value that takes some room, so that many "
		    "pages are needed for all of them in the end", true);
		if (i % 500 == 499)
			expect(t, key, "a value that takes some room, so "
			    "that many pages are needed for all of them in "
			    "the end", 0);
	}
	expect(t, "a", "2", 0);
	expect(t, "key0", "a value that takes some room, so that many pages "
	    "are needed for all of them in the end", 0);
	mdb_env_close(env);

	/* its first form is replaced: an open table goes on */
	source("a 3\n", 2000000000);
	ask("a", "3");
	expect(t, "a", "2", 0);
	table_free(&t);
	forget();
}

static void
test_locked(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	unsigned line;
	struct table *t;
	struct buf value;
	int fd;

	(void)state;
	forget();
	buf_init(&value, 100);
	source("a 1\n", 0);
	t = open_spec("lmdb:table");
	fd = open(path_of("table.lmdb"), O_RDWR);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	/* A writer at work is not waited for. */
	expect(t, "a", "1", 0);
	lock.l_type = F_UNLCK;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	expect(t, "a", "1", 0);
	/* nor has the reader left a lock of its own */
	lock.l_type = F_WRLCK;
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);

	/* cut off: an error, not the end of the process */
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(table_find(t, view_of("a"), &value, &line),
	    TABLE_FAILED);
	close(fd);
	table_free(&t);
	buf_free(&value);
	forget();
}

static void
test_no_room(void **state)
{
	struct table_style style = { .no_nul = false };
	struct table_loader l = { .origin = "t", .report = report };
	struct memory_table *m = memory_new(false);
	struct stat before;
	char where[100];

	(void)state;
	forget();
	source("a 1\n", 0);
	ask("a", "1");
	before = stat_of("table.lmdb");
	assert_int_equal(memory_add(m, view_of("a"), view_of("2"), 1, false),
	    MEMORY_ADDED);
	/* a place where no file can be made */
	snprintf(where, sizeof where, "/proc/self/table");
	reported[0] = '\0';
	assert_false(table_build(where, m, &style, NULL, &l));
	assert_non_null(strstr(reported, "cannot write"));
	/* and a real one */
	assert_true(table_build(path_of("table"), m, &style, NULL, &l));
	ask("a", "2");
	assert_int_not_equal(stat_of("table.lmdb").st_ino, before.st_ino);
	memory_release(m);
	forget();
}

/* -- the same as texthash -------------------------------------------------- */

static uint32_t seed = 12345;

static uint32_t
random_below(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static void
random_word(char *to, size_t max)
{
	static const char letters[] = "abcABC.@+-_\"\\*/x1\xc3\xa4";
	size_t n = 1 + random_below((uint32_t)max), i;

	for (i = 0; i < n; i++)
		to[i] = letters[random_below(sizeof letters - 1)];
	to[i] = '\0';
}

static void
same(const struct table *a, const struct table *b, const char *key)
{
	struct buf x, y;
	enum table_answer ax, ay;
	unsigned line;

	buf_init(&x, 10000);
	buf_init(&y, 10000);
	ax = table_find(a, view_of(key), &x, &line);
	ay = table_find(b, view_of(key), &y, &line);
	if (ax != ay || !view_eq(buf_view(&x), buf_view(&y)))
		fail_msg("%s: texthash %d \"%s\", lmdb %d \"%s\"", key, ax,
		    buf_cstr(&x), ay, buf_cstr(&y));
	buf_free(&x);
	buf_free(&y);
}

static void
test_same_as_texthash(void **state)
{
	char text[40000], key[40], value[60];
	unsigned compared = 0;

	(void)state;
	for (unsigned round = 0; round < 150; round++) {
		struct table *text_table, *index;
		size_t at = 0;
		uint32_t n = random_below(200), start;

		forget();
		for (uint32_t i = 0; i < n; i++) {
			random_word(key, random_below(4) ? 4 : 30);
			random_word(value, 50);
			at += (size_t)snprintf(text + at, sizeof text - at,
			    "%s%s%s%s", random_below(20) ? "" : "\n# x\n",
			    key, random_below(2) ? "\t" : "  ", value);
			text[at++] = '\n';
		}
		text[at] = '\0';
		source(text, round);
		/* texthash refuses what postmap warns of */
		text_table = try_spec("texthash:table");
		index = try_spec("lmdb:table");
		start = seed;
		for (unsigned i = 0; index != NULL && text_table != NULL &&
		    i < 300; i++, compared++) {
			random_word(key, 4);
			same(text_table, index, key);
		}
		for (const char *p = text; index != NULL &&
		    text_table != NULL && *p != '\0'; compared++) {
			const char *end = strchr(p, '\n');
			size_t k = strcspn(p, " \t\n");

			snprintf(key, sizeof key, "%.*s", (int)k, p);
			same(text_table, index, key);
			p = end + 1;
		}
		seed = start;
		table_free(&text_table);
		table_free(&index);
	}
	if (compared < 1000)
		fail_msg("only %u compared", compared);
	forget();
}

static void
count_file(const char *file, void *arg)
{
	char *all = arg;

	strcat(strcat(all, file), " ");
}

static void
test_files(void **state)
{
	static const struct {
		const char *spec, *files;
	} cases[] = {
		{ "hash:/etc/x", "/etc/x /etc/x.lmdb " },
		{ "proxy:lmdb:x", "/d/x /d/x.lmdb " },
		{ "texthash:x", "/d/x " },
		{ "pcre:{{/a/ b}}", "" },
		{ "inline:{a=/b}", "" },
		{ "static:/x", "" },
		{ "unionmap:{hash:/a, {pcre:/b}, pipemap:{cidr:/c,inline:"
		    "{x=y}}}", "/a /a.lmdb /c " },
		{ "debug:regexp:r", "/d/r " },
		{ "unix:passwd.byname", "/etc/passwd " },
		{ "proxy:unix:group.byname", "/etc/group " },
		{ "sendmail-access:/etc/mail/access", "/etc/mail/access " },
		{ "check_client_access", "" },
		{ "ftp://x", "" },
		{ "hash:", "" },
	};
	char all[500];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		all[0] = '\0';
		table_spec_files(view_of(cases[i].spec), "/d", count_file,
		    all);
		if (strcmp(all, cases[i].files) != 0)
			fail_msg("%s: %s", cases[i].spec, all);
	}
}

static void
test_mistaken_specs(void **state)
{
	(void)state;
	refuse_spec("foo:bar", "unknown table type \"foo\" (there are btree");
	refuse_spec("foo:bar", "hash, inline");
	refuse_spec("unionmap:x", "need unionmap:{...}");
	refuse_spec("unionmap:{}", "there is no table");
	refuse_spec("unionmap:{foo:x}", "unknown table type \"foo\"");
	refuse_spec("pipemap:{inline:{a=b}, hash:nothing}", "No such file");
	refuse_spec("randmap:{}", "the table is empty");
	refuse_spec("unix:passwd.byuid", "unknown table");
	refuse_spec("debug:x", "type of the table is missing");
	refuse_spec("proxy:", "unknown table type");
	refuse_spec("debug:debug:debug:debug:debug:debug:debug:debug:debug:"
	    "debug:debug:debug:fail:x", "nested over 10 deep");
	refuse_text("sendmail-access", "a REJECT\n b OK\n", "table:2: a line "
	    "must not start with white space");
	refuse_text("sendmail-access", "a\n", "table:1: there is nothing");
	refuse_text("sendmail-mailertable", "a.b smtp\n",
	    "table:1: need mailer:host");
}

/* Last: it cannot be undone. */
static void
test_check_only(void **state)
{
	struct table *t;

	(void)state;
	forget();
	source("a 1\n", 0);
	ask("a", "1");
	source("a 2\nb\n", 5);
	table_check_only();
	refuse_spec("hash:table", "table:2: expected");
	unlink(path_of("table.lmdb"));
	source("a 2\n", 5);
	t = try_spec("hash:table");
	assert_non_null(t);
	assert_true(errors == 0 && warnings == 0);
	assert_false(exists("table.lmdb"));
	table_free(&t);
	forget();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_built_by_itself),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_long_keys),
		cmocka_unit_test(test_not_safe),
		cmocka_unit_test(test_changes_in_place),
		cmocka_unit_test(test_locked),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_same_as_texthash),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_mistaken_specs),
		cmocka_unit_test(test_check_only),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
