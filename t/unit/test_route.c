/* Where mail goes: classes, relayhosts, tables by sender, transport_maps. */
#include "t/unit/conf_help.h"

#include "rules/route.h"

#define HOST	"myhostname = gw.o.example\nmyorigin = o.example\n"	\
	"mydestination = gw.o.example\nrelay_domains = r.example\n"	\
	"recipient_delimiter = +\nlocal_transport = local:gw\n"

static int
setup(void **state)
{
	(void)state;
	buf_init(&said, 65536);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	buf_free(&said);
	return 0;
}

/* want: "transport nexthop", or "failed"; cases end with NULL. */
struct route_case {
	const char *sender, *rcpt, *want;
};

static void
check(const char *settings, const struct route_case *c)
{
	char *text = mem_printf("%s%s", HOST, settings), *got;
	struct conf *cf = parse(text);
	struct router *r;
	struct buf transport, nexthop;

	free(text);
	assert_non_null(cf);
	r = router_open(cf, NULL, 0, listener, NULL);
	if (r == NULL)
		fail_msg("%s", buf_cstr(&said));
	buf_init(&transport, 256);
	buf_init(&nexthop, 2048);
	for (; c->rcpt != NULL; c++) {
		assert_int_equal(route_find(r, view_of(c->sender),
		    view_of(c->rcpt), &transport, &nexthop), TABLE_FOUND);
		got = mem_printf("%s %s", buf_cstr(&transport),
		    buf_cstr(&nexthop));
		if (strcmp(got, c->want) != 0)
			fail_msg("%s from %s: %s, not %s", c->rcpt, c->sender,
			    got, c->want);
		free(got);
	}
	buf_free(&transport);
	buf_free(&nexthop);
	router_free(&r);
	conf_free(&cf);
}

static void
test_classes(void **state)
{
	(void)state;
	check("virtual_alias_domains = v.example\n"
	    "virtual_mailbox_domains = m.example\n"
	    "virtual_transport = smtp:[inside]\n",
	    (const struct route_case[]){
		{ "", "a@gw.o.example", "local gw" },
		{ "", "a@r.example", "relay r.example" },
		{ "", "a@SUB.r.example", "relay sub.r.example" },
		{ "", "a@m.example", "smtp [inside]" },
		{ "", "a@sub.m.example", "smtp sub.m.example" },
		{ "", "a@v.example",
		    "error 5.1.1 User unknown in virtual alias table" },
		{ "", "a@else.example", "smtp else.example" },
		{ NULL, NULL, NULL } });
	/* A relayhost is for all that leaves, as in Postfix. */
	check("relayhost = [Out.example]\nshow_user_unknown_table_name = no\n"
	    "virtual_alias_maps = inline:{ {v.example=x} }\n"
	    "default_transport = uucp\nrelay_transport = relay:[in]\n",
	    (const struct route_case[]){
		{ "", "a@gw.o.example", "local gw" },
		{ "", "a@r.example", "relay [in]" },
		{ "", "a@else.example", "uucp [out.example]" },
		{ "", "a@v.example", "error 5.1.1 User unknown" },
		{ NULL, NULL, NULL } });
	check("proxy_interfaces = 192.0.2.9, 2001:db8::9\n",
	    (const struct route_case[]){
		{ "", "a@[192.0.2.9]", "local gw" },
		{ "", "a@[IPv6:2001:DB8::9]", "local gw" },
		{ "", "a@[192.0.2.10]", "smtp [192.0.2.10]" },
		{ NULL, NULL, NULL } });
	check("relayhost = [out]\n", (const struct route_case[]){
		{ "", "a@r.example", "relay [out]" },
		{ NULL, NULL, NULL } });
}

static void
test_by_sender(void **state)
{
	(void)state;
	check("relayhost = [out]\nsender_dependent_relayhost_maps = inline:{ "
	    "{joe@s.example=[joes]} {@s.example=[theirs]} {<>=[null]} "
	    "{jane@s.example=DUNNO} }\n"
	    "sender_dependent_default_transport_maps = inline:{ "
	    "{@t.example=slow:[way]} {joe@t.example=slow} "
	    "{jim@t.example=dunno} }\n",
	    (const struct route_case[]){
		{ "joe@s.example", "a@e.example", "smtp [joes]" },
		{ "joe+x@s.example", "a@e.example", "smtp [joes]" },
		{ "jim@s.example", "a@r.example", "relay [theirs]" },
		{ "jane@s.example", "a@e.example", "smtp [out]" },
		{ "", "a@e.example", "smtp [null]" },
		{ "x@t.example", "a@e.example", "slow [way]" },
		{ "joe@t.example", "a@e.example", "slow [out]" },
		{ "jim@t.example", "a@e.example", "smtp [out]" },
		{ "x@t.example", "a@r.example", "relay [out]" },
		{ "x@t.example", "a@gw.o.example", "local gw" },
		{ NULL, NULL, NULL } });
}

static void
test_transport(void **state)
{
	(void)state;
	check("transport_maps = inline:{ {joe@e.example=one:} "
	    "{joe+x@e.example=two:[h]} {e.example=three:[Hop]:26} "
	    "{.e.example=four:} {*=:[last]} {no.example=:} "
	    "{err.example=error:5.7.1 No Such Place} {err2.example=error} "
	    "{s.example=:[only-hop]} {v.example=wrong:} }\n"
	    "relayhost = [out]\nvirtual_alias_domains = v.example\n",
	    (const struct route_case[]){
		{ "", "joe@e.example", "one e.example" },
		{ "", "joe+x@e.example", "two [h]" },
		{ "", "joe+y@e.example", "one e.example" },
		{ "", "x@e.example", "three [hop]:26" },
		{ "", "x@a.b.e.example", "four a.b.e.example" },
		{ "", "x@no.example", "smtp [out]" },
		{ "", "x@s.example", "smtp [only-hop]" },
		{ "", "x@gw.o.example", "local [last]" },
		{ "", "x@other.example", "smtp [last]" },
		{ "", "x@err.example", "error 5.7.1 No Such Place" },
		{ "", "x@err2.example", "error Address is undeliverable" },
		{ "", "x@v.example",
		    "error 5.1.1 User unknown in virtual alias table" },
		{ NULL, NULL, NULL } });
	/* Each key is asked of all tables before the next key. */
	check("transport_maps = inline:{ {e.example=first:} } "
	    "pcre:{ {/^e\\.example/ wrong:} {/^pat@/ pattern:} } "
	    "inline:{ {joe@e.example=second:} }\n",
	    (const struct route_case[]){
		{ "", "joe@e.example", "second e.example" },
		{ "", "pat@e.example", "pattern e.example" },
		{ "", "x@e.example", "first e.example" },
		{ NULL, NULL, NULL } });
	check("parent_domain_matches_subdomains = transport_maps\n"
	    "transport_maps = inline:{ {e.example=parent:} "
	    "{.f.example=wrong:} }\n",
	    (const struct route_case[]){
		{ "", "x@a.b.e.example", "parent a.b.e.example" },
		{ "", "x@a.f.example", "smtp a.f.example" },
		{ NULL, NULL, NULL } });
}

static void
test_relocated(void **state)
{
	(void)state;
	check("relocated_maps = inline:{ {joe@e.example=joe@new.example} "
	    "{@gone.example=another place} {local=here} }\n"
	    "transport_maps = inline:{ {joe@e.example=smtp:[x]} }\n",
	    (const struct route_case[]){
		{ "", "joe+x@e.example",
		    "error 5.1.6 User has moved to joe@new.example" },
		{ "", "x@gone.example",
		    "error 5.1.6 User has moved to another place" },
		{ "", "local@gw.o.example",
		    "error 5.1.6 User has moved to here" },
		{ "", "jane@e.example", "smtp e.example" },
		{ NULL, NULL, NULL } });
	check("relocated_prefix_enable = no\nrelocated_maps = inline:{ "
	    "{a@e.example=5.2.1 Closed Down} {b@e.example=b@f.example} }\n",
	    (const struct route_case[]){
		{ "", "a@e.example", "error 5.2.1 Closed Down" },
		{ "", "b@e.example", "error 5.2.0 Mailbox is unavailable" },
		{ NULL, NULL, NULL } });
}

/* A parameter that has another one's next hop if it names none. */
static void
test_put(void **state)
{
	static const char *const cases[][2] = {
		{ "local", "local usual.example" },
		{ "smtp:", "smtp usual.example" },
		{ " smtp : [In.Example]:26 ", "smtp [in.example]:26" },
		{ "error:5.1.1 Not Here", "error 5.1.1 Not Here" },
		{ "retry", "retry Address is undeliverable" },
		{ "discard", "discard usual.example" } };
	struct buf transport, nexthop;
	char *got;
	size_t i;

	(void)state;
	buf_init(&transport, 256);
	buf_init(&nexthop, 2048);
	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		route_put(view_of(cases[i][0]), view_of("usual.example"),
		    &transport, &nexthop);
		got = mem_printf("%s %s", buf_cstr(&transport),
		    buf_cstr(&nexthop));
		assert_string_equal(got, cases[i][1]);
		free(got);
	}
	buf_free(&transport);
	buf_free(&nexthop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_by_sender),
		cmocka_unit_test(test_transport),
		cmocka_unit_test(test_relocated),
		cmocka_unit_test(test_put),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
