/*
 * Orders to qmgr, in portions that it carries out between two other things.
 * During a reload there are two: what the one does not know or leaves to the
 * other, the other is asked for.  What has to wait for the end of a step that
 * takes an instant is asked for again, for a short while.
 */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/showq.h"

#define PORTION		100u
#define AGAIN_MS	50
#define AGAIN_MAX	40u

struct order {
	struct order *next;
	enum queue_op op;
	struct queue_id *id;
	uint8_t *result;		/* 0: nobody was asked yet */
	bool *later;			/* was so once, or may be done */
	uint32_t n, at;
	uint32_t sent[PORTION], n_sent;
	uint32_t tag;
	struct chan *asking;
	struct chan *manager;		/* whose turn it is */
	unsigned rounds;
	bool asked;
	struct event timer;
	void (*done)(struct order *o, void *arg);
	void *arg;
};

static struct order *orders;

const struct queue_id *
order_ids(const struct order *o)
{
	return o->id;
}

const uint8_t *
order_results(const struct order *o)
{
	return o->result;
}

uint32_t
order_count(const struct order *o)
{
	return o->n;
}

bool
order_asked(const struct order *o)
{
	return o->asked;
}

/* Would another answer be worth having? */
static bool
order_open(const struct order *o, uint32_t i)
{
	switch (o->result[i]) {
	case QUEUE_DONE:
	case QUEUE_FAILED:
		return false;
	case QUEUE_LATER:
		return o->op == QUEUE_HOLD || o->op == QUEUE_DELETE;
	default:
		return true;
	}
}

static void
order_send(struct order *o)
{
	struct buf *b;
	uint32_t i;

	o->asking = o->manager;
	o->tag = manager_tag();
	o->asked = true;
	b = chan_begin(o->asking, MSG_QUEUE_OP);
	put_u32(b, o->tag);
	put_u8(b, (uint8_t)o->op);
	put_u32(b, o->n_sent);
	for (i = 0; i < o->n_sent; i++)
		put_u64(b, o->id[o->sent[i]].n);
	chan_end(o->asking);
}

static bool
order_wants_again(const struct order *o)
{
	uint32_t i;

	if (o->rounds >= AGAIN_MAX)
		return false;
	for (i = 0; i < o->n; i++)
		if (o->result[i] == 0 || o->result[i] == QUEUE_BUSY ||
		    (o->result[i] == QUEUE_LATER && order_open(o, i)))
			return true;
	return false;
}

/* The next portion, of this manager or the next. */
static void
order_step(struct order *o)
{
	uint32_t i;

	while (o->manager != NULL) {
		o->n_sent = 0;
		for (; o->at < o->n && o->n_sent < PORTION; o->at++)
			if (order_open(o, o->at))
				o->sent[o->n_sent++] = o->at;
		if (o->n_sent > 0 || (o->op == QUEUE_FLUSH_ALL && !o->asked)) {
			order_send(o);
			return;
		}
		o->manager = manager_next(o->manager);
		o->at = 0;
	}
	/* Without a manager at the beginning there is none to wait for. */
	if (o->asked && order_wants_again(o)) {
		o->rounds++;
		event_add(&o->timer, loop_timeout(AGAIN_MS));
		return;
	}
	for (i = 0; i < o->n; i++)
		if (o->result[i] == 0)
			o->result[i] = QUEUE_BUSY;
	o->done(o, o->arg);
}

static void
order_again(evutil_socket_t fd, short what, void *arg)
{
	struct order *o = arg;

	(void)fd;
	(void)what;
	o->at = 0;
	o->manager = manager_first();
	order_step(o);
}

struct order *
order_start(enum queue_op op, struct queue_id *id, uint32_t n,
    void (*done)(struct order *o, void *arg), void *arg)
{
	static const struct timeval now;
	struct order *o = mem_alloc(sizeof *o);

	o->op = op;
	o->id = id;
	o->n = n;
	o->result = mem_alloc(n + 1u);
	o->later = mem_array(n + 1u, sizeof *o->later);
	o->done = done;
	o->arg = arg;
	evtimer_assign(&o->timer, loop_base(), order_again, o);
	o->next = orders;
	orders = o;
	/* Not at once: done() must not come before the caller has o. */
	event_add(&o->timer, &now);
	return o;
}

void
order_free(struct order **op)
{
	struct order *o = *op, **p;

	*op = NULL;
	if (o == NULL)
		return;
	for (p = &orders; *p != o; p = &(*p)->next)
		;
	*p = o->next;
	event_del(&o->timer);
	free(o->id);
	free(o->result);
	free(o->later);
	free(o);
}

void
order_answer(uint32_t tag, struct chan_in *in)
{
	uint32_t n = cursor_u32(&in->body), i, k;
	struct queue_id id;
	struct order *o;
	uint8_t result;

	for (o = orders; o != NULL; o = o->next)
		if (o->tag == tag && o->asking != NULL)
			break;
	if (o == NULL)
		return;
	for (i = 0; i < n; i++) {
		id.n = cursor_u64(&in->body);
		result = cursor_u8(&in->body);
		if (in->body.bad || i >= o->n_sent ||
		    id.n != o->id[o->sent[i]].n || result < QUEUE_DONE ||
		    result >= QUEUE_RESULTS) {
			chan_blame(o->asking, "bad answer");
			return;
		}
		k = o->sent[i];
		/* It went when the step that it had to wait for ended. */
		if (result == QUEUE_NOT_FOUND && o->later[k] &&
		    o->op == QUEUE_DELETE)
			result = QUEUE_DONE;
		/* Another manager's word that it has it counts for more. */
		if (result != QUEUE_NOT_FOUND || !o->later[k])
			if (!(result == QUEUE_NOT_FOUND &&
			    o->result[k] == QUEUE_BUSY && o->rounds == 0))
				o->result[k] = result;
		if (result == QUEUE_LATER)
			o->later[k] = true;
	}
	o->asking = NULL;
	order_step(o);
}

void
order_lost(const struct chan *c)
{
	struct order *o;
	uint32_t i;

	for (o = orders; o != NULL; o = o->next) {
		if (o->asking != c && o->manager != c)
			continue;
		/* What it did with the last portion nobody knows: ask its
		 * successor, if there is one. */
		for (i = 0; o->asking == c && i < o->n_sent; i++) {
			o->result[o->sent[i]] = QUEUE_BUSY;
			o->later[o->sent[i]] = true;
		}
		o->asking = NULL;
		o->manager = NULL;
		event_add(&o->timer, loop_timeout(AGAIN_MS * 10));
	}
}
