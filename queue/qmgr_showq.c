/*
 * Lists for showq, in parts that are small enough not to keep a delivery
 * waiting: it asks for the next part when it has made use of the last one, so
 * nothing piles up here either.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/qmgr.h"
#include "queue/queue_entry.h"

#define CHAINS		2048u	/* of the table, in one part */
#define PART_BYTES	65536u
#define ENTRY_BYTES	(1u << 20)	/* over it: showq reads the file */
#define OPS_MAX		100u

struct peer {
	struct chan *chan;
};

struct part {
	struct buf entries;
	uint32_t n;
};

static void
list_failures(const struct message *m, struct queue_entry *e, struct buf *b)
{
	const struct failure *f;
	uint32_t i;

	for (i = 0; i < m->n_failures && b->n < ENTRY_BYTES / 4; i++) {
		f = &m->failures[i];
		if (f->fate != RCPT_DEFERRED && f->fate != RCPT_BOUNCED)
			continue;
		if (!queue_failure_put(b, &(struct queue_failure){ f->index,
		    f->fate == RCPT_BOUNCED, view_of(f->status),
		    view_of(f->reason), view_of(f->mta) }))
			break;
		e->n_failures++;
	}
	e->failures = buf_view(b);
}

static void
list_message(const struct message *m, struct buf *out, struct part *part)
{
	struct queue_entry e = {
		.id = m->known.id, .place = m->known.state == M_INCOMING ?
		    PLACE_INCOMING : PLACE_ACTIVE,
		.expire = m->expire, .in_memory = true,
		.arrival = m->arrival, .text_size = m->text_size,
		.route = m->tail.route, .edits = m->tail.edits,
		.envelope = m->tail.envelope,
		.status = view_make(m->status, m->tail.nrcpts),
		.history = m->tail.history,
	};
	struct buf failures;

	buf_init(&failures, ENTRY_BYTES);
	list_failures(m, &e, &failures);
	if (e.envelope.n + e.edits.n <= ENTRY_BYTES &&
	    queue_entry_put(out, &e) && part != NULL)
		part->n++;
	buf_free(&failures);
}

static bool
list_known(struct known *k, void *arg)
{
	struct part *part = arg;

	switch (k->state) {
	case M_INCOMING:
	case M_ACTIVE:
	case M_BOUNCING:
	case M_DEFERRING:
		list_message((struct message *)k, &part->entries, part);
		break;
	case M_NONE:
	case M_WRITING:
	case M_COPYING:
	case M_JUDGING:
	case M_MILTERING:
	case M_PROXYING:
	case M_SYNCING:
	case M_LOADING:
	case M_DEFERRED:
	case M_BUSY:
	case M_STATES:
		break;		/* not mail yet, or showq finds its file */
	}
	return part->entries.n < PART_BYTES;
}

static void
peer_list(struct peer *p, struct chan_in *in)
{
	uint32_t tag = cursor_u32(&in->body);
	uint64_t where = cursor_u64(&in->body);
	struct part part = { .n = 0 };
	struct buf *b;

	if (!chan_check(p->chan, in))
		return;
	buf_init(&part.entries, CHAN_MSG_MAX - 4096);
	where = known_scan(where, CHAINS, list_known, &part);
	b = chan_begin(p->chan, MSG_QUEUE_LISTED);
	put_u32(b, tag);
	put_u64(b, where);
	put_u32(b, part.n);
	(void)buf_putv(b, buf_view(&part.entries));
	chan_end(p->chan);
	buf_free(&part.entries);
}

static void
list_dest(const struct dest_facts *f, void *arg)
{
	struct part *part = arg;
	struct queue_dest d = {
		.transport = view_of(f->transport),
		.nexthop = view_of(f->nexthop),
		.held_by = view_of(f->held_by),
		.last_error = view_of(f->last_error),
		.waiting = f->waiting, .busy = f->busy,
		.window = f->window, .limit = f->limit,
	};

	struct buf servers;

	buf_init(&servers, 4096);
	qpool_summary(f->nexthop, &servers);
	if (servers.n > 0)
		d.last_error = buf_view(&servers);
	if (f->next_try.us > loop_now().us)
		d.next_try_ms = (f->next_try.us - loop_now().us) / 1000;
	if (part->n < QUEUE_DESTS_MAX && queue_dest_put(&part->entries, &d))
		part->n++;
	buf_free(&servers);
}

static void
peer_dests(struct peer *p, struct chan_in *in)
{
	uint32_t tag = cursor_u32(&in->body);
	struct part part = { .n = 0 };
	struct buf *b;

	if (!chan_check(p->chan, in))
		return;
	buf_init(&part.entries, CHAN_MSG_MAX - 4096);
	dest_each(list_dest, &part);
	b = chan_begin(p->chan, MSG_QUEUE_DESTS_ARE);
	put_u32(b, tag);
	put_u32(b, part.n);
	(void)buf_putv(b, buf_view(&part.entries));
	chan_end(p->chan);
	buf_free(&part.entries);
}

static void
peer_op(struct peer *p, struct chan_in *in)
{
	uint32_t tag = cursor_u32(&in->body);
	uint8_t op = cursor_u8(&in->body);
	uint32_t n = cursor_u32(&in->body), i;
	struct queue_id id[OPS_MAX];
	enum queue_result result[OPS_MAX];
	struct buf *b;

	if (n > OPS_MAX || op < QUEUE_HOLD || op >= QUEUE_OPS) {
		chan_blame(p->chan, "bad order");
		return;
	}
	for (i = 0; i < n; i++)
		id[i].n = cursor_u64(&in->body);
	if (!chan_check(p->chan, in))
		return;
	if (op == QUEUE_FLUSH_ALL || (op == QUEUE_FLUSH && n > 0))
		dest_revive_all();
	if (op == QUEUE_FLUSH_ALL && !qmgr.handed_over && !qmgr.stopping)
		intake_flush();
	for (i = 0; i < n; i++)
		result[i] = op == QUEUE_FLUSH_ALL ? QUEUE_NOT_FOUND :
		    op_apply((enum queue_op)op, id[i]);
	b = chan_begin(p->chan, MSG_QUEUE_OP_IS);
	put_u32(b, tag);
	put_u32(b, n);
	for (i = 0; i < n; i++) {
		put_u64(b, id[i].n);
		put_u8(b, (uint8_t)result[i]);
	}
	chan_end(p->chan);
	qmgr_check_end();
}

static void
peer_open(struct peer *p, struct chan_in *in)
{
	uint32_t tag = cursor_u32(&in->body);
	struct queue_id id = { cursor_u64(&in->body) };
	const struct message *m;
	struct buf *b;

	if (!chan_check(p->chan, in))
		return;
	m = message_find(id);
	/* A sealed text.  What is a file showq can open itself. */
	if (m == NULL || m->segment == NULL || m->fd < 0) {
		b = chan_begin(p->chan, MSG_QUEUE_OPEN_NONE);
		put_u32(b, tag);
		chan_end(p->chan);
		return;
	}
	b = chan_begin(p->chan, MSG_QUEUE_OPEN_IS);
	put_u32(b, tag);
	put_u64(b, m->text_offset);
	list_message(m, b, NULL);
	chan_put_fd(p->chan, m->fd, true);
	chan_end(p->chan);
}

static void
peer_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	struct peer *p = arg;

	switch ((int)in->type) {
	case MSG_QUEUE_LIST:
		peer_list(p, in);
		break;
	case MSG_QUEUE_DESTS:
		peer_dests(p, in);
		break;
	case MSG_QUEUE_OP:
		peer_op(p, in);
		break;
	case MSG_QUEUE_SITE_DONE:
		site_done(c, in);
		break;
	case MSG_QUEUE_OPEN:
		peer_open(p, in);
		break;
	default:
		chan_blame(c, "unexpected message");
		break;
	}
}

static void
peer_on_close(struct chan *c, void *arg)
{
	struct peer *p = arg;

	site_showq_gone(c);
	chan_free(&p->chan);
	free(p);
}

void
showq_peer(const struct role_peer *peer, int fd)
{
	struct peer *p = mem_alloc(sizeof *p);

	p->chan = chan_new(fd, ROLE_QMGR, ROLE_SHOWQ, peer->pid, peer_on_msg,
	    peer_on_close, p);
	site_showq(p->chan);
}
