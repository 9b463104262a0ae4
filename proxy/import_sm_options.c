/*
 * define(`conf...'): options of sendmail as parameters.
 */
#include <stdio.h>

#include "lib/conf.h"
#include "lib/log.h"
#include "proxy/import_sm.h"

enum kind {
	DROP = 0,	/* why says so */
	HAVE,		/* it is so here without a setting; why says how */
	TEXT,		/* the value as it is */
	LIST,		/* words, blanks between them */
	NUMBER,
	POSITIVE,	/* 0 means no limit and so no setting */
	BOOLEAN,
	PERIOD,		/* bare numbers are unit */
	LATER		/* other functions look at it */
};

struct option {
	const char *name;
	enum kind kind;
	char unit;
	const char *to;		/* one or two parameters, a blank between */
	const char *why;	/* what is not the same; NULL: nothing */
};

#define LOAD	"a process here does not grow with the load; sessions and " \
	"messages have limits of their own"
#define RIGHTS	"rights of files are checked where they are opened"

static const struct option options[] = {
	{ "confMAX_MESSAGE_SIZE", NUMBER, 0, "message_size_limit", NULL },
	{ "confMAX_RCPTS_PER_MESSAGE", POSITIVE, 0, "smtpd_recipient_limit",
	    NULL },
	{ "confBAD_RCPT_THROTTLE", POSITIVE, 0, "smtpd_soft_error_limit",
	    "all errors of a session count, not those at RCPT alone" },
	{ "confMAX_HOP", NUMBER, 0, "hopcount_limit", NULL },
	{ "confDOUBLE_BOUNCE_ADDRESS", TEXT, 0, "2bounce_notice_recipient",
	    NULL },
	{ "confSOFT_BOUNCE", BOOLEAN, 0, "soft_bounce", NULL },
	{ "confFALLBACK_MX", TEXT, 0, "smtp_fallback_relay", NULL },
	{ "confAUTH_REALM", TEXT, 0, "smtpd_sasl_local_domain", NULL },
	{ "confTO_CONNECT", PERIOD, 'm', "smtp_connect_timeout", NULL },
	{ "confTO_HELO", PERIOD, 'm', "smtp_helo_timeout", NULL },
	{ "confTO_MAIL", PERIOD, 'm', "smtp_mail_timeout", NULL },
	{ "confTO_RCPT", PERIOD, 'm', "smtp_rcpt_timeout", NULL },
	{ "confTO_DATAINIT", PERIOD, 'm', "smtp_data_init_timeout", NULL },
	{ "confTO_DATABLOCK", PERIOD, 'm', "smtp_data_xfer_timeout", NULL },
	{ "confTO_DATAFINAL", PERIOD, 'm', "smtp_data_done_timeout", NULL },
	{ "confTO_RSET", PERIOD, 'm', "smtp_rset_timeout", NULL },
	{ "confTO_QUIT", PERIOD, 'm', "smtp_quit_timeout", NULL },
	{ "confTO_COMMAND", PERIOD, 'm', "smtpd_timeout", NULL },
	{ "confTO_LHLO", PERIOD, 'm', "lmtp_lhlo_timeout", NULL },
	{ "confTO_STARTTLS", PERIOD, 'm',
	    "smtp_starttls_timeout smtpd_starttls_timeout", NULL },
	{ "confTO_QUEUERETURN", PERIOD, 'd', "maximal_queue_lifetime", NULL },
	{ "confTO_QUEUERETURN_NORMAL", PERIOD, 'd', "maximal_queue_lifetime",
	    NULL },
	{ "confTO_QUEUERETURN_DSN", PERIOD, 'd', "bounce_queue_lifetime",
	    NULL },
	{ "confTO_QUEUEWARN", PERIOD, 'h', "delay_warning_time", NULL },
	{ "confTO_QUEUEWARN_NORMAL", PERIOD, 'h', "delay_warning_time",
	    NULL },
	{ "confMIN_QUEUE_AGE", PERIOD, 'm', "minimal_backoff_time",
	    "the first pause of a deferred message" },
	{ "confMAX_QUEUE_AGE", PERIOD, 'm', "maximal_backoff_time",
	    "pauses double up to this" },
	{ "confMCI_CACHE_TIMEOUT", PERIOD, 'm',
	    "smtp_connection_cache_time_limit", NULL },
	{ "confMILTER_MACROS_CONNECT", LIST, 0, "milter_connect_macros",
	    NULL },
	{ "confMILTER_MACROS_HELO", LIST, 0, "milter_helo_macros", NULL },
	{ "confMILTER_MACROS_ENVFROM", LIST, 0, "milter_mail_macros", NULL },
	{ "confMILTER_MACROS_ENVRCPT", LIST, 0, "milter_rcpt_macros", NULL },
	{ "confMILTER_MACROS_DATA", LIST, 0, "milter_data_macros", NULL },
	{ "confMILTER_MACROS_EOH", LIST, 0, "milter_end_of_header_macros",
	    NULL },
	{ "confMILTER_MACROS_EOM", LIST, 0, "milter_end_of_data_macros",
	    NULL },
	/* what is so anyway */
	{ "confTRY_NULL_MX_LIST", HAVE, 0, NULL, "a host without MX is asked "
	    "by its address" },
	{ "confDONT_EXPAND_CNAMES", HAVE, 0, NULL,
	    "aliases of hosts in addresses are not expanded" },
	{ "confUSE_MSP", HAVE, 0, NULL, "sendmail(1) never delivers itself" },
	{ "confBIND_OPTS", HAVE, 0, NULL, "a name server's failure is a "
	    "temporary one" },
	{ "confREQUIRES_DIR_FSYNC", HAVE, 0, NULL,
	    "what is promised is on the disk, names too" },
	{ "confSUPER_SAFE", HAVE, 0, NULL, "a message is on the disk before "
	    "250 is said; nothing less safe can be chosen" },
	/* others look at these */
	{ "confDOMAIN_NAME", LATER, 0, NULL, NULL },
	{ "confCW_FILE", LATER, 0, NULL, NULL },
	{ "confCR_FILE", LATER, 0, NULL, NULL },
	{ "confCT_FILE", LATER, 0, NULL, NULL },
	{ "confPRIVACY_FLAGS", LATER, 0, NULL, NULL },
	{ "confSMTP_LOGIN_MSG", LATER, 0, NULL, NULL },
	{ "confINPUT_MAIL_FILTERS", LATER, 0, NULL, NULL },
	{ "confCACERT_PATH", LATER, 0, NULL, NULL },
	{ "confCACERT", LATER, 0, NULL, NULL },
	{ "confSERVER_CERT", LATER, 0, NULL, NULL },
	{ "confSERVER_KEY", LATER, 0, NULL, NULL },
	{ "confCLIENT_CERT", LATER, 0, NULL, NULL },
	{ "confCLIENT_KEY", LATER, 0, NULL, NULL },
	{ "confAUTH_MECHANISMS", LATER, 0, NULL, NULL },
	{ "confAUTH_OPTIONS", LATER, 0, NULL, NULL },
	{ "SMART_HOST", LATER, 0, NULL, NULL },
	{ "MAIL_HUB", LATER, 0, NULL, NULL },
	{ "LOCAL_RELAY", LATER, 0, NULL, NULL },
	{ "LUSER_RELAY", LATER, 0, NULL, NULL },
	{ "MASQUERADE_AS", LATER, 0, NULL, NULL },
	{ "ALIAS_FILE", LATER, 0, NULL, NULL },
	/* no counterpart */
	{ "confCONNECTION_RATE_WINDOW_SIZE", DROP, 0, NULL,
	    "anvil_rate_time_unit is a minute by default" },
	{ "confTIME_ZONE", DROP, 0, NULL, "the system's time zone is used" },
	{ "_USE_ETC_MAIL_", HAVE, 0, NULL, "the directory that was read" },
	{ "confMIN_FREE_BLOCKS", DROP, 0, NULL, "counted in blocks of the "
	    "file system; queue_minfree is in bytes, and without it the "
	    "spool keeps 1.5 times message_size_limit free" },
	{ "confQUEUE_LA", DROP, 0, NULL, LOAD },
	{ "confREFUSE_LA", DROP, 0, NULL, LOAD },
	{ "confDELAY_LA", DROP, 0, NULL, LOAD },
	{ "confMAX_DAEMON_CHILDREN", DROP, 0, NULL, "there is no process for "
	    "each session; smtpd_session_limit bounds the sessions" },
	{ "confCONNECTION_RATE_THROTTLE", DROP, 0, NULL, "a limit of all "
	    "clients together; smtpd_client_connection_rate_limit is one of "
	    "each client" },
	{ "confMAX_HEADERS_LENGTH", DROP, 0, NULL, "a limit of all headers "
	    "together; header_size_limit is one of each header" },
	{ "confCOPY_ERRORS_TO", DROP, 0, NULL, "copies of notifications: add "
	    "bounce to notify_classes, and set bounce_notice_recipient" },
	{ "confDELIVERY_MODE", DROP, 0, NULL, "a message is delivered as soon "
	    "as it is in the queue; there is no other mode" },
	{ "confLOG_LEVEL", DROP, 0, NULL, "there is one level; smtpd -v in "
	    "master.cf says more" },
	{ "confTO_IDENT", DROP, 0, NULL, "clients are not asked by ident" },
	{ "confTO_", DROP, 0, NULL, "a time limit without a counterpart" },
	{ "confFORWARD_PATH", DROP, 0, NULL, "forward_path has other words; "
	    "by default it is $home/.forward+extension, $home/.forward" },
	{ "confDEF_USER_ID", DROP, 0, NULL, "default_privs is an account of "
	    "its own by default, which commands and files of aliases get" },
	{ "confTRUSTED_USER", DROP, 0, NULL, "files belong to root or "
	    "mail_owner" },
	{ "confRUN_AS_USER", DROP, 0, NULL, "each process has an account of "
	    "its own: mail_owner and others" },
	{ "confDONT_BLAME_SENDMAIL", DROP, 0, NULL, RIGHTS },
	{ "confUNSAFE_GROUP_WRITES", DROP, 0, NULL, RIGHTS },
	{ "confSAFE_FILE_ENV", DROP, 0, NULL, "allow_mail_to_files says which "
	    "mail may go to files" },
	{ "confDONT_PROBE_INTERFACES", DROP, 0, NULL, "names and addresses "
	    "of interfaces never become local domains here" },
	{ "confCONNECT_ONLY_TO", DROP, 0, NULL, "for tests; relayhost and "
	    "transport_maps say where mail goes" },
	{ "confDH_PARAMETERS", DROP, 0, NULL, "groups of RFC 7919 are used: "
	    "tls_ffdhe_auto_groups" },
	{ "confCRL", DROP, 0, NULL, "lists of revoked certificates are not "
	    "read" },
	{ "confCIPHER_LIST", DROP, 0, NULL, "tls_medium_cipherlist has the "
	    "ciphers; look whether the old list is still wanted" },
	{ "confSERVER_SSL_OPTIONS", DROP, 0, NULL, "see smtpd_tls_protocols "
	    "and tls_ssl_options" },
	{ "confCLIENT_SSL_OPTIONS", DROP, 0, NULL, "see smtp_tls_protocols "
	    "and tls_ssl_options" },
	{ "confTLS_SRV_OPTIONS", DROP, 0, NULL, "clients are not asked for "
	    "certificates; smtpd_tls_ask_ccert changes that" },
	{ "confAUTH_MAX_BITS", DROP, 0, NULL, "TLS protects the session" },
	{ "confDEF_AUTH_INFO", DROP, 0, NULL, "a file of sendmail's own form; "
	    "name user and password in smtp_sasl_password_maps" },
	{ "confRAND_FILE", DROP, 0, NULL, "the kernel has random numbers" },
	{ "confRECEIVED_HEADER", DROP, 0, NULL, "it is always the same" },
	{ "confMAILER_NAME", DROP, 0, NULL, "it is always MAILER-DAEMON" },
	{ "confALIAS_WAIT", DROP, 0, NULL, "tables build themselves" },
	{ "confREJECT_MSG", DROP, 0, NULL, "a text for access: write it into "
	    "the rows of the table" },
	{ "confRELAY_MSG", DROP, 0, NULL, "the text is \"Relay access "
	    "denied\"" },
	{ "confREJECT_LOG_INTERVAL", DROP, 0, NULL, LOAD },
	{ "confSINGLE_THREAD_DELIVERY", DROP, 0, NULL, "see "
	    "default_destination_concurrency_limit" },
	{ "confMAX_QUEUE_CHILDREN", DROP, 0, NULL, LOAD },
	{ "confMAX_RUNNERS_PER_QUEUE", DROP, 0, NULL, LOAD },
	{ "confMAX_QUEUE_RUN_SIZE", DROP, 0, NULL, LOAD },
	{ "confMCI_CACHE_SIZE", DROP, 0, NULL, "sessions are kept for a time, "
	    "not for a number" },
	{ "confHOST_STATUS_DIRECTORY", DROP, 0, NULL, "the queue manager "
	    "knows which hosts are down" },
	{ "confME_TOO", DROP, 0, NULL, "the sender of a list gets his mail" },
	{ "confNO_RCPT_ACTION", DROP, 0, NULL, "see "
	    "undisclosed_recipients_header and always_add_missing_headers" },
	{ "confSMTP_MAILER", DROP, 0, NULL, "relay speaks ESMTP where the "
	    "server does" },
	{ "confLOCAL_MAILER", DROP, 0, NULL, "see MAILER" },
	{ "confEIGHT_BIT_HANDLING", DROP, 0, NULL, "text is never converted "
	    "on its way in" },
	{ "confCOLON_OK_IN_ADDR", DROP, 0, NULL, "addresses are RFC 5321's" },
	{ "confMATCH_GECOS", DROP, 0, NULL, "names of persons are no "
	    "addresses" },
	{ "confUSERDB_SPEC", DROP, 0, NULL, "the user database is not read; "
	    "make virtual_alias_maps of it" },
	{ "confSERVICE_SWITCH_FILE", DROP, 0, NULL, "users are asked of the "
	    "system" },
	{ "confNICE_QUEUE_RUN", DROP, 0, NULL, LOAD },
	{ "confSHARED_MEMORY_KEY", DROP, 0, NULL, LOAD },
	{ "confMILTER_LOG_LEVEL", DROP, 0, NULL, "there is one level" },
	{ "confDIAL_DELAY", DROP, 0, NULL, "there is no dialling on demand" },
	{ "confQUEUE_", DROP, 0, NULL, "the queue is scheduled otherwise: "
	    "each destination in turn" },
	{ "confWORK_", DROP, 0, NULL, "the queue is scheduled otherwise: "
	    "each destination in turn" },
	{ "confLDAP_", DROP, 0, NULL, "see ldap_table(5)" },
	{ "UUCP_", DROP, 0, NULL, "an argument of the mailer uux; see the "
	    "service uucp in master.cf" },
	{ "BITNET_RELAY", DROP, 0, NULL, "there is no .BITNET" },
	{ "DECNET_RELAY", DROP, 0, NULL, "there is no .DECNET" },
	{ "FAX_RELAY", DROP, 0, NULL, "make a row .FAX of transport_maps" },
	{ "LOCAL_MAILER_", DROP, 0, NULL, "local(8) delivers; "
	    "mailbox_command names another program" },
	{ "LOCAL_SHELL_", DROP, 0, NULL, "see local_command_shell" },
	{ "PROCMAIL_MAILER_", DROP, 0, NULL, "see mailbox_command" },
	{ "SMTP_MAILER_", DROP, 0, NULL, "an argument of a mailer; see the "
	    "service smtp in master.cf" },
	{ "ESMTP_MAILER_", DROP, 0, NULL, "an argument of a mailer; see the "
	    "service smtp in master.cf" },
	{ "RELAY_MAILER_", DROP, 0, NULL, "an argument of a mailer; see the "
	    "service relay in master.cf" },
	{ "CYRUSV2_MAILER_", DROP, 0, NULL, "see local_transport" },
	{ "QUEUE_DIR", DROP, 0, NULL, "see queue_directory; the old queue "
	    "is drained by the old program" },
	{ "MSP_QUEUE_DIR", DROP, 0, NULL, "see queue_directory" },
	{ "STATUS_FILE", DROP, 0, NULL, "there are no statistics in a file" },
	{ "HELP_FILE", DROP, 0, NULL, "HELP says nothing" },
	{ "MAIL_SETTINGS_DIR", HAVE, 0, NULL, "the directory that was read" },
	{ "DATABASE_MAP_TYPE", HAVE, 0, NULL, "tables are read as text" },
	{ "confPID_FILE", DROP, 0, NULL, "it is in the queue directory" },
	{ "confCONTROL_SOCKET_NAME", DROP, 0, NULL, "see postern(1)" },
	{ "confHOSTS_FILE", DROP, 0, NULL, "names are asked of DNS" },
	{ "confSAVE_FROM_LINES", DROP, 0, NULL, "From_ lines are dropped" },
	{ "confALLOW_BOGUS_HELO", HAVE, 0, NULL, "names given with HELO are "
	    "not judged" },
	{ "confMUST_QUOTE_CHARS", DROP, 0, NULL, "quoting is RFC 5322's" },
	{ "confEBINDIR", DROP, 0, NULL, "where sendmail's programs are" },
};

/* A name that ends with _ stands for all that begin so. */
static const struct option *
option_find(struct view name)
{
	const struct option *found = NULL;
	size_t i, n;

	for (i = 0; i < sizeof options / sizeof options[0]; i++) {
		if (view_is(name, options[i].name))
			return &options[i];
		n = strlen(options[i].name);
		if (options[i].name[n - 1] == '_' && name.n > n &&
		    memcmp(name.p, options[i].name, n) == 0)
			found = &options[i];
	}
	return found;
}

/* "5d", "1h30m", "10" as seconds, or with the unit of a single part. */
static bool
option_period(struct view v, char unit, char out[32])
{
	int64_t total = 0, part, ms;
	char text[40], last = 's';
	unsigned parts = 0;
	size_t n;

	v = view_trim(v);
	if (v.n == 0)
		return false;
	while (v.n > 0) {
		for (n = 0; n < v.n && v.p[n] >= '0' && v.p[n] <= '9'; n++)
			;
		if (n == 0 || n > 9 || !conf_parse_int(view_head(v, n), 0,
		    999999999, &part))
			return false;
		last = n < v.n ? v.p[n] : unit;
		/* "2hours" */
		v = view_from(v, n);
		while (v.n > 0 && (v.p[0] < '0' || v.p[0] > '9'))
			v = view_from(v, 1);
		(void)snprintf(text, sizeof text, "%lld%c", (long long)part,
		    last);
		if (!conf_parse_time(view_of(text), 's', &ms))
			return false;
		total += ms;
		if (parts++ > 0)
			last = 's';
	}
	if (parts == 1)
		(void)snprintf(out, 32, "%lld%c", (long long)part, last);
	else
		(void)snprintf(out, 32, "%llds", (long long)(total / 1000));
	return true;
}

static bool
option_value(const struct option *o, struct view v, struct buf *out)
{
	struct view word;
	int64_t n;
	char text[32];
	bool yes;

	switch (o->kind) {
	case TEXT:
		return v.n > 0 && buf_putv(out, v);
	case LIST:
		while ((word = view_word(&v, ", \t")).n > 0)
			if (!buf_printf(out, "%s%.*s", out->n > 0 ? " " : "",
			    VIEW_ARGS(word)))
				return false;
		return true;
	case NUMBER:
	case POSITIVE:
		return conf_parse_int(v, 0, INT64_MAX, &n) &&
		    buf_printf(out, "%lld", (long long)n);
	case BOOLEAN:
		yes = v.n == 0 || strchr("tTyY1", v.p[0]) != NULL;
		return buf_puts(out, yes ? "yes" : "no");
	case PERIOD:
		return option_period(v, o->unit, text) && buf_puts(out, text);
	case DROP: case HAVE: case LATER: default:
		return true;
	}
}

static void
option_set(struct sm *s, struct sm_item *i, const struct option *o)
{
	struct view value = i->n_args > 0 ? i->arg[0] : view_of(""),
	    names = view_of(o->to), name;
	struct buf b;

	buf_init(&b, 4096);
	if (!option_value(o, value, &b))
		sm_note(s, i, IMPORT_UNKNOWN, "the value is not understood");
	else if (o->kind == POSITIVE && view_is(buf_view(&b), "0"))
		sm_note(s, i, IMPORT_CHANGED, "0 is no limit there; the "
		    "default of %s is one", o->to);
	else {
		while ((name = view_word(&names, " ")).n > 0)
			import_set(s->config, sm_text(s, name), i->at, "%s",
			    buf_cstr(&b));
		sm_note(s, i, o->why != NULL ? IMPORT_CHANGED :
		    IMPORT_CARRIED, "%s = %s%s%s", o->to, buf_cstr(&b),
		    o->why != NULL ? ": " : "", o->why != NULL ? o->why : "");
	}
	buf_free(&b);
}

/* -- those with words of their own ----------------------------------------- */

static void
option_privacy_word(struct sm *s, struct sm_item *i, struct view w)
{
	static const struct {
		const char *flag, *name, *value;
	} flags[] = {
		{ "novrfy", "disable_vrfy_command", "yes" },
		{ "needmailhelo", "smtpd_helo_required", "yes" },
		{ "noetrn", "smtpd_etrn_restrictions", "reject" },
		{ "restrictmailq", "authorized_mailq_users", "root" },
		{ "restrictqrun", "authorized_flush_users", "root" },
		{ "noreceipts", "smtpd_discard_ehlo_keywords", "dsn" },
	};
	static const char *const have[] = { "public", "noexpn",
		"needexpnhelo", "needvrfyhelo", "noverb", "restrictexpand",
		"authwarnings" };
	size_t k;

	for (k = 0; k < sizeof flags / sizeof flags[0]; k++)
		if (view_is_nocase(w, flags[k].flag)) {
			import_set(s->config, flags[k].name, i->at, "%s",
			    flags[k].value);
			sm_note(s, i, IMPORT_CARRIED, "%s: %s = %s",
			    flags[k].flag, flags[k].name, flags[k].value);
			return;
		}
	for (k = 0; k < sizeof have / sizeof have[0]; k++)
		if (view_is_nocase(w, have[k])) {
			sm_note(s, i, k == 6 ? IMPORT_DROPPED :
			    IMPORT_CARRIED, "%s: %s", have[k], k == 6 ?
			    "headers X-Authentication-Warning are not made" :
			    "there is nothing to switch off");
			return;
		}
	sm_note(s, i, IMPORT_DROPPED, "%.*s: no counterpart", VIEW_ARGS(w));
}

static void
option_privacy(struct sm *s)
{
	struct sm_item *i = sm_find(&s->defines, "confPRIVACY_FLAGS");
	static const char *const away[] = { "noexpn", "novrfy",
		"needmailhelo", "noverb", "authwarnings" };
	struct view rest, w;
	size_t k;

	if (i == NULL)
		return;
	rest = i->arg[0];
	while ((w = view_word(&rest, ", \t\n")).n > 0) {
		if (!view_is_nocase(w, "goaway")) {
			option_privacy_word(s, i, w);
			continue;
		}
		for (k = 0; k < sizeof away / sizeof away[0]; k++)
			option_privacy_word(s, i, view_of(away[k]));
	}
}

/* "$j Sendmail $v/$Z; $b": $j is our name, what is behind other macros
 * would have nothing in it. */
static void
option_banner(struct sm *s)
{
	struct sm_item *i = sm_find(&s->defines, "confSMTP_LOGIN_MSG");
	struct view v;
	struct buf b;
	bool other = false;

	if (i == NULL)
		return;
	buf_init(&b, 1024);
	v = i->arg[0];
	if (!view_starts_nocase(v, "$j"))
		(void)buf_puts(&b, "$myhostname ");
	while (v.n > 0) {
		if (v.p[0] != '$' || v.n == 1)
			(void)buf_putc(&b, v.p[0]);
		else {
			if (v.p[1] == 'j')
				(void)buf_puts(&b, "$myhostname ESMTP");
			else
				other = true;
			v = view_from(v, 1);
		}
		v = view_from(v, 1);
	}
	import_set(s->config, "smtpd_banner", i->at, "%s", buf_cstr(&b));
	sm_note(s, i, other ? IMPORT_CHANGED : IMPORT_CARRIED,
	    "smtpd_banner%s", other ? ", without macros like $v and $b" : "");
	buf_free(&b);
}

void
import_sm_options(struct sm *s)
{
	const struct option *o;
	struct sm_item *i;

	option_privacy(s);
	option_banner(s);
	for (i = s->defines.first; i != NULL; i = i->next) {
		if (i->used)
			continue;
		if (sm_find(&s->defines, sm_text(s, i->name)) != i) {
			sm_note(s, i, IMPORT_DROPPED,
			    "defined again further down");
			continue;
		}
		o = option_find(i->name);
		if (o == NULL || o->kind == LATER)
			continue;
		if (o->kind == DROP)
			sm_note(s, i, IMPORT_DROPPED, "%s", o->why);
		else if (o->kind == HAVE)
			sm_note(s, i, IMPORT_CARRIED, "%s", o->why);
		else
			option_set(s, i, o);
	}
}
