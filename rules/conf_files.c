#include <stdlib.h>

#include "lib/mem.h"
#include "rules/conf_files.h"
#include "rules/table.h"
#include "rules/table_remote.h"
#include "rules/tls_files.h"

#define ROLE_BIT(kind)	(1u << (kind))
/* Who needs to know the class of a domain. */
#define ROLES_CLASS	(ROLE_BIT(ROLE_SMTPD) | ROLE_BIT(ROLE_QMGR) | \
	ROLE_BIT(ROLE_FILTER) | ROLE_BIT(ROLE_MILTER))
/* Who needs to know where mail goes: smtpd only for error: and retry:. */
#define ROLES_ROUTE	(ROLE_BIT(ROLE_SMTPD) | ROLE_BIT(ROLE_QMGR))
/* Who needs to know that an address is rewritten. */
#define ROLES_REWRITE	(ROLE_BIT(ROLE_SMTPD) | ROLE_BIT(ROLE_FILTER) | \
	ROLE_BIT(ROLE_MILTER))

static const struct {
	const char *name;
	uint32_t roles;
} file_params[] = {
	{ "header_checks", ROLE_BIT(ROLE_FILTER) },
	{ "mime_header_checks", ROLE_BIT(ROLE_FILTER) },
	{ "nested_header_checks", ROLE_BIT(ROLE_FILTER) },
	{ "attachment_checks", ROLE_BIT(ROLE_FILTER) },
	{ "body_checks", ROLE_BIT(ROLE_FILTER) },
	{ "decoded_header_checks", ROLE_BIT(ROLE_FILTER) },
	{ "decoded_body_checks", ROLE_BIT(ROLE_FILTER) },
	{ "filter_policy_maps", ROLE_BIT(ROLE_FILTER) },
	{ "fast_flush_domains", ROLE_BIT(ROLE_SMTPD) },
	{ "relay_recipient_maps", ROLE_BIT(ROLE_SMTPD) },
	{ "mynetworks", ROLE_BIT(ROLE_SMTPD) | ROLE_BIT(ROLE_FILTER) },
	{ "relay_domains", ROLES_CLASS },
	{ "mydestination", ROLES_CLASS | ROLE_BIT(ROLE_RELAY) },
	{ "virtual_alias_domains", ROLES_CLASS },
	{ "virtual_mailbox_domains", ROLES_CLASS },
	{ "virtual_alias_maps", ROLES_CLASS },
	{ "virtual_mailbox_maps", ROLES_CLASS | ROLE_BIT(ROLE_LOCAL) },
	{ "alias_maps", ROLE_BIT(ROLE_LOCAL) },
	{ "virtual_uid_maps", ROLE_BIT(ROLE_LOCAL) },
	{ "virtual_gid_maps", ROLE_BIT(ROLE_LOCAL) },
	{ "mailbox_transport_maps", ROLE_BIT(ROLE_LOCAL) },
	{ "mailbox_command_maps", ROLE_BIT(ROLE_LOCAL) },
	{ "fallback_transport_maps", ROLE_BIT(ROLE_LOCAL) },
	{ "canonical_maps", ROLES_REWRITE },
	{ "sender_canonical_maps", ROLES_REWRITE },
	{ "recipient_canonical_maps", ROLES_REWRITE },
	{ "masquerade_exceptions", ROLE_BIT(ROLE_FILTER) |
	    ROLE_BIT(ROLE_MILTER) },
	{ "sender_bcc_maps", ROLE_BIT(ROLE_FILTER) },
	{ "recipient_bcc_maps", ROLE_BIT(ROLE_FILTER) },
	{ "local_header_rewrite_clients", ROLE_BIT(ROLE_SMTPD) },
	{ "tls_config_file", ROLE_BIT(ROLE_SMTPD) | ROLE_BIT(ROLE_RELAY) |
	    ROLE_BIT(ROLE_STS) | ROLE_BIT(ROLE_TLSRPT) },
	{ "smtp_tls_sts_CAfile", ROLE_BIT(ROLE_STS) | ROLE_BIT(ROLE_TLSRPT) },
	{ "smtp_generic_maps", ROLE_BIT(ROLE_RELAY) },
	{ "smtp_tls_policy_maps", ROLE_BIT(ROLE_RELAY) },
	{ "smtp_tls_loglevel_maps", ROLE_BIT(ROLE_RELAY) },
	{ "smtpd_tls_loglevel_maps", ROLE_BIT(ROLE_SMTPD) },
	{ "smtp_requiretls_policy", ROLE_BIT(ROLE_RELAY) },
	{ "smtp_sasl_password_maps", ROLE_BIT(ROLE_CREDENTIALS) },
	{ "smtp_sasl_token_maps", ROLE_BIT(ROLE_CREDENTIALS) },
	{ "smtp_sasl_mechanism_filter", ROLE_BIT(ROLE_RELAY) },
	{ "smtp_header_checks", ROLE_BIT(ROLE_RELAY) },
	{ "smtp_mime_header_checks", ROLE_BIT(ROLE_RELAY) },
	{ "smtp_nested_header_checks", ROLE_BIT(ROLE_RELAY) },
	{ "smtp_body_checks", ROLE_BIT(ROLE_RELAY) },
	{ "relocated_maps", ROLES_ROUTE },
	{ "sender_dependent_relayhost_maps", ROLES_ROUTE },
	{ "sender_dependent_default_transport_maps", ROLES_ROUTE },
	{ "smtpd_relay_restrictions", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_client_restrictions", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_helo_restrictions", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_sender_restrictions", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_data_restrictions", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_end_of_data_restrictions", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_etrn_restrictions", ROLE_BIT(ROLE_SMTPD) },
	{ "local_recipient_maps", ROLE_BIT(ROLE_SMTPD) },
	{ "permit_mx_backup_networks", ROLE_BIT(ROLE_SMTPD) },
	{ "rbl_reply_maps", ROLE_BIT(ROLE_SMTPD) },
	{ "relay_clientcerts", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_command_filter", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_noop_commands", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_authorized_xclient_hosts", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_authorized_xforward_hosts", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_discard_ehlo_keyword_address_maps", ROLE_BIT(ROLE_SMTPD) },
	{ "smtp_discard_ehlo_keyword_address_maps", ROLE_BIT(ROLE_RELAY) },
	{ "smtp_pix_workaround_maps", ROLE_BIT(ROLE_RELAY) },
	{ "smtp_connection_cache_destinations", ROLE_BIT(ROLE_RELAY) },
	{ "smtpd_forbidden_commands", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_log_access_permit_actions", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_reject_filter_maps", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_reject_footer_maps", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_sasl_exceptions_networks", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_sasl_mechanism_filter", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_sender_login_maps", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_recipient_restrictions", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_forbid_bare_newline_exclusions", ROLE_BIT(ROLE_SMTPD) },
	{ "smtpd_client_event_limit_exceptions", ROLE_BIT(ROLE_GATE) |
	    ROLE_BIT(ROLE_SMTPD) },
	{ "address_verify_transport_maps", ROLE_BIT(ROLE_QMGR) },
	{ "address_verify_sender_dependent_relayhost_maps",
	    ROLE_BIT(ROLE_QMGR) },
	{ "address_verify_sender_dependent_default_transport_maps",
	    ROLE_BIT(ROLE_QMGR) },
	{ "transport_maps", ROLES_ROUTE | ROLE_BIT(ROLE_SHOWQ) },
	{ "smtpd_milter_maps", ROLE_BIT(ROLE_MILTER) },
	{ "milter_header_checks", ROLE_BIT(ROLE_MILTER) },
	{ "authorized_mailq_users", ROLE_BIT(ROLE_SHOWQ) },
	{ "authorized_flush_users", ROLE_BIT(ROLE_SHOWQ) },
};

struct naming {
	const char *config_dir;
	enum role_kind kind;
	conf_each_file *each;
	void *arg;
};

static void
files_tell(const char *file, void *arg)
{
	const struct naming *f = arg;

	f->each(file, f->kind, f->arg);
}

/* The files that one word of a list names. */
static void
files_of_word(struct view word, const char *config_dir,
    struct naming *f)
{
	char *path;

	while (word.n > 0 && word.p[0] == '!')
		word = view_from(word, 1);
	if (word.n > 0 && word.p[0] == '/') {
		path = mem_copy(word);
		files_tell(path, f);
		free(path);
	} else {
		table_spec_files(word, config_dir, files_tell,
		    f);
	}
}

static void
files_one(struct view file, const char *config_dir, enum role_kind kind,
    conf_each_file *each, void *arg)
{
	char *path = file.p[0] == '/' ? mem_copy(file) :
	    mem_printf("%s/%.*s", config_dir, VIEW_ARGS(file));

	each(path, kind, arg);
	free(path);
}

/* Restriction classes are parameters that the administrator named. */
static void
values_of_classes(const struct conf *cf, conf_each_value *each, void *arg)
{
	struct view rest = view_of(cf->smtpd_restriction_classes), word;
	const char *value;
	char *name;

	while ((word = conf_word(&rest)).n > 0) {
		name = mem_copy(word);
		value = conf_text(cf, word);
		if (value != NULL)
			each(name, value, arg);
		free(name);
	}
}

/* What policy classes of recipients have of their own. */
static void
values_of_policies(const struct conf *cf, conf_each_value *each, void *arg)
{
	struct view rest = view_of(cf->filter_policy_classes), word;
	const char *value;
	char *name;
	size_t i;

	while ((word = conf_word(&rest)).n > 0)
		for (i = 0; conf_class_params[i] != NULL; i++) {
			name = mem_printf("%.*s_%s", VIEW_ARGS(word),
			    conf_class_params[i]);
			value = conf_text(cf, view_of(name));
			if (value != NULL)
				each(name, value, arg);
			free(name);
		}
}

void
conf_file_values(const struct conf *cf, enum role_kind kind,
    conf_each_value *each, void *arg)
{
	const char *value;
	size_t i;

	for (i = 0; i < sizeof file_params / sizeof file_params[0]; i++) {
		if ((file_params[i].roles & ROLE_BIT(kind)) == 0)
			continue;
		value = conf_text(cf, view_of(file_params[i].name));
		if (value != NULL)
			each(file_params[i].name, value, arg);
	}
	if (kind == ROLE_SMTPD)
		values_of_classes(cf, each, arg);
	if (kind == ROLE_FILTER)
		values_of_policies(cf, each, arg);
}

/* The files with the parameters of tables behind connections. */
static void
files_of_tables(const struct conf *cf, enum role_kind kind,
    conf_each_file *each, void *arg)
{
	struct view rest = view_of(cf->lookup_tables), word, file;

	while ((word = view_word(&rest, " ")).n > 0) {
		file = table_remote_file(word);
		if (file.n > 0)
			files_one(file, "", kind, each, arg);
	}
}

static void
files_of_value(const char *name, const char *value, void *arg)
{
	struct naming *f = arg;
	struct view rest = view_of(value), word;

	(void)name;
	while ((word = conf_word(&rest)).n > 0)
		files_of_word(word, f->config_dir, f);
}

void
conf_files(const struct conf *cf, const char *config_dir, enum role_kind kind,
    conf_each_file *each, void *arg)
{
	struct naming f = { config_dir, kind, each, arg };

	conf_file_values(cf, kind, files_of_value, &f);
	if (kind == ROLE_SMTPD)
		tls_files(cf, config_dir, each, arg);
	if (kind == ROLE_RELAY)
		tls_relay_files(cf, config_dir, each, arg);
	/* By it the servers of policies are verified, too. */
	if (kind == ROLE_RELAY && cf->smtp_tls_sts)
		files_one(view_of(cf->smtp_tls_sts_CAfile), config_dir, kind,
		    each, arg);
	if (kind == ROLE_BOUNCE && cf->bounce_template_file[0] != '\0')
		files_one(view_of(cf->bounce_template_file), config_dir, kind,
		    each, arg);
	if (kind == ROLE_TABLE)
		files_of_tables(cf, kind, each, arg);
	if (kind == ROLE_LOOKUP || kind == ROLE_TABLE) {
		each("/etc/resolv.conf", kind, arg);
		each("/etc/hosts", kind, arg);
	}
}
