#include <stddef.h>
#include <stdio.h>

#include "lib/address.h"
#include "lib/mem.h"
#include "rules/policy_wire.h"

#define NAME_MAX_BYTES	1024u	/* of a fact */
#define WHERE_MAX_BYTES	2048u
#define TEXT_MAX_BYTES	4096u	/* that a table says */

enum { FLAG_HELO = 1, FLAG_SENDER = 2, FLAG_RCPT = 4, FLAG_UTF8 = 8,
	FLAG_DISCARDING = 16, FLAG_TRUSTED = 32, FLAGS = 63 };
enum { MSG_HOLD = 1, MSG_DISCARD = 2, MSG_DEFERRED = 4, MSG_TRIAL = 8,
	MSG_FLAGS = 15 };

#define FACT(member)	offsetof(struct policy_facts, member)
static const size_t fact_views[] = { FACT(client_name), FACT(reverse_name),
	FACT(helo), FACT(sender), FACT(recipient), FACT(verb), FACT(protocol),
	FACT(queue_id), FACT(instance), FACT(tls_protocol), FACT(tls_cipher),
	FACT(tls_subject), FACT(tls_issuer), FACT(login), FACT(login_method),
	FACT(login_sender) };
#define FACT_VIEWS	(sizeof fact_views / sizeof fact_views[0])

/* -- pieces ---------------------------------------------------------------- */

static struct view *
fact_view(struct policy_facts *f, size_t i)
{
	return (struct view *)(void *)((char *)f + fact_views[i]);
}

static bool
put_address(struct buf *b, const struct netaddr *a)
{
	return put_view(b, netaddr_bytes(a)) && put_u16(b, a->port);
}

static bool
get_address(struct cursor *c, struct netaddr *ret)
{
	struct view bytes = cursor_view(c);
	uint16_t port = cursor_u16(c);

	if (!netaddr_from_bytes(bytes, ret))
		return false;
	ret->port = port;
	return true;
}

/* Nothing that ends a line, or a C string. */
static bool
text_good(struct view v, size_t max)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		if (((unsigned char)v.p[i] < ' ' && v.p[i] != '\t') ||
		    v.p[i] == 0x7f)
			return false;
	return v.n <= max;
}

/* As text_good() wants it: what came from a service may be anything. */
static bool
put_clean(struct buf *b, struct view v, size_t max)
{
	size_t at, i;

	v = view_head(v, max);
	if (!put_view(b, v))
		return false;
	at = b->n - v.n;
	for (i = at; i < b->n; i++)
		if (!text_good(view_make(b->p + i, 1), 1))
			b->p[i] = '?';
	return true;
}

static bool
put_reply(struct buf *b, const struct policy_reply *r)
{
	return put_u16(b, r->code) && put_view(b, view_of(r->status)) &&
	    put_clean(b, view_of(r->text), sizeof r->text - 1);
}

static bool
get_reply(struct cursor *c, struct policy_reply *ret)
{
	struct view status, text;

	*ret = (struct policy_reply){ .code = cursor_u16(c) };
	status = cursor_view(c);
	text = cursor_view(c);
	if (ret->code < 400 || ret->code > 599 ||
	    !text_good(status, sizeof ret->status - 1) ||
	    !text_good(text, sizeof ret->text - 1))
		return false;
	(void)snprintf(ret->status, sizeof ret->status, "%.*s",
	    VIEW_ARGS(status));
	(void)snprintf(ret->text, sizeof ret->text, "%.*s", VIEW_ARGS(text));
	return true;
}

/* -- questions ------------------------------------------------------------- */

static bool
put_carried(struct buf *b, const struct policy_reply *r)
{
	return put_u8(b, r != NULL) && (r == NULL || put_reply(b, r));
}

static bool
get_carried(struct cursor *c, struct policy_reply **ret)
{
	uint8_t there = cursor_u8(c);

	if (there == 0)
		return true;
	*ret = mem_alloc(sizeof **ret);
	return there == 1 && get_reply(c, *ret);
}

bool
policy_question_put(struct buf *b, const struct policy_question *q)
{
	static const struct policy_carry none;
	struct policy_facts f = q->facts;
	const struct policy_carry *carry = f.carry != NULL ? f.carry : &none;
	bool ok;
	size_t i;

	ok = put_u8(b, (uint8_t)q->stage) && put_u8(b, (uint8_t)q->trial) &&
	    put_u8(b, (uint8_t)((f.has_helo ? FLAG_HELO : 0) |
	    (f.has_sender ? FLAG_SENDER : 0) |
	    (f.has_recipient ? FLAG_RCPT : 0) | (f.utf8 ? FLAG_UTF8 : 0) |
	    (f.discarding ? FLAG_DISCARDING : 0) |
	    (f.tls_trusted ? FLAG_TRUSTED : 0))) &&
	    put_u8(b, (uint8_t)f.name_status) && put_address(b, &f.client) &&
	    put_address(b, &f.server) && put_u32(b, f.recipients) &&
	    put_u64(b, f.size) && put_u32(b, f.tls_bits);
	for (i = 0; ok && i < FACT_VIEWS; i++)
		ok = put_view(b, *fact_view(&f, i));
	return ok && put_carried(b, carry->client) &&
	    put_carried(b, carry->helo) && put_carried(b, carry->mail);
}

bool
policy_question_get(struct cursor *c, struct policy_question *ret,
    struct policy_carry *carry)
{
	struct policy_facts *f = &ret->facts;
	unsigned stage = cursor_u8(c), trial = cursor_u8(c);
	unsigned flags = cursor_u8(c), status = cursor_u8(c);
	size_t i;

	*carry = (struct policy_carry){ NULL, NULL, NULL };
	*ret = (struct policy_question){ .stage = (enum policy_stage)stage,
		.trial = (enum policy_trial)trial };
	if (stage < STAGE_CLIENT || stage > STAGE_EOD || trial < TRIAL_NONE ||
	    trial > TRIAL_PERMANENT || flags > FLAGS || status < NAME_OK ||
	    status > NAME_TEMPFAIL || !get_address(c, &f->client) ||
	    !get_address(c, &f->server))
		return false;
	f->name_status = (enum name_status)status;
	f->has_helo = (flags & FLAG_HELO) != 0;
	f->has_sender = (flags & FLAG_SENDER) != 0;
	f->has_recipient = (flags & FLAG_RCPT) != 0;
	f->utf8 = (flags & FLAG_UTF8) != 0;
	f->discarding = (flags & FLAG_DISCARDING) != 0;
	f->tls_trusted = (flags & FLAG_TRUSTED) != 0;
	f->recipients = cursor_u32(c);
	f->size = cursor_u64(c);
	f->tls_bits = cursor_u32(c);
	for (i = 0; i < FACT_VIEWS; i++) {
		*fact_view(f, i) = cursor_view(c);
		if (!text_good(*fact_view(f, i), NAME_MAX_BYTES))
			return false;
	}
	f->tls_fingerprint = f->tls_pubkey_fingerprint = view_of("");
	f->tls_sni = f->etrn = view_of("");
	f->carry = carry;
	return f->sender.n <= ADDRESS_MAX && f->recipient.n <= ADDRESS_MAX &&
	    get_carried(c, &carry->client) && get_carried(c, &carry->helo) &&
	    get_carried(c, &carry->mail) && !c->bad;
}

/* -- answers --------------------------------------------------------------- */

static bool
put_list(struct buf *b, const struct view *list, uint32_t n)
{
	bool ok = put_u32(b, n);
	uint32_t i;

	for (i = 0; ok && i < n; i++)
		ok = put_clean(b, list[i], TEXT_MAX_BYTES);
	return ok;
}

static bool
get_text(struct cursor *c, struct arena *a, size_t max, struct view *ret)
{
	struct view v = cursor_view(c);

	if (c->bad || !text_good(v, max))
		return false;
	*ret = arena_copy(a, v);
	return true;
}

static bool
get_list(struct cursor *c, struct arena *a, struct view *list, uint32_t *ret)
{
	uint32_t n = cursor_u32(c), i;

	if (n > POLICY_LIST_MAX)
		return false;
	for (i = 0; i < n; i++)
		if (!get_text(c, a, TEXT_MAX_BYTES, &list[i]))
			return false;
	*ret = n;
	return true;
}

bool
policy_answer_put(struct buf *b, const struct policy_result *r, bool trial)
{
	bool refuse = r->outcome == POLICY_REFUSE;

	return put_u8(b, (uint8_t)r->outcome) &&
	    put_u8(b, (uint8_t)((r->hold ? MSG_HOLD : 0) |
	    (r->discard ? MSG_DISCARD : 0) |
	    (r->deferred ? MSG_DEFERRED : 0) | (trial ? MSG_TRIAL : 0))) &&
	    put_clean(b, r->where, WHERE_MAX_BYTES) &&
	    (!refuse || put_reply(b, &r->reply)) &&
	    put_clean(b, r->hold_text, TEXT_MAX_BYTES) &&
	    put_clean(b, r->hold_where, WHERE_MAX_BYTES) &&
	    put_clean(b, r->redirect, TEXT_MAX_BYTES) &&
	    put_clean(b, r->filter, TEXT_MAX_BYTES) &&
	    put_list(b, r->bcc, r->n_bcc) &&
	    put_list(b, r->prepend, r->n_prepend) &&
	    (!r->deferred || put_reply(b, &r->deferral));
}

bool
policy_answer_get(struct cursor *c, struct policy_result *ret,
    bool *ret_trial)
{
	struct arena *a = ret->arena;
	unsigned outcome = cursor_u8(c), flags = cursor_u8(c);

	arena_reset(a);
	memset(ret, 0, sizeof *ret);
	ret->arena = a;
	ret->outcome = (enum policy_outcome)outcome;
	if ((outcome != POLICY_PERMIT && outcome != POLICY_REFUSE) ||
	    flags > MSG_FLAGS ||
	    !get_text(c, a, WHERE_MAX_BYTES, &ret->where) ||
	    (outcome == POLICY_REFUSE && !get_reply(c, &ret->reply)))
		return false;
	ret->hold = (flags & MSG_HOLD) != 0;
	ret->discard = (flags & MSG_DISCARD) != 0;
	ret->deferred = (flags & MSG_DEFERRED) != 0;
	*ret_trial = (flags & MSG_TRIAL) != 0;
	return get_text(c, a, TEXT_MAX_BYTES, &ret->hold_text) &&
	    get_text(c, a, WHERE_MAX_BYTES, &ret->hold_where) &&
	    get_text(c, a, TEXT_MAX_BYTES, &ret->redirect) &&
	    get_text(c, a, TEXT_MAX_BYTES, &ret->filter) &&
	    get_list(c, a, ret->bcc, &ret->n_bcc) &&
	    get_list(c, a, ret->prepend, &ret->n_prepend) &&
	    (!ret->deferred || get_reply(c, &ret->deferral)) && !c->bad;
}
