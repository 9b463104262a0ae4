/*
 * access, and who may do what: the restrictions.
 *
 * One row of access can mean something for clients, senders and recipients,
 * and for relaying: it becomes rows of as many tables.
 */
#include "lib/address.h"
#include "lib/conf.h"
#include "lib/log.h"
#include "lib/netaddr.h"
#include "proxy/import_sm_table.h"
#include "rules/sendmail_table.h"

struct access {
	struct sm *s;
	struct sm_item *feature;
	bool blocklist;		/* recipients are looked for too */
	bool from;		/* FEATURE(relay_mail_from) */
};

/* A key as access(5) has it; false: there is no such key. */
static bool
access_key(struct view key, struct buf *out)
{
	if (view_starts_nocase(key, "IPv6:"))
		key = view_from(key, 5);
	while (key.n > 1 && (key.p[key.n - 1] == '.' ||
	    (key.p[key.n - 1] == ':' && key.p[key.n - 2] != ':')))
		key.n--;
	return key.n > 0 && buf_putv(out, key);
}

/* What a row says as an action.  rcpt: in the words for recipients. */
static bool
access_action(struct view v, bool rcpt, struct buf *out)
{
	if (view_is_nocase(v, "OK") || view_is_nocase(v, "RELAY"))
		return buf_puts(out, "OK");
	if (view_is_nocase(v, "SKIP"))
		return buf_puts(out, "DUNNO");
	if (view_is_nocase(v, "REJECT"))
		return buf_puts(out, rcpt ? "550 5.2.1 Mailbox disabled for "
		    "this recipient" : "550 5.7.1 Access denied");
	if (view_is_nocase(v, "DISCARD"))
		return buf_puts(out, "DISCARD");
	if (view_starts_nocase(v, "QUARANTINE:"))
		return buf_puts(out, "HOLD ") &&
		    buf_putv(out, view_trim(view_from(v, 11)));
	if (view_starts_nocase(v, "ERROR:"))
		return sendmail_error(view_from(v, 6), "5.7.1", out);
	if (v.n > 3 && v.p[0] >= '4' && v.p[0] <= '5')
		return sendmail_error(v, "5.7.1", out);
	return v.n > 3 && v.p[0] == '"' && sendmail_error(v, "5.7.1", out);
}

static bool
access_put(struct access *a, const struct sm_row *row, const char *table,
    struct view key, const char *value)
{
	struct import_table *t = import_table(a->s->config, "hash", table);
	struct buf b;
	bool ok;

	buf_init(&b, 1000);
	ok = access_key(key, &b) && import_row(t, row->at, buf_view(&b),
	    view_of(value));
	buf_free(&b);
	return ok;
}

enum { FOR_CLIENT = 1, FOR_SENDER = 2, FOR_RECIPIENT = 4 };

static bool
key_is_network(struct view key)
{
	struct buf b;
	bool is;

	buf_init(&b, 200);
	is = import_sm_network(key, &b);
	buf_free(&b);
	return is;
}

/* tagged: a row for this purpose alone. */
static void
access_row(struct access *a, const struct sm_row *row, struct view key,
    unsigned purposes, bool tagged)
{
	bool relay = view_is_nocase(row->value, "RELAY"), any = false;
	bool mail = view_has(key, '@'), net = key_is_network(key);
	bool twice = false;
	const char *did[5];
	struct buf b, rcpt;
	size_t n = 0, i;

	if (mail || net)
		purposes &= mail ? ~(unsigned)FOR_CLIENT : FOR_CLIENT;
	buf_init(&b, 2000);
	buf_init(&rcpt, 2000);
	if (!access_action(row->value, false, &b) ||
	    !access_action(row->value, true, &rcpt)) {
		sm_row_note(a->s, row, IMPORT_UNKNOWN,
		    "what is behind the key is not understood");
		goto end;
	}
	if (purposes & FOR_CLIENT) {
		any = access_put(a, row, "access_client", key, buf_cstr(&b));
		twice = twice || !any;
		did[n++] = "access_client";
		if (relay) {
			(void)access_put(a, row, "relay_clients", key, "OK");
			did[n++] = "relay_clients";
		}
	}
	if (purposes & FOR_SENDER) {
		any = access_put(a, row, "access_sender", key, buf_cstr(&b));
		twice = twice || !any;
		did[n++] = "access_sender";
		if (relay && tagged && a->from) {
			(void)access_put(a, row, "relay_senders", key, "OK");
			did[n++] = "relay_senders";
		}
	}
	if ((purposes & FOR_RECIPIENT) && relay) {
		any = access_put(a, row, "relay_recipients", key, "OK");
		twice = twice || !any;
		did[n++] = "relay_recipients";
	} else if ((purposes & FOR_RECIPIENT) && a->blocklist) {
		any = access_put(a, row, "access_recipient", key,
		    buf_cstr(&rcpt));
		twice = twice || !any;
		did[n++] = "access_recipient";
	}
	buf_clear(&b);
	for (i = 0; i < n; i++)
		(void)buf_printf(&b, "%s%s", i > 0 ? ", " : "", did[i]);
	if (n == 0)
		sm_row_note(a->s, row, IMPORT_DROPPED, "sendmail has no use "
		    "for it: FEATURE(blocklist_recipients) is not there");
	else if (twice)
		sm_row_note(a->s, row, IMPORT_CHANGED, "%s, but a row with "
		    "this key, or a tag of it, was first", buf_cstr(&b));
	else if (view_is_nocase(row->value, "DISCARD"))
		sm_row_note(a->s, row, IMPORT_CHANGED, "%s; from there on "
		    "the recipients are not judged any more", buf_cstr(&b));
	else if (mail && key.p[key.n - 1] == '@')
		sm_row_note(a->s, row, IMPORT_CHANGED, "%s; a row of the "
		    "domain comes before it, and it holds for every domain",
		    buf_cstr(&b));
	else
		sm_row_note(a->s, row, IMPORT_CARRIED, "%s", buf_cstr(&b));
end:
	buf_free(&b);
	buf_free(&rcpt);
}

/* -- the other tags -------------------------------------------------------- */

/* "ClientRate: 10", "ClientConn:192.0.2 0" */
static void
access_limit(struct access *a, const struct sm_row *row, struct view key,
    const char *name)
{
	struct buf b;
	int64_t n;

	buf_init(&b, 200);
	if (!conf_parse_int(row->value, 0, 1000000, &n))
		sm_row_note(a->s, row, IMPORT_UNKNOWN, "not a number");
	else if (key.n == 0) {
		import_set(a->s->config, name, row->at, "%lld", (long long)n);
		sm_row_note(a->s, row, IMPORT_CARRIED, "%s = %lld", name,
		    (long long)n);
	} else if (n == 0 && import_sm_network(key, &b)) {
		import_add(a->s->config, "smtpd_client_event_limit_exceptions",
		    row->at, "%s", buf_cstr(&b));
		sm_row_note(a->s, row, IMPORT_CHANGED, "one of "
		    "smtpd_client_event_limit_exceptions, for all limits");
	} else
		sm_row_note(a->s, row, IMPORT_DROPPED,
		    "a limit of one client: there is one for all, and "
		    "smtpd_client_event_limit_exceptions");
	buf_free(&b);
}

static void
access_tls(struct access *a, const struct sm_row *row, struct view key,
    bool try)
{
	const char *level = NULL;
	struct view v = row->value;
	struct import_table *t;

	if (view_starts_nocase(v, "PERM+") || view_starts_nocase(v, "TEMP+"))
		v = view_from(v, 5);
	if (try && view_is_nocase(v, "NO"))
		level = "none";
	else if (!try && view_starts_nocase(v, "VERIFY"))
		level = "verify";
	else if (!try && view_starts_nocase(v, "ENCR"))
		level = "encrypt";
	if (level == NULL || key.n == 0 || !address_valid_hostname(key)) {
		sm_row_note(a->s, row, IMPORT_DROPPED, "see "
		    "smtp_tls_policy_maps and tls_policy(5)");
		return;
	}
	t = import_table(a->s->config, "hash", "tls_policy");
	if (!import_row(t, row->at, key, view_of(level))) {
		sm_row_note(a->s, row, IMPORT_CHANGED, "an earlier row of "
		    "tls_policy has this name");
		return;
	}
	import_set(a->s->config, "smtp_tls_policy_maps", sm_at(NULL, 0), "%s",
	    import_table_spec(t));
	sm_row_note(a->s, row, IMPORT_CHANGED, "tls_policy: %s; the key is "
	    "the next hop here, the server's name there, and bits of ciphers "
	    "are not counted", level);
}

/* AuthInfo:host "U:user" "P:password" "M:..." in access or authinfo */
static void
access_auth(struct access *a, const struct sm_row *row, struct view key)
{
	struct view rest = row->value, part, user = { 0 }, pass = { 0 };
	struct import_table *t;
	struct sm_row hidden = *row;
	struct buf b;

	/* the report is not for passwords */
	hidden.text = row->key;
	while (rest.n > 0 && view_has(rest, '"')) {
		rest = view_from(rest, view_find(rest, '"') + 1);
		part = view_head(rest, view_find(rest, '"'));
		rest = view_from(rest, part.n + 1);
		if (part.n < 3)
			continue;
		if ((part.p[0] == 'U' || part.p[0] == 'I') &&
		    (user.n == 0 || part.p[0] == 'I'))
			user = view_from(part, 2);
		else if (part.p[0] == 'P' && part.p[1] == ':')
			pass = view_from(part, 2);
	}
	buf_init(&b, 2000);
	if (key.n == 0 || user.n == 0 || pass.n == 0 || view_has(user, ':'))
		sm_row_note(a->s, &hidden, IMPORT_DROPPED, "there is no "
		    "host, user or password in it as text");
	else if (buf_printf(&b, "%.*s:%.*s", VIEW_ARGS(user),
	    VIEW_ARGS(pass))) {
		/* for root's eyes */
		(void)import_file(a->s->config, "sasl_password", 0600);
		t = import_table(a->s->config, "hash", "sasl_password");
		if (import_row(t, row->at, key, buf_view(&b))) {
			import_set(a->s->config, "smtp_sasl_password_maps",
			    row->at, "%s", import_table_spec(t));
			import_set(a->s->config, "smtp_sasl_auth_enable",
			    row->at, "yes");
			sm_row_note(a->s, &hidden, IMPORT_CHANGED,
			    "smtp_sasl_password_maps: the key is the next hop "
			    "or the server's name; realm and mechanism are "
			    "not in the table");
		} else
			sm_row_note(a->s, &hidden, IMPORT_DROPPED,
			    "there is such a row already");
	}
	buf_free(&b);
}

static void
access_one(struct access *a, const struct sm_row *row)
{
	static const struct {
		const char *tag;
		unsigned purposes;
	} tags[] = {
		{ "Connect:", FOR_CLIENT }, { "From:", FOR_SENDER },
		{ "To:", FOR_RECIPIENT },
	};
	static const char *const none[] = { "Spam:", "GreetPause:",
		"SRV_Features:", "Clt_Features:", "TLS_Clt:", "TLS_Rcpt:",
		"TLS_Srv_Features:", "TLS_Clt_Features:", "CERTISSUER:",
		"CERTSUBJECT:" };
	static const char *const reasons[] = { "friends and haters of spam: "
		"put check_recipient_access in front of what a recipient is "
		"spared", "there is no pause before the greeting" };
	struct view key = row->key;
	size_t i, n;

	for (i = 0; i < sizeof tags / sizeof tags[0]; i++)
		if (view_starts_nocase(key, tags[i].tag)) {
			access_row(a, row, view_from(key,
			    strlen(tags[i].tag)), tags[i].purposes, true);
			return;
		}
	for (i = 0; i < sizeof none / sizeof none[0]; i++)
		if (view_starts_nocase(key, none[i])) {
			sm_row_note(a->s, row, IMPORT_DROPPED, "%s",
			    i < 2 ? reasons[i] : "what is offered or asked of "
			    "one peer has no table");
			return;
		}
	n = view_find(key, ':') + 1;
	if (view_starts_nocase(key, "ClientRate:"))
		access_limit(a, row, view_from(key, n),
		    "smtpd_client_connection_rate_limit");
	else if (view_starts_nocase(key, "ClientConn:"))
		access_limit(a, row, view_from(key, n),
		    "smtpd_client_connection_count_limit");
	else if (view_starts_nocase(key, "Try_TLS:"))
		access_tls(a, row, view_from(key, n), true);
	else if (view_starts_nocase(key, "TLS_Srv:"))
		access_tls(a, row, view_from(key, n), false);
	else if (view_starts_nocase(key, "AuthInfo:"))
		access_auth(a, row, view_from(key, n));
	else if (view_has(key, ':') && !view_starts_nocase(key, "IPv6:") &&
	    !key_is_network(key))
		sm_row_note(a->s, row, IMPORT_UNKNOWN, "no such tag");
	else
		access_row(a, row, key, FOR_CLIENT | FOR_SENDER |
		    FOR_RECIPIENT, false);
}

/* Twice: rows with a tag come before those without. */
static void
access_table(struct access *a, const char *path)
{
	struct view text, rest;
	struct sm_row row;
	const char *file;
	unsigned line;
	int pass;
	bool tag;

	if (!sm_table_text(a->s, a->feature, path, &file, &text))
		return;
	for (pass = 0; pass < 2; pass++) {
		line = 0;
		rest = text;
		while (sm_table_row(a->s, file, &rest, &line, &row)) {
			tag = view_has(row.key, ':') &&
			    !view_starts_nocase(row.key, "IPv6:");
			if (tag == (pass == 0))
				access_one(a, &row);
		}
	}
}

/* -- restrictions ---------------------------------------------------------- */

static bool
table_there(struct sm *s, const char *name, const char **ret_spec)
{
	struct import_table *t = import_table_find(s->config, name);

	if (t == NULL || import_table_rows(t) == 0)
		return false;
	*ret_spec = import_table_spec(t);
	return true;
}

/* What judges clients, in this list. */
static void
policy_client(struct sm *s, const char *list)
{
	struct sm_item *i, *f = sm_feature(s, "require_rdns");
	const char *spec;
	struct view zone;

	if (table_there(s, "access_client", &spec))
		import_add(s->config, list, sm_at(NULL, 0),
		    "check_client_access %s", spec);
	if (f != NULL) {
		import_add(s->config, list, f->at,
		    "reject_unknown_reverse_client_hostname");
		sm_note(s, f, IMPORT_CARRIED, "%s", list);
	}
	for (i = s->features.first; i != NULL; i = i->next) {
		bool more = view_is(i->name, "enhdnsbl");

		if (!more && !view_is(i->name, "dnsbl"))
			continue;
		zone = i->n_args > 0 ? i->arg[0] : view_of("");
		if (!address_valid_hostname(zone)) {
			sm_note(s, i, IMPORT_DROPPED, "there is no zone");
			continue;
		}
		if (more && i->n_args > 3)
			for (unsigned k = 3; k < i->n_args; k++) {
				struct view v = i->arg[k];

				if (v.n > 0 && v.p[v.n - 1] == '.')
					v.n--;
				import_add(s->config, list, i->at,
				    "reject_rbl_client %s=%s", sm_text(s,
				    zone), sm_text(s, v));
			}
		else
			import_add(s->config, list, i->at,
			    "reject_rbl_client %s", sm_text(s, zone));
		sm_note(s, i, i->n_args > 1 && i->arg[1].n > 0 ?
		    IMPORT_CHANGED : IMPORT_CARRIED,
		    "reject_rbl_client; the text is default_rbl_reply's");
	}
}

/*
 * With delay_checks sendmail looks at the sender before the client, and a
 * sender who is let pass settles it; so does a login.
 */
static void
policy_sender(struct sm *s, bool delayed)
{
	struct sm_item *unqualified = sm_feature(s,
	    "accept_unqualified_senders"), *unresolvable = sm_feature(s,
	    "accept_unresolvable_domains");
	const char *list = "smtpd_sender_restrictions", *spec;

	if (delayed && import_value(s->config, "smtpd_sasl_auth_enable") !=
	    NULL)
		import_add(s->config, list, sm_at(NULL, 0),
		    "permit_sasl_authenticated");
	if (table_there(s, "access_sender", &spec))
		import_add(s->config, list, sm_at(NULL, 0),
		    "check_sender_access %s", spec);
	if (unqualified == NULL) {
		import_add(s->config, list, sm_at(NULL, 0),
		    "reject_non_fqdn_sender");
		import_set(s->config, "non_fqdn_reject_code", sm_at(NULL, 0),
		    "553");
		import_remark(s->config, "non_fqdn_reject_code", "as sendmail "
		    "without FEATURE(accept_unqualified_senders)");
	} else
		sm_note(s, unqualified, IMPORT_CARRIED, "no "
		    "reject_non_fqdn_sender");
	if (unresolvable == NULL) {
		import_add(s->config, list, sm_at(NULL, 0),
		    "reject_unknown_sender_domain");
		import_set(s->config, "unknown_address_reject_code",
		    sm_at(NULL, 0), "553");
		import_remark(s->config, "unknown_address_reject_code",
		    "as sendmail without FEATURE(accept_unresolvable_"
		    "domains)");
	} else
		sm_note(s, unresolvable, IMPORT_CARRIED, "no "
		    "reject_unknown_sender_domain");
	if (delayed)
		policy_client(s, list);
}

static void
policy_relay(struct sm *s)
{
	const char *list = "smtpd_relay_restrictions", *spec;
	struct sm_item *mx = sm_feature(s, "relay_based_on_MX"),
	    *from = sm_feature(s, "relay_local_from"), *i;
	struct import_table *t;

	import_add(s->config, list, sm_at(NULL, 0), "permit_mynetworks");
	if (import_value(s->config, "smtpd_sasl_auth_enable") != NULL)
		import_add(s->config, list, sm_at(NULL, 0),
		    "permit_sasl_authenticated");
	if (table_there(s, "relay_clients", &spec))
		import_add(s->config, list, sm_at(NULL, 0),
		    "check_client_access %s", spec);
	if (table_there(s, "relay_recipients", &spec))
		import_add(s->config, list, sm_at(NULL, 0),
		    "check_recipient_access %s", spec);
	if (from != NULL) {
		t = import_table(s->config, "hash", "relay_senders");
		for (i = s->classes.first; i != NULL; i = i->next)
			if (view_is(i->name, "w"))
				(void)import_row(t, i->at, i->arg[0],
				    view_of("OK"));
		sm_note(s, from, IMPORT_CARRIED, "relay_senders: whoever "
		    "claims to be one of them may relay");
	}
	if (table_there(s, "relay_senders", &spec))
		import_add(s->config, list, sm_at(NULL, 0),
		    "check_sender_access %s", spec);
	if (mx != NULL) {
		import_add(s->config, list, mx->at, "permit_mx_backup");
		sm_note(s, mx, IMPORT_CHANGED, "permit_mx_backup; name the "
		    "networks of the primary servers in "
		    "permit_mx_backup_networks");
	}
	import_add(s->config, list, sm_at(NULL, 0),
	    "reject_unauth_destination");
}

/* The domain of this host and what is below it. */
static void
policy_entire(struct sm *s)
{
	struct sm_item *f = sm_feature(s, "relay_entire_domain");
	const char *host = import_value(s->config, "myhostname");
	struct view v = view_of(host);

	if (f == NULL)
		return;
	v = view_from(v, view_find(v, '.') + 1);
	if (v.n == 0) {
		sm_note(s, f, IMPORT_DROPPED, "confDOMAIN_NAME is not there, "
		    "so this host's domain is not known here: add it to "
		    "relay_domains and relay_clients");
		return;
	}
	import_add(s->config, "relay_domains", f->at, "$mydomain");
	(void)import_row(import_table(s->config, "hash", "relay_clients"),
	    f->at, v, view_of("OK"));
	sm_note(s, f, IMPORT_CARRIED, "relay_domains and relay_clients have "
	    "this host's domain");
}

void
import_sm_access(struct sm *s)
{
	struct sm_item *block = sm_feature(s, "blocklist_recipients"),
	    *delay = sm_feature(s, "delay_checks"),
	    *auth = sm_feature(s, "authinfo"),
	    *from = sm_feature(s, "relay_mail_from");
	struct access a = { .s = s };
	const char *spec;

	if (block == NULL)
		block = sm_feature(s, "blacklist_recipients");
	a.blocklist = block != NULL;
	a.from = from != NULL;
	a.feature = sm_feature(s, "access_db");
	policy_entire(s);
	if (a.feature != NULL) {
		access_table(&a, "/etc/mail/access");
		sm_note(s, a.feature, IMPORT_CARRIED, "access_client, "
		    "access_sender, access_recipient and the relay_ tables");
	}
	a.feature = auth;
	if (auth != NULL) {
		access_table(&a, "/etc/mail/authinfo");
		sm_note(s, auth, IMPORT_CARRIED, "smtp_sasl_password_maps");
	}
	sm_note(s, block, IMPORT_CARRIED,
	    "access_recipient in smtpd_recipient_restrictions");
	sm_note(s, from, IMPORT_CARRIED, "relay_senders, of rows From: with "
	    "RELAY: whoever claims to be one of them may relay");
	import_set(s->config, "smtpd_delay_reject", delay != NULL ?
	    delay->at : sm_at(NULL, 0), "%s", delay != NULL ? "yes" : "no");
	if (delay == NULL)
		import_remark(s->config, "smtpd_delay_reject", "as sendmail "
		    "without FEATURE(delay_checks): senders are judged at "
		    "MAIL");
	sm_note(s, delay, delay != NULL && delay->n_args > 0 &&
	    delay->arg[0].n > 0 ? IMPORT_CHANGED : IMPORT_CARRIED,
	    "smtpd_delay_reject; friends and haters of access are not "
	    "carried over");
	if (delay == NULL)
		policy_client(s, "smtpd_client_restrictions");
	if (delay == NULL &&
	    import_value(s->config, "smtpd_client_restrictions") != NULL)
		import_note(s->report, sm_at(s->order->from, 0),
		    view_of("refused clients"), IMPORT_CHANGED, "a client "
		    "that is refused is told so at once, with the greeting; "
		    "sendmail says it at MAIL");
	policy_sender(s, delay != NULL);
	policy_relay(s);
	if (table_there(s, "access_recipient", &spec))
		import_add(s->config, "smtpd_recipient_restrictions",
		    sm_at(NULL, 0), "check_recipient_access %s", spec);
}
