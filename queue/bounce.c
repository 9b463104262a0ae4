/*
 * The bounce role: writes non-delivery notifications.  An order from qmgr
 * (MSG_BOUNCE) needs a slot, like any message; the notification is sealed and
 * durable before qmgr is told that the failed recipients are done.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/role.h"
#include "queue/bounce_report.h"

#define IDLE_MS		100000
#define ORIGINAL_MAX	(16u << 20)
#define SEALS	(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

struct order {
	struct order *next;
	struct manager *manager;
	struct queue_id id, note;
	struct wall arrival;
	uint64_t text_offset, text_size;
	int fd;				/* of the failed message */
	char *bytes;			/* the order as it came */
	struct arena *arena;
	struct envelope env;
	struct bounce_failure *failures;
	uint32_t n_failures;
	bool sealed;			/* waits for SEALED */
};

struct manager {
	struct manager *next;
	struct chan *chan;
};

static struct manager *managers;
static struct order *orders;
static struct event idle_timer;

static void
order_free(struct order *o)
{
	struct order **p;

	for (p = &orders; *p != o; p = &(*p)->next)
		ensure(*p != NULL);
	*p = o->next;
	if (o->fd >= 0)
		close(o->fd);
	arena_free(&o->arena);
	free(o->bytes);
	free(o->failures);
	free(o);
	event_add(&idle_timer, loop_timeout(IDLE_MS));
	if (orders == NULL && role_phase() == PHASE_RETIRING)
		role_exit();
}

static void
order_answer(struct order *o, bool ok)
{
	struct buf *b = chan_begin(o->manager->chan, MSG_BOUNCED);

	put_u64(b, o->id.n);
	put_u8(b, ok);
	put_u64(b, ok ? o->note.n : 0);
	chan_end(o->manager->chan);
	order_free(o);
}

static bool
order_read(struct chan *c, struct chan_in *in, struct order *o)
{
	struct cursor *p = &in->body;
	uint32_t i;
	struct view env;

	/* Its views must outlive the message. */
	o->bytes = mem_copy(view_make(p->p, cursor_left(p)));
	*p = cursor_of(view_make(o->bytes, cursor_left(p)));
	o->id.n = cursor_u64(p);
	o->text_offset = cursor_u64(p);
	o->text_size = cursor_u64(p);
	o->arrival.us = (int64_t)cursor_u64(p);
	o->n_failures = cursor_u32(p);
	if (p->bad || o->n_failures > ENVELOPE_RCPTS_MAX) {
		chan_blame(c, "bad order");
		return false;
	}
	o->failures = mem_array(o->n_failures, sizeof *o->failures);
	for (i = 0; i < o->n_failures; i++) {
		o->failures[i].index = cursor_u32(p);
		o->failures[i].status = cursor_view(p);
		o->failures[i].reason = cursor_view(p);
		o->failures[i].mta = cursor_view(p);
	}
	env = cursor_view(p);
	if (!chan_check(c, in))
		return false;
	o->arena = arena_new(env.n * 16 + 65536);
	if (!envelope_get(env, o->arena, &o->env)) {
		chan_blame(c, "bad envelope");
		return false;
	}
	for (i = 0; i < o->n_failures; i++)
		if (o->failures[i].index >= o->env.nrcpts) {
			chan_blame(c, "no such recipient");
			return false;
		}
	return true;
}

/* Those that asked for NOTIFY=NEVER, or not for FAILURE, are left out. */
static void
order_wanted(struct order *o)
{
	uint32_t i, n = 0;
	uint8_t notify;

	for (i = 0; i < o->n_failures; i++) {
		notify = o->env.rcpts[o->failures[i].index].notify;
		if (notify == 0 || (notify & NOTIFY_FAILURE) != 0)
			o->failures[n++] = o->failures[i];
	}
	o->n_failures = n;
}

static void
manager_order(struct manager *m, struct chan_in *in)
{
	struct order *o = mem_alloc(sizeof *o);
	struct buf *b;

	o->manager = m;
	o->fd = in->fd[0];
	in->fd[0] = -1;
	o->next = orders;
	orders = o;
	if (!order_read(m->chan, in, o)) {
		order_free(o);
		return;
	}
	order_wanted(o);
	if (o->n_failures == 0 || o->env.sender.n == 0) {
		order_answer(o, true);
		return;
	}
	b = chan_begin(m->chan, MSG_SLOTS);
	put_u32(b, 1);
	chan_end(m->chan);
}

static bool
order_original(struct order *o, struct bounce_facts *f, struct buf *text)
{
	uint64_t limit = (uint64_t)role_conf()->bounce_size_limit, n;
	char *to;
	ssize_t k;

	f->headers_only = o->text_size > limit || o->env.ret == 'H';
	n = o->text_size < ORIGINAL_MAX ? o->text_size : ORIGINAL_MAX;
	if (f->headers_only && n > limit)
		n = limit;
	while (text->n < n) {
		to = buf_room(text, n - text->n);
		if (to == NULL)
			return false;
		k = pread(o->fd, to, n - text->n,
		    (off_t)(o->text_offset + text->n));
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		text->n += (size_t)k;
	}
	f->original = f->headers_only ? bounce_headers(buf_view(text)) :
	    buf_view(text);
	return true;
}

static bool
write_text(int fd, struct view v)
{
	ssize_t k;

	while (v.n > 0) {
		k = write(fd, v.p, v.n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		v = view_from(v, (size_t)k);
	}
	return true;
}

static void
order_write(struct order *o, int fd)
{
	struct bounce_facts f = {
		.cf = role_conf(), .id = o->id, .note = o->note,
		.arrival = o->arrival, .now = clock_wall(), .env = &o->env,
		.failures = o->failures, .n_failures = o->n_failures,
	};
	struct chan *c = o->manager->chan;
	struct buf original, text, *b, env;
	struct recipient to = { .addr = o->env.sender };
	struct envelope e = {
		.flags = ENVELOPE_NO_FILTER | (o->env.flags &
		    (ENVELOPE_8BIT | ENVELOPE_SMTPUTF8)),
		.client_name = view_of("localhost"),
		.client_addr = view_of("127.0.0.1"),
		.proto = view_of("internal"), .nrcpts = 1, .rcpts = &to,
	};
	bool ok;

	buf_init(&original, ORIGINAL_MAX + 1);
	buf_init(&text, ORIGINAL_MAX * 2);
	buf_init(&env, 16384);
	ok = order_original(o, &f, &original) && bounce_report(&f, &text) &&
	    envelope_put(&env, &e) && write_text(fd, buf_view(&text)) &&
	    fcntl(fd, F_ADD_SEALS, SEALS) == 0;
	if (ok) {
		b = chan_begin(c, MSG_SEAL);
		put_u64(b, o->note.n);
		put_u64(b, text.n);
		put_u8(b, 1);
		put_view(b, buf_view(&env));
		chan_end(c);
		o->sealed = true;
	}
	buf_free(&original);
	buf_free(&text);
	buf_free(&env);
	if (!ok) {
		log_error("cannot write a notification: %s", strerror(errno));
		b = chan_begin(c, MSG_SLOT_DROP);
		put_u64(b, o->note.n);
		chan_end(c);
		order_answer(o, false);
	}
}

static void
manager_slot(struct manager *m, struct chan_in *in)
{
	struct queue_id id = { cursor_u64(&in->body) };
	struct order *o, *first = NULL;
	struct buf *b;

	if (!chan_check(m->chan, in))
		return;
	for (o = orders; o != NULL; o = o->next)
		if (o->manager == m && o->note.n == 0)
			first = o;
	if (first == NULL) {
		b = chan_begin(m->chan, MSG_SLOT_DROP);
		put_u64(b, id.n);
		chan_end(m->chan);
		return;
	}
	first->note = id;
	order_write(first, in->fd[0]);
}

static void
manager_sealed(struct manager *m, struct chan_in *in)
{
	struct queue_id id = { cursor_u64(&in->body) };
	uint16_t code = cursor_u16(&in->body);
	struct view status = cursor_view(&in->body);
	struct view text = cursor_view(&in->body);
	char name[QUEUE_ID_TEXT];
	struct order *o;

	if (!chan_check(m->chan, in))
		return;
	for (o = orders; o != NULL; o = o->next)
		if (o->manager == m && o->sealed && o->note.n == id.n)
			break;
	if (o == NULL)
		return;
	if (code / 100 != 2)
		log_warn("%s: notification was not accepted: %u %s %s",
		    queue_id_text(o->id, name), code, log_safe(status),
		    log_safe(text));
	order_answer(o, code / 100 == 2);
}

static void
manager_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	struct manager *m = arg;

	switch ((int)in->type) {
	case MSG_BOUNCE:
		manager_order(m, in);
		break;
	case MSG_SLOT:
		manager_slot(m, in);
		break;
	case MSG_SEALED:
		manager_sealed(m, in);
		break;
	case MSG_SPACE:
		break;		/* a notification is tried all the same */
	default:
		chan_blame(c, "unexpected message");
		break;
	}
}

static void
manager_on_close(struct chan *c, void *arg)
{
	struct manager *m = arg, **p;
	struct order *o, *next;

	(void)c;
	for (o = orders; o != NULL; o = next) {
		next = o->next;
		if (o->manager == m)
			order_free(o);
	}
	for (p = &managers; *p != m; p = &(*p)->next)
		;
	*p = m->next;
	chan_free(&m->chan);
	free(m);
}

static void
bounce_peer(const struct role_peer *peer, int fd)
{
	struct manager *m = mem_alloc(sizeof *m);

	m->chan = chan_new(fd, ROLE_BOUNCE, ROLE_QMGR, peer->pid,
	    manager_on_msg, manager_on_close, m);
	m->next = managers;
	managers = m;
}

static void
bounce_idle(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	if (orders == NULL)
		role_exit();
	event_add(&idle_timer, loop_timeout(IDLE_MS));
}

static void
bounce_start(void)
{
	evtimer_assign(&idle_timer, loop_base(), bounce_idle, NULL);
	event_add(&idle_timer, loop_timeout(IDLE_MS));
}

static void
bounce_retire(void)
{
	if (orders == NULL)
		role_exit();
}

static const struct role_def bounce_def = {
	.kind = ROLE_BOUNCE,
	.start = bounce_start,
	.peer = bounce_peer,
	.retire = bounce_retire,
};

int
main(int argc, char **argv)
{
	return role_main(&bounce_def, argc, argv);
}
