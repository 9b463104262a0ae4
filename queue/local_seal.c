/*
 * New messages, of addresses that a list has come to.  A list is expanded to
 * a message of its own, sealed and durable, before its recipient is marked:
 * so each address has a status of its own, and what comes of one is not done
 * again because of another.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/conf_choice.h"
#include "lib/log.h"
#include "lib/mail_date.h"
#include "queue/local_role.h"
#include "rules/verdict.h"

#define SEALS	(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)
#define HEADER_MAX	16384u
#define ENVELOPE_MAX	(4u << 20)
#define ROUTE_MAX	65536u

static TAILQ_HEAD(, delivery) sealing = TAILQ_HEAD_INITIALIZER(sealing);

static struct fate *
seal_fate(const struct delivery *d)
{
	return &d->fates[d->seal];
}

static void
seal_off(struct delivery *d)
{
	if (d->sealing)
		TAILQ_REMOVE(&sealing, d, seal_link);
	d->sealing = false;
	d->note.n = 0;
}

/* The way of the message that is to be made now. */
static struct view
seal_route(const struct fate *f)
{
	return f->also ? view_make("", 0) : f->route;
}

bool
seal_begin(struct delivery *d)
{
	struct buf *b;

	for (; d->seal < d->order.n; d->seal++)
		if (seal_fate(d)->n > 0 &&
		    seal_fate(d)->status != RCPT_DEFERRED)
			break;
	if (d->seal == d->order.n || d->manager == NULL)
		return false;
	d->sealing = true;
	TAILQ_INSERT_TAIL(&sealing, d, seal_link);
	b = chan_begin(d->manager->chan, MSG_SLOTS);
	put_u32(b, 1);
	chan_end(d->manager->chan);
	return true;
}

/* This one is through, well or not. */
static void
seal_next(struct delivery *d)
{
	seal_off(d);
	d->seal++;
	if (!seal_begin(d))
		delivery_end(d);
}

/* His list's message is there; the other one is for the recipient. */
static void
seal_himself(struct delivery *d)
{
	struct fate *f = seal_fate(d);

	f->also = false;
	f->n = 0;
	fate_pass(f, f->route,
	    d->order.env.rcpts[d->order.rcpts[d->seal]].addr, d->arena);
	seal_off(d);
	if (!seal_begin(d))
		delivery_end(d);
}

static void
seal_failed(struct delivery *d, const char *why)
{
	fate_set(seal_fate(d), RCPT_DEFERRED, "4.3.0", "cannot forward: %s",
	    why);
	seal_next(d);
}

/* -- the text --------------------------------------------------------------- */

struct seal_file {
	int fd;
	uint64_t size;
};

static bool
seal_write(struct view v, void *arg)
{
	struct seal_file *f = arg;
	ssize_t k;

	while (v.n > 0) {
		k = write(f->fd, v.p, v.n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		f->size += (uint64_t)k;
		v = view_from(v, (size_t)k);
	}
	return true;
}

/* Who had it on its way (RFC 5321 section 4.4). */
static bool
seal_received(const struct delivery *d, struct buf *out)
{
	const struct conf *cf = local.cf;
	char id[QUEUE_ID_TEXT];

	return buf_printf(out, "Received: by %.255s (%.100s)\r\n"
	    "\tid %s; ", cf->myhostname, cf->mail_name,
	    queue_id_text(d->note, id)) &&
	    mail_date_put(out, clock_wall()) && buf_puts(out, "\r\n");
}

static bool
seal_text(const struct delivery *d, const struct recipient *r,
    struct seal_file *f)
{
	const uint32_t to = conf_choice("prepend_delivered_header",
	    view_of(local.cf->prepend_delivered_header));
	struct buf head;
	bool ok = true;

	buf_init(&head, HEADER_MAX);
	/* Passed on as it is, it has not been delivered to anybody. */
	if ((to & DELIVERED_FORWARD) != 0 && seal_route(seal_fate(d)).n == 0)
		ok = buf_puts(&head, "Delivered-To: ") &&
		    address_quote(r->addr, &head) && buf_puts(&head, "\r\n");
	ok = ok && seal_received(d, &head) &&
	    seal_write(buf_view(&head), f) &&
	    local_text_send(&d->order.text, 0, "\r\n", seal_write, f) ==
	    TEXT_DONE && fcntl(f->fd, F_ADD_SEALS, SEALS) == 0;
	buf_free(&head);
	return ok;
}

/* -- the envelope ----------------------------------------------------------- */

/* A list that has an owner is what the sender wrote to; of what is behind it
 * the owner is told (RFC 3461 section 5.2.7.1). */
static void
seal_recipient(const struct fate *f, const struct recipient *from,
    struct view addr, struct recipient *ret)
{
	*ret = (struct recipient){ .addr = addr,
		.orig = from->orig.n > 0 ? from->orig : from->addr };
	if (f->has_sender)
		return;
	ret->orcpt = from->orcpt;
	ret->notify = from->notify;
	/* Of several nobody can say that all was well: we do, at once. */
	if ((f->n > 1 || f->also) && seal_route(f).n == 0) {
		ret->notify = (uint8_t)(from->notify &
		    ~(unsigned)NOTIFY_SUCCESS);
		if (ret->notify == 0 && from->notify != 0)
			ret->notify = NOTIFY_NEVER;
	}
}

static bool
seal_envelope(struct delivery *d, struct buf *out)
{
	const struct order *o = &d->order;
	const struct recipient *from = &o->env.rcpts[o->rcpts[d->seal]];
	const struct fate *f = seal_fate(d);
	struct envelope e = o->env;
	uint32_t i;

	e.flags |= ENVELOPE_NO_FILTER;
	e.flags &= ~(unsigned)ENVELOPE_LOCAL;
	e.full_name = view_make("", 0);
	if (f->has_sender)
		e.sender = f->sender;
	if (f->has_sender)
		e.envid = view_make("", 0);
	e.rcpts = arena_alloc(d->arena, f->n * sizeof *e.rcpts);
	e.nrcpts = f->n;
	for (i = 0; i < f->n; i++)
		seal_recipient(f, from, f->addresses[i], &e.rcpts[i]);
	return envelope_put(out, &e);
}

static bool
seal_send(struct delivery *d, uint64_t size)
{
	struct judgement j = { .verdict.action = ACTION_OK,
		.filter = seal_route(seal_fate(d)) };
	struct buf env, route, *b;
	bool ok;

	buf_init(&env, ENVELOPE_MAX);
	buf_init(&route, ROUTE_MAX);
	ok = seal_envelope(d, &env) &&
	    (j.filter.n == 0 || judgement_put(&route, &j));
	if (ok) {
		b = chan_begin(d->manager->chan, MSG_SEAL);
		put_u64(b, d->note.n);
		put_u64(b, size);
		put_u8(b, 1);
		put_view(b, buf_view(&env));
		if (route.n > 0)
			put_view(b, buf_view(&route));
		chan_end(d->manager->chan);
	}
	buf_free(&env);
	buf_free(&route);
	return ok;
}

/* -- what qmgr says --------------------------------------------------------- */

static void
slot_drop(struct manager *m, struct queue_id id)
{
	struct buf *b = chan_begin(m->chan, MSG_SLOT_DROP);

	put_u64(b, id.n);
	chan_end(m->chan);
}

void
seal_slot(struct manager *m, struct chan_in *in)
{
	struct queue_id id = { cursor_u64(&in->body) };
	struct seal_file f = { .fd = in->fd[0] };
	struct delivery *d;

	if (!chan_check(m->chan, in))
		return;
	TAILQ_FOREACH(d, &sealing, seal_link)
		if (d->manager == m && d->note.n == 0)
			break;
	if (d == NULL) {
		slot_drop(m, id);
		return;
	}
	d->note = id;
	if (seal_text(d, &d->order.env.rcpts[d->order.rcpts[d->seal]], &f) &&
	    seal_send(d, f.size))
		return;
	slot_drop(m, id);
	seal_failed(d, "the message cannot be written");
}

void
seal_done(struct manager *m, struct chan_in *in)
{
	struct queue_id id = { cursor_u64(&in->body) };
	uint16_t code = cursor_u16(&in->body);
	struct view status = cursor_view(&in->body);
	struct view text = cursor_view(&in->body);
	char why[300], name[QUEUE_ID_TEXT];
	struct delivery *d;
	struct fate *f;

	if (!chan_check(m->chan, in))
		return;
	TAILQ_FOREACH(d, &sealing, seal_link)
		if (d->manager == m && d->note.n == id.n)
			break;
	if (d == NULL)
		return;
	f = seal_fate(d);
	if (code / 100 != 2) {
		(void)snprintf(why, sizeof why, "%u %s %s", code,
		    log_safe(status), log_safe(view_head(text, 200)));
		seal_failed(d, why);
		return;
	}
	if (f->status == RCPT_EXPANDED || f->status == RCPT_SENT) {
		/* The one address there is will tell. */
		fate_set(f, f->n == 1 && !f->has_sender && !f->also ?
		    RCPT_SENT : RCPT_EXPANDED, "2.0.0", "%s as %s",
		    seal_route(f).n > 0 ? "passed on" : "forwarded",
		    queue_id_text(id, name));
	}
	if (f->also)
		seal_himself(d);
	else
		seal_next(d);
}

void
seal_cancel(struct delivery *d)
{
	if (!d->sealing)
		return;
	seal_off(d);
	d->seal = d->order.n;
	delivery_end(d);
}
