#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "t/unit/conf_help.h"

#include "lib/own_addr.h"

static void
test_lines(void **state)
{
	(void)state;
	check_text("relayhost = a\n  b\n# c\n\t  d   \n\n  # e\n  f\n"
	    "myorigin=q\n", "relayhost", "a  b\t  d     f");
	check_text("relayhost=a\nrelayhost =  b  \n", "relayhost", "b");
	check_text("relayhost=a\r\nmyorigin=x\r\n", "relayhost", "a");
	check_text("relayhost=a#b", "relayhost", "a#b");
	check_text("relayhost==a", "relayhost", "=a");
	check_text("  relayhost = a\nmyorigin = b\n", "relayhost", "");
	assert_true(heard("W main.cf:1: logical line must not start"));
	check_warned("relayhost=a\nrelayhost=b\n",
	    "main.cf:2: overriding earlier entry: relayhost=a");
	check_refused("relayhost = a\n\nbar\n",
	    "E main.cf:3: missing '=' after attribute name: \"bar\"");
	check_refused("relay host = a\n", "missing '='");
	check_refused("= a\n", "missing attribute name");
}

static void
test_hostile_lines(void **state)
{
	size_t n = CONF_LINE_MAX + 4096, i;
	char *big = mem_alloc(n + 1);
	struct conf *cf;
	struct buf b;

	(void)state;
	memset(big, 'x', n);
	memcpy(big, "relayhost=", 10);
	check_refused(big, "line over 65536 bytes");
	buf_clear(&said);
	cf = conf_parse(view_make("relayhost=a\0b\n", 14), "main.cf", listener,
	    NULL);
	assert_null(cf);
	assert_true(heard("main.cf:1: line with a NUL byte"));
	free(big);

	buf_init(&b, 4 << 20);
	for (i = 0; i <= CONF_SETTINGS_MAX; i++)
		assert_true(buf_printf(&b, "n%zu=\n", i));
	check_refused(buf_cstr(&b), "more than 10000 parameters");
	buf_free(&b);
}

static void
test_values(void **state)
{
	struct conf *cf;

	(void)state;
	cf = parse("smtpd_timeout = 5m\nsmtpd_helo_required = YES\n"
	    "hopcount_limit = $x\nx = 7\nmaximal_queue_lifetime = 2\n");
	assert_non_null(cf);
	assert_int_equal(cf->smtpd_timeout, 300000);
	assert_true(cf->smtpd_helo_required);
	assert_int_equal(cf->hopcount_limit, 7);
	assert_int_equal(cf->maximal_queue_lifetime, 2 * 86400000LL);
	assert_int_equal(cf->message_size_limit, 10240000);
	assert_string_equal(cf->relay_transport, "relay");
	conf_free(&cf);
	check_refused("x=1\nhopcount_limit = 0\n",
	    "E main.cf:2: hopcount_limit = 0: not in the range 1 to 1000");
	check_refused("smtpd_timeout = 3q\n",
	    "E main.cf:1: smtpd_timeout = 3q: not a time such as 10s");
	check_refused("smtpd_timeout = 0\n", "not in the range 1s to ");
	check_refused("smtp_helo_timeout = 1ms\n",
	    "not in the range 100ms to ");
	check_refused("soft_bounce = maybe\n",
	    "E main.cf:1: soft_bounce = maybe: must be yes or no");
	check_refused("message_size_limit =\n", "not a number");
	check_refused("relay_destination_concurrency_limit = 0\n",
	    "E main.cf:1: relay_destination_concurrency_limit = 0: not in");
	check_refused("relay_destination_concurrency_positive_feedback = 2\n",
	    "E main.cf:1: relay_destination_concurrency_positive_feedback = "
	    "2: not a number from 0 to 1, number/concurrency or");
	check_refused("default_destination_concurrency_negative_feedback = "
	    "1/square\n", "not a number from 0 to 1");
	check_refused("x_transport_rate_delay = soon\n", "not a time");
	check_refused("x_destination_rate_delay = -1\n", "not a time");
	check_refused("mynetworks_style = world\n",
	    "must be host, subnet or class");
	check_refused("filter_timeout_action = hope\n",
	    "E main.cf:1: filter_timeout_action = hope: must be tempfail, "
	    "hold or accept");
	check_refused("\nsmtpd_forbid_bare_newline = rejct\n",
	    "E main.cf:2: smtpd_forbid_bare_newline = rejct: must be "
	    "normalize, yes, no, note or reject");
	check_refused("smtpd_forbid_bare_newline =\n", "must be normalize");
	check_refused("notify_classes = bounce, polcy\n",
	    "unknown word \"polcy\": must be bounce, 2bounce, data, ");
	check_refused("canonical_classes = header\n", "\"header\"");
	check_refused("receive_override_options = no_such_thing\n",
	    "\"no_such_thing\"");
	check_refused("inet_protocols = ipx\n", "\"ipx\": must be all, ipv4");
	check_refused("proxy_interfaces = 192.0.2.1, nat.example\n",
	    "E main.cf:1: proxy_interfaces = 192.0.2.1, nat.example: not an "
	    "IP address: nat.example");
	check_refused("proxy_interfaces = 192.0.2.0/24\n", "192.0.2.0/24");
	check_refused("non_empty_end_of_header_action = x\n",
	    "must be fix_quietly, add_header or reject");
	check_refused("unverified_sender_tempfail_action = maybe\n",
	    "must be defer_if_permit or defer");
	check_refused("address_verify_catchall_action = reject\n",
	    "must be accept or tempfail");
	check_refused("syslog_facility = post\n", "local6 or local7");
	/* Once, not also for each parameter that is the same by default. */
	check_refused("reject_tempfail_action = later\n",
	    "E main.cf:1: reject_tempfail_action = later: must be "
	    "defer_if_permit or defer");
	assert_false(heard("unverified_sender_tempfail_action"));
	/* Every mistake is named, not only the first. */
	check_refused("soft_bounce=x\nhopcount_limit=y\n", "main.cf:2");
	assert_true(heard("main.cf:1"));
}

static void
test_parsers(void **state)
{
	struct view list = view_of(" a,b {c, d} ,, e{f g}h {i");
	int64_t n = -7;
	bool yes = false;

	(void)state;
	assert_true(conf_parse_time(view_of("300s"), 'd', &n) && n == 300000);
	assert_true(conf_parse_time(view_of("10"), 'h', &n) &&
	    n == 36000000);
	assert_true(conf_parse_time(view_of("2w"), 's', &n) &&
	    n == 1209600000);
	assert_true(conf_parse_time(view_of("150ms"), 's', &n) && n == 150);
	n = -7;
	assert_false(conf_parse_time(view_of(""), 's', &n));
	assert_false(conf_parse_time(view_of("s"), 's', &n));
	assert_false(conf_parse_time(view_of("-1"), 's', &n));
	assert_false(conf_parse_time(view_of("5y"), 's', &n));
	assert_false(conf_parse_time(view_of("1s1"), 's', &n));
	assert_false(conf_parse_time(view_of("99999999999w"), 's', &n));
	assert_false(conf_parse_int(view_of("11"), 0, 10, &n));
	assert_false(conf_parse_int(view_of("1 1"), 0, 99, &n));
	assert_false(conf_parse_int(view_of("0x1"), 0, 99, &n));
	assert_false(conf_parse_int(view_of("-"), -9, 99, &n));
	assert_false(conf_parse_int(view_of("9223372036854775808"), INT64_MIN,
	    INT64_MAX, &n));
	assert_int_equal(n, -7);
	assert_true(conf_parse_int(view_of("9223372036854775807"), 0,
	    INT64_MAX, &n) && n == INT64_MAX);
	assert_true(conf_parse_int(view_of("-9223372036854775808"), INT64_MIN,
	    0, &n) && n == INT64_MIN);
	assert_true(conf_parse_bool(view_of("Yes"), &yes) && yes);
	assert_true(conf_parse_bool(view_of("no"), &yes) && !yes);
	assert_false(conf_parse_bool(view_of("true"), &yes));

	assert_true(view_is(conf_word(&list), "a"));
	assert_true(view_is(conf_word(&list), "b"));
	assert_true(view_is(conf_word(&list), "{c, d}"));
	assert_true(view_is(conf_word(&list), "e{f g}h"));
	assert_true(view_is(conf_word(&list), "{i"));
	assert_int_equal(conf_word(&list).n, 0);
}

static void
test_names_of_host(void **state)
{
	char host[256] = "";
	struct conf *cf;

	(void)state;
	assert_int_equal(gethostname(host, sizeof host - 1), 0);
	cf = parse("");
	assert_non_null(cf);
	assert_int_equal(strncmp(cf->myhostname, host, strlen(host)), 0);
	assert_non_null(strchr(cf->myhostname, '.'));
	assert_string_equal(cf->myorigin, cf->myhostname);
	conf_free(&cf);
	check_text("myhostname = mx.example.com\n", "mydomain", "example.com");
	check_text("myhostname = mx\n", "mydomain", "localdomain");
	check_text("myhostname = mx.$mydomain\n", "myhostname",
	    "mx.localdomain");
	check_text("mydomain = x.y\n", "mydomain", "x.y");
	check_text("myhostname = a.$$b $none\n", "mydomain", "$b");
	if (strchr(host, '.') == NULL) {
		cf = parse("mydomain = x.y\n");
		assert_string_equal(cf->myhostname + strlen(host), ".x.y");
		conf_free(&cf);
	}
}

static void
test_proxies(void **state)
{
	struct netaddr list[OWN_ADDR_MAX];
	char why[256] = "", text[32];
	struct buf b;
	size_t n;

	(void)state;
	assert_true(own_proxy_parse(view_of(""), list, &n, why, sizeof why));
	assert_int_equal(n, 0);
	assert_true(own_proxy_parse(view_of("192.0.2.1, [2001:db8::1]"), list,
	    &n, why, sizeof why));
	assert_int_equal(n, 2);
	assert_string_equal(netaddr_text(&list[1], why), "2001:db8::1");
	buf_init(&b, 65536);
	for (n = 0; n < OWN_ADDR_MAX; n++) {
		(void)snprintf(text, sizeof text, "10.0.1.%zu ", n);
		assert_true(buf_puts(&b, text));
	}
	assert_true(own_proxy_parse(buf_view(&b), list, &n, why, sizeof why));
	assert_int_equal(n, OWN_ADDR_MAX);
	assert_true(buf_puts(&b, "::1"));
	assert_false(own_proxy_parse(buf_view(&b), list, &n, why,
	    sizeof why));
	assert_string_equal(why, "more than 256 addresses");
	buf_free(&b);
}

static void
test_networks(void **state)
{
	struct buf b;

	(void)state;
	check_text("mynetworks_style=host\ninet_interfaces=127.0.0.1\n",
	    "smtpd_forbid_bare_newline_exclusions", "127.0.0.0/8 [::1]/128");
	check_text("inet_protocols=ipv4\ninet_interfaces=loopback-only\n",
	    "mynetworks", "127.0.0.0/8");
	check_text("inet_protocols=ipv6\ninet_interfaces=loopback-only\n",
	    "mynetworks", "[::1]/128");
	/* Empty is a decision, not an omission. */
	check_text("mynetworks =\n", "mynetworks", "");
	check_text("mynetworks = 10.0.0.0/8\n", "mynetworks", "10.0.0.0/8");
	buf_init(&b, 65536);
	assert_false(conf_default_networks(view_of("x"), view_of("all"),
	    view_of("all"), &b));
	assert_true(conf_default_networks(view_of("class"), view_of("all"),
	    view_of("ipv4"), &b));
	assert_int_equal(strncmp(buf_cstr(&b), "127.0.0.0/8", 11), 0);
	buf_free(&b);
}

static void
test_warnings(void **state)
{
	struct conf *cf;

	(void)state;
	check_warned("foo = 1\n", "W main.cf:1: unused parameter: foo=1\n");
	check_warned("relayhos = x\n", "relayhos=x (did you mean relayhost?)");
	check_warned("relayhost = a # b\n", "W main.cf:1: #comment after other "
	    "text is not allowed: # b");
	check_warned("x = 1\ncheck_recipient_access = hash:access\n",
	    "main.cf:2: check_recipient_access is a restriction");
	assert_true(heard("\"smtpd_recipient_restrictions = ... "
	    "check_recipient_access hash:access\""));
	check_warned("mydestination = a, ftp://www.$mydomain\n",
	    "mydestination: not a domain: ftp://www.$mydomain");
	check_warned("biff = no\nsun_mailtool_compatibility = no\n",
	    "W main.cf: not used by Postern: biff, "
	    "sun_mailtool_compatibility\n");
	assert_false(heard("unused parameter"));
	check_warned("x = 1\nsmtp_tls_enable_rpk = yes\n", "W main.cf:2: "
	    "smtp_tls_enable_rpk: raw public keys (RFC 7250) need OpenSSL 3.2");
	check_warned("smtpd_tls_enable_rpk = no\n",
	    "not used by Postern: smtpd_tls_enable_rpk\n");
	assert_false(heard("OpenSSL 3.2"));
	check_warned("relayhost = $biff\n",
	    "not used by Postern and not set: biff");

	cf = parse("a = 1\nrelayhost = ${a}\nb = x\nsmtpd_banner = ${q?{$(b)}}"
	    "\nsmtpd_restriction_classes = zz\nzz = permit\n"
	    "smtp_destination_concurrency_limit = 3\n"
	    "other_destination_rate_delay = 1s\nsmtpd_helo_required = no\n"
	    "mua = permit\nsmtpd_reject_footer = $recipient\n");
	assert_non_null(cf);
	assert_false(heard("unused parameter: a="));
	assert_false(heard("unused parameter: b="));
	assert_false(heard("unused parameter: zz="));
	assert_false(heard("unused parameter: smtp_dest"));
	assert_false(heard("unused parameter: other_dest"));
	assert_false(heard("recipient"));
	assert_true(heard("unused parameter: mua=permit"));
	conf_free(&cf);
	check_refused("smtpd_restriction_classes = zz\nzz = ${x\n",
	    "main.cf:2");
}

static void
test_known_sorted(void **state)
{
	static const char *const names[] = {
#define KNOWN(name)	#name,
#define KNOWN_RAW(name)	#name,
#include "lib/conf_known.def"
	};
	size_t i, n = sizeof names / sizeof names[0];
	bool raw = false;

	(void)state;
	for (i = 1; i < n; i++)
		if (strcmp(names[i - 1], names[i]) >= 0)
			fail_msg("%s before %s", names[i - 1], names[i]);
	for (i = 0; i < n; i++)
		assert_true(conf_known(view_of(names[i]), &raw));
	assert_true(conf_known(view_of("luser_relay"), &raw) && raw);
	assert_true(conf_known(view_of("biff"), &raw) && !raw);
	assert_false(conf_known(view_of("bif"), &raw));
	assert_false(conf_known(view_of("bifff"), &raw));
	assert_false(conf_known(view_of(""), &raw));
}

static void
test_declared(void **state)
{
	char why[128];
	int64_t n;
	size_t i;

	(void)state;
	for (i = 0; i < conf_params_count; i++) {
		const struct conf_param *p = &conf_params[i];

		assert_ptr_equal(conf_param_find(view_of(p->name)), p);
		assert_true(p->help[0] != '\0' &&
		    p->help[strlen(p->help) - 1] == '.');
		if (strchr(p->def, '$') == NULL && !conf_value_good(p,
		    view_of(p->def), &n, why, sizeof why))
			fail_msg("%s = %s: %s", p->name, p->def, why);
	}
	assert_null(conf_param_find(view_of("no_such")));
	assert_null(conf_param_find(view_of("")));
}

static void
test_snapshot(void **state)
{
	char *over[] = { (char[]){ "relayhost = b" }, (char[]){ "x=1" },
	    (char[]){ "x=2 3" } };
	char *bad[] = { (char[]){ "novalue" } };
	char *line[] = { (char[]){ "x=1\ny=2" } };
	char *host[] = { (char[]){ "myhostname=h.example.net" },
	    (char[]){ "inet_interfaces=127.0.0.1" } };
	struct conf *cf = parse("a = 1   2\n\t3\nrelayhost=$a\n"
	    "mydestination =\nfoo = #x\nhopcount_limit=9\n"), *again;
	struct buf one, two;
	size_t i;

	(void)state;
	buf_init(&one, 65536);
	buf_init(&two, 65536);
	assert_non_null(cf);
	assert_true(conf_snapshot(cf, NULL, 0, &one));
	again = parse(buf_cstr(&one));
	assert_non_null(again);
	assert_true(conf_snapshot(again, NULL, 0, &two));
	assert_true(view_eq(buf_view(&one), buf_view(&two)));
	for (i = 0; i < conf_params_count; i++)
		assert_string_equal(
		    conf_text(cf, view_of(conf_params[i].name)),
		    conf_text(again, view_of(conf_params[i].name)));
	assert_int_equal(again->hopcount_limit, 9);
	assert_string_equal(again->relayhost, "1   2\t3");
	conf_free(&again);

	buf_clear(&one);
	assert_true(conf_snapshot(cf, over, 3, &one));
	again = parse(buf_cstr(&one));
	assert_non_null(again);
	assert_string_equal(again->relayhost, "b");
	assert_string_equal(conf_text(again, view_of("x")), "2 3");
	assert_false(heard("overriding"));
	conf_free(&again);

	/* What was computed follows what it is computed from. */
	buf_clear(&one);
	assert_true(conf_snapshot(cf, host, 2, &one));
	again = parse(buf_cstr(&one));
	assert_non_null(again);
	assert_string_equal(again->mydomain, "example.net");
	assert_string_equal(again->mynetworks, "127.0.0.0/8 [::1]/128");
	conf_free(&again);

	assert_false(conf_snapshot(cf, bad, 1, &one));
	assert_false(conf_snapshot(cf, line, 1, &one));
	buf_free(&one);
	buf_init(&one, 10);
	assert_false(conf_snapshot(cf, NULL, 0, &one));
	buf_free(&one);
	buf_free(&two);
	conf_free(&cf);
}

static void
test_by_name(void **state)
{
	struct conf *cf = parse("x = $mydomain\nmydomain = m\nn = 12\n"
	    "t = 3m\nbad = q\nbroken = ${\nempty =\n");

	(void)state;
	assert_non_null(cf);
	assert_string_equal(conf_text(cf, view_of("x")), "m");
	assert_ptr_equal(conf_text(cf, view_of("x")),
	    conf_text(cf, view_of("x")));
	assert_string_equal(conf_text(cf, view_of("mail_name")), "Postern");
	assert_null(conf_text(cf, view_of("neither")));
	assert_string_equal(conf_text(cf, view_of("broken")), "");
	assert_int_equal(conf_number(cf, view_of("n"), 5), 12);
	assert_int_equal(conf_number(cf, view_of("none"), 5), 5);
	assert_int_equal(conf_number(cf, view_of("bad"), 5), 5);
	assert_int_equal(conf_number(cf, view_of("empty"), 5), 5);
	assert_int_equal(conf_number(cf, view_of("hopcount_limit"), 5), 50);
	assert_int_equal(conf_time(cf, view_of("t"), 's', 5), 180000);
	assert_int_equal(conf_time(cf, view_of("n"), 'h', 5), 43200000);
	assert_int_equal(conf_time(cf, view_of("bad"), 'h', 5), 5);
	assert_string_equal(conf_expand(cf, "a $x ${n}"), "a m 12");
	assert_ptr_equal(conf_expand(cf, "a $x"), conf_expand(cf, "a $x"));
	assert_string_equal(conf_expand(cf, "a ${x"), "");
	conf_free(&cf);
	conf_free(&cf);
	assert_null(cf);
}

static void
write_file(const char *dir, const char *name, const char *text)
{
	char *path = mem_printf("%s/%s", dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	free(path);
}

static void
test_load(void **state)
{
	char dir[] = "/tmp/test_conf.XXXXXX", *main_cf, *master_cf;
	struct timespec a, b;
	struct conf *cf;
	int i;

	(void)state;
	buf_clear(&said);
	assert_non_null(mkdtemp(dir));
	assert_null(conf_load(dir, listener, NULL));
	assert_true(heard("/main.cf: No such file"));
	write_file(dir, "main.cf", "relayhost = [a]\nmua = permit\nq = 1\n");
	write_file(dir, "master.cf", "s inet n - - - - smtpd -o x=${mua}\n");
	buf_clear(&said);
	cf = conf_load(dir, listener, NULL);
	assert_non_null(cf);
	assert_string_equal(cf->config_directory, dir);
	assert_true(heard("main.cf:3: unused parameter: q=1"));
	assert_false(heard("mua"));
	conf_free(&cf);

	(void)clock_gettime(CLOCK_MONOTONIC, &a);
	for (i = 0; i < 20; i++) {
		cf = conf_load(dir, NULL, NULL);
		conf_free(&cf);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &b);
	/* 0.2 ms each when measured; the limit leaves room for sanitizers. */
	assert_true((b.tv_sec - a.tv_sec) * 1000 +
	    (b.tv_nsec - a.tv_nsec) / 1000000 < 20 * 20);

	main_cf = mem_printf("%s/main.cf", dir);
	master_cf = mem_printf("%s/master.cf", dir);
	assert_int_equal(unlink(main_cf), 0);
	assert_int_equal(unlink(master_cf), 0);
	assert_int_equal(rmdir(dir), 0);
	free(main_cf);
	free(master_cf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_hostile_lines),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_parsers),
		cmocka_unit_test(test_names_of_host),
		cmocka_unit_test(test_proxies),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_known_sorted),
		cmocka_unit_test(test_declared),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_by_name),
		cmocka_unit_test(test_load),
	};
	int failed;

	buf_init(&said, 1 << 20);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	buf_free(&said);
	return failed;
}
