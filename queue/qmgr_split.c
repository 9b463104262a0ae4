/*
 * A message whose recipients get different judgements (filter_policy_maps):
 * what its sender is told, and a copy of its own for each judgement.
 *
 * A refusal that only some recipients have can be told to a client that takes
 * a reply for each of them (PRDR).  To the others it cannot: the sender would
 * get a notice for mail that may not be from there at all, or hear nothing.
 * filter_policy_reject_action says what is done instead.
 */
#include <stdlib.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/log.h"
#include "queue/qmgr.h"
#include "rules/judgement.h"

static enum refused_action refused_action;

void
split_load(void)
{
	refused_action = conf_choice("filter_policy_reject_action",
	    view_of(qmgr.cf->filter_policy_reject_action));
}

/* -- what the filter says ------------------------------------------------- */

static bool
part_get(struct cursor *c, const struct message *m, bool *seen,
    struct split_part *ret, struct arena *a)
{
	uint32_t n = cursor_u32(c), i, *rcpts;

	if (c->bad || n == 0 || n > m->tail.nrcpts)
		return false;
	rcpts = arena_alloc(a, n * sizeof *rcpts);
	for (i = 0; i < n; i++) {
		rcpts[i] = cursor_u32(c);
		if (c->bad || rcpts[i] >= m->tail.nrcpts || seen[rcpts[i]])
			return false;
		seen[rcpts[i]] = true;
	}
	ret->rcpts = rcpts;
	ret->n = n;
	return judgement_get(cursor_view(c), m->text_size, a, &ret->judged);
}

bool
split_get(const struct message *m, struct view encoded,
    struct split_part *list, uint32_t n, struct arena *a)
{
	struct cursor c = cursor_of(encoded);
	bool *seen = arena_alloc(a, m->tail.nrcpts);
	uint32_t i, all = 0;

	for (i = 0; i < n; i++) {
		if (!part_get(&c, m, seen, &list[i], a))
			return false;
		all += list[i].n;
	}
	return cursor_done(&c) && all == m->tail.nrcpts;
}

/* -- replies -------------------------------------------------------------- */

static bool
part_refused(const struct split_part *p)
{
	return p->judged.verdict.action == ACTION_REJECT ||
	    p->judged.verdict.action == ACTION_DEFER;
}

static bool
part_kept(const struct split_part *p)
{
	return p->judged.verdict.action == ACTION_OK ||
	    p->judged.verdict.action == ACTION_HOLD;
}

/* The refusal that counts for all: one that may pass later, if there is one,
 * or else the first.  NULL: none. */
static const struct split_part *
split_refusal(const struct split_part *parts, uint32_t n)
{
	const struct split_part *first = NULL;
	uint32_t i;

	for (i = 0; i < n; i++)
		if (part_refused(&parts[i]) && (first == NULL ||
		    (first->judged.verdict.code >= 500 &&
		    parts[i].judged.verdict.code < 500)))
			first = &parts[i];
	return first;
}

#define ANSWER_TEXT	300u

/* A reply for each recipient, to go with a reply of that code. */
static void
split_answer(struct message *m, const struct split_part *parts, uint32_t n,
    unsigned code)
{
	const struct split_part **of = mem_array(m->tail.nrcpts, sizeof *of);
	const struct verdict *v;
	struct buf b;
	uint32_t i, k;
	bool ok;

	for (i = 0; i < n; i++)
		for (k = 0; k < parts[i].n; k++)
			of[parts[i].rcpts[k]] = &parts[i];
	buf_init(&b, CHAN_MSG_MAX - 4096);
	ok = put_u32(&b, m->tail.nrcpts);
	for (i = 0; ok && i < m->tail.nrcpts; i++) {
		v = &of[i]->judged.verdict;
		if (part_refused(of[i]))
			ok = put_u16(&b, v->code) && put_view(&b, v->status) &&
			    put_view(&b, view_head(v->text, ANSWER_TEXT));
		else
			ok = put_u16(&b, 250) &&
			    put_view(&b, view_of("2.1.5")) &&
			    put_view(&b, view_of("Ok"));
	}
	ensure(ok);
	m->answers = mem_copy(buf_view(&b));
	m->n_answers = b.n;
	m->answers_code = code;
	buf_free(&b);
	free(of);
}

/* What is done with a refusal that cannot be told. */
static void
part_unsaid(const struct message *m, struct split_part *p, struct arena *a)
{
	struct verdict *v = &p->judged.verdict;
	enum refused_action action = m->origin != NULL ? REFUSED_BOUNCE :
	    refused_action;
	char *text = NULL;

	log_info("%s: split: %s instead, for %u recipients", message_id(m),
	    action == REFUSED_HOLD ? "held" : action == REFUSED_BOUNCE ?
	    "returned" : "discarded", p->n);
	if (action == REFUSED_HOLD) {
		text = mem_printf("refused: %u %.*s %.*s", v->code,
		    VIEW_ARGS(view_head(v->status, 15)),
		    VIEW_ARGS(view_head(v->text, 480)));
		*v = (struct verdict){ .action = ACTION_HOLD,
			.text = arena_copy(a, view_of(text)),
			.where = v->where };
	} else if (action == REFUSED_BOUNCE) {
		text = mem_printf("error:%.*s %.*s",
		    VIEW_ARGS(view_head(v->status, 15)),
		    VIEW_ARGS(view_head(v->text, 480)));
		p->judged = (struct judgement){
			.verdict.action = ACTION_OK,
			.filter = arena_copy(a, view_of(text)) };
	} else {
		*v = (struct verdict){ .action = ACTION_DISCARD,
			.where = v->where };
	}
	free(text);
}

/* -- copies --------------------------------------------------------------- */

/* m is to be for these recipients only. */
static void
part_envelope(struct message *m, const struct envelope *all,
    const struct split_part *p)
{
	struct spool_tail t = { .nrcpts = p->n };
	struct envelope e = *all;
	struct buf b;
	uint32_t i;

	e.nrcpts = p->n;
	e.rcpts = mem_array(p->n, sizeof *e.rcpts);
	for (i = 0; i < p->n; i++)
		e.rcpts[i] = all->rcpts[p->rcpts[i]];
	buf_init(&b, SPOOL_TAIL_MAX);
	/* It has less than one that was here. */
	ensure(envelope_put(&b, &e));
	t.envelope = buf_view(&b);
	message_set_tail(m, &t);
	buf_free(&b);
	free(e.rcpts);
}

static struct message *
job_message(struct pool_job *j)
{
	return (struct message *)((char *)j - offsetof(struct message, job));
}

static enum spool_place
leader_place(const struct message *m)
{
	return m->hold ? PLACE_HOLD : PLACE_INCOMING;
}

/* First what is no mail yet, then what makes it mail, then the marks. */
static void
split_work(struct pool_job *j)
{
	struct message *m = job_message(j), *p;
	struct spool_split split = { .id = m->parts->known.id }, made = split;
	bool sealed = false;
	struct spool_tail t;
	int rc = 0;

	for (p = m->parts; p != NULL; p = p->next)
		split.n++;
	for (p = m->parts; p != NULL && rc == 0; p = p->next) {
		t = p->tail;
		t.split = (struct spool_split){ .id = m->known.id,
			.part = true, .hold = p->hold };
		rc = spool_seal(&qmgr.spool, p->known.id, PLACE_INCOMING, -1,
		    m->fd, m->text_offset, m->text_size, m->arrival, &t,
		    NULL);
		made.n += rc == 0;
	}
	if (rc == 0) {
		t = m->tail;
		t.split = split;
		rc = spool_seal(&qmgr.spool, m->known.id, leader_place(m),
		    m->copied ? m->fd : -1, m->fd, 0, m->text_size,
		    m->arrival, &t, NULL);
		sealed = rc == 0;
		/* It is closed, or gone, either way. */
		if (m->copied)
			m->fd = -1;
		m->copied = false;
	}
	for (p = m->parts; p != NULL && rc == 0; p = p->next)
		rc = spool_settle_part(&qmgr.spool, p->known.id);
	if (rc != 0)
		spool_split_undo(&qmgr.spool, m->known.id,
		    sealed ? leader_place(m) : PLACE_NONE, &made);
	m->error = rc;
}

static void
part_ready(struct message *p)
{
	struct queue_id id = p->known.id;

	qmgr.sealed++;
	p->place = PLACE_INCOMING;
	p->status_offset = spool_status_offset(p->text_size, &p->tail);
	message_enter(p, M_INCOMING);
	if (!p->hold) {
		message_activate(p);
		return;
	}
	message_free(&p);
	if (qmgr.handed_over)
		handover_done(id);
}

static void
parts_forget(struct message *m)
{
	struct message *p;
	struct queue_id id;

	while ((p = m->parts) != NULL) {
		m->parts = p->next;
		id = p->known.id;
		message_free(&p);
		if (qmgr.handed_over)
			handover_done(id);
	}
}

static void
split_done(struct pool_job *j)
{
	struct message *m = job_message(j), *p, *parts = m->parts;

	if (m->error != 0) {
		parts_forget(m);
		writer_not_stored(m);
		return;
	}
	m->parts = NULL;
	m->place = PLACE_INCOMING;
	m->status_offset = spool_status_offset(m->text_size, &m->tail);
	writer_sealed(m);
	while ((p = parts) != NULL) {
		parts = p->next;
		p->next = NULL;
		part_ready(p);
	}
}

/* Another message with the same text. */
static bool
part_add(struct message *m, struct queue_id id, const struct envelope *all,
    const struct split_part *p)
{
	struct message *new = message_new(id, M_SYNCING), **end;

	for (end = &m->parts; *end != NULL; end = &(*end)->next)
		;
	*end = new;
	new->arrival = m->arrival;
	new->proxy = m->proxy;
	new->text_size = m->text_size;
	new->text_offset = SPOOL_TEXT_OFFSET;
	part_envelope(new, all, p);
	log_info("%s: split: %s is for %u of %u recipients", message_id(m),
	    message_id(new), p->n, all->nrcpts);
	return writer_take(new, &p->judged);
}

/* One that is not held leads: what is in hold/ is not looked at after a
 * crash. */
static uint32_t
split_leader(const struct split_part *parts, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		if (parts[i].judged.verdict.action == ACTION_OK)
			return i;
	return 0;
}

static void
split_seal(struct message *m, const struct envelope *all,
    struct split_part *kept, uint32_t n)
{
	uint32_t leader = split_leader(kept, n), i;
	struct queue_id id;
	bool ok;

	part_envelope(m, all, &kept[leader]);
	if (n == 1) {
		writer_judged(m, &kept[0].judged);
		return;
	}
	id = writer_new_ids(n - 1);
	ok = writer_take(m, &kept[leader].judged);
	for (i = 0; ok && i < n; i++)
		if (i != leader) {
			ok = part_add(m, id, all, &kept[i]);
			id.n++;
		}
	if (!ok) {
		parts_forget(m);
		writer_failed(m, 451, "4.3.0", "Error: content filter failed");
		return;
	}
	message_enter(m, M_SYNCING);
	m->job.work = split_work;
	m->job.done = split_done;
	pool_submit(&m->job);
}

/* -- all together --------------------------------------------------------- */

static void
split_log(const struct message *m, const struct envelope *all,
    const struct split_part *p)
{
	const struct verdict *v = &p->judged.verdict;

	log_info("%s: split: %s%s%s for %u of %u recipients, to=<%s>%s",
	    message_id(m), action_name(v->action),
	    v->where.n > 0 ? " by " : "", log_safe(v->where), p->n,
	    all->nrcpts, log_safe(all->rcpts[p->rcpts[0]].addr),
	    p->n > 1 ? ", ..." : "");
}

static uint32_t
split_keep(const struct split_part *parts, uint32_t n,
    struct split_part *kept)
{
	uint32_t i, k = 0;

	for (i = 0; i < n; i++)
		if (part_kept(&parts[i]))
			kept[k++] = parts[i];
	return k;
}

static void
split_decide(struct message *m, struct split_part *parts, uint32_t n,
    struct arena *a)
{
	struct split_part kept[SPOOL_PARTS_MAX];
	const struct split_part *refusal;
	struct envelope all;
	uint32_t i, n_kept;

	/* Its bytes are replaced. */
	ensure(envelope_get(arena_copy(a, m->tail.envelope), a, &all));
	for (i = 0; i < n; i++)
		split_log(m, &all, &parts[i]);
	refusal = split_refusal(parts, n);
	n_kept = split_keep(parts, n, kept);
	if (refusal != NULL && m->each)
		split_answer(m, parts, n, n_kept > 0 ? 250 :
		    refusal->judged.verdict.code);
	else if (refusal != NULL && n_kept > 0) {
		if (refusal->judged.verdict.code < 500 ||
		    (refused_action == REFUSED_REJECT && m->origin == NULL))
			n_kept = 0;
		for (i = 0; i < n && n_kept > 0; i++)
			if (part_refused(&parts[i]))
				part_unsaid(m, &parts[i], a);
		if (n_kept > 0)
			n_kept = split_keep(parts, n, kept);
	}
	if (n_kept > 0)
		split_seal(m, &all, kept, n_kept);
	else
		writer_judged(m, refusal != NULL ? &refusal->judged :
		    &parts[0].judged);
}

/* -- filters outside ------------------------------------------------------- */

/* What waits while they see one part after the other. */
struct split {
	struct split_part parts[SPOOL_PARTS_MAX];
	uint32_t n, next;
	struct arena *a;
};

void
split_free(struct message *m)
{
	if (m->split == NULL)
		return;
	arena_free(&m->split->a);
	free(m->split);
	m->split = NULL;
}

static void
split_end(struct message *m)
{
	struct split *s = m->split;

	m->split = NULL;
	split_decide(m, s->parts, s->n, s->a);
	arena_free(&s->a);
	free(s);
}

/* The next part that would be kept; or all have been seen. */
static void
split_ask(struct message *m)
{
	struct split *s = m->split;
	struct envelope all, e;
	struct split_part *p;
	uint32_t i;

	while (s->next < s->n && !part_kept(&s->parts[s->next]))
		s->next++;
	if (s->next == s->n) {
		split_end(m);
		return;
	}
	p = &s->parts[s->next++];
	message_envelope(m, s->a, &all);
	e = all;
	e.nrcpts = p->n;
	e.rcpts = arena_alloc(s->a, p->n * sizeof *e.rcpts);
	for (i = 0; i < p->n; i++)
		e.rcpts[i] = all.rcpts[p->rcpts[i]];
	milter_ask(m, &p->judged, &e, true);
}

void
split_part_judged(struct message *m, const struct judgement *j, int text,
    uint64_t size)
{
	struct split *s = m->split;
	struct split_part *p = &s->parts[s->next - 1];
	struct buf b;

	(void)size;
	/* It may not outlive this call. */
	buf_init(&b, CHAN_MSG_MAX);
	if (arena_used(s->a) > SPLIT_ARENA - CHAN_MSG_MAX * 2u ||
	    !judgement_put(&b, j) || !judgement_get(arena_copy(s->a,
	    buf_view(&b)), m->text_size, s->a, &p->judged))
		p->judged = (struct judgement){ .verdict = {
			.action = ACTION_REJECT, .code = 451,
			.status = view_of("4.3.0"), .text = view_of(
			"Error: too many changes by filters") } };
	buf_free(&b);
	if (text >= 0) {
		/* All copies have one text. */
		close(text);
		p->judged.verdict = (struct verdict){ .action = ACTION_HOLD,
			.text = view_of("a milter replaced the body of one "
			    "copy") };
	}
	split_ask(m);
}

void
split_judged(struct message *m, const struct split_part *parts, uint32_t n,
    struct arena *a)
{
	struct split *s = mem_alloc(sizeof *s);

	ensure(n > 0 && n <= SPOOL_PARTS_MAX && m->split == NULL);
	memcpy(s->parts, parts, n * sizeof *parts);
	s->n = n;
	s->a = a;
	asked_parts(m, s->parts, n, a);
	m->split = s;
	if (milter_applies(m))
		split_ask(m);
	else
		split_end(m);
}
