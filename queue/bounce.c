/*
 * The bounce role: writes notifications.  An order from qmgr (MSG_BOUNCE)
 * needs a slot, like any message; the notification is sealed and durable
 * before qmgr is told that the recipients it tells of are done.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/role.h"
#include "lib/write_all.h"
#include "queue/bounce_order.h"

#define IDLE_MS		100000
#define ORIGINAL_MAX	(16u << 20)
#define TEXT_MAX	(48u << 20)	/* 10,000 recipients and an original */
#define SEALS	(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

struct order {
	struct order *next;
	struct manager *manager;
	struct bounce_order what;
	struct queue_id note;
	int fd;				/* of the message */
	struct arena *arena;
	bool sealed;			/* waits for SEALED */
};

struct manager {
	struct manager *next;
	struct chan *chan;
};

static struct bounce_templates templates;
static struct manager *managers;
static struct order *orders;
static struct event idle_timer;

/* Answers that were not sent would have the notifications written twice. */
static void
bounce_end(void)
{
	struct manager *m;

	for (m = managers; m != NULL; m = m->next)
		chan_drain(m->chan);
	role_exit();
}

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
	free(o);
	event_add(&idle_timer, loop_timeout(IDLE_MS));
	if (orders == NULL && role_phase() == PHASE_RETIRING)
		bounce_end();
}

static void
order_answer(struct order *o, bool ok)
{
	struct buf *b = chan_begin(o->manager->chan, MSG_BOUNCED);

	put_u64(b, o->what.id.n);
	put_u8(b, ok);
	put_u64(b, ok ? o->note.n : 0);
	chan_end(o->manager->chan);
	order_free(o);
}

static void
manager_order(struct manager *m, struct chan_in *in)
{
	struct view body = view_make(in->body.p, cursor_left(&in->body));
	struct order *o = mem_alloc(sizeof *o);
	struct buf *b;

	o->manager = m;
	o->fd = in->fd[0];
	in->fd[0] = -1;
	o->next = orders;
	orders = o;
	o->arena = arena_new(bounce_order_memory(body.n));
	if (!bounce_order_read(body, o->arena, &o->what)) {
		order_free(o);
		chan_blame(m->chan, "bad order");
		return;
	}
	bounce_order_wanted(&o->what);
	/* A null sender is never answered (RFC 5321 section 4.5.5). */
	if (o->what.n_outcomes == 0 || (o->what.env.sender.n == 0 &&
	    !bounce_for_postmaster(o->what.kind))) {
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
	enum notice_kind kind = o->what.kind;
	char *to;
	ssize_t k;

	/* RET is about failures alone (RFC 3461 section 4.3). */
	f->headers_only = o->what.text_size > limit || (
	    (o->what.env.flags & ENVELOPE_REQUIRETLS) != 0 &&
	    role_conf()->requiretls_redact_dsn) || !(kind == NOTICE_DOUBLE ||
	    (kind == NOTICE_FAILURE && o->what.env.ret != 'H'));
	n = o->what.text_size < ORIGINAL_MAX ? o->what.text_size :
	    ORIGINAL_MAX;
	if (f->headers_only && n > limit)
		n = limit;
	while (text->n < n) {
		to = buf_room(text, n - text->n);
		if (to == NULL)
			return false;
		k = pread(o->fd, to, n - text->n,
		    (off_t)(o->what.text_offset + text->n));
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

/* The postmaster of a notify class, with our domain if it has none. */
static struct view
order_postmaster(struct order *o)
{
	const struct conf *cf = role_conf();
	const char *name = o->what.kind == NOTICE_DOUBLE ?
	    cf->second_bounce_notice_recipient :
	    o->what.kind == NOTICE_DELAY_COPY ? cf->delay_notice_recipient :
	    cf->bounce_notice_recipient;
	struct view v = view_head(view_of(name), ADDRESS_MAX / 2);
	struct buf b;

	buf_init(&b, ADDRESS_MAX);
	(void)buf_putv(&b, v);
	if (view_find(v, '@') == v.n)
		(void)buf_printf(&b, "@%.400s", cf->myorigin);
	v = arena_copy(o->arena, buf_view(&b));
	buf_free(&b);
	return v;
}

static void
order_announce(const struct order *o)
{
	static const char *const what[NOTICE_KINDS] = {
		[NOTICE_FAILURE] = "sender non-delivery notification",
		[NOTICE_DELAY] = "sender delay notification",
		[NOTICE_SUCCESS] = "sender delivery status notification",
		[NOTICE_FAILURE_COPY] = "postmaster non-delivery notification",
		[NOTICE_DELAY_COPY] = "postmaster delay notification",
		[NOTICE_DOUBLE] = "postmaster non-delivery notification",
	};
	char id[QUEUE_ID_TEXT], note[QUEUE_ID_TEXT];

	log_info("%s: %s: %s", queue_id_text(o->what.id, id),
	    what[o->what.kind], queue_id_text(o->note, note));
	/* Before anybody else has something to say about it. */
	log_flush();
}

/* Who it comes from and goes to; envelope of the notification. */
static void
order_envelope(struct order *o, bool is_8bit, struct recipient *to,
    struct envelope *e)
{
	const struct conf *cf = role_conf();

	*e = (struct envelope){ .flags = ENVELOPE_NO_FILTER,
		.client_name = view_of("localhost"),
		.client_addr = view_of("127.0.0.1"),
		.proto = view_of("internal"), .nrcpts = 1, .rcpts = to };
	if (is_8bit)
		e->flags |= ENVELOPE_8BIT;
	if (bounce_is_global(&o->what.env))
		e->flags |= ENVELOPE_SMTPUTF8;
	/* RFC 8689 section 5; how much it needs of them, the relay knows. */
	e->flags |= o->what.env.flags & (ENVELOPE_REQUIRETLS |
	    ENVELOPE_TLS_OPTIONAL);
	if (bounce_for_postmaster(o->what.kind))
		e->sender = view_head(view_of(conf_expand(cf,
		    "$double_bounce_sender@$myhostname")), ADDRESS_MAX);
}

static bool
order_seal(struct order *o, const struct buf *text, struct view to)
{
	struct chan *c = o->manager->chan;
	struct recipient rcpt = { .addr = to };
	struct envelope e;
	struct buf env, *b;
	bool ok, is_8bit = false;
	size_t i;

	for (i = 0; i < text->n && !is_8bit; i++)
		is_8bit = (unsigned char)text->p[i] > 127;
	order_envelope(o, is_8bit, &rcpt, &e);
	buf_init(&env, 16384);
	ok = envelope_put(&env, &e);
	if (ok) {
		b = chan_begin(c, MSG_SEAL);
		put_u64(b, o->note.n);
		put_u64(b, text->n);
		put_u8(b, 1);
		put_view(b, buf_view(&env));
		chan_end(c);
		o->sealed = true;
	}
	buf_free(&env);
	return ok;
}

static void
order_write(struct order *o, int fd)
{
	const struct bounce_order *w = &o->what;
	struct bounce_facts f = {
		.cf = role_conf(), .templates = &templates, .kind = w->kind,
		.id = w->id, .note = o->note, .arrival = w->arrival,
		.now = clock_wall(), .attempt = w->attempt,
		.until = w->until, .env = &w->env, .outcomes = w->outcomes,
		.n_outcomes = w->n_outcomes,
	};
	struct buf original, text, *b;
	bool ok;

	f.to = bounce_for_postmaster(w->kind) ? order_postmaster(o) :
	    w->env.sender;
	order_announce(o);
	buf_init(&original, ORIGINAL_MAX + 1);
	buf_init(&text, TEXT_MAX);
	ok = order_original(o, &f, &original) && bounce_report(&f, &text) &&
	    write_all(fd, buf_view(&text)) &&
	    fcntl(fd, F_ADD_SEALS, SEALS) == 0 && order_seal(o, &text, f.to);
	buf_free(&original);
	buf_free(&text);
	if (!ok) {
		log_error("cannot write a notification: %s", strerror(errno));
		b = chan_begin(o->manager->chan, MSG_SLOT_DROP);
		put_u64(b, o->note.n);
		chan_end(o->manager->chan);
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
		    queue_id_text(o->what.id, name), code, log_safe(status),
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
		bounce_end();
	event_add(&idle_timer, loop_timeout(IDLE_MS));
}

static void
bounce_load(void)
{
	const struct conf *cf = role_conf();

	bounce_templates_init(&templates, cf);
	if (cf->bounce_template_file[0] != '\0')
		(void)bounce_templates_load(&templates, cf,
		    cf->bounce_template_file, log_report, NULL);
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
		bounce_end();
}

static const struct role_def bounce_def = {
	.kind = ROLE_BOUNCE,
	.load = bounce_load,
	.start = bounce_start,
	.peer = bounce_peer,
	.retire = bounce_retire,
};

int
main(int argc, char **argv)
{
	return role_main(&bounce_def, argc, argv);
}
