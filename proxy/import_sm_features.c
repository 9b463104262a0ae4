/*
 * FEATUREs that need no more than a word or a setting.
 */
#include "lib/conf.h"
#include "lib/log.h"
#include "proxy/import_sm.h"

static const struct {
	const char *name;
	enum import_outcome outcome;
	const char *why;
} features[] = {
	{ "always_add_domain", IMPORT_CARRIED, "addresses without a domain "
	    "get $myorigin: append_at_myorigin" },
	{ "redirect", IMPORT_DROPPED, "addresses user@host.REDIRECT in "
	    "aliases are not known; write rows for relocated_maps" },
	{ "nouucp", IMPORT_CARRIED, "addresses with ! are not UUCP's: "
	    "swap_bangpath = no" },
	{ "nocanonify", IMPORT_CARRIED, "domains in addresses are never "
	    "looked up to complete them" },
	{ "stickyhost", IMPORT_DROPPED, "it means something with MAIL_HUB "
	    "and LOCAL_RELAY; a hub gets mail for user@this.host too" },
	{ "smrsh", IMPORT_DROPPED, "commands of aliases run as the "
	    "recipient, in local_command_shell: name smrsh there if you "
	    "want it" },
	{ "local_lmtp", IMPORT_DROPPED, "local(8) delivers; "
	    "mailbox_transport names an LMTP server" },
	{ "greet_pause", IMPORT_DROPPED, "there is no pause before the "
	    "greeting; clients that speak out of turn are refused: "
	    "smtpd_forbid_unauth_pipelining" },
	{ "conncontrol", IMPORT_CARRIED,
	    "smtpd_client_connection_count_limit, of ClientConn: rows" },
	{ "ratecontrol", IMPORT_CARRIED,
	    "smtpd_client_connection_rate_limit, of ClientRate: rows" },
	{ "promiscuous_relay", IMPORT_DROPPED, "an open relay is not carried "
	    "over: name clients in mynetworks" },
	{ "loose_relay_check", IMPORT_DROPPED, "user%host@domain is judged "
	    "as it would be routed: allow_percent_hack" },
	{ "relay_hosts_only", IMPORT_CHANGED,
	    "parent_domain_matches_subdomains" },
	{ "ldap_routing", IMPORT_DROPPED, "see ldap_table(5), for "
	    "transport_maps and virtual_alias_maps" },
	{ "bestmx_is_local", IMPORT_DROPPED, "a domain ends here only if "
	    "mydestination names it" },
	{ "use_client_ptr", IMPORT_DROPPED, "names of clients are verified "
	    "before they count" },
	{ "badmx", IMPORT_DROPPED, "see check_sender_mx_access" },
	{ "rbl", IMPORT_DROPPED, "an old name of dnsbl, without a zone" },
	{ "notsticky", IMPORT_CARRIED, "so it is" },
	{ "nodns", IMPORT_DROPPED, "see smtp_dns_support_level" },
	{ "uucpdomain", IMPORT_DROPPED, "there is no table of UUCP hosts; "
	    "make rows of transport_maps" },
	{ "bitdomain", IMPORT_DROPPED, "there is no BITNET" },
	{ "preserve_local_plus_detail", IMPORT_DROPPED, "see "
	    "propagate_unmatched_extensions" },
	{ "preserve_luser_host", IMPORT_CARRIED, "luser_relay with $domain "
	    "keeps it" },
	{ "lookupdotdomain", IMPORT_DROPPED, "rows .domain of access are "
	    "not looked up besides domain" },
	{ "compat_check", IMPORT_DROPPED, "pairs of sender and recipient "
	    "need restriction classes" },
	{ "queuegroup", IMPORT_DROPPED, "there are no groups of queues" },
	{ "msp", IMPORT_DROPPED, "sendmail(1) hands in mail by postdrop(1)" },
	{ "no_default_msa", IMPORT_CARRIED, "no service submission" },
	{ "nopercenthack", IMPORT_CARRIED, "allow_percent_hack = no" },
	{ "allow_percent_hack", IMPORT_CARRIED, "allow_percent_hack" },
	{ "block_bad_helo", IMPORT_CHANGED, "smtpd_helo_restrictions" },
	{ "mtamark", IMPORT_DROPPED, "there is no such list" },
	{ "tls_session_features", IMPORT_DROPPED, "see tls_policy(5)" },
	{ "tls_failures", IMPORT_DROPPED, "see tls_policy(5)" },
	{ "bcc", IMPORT_DROPPED, "see recipient_bcc_maps" },
	{ "nullclient", IMPORT_CHANGED, "relayhost" },
	{ "local_no_masquerade", IMPORT_DROPPED, "senders are rewritten "
	    "before the delivery is known" },
	{ "relay_mail_from", IMPORT_CARRIED, "relay_senders" },
	{ "access_db", IMPORT_CARRIED, "there is no such file" },
};

static void
local_procmail(struct sm *s)
{
	struct sm_item *i = sm_feature(s, "local_procmail");
	const char *path = "/usr/bin/procmail";

	if (i == NULL)
		return;
	if (i->n_args > 0 && i->arg[0].n > 0 && i->arg[0].p[0] == '/' &&
	    !view_has(i->arg[0], ' '))
		path = sm_text(s, i->arg[0]);
	else if (sm_define(s, "PROCMAIL_MAILER_PATH").n > 0)
		path = sm_text(s, sm_define(s, "PROCMAIL_MAILER_PATH"));
	import_set(s->config, "mailbox_command", i->at,
	    "%s -t -Y -a \"$EXTENSION\"", path);
	sm_note(s, i, i->n_args > 1 ? IMPORT_CHANGED : IMPORT_CARRIED,
	    "mailbox_command, with -t -Y -a extension; root's mail is "
	    "delivered as default_privs");
}

void
import_sm_features(struct sm *s)
{
	struct sm_item *i, *helo = sm_feature(s, "block_bad_helo"),
	    *percent = sm_feature(s, "nopercenthack");
	size_t k;

	local_procmail(s);
	if (helo != NULL)
		import_add(s->config, "smtpd_helo_restrictions", helo->at,
		    "permit_mynetworks, reject_invalid_helo_hostname, "
		    "reject_non_fqdn_helo_hostname");
	import_set(s->config, "swap_bangpath", sm_feature(s, "nouucp") != NULL
	    ? sm_feature(s, "nouucp")->at : sm_at(NULL, 0), "%s",
	    sm_feature(s, "nouucp") != NULL ? "no" : "yes");
	if (percent != NULL)
		import_set(s->config, "allow_percent_hack", percent->at, "no");
	for (i = s->features.first; i != NULL; i = i->next)
		for (k = 0; !i->used && k < sizeof features /
		    sizeof features[0]; k++)
			if (view_is(i->name, features[k].name))
				sm_note(s, i, features[k].outcome, "%s",
				    features[k].why);
	/* said twice, or what the other functions did for one of two */
	for (i = s->features.first; i != NULL; i = i->next)
		if (!i->used && sm_feature(s, sm_text(s, i->name)) != i)
			sm_note(s, i, IMPORT_DROPPED, "it is said again "
			    "further down");
}
