#include <string.h>

#include "rules/pattern_need.h"

/* Further copies of what is repeated say nothing new. */
#define COPIES_MAX	4u
/*
 * What a list may cost at one place in a text (window_cost: 1 is to ask the
 * pattern) to be still worth it: it would be asked for every seventh line.
 */
#define COST_MAX	(1.0f / 512)
/* And one that is looked for only where the first was found. */
#define COST_MORE_MAX	(1.0f / 128)

/* It has at least one of these in it. */
struct need {
	float cost;
	struct windows of;
};

/* What is known of a part of the pattern. */
struct part {
	struct byte_classes *classes;
	bool exact;		/* it matches these windows only */
	struct windows all;
	struct window run;	/* the end that they share, about */
	size_t n;
	struct need need[NEEDS_MAX];	/* the best first */
};

static void part_of(const struct pattern_node *n, struct byte_classes *c,
    struct part *ret);

/* -- lists of windows ---------------------------------------------------- */

static bool
window_equal(const struct window *a, const struct window *b)
{
	return a->n == b->n && memcmp(a->class, b->class, a->n) == 0;
}

static bool
windows_add(struct windows *l, const struct window *w)
{
	for (size_t i = 0; i < l->n; i++)
		if (window_equal(&l->list[i], w))
			return true;
	if (l->n == WINDOWS_MAX)
		return false;
	l->list[l->n++] = *w;
	return true;
}

/* False: too many; l is spoilt. */
static bool
windows_union(struct windows *l, const struct windows *more)
{
	for (size_t i = 0; i < more->n; i++)
		if (!windows_add(l, &more->list[i]))
			return false;
	return true;
}

/* The empty one only. */
static void
windows_empty(struct windows *l)
{
	l->n = 1;
	l->list[0].n = 0;
}

static bool
window_join(struct window *a, const struct window *b)
{
	if (a->n + b->n > (int)WINDOW_BYTES_MAX)
		return false;
	memcpy(a->class + a->n, b->class, b->n);
	a->n = (uint8_t)(a->n + b->n);
	return true;
}

static void
windows_copy(struct windows *to, const struct windows *from)
{
	to->n = from->n;
	memcpy(to->list, from->list, from->n * sizeof(from->list[0]));
}

/* Each of l followed by w; false: too long, and l is as it was. */
static bool
windows_append(struct windows *l, const struct window *w)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->list[i].n + w->n > (int)WINDOW_BYTES_MAX)
			return false;
	for (size_t i = 0; i < l->n; i++)
		(void)window_join(&l->list[i], w);
	return true;
}

/* Each of l followed by each of more; false: too many, or too long. */
static bool
windows_product(struct windows *l, const struct windows *more)
{
	struct windows out;

	if (more->n == 1)
		return windows_append(l, &more->list[0]);
	if (l->n * more->n > WINDOWS_MAX)
		return false;
	out.n = 0;
	for (size_t i = 0; i < l->n; i++)
		for (size_t k = 0; k < more->n; k++) {
			struct window w = l->list[i];

			if (!window_join(&w, &more->list[k]) ||
			    !windows_add(&out, &w))
				return false;
		}
	windows_copy(l, &out);
	return true;
}

/* -- which list is the best ---------------------------------------------- */

/* Without those that have another one in them. */
static void
windows_reduce(const struct byte_classes *c, const struct windows *l,
    struct windows *ret)
{
	ret->n = 0;
	for (size_t i = 0; i < l->n; i++) {
		size_t k = 0;

		while (k < l->n && (k == i || l->list[k].n >= l->list[i].n ||
		    !window_implies(&l->list[i], &l->list[k], c)))
			k++;
		if (k == l->n)
			ret->list[ret->n++] = l->list[i];
	}
}

/* Also chooses what is searched for. */
static bool
need_make(const struct byte_classes *c, const struct windows *l,
    struct need *ret)
{
	struct window_cost w;

	ret->cost = 0;
	windows_reduce(c, l, &ret->of);
	for (size_t i = 0; i < ret->of.n; i++) {
		if (!window_choose(&ret->of.list[i], c, &w))
			return false;
		ret->cost += w.share + w.search;
	}
	return l->n > 0;
}

static bool
windows_imply(const struct byte_classes *c, const struct windows *l,
    const struct windows *other)
{
	for (size_t i = 0; i < l->n; i++) {
		size_t k = 0;

		while (k < other->n && !window_implies(&l->list[i],
		    &other->list[k], c))
			k++;
		if (k == other->n)
			return false;
	}
	return true;
}

/* Would both together tell no more than one of them? */
static bool
related(const struct byte_classes *c, const struct need *a,
    const struct need *b)
{
	return windows_imply(c, &a->of, &b->of) ||
	    windows_imply(c, &b->of, &a->of);
}

static void
need_copy(struct need *to, const struct need *from)
{
	to->cost = from->cost;
	windows_copy(&to->of, &from->of);
}

/* Behind those that are better; without those that say the same. */
static void
offer_need(struct part *p, const struct need *n)
{
	size_t at = 0, end;

	while (at < p->n && p->need[at].cost <= n->cost)
		if (related(p->classes, n, &p->need[at++]))
			return;
	if (at == NEEDS_MAX)
		return;
	end = at;
	for (size_t i = at; i < p->n; i++)
		if (!related(p->classes, n, &p->need[i])) {
			if (end != i)
				need_copy(&p->need[end], &p->need[i]);
			end++;
		}
	p->n = end < NEEDS_MAX ? end + 1 : NEEDS_MAX;
	for (size_t i = p->n - 1; i > at; i--)
		need_copy(&p->need[i], &p->need[i - 1]);
	need_copy(&p->need[at], n);
}

static void
offer(struct part *p, const struct windows *l)
{
	struct need n;

	if (need_make(p->classes, l, &n))
		offer_need(p, &n);
}

/* -- parts --------------------------------------------------------------- */

/*
 * While a sequence is read, all is what ends where the reader stands; so is
 * run, but it has only come past pieces of a single window.
 */
static void
part_begin(struct part *p, struct byte_classes *c)
{
	p->classes = c;
	p->exact = true;
	p->n = 0;
	windows_empty(&p->all);
	p->run.n = 0;
}

static void
part_exactly(struct part *p, struct byte_classes *c, const struct windows *l)
{
	part_begin(p, c);
	windows_copy(&p->all, l);
}

static void
offer_run(struct part *p)
{
	struct windows l;

	/* It is what is offered anyway. */
	if (p->all.n == 1 && window_equal(&p->all.list[0], &p->run))
		return;
	l.n = 1;
	l.list[0] = p->run;
	offer(p, &l);
}

static void
part_flush(struct part *p)
{
	offer_run(p);
	offer(p, &p->all);
	p->run.n = 0;
	p->exact = false;
}

/* Any text comes here. */
static void
part_break(struct part *p)
{
	part_flush(p);
	windows_empty(&p->all);
}

static void
append_run(struct part *p, const struct windows *next)
{
	if (next->n == 1 && window_join(&p->run, &next->list[0]))
		return;
	offer_run(p);
	p->run.n = 0;
	if (next->n == 1)
		p->run = next->list[0];
}

static void
append_windows(struct part *p, const struct windows *next)
{
	append_run(p, next);
	/* More of them may cost more than they tell. */
	if (next->n > 1)
		offer(p, &p->all);
	if (windows_product(&p->all, next))
		return;
	offer(p, &p->all);
	windows_copy(&p->all, next);
	p->exact = false;
}

static void
part_append(struct part *p, const struct part *next)
{
	if (next->exact)
		append_windows(p, &next->all);
	else
		part_break(p);
	for (size_t i = 0; i < next->n; i++)
		offer_need(p, &next->need[i]);
}

static void
append_set(struct part *p, const struct pattern_node *n)
{
	struct windows l = { .n = 1 };

	l.list[0].n = 1;
	l.list[0].class[0] = byte_class_number(p->classes, n->set);
	append_windows(p, &l);
}

static void
append_repeat(struct part *p, const struct pattern_node *n)
{
	struct part child;
	uint32_t copies = n->min < COPIES_MAX ? n->min : COPIES_MAX;

	if (n->max == 0)
		return;
	part_of(n->child, p->classes, &child);
	if (n->min == 0 && n->max == 1 && child.exact) {
		const struct window empty = { .n = 0 };
		struct part maybe;

		part_exactly(&maybe, p->classes, &child.all);
		if (windows_add(&maybe.all, &empty)) {
			part_append(p, &maybe);
			return;
		}
	}
	for (uint32_t i = 0; i < copies; i++)
		part_append(p, &child);
	if (copies == n->max)
		return;
	part_break(p);
	/* The last copy stands before what comes next. */
	if (n->min > 0 && child.exact) {
		windows_copy(&p->all, &child.all);
		append_run(p, &child.all);
	}
}

static void
append_choice(struct part *p, const struct pattern_node *n)
{
	struct part all, branch;
	struct windows needed = { .n = 0 };
	bool some = true;

	part_begin(&all, p->classes);
	all.all.n = 0;
	for (const struct pattern_node *b = n->child; b != NULL; b = b->next) {
		part_of(b, p->classes, &branch);
		all.exact = all.exact && branch.exact &&
		    windows_union(&all.all, &branch.all);
		if (branch.exact)
			offer(&branch, &branch.all);
		some = some && branch.n > 0 &&
		    windows_union(&needed, &branch.need[0].of);
	}
	if (some)
		offer(&all, &needed);
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
part_of(const struct pattern_node *n, struct byte_classes *c,
    struct part *ret)
{
	part_begin(ret, c);
	append_node(ret, n);
	if (!ret->exact)
		part_flush(ret);
}

/* -- the whole ----------------------------------------------------------- */

bool
pattern_needs(const struct pattern_node *tree, struct byte_classes *c,
    struct needs *ret)
{
	struct part p;

	part_of(tree, c, &p);
	part_flush(&p);
	if (p.n == 0 || p.need[0].cost > COST_MAX)
		return false;
	for (ret->n = 0; ret->n < p.n && p.need[ret->n].cost <= COST_MORE_MAX;
	    ret->n++)
		windows_copy(&ret->of[ret->n], &p.need[ret->n].of);
	return true;
}
