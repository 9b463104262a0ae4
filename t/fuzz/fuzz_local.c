/* link: queue/local_list.c queue/local_fate.c queue/local_order.c */
/* Lists of aliases and .forward files; what an agent says of a delivery; the
 * fields of a delivery. */
#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "queue/local.h"
#include "queue/local_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
take(enum list_kind kind, struct view text, void *arg)
{
	size_t *n = arg;

	ensure(kind >= LIST_ADDRESS && kind <= LIST_INCLUDE);
	ensure(text.n > 0 && text.n <= LIST_ITEM_MAX);
	ensure(kind != LIST_FILE || text.p[0] == '/');
	if (kind != LIST_ADDRESS && kind != LIST_DIRECT)
		ensure(view_find(text, '\0') == text.n);
	else
		ensure(text.n <= ADDRESS_MAX);
	return ++*n < 1000;
}

static void
try_fate(struct view v, struct arena *a)
{
	struct cursor c = cursor_of(v);
	struct fate f, again;
	struct buf b;

	if (!fate_get(&c, a, &f))
		return;
	buf_init(&b, FATE_BYTES_MAX);
	ensure(fate_put(&b, &f));
	c = cursor_of(buf_view(&b));
	ensure(fate_get(&c, a, &again) && cursor_done(&c));
	ensure(again.status == f.status && again.n == f.n &&
	    strcmp(again.text, f.text) == 0);
	buf_free(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *a = arena_new(ORDER_ARENA);
	struct view v = view_make(data, size), bad = view_make("", 0);
	struct order o;
	size_t n = 0;

	if (size > 0 && data[0] == 0) {
		try_fate(view_from(v, 1), a);
	} else if (size > 0 && data[0] == 1) {
		if (order_read(view_from(v, 1), -1, a, &o))
			ensure(o.n > 0 && o.rcpts[0] < o.env.nrcpts);
	} else if (!list_parse(v, take, &n, &bad)) {
		ensure(bad.p >= v.p && bad.p + bad.n <= v.p + v.n);
	}
	arena_free(&a);
	return 0;
}
