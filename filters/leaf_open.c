#include "filters/leaf_priv.h"
#include "lib/log.h"

void
leaf_tell(struct leaves *l, enum mime_condition c, const struct mime_part *p,
    uint64_t offset, struct view what)
{
	size_t i;

	if (condition_has(l->told, c))
		return;
	condition_add(&l->told, c);
	if (l->outer != NULL)
		offset = l->outer->header_offset;
	for (i = 0; i < l->n_sinks && !*l->stopped; i++)
		if (l->sinks[i]->ops->condition != NULL)
			l->sinks[i]->ops->condition(l->sinks[i], c, p, offset,
			    what);
}

void
leaf_tell_set(struct leaves *l, struct condition_set set,
    const struct mime_part *p, uint64_t offset, struct view what)
{
	enum mime_condition c;

	for (c = 1; set.bits >> c != 0 && c < MIME_CONDITIONS; c++)
		if (condition_has(set, c))
			leaf_tell(l, c, p, offset, what);
}

struct view
leaf_show(const struct leaf *f)
{
	return f->names != NULL && f->names->n > 0 ?
	    f->names->list[f->names->n - 1].text : view_make("", 0);
}

/* NULL when too many are open; what it holds is then part of the outer. */
struct leaf *
leaf_begin(struct leaves *l, const struct leaf *with)
{
	struct leaf *f;
	size_t i, slot = l->n_open;

	if (slot == LEAF_SLOTS)
		return NULL;
	f = &l->open[slot];
	*f = *with;
	f->slot = (uint32_t)slot;
	f->index = l->index++;
	if (l->outer != NULL) {
		f->inside = true;
		f->in_signed = f->in_signed || l->outer->in_signed;
		f->header_offset = l->outer->header_offset;
		f->body_offset = l->outer->body_offset;
	}
	l->n_open++;
	for (i = 0; i < l->n_sinks && !*l->stopped; i++)
		l->sinks[i]->wants[slot] = l->sinks[i]->ops->begin == NULL ||
		    l->sinks[i]->ops->begin(l->sinks[i], f);
	return f;
}

void
leaf_bytes(struct leaves *l, size_t slot, struct view v)
{
	struct leaf *f = &l->open[slot];
	size_t i;

	f->size += v.n;
	for (i = 0; i < l->n_sinks && !*l->stopped; i++)
		if (l->sinks[i]->wants[slot] &&
		    l->sinks[i]->ops->bytes != NULL)
			l->sinks[i]->ops->bytes(l->sinks[i], f, v);
}

void
leaf_end(struct leaves *l)
{
	struct leaf *f = &l->open[l->n_open - 1];
	size_t i;

	f->end_offset = l->outer != NULL ? l->outer->end_offset : l->seen;
	leaf_tell_set(l, f->conditions, f->part, f->body_offset, leaf_show(f));
	for (i = 0; i < l->n_sinks && !*l->stopped; i++)
		if (l->sinks[i]->ops->end != NULL)
			l->sinks[i]->ops->end(l->sinks[i], f);
	l->n_open--;
}

/* -- inside a leaf --------------------------------------------------------- */

/* A leaf found in the body of slot 0. */
static struct leaf *
begin_inner(struct leaves *l, enum leaf_origin origin)
{
	struct leaf f = l->open[0];

	f.origin = origin;
	f.holds_message = f.holds_parts = false;
	f.size = 0;
	f.conditions = (struct condition_set){ 0 };
	f.type = view_of("application");
	f.subtype = view_of("octet-stream");
	f.charset = view_make("", 0);
	f.disposition = DISPOSITION_ATTACHMENT;
	f.encoding = ENCODING_BINARY;
	if (l->n_open < LEAF_SLOTS) {
		names_clear(&l->names[l->n_open]);
		f.names = &l->names[l->n_open];
	}
	return leaf_begin(l, &f);
}

static void
inbody_file(void *arg, enum inbody_kind kind, struct view name)
{
	struct leaves *l = arg;
	struct part_names *n = &l->names[l->n_open];
	uint32_t source = kind == INBODY_YENC ? NAME_OF_YENC :
	    NAME_OF_UUENCODE;
	struct leaf f = l->open[0];

	ensure(l->n_open == 1);
	names_clear(n);
	names_add(n, name, "utf-8", source);
	/* One that nobody declared has the names of the part. */
	if (kind != INBODY_BARE_BASE64 && kind != INBODY_BARE_QP)
		f.names = n;
	buf_clear(&n->scratch);
	if (charsets_words(l->charsets, name, &n->scratch))
		names_add(n, buf_view(&n->scratch), "utf-8",
		    source | NAME_RFC2047);
	f.origin = kind == INBODY_YENC ? LEAF_YENC : LEAF_UUENCODE;
	f.holds_message = f.holds_parts = false;
	f.size = 0;
	f.conditions = (struct condition_set){ 0 };
	f.type = view_of("application");
	f.subtype = view_of("octet-stream");
	f.charset = view_make("", 0);
	f.disposition = DISPOSITION_ATTACHMENT;
	(void)leaf_begin(l, &f);
}

static void
inbody_bytes(void *arg, struct view v)
{
	struct leaves *l = arg;

	leaf_bytes(l, l->n_open - 1, v);
}

static void
inbody_file_end(void *arg, struct condition_set conditions)
{
	struct leaves *l = arg;

	l->open[l->n_open - 1].conditions.bits |= conditions.bits;
	leaf_end(l);
}

const struct inbody_ops leaf_inbody_ops = { inbody_file, inbody_bytes,
	inbody_file_end };

static void
tnef_attachment(void *arg)
{
	struct leaves *l = arg;

	(void)begin_inner(l, LEAF_TNEF);
}

static void
tnef_name(void *arg, struct view name, const char *charset)
{
	struct leaves *l = arg;

	if (l->n_open > 1)
		names_add(&l->names[l->n_open - 1], name, charset,
		    NAME_OF_TNEF);
}

static void
tnef_bytes(void *arg, struct view v)
{
	struct leaves *l = arg;

	if (l->n_open > 1)
		leaf_bytes(l, l->n_open - 1, v);
}

static void
tnef_attachment_end(void *arg)
{
	struct leaves *l = arg;
	const struct part_names *n;

	if (l->n_open < 2)
		return;
	n = &l->names[l->n_open - 1];
	if (n->control)
		condition_add(&l->open[l->n_open - 1].conditions,
		    MIME_NAME_CONTROL);
	if (n->bidi)
		condition_add(&l->open[l->n_open - 1].conditions,
		    MIME_NAME_BIDI);
	leaf_end(l);
}

const struct tnef_ops leaf_tnef_ops = { tnef_attachment, tnef_name,
	tnef_bytes, tnef_attachment_end };
