#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/dsn.h"
#include "lib/envelope.h"

typedef bool get_fn(struct buf *out, struct view text);

static bool
uni_raw(struct buf *out, struct view text)
{
	return unitext_get(out, text, true);
}

static bool
uni(struct buf *out, struct view text)
{
	return unitext_get(out, text, false);
}

static bool
orcpt_raw(struct buf *out, struct view text)
{
	return dsn_orcpt_get(out, text, true);
}

static bool
orcpt(struct buf *out, struct view text)
{
	return dsn_orcpt_get(out, text, false);
}

static void
becomes(get_fn *get, const char *text, const char *want)
{
	struct buf b;
	bool ok;

	buf_init(&b, 2000);
	assert_true(buf_puts(&b, "before "));
	ok = get(&b, view_of(text));
	if (ok != (want != NULL))
		fail_msg("%s was %s", text, ok ? "taken" : "refused");
	assert_true(view_starts_nocase(buf_view(&b), "before "));
	/* What is refused leaves nothing behind. */
	if (!view_is(view_from(buf_view(&b), 7), want != NULL ? want : ""))
		fail_msg("%s became %s", text, buf_cstr(&b));
	buf_free(&b);
}

static void
notify_and_ret(void **state)
{
	static const struct {
		const char *text;
		uint8_t bits;
	} t[] = {
		{ "NEVER", NOTIFY_NEVER },
		{ "never", NOTIFY_NEVER },
		{ "SUCCESS", NOTIFY_SUCCESS },
		{ "failure,Delay",
		    NOTIFY_FAILURE | NOTIFY_DELAY },
		{ "SUCCESS,FAILURE,DELAY",
		    NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY },
		{ "", 0 }, { ",", 0 }, { "SUCCESS,", 0 }, { ",SUCCESS", 0 },
		{ "SUCCESS,NEVER", 0 }, { "NEVER,NEVER", 0 },
		{ "SUCCESS,SUCCESS", 0 }, { "SUCCESS, DELAY", 0 },
		{ "SUCCES", 0 }, { "SUCCESSFUL", 0 },
	};
	struct buf b;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof t / sizeof t[0]; i++)
		if (dsn_notify(view_of(t[i].text)) != t[i].bits)
			fail_msg("NOTIFY=%s", t[i].text);
	assert_int_equal(dsn_notify(view_make("NEVER\0", 6)), 0);
	buf_init(&b, 100);
	for (i = 1; i < 16; i++) {
		buf_clear(&b);
		assert_true(dsn_notify_put(&b, (uint8_t)i));
		if (i == NOTIFY_NEVER || (i & NOTIFY_NEVER) == 0)
			assert_int_equal(dsn_notify(buf_view(&b)), i);
		else
			assert_int_equal(dsn_notify(buf_view(&b)), 0);
	}
	buf_free(&b);
	assert_int_equal(dsn_ret(view_of("full")), 'F');
	assert_int_equal(dsn_ret(view_of("HDRS")), 'H');
	assert_int_equal(dsn_ret(view_of("")), 0);
	assert_int_equal(dsn_ret(view_of("HDRSX")), 0);
}

static void
xtext_is_exact(void **state)
{
	(void)state;
	becomes(xtext_get, "QQ314159", "QQ314159");
	becomes(xtext_get, "a+2Bb+3Dc+20d+2b", "a+b=c d+");
	becomes(xtext_get, "", "");
	becomes(xtext_get, "a b", NULL);
	becomes(xtext_get, "a=b", NULL);
	becomes(xtext_get, "a\tb", NULL);
	becomes(xtext_get, "+", NULL);
	becomes(xtext_get, "+4", NULL);
	becomes(xtext_get, "+4G", NULL);
	becomes(xtext_get, "+00", NULL);
	becomes(xtext_get, "x+0D+0A", NULL);
	becomes(xtext_get, "+7F", NULL);
	becomes(xtext_get, "+E4", NULL);
	becomes(xtext_get, "\xc3\xa4", NULL);
}

static void
unitext_is_exact(void **state)
{
	(void)state;
	becomes(uni, "j\\x{FC}rg@example.com", "j\xc3\xbcrg@example.com");
	becomes(uni, "\\x{20}\\x{2B}\\x{3D}\\x{5C}", " +=\\");
	becomes(uni, "\\x{20AC}\\x{1F600}\\x{10FFFD}",
	    "\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbd");
	becomes(uni, "\\x{00}", NULL);
	becomes(uni, "\\x{0A}", NULL);
	becomes(uni, "\\x{7F}", NULL);
	becomes(uni, "\\x{85}", NULL);
	becomes(uni, "\\x{D800}", NULL);
	becomes(uni, "\\x{110000}", NULL);
	becomes(uni, "\\x{0000041}", NULL);
	becomes(uni, "\\x{4}", NULL);
	becomes(uni, "\\x{}", NULL);
	becomes(uni, "\\x{41", NULL);
	becomes(uni, "\\x", NULL);
	becomes(uni, "\\", NULL);
	becomes(uni, "\\y{41}", NULL);
	becomes(uni, "a+b", NULL);
	becomes(uni, "\xc3\xbc", NULL);
	becomes(uni_raw, "\xc3\xbc", "\xc3\xbc");
	becomes(uni_raw, "\xc3", NULL);
	becomes(uni_raw, "\xff", NULL);
	becomes(uni_raw, "\xed\xa0\x80", NULL);
}

static void
orcpt_is_exact(void **state)
{
	char text[600];
	struct view type, addr;

	(void)state;
	becomes(orcpt, "rfc822;ann+2Bx@example.com",
	    "rfc822;ann+x@example.com");
	becomes(orcpt, "x400;/S+3Dann/", "x400;/S=ann/");
	becomes(orcpt, "UTF-8;\\x{E4}@example.com",
	    "UTF-8;\xc3\xa4@example.com");
	becomes(orcpt_raw, "utf-8;\xc3\xa4@example.com",
	    "utf-8;\xc3\xa4@example.com");
	/* Raw UTF-8 needs SMTPUTF8 and its own type. */
	becomes(orcpt, "utf-8;\xc3\xa4@example.com", NULL);
	becomes(orcpt_raw, "rfc822;\xc3\xa4@example.com", NULL);
	becomes(orcpt, "rfc822;a+00b", NULL);
	becomes(orcpt, "rfc822;", NULL);
	becomes(orcpt, ";a@b", NULL);
	becomes(orcpt, "rfc822", NULL);
	becomes(orcpt, "", NULL);
	becomes(orcpt, "rfc 822;a", NULL);
	becomes(orcpt, "rfc+31;a", "rfc+31;a");
	memset(text, 'a', sizeof text);
	memcpy(text, "rfc822;", 7);
	text[DSN_ORCPT_MAX] = '\0';
	becomes(orcpt, text, text);
	text[DSN_ORCPT_MAX] = 'a';
	text[DSN_ORCPT_MAX + 1] = '\0';
	becomes(orcpt, text, NULL);
	assert_true(dsn_orcpt_split(view_of("a;b;c"), &type, &addr));
	assert_true(view_is(type, "a") && view_is(addr, "b;c"));
}

static void
envid_has_a_limit(void **state)
{
	char text[310];
	size_t i;

	(void)state;
	becomes(dsn_envid_get, "", NULL);
	becomes(dsn_envid_get, "+00", NULL);
	memset(text, 'e', sizeof text);
	text[100] = '\0';
	becomes(dsn_envid_get, text, text);
	text[100] = 'e';
	text[101] = '\0';
	becomes(dsn_envid_get, text, NULL);
	/* It counts decoded. */
	for (i = 0; i < 100; i++)
		memcpy(text + 3 * i, "+2B", 3);
	text[300] = '\0';
	{
		char want[101];

		memset(want, '+', 100);
		want[100] = '\0';
		becomes(dsn_envid_get, text, want);
	}
}

static void
what_is_written_is_read_again(void **state)
{
	static const char *const plain[] = { "a b+c=d\\e", "~!\"#;,",
		"j\xc3\xbcrg \xe2\x82\xac \xf0\x9f\x98\x80" };
	struct buf b, back;
	size_t i, k;

	(void)state;
	buf_init(&b, 1000);
	buf_init(&back, 1000);
	for (i = 0; i < sizeof plain / sizeof plain[0]; i++) {
		buf_clear(&b);
		buf_clear(&back);
		assert_true(unitext_put(&b, view_of(plain[i])));
		for (k = 0; k < b.n; k++)
			assert_in_range((unsigned char)b.p[k], '!', '~');
		assert_true(unitext_get(&back, buf_view(&b), false));
		assert_true(view_is(buf_view(&back), plain[i]));
	}
	buf_clear(&b);
	assert_true(xtext_put(&b, view_of("a b+c=d")));
	assert_true(view_is(buf_view(&b), "a+20b+2Bc+3Dd"));
	buf_clear(&b);
	assert_true(dsn_orcpt_put(&b, view_of("rfc822;a b@c")));
	assert_true(view_is(buf_view(&b), "rfc822;a+20b@c"));
	buf_clear(&b);
	assert_true(dsn_orcpt_put(&b, view_of("utf-8;\xc3\xa4@c")));
	assert_true(view_is(buf_view(&b), "utf-8;\\x{E4}@c"));
	buf_free(&b);
	/* No room: nothing half done is called done. */
	buf_init(&b, 3);
	assert_false(xtext_put(&b, view_of("a+b")));
	buf_free(&b);
	buf_free(&back);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(notify_and_ret),
		cmocka_unit_test(xtext_is_exact),
		cmocka_unit_test(unitext_is_exact),
		cmocka_unit_test(orcpt_is_exact),
		cmocka_unit_test(envid_has_a_limit),
		cmocka_unit_test(what_is_written_is_read_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
