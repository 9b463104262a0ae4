/* What smtpd and filter of a trial are joined to: this command. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/conf_choice.h"
#include "lib/mem.h"
#include "proxy/postern_trial_impl.h"
#include "rules/facts.h"
#include "rules/judgement.h"

#define SEALS	(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)
#define ROOM	(1ull << 50)

static void
link_on_close(struct chan *c, void *arg)
{
	(void)c;
	trial_fail(arg, "a role has ended");
}

/* -- facts ----------------------------------------------------------------- */

static const char *
dns_type(unsigned type)
{
	switch (type) {
	case FACT_A:
		return "A";
	case FACT_NS:
		return "NS";
	case FACT_MX:
		return "MX";
	case FACT_TXT:
		return "TXT";
	case FACT_HOST:
		return "A, AAAA";
	default:
		return "?";
	}
}

static void
fact_record(struct buf *b, struct view question, struct view r)
{
	struct netaddr a;
	char text[NETADDR_TEXT];
	uint16_t preference;
	struct view name;

	if (view_starts_nocase(question, "DNS A") &&
	    netaddr_from_bytes(r, &a))
		(void)buf_printf(b, " %s", netaddr_text(&a, text));
	else if (view_starts_nocase(question, "DNS MX") &&
	    fact_mx(r, &preference, &name))
		(void)buf_printf(b, " %u %s", preference,
		    name.n > 0 ? log_safe(name) : ".");
	else
		(void)buf_printf(b, " %s", log_safe(view_head(r, 200)));
}

static void
fact_told(struct trial *t, struct view answer, const char *remark)
{
	static const char *const words[FACT_STATUSES] = {
		[FACT_UNKNOWN] = "no answer", [FACT_FOUND] = "found",
		[FACT_NO_DATA] = "no such record",
		[FACT_NO_NAME] = "no such name",
		[FACT_TEMPORARY] = "no answer now", [FACT_BOGUS] = "bogus" };
	struct cursor c = cursor_of(answer);
	unsigned status = cursor_u8(&c);
	uint32_t n = cursor_u32(&c);
	struct buf b;

	if (t->o.on_fact == NULL)
		return;
	buf_init(&b, 65536);
	(void)buf_printf(&b, "%s: %s", buf_cstr(&t->question),
	    status < FACT_STATUSES ? words[status] : "?");
	for (; n > 0 && !c.bad; n--)
		fact_record(&b, buf_view(&t->question), cursor_view(&c));
	if (remark != NULL)
		(void)buf_printf(&b, " (%s)", remark);
	t->o.on_fact(buf_view(&b), t->o.arg);
	buf_free(&b);
}

static void
fact_asked(struct trial *t, struct chan_in *m)
{
	struct cursor c = m->body;
	uint32_t tag = cursor_u32(&c);
	unsigned kind = cursor_u8(&c), type = cursor_u16(&c);
	struct view key = cursor_view(&c);
	const struct view action = view_of("DUNNO");
	struct buf answer, *b;

	buf_clear(&t->question);
	if (kind == FACT_DNS)
		(void)buf_printf(&t->question, "DNS %s %s", dns_type(type),
		    log_safe(key));
	else
		(void)buf_printf(&t->question, "%s %s", kind == FACT_SERVICE ?
		    "policy service" : kind == FACT_TABLE ? "table" :
		    "address", log_safe(view_head(key, 400)));
	if (kind != FACT_SERVICE || t->o.ask_services) {
		b = chan_begin(t->to_lookup, MSG_FACT);
		(void)buf_putv(b, cursor_bytes(&m->body,
		    cursor_left(&m->body)));
		chan_end(t->to_lookup);
		return;
	}
	buf_init(&answer, 64);
	ensure(facts_put_answer(&answer, FACT_FOUND, &action, 1));
	fact_told(t, buf_view(&answer), "not asked");
	b = chan_begin(t->facts, MSG_FACT_IS);
	put_u32(b, tag);
	put_view(b, buf_view(&answer));
	chan_end(t->facts);
	buf_free(&answer);
}

static void
name_told(struct trial *t, unsigned status, struct view name,
    struct view reverse)
{
	static const char *const words[] = { "?", "verified",
		"not verified", "none", "no answer now" };
	struct buf b;

	if (t->o.on_fact == NULL)
		return;
	buf_init(&b, 4096);
	(void)buf_printf(&b, "client name: %s, reverse name: %s (%s)",
	    log_safe(name), log_safe(reverse),
	    status <= NAME_TEMPFAIL ? words[status] : "?");
	t->o.on_fact(buf_view(&b), t->o.arg);
	buf_free(&b);
}

/* --name and --reverse-name. */
static void
name_forced(struct trial *t, uint32_t tag)
{
	const char *name = t->o.name != NULL ? t->o.name : "unknown";
	const char *reverse = t->o.reverse != NULL ? t->o.reverse : name;
	unsigned status = strcmp(name, "unknown") != 0 ? NAME_OK :
	    strcmp(reverse, "unknown") != 0 ? NAME_UNVERIFIED : NAME_NONE;
	struct buf *b = chan_begin(t->facts, MSG_NAME_IS);

	put_u32(b, tag);
	put_u8(b, (uint8_t)status);
	put_view(b, view_of(name));
	put_view(b, view_of(reverse));
	chan_end(t->facts);
	name_told(t, status, view_of(name), view_of(reverse));
}

static void
facts_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct trial *t = arg;
	struct cursor copy = m->body;
	struct buf *b;

	(void)c;
	trial_logs(t);
	if (m->type == MSG_FACT) {
		fact_asked(t, m);
	} else if (t->o.name != NULL || t->o.reverse != NULL) {
		name_forced(t, cursor_u32(&copy));
	} else {
		b = chan_begin(t->to_lookup, MSG_NAME);
		(void)buf_putv(b, cursor_bytes(&m->body,
		    cursor_left(&m->body)));
		chan_end(t->to_lookup);
	}
}

static void
lookup_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct trial *t = arg;
	struct cursor in = m->body;
	struct view name;
	struct buf *b;
	unsigned status;

	(void)c;
	(void)cursor_u32(&in);
	if (m->type == MSG_FACT_IS) {
		fact_told(t, cursor_view(&in), NULL);
	} else {
		status = cursor_u8(&in);
		name = cursor_view(&in);
		name_told(t, status, name, cursor_view(&in));
	}
	b = chan_begin(t->facts, m->type);
	(void)buf_putv(b, cursor_bytes(&m->body, cursor_left(&m->body)));
	chan_end(t->facts);
}

/* Nothing is sent, so no server is asked. */
static void
address_asked(struct trial *t, struct chan_in *m)
{
	const struct view yes[2] = { view_of("+"), view_of("") };
	struct buf answer, *b;
	uint32_t tag = cursor_u32(&m->body);

	(void)cursor_u32(&m->body);
	buf_clear(&t->question);
	(void)buf_printf(&t->question, "address %s",
	    log_safe(view_head(cursor_view(&m->body), 400)));
	buf_init(&answer, 64);
	ensure(facts_put_answer(&answer, FACT_FOUND, yes, 2));
	fact_told(t, buf_view(&answer), "taken as deliverable, not asked");
	b = chan_begin(t->queue, MSG_VERIFY_IS);
	put_u32(b, tag);
	put_view(b, buf_view(&answer));
	chan_end(t->queue);
	buf_free(&answer);
}

/* -- the queue ------------------------------------------------------------- */

static struct trial_slot *
slot_find(struct trial *t, uint64_t id)
{
	size_t i;

	for (i = 0; i < TRIAL_SLOTS_MAX; i++)
		if (t->slots[i].id == id)
			return &t->slots[i];
	return NULL;
}

static int
slot_memory(int *ret_copy)
{
	int fd = memfd_create("text", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	*ret_copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (*ret_copy < 0)
		fatal("cannot make a memory file: %s", strerror(errno));
	return fd;
}

static void
slot_free(struct trial_slot *s)
{
	if (s->id == 0)
		return;
	close(s->fd);
	free(s->asked);
	free(s->envelope);
	*s = (struct trial_slot){ 0 };
}

static void
slots_give(struct trial *t, uint32_t n)
{
	struct trial_slot *s;
	struct buf *b;
	int copy;

	for (; n > 0 && (s = slot_find(t, 0)) != NULL; n--) {
		s->id = ++t->last_id;
		s->fd = slot_memory(&copy);
		b = chan_begin(t->queue, MSG_SLOT);
		put_u64(b, s->id);
		chan_put_fd(t->queue, copy, false);
		chan_end(t->queue);
	}
}

static void
slot_spill(struct trial *t, struct trial_slot *s)
{
	struct buf *b;
	int copy;

	close(s->fd);
	s->fd = slot_memory(&copy);
	b = chan_begin(t->queue, MSG_SPILL_IS);
	put_u64(b, s->id);
	chan_put_fd(t->queue, copy, false);
	chan_end(t->queue);
}

static void
slot_reply(struct trial *t, struct trial_slot *s,
    const struct judgement_reply *r)
{
	struct buf *b = chan_begin(t->queue, MSG_SEALED);

	put_u64(b, s->id);
	put_u16(b, (uint16_t)r->code);
	put_view(b, view_of(r->status));
	put_view(b, view_of(r->text));
	chan_end(t->queue);
	slot_free(s);
}

static void
slot_seal(struct trial *t, struct trial_slot *s, struct cursor *c)
{
	struct view envelope, asked;
	struct judgement_reply done = { 250, "2.0.0", "Ok" };
	struct buf *b;
	bool internal;

	s->size = cursor_u64(c);
	internal = cursor_u8(c) != 0;
	envelope = cursor_view(c);
	if (cursor_left(c) > 0) {
		asked = cursor_view(c);
		s->asked = mem_copy(asked);
		s->n_asked = asked.n;
	}
	/* A notice to the postmaster goes nowhere. */
	if (internal) {
		slot_reply(t, s, &done);
		return;
	}
	s->envelope = mem_copy(envelope);
	s->n_envelope = envelope.n;
	/* A text that was spilled is not sealed by smtpd. */
	(void)fcntl(s->fd, F_ADD_SEALS, SEALS);
	b = chan_begin(t->to_filter, MSG_FILTER);
	put_u64(b, s->id);
	put_u64(b, 0);
	put_u64(b, s->size);
	put_u8(b, 0);
	put_view(b, envelope);
	chan_put_fd(t->to_filter, s->fd, true);
	chan_end(t->to_filter);
}

static void
queue_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct trial *t = arg;
	struct trial_slot *s;

	if (m->type == MSG_SLOTS) {
		slots_give(t, cursor_u32(&m->body));
		return;
	}
	if (m->type == MSG_VERIFY) {
		address_asked(t, m);
		return;
	}
	s = slot_find(t, cursor_u64(&m->body));
	if (s == NULL || s->id == 0) {
		chan_blame(c, "message for a slot it does not have");
		return;
	}
	if (m->type == MSG_SLOT_DROP)
		slot_free(s);
	else if (m->type == MSG_SPILL)
		slot_spill(t, s);
	else if (m->type == MSG_SEAL)
		slot_seal(t, s, &m->body);
}

/* What the judgements of a message come to. */
struct outcome {
	struct judgement_reply good, bad;
	bool kept, refused, later;	/* later: a refusal is temporary */
};

/* One judgement, for the recipients with these indices; n 0: for all. */
static void
slot_judged(struct trial *t, const struct trial_slot *s,
    const struct judgement *j, const uint32_t *rcpts, uint32_t n,
    struct arena *a, struct outcome *o)
{
	struct judgement asked, both = *j;
	struct judgement_reply r;
	struct queue_id id = { s->id };
	char text[QUEUE_ID_TEXT];
	struct envelope e;
	bool known;
	uint32_t i;

	if (s->asked != NULL && judgement_get(view_make(s->asked, s->n_asked),
	    0, a, &asked))
		judgement_combine(j, &asked, &both);
	known = envelope_get(j->envelope.n > 0 ? j->envelope :
	    view_make(s->envelope, s->n_envelope), a, &e);
	if (known && n > 0 && j->envelope.n == 0) {
		/* In order, so none is overwritten before it is moved. */
		for (i = 0; i < n; i++)
			e.rcpts[i] = e.rcpts[rcpts[i]];
		e.nrcpts = n;
	}
	if (known && t->o.on_judged != NULL)
		t->o.on_judged(&both, &e, t->o.arg);
	if (judgement_reply(&both, queue_id_text(id, text), &r) ||
	    r.code < 400) {
		o->kept = o->kept || both.verdict.action != ACTION_DISCARD;
		o->good = r;
		if (known && both.verdict.action != ACTION_DISCARD)
			trial_deliver(t, s, &both, &e);
	} else if (!o->refused || (!o->later && r.code < 500)) {
		o->refused = true;
		o->later = r.code < 500;
		o->bad = r;
	}
}

/* All judgements of s; false: they are none. */
static bool
slot_parts(struct trial *t, const struct trial_slot *s, struct cursor *c,
    struct arena *a, struct outcome *o)
{
	uint32_t n = cursor_u32(c), k, i, last, *rcpts;
	struct judgement j;
	struct envelope e;

	if (!envelope_get(view_make(s->envelope, s->n_envelope), a, &e))
		return false;
	rcpts = arena_alloc(a, e.nrcpts * sizeof *rcpts);
	for (; n > 0; n--) {
		k = cursor_u32(c);
		if (k > e.nrcpts)
			return false;
		for (i = last = 0; i < k; i++) {
			rcpts[i] = cursor_u32(c);
			if (rcpts[i] >= e.nrcpts || (i > 0 &&
			    rcpts[i] <= last))
				return false;
			last = rcpts[i];
		}
		if (!judgement_get(cursor_view(c), s->size, a, &j))
			return false;
		slot_judged(t, s, &j, rcpts, k, a, o);
	}
	return cursor_done(c);
}

static void
filter_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct trial *t = arg;
	struct trial_slot *s = slot_find(t, cursor_u64(&m->body));
	struct outcome o = { .kept = false };
	const struct conf *cf = trial_config(t)->cf;
	struct arena *a;

	trial_logs(t);
	if (s == NULL || s->id == 0 || s->envelope == NULL) {
		chan_blame(c, "a message that it was not asked about");
		return;
	}
	a = arena_new((cursor_left(&m->body) + s->n_envelope) * 64 + 131072);
	if (!slot_parts(t, s, &m->body, a, &o))
		chan_blame(c, "bad judgement");
	else if (o.refused && (!o.kept || o.later ||
	    conf_choice("filter_policy_reject_action", view_of(
	    cf->filter_policy_reject_action)) == REFUSED_REJECT))
		slot_reply(t, s, &o.bad);
	else
		slot_reply(t, s, &o.good);
	arena_free(&a);
}

/* -- joining --------------------------------------------------------------- */

/* self talks to r, which is told so by its control channel. */
static struct chan *
link_join(struct trial *t, struct trial_role *r, enum role_kind self,
    chan_on_msg *on_msg)
{
	struct buf *b;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	    pair) != 0)
		fatal("socketpair: %s", strerror(errno));
	b = chan_begin(r->control, MSG_PEER);
	put_u8(b, (uint8_t)self);
	put_u32(b, (uint32_t)getpid());
	put_u32(b, 1);
	put_u32(b, 0);
	chan_put_fd(r->control, pair[1], false);
	chan_end(r->control);
	return chan_new(pair[0], self, r->kind, r->pid, on_msg, link_on_close,
	    t);
}

static void
gate_on_msg(struct chan *c, struct chan_in *m, void *arg)
{
	struct trial *t = arg;
	struct buf *b;
	uint32_t tag;

	if (m->type == MSG_CLIENT_EVENT) {
		/* Nothing is counted here. */
		(void)cursor_u32(&m->body);
		(void)cursor_u8(&m->body);
		tag = cursor_u32(&m->body);
		if (!chan_check(c, m))
			return;
		b = chan_begin(c, MSG_CLIENT_RATE);
		put_u32(b, tag);
		put_u32(b, 0);
		chan_end(c);
		return;
	}
	t->over = true;			/* CLIENT_DONE */
	trial_stop_waiting(t);
}

void
trial_link_open(struct trial *t)
{
	struct buf *b;

	t->to_lookup = link_join(t, &t->lookup, ROLE_SMTPD, lookup_on_msg);
	t->to_filter = link_join(t, &t->filter, ROLE_QMGR, filter_on_msg);
	t->facts = link_join(t, &t->smtpd, ROLE_LOOKUP, facts_on_msg);
	t->queue = link_join(t, &t->smtpd, ROLE_QMGR, queue_on_msg);
	t->gate = link_join(t, &t->smtpd, ROLE_GATE, gate_on_msg);
	b = chan_begin(t->queue, MSG_SPACE);
	put_u8(b, 1);
	put_u64(b, ROOM);
	chan_end(t->queue);
}

void
trial_link_free(struct trial *t)
{
	struct chan **const all[] = { &t->gate, &t->facts, &t->queue,
		&t->to_lookup, &t->to_filter };
	size_t i;

	for (i = 0; i < sizeof all / sizeof all[0]; i++)
		if (*all[i] != NULL)
			chan_free(all[i]);
	for (i = 0; i < TRIAL_SLOTS_MAX; i++)
		slot_free(&t->slots[i]);
}
