/* link: filters */
/*
 * The MIME walk: the first byte says how the text is cut into feeds and which
 * limits hold, the rest is the text.  The events must be those of the text in
 * one piece, in order, and lie inside it.
 */
#include <stdint.h>

#include "lib/log.h"
#include "rules/mime.h"

struct watcher {
	struct stage stage;
	uint64_t sum, end, size;
	int64_t open;
};

static void
note(struct watcher *w, uint64_t v)
{
	w->sum = (w->sum ^ v) * 0x100000001b3u;
}

static void
note_view(struct watcher *w, struct view v)
{
	note(w, v.n);
	for (size_t i = 0; i < v.n; i++)
		note(w, (unsigned char)v.p[i]);
}

/* Events take bytes of the text, each once, in order. */
static void
take(struct watcher *w, uint64_t offset, uint64_t size)
{
	ensure(offset >= w->end && size > 0);
	w->end = offset + size;
	ensure(w->end <= w->size);
	note(w, offset);
	note(w, size);
}

static struct watcher *
watcher(struct stage *s)
{
	return (struct watcher *)(void *)s;
}

static void
on_part_begin(struct stage *s, const struct mime_part *p)
{
	ensure(p->depth == watcher(s)->open++);
	note(watcher(s), p->block);
}

static void
on_header(struct stage *s, const struct mime_header *h)
{
	take(watcher(s), h->offset, h->size);
	ensure(h->kept <= h->size - h->line_end);
	ensure(h->text.n > 0 && h->part->depth + 1 == watcher(s)->open);
	note(watcher(s), h->kind);
	note(watcher(s), h->kept);
	note_view(watcher(s), h->text);
}

static void
on_headers_end(struct stage *s, const struct mime_part *p, uint64_t offset)
{
	ensure(p->depth + 1 == watcher(s)->open);
	note(watcher(s), offset);
}

static void
on_line(struct stage *s, const struct mime_line *l)
{
	take(watcher(s), l->offset, l->size);
	ensure(l->offset >= l->section_offset);
	note_view(watcher(s), l->text);
	note(watcher(s), (uint64_t)l->first << 2 | l->last << 1 | l->between);
}

static void
on_part_end(struct stage *s, const struct mime_part *p)
{
	ensure(p->depth == --watcher(s)->open);
}

static void
on_stray(struct stage *s, uint64_t offset)
{
	ensure(offset >= watcher(s)->end || watcher(s)->end > 0);
	note(watcher(s), offset);
}

static void
on_condition(struct stage *s, enum mime_condition c,
    const struct mime_part *p, uint64_t offset, struct view text)
{
	ensure(c > 0 && c < MIME_CONDITIONS && p != NULL);
	note(watcher(s), c);
	note(watcher(s), offset);
	note_view(watcher(s), text);
}

static void
on_end(struct stage *s)
{
	ensure(watcher(s)->open == 0);
	note(watcher(s), 1);
}

static const struct stage_ops ops = {
	.name = "watcher", .part_begin = on_part_begin, .header = on_header,
	.headers_end = on_headers_end, .line = on_line,
	.part_end = on_part_end, .stray = on_stray,
	.condition = on_condition, .end = on_end,
};

static uint64_t
walk(struct mime *m, struct view text, size_t cut)
{
	struct watcher w = { .stage.ops = &ops, .size = text.n };
	struct stage *stages[] = { &w.stage };

	mime_begin(m, stages, 1);
	while (text.n > 0) {
		mime_feed(m, view_head(text, cut));
		text = view_from(text, cut);
	}
	mime_end(m);
	return w.sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mime_options o = { .header_size_limit = 1024,
		.line_length_limit = 2048, .nesting_limit = 20,
		.part_limit = 100, .boundary_length_limit = 70,
		.stray_is_data = true };
	struct mime *m;
	struct view text;
	uint64_t sum;
	uint8_t how;

	if (size == 0)
		return 0;
	how = data[0];
	text = view_make((const char *)data + 1, size - 1);
	if ((how & 0x80) != 0)
		o.stray_is_data = false;
	if ((how & 0x40) != 0)
		o.line_length_limit = 40;
	if ((how & 0x20) != 0) {
		o.header_size_limit = 60;
		o.nesting_limit = 2;
	}
	m = mime_new(&o);
	sum = walk(m, text, text.n);
	ensure(walk(m, text, 1 + (how & 0x1f)) == sum);
	ensure(walk(m, text, 1) == sum);
	mime_free(&m);
	return 0;
}
