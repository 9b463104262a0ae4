/* Old age: what is deferred has failed for good. */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/history.h"
#include "queue/qmgr.h"

static const char suspended[] = "delivery temporarily suspended: ";

struct wall
message_end_of_life(const struct message *m, const struct envelope *e)
{
	int64_t limit = qmgr.cf->maximal_queue_lifetime;

	if (e->sender.n == 0 && qmgr.cf->bounce_queue_lifetime < limit)
		limit = qmgr.cf->bounce_queue_lifetime;
	return (struct wall){ m->arrival.us + limit * 1000 };
}

/* A reason that says what happened, where the last attempt has none. */
static void
expire_reason(struct failure *f, const struct history *h)
{
	const struct history_reason *r = history_of(h, f->index);

	if (r == NULL || !view_starts_nocase(view_of(f->reason), suspended) ||
	    view_starts_nocase(r->text, suspended))
		return;
	free(f->status);
	free(f->reason);
	free(f->mta);
	f->status = mem_copy(r->status);
	f->reason = mem_copy(r->text);
	f->mta = mem_copy(r->mta);
}

static void
expire_log(const struct message *m, const struct failure *f,
    struct view rcpt)
{
	int64_t now = clock_wall().us;

	log_info("%s: to=<%s>, relay=none, delay=%.2f, "
	    "delays=%.2f/%.2f/0/0, dsn=%s, status=bounced (%s)",
	    message_id(m), log_safe(rcpt),
	    (double)(now - m->arrival.us) / 1e6,
	    (double)(m->active.us - m->arrival.us) / 1e6,
	    (double)(now - m->active.us) / 1e6,
	    log_safe(view_of(f->status)), log_safe(view_of(f->reason)));
}

void
message_expire(struct message *m, const struct envelope *e)
{
	struct history h;
	struct failure *f;
	struct arena *a;
	uint32_t i;

	if (m->n_deferred == 0 || (!m->expire &&
	    clock_wall().us < message_end_of_life(m, e).us))
		return;
	log_info("%s: from=<%s>, status=expired, returned to sender",
	    message_id(m), log_safe(e->sender));
	a = arena_new(m->n_history * 8 + 65536);
	(void)history_get(m->tail.history, a, &h);
	for (i = 0; i < m->n_failures; i++) {
		f = &m->failures[i];
		if (f->fate != RCPT_DEFERRED)
			continue;
		f->fate = RCPT_BOUNCED;
		expire_reason(f, &h);
		expire_log(m, f, e->rcpts[f->index].addr);
	}
	arena_free(&a);
	m->n_deferred = 0;
}
