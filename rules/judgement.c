#include <stdio.h>
#include <string.h>

#include "rules/judgement.h"

/*
 * The filter saw the text, so its refusal counts most; where it names a
 * recipient or a route of its own, that one.
 */
void
judgement_combine(const struct judgement *judged, const struct judgement *asked,
    struct judgement *ret)
{
	enum action had = judged->verdict.action;
	uint32_t i, k;

	*ret = *judged;
	if ((asked->verdict.action == ACTION_DISCARD &&
	    had != ACTION_REJECT && had != ACTION_DEFER) ||
	    (asked->verdict.action == ACTION_HOLD && had == ACTION_OK))
		ret->verdict = asked->verdict;
	if (ret->redirect.n == 0)
		ret->redirect = asked->redirect;
	if (ret->filter.n == 0)
		ret->filter = asked->filter;
	for (i = 0; i < asked->n_bcc && ret->n_bcc < JUDGEMENT_BCC_MAX; i++) {
		for (k = 0; k < ret->n_bcc; k++)
			if (view_eq_nocase(ret->bcc[k], asked->bcc[i]))
				break;
		if (k == ret->n_bcc)
			ret->bcc[ret->n_bcc++] = asked->bcc[i];
	}
}

/* Cut, and without what would end it early. */
static void
judgement_copy(char *to, size_t size, struct view from)
{
	(void)snprintf(to, size, "%.*s", VIEW_ARGS(view_head(from, size - 1)));
}

bool
judgement_reply(const struct judgement *j, const char *id,
    struct judgement_reply *ret)
{
	if (j->verdict.action == ACTION_REJECT ||
	    j->verdict.action == ACTION_DEFER) {
		ret->code = j->verdict.code;
		judgement_copy(ret->status, sizeof ret->status,
		    j->verdict.status);
		judgement_copy(ret->text, sizeof ret->text, j->verdict.text);
		return false;
	}
	ret->code = 250;
	judgement_copy(ret->status, sizeof ret->status, view_of("2.0.0"));
	(void)snprintf(ret->text, sizeof ret->text, "Ok: queued as %s", id);
	return j->verdict.action != ACTION_DISCARD;
}
