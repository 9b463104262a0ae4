/* Orders to the bounce role, which is started when first needed. */
#include <stdlib.h>

#include "lib/log.h"
#include "queue/qmgr.h"

#define BOUNCE_TRIES	2u	/* after the bounce role died with it */
#define BOUNCE_DEPTH	32u	/* notifications being written at once */

static struct chan *bounce;
static struct message *waiting, **waiting_end = &waiting;
static unsigned underway;
static struct event ask_timer;
static bool asked;

static void
bounce_ask(evutil_socket_t fd, short what, void *arg)
{
	struct buf *b;

	(void)fd;
	(void)what;
	(void)arg;
	asked = false;
	if (bounce != NULL || waiting == NULL)
		return;
	if (role_control() != NULL) {
		b = chan_begin(role_control(), MSG_WANT);
		put_u8(b, ROLE_BOUNCE);
		chan_end(role_control());
	}
	/* Until it comes: master may be throttling it. */
	asked = true;
	evtimer_assign(&ask_timer, loop_base(), bounce_ask, NULL);
	event_add(&ask_timer, loop_timeout(5000));
}

static void
bounce_send(struct message *m)
{
	struct buf *b;
	uint32_t i;

	b = chan_begin(bounce, MSG_BOUNCE);
	put_u64(b, m->known.id.n);
	put_u64(b, m->text_offset);
	put_u64(b, m->text_size);
	put_u64(b, (uint64_t)m->arrival.us);
	put_u32(b, m->n_failures - m->n_deferred);
	for (i = 0; i < m->n_failures; i++) {
		if (m->failures[i].status[0] != '5')
			continue;
		put_u32(b, m->failures[i].index);
		put_view(b, view_of(m->failures[i].status));
		put_view(b, view_of(m->failures[i].reason));
		put_view(b, view_of(m->failures[i].mta));
	}
	put_view(b, m->tail.envelope);
	chan_put_fd(bounce, m->fd, true);
	chan_end(bounce);
	underway++;
}

static void
bounce_give(void)
{
	struct message *m;

	while (bounce != NULL && waiting != NULL && underway < BOUNCE_DEPTH) {
		m = waiting;
		waiting = m->next;
		if (waiting == NULL)
			waiting_end = &waiting;
		m->next = NULL;
		if (message_text(m) < 0)
			message_bounced(m, false);
		else
			bounce_send(m);
	}
	if (bounce == NULL && waiting != NULL && !asked)
		bounce_ask(-1, 0, NULL);
}

static void
bounce_queue(struct message *m)
{
	m->next = NULL;
	*waiting_end = m;
	waiting_end = &m->next;
}

void
bounce_submit(struct message *m)
{
	bounce_queue(m);
	bounce_give();
}

void
bounce_ready(struct chan *c)
{
	/* The newest one; an older one finishes what it has. */
	bounce = c;
	underway = 0;
	bounce_give();
}

static bool
bounce_is_waiting(const struct message *m)
{
	const struct message *w;

	for (w = waiting; w != NULL; w = w->next)
		if (w == m)
			return true;
	return false;
}

static void
bounce_lost(struct known *k, void *arg)
{
	struct message *m = (struct message *)k;

	(void)arg;
	if (k->state != M_BOUNCING || bounce_is_waiting(m))
		return;
	/* The notification may have been sealed already; then the sender gets
	 * two, which is better than none. */
	if (m->bounce_tries++ < BOUNCE_TRIES)
		bounce_queue(m);
	else
		message_bounced(m, false);
}

void
bounce_gone(struct chan *c)
{
	if (bounce != c)
		return;
	bounce = NULL;
	underway = 0;
	known_each(bounce_lost, NULL);
	bounce_give();
}

void
bounce_done(struct chan *c, struct chan_in *in)
{
	struct queue_id id = { cursor_u64(&in->body) };
	bool ok = cursor_u8(&in->body) != 0;
	struct queue_id note = { cursor_u64(&in->body) };
	char text[QUEUE_ID_TEXT];
	struct message *m;

	if (!chan_check(c, in))
		return;
	m = message_find(id);
	if (m == NULL || m->known.state != M_BOUNCING ||
	    bounce_is_waiting(m)) {
		chan_blame(c, "notification that nobody asked for");
		return;
	}
	if (c == bounce && underway > 0)
		underway--;
	if (ok && note.n != 0)
		log_info("%s: sender non-delivery notification: %s",
		    message_id(m), queue_id_text(note, text));
	message_bounced(m, ok);
	bounce_give();
}

bool
bounce_busy(void)
{
	return underway > 0 || waiting != NULL;
}
