/* link: filters/milter_client.c filters/milter_answer.c filters/milter_wire.c */
#include "t/unit/milter_client_help.h"

/* Up to the end of the message, each with its answer due. */
static void
pipelined_message(uint32_t version)
{
	setup_with(true);
	negotiate(version, version < 6 ? 0 : ALL, 0);
	assert_int_equal(answer(), MILTER_GO_ON);
	begin_mail();
	assert_false(milter_client_message(c, &text));
}

static void
pipelined(void **state)
{
	teardown(state);
	pipelined_message(6);
	assert_string_equal(heard(), "L[Subject|x\n y|] L[To|b|] N "
	    "B[line\r\n]");
	assert_true(milter_client_waiting(c));
	SAYS('c', "");
	SAYS('p', "");
	SAYS('c', "");
	SAYS('c', "");
	assert_false(answers());
	/* the end is said when all is answered */
	assert_string_equal(heard(), "");
	SAYS('c', "");
	assert_false(answers());
	assert_string_equal(heard(), "D[Ei|0123|] E");
	SAYS('c', "");
	assert_int_equal(answer(), MILTER_GO_ON);
	assert_false(milter_client_over(c));
	assert_true(milter_client_renew(c));
	/* one answer too many, and it is not taken for that to the end */
	teardown(state);
	pipelined_message(6);
	SAYS('c', "");
	SAYS('c', "");
	SAYS('c', "");
	assert_false(answers());
	SAYS('c', "");
	SAYS('c', "");
	expect_broken("answers before it is asked");
	/* older ones are asked one by one */
	teardown(state);
	pipelined_message(5);
	assert_string_equal(heard(), "L[Subject|x\n y|]");
}

/* What is answered to the rest is nobody's any more. */
static void
pipelined_refusal(void **state)
{
	static const struct {
		char type;
		const char *data;
		size_t n;
		enum milter_answer answer;
	} ends[] = {
		{ 'r', "", 0, MILTER_REFUSE }, { 't', "", 0, MILTER_REFUSE },
		{ 'a', "", 0, MILTER_TAKE }, { 'd', "", 0, MILTER_DROP },
		{ 'y', "550 no", 7, MILTER_REFUSE },
		{ '4', "", 0, MILTER_HANG_UP },
		{ 's', "", 0, MILTER_BROKEN },	/* to a header */
	};
	size_t i, n;

	for (i = 0; i < sizeof ends / sizeof ends[0]; i++) {
		teardown(state);
		pipelined_message(6);
		SAYS('c', "");
		says(ends[i].type, ends[i].data, ends[i].n);
		SAYS('c', "");
		assert_int_equal(answer(), ends[i].answer);
		assert_true(milter_client_over(c));
		assert_true(milter_client_cut(c));
		assert_false(milter_client_renew(c));
		assert_false(milter_client_abort(c));
		milter_client_quit(c);
		assert_string_equal(heard(), "");
		(void)milter_client_edits(c, &n);
		assert_int_equal(n, 0);
	}
	/* to the last of what was said: the connection is good */
	teardown(state);
	pipelined_message(6);
	for (i = 0; i < 3; i++)
		SAYS('c', "");
	SAYS('r', "");
	assert_int_equal(answer(), MILTER_REFUSE);
	assert_false(milter_client_over(c));
	assert_false(milter_client_cut(c));
	/* told to ask one by one from now on */
	(void)milter_client_abort(c);
	(void)heard();
	milter_client_pipelines(c, false);
	begin_mail();
	assert_false(milter_client_message(c, &text));
	assert_string_equal(heard(), "L[Subject|x\n y|]");
}

/* SKIP, and a body of several pieces: one at a time. */
static void
pipelined_body(void **state)
{
	static char bytes[150000];
	struct milter_text large = { headers, 0, { bytes, sizeof bytes } };
	size_t i;

	for (i = 0; i < 2; i++) {
		teardown(state);
		setup_with(true);
		ready(MILTER_CAN_SKIP);
		begin_mail();
		assert_false(milter_client_message(c, &large));
		/* the end of the header, and one piece */
		assert_int_equal(milter_client_out(c)->n, 5 + 5 + 65535);
		SAYS('c', "");
		assert_false(answers());
		assert_int_equal(milter_client_out(c)->n, 0);
		says(i == 0 ? 'c' : 's', "", 0);
		assert_false(answers());
		if (i == 0)
			assert_int_equal(milter_client_out(c)->n, 5 + 65535);
		else
			assert_string_equal(heard(), "D[Ei|0123|] E");
	}
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(pipelined), T(pipelined_refusal), T(pipelined_body),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
