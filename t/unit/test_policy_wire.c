/* What restrictions are asked with and say, between two roles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "lib/mem.h"
#include "rules/policy_actions.h"
#include "rules/policy_inside.h"
#include "rules/policy_wire.h"
#include "t/unit/conf_help.h"

static struct policy_question
question(const struct policy_carry *carry)
{
	struct policy_question q = { .stage = STAGE_RCPT, .trial = TRIAL_ALL,
		.facts = { .client_name = view_of("a.example"),
		.reverse_name = view_of("b.example"), .name_status = NAME_OK,
		.has_helo = true, .helo = view_of("c.example"),
		.has_sender = true, .sender = view_of(""),
		.has_recipient = true, .recipient = view_of("u@d.example"),
		.protocol = view_of("ESMTP"), .recipients = 7,
		.size = 1ull << 40, .tls_bits = 256, .tls_trusted = true,
		.tls_cipher = view_of("AES"), .login = view_of("me"),
		.carry = carry } };

	assert_true(netaddr_parse(view_of("2001:db8::1"), &q.facts.client));
	assert_true(netaddr_parse(view_of("192.0.2.1"), &q.facts.server));
	q.facts.client.port = 4711;
	return q;
}

static void
questions(void **state)
{
	struct policy_reply reply = { .code = 450, .status = "4.7.1",
		.text = "perhaps" };
	const struct policy_carry carry = { .helo = &reply };
	struct policy_question q = question(&carry), got;
	struct policy_carry back;
	struct cursor c;
	struct buf b;
	size_t n;

	(void)state;
	buf_init(&b, 4096);
	assert_true(policy_question_put(&b, &q));
	/* Cut at every byte it is no question, and leaves nothing. */
	for (n = 0; n < b.n; n++) {
		c = cursor_of(view_make(b.p, n));
		assert_false(policy_question_get(&c, &got, &back) &&
		    cursor_done(&c));
		policy_carry_free(&back);
	}
	c = cursor_of(buf_view(&b));
	assert_true(policy_question_get(&c, &got, &back));
	assert_true(cursor_done(&c));
	assert_int_equal(got.stage, STAGE_RCPT);
	assert_int_equal(got.trial, TRIAL_ALL);
	assert_true(netaddr_equal(&got.facts.client, &q.facts.client));
	assert_int_equal(got.facts.client.port, 4711);
	assert_true(view_is(got.facts.recipient, "u@d.example"));
	assert_true(got.facts.has_sender && got.facts.sender.n == 0);
	assert_true(got.facts.tls_trusted && !got.facts.utf8);
	assert_true(got.facts.size == 1ull << 40);
	assert_true(view_is(got.facts.login, "me"));
	assert_null(back.client);
	assert_string_equal(back.helo->text, "perhaps");
	policy_carry_free(&back);
	buf_free(&b);
}

/* b, with another byte at a place. */
static bool
question_with(struct buf *b, size_t at, char byte)
{
	struct policy_question got;
	struct policy_carry back;
	struct cursor c;
	char old = b->p[at];
	bool ok;

	b->p[at] = byte;
	c = cursor_of(buf_view(b));
	ok = policy_question_get(&c, &got, &back) && cursor_done(&c);
	policy_carry_free(&back);
	b->p[at] = old;
	return ok;
}

static void
bad_questions(void **state)
{
	struct policy_question q = question(NULL);
	struct buf b;
	size_t at;

	(void)state;
	buf_init(&b, 4096);
	assert_true(policy_question_put(&b, &q));
	assert_true(question_with(&b, 0, STAGE_EOD));
	assert_false(question_with(&b, 0, STAGE_NONE));
	assert_false(question_with(&b, 0, STAGE_ETRN));
	assert_false(question_with(&b, 1, 0));
	assert_false(question_with(&b, 1, TRIAL_PERMANENT + 1));
	assert_false(question_with(&b, 2, 64));
	assert_false(question_with(&b, 3, 0));
	/* a line end in a name */
	at = (size_t)((char *)memmem(b.p, b.n, "a.example", 9) - b.p);
	assert_true(question_with(&b, at, 'x'));
	assert_false(question_with(&b, at, '\n'));
	assert_false(question_with(&b, at, '\0'));
	buf_free(&b);
}

static void
answers(void **state)
{
	struct policy_result *r = policy_result_new(), *got;
	struct cursor c;
	struct buf b;
	bool trial;
	size_t n;

	(void)state;
	got = policy_result_new();
	buf_init(&b, 65536);
	r->outcome = POLICY_REFUSE;
	r->reply = (struct policy_reply){ .code = 554, .status = "5.7.1",
		.text = "no\r\nway" };
	r->where = view_of("/etc/access:1");
	r->hold_text = r->hold_where = r->redirect = r->filter = view_of("");
	assert_true(policy_answer_put(&b, r, true));
	for (n = 0; n < b.n; n++) {
		c = cursor_of(view_make(b.p, n));
		assert_false(policy_answer_get(&c, got, &trial) &&
		    cursor_done(&c));
	}
	c = cursor_of(buf_view(&b));
	assert_true(policy_answer_get(&c, got, &trial) && cursor_done(&c));
	assert_int_equal(got->outcome, POLICY_REFUSE);
	assert_int_equal(got->reply.code, 554);
	assert_string_equal(got->reply.text, "no??way");
	assert_true(view_is(got->where, "/etc/access:1"));
	assert_true(trial);

	buf_clear(&b);
	r->outcome = POLICY_PERMIT;
	r->hold = r->deferred = true;
	r->deferral = (struct policy_reply){ .code = 450, .status = "4.7.1",
		.text = "perhaps" };
	r->hold_text = view_of("look");
	r->n_prepend = r->n_bcc = POLICY_LIST_MAX;
	for (n = 0; n < POLICY_LIST_MAX; n++) {
		r->prepend[n] = view_of("X: y");
		r->bcc[n] = view_of("a@b");
	}
	assert_true(policy_answer_put(&b, r, false));
	c = cursor_of(buf_view(&b));
	assert_true(policy_answer_get(&c, got, &trial) && cursor_done(&c));
	assert_true(got->hold && !got->discard && got->deferred && !trial);
	assert_int_equal(got->n_prepend, POLICY_LIST_MAX);
	assert_true(view_is(got->bcc[POLICY_LIST_MAX - 1], "a@b"));
	assert_string_equal(got->deferral.text, "perhaps");

	/* A refusal that is none, an outcome that is none. */
	b.p[0] = POLICY_NEED;
	c = cursor_of(buf_view(&b));
	assert_false(policy_answer_get(&c, got, &trial));
	buf_clear(&b);
	r->outcome = POLICY_REFUSE;
	r->reply.code = 250;
	assert_true(policy_answer_put(&b, r, false));
	c = cursor_of(buf_view(&b));
	assert_false(policy_answer_get(&c, got, &trial));
	buf_free(&b);
	policy_result_free(&r);
	policy_result_free(&got);
}

static void
actions(void **state)
{
	struct policy_result *r = policy_result_new();
	struct arena *arena = arena_new(65536);
	struct policy_actions *a = NULL;
	char text[32];
	unsigned i;

	(void)state;
	assert_true(policy_actions_add(&a, arena, r));
	assert_null(a);
	r->n_bcc = 1;
	for (i = 0; i < POLICY_LIST_MAX; i++) {
		(void)snprintf(text, sizeof text, "u%u@b", i);
		r->bcc[0] = view_of(text);
		assert_true(policy_actions_add(&a, arena, r));
	}
	/* Once more is no more; another one is too much. */
	assert_true(policy_actions_add(&a, arena, r));
	assert_int_equal(a->n_bcc, POLICY_LIST_MAX);
	r->bcc[0] = view_of("x@b");
	r->discard = true;
	assert_false(policy_actions_add(&a, arena, r));
	assert_false(a->discard);
	arena_free(&arena);
	policy_result_free(&r);
}

static void
stages(void **state)
{
	struct conf *cf = parse("smtpd_delay_reject = yes\n"
	    "postern_milter_restrictions = smtpd_client_restrictions, "
	    "smtpd_data_restrictions\n");
	char **list;
	size_t n;

	(void)state;
	assert_int_equal(policy_inside_stages(cf),
	    1u << STAGE_RCPT | 1u << STAGE_DATA);
	n = policy_inside_overrides(cf->postern_milter_restrictions, &list);
	assert_int_equal(n, 5 + 3);
	assert_string_equal(list[0], "smtpd_helo_restrictions=");
	while (n > 0)
		free(list[--n]);
	free(list);
	conf_free(&cf);
	cf = parse("smtpd_delay_reject = no\npostern_milter_restrictions = "
	    "smtpd_client_restrictions smtpd_sender_restrictions\n");
	assert_int_equal(policy_inside_stages(cf), 1u << STAGE_CLIENT |
	    1u << STAGE_MAIL | 1u << STAGE_RCPT);
	conf_free(&cf);
	cf = parse("");
	assert_int_equal(policy_inside_stages(cf), 0);
	conf_free(&cf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(questions),
		cmocka_unit_test(bad_questions),
		cmocka_unit_test(answers),
		cmocka_unit_test(actions),
		cmocka_unit_test(stages),
	};

	buf_init(&said, 65536);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
