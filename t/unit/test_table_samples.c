/* Samples in tables of keys and values, and of networks. */
#include "t/unit/table_help.h"

static bool
samples(const char *type, const char *text)
{
	char spec[300];
	struct table *t;
	bool ok;

	write_file("table", text, strlen(text));
	snprintf(spec, sizeof spec, "%s:%s/table", type, dir);
	t = open_spec(spec);
	assert_true(table_has_samples(view_of(spec), dir));
	ok = table_check_samples(t, report, NULL);
	assert_int_equal(ok, errors == 0);
	table_free(&t);
	return ok;
}

static void
assert_said(const char *text)
{
	if (strstr(reported, text) == NULL)
		fail_msg("not said: %s; but: %s", text, reported);
}

static void
networks(void **state)
{
	(void)state;
	assert_false(samples("cidr",
	    "# match: 192.0.2.1 => REJECT go away\n"
	    "# match: 192.0.2.255\n"
	    "# pass: 192.0.3.1\n"
	    "# pass: example.com\n"
	    "192.0.2.0/24\n"
	    "\t# match: 2001:db8::1\n"
	    "   REJECT go away\n"
	    "# pass: 10.1.1.1\n"
	    "# match: 10.2.1.1\n"
	    "if 10.0.0.0/8\n"
	    "!10.1.0.0/16 OK\n"
	    "endif\n"
	    "2001:db8::/32 OK\n"));
	/* the comment inside of the first row is about the next one */
	assert_int_equal(errors, 1);
	assert_said("table:6: this sample is not answered by line 11\n");
	assert_false(samples("cidr",
	    "192.0.2.1 OK\n"
	    "# match: 192.0.2.1\n"
	    "# match: 192.0.2.7 => OK\n"
	    "# pass: 192.0.2.8\n"
	    "192.0.2.0/24 REJECT\n"
	    "# match: 192.0.2.8\n"));
	assert_int_equal(errors, 4);
	/* a row above has the answer */
	assert_said("table:2: this sample is not answered by line 5\n");
	assert_said("table:3: this sample gets \"REJECT\"\n");
	assert_said("table:4: this sample should pass, but is answered by "
	    "line 5\n");
	assert_said("table:6: no rule follows this sample\n");
}

static const char access_text[] =
    "# match: bad@example.com\n"
    "# match: BAD@Example.COM => REJECT go => away\n"
    "# pass: good@example.com\n"
    "bad@example.com REJECT go => away\n"
    "# match: a@example.com => OK\n"
    "# match: sub.example.com\n"
    "# match: example.com\n"
    "# pass: bad@example.com\n"
    "# pass: example.org\n"
    "example.com OK\n"
    "# match: a.example.net\n"
    "# pass: example.net\n"
    ".example.net 550 no\n"
    "# match: postmaster@anywhere.example\n"
    "postmaster@ DUNNO\n"
    "# match: 192.0.2.77\n"
    "# pass: 192.0.20.7\n"
    "192.0.2 REJECT\n"
    "# match: someone@dom.example => root\n"
    "@dom.example root\n";

static void
keys(void **state)
{
	const char *const types[] = { "texthash", "hash", "lmdb" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof types / sizeof types[0]; i++) {
		if (!samples(types[i], access_text))
			fail_msg("%s: %s", types[i], reported);
		assert_false(samples(types[i],
		    "# match: a@x.example\n"
		    "# match:\n"
		    "# pass: b@example.com\n"
		    "# match: example.com => REJECTED\n"
		    "example.com REJECT\n"
		    "example.org REJECT\n"
		    "# pass: x\n"));
		assert_int_equal(errors, 5);
		assert_said("table:1: this sample is not answered by line 5");
		assert_said("table:2: this sample has no key");
		assert_said("table:3: this sample should pass, but is");
		assert_said("table:4: this sample gets \"REJECT\"");
		assert_said("table:7: no rule follows this sample");
	}
}

static void
aliases(void **state)
{
	(void)state;
	assert_true(samples("hash",
	    "postmaster: root\n"
	    "# match: abuse => postmaster, jo\n"
	    "# pass: postmaster\n"
	    "\"abuse\": postmaster, jo\n"));
}

static void
sendmail(void **state)
{
	(void)state;
	assert_true(samples("sendmail-access",
	    "# match: Connect:192.0.2.9 => 550 5.7.0 no\n"
	    "# pass: Connect:192.0.3.9\n"
	    "Connect:192.0.2\tERROR:5.7.0:550 no\n"
	    "# match: From:worm@x.example\n"
	    "# pass: To:worm@x.example\n"
	    "# pass: From:other@x.example\n"
	    "From:worm@x.example\tREJECT\n"
	    "# match: mail.spam.example\n"
	    "# match: a@mail.spam.example\n"
	    "# pass: a@spam2.example\n"
	    "spam.example\tDISCARD\n"));
	assert_false(samples("sendmail-access",
	    "# match: To:a@b.example\n"
	    "From:b.example\tREJECT\n"));
	assert_said("table:1: this sample is not answered by line 2");
	assert_true(samples("sendmail-mailertable",
	    "# match: inside.example => smtp:[mail.inside.example]\n"
	    "inside.example\tesmtp:[mail.inside.example]\n"));
}

static void
without(void **state)
{
	struct table *t = open_spec("inline:{a=b}");

	(void)state;
	assert_true(table_check_samples(t, report, NULL));
	table_free(&t);
	assert_false(table_has_samples(view_of("inline:{a=b}"), dir));
	assert_false(table_has_samples(view_of("hash:/no/such/file"), dir));
	write_file("plain", "# no match: here\na b#match: x\n", 29);
	assert_false(table_has_samples(view_of("ldap:plain"), dir));
}

static int
remove_all(void **state)
{
	const char *const names[] = { "table.lmdb", "plain" };
	char path[200];
	size_t i;

	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		unlink(path);
	}
	return remove_dir(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(networks),
		cmocka_unit_test(keys),
		cmocka_unit_test(aliases),
		cmocka_unit_test(sendmail),
		cmocka_unit_test(without),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_all);
}
