/* The envelope: sender, recipients, what they expand to, copies. */
#include <stdlib.h>

#include "lib/dsn.h"
#include "lib/log.h"
#include "rules/addr_set.h"
#include "rules/rewrite_priv.h"

/* What one step more may need is left. */
#define REWRITE_ARENA_USE	(REWRITE_ARENA - 4 * REWRITE_VALUE_MAX)

/* The new envelope while it grows. */
struct growth {
	struct rewrite *r;
	const struct envelope *in;
	struct arena *arena;
	struct envelope out;
	struct addr_set seen;
	size_t bytes;
	uint32_t room;
	bool mapped;		/* not no_address_mappings */
	bool copied;		/* BCC too: not for mail of our own */
	bool changed;
};

static enum rewrite_answer
growth_too_much(struct growth *g)
{
	rewrite_set_problem(g->r, "more than %u recipients, or %u bytes of "
	    "addresses, after rewriting", ENVELOPE_RCPTS_MAX,
	    REWRITE_BYTES_MAX);
	return REWRITE_TOO_MUCH;
}

static struct view
growth_copy(struct growth *g, struct view v)
{
	return v.n == 0 ? view_make("", 0) : arena_copy(g->arena, v);
}

/*
 * Is there one like it?  Recipients that were given as different addresses
 * are different, unless enable_original_recipient says no.
 */
static bool
growth_seen(struct growth *g, const struct recipient *as, struct view addr)
{
	struct buf key;
	bool seen;

	buf_init(&key, 4 * ADDRESS_MAX + 64);
	if (g->r->keep_original) {
		(void)buf_putv(&key, as->orcpt);
		(void)buf_printf(&key, "\n%u\n", as->notify);
		(void)buf_putv(&key, as->orig);
		(void)buf_putc(&key, '\n');
	}
	(void)buf_putv(&key, addr);
	seen = !addr_set_add(&g->seen, arena_copy(g->arena, buf_view(&key)));
	buf_free(&key);
	return seen;
}

/*
 * A recipient on this host that names another behind it, "user%there@here"
 * or "user@there"@here, is the other one: as Postfix resolves it.  Who may
 * say such things is policy's to decide.
 */
static enum rewrite_answer
growth_resolve(struct growth *g, struct buf *addr)
{
	struct rewrite *r = g->r;
	struct view local;
	bool routed;

	for (;;) {
		local = address_local(buf_view(addr));
		if (local.n == addr->n)
			return REWRITE_DONE;
		routed = (r->dequoted && view_find(local, '@') < local.n) ||
		    (r->local.bang && view_find(local, '!') < local.n) ||
		    (r->local.percent && view_find(local, '%') < local.n);
		if (!routed)
			return REWRITE_DONE;
		switch (class_local(r->classes,
		    address_domain(buf_view(addr)))) {
		case TABLE_NOT_FOUND:
			return REWRITE_DONE;
		case TABLE_FAILED:
			rewrite_set_problem(r, "mydestination lookup problem "
			    "for %s", log_safe(buf_view(addr)));
			return REWRITE_FAILED;
		case TABLE_FOUND:
			break;
		}
		rewrite_complete_local(r, local, &r->other);
		/* "a%b c@here" names nothing: it ends as it began. */
		if (r->other.n >= addr->n)
			return REWRITE_DONE;
		buf_clear(&r->where);
		rewrite_report_step(r, "mydestination", buf_view(addr),
		    buf_view(&r->other));
		buf_clear(addr);
		(void)buf_putv(addr, buf_view(&r->other));
	}
}

/* ORCPT as a client would have said it (RFC 3461 section 4.2), so that
 * notifications name the address that the sender knows. */
static struct view
original_recipient(struct growth *g, struct view orig)
{
	struct view text = { "", 0 };
	bool utf8 = false;
	struct buf b;

	buf_init(&b, 2 * ADDRESS_MAX + 16);
	if (address_utf8(orig, &utf8) &&
	    buf_puts(&b, utf8 ? "utf-8;" : "rfc822;") &&
	    address_quote(orig, &b) && b.n <= DSN_ORCPT_MAX)
		text = growth_copy(g, buf_view(&b));
	buf_free(&b);
	return text;
}

/* as: the recipient that addr came from, with .orig. */
static enum rewrite_answer
growth_add(struct growth *g, const struct recipient *as, struct view addr)
{
	struct envelope *e = &g->out;
	struct recipient r = *as;
	enum rewrite_answer a;

	buf_clear(&g->r->client);
	if (addr.n == 0)
		rewrite_complete_local(g->r, view_of(g->r->empty_recipient),
		    &g->r->client);
	else
		(void)buf_putv(&g->r->client, addr);
	a = growth_resolve(g, &g->r->client);
	if (a != REWRITE_DONE)
		return a;
	addr = buf_view(&g->r->client);
	if (growth_seen(g, as, addr)) {
		g->changed = true;
		return REWRITE_DONE;
	}
	r.addr = growth_copy(g, addr);
	if (view_eq_nocase(r.orig, addr))
		r.orig = view_make("", 0);
	else if (r.orcpt.n == 0 && r.notify != NOTIFY_NEVER)
		r.orcpt = original_recipient(g, r.orig);
	g->bytes += r.addr.n + r.orig.n + r.orcpt.n + 16;
	if (e->nrcpts == ENVELOPE_RCPTS_MAX || g->bytes > REWRITE_BYTES_MAX ||
	    arena_used(g->arena) > REWRITE_ARENA_USE)
		return growth_too_much(g);
	if (e->nrcpts == g->room) {
		g->room = g->room * 2 + 4;
		e->rcpts = mem_resize(e->rcpts, g->room, sizeof *e->rcpts);
	}
	e->rcpts[e->nrcpts++] = r;
	return REWRITE_DONE;
}

/* -- virtual aliases ------------------------------------------------------- */

/* The addresses that one recipient becomes. */
struct expansion {
	struct rewrite *r;
	struct arena *arena;
	struct view *list;
	size_t n, room;
	struct addr_set done;	/* expanded into themselves */
};

static void
expansion_put(struct expansion *x, size_t i, struct view addr)
{
	if (x->n == x->room) {
		x->room = x->room * 2 + 4;
		x->list = mem_resize(x->list, x->room, sizeof *x->list);
	}
	if (i == x->n)
		x->n++;
	x->list[i] = addr.n == 0 ? view_make("", 0) :
	    arena_copy(x->arena, addr);
}

static enum rewrite_answer
expansion_refuse(struct expansion *x, const char *what, struct view addr)
{
	rewrite_set_problem(x->r, "unreasonable %s map %s for %s",
	    x->r->alias.name, what, log_safe(addr));
	return REWRITE_TOO_MUCH;
}

/* Take list[i] for what the table says; *ret_found: it said something. */
static enum rewrite_answer
expansion_step(struct expansion *x, size_t i, bool *ret_found)
{
	struct rewrite *r = x->r;
	struct view from = x->list[i], to;
	size_t k;

	*ret_found = false;
	if (arena_used(x->arena) > REWRITE_ARENA_USE)
		return expansion_refuse(x, "expansion size", from);
	switch (rewrite_map_find(r, &r->alias, from)) {
	case TABLE_FAILED:
		return REWRITE_FAILED;
	case TABLE_NOT_FOUND:
		return REWRITE_DONE;
	case TABLE_FOUND:
		break;
	}
	for (k = 0; k < r->results.n; k++) {
		to = rewrite_result(r, k);
		if ((int64_t)to.n > r->length_limit)
			return expansion_refuse(x, "result", from);
		rewrite_report_step(r, r->alias.name, from, to);
		expansion_put(x, k == 0 ? i : x->n, to);
		/* An address may be among what it expands to, once. */
		if (view_eq_nocase(to, from))
			(void)addr_set_add(&x->done, from);
	}
	*ret_found = true;
	return REWRITE_DONE;
}

static enum rewrite_answer
expansion_run(struct expansion *x, struct view addr)
{
	enum rewrite_answer a;
	int64_t depth;
	bool found;
	size_t i;

	expansion_put(x, 0, addr);
	for (i = 0; i < x->n; i++) {
		if ((int64_t)x->n > x->r->expansion_limit)
			return expansion_refuse(x, "expansion size", addr);
		for (depth = 0;; depth++) {
			if (addr_set_has(&x->done, x->list[i]))
				break;
			if (depth >= x->r->recursion_limit)
				return expansion_refuse(x, "nesting", addr);
			a = expansion_step(x, i, &found);
			if (a != REWRITE_DONE)
				return a;
			if (!found)
				break;
		}
	}
	return REWRITE_DONE;
}

/* -- recipients ------------------------------------------------------------ */

/* After an expansion nobody can say more of success than "expanded" (RFC 3461
 * section 5.2.7.3). */
static uint8_t
notify_expanded(uint8_t notify)
{
	if (!(notify & NOTIFY_SUCCESS))
		return notify;
	notify = (uint8_t)(notify & ~NOTIFY_SUCCESS);
	return notify == 0 ? NOTIFY_NEVER : notify;
}

/* addr went through the canonical tables: add what it becomes. */
static enum rewrite_answer
recipient_expand(struct growth *g, const struct recipient *as,
    struct view addr)
{
	struct expansion x = { .r = g->r, .arena = g->arena };
	enum rewrite_answer a;
	struct recipient to = *as;
	size_t i;

	if (!g->mapped || g->r->alias.tables.n == 0)
		return growth_add(g, as, addr);
	a = expansion_run(&x, addr);
	if (a == REWRITE_DONE && (x.n > 1 || !view_eq(x.list[0], addr)))
		to.notify = notify_expanded(to.notify);
	for (i = 0; a == REWRITE_DONE && i < x.n; i++)
		a = growth_add(g, &to, x.list[i]);
	addr_set_free(&x.done);
	free(x.list);
	return a;
}

/* Complete and map addr into r->address. */
static enum rewrite_answer
recipient_canonical(struct growth *g, struct view addr)
{
	struct rewrite *r = g->r;

	rewrite_complete_local(r, addr, &r->address);
	if (!view_eq(addr, buf_view(&r->address))) {
		buf_clear(&r->where);
		rewrite_report_step(r, "append_at_myorigin", addr,
		    buf_view(&r->address));
	}
	return g->mapped ? rewrite_canonical(r, CLASS_ENVELOPE_RECIPIENT,
	    &r->address) : REWRITE_DONE;
}

/*
 * A copy: nobody hears of its fate.  It is not looked up in the BCC tables
 * again, so there is no loop.
 */
static enum rewrite_answer
copy_add(struct growth *g, struct view addr)
{
	struct recipient as = { .notify = NOTIFY_NEVER };
	enum rewrite_answer a = recipient_canonical(g, addr);

	if (a != REWRITE_DONE)
		return a;
	g->changed = true;
	addr = growth_copy(g, buf_view(&g->r->address));
	as.orig = addr;
	return recipient_expand(g, &as, addr);
}

/* A list of addresses, as always_bcc or a BCC table gives it. */
static enum rewrite_answer
copy_list(struct growth *g, const char *what, struct view before,
    struct view list)
{
	enum rewrite_answer a = REWRITE_DONE;
	struct mailbox_scan s;
	struct mailbox m;

	mailbox_init(&s);
	mailbox_begin(&s, list);
	while (a == REWRITE_DONE && mailbox_next(&s, &m)) {
		if (m.addr.n == 0)
			continue;
		rewrite_report_step(g->r, what, before, m.addr);
		a = copy_add(g, m.addr);
	}
	mailbox_free(&s);
	return a;
}

static enum rewrite_answer
copy_find(struct growth *g, const struct rewrite_map *m, struct view addr)
{
	struct rewrite *r = g->r;
	struct addr_found found;
	struct view list;

	if (!g->copied || addr.n == 0 || m->tables.n == 0)
		return REWRITE_DONE;
	switch (addr_find(&r->keys, &m->tables, addr, &r->value, &found)) {
	case TABLE_NOT_FOUND:
		return REWRITE_DONE;
	case TABLE_FAILED:
		rewrite_set_problem(r, "%s map lookup problem for %s",
		    m->name, log_safe(addr));
		return REWRITE_FAILED;
	case TABLE_FOUND:
		break;
	}
	addr_found_where(&found, &r->where);
	/* The buffer is used again while the list is gone through. */
	list = growth_copy(g, buf_view(&r->value));
	return copy_list(g, m->name, addr, list);
}

static enum rewrite_answer
recipient_rewrite(struct growth *g, const struct recipient *in)
{
	struct recipient as = *in;
	enum rewrite_answer a = recipient_canonical(g, in->addr);
	struct view addr;

	if (a != REWRITE_DONE)
		return a;
	addr = growth_copy(g, buf_view(&g->r->address));
	if (as.orig.n == 0)
		as.orig = in->addr;
	a = recipient_expand(g, &as, addr);
	return a == REWRITE_DONE ? copy_find(g, &g->r->recipient_bcc, addr) :
	    a;
}

/* -- all of it ------------------------------------------------------------- */

static enum rewrite_answer
sender_rewrite(struct growth *g)
{
	struct rewrite *r = g->r;
	struct view sender = g->in->sender;
	enum rewrite_answer a = REWRITE_DONE;

	rewrite_complete_local(r, sender, &r->address);
	/* Mail of the mail system has the empty sender. */
	rewrite_complete_local(r, view_of("MAILER-DAEMON"), &r->client);
	if (view_eq_nocase(buf_view(&r->address), buf_view(&r->client)))
		buf_clear(&r->address);
	if (!view_eq(sender, buf_view(&r->address))) {
		buf_clear(&r->where);
		rewrite_report_step(r, "append_at_myorigin", sender,
		    buf_view(&r->address));
	}
	if (g->mapped && r->address.n > 0)
		a = rewrite_canonical(r, CLASS_ENVELOPE_SENDER, &r->address);
	if (a != REWRITE_DONE)
		return a;
	if (view_eq(sender, buf_view(&r->address)))
		g->out.sender = sender;
	else {
		g->out.sender = growth_copy(g, buf_view(&r->address));
		g->changed = true;
	}
	return copy_find(g, &r->sender_bcc, g->out.sender);
}

static enum rewrite_answer
envelope_recipients(struct growth *g, const struct rewrite_extra *extra)
{
	const struct envelope *in = g->in;
	struct recipient redirect = in->rcpts[0];
	enum rewrite_answer a = REWRITE_DONE;
	uint32_t i;

	if (extra->redirect.n > 0) {
		g->changed = true;
		/* As it is, and in the place of copies too; notifications
		 * name the first recipient that the sender wrote. */
		if (redirect.orig.n == 0)
			redirect.orig = redirect.addr;
		a = growth_add(g, &redirect, extra->redirect);
	}
	for (i = 0; extra->redirect.n == 0 && rewrite_goes_on(a) &&
	    i < in->nrcpts; i++)
		a = recipient_rewrite(g, &in->rcpts[i]);
	if (extra->redirect.n == 0 && a == REWRITE_DONE && g->copied) {
		buf_clear(&g->r->where);
		a = copy_list(g, "always_bcc", view_make("", 0),
		    view_of(g->r->always_bcc));
	}
	for (i = 0; a == REWRITE_DONE && i < extra->n_bcc; i++)
		a = copy_add(g, extra->bcc[i]);
	return a;
}

static bool
envelope_differs(const struct envelope *a, const struct envelope *b)
{
	uint32_t i;

	if (a->nrcpts != b->nrcpts)
		return true;
	for (i = 0; i < a->nrcpts; i++)
		if (!view_eq(a->rcpts[i].addr, b->rcpts[i].addr))
			return true;
	return false;
}

enum rewrite_answer
rewrite_envelope(struct rewrite *r, const struct envelope *in,
    const struct rewrite_extra *extra, struct arena *a, struct envelope *ret,
    bool *ret_changed)
{
	struct growth g = { .r = r, .in = in, .arena = a, .out = *in,
		.mapped = (in->flags & ENVELOPE_NO_MAPPING) == 0 };
	struct recipient *list;
	enum rewrite_answer answer;

	g.copied = g.mapped && (in->flags & ENVELOPE_NO_FILTER) == 0;
	g.out.rcpts = NULL;
	g.out.nrcpts = 0;
	r->problem[0] = '\0';
	/* Copies for the sender come first when it is not redirected. */
	if (extra->redirect.n > 0)
		g.copied = false;
	answer = sender_rewrite(&g);
	if (rewrite_goes_on(answer))
		answer = envelope_recipients(&g, extra);
	if (answer == REWRITE_DONE) {
		*ret_changed = g.changed || envelope_differs(in, &g.out);
		*ret = *ret_changed ? g.out : *in;
		if (*ret_changed) {
			list = arena_alloc(a, (g.out.nrcpts + 1u) *
			    sizeof *list);
			if (g.out.nrcpts > 0)
				memcpy(list, g.out.rcpts, g.out.nrcpts *
				    sizeof *list);
			ret->rcpts = list;
		}
	}
	free(g.out.rcpts);
	addr_set_free(&g.seen);
	return answer;
}
