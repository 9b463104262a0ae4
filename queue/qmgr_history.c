/* What a message remembers between two attempts. */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/history.h"
#include "queue/qmgr.h"

static struct arena *
arena_for(const struct message *m)
{
	return arena_new(m->n_history * 8 + m->tail.nrcpts *
	    sizeof(struct history_rcpt) + 65536);
}

static void
message_set_history(struct message *m, const struct history *h)
{
	struct buf b;

	buf_init(&b, HISTORY_MAX);
	/* What is too long for it is not worth an error. */
	if (history_put(&b, h)) {
		free(m->history);
		m->history = mem_copy(buf_view(&b));
		m->n_history = b.n;
		m->tail.history = view_make(m->history, m->n_history);
	}
	buf_free(&b);
}

void
message_remember_attempt(struct message *m)
{
	struct arena *a = arena_for(m);
	struct history old, h;
	struct failure *f;
	uint32_t i;

	(void)history_get(m->tail.history, a, &old);
	history_init(&h, a, m->n_deferred);
	h.flags = old.flags | (m->warned ? HISTORY_WARNED : 0);
	h.attempts = old.attempts + 1;
	h.last = clock_wall();
	h.held = old.held;
	for (i = 0; i < m->n_failures; i++) {
		f = &m->failures[i];
		if (f->fate == RCPT_DEFERRED)
			history_add(&h, f->index, &(struct history_reason){
			    view_of(f->status), view_of(f->reason),
			    view_of(f->mta) });
	}
	message_set_history(m, &h);
	arena_free(&a);
}

void
message_remember_hold(struct message *m, const struct verdict *v)
{
	struct arena *a = arena_for(m);
	struct history h;
	char *why;

	(void)history_get(m->tail.history, a, &h);
	/* Its end says the most. */
	why = mem_printf("%.*s%s%.*s", VIEW_ARGS(view_head(v->text,
	    HISTORY_TEXT_MAX / 2)), v->where.n > 0 ? "; rule=" : "",
	    VIEW_ARGS(view_head(v->where, HISTORY_TEXT_MAX / 2 - 8)));
	h.held = view_of(why);
	message_set_history(m, &h);
	arena_free(&a);
	free(why);
}
