#include <ctype.h>

#include "lib/address.h"
#include "lib/conf.h"
#include "queue/queue_match.h"

bool
match_put(struct buf *b, const struct queue_match *m)
{
	return put_u32(b, m->places) && put_u8(b, m->by_sender) &&
	    put_view(b, m->sender) && put_view(b, m->recipient) &&
	    put_view(b, m->nexthop) && put_view(b, m->site) &&
	    put_view(b, m->reason) &&
	    put_u64(b, (uint64_t)m->older_us) &&
	    put_u64(b, (uint64_t)m->newer_us);
}

bool
match_get(struct cursor *c, struct queue_match *ret)
{
	struct queue_match m;

	m.places = cursor_u32(c);
	m.by_sender = cursor_u8(c) != 0;
	m.sender = cursor_view(c);
	m.recipient = cursor_view(c);
	m.nexthop = cursor_view(c);
	m.site = cursor_view(c);
	m.reason = cursor_view(c);
	m.older_us = (int64_t)cursor_u64(c);
	m.newer_us = (int64_t)cursor_u64(c);
	if (c->bad || m.sender.n > MATCH_TEXT_MAX ||
	    m.recipient.n > MATCH_TEXT_MAX || m.nexthop.n > MATCH_TEXT_MAX ||
	    m.site.n > MATCH_TEXT_MAX || m.reason.n > MATCH_TEXT_MAX ||
	    m.older_us < 0 || m.newer_us < 0)
		return false;
	*ret = m;
	return true;
}

bool
match_place(const struct queue_match *m, enum spool_place p)
{
	return m->places == 0 ? p != PLACE_CORRUPT :
	    (m->places & 1u << p) != 0;
}

/* One pass with one place to come back to: never more than n * m steps. */
bool
match_glob(struct view pattern, struct view text)
{
	size_t p = 0, t = 0, star = SIZE_MAX, back = 0;

	while (t < text.n) {
		if (p < pattern.n && pattern.p[p] == '*') {
			star = p++;
			back = t;
		} else if (p < pattern.n && (pattern.p[p] == '?' ||
		    tolower((unsigned char)pattern.p[p]) ==
		    tolower((unsigned char)text.p[t]))) {
			p++;
			t++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			t = ++back;
		} else {
			return false;
		}
	}
	while (p < pattern.n && pattern.p[p] == '*')
		p++;
	return p == pattern.n;
}

bool
match_address(struct view pattern, struct view addr)
{
	size_t at = view_find(pattern, '@');

	if (pattern.n == 0 || view_is(pattern, "<>"))
		return addr.n == 0;
	if (at == 0)
		return match_glob(view_from(pattern, 1), address_domain(addr));
	if (at == pattern.n && view_find(pattern, '*') == pattern.n)
		return match_glob(pattern, address_domain(addr));
	return match_glob(pattern, addr);
}

static bool
match_site(struct view site, struct view domain)
{
	if (site.n > 0 && site.p[0] == '.')
		return domain.n >= site.n && view_ends_nocase(domain, site);
	return view_eq_nocase(site, domain);
}

/* Of "[host]:port", "[host]" or "host:port": as given, without the port, or the
 * host alone. */
static bool
match_nexthop(struct view pattern, struct view nexthop)
{
	struct view host = nexthop, rest;
	size_t n;

	if (match_glob(pattern, nexthop))
		return true;
	if (host.n > 0 && host.p[0] == '[') {
		n = view_find(host, ']');
		if (n == host.n)
			return false;
		if (match_glob(pattern, view_head(host, n + 1)))
			return true;
		rest = view_from(host, 1);
		return match_glob(pattern, view_head(rest, n - 1));
	}
	return match_glob(pattern, view_head(host, view_find(host, ':')));
}

static bool
match_route(const struct queue_match *m, const struct queue_entry *e,
    const struct router *router, struct view rcpt)
{
	struct buf transport, nexthop;
	struct view t, h;
	bool ok = false;

	if (e->route.n > 0) {
		route_split(e->route, &t, &h);
		return match_nexthop(m->nexthop, h.n > 0 ? h :
		    address_domain(rcpt));
	}
	if (router == NULL)
		return false;
	buf_init(&transport, 256);
	buf_init(&nexthop, 2048);
	if (route_find(router, e->env.sender, rcpt, &transport, &nexthop) !=
	    TABLE_FAILED)
		ok = match_nexthop(m->nexthop, buf_view(&nexthop));
	buf_free(&transport);
	buf_free(&nexthop);
	return ok;
}

static bool
match_recipients(const struct queue_match *m, const struct queue_entry *e,
    const struct router *router)
{
	struct view addr;
	uint32_t i;

	if (m->recipient.n == 0 && m->site.n == 0 && m->nexthop.n == 0)
		return true;
	for (i = 0; i < e->env.nrcpts; i++) {
		addr = e->env.rcpts[i].addr;
		if (e->status.p[i] != '.')
			continue;
		if ((m->recipient.n == 0 ||
		    match_address(m->recipient, addr)) &&
		    (m->site.n == 0 ||
		    match_site(m->site, address_domain(addr))) &&
		    (m->nexthop.n == 0 || match_route(m, e, router, addr)))
			return true;
	}
	return false;
}

bool
match_looks_inside(const struct queue_match *m)
{
	return m->by_sender || m->recipient.n > 0 || m->site.n > 0 ||
	    m->nexthop.n > 0 || m->reason.n > 0;
}

bool
match_entry(const struct queue_match *m, const struct queue_entry *e,
    const struct router *router, struct wall now)
{
	int64_t age = now.us - e->arrival.us;

	if (!match_place(m, e->place) ||
	    (m->older_us > 0 && age < m->older_us) ||
	    (m->newer_us > 0 && age > m->newer_us) ||
	    (m->by_sender && !match_address(m->sender, e->env.sender)) ||
	    (m->reason.n > 0 && (e->place != PLACE_HOLD ||
	    e->past.held.n == 0 || !match_glob(m->reason, e->past.held))))
		return false;
	return match_recipients(m, e, router);
}

bool
match_age(const char *text, int64_t *ret_us)
{
	int64_t ms;

	if (!conf_parse_time(view_of(text), 's', &ms) || ms <= 0 ||
	    ms > INT64_MAX / 1000)
		return false;
	*ret_us = ms * 1000;
	return true;
}
