/* One address: completed, looked up, masqueraded. */
#include <stdarg.h>
#include <stdio.h>

#include "lib/log.h"
#include "rules/table_remote.h"
#include "rules/rewrite_priv.h"

#define CANONICAL_NESTING	10u	/* results looked up again */

bool
rewrite_goes_on(enum rewrite_answer a)
{
	return a == REWRITE_DONE || (a == REWRITE_FAILED &&
	    table_known_goes_on());
}

void
rewrite_set_problem(struct rewrite *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(r->problem, sizeof r->problem, fmt, ap);
	va_end(ap);
}

void
rewrite_report_step(struct rewrite *r, const char *what, struct view before,
    struct view after)
{
	const struct rewrite_step step = { .what = what,
		.where = buf_view(&r->where), .before = before,
		.after = after };

	if (r->trace != NULL)
		r->trace(&step, r->trace_arg);
}

struct rewrite_complete
rewrite_complete_of(const struct conf *cf)
{
	return (struct rewrite_complete){ .origin = cf->myorigin,
		.domain = cf->mydomain,
		.append_origin = cf->append_at_myorigin,
		.append_domain = cf->append_dot_mydomain,
		.bang = cf->swap_bangpath, .percent = cf->allow_percent_hack };
}

/* -- completion ------------------------------------------------------------ */

/* What a routing character uncovers becomes the domain of an address. */
static bool
complete_domain_ok(struct view domain)
{
	return address_valid_hostname(domain) || address_valid_literal(domain);
}

/* "host!user" and "user%host", when there is no '@'.  False: neither. */
static bool
complete_route(const struct rewrite_complete *c, struct view addr,
    struct buf *out)
{
	size_t bang = c->bang ? view_find(addr, '!') : addr.n, i = addr.n;

	if (bang < addr.n) {
		if (bang + 1 == addr.n ||
		    !complete_domain_ok(view_head(addr, bang)))
			return false;
		return buf_putv(out, view_from(addr, bang + 1)) &&
		    buf_putc(out, '@') && buf_putv(out, view_head(addr, bang));
	}
	while (c->percent && i > 1)
		if (addr.p[--i] == '%')
			return complete_domain_ok(view_from(addr, i + 1)) &&
			    buf_putv(out, view_head(addr, i)) &&
			    buf_putc(out, '@') &&
			    buf_putv(out, view_from(addr, i + 1));
	return false;
}

bool
rewrite_complete(const struct rewrite_complete *c, struct view addr,
    bool has_domain, bool quoted, struct buf *out)
{
	struct view domain;
	bool ok = true;

	buf_clear(out);
	if (addr.n == 0)
		return true;
	if (has_domain || (!quoted && complete_route(c, addr, out))) {
		if (has_domain)
			ok = buf_putv(out, addr);
		has_domain = true;
	} else {
		buf_clear(out);
		ok = buf_putv(out, addr);
		has_domain = c->append_origin && c->origin[0] != '\0';
		if (has_domain)
			ok = ok && buf_putc(out, '@') &&
			    buf_puts(out, c->origin);
	}
	domain = has_domain ? address_domain(buf_view(out)) :
	    view_make("", 0);
	if (c->append_domain && c->domain[0] != '\0' && domain.n > 0 &&
	    domain.p[0] != '[' && view_find(domain, '.') == domain.n)
		ok = ok && buf_putc(out, '.') && buf_puts(out, c->domain);
	/* A root dot, but not a mistake. */
	if (ok && has_domain && out->n > 2 && out->p[out->n - 1] == '.' &&
	    out->p[out->n - 2] != '.' && out->p[out->n - 2] != '@')
		out->n--;
	if (ok)
		return true;
	buf_clear(out);
	(void)buf_putv(out, addr);
	return false;
}

void
rewrite_complete_address(const struct conf *cf, struct view addr,
    struct buf *out)
{
	const struct rewrite_complete c = rewrite_complete_of(cf);

	(void)rewrite_complete(&c, addr, view_find(addr, '@') < addr.n, false,
	    out);
}

void
rewrite_complete_local(const struct rewrite *r, struct view addr,
    struct buf *out)
{
	(void)rewrite_complete(&r->local, addr,
	    view_find(addr, '@') < addr.n, false, out);
}

/* -- tables ---------------------------------------------------------------- */

struct view
rewrite_result(const struct rewrite *r, size_t i)
{
	size_t begin = i > 0 ? r->results.end[i - 1] : 0;

	return buf_part(&r->results.text, begin, r->results.end[i] - begin);
}

/* One address of a result: completed, and with the extension. */
static bool
result_add(struct rewrite *r, struct view addr, bool has_domain, bool quoted,
    struct view extension)
{
	struct view local;
	struct buf *text = &r->results.text;
	bool ok;

	if (r->results.n == REWRITE_RESULTS_MAX ||
	    !rewrite_complete(&r->local, addr, has_domain, quoted, &r->spare))
		return false;
	addr = buf_view(&r->spare);
	if (addr.n == 0)
		extension.n = 0;
	local = address_local(addr);
	if (addr.n + extension.n > ADDRESS_MAX)
		return false;
	ok = buf_putv(text, local) && buf_putv(text, extension) &&
	    buf_putv(text, view_from(addr, local.n));
	if (!ok)
		return false;
	if (r->results.n == r->results.room) {
		r->results.room = r->results.room * 2 + 8;
		r->results.end = mem_resize(r->results.end, r->results.room,
		    sizeof *r->results.end);
	}
	r->results.end[r->results.n++] = text->n;
	return true;
}

/* "@domain": the same user there. */
static bool
result_other_domain(struct rewrite *r, struct view addr, struct view value,
    struct view extension, bool propagate)
{
	struct view user = address_local(addr);

	buf_clear(&r->other);
	return buf_putv(&r->other, view_head(user, user.n - extension.n)) &&
	    buf_putv(&r->other, value) && result_add(r, buf_view(&r->other),
	    true, false, propagate ? extension : view_make("", 0));
}

static bool
results_read(struct rewrite *r, const struct rewrite_map *m,
    struct view addr, struct view extension)
{
	struct view value = view_trim(buf_view(&r->value));
	struct mailbox b;

	r->results.n = 0;
	buf_clear(&r->results.text);
	if (value.n > 1 && value.p[0] == '@' &&
	    (address_valid_hostname(view_from(value, 1)) ||
	    address_valid_literal(view_from(value, 1))))
		return result_other_domain(r, addr, value, extension,
		    m->propagate);
	if (!m->propagate)
		extension = view_make("", 0);
	mailbox_begin(&r->values, value);
	while (mailbox_next(&r->values, &b))
		if (!result_add(r, b.addr, b.has_domain, b.quoted, extension))
			return false;
	return r->results.n > 0;
}

enum table_answer
rewrite_map_find(struct rewrite *r, const struct rewrite_map *m,
    struct view addr)
{
	struct addr_found found;
	enum table_answer a;

	buf_clear(&r->where);
	a = addr_find(&r->keys, &m->tables, addr, &r->value, &found);
	if (a == TABLE_NOT_FOUND)
		return a;
	if (a == TABLE_FAILED) {
		rewrite_set_problem(r, "%s map lookup problem for %s",
		    m->name, log_safe(addr));
		return a;
	}
	addr_found_where(&found, &r->where);
	if (results_read(r, m, addr, found.extension))
		return TABLE_FOUND;
	rewrite_set_problem(r, "%s: %s lookup of %s returns %s",
	    log_safe(buf_view(&r->where)), m->name, log_safe(addr),
	    r->results.n > 0 ? "too many addresses or one too long" :
	    "a non-address result");
	return TABLE_FAILED;
}

/* -- canonical, masquerade ------------------------------------------------- */

static enum rewrite_answer
canonical_map(struct rewrite *r, const struct rewrite_map *m,
    struct buf *addr)
{
	struct view to;
	unsigned i;
	bool itself;

	for (i = 0; i < CANONICAL_NESTING; i++) {
		switch (rewrite_map_find(r, m, buf_view(addr))) {
		case TABLE_FAILED:
			return REWRITE_FAILED;
		case TABLE_NOT_FOUND:
			return REWRITE_DONE;
		case TABLE_FOUND:
			break;
		}
		to = rewrite_result(r, 0);
		if (r->results.n > 1)
			log_warn("%s: multi-valued %s entry for %s",
			    log_safe(buf_view(&r->where)), m->name,
			    log_safe(buf_view(addr)));
		itself = view_eq_nocase(to, buf_view(addr));
		if (!view_eq(to, buf_view(addr)))
			rewrite_report_step(r, m->name, buf_view(addr), to);
		buf_clear(addr);
		(void)buf_putv(addr, to);
		if (itself)
			return REWRITE_DONE;
	}
	/* As in Postfix: the last one is taken. */
	log_warn("unreasonable %s map nesting for %s", m->name,
	    log_safe(buf_view(addr)));
	return REWRITE_DONE;
}

/* "a.example.com" under "example.com"; *ret_same: they are equal. */
static bool
masquerade_under(struct view domain, struct view parent, bool *ret_same)
{
	*ret_same = view_eq_nocase(domain, parent);
	return *ret_same || (domain.n > parent.n &&
	    view_ends_nocase(domain, parent) &&
	    domain.p[domain.n - parent.n - 1] == '.');
}

static enum rewrite_answer
masquerade(struct rewrite *r, struct buf *addr)
{
	struct view rest = view_of(r->masquerade), word, domain, local;
	bool strip, same;

	local = address_local(buf_view(addr));
	domain = address_domain(buf_view(addr));
	if (domain.n == 0 || rest.n == 0)
		return REWRITE_DONE;
	switch (domain_list_match(r->masquerade_exceptions, local)) {
	case TABLE_FOUND:
		return REWRITE_DONE;
	case TABLE_FAILED:
		rewrite_set_problem(r, "masquerade_exceptions map lookup "
		    "problem for %s", log_safe(buf_view(addr)));
		return REWRITE_FAILED;
	case TABLE_NOT_FOUND:
		break;
	}
	while ((word = conf_word(&rest)).n > 0) {
		for (strip = true; word.n > 0 && word.p[0] == '!';
		    strip = !strip)
			word = view_from(word, 1);
		if (word.n == 0 || !masquerade_under(domain, word, &same))
			continue;
		if (strip && !same) {
			buf_clear(&r->other);
			buf_clear(&r->where);
			(void)buf_putv(&r->other, buf_view(addr));
			memcpy(addr->p + local.n + 1, word.p, word.n);
			addr->n = local.n + 1 + word.n;
			rewrite_report_step(r, "masquerade_domains",
			    buf_view(&r->other), buf_view(addr));
		}
		break;
	}
	return REWRITE_DONE;
}

enum rewrite_answer
rewrite_canonical(struct rewrite *r, enum rewrite_class class,
    struct buf *addr)
{
	const struct rewrite_map *const maps[] = {
		class == CLASS_ENVELOPE_SENDER ||
		    class == CLASS_HEADER_SENDER ? &r->sender : &r->recipient,
		&r->canonical,
	};
	enum rewrite_answer a;
	size_t i;

	for (i = 0; i < sizeof maps / sizeof maps[0]; i++)
		if (maps[i]->tables.n > 0 && (maps[i]->classes & class)) {
			a = canonical_map(r, maps[i], addr);
			if (a != REWRITE_DONE)
				return a;
		}
	return r->masquerade_classes & class ? masquerade(r, addr) :
	    REWRITE_DONE;
}
