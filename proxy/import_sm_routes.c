/*
 * Where mail goes: smart host, hub, relays for some, mailertable.
 */
#include "lib/address.h"
#include "lib/log.h"
#include "proxy/import_sm_table.h"
#include "rules/sendmail_table.h"

/* "relay:host": the next hop alone is a relayhost. */
static void
route_smart(struct sm *s)
{
	struct sm_item *i = sm_find(&s->defines, "SMART_HOST");
	const char *why, *value;
	struct buf b;

	if (i == NULL)
		return;
	if (i->arg[0].n == 0) {
		sm_note(s, i, IMPORT_CARRIED, "nothing is set");
		return;
	}
	buf_init(&b, 2000);
	why = sm_transport(i->arg[0], &b);
	value = buf_cstr(&b);
	if (why != NULL)
		sm_note(s, i, IMPORT_DROPPED, "%s", why);
	else if (strncmp(value, "uucp:", 5) == 0) {
		import_set(s->config, "default_transport", i->at, "%s",
		    value);
		sm_note(s, i, IMPORT_CHANGED, "default_transport = %s: the "
		    "service uucp of master.cf has to be there", value);
	} else {
		value = strchr(value, ':') + 1;
		import_set(s->config, "relayhost", i->at, "%s", value);
		sm_note(s, i, IMPORT_CARRIED, "relayhost = %s", value);
	}
	buf_free(&b);
}

static void
route_null_client(struct sm *s)
{
	struct sm_item *i = sm_feature(s, "nullclient");
	const char *why;
	struct buf b;

	if (i == NULL)
		return;
	buf_init(&b, 2000);
	why = sm_transport(i->n_args > 0 ? i->arg[0] : view_of(""), &b);
	if (why != NULL) {
		sm_note(s, i, IMPORT_UNKNOWN, "%s", why);
		buf_free(&b);
		return;
	}
	import_set(s->config, "relayhost", i->at, "%s",
	    strchr(buf_cstr(&b), ':') + 1);
	import_set(s->config, "mydestination", i->at, "%s", "");
	import_set(s->config, "local_transport", i->at,
	    "error:5.1.1 nothing is delivered on this host");
	if (i->arg[0].n > 0 && i->arg[0].p[0] != '[' &&
	    address_valid_hostname(i->arg[0]))
		import_set(s->config, "myorigin", i->at, "%s", sm_text(s,
		    i->arg[0]));
	sm_note(s, i, IMPORT_CHANGED, "all mail goes to the hub by "
	    "relayhost, mydestination is empty, addresses without a domain "
	    "get the hub's (myorigin); addresses with this host's name are "
	    "not rewritten");
	buf_free(&b);
}

static void
route_hub(struct sm *s)
{
	struct sm_item *i = sm_find(&s->defines, "MAIL_HUB"), *l;
	struct import_table *t;
	const char *why;
	struct buf b;

	if (i == NULL || i->arg[0].n == 0) {
		sm_note(s, i, IMPORT_CARRIED, "nothing is set");
		return;
	}
	buf_init(&b, 2000);
	why = sm_transport(i->arg[0], &b);
	if (why == NULL) {
		import_set(s->config, "local_transport", i->at, "%s",
		    buf_cstr(&b));
		import_set(s->config, "local_recipient_maps", i->at, "%s",
		    "");
		import_remark(s->config, "local_recipient_maps",
		    "the hub knows its users");
		sm_note(s, i, IMPORT_CHANGED, "local_transport = %s, and "
		    "local_recipient_maps is empty; the hub gets addresses "
		    "as they are, from sendmail it got user@hub",
		    buf_cstr(&b));
		for (l = s->classes.first; l != NULL; l = l->next) {
			if (!view_is(l->name, "L"))
				continue;
			t = import_table(s->config, "hash", "transport");
			(void)import_row(t, l->at, view_of(sm_text(s,
			    l->arg[0])), view_of("local:"));
			import_add(s->config, "transport_maps", l->at, "%s",
			    import_table_spec(t));
			sm_note(s, l, IMPORT_CHANGED, "delivered here, as "
			    "user@$myorigin");
		}
	} else
		sm_note(s, i, IMPORT_DROPPED, "%s", why);
	buf_free(&b);
}

static void
route_others(struct sm *s)
{
	struct sm_item *i = sm_find(&s->defines, "LUSER_RELAY");
	struct view v = sm_define(s, "LUSER_RELAY");
	struct buf b;

	buf_init(&b, 2000);
	if (i != NULL && v.n > 0 && view_starts_nocase(v, "local:")) {
		import_set(s->config, "luser_relay", i->at, "%s", sm_text(s,
		    view_from(v, 6)));
		import_set(s->config, "local_recipient_maps", i->at, "%s",
		    "");
		sm_note(s, i, IMPORT_CARRIED, "luser_relay, and "
		    "local_recipient_maps is empty");
	} else if (i != NULL && sm_transport(v, &b) == NULL) {
		import_set(s->config, "fallback_transport", i->at, "%s",
		    buf_cstr(&b));
		import_set(s->config, "local_recipient_maps", i->at, "%s",
		    "");
		sm_note(s, i, IMPORT_CARRIED, "fallback_transport = %s, and "
		    "local_recipient_maps is empty", buf_cstr(&b));
	} else
		sm_note(s, i, IMPORT_DROPPED, "not a host");
	sm_note(s, sm_find(&s->defines, "LOCAL_RELAY"), IMPORT_DROPPED,
	    "there is no relay for names without a domain alone: they get "
	    "$myorigin first; see MAIL_HUB in sendmail, local_transport here");
	for (i = s->classes.first; i != NULL; i = i->next)
		if (!i->used && (view_is(i->name, "L") ||
		    view_is(i->name, "UUCP")))
			sm_note(s, i, IMPORT_DROPPED, view_is(i->name, "L") ?
			    "it means something with MAIL_HUB alone" :
			    "see the service uucp in master.cf");
	buf_free(&b);
}

/* -- mailertable ----------------------------------------------------------- */

/* "nohost text": a word of sendmail's for the status. */
static struct view
mailer_status(struct view v, const char **ret_status)
{
	static const struct {
		const char *word, *status;
	} words[] = {
		{ "nohost", "5.1.2" }, { "nouser", "5.1.1" },
		{ "usage", "5.5.4" }, { "protocol", "5.5.0" },
		{ "unavailable", "5.3.0" }, { "config", "5.3.5" },
	};
	struct view rest = v, word = view_word(&rest, " \t");
	size_t i;

	for (i = 0; i < sizeof words / sizeof words[0]; i++)
		if (view_is_nocase(word, words[i].word)) {
			*ret_status = words[i].status;
			return view_trim(rest);
		}
	return v;
}

/* A row for transport_maps.  NULL: done; else why not. */
static const char *
mailer_value(struct view v, struct buf *out)
{
	const char *status = "5.1.2";
	struct buf b;
	bool ok, later;

	if (!view_starts_nocase(v, "error:"))
		return sm_transport(v, out);
	v = mailer_status(view_from(v, 6), &status);
	buf_init(&b, 2000);
	ok = sendmail_error(v, status, &b);
	later = ok && b.n > 0 && b.p[0] == '4';
	ok = ok && b.n > 4 && buf_puts(out, later ? "retry:" : "error:") &&
	    buf_putv(out, view_from(buf_view(&b), 4));
	buf_free(&b);
	return ok ? NULL : "the text is too long";
}

static void
mailer_row(struct sm *s, struct sm_row *row, struct sm_item *feature)
{
	struct import_table *t;
	struct view key = row->key, domain;
	const char *why, *file = "transport";
	struct buf b;

	bool all = key.n == 1 && key.p[0] == '.';

	domain = key.p[0] == '.' ? view_from(key, 1) : key;
	if (key.p[0] != '.' && sm_in_class(s, "w", domain, false)) {
		sm_row_note(s, row, IMPORT_DROPPED, "sendmail does not ask "
		    "for its local domains, of which this is one");
		return;
	}
	buf_init(&b, 2000);
	if (view_starts_nocase(row->value, "local:") && key.p[0] != '.' &&
	    row->value.n > 6) {
		/* all mail of the domain is a local user's */
		t = import_table(s->config, "hash", "virtual_mailers");
		(void)buf_printf(&b, "@%.*s", VIEW_ARGS(key));
		(void)import_row(t, row->at, buf_view(&b),
		    view_from(row->value, 6));
		import_add(s->config, "virtual_alias_maps", row->at, "%s",
		    import_table_spec(t));
		sm_row_note(s, row, IMPORT_CARRIED, "virtual_alias_maps");
		buf_free(&b);
		return;
	}
	why = mailer_value(row->value, &b);
	if (why != NULL) {
		sm_row_note(s, row, IMPORT_DROPPED, "%s", why);
	} else if (all) {
		/* not "*" of transport_maps, which is for local mail too */
		import_set(s->config, "default_transport", row->at, "%s",
		    buf_cstr(&b));
		import_set(s->config, "relay_transport", row->at, "%s",
		    buf_cstr(&b));
		sm_row_note(s, row, IMPORT_CARRIED, "default_transport and "
		    "relay_transport: %s", buf_cstr(&b));
	} else if (t = import_table(s->config, "hash", file),
	    import_row(t, row->at, key, buf_view(&b))) {
		import_add(s->config, "transport_maps", feature->at, "%s",
		    import_table_spec(t));
		sm_row_note(s, row, IMPORT_CARRIED, "transport_maps: %s",
		    buf_cstr(&b));
	} else
		sm_row_note(s, row, IMPORT_DROPPED, "there is a row for "
		    "this already, or it cannot be one");
	buf_free(&b);
}

static void
route_mailertable(struct sm *s)
{
	struct sm_item *f = sm_feature(s, "mailertable");
	struct view text, rest;
	const char *file, *spec;
	struct sm_row row;
	unsigned line = 0;

	if (f == NULL || !sm_table_text(s, f, "/etc/mail/mailertable", &file,
	    &text))
		return;
	for (rest = text; sm_table_row(s, file, &rest, &line, &row);)
		if (view_has(row.value, '%') &&
		    !view_starts_nocase(row.value, "error:"))
			break;
	if (rest.n > 0 || (line > 0 && view_has(row.value, '%') &&
	    !view_starts_nocase(row.value, "error:"))) {
		spec = sm_table_copy(s, "sendmail-mailertable", "mailertable",
		    file, text);
		import_add(s->config, "transport_maps", f->at, "%s", spec);
		sm_note(s, f, IMPORT_CARRIED, "transport_maps reads it in "
		    "sendmail's syntax, for the %%1 in line %u; unlike "
		    "sendmail, for local domains too", line);
		for (line = 0, rest = text; sm_table_row(s, file, &rest,
		    &line, &row);)
			sm_row_note(s, &row, IMPORT_CARRIED,
			    "as it is, in sendmail's syntax");
		return;
	}
	sm_note(s, f, IMPORT_CARRIED, "transport_maps");
	for (line = 0, rest = text; sm_table_row(s, file, &rest, &line,
	    &row);)
		mailer_row(s, &row, f);
}

void
import_sm_routes(struct sm *s)
{
	route_null_client(s);
	route_smart(s);
	route_hub(s);
	route_others(s);
	route_mailertable(s);
}
