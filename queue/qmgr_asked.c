/*
 * What the SMTP server's policy asked for (access tables: HOLD, DISCARD,
 * REDIRECT, BCC, FILTER), together with what the filter says.  It is kept
 * from the sealing of the message until its judgement.
 */
#include <stdlib.h>

#include "lib/address.h"
#include "lib/dsn.h"
#include "lib/log.h"
#include "queue/qmgr.h"
#include "rules/judgement.h"

/* The first recipient gets it in place of all; notifications name the one
 * that the sender wrote. */
static void
asked_redirect(struct envelope *e, struct view to, struct arena *a)
{
	struct recipient *r = &e->rcpts[0];
	bool utf8 = false;
	struct buf b;

	if (r->orcpt.n == 0) {
		buf_init(&b, 2 * ADDRESS_MAX + 16);
		(void)address_utf8(r->addr, &utf8);
		(void)buf_puts(&b, utf8 ? "utf-8;" : "rfc822;");
		if (address_quote(r->addr, &b) &&
		    b.n <= ADDRESS_MAX + DSN_TYPE_MAX)
			r->orcpt = arena_copy(a, buf_view(&b));
		buf_free(&b);
	}
	r->addr = to;
	e->nrcpts = 1;
}

void
asked_readdress(struct envelope *e, const struct judgement *j,
    struct arena *a)
{
	const struct recipient *was = e->rcpts;
	uint32_t i;

	e->rcpts = arena_alloc(a, (e->nrcpts + j->n_bcc) * sizeof *was);
	memcpy(e->rcpts, was, e->nrcpts * sizeof *was);
	if (j->redirect.n > 0)
		asked_redirect(e, j->redirect, a);
	for (i = 0; i < j->n_bcc && e->nrcpts < ENVELOPE_RCPTS_MAX; i++)
		e->rcpts[e->nrcpts++] = (struct recipient){
			.addr = j->bcc[i], .notify = NOTIFY_NEVER };
}

/* The filter did not know what was asked for when it made its envelope. */
static void
asked_combine(const struct judgement *judged, const struct judgement *asked,
    struct judgement *both, struct arena *a)
{
	struct judgement more = *asked;
	struct envelope e;
	struct buf b;

	judgement_combine(judged, asked, both);
	if (judged->redirect.n > 0)
		more.redirect.n = 0;
	if (both->envelope.n == 0 ||
	    (more.redirect.n == 0 && more.n_bcc == 0) ||
	    !envelope_get(both->envelope, a, &e))
		return;
	asked_readdress(&e, &more, a);
	buf_init(&b, SPOOL_TAIL_MAX);
	ensure(envelope_put(&b, &e));
	both->envelope = arena_copy(a, buf_view(&b));
	buf_free(&b);
}

/* What decoding and combining may take. */
static struct arena *
asked_arena(const struct judgement *j)
{
	return arena_new(j->envelope.n * 32 + 262144);
}

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
		milter_judged(m, j);
		return;
	}
	/* The views point into it, and m may be gone when they were used. */
	m->asked = NULL;
	a = asked_arena(j);
	/* It was read once, when it came. */
	ensure(judgement_get(view_make(bytes, n), 0, a, &asked));
	asked_combine(j, &asked, &both, a);
	milter_judged(m, &both);
	arena_free(&a);
	free(bytes);
}

void
asked_parts(struct message *m, struct split_part *parts, uint32_t n,
    struct arena *a)
{
	struct judgement asked, one;
	uint32_t i;

	if (m->asked == NULL)
		return;
	ensure(judgement_get(arena_copy(a, view_make(m->asked, m->n_asked)),
	    0, a, &asked));
	free(m->asked);
	m->asked = NULL;
	for (i = 0; i < n; i++) {
		one = parts[i].judged;
		asked_combine(&one, &asked, &parts[i].judged, a);
	}
}
