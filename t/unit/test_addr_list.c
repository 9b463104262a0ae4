#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "rules/addr_list.h"

static char reported[8000];
static unsigned errors, warnings;
static char dir[] = "/tmp/test_addr_list.XXXXXX";
static const char *const names[] = { "nets", "names", "loop", "tab" };

static void
report(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		errors++;
	else
		warnings++;
	strncat(reported, text, sizeof(reported) - strlen(reported) - 2);
	strncat(reported, "\n", sizeof(reported) - strlen(reported) - 1);
}

static void
write_file(const char *name, const char *text)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* "%s" in patterns is the directory. */
static struct addr_list *
open_list(bool networks, bool parent, const char *patterns)
{
	char text[1000], *at = strstr(patterns, "%s"), *p = text;

	p += snprintf(p, sizeof(text), "%.*s", at != NULL ?
	    (int)(at - patterns) : (int)strlen(patterns), patterns);
	if (at != NULL)
		snprintf(p, sizeof(text) - (size_t)(p - text), "%s%s", dir,
		    at + 2);
	reported[0] = '\0';
	errors = warnings = 0;
	return networks ?
	    net_list_open("mynetworks", text, dir, report, NULL) :
	    domain_list_open("relay_domains", text, parent, dir, report,
	    NULL);
}

static struct addr_list *
must_open(bool networks, bool parent, const char *patterns)
{
	struct addr_list *l = open_list(networks, parent, patterns);

	if (l == NULL)
		fail_msg("%s: %s", patterns, reported);
	assert_int_equal(errors, 0);
	return l;
}

static void
refuse(bool networks, const char *patterns, const char *why)
{
	struct addr_list *l = open_list(networks, false, patterns);

	if (l != NULL)
		fail_msg("%s was accepted", patterns);
	if (strstr(reported, why) == NULL)
		fail_msg("%s: reported \"%s\"", patterns, reported);
}

static enum table_answer
net(const struct addr_list *l, const char *name, const char *addr)
{
	struct netaddr a = { 0 };

	if (addr != NULL)
		assert_true(netaddr_parse(view_of(addr), &a));
	return net_list_match(l, view_of(name), &a);
}

static void
in(const struct addr_list *l, const char *name, const char *addr)
{
	if (net(l, name, addr) != TABLE_FOUND)
		fail_msg("%s [%s] is not in the list", name,
		    addr != NULL ? addr : "");
}

static void
out(const struct addr_list *l, const char *name, const char *addr)
{
	if (net(l, name, addr) != TABLE_NOT_FOUND)
		fail_msg("%s [%s] is in the list", name,
		    addr != NULL ? addr : "");
}

static bool
domain(const struct addr_list *l, const char *name)
{
	enum table_answer a = domain_list_match(l, view_of(name));

	assert_int_not_equal(a, TABLE_FAILED);
	return a == TABLE_FOUND;
}

static void
networks(void **state)
{
	struct addr_list *l = must_open(true, false,
	    "!10.1.2.3, 10.0.0.0/8 127.0.0.1 [::1],\n"
	    "\t[2001:db8::]/32, mail.example.com");

	(void)state;
	in(l, "unknown", "10.1.2.4");
	out(l, "unknown", "10.1.2.3");
	in(l, "unknown", "127.0.0.1");
	out(l, "unknown", "127.0.0.2");
	in(l, "unknown", "::1");
	in(l, "unknown", "2001:db8:5::1");
	out(l, "unknown", "2001:db9::1");
	in(l, "unknown", "::ffff:10.0.0.1");
	out(l, "unknown", "::ffff:10.1.2.3");
	in(l, "Mail.Example.COM", "192.0.2.1");
	out(l, "xmail.example.com", "192.0.2.1");
	out(l, "example.com", "192.0.2.1");
	/* a local socket has no address */
	out(l, "unknown", NULL);
	out(l, "", NULL);
	/* the first match decides, by name or address */
	out(l, "mail.example.com", "10.1.2.3");
	addr_list_free(&l);
	assert_null(l);
	addr_list_free(&l);
}

static void
network_order(void **state)
{
	struct addr_list *l = must_open(true, false,
	    "10.0.0.0/8, !10.1.2.3, !!192.0.2.1");

	(void)state;
	in(l, "unknown", "10.1.2.3");
	in(l, "unknown", "192.0.2.1");
	addr_list_free(&l);
	l = must_open(true, false, "");
	out(l, "unknown", "10.1.2.3");
	addr_list_free(&l);
}

static void
network_names(void **state)
{
	struct addr_list *l = must_open(true, false,
	    "!bad.example.com example.com .example.org");

	(void)state;
	in(l, "example.com", "192.0.2.1");
	in(l, "a.example.com", "192.0.2.1");
	out(l, "bad.example.com", "192.0.2.1");
	in(l, "a.example.org", "192.0.2.1");
	out(l, "example.org", "192.0.2.1");
	out(l, "notexample.com", "192.0.2.1");
	net_list_parent_matches(l, false);
	in(l, "example.com", "192.0.2.1");
	out(l, "a.example.com", "192.0.2.1");
	in(l, "a.example.org", "192.0.2.1");
	addr_list_free(&l);
}

static void
network_mistakes(void **state)
{
	(void)state;
	refuse(true, "10.0.0.1/8", "mynetworks: \"10.0.0.1/8\" is neither");
	refuse(true, "10.0.0", "neither");
	refuse(true, "256.0.0.1", "neither");
	refuse(true, "[::1", "neither");
	refuse(true, "[foo]", "neither");
	refuse(true, "foo/8", "neither");
	refuse(true, "2001:db8::/32", "needs brackets");
	refuse(true, "a, !", "no pattern after '!'");
	refuse(true, "hash:/x", "No such file");
	refuse(true, "127.0.0.1 cidr:/no/such", "No such file");
	refuse(true, "/no/such/file", "/no/such/file: No such file");
	/* all of them at once */
	refuse(true, "10.0.0.1/8 10.0.0", "10.0.0.1/8");
	assert_int_equal(errors, 2);
}

static void
collect(const char *file, void *arg)
{
	char *all = arg;
	const char *slash = strrchr(file, '/');

	strncat(all, slash, 50);
}

static void
files_and_tables(void **state)
{
	struct addr_list *l;
	char all[200] = "";

	(void)state;
	write_file("nets", "# our nets\n10.0.0.0/8,\n  192.0.2.0/24 !x\n"
	    "cidr:tab\n");
	write_file("tab", "172.16.1.1 x\n172.16.0.0/12 y\n");
	l = must_open(true, false, "!10.9.9.9 %s/nets 127.0.0.1");
	in(l, "unknown", "10.1.1.1");
	out(l, "unknown", "10.9.9.9");
	in(l, "unknown", "192.0.2.7");
	in(l, "unknown", "172.16.5.5");
	in(l, "unknown", "127.0.0.1");
	out(l, "x", "192.0.3.7");
	addr_list_files(l, collect, all);
	assert_string_equal(all, "/nets/tab");
	addr_list_free(&l);
	/* "!" in front of a file turns each of its words around */
	l = must_open(true, false, "!%s/nets x 0.0.0.0/0");
	out(l, "unknown", "10.1.1.1");
	out(l, "unknown", "172.16.5.5");
	in(l, "x", "192.0.3.7");
	in(l, "unknown", "192.0.3.7");
	addr_list_free(&l);
	l = must_open(true, false, "!inline:{10.1.1.1=x, host.example.com=y},"
	    " 10.0.0.0/8");
	out(l, "unknown", "10.1.1.1");
	out(l, "a.host.example.com", "10.1.1.2");
	in(l, "unknown", "10.1.1.2");
	addr_list_free(&l);

	write_file("nets", "10.0.0.0/8\n10.0.0.1/8\n");
	refuse(true, "%s/nets", "nets:2: ");
	write_file("loop", "a\n");
	{
		char text[300];

		snprintf(text, sizeof(text), "%s/loop\n", dir);
		write_file("loop", text);
	}
	refuse(true, "%s/loop", "files are nested");
}

static void
domains(void **state)
{
	struct addr_list *l = must_open(false, true,
	    "!not.example.com, Example.com [192.0.2.1], .sub.org");

	(void)state;
	assert_true(domain(l, "example.COM"));
	assert_true(domain(l, "a.b.example.com"));
	assert_false(domain(l, "not.example.com"));
	assert_false(domain(l, "a.not.example.com"));
	assert_false(domain(l, "notexample.com"));
	assert_false(domain(l, "com"));
	assert_false(domain(l, ""));
	assert_true(domain(l, "[192.0.2.1]"));
	assert_false(domain(l, "192.0.2.1"));
	assert_true(domain(l, "a.sub.org"));
	assert_false(domain(l, "sub.org"));
	addr_list_free(&l);

	l = must_open(false, false, "example.com .example.com org");
	assert_true(domain(l, "example.com"));
	assert_true(domain(l, "a.example.com"));
	assert_false(domain(l, "example.org"));
	addr_list_free(&l);
}

static void
domain_tables(void **state)
{
	struct addr_list *l;

	(void)state;
	write_file("tab", "example.com x\n.example.org y\n");
	l = must_open(false, true, "texthash:tab");
	assert_true(domain(l, "example.com"));
	assert_true(domain(l, "a.b.example.com"));
	assert_false(domain(l, "a.example.org"));
	addr_list_free(&l);
	l = must_open(false, false, "texthash:tab");
	assert_true(domain(l, "example.com"));
	assert_false(domain(l, "a.b.example.com"));
	assert_true(domain(l, "a.b.example.org"));
	assert_false(domain(l, "example.org"));
	addr_list_free(&l);
	/* a pattern sees the whole name only */
	l = must_open(false, true, "regexp:{{/^example\\.com$$/ x}}");
	assert_false(domain(l, "a.example.com"));
	addr_list_free(&l);
	l = must_open(false, true, "regexp:{{/^example\\.com$/ x}}");
	assert_true(domain(l, "example.com"));
	assert_false(domain(l, "a.example.com"));
	addr_list_free(&l);
	write_file("names", "one.example\n# two\nTWO.example\n\n");
	l = must_open(false, true, "example.com, %s/names");
	assert_true(domain(l, "x.two.example"));
	assert_true(domain(l, "one.example"));
	addr_list_free(&l);
}

static void
urls(void **state)
{
	struct addr_list *l = must_open(false, true,
	    "example.com, ftp://www.example.net");

	(void)state;
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(reported,
	    "relay_domains: \"ftp://www.example.net\" is a URL"));
	assert_true(domain(l, "example.com"));
	assert_false(domain(l, "ftp"));
	assert_false(domain(l, "www.example.net"));
	addr_list_free(&l);
}

static void
failing_table(void **state)
{
	struct addr_list *l;
	static char big[(1u << 20) + 2];

	/* its value is too large for a list: not an answer */
	(void)state;
	memset(big, 'a', sizeof(big) - 1);
	l = must_open(false, true, "regexp:{{/(.*)/ $1}}");
	assert_int_equal(domain_list_match(l, view_of(big)), TABLE_FAILED);
	addr_list_free(&l);
}

static int
make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL;
}

static int
remove_dir(void **state)
{
	char path[200];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

/* A list of words compares whole words only. */
static void
words(void **state)
{
	struct addr_list *l = word_list_open("smtpd_noop_commands",
	    "!get, Frob, .x, regexp:{{/^y/ any}}, static:all", "/nonexistent",
	    report, NULL);

	(void)state;
	assert_non_null(l);
	assert_int_equal(word_list_match(l, view_of("GET")),
	    TABLE_NOT_FOUND);
	assert_int_equal(word_list_match(l, view_of("FROB")), TABLE_FOUND);
	addr_list_free(&l);
	l = word_list_open("smtpd_noop_commands",
	    "Frob .x regexp:{{/^y$/ any}}", "/nonexistent", report,
	    NULL);
	assert_non_null(l);
	assert_int_equal(word_list_match(l, view_of("a.frob")),
	    TABLE_NOT_FOUND);
	assert_int_equal(word_list_match(l, view_of("a.x")),
	    TABLE_NOT_FOUND);
	assert_int_equal(word_list_match(l, view_of("Y")), TABLE_FOUND);
	assert_int_equal(word_list_match(l, view_of("x.y")),
	    TABLE_NOT_FOUND);
	addr_list_free(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(networks),
		cmocka_unit_test(network_order),
		cmocka_unit_test(network_names),
		cmocka_unit_test(network_mistakes),
		cmocka_unit_test(files_and_tables),
		cmocka_unit_test(domains),
		cmocka_unit_test(domain_tables),
		cmocka_unit_test(words),
		cmocka_unit_test(urls),
		cmocka_unit_test(failing_table),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
