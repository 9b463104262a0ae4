/* The smtpd role's side of qmgr: slots in stock, questions and answers. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/write_all.h"
#include "proxy/smtpd_link.h"
#include "proxy/smtpd_milter.h"
#include "rules/verdict.h"

#define STOCK_MIN	8u
#define STOCK_MAX	256u
#define PLACES		1024u
#define NOTICES_WAITING	20u
#define ASKED_BYTES	32768u
#define ENVELOPE_BYTES	(CHAN_MSG_MAX - ASKED_BYTES - 4096u)

struct queue_link {
	struct chan *c;
	uint32_t generation;
	struct slot stock[STOCK_MAX];
	uint32_t n_stock, asked;	/* here; asked for and not come */
	uint32_t in_use;		/* by transactions */
	struct queue_link *next;
};

/* Our own mail to the postmaster, until there is a slot. */
struct postmaster_mail {
	struct postmaster_mail *next;
	struct buf env, text;
};

static struct {
	struct server *sv;
	struct postmaster_mail *notices;
	uint32_t n_notices;
	struct queue_link *links, *now;	/* now: where new slots come from */
	uint32_t in_use;
	struct session **waiting;	/* for a slot, in order */
	size_t n_waiting, cap_waiting;
	/* Transactions that wait for an answer, by id. */
	struct transaction *place[PLACES];
} queue;

void
queue_init(struct server *sv)
{
	queue.sv = sv;
}

static struct transaction **
queue_place(struct queue_id id)
{
	return &queue.place[(id.n ^ id.n >> 20) % PLACES];
}

static struct transaction *
queue_find(const struct queue_link *l, struct queue_id id)
{
	struct transaction *tx = *queue_place(id);

	while (tx != NULL && (tx->slot.id.n != id.n || tx->slot.link != l))
		tx = tx->next;
	return tx;
}

static void
queue_expect(struct transaction *tx)
{
	struct transaction **p = queue_place(tx->slot.id);

	tx->next = *p;
	*p = tx;
}

void
queue_forget(struct transaction *tx)
{
	struct transaction **p = queue_place(tx->slot.id);

	while (*p != NULL && *p != tx)
		p = &(*p)->next;
	if (*p == tx)
		*p = tx->next;
	tx->next = NULL;
}

/* Keep the stock up: half of it may be gone before more is asked for, so that
 * one question serves many messages. */
static void
queue_stock(void)
{
	struct queue_link *l = queue.now;
	uint32_t want, have;
	struct buf *b;

	if (l == NULL || role_phase() == PHASE_NONE)
		return;
	want = STOCK_MIN + queue.in_use / 2 + (uint32_t)queue.n_waiting;
	if (want > STOCK_MAX)
		want = STOCK_MAX;
	have = l->n_stock + l->asked;
	if (have >= want || (have > want / 2 && queue.n_waiting <= have))
		return;
	b = chan_begin(l->c, MSG_SLOTS);
	(void)put_u32(b, want - have);
	chan_end(l->c);
	l->asked += want - have;
}

static void
queue_drop_id(struct queue_link *l, struct queue_id id)
{
	struct buf *b = chan_begin(l->c, MSG_SLOT_DROP);

	(void)put_u64(b, id.n);
	chan_end(l->c);
}

static void
queue_unstock(struct queue_link *l, bool tell)
{
	while (l->n_stock > 0) {
		l->n_stock--;
		if (tell)
			queue_drop_id(l, l->stock[l->n_stock].id);
		close(l->stock[l->n_stock].fd);
	}
}

/* Who has asked over l asks the one that is there now. */
static void
queue_unasked(const struct queue_link *l)
{
	struct server *sv = queue.sv;
	struct session *s;
	uint32_t i;

	for (i = 0; i < sv->cap; i++) {
		s = sv->sessions[i];
		if (s != NULL && s->wait == WAIT_FACT && s->asked == l)
			session_ask_again(s);
	}
}

static void
queue_remove(struct queue_link *l)
{
	struct queue_link **p;

	for (p = &queue.links; *p != l; p = &(*p)->next)
		ensure(*p != NULL);
	*p = l->next;
	if (queue.now == l)
		queue.now = NULL;
	queue_unasked(l);
	chan_free(&l->c);
	free(l);
}

/* An old link ends with its last transaction. */
void
queue_release(struct transaction *tx)
{
	struct queue_link *l = tx->slot.link;

	ensure(queue.in_use > 0);
	queue.in_use--;
	tx->slot.link = NULL;
	if (l == NULL)
		return;
	l->in_use--;
	if (l != queue.now && l->in_use == 0)
		queue_remove(l);
}

bool
queue_take(struct transaction *tx)
{
	struct queue_link *l = queue.now;

	if (l == NULL || l->n_stock == 0) {
		queue_stock();
		return false;
	}
	tx->slot = l->stock[--l->n_stock];
	tx->has_slot = true;
	l->in_use++;
	queue.in_use++;
	queue_stock();
	return true;
}

void
queue_await(struct session *s, bool on)
{
	size_t i;

	if (on) {
		if (queue.n_waiting == queue.cap_waiting) {
			queue.cap_waiting = queue.cap_waiting * 2 + 16;
			queue.waiting = mem_resize(queue.waiting,
			    queue.cap_waiting, sizeof *queue.waiting);
		}
		queue.waiting[queue.n_waiting++] = s;
		queue_stock();
		return;
	}
	for (i = 0; i < queue.n_waiting && queue.waiting[i] != s; i++)
		;
	if (i == queue.n_waiting)
		return;
	queue.n_waiting--;
	memmove(queue.waiting + i, queue.waiting + i + 1,
	    (queue.n_waiting - i) * sizeof *queue.waiting);
}

void
queue_drop(struct transaction *tx)
{
	char id[QUEUE_ID_TEXT];

	/* The id is in the log, so it must end there too. */
	log_info("%s: canceled", queue_id_text(tx->slot.id, id));
	queue_forget(tx);
	if (tx->slot.link != NULL)
		queue_drop_id(tx->slot.link, tx->slot.id);
	queue_release(tx);
}

void
queue_spill(struct transaction *tx)
{
	struct buf *b = chan_begin(tx->slot.link->c, MSG_SPILL);

	(void)put_u64(b, tx->slot.id.n);
	chan_end(tx->slot.link->c);
	queue_expect(tx);
}

/* What access tables and the service ask for, as a filter would say it. */
static void
queue_asked(const struct policy_actions *a, struct view filter,
    struct buf *out)
{
	struct judgement j = {
		.verdict = { .action = a->discard ? ACTION_DISCARD :
		    a->hold ? ACTION_HOLD : ACTION_OK,
		    .text = a->discard ? view_of("") : a->hold_text,
		    .where = a->discard ? view_of("") : a->hold_where },
		.redirect = a->redirect,
		.filter = a->filter.n > 0 ? a->filter : filter,
		.n_bcc = a->n_bcc,
	};

	_Static_assert(POLICY_LIST_MAX <= JUDGEMENT_BCC_MAX,
	    "BCC addresses of the policy");
	if (a->n_bcc > 0)
		memcpy(j.bcc, a->bcc, a->n_bcc * sizeof j.bcc[0]);
	ensure(judgement_put(out, &j));
}

void
queue_seal(struct transaction *tx, const struct envelope *e)
{
	const struct conf *cf = queue.sv->cf;
	/* Of what does not come into the queue nothing goes to that. */
	const struct view filter = view_of(cf->smtpd_proxy_filter[0] != '\0' ?
	    "" : cf->content_filter);
	const struct milter_talk *talk = tx->session->milter;
	struct policy_actions actions = { 0 };
	struct buf *b, env, asked;

	/* Bounded by ADDRESSES_MAX of the transaction. */
	buf_init(&env, ENVELOPE_BYTES);
	ensure(envelope_put(&env, e));
	buf_init(&asked, ASKED_BYTES);
	if (tx->actions != NULL)
		actions = *tx->actions;
	if (talk != NULL && talk->hold && !actions.hold) {
		actions.hold = true;
		actions.hold_text = view_of("milter default_action");
		actions.hold_where = view_of("");
	}
	if (tx->actions != NULL || filter.n > 0 || actions.hold)
		queue_asked(&actions, filter, &asked);
	b = chan_begin(tx->slot.link->c, MSG_SEAL);
	(void)put_u64(b, tx->slot.id.n);
	(void)put_u64(b, tx->written);
	(void)put_u8(b, data_answers_each(tx) ? 2 : 0);
	(void)put_view(b, buf_view(&env));
	if (asked.n > 0 || (talk != NULL && talk->link != NULL))
		(void)put_view(b, buf_view(&asked));
	if (talk != NULL && talk->link != NULL) {
		(void)put_u32(b, (uint32_t)chan_peer_pid(milter_link_chan(
		    talk->link)));
		(void)put_u32(b, talk->no);
		(void)put_u32(b, talk->events);
	}
	chan_end(tx->slot.link->c);
	buf_free(&env);
	buf_free(&asked);
	queue_expect(tx);
}

static bool
queue_write(int fd, struct view text)
{
	return write_all(fd, text) && fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL |
	    F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0;
}

static bool
queue_send_notice(struct queue_link *l, const struct postmaster_mail *n)
{
	struct slot slot = l->stock[--l->n_stock];
	bool ok = queue_write(slot.fd, buf_view(&n->text));
	struct buf *b;

	close(slot.fd);
	if (ok) {
		b = chan_begin(l->c, MSG_SEAL);
		(void)put_u64(b, slot.id.n);
		(void)put_u64(b, n->text.n);
		(void)put_u8(b, 1);
		(void)put_view(b, buf_view(&n->env));
		chan_end(l->c);
	} else {
		queue_drop_id(l, slot.id);
	}
	return ok;
}

/* Those that wait for a slot.  Nobody waits for the answer: what cannot be
 * queued is lost. */
static void
queue_notices(struct queue_link *l)
{
	struct postmaster_mail *n;

	while ((n = queue.notices) != NULL && l == queue.now &&
	    l->n_stock > 0) {
		queue.notices = n->next;
		queue.n_notices--;
		if (!queue_send_notice(l, n))
			log_warn("cannot write a notice to the postmaster: %s",
			    strerror(errno));
		buf_free(&n->env);
		buf_free(&n->text);
		free(n);
	}
}

bool
queue_notice(struct view from, struct view to, struct view text)
{
	struct recipient rcpt = { .addr = to };
	struct envelope e = { .flags = ENVELOPE_8BIT, .sender = from,
		.client_name = view_of("localhost"),
		.client_addr = view_of("127.0.0.1"),
		.proto = view_of("internal"), .nrcpts = 1, .rcpts = &rcpt };
	struct postmaster_mail *n;

	if (queue.n_notices == NOTICES_WAITING || from.n > ADDRESS_MAX ||
	    to.n > ADDRESS_MAX)
		return false;
	n = mem_alloc(sizeof *n);
	buf_init(&n->env, 8192);
	buf_init(&n->text, text.n);
	ensure(envelope_put(&n->env, &e) && buf_putv(&n->text, text));
	n->next = queue.notices;
	queue.notices = n;
	queue.n_notices++;
	if (queue.now != NULL)
		queue_notices(queue.now);
	queue_stock();
	return true;
}

bool
queue_site(struct view domain)
{
	struct buf *b;

	if (queue.now == NULL)
		return false;
	b = chan_begin(queue.now->c, MSG_SITE);
	(void)put_view(b, domain);
	chan_end(queue.now->c);
	return true;
}

bool
queue_verify(struct session *s, struct view addr, int64_t ms)
{
	struct queue_link *l = queue.now;
	struct buf *b;

	if (l == NULL)
		return false;
	b = chan_begin(l->c, MSG_VERIFY);
	(void)put_u32(b, session_ask(s, l));
	(void)put_u32(b, (uint32_t)ms);
	(void)put_view(b, addr);
	chan_end(l->c);
	return true;
}

static void
queue_wake(struct queue_link *l)
{
	while (l == queue.now && l->n_stock > 0 && queue.n_waiting > 0)
		session_resume(queue.waiting[0]);
}

static void
queue_on_slot(struct queue_link *l, struct chan_in *m, struct queue_id id)
{
	if (l->asked > 0)
		l->asked--;
	if (l != queue.now || l->n_stock == STOCK_MAX) {
		queue_drop_id(l, id);
		return;
	}
	l->stock[l->n_stock++] = (struct slot){ id, m->fd[0], l };
	m->fd[0] = -1;
	queue_wake(l);
	queue_notices(l);
}

static void
queue_on_sealed(struct queue_link *l, struct chan_in *m, struct queue_id id)
{
	unsigned code = cursor_u16(&m->body);
	struct view status = cursor_view(&m->body);
	struct view text = cursor_view(&m->body);
	struct view each = cursor_bytes(&m->body, cursor_left(&m->body));
	struct transaction *tx;

	if (!chan_check(l->c, m))
		return;
	tx = queue_find(l, id);
	/* Nobody waits any more: the client is gone or was told 451. */
	if (tx == NULL || tx->session->wait != WAIT_SEAL)
		return;
	data_sealed(tx, code, status, text, each);
}

/* The first word about the spool: those who came before it are greeted. */
static void
queue_space_known(struct server *sv)
{
	if (sv->space_known)
		return;
	sv->space_known = true;
	server_greet_waiting(sv);
}

static void
queue_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct queue_link *l = arg;
	struct transaction *tx;
	struct queue_id id;
	bool accepting;
	uint64_t bytes;
	int fd = -1;

	if (m->type == MSG_SPACE) {
		accepting = cursor_u8(&m->body) != 0;
		bytes = cursor_u64(&m->body);
		if (!chan_check(c, m) || l != queue.now)
			return;
		queue.sv->no_space = !accepting;
		queue.sv->free_bytes = bytes;
		queue_space_known(queue.sv);
		return;
	}
	if (m->type == MSG_VERIFY_IS) {
		session_told(l, l->c, m);
		return;
	}
	id.n = cursor_u64(&m->body);
	if (m->type == MSG_SEALED) {
		queue_on_sealed(l, m, id);
		return;
	}
	if (!chan_check(c, m))
		return;
	if (m->type == MSG_SLOT) {
		queue_on_slot(l, m, id);
		return;
	}
	ensure(m->type == MSG_SPILL_IS || m->type == MSG_SPILL_REFUSED);
	tx = queue_find(l, id);
	if (tx == NULL || tx->session->wait != WAIT_SPILL)
		return;
	if (m->type == MSG_SPILL_IS) {
		fd = m->fd[0];
		m->fd[0] = -1;
	}
	data_spilled(tx, fd);
}

static void
queue_on_close(struct chan *c, void *arg)
{
	struct queue_link *l = arg;
	struct server *sv = queue.sv;
	struct transaction *tx;
	uint32_t i;

	(void)c;
	if (l == queue.now && role_phase() == PHASE_RUNNING)
		log_warn("the queue manager is gone; waiting for a new one");
	if (l == queue.now)
		queue.now = NULL;
	queue_unstock(l, false);
	/* All slots of this qmgr are void; what waits for it is answered. */
	for (i = 0; i < sv->cap; i++) {
		tx = sv->sessions[i] != NULL ? sv->sessions[i]->tx : NULL;
		if (tx == NULL || !tx->has_slot || tx->slot.link != l)
			continue;
		queue_forget(tx);
		tx->slot.link = NULL;
		data_lost(tx);
	}
	queue_remove(l);
}

void
queue_peer(const struct role_peer *peer, int fd)
{
	struct queue_link *l, *old = queue.now;

	if (old != NULL && peer->generation < old->generation) {
		close(fd);
		return;
	}
	l = mem_alloc(sizeof *l);
	l->generation = peer->generation;
	l->c = chan_new(fd, ROLE_SMTPD, ROLE_QMGR, peer->pid, queue_on_msg,
	    queue_on_close, l);
	l->next = queue.links;
	queue.links = queue.now = l;
	if (old != NULL) {
		queue_unstock(old, true);
		if (old->in_use == 0)
			queue_remove(old);
	}
	queue_stock();
}

void
queue_end(void)
{
	struct queue_link *l;

	while ((l = queue.links) != NULL) {
		queue_unstock(l, true);
		chan_drain(l->c);
		queue_remove(l);
	}
}
