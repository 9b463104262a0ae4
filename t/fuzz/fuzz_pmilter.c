/* link: filters/pmilter_text.c filters/pmilter_plan.c filters/pmilter_merge.c */
/*
 * What a mail server tells postern-milter.  The first byte chooses:
 *
 * 0, 1 (values with their blanks): a message is put together, in parts as
 * below, then edited.  What the steps for the server make of its headers must
 * be what the edits make of the text.
 *	u8 n, n x (u8 bytes name, u8 bytes value); u16 bytes body;
 *	n x (u16 offset, u8 remove, u8 bytes insert) up to the end
 * 254, 255: the same, where the first quarter of the n is prepended by us.
 * others: the parts of an answer, for that many recipients.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "filters/pmilter.h"
#include "filters/pmilter_plan.h"

#define EDITS	50

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The headers as a server has them. */
struct line {
	struct view name, text;
};

static struct {
	struct line list[2 * 256 + 25000];
	size_t n, tops;
} model;

static void
check(int ok)
{
	if (!ok)
		abort();
}

/* A C string: it comes from libmilter. */
static struct view
string(struct cursor *c)
{
	struct view v = cursor_bytes(c, cursor_u8(c));

	return view_head(v, view_find(v, '\0'));
}

static size_t
edited(struct view text, const struct edits *e, char *out)
{
	size_t n = 0, at = 0;
	uint32_t i;

	for (i = 0; i < e->n; i++) {
		memcpy(out + n, text.p + at, e->list[i].offset - at);
		n += e->list[i].offset - at;
		if (e->list[i].insert.n > 0)
			memcpy(out + n, e->list[i].insert.p,
			    e->list[i].insert.n);
		n += e->list[i].insert.n;
		at = e->list[i].offset + e->list[i].remove;
	}
	memcpy(out + n, text.p + at, text.n - at);
	return n + text.n - at;
}

static struct view
line_text(const struct plan_step *s, struct arena *a)
{
	char *p = arena_alloc(a, s->name.n + s->value.n + 3);
	size_t n = s->name.n;

	memcpy(p, s->name.p, n);
	p[n++] = ':';
	if (s->value.n > 0)
		memcpy(p + n, s->value.p, s->value.n);
	n += s->value.n;
	memcpy(p + n, "\r\n", 2);
	return view_make(p, n + 2);
}

static void
model_step(const struct plan_step *s, struct arena *a)
{
	struct line new = { s->name, { "", 0 } };
	size_t i, nth = 0;

	if (s->kind != STEP_DELETE)
		new.text = line_text(s, a);
	/* Nothing that counts may come behind them. */
	check(s->kind == STEP_TOP || model.tops == 0);
	model.tops += s->kind == STEP_TOP;
	if (s->kind == STEP_INSERT || s->kind == STEP_TOP) {
		check(s->at <= model.n && (s->kind == STEP_INSERT ||
		    s->at == 0));
		memmove(&model.list[s->at + 1], &model.list[s->at],
		    (model.n++ - s->at) * sizeof model.list[0]);
		model.list[s->at] = new;
		return;
	}
	for (i = 0; i < model.n; i++)
		if (view_eq_nocase(model.list[i].name, s->name) &&
		    ++nth == s->at)
			break;
	check(i < model.n);
	if (s->kind == STEP_CHANGE)
		model.list[i] = new;
	else
		memmove(&model.list[i], &model.list[i + 1],
		    (--model.n - i) * sizeof model.list[0]);
}

/* Line ends may be written in another way. */
static size_t
without_cr(char *p, size_t n)
{
	size_t i, k = 0;

	for (i = 0; i < n; i++)
		if (p[i] != '\r')
			p[k++] = p[i];
	return k;
}

static void
compare(const struct pmilter_text *t, struct view whole,
    const struct edits *e, const struct plan *p, struct arena *a)
{
	size_t room = edits_size(e, whole.n) + 1, n = 0, m, i;
	char *want = arena_alloc(a, room), *got;

	m = edited(whole, e, want);
	for (i = 0; i < p->n; i++)
		model_step(&p->steps[i], a);
	room = whole.n + m + model.n * 2 + 2;
	got = arena_alloc(a, room);
	for (i = 0; i < model.n; i++) {
		check(n + model.list[i].text.n <= room);
		memcpy(got + n, model.list[i].text.p, model.list[i].text.n);
		n += model.list[i].text.n;
	}
	/* Where the body is told anew, edits further down do not count. */
	if (!p->body) {
		memcpy(got + n, whole.p + t->head, whole.n - t->head);
		n += whole.n - t->head;
	}
	n = without_cr(got, n);
	m = without_cr(want, m);
	check(p->body ? n <= m : n == m);
	check(memcmp(got, want, n) == 0);
}

static bool
read_edits(struct cursor *c, uint64_t size, struct buf *b, struct arena *a,
    struct edits *ret)
{
	struct edits e = { arena_alloc(a, EDITS * sizeof *e.list), 0 };
	uint64_t at = 0;

	while (cursor_left(c) > 0 && e.n < EDITS) {
		at += cursor_u16(c);
		e.list[e.n].offset = at;
		e.list[e.n].remove = cursor_u8(c);
		e.list[e.n].insert = cursor_bytes(c, cursor_u8(c));
		at += e.list[e.n++].remove;
	}
	return !c->bad && edits_put(b, &e) &&
	    edits_get(buf_view(b), size, a, ret);
}

static void
prepend(struct pmilter_text *t, struct view name, struct view value)
{
	struct buf b;

	buf_init(&b, 1024);
	check(buf_putv(&b, name) && buf_puts(&b, ": ") &&
	    buf_putv(&b, value));
	pmilter_text_prepend(t, buf_view(&b));
	buf_free(&b);
}

static void
message(struct cursor *c, bool space, bool own)
{
	struct arena *a = arena_new(64u << 20);
	struct pmilter_text t;
	struct edits e;
	struct plan p;
	struct view name;
	struct buf b;
	char *whole;
	uint32_t i;
	size_t n;

	buf_init(&b, 1u << 20);
	pmilter_text_init(&t, 100000);
	model.n = model.tops = 0;
	n = cursor_u8(c);
	for (i = 0; i < n; i++) {
		name = string(c);
		if (own && i < n / 4)
			prepend(&t, name, string(c));
		else
			pmilter_text_header(&t, name, string(c), space);
	}
	pmilter_text_body(&t, cursor_bytes(c, cursor_u16(c)));
	check(pmilter_text_end(&t) == (t.trouble == TEXT_FINE));
	if (t.trouble != TEXT_FINE)
		goto out;
	check(t.head + 2 <= t.size);
	whole = malloc(t.size);
	check(whole != NULL && pmilter_text_read(&t, 0, whole, t.size));
	check(!pmilter_text_read(&t, t.size, whole, 1));
	check(memcmp(whole + t.head, "\r\n", 2) == 0);
	for (i = 0; i < t.n; i++) {
		check(t.headers[i].offset == (i == 0 ? 0 :
		    t.headers[i - 1].offset + t.headers[i - 1].size));
		if (i < t.own)
			continue;
		model.list[model.n].text = view_make(whole +
		    t.headers[i].offset, t.headers[i].size);
		model.list[model.n].name = view_head(
		    model.list[model.n].text, t.headers[i].name);
		model.n++;
	}
	if (read_edits(c, t.size, &b, a, &e) && pmilter_plan(&t,
	    view_make(whole, t.head), &e, a, &p))
		compare(&t, view_make(whole, t.size), &e, &p, a);
	free(whole);
out:
	pmilter_text_clear(&t);
	buf_free(&b);
	arena_free(&a);
}

static void
answer(struct view parts, uint32_t nrcpts)
{
	struct arena *a = arena_new(PARTS_MEMORY(parts.n, nrcpts));
	struct pmilter_answer ret;
	uint32_t i;

	if (pmilter_merge(parts, nrcpts > 8 ? nrcpts - 8 : 1, nrcpts, 1000,
	    a, &ret)) {
		check(ret.n_drop <= nrcpts);
		for (i = 0; i < ret.n_drop; i++)
			check(ret.drop[i] < nrcpts);
		check(ret.j.n_bcc <= JUDGEMENT_BCC_MAX);
	}
	arena_free(&a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor c = cursor_of(view_make(data, size));
	uint8_t what = cursor_u8(&c);

	if (size == 0)
		return 0;
	if (what < 2 || what >= 254)
		message(&c, (what & 1) != 0, what >= 254);
	else
		answer(cursor_bytes(&c, cursor_left(&c)), what);
	return 0;
}
