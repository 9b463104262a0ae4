/* link: filters/tnef.c */
/* TNEF, in one piece and byte by byte: balanced, and the same. */
#include <stdint.h>

#include "filters/tnef.h"
#include "lib/log.h"

struct watcher { bool open; uint64_t sum, bytes; };

static void
on_begin(void *arg)
{
	struct watcher *w = arg;

	ensure(!w->open);
	w->open = true;
	w->sum = w->sum * 31 + 1;
}

static void
on_name(void *arg, struct view name, const char *charset)
{
	struct watcher *w = arg;

	ensure(w->open && name.n > 0 && charset != NULL);
	w->sum = w->sum * 31 + name.n;
}

static void
on_bytes(void *arg, struct view v)
{
	struct watcher *w = arg;

	ensure(w->open);
	for (size_t i = 0; i < v.n; i++)
		w->sum = w->sum * 31 + (unsigned char)v.p[i];
	w->bytes += v.n;
}

static void
on_end(void *arg)
{
	struct watcher *w = arg;

	ensure(w->open);
	w->open = false;
}

static const struct tnef_ops ops = { on_begin, on_name, on_bytes, on_end };

static uint64_t
run(struct view v, size_t cut)
{
	struct watcher w = { false, 0, 0 };
	struct tnef *t = tnef_new(&ops, &w);
	size_t n = v.n;

	tnef_begin(t);
	for (; v.n > 0; v = view_from(v, cut))
		tnef_feed(t, view_head(v, cut));
	w.sum = w.sum * 2 + tnef_end(t);
	ensure(!w.open && w.bytes <= n);
	tnef_free(&t);
	return w.sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view v = view_make(data, size);

	ensure(run(v, size + 1) == run(v, 1));
	return 0;
}
