/* link: filters */
/*
 * The engine with rules of every action: whatever the message, the judgement
 * must be one that the queue manager takes, and no stray CR or LF is left.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "filters/engine.h"
#include "lib/log.h"

static const char settings[] =
    "header_size_limit = 1024\nline_length_limit = 512\n"
    "mime_nesting_limit = 5\nmime_part_limit = 20\nhopcount_limit = 10\n"
    "header_checks = pcre:{"
    "{/^Subject:.*ILOVEYOU/ REJECT}, "
    "{/^X-Replace: (.*)$$/ REPLACE X-Replaced: <$$1> $$1}, "
    "{/^X-Prepend: (.*)$$/ PREPEND X-Before: $$1}, "
    "{/^X-Raw: (.*)$$/ PREPEND $$1}, "
    "{/^X-Ignore:/ IGNORE}, {/^X-Strip: (.*)/ STRIP $$1}, "
    "{/^X-Hold: (.*)/ HOLD $$1}, {/^X-Discard:/ DISCARD}, "
    "{/^X-Bcc: (.*)/ BCC $$1@example.com}, "
    "{/^X-Redirect: (.*)/ REDIRECT $$1@example.com}, "
    "{/^X-Filter: (.*)/ FILTER smtp:$$1}, {/^X-Pass:/ PASS}, "
    "{/^X-Code: (.*)/ 550 $$1}, {/^X-Warn: (.*)/ WARN $$1}}\n"
    "body_checks = regexp:{"
    "{/^(.*)name=\"?(.*)\\\\.(bat|exe|vbs)\"?(.*)$$/ REJECT}, "
    "{/^replace(.*)/ REPLACE <$$1>}, {/^drop/ IGNORE}, "
    "{/^before(.*)/ PREPEND $$1.}, {/^info/ INFO}}\n"
    "decoded_header_checks = pcre:{"
    "{/\xc3\xa9 (.*)/ PREPEND X-Shown: $$1}, {/shown (.*)/ REPLACE X: $$1}}\n"
    "decoded_body_checks = pcre:{"
    "{/^magic word$$/ REJECT}, {/(.*) word/ HOLD $$1}, {/o/ INFO}}\n"
    "filter_policy_classes = one two\n"
    "filter_policy_maps = inline:{{b@example.com=one}, {c@example.com=two}, "
    "{d@example.com=one}}\n"
    "always_bcc = archive@example.com\n"
    "one_body_checks =\n"
    "two_header_checks = pcre:{{/^X-Hold:/ DISCARD}, "
    "{/^X-Ignore: (.*)/ BCC $$1@example.com}, {/^Subject:/ STRIP}}\n";

static void
complain(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error) {
		dprintf(2, "%s\n", text);
		abort();
	}
}

static struct engine *
engine(void)
{
	static struct engine *e;
	struct conf *cf;

	if (e != NULL)
		return e;
	log_open("fuzz", "host");
	log_to(LOG_SINK_FILE, open("/dev/null", O_WRONLY | O_CLOEXEC), 0);
	cf = conf_parse(view_make(settings, sizeof settings - 1), "main.cf",
	    complain, NULL);
	ensure(cf != NULL);
	e = engine_open(cf, complain, NULL);
	ensure(e != NULL);
	return e;
}

/* The text with its edits; returns the number of stray CR and LF. */
static size_t
strays(struct view text, const struct edits *e)
{
	struct buf b;
	uint64_t at = 0;
	size_t i, n = 0;

	buf_init(&b, 64u << 20);
	for (i = 0; i < e->n; i++) {
		ensure(buf_put(&b, text.p + at, e->list[i].offset - at));
		ensure(buf_putv(&b, e->list[i].insert));
		at = e->list[i].offset + e->list[i].remove;
	}
	ensure(buf_putv(&b, view_from(text, at)));
	ensure(b.n == edits_size(e, text.n));
	for (i = 0; i < b.n; i++)
		if ((b.p[i] == '\r' && (i + 1 == b.n || b.p[i + 1] != '\n')) ||
		    (b.p[i] == '\n' && (i == 0 || b.p[i - 1] != '\r')))
			n++;
	buf_free(&b);
	return n;
}

#define RCPTS	4u

struct parts {
	struct view text;
	bool seen[RCPTS];
	uint32_t n;
};

/* Each recipient is in one part, and none in an envelope of another. */
static void
part(const uint32_t *rcpts, uint32_t n, const struct judgement *j, void *arg)
{
	struct parts *p = arg;
	struct arena *a = arena_new(1u << 20);
	struct judgement back;
	struct envelope e;
	struct buf b;
	uint32_t i;

	for (i = 0; i < (n == 0 ? RCPTS : n); i++) {
		uint32_t k = n == 0 ? i : rcpts[i];

		ensure(k < RCPTS && !p->seen[k]);
		p->seen[k] = true;
		p->n++;
	}
	buf_init(&b, 4u << 20);
	ensure(judgement_put(&b, j));
	ensure(judgement_get(buf_view(&b), p->text.n, a, &back));
	if (j->verdict.action == ACTION_OK || j->verdict.action == ACTION_HOLD)
		ensure(strays(p->text, &back.edits) == 0);
	if (j->envelope.n > 0) {
		ensure(envelope_get(j->envelope, a, &e));
		ensure(j->redirect.n > 0 || e.nrcpts >= (n == 0 ? RCPTS : n));
	}
	buf_free(&b);
	arena_free(&a);
}

static void
judge_each(struct view text, const struct envelope *like)
{
	struct recipient rcpts[RCPTS] = { { .addr = view_of("b@example.com") },
		{ .addr = view_of("c@example.com") },
		{ .addr = view_of("d@example.com") },
		{ .addr = view_of("e@example.com") } };
	struct envelope env = *like;
	struct parts p = { .text = text };
	struct arena *a = arena_new(1u << 20);

	env.nrcpts = RCPTS;
	env.rcpts = rcpts;
	engine_judge_each(engine(), text, &env, (struct queue_id){ 2 }, part,
	    &p, a);
	ensure(p.n == RCPTS);
	arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct recipient rcpt = { .addr = view_of("b@example.com") };
	struct envelope env = { .sender = view_of("a@example.com"),
		.client_name = view_of("unknown"),
		.client_addr = view_of("192.0.2.1"), .helo = view_of("x"),
		.proto = view_of("SMTP"), .nrcpts = 1, .rcpts = &rcpt };
	struct view text = view_make((const char *)data, size);
	struct arena *a = arena_new(1u << 20);
	struct queue_id id = { 1 };
	struct judgement j, back;
	struct buf b;

	judge_each(text, &env);
	engine_judge(engine(), text, &env, id, &j, a);
	buf_init(&b, 4u << 20);
	ensure(judgement_put(&b, &j));
	ensure(judgement_get(buf_view(&b), text.n, a, &back));
	ensure(back.verdict.action == j.verdict.action);
	ensure(back.edits.n == j.edits.n);
	if (j.verdict.action == ACTION_OK || j.verdict.action == ACTION_HOLD)
		ensure(strays(text, &back.edits) == 0);
	buf_free(&b);
	arena_free(&a);
	return 0;
}
