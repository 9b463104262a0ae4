/* Judgements for several classes of recipients become one. */
#include "filters/pmilter.h"

struct part {
	struct judgement j;
	uint32_t *rcpts;
	uint32_t n;
};

/* Parts are what rule sets make; more than that are none of ours. */
#define PARTS_MAX	64u

/* REJECT, a try later after it; HOLD; what goes on; DISCARD is for its own. */
static unsigned
strictness(const struct judgement *j)
{
	switch ((int)j->verdict.action) {
	case ACTION_REJECT:
		return j->verdict.code >= 500 ? 4 : 3;
	case ACTION_HOLD:
		return 2;
	case ACTION_DISCARD:
		return 0;
	default:
		return 1;
	}
}

static uint64_t
removed(const struct judgement *j)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; i < j->edits.n; i++)
		n += j->edits.list[i].remove;
	return n;
}

/* Of two that are as strict, the one that takes more away. */
static bool
stricter(const struct judgement *a, const struct judgement *b)
{
	unsigned sa = strictness(a), sb = strictness(b);

	return sa != sb ? sa > sb : removed(a) > removed(b);
}

static bool
part_get(struct cursor *c, uint32_t nrcpts, uint64_t text_size, bool *seen,
    struct arena *a, struct part *ret)
{
	uint32_t i;

	ret->n = cursor_u32(c);
	if (c->bad || ret->n > nrcpts || ret->n > cursor_left(c) / 4)
		return false;
	ret->rcpts = arena_alloc(a, (ret->n + 1u) * sizeof *ret->rcpts);
	for (i = 0; i < ret->n; i++) {
		ret->rcpts[i] = cursor_u32(c);
		if (ret->rcpts[i] >= nrcpts || seen[ret->rcpts[i]])
			return false;
		seen[ret->rcpts[i]] = true;
	}
	return judgement_get(cursor_view(c), text_size, a, &ret->j);
}

static void
merge_drop(const struct part *p, struct pmilter_answer *ret)
{
	uint32_t i;

	for (i = 0; i < p->n; i++)
		ret->drop[ret->n_drop++] = p->rcpts[i];
}

static void
merge_bcc(const struct judgement *j, struct judgement *ret)
{
	uint32_t i, k;

	for (i = 0; i < j->n_bcc && ret->n_bcc < JUDGEMENT_BCC_MAX; i++) {
		for (k = 0; k < ret->n_bcc; k++)
			if (view_eq_nocase(ret->bcc[k], j->bcc[i]))
				break;
		if (k == ret->n_bcc)
			ret->bcc[ret->n_bcc++] = j->bcc[i];
	}
}

static bool
same(const struct judgement *a, const struct judgement *b)
{
	return a->verdict.action == b->verdict.action &&
	    removed(a) == removed(b) && a->edits.n == b->edits.n &&
	    view_eq(a->redirect, b->redirect);
}

bool
pmilter_merge(struct view parts, uint32_t n, uint32_t nrcpts,
    uint64_t text_size, struct arena *a, struct pmilter_answer *ret)
{
	bool *seen = arena_alloc(a, (nrcpts + 1u) * sizeof *seen);
	struct cursor c = cursor_of(parts);
	uint32_t i, best = 0, counted = 0;
	struct part list[PARTS_MAX];

	if (n == 0 || n > PARTS_MAX)
		return false;
	memset(seen, 0, nrcpts + 1u);
	for (i = 0; i < n; i++) {
		if (!part_get(&c, nrcpts, text_size, seen, a, &list[i]))
			return false;
		counted += list[i].n;
		if (i > 0 && stricter(&list[i].j, &list[best].j))
			best = i;
	}
	if (!cursor_done(&c) || counted != (n == 1 ? 0 : nrcpts))
		return false;
	*ret = (struct pmilter_answer){ .j = list[best].j,
		.drop = arena_alloc(a, (nrcpts + 1u) * sizeof *ret->drop) };
	for (i = 0; i < n; i++) {
		ret->mixed = ret->mixed || !same(&list[i].j, &ret->j);
		if (i == best || list[i].j.verdict.action == ACTION_REJECT)
			continue;
		if (list[i].j.verdict.action == ACTION_DISCARD)
			merge_drop(&list[i], ret);
		else
			merge_bcc(&list[i].j, &ret->j);
	}
	return true;
}
