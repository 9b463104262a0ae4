/*
 * What the SMTP server's policy asked for (access tables: HOLD, DISCARD,
 * REDIRECT, BCC, FILTER), together with what the filter says.  It is kept
 * from the sealing of the message until its judgement.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/qmgr.h"
#include "rules/judgement.h"

bool
asked_keep(struct message *m, struct view asked)
{
	struct arena *a = arena_new(65536);
	struct judgement j;
	bool ok;

	ok = judgement_get(asked, 0, a, &j) &&
	    j.verdict.action != ACTION_REJECT && j.edits.n == 0;
	arena_free(&a);
	if (ok) {
		m->asked = mem_copy(asked);
		m->n_asked = asked.n;
	}
	return ok;
}

void
asked_judged(struct message *m, const struct judgement *j)
{
	struct judgement asked, both;
	struct arena *a;
	char *bytes = m->asked;
	size_t n = m->n_asked;

	if (bytes == NULL) {
		writer_judged(m, j);
		return;
	}
	/* The views point into it, and m may be gone when they were used. */
	m->asked = NULL;
	a = arena_new(65536);
	/* It was read once, when it came. */
	ensure(judgement_get(view_make(bytes, n), 0, a, &asked));
	judgement_combine(j, &asked, &both);
	writer_judged(m, &both);
	arena_free(&a);
	free(bytes);
}
