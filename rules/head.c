#include "lib/header.h"
#include "lib/log.h"
#include "rules/head.h"

void
head_init(struct head *h, size_t limit)
{
	*h = (struct head){ .open = false };
	buf_init(&h->text, limit);
}

/*
 * Add bytes in front of which the text has skipped others.  kept counts only
 * what is wholly in, so that a cut never falls into a line end.
 */
static void
head_add(struct head *h, struct view v, size_t skipped)
{
	size_t room = h->text.max - h->text.n;

	if (h->full)
		return;
	h->full = v.n > room;
	v = view_head(v, room);
	ensure(buf_putv(&h->text, v));
	if (v.n > 0)
		h->kept += skipped + v.n;
}

void
head_begin(struct head *h, struct view piece, uint64_t offset)
{
	struct view name, rest;

	ensure(header_split(piece, &name, &rest));
	buf_clear(&h->text);
	h->open = true;
	h->full = false;
	h->name_n = name.n;
	h->offset = offset;
	h->size = h->line_end = h->kept = 0;
	/* "Name : value" becomes "Name: value", so that rules need not care. */
	head_add(h, name, 0);
	head_add(h, rest, (size_t)(rest.p - name.p) - name.n);
}

void
head_continue(struct head *h, struct view piece, bool first)
{
	if (first)
		head_add(h, view_make("\n", 1),
		    h->line_end > 0 ? (size_t)h->line_end - 1 : 0);
	head_add(h, piece, 0);
}

void
head_count(struct head *h, uint64_t size, uint64_t line_end)
{
	h->size += size;
	h->line_end = line_end;
}

void
head_end(struct head *h, struct mime_header *ret)
{
	struct view text = buf_view(&h->text);

	h->open = false;
	*ret = (struct mime_header){ .text = text,
		.field = field_find(view_head(text, h->name_n)),
		.value = view_trim(view_from(text, h->name_n + 1)),
		.offset = h->offset, .size = h->size,
		.line_end = h->line_end,
		.kept = h->full ? h->kept : h->size - h->line_end };
}
