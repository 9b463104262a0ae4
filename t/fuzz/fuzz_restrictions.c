/*
 * Lists of restrictions as an administrator writes them, results of access
 * tables, replies of policy services, answers about facts, texts with $name.
 * The first line chooses; the rest is the text.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "rules/policy_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct conf *conf;
static struct policy *policy;
static struct policy_result *result;

static void
say(bool error, const char *text, void *arg)
{
	(void)error;
	(void)arg;
	ensure(text[0] != '\0');
}

static void
prepare(void)
{
	static const char text[] = "myhostname = gw.example.net\n"
	    "mydomain = example.net\nmynetworks = 192.0.2.0/24\n"
	    "mydestination = gw.example.net\nrelay_domains = inside.example\n"
	    "smtpd_restriction_classes = one\none = permit\n"
	    "config_directory = /nonexistent\n";

	log_open("fuzz", "");
	conf = conf_parse(view_of(text), "fuzz", say, NULL);
	ensure(conf != NULL);
	policy = policy_open(conf, NULL, 0, say, NULL);
	ensure(policy != NULL);
	result = policy_result_new();
}

/* Tables are left out: what they read has a target of its own. */
static void
list(struct view text)
{
	struct restriction_list l = { .name = "list" };
	struct restriction_reader rd = { .p = policy, .what = "list",
		.report = say };
	char *copy;

	if (view_find(text, ':') < text.n || memchr(text.p, '\0', text.n))
		return;
	copy = mem_copy(text);
	if (restriction_read(&rd, copy, &l))
		(void)restriction_protects(&l);
	restriction_list_free(&l);
	free(copy);
}

static void
evaluate(struct view value)
{
	struct facts known = { .count = { 0 } };
	struct policy_facts f = {
		.client_name = view_of("unknown"),
		.reverse_name = view_of("unknown"),
		.has_sender = true, .sender = view_of("a@b.example"),
		.has_recipient = true, .recipient = view_of("u@inside.example"),
		.known = &known,
	};
	struct buf scratch;
	struct eval e = { .p = policy, .f = &f, .r = result,
		.stage = STAGE_RCPT, .subject = SUBJECT_SENDER,
		.name = f.sender, .value = &scratch };
	enum step s;

	buf_init(&scratch, VALUE_MAX);
	arena_reset(result->arena);
	result->n_notes = result->n_bcc = result->n_prepend = 0;
	ensure(netaddr_parse(view_of("203.0.113.5"), &f.client));
	s = access_result(&e, view_head(value, VALUE_MAX), "fuzz", f.sender,
	    SUBJECT_SENDER);
	ensure(s >= STEP_NEXT && s <= STEP_NEED);
	if (s == STEP_REFUSE) {
		ensure(result->reply.code >= 400 && result->reply.code < 600);
		ensure(result->reply.status[0] ==
		    (result->reply.code < 500 ? '4' : '5'));
		ensure(strpbrk(result->reply.text, "\r\n") == NULL);
	}
	buf_free(&scratch);
	facts_free(&known);
}

static void
answer(struct view text)
{
	struct facts f = { .count = { 0 } };
	struct fact_name name = { FACT_DNS, FACT_MX, view_of("a.example") };
	struct fact got;

	if (facts_add(&f, SHELF_SESSION, &name, text)) {
		ensure(facts_find(&f, &name, &got));
		ensure(got.n <= FACT_RECORDS_MAX);
	}
	facts_free(&f);
}

static void
expand(struct view text)
{
	struct facts known = { .count = { 0 } };
	struct policy_facts f = { .client_name = view_of("unknown"),
		.reverse_name = view_of("unknown"), .known = &known };
	struct buf out;

	buf_init(&out, 4096);
	if (policy_expand(policy, &f, text, &out))
		ensure(out.n <= 4096);
	buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view text = view_make(data, size), word, action;
	const char *why;

	if (policy == NULL)
		prepare();
	word = view_head(text, view_find(text, '\n'));
	text = view_from(text, word.n + 1);
	if (text.n == 0)
		text = view_of("");
	if (view_is(word, "list"))
		list(text);
	else if (view_is(word, "result"))
		evaluate(text);
	else if (view_is(word, "service")) {
		if (policy_service_reply(text, &action))
			evaluate(action);
	} else if (view_is(word, "fact"))
		answer(text);
	else if (view_is(word, "expand"))
		expand(text);
	else if (view_is(word, "dnsxl"))
		(void)dnsxl_valid(text, &why);
	return 0;
}
