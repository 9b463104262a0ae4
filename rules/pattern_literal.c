#include <ctype.h>

#include "rules/pattern_literal.h"

/* While they are put together they may be longer. */
#define STRING_MAX	24u
/* A set of more bytes than this ends a string. */
#define SET_MAX		5u
/* Further copies of what is repeated say nothing new. */
#define COPIES_MAX	4u
/*
 * How probable at one place in a text is a list that is still worth it: one
 * in about seven lines.
 */
#define COST_MAX	(1.0 / 512)
/*
 * What searching for one more string costs, in the same measure: 10,000 more
 * take 300 ns for a line of 76 bytes, a pattern that is asked in vain up to
 * 2,000, because it is in no cache.
 */
#define COST_EACH	(1.0 / 1e5)
/* As rare as this, a list needs no second one. */
#define COST_RARE	(1.0 / 1e8)
/* And more strings than these it may not have. */
#define SECOND_MAX	8u

struct string {
	unsigned char n;
	bool nocase;
	char p[STRING_MAX];
};

struct strings {
	size_t n;
	struct string list[LITERALS_MAX];
};

/* It has at least one of these in it. */
struct need {
	double cost;		/* COST_NONE: there is no list */
	struct strings of;
};

#define COST_NONE	2.0

/* What is known of a part of the pattern. */
struct part {
	bool exact;		/* it matches these strings only */
	struct strings all;
	struct string run;	/* the end that they share, about */
	struct need one, two;	/* one is the better */
};

static void part_of(const struct pattern_node *n, struct part *ret);

/* -- lists of strings ---------------------------------------------------- */

static bool
strings_add(struct strings *l, const struct string *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->list[i].n == s->n && l->list[i].nocase == s->nocase &&
		    memcmp(l->list[i].p, s->p, s->n) == 0)
			return true;
	if (l->n == LITERALS_MAX)
		return false;
	l->list[l->n++] = *s;
	return true;
}

/* False: too many; l is spoilt. */
static bool
strings_union(struct strings *l, const struct strings *more)
{
	for (size_t i = 0; i < more->n; i++)
		if (!strings_add(l, &more->list[i]))
			return false;
	return true;
}

/* The empty string only. */
static void
strings_empty(struct strings *l)
{
	l->n = 1;
	l->list[0].n = 0;
	l->list[0].nocase = false;
}

static bool
string_join(struct string *a, const struct string *b)
{
	if (a->n + b->n > (int)STRING_MAX)
		return false;
	memcpy(a->p + a->n, b->p, b->n);
	a->n = (unsigned char)(a->n + b->n);
	a->nocase = a->nocase || b->nocase;
	return true;
}

static void
strings_copy(struct strings *to, const struct strings *from)
{
	to->n = from->n;
	memcpy(to->list, from->list, from->n * sizeof(from->list[0]));
}

/* Each of l followed by s; false: too long, and l is as it was. */
static bool
strings_append(struct strings *l, const struct string *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->list[i].n + s->n > (int)STRING_MAX)
			return false;
	for (size_t i = 0; i < l->n; i++)
		(void)string_join(&l->list[i], s);
	return true;
}

/* Each of l followed by each of more; false: too many, or too long. */
static bool
strings_product(struct strings *l, const struct strings *more)
{
	struct strings out;

	if (more->n == 1)
		return strings_append(l, &more->list[0]);
	if (l->n * more->n > LITERALS_MAX)
		return false;
	out.n = 0;
	for (size_t i = 0; i < l->n; i++)
		for (size_t k = 0; k < more->n; k++) {
			struct string s = l->list[i];

			if (!string_join(&s, &more->list[k]) ||
			    !strings_add(&out, &s))
				return false;
		}
	strings_copy(l, &out);
	return true;
}

/* -- which list is the best ---------------------------------------------- */

/* How probable a byte is, about, in mail: one in so many. */
static double
byte_share(unsigned char c, bool nocase)
{
	if (c == ' ' || c == '\n' || c == '\r')
		return 6;
	if (islower(c) || isupper(c))
		return strchr("etaoinsrhl", tolower(c)) != NULL ? 12 :
		    nocase ? 24 : 32;
	if (isdigit(c))
		return 24;
	return 48;
}

/* Letters come in words: those that many others precede tell little. */
static double
string_share(const struct string *s)
{
	unsigned letters = 0;
	double p = 1;

	for (size_t k = 0; k < s->n && k < LITERAL_BYTES_MAX; k++) {
		unsigned char c = (unsigned char)s->p[k];

		letters = isalpha(c) ? letters + 1 : 0;
		p /= letters > 4 ? 1.25 : byte_share(c, s->nocase);
	}
	return p;
}

/* Without what it takes to search for them. */
static double
strings_share(const struct strings *l)
{
	double p = 0;

	for (size_t i = 0; i < l->n; i++) {
		if (l->list[i].n == 0)
			return COST_NONE;
		p += string_share(&l->list[i]);
	}
	return p;
}

static double
strings_cost(const struct strings *l)
{
	return strings_share(l) + (double)l->n * COST_EACH;
}

static bool
string_has(const struct string *s, const struct string *in)
{
	for (size_t i = 0; i + in->n <= s->n; i++)
		if (strncasecmp(s->p + i, in->p, in->n) == 0)
			return true;
	return false;
}

static bool
strings_imply(const struct strings *l, const struct strings *other)
{
	for (size_t i = 0; i < l->n; i++) {
		size_t k = 0;

		while (k < other->n && !string_has(&l->list[i],
		    &other->list[k]))
			k++;
		if (k == other->n)
			return false;
	}
	return true;
}

/* Would both together tell no more than one of them? */
static bool
strings_related(const struct strings *a, const struct strings *b)
{
	return strings_imply(a, b) || strings_imply(b, a);
}

static void
part_offer(struct part *p, const struct strings *l, double cost)
{
	bool related;

	if (cost >= COST_NONE || cost >= p->two.cost)
		return;
	related = p->one.cost < COST_NONE && strings_related(l, &p->one.of);
	if (cost >= p->one.cost) {
		if (related)
			return;
		strings_copy(&p->two.of, l);
		p->two.cost = cost;
		return;
	}
	if (!related && p->one.cost < COST_NONE) {
		strings_copy(&p->two.of, &p->one.of);
		p->two.cost = p->one.cost;
	} else if (p->two.cost < COST_NONE &&
	    strings_related(l, &p->two.of)) {
		p->two.cost = COST_NONE;
	}
	strings_copy(&p->one.of, l);
	p->one.cost = cost;
}

static void
part_no_needs(struct part *p)
{
	p->one.cost = p->two.cost = COST_NONE;
	p->one.of.n = p->two.of.n = 0;
}

/* -- parts --------------------------------------------------------------- */

/*
 * While a sequence is read, all is what ends where the reader stands; so is
 * run, but it has only come past pieces of a single string.
 */
static void
part_begin(struct part *p)
{
	p->exact = true;
	part_no_needs(p);
	strings_empty(&p->all);
	p->run.n = 0;
	p->run.nocase = false;
}

static void
offer_run(struct part *p)
{
	struct strings l;

	l.n = 1;
	l.list[0] = p->run;
	part_offer(p, &l, strings_cost(&l));
	p->run.n = 0;
	p->run.nocase = false;
}

static void
part_flush(struct part *p)
{
	part_offer(p, &p->all, strings_cost(&p->all));
	offer_run(p);
	p->exact = false;
}

/* Any text comes here. */
static void
part_break(struct part *p)
{
	part_flush(p);
	strings_empty(&p->all);
}

static void
append_run(struct part *p, const struct strings *next)
{
	if (next->n == 1 && string_join(&p->run, &next->list[0]))
		return;
	offer_run(p);
	if (next->n == 1)
		p->run = next->list[0];
}

static void
part_append(struct part *p, const struct part *next)
{
	if (next->exact) {
		append_run(p, &next->all);
		if (!strings_product(&p->all, &next->all)) {
			part_offer(p, &p->all, strings_cost(&p->all));
			strings_copy(&p->all, &next->all);
			p->exact = false;
		}
	} else {
		part_break(p);
	}
	part_offer(p, &next->one.of, next->one.cost);
	part_offer(p, &next->two.of, next->two.cost);
}

static void
append_repeat(struct part *p, const struct pattern_node *n)
{
	struct part child;
	struct string empty = { .n = 0 };
	uint32_t copies = n->min < COPIES_MAX ? n->min : COPIES_MAX;

	if (n->max == 0)
		return;
	part_of(n->child, &child);
	if (n->min == 0 && n->max == 1 && child.exact &&
	    strings_add(&child.all, &empty)) {
		/* Nor has it to have anything in it. */
		part_no_needs(&child);
		part_append(p, &child);
		return;
	}
	for (uint32_t i = 0; i < copies; i++)
		part_append(p, &child);
	if (copies == n->max)
		return;
	part_break(p);
	/* The last copy stands before what comes next. */
	if (n->min > 0 && child.exact) {
		strings_copy(&p->all, &child.all);
		append_run(p, &child.all);
	}
}

/* Also what is a set of one. */
static void
append_string(struct part *p, const struct string *s)
{
	if (p->run.n + s->n > (int)STRING_MAX)
		offer_run(p);
	(void)string_join(&p->run, s);
	if (strings_append(&p->all, s))
		return;
	part_offer(p, &p->all, strings_cost(&p->all));
	p->all.n = 1;
	p->all.list[0] = *s;
	p->exact = false;
}

/* A letter in both cases counts as one byte. */
static void
append_set(struct part *p, const struct pattern_node *n)
{
	struct strings l;
	struct part set;

	l.n = 0;
	for (unsigned w = 0; w < 4; w++)
		for (uint64_t m = n->set[w]; m != 0; m &= m - 1) {
			unsigned c = 64 * w + (unsigned)__builtin_ctzll(m);
			bool both = c < 0x80 && isalpha((int)c) &&
			    node_has(n, c ^ 0x20);
			const struct string s = { 1, both, { (char)c } };

			if (both && isupper((int)c))
				continue;
			if (l.n == SET_MAX) {
				part_break(p);
				return;
			}
			l.list[l.n++] = s;
		}
	if (l.n == 1) {
		append_string(p, &l.list[0]);
		return;
	}
	set.exact = true;
	part_no_needs(&set);
	strings_copy(&set.all, &l);
	part_append(p, &set);
}

static void
append_choice(struct part *p, const struct pattern_node *n)
{
	struct part all, branch;
	bool some = true;

	part_begin(&all);
	all.all.n = 0;
	for (const struct pattern_node *b = n->child; b != NULL; b = b->next) {
		part_of(b, &branch);
		all.exact = all.exact && branch.exact &&
		    strings_union(&all.all, &branch.all);
		if (branch.exact)
			part_offer(&branch, &branch.all,
			    strings_cost(&branch.all));
		some = some && branch.one.cost < COST_NONE &&
		    strings_union(&all.one.of, &branch.one.of);
	}
	if (some)
		all.one.cost = strings_cost(&all.one.of);
	part_append(p, &all);
}

static void
append_node(struct part *p, const struct pattern_node *n)
{
	switch (n->kind) {
	case NODE_TEXT:
		part_break(p);
		break;
	case NODE_SET:
		append_set(p, n);
		break;
	case NODE_SEQUENCE:
		for (n = n->child; n != NULL; n = n->next)
			append_node(p, n);
		break;
	case NODE_CHOICE:
		append_choice(p, n);
		break;
	case NODE_REPEAT:
		append_repeat(p, n);
		break;
	}
}

static void
part_of(const struct pattern_node *n, struct part *ret)
{
	part_begin(ret);
	append_node(ret, n);
	if (!ret->exact)
		part_flush(ret);
}

/* -- the whole ----------------------------------------------------------- */

static void
literals_put(const struct strings *from, struct literals *ret)
{
	ret->n = from->n;
	for (size_t i = 0; i < from->n; i++) {
		const struct string *s = &from->list[i];
		struct literal *l = &ret->list[i];

		l->n = s->n < LITERAL_BYTES_MAX ? s->n :
		    (unsigned char)LITERAL_BYTES_MAX;
		l->nocase = s->nocase;
		for (size_t k = 0; k < l->n; k++)
			l->p[k] = l->nocase ?
			    (char)tolower((unsigned char)s->p[k]) : s->p[k];
	}
}

bool
pattern_needs(const struct pattern_node *tree, struct needs *ret)
{
	struct part p;

	part_of(tree, &p);
	part_flush(&p);
	if (p.one.cost > COST_MAX)
		return false;
	ret->n = 1;
	literals_put(&p.one.of, &ret->of[0]);
	if (p.two.of.n <= SECOND_MAX && p.two.cost <= COST_MAX &&
	    strings_share(&p.one.of) > COST_RARE) {
		ret->n = 2;
		literals_put(&p.two.of, &ret->of[1]);
	}
	return true;
}
