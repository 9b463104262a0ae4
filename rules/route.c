#include <stdlib.h>

#include "lib/address.h"
#include "lib/log.h"
#include "rules/addr_find.h"
#include "rules/route.h"

#define VALUE_MAX	2048u

struct router {
	struct classes *classes;
	struct addr_keys keys;
	struct table_list transport, sender_transport, sender_relayhost,
	    relocated;
	bool transport_parents;	/* "example.com" stands for subdomains too */
	bool show_table, relocated_prefix;
	char *local_transport, *relay_transport, *default_transport,
	    *virtual_transport;
	char *relayhost;
	char *myorigin;
	char *empty_sender_transport, *empty_sender_relayhost;
	char *delimiters, *double_bounce;	/* keys point there */
	route_trace *trace;
	void *trace_arg;
};

static bool
router_tables(struct router *r, const struct conf *cf, table_report *report,
    void *arg)
{
	const struct {
		const char *specs;
		struct table_list *list;
	} all[] = {
		{ cf->transport_maps, &r->transport },
		{ cf->sender_dependent_default_transport_maps,
		    &r->sender_transport },
		{ cf->sender_dependent_relayhost_maps, &r->sender_relayhost },
		{ cf->relocated_maps, &r->relocated },
	};
	bool ok = true;
	size_t i;

	for (i = 0; i < sizeof all / sizeof all[0]; i++)
		ok = table_list_open(all[i].specs, cf->config_directory,
		    all[i].list, report, arg) && ok;
	return ok;
}

static bool
router_parents(const struct conf *cf)
{
	struct view rest = view_of(cf->parent_domain_matches_subdomains), word;

	while ((word = conf_word(&rest)).n > 0)
		if (view_is_nocase(word, "transport_maps"))
			return true;
	return false;
}

struct router *
router_open(const struct conf *cf, const struct netaddr *own, size_t n_own,
    table_report *report, void *arg)
{
	struct router *r = mem_alloc(sizeof *r);
	bool ok;

	r->classes = classes_open(cf, own, n_own, report, arg);
	ok = router_tables(r, cf, report, arg) && r->classes != NULL;
	if (!ok) {
		router_free(&r);
		return NULL;
	}
	r->transport_parents = router_parents(cf);
	r->show_table = cf->show_user_unknown_table_name;
	r->relocated_prefix = cf->relocated_prefix_enable;
	r->local_transport = mem_strdup(cf->local_transport);
	r->relay_transport = mem_strdup(cf->relay_transport);
	r->default_transport = mem_strdup(cf->default_transport);
	r->virtual_transport = mem_strdup(cf->virtual_transport);
	r->relayhost = mem_strdup(cf->relayhost);
	r->myorigin = mem_strdup(cf->myorigin);
	r->empty_sender_transport = mem_strdup(
	    cf->empty_address_default_transport_maps_lookup_key);
	r->empty_sender_relayhost = mem_strdup(
	    cf->empty_address_relayhost_maps_lookup_key);
	r->delimiters = mem_strdup(cf->recipient_delimiter);
	r->double_bounce = mem_strdup(cf->double_bounce_sender);
	r->keys = addr_keys_of(cf, r->classes);
	r->keys.delimiters = r->delimiters;
	r->keys.double_bounce = r->double_bounce;
	r->keys.myorigin = r->myorigin;
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
	table_list_free(&r->sender_transport);
	table_list_free(&r->sender_relayhost);
	table_list_free(&r->relocated);
	free(r->local_transport);
	free(r->relay_transport);
	free(r->default_transport);
	free(r->virtual_transport);
	free(r->relayhost);
	free(r->myorigin);
	free(r->empty_sender_transport);
	free(r->empty_sender_relayhost);
	free(r->delimiters);
	free(r->double_bounce);
	free(r);
	*rp = NULL;
}

void
router_set_trace(struct router *r, route_trace *fn, void *arg)
{
	r->trace = fn;
	r->trace_arg = arg;
}

void
route_split(struct view value, struct view *ret_transport,
    struct view *ret_nexthop)
{
	size_t i = view_find(value, ':');

	*ret_transport = view_trim(view_head(value, i));
	*ret_nexthop = view_trim(view_from(value, i + 1));
}

struct view
route_status(struct view reason, struct view *ret_status)
{
	struct view first = view_head(reason, view_find(reason, ' '));
	size_t i, dots = 0;

	for (i = 0; i < first.n; i++)
		if (first.p[i] == '.')
			dots++;
		else if (!isdigit((unsigned char)first.p[i]))
			return reason;
	if (dots != 2 || first.n < 5 || first.n > 9 ||
	    first.n == reason.n || (first.p[0] != '4' &&
	    first.p[0] != '5') || first.p[1] != '.')
		return reason;
	*ret_status = first;
	return view_trim(view_from(reason, first.n));
}

/* One address on its way: transport and next hop so far, and where they
 * stand. */
struct way {
	const struct router *r;
	struct view sender, addr, domain;
	struct view transport, nexthop;
	struct buf value, other, text, key, moved;
};

static void
way_report(const struct way *w, const char *what,
    const struct addr_found *found, struct view result)
{
	struct buf where;

	if (w->r->trace == NULL)
		return;
	buf_init(&where, 1024);
	if (found != NULL)
		addr_found_where(found, &where);
	w->r->trace(what, buf_view(&where), w->addr, result,
	    w->r->trace_arg);
	buf_free(&where);
}

/*
 * A table by sender.  TABLE_FOUND: *ret is its answer; DUNNO and an empty
 * one, which is a mistake, are no answers.
 */
static enum table_answer
way_by_sender(struct way *w, const char *what, const struct table_list *maps,
    const char *empty_key, struct buf *value, struct view *ret)
{
	struct addr_found found;
	enum table_answer a;

	if (maps->n == 0)
		return TABLE_NOT_FOUND;
	a = addr_find(&w->r->keys, maps, w->sender.n > 0 ? w->sender :
	    view_of(empty_key), value, &found);
	if (a != TABLE_FOUND)
		return a;
	*ret = view_trim(buf_view(value));
	way_report(w, what, &found, *ret);
	if (ret->n == 0)
		log_warn("%s: ignoring null lookup result for %s", what,
		    log_safe(w->sender));
	return ret->n == 0 || view_is_nocase(*ret, "DUNNO") ?
	    TABLE_NOT_FOUND : TABLE_FOUND;
}

static void
way_split(struct way *w, struct view value, struct view nexthop)
{
	struct view hop;

	route_split(value, &w->transport, &hop);
	w->nexthop = hop.n > 0 ? hop : view_is(w->transport, "error") ||
	    view_is(w->transport, "retry") ?
	    view_of("Address is undeliverable") : nexthop;
}

/* "transport:nexthop" of a parameter. */
static void
way_set(struct way *w, const char *what, struct view value,
    struct view nexthop)
{
	way_split(w, value, nexthop);
	way_report(w, what, NULL, value);
}

/* Mail that leaves: a relayhost takes the place of the domain. */
static bool
way_outside(struct way *w, enum address_class class)
{
	const struct router *r = w->r;
	struct view value = view_of(class == CLASS_RELAY ?
	    r->relay_transport : r->default_transport), hop;
	const char *what = class == CLASS_RELAY ? "relay_transport" :
	    "default_transport";
	enum table_answer a = TABLE_NOT_FOUND;

	if (class != CLASS_RELAY)
		a = way_by_sender(w, "sender_dependent_default_transport_maps",
		    &r->sender_transport, r->empty_sender_transport,
		    &w->value, &value);
	if (a == TABLE_NOT_FOUND && class != CLASS_RELAY)
		value = view_of(r->default_transport);
	if (a != TABLE_FAILED)
		a = way_by_sender(w, "sender_dependent_relayhost_maps",
		    &r->sender_relayhost, r->empty_sender_relayhost,
		    &w->other, &hop);
	if (a == TABLE_FAILED)
		return false;
	if (a == TABLE_NOT_FOUND)
		hop = r->relayhost[0] != '\0' ? view_of(r->relayhost) :
		    w->domain;
	way_set(w, what, value, hop);
	return true;
}

static bool
way_class(struct way *w, enum address_class *ret_class)
{
	const struct router *r = w->r;

	*ret_class = class_of(r->classes, w->domain);
	switch (*ret_class) {
	case CLASS_FAILED:
		return false;
	case CLASS_LOCAL:
		way_set(w, "local_transport", view_of(r->local_transport),
		    w->domain);
		break;
	case CLASS_VIRTUAL_ALIAS:
		/* Whoever is in the table has become somebody else. */
		way_set(w, "virtual_alias_domains", view_of(r->show_table ?
		    "error:5.1.1 User unknown in virtual alias table" :
		    "error:5.1.1 User unknown"), w->domain);
		break;
	case CLASS_VIRTUAL_MAILBOX:
		way_set(w, "virtual_transport",
		    view_of(r->virtual_transport), w->domain);
		break;
	case CLASS_NONE:
	case CLASS_RELAY:
	case CLASS_OTHER:
		return way_outside(w, *ret_class);
	}
	return true;
}

/*
 * transport(5): the address, without its extension, the domain, each parent
 * of it, then "*".
 */
static enum table_answer
way_transport_find(struct way *w, struct addr_found *found)
{
	const struct router *r = w->r;
	const struct table_list *maps = &r->transport;
	struct view key = w->domain, ext, local = address_local(w->addr);
	enum table_answer a;
	size_t dot;

	a = addr_find_key(maps, w->addr, false, &w->text, found);
	ext = addr_extension(&r->keys, w->addr);
	if (a == TABLE_NOT_FOUND && ext.n > 0) {
		buf_clear(&w->key);
		(void)buf_putv(&w->key, view_head(local, local.n - ext.n));
		(void)buf_putc(&w->key, '@');
		(void)buf_putv(&w->key, w->domain);
		a = addr_find_key(maps, buf_view(&w->key), true, &w->text,
		    found);
	}
	while (a == TABLE_NOT_FOUND && key.n > 0) {
		a = addr_find_key(maps, key, true, &w->text, found);
		dot = view_find(view_from(key, 1), '.') + 1;
		key = view_from(key, r->transport_parents ? dot + 1 : dot);
	}
	return a != TABLE_NOT_FOUND ? a :
	    addr_find_key(maps, view_of("*"), false, &w->text, found);
}

static bool
way_transport(struct way *w)
{
	struct addr_found found;
	struct view t, h;

	switch (w->r->transport.n == 0 ? TABLE_NOT_FOUND :
	    way_transport_find(w, &found)) {
	case TABLE_FAILED:
		return false;
	case TABLE_NOT_FOUND:
		return true;
	case TABLE_FOUND:
		break;
	}
	way_report(w, "transport_maps", &found, buf_view(&w->text));
	route_split(buf_view(&w->text), &t, &h);
	/* An empty transport keeps the one of the class; an empty next hop
	 * after a transport is the recipient's domain. */
	if (t.n > 0) {
		w->transport = t;
		w->nexthop = h.n > 0 ? h : view_is(t, "error") ||
		    view_is(t, "retry") ?
		    view_of("Address is undeliverable") : w->domain;
	} else if (h.n > 0)
		w->nexthop = h;
	return true;
}

/* relocated(5): last, so that nothing overrides it. */
static bool
way_relocated(struct way *w)
{
	struct addr_found found;
	struct view to, status;

	switch (addr_find(&w->r->keys, &w->r->relocated, w->addr, &w->key,
	    &found)) {
	case TABLE_FAILED:
		return false;
	case TABLE_NOT_FOUND:
		return true;
	case TABLE_FOUND:
		break;
	}
	to = buf_view(&w->key);
	way_report(w, "relocated_maps", &found, to);
	buf_clear(&w->moved);
	if (w->r->relocated_prefix)
		(void)buf_puts(&w->moved, "5.1.6 User has moved to ");
	if (w->r->relocated_prefix || route_status(to, &status).n < to.n)
		(void)buf_putv(&w->moved, to);
	else
		(void)buf_puts(&w->moved, "5.2.0 Mailbox is unavailable");
	w->transport = view_of("error");
	w->nexthop = buf_view(&w->moved);
	return true;
}

static void
buf_put_lower(struct buf *b, struct view v)
{
	size_t i;

	for (i = 0; i < v.n; i++)
		(void)buf_putc(b, v.p[i] >= 'A' && v.p[i] <= 'Z' ?
		    (char)(v.p[i] + 32) : v.p[i]);
}

static void
way_put(const struct way *w, struct buf *transport, struct buf *nexthop)
{
	buf_clear(transport);
	buf_clear(nexthop);
	(void)buf_putv(transport, w->transport);
	/* The text of "error:..." is shown, so it keeps its case. */
	if (view_is(w->transport, "error") ||
	    view_is(w->transport, "retry") ||
	    view_is(w->transport, "discard"))
		(void)buf_putv(nexthop, w->nexthop);
	else
		buf_put_lower(nexthop, w->nexthop);
}

void
route_put(struct view value, struct view usual, struct buf *transport,
    struct buf *nexthop)
{
	struct way w = { 0 };

	way_split(&w, value, usual);
	way_put(&w, transport, nexthop);
}

enum table_answer
route_find(const struct router *r, struct view sender, struct view addr,
    struct buf *transport, struct buf *nexthop)
{
	struct way w = { .r = r, .sender = sender, .addr = addr,
		.domain = address_domain(addr) };
	enum address_class class;
	bool ok;

	if (w.domain.n == 0)
		w.domain = view_of(r->myorigin);
	buf_init(&w.value, VALUE_MAX);
	buf_init(&w.other, VALUE_MAX);
	buf_init(&w.text, VALUE_MAX);
	buf_init(&w.key, VALUE_MAX);
	buf_init(&w.moved, VALUE_MAX + 64);
	/* What is unknown in an alias domain stays so (transport(5)). */
	ok = way_class(&w, &class) &&
	    (class == CLASS_VIRTUAL_ALIAS || way_transport(&w)) &&
	    way_relocated(&w);
	if (ok)
		way_put(&w, transport, nexthop);
	buf_free(&w.value);
	buf_free(&w.other);
	buf_free(&w.text);
	buf_free(&w.key);
	buf_free(&w.moved);
	return ok ? TABLE_FOUND : TABLE_FAILED;
}
