#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/smtpd_auth.h"
#include "proxy/smtpd_tls_context.h"
#include "rules/class.h"
#include "rules/override.h"
#include "rules/proxy_filter.h"
#include "rules/table_remote.h"

/* Is this EHLO keyword in list? */
static bool
ehlo_discarded(const char *list, const char *keyword)
{
	struct view rest = view_of(list), word;

	while ((word = conf_word(&rest)).n > 0)
		if (view_is_nocase(word, keyword))
			return true;
	return false;
}

/* Without BDAT nobody could send it. */
static bool
server_binarymime(const struct conf *cf, const char *list)
{
	return cf->smtpd_binarymime_enable &&
	    !ehlo_discarded(list, "chunking");
}

char *
server_ehlo_without(const struct server *sv, bool starttls, const char *list)
{
	const struct conf *cf = sv->cf;
	char size[32], limits[48];
	struct buf b, s;
	const struct {
		const char *keyword, *text;
		bool on;
	} lines[] = {
		{ "pipelining", "PIPELINING", true },
		{ "size", size, true },
		{ "vrfy", "VRFY", !cf->disable_vrfy_command },
		{ "etrn", "ETRN", true },
		{ "starttls", "STARTTLS", starttls },
		{ "enhancedstatuscodes", "ENHANCEDSTATUSCODES", true },
		{ "8bitmime", "8BITMIME", true },
		{ "dsn", "DSN", true },
		{ "smtputf8", "SMTPUTF8", cf->smtputf8_enable },
		{ "chunking", "CHUNKING", true },
		{ "binarymime", "BINARYMIME", server_binarymime(cf, list) },
		/* Without classes all recipients get one answer. */
		{ "prdr", "PRDR", cf->filter_policy_maps[0] != '\0' },
		/* Usual ones need not be told: clients do not try more. */
		{ "limits", limits, cf->smtpd_recipient_limit < 1000 },
	};
	char *reply;
	size_t i, last = 0;

	buf_init(&s, sizeof size - 1);
	(void)buf_puts(&s, "SIZE");
	if (cf->message_size_limit > 0)
		(void)buf_printf(&s, " %lld",
		    (long long)cf->message_size_limit);
	memcpy(size, s.p, s.n);
	size[s.n] = '\0';
	/* RFC 9422.  Messages of a session are not limited. */
	(void)snprintf(limits, sizeof limits, "LIMITS RCPTMAX=%lld",
	    (long long)cf->smtpd_recipient_limit);
	buf_free(&s);
	buf_init(&b, 4096);
	(void)buf_printf(&b, "250-%.255s\r\n", cf->myhostname);
	for (i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		if (!lines[i].on || ehlo_discarded(list, lines[i].keyword))
			continue;
		last = b.n;
		(void)buf_printf(&b, "250-%s\r\n", lines[i].text);
	}
	b.p[last + 3] = ' ';
	reply = mem_copy(buf_view(&b));
	buf_free(&b);
	return reply;
}

uint8_t
server_offers(const struct server *sv, const char *list)
{
	const struct conf *cf = sv->cf;
	const struct {
		const char *keyword;
		enum offer offer;
		bool on;
	} offers[] = {
		{ "smtputf8", OFFER_UTF8, cf->smtputf8_enable },
		{ "dsn", OFFER_DSN, true },
		{ "prdr", OFFER_PRDR, cf->filter_policy_maps[0] != '\0' },
		{ "chunking", OFFER_CHUNKING, true },
		{ "binarymime", OFFER_BINARYMIME,
		    server_binarymime(cf, list) },
		{ "starttls", OFFER_STARTTLS, true },
		{ "auth", OFFER_AUTH, true },
		{ "requiretls", OFFER_REQUIRETLS, cf->requiretls_enable },
	};
	uint8_t set = 0;
	size_t i;

	for (i = 0; i < sizeof offers / sizeof offers[0]; i++)
		if (offers[i].on && !ehlo_discarded(list, offers[i].keyword))
			set |= (uint8_t)offers[i].offer;
	return set;
}

/* For most it is the same; that is made once. */
static bool
server_keywords(struct server *sv, table_report *report, void *arg)
{
	const char *list = sv->cf->smtpd_discard_ehlo_keywords;

	sv->ehlo = view_of(server_ehlo_without(sv, false, list));
	sv->ehlo_starttls = view_of(server_ehlo_without(sv, true, list));
	sv->offers = server_offers(sv, list);
	return table_list_open(sv->cf->smtpd_discard_ehlo_keyword_address_maps,
	    sv->cf->config_directory, &sv->discards, report, arg);
}

/* Tables that commands are looked up in must answer at once. */
static bool
server_commands(struct server *sv, table_report *report, void *arg)
{
	const struct conf *cf = sv->cf;
	struct view filter = view_trim(view_of(cf->smtpd_command_filter));
	size_t before = table_remote_opened();

	sv->noop_commands = word_list_open("smtpd_noop_commands",
	    cf->smtpd_noop_commands, cf->config_directory, report, arg);
	sv->forbidden_commands = word_list_open("smtpd_forbidden_commands",
	    cf->smtpd_forbidden_commands, cf->config_directory, report, arg);
	if (filter.n > 0)
		sv->command_filter = table_open(filter, cf->config_directory,
		    report, arg);
	if (sv->noop_commands == NULL || sv->forbidden_commands == NULL ||
	    (filter.n > 0 && sv->command_filter == NULL))
		return false;
	if (table_remote_opened() == before)
		return true;
	report(true, "smtpd_command_filter, smtpd_noop_commands and "
	    "smtpd_forbidden_commands cannot have tables behind a connection",
	    arg);
	return false;
}

bool
server_load(struct server *sv, const struct conf *cf,
    const struct netaddr *own, size_t n_own, table_report *report, void *arg)
{

	*sv = (struct server){ .cf = cf, .free_bytes = UINT64_MAX };
	sv->bare_lf = conf_choice("smtpd_forbid_bare_newline",
	    view_of(cf->smtpd_forbid_bare_newline));
	sv->bare_lf_exclusions = net_list_open(
	    "smtpd_forbid_bare_newline_exclusions",
	    cf->smtpd_forbid_bare_newline_exclusions, cf->config_directory,
	    report, arg);
	sv->event_exceptions = net_list_open(
	    "smtpd_client_event_limit_exceptions",
	    cf->smtpd_client_event_limit_exceptions, cf->config_directory,
	    report, arg);
	sv->xforward_hosts = net_list_open("smtpd_authorized_xforward_hosts",
	    cf->smtpd_authorized_xforward_hosts, cf->config_directory,
	    report, arg);
	sv->xclient_hosts = net_list_open("smtpd_authorized_xclient_hosts",
	    cf->smtpd_authorized_xclient_hosts, cf->config_directory,
	    report, arg);
	sv->flush_domains = class_list_open(cf, "fast_flush_domains",
	    cf->fast_flush_domains, report, arg);
	sv->flags = override_flags(cf);
	sv->milters = (cf->smtpd_milters[0] != '\0' ||
	    cf->smtpd_milter_maps[0] != '\0') &&
	    (sv->flags & ENVELOPE_NO_MILTERS) == 0;
	sv->milter_default = (uint8_t)conf_choice("milter_default_action",
	    view_of(cf->milter_default_action));
	if (!override_filter_check(cf, report, arg) ||
	    !proxy_filter_check(cf, report, arg))
		return false;
	if (!auth_service_open(cf, !ehlo_discarded(
	    cf->smtpd_discard_ehlo_keywords, "auth"), &sv->auth,
	    report, arg) || !server_commands(sv, report, arg))
		return false;
	sv->result = policy_result_new();
	sv->policy = policy_open(cf, own, n_own, report, arg);
	if (!server_keywords(sv, report, arg))
		return false;
	sv->notify = (uint8_t)conf_choice("notify_classes",
	    view_of(cf->notify_classes));
	sv->local_clients = local_clients_open(cf, own, n_own, report, arg);
	return sv->local_clients != NULL && sv->bare_lf_exclusions != NULL &&
	    sv->xforward_hosts != NULL && sv->xclient_hosts != NULL &&
	    sv->event_exceptions != NULL && sv->flush_domains != NULL &&
	    sv->policy != NULL;
}

/* Ours, though const. */
static void
server_free_text(struct view text)
{
	char *p;

	memcpy(&p, &text.p, sizeof p);
	free(p);
}

void
server_free(struct server *sv)
{
	tls_server_free(&sv->tls);
	auth_service_free(&sv->auth);
	addr_list_free(&sv->bare_lf_exclusions);
	addr_list_free(&sv->xforward_hosts);
	addr_list_free(&sv->xclient_hosts);
	addr_list_free(&sv->noop_commands);
	addr_list_free(&sv->forbidden_commands);
	table_free(&sv->command_filter);
	addr_list_free(&sv->event_exceptions);
	addr_list_free(&sv->flush_domains);
	local_clients_free(&sv->local_clients);
	table_list_free(&sv->discards);
	policy_free(&sv->policy);
	policy_result_free(&sv->result);
	server_free_text(sv->ehlo);
	server_free_text(sv->ehlo_starttls);
	free(sv->sessions);
	*sv = (struct server){ 0 };
}

void
server_add(struct server *sv, struct session *s)
{
	uint32_t i, cap;

	if (sv->n == sv->cap) {
		cap = sv->cap * 2 + 16;
		ensure(cap < 2 * SESSIONS_MAX);
		sv->sessions = mem_resize(sv->sessions, cap,
		    sizeof *sv->sessions);
		memset(sv->sessions + sv->cap, 0,
		    (cap - sv->cap) * sizeof *sv->sessions);
		sv->free_hint = sv->cap;
		sv->cap = cap;
	}
	for (i = sv->free_hint; sv->sessions[i] != NULL; )
		i = i + 1 < sv->cap ? i + 1 : 0;
	sv->sessions[i] = s;
	sv->free_hint = i + 1 < sv->cap ? i + 1 : 0;
	sv->n++;
	s->no = i;
}

void
server_remove(struct server *sv, struct session *s)
{
	ensure(sv->sessions[s->no] == s);
	sv->sessions[s->no] = NULL;
	sv->n--;
	if (sv->current == s)
		sv->current = NULL;
}
