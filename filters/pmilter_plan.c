#include "filters/pmilter_plan.h"

/* Edits add at most their bytes of header lines; more is not believed. */
#define STEPS_MAX	20000u

struct planning {
	const struct pmilter_text *t;
	struct view head;
	const struct edits *e;
	uint32_t edit;		/* the next one */
	struct arena *a;
	struct plan *p;
};

/* A header line, folded or not, of a changed part. */
struct unit {
	struct view text;	/* with line end */
	struct view name;
};

static uint64_t
header_end(const struct planning *g, uint32_t i)
{
	return g->t->headers[i].offset + g->t->headers[i].size;
}

static struct view
header_text(const struct planning *g, uint32_t i)
{
	return view_make(g->head.p + g->t->headers[i].offset,
	    (size_t)g->t->headers[i].size);
}

static struct view
header_name(const struct planning *g, uint32_t i)
{
	return view_head(header_text(g, i), g->t->headers[i].name);
}

/* In front of header i. */
static struct plan_step
step_insert(const struct planning *g, uint32_t i)
{
	return (struct plan_step){ .at = i > g->t->own ? i - g->t->own : 0,
		.kind = i < g->t->own ? STEP_TOP : STEP_INSERT };
}

static uint32_t
header_nth(const struct planning *g, uint32_t i)
{
	struct view name = header_name(g, i);
	uint32_t k, n = 1;

	for (k = g->t->own; k < i; k++)
		n += view_eq_nocase(header_name(g, k), name);
	return n;
}

static bool
step_add(struct planning *g, struct plan_step s)
{
	if (g->p->n == STEPS_MAX)
		return false;
	g->p->steps[g->p->n++] = s;
	return true;
}

/* The next header line of *rest.  False: it is none. */
static bool
unit_next(struct view *rest, struct unit *ret)
{
	size_t n = view_find(*rest, '\n') + 1, i;

	while (n < rest->n && (rest->p[n] == ' ' || rest->p[n] == '\t'))
		n += view_find(view_from(*rest, n), '\n') + 1;
	ret->text = view_head(*rest, n);
	*rest = view_from(*rest, n);
	ret->name = view_head(ret->text, view_find(ret->text, ':'));
	for (i = 0; i < ret->name.n; i++)
		if (ret->name.p[i] <= ' ' || ret->name.p[i] > '~')
			return false;
	return ret->name.n > 0 && ret->name.n < ret->text.n;
}

static struct view
unit_value(struct unit u)
{
	struct view v = view_from(u.text, u.name.n + 1);

	if (v.n > 0 && v.p[v.n - 1] == '\n')
		v.n--;
	if (v.n > 0 && v.p[v.n - 1] == '\r')
		v.n--;
	return v;
}

static bool
step_add_unit(struct planning *g, struct plan_step s, struct unit u)
{
	s.name = u.name;
	s.value = unit_value(u);
	return step_add(g, s);
}

/* The bytes from..to of the headers with the edits that begin there. */
static struct view
planned_text(struct planning *g, uint64_t from, uint64_t to)
{
	uint64_t size = to - from, pos = from;
	const struct edit *e;
	char *text, *p;
	uint32_t i;

	for (i = g->edit; i < g->e->n && g->e->list[i].offset < to; i++)
		size += g->e->list[i].insert.n;
	p = text = arena_alloc(g->a, (size_t)size + 1);
	for (; g->edit < i; g->edit++) {
		e = &g->e->list[g->edit];
		memcpy(p, g->head.p + pos, (size_t)(e->offset - pos));
		p += e->offset - pos;
		if (e->insert.n > 0)
			memcpy(p, e->insert.p, e->insert.n);
		p += e->insert.n;
		pos = e->offset + e->remove;
	}
	memcpy(p, g->head.p + pos, (size_t)(to - pos));
	p += to - pos;
	return view_make(text, (size_t)(p - text));
}

/* Where in text header `one` still is: the same line at the end, or else the
 * last one of that name; text.n: nowhere. */
static bool
plan_find(const struct planning *g, uint32_t one, struct view text,
    size_t *ret)
{
	struct view rest = text, was = header_text(g, one);
	size_t at = text.n;
	struct unit u;

	while (rest.n > 0) {
		if (view_eq(rest, was)) {
			at = text.n - rest.n;
			break;
		}
		if (!unit_next(&rest, &u))
			return false;
		if (view_eq_nocase(u.name, header_name(g, one)))
			at = text.n - rest.n - u.text.n;
	}
	*ret = at;
	return true;
}

/*
 * Header `one` became text: the line that is still it, and others before and
 * behind it.  In reverse, as plan_reverse() expects it.
 */
static bool
plan_one(struct planning *g, uint32_t one, struct view text)
{
	struct view rest = text, was = header_text(g, one);
	struct plan_step put = step_insert(g, one);
	uint32_t nth = header_nth(g, one);
	struct unit u;
	size_t same;

	if (!plan_find(g, one, text, &same))
		return false;
	if (same == text.n && !step_add(g, (struct plan_step){
		.kind = STEP_DELETE, .at = nth,
		.name = header_name(g, one) }))
		return false;
	while (rest.n > 0) {
		if (text.n - rest.n == same) {
			put = step_insert(g, one + 1);
			if (view_eq(rest, was))
				break;
			if (!unit_next(&rest, &u) || !step_add_unit(g,
			    (struct plan_step){ STEP_CHANGE, .at = nth }, u))
				return false;
		} else if (!unit_next(&rest, &u) ||
		    !step_add_unit(g, put, u))
			return false;
	}
	return true;
}

/* Headers first..last became text. */
static bool
plan_several(struct planning *g, uint32_t first, uint32_t last,
    struct view text)
{
	struct unit u;
	bool ok = true;
	uint32_t i;

	while (ok && text.n > 0)
		ok = unit_next(&text, &u) &&
		    step_add_unit(g, step_insert(g, first), u);
	for (i = first > g->t->own ? first : g->t->own; ok && i <= last; i++)
		ok = step_add(g, (struct plan_step){ .kind = STEP_DELETE,
			.at = header_nth(g, i), .name = header_name(g, i) });
	return ok;
}

static bool
plan_from(struct planning *g, uint32_t *i)
{
	uint64_t from = g->t->headers[*i].offset, to = header_end(g, *i);
	uint32_t first = *i, k;
	const struct edit *e;
	struct view text;

	for (k = g->edit; k < g->e->n && g->e->list[k].offset < to; k++) {
		e = &g->e->list[k];
		while (e->offset + e->remove > to) {
			if (++*i == g->t->n)
				return false;
			to = header_end(g, *i);
		}
	}
	if (k == g->edit && first >= g->t->own)
		return true;
	text = planned_text(g, from, to);
	/* It would run into the next line. */
	if (text.n > 0 && text.p[text.n - 1] != '\n')
		return false;
	return *i == first && first >= g->t->own ? plan_one(g, first, text) :
	    plan_several(g, first, *i, text);
}

/* What is put behind the last header, or changed further down. */
static bool
plan_rest(struct planning *g)
{
	const struct edit *e;
	struct view text;
	struct unit u;

	for (; g->edit < g->e->n; g->edit++) {
		e = &g->e->list[g->edit];
		if (e->offset >= g->head.n + 2) {
			g->p->body = true;
			return true;
		}
		/* The empty line stays where it is. */
		if (e->offset > g->head.n || e->remove > 0)
			return false;
		text = e->insert;
		if (text.n > 0 && text.p[text.n - 1] != '\n')
			return false;
		while (text.n > 0)
			if (!unit_next(&text, &u) || !step_add_unit(g,
			    step_insert(g, g->t->n), u))
				return false;
	}
	return true;
}

static void
plan_reverse(struct plan *p)
{
	struct plan_step s;
	uint32_t i;

	for (i = 0; i < p->n / 2; i++) {
		s = p->steps[i];
		p->steps[i] = p->steps[p->n - 1 - i];
		p->steps[p->n - 1 - i] = s;
	}
}

bool
pmilter_plan(const struct pmilter_text *t, struct view head,
    const struct edits *e, struct arena *a, struct plan *ret)
{
	struct planning g = { t, head, e, 0, a, ret };
	uint32_t i;

	*ret = (struct plan){ .steps = arena_alloc(a, STEPS_MAX *
	    sizeof *ret->steps) };
	for (i = 0; i < t->n; i++)
		if (!plan_from(&g, &i))
			return false;
	if (!plan_rest(&g))
		return false;
	plan_reverse(ret);
	return true;
}
