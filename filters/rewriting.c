#include "filters/rewriting.h"
#include "lib/log.h"
#include "rules/table_remote.h"

#define ENCODED_MAX	(REWRITE_BYTES_MAX + (1u << 20))

static struct rewriting *
rewriting_of(struct stage *s)
{
	return (struct rewriting *)(void *)s;
}

static void
rewriting_failed(struct rewriting *w, enum rewrite_answer why)
{
	if (!table_known_needs())
		log_warn("%s: %s -- message not accepted, try again later",
		    w->id, rewrite_problem(w->rewrite));
	if (why == REWRITE_TOO_MUCH)
		findings_refuse(w->findings, 451, "4.6.0",
		    "Error: alias expansion error");
	else
		findings_refuse(w->findings, 451, "4.3.0",
		    "Error: address rewriting failed");
	mime_stop(w->walk);
}

/* Lines are separated by "\n" while they are worked on. */
static bool
from_wire(struct view v, struct buf *out)
{
	size_t i;

	buf_clear(out);
	for (i = 0; i < v.n; i++)
		if ((v.p[i] != '\r' || i + 1 == v.n || v.p[i + 1] != '\n') &&
		    !buf_putc(out, v.p[i]))
			return false;
	return true;
}

static bool
to_wire(struct view v, struct buf *out)
{
	size_t i;

	buf_clear(out);
	for (i = 0; i < v.n; i++)
		if (!(v.p[i] == '\n' ? buf_puts(out, "\r\n") :
		    buf_putc(out, v.p[i])))
			return false;
	return true;
}

/* The header as content rules left it.  False: it is gone, or there is more
 * of it than was kept. */
static bool
header_text(struct rewriting *w, const struct mime_header *h,
    struct view *ret)
{
	struct view now;

	*ret = h->text;
	if (findings_replaced(w->findings, h->offset, &now)) {
		if (now.n == 0 || !from_wire(now, &w->header))
			return false;
		*ret = buf_view(&w->header);
	}
	return h->kept == h->size - h->line_end;
}

static void
rewriting_header(struct stage *s, const struct mime_header *h)
{
	struct rewriting *w = rewriting_of(s);
	enum rewrite_answer a;
	struct view text;
	bool changed;

	if (w->context == REWRITE_NONE || h->kind != MIME_HEADER_PRIMARY ||
	    findings_final(w->findings) || !header_text(w, h, &text))
		return;
	a = rewrite_header(w->rewrite, w->context, w->mapped, text, &w->out,
	    &changed);
	if (a != REWRITE_DONE && rewrite_goes_on(a))
		return;
	if (a != REWRITE_DONE) {
		rewriting_failed(w, a);
		return;
	}
	if (!changed)
		return;
	if (!to_wire(buf_view(&w->out), &w->header) ||
	    !findings_replace(w->findings, h->offset, h->size - h->line_end,
	    buf_view(&w->header))) {
		log_warn("%s: too many changes in headers -- message not "
		    "accepted, try again later", w->id);
		findings_refuse(w->findings, 451, "4.3.0",
		    "Error: too many changes in headers");
		mime_stop(w->walk);
	}
}

static const struct stage_ops rewriting_ops = {
	.name = "rewriting",
	.header = rewriting_header,
};

void
rewriting_init(struct rewriting *w, const struct conf *cf, struct rewrite *r,
    struct mime *walk, struct findings *findings)
{
	size_t max = 4 * (size_t)cf->header_size_limit + 4096;

	*w = (struct rewriting){ .stage.ops = &rewriting_ops, .rewrite = r,
		.walk = walk, .findings = findings };
	w->arena = arena_new(REWRITE_ARENA);
	buf_init(&w->header, max);
	buf_init(&w->out, max);
	buf_init(&w->encoded, ENCODED_MAX);
}

void
rewriting_free(struct rewriting *w)
{
	arena_free(&w->arena);
	buf_free(&w->header);
	buf_free(&w->out);
	buf_free(&w->encoded);
}

void
rewriting_begin(struct rewriting *w, const struct envelope *e,
    struct queue_id id)
{
	w->envelope = e;
	(void)envelope_name(e, id, w->id);
	w->mapped = (e->flags & ENVELOPE_NO_MAPPING) == 0;
	w->context = rewrite_context_of(w->rewrite, e);
}

struct view
rewriting_end(struct rewriting *w)
{
	struct findings *f = w->findings;
	struct view bcc[JUDGEMENT_BCC_MAX];
	struct rewrite_extra extra = { .redirect = buf_view(&f->redirect),
		.bcc = bcc, .n_bcc = f->n_bcc };
	struct view none = { "", 0 };
	enum rewrite_answer a;
	struct envelope e;
	bool changed;
	uint32_t i;

	if (findings_final(f))
		return none;
	for (i = 0; i < f->n_bcc; i++)
		bcc[i] = buf_view(&f->bcc[i]);
	arena_reset(w->arena);
	a = rewrite_envelope(w->rewrite, w->envelope, &extra, w->arena, &e,
	    &changed);
	if (a != REWRITE_DONE) {
		rewriting_failed(w, a);
		return none;
	}
	if (!changed)
		return none;
	buf_clear(&w->encoded);
	ensure(envelope_put(&w->encoded, &e));
	return buf_view(&w->encoded);
}
