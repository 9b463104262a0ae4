#include "rules/policy_actions.h"

/* Whether list has it. */
static bool
actions_have(const struct view *list, uint32_t n, struct view what)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (view_eq(list[i], what))
			return true;
	return false;
}

static bool
actions_fit(const struct view *list, uint32_t n, const struct view *more,
    uint32_t n_more)
{
	uint32_t i, added = 0;

	for (i = 0; i < n_more; i++)
		if (!actions_have(list, n, more[i]))
			added++;
	return n + added <= POLICY_LIST_MAX;
}

static void
actions_list(struct arena *arena, struct view *list, uint32_t *n,
    const struct view *more, uint32_t n_more)
{
	uint32_t i;

	for (i = 0; i < n_more; i++)
		if (!actions_have(list, *n, more[i]))
			list[(*n)++] = arena_copy(arena, more[i]);
}

bool
policy_actions_add(struct policy_actions **to, struct arena *arena,
    const struct policy_result *r)
{
	struct policy_actions *a;

	if (!r->hold && !r->discard && r->redirect.n == 0 &&
	    r->filter.n == 0 && r->n_bcc == 0 && r->n_prepend == 0)
		return true;
	if (*to == NULL)
		*to = arena_alloc(arena, sizeof **to);
	a = *to;
	if (!actions_fit(a->bcc, a->n_bcc, r->bcc, r->n_bcc) ||
	    !actions_fit(a->prepend, a->n_prepend, r->prepend, r->n_prepend))
		return false;
	if (r->hold && !a->hold) {
		a->hold_text = arena_copy(arena, r->hold_text);
		a->hold_where = arena_copy(arena, r->hold_where);
	}
	a->hold |= r->hold;
	a->discard |= r->discard;
	if (r->redirect.n > 0)
		a->redirect = arena_copy(arena, r->redirect);
	if (r->filter.n > 0)
		a->filter = arena_copy(arena, r->filter);
	actions_list(arena, a->bcc, &a->n_bcc, r->bcc, r->n_bcc);
	actions_list(arena, a->prepend, &a->n_prepend, r->prepend,
	    r->n_prepend);
	return true;
}
