#include <stdlib.h>

#include "lib/log.h"
#include "rules/pattern_result.h"
#include "rules/pattern_set.h"
#include "rules/table_impl.h"

/* One by one is as fast for about three (contrib/rulebench). */
#define TOGETHER_MIN	8u
#define NO_RULE	SIZE_MAX

enum rule_op { RULE_MATCH = 1, RULE_IF, RULE_ENDIF };

struct rule {
	enum rule_op op;
	bool negate, second_negate;
	bool warned;		/* that a limit was reached */
	unsigned line;
	uint64_t hash;
	struct pattern *first;
	struct pattern *second;	/* "/first/!/second/", or NULL */
	size_t end;		/* RULE_IF: its endif */
	size_t parent;		/* the "if" around it, or NO_RULE */
	bool positive;		/* a pattern in it has to match */
	bool together;		/* it is in the set */
	struct pattern_result *result;	/* NULL: of an if or endif */
};

struct sample {
	size_t rule;
	bool match;
	unsigned line;
	char *text;
	size_t n;
};

struct patterns {
	char *origin;
	enum pattern_syntax syntax;
	struct pattern_engine *engine;
	struct rule *list;
	size_t n, room;
	struct sample *samples;
	size_t n_samples, n_samples_placed;
	uint64_t limit_hits;
	const struct pattern_sets *sets;	/* NULL: one by one */
	struct pattern_set *set;	/* NULL: too few, or not possible */
	struct arena *arena;	/* while rules are read */
};

/* -- reading a rule ------------------------------------------------------ */

/* "/text/flags" at the start of a line; views into the line. */
struct written {
	bool negate;
	struct view text, flags;
};

static bool
written_parse(struct view *rest, const struct patterns *t, unsigned line,
    struct written *ret, struct table_loader *l)
{
	char delimiter;
	size_t i = 0;

	ret->negate = table_negation(rest);
	if (rest->n == 0) {
		table_complain(l, line, true, "no regexp");
		return false;
	}
	delimiter = rest->p[0];
	if (isalnum((unsigned char)delimiter)) {
		table_complain(l, line, true, "\"%c\" cannot be a delimiter",
		    delimiter);
		return false;
	}
	*rest = view_from(*rest, 1);
	/* A backslash stays in the pattern, where it escapes as well. */
	while (i < rest->n && rest->p[i] != delimiter)
		i += rest->p[i] == '\\' ? 2 : 1;
	if (i >= rest->n) {
		table_complain(l, line, true,
		    "no closing regexp delimiter \"%c\"", delimiter);
		return false;
	}
	ret->text = view_head(*rest, i);
	*rest = view_from(*rest, i + 1);
	for (i = 0; i < rest->n && !view_space(rest->p[i]); i++)
		if (rest->p[i] == '!' && t->syntax == PATTERN_POSIX)
			break;
	ret->flags = view_head(*rest, i);
	*rest = view_from(*rest, i);
	return true;
}

static struct pattern *
written_compile(struct patterns *t, const struct written *w, unsigned groups,
    unsigned line, struct table_loader *l)
{
	struct pattern *p;
	struct buf why;

	if (t->syntax == PATTERN_PCRE && view_find(w->flags, 'X') < w->flags.n)
		table_complain(l, line, false,
		    "the obsolete regexp option \"X\" has no effect");
	buf_init(&why, 1024);
	p = pattern_compile(t->engine, w->text, w->flags, groups, &why);
	if (p == NULL)
		table_complain(l, line, true, "%s", buf_cstr(&why));
	buf_free(&why);
	return p;
}

/*
 * What a text must have in it for the rule to hold.  Every pattern in it that
 * is not negated must match, so one of them is enough.  What a negated one
 * says is not known before it is asked: it may give up, too.
 */
static void
rule_needs(struct patterns *t, struct rule *r,
    const struct written *first, const struct written *second)
{
	const struct written *w = !first->negate ? first :
	    second != NULL && !second->negate ? second : NULL;
	const struct pattern_node *tree;

	r->positive = w != NULL;
	if (w == NULL || t->set == NULL)
		return;
	arena_reset(t->arena);
	tree = pattern_tree(t->syntax, w->text, w->flags, t->arena);
	r->together = tree != NULL && t->sets->add(t->set, t->n, tree);
}

static bool
match_parse(struct patterns *t, struct view text, struct rule *r,
    struct table_loader *l)
{
	struct written first, second = { .negate = false };
	bool has_second;
	unsigned groups;

	r->op = RULE_MATCH;
	if (!written_parse(&text, t, r->line, &first, l))
		return false;
	has_second = text.n > 0 && text.p[0] == '!';
	if (has_second && !written_parse(&text, t, r->line, &second, l))
		return false;
	text = view_trim(text);
	if (text.n == 0) {
		table_complain(l, r->line, true, "no result after the pattern");
		return false;
	}
	r->result = pattern_result_new(text, &groups);
	if (r->result == NULL) {
		table_complain(l, r->line, true, "bad replacement syntax: "
		    "after $ in the result there must be a number from 1 to "
		    "%u or another $", PATTERN_GROUPS_MAX);
		return false;
	}
	if (groups > 0 && first.negate) {
		table_complain(l, r->line, true, "$%u in the result of a "
		    "negated pattern", groups);
		return false;
	}
	r->negate = first.negate;
	r->second_negate = second.negate;
	r->first = written_compile(t, &first, groups, r->line, l);
	if (has_second)
		r->second = written_compile(t, &second, 0, r->line, l);
	rule_needs(t, r, &first, has_second ? &second : NULL);
	return r->first != NULL && (!has_second || r->second != NULL);
}

static bool
if_parse(struct patterns *t, struct view text, struct rule *r,
    struct table_loader *l)
{
	struct written w;

	r->op = RULE_IF;
	if (!written_parse(&text, t, r->line, &w, l))
		return false;
	if (view_trim(text).n > 0)
		table_complain(l, r->line, true, "text after if (lines "
		    "between if and endif must not start with white space)");
	r->negate = w.negate;
	r->first = written_compile(t, &w, 0, r->line, l);
	rule_needs(t, r, &w, NULL);
	return r->first != NULL;
}

static void
rule_free(struct rule *r)
{
	pattern_free(&r->first);
	pattern_free(&r->second);
	pattern_result_free(&r->result);
}

/* -- samples ------------------------------------------------------------- */

/* "# match: text" and "# pass: text" wait for the rule that comes next. */
static void
sample_comment(struct view text, unsigned line, void *arg)
{
	struct patterns *t = arg;
	struct sample s = { .rule = NO_RULE, .line = line };

	text = view_trim(text);
	s.match = view_starts_nocase(text, "match:");
	if (!s.match && !view_starts_nocase(text, "pass:"))
		return;
	text = view_trim(view_from(text, view_find(text, ':') + 1));
	s.text = mem_copy(text);
	s.n = text.n;
	t->samples = mem_resize(t->samples, t->n_samples + 1,
	    sizeof(*t->samples));
	t->samples[t->n_samples++] = s;
}

/* A comment behind the rule may have been read already; it stays. */
static void
samples_place(struct patterns *t, size_t rule, unsigned line)
{
	while (t->n_samples_placed < t->n_samples &&
	    t->samples[t->n_samples_placed].line < line)
		t->samples[t->n_samples_placed++].rule = rule;
}

/* -- all rules at once --------------------------------------------------- */

/* How many lines a report about several rules names. */
#define NAMED_MAX	10u

static void
report_alone(const struct patterns *t, struct table_loader *l)
{
	struct buf lines;
	unsigned n = 0;

	buf_init(&lines, 16 * NAMED_MAX);
	for (size_t i = 0; i < t->n; i++) {
		const struct rule *r = &t->list[i];

		if (!r->positive || r->together)
			continue;
		if (n++ < NAMED_MAX)
			(void)buf_printf(&lines, n == 1 ? "%u" : ", %u",
			    r->line);
	}
	if (n > 0)
		table_complain(l, 0, false, "%u patterns cannot be asked "
		    "together with the others, which is slower: line%s %s%s",
		    n, n == 1 ? "" : "s", buf_cstr(&lines),
		    n > NAMED_MAX ? " ..." : "");
	buf_free(&lines);
}

static void
set_make(struct patterns *t, struct table_loader *l)
{
	const char *why;
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++) {
		n += t->list[i].together;
		if (t->list[i].op == RULE_ENDIF)
			t->sets->never(t->set, i);
	}
	if (n < TOGETHER_MIN || l->errors > 0) {
		t->sets->free(&t->set);
	} else if (t->sets->build(t->set, t->n, &why)) {
		report_alone(t, l);
	} else {
		table_complain(l, 0, false, "%s; its rules are asked one by "
		    "one, which is slower", why);
		t->sets->free(&t->set);
	}
}

/* -- loading ------------------------------------------------------------- */

static void
patterns_add(struct patterns *t, const struct rule *r)
{
	if (t->n == t->room) {
		t->room = t->room > 0 ? 2 * t->room : 16;
		t->list = mem_resize(t->list, t->room, sizeof(*t->list));
	}
	t->list[t->n++] = *r;
	if (r->op != RULE_ENDIF)
		samples_place(t, t->n - 1, r->line);
}

static bool
line_parse(struct patterns *t, struct table_blocks *blocks, struct view text,
    struct rule *r, struct table_loader *l)
{
	size_t opened;

	if (!isalnum((unsigned char)text.p[0]))
		return match_parse(t, text, r, l);
	if (table_keyword(&text, "if"))
		return if_parse(t, text, r, l) &&
		    table_block_open(blocks, t->n, r->line, l);
	if (table_keyword(&text, "endif")) {
		r->op = RULE_ENDIF;
		if (!table_block_close(blocks, text, r->line, l, &opened))
			return false;
		t->list[opened].end = t->n;
		return true;
	}
	table_complain(l, r->line, true, "not a rule: need /pattern/flags "
	    "result, if, or endif");
	return false;
}

static void *
patterns_load(const char *type, struct view name, struct table_source *s,
    struct table_loader *l)
{
	struct patterns *t = mem_alloc(sizeof(*t));
	struct table_blocks blocks = { .depth = 0 };
	struct view text;
	unsigned line;

	(void)name;
	t->origin = mem_strdup(l->origin);
	t->syntax = strcmp(type, table_pcre.type) == 0 ? PATTERN_PCRE :
	    PATTERN_POSIX;
	t->engine = pattern_engine_new(t->syntax, table_match_limit());
	t->sets = table_pattern_sets_used();
	if (t->sets != NULL) {
		t->arena = arena_new(PATTERN_TREE_MEMORY);
		t->set = t->sets->new(table_literal_databases(),
		    table_pattern_cache());
	}
	s->comment = sample_comment;
	s->comment_arg = t;
	while (table_source_next(s, l, &text, &line)) {
		struct rule r = { .line = line,
			.hash = row_hash_text(text),
			.parent = blocks.depth > 0 ?
			    blocks.rule[blocks.depth - 1] : NO_RULE };

		if (line_parse(t, &blocks, text, &r, l))
			patterns_add(t, &r);
		else
			rule_free(&r);
	}
	table_blocks_end(&blocks, l);
	if (t->set != NULL)
		set_make(t, l);
	arena_free(&t->arena);
	return t;
}

static void
patterns_release(void *data)
{
	struct patterns *t = data;

	for (size_t i = 0; i < t->n; i++)
		rule_free(&t->list[i]);
	for (size_t i = 0; i < t->n_samples; i++)
		free(t->samples[i].text);
	pattern_engine_free(&t->engine);
	if (t->set != NULL)
		t->sets->free(&t->set);
	free(t->samples);
	free(t->list);
	free(t->origin);
	free(t);
}

/* -- looking up ---------------------------------------------------------- */

/*
 * A pattern that gives up is no match, negated or not.  A temporary failure
 * would come back with every attempt until the mail is returned, and innocent
 * text reaches a limit as easily as a hostile one.  The other rules still
 * apply, and the warning names the rule that has to be written better.
 */
static bool
pattern_holds(struct patterns *t, struct rule *r, const struct pattern *p,
    bool negate, struct view key)
{
	enum pattern_answer a = pattern_match(t->engine, p, key);

	if (a == PATTERN_LIMIT) {
		t->limit_hits++;
		if (!r->warned)
			log_warn("%s:%u: the pattern reached its match limit "
			    "and was taken as not matching (this is logged "
			    "once for each rule)", t->origin, r->line);
		r->warned = true;
		return false;
	}
	return (a == PATTERN_MATCH) != negate;
}

/* The second pattern leaves the groups of the first alone: it has none of
 * its own in POSIX syntax, the only one that knows second patterns. */
static bool
rule_holds(struct patterns *t, struct rule *r, struct view key)
{
	return pattern_holds(t, r, r->first, r->negate, key) &&
	    (r->second == NULL ||
	    pattern_holds(t, r, r->second, r->second_negate, key));
}

static enum table_answer
rule_answer(const struct patterns *t, const struct rule *r, struct view key,
    struct buf *value, unsigned *ret_line)
{
	if (!pattern_result_put(r->result, t->engine, key, value)) {
		buf_clear(value);
		return TABLE_FAILED;
	}
	*ret_line = r->line;
	return TABLE_FOUND;
}

/* An "if" from `from` on around rule i that cannot match, or NO_RULE. */
static size_t
shut_block(const struct patterns *t, size_t from, size_t i)
{
	size_t p = t->list[i].parent;

	while (p != NO_RULE && p >= from && t->sets->has(t->set, p))
		p = t->list[p].parent;
	return p != NO_RULE && p >= from ? p : NO_RULE;
}

/*
 * As one by one, but only those that may match.  An "if" among them that does
 * not is left here as there; one that is not among them, by shut_block().
 */
static enum table_answer
find_in_set(struct patterns *t, size_t *pos, struct view key,
    struct buf *value, unsigned *ret_line)
{
	size_t i = t->sets->next(t->set, *pos), shut;

	while (i < t->n) {
		struct rule *r = &t->list[i];

		shut = shut_block(t, *pos, i);
		if (shut != NO_RULE) {
			i = t->list[shut].end;
		} else if (!rule_holds(t, r, key)) {
			if (r->op == RULE_IF)
				i = r->end;
		} else if (r->op == RULE_MATCH) {
			*pos = i + 1;
			return rule_answer(t, r, key, value, ret_line);
		}
		i = t->sets->next(t->set, i + 1);
	}
	*pos = t->n;
	return TABLE_NOT_FOUND;
}

static enum table_answer
patterns_find(void *data, size_t *pos, struct view key, struct buf *value,
    unsigned *ret_line)
{
	struct patterns *t = data;

	if (t->set != NULL && t->sets->scan(t->set, key))
		return find_in_set(t, pos, key, value, ret_line);
	for (size_t i = *pos; i < t->n; i++) {
		struct rule *r = &t->list[i];

		if (r->op == RULE_ENDIF)
			continue;
		if (!rule_holds(t, r, key)) {
			if (r->op == RULE_IF)
				i = r->end;
			continue;
		}
		if (r->op == RULE_MATCH) {
			*pos = i + 1;
			return rule_answer(t, r, key, value, ret_line);
		}
	}
	*pos = t->n;
	return TABLE_NOT_FOUND;
}

/* -- checks at load ------------------------------------------------------ */

static void
patterns_each(void *data,
    void (*fn)(struct view result, unsigned line, void *arg), void *arg)
{
	/* Passes for an address, a header, and transport:nexthop. */
	const struct view sample = view_of("x@x:x");
	const struct patterns *t = data;
	struct buf b;

	/* "$1" grows from two bytes to five. */
	buf_init(&b, 3 * TABLE_LINE_MAX);
	for (size_t i = 0; i < t->n; i++) {
		const struct rule *r = &t->list[i];

		if (r->op != RULE_MATCH)
			continue;
		buf_clear(&b);
		ensure(pattern_result_sample(r->result, sample, &b));
		fn(buf_view(&b), r->line, arg);
	}
	buf_free(&b);
}

static bool
patterns_samples(void *data, struct table_loader *l)
{
	struct patterns *t = data;

	for (size_t i = 0; i < t->n_samples; i++) {
		const struct sample *s = &t->samples[i];
		struct rule *r;

		if (s->rule == NO_RULE) {
			table_complain(l, s->line, true,
			    "no rule follows this sample");
			continue;
		}
		r = &t->list[s->rule];
		if (rule_holds(t, r, view_make(s->text, s->n)) != s->match)
			table_complain(l, s->line, true, "this sample %s the "
			    "rule on line %u", s->match ? "does not match" :
			    "should pass, but matches", r->line);
	}
	return l->errors == 0;
}

static int
line_compare(const void *line, const void *rule)
{
	unsigned a = *(const unsigned *)line;
	unsigned b = ((const struct rule *)rule)->line;

	return (a > b) - (a < b);
}

static uint64_t
patterns_row_hash(void *data, unsigned line)
{
	const struct patterns *t = data;
	const struct rule *r = t->n == 0 ? NULL : bsearch(&line, t->list,
	    t->n, sizeof(*r), line_compare);

	return r != NULL ? r->hash : 0;
}

/* "/pattern/flags result" */
static struct view
patterns_line_result(struct view text)
{
	const struct view none = view_make("", 0);
	char delimiter;
	size_t i;

	do {
		(void)table_negation(&text);
		if (text.n == 0 || isalnum((unsigned char)text.p[0]))
			return none;
		delimiter = text.p[0];
		for (i = 1; i < text.n && text.p[i] != delimiter; )
			i += text.p[i] == '\\' ? 2 : 1;
		text = view_from(text, i + 1);
		for (i = 0; i < text.n && !view_space(text.p[i]) &&
		    text.p[i] != '!'; i++)
			;
		text = view_from(text, i);
	} while (text.n > 0 && text.p[0] == '!');
	return view_trim(text);
}

static uint64_t
patterns_limit_hits(void *data)
{
	const struct patterns *t = data;

	return t->limit_hits;
}

const struct table_kind table_regexp = {
	.type = "regexp", .pattern = true, .source = true,
	.load = patterns_load, .release = patterns_release,
	.find = patterns_find, .each = patterns_each,
	.samples = patterns_samples, .limit_hits = patterns_limit_hits,
	.row_hash = patterns_row_hash, .line_result = patterns_line_result
};

const struct table_kind table_pcre = {
	.type = "pcre", .pattern = true, .source = true,
	.load = patterns_load, .release = patterns_release,
	.find = patterns_find, .each = patterns_each,
	.samples = patterns_samples, .limit_hits = patterns_limit_hits,
	.row_hash = patterns_row_hash, .line_result = patterns_line_result
};
