#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rules/local_clients.h"
#include "t/unit/conf_help.h"

static const char *const own_text = "192.0.2.9";

/* Does value make this client a local one? */
static bool
local_by(const char *value, const char *client, bool authenticated,
    const char *print)
{
	struct local_client c = { .name = view_of("unknown"),
		.authenticated = authenticated,
		.trusted = strcmp(print, "trusted") == 0 };
	char *text = mem_printf("mynetworks = 198.51.100.0/24\n"
	    "relay_clientcerts = inline:{AB:CD=x, EF:01=y}\n"
	    "local_header_rewrite_clients = %s\n", value);
	struct conf *cf = conf_parse(view_of(text), "main.cf", listener, NULL);
	struct netaddr own;
	struct local_clients *l;
	bool yes;

	free(text);
	assert_non_null(cf);
	assert_true(netaddr_parse(view_of(own_text), &own));
	assert_true(netaddr_parse(view_of(client), &c.addr));
	c.fingerprint = c.trusted ? view_of("") : view_of(print);
	l = local_clients_open(cf, &own, 1, listener, NULL);
	assert_non_null(l);
	yes = local_clients_match(l, &c);
	c.pubkey_fingerprint = c.fingerprint;
	c.fingerprint = view_of("");
	assert_int_equal(local_clients_match(l, &c), yes);
	local_clients_free(&l);
	conf_free(&cf);
	return yes;
}

static bool
local(const char *value, const char *client, bool authenticated)
{
	return local_by(value, client, authenticated, "");
}

static void
certificates(void **state)
{
	(void)state;
	assert_true(local_by("permit_tls_clientcerts", own_text, false,
	    "AB:CD"));
	assert_false(local_by("permit_tls_clientcerts", own_text, false,
	    "AB:CE"));
	assert_false(local_by("permit_tls_clientcerts", own_text, false,
	    "trusted"));
	assert_true(local_by("permit_tls_all_clientcerts", own_text, false,
	    "trusted"));
	assert_false(local_by("permit_tls_all_clientcerts", own_text, false,
	    "AB:CD"));
	assert_false(local_by("permit_mynetworks", own_text, false,
	    "trusted"));
}

static void
words(void **state)
{
	(void)state;
	assert_false(local("", own_text, true));
	assert_true(local("permit_inet_interfaces", own_text, false));
	assert_false(local("permit_inet_interfaces", "198.51.100.7", true));
	assert_true(local("permit_mynetworks", "198.51.100.7", false));
	assert_false(local("permit_mynetworks", own_text, false));
	assert_true(local("permit_sasl_authenticated", "203.0.113.1", true));
	assert_false(local("permit_sasl_authenticated", "203.0.113.1",
	    false));
	assert_true(local("permit_mynetworks, permit_inet_interfaces",
	    own_text, false));
	assert_false(local("permit_tls_clientcerts", own_text, true));
}

static void
tables(void **state)
{
	(void)state;
	assert_true(local("check_address_map inline:{203.0.113.1=x}",
	    "203.0.113.1", false));
	assert_true(local("cidr:{{203.0.113.0/24 x}}", "203.0.113.1", false));
	assert_false(local("cidr:{{203.0.113.0/24 x}}", own_text, false));
}

static void
refused(void **state)
{
	struct conf *cf = conf_parse(view_of(
	    "local_header_rewrite_clients = me\n"), "main.cf", listener,
	    NULL);

	(void)state;
	assert_non_null(cf);
	assert_null(local_clients_open(cf, NULL, 0, listener, NULL));
	assert_true(heard("is no restriction and no table"));
	conf_free(&cf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words),
		cmocka_unit_test(certificates),
		cmocka_unit_test(tables),
		cmocka_unit_test(refused),
	};

	buf_init(&said, 1 << 20);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
