#include "filters/milter_envelope.h"
#include "lib/address.h"
#include "lib/dsn.h"

/* Recipients that filters can add behind one that became several. */
#define EDITS_ROOM	MILTER_EDITS_MAX

/* "<a@b>" or "a@b", into out. */
static bool
read_address(struct view text, struct buf *out, bool *ret_utf8)
{
	struct view rest = view_trim(text);

	buf_clear(out);
	return address_path(&rest, false, out, ret_utf8) == ADDRESS_OK &&
	    view_trim(rest).n == 0;
}

/* What has no domain gets ours. */
static bool
complete(const struct conf *cf, struct buf *addr)
{
	struct buf out;
	bool ok;

	buf_init(&out, ADDRESS_MAX);
	rewrite_complete_address(cf, buf_view(addr), &out);
	ok = out.n > 0;
	if (ok && view_find(buf_view(&out), '@') == out.n)
		ok = buf_putc(&out, '@') && buf_puts(&out, cf->myorigin);
	buf_clear(addr);
	ok = ok && buf_putv(addr, buf_view(&out));
	buf_free(&out);
	return ok;
}

static bool
same_address(struct view a, struct view b)
{
	return view_eq(address_local(a), address_local(b)) &&
	    view_eq_nocase(address_domain(a), address_domain(b));
}

/* RET= and ENVID=; what is about the text (SIZE, BODY, SMTPUTF8) was settled
 * when it came.  One that is none is as if it were not there. */
static void
sender_arguments(struct view args, struct arena *a, struct envelope *e)
{
	struct view word;
	struct buf envid;
	uint8_t ret;

	while ((word = view_word(&args, " \t")).n > 0) {
		buf_init(&envid, DSN_ENVID_MAX + 1);
		if (view_starts_nocase(word, "RET=") &&
		    (ret = dsn_ret(view_from(word, 4))) != 0)
			e->ret = ret;
		else if (view_starts_nocase(word, "ENVID=") &&
		    dsn_envid_get(&envid, view_from(word, 6)))
			e->envid = arena_copy(a, buf_view(&envid));
		buf_free(&envid);
	}
}

static const char *
change_sender(const struct conf *cf, const struct milter_edit *m,
    struct arena *a, struct envelope *e)
{
	const char *why = NULL;
	struct buf addr;
	bool utf8;

	buf_init(&addr, ADDRESS_MAX);
	if (m->name.n > 0 && !read_address(m->name, &addr, &utf8))
		why = "bad address of a sender";
	else if (addr.n > 0 && !complete(cf, &addr))
		why = "bad address of a sender";
	else {
		e->sender = arena_copy(a, buf_view(&addr));
		sender_arguments(m->value, a, e);
	}
	buf_free(&addr);
	return why;
}

static void
recipient_arguments(struct view args, bool raw, struct arena *a,
    struct recipient *r)
{
	struct view word;
	struct buf orcpt;

	while ((word = view_word(&args, " \t")).n > 0) {
		buf_init(&orcpt, DSN_ORCPT_MAX);
		if (view_starts_nocase(word, "NOTIFY="))
			r->notify = dsn_notify(view_from(word, 7));
		else if (view_starts_nocase(word, "ORCPT=") &&
		    dsn_orcpt_get(&orcpt, view_from(word, 6), raw))
			r->orcpt = arena_copy(a, buf_view(&orcpt));
		buf_free(&orcpt);
	}
}

static const char *
put_recipient(struct envelope *e, const struct recipient *r)
{
	uint32_t i;

	for (i = 0; i < e->nrcpts; i++)
		if (same_address(e->rcpts[i].addr, r->addr))
			return NULL;
	if (e->nrcpts == ENVELOPE_RCPTS_MAX)
		return "too many recipients";
	e->rcpts[e->nrcpts++] = *r;
	return NULL;
}

/* What tables make of one recipient; e grows. */
static const char *
put_rewritten(struct rewrite *rewrite, const struct recipient *r,
    struct arena *a, struct envelope *e)
{
	struct rewrite_extra none = { .n_bcc = 0 };
	struct recipient one = *r, *rcpts;
	struct envelope in = *e, out;
	const char *why = NULL;
	bool changed;
	uint32_t i;

	in.nrcpts = 1;
	in.rcpts = &one;
	if (rewrite_envelope(rewrite, &in, &none, a, &out, &changed) !=
	    REWRITE_DONE)
		return "a recipient that cannot be rewritten";
	/* There was room for one. */
	rcpts = arena_alloc(a, (e->nrcpts + out.nrcpts + EDITS_ROOM) *
	    sizeof *rcpts);
	memcpy(rcpts, e->rcpts, e->nrcpts * sizeof *rcpts);
	e->rcpts = rcpts;
	for (i = 0; why == NULL && i < out.nrcpts; i++)
		why = put_recipient(e, &out.rcpts[i]);
	return why;
}

static const char *
add_recipient(const struct conf *cf, struct rewrite *rewrite,
    const struct milter_edit *m, struct arena *a, struct envelope *e)
{
	struct recipient r = { 0 };
	const char *why = NULL;
	struct buf addr;
	bool utf8;

	buf_init(&addr, ADDRESS_MAX);
	if (!read_address(m->name, &addr, &utf8) || addr.n == 0 ||
	    !complete(cf, &addr))
		why = "bad address of a recipient";
	else
		recipient_arguments(m->value,
		    (e->flags & ENVELOPE_SMTPUTF8) != 0, a, &r);
	r.addr = arena_copy(a, buf_view(&addr));
	buf_free(&addr);
	if (why != NULL)
		return why;
	return rewrite == NULL ? put_recipient(e, &r) :
	    put_rewritten(rewrite, &r, a, e);
}

static const char *
delete_recipient(const struct milter_edit *m, struct envelope *e)
{
	uint32_t i, k = 0;
	struct buf addr;
	struct view is;
	bool utf8;

	buf_init(&addr, ADDRESS_MAX);
	if (!read_address(m->name, &addr, &utf8)) {
		buf_free(&addr);
		return "bad address of a recipient";
	}
	is = buf_view(&addr);
	for (i = 0; i < e->nrcpts; i++)
		if (!same_address(e->rcpts[i].addr, is) &&
		    (e->rcpts[i].orig.n == 0 ||
		    !same_address(e->rcpts[i].orig, is)))
			e->rcpts[k++] = e->rcpts[i];
	e->nrcpts = k;
	buf_free(&addr);
	return NULL;
}

static bool
is_envelope(const struct milter_edit *m)
{
	return m->kind == MILTER_EDIT_FROM ||
	    m->kind == MILTER_EDIT_ADD_RCPT ||
	    m->kind == MILTER_EDIT_DELETE_RCPT;
}

const char *
milter_envelope_apply(const struct conf *cf, struct rewrite *rewrite,
    const struct envelope *e, const struct milter_edit *list, size_t n, struct arena *a,
    struct envelope *ret, bool *ret_changed)
{
	const char *why = NULL;
	size_t i, more = 0;

	*ret = *e;
	*ret_changed = false;
	for (i = 0; i < n; i++)
		more += is_envelope(&list[i]);
	if (more == 0)
		return NULL;
	*ret_changed = true;
	ret->rcpts = arena_alloc(a, (e->nrcpts + more) * sizeof *ret->rcpts);
	if (e->nrcpts > 0)
		memcpy(ret->rcpts, e->rcpts, e->nrcpts * sizeof *e->rcpts);
	for (i = 0; why == NULL && i < n; i++)
		if (list[i].kind == MILTER_EDIT_FROM)
			why = change_sender(cf, &list[i], a, ret);
		else if (list[i].kind == MILTER_EDIT_ADD_RCPT)
			why = add_recipient(cf, rewrite, &list[i], a, ret);
		else if (list[i].kind == MILTER_EDIT_DELETE_RCPT)
			why = delete_recipient(&list[i], ret);
	if (why != NULL) {
		*ret = *e;
		*ret_changed = false;
	}
	return why;
}
