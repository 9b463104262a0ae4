/*
 * leafcat < message: the leaves of a message, for comparison with others:
 * "leaf TYPE/SUBTYPE SIZE" and its bytes, one behind the other; then "end".
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "filters/leaf.h"
#include "rules/mime.h"

struct printer {
	struct leaf_sink sink;
	struct buf body;
};

static bool
on_begin(struct leaf_sink *s, const struct leaf *l)
{
	if (l->slot == 0)
		buf_clear(&((struct printer *)(void *)s)->body);
	return l->slot == 0;
}

static void
on_bytes(struct leaf_sink *s, const struct leaf *l, struct view v)
{
	(void)l;
	(void)buf_putv(&((struct printer *)(void *)s)->body, v);
}

static void
on_end(struct leaf_sink *s, const struct leaf *l)
{
	struct buf *b = &((struct printer *)(void *)s)->body;

	if (l->slot > 0)
		return;
	printf("leaf %.*s/%.*s %zu\n", VIEW_ARGS(l->type),
	    VIEW_ARGS(l->subtype), b->n);
	(void)fwrite(b->p, 1, b->n, stdout);
	putchar('\n');
	for (size_t i = 0; i < l->names->n; i++)
		printf("name %zu\n%.*s\n", l->names->list[i].text.n,
		    VIEW_ARGS(l->names->list[i].text));
}

static const struct leaf_ops ops = { "printer", on_begin, on_bytes, on_end,
	NULL };

int
main(void)
{
	struct mime_options o = { .header_size_limit = 102400,
		.line_length_limit = 2048, .nesting_limit = 100,
		.part_limit = 10000, .boundary_length_limit = 2048,
		.stray_is_data = true };
	struct charsets *cs = charsets_open();
	struct leaves *leaves = leaves_new(cs);
	struct mime *m = mime_new(&o);
	struct printer p = { .sink.ops = &ops };
	struct leaf_sink *sinks[] = { &p.sink };
	struct stage *stages[] = { leaves_stage(leaves) };
	struct buf text;
	ssize_t n;
	char *room;

	buf_init(&p.body, 64u << 20);
	buf_init(&text, 64u << 20);
	while ((room = buf_room(&text, 65536)) != NULL &&
	    (n = read(0, room, 65536)) > 0)
		text.n += (size_t)n;
	leaves_begin(leaves, buf_view(&text), sinks, 1);
	mime_begin(m, stages, 1);
	mime_feed(m, buf_view(&text));
	mime_end(m);
	printf("end\n");
	leaves_free(&leaves);
	charsets_free(&cs);
	mime_free(&m);
	buf_free(&p.body);
	buf_free(&text);
	return 0;
}
