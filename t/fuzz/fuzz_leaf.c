/* link: filters */
/*
 * Leaves: the first byte says how the text is cut into feeds, the rest is the
 * text.  What sinks are told must not depend on the cut (but for how decoded
 * bytes are cut), must be balanced, and lie inside the text.
 */
#include <stdint.h>

#include "filters/leaf.h"
#include "lib/log.h"
#include "rules/mime.h"

struct watcher {
	struct leaf_sink sink;
	uint64_t sum, size[LEAF_SLOTS], bytes;
	size_t open;
};

static void
note(struct watcher *w, struct view v)
{
	for (size_t i = 0; i < v.n; i++)
		w->sum = (w->sum ^ (unsigned char)v.p[i]) * 0x100000001b3u;
}

static bool
on_begin(struct leaf_sink *s, const struct leaf *l)
{
	struct watcher *w = (struct watcher *)(void *)s;

	ensure(l->slot == w->open++ && l->slot < LEAF_SLOTS);
	w->size[l->slot] = 0;
	note(w, l->type);
	return true;
}

static void
on_bytes(struct leaf_sink *s, const struct leaf *l, struct view v)
{
	struct watcher *w = (struct watcher *)(void *)s;

	ensure(l->slot < w->open && v.n > 0);
	w->size[l->slot] += v.n;
	w->bytes += v.n;
	/* In order for each slot; slots may interleave. */
	for (size_t i = 0; i < v.n; i++)
		w->sum += (unsigned char)v.p[i] * (l->slot + 1);
}

static void
on_end(struct leaf_sink *s, const struct leaf *l)
{
	struct watcher *w = (struct watcher *)(void *)s;

	ensure(l->slot == --w->open && w->size[l->slot] == l->size);
	for (size_t i = 0; i < l->names->n; i++) {
		ensure(l->names->list[i].text.n > 0);
		note(w, l->names->list[i].text);
	}
	note(w, view_make(&l->conditions, sizeof l->conditions));
}

static void
on_condition(struct leaf_sink *s, enum mime_condition c,
    const struct mime_part *p, uint64_t offset, struct view what)
{
	struct watcher *w = (struct watcher *)(void *)s;

	ensure(c > 0 && c < MIME_CONDITIONS && p != NULL);
	(void)offset;
	note(w, what);
}

static const struct leaf_ops ops = { "watcher", on_begin, on_bytes, on_end,
	on_condition };

static uint64_t
walk(struct mime *m, struct leaves *l, struct view text, size_t cut)
{
	struct watcher w = { .sink.ops = &ops };
	struct leaf_sink *sinks[] = { &w.sink };
	struct stage *stages[] = { leaves_stage(l) };
	struct view left = text;

	leaves_begin(l, text, sinks, 1);
	mime_begin(m, stages, 1);
	for (; left.n > 0; left = view_from(left, cut))
		mime_feed(m, view_head(left, cut));
	mime_end(m);
	ensure(w.open == 0);
	/* No bomb: readings are limited, and none makes more of it. */
	ensure(w.bytes <= 8 * ((uint64_t)6 * text.n + (1u << 20)));
	return w.sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct charsets *charsets;
	static struct leaves *leaves;
	struct mime_options o = { .header_size_limit = 2048,
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
	if (charsets == NULL) {
		charsets = charsets_open();
		leaves = leaves_new(charsets);
	}
	m = mime_new(&o);
	sum = walk(m, leaves, text, text.n);
	ensure(walk(m, leaves, text, 1 + (how & 0x1f)) == sum);
	mime_free(&m);
	return 0;
}
