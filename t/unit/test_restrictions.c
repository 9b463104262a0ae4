/*
 * Restrictions: facts in, decision out, from t/rules/restrictions/?.case.
 *
 *	# comment			an empty line changes nothing
 *	reset				settings, tables and facts are gone
 *	set NAME = VALUE		a line of main.cf
 *	file NAME TEXT			a line of a file beside it
 *	dns TYPE NAME RECORD ...	A NS MX TXT HOST; or NXDOMAIN NODATA
 *					TEMP BOGUS; MX records are pref:host
 *	service ENDPOINT ACTION		what a policy service says; none: it
 *					does not answer
 *	address ADDRESS MARK TEXT	what is known of it: + - ? *
 *	ask NAME=VALUE ...		client name reverse status helo from to
 *					stage login tls print (a certificate's)
 *					trusted rcpts pipelined
 *	= ok | REPLY			the answer
 *	* ACTION: TEXT			a line for the log
 *	+ WHAT TEXT			hold discard redirect filter bcc prepend
 *	bad TEXT			these settings are refused so
 *	postern				the next question is not for Postfix
 *
 * A fact that is asked for and not in the file is TEMP.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "rules/policy.h"

#define CASES	"t/rules/restrictions"
#define DIR_NAME	"/tmp/test_restrictions.XXXXXX"

struct known {
	enum fact_kind kind;
	uint16_t type;
	char key[300];
	enum fact_status status;
	struct buf answer;
};

static struct {
	const char *file;
	unsigned line;
	char dir[64];
	struct buf settings;
	char *files[50];
	size_t n_files;
	struct known known[200];
	size_t n_known;
	struct conf *conf;
	struct policy *policy;
	struct policy_result *result;
	struct facts facts;
	char said[4000];
	/* What the last answer had, not yet compared. */
	uint32_t note;
	bool answered, actions_seen;
	unsigned asks;
	bool changed;
} t;

static void
say(bool error, const char *text, void *arg)
{
	(void)arg;
	if (error && t.said[0] == '\0')
		(void)snprintf(t.said, sizeof t.said, "%s", text);
}

static void __attribute__((format(printf, 1, 2), noreturn))
wrong(const char *fmt, ...)
{
	char text[4000];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fail_msg("%s:%u: %s", t.file, t.line, text);
	abort();
}

/* -- settings -------------------------------------------------------------- */

static void
forget_files(void)
{
	while (t.n_files > 0) {
		(void)unlink(t.files[--t.n_files]);
		free(t.files[t.n_files]);
	}
}

static void
close_policy(void)
{
	policy_free(&t.policy);
	conf_free(&t.conf);
	facts_free(&t.facts);
}

static void
reset(void)
{
	close_policy();
	forget_files();
	while (t.n_known > 0)
		buf_free(&t.known[--t.n_known].answer);
	buf_clear(&t.settings);
	(void)buf_printf(&t.settings, "myhostname = gw.example.net\n"
	    "mydomain = example.net\nmynetworks = 192.0.2.0/24\n"
	    "mydestination = gw.example.net, local.example\n"
	    "relay_domains = inside.example, listed.example\n"
	    "config_directory = %s\n", t.dir);
	t.changed = true;
}

static void
add_file(struct view args)
{
	struct view name = view_word(&args, " ");
	char *path = mem_printf("%s/%.*s", t.dir, VIEW_ARGS(name));
	FILE *f = fopen(path, "a");
	size_t i;

	assert_non_null(f);
	(void)fprintf(f, "%.*s\n", VIEW_ARGS(view_trim(args)));
	assert_int_equal(fclose(f), 0);
	for (i = 0; i < t.n_files && strcmp(t.files[i], path) != 0; i++)
		;
	if (i == t.n_files)
		t.files[t.n_files++] = path;
	else
		free(path);
	t.changed = true;
}

static bool
open_policy(void)
{
	struct netaddr own = { 0 };

	if (!t.changed)
		return t.policy != NULL;
	close_policy();
	t.said[0] = '\0';
	t.changed = false;
	t.conf = conf_parse(buf_view(&t.settings), "main.cf", say, NULL);
	if (t.conf == NULL)
		return false;
	assert_true(netaddr_parse(view_of("198.51.100.7"), &own));
	t.policy = policy_open(t.conf, &own, 1, say, NULL);
	return t.policy != NULL;
}

/* -- facts ----------------------------------------------------------------- */

static size_t
dns_record(enum fact_dns type, struct view word, char out[256])
{
	struct netaddr a;
	struct view bytes, host;
	size_t colon;

	if (type == FACT_A || type == FACT_HOST) {
		if (!netaddr_parse(word, &a))
			wrong("no address: %.*s", VIEW_ARGS(word));
		bytes = netaddr_bytes(&a);
		memcpy(out, bytes.p, bytes.n);
		return bytes.n;
	}
	if (type != FACT_MX) {
		memcpy(out, word.p, word.n);
		return word.n;
	}
	colon = view_find(word, ':');
	host = view_from(word, colon + 1);
	out[0] = (char)atoi(word.p);
	out[1] = 0;
	memcpy(out + 2, host.p, host.n);
	return 2 + host.n;
}

static struct known *
new_fact(enum fact_kind kind, uint16_t type, struct view key)
{
	struct known *k = &t.known[t.n_known++];

	assert_true(t.n_known < sizeof t.known / sizeof t.known[0]);
	*k = (struct known){ .kind = kind, .type = type };
	assert_true(key.n < sizeof k->key);
	(void)snprintf(k->key, sizeof k->key, "%.*s", VIEW_ARGS(key));
	buf_init(&k->answer, FACT_BYTES_MAX);
	return k;
}

static void
add_dns(struct view args)
{
	static const struct {
		const char *name;
		int value;
	} types[] = { { "A", FACT_A }, { "NS", FACT_NS }, { "MX", FACT_MX },
		{ "TXT", FACT_TXT }, { "HOST", FACT_HOST } },
	    statuses[] = { { "NXDOMAIN", FACT_NO_NAME },
		{ "NODATA", FACT_NO_DATA }, { "TEMP", FACT_TEMPORARY },
		{ "BOGUS", FACT_BOGUS } };
	struct view type = view_word(&args, " "), key = view_word(&args, " ");
	static char bytes[20][256];
	struct view records[20], word;
	uint32_t n = 0;
	struct known *k = NULL;
	size_t i;

	for (i = 0; i < sizeof types / sizeof types[0]; i++)
		if (view_is(type, types[i].name))
			k = new_fact(FACT_DNS, (uint16_t)types[i].value, key);
	if (k == NULL)
		wrong("dns %.*s", VIEW_ARGS(type));
	args = view_trim(args);
	for (i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
		if (view_is(args, statuses[i].name)) {
			assert_true(facts_put_answer(&k->answer,
			    (enum fact_status)statuses[i].value, NULL, 0));
			return;
		}
	if (k->type == FACT_TXT) {
		records[n++] = args;
		args = view_of("");
	}
	while ((word = view_word(&args, " ")).n > 0) {
		records[n] = view_make(bytes[n], dns_record(
		    (enum fact_dns)k->type, word, bytes[n]));
		n++;
	}
	assert_true(facts_put_answer(&k->answer, FACT_FOUND, records, n));
}

static void
add_service(struct view args)
{
	struct known *k = new_fact(FACT_SERVICE, 0, view_word(&args, " "));

	args = view_trim(args);
	if (args.n > 0)
		assert_true(facts_put_answer(&k->answer, FACT_FOUND, &args,
		    1));
	else
		assert_true(facts_put_answer(&k->answer, FACT_TEMPORARY, NULL,
		    0));
}

static void
add_address(struct view args)
{
	struct known *k = new_fact(FACT_ADDRESS, 0, view_word(&args, " "));
	struct view records[2] = { view_word(&args, " "), view_trim(args) };

	assert_true(facts_put_answer(&k->answer, FACT_FOUND, records, 2));
}

static void
answer_fact(const struct policy_result *r)
{
	struct buf late;
	size_t i;

	for (i = 0; i < t.n_known; i++)
		if (t.known[i].kind == r->need.kind &&
		    t.known[i].type == r->need.type &&
		    view_is(r->need.key, t.known[i].key)) {
			if (!facts_add(&t.facts, r->shelf, &r->need,
			    buf_view(&t.known[i].answer)))
				wrong("no answer for %s", t.known[i].key);
			return;
		}
	buf_init(&late, 64);
	assert_true(facts_put_answer(&late, FACT_TEMPORARY, NULL, 0));
	assert_true(facts_add(&t.facts, r->shelf, &r->need,
	    buf_view(&late)));
	buf_free(&late);
}

/* -- questions ------------------------------------------------------------- */

static void
question_word(struct view word, struct policy_facts *f,
    enum policy_stage *stage)
{
	static const char *const stages[STAGES] = {
		[STAGE_NONE] = "", [STAGE_CLIENT] = "client",
		[STAGE_HELO] = "helo", [STAGE_MAIL] = "mail",
		[STAGE_RCPT] = "rcpt", [STAGE_DATA] = "data",
		[STAGE_EOD] = "eod", [STAGE_ETRN] = "etrn" };
	static const char *const statuses[] = { "", "ok", "unverified",
		"none", "temp" };
	size_t n = view_find(word, '=');
	struct view name = view_head(word, n), v = view_from(word, n + 1);
	int i;

	if (view_is(name, "client")) {
		assert_true(netaddr_parse(v, &f->client));
	} else if (view_is(name, "name")) {
		f->client_name = f->reverse_name = v;
		f->name_status = NAME_OK;
	} else if (view_is(name, "reverse")) {
		f->reverse_name = v;
		if (f->name_status == NAME_NONE)
			f->name_status = NAME_UNVERIFIED;
	} else if (view_is(name, "status")) {
		for (i = 1; i <= NAME_TEMPFAIL; i++)
			if (view_is(v, statuses[i]))
				f->name_status = (enum name_status)i;
	} else if (view_is(name, "helo")) {
		f->has_helo = true;
		f->helo = v;
	} else if (view_is(name, "from")) {
		f->has_sender = true;
		f->sender = v;
	} else if (view_is(name, "to")) {
		f->has_recipient = true;
		f->recipient = v;
	} else if (view_is(name, "login")) {
		f->login = v;
	} else if (view_is(name, "tls")) {
		f->tls_protocol = v;
	} else if (view_is(name, "print")) {
		f->tls_fingerprint = v;
	} else if (view_is(name, "trusted")) {
		f->tls_trusted = true;
	} else if (view_is(name, "etrn")) {
		f->etrn = v;
	} else if (view_is(name, "rcpts")) {
		f->recipients = (uint32_t)atoi(v.p);
	} else if (view_is(name, "pipelined")) {
		f->pipelined = true;
	} else if (view_is(name, "stage")) {
		for (i = 1; i < STAGES; i++)
			if (view_is(v, stages[i]))
				*stage = (enum policy_stage)i;
	} else {
		wrong("%.*s", VIEW_ARGS(word));
	}
}

static void
leave_nothing(void)
{
	const struct policy_result *r = t.result;

	if (!t.answered)
		return;
	if (t.note < r->n_notes)
		wrong("a note before this was not expected: %s: %.*s",
		    r->notes[t.note].action,
		    VIEW_ARGS(r->notes[t.note].text));
	if (!t.actions_seen && (r->hold || r->discard || r->n_bcc > 0 ||
	    r->redirect.n > 0 || r->filter.n > 0 || r->n_prepend > 0))
		wrong("an action before this was not expected");
	t.answered = false;
}

static char question[4000];

static void
ask(struct view args)
{
	enum policy_stage stage = STAGE_RCPT;
	struct policy_facts f = {
		.client_name = view_of("unknown"),
		.reverse_name = view_of("unknown"),
		.name_status = NAME_NONE,
		.protocol = view_of("ESMTP"),
		.known = &t.facts,
	};
	struct view rest, word;

	(void)snprintf(question, sizeof question, "%.*s", VIEW_ARGS(args));
	rest = view_of(question);
	assert_true(netaddr_parse(view_of("203.0.113.5"), &f.client));
	while ((word = view_word(&rest, " ")).n > 0)
		question_word(word, &f, &stage);
	if (stage == STAGE_RCPT && !f.has_sender) {
		f.has_sender = true;
		f.sender = view_of("a@b.example");
	}
	if (!open_policy())
		wrong("settings are refused: %s", t.said);
	for (f.asked = 0; ; f.asked++) {
		policy_evaluate(t.policy, stage, &f, t.result);
		if (t.result->outcome != POLICY_NEED)
			break;
		answer_fact(t.result);
	}
	facts_free(&t.facts);
	t.answered = true;
	t.actions_seen = false;
	t.note = 0;
	t.asks++;
}

static void
expect_answer(struct view want)
{
	const struct policy_result *r = t.result;
	char got[POLICY_TEXT_MAX + 40] = "ok";

	assert_true(t.answered);
	if (r->outcome == POLICY_REFUSE)
		(void)snprintf(got, sizeof got, "%u %s %s", r->reply.code,
		    r->reply.status, r->reply.text);
	if (!view_is(want, got))
		wrong("%s, not %.*s", got, VIEW_ARGS(want));
}

static void
expect_note(struct view want)
{
	const struct policy_note *n;
	char got[3000];

	if (t.note == t.result->n_notes)
		wrong("there is no such note");
	n = &t.result->notes[t.note++];
	(void)snprintf(got, sizeof got, "%s: %.*s", n->action,
	    VIEW_ARGS(n->text));
	if (!view_eq(view_trim(view_of(got)), want))
		wrong("%s, not %.*s", got, VIEW_ARGS(want));
}

static void
expect_action(struct view args)
{
	struct view what = view_word(&args, " "), text = view_trim(args);
	const struct policy_result *r = t.result;
	bool ok = false;
	uint32_t i;

	t.actions_seen = true;
	if (view_is(what, "hold"))
		ok = r->hold;
	else if (view_is(what, "discard"))
		ok = r->discard;
	else if (view_is(what, "redirect"))
		ok = view_eq(r->redirect, text);
	else if (view_is(what, "filter"))
		ok = view_eq(r->filter, text);
	else if (view_is(what, "bcc"))
		for (i = 0; i < r->n_bcc; i++)
			ok = ok || view_eq(r->bcc[i], text);
	else if (view_is(what, "prepend"))
		for (i = 0; i < r->n_prepend; i++)
			ok = ok || view_eq(r->prepend[i], text);
	if (!ok)
		wrong("not so: %.*s", VIEW_ARGS(what));
}

static void
expect_bad(struct view text)
{
	char want[1000];

	t.changed = true;
	if (open_policy())
		wrong("these settings are accepted");
	(void)snprintf(want, sizeof want, "%.*s", VIEW_ARGS(text));
	if (strstr(t.said, want) == NULL)
		wrong("%s", t.said);
	t.asks++;
}

static void
run_line(struct view line)
{
	struct view rest = line, word = view_word(&rest, " ");

	rest = view_trim(rest);
	if (word.n == 0 || word.p[0] == '#' || view_is(word, "postern"))
		return;
	if (view_is(word, "=")) {
		expect_answer(rest);
	} else if (view_is(word, "*")) {
		expect_note(rest);
	} else if (view_is(word, "+")) {
		expect_action(rest);
	} else {
		leave_nothing();
		if (view_is(word, "reset")) {
			reset();
		} else if (view_is(word, "set")) {
			(void)buf_printf(&t.settings, "%.*s\n",
			    VIEW_ARGS(rest));
			t.changed = true;
		} else if (view_is(word, "file")) {
			add_file(rest);
		} else if (view_is(word, "dns")) {
			add_dns(rest);
		} else if (view_is(word, "service")) {
			add_service(rest);
		} else if (view_is(word, "address")) {
			add_address(rest);
		} else if (view_is(word, "ask")) {
			ask(rest);
		} else if (view_is(word, "bad")) {
			expect_bad(rest);
		} else {
			wrong("%.*s", VIEW_ARGS(word));
		}
	}
}

static void
run_file(const char *path)
{
	char line[4000];
	FILE *f = fopen(path, "r");

	assert_non_null(f);
	t.file = path;
	t.line = 0;
	reset();
	while (fgets(line, sizeof line, f) != NULL) {
		t.line++;
		run_line(view_trim(view_of(line)));
	}
	leave_nothing();
	(void)fclose(f);
}

static void
all_cases(void **state)
{
	struct dirent **list;
	char path[500];
	int n, i;

	(void)state;
	n = scandir(CASES, &list, NULL, alphasort);
	assert_true(n > 2);
	for (i = 0; i < n; i++) {
		if (strstr(list[i]->d_name, ".case") != NULL) {
			(void)snprintf(path, sizeof path, "%s/%s", CASES,
			    list[i]->d_name);
			run_file(path);
		}
		free(list[i]);
	}
	free(list);
	assert_true(t.asks > 100);
}

/* A fact holds as long as its shelf. */
static void
shelves(void **state)
{
	struct fact_name name = { FACT_DNS, FACT_A, view_of("a.example") };
	static char long_text[FACT_BYTES_MAX - 100];
	struct facts f = { { NULL }, { 0 }, { 0 } };
	struct view record = view_make("\x7f\0\0\2", 4);
	struct fact got;
	struct buf b;
	unsigned i;
	char key[20];

	(void)state;
	buf_init(&b, FACT_BYTES_MAX);
	assert_true(facts_put_answer(&b, FACT_FOUND, &record, 1));
	assert_false(facts_find(&f, &name, &got));
	assert_true(facts_add(&f, SHELF_SESSION, &name, buf_view(&b)));
	assert_true(facts_find(&f, &name, &got));
	assert_int_equal(got.n, 1);
	/* Once is enough. */
	assert_false(facts_add(&f, SHELF_EVALUATION, &name, buf_view(&b)));
	facts_clear(&f, SHELF_EVALUATION);
	facts_clear(&f, SHELF_TRANSACTION);
	assert_true(facts_find(&f, &name, &got));
	/* What is no answer is not stored. */
	name.key = view_of("b.example");
	assert_false(facts_add(&f, SHELF_SESSION, &name, view_of("")));
	assert_false(facts_add(&f, SHELF_SESSION, &name,
	    view_head(buf_view(&b), b.n - 1)));
	name.type = FACT_MX;
	b.p[b.n - 4] = 0;
	record = view_make("x", 1);
	buf_clear(&b);
	assert_true(facts_put_answer(&b, FACT_FOUND, &record, 1));
	assert_false(facts_add(&f, SHELF_SESSION, &name, buf_view(&b)));
	/* A shelf has a limit. */
	buf_clear(&b);
	assert_true(facts_put_answer(&b, FACT_NO_NAME, NULL, 0));
	for (i = 0; i < 3 * SHELF_FACTS_MAX; i++) {
		(void)snprintf(key, sizeof key, "%u.example", i);
		name.key = view_of(key);
		assert_true(facts_add(&f, SHELF_SESSION, &name,
		    buf_view(&b)));
		assert_true(f.count[SHELF_SESSION] <= SHELF_FACTS_MAX);
	}
	/* Also one of bytes, which counts from zero when it is emptied. */
	facts_clear(&f, SHELF_SESSION);
	buf_clear(&b);
	name.type = FACT_TXT;
	record = view_make(long_text, sizeof long_text);
	assert_true(facts_put_answer(&b, FACT_FOUND, &record, 1));
	for (i = 0; i < 100; i++) {
		(void)snprintf(key, sizeof key, "%u.example", i);
		name.key = view_of(key);
		assert_true(facts_add(&f, SHELF_SESSION, &name,
		    buf_view(&b)));
		assert_true(f.count[SHELF_SESSION] * sizeof long_text <=
		    SHELF_BYTES_MAX);
	}
	assert_true(f.count[SHELF_SESSION] > 1);
	facts_free(&f);
	buf_free(&b);
}

static void
service_replies(void **state)
{
	static const struct {
		const char *text, *action;
	} rows[] = {
		{ "action=DUNNO\n\n", "DUNNO" },
		{ "action=451 4.7.1 later\r\n\r\n", "451 4.7.1 later" },
		{ "x=y\naction=OK\n\n", "OK" },
		{ "action=\n\n", "" },
		{ "action=DUNNO\n", NULL },
		{ "action=DUNNO", NULL },
		{ "\n", NULL },
		{ "DUNNO\n\n", NULL },
		{ "=DUNNO\n\n", NULL },
		{ "action=DUNNO\n\nmore", NULL },
		{ "x=y\n\n", NULL },
	};
	struct view action;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (policy_service_reply(view_of(rows[i].text), &action) !=
		    (rows[i].action != NULL))
			fail_msg("%s", rows[i].text);
		if (rows[i].action != NULL)
			assert_true(view_is(action, rows[i].action));
	}
}

static int
begin(void **state)
{
	(void)state;
	(void)snprintf(t.dir, sizeof t.dir, "%s", DIR_NAME);
	assert_non_null(mkdtemp(t.dir));
	buf_init(&t.settings, 65536);
	t.result = policy_result_new();
	return 0;
}

static int
end(void **state)
{
	(void)state;
	reset();
	close_policy();
	buf_free(&t.settings);
	policy_result_free(&t.result);
	return rmdir(t.dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_cases),
		cmocka_unit_test(shelves),
		cmocka_unit_test(service_replies),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
