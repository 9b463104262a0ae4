/* Restrictions: facts in, decision out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "rules/policy.h"

static char said[2000];

static void
say(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		(void)snprintf(said, sizeof said, "%s", text);
}

static void
quiet(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error)
		fail_msg("configuration: %s", text);
}

static const char base[] =
    "myhostname = gw.example.net\n"
    "mydomain = example.net\n"
    "mynetworks = 192.0.2.0/24\n"
    "mydestination = gw.example.net, local.example\n"
    "relay_domains = inside.example, listed.example\n"
    "relay_recipient_maps = \n"
    "config_directory = /nonexistent\n";

static struct conf *conf;
static struct policy *policy;

/* base with more lines; NULL: said tells why. */
static struct policy *
open_policy(const char *more)
{
	struct netaddr own = { 0 };
	char *text = mem_printf("%s%s", base, more);

	conf_free(&conf);
	policy_free(&policy);
	said[0] = '\0';
	conf = conf_parse(view_of(text), "test", quiet, NULL);
	assert_non_null(conf);
	assert_true(netaddr_parse(view_of("198.51.100.7"), &own));
	policy = policy_open(conf, &own, 1, say, NULL);
	free(text);
	return policy;
}

static struct policy_result *result;

static const char *
ask(const char *client, const char *helo, const char *from, const char *to)
{
	static char text[1600];
	struct facts none = { { NULL }, { 0 }, { 0 } };
	struct policy_facts f = {
		.client_name = view_of("unknown"),
		.reverse_name = view_of("unknown"),
		.has_helo = *helo != '\0',
		.helo = view_of(helo),
		.has_sender = true,
		.sender = view_of(from),
		.has_recipient = true,
		.recipient = view_of(to),
		.known = &none,
	};

	assert_true(netaddr_parse(view_of(client), &f.client));
	if (result == NULL)
		result = policy_result_new();
	policy_evaluate(policy, STAGE_RCPT, &f, result);
	if (result->outcome == POLICY_PERMIT)
		return "ok";
	assert_int_equal(result->outcome, POLICY_REFUSE);
	(void)snprintf(text, sizeof text, "%u %s %s", result->reply.code,
	    result->reply.status, result->reply.text);
	return text;
}

#define STRANGER	"203.0.113.5"
#define INSIDER		"192.0.2.5"

struct row {
	const char *settings;	/* NULL: as the row before */
	const char *client, *helo, *from, *to, *answer;
};

static const struct row rows[] = {
	/* The built-in default. */
	{ "", STRANGER, "h", "a@b.c", "u@inside.example", "ok" },
	{ NULL, STRANGER, "h", "a@b.c", "u@sub.inside.example", "ok" },
	{ NULL, STRANGER, "h", "a@b.c", "u@local.example", "ok" },
	{ NULL, STRANGER, "h", "a@b.c", "u@sub.local.example",
	    "454 4.7.1 <u@sub.local.example>: Relay access denied" },
	{ NULL, STRANGER, "h", "a@b.c", "u@INSIDE.Example", "ok" },
	{ NULL, STRANGER, "h", "a@b.c", "u@[198.51.100.7]", "ok" },
	{ NULL, STRANGER, "h", "a@b.c", "u@[198.51.100.8]",
	    "454 4.7.1 <u@[198.51.100.8]>: Relay access denied" },
	{ NULL, STRANGER, "h", "a@b.c", "u@outside.example",
	    "454 4.7.1 <u@outside.example>: Relay access denied" },
	{ NULL, INSIDER, "h", "a@b.c", "u@outside.example", "ok" },
	/* Sender-specified routing through us. */
	{ NULL, STRANGER, "h", "a@b.c", "u%x.org@inside.example",
	    "454 4.7.1 <u%x.org@inside.example>: Relay access denied" },
	{ NULL, STRANGER, "h", "a@b.c", "x.org!u@inside.example",
	    "454 4.7.1 <x.org!u@inside.example>: Relay access denied" },
	{ NULL, STRANGER, "h", "a@b.c", "u@x.org@inside.example",
	    "454 4.7.1 <u@x.org@inside.example>: Relay access denied" },
	{ NULL, STRANGER, "h", "a@b.c", "u%x.org@local.example",
	    "454 4.7.1 <u%x.org@local.example>: Relay access denied" },
	{ NULL, INSIDER, "h", "a@b.c", "u%x.org@inside.example", "ok" },

	{ "smtpd_relay_restrictions = reject_unauth_destination\n",
	    INSIDER, "h", "a@b.c", "u@outside.example",
	    "554 5.7.1 <u@outside.example>: Relay access denied" },
	{ "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = "
	    "permit_mynetworks reject\n", STRANGER, "h", "a@b.c",
	    "u@inside.example", "554 5.7.1 <u@inside.example>: Recipient "
	    "address rejected: Access denied" },
	{ NULL, INSIDER, "h", "a@b.c", "u@outside.example", "ok" },
	{ "smtpd_recipient_restrictions = defer\n", STRANGER, "h", "a@b.c",
	    "u@inside.example", "450 4.3.2 <u@inside.example>: Recipient "
	    "address rejected: Try again later" },
	/* A permit in one list does not skip the other. */
	{ "smtpd_recipient_restrictions = reject\n", INSIDER, "h", "a@b.c",
	    "u@inside.example", "554 5.7.1 <u@inside.example>: Recipient "
	    "address rejected: Access denied" },
	{ "smtpd_recipient_restrictions = permit_auth_destination, reject\n",
	    STRANGER, "h", "a@b.c", "u@inside.example", "ok" },
	{ "smtpd_recipient_restrictions = permit_sasl_authenticated, "
	    "reject_unauth_pipelining\n", STRANGER, "h", "a@b.c",
	    "u@inside.example", "ok" },
	{ "smtpd_recipient_restrictions = reject_non_fqdn_sender, "
	    "reject_non_fqdn_recipient, reject_invalid_hostname, "
	    "reject_non_fqdn_hostname\n", INSIDER, "h.example", "a@b",
	    "u@inside.example", "504 5.5.2 <a@b>: Sender address rejected: "
	    "need fully-qualified address" },
	{ NULL, INSIDER, "h.example", "", "u@inside.example", "ok" },
	{ NULL, INSIDER, "h.example", "a@[192.0.2.1]", "u@inside.example",
	    "ok" },
	{ NULL, INSIDER, "h.example", "", "u@inside", "504 5.5.2 <u@inside>: "
	    "Recipient address rejected: need fully-qualified address" },
	{ NULL, INSIDER, "h", "", "u@inside.example", "504 5.5.2 <h>: Helo "
	    "command rejected: need fully-qualified hostname" },
	{ NULL, INSIDER, "a b", "", "u@inside.example", "501 5.5.2 <a b>: Helo "
	    "command rejected: Invalid name" },
	{ NULL, INSIDER, "", "", "u@inside.example", "ok" },
	{ NULL, INSIDER, "[192.0.2.9]", "", "u@inside.example", "ok" },
	/* A sender is judged as the address that he will be. */
	{ "smtpd_recipient_restrictions = check_sender_access "
	    "inline:{{ bad@b.example = REJECT no }, { s@w.example.net = "
	    "REJECT no }, { me@gw.example.net = REJECT no }}\n"
	    "append_dot_mydomain = yes\n", INSIDER, "h", "bad%b.example",
	    "u@inside.example", "554 5.7.1 <bad%b.example>: Sender address "
	    "rejected: no" },
	{ NULL, INSIDER, "h", "b.example!bad", "u@inside.example", "554 5.7.1 "
	    "<b.example!bad>: Sender address rejected: no" },
	{ NULL, INSIDER, "h", "s@w", "u@inside.example", "554 5.7.1 <s@w>: "
	    "Sender address rejected: no" },
	{ NULL, INSIDER, "h", "me", "u@inside.example", "554 5.7.1 <me>: "
	    "Sender address rejected: no" },
	{ NULL, INSIDER, "h", "bad%b.example@b.example", "u@inside.example",
	    "ok" },
	/* Valid recipients. */
	{ "relay_recipient_maps = inline:{ u@listed.example=x, "
	    "@inside.example=x }\n", STRANGER, "h", "", "u@listed.example",
	    "ok" },
	{ NULL, STRANGER, "h", "", "U@Listed.Example", "ok" },
	{ NULL, STRANGER, "h", "", "any@inside.example", "ok" },
	{ NULL, STRANGER, "h", "", "no@listed.example", "550 5.1.1 "
	    "<no@listed.example>: Recipient address rejected: User unknown in "
	    "relay recipient table" },
	{ NULL, INSIDER, "h", "", "no@listed.example", "550 5.1.1 "
	    "<no@listed.example>: Recipient address rejected: User unknown in "
	    "relay recipient table" },
	{ NULL, INSIDER, "h", "", "no@outside.example", "ok" },
	{ "relay_recipient_maps = inline:{ u@listed.example=x }\n"
	    "show_user_unknown_table_name = no\n"
	    "unknown_relay_recipient_reject_code = 450\n", STRANGER, "h", "",
	    "no@listed.example", "450 4.1.1 <no@listed.example>: Recipient "
	    "address rejected: User unknown" },
	{ "relay_recipient_maps = inline:{ u@listed.example=x }\n"
	    "smtpd_reject_unlisted_recipient = no\n", STRANGER, "h", "",
	    "no@listed.example", "ok" },
	{ "local_transport = error:local mail is off\n", STRANGER, "h", "",
	    "u@local.example", "550 5.1.1 <u@local.example>: Recipient address "
	    "rejected: local mail is off" },
	{ "local_transport = error:5.2.1 closed\n", STRANGER, "h", "",
	    "u@local.example", "550 5.2.1 <u@local.example>: Recipient address "
	    "rejected: closed" },
	/* Modifiers. */
	{ "smtpd_recipient_restrictions = defer_if_permit\n", STRANGER, "h",
	    "", "u@inside.example", "450 4.7.0 <u@inside.example>: Recipient "
	    "address rejected: defer_if_permit requested" },
	{ "smtpd_recipient_restrictions = defer_if_reject, reject\n",
	    STRANGER, "h", "", "u@inside.example", "450 4.7.0 "
	    "<u@inside.example>: Recipient address rejected: defer_if_reject "
	    "requested" },
};

static void
decisions(void **state)
{
	const struct row *r;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *got;

		r = &rows[i];
		if (r->settings != NULL && open_policy(r->settings) == NULL)
			fail_msg("row %zu: %s", i, said);
		got = ask(r->client, r->helo, r->from, r->to);
		if (strcmp(got, r->answer) != 0)
			fail_msg("row %zu: %s, not %s", i, got, r->answer);
	}
}

static void
warnings(void **state)
{
	(void)state;
	assert_non_null(open_policy("smtpd_recipient_restrictions = "
	    "warn_if_reject reject, warn_if_reject reject_non_fqdn_sender\n"));
	assert_string_equal(ask(STRANGER, "h", "a@b", "u@inside.example"),
	    "ok");
	assert_int_equal(result->n_notes, 2);
	assert_string_equal(result->notes[0].action, "reject_warning");
	assert_true(view_starts_nocase(result->notes[0].text, "554 "));
	assert_true(view_starts_nocase(result->notes[1].text, "504 "));
	/* The next question begins anew. */
	assert_string_equal(ask(STRANGER, "h", "a@b.c", "u@inside.example"),
	    "ok");
	assert_int_equal(result->n_notes, 1);
}

static void
refuses_to_load(void **state)
{
	static const char *const open_relays[] = {
		"smtpd_relay_restrictions =\n",
		"smtpd_relay_restrictions = permit_mynetworks\n",
		"smtpd_relay_restrictions = permit, reject\n",
		"smtpd_relay_restrictions = warn_if_reject reject\n",
		("smtpd_relay_restrictions = permit_auth_destination\n"
		    "smtpd_recipient_restrictions = permit\n"),
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof open_relays / sizeof open_relays[0]; i++) {
		assert_null(open_policy(open_relays[i]));
		assert_non_null(strstr(said, "specify at least one working "
		    "instance of: reject_unauth_destination"));
	}
	assert_null(open_policy("smtpd_recipient_restrictions = permit_all\n"));
	assert_string_equal(said, "smtpd_recipient_restrictions: unknown "
	    "restriction: \"permit_all\"");
	assert_null(open_policy("smtpd_relay_restrictions = reject, "
	    "warn_if_reject\n"));
	assert_null(open_policy("mynetworks = 192.0.2.1/24\n"));
	assert_non_null(open_policy("smtpd_relay_restrictions =\n"
	    "smtpd_recipient_restrictions = permit_mynetworks, reject\n"));
}

static int
done(void **state)
{
	(void)state;
	policy_free(&policy);
	conf_free(&conf);
	policy_result_free(&result);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decisions),
		cmocka_unit_test(warnings),
		cmocka_unit_test(refuses_to_load),
	};

	return cmocka_run_group_tests(tests, NULL, done);
}
