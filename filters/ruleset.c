#include <stdlib.h>

#include "filters/ruleset.h"
#include "lib/conf_choice.h"
#include "lib/log.h"
#include "rules/pattern_set.h"

static bool rules_alone;

struct opened_list {
	struct opened_list *next;
	const char *specs;
	enum verdict_dialect dialect;
	struct table_list list;
};

struct opening {
	struct rulesets *sets;
	table_report *report;
	void *arg;
};

static void
report(const struct opening *o, char *text)
{
	o->report(true, text, o->arg);
	free(text);
}

static bool
list_open_as(const struct opening *o, const struct conf *cf,
    const char *specs, enum verdict_dialect dialect, struct table_list *ret)
{
	struct opened_list *l;
	bool ok = true;
	size_t i;

	for (l = o->sets->opened; l != NULL; l = l->next)
		if (l->dialect == dialect && strcmp(l->specs, specs) == 0) {
			*ret = l->list;
			return true;
		}
	l = mem_alloc(sizeof *l);
	if (!table_list_open(specs, cf->config_directory, &l->list, o->report,
	    o->arg)) {
		free(l);
		return false;
	}
	l->specs = specs;
	l->dialect = dialect;
	l->next = o->sets->opened;
	o->sets->opened = l;
	for (i = 0; i < l->list.n; i++)
		ok = verdict_check_table(l->list.list[i], dialect,
		    o->report, o->arg) && ok;
	*ret = l->list;
	return ok;
}

static bool
list_open(const struct opening *o, const struct conf *cf, const char *specs,
    struct table_list *ret)
{
	return list_open_as(o, cf, specs, DIALECT_CHECKS, ret);
}

static bool
rules_open(const struct opening *o, struct ruleset *s)
{
	const struct conf *cf = &s->conf;
	struct checks_rules *r = &s->rules;
	bool ok = list_open(o, cf, cf->header_checks, &r->header);

	ok = list_open(o, cf, cf->mime_header_checks, &r->mime_header) && ok;
	ok = list_open(o, cf, cf->nested_header_checks, &r->nested_header) &&
	    ok;
	ok = list_open(o, cf, cf->body_checks, &r->body) && ok;
	ok = list_open(o, cf, cf->decoded_header_checks, &r->decoded_header) &&
	    ok;
	ok = list_open_as(o, cf, cf->decoded_body_checks, DIALECT_DECODED,
	    &r->decoded_body) && ok;
	ok = list_open_as(o, cf, cf->attachment_checks, DIALECT_ATTACHMENTS,
	    &s->attach_rules) && ok;
	return condition_policy_get(cf, &s->conditions, o->report, o->arg) &&
	    ok;
}

/* Put the text of a parameter where struct conf has it. */
static bool
conf_put(struct conf *cf, const struct conf_param *p, const char *text)
{
	char *at = (char *)cf + p->offset;
	int64_t n = 0;
	bool yes = false, ok = true;
	char why[256];

	switch (p->kind) {
	case CONF_STR:
		if (!conf_choice_good(p->name, view_of(text), why,
		    sizeof why))
			return false;
		memcpy(at, &text, sizeof text);
		return true;
	case CONF_BOOL:
		ok = conf_parse_bool(view_of(text), &yes);
		if (ok)
			memcpy(at, &yes, sizeof yes);
		return ok;
	case CONF_TIME:
		ok = conf_parse_time(view_of(text), p->unit, &n) &&
		    n >= p->min;
		break;
	case CONF_INT:
	case CONF_SIZE:
		ok = conf_parse_int(view_of(text), p->min, p->max, &n);
		break;
	}
	if (ok)
		memcpy(at, &n, sizeof n);
	return ok;
}

static bool
class_override(const struct opening *o, struct ruleset *s,
    const struct conf *cf, const char *parameter)
{
	const struct conf_param *p = conf_param_find(view_of(parameter));
	char *name = mem_printf("%s_%s", s->name, parameter);
	const char *text = conf_text(cf, view_of(name));
	bool ok = true;

	ensure(p != NULL);
	/* "smtp" would take smtp_header_checks for its own. */
	if (conf_param_find(view_of(name)) != NULL) {
		report(o, mem_printf("main.cf: filter_policy_classes: a class "
		    "cannot be called %s: %s has another meaning", s->name,
		    name));
		ok = false;
	} else if (text != NULL && !conf_put(&s->conf, p, text)) {
		report(o, mem_printf("main.cf: %s: bad value \"%.200s\"",
		    name, text));
		ok = false;
	}
	free(name);
	return ok;
}

/*
 * What is $header_checks in main.cf, as it is unless somebody sets it, is so
 * in a class too.
 */
static void
class_follow(struct ruleset *s, const struct conf *cf)
{
	if (s->conf.mime_header_checks == cf->mime_header_checks &&
	    strcmp(cf->mime_header_checks, cf->header_checks) == 0)
		s->conf.mime_header_checks = s->conf.header_checks;
	if (s->conf.nested_header_checks == cf->nested_header_checks &&
	    strcmp(cf->nested_header_checks, cf->header_checks) == 0)
		s->conf.nested_header_checks = s->conf.header_checks;
}

static bool
class_name_ok(struct view name)
{
	size_t i;

	for (i = 0; i < name.n; i++)
		if (!isalnum((unsigned char)name.p[i]) && name.p[i] != '_')
			return false;
	return name.n <= 64 && !view_is_nocase(name, "default") &&
	    !view_is_nocase(name, "dunno");
}

static struct ruleset *
ruleset_add(struct rulesets *s, struct view name, const struct conf *cf)
{
	struct ruleset *r = mem_alloc(sizeof *r);

	if (name.n > 0)
		r->name = mem_copy(name);
	r->conf = *cf;
	s->list[s->n++] = r;
	return r;
}

static bool
class_open(const struct opening *o, struct view name, const struct conf *cf)
{
	struct ruleset *s;
	bool ok = true;
	size_t i;

	if (!class_name_ok(name) || rulesets_find(o->sets, name, &i) ||
	    o->sets->n == RULESETS_MAX) {
		report(o, mem_printf("main.cf: filter_policy_classes: %.*s: "
		    "%s", VIEW_ARGS(view_head(name, 100)),
		    o->sets->n == RULESETS_MAX ? "too many classes" :
		    class_name_ok(name) ? "named twice" :
		    "not a name for a class"));
		return false;
	}
	s = ruleset_add(o->sets, name, cf);
	for (i = 0; conf_class_params[i] != NULL; i++)
		ok = class_override(o, s, cf, conf_class_params[i]) && ok;
	class_follow(s, cf);
	return rules_open(o, s) && ok;
}

void
rulesets_alone(void)
{
	rules_alone = true;
}

bool
rulesets_attach(const struct conf *cf)
{
	struct view rest = view_of(cf->filter_policy_classes), word;
	bool any = *cf->attachment_checks != '\0';
	const char *text;
	char *name;

	while (!any && (word = conf_word(&rest)).n > 0) {
		name = mem_printf("%.*s_attachment_checks", VIEW_ARGS(word));
		text = conf_text(cf, view_of(name));
		any = text != NULL && *text != '\0';
		free(name);
	}
	return any;
}

bool
rulesets_open(struct rulesets *s, const struct conf *cf,
    table_report *fn, void *arg)
{
	struct opening o = { s, fn, arg };
	struct view rest = view_of(cf->filter_policy_classes), word;
	bool ok;

	*s = (struct rulesets){ .n = 0 };
	table_pattern_limits((uint32_t)cf->filter_match_limit);
	table_pattern_sets(rules_alone ? NULL : pattern_sets(),
	    literal_databases(), cf->rules_cache_directory);
	ok = rules_open(&o, ruleset_add(s, view_make("", 0), cf));
	while ((word = conf_word(&rest)).n > 0)
		ok = class_open(&o, word, cf) && ok;
	if (!ok)
		rulesets_free(s);
	return ok;
}

void
rulesets_free(struct rulesets *s)
{
	struct opened_list *l;
	char *name;

	while ((l = s->opened) != NULL) {
		s->opened = l->next;
		table_list_free(&l->list);
		free(l);
	}
	while (s->n > 0) {
		s->n--;
		memcpy(&name, &s->list[s->n]->name, sizeof name);
		free(name);
		free(s->list[s->n]);
	}
}

bool
rulesets_check_samples(const struct rulesets *s, table_report *fn, void *arg)
{
	const struct opened_list *l;
	bool ok = true;
	size_t i;

	for (l = s->opened; l != NULL; l = l->next)
		for (i = 0; i < l->list.n; i++)
			ok = table_check_samples(l->list.list[i], fn, arg) &&
			    ok;
	return ok;
}

bool
rulesets_find(const struct rulesets *s, struct view name, size_t *ret)
{
	size_t i;

	if (view_is_nocase(name, "default") || view_is_nocase(name, "dunno")) {
		*ret = 0;
		return true;
	}
	for (i = 1; i < s->n; i++)
		if (view_is(name, s->list[i]->name)) {
			*ret = i;
			return true;
		}
	return false;
}
