/*
 * Addresses that become others: virtusertable, genericstable, masquerading,
 * domaintable, aliases.
 */
#include <unistd.h>

#include "lib/address.h"
#include "lib/log.h"
#include "proxy/import_sm_table.h"
#include "rules/sendmail_table.h"

/* -- virtusertable --------------------------------------------------------- */

/* Does sendmail look up addresses of this domain? */
static bool
virtual_domain(struct sm *s, struct view domain)
{
	const char *host = import_value(s->config, "myhostname");

	return sm_in_class(s, "w", domain, false) ||
	    view_is_nocase(domain, "localhost") ||
	    (host != NULL && view_is_nocase(domain, host)) ||
	    sm_in_class(s, "VirtHost", domain,
	    sm_feature(s, "virtuser_entire_domain") != NULL);
}

/* Can virtual(5) say the same? */
static bool
virtual_plain(const struct sm_row *row)
{
	struct view local = view_head(row->key, view_find(row->key, '@')),
	    v = row->value;

	if (view_starts_nocase(v, "error:"))
		return true;	/* virtual_errors() */
	if (view_has(row->key, '*') || view_starts_nocase(local, "+") ||
	    (local.n > 0 && local.p[local.n - 1] == '+'))
		return false;
	/* "@domain  %1@other" alone */
	if (view_starts_nocase(v, "%1@") && local.n == 0)
		v = view_from(v, 2);
	return !view_has(v, '%');
}

static void
virtual_row(struct sm *s, const struct sm_row *row, struct import_table *t)
{
	struct view domain = view_from(row->key, view_find(row->key, '@') + 1),
	    v = row->value;
	const char *detail = "";

	if (!view_has(row->key, '@')) {
		sm_row_note(s, row, IMPORT_DROPPED,
		    "sendmail looks up whole addresses alone");
		return;
	}
	if (!virtual_domain(s, domain)) {
		sm_row_note(s, row, IMPORT_DROPPED, "sendmail does not look "
		    "up this domain: it is neither in class w "
		    "(local-host-names) nor a VIRTUSER_DOMAIN");
		return;
	}
	if (view_starts_nocase(v, "%1@")) {
		v = view_from(v, 2);
		detail = "; user+detail keeps its detail here";
	}
	if (import_row(t, row->at, row->key, v))
		sm_row_note(s, row, detail[0] != '\0' ? IMPORT_CHANGED :
		    IMPORT_CARRIED, "virtual_alias_maps%s", detail);
	else
		sm_row_note(s, row, IMPORT_DROPPED, "there is such a row "
		    "already, or it cannot be one");
}

/*
 * Rows "error:" are for check_recipient_access.  Where a whole domain is
 * refused, its other rows keep their addresses out of that.
 */
static void
virtual_error(struct sm *s, const struct sm_row *row)
{
	struct import_table *t = import_table(s->config, "hash",
	    "virtual_errors");
	struct view key = row->key, v = view_from(row->value, 6);
	struct buf b;

	if (key.n > 0 && key.p[0] == '@')
		key = view_from(key, 1);
	buf_init(&b, 2000);
	if (!virtual_domain(s, view_from(row->key, view_find(row->key, '@') +
	    1)) || view_has(key, '+'))
		sm_row_note(s, row, IMPORT_DROPPED, "sendmail does not look "
		    "up this domain, or the address has a +");
	else if (sendmail_error(v, "5.1.1", &b) && import_row(t, row->at, key,
	    buf_view(&b))) {
		import_add(s->config, "smtpd_recipient_restrictions",
		    row->at, "check_recipient_access %s",
		    import_table_spec(t));
		sm_row_note(s, row, IMPORT_CHANGED, "virtual_errors: %s; "
		    "mail of this host's programs is not refused",
		    buf_cstr(&b));
	} else
		sm_row_note(s, row, IMPORT_DROPPED, "there is such a row "
		    "already, or it cannot be one");
	buf_free(&b);
}

static void
virtual_errors(struct sm *s, const char *file, struct view text)
{
	struct import_table *t;
	struct view rest = text;
	struct sm_row row;
	unsigned line = 0;

	while (sm_table_row(s, file, &rest, &line, &row))
		if (view_starts_nocase(row.value, "error:"))
			virtual_error(s, &row);
	t = import_table_find(s->config, "virtual_errors");
	for (line = 0, rest = text; t != NULL && sm_table_row(s, file, &rest,
	    &line, &row);)
		if (!view_starts_nocase(row.value, "error:") &&
		    !view_has(row.key, '+') && row.key.p[0] != '@')
			(void)import_row(t, row.at, row.key,
			    view_of("DUNNO"));
}

static void
virtual_domains(struct sm *s)
{
	struct sm_item *i, *below = sm_feature(s, "virtuser_entire_domain");

	for (i = s->classes.first; i != NULL; i = i->next) {
		if (!view_is(i->name, "VirtHost"))
			continue;
		if (sm_in_class(s, "w", i->arg[0], false)) {
			sm_note(s, i, IMPORT_CARRIED, "mydestination has it");
			continue;
		}
		import_add(s->config, "virtual_alias_domains", i->at, "%s",
		    sm_text(s, i->arg[0]));
		sm_note(s, i, IMPORT_CHANGED, "virtual_alias_domains: an "
		    "address that the table does not have is refused; "
		    "sendmail would look for a mail exchanger");
	}
	sm_note(s, below, IMPORT_CHANGED, "what is below a VIRTUSER_DOMAIN "
	    "has to be named in virtual_alias_domains");
}

static void
virtual_table(struct sm *s)
{
	struct sm_item *f = sm_feature(s, "virtusertable");
	struct view text, rest;
	struct sm_row row;
	const char *file, *spec;
	unsigned line = 0, odd = 0;

	virtual_domains(s);
	if (f == NULL || !sm_table_text(s, f, "/etc/mail/virtusertable",
	    &file, &text))
		return;
	for (rest = text; sm_table_row(s, file, &rest, &line, &row);)
		if (odd == 0 && !virtual_plain(&row))
			odd = line;
	virtual_errors(s, file, text);
	line = 0;
	rest = text;
	if (odd == 0) {
		struct import_table *t = import_table(s->config, "hash",
		    "virtual");

		while (sm_table_row(s, file, &rest, &line, &row))
			if (!view_starts_nocase(row.value, "error:"))
				virtual_row(s, &row, t);
		import_add(s->config, "virtual_alias_maps", f->at, "%s",
		    import_table_spec(t));
		sm_note(s, f, IMPORT_CARRIED, "virtual_alias_maps");
		return;
	}
	spec = sm_table_copy(s, "sendmail-virtusertable", "virtusertable",
	    file, text);
	import_add(s->config, "virtual_alias_maps", f->at, "%s", spec);
	sm_note(s, f, IMPORT_CARRIED, "virtual_alias_maps reads it in "
	    "sendmail's syntax, because of line %u", odd);
	while (sm_table_row(s, file, &rest, &line, &row)) {
		struct view domain = view_from(row.key, view_find(row.key,
		    '@') + 1);

		if (view_starts_nocase(row.value, "error:"))
			continue;
		if (virtual_domain(s, domain))
			sm_row_note(s, &row, IMPORT_CARRIED, "as it is, in "
			    "sendmail's syntax");
		else
			sm_row_note(s, &row, IMPORT_CHANGED, "sendmail does "
			    "not look up this domain; here the row has "
			    "effect");
	}
}

/* -- senders --------------------------------------------------------------- */

static struct import_table *
canonical(struct sm *s)
{
	return import_table(s->config, "hash", "sender_canonical");
}

/* The first sender of user@domain in the table wins, and generics come
 * before masquerading. */
static bool
canonical_row(struct sm *s, struct import_place at, struct view user,
    struct view domain, struct view value)
{
	struct buf b, v;
	bool ok;

	buf_init(&b, 2000);
	buf_init(&v, 2000);
	ok = buf_putv(&b, user) && buf_putc(&b, '@') &&
	    buf_putv(&b, domain) && buf_putv(&v, value);
	/* "user": the domain that this host's users have */
	if (ok && !view_has(value, '@')) {
		struct view m = sm_define(s, "MASQUERADE_AS");

		if (m.n == 0 && import_value(s->config, "myhostname") != NULL)
			m = view_of(import_value(s->config, "myhostname"));
		ok = m.n > 0 && buf_putc(&v, '@') && buf_putv(&v, m);
	}
	ok = ok && import_row(canonical(s), at, buf_view(&b), buf_view(&v));
	buf_free(&b);
	buf_free(&v);
	return ok;
}

/* This host's name counts as a member. */
static void
generic_row(struct sm *s, const struct sm_row *row)
{
	struct view user = view_head(row->key, view_find(row->key, '@')),
	    domain = view_from(row->key, user.n + 1);
	const char *host = import_value(s->config, "myhostname");
	struct sm_item *i;
	unsigned n = 0;

	if (view_has(row->value, '%') || view_has(user, '*')) {
		sm_row_note(s, row, IMPORT_DROPPED, "details of addresses "
		    "(+*, %%1) are not carried over");
		return;
	}
	if (domain.n > 0) {
		if (!sm_in_class(s, "G", domain, sm_feature(s,
		    "generics_entire_domain") != NULL) &&
		    (host == NULL || !view_is_nocase(domain, host)))
			sm_row_note(s, row, IMPORT_DROPPED, "sendmail does "
			    "not look up this domain: it is no "
			    "GENERICS_DOMAIN");
		else if (canonical_row(s, row->at, user, domain, row->value))
			sm_row_note(s, row, IMPORT_CARRIED,
			    "sender_canonical");
		else
			sm_row_note(s, row, IMPORT_DROPPED, "there is such a "
			    "row already, or it cannot be one");
		return;
	}
	for (i = s->classes.first; i != NULL; i = i->next)
		if (view_is(i->name, "G"))
			n += canonical_row(s, row->at, user, i->arg[0],
			    row->value);
	if (host != NULL && !sm_in_class(s, "G", view_of(host), false))
		n += canonical_row(s, row->at, user, view_of(host),
		    row->value);
	sm_row_note(s, row, n > 0 ? IMPORT_CARRIED : IMPORT_DROPPED,
	    "sender_canonical: a row for each of %u domains", n);
}

static bool
generics(struct sm *s)
{
	struct sm_item *f = sm_feature(s, "genericstable"), *i,
	    *below = sm_feature(s, "generics_entire_domain");
	struct view text, rest;
	struct sm_row row;
	const char *file;
	unsigned line = 0;

	for (i = s->classes.first; i != NULL; i = i->next)
		if (view_is(i->name, "G"))
			sm_note(s, i, f != NULL ? IMPORT_CARRIED :
			    IMPORT_DROPPED, f != NULL ? "sender_canonical has "
			    "its addresses" : "there is no genericstable");
	if (f == NULL || !sm_table_text(s, f, "/etc/mail/genericstable",
	    &file, &text))
		return false;
	for (rest = text; sm_table_row(s, file, &rest, &line, &row);)
		generic_row(s, &row);
	sm_note(s, f, IMPORT_CARRIED, "sender_canonical_maps");
	sm_note(s, below, IMPORT_CHANGED, "rows of users without a domain "
	    "hold for the GENERICS_DOMAINs alone, not for what is below "
	    "them");
	return true;
}

static void
pattern_domain(struct view domain, struct buf *b)
{
	for (; domain.n > 0; domain = view_from(domain, 1)) {
		if (domain.p[0] == '.')
			(void)buf_putc(b, '\\');
		(void)buf_putc(b, domain.p[0]);
	}
}

/* Class N, and what is below it, stays. */
static void
masquerade_exceptions(struct sm *s)
{
	struct buf *b = import_file(s->config, "masquerade", 0644);
	struct sm_item *i;

	for (i = s->classes.first; i != NULL; i = i->next) {
		if (!view_is(i->name, "N") ||
		    !address_valid_hostname(i->arg[0]))
			continue;
		(void)buf_printf(b, "# %s:%u\n/^([^@]+@(?:.+\\.)?", i->at.file,
		    i->at.line);
		pattern_domain(i->arg[0], b);
		(void)buf_puts(b, ")$/\t$1\n");
	}
}

/* /^(?!(?:root|operator)@)([^@]+)@.+\.dept\.example$/ */
static void
masquerade_pattern(struct sm *s, struct import_place at, struct view domain)
{
	struct buf *b = import_file(s->config, "masquerade", 0644);
	struct sm_item *e;
	unsigned n = 0;

	if (!address_valid_hostname(domain))
		return;

	(void)buf_printf(b, "# %s:%u\n/^", at.file, at.line);
	for (e = s->classes.first; e != NULL; e = e->next)
		if (view_is(e->name, "E") && !view_has(e->arg[0], '/') &&
		    !view_has(e->arg[0], '\\'))
			(void)buf_printf(b, "%s\\Q%.*s\\E", n++ > 0 ? "|" :
			    "(?!(?:", VIEW_ARGS(e->arg[0]));
	(void)buf_puts(b, n > 0 ? ")@)([^@]+)@.+\\." : "([^@]+)@.+\\.");
	pattern_domain(domain, b);
	(void)buf_printf(b, "$/\t$1@%s\n", sm_text(s, sm_define(s,
	    "MASQUERADE_AS")));
}

static void
masquerade_domain(struct sm *s, struct import_place at, struct view domain)
{
	struct sm_item *e;
	struct buf b;

	if (!address_valid_hostname(domain) || sm_in_class(s, "N", domain,
	    true))
		return;
	buf_init(&b, 2000);
	for (e = s->classes.first; e != NULL; e = e->next) {
		if (!view_is(e->name, "E"))
			continue;
		buf_clear(&b);
		(void)buf_printf(&b, "%.*s@%.*s", VIEW_ARGS(e->arg[0]),
		    VIEW_ARGS(domain));
		(void)import_row(canonical(s), e->at, buf_view(&b),
		    buf_view(&b));
	}
	buf_clear(&b);
	(void)buf_printf(&b, "@%.*s", VIEW_ARGS(sm_define(s,
	    "MASQUERADE_AS")));
	(void)canonical_row(s, at, view_of(""), domain, buf_view(&b));
	buf_free(&b);
}

static bool
masquerade(struct sm *s)
{
	struct sm_item *as = sm_find(&s->defines, "MASQUERADE_AS"), *i,
	    *limited = sm_feature(s, "limited_masquerade"),
	    *entire = sm_feature(s, "masquerade_entire_domain");
	const char *host = import_value(s->config, "myhostname");
	bool on = as != NULL && address_valid_hostname(as->arg[0]) &&
	    sm_feature(s, "nullclient") == NULL;

	if (on && host != NULL)
		masquerade_domain(s, as->at, view_of(host));
	if (on && entire != NULL)
		masquerade_exceptions(s);
	for (i = s->classes.first; i != NULL; i = i->next) {
		bool w = view_is(i->name, "w"), m = view_is(i->name, "M");

		if (on && (m || (w && limited == NULL)))
			masquerade_domain(s, i->at, i->arg[0]);
		if (on && m && entire != NULL)
			masquerade_pattern(s, i->at, i->arg[0]);
		if (m || view_is(i->name, "E") || view_is(i->name, "N"))
			sm_note(s, i, on ? IMPORT_CARRIED : IMPORT_DROPPED,
			    on ? "sender_canonical" :
			    "it means something with MASQUERADE_AS alone");
	}
	if (on && host == NULL)
		sm_note(s, as, IMPORT_CHANGED, "sender_canonical; this host's "
		    "name is not known here: add a row @this.host "
		    "@%.*s, or set confDOMAIN_NAME and import again",
		    VIEW_ARGS(as->arg[0]));
	else
		sm_note(s, as, on ? IMPORT_CARRIED : as != NULL &&
		    as->arg[0].n == 0 ? IMPORT_CARRIED : IMPORT_DROPPED,
		    on ? "sender_canonical" : "nothing is masqueraded");
	sm_note(s, limited, IMPORT_CARRIED, "class w is not masqueraded");
	sm_note(s, entire, on ? IMPORT_CARRIED : IMPORT_DROPPED,
	    "the patterns of masquerade");
	return on;
}

static void
senders(struct sm *s)
{
	struct sm_item *envelope = sm_feature(s, "masquerade_envelope"),
	    *all = sm_feature(s, "allmasquerade");
	bool any = generics(s);

	any = masquerade(s) || any;
	sm_note(s, envelope, any ? IMPORT_CARRIED : IMPORT_DROPPED,
	    "sender_canonical_classes");
	sm_note(s, all, any ? IMPORT_CARRIED : IMPORT_DROPPED,
	    "recipient_canonical_maps");
	if (!any || import_table_find(s->config, "sender_canonical") == NULL)
		return;
	import_add(s->config, "sender_canonical_maps", sm_at(NULL, 0), "%s",
	    import_table_spec(canonical(s)));
	if (sm_feature(s, "masquerade_entire_domain") != NULL)
		import_add(s->config, "sender_canonical_maps", sm_at(NULL, 0),
		    "pcre:$config_directory/masquerade");
	import_set(s->config, "sender_canonical_classes", envelope != NULL ?
	    envelope->at : sm_at(NULL, 0), "header_sender%s",
	    envelope != NULL ? ", envelope_sender" : "");
	if (all == NULL)
		return;
	import_set(s->config, "recipient_canonical_maps", all->at,
	    "$sender_canonical_maps");
	import_set(s->config, "recipient_canonical_classes", all->at,
	    "header_recipient");
}

/* -- domaintable, aliases -------------------------------------------------- */

static void
domain_table(struct sm *s)
{
	struct sm_item *f = sm_feature(s, "domaintable");
	struct import_table *t;
	struct view text, rest;
	struct sm_row row;
	const char *file;
	unsigned line = 0;
	struct buf a, b;

	if (f == NULL || !sm_table_text(s, f, "/etc/mail/domaintable", &file,
	    &text))
		return;
	t = import_table(s->config, "hash", "canonical");
	buf_init(&a, 1000);
	buf_init(&b, 1000);
	for (rest = text; sm_table_row(s, file, &rest, &line, &row);) {
		buf_clear(&a);
		buf_clear(&b);
		if (buf_printf(&a, "@%.*s", VIEW_ARGS(row.key)) &&
		    buf_printf(&b, "@%.*s", VIEW_ARGS(row.value)) &&
		    !view_has(row.value, '%') && row.key.p[0] != '.' &&
		    import_row(t, row.at, buf_view(&a), buf_view(&b))) {
			/* relaying is judged before addresses change */
			if (virtual_domain(s, row.value) ||
			    sm_in_class(s, "R", row.value, true))
				(void)import_row(import_table(s->config,
				    "hash", "relay_recipients"), row.at,
				    row.key, view_of("OK"));
			sm_row_note(s, &row, IMPORT_CARRIED, "canonical");
		} else
			sm_row_note(s, &row, IMPORT_DROPPED, "not a domain "
			    "for another, or there twice");
	}
	buf_free(&a);
	buf_free(&b);
	import_add(s->config, "canonical_maps", f->at, "%s",
	    import_table_spec(t));
	sm_note(s, f, IMPORT_CARRIED, "canonical_maps");
}

static void
aliases(struct sm *s)
{
	static const char *const usual[] = { "/etc/mail/aliases",
		"/etc/aliases" };
	struct sm_item *i = sm_find(&s->defines, "ALIAS_FILE");
	struct view rest = i != NULL ? i->arg[0] : view_of(""), word, text;
	const char *file = NULL;
	struct buf *b;
	unsigned n = 0;
	size_t k;

	if (i != NULL && rest.n == 0) {
		import_set(s->config, "alias_maps", i->at, "%s", "");
		sm_note(s, i, IMPORT_CARRIED, "no aliases");
		return;
	}
	for (k = 0; i == NULL && k < 2 && file == NULL; k++) {
		file = sm_path(s, view_of(usual[k]));
		if (access(file, F_OK) != 0 ||
		    strncmp(file, "/etc/", 5) == 0)
			file = strncmp(s->order->from, "/etc", 4) == 0 &&
			    access(file, F_OK) == 0 ? file : NULL;
	}
	if (i == NULL && file != NULL)
		rest = view_of(file);
	while ((word = view_word(&rest, ", \t")).n > 0) {
		char name[32] = "aliases";

		if (view_has(word, ':') && word.p[0] != '/')
			word = view_from(word, view_find(word, ':') + 1);
		file = i != NULL ? sm_path(s, word) : sm_text(s, word);
		if (!sm_file(s, file, false, i != NULL ? i->at :
		    sm_at(file, 0), &text))
			continue;
		if (n > 0 && n < 10) {
			name[7] = (char)('0' + n);
			name[8] = '\0';
		} else if (n >= 10)
			break;
		n++;
		b = import_file(s->config, name, 0644);
		buf_clear(b);
		(void)buf_printf(b, "# A copy of %s\n", file);
		(void)buf_putv(b, text);
		import_add(s->config, "alias_maps", i != NULL ? i->at :
		    sm_at(file, 0), "hash:$config_directory/%s", name);
		import_note(s->report, sm_at(file, 0), view_of("aliases"),
		    IMPORT_CARRIED, "alias_maps reads a copy, %s, which "
		    "builds itself when it is newer", name);
	}
	sm_note(s, i, IMPORT_CARRIED, "alias_maps");
}

void
import_sm_addresses(struct sm *s)
{
	/* every message is completed and rewritten */
	import_set(s->config, "local_header_rewrite_clients", sm_at(NULL, 0),
	    "static:all");
	import_remark(s->config, "local_header_rewrite_clients",
	    "sendmail rewrites and completes the headers of all mail");
	import_set(s->config, "recipient_delimiter", sm_at(NULL, 0), "+");
	import_remark(s->config, "recipient_delimiter",
	    "sendmail's user+detail");
	import_set(s->config, "propagate_unmatched_extensions", sm_at(NULL,
	    0), "%s", "");
	import_remark(s->config, "propagate_unmatched_extensions",
	    "sendmail's tables say the whole new address");
	virtual_table(s);
	senders(s);
	domain_table(s);
	aliases(s);
}
