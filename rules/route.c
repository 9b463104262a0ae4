#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/route.h"

#define VALUE_MAX	2048u

struct router {
	struct classes *classes;
	struct table_list transport;
	char *local_transport, *relay_transport, *default_transport;
	char *relayhost;
	char *myorigin;
};

struct router *
router_open(const struct conf *cf, const struct netaddr *own, size_t n_own,
    table_report *report, void *arg)
{
	struct router *r = mem_alloc(sizeof *r);

	r->classes = classes_open(cf, own, n_own, report, arg);
	if (r->classes == NULL || !table_list_open(cf->transport_maps,
	    cf->config_directory, &r->transport, report, arg)) {
		router_free(&r);
		return NULL;
	}
	r->local_transport = mem_strdup(cf->local_transport);
	r->relay_transport = mem_strdup(cf->relay_transport);
	r->default_transport = mem_strdup(cf->default_transport);
	r->relayhost = mem_strdup(cf->relayhost);
	r->myorigin = mem_strdup(cf->myorigin);
	return r;
}

void
router_free(struct router **rp)
{
	struct router *r = *rp;

	if (r == NULL)
		return;
	classes_free(&r->classes);
	table_list_free(&r->transport);
	free(r->local_transport);
	free(r->relay_transport);
	free(r->default_transport);
	free(r->relayhost);
	free(r->myorigin);
	free(r);
	*rp = NULL;
}

void
route_split(struct view value, struct view *ret_transport,
    struct view *ret_nexthop)
{
	size_t i = view_find(value, ':');

	*ret_transport = view_trim(view_head(value, i));
	*ret_nexthop = view_trim(view_from(value, i + 1));
}

/* transport(5): user@domain, domain, .parent (each level), then "*". */
static enum table_answer
route_lookup(const struct router *r, struct view addr, struct buf *value)
{
	struct view domain = address_domain(addr), parent;
	enum table_answer a;
	unsigned line;
	const struct table *t;
	size_t i, dot;

	for (i = 0; i < r->transport.n; i++) {
		t = r->transport.list[i];
		a = table_find(t, addr, value, &line);
		if (a != TABLE_NOT_FOUND)
			return a;
		if (table_is_pattern(t))
			continue;
		a = table_find(t, domain, value, &line);
		if (a != TABLE_NOT_FOUND)
			return a;
		for (parent = domain; (dot = view_find(parent, '.')) <
		    parent.n; parent = view_from(parent, dot + 1)) {
			a = table_find(t, view_from(parent, dot), value,
			    &line);
			if (a != TABLE_NOT_FOUND)
				return a;
		}
		a = table_find(t, view_of("*"), value, &line);
		if (a != TABLE_NOT_FOUND)
			return a;
	}
	return TABLE_NOT_FOUND;
}

static void
buf_put_lower(struct buf *b, struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		(void)buf_putc(b, v.p[i] >= 'A' && v.p[i] <= 'Z' ?
		    (char)(v.p[i] + 32) : v.p[i]);
}

enum table_answer
route_find(const struct router *r, struct view addr, struct buf *transport,
    struct buf *nexthop)
{
	struct view domain = address_domain(addr), t, h, found_t, found_h;
	enum table_answer a;
	struct buf value;

	if (domain.n == 0)
		domain = view_of(r->myorigin);
	switch (class_of(r->classes, domain)) {
	case CLASS_FAILED:
		return TABLE_FAILED;
	case CLASS_LOCAL:
		route_split(view_of(r->local_transport), &t, &h);
		break;
	case CLASS_RELAY:
		route_split(view_of(r->relay_transport), &t, &h);
		break;
	case CLASS_NONE:
	case CLASS_OTHER:
		route_split(view_of(r->default_transport), &t, &h);
		if (r->relayhost[0] != '\0')
			h = view_of(r->relayhost);
		break;
	}
	buf_init(&value, VALUE_MAX);
	a = route_lookup(r, addr, &value);
	if (a == TABLE_FAILED) {
		buf_free(&value);
		return a;
	}
	if (a == TABLE_FOUND) {
		route_split(buf_view(&value), &found_t, &found_h);
		/* An empty transport keeps the one of the class; an empty
		 * next hop after a transport is the recipient's domain. */
		if (found_t.n > 0) {
			t = found_t;
			h = found_h;
		} else if (found_h.n > 0)
			h = found_h;
	}
	if (h.n == 0)
		h = domain;
	buf_clear(transport);
	buf_clear(nexthop);
	(void)buf_putv(transport, t);
	/* The text of "error:..." is shown, so it keeps its case. */
	if (view_is(t, "error") || view_is(t, "discard"))
		(void)buf_putv(nexthop, h);
	else
		buf_put_lower(nexthop, h);
	buf_free(&value);
	return TABLE_FOUND;
}
