/* Opening and closing; who counts as a local client. */
#include <stdlib.h>

#include "lib/log.h"
#include "rules/rewrite_priv.h"

/* Reports go through here, to know whether there was an error. */
struct opening {
	const struct conf *cf;
	table_report *report;
	void *arg;
	bool failed;
};

static void
open_tables(struct opening *o, const char *specs, struct table_list *ret)
{
	if (!table_list_open(specs, o->cf->config_directory, ret, o->report,
	    o->arg))
		o->failed = true;
}

static void
open_maps(struct rewrite *r, struct opening *o)
{
	const struct conf *cf = o->cf;
	uint32_t extensions = conf_choice("propagate_unmatched_extensions",
	    view_of(cf->propagate_unmatched_extensions));
	bool canonical = (extensions & EXTENSION_CANONICAL) != 0;

	r->sender = (struct rewrite_map){ .name = "sender_canonical_maps",
		.propagate = canonical,
		.classes = conf_choice("sender_canonical_classes",
		    view_of(cf->sender_canonical_classes)) };
	open_tables(o, cf->sender_canonical_maps, &r->sender.tables);
	r->recipient = (struct rewrite_map){
		.name = "recipient_canonical_maps", .propagate = canonical,
		.classes = conf_choice("recipient_canonical_classes",
		    view_of(cf->recipient_canonical_classes)) };
	open_tables(o, cf->recipient_canonical_maps, &r->recipient.tables);
	r->canonical = (struct rewrite_map){ .name = "canonical_maps",
		.propagate = canonical,
		.classes = conf_choice("canonical_classes",
		    view_of(cf->canonical_classes)) };
	open_tables(o, cf->canonical_maps, &r->canonical.tables);
	r->alias = (struct rewrite_map){ .name = "virtual_alias_maps",
		.propagate = (extensions & EXTENSION_VIRTUAL) != 0 };
	open_tables(o, cf->virtual_alias_maps, &r->alias.tables);
	r->sender_bcc.name = "sender_bcc_maps";
	open_tables(o, cf->sender_bcc_maps, &r->sender_bcc.tables);
	r->recipient_bcc.name = "recipient_bcc_maps";
	open_tables(o, cf->recipient_bcc_maps, &r->recipient_bcc.tables);
}

static void
open_masquerade(struct rewrite *r, struct opening *o)
{
	const struct conf *cf = o->cf;

	r->masquerade = cf->masquerade_domains;
	r->masquerade_classes = conf_choice("masquerade_classes",
	    view_of(cf->masquerade_classes));
	r->masquerade_exceptions = domain_list_open("masquerade_exceptions",
	    cf->masquerade_exceptions, false, cf->config_directory,
	    o->report, o->arg);
	o->failed = o->failed || r->masquerade_exceptions == NULL;
}

/* receive_override_options are obeyed elsewhere; what they are is the same
 * everywhere. */
static void
open_ready(struct rewrite *r)
{
	buf_init(&r->value, REWRITE_VALUE_MAX);
	buf_init(&r->where, 1024);
	buf_init(&r->address, 2 * ADDRESS_MAX);
	buf_init(&r->other, 2 * ADDRESS_MAX);
	buf_init(&r->spare, 2 * ADDRESS_MAX);
	buf_init(&r->client, 2 * ADDRESS_MAX);
	buf_init(&r->results.text, 2 * REWRITE_VALUE_MAX);
	mailbox_init(&r->scan);
	mailbox_init(&r->values);
}

static void
open_values(struct rewrite *r, const struct conf *cf)
{
	r->local = rewrite_complete_of(cf);
	r->remote = r->local;
	r->remote.origin = r->remote.domain = cf->remote_header_rewrite_domain;
	r->always_bcc = cf->always_bcc;
	r->empty_recipient = cf->empty_address_recipient;
	r->expansion_limit = cf->virtual_alias_expansion_limit;
	r->recursion_limit = cf->virtual_alias_recursion_limit;
	r->length_limit = cf->virtual_alias_address_length_limit;
	r->dequoted = cf->resolve_dequoted_address;
	r->keep_original = cf->enable_original_recipient;
}

static struct rewrite *
open_begin(struct opening *o, const struct netaddr *own, size_t n_own)
{
	struct rewrite *r = mem_alloc(sizeof *r);

	open_ready(r);
	open_values(r, o->cf);
	r->classes = classes_open(o->cf, own, n_own, o->report, o->arg);
	o->failed = r->classes == NULL;
	r->keys = addr_keys_of(o->cf, r->classes);
	return r;
}

struct rewrite *
rewrite_open(const struct conf *cf, const struct netaddr *own, size_t n_own,
    table_report *report, void *arg)
{
	struct opening o = { cf, report, arg, false };
	struct rewrite *r = open_begin(&o, own, n_own);

	open_maps(r, &o);
	open_masquerade(r, &o);
	if (o.failed)
		rewrite_free(&r);
	return r;
}

struct rewrite *
rewrite_open_generic(const struct conf *cf, const struct netaddr *own,
    size_t n_own, table_report *report, void *arg)
{
	struct opening o = { cf, report, arg, false };
	struct rewrite *r = open_begin(&o, own, n_own);

	r->generic.name = "smtp_generic_maps";
	r->generic.propagate = (EXTENSION_GENERIC & conf_choice(
	    "propagate_unmatched_extensions",
	    view_of(cf->propagate_unmatched_extensions))) != 0;
	open_tables(&o, cf->smtp_generic_maps, &r->generic.tables);
	if (o.failed)
		rewrite_free(&r);
	return r;
}

void
rewrite_free(struct rewrite **rp)
{
	struct rewrite *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	classes_free(&r->classes);
	table_list_free(&r->sender.tables);
	table_list_free(&r->recipient.tables);
	table_list_free(&r->canonical.tables);
	table_list_free(&r->alias.tables);
	table_list_free(&r->sender_bcc.tables);
	table_list_free(&r->recipient_bcc.tables);
	table_list_free(&r->generic.tables);
	addr_list_free(&r->masquerade_exceptions);
	buf_free(&r->value);
	buf_free(&r->where);
	buf_free(&r->address);
	buf_free(&r->other);
	buf_free(&r->spare);
	buf_free(&r->client);
	buf_free(&r->results.text);
	free(r->results.end);
	mailbox_free(&r->scan);
	mailbox_free(&r->values);
	free(r);
}

bool
rewrite_configured(const struct conf *cf)
{
	const char *const all[] = { cf->canonical_maps,
		cf->sender_canonical_maps, cf->recipient_canonical_maps,
		cf->masquerade_domains, cf->virtual_alias_maps };
	size_t i;

	for (i = 0; i < sizeof all / sizeof all[0]; i++)
		if (view_trim(view_of(all[i])).n > 0)
			return true;
	return false;
}

const char *
rewrite_problem(const struct rewrite *r)
{
	return r->problem;
}

void
rewrite_set_trace(struct rewrite *r, rewrite_trace *fn, void *arg)
{
	r->trace = fn;
	r->trace_arg = arg;
}

/* Mail that no client brought was made here. */
static bool
client_local(const struct envelope *e)
{
	return (e->flags & (ENVELOPE_NO_FILTER | ENVELOPE_LOCAL)) != 0 ||
	    e->client_addr.n == 0;
}

enum rewrite_context
rewrite_context_of(const struct rewrite *r, const struct envelope *e)
{
	if (client_local(e))
		return REWRITE_LOCAL;
	return r->remote.origin[0] != '\0' ? REWRITE_REMOTE : REWRITE_NONE;
}
