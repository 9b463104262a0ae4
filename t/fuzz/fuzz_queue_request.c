/* link: queue/queue_request.c queue/queue_match.c queue/queue_entry.c queue/queue_show.c queue/history.c queue/spool.c queue/spool_sync.c */
/*
 * Frames of the queue commands, from either side: what is read lies inside, an
 * entry that decodes can be matched and shown, and what is shown holds no
 * control bytes.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/queue_match.h"
#include "queue/queue_request.h"
#include "queue/queue_show.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
use(struct queue_entry *e, const struct queue_match *m)
{
	struct arena *a = arena_new(queue_entry_room(e));
	struct buf b;
	size_t i;

	buf_init(&b, 4u << 20);
	if (queue_entry_decode(e, a)) {
		(void)match_entry(m, e, NULL, (struct wall){ 1 });
		if (show_listing(&b, e, true))
			for (i = 0; i < b.n; i++)
				ensure(b.p[i] == '\n' ||
				    ((unsigned char)b.p[i] >= ' ' &&
				    b.p[i] != 0x7f));
		buf_clear(&b);
		if (show_json(&b, e, true))
			ensure(view_find(buf_view(&b), '\n') == b.n - 1);
	}
	buf_free(&b);
	arena_free(&a);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct view v = view_make(data, size);
	struct queue_match m = { 0 };
	struct queue_entry e;
	struct queue_dest d;
	struct cursor c, again;
	uint8_t type;
	size_t n;
	bool bad;

	if (size > 65536)
		return 0;
	while ((n = frame_get(v, REQUEST_MAX, &type, &c, &bad)) > 0) {
		ensure(n <= v.n);
		v = view_from(v, n);
		again = c;
		if (match_get(&again, &m))
			ensure(m.site.n <= MATCH_TEXT_MAX);
		else
			m = (struct queue_match){ 0 };
		again = c;
		if (queue_dest_get(&again, &d))
			ensure(d.nexthop.n < REQUEST_MAX);
		if (queue_entry_get(&c, &e))
			use(&e, &m);
	}
	return 0;
}
