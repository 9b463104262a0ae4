#include <stdlib.h>

#include "filters/complete.h"
#include "filters/engine.h"
#include "filters/findings.h"
#include "filters/inner.h"
#include "filters/leaf.h"
#include "filters/rewriting.h"
#include "filters/split.h"
#include "lib/log.h"
#include "lib/own_addr.h"
#include "rules/mime.h"

struct engine {
	struct rulesets sets;
	struct split split;
	struct mime *walk;
	struct findings findings;
	struct complete complete;
	struct rewrite *rewrite;
	struct rewriting rewriting;
	struct buf envelope;	/* of a part, encoded */
	bool pass_next;
	struct charsets *charsets;
	struct leaves *leaves;
	struct inner *inner;
	struct scanner *scanner;	/* NULL without attachment_checks */
};

void
engine_rules_alone(void)
{
	rulesets_alone();
}

/* Reports go through here, to know whether there was an error. */
struct report {
	table_report *fn;
	void *arg;
	bool failed;
};

static void
report_one(bool error, const char *text, void *arg)
{
	struct report *r = arg;

	r->failed = r->failed || error;
	r->fn(error, text, r->arg);
}

/* What is said about addresses; NULL after a report. */
static struct rewrite *
open_rewrite(const struct conf *cf, struct report *r)
{
	struct netaddr *own = mem_array(OWN_ADDR_MAX, sizeof *own);
	size_t n = own_addresses(cf, own, OWN_ADDR_MAX);
	struct rewrite *w = rewrite_open(cf, own, n, report_one, r);

	free(own);
	return w;
}

/* In front of all tables: what is forked here shall be small. */
static bool
open_scanner(const struct conf *cf, scanner_jail *jail, struct engine *e,
    struct report *r)
{
	const struct scan_limits l = {
		.depth = (uint32_t)cf->attachment_depth_limit,
		.members = (uint32_t)cf->attachment_members_limit,
		.bytes = (uint64_t)cf->attachment_bytes_limit,
		.ratio = (uint32_t)cf->attachment_ratio_limit,
		.cpu_ms = (uint32_t)cf->attachment_cpu_limit,
		.cpu_ms_mb = (uint32_t)cf->attachment_cpu_per_megabyte,
		.memory = (uint64_t)cf->attachment_memory_limit,
	};
	const char *error = "";
	char *text;

	if (!rulesets_attach(cf))
		return true;
	e->scanner = scanner_new(&l, jail, &error);
	if (e->scanner != NULL)
		return true;
	text = mem_printf("attachment_checks: %s", error);
	report_one(true, text, r);
	free(text);
	return false;
}

static void
stop_walk(void *arg)
{
	struct engine *e = arg;

	leaves_stop(e->leaves);
	mime_stop(e->walk);
}

static bool
any_rules(const struct checks_rules *r)
{
	return r->header.n > 0 || r->mime_header.n > 0 ||
	    r->nested_header.n > 0 || r->body.n > 0 ||
	    r->decoded_header.n > 0 || r->decoded_body.n > 0;
}

/* What looks at a message for the recipients of a rule set. */
static void
engine_set(struct engine *e, struct ruleset *s, enum header_end_action end)
{
	checks_init(&s->checks, &s->conf, &s->rules, end, e->charsets,
	    e->walk, &e->findings);
	ambiguity_init(&s->ambiguity, &s->conditions, e->walk, e->leaves,
	    &e->findings);
	checks_init(&s->inner_checks, &s->conf, &s->rules, end, e->charsets,
	    e->walk, &e->findings);
	decoded_init(&s->decoded, &s->conf, &s->checks, e->charsets, e->walk,
	    e->leaves, &e->findings);
	attach_init(&s->attach, &s->conf, &s->attach_rules,
	    s->attach_rules.n > 0 ? e->scanner : NULL, &e->findings,
	    stop_walk, e);
	s->inner_checks.inside = true;
	s->open_inner = any_rules(&s->rules) || s->attach_rules.n > 0 ||
	    condition_policy_acts(&s->conditions);
	s->look_inside = s->open_inner ||
	    condition_policy_set(&s->conditions).bits != 0;
}

static struct engine *
open_engine(const struct conf *cf, scanner_jail *jail, table_report *report,
    void *arg)
{
	struct report r = { report, arg, false };
	enum header_end_action end = conf_choice(
	    "non_empty_end_of_header_action",
	    view_of(cf->non_empty_end_of_header_action));
	struct mime_options o = mime_options_of(cf);
	struct engine *e = mem_alloc(sizeof *e);
	bool ok;
	size_t i;

	o.one_part = cf->disable_mime_input_processing;
	o.stray_is_data = cf->cleanup_replace_stray_cr_lf;
	if (!open_scanner(cf, jail, e, &r)) {
		free(e);
		return NULL;
	}
	e->rewrite = open_rewrite(cf, &r);
	ok = rulesets_open(&e->sets, cf, report_one, &r);
	if (ok && (!split_open(&e->split, cf, &e->sets, report_one, &r) ||
	    r.failed)) {
		rulesets_free(&e->sets);
		ok = false;
	}
	if (!ok || e->rewrite == NULL) {
		rewrite_free(&e->rewrite);
		scanner_free(&e->scanner);
		free(e);
		return NULL;
	}
	e->walk = mime_new(&o);
	findings_init(&e->findings);
	e->findings.soft = cf->soft_mode;
	buf_init(&e->envelope, REWRITE_BYTES_MAX + (1u << 20));
	complete_init(&e->complete, cf, e->walk, &e->findings);
	rewriting_init(&e->rewriting, cf, e->rewrite, e->walk, &e->findings);
	e->charsets = charsets_open();
	e->leaves = leaves_new(e->charsets);
	e->inner = inner_new(&o, e->charsets, e->walk, e->leaves);
	for (i = 0; i < e->sets.n; i++)
		engine_set(e, e->sets.list[i], end);
	return e;
}

struct engine *
engine_open(const struct conf *cf, table_report *report, void *arg)
{
	return open_engine(cf, NULL, report, arg);
}

struct engine *
engine_open_apart(const struct conf *cf, scanner_jail *jail,
    table_report *report, void *arg)
{
	return open_engine(cf, jail, report, arg);
}

struct scanner *
engine_scanner(struct engine *e)
{
	return e->scanner;
}

void
engine_free(struct engine **e)
{
	size_t i;

	if (*e == NULL)
		return;
	for (i = 0; i < (*e)->sets.n; i++) {
		checks_free(&(*e)->sets.list[i]->checks);
		checks_free(&(*e)->sets.list[i]->inner_checks);
		decoded_free(&(*e)->sets.list[i]->decoded);
		attach_free(&(*e)->sets.list[i]->attach);
	}
	scanner_free(&(*e)->scanner);
	inner_free(&(*e)->inner);
	leaves_free(&(*e)->leaves);
	charsets_free(&(*e)->charsets);
	complete_free(&(*e)->complete);
	rewriting_free(&(*e)->rewriting);
	rewrite_free(&(*e)->rewrite);
	findings_free(&(*e)->findings);
	mime_free(&(*e)->walk);
	buf_free(&(*e)->envelope);
	split_free(&(*e)->split);
	rulesets_free(&(*e)->sets);
	free(*e);
	*e = NULL;
}

bool
engine_check(const struct conf *cf, table_report *report, void *arg)
{
	struct report r = { report, arg, false };
	struct engine *e = engine_open(cf, report_one, &r);
	bool ok;

	if (e == NULL)
		return false;
	ok = rulesets_check_samples(&e->sets, report_one, &r);
	engine_free(&e);
	return ok;
}

uint64_t
engine_softened(const struct engine *e)
{
	return e->findings.softened;
}

void
engine_pass_next(struct engine *e)
{
	e->pass_next = true;
}

/* Let the rules of set look at it.  again: another set has done so. */
static void
engine_walk(struct engine *e, size_t set, struct view text,
    const struct envelope *env, struct queue_id id, bool again)
{
	struct ruleset *r = e->sets.list[set];
	struct stage *stages[] = { &r->checks.stage, &e->complete.stage,
		&e->rewriting.stage, leaves_stage(e->leaves) };
	struct leaf_sink *sinks[LEAF_SINKS_MAX];
	size_t n_sinks = 0;
	size_t n = sizeof stages / sizeof stages[0];

	findings_begin(&e->findings, text);
	/* no_header_body_checks */
	e->findings.passed = e->pass_next ||
	    (env->flags & ENVELOPE_NO_CHECKS) != 0;
	checks_begin(&r->checks, env, id);
	checks_begin(&r->inner_checks, env, id);
	r->checks.again = r->inner_checks.again = again;
	r->checks.policy = r->inner_checks.policy = r->name;
	if (again)
		complete_repeat(&e->complete, env);
	else
		complete_begin(&e->complete, env, id);
	rewriting_begin(&e->rewriting, env, id);
	ambiguity_begin(&r->ambiguity, env, id);
	attach_begin(&r->attach, env, id, text.n, r->name);
	sinks[n_sinks++] = &r->ambiguity.sink;
	if (r->rules.decoded_body.n > 0)
		sinks[n_sinks++] = &r->decoded.sink;
	if (r->attach_rules.n > 0)
		sinks[n_sinks++] = &r->attach.sink;
	inner_begin(e->inner, text.n, &r->inner_checks.stage, sinks, n_sinks);
	if (r->open_inner)
		sinks[n_sinks++] = inner_sink(e->inner);
	leaves_begin(e->leaves, text, sinks, n_sinks);
	/* The last stage, when it is for nobody, is left out. */
	if (!r->look_inside || e->findings.passed ||
	    (env->flags & ENVELOPE_NO_FILTER) != 0)
		n--;
	mime_begin(e->walk, stages, n);
	mime_feed(e->walk, text);
	mime_end(e->walk);
	attach_end(&r->attach);
}

static void
engine_judge_by(struct engine *e, size_t set, struct view text,
    const struct envelope *env, struct queue_id id, struct judgement *ret,
    struct arena *a)
{
	struct view envelope;

	engine_walk(e, set, text, env, id, false);
	e->pass_next = false;
	envelope = rewriting_end(&e->rewriting);
	findings_judgement(&e->findings, a, ret);
	ret->envelope = envelope;
}

void
engine_judge(struct engine *e, struct view text, const struct envelope *env,
    struct queue_id id, struct judgement *ret, struct arena *a)
{
	engine_judge_by(e, 0, text, env, id, ret, a);
}

/* -- several rule sets ---------------------------------------------------- */

/* Recipients who get the same judgement. */
struct part {
	bool sets[RULESETS_MAX];
	struct buf judged;	/* without envelope; what they share */
};

struct parts {
	struct part list[RULESETS_MAX];
	size_t n;
};

/* A part gets in what the rules of set say; it may be that of another set. */
static void
parts_add(struct parts *p, size_t set, const struct judgement *j)
{
	struct part *new = &p->list[p->n];
	size_t i;

	buf_init(&new->judged, EDITS_BYTES_MAX + 65536);
	ensure(judgement_put(&new->judged, j));
	for (i = 0; i < p->n; i++)
		if (view_eq(buf_view(&p->list[i].judged),
		    buf_view(&new->judged))) {
			p->list[i].sets[set] = true;
			buf_free(&new->judged);
			return;
		}
	new->sets[set] = true;
	p->n++;
}

/*
 * The envelope of a part, rewritten by itself: what rules asked for (REDIRECT,
 * BCC) is for its recipients only.  Empty: it stays as it is.
 */
static struct view
part_envelope(struct engine *e, const struct envelope *env,
    struct queue_id id, struct judgement *j, struct arena *a)
{
	struct findings *f = &e->findings;
	struct view encoded;
	struct envelope now;
	uint32_t i;

	if (j->verdict.action == ACTION_REJECT ||
	    j->verdict.action == ACTION_DISCARD)
		return view_make("", 0);
	findings_begin(f, view_make("", 0));
	(void)findings_redirect(f, j->redirect);
	for (i = 0; i < j->n_bcc; i++)
		(void)findings_bcc(f, j->bcc[i]);
	rewriting_begin(&e->rewriting, env, id);
	encoded = rewriting_end(&e->rewriting);
	if (findings_final(f)) {
		j->verdict = f->verdict;
		return view_make("", 0);
	}
	if (encoded.n == 0 || j->verdict.action != ACTION_OK ||
	    !envelope_get(encoded, a, &now))
		return encoded;
	split_copies(&e->split, &now);
	buf_clear(&e->envelope);
	ensure(envelope_put(&e->envelope, &now));
	return buf_view(&e->envelope);
}

static void
parts_give(struct engine *e, struct parts *p, uint64_t text_size,
    const struct envelope *env, struct queue_id id, engine_part *each,
    void *arg, struct arena *a)
{
	struct judgement j;
	struct envelope mine;
	uint32_t *index;
	size_t i;

	for (i = 0; i < p->n; i++) {
		arena_reset(a);
		ensure(judgement_get(buf_view(&p->list[i].judged), text_size,
		    a, &j));
		split_envelope(&e->split, env, p->list[i].sets, a, &mine,
		    &index);
		j.envelope = part_envelope(e, &mine, id, &j, a);
		each(p->n > 1 ? index : NULL, p->n > 1 ? mine.nrcpts : 0, &j,
		    arg);
	}
}

/* Only once each: the text is the same for all that have a set. */
static void
engine_judge_several(struct engine *e, struct view text,
    const struct envelope *env, struct queue_id id, engine_part *each,
    void *arg)
{
	struct arena *a = arena_new(env->nrcpts * 64u +
	    EDITS_MAX * sizeof(struct edit) + REWRITE_ARENA);
	struct parts parts = { .n = 0 };
	bool one[RULESETS_MAX];
	struct envelope mine;
	struct judgement j;
	uint32_t *index;
	bool again = false;
	size_t i;

	for (i = 0; i < e->sets.n; i++) {
		if (!e->split.used[i])
			continue;
		arena_reset(a);
		memset(one, 0, sizeof one);
		one[i] = true;
		split_envelope(&e->split, env, one, a, &mine, &index);
		engine_walk(e, i, text, &mine, id, again);
		again = true;
		findings_judgement(&e->findings, a, &j);
		parts_add(&parts, i, &j);
	}
	parts_give(e, &parts, text.n, env, id, each, arg, a);
	for (i = 0; i < parts.n; i++)
		buf_free(&parts.list[i].judged);
	arena_free(&a);
}

void
engine_judge_each(struct engine *e, struct view text,
    const struct envelope *env, struct queue_id id, engine_part *each,
    void *arg, struct arena *a)
{
	struct judgement j;
	size_t set = 0;

	if (!split_off(&e->split) && !e->pass_next && (env->flags &
	    (ENVELOPE_NO_CHECKS | ENVELOPE_NO_FILTER)) == 0)
		switch (split_begin(&e->split, env, id, &set)) {
		case SPLIT_ONE:
			break;
		case SPLIT_SEVERAL:
			engine_judge_several(e, text, env, id, each, arg);
			return;
		case SPLIT_FAILED:
			j = (struct judgement){ .verdict = {
				.action = ACTION_REJECT, .code = 451,
				.status = view_of("4.3.0"), .text = view_of(
				"Error: recipient policy lookup error") } };
			each(NULL, 0, &j, arg);
			return;
		}
	engine_judge_by(e, set, text, env, id, &j, a);
	each(NULL, 0, &j, arg);
}

/* As much of the text as has the headers. */
static struct view
headers_of(struct view text)
{
	size_t i = 0;

	while (i < text.n && text.p[i] != '\r' && text.p[i] != '\n')
		i += view_find(view_from(text, i), '\n') + 1;
	return view_head(text, i);
}

void
engine_rehearse(struct engine *e, struct view text,
    const struct envelope *env, struct queue_id id)
{
	struct stage *stages[] = { &e->rewriting.stage };
	struct view head = headers_of(text);
	size_t set;

	if (!split_off(&e->split))
		(void)split_begin(&e->split, env, id, &set);
	findings_begin(&e->findings, head);
	rewriting_begin(&e->rewriting, env, id);
	mime_begin(e->walk, stages, 1);
	mime_feed(e->walk, head);
	mime_end(e->walk);
	(void)rewriting_end(&e->rewriting);
}
