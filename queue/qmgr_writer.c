/* smtpd, bounce and pickup: slots out, sealed messages in, replies back. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "queue/qmgr.h"
#include "rules/judgement.h"

#define SLOTS_MAX	20000u	/* outstanding, of one writer */
#define SLOTS_AT_ONCE	256u
#define OWED_MS		200	/* when slots that are owed are tried again */
#define SEALS	(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)

struct writer {
	struct writer *next;
	struct chan *chan;
	enum role_kind kind;
	struct proxy *proxy;	/* answers for its mail; NULL: we do */
	unsigned slots;		/* messages with ->writer == this */
	unsigned owed;		/* asked for, and not given yet */
	bool told_accepting;
	bool closed;
};

static struct writer *writers;
static struct event owed_timer;
static bool owed_told;
static struct {
	bool accepting;
	uint64_t free;
	bool known;
} space = { .accepting = true };

static struct message *
job_message(struct pool_job *j)
{
	return (struct message *)((char *)j - offsetof(struct message, job));
}

/* A memory file, and the descriptor of it that the writer gets. */
static bool
writer_memory(int *ret_fd, int *ret_copy)
{
	int fd = memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING), copy;

	copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0) {
		if (!owed_told)
			log_warn("cannot make a memory file: %s",
			    strerror(errno));
		owed_told = true;
		if (fd >= 0)
			close(fd);
		return false;
	}
	owed_told = false;
	*ret_fd = fd;
	*ret_copy = copy;
	return true;
}

static bool
writer_slot(struct writer *w)
{
	struct message *m;
	struct buf *b;
	int fd, copy;

	if (!writer_memory(&fd, &copy))
		return false;
	m = message_new(writer_new_id(), M_WRITING);
	m->fd = fd;
	m->writer = w;
	w->slots++;
	b = chan_begin(w->chan, MSG_SLOT);
	put_u64(b, m->known.id.n);
	chan_put_fd(w->chan, copy, false);
	chan_end(w->chan);
	return true;
}

/* The writer counts on what it asked for, so what cannot be given now is
 * given later. */
static void
writer_give(struct writer *w)
{
	/* After a hand-over it asks the other qmgr; but what is about a
	 * message of ours must come to us. */
	if (qmgr.handed_over && w->kind != ROLE_BOUNCE &&
	    w->kind != ROLE_LOCAL)
		w->owed = 0;
	while (w->owed > 0 && w->slots < SLOTS_MAX && writer_slot(w))
		w->owed--;
	if (w->owed > 0 && !evtimer_pending(&owed_timer, NULL))
		event_add(&owed_timer, loop_timeout(OWED_MS));
}

static void
writer_give_owed(evutil_socket_t fd, short what, void *arg)
{
	struct writer *w;

	(void)fd;
	(void)what;
	(void)arg;
	for (w = writers; w != NULL; w = w->next)
		writer_give(w);
}

static void
writer_release(struct message *m)
{
	if (m->writer == NULL)
		return;
	m->writer->slots--;
	m->writer = NULL;
}

void
writer_reply(struct message *m, unsigned code, const char *status,
    const char *text)
{
	struct writer *w = m->writer;
	struct buf *b;

	if (code / 100 == 2)
		origin_taken(m);
	if (w != NULL && !w->closed) {
		b = chan_begin(w->chan, MSG_SEALED);
		put_u64(b, m->known.id.n);
		put_u16(b, (uint16_t)code);
		put_view(b, view_of(status));
		put_view(b, view_of(text));
		if (m->answers != NULL && m->answers_code == code)
			(void)buf_put(b, m->answers, m->n_answers);
		chan_end(w->chan);
	}
	writer_release(m);
}

/* The message did not get in; nothing of it stays. */
void
writer_failed(struct message *m, unsigned code, const char *status,
    const char *text)
{
	struct queue_id id = m->known.id;

	writer_reply(m, code, status, text);
	if (m->copied)
		(void)spool_unlink(&qmgr.spool, id, PLACE_INCOMING);
	message_free(&m);
	if (qmgr.handed_over)
		handover_done(id);
	qmgr_check_end();
}

static struct message *
writer_find(struct writer *w, struct chan_in *in, enum message_state state)
{
	struct queue_id id = { cursor_u64(&in->body) };
	struct message *m = message_find(id);

	if (in->body.bad || m == NULL || m->writer != w ||
	    m->known.state != state || m->seal_asked) {
		chan_blame(w->chan, "message for a slot it does not have");
		return NULL;
	}
	return m;
}

static void
writer_spill(struct writer *w, struct message *m)
{
	struct buf *b;
	int fd, rc;

	rc = m->spill >= 0 ? EEXIST : spool_unnamed(&qmgr.spool, &fd);
	if (rc != 0 || !space.accepting) {
		if (rc == 0)
			close(fd);
		else
			log_warn("%s: no file for a large text: %s",
			    message_id(m), strerror(rc));
		b = chan_begin(w->chan, MSG_SPILL_REFUSED);
		put_u64(b, m->known.id.n);
		chan_end(w->chan);
		return;
	}
	m->spill = fd;
	b = chan_begin(w->chan, MSG_SPILL_IS);
	put_u64(b, m->known.id.n);
	chan_put_fd(w->chan, fd, true);
	chan_end(w->chan);
}

static void
writer_copy_work(struct pool_job *j)
{
	struct message *m = job_message(j);

	m->error = spool_copy(&qmgr.spool, m->known.id, m->spill,
	    m->text_size, &m->fd);
}

static void
writer_copy_done(struct pool_job *j)
{
	struct message *m = job_message(j);

	close(m->spill);
	m->spill = -1;
	if (m->error != 0) {
		log_error("%s: cannot write queue file: %s", message_id(m),
		    strerror(m->error));
		m->fd = -1;
		if (m->error == ENOSPC || m->error == EDQUOT)
			writer_failed(m, 452, "4.3.1",
			    "Insufficient system storage");
		else
			writer_failed(m, 451, "4.3.0",
			    "Error: queue file write error");
		return;
	}
	m->copied = true;
	m->text_offset = SPOOL_TEXT_OFFSET;
	filter_submit(m);
}

static void
writer_seal_work(struct pool_job *j)
{
	struct message *m = job_message(j);

	m->error = spool_seal(&qmgr.spool, m->known.id,
	    m->hold ? PLACE_HOLD : PLACE_INCOMING, m->copied ? m->fd : -1,
	    m->fd, 0, m->text_size, m->arrival, &m->tail, NULL);
}

void
writer_sealed(struct message *m)
{
	struct queue_id id = m->known.id;
	char text[64];

	qmgr.sealed++;
	snprintf(text, sizeof text, "Ok: queued as %s", message_id(m));
	writer_reply(m, 250, "2.0.0", text);
	message_enter(m, M_INCOMING);
	if (m->hold) {
		message_free(&m);
		if (qmgr.handed_over)
			handover_done(id);
		return;
	}
	message_activate(m);
}

void
writer_not_stored(struct message *m)
{
	bool full = m->error == ENOSPC || m->error == EDQUOT;

	log_error("%s: cannot make the message durable: %s", message_id(m),
	    strerror(m->error));
	writer_failed(m, full ? 452 : 451, full ? "4.3.1" : "4.3.0",
	    full ? "Insufficient system storage" :
	    "Error: queue file write error");
}

static void
writer_seal_done(struct pool_job *j)
{
	struct message *m = job_message(j);

	if (m->copied)
		m->fd = -1;	/* spool_seal() closed it */
	m->copied = false;
	if (m->error != 0) {
		writer_not_stored(m);
		return;
	}
	m->place = PLACE_INCOMING;
	m->status_offset = spool_status_offset(m->text_size, &m->tail);
	writer_sealed(m);
}

void
writer_seal_file(struct message *m)
{
	m->job.work = writer_seal_work;
	m->job.done = writer_seal_done;
	pool_submit(&m->job);
}

/* Addresses may be rewritten; who brought it, and how, stays.  milters: what
 * the sender wants to hear of it may change. */
static bool
writer_envelope_ok(const struct envelope *was, const struct envelope *now,
    bool milters)
{
	return now->flags == was->flags &&
	    (milters || (now->ret == was->ret &&
	    view_eq(now->envid, was->envid))) &&
	    now->client_port == was->client_port &&
	    view_eq(now->client_name, was->client_name) &&
	    view_eq(now->client_addr, was->client_addr) &&
	    view_eq(now->helo, was->helo) && view_eq(now->proto, was->proto) &&
	    view_eq(now->login, was->login);
}

/* Rewriting, REDIRECT and BCC change who gets it; "FILTER" how.  False: the
 * filter's envelope is none. */
static bool
writer_apply(struct message *m, const struct judgement *j)
{
	struct spool_tail t = m->tail;
	struct arena *a = arena_new((m->tail.envelope.n + j->envelope.n) *
	    16 + 131072);
	struct envelope e, now;
	struct buf env, edits;
	bool ok = true;

	message_envelope(m, a, &e);
	buf_init(&env, SPOOL_TAIL_MAX);
	buf_init(&edits, EDITS_BYTES_MAX);
	if (j->envelope.n > 0) {
		ok = j->envelope.n <= SPOOL_TAIL_MAX / 2 &&
		    envelope_get(j->envelope, a, &now) &&
		    writer_envelope_ok(&e, &now, m->milters_asked);
		t.envelope = j->envelope;
		t.nrcpts = ok ? now.nrcpts : 0;
	} else if (j->redirect.n > 0 || j->n_bcc > 0) {
		asked_readdress(&e, j, a);
		ensure(envelope_put(&env, &e));
		t.envelope = buf_view(&env);
		t.nrcpts = e.nrcpts;
	}
	if (j->edits.n > 0 && !edits_put(&edits, &j->edits))
		panic("%s: edits over their maximum", message_id(m));
	t.edits = buf_view(&edits);
	t.route = j->filter;
	if (ok && (t.edits.n > 0 || t.route.n > 0 ||
	    t.envelope.p != m->tail.envelope.p)) {
		/* The old bytes are freed by the call, so not used in it. */
		char *old = m->bytes;

		m->bytes = NULL;
		message_set_tail(m, &t);
		free(old);
	}
	buf_free(&env);
	buf_free(&edits);
	arena_free(&a);
	return ok;
}

/* Nobody waits for the reply: the message goes back to its sender, by the way
 * that all undeliverable mail takes. */
static void
writer_return(struct message *m, struct view status, struct view text)
{
	struct judgement back = { .verdict.action = ACTION_OK };
	char *route = mem_printf("error:%.*s%s%.*s",
	    VIEW_ARGS(view_head(status, 15)), status.n > 0 ? " " : "",
	    VIEW_ARGS(view_head(text, 480)));

	back.filter = view_of(route);
	writer_judged(m, &back);
	free(route);
}

bool
writer_take(struct message *m, const struct judgement *judged)
{
	struct judgement there, *j = &there;

	there = *judged;
	m->hold = j->verdict.action == ACTION_HOLD;
	if (m->proxy != NULL) {
		if (j->filter.n > 0)
			log_info("%s: FILTER %s is not used: there is a "
			    "smtpd_proxy_filter", message_id(m),
			    log_safe(j->filter));
		/* What is stored must not get around it. */
		j->filter = proxy_route(m->proxy);
	}
	if (!writer_apply(m, j)) {
		log_error("%s: the filter's envelope is not its own",
		    message_id(m));
		return false;
	}
	if (m->hold)
		message_remember_hold(m, &j->verdict);
	return true;
}

void
writer_judged(struct message *m, const struct judgement *j)
{
	struct judgement_reply r;

	if (j->verdict.action == ACTION_REJECT && j->verdict.code >= 500 &&
	    m->origin != NULL) {
		writer_return(m, j->verdict.status, j->verdict.text);
		return;
	}
	if (!judgement_reply(j, message_id(m), &r)) {
		writer_failed(m, r.code, r.status, r.text);
		return;
	}
	if (!writer_take(m, j)) {
		writer_failed(m, 451, "4.3.0", "Error: content filter failed");
		return;
	}
	if (m->proxy != NULL && !m->hold) {
		proxy_submit(m);
		return;
	}
	message_enter(m, M_SYNCING);
	if (journal_takes(m))
		journal_append(m);
	else
		writer_seal_file(m);
}

void
writer_new_text(struct message *m, int fd, uint64_t size)
{
	/* The file that was begun has the old one. */
	if (m->copied)
		(void)spool_unlink(&qmgr.spool, m->known.id, PLACE_INCOMING);
	m->copied = false;
	close(m->fd);
	m->fd = fd;
	m->text_offset = 0;
	m->text_size = size;
}

/* The text must be what the writer says, and must not change any more. */
static bool
writer_text_ok(const struct message *m)
{
	struct stat st;
	int fd = m->spill >= 0 ? m->spill : m->fd;

	if (fstat(fd, &st) != 0 || (uint64_t)st.st_size < m->text_size)
		return false;
	if (m->spill >= 0)
		return true;	/* it is copied */
	return (uint64_t)st.st_size == m->text_size &&
	    (fcntl(fd, F_GET_SEALS) & SEALS) == SEALS;
}

/* m has a text and an envelope: to the filter. */
void
writer_go_on(struct message *m)
{
	if (m->spill < 0) {
		filter_submit(m);
		return;
	}
	close(m->fd);
	m->fd = -1;
	message_enter(m, M_COPYING);
	m->job.work = writer_copy_work;
	m->job.done = writer_copy_done;
	pool_submit(&m->job);
}

/* False: answered already. */
static bool
writer_origin_ok(struct message *m)
{
	if (m->origin == NULL)
		return true;
	switch (origin_state(m)) {
	case ORIGIN_BUSY:
		writer_failed(m, 450, "4.3.0", "Error: it is being taken");
		return false;
	case ORIGIN_TAKEN:
		writer_failed(m, 250, "2.0.0", "Ok: was taken before");
		return false;
	case ORIGIN_NEW:
		break;
	}
	return true;
}

static void
writer_seal(struct writer *w, struct message *m, struct chan_in *in)
{
	struct spool_tail t = { 0 };
	struct view asked = view_of("");
	struct arena *a;
	struct envelope e;
	unsigned flags;

	m->text_size = cursor_u64(&in->body);
	flags = cursor_u8(&in->body);
	m->internal = (flags & 1) != 0;
	m->each = (flags & 2) != 0 && w->kind == ROLE_SMTPD;
	t.envelope = cursor_view(&in->body);
	if (w->kind != ROLE_BOUNCE && cursor_left(&in->body) > 0)
		asked = cursor_view(&in->body);
	if (w->kind == ROLE_SMTPD && cursor_left(&in->body) > 0) {
		m->milter_pid = cursor_u32(&in->body);
		m->milter_session = cursor_u32(&in->body);
		m->milter_events = cursor_u32(&in->body);
	}
	if (!chan_check(w->chan, in))
		return;
	a = arena_new(t.envelope.n * 16 + 65536);
	if (!envelope_get(t.envelope, a, &e) ||
	    (m->internal && w->kind != ROLE_BOUNCE &&
	    w->kind != ROLE_LOCAL && !notice_is_ours(&e)) ||
	    (w->kind == ROLE_LOCAL && !m->internal) ||
	    (w->kind == ROLE_TLSRPT && (e.sender.n > 0 ||
	    (e.flags & ~(uint32_t)ENVELOPE_TLS_OPTIONAL) != 0)) ||
	    (w->kind == ROLE_PICKUP && (m->internal || m->origin == NULL ||
	    (e.flags & ENVELOPE_NO_FILTER) != 0))) {
		arena_free(&a);
		chan_blame(w->chan, "bad envelope");
		return;
	}
	t.nrcpts = e.nrcpts;
	arena_free(&a);
	if (asked.n > 0 && !asked_keep(m, asked)) {
		chan_blame(w->chan, "bad wishes of the policy");
		return;
	}
	if (!writer_text_ok(m)) {
		chan_blame(w->chan, "text is not sealed");
		return;
	}
	message_set_tail(m, &t);
	m->writer_pid = (uint32_t)chan_peer_pid(w->chan);
	m->from_smtpd = w->kind == ROLE_SMTPD;
	m->proxy = m->internal ? NULL : w->proxy;
	m->arrival = clock_wall();
	m->seal_asked = true;
	if (!writer_origin_ok(m))
		return;
	if (origin_refusal(m) != NULL) {
		writer_return(m, view_make("", 0),
		    view_of(origin_refusal(m)));
		return;
	}
	if (w->kind != ROLE_SMTPD || !flow_delays(m->known.id))
		writer_go_on(m);
}

static void
writer_drop(struct writer *w, struct message *m)
{
	struct queue_id id = m->known.id;

	(void)w;
	writer_release(m);
	message_free(&m);
	if (qmgr.handed_over)
		handover_done(id);
	qmgr_check_end();
}

static void
writer_tell_space(struct writer *w)
{
	struct buf *b = chan_begin(w->chan, MSG_SPACE);

	put_u8(b, space.accepting);
	put_u64(b, space.free);
	chan_end(w->chan);
	w->told_accepting = space.accepting;
}

static void
writer_origin(struct writer *w, struct message *m, struct chan_in *in)
{
	struct view name = cursor_view(&in->body);
	struct view refusal = cursor_view(&in->body);

	if (chan_check(w->chan, in) && !origin_set(m, name, refusal))
		chan_blame(w->chan, "bad origin");
}

static void
writer_on_msg(struct chan *c, struct chan_in *in, void *arg)
{
	struct writer *w = arg;
	struct message *m;
	struct view name;
	uint32_t n;

	switch ((int)in->type) {
	case MSG_SLOTS:
		n = cursor_u32(&in->body);
		if (!chan_check(c, in))
			return;
		if (n > SLOTS_AT_ONCE - w->owed)
			n = SLOTS_AT_ONCE - w->owed;
		w->owed += n;
		writer_give(w);
		break;
	case MSG_SLOT_DROP:
		m = writer_find(w, in, M_WRITING);
		if (m != NULL && chan_check(c, in))
			writer_drop(w, m);
		break;
	case MSG_SPILL:
		m = writer_find(w, in, M_WRITING);
		if (m != NULL && chan_check(c, in))
			writer_spill(w, m);
		break;
	case MSG_SEAL:
		m = writer_find(w, in, M_WRITING);
		if (m != NULL)
			writer_seal(w, m, in);
		break;
	case MSG_ORIGIN:
		m = writer_find(w, in, M_WRITING);
		if (m != NULL)
			writer_origin(w, m, in);
		break;
	case MSG_SITE:
		name = cursor_view(&in->body);
		if (chan_check(c, in) && !site_wanted(name))
			chan_blame(c, "bad name of a site");
		break;
	case MSG_VERIFY:
		verify_asked(c, in);
		break;
	case MSG_BOUNCED:
		bounce_done(c, in);
		break;
	default:
		chan_blame(c, "unexpected message");
		break;
	}
}

static void
writer_drop_slot(struct known *k, void *arg)
{
	struct message *m = (struct message *)k;

	if (k->state == M_DEFERRED || k->state == M_BUSY || m->writer != arg)
		return;
	if (k->state == M_WRITING) {
		writer_drop(arg, m);
		return;
	}
	/* Sealed already: it goes on, and nobody hears the answer.  The client
	 * will send it again (RFC 1047), but what is complete is kept. */
	writer_release(m);
}

void
writer_detach(struct writer *w)
{
	struct writer **p;

	w->closed = true;
	known_each(writer_drop_slot, w);
	for (p = &writers; *p != w; p = &(*p)->next)
		;
	*p = w->next;
	free(w);
}

static void
writer_on_close(struct chan *c, void *arg)
{
	bounce_gone(c);
	verify_gone(c);
	writer_detach(arg);
	chan_free(&c);
	qmgr_check_end();
}

void
writer_init(void)
{
	evtimer_assign(&owed_timer, loop_base(), writer_give_owed, NULL);
}

static void
writer_welcome(struct writer *w)
{
	w->next = writers;
	writers = w;
	if (!space.known)
		writer_space_check();
	writer_tell_space(w);
}

struct writer *
writer_attach(struct chan *c, enum role_kind kind)
{
	struct writer *w = mem_alloc(sizeof *w);

	w->kind = kind;
	w->chan = c;
	writer_welcome(w);
	return w;
}

void
writer_said(struct writer *w, struct chan_in *in)
{
	writer_on_msg(w->chan, in, w);
}

void
writer_peer(const struct role_peer *peer, int fd)
{
	struct writer *w = mem_alloc(sizeof *w);

	w->kind = peer->kind;
	w->proxy = peer->kind == ROLE_SMTPD ? proxy_find(peer->settings) :
	    NULL;
	w->chan = chan_new(fd, ROLE_QMGR, peer->kind, peer->pid,
	    writer_on_msg, writer_on_close, w);
	writer_welcome(w);
	if (peer->kind == ROLE_BOUNCE)
		bounce_ready(w->chan);
}

/* queue_minfree, and room for one more message of the largest size. */
void
writer_space_check(void)
{
	int64_t want = qmgr.cf->message_size_limit / 2 * 3;
	uint64_t bytes;
	struct writer *w;
	bool was = space.accepting;

	if (spool_space(&qmgr.spool, &bytes) != 0)
		return;
	if (want < qmgr.cf->queue_minfree)
		want = qmgr.cf->queue_minfree;
	space.known = true;
	space.free = bytes;
	space.accepting = bytes >= (uint64_t)want;
	if (was != space.accepting)
		log_warn("%s: %llu bytes free in the spool, %lld needed",
		    space.accepting ? "accepting mail again" :
		    "refusing mail", (unsigned long long)bytes,
		    (long long)want);
	for (w = writers; w != NULL; w = w->next)
		if (w->told_accepting != space.accepting)
			writer_tell_space(w);
}

bool
writer_busy(void)
{
	const struct writer *w;

	for (w = writers; w != NULL; w = w->next)
		if (w->kind == ROLE_SMTPD ||
		    ((w->kind == ROLE_PICKUP || w->kind == ROLE_TLSRPT) &&
		    w->slots > 0))
			return true;
	return false;
}

void
writer_status(struct buf *b)
{
	(void)buf_printf(b, "accepting %s\nfree_bytes %llu\nsealed %llu\n",
	    space.accepting ? "yes" : "no", (unsigned long long)space.free,
	    (unsigned long long)qmgr.sealed);
}
