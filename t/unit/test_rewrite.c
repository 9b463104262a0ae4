/* Rewriting: what the cases in t/rules/rewrite cannot show. */
#include "t/unit/conf_help.h"

#include "rules/mailbox.h"
#include "rules/override.h"
#include "rules/rewrite.h"

static struct arena *arena;
static const struct rewrite_extra nothing;

static int
setup(void **state)
{
	(void)state;
	buf_init(&said, 65536);
	arena = arena_new(REWRITE_ARENA);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	arena_free(&arena);
	buf_free(&said);
	return 0;
}

#define HOST	"myhostname = gw.o.example\nmyorigin = o.example\n"	\
	"mydomain = o.example\nmydestination = gw.o.example\n"

static struct rewrite *
open_rewrite(const char *settings, struct conf **ret)
{
	static const struct netaddr none[1];
	char *text = mem_printf("%s%s", HOST, settings);
	struct rewrite *r;

	*ret = parse(text);
	free(text);
	assert_non_null(*ret);
	r = rewrite_open(*ret, none, 0, listener, NULL);
	arena_reset(arena);
	return r;
}

static struct envelope
envelope_of(const char *sender, const char *const *rcpts, uint32_t n)
{
	struct envelope e = { .sender = view_of(sender), .nrcpts = n,
		.client_addr = view_of("192.0.2.1"),
		.client_name = view_of("c.example") };
	uint32_t i;

	e.rcpts = arena_alloc(arena, n * sizeof *e.rcpts);
	for (i = 0; i < n; i++)
		e.rcpts[i] = (struct recipient){ .addr = view_of(rcpts[i]) };
	return e;
}

static void
assert_view(struct view v, const char *text)
{
	if (!view_is(v, text))
		fail_msg("%.*s, not %s", VIEW_ARGS(v), text);
}

/* No rewriting is configured: nothing that is complete changes. */
static void
test_nothing(void **state)
{
	static const char *const rcpts[] = { "a@b.example", "c+d@e.example",
		"x!y@z.example", "\"q r\"@z.example", "u%v@z.example" };
	static const char *const headers[] = { "From: A <a@b.example>",
		"To: a@b.example, \"B, C\" <c@d.example> (comment),\n\te@f",
		"Cc: friends: a@b.example;", "Reply-To: <>",
		"Sender: =?utf-8?q?a?= <a@b>", "Subject: joe" };
	struct conf *cf;
	struct rewrite *r = open_rewrite("", &cf);
	struct envelope e = envelope_of("s@t.example", rcpts, 5), out;
	struct buf b;
	bool changed = true;
	size_t i;

	(void)state;
	assert_non_null(r);
	assert_false(rewrite_configured(cf));
	assert_int_equal(rewrite_envelope(r, &e, &nothing, arena, &out,
	    &changed), REWRITE_DONE);
	assert_false(changed);
	buf_init(&b, 10000);
	for (i = 0; i < sizeof headers / sizeof headers[0]; i++) {
		assert_int_equal(rewrite_header(r, REWRITE_LOCAL, true,
		    view_of(headers[i]), &b, &changed), REWRITE_DONE);
		assert_false(changed);
	}
	buf_free(&b);
	rewrite_free(&r);
	conf_free(&cf);
}

static struct {
	char text[4000];
	size_t n;
} traced;

static void
trace(const struct rewrite_step *s, void *arg)
{
	(void)arg;
	traced.n += (size_t)snprintf(traced.text + traced.n,
	    sizeof traced.text - traced.n, "%s [%.*s] %.*s -> %.*s\n",
	    s->what, VIEW_ARGS(s->where), VIEW_ARGS(s->before),
	    VIEW_ARGS(s->after));
}

/* Recipients remember what they were; each step can be followed. */
static void
test_original(void **state)
{
	static const char *const rcpts[] = { "list@v.example" };
	struct conf *cf;
	struct rewrite *r = open_rewrite("canonical_maps = inline:{ "
	    "{list@v.example=lists@v.example} }\n"
	    "virtual_alias_maps = inline:{ "
	    "{lists@v.example=a@x.example, b@x.example} }\n"
	    "masquerade_domains = x.example\nalways_bcc = c@x.example\n", &cf);
	struct envelope e = envelope_of("s@h.x.example", rcpts, 1), out;
	bool changed = false;

	(void)state;
	assert_non_null(r);
	e.rcpts[0].orcpt = view_of("rfc822;first@w.example");
	e.rcpts[0].notify = NOTIFY_SUCCESS | NOTIFY_FAILURE;
	traced.n = 0;
	rewrite_set_trace(r, trace, NULL);
	assert_int_equal(rewrite_envelope(r, &e, &nothing, arena, &out,
	    &changed), REWRITE_DONE);
	assert_true(changed);
	assert_view(out.sender, "s@x.example");
	assert_int_equal(out.nrcpts, 3);
	assert_view(out.rcpts[0].addr, "a@x.example");
	assert_view(out.rcpts[0].orig, "list@v.example");
	assert_view(out.rcpts[0].orcpt, "rfc822;first@w.example");
	assert_int_equal(out.rcpts[0].notify, NOTIFY_FAILURE);
	assert_view(out.rcpts[1].addr, "b@x.example");
	assert_view(out.rcpts[2].addr, "c@x.example");
	assert_view(out.rcpts[2].orig, "");
	assert_int_equal(out.rcpts[2].notify, NOTIFY_NEVER);
	assert_string_equal(traced.text,
	    "masquerade_domains [] s@h.x.example -> s@x.example\n"
	    "canonical_maps [inline:{ {list@v.example=lists@v.example} }] "
	    "list@v.example -> lists@v.example\n"
	    "virtual_alias_maps [inline:{ "
	    "{lists@v.example=a@x.example, b@x.example} }] "
	    "lists@v.example -> a@x.example\n"
	    "virtual_alias_maps [inline:{ "
	    "{lists@v.example=a@x.example, b@x.example} }] "
	    "lists@v.example -> b@x.example\n"
	    "always_bcc []  -> c@x.example\n");
	rewrite_free(&r);
	conf_free(&cf);
}

/* Rules' REDIRECT takes the place of all recipients; their BCC is kept. */
static void
test_extra(void **state)
{
	static const char *const rcpts[] = { "a@x.example", "b@x.example" };
	const struct view bcc[] = { view_of("spy@x.example"),
		view_of("a@x.example") };
	struct rewrite_extra extra = { .bcc = bcc, .n_bcc = 2 };
	struct conf *cf;
	struct rewrite *r = open_rewrite("virtual_alias_maps = inline:{ "
	    "{a@x.example=z@x.example} {to@x.example=no@x.example} }\n", &cf);
	struct envelope e = envelope_of("s@x.example", rcpts, 2), out;
	bool changed;

	(void)state;
	assert_non_null(r);
	assert_int_equal(rewrite_envelope(r, &e, &extra, arena, &out,
	    &changed), REWRITE_DONE);
	assert_int_equal(out.nrcpts, 4);
	assert_view(out.rcpts[2].addr, "spy@x.example");
	assert_view(out.rcpts[3].addr, "z@x.example");
	extra.redirect = view_of("to@x.example");
	assert_int_equal(rewrite_envelope(r, &e, &extra, arena, &out,
	    &changed), REWRITE_DONE);
	assert_true(changed);
	assert_int_equal(out.nrcpts, 3);
	assert_view(out.rcpts[0].addr, "to@x.example");
	assert_view(out.rcpts[1].addr, "spy@x.example");
	rewrite_free(&r);
	conf_free(&cf);
}

/* Mail of our own is mapped, and gets no copies; its headers are local. */
static void
test_internal(void **state)
{
	static const char *const rcpts[] = { "a@x.example" };
	struct conf *cf;
	struct rewrite *r = open_rewrite("virtual_alias_maps = inline:{ "
	    "{a@x.example=z@x.example} }\nalways_bcc = c@x.example\n"
	    "recipient_bcc_maps = static:c@x.example\n", &cf);
	struct envelope e = envelope_of("", rcpts, 1), out;
	bool changed;

	(void)state;
	assert_non_null(r);
	assert_true(rewrite_configured(cf));
	assert_int_equal(rewrite_context_of(r, &e), REWRITE_NONE);
	e.flags = ENVELOPE_LOCAL;
	assert_int_equal(rewrite_context_of(r, &e), REWRITE_LOCAL);
	e.flags = ENVELOPE_NO_FILTER;
	assert_int_equal(rewrite_context_of(r, &e), REWRITE_LOCAL);
	assert_int_equal(rewrite_envelope(r, &e, &nothing, arena, &out,
	    &changed), REWRITE_DONE);
	assert_int_equal(out.nrcpts, 1);
	assert_view(out.rcpts[0].addr, "z@x.example");
	rewrite_free(&r);
	conf_free(&cf);
}

/* What grows has an end: one alias that is many, many that are a few. */
static void
test_limits(void **state)
{
	static const char *rcpts[5001];
	static char text[5001][24];
	struct conf *cf;
	struct rewrite *r = open_rewrite("virtual_alias_maps = pcre:{ "
	    "{/^(u[0-9]+)@x\\.example$$/ $$1@a.example, $$1@b.example} "
	    "{/^loop@x\\.example$$/ other@x.example} "
	    "{/^other@x\\.example$$/ loop@x.example} "
	    "{/^grow(.*)@x\\.example$$/ growww$$1@x.example} }\n", &cf);
	struct envelope e, out;
	bool changed;
	uint32_t i;

	(void)state;
	assert_non_null(r);
	for (i = 0; i < 5001; i++) {
		(void)snprintf(text[i], sizeof text[i], "u%u@x.example", i);
		rcpts[i] = text[i];
	}
	e = envelope_of("s@x.example", rcpts, 5000);
	assert_int_equal(rewrite_envelope(r, &e, &nothing, arena, &out,
	    &changed), REWRITE_DONE);
	assert_int_equal(out.nrcpts, 10000);
	arena_reset(arena);
	e = envelope_of("s@x.example", rcpts, 5001);
	assert_int_equal(rewrite_envelope(r, &e, &nothing, arena, &out,
	    &changed), REWRITE_TOO_MUCH);
	arena_reset(arena);
	e = envelope_of("s@x.example", (const char *const[]){
	    "loop@x.example" }, 1);
	assert_int_equal(rewrite_envelope(r, &e, &nothing, arena, &out,
	    &changed), REWRITE_TOO_MUCH);
	assert_non_null(strstr(rewrite_problem(r), "nesting"));
	e = envelope_of("s@x.example", (const char *const[]){
	    "grow@x.example" }, 1);
	assert_int_not_equal(rewrite_envelope(r, &e, &nothing, arena, &out,
	    &changed), REWRITE_DONE);
	rewrite_free(&r);
	conf_free(&cf);
}

static void
check_header(struct rewrite *r, const char *in, const char *want)
{
	struct buf b;
	bool changed;

	buf_init(&b, 10000);
	assert_int_equal(rewrite_header(r, REWRITE_LOCAL, true, view_of(in),
	    &b, &changed), REWRITE_DONE);
	if (want == NULL)
		assert_false(changed);
	else {
		assert_true(changed);
		assert_string_equal(buf_cstr(&b), want);
	}
	buf_free(&b);
}

/* Byte for byte: folds, comments, names, quotes stay. */
static void
test_headers(void **state)
{
	struct conf *cf;
	struct rewrite *r = open_rewrite("canonical_maps = inline:{ "
	    "{d@x.example=\"e f\"@y.example} {q@x.example=r@y.example} }\n",
	    &cf);

	(void)state;
	assert_non_null(r);
	check_header(r, "To:d@x.example", "To:\"e f\"@y.example");
	check_header(r, "to: =?utf-8?q?J=C3=B6?=\n\t<q@x.example> (c),\n"
	    "  \"q@x.example\" <q@x.example>,z@z.example",
	    "to: =?utf-8?q?J=C3=B6?=\n\t<r@y.example> (c),\n"
	    "  \"q@x.example\" <r@y.example>,z@z.example");
	check_header(r, "Cc: q(one)@x.example(two), q @ x.example",
	    "Cc: r@y.example (one)(two), r@y.example");
	check_header(r, "Cc: <@a.example,@b.example:q@x.example>",
	    "Cc: <r@y.example>");
	check_header(r, "Cc: g: q@x.example, joe;, jane",
	    "Cc: g: r@y.example, joe@o.example;, jane@o.example");
	/* Not addresses, or not ones that can be told. */
	check_header(r, "Cc: joe doe, a\\b@x, <a b>, \"x@y\", [1.2.3.4]", NULL);
	check_header(r, "Subject: q@x.example", NULL);
	check_header(r, "X-To: q@x.example", NULL);
	check_header(r, "To q@x.example", NULL);
	check_header(r, "To: q@x.example (never closed",
	    "To: r@y.example (never closed");
	check_header(r, "To: \"never closed q@x.example", NULL);
	rewrite_free(&r);
	conf_free(&cf);
}

static void
test_refused(void **state)
{
	struct conf *cf;

	(void)state;
	assert_null(open_rewrite("canonical_maps = texthash:/none\n", &cf));
	conf_free(&cf);
	cf = parse("receive_override_options = no_milters, "
	    "no_address_mappings\n");
	assert_int_equal(override_flags(cf),
	    ENVELOPE_NO_MILTERS | ENVELOPE_NO_MAPPING);
	assert_false(override_unlisted(cf));
	conf_free(&cf);
	cf = parse("receive_override_options = no_unknown_recipient_checks\n");
	assert_int_equal(override_flags(cf), 0);
	assert_true(override_unlisted(cf));
	conf_free(&cf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_original),
		cmocka_unit_test(test_extra),
		cmocka_unit_test(test_internal),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
