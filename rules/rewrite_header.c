/* The addresses in one header. */
#include "lib/log.h"
#include "rules/table_remote.h"
#include "rules/rewrite_priv.h"

static const struct {
	const char *name;
	enum rewrite_class class;
} headers[] = {
	{ "Apparently-To", CLASS_HEADER_RECIPIENT },
	{ "Bcc", CLASS_HEADER_RECIPIENT },
	{ "Cc", CLASS_HEADER_RECIPIENT },
	{ "Disposition-Notification-To", CLASS_HEADER_SENDER },
	{ "Errors-To", CLASS_HEADER_SENDER },
	{ "From", CLASS_HEADER_SENDER },
	{ "Mail-Followup-To", CLASS_HEADER_SENDER },
	{ "Reply-To", CLASS_HEADER_SENDER },
	{ "Resent-Bcc", CLASS_HEADER_RECIPIENT },
	{ "Resent-Cc", CLASS_HEADER_RECIPIENT },
	{ "Resent-From", CLASS_HEADER_SENDER },
	{ "Resent-Reply-To", CLASS_HEADER_RECIPIENT },
	{ "Resent-Sender", CLASS_HEADER_SENDER },
	{ "Resent-To", CLASS_HEADER_RECIPIENT },
	{ "Return-Path", CLASS_HEADER_SENDER },
	{ "Return-Receipt-To", CLASS_HEADER_SENDER },
	{ "Sender", CLASS_HEADER_SENDER },
	{ "To", CLASS_HEADER_RECIPIENT },
};

static unsigned
header_class(struct view name)
{
	size_t i;

	for (i = 0; i < sizeof headers / sizeof headers[0]; i++)
		if (view_is_nocase(name, headers[i].name))
			return headers[i].class;
	return 0;
}

bool
rewrite_is_header(struct view name)
{
	return header_class(name) != 0;
}

/* What is done with one address: r->address, in place. */
struct header_way {
	enum rewrite_context context;
	enum rewrite_class class;
	bool mapped, generic;
};

static enum rewrite_answer
header_address(struct rewrite *r, const struct header_way *w,
    const struct mailbox *m)
{
	const struct rewrite_complete *c = w->context == REWRITE_REMOTE ?
	    &r->remote : &r->local;

	if (w->generic)
		return rewrite_generic(r, m->addr, &r->address);
	if (rewrite_complete(c, m->addr, m->has_domain, m->quoted,
	    &r->address) && !view_eq(m->addr, buf_view(&r->address))) {
		buf_clear(&r->where);
		rewrite_report_step(r, "append_at_myorigin", m->addr,
		    buf_view(&r->address));
	}
	return w->mapped ? rewrite_canonical(r, w->class, &r->address) :
	    REWRITE_DONE;
}

/* The new address in the place of m; comments stay beside it. */
static bool
header_put(struct rewrite *r, struct view header, size_t from, size_t shift,
    const struct mailbox *m, struct buf *out)
{
	return buf_putv(out, view_make(header.p + from,
	    shift + m->begin - from)) &&
	    (r->address.n > 0 ? address_quote(buf_view(&r->address), out) :
	    buf_puts(out, "\"\"")) &&
	    (m->comments.n == 0 || (buf_putc(out, ' ') &&
	    buf_putv(out, m->comments)));
}

static enum rewrite_answer
header_rewrite(struct rewrite *r, struct header_way w, struct view header,
    struct buf *out, bool *ret_changed)
{
	size_t colon = view_find(header, ':'), done = 0;
	enum rewrite_answer a;
	struct mailbox m;
	bool fits = true, changed = false;

	*ret_changed = false;
	w.class = header_class(view_trim(view_head(header, colon)));
	if (w.class == 0)
		return REWRITE_DONE;
	buf_clear(out);
	mailbox_begin(&r->scan, view_from(header, colon + 1));
	while (fits && mailbox_next(&r->scan, &m)) {
		/* Words without commas are left to whoever can read them;
		 * without a domain a quoted '@' would be taken for one. */
		if (m.addr.n == 0 || m.adjacent || (!m.has_domain &&
		    view_find(m.addr, '@') < m.addr.n))
			continue;
		a = header_address(r, &w, &m);
		if (a != REWRITE_DONE && rewrite_goes_on(a))
			continue;
		if (a != REWRITE_DONE)
			return a;
		if (view_eq(m.addr, buf_view(&r->address)) &&
		    (!m.route || w.generic))
			continue;
		fits = header_put(r, header, done, colon + 1, &m, out);
		done = colon + 1 + m.end;
		changed = true;
	}
	if (!changed)
		return REWRITE_DONE;
	if (!fits || !buf_putv(out, view_from(header, done))) {
		rewrite_set_problem(r, "a header grows over its maximum");
		return REWRITE_TOO_MUCH;
	}
	*ret_changed = true;
	return REWRITE_DONE;
}

enum rewrite_answer
rewrite_header(struct rewrite *r, enum rewrite_context context, bool mapped,
    struct view header, struct buf *out, bool *ret_changed)
{
	*ret_changed = false;
	if (context == REWRITE_NONE)
		return REWRITE_DONE;
	return header_rewrite(r, (struct header_way){ .context = context,
		.mapped = mapped }, header, out, ret_changed);
}

enum rewrite_answer
rewrite_generic_header(struct rewrite *r, struct view header,
    struct buf *out, bool *ret_changed)
{
	return header_rewrite(r, (struct header_way){ .generic = true },
	    header, out, ret_changed);
}

enum rewrite_answer
rewrite_generic(struct rewrite *r, struct view addr, struct buf *out)
{
	struct view to;

	buf_clear(out);
	(void)buf_putv(out, addr);
	if (addr.n == 0)
		return REWRITE_DONE;
	switch (rewrite_map_find(r, &r->generic, addr)) {
	case TABLE_FAILED:
		return REWRITE_FAILED;
	case TABLE_NOT_FOUND:
		return REWRITE_DONE;
	case TABLE_FOUND:
		break;
	}
	to = rewrite_result(r, 0);
	if (!view_eq(to, addr))
		rewrite_report_step(r, r->generic.name, addr, to);
	buf_clear(out);
	(void)buf_putv(out, to);
	return REWRITE_DONE;
}
