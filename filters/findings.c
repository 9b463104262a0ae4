#include <stdlib.h>

#include "filters/findings.h"
#include "lib/log.h"
#include "lib/mem.h"

/* One edit costs 20 bytes encoded: closer strays are cheaper in one. */
#define EDIT_OVERHEAD	20u
/* With many edits bytes are the cheaper resource: from there on more. */
#define STRAY_NEAR	EDIT_OVERHEAD
#define STRAY_FAR	1000u
#define STRAY_MANY	(EDITS_MAX / 2)

void
findings_init(struct findings *f)
{
	size_t i;

	*f = (struct findings){ .verdict.action = ACTION_OK };
	buf_init(&f->reply, VERDICT_TEXT_MAX);
	buf_init(&f->where, FINDINGS_WHERE_MAX);
	buf_init(&f->redirect, FINDINGS_ARGUMENT_MAX);
	buf_init(&f->filter, FINDINGS_ARGUMENT_MAX);
	buf_init(&f->message_id, FINDINGS_ARGUMENT_MAX);
	for (i = 0; i < JUDGEMENT_BCC_MAX; i++)
		buf_init(&f->bcc[i], FINDINGS_ARGUMENT_MAX);
	f->notes = mem_array(EDITS_MAX, sizeof *f->notes);
	buf_init(&f->bytes, EDITS_BYTES_MAX);
}

void
findings_free(struct findings *f)
{
	size_t i;

	buf_free(&f->reply);
	buf_free(&f->where);
	buf_free(&f->redirect);
	buf_free(&f->filter);
	buf_free(&f->message_id);
	for (i = 0; i < JUDGEMENT_BCC_MAX; i++)
		buf_free(&f->bcc[i]);
	free(f->notes);
	f->notes = NULL;
	buf_free(&f->bytes);
}

void
findings_begin(struct findings *f, struct view text)
{
	f->text = text;
	f->verdict = (struct verdict){ .action = ACTION_OK };
	f->passed = f->soft_held = false;
	buf_clear(&f->redirect);
	buf_clear(&f->filter);
	buf_clear(&f->message_id);
	f->n_bcc = 0;
	f->n_notes = 0;
	buf_clear(&f->bytes);
}

/* Keep a copy, cut to what the buffer may hold. */
static struct view
keep(struct buf *b, struct view v)
{
	buf_clear(b);
	(void)buf_putv(b, view_head(v, b->max));
	return buf_view(b);
}

static void
findings_settle(struct findings *f, const struct verdict *v)
{
	if (findings_final(f) || f->verdict.action == v->action)
		return;
	ensure(v->action == ACTION_REJECT || v->action == ACTION_DISCARD ||
	    v->action == ACTION_HOLD);
	f->verdict = *v;
	/* A status is a part of the text, or one of the fixed ones. */
	buf_clear(&f->reply);
	(void)buf_putv(&f->reply, view_head(v->status, 16));
	f->verdict.status.n = f->reply.n;
	(void)buf_putv(&f->reply, view_head(v->text,
	    f->reply.max - f->reply.n));
	f->verdict.status.p = f->reply.p;
	f->verdict.text = view_from(buf_view(&f->reply),
	    f->verdict.status.n);
	f->verdict.where = keep(&f->where, v->where);
}

void
findings_decide(struct findings *f, const struct verdict *v)
{
	if (!f->soft) {
		findings_settle(f, v);
		return;
	}
	if (v->action != ACTION_HOLD)
		f->passed = true;
	else if (f->soft_held)
		return;
	f->soft_held |= v->action == ACTION_HOLD;
	findings_would(f);
}

const char *
findings_soft_word(const struct findings *f, const char *action)
{
	return f->soft && strcmp(action, "warning") != 0 &&
	    strcmp(action, "info") != 0 && strcmp(action, "pass") != 0 ?
	    "soft: would " : "";
}

const char *
findings_action_word(enum action a)
{
	switch ((int)a) {
	case ACTION_IGNORE:
		return "ignore";
	case ACTION_STRIP:
		return "strip";
	case ACTION_RENAME:
		return "rename";
	case ACTION_PREPEND:
		return "prepend";
	case ACTION_REPLACE:
		return "replace";
	case ACTION_BCC:
		return "bcc";
	case ACTION_REDIRECT:
		return "redirect";
	default:
		return "filter";
	}
}

void
findings_rule_failed(struct findings *f, const char *text)
{
	if (f->soft)
		findings_would(f);
	else
		findings_refuse(f, 451, "4.3.0", text);
}

void
findings_refuse(struct findings *f, uint16_t code, const char *status,
    const char *text)
{
	struct verdict v = { .action = ACTION_REJECT, .code = code,
		.status = view_of(status), .text = view_of(text) };

	findings_settle(f, &v);
}

static bool
set(struct buf *b, struct view v)
{
	if (v.n > b->max)
		return false;
	keep(b, v);
	return true;
}

bool
findings_redirect(struct findings *f, struct view address)
{
	return set(&f->redirect, address);
}

bool
findings_filter(struct findings *f, struct view nexthop)
{
	return set(&f->filter, nexthop);
}

bool
findings_bcc(struct findings *f, struct view address)
{
	uint32_t i;

	for (i = 0; i < f->n_bcc; i++)
		if (view_eq(buf_view(&f->bcc[i]), address))
			return true;
	if (f->n_bcc == JUDGEMENT_BCC_MAX || !set(&f->bcc[f->n_bcc], address))
		return false;
	f->n_bcc++;
	return true;
}

void
findings_message_id(struct findings *f, struct view id)
{
	if (f->message_id.n == 0)
		keep(&f->message_id, id);
}

/* -- edits ----------------------------------------------------------------- */

static bool
room_for(const struct findings *f, size_t notes, size_t bytes)
{
	/* bytes also holds what was replaced since: the safe side. */
	return f->n_notes + notes <= EDITS_MAX && bytes <= EDITS_BYTES_MAX &&
	    f->bytes.n + bytes + (f->n_notes + notes) * EDIT_OVERHEAD + 8 <=
	    EDITS_BYTES_MAX;
}

/* An edit of strays that reaches over offset becomes two. */
static void
split(struct findings *f, uint64_t offset)
{
	struct note *n, *rest;
	size_t i;

	for (i = f->n_notes; i > 0; i--) {
		n = &f->notes[i - 1];
		if (n->offset >= offset)
			continue;
		if (n->offset + n->remove <= offset)
			return;
		ensure(n->stray && f->n_notes < EDITS_MAX);
		rest = n + 1;
		memmove(rest + 1, rest, (f->n_notes - i) * sizeof *rest);
		f->n_notes++;
		*rest = *n;
		rest->offset = offset;
		rest->remove = rest->n = n->offset + n->remove - offset;
		n->remove = n->n = n->n - rest->n;
		rest->at = n->at + n->n;
		return;
	}
}

static void
note_at(struct findings *f, size_t i, uint64_t offset, uint64_t remove,
    struct view bytes)
{
	ensure(f->notes != NULL && f->n_notes < EDITS_MAX &&
	    i <= f->n_notes);
	if (i < f->n_notes)
		memmove(&f->notes[i + 1], &f->notes[i],
		    (f->n_notes - i) * sizeof *f->notes);
	f->n_notes++;
	f->notes[i] = (struct note){ .offset = offset, .remove = remove,
		.at = f->bytes.n, .n = bytes.n };
	ensure(buf_putv(&f->bytes, bytes));
}

bool
findings_insert(struct findings *f, uint64_t offset, struct view bytes)
{
	size_t i;

	/* One for the split. */
	if (!room_for(f, 2, bytes.n))
		return false;
	split(f, offset);
	/* Behind what was inserted at the same place, before removals. */
	for (i = f->n_notes; i > 0; i--)
		if (f->notes[i - 1].offset < offset ||
		    (f->notes[i - 1].offset == offset &&
		    f->notes[i - 1].remove == 0))
			break;
	note_at(f, i, offset, 0, bytes);
	return true;
}

bool
findings_insert_first(struct findings *f, uint64_t offset, struct view bytes)
{
	size_t i;

	if (!room_for(f, 2, bytes.n))
		return false;
	split(f, offset);
	for (i = f->n_notes; i > 0; i--)
		if (f->notes[i - 1].offset < offset)
			break;
	note_at(f, i, offset, 0, bytes);
	return true;
}

bool
findings_replace(struct findings *f, uint64_t offset, uint64_t n,
    struct view bytes)
{
	struct note *last;

	ensure(n > 0 && offset <= f->text.n && n <= f->text.n - offset);
	if (!room_for(f, 2, bytes.n))
		return false;
	split(f, offset);
	/* The walk told nothing yet of what comes behind. */
	while (f->n_notes > 0) {
		last = &f->notes[f->n_notes - 1];
		ensure(last->offset < offset + n);
		if (last->offset < offset ||
		    (last->offset == offset && last->remove == 0))
			break;
		f->n_notes--;
	}
	note_at(f, f->n_notes, offset, n, bytes);
	return true;
}

bool
findings_stray(struct findings *f, uint64_t offset)
{
	struct note *last = f->n_notes > 0 ? &f->notes[f->n_notes - 1] : NULL;
	uint64_t end, gap;

	ensure(offset < f->text.n);
	if (last != NULL && last->stray &&
	    last->at + last->n == f->bytes.n) {
		end = last->offset + last->remove;
		ensure(offset >= end);
		gap = offset - end;
		if (gap <= (f->n_notes < STRAY_MANY ? STRAY_NEAR : STRAY_FAR) &&
		    room_for(f, 0, (size_t)gap + 1)) {
			ensure(buf_put(&f->bytes, f->text.p + end,
			    (size_t)gap));
			ensure(buf_putc(&f->bytes, ' '));
			last->remove += gap + 1;
			last->n = (size_t)last->remove;
			return true;
		}
	}
	if (!room_for(f, 1, 1))
		return false;
	note_at(f, f->n_notes, offset, 1, view_make(" ", 1));
	f->notes[f->n_notes - 1].stray = true;
	return true;
}

/* Does an edit of something whole lie on both sides of offset? */
static bool
reaches_over(const struct findings *f, uint64_t offset)
{
	const struct note *n;
	size_t i;

	for (i = 0; i < f->n_notes; i++) {
		n = &f->notes[i];
		if (!n->stray && n->offset < offset &&
		    n->offset + n->remove > offset)
			return true;
	}
	return false;
}

bool
findings_replace_earlier(struct findings *f, uint64_t offset, uint64_t n,
    struct view bytes)
{
	size_t from = 0, to;

	ensure(n > 0 && offset <= f->text.n && n <= f->text.n - offset);
	/* Two for the splits. */
	if (!room_for(f, 3, bytes.n) || reaches_over(f, offset) ||
	    reaches_over(f, offset + n))
		return false;
	split(f, offset);
	split(f, offset + n);
	while (from < f->n_notes && (f->notes[from].offset < offset ||
	    (f->notes[from].offset == offset && f->notes[from].remove == 0)))
		from++;
	for (to = from; to < f->n_notes && f->notes[to].offset < offset + n;)
		to++;
	memmove(&f->notes[from], &f->notes[to],
	    (f->n_notes - to) * sizeof *f->notes);
	f->n_notes -= to - from;
	note_at(f, from, offset, n, bytes);
	return true;
}

bool
findings_replaced(const struct findings *f, uint64_t offset,
    struct view *ret)
{
	const struct note *n = f->n_notes > 0 ? &f->notes[f->n_notes - 1] :
	    NULL;

	if (n == NULL || n->stray || n->offset != offset || n->remove == 0)
		return false;
	*ret = buf_part(&f->bytes, n->at, n->n);
	return true;
}

void
findings_judgement(const struct findings *f, struct arena *a,
    struct judgement *ret)
{
	const struct note *n;
	uint32_t i;

	*ret = (struct judgement){ .verdict = f->verdict,
		.redirect = buf_view(&f->redirect),
		.filter = buf_view(&f->filter),
		.message_id = buf_view(&f->message_id),
		.n_bcc = f->n_bcc };
	for (i = 0; i < f->n_bcc; i++)
		ret->bcc[i] = buf_view(&f->bcc[i]);
	if (f->n_notes == 0 || findings_final(f))
		return;
	ret->edits.list = arena_alloc(a, f->n_notes * sizeof(struct edit));
	ret->edits.n = (uint32_t)f->n_notes;
	for (i = 0; i < ret->edits.n; i++) {
		n = &f->notes[i];
		ret->edits.list[i] = (struct edit){ .offset = n->offset,
			.remove = n->remove,
			.insert = buf_part(&f->bytes, n->at, n->n) };
	}
}
