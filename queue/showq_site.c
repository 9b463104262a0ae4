/* What qmgr asks for by itself: the deferred mail of a site, to be tried now.
 * One site at a time; the newest qmgr gets the orders, as those of clients. */
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "queue/showq.h"

#define SITE_IDS_MAX	1000000u

static struct {
	struct chan *asker;	/* NULL: it is gone */
	bool running;
	char name[MATCH_TEXT_MAX];
	struct queue_id *ids;
	size_t n;
	struct order *order;
} pass;

bool
site_running(void)
{
	return pass.running;
}

static void
site_end(void)
{
	struct buf *b;

	if (pass.asker != NULL) {
		b = chan_begin(pass.asker, MSG_QUEUE_SITE_DONE);
		put_u32(b, (uint32_t)pass.n);
		chan_end(pass.asker);
	}
	pass.asker = NULL;
	pass.running = false;
	pass.n = 0;
	if (role_phase() == PHASE_RETIRING && client_count() == 0)
		role_exit();
}

static void
site_ordered(struct order *o, void *arg)
{
	(void)o;
	(void)arg;
	order_free(&pass.order);
	site_end();
}

static void
site_listed(void *arg)
{
	struct queue_id *ids = pass.ids;

	(void)arg;
	pass.ids = NULL;
	if (pass.n == 0) {
		free(ids);
		site_end();
		return;
	}
	pass.order = order_start(QUEUE_FLUSH, ids, (uint32_t)pass.n,
	    site_ordered, NULL);
}

static void
site_found(struct view frames, void *arg)
{
	struct queue_entry e;
	struct cursor r;
	uint8_t type;
	bool bad;
	size_t n;

	(void)arg;
	while ((n = frame_get(frames, REPLY_MAX, &type, &r, &bad)) > 0) {
		frames = view_from(frames, n);
		if (!queue_entry_get(&r, &e) || pass.n == SITE_IDS_MAX)
			continue;
		if ((pass.n & (pass.n + 1)) == 0)
			pass.ids = mem_resize(pass.ids, pass.n * 2 + 2,
			    sizeof *pass.ids);
		pass.ids[pass.n++] = e.id;
	}
}

void
site_start(struct chan *c, struct chan_in *in)
{
	struct view name = cursor_view(&in->body);
	struct list_def def = { .found = site_found, .done = site_listed };

	if (!chan_check(c, in))
		return;
	if (name.n == 0 || name.n > sizeof pass.name ||
	    (pass.running && pass.asker == c)) {
		chan_blame(c, "bad order for a site");
		return;
	}
	if (pass.running) {
		/* For another one, old or new: mail is tried when due. */
		struct buf *b = chan_begin(c, MSG_QUEUE_SITE_DONE);

		put_u32(b, 0);
		chan_end(c);
		return;
	}
	memcpy(pass.name, name.p, name.n);
	pass.asker = c;
	pass.running = true;
	def.match.places = 1u << PLACE_DEFERRED;
	def.match.site = view_make(pass.name, name.n);
	(void)listing_start(&def);
}

void
site_lost(const struct chan *c)
{
	if (pass.asker == c)
		pass.asker = NULL;
}
