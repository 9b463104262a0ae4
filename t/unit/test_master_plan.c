/* link: proxy/master_plan.c proxy/master_report.c proxy/master_listen.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "lib/mem.h"
#include "proxy/master_listen.h"
#include "proxy/master_plan.h"
#include "rules/conf_files.h"

/* What was reported. */
struct said {
	unsigned errors, warnings;
	char last[512];
};

static void
hear(bool error, const char *text, void *arg)
{
	struct said *s = arg;

	if (error)
		s->errors++;
	else
		s->warnings++;
	snprintf(s->last, sizeof s->last, "%s", text);
}

static struct service_table *
table(const char *text)
{
	struct said s = { 0 };
	struct service_table *t;

	t = master_cf_parse(view_of(text), "master.cf", hear, &s);
	if (t == NULL)
		fail_msg("%s", s.last);
	return t;
}

#define OWN								\
	"gate unix y - y - 1 gate\n"					\
	"lookup unix y - y - 1 lookup\n"				\
	"filter unix y - y - - filter\n"				\
	"qmgr unix n - y - 1 qmgr\n"					\
	"relay unix y - n - - relay\n"					\
	"bounce unix y - y - 0 bounce\n"				\
	"showq unix n - y - 0 showq\n"

static void
test_own_table(void **state)
{
	struct service_table *t = table(
	    "127.0.0.1:2525 inet n - y - - smtpd\n"
	    "2526 inet n - y - 1 smtpd\n  -o soft_bounce=yes\n" OWN);
	struct said s = { 0 };
	struct reporter r = { hear, &s };
	struct plan *p = plan_make(t, 3, 0, &r);
	const struct plan_entry *e;

	(void)state;
	assert_non_null(p);
	assert_int_equal(s.errors + s.warnings, 0);
	assert_int_equal(p->n, 9);
	e = plan_find(p, ROLE_SHOWQ, 0);
	assert_true(e->on_demand && e->chroot);
	e = plan_find(p, ROLE_SMTPD, 1);
	assert_string_equal(e->name, "127.0.0.1:2525");
	assert_int_equal(e->count, 3);
	assert_int_equal(e->n_overrides, 0);
	e = plan_find(p, ROLE_SMTPD, 2);
	assert_int_equal(e->count, 1);
	assert_int_equal(e->n_overrides, 1);
	assert_string_equal(e->overrides[0], "soft_bounce=yes");
	assert_int_equal(plan_find(p, ROLE_GATE, 0)->count, 1);
	assert_int_equal(plan_find(p, ROLE_FILTER, 0)->count, 3);
	assert_true(plan_find(p, ROLE_FILTER, 0)->chroot);
	assert_false(plan_find(p, ROLE_RELAY, 0)->chroot);
	e = plan_find(p, ROLE_BOUNCE, 0);
	assert_true(e->on_demand);
	assert_int_equal(e->count, 0);
	assert_null(plan_find(p, ROLE_SMTPD, 3));
	assert_int_equal(p->ignored.n, 0);
	plan_free(&p);
	assert_null(p);
	master_cf_free(&t);
}

static struct conf *
settings(const char *text)
{
	struct said s = { 0 };
	struct conf *cf = conf_parse(view_of(text), "main.cf", hear, &s);

	if (cf == NULL)
		fail_msg("%s", s.last);
	return cf;
}

/* It runs when something uses it, whether it has a line or not. */
static void
test_sts(void **state)
{
	static const struct {
		const char *conf, *more;
		bool runs;
	} cases[] = {
		{ "", "", false },
		{ "", "sts unix - - y - 1 sts\n", false },
		{ "smtp_tls_sts = yes\n", "", true },
		{ "smtp_tls_sts = yes\n", "sts unix - - y - 1 sts\n", true },
		{ "", "out unix - - y - - smtp\n  -o smtp_tls_sts=yes\n",
			true },
		{ "on = yes\n",
			"out unix - - y - - smtp\n  -o smtp_tls_sts=$on\n",
			true },
		{ "", "out unix - - y - - smtp\n  -o smtp_tls_sts=no\n",
			false },
		{ "", "out unix - - y - - smtp\n"
			"  -o smtp_tls_sts_port=1\n", false },
	};
	const struct plan_entry *e;
	struct service_table *t;
	struct said s = { 0 };
	struct reporter r = { hear, &s };
	struct conf *cf;
	struct plan *p;
	char text[1000];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_true(snprintf(text, sizeof text, OWN "%s",
		    cases[i].more) < (int)sizeof text);
		t = table(text);
		cf = settings(cases[i].conf);
		p = plan_make(t, 2, 0, &r);
		plan_add_sts(p, cf, t);
		e = plan_find(p, ROLE_STS, 0);
		if ((e != NULL && e->count == 1) != cases[i].runs)
			fail_msg("case %zu", i);
		if (e != NULL)
			assert_true(e->chroot);
		plan_free(&p);
		conf_free(&cf);
		master_cf_free(&t);
	}
}

static void
test_tlsrpt(void **state)
{
	struct service_table *t = table(OWN
	    "out unix - - y - - smtp\n  -o smtp_tlsrpt_enable=yes\n");
	struct said s = { 0 };
	struct reporter r = { hear, &s };
	struct conf *cf = settings("");
	struct plan *p = plan_make(t, 2, 0, &r);
	const struct plan_entry *e;

	(void)state;
	plan_add_sts(p, cf, t);
	assert_null(plan_find(p, ROLE_TLSRPT, 0));
	plan_add_tlsrpt(p, cf, t);
	e = plan_find(p, ROLE_TLSRPT, 0);
	assert_non_null(e);
	assert_int_equal(e->count, 1);
	assert_true(e->chroot);
	plan_free(&p);
	conf_free(&cf);
	master_cf_free(&t);
}

/* The table of an existing Postfix. */
static void
test_postfix_table(void **state)
{
	struct service_table *t = table(
	    "smtp inet n - y - 500 smtpd\n"
	    "pickup unix n - y 60 1 pickup\n"
	    "cleanup unix n - y - 0 cleanup\n"
	    "qmgr unix n - n 300 1 qmgr\n"
	    "tlsmgr unix - - y 1000? 1 tlsmgr\n"
	    "bounce unix - - y - 0 bounce\n"
	    "defer unix - - y - 0 bounce\n"
	    "showq unix n - n - - showq\n"
	    "smtp unix - - y - - smtp\n"
	    "relay unix - - y - - smtp\n  -o syslog_name=x\n"
	    "mine unix - - n - - mydaemon\n");
	struct said s = { 0 };
	struct reporter r = { hear, &s };
	struct plan *p = plan_make(t, 2, 0, &r);

	(void)state;
	assert_non_null(p);
	assert_int_equal(s.errors, 0);
	/* mydaemon, no lookup, no gate */
	assert_int_equal(s.warnings, 3);
	assert_string_equal(buf_cstr(&p->ignored), "tlsmgr, mine");
	/* maxproc counts Postfix's sessions, not our processes. */
	assert_int_equal(plan_find(p, ROLE_SMTPD, 1)->count, 8);
	assert_int_equal(plan_find(p, ROLE_FILTER, 0)->count, 2);
	assert_string_equal(plan_find(p, ROLE_FILTER, 0)->name, "cleanup");
	assert_int_equal(plan_find(p, ROLE_RELAY, 0)->line, 9);
	assert_int_equal(plan_find(p, ROLE_RELAY, service_relays(t,
	    &t->list[9]))->line, 10);
	assert_int_equal(plan_find(p, ROLE_GATE, 0)->count, 1);
	assert_null(plan_find(p, ROLE_LOOKUP, 0));
	plan_free(&p);
	master_cf_free(&t);
}

/* Those that speak LMTP are apart, whatever their settings. */
static void
test_lmtp(void **state)
{
	struct service_table *t = table("lmtp unix - - y - - lmtp\n"
	    "relay unix - - y - - relay\n"
	    "same unix - - y - - lmtp\n"
	    "free unix - - n - - lmtp\n" OWN);
	uint32_t number = service_relays(t, &t->list[0]);
	struct said s = { 0 };
	struct reporter r = { hear, &s };
	struct plan *p = plan_make(t, 2, 0, &r);

	(void)state;
	assert_int_not_equal(number, 0);
	assert_int_equal(service_relays(t, &t->list[1]), 0);
	assert_int_equal(service_relays(t, &t->list[2]), number);
	/* The jail says which sockets are in reach. */
	assert_int_not_equal(service_relays(t, &t->list[3]), number);
	assert_int_not_equal(service_relays(t, &t->list[3]), 0);
	assert_true(plan_find(p, ROLE_RELAY, number)->lmtp);
	assert_true(plan_find(p, ROLE_RELAY, number)->chroot);
	assert_false(plan_find(p, ROLE_RELAY,
	    service_relays(t, &t->list[3]))->chroot);
	assert_false(plan_find(p, ROLE_RELAY, 0)->lmtp);
	plan_free(&p);
	master_cf_free(&t);
}

/* Transports with settings of their own have processes of their own. */
static void
test_transports(void **state)
{
	struct service_table *t = table("relay unix - - y - - relay\n" OWN
	    "same unix - - y - 3 smtp\n"
	    "own unix - - y - 2 smtp\n  -o a=1 -o b=2\n"
	    "like unix - - y - - smtp\n  -o a=1 -o b=2\n"
	    "more unix - - y - - smtp\n  -o a=1\n"
	    "free unix - - n - - smtp\n");
	uint32_t own = service_relays(t, &t->list[t->n - 4]);
	struct said s = { 0 };
	struct reporter r = { hear, &s };
	struct plan *p = plan_make(t, 2, 0, &r);
	size_t i, n = 0;

	(void)state;
	assert_string_equal(t->list[t->n - 4].name, "own");
	assert_int_equal(service_relays(t, &t->list[0]), 0);
	assert_int_equal(service_relays(t, &t->list[t->n - 5]), 0);
	assert_int_not_equal(own, 0);
	assert_int_equal(service_relays(t, &t->list[t->n - 3]), own);
	assert_int_not_equal(service_relays(t, &t->list[t->n - 2]), own);
	assert_int_not_equal(service_relays(t, &t->list[t->n - 2]), 0);
	/* Where they may go in the file system is no setting. */
	assert_int_equal(service_relays(t, &t->list[t->n - 1]), 0);
	for (i = 0; i < p->n; i++)
		n += p->list[i].kind == ROLE_RELAY;
	assert_int_equal(n, 3);
	assert_string_equal(plan_find(p, ROLE_RELAY, own)->name, "own");
	assert_int_equal(plan_find(p, ROLE_RELAY, own)->count, 2);
	assert_int_equal(plan_find(p, ROLE_RELAY, own)->n_overrides, 2);
	plan_free(&p);
	master_cf_free(&t);
}

/* A service that is commented out has no process. */
static void
test_missing(void **state)
{
	struct service_table *t = table("qmgr unix n - y - 1 qmgr\n");
	struct said s = { 0 };
	struct reporter r = { hear, &s };
	struct plan *p = plan_make(t, 2, 5, &r);

	(void)state;
	assert_non_null(p);
	assert_int_equal(p->n, 1);
	assert_int_equal(s.warnings, 5);
	assert_null(plan_find(p, ROLE_GATE, 0));
	plan_free(&p);
	master_cf_free(&t);
}

static void
test_processes(void **state)
{
	struct service_table *t = table("25 inet n - y - - smtpd\n" OWN);
	struct said s = { 0 };
	struct reporter r = { hear, &s };
	struct plan *p = plan_make(t, 2, 7, &r);

	(void)state;
	assert_int_equal(plan_find(p, ROLE_SMTPD, 1)->count, 7);
	assert_int_equal(plan_find(p, ROLE_QMGR, 0)->count, 1);
	plan_free(&p);
	master_cf_free(&t);
}

static void
test_throttle(void **state)
{
	struct throttle t = { 0 };
	struct mono now = { 1000000000 };
	unsigned i;

	(void)state;
	for (i = 0; i < THROTTLE_BURST; i++) {
		now.us += 1000000;
		assert_int_equal(throttle_delay(&t, now, 60000), 0);
	}
	now.us += 1000000;
	assert_int_equal(throttle_delay(&t, now, 60000), 60000);
	/* One death in three seconds is less than five in ten. */
	t = (struct throttle){ 0 };
	for (i = 0; i < 50; i++) {
		now.us += 3000000;
		assert_int_equal(throttle_delay(&t, now, 60000), 0);
	}
}

static void
gather(const char *file, enum role_kind kind, void *arg)
{
	struct buf *b = arg;

	(void)kind;
	assert_true(buf_printf(b, "%s ", file));
}

static void
check_files(const char *settings, enum role_kind kind, const char *expected)
{
	struct said s = { 0 };
	struct conf *cf = conf_parse(view_of(settings), "main.cf", hear, &s);
	struct buf b;

	assert_non_null(cf);
	buf_init(&b, 4096);
	conf_files(cf, "/etc/x", kind, gather, &b);
	assert_string_equal(buf_cstr(&b), expected);
	buf_free(&b);
	conf_free(&cf);
}

static void
test_files(void **state)
{
	(void)state;
	check_files("smtpd_tls_chain_files = /a/b.pem, c.pem\n"
	    "smtpd_tls_cert_file = none\nsmtpd_tls_CApath = /a/ca\n"
	    "tls_server_sni_maps = inline:{{a.example=/s/a.pem s/b.pem}, "
	    "{b.example=/s/c.pem}}, hash:/s/names\n", ROLE_SMTPD,
	    "/a/b.pem /etc/x/c.pem /a/ca /s/names /s/names.lmdb /s/a.pem "
	    "/etc/x/s/b.pem /s/c.pem ");
	check_files("header_checks = regexp:/a/h, pcre:h2\n"
	    "mime_header_checks = static:x\nnested_header_checks =\n"
	    "body_checks = regexp:$config_directory/b\n"
	    "config_directory = /etc/y\nmynetworks = /n\n",
	    ROLE_FILTER, "/a/h /etc/x/h2 /etc/y/b /n ");
	check_files("mynetworks = 127.0.0.0/8 [::1]/128 !/etc/bad fe80::/10 "
	    "cidr:nets\nmydestination =\nrelay_domains = a.example, "
	    "proxy:texthash:/r\nrelay_recipient_maps = inline:{ a=b }\n"
	    "smtpd_forbid_bare_newline_exclusions =\n"
	    "smtpd_client_event_limit_exceptions =\n",
	    ROLE_SMTPD, "/r /etc/bad /etc/x/nets /r ");
	check_files("transport_maps = texthash:t\nrelay_domains = /d\n"
	    "address_verify_transport_maps = texthash:v\n"
	    "mydestination = x\n", ROLE_QMGR, "/d /etc/x/v /etc/x/t ");
	check_files("transport_maps = texthash:t\n"
	    "canonical_maps = texthash:c\nmynetworks =\n"
	    "mydestination = x\n", ROLE_SMTPD, "/etc/x/c /etc/x/t ");
	check_files("mynetworks = /n\n", ROLE_GATE, "/n ");
	check_files("transport_maps = texthash:t\n", ROLE_RELAY, "");
}

static void
test_listen(void **state)
{
	static const char settings[] = "inet_interfaces = 127.0.0.1, [::1]\n";
	struct service_table *t = table("smtp inet n - y - - smtpd\n"
	    "192.0.2.1:2525 inet n - y - - smtpd\n"
	    "[::1]:2526 inet n - y - - smtpd\n" OWN);
	struct said s = { 0 };
	struct reporter r = { hear, &s };
	struct plan *p = plan_make(t, 1, 0, &r);
	struct conf *cf = conf_parse(view_of(settings), "main.cf", hear, &s);
	char text[LISTEN_TEXT];
	struct listen_set *l;

	(void)state;
	l = listen_resolve(p, cf, &r);
	assert_non_null(l);
	assert_true(l->n == 4 || l->n == 2);	/* 2: kernel without IPv6 */
	assert_string_equal(listen_text(&l->list[0].addr, text),
	    "127.0.0.1:25");
	assert_int_equal(l->list[0].service, 1);
	if (l->n == 4) {
		assert_string_equal(listen_text(&l->list[1].addr, text),
		    "[::1]:25");
		assert_string_equal(listen_text(&l->list[3].addr, text),
		    "[::1]:2526");
		assert_int_equal(l->list[3].service, 3);
	}
	listen_free(&l);
	conf_free(&cf);
	plan_free(&p);
	master_cf_free(&t);
}

static void
test_listen_errors(void **state)
{
	static const struct {
		const char *services, *settings, *error;
	} cases[] = {
		{ "25 inet n - y - - smtpd\n"
		  "127.0.0.1:25 inet n - y - - smtpd\n",
		  "inet_interfaces = loopback-only\ninet_protocols = ipv4\n",
		  "master.cf:2: 127.0.0.1:25 is already taken by service 25" },
		{ "nosuchservice inet n - y - - smtpd\n", "",
		  "master.cf:1: bad address or port: nosuchservice" },
		{ "25 inet n - y - - smtpd\n", "inet_protocols =\n",
		  "main.cf: inet_protocols is empty" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char *text = mem_printf("%s" OWN, cases[i].services);
		struct service_table *t = table(text);
		struct said s = { 0 };
		struct reporter r = { hear, &s };
		struct plan *p = plan_make(t, 1, 0, &r);
		struct conf *cf = conf_parse(view_of(cases[i].settings),
		    "main.cf", hear, &s);

		s = (struct said){ 0 };
		assert_null(listen_resolve(p, cf, &r));
		assert_int_equal(s.errors, 1);
		assert_string_equal(s.last, cases[i].error);
		conf_free(&cf);
		plan_free(&p);
		master_cf_free(&t);
		free(text);
	}
}

/* A second set takes over the sockets of the first. */
static void
test_bind(void **state)
{
	struct service_table *t = table("127.0.0.1:42525 inet n - y - - smtpd\n"
	    OWN);
	struct said s = { 0 };
	struct reporter r = { hear, &s };
	struct plan *p = plan_make(t, 1, 0, &r);
	struct conf *cf = conf_parse(view_of(""), "main.cf", hear, &s);
	struct listen_set *a = listen_resolve(p, cf, &r);
	struct listen_set *b = listen_resolve(p, cf, &r);
	struct listen_set *c = listen_resolve(p, cf, &r);

	(void)state;
	assert_true(listen_bind(a, NULL, &r));
	assert_true(listen_bind(b, a, &r));
	assert_true(a->list[0].fd >= 0 && b->list[0].fd >= 0);
	assert_int_not_equal(a->list[0].fd, b->list[0].fd);
	s.errors = 0;
	assert_false(listen_bind(c, NULL, &r));
	assert_int_equal(s.errors, 1);
	listen_free(&a);
	listen_free(&b);
	assert_true(listen_bind(c, NULL, &r));
	listen_free(&c);
	conf_free(&cf);
	plan_free(&p);
	master_cf_free(&t);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own_table),
		cmocka_unit_test(test_sts),
		cmocka_unit_test(test_tlsrpt),
		cmocka_unit_test(test_postfix_table),
		cmocka_unit_test(test_lmtp),
		cmocka_unit_test(test_transports),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_processes),
		cmocka_unit_test(test_throttle),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_listen),
		cmocka_unit_test(test_listen_errors),
		cmocka_unit_test(test_bind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
