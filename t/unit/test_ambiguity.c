/* link: filters */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "filters/engine.h"
#include "lib/log.h"

/* mime_ambiguity and mime_ambiguity_checks, through the engine. */
static unsigned errors;

static void
report(bool error, const char *text, void *arg)
{
	(void)text;
	(void)arg;
	errors += error;
}

#define TWO	"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; "	     \
	"boundary=a; boundary=b\r\n\r\n--a\r\n\r\nx\r\n--a--\r\n"
static const char UU[] = "Subject: x\r\n\r\nbegin 644 a\r\n#0V%T\r\n`\r\nend"
    "\r\n";

static enum action
judge(const char *settings, const char *text, uint32_t flags)
{
	struct conf *conf = conf_parse(view_of(settings), "main.cf", report,
	    NULL);
	struct engine *e = engine_open(conf, report, NULL);
	struct arena *a = arena_new(1u << 20);
	struct recipient rcpts[] = { { .addr = view_of("r@example.com") } };
	struct envelope env = { .sender = view_of("a@b.org"),
		.client_name = view_of("mx.b.org"),
		.client_addr = view_of("192.0.2.1"),
		.helo = view_of("mx.b"), .proto = view_of("ESMTP"),
		.nrcpts = 1, .rcpts = rcpts, .flags = flags };
	struct queue_id id = { 0x1234 };
	struct judgement j;
	enum action action;

	assert_non_null(e);
	engine_judge(e, view_of(text), &env, id, &j, a);
	action = j.verdict.action;
	if (action == ACTION_REJECT) {
		assert_int_equal(j.verdict.code, 550);
		assert_true(view_is(j.verdict.status, text == UU ? "5.6.1" :
		    "5.6.0"));
	}
	engine_free(&e);
	conf_free(&conf);
	arena_free(&a);
	return action;
}

static void
actions(void **state)
{
	(void)state;
	assert_int_equal(judge("", TWO, 0), ACTION_OK);
	assert_int_equal(judge("mime_ambiguity = ignore\n", TWO, 0),
	    ACTION_OK);
	assert_int_equal(judge("mime_ambiguity = reject\n", TWO, 0),
	    ACTION_REJECT);
	assert_int_equal(judge("mime_ambiguity = hold\n", TWO, 0),
	    ACTION_HOLD);
	assert_int_equal(judge("mime_ambiguity = reject\n", UU, 0),
	    ACTION_OK);
}

static void
particular_ones(void **state)
{
	(void)state;
	assert_int_equal(judge("mime_ambiguity = reject\n"
	    "mime_ambiguity_checks = duplicate-boundary warn\n", TWO, 0),
	    ACTION_OK);
	assert_int_equal(judge("mime_ambiguity_checks = { Uuencode hold, "
	    "yenc reject }\n", UU, 0), ACTION_HOLD);
	assert_int_equal(judge("mime_ambiguity_checks = uuencode reject\n",
	    UU, 0), ACTION_REJECT);
	assert_int_equal(judge("mime_ambiguity = ignore\n"
	    "mime_ambiguity_checks = duplicate-boundary reject\n", TWO, 0),
	    ACTION_REJECT);
}

/* Mail that is not filtered: our own, and no_header_body_checks. */
static void
not_filtered(void **state)
{
	(void)state;
	assert_int_equal(judge("mime_ambiguity = reject\n", TWO,
	    ENVELOPE_NO_FILTER), ACTION_OK);
	assert_int_equal(judge("mime_ambiguity = reject\n", TWO,
	    ENVELOPE_NO_CHECKS), ACTION_OK);
}

static void
mistakes(void **state)
{
	static const char *const bad[] = {
		"mime_ambiguity = perhaps\n", "mime_ambiguity =\n",
		"mime_ambiguity_checks = no-such-thing warn\n",
		"mime_ambiguity_checks = uuencode\n",
		"mime_ambiguity_checks = uuencode, yenc warn\n",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct conf *conf;

		errors = 0;
		conf = conf_parse(view_of(bad[i]), "main.cf", report, NULL);
		if (conf != NULL && engine_open(conf, report, NULL) != NULL)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(errors, 1);
		conf_free(&conf);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(actions),
		cmocka_unit_test(particular_ones),
		cmocka_unit_test(not_filtered),
		cmocka_unit_test(mistakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
