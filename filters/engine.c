#include <stdlib.h>

#include "filters/ambiguity.h"
#include "filters/attach.h"
#include "filters/checks.h"
#include "filters/complete.h"
#include "filters/decoded.h"
#include "filters/engine.h"
#include "filters/findings.h"
#include "filters/inner.h"
#include "filters/leaf.h"
#include "filters/mime.h"
#include "filters/rewriting.h"
#include "lib/log.h"
#include "lib/own_addr.h"
#include "rules/pattern_set.h"

struct engine {
	struct checks_rules rules;
	struct table_list attach_rules;
	struct mime *walk;
	struct findings findings;
	struct checks checks;
	struct complete complete;
	struct rewrite *rewrite;
	struct rewriting rewriting;
	bool pass_next;
	struct charsets *charsets;
	struct leaves *leaves;
	struct ambiguity ambiguity;
	struct decoded decoded;
	struct inner *inner;
	struct checks inner_checks;
	struct scanner *scanner;	/* NULL without attachment_checks */
	struct attach attach;
	bool look_inside;	/* somebody wants to know of leaves */
	bool open_inner;	/* ... and of messages in them */
};

static bool rules_alone;

void
engine_rules_alone(void)
{
	rules_alone = true;
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

static void
open_rules(const struct conf *cf, const char *specs,
    enum verdict_dialect dialect, struct table_list *ret, struct report *r)
{
	size_t i;

	if (!table_list_open(specs, cf->config_directory, ret, report_one,
	    r)) {
		r->failed = true;
		return;
	}
	for (i = 0; i < ret->n; i++)
		if (!verdict_check_table(ret->list[i], dialect, report_one,
		    r))
			r->failed = true;
}

/* One list often stands in several parameters: it is opened once. */
static void
share_rules(const struct conf *cf, const char *specs,
    const struct table_list *other, const char *other_specs,
    struct table_list *ret, struct report *r)
{
	if (strcmp(specs, other_specs) == 0)
		*ret = *other;
	else
		open_rules(cf, specs, DIALECT_CHECKS, ret, r);
}

static void
unshare(struct table_list *l, const struct table_list *other)
{
	if (l->list != other->list)
		table_list_free(l);
}

static void
free_rules(struct checks_rules *r)
{
	unshare(&r->mime_header, &r->header);
	unshare(&r->nested_header, &r->header);
	unshare(&r->body, &r->header);
	table_list_free(&r->header);
	table_list_free(&r->decoded_header);
	table_list_free(&r->decoded_body);
}

static bool
load_rules(const struct conf *cf, struct checks_rules *ret, struct report *r)
{
	const char *header = cf->header_checks;

	*ret = (struct checks_rules){ 0 };
	table_pattern_limits((uint32_t)cf->filter_match_limit);
	table_pattern_sets(rules_alone ? NULL : pattern_sets(),
	    cf->rules_cache_directory);
	open_rules(cf, header, DIALECT_CHECKS, &ret->header, r);
	share_rules(cf, cf->mime_header_checks, &ret->header, header,
	    &ret->mime_header, r);
	share_rules(cf, cf->nested_header_checks, &ret->header, header,
	    &ret->nested_header, r);
	share_rules(cf, cf->body_checks, &ret->header, header, &ret->body, r);
	open_rules(cf, cf->decoded_header_checks, DIALECT_CHECKS,
	    &ret->decoded_header, r);
	open_rules(cf, cf->decoded_body_checks, DIALECT_DECODED,
	    &ret->decoded_body, r);
	if (!r->failed)
		return true;
	free_rules(ret);
	return false;
}

static bool
any_rules(const struct checks_rules *r)
{
	return r->header.n > 0 || r->mime_header.n > 0 ||
	    r->nested_header.n > 0 || r->body.n > 0 ||
	    r->decoded_header.n > 0 || r->decoded_body.n > 0;
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

	if (*cf->attachment_checks == '\0')
		return true;
	e->scanner = scanner_new(&l, jail, &error);
	if (e->scanner != NULL)
		return true;
	text = mem_printf("attachment_checks: %s", error);
	report_one(true, text, r);
	free(text);
	return false;
}

static bool
load_attach(const struct conf *cf, struct engine *e, struct report *r)
{
	open_rules(cf, cf->attachment_checks, DIALECT_ATTACHMENTS,
	    &e->attach_rules, r);
	return !r->failed;
}

static void
stop_walk(void *arg)
{
	struct engine *e = arg;

	leaves_stop(e->leaves);
	mime_stop(e->walk);
}

static struct engine *
open_engine(const struct conf *cf, scanner_jail *jail, table_report *report,
    void *arg)
{
	struct report r = { report, arg, false };
	enum header_end_action end = conf_choice(
	    "non_empty_end_of_header_action",
	    view_of(cf->non_empty_end_of_header_action));
	struct mime_options o = {
		.header_size_limit = (size_t)cf->header_size_limit,
		.line_length_limit = (size_t)cf->line_length_limit,
		.nesting_limit = (uint32_t)cf->mime_nesting_limit,
		.part_limit = (uint32_t)cf->mime_part_limit,
		.boundary_length_limit =
		    (size_t)cf->mime_boundary_length_limit,
		.one_part = cf->disable_mime_input_processing,
		.stray_is_data = cf->cleanup_replace_stray_cr_lf,
	};
	struct engine *e = mem_alloc(sizeof *e);
	struct condition_policy policy = { .action[0] = CONDITION_IGNORE };

	if (!open_scanner(cf, jail, e, &r)) {
		free(e);
		return NULL;
	}
	if (!condition_policy_get(cf, &policy, report_one, &r))
		r.failed = true;
	e->rewrite = open_rewrite(cf, &r);
	if (!load_rules(cf, &e->rules, &r) || e->rewrite == NULL) {
		rewrite_free(&e->rewrite);
		scanner_free(&e->scanner);
		free(e);
		return NULL;
	}
	if (!load_attach(cf, e, &r)) {
		rewrite_free(&e->rewrite);
		free_rules(&e->rules);
		table_list_free(&e->attach_rules);
		scanner_free(&e->scanner);
		free(e);
		return NULL;
	}
	e->walk = mime_new(&o);
	findings_init(&e->findings);
	e->charsets = charsets_open();
	checks_init(&e->checks, cf, &e->rules, end, e->charsets, e->walk,
	    &e->findings);
	complete_init(&e->complete, cf, e->walk, &e->findings);
	rewriting_init(&e->rewriting, cf, e->rewrite, e->walk, &e->findings);
	e->leaves = leaves_new(e->charsets);
	ambiguity_init(&e->ambiguity, &policy, e->walk, e->leaves,
	    &e->findings);
	checks_init(&e->inner_checks, cf, &e->rules, end, e->charsets,
	    e->walk, &e->findings);
	e->inner_checks.inside = true;
	decoded_init(&e->decoded, cf, &e->checks, e->charsets, e->walk,
	    e->leaves, &e->findings);
	e->inner = inner_new(&o, e->charsets, e->walk, e->leaves);
	attach_init(&e->attach, cf, &e->attach_rules, e->scanner, &e->findings,
	    stop_walk, e);
	e->open_inner = any_rules(&e->rules) || e->attach_rules.n > 0 ||
	    condition_policy_acts(&policy);
	e->look_inside = e->open_inner ||
	    condition_policy_set(&policy).bits != 0;
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
	if (*e == NULL)
		return;
	inner_free(&(*e)->inner);
	decoded_free(&(*e)->decoded);
	checks_free(&(*e)->inner_checks);
	leaves_free(&(*e)->leaves);
	charsets_free(&(*e)->charsets);
	checks_free(&(*e)->checks);
	complete_free(&(*e)->complete);
	rewriting_free(&(*e)->rewriting);
	rewrite_free(&(*e)->rewrite);
	attach_free(&(*e)->attach);
	scanner_free(&(*e)->scanner);
	table_list_free(&(*e)->attach_rules);
	findings_free(&(*e)->findings);
	mime_free(&(*e)->walk);
	free_rules(&(*e)->rules);
	free(*e);
	*e = NULL;
}

static bool
check_samples(const struct table_list *l, struct report *r)
{
	bool ok = true;
	size_t i;

	for (i = 0; i < l->n; i++)
		ok = table_check_samples(l->list[i], report_one, r) && ok;
	return ok;
}

bool
engine_check(const struct conf *cf, table_report *report, void *arg)
{
	struct report r = { report, arg, false };
	struct engine *e = engine_open(cf, report_one, &r);
	const struct table_list *header;
	bool ok;

	if (e == NULL)
		return false;
	header = &e->rules.header;
	ok = check_samples(header, &r);
	if (e->rules.mime_header.list != header->list)
		ok = check_samples(&e->rules.mime_header, &r) && ok;
	if (e->rules.nested_header.list != header->list)
		ok = check_samples(&e->rules.nested_header, &r) && ok;
	if (e->rules.body.list != header->list)
		ok = check_samples(&e->rules.body, &r) && ok;
	ok = check_samples(&e->rules.decoded_header, &r) && ok;
	ok = check_samples(&e->rules.decoded_body, &r) && ok;
	ok = check_samples(&e->attach_rules, &r) && ok;
	engine_free(&e);
	return ok;
}

void
engine_pass_next(struct engine *e)
{
	e->pass_next = true;
}

void
engine_judge(struct engine *e, struct view text, const struct envelope *env,
    struct queue_id id, struct judgement *ret, struct arena *a)
{
	struct stage *stages[] = { &e->checks.stage, &e->complete.stage,
		&e->rewriting.stage, leaves_stage(e->leaves) };
	struct leaf_sink *sinks[LEAF_SINKS_MAX];
	size_t n_sinks = 0;
	size_t n = sizeof stages / sizeof stages[0];
	struct view envelope;

	findings_begin(&e->findings, text);
	/* no_header_body_checks */
	e->findings.passed = e->pass_next ||
	    (env->flags & ENVELOPE_NO_CHECKS) != 0;
	e->pass_next = false;
	checks_begin(&e->checks, env, id);
	complete_begin(&e->complete, env, id);
	rewriting_begin(&e->rewriting, env, id);
	ambiguity_begin(&e->ambiguity, env, id);
	checks_begin(&e->inner_checks, env, id);
	attach_begin(&e->attach, env, id, text.n);
	sinks[n_sinks++] = &e->ambiguity.sink;
	if (e->rules.decoded_body.n > 0)
		sinks[n_sinks++] = &e->decoded.sink;
	if (e->attach_rules.n > 0)
		sinks[n_sinks++] = &e->attach.sink;
	inner_begin(e->inner, text.n, &e->inner_checks.stage, sinks, n_sinks);
	if (e->open_inner)
		sinks[n_sinks++] = inner_sink(e->inner);
	leaves_begin(e->leaves, text, sinks, n_sinks);
	/* The last stage, when it is for nobody, is left out. */
	if (!e->look_inside || e->findings.passed ||
	    (env->flags & ENVELOPE_NO_FILTER) != 0)
		n--;
	mime_begin(e->walk, stages, n);
	mime_feed(e->walk, text);
	mime_end(e->walk);
	attach_end(&e->attach);
	envelope = rewriting_end(&e->rewriting);
	findings_judgement(&e->findings, a, ret);
	ret->envelope = envelope;
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

	findings_begin(&e->findings, head);
	rewriting_begin(&e->rewriting, env, id);
	mime_begin(e->walk, stages, 1);
	mime_feed(e->walk, head);
	mime_end(e->walk);
	(void)rewriting_end(&e->rewriting);
}
