#include <stdlib.h>
#include <unistd.h>

#include "lib/conf_source.h"
#include "lib/mem.h"
#include "lib/table_program.h"
#include "lib/tls_library.h"
#include "proxy/postern.h"
#include "proxy/relay_tls_context.h"
#include "proxy/smtpd_tls_context.h"
#include "rules/addr_list.h"
#include "rules/condition_policy.h"
#include "rules/local_clients.h"
#include "rules/milters.h"
#include "rules/override.h"
#include "rules/pattern_set.h"
#include "rules/policy.h"
#include "rules/proxy_filter.h"
#include "rules/rewrite.h"
#include "rules/route.h"
#include "rules/table.h"
#include "rules/table_remote.h"
#include "rules/verdict.h"

const struct reporter postern_reporter = { log_report, NULL };

/* -- tables ---------------------------------------------------------------- */

struct result_check {
	const struct table *table;
	const struct reporter *r;
	enum verdict_dialect dialect;
	bool ok;
};

/* Would header_checks know what to do with this right-hand side? */
static void
check_result(struct view result, unsigned line, void *arg)
{
	struct result_check *c = arg;
	struct verdict v;
	const char *error;

	if (verdict_parse(result, c->dialect, &v, &error))
		return;
	report_error(c->r, "%s:%u: %s: %s", table_origin(c->table), line,
	    error, log_safe(result));
	c->ok = false;
}

static bool
check_maps(const char *maps, const char *config_dir,
    enum verdict_dialect dialect, const struct reporter *r)
{
	struct result_check c = { .r = r, .dialect = dialect, .ok = true };
	struct table_list l;
	size_t i;

	if (!table_list_open(maps, config_dir, &l, r->fn, r->arg))
		return false;
	for (i = 0; i < l.n; i++) {
		c.table = l.list[i];
		if (dialect != DIALECT_NONE)
			table_each_result(c.table, check_result, &c);
	}
	table_list_free(&l);
	return c.ok;
}

/* Does filter_policy_maps give a class that there is? */
struct class_check {
	const struct conf *cf;
	const struct table *table;
	const struct reporter *r;
	bool ok;
};

static void
check_class(struct view result, unsigned line, void *arg)
{
	struct class_check *c = arg;
	struct view rest = view_of(c->cf->filter_policy_classes), word;

	result = view_trim(result);
	if (view_is_nocase(result, "default") ||
	    view_is_nocase(result, "dunno"))
		return;
	while ((word = conf_word(&rest)).n > 0)
		if (view_eq(word, result))
			return;
	c->ok = false;
	report_error(c->r, "%s:%u: no such class in filter_policy_classes: "
	    "\"%.*s\"", table_origin(c->table), line,
	    VIEW_ARGS(view_head(result, 200)));
}

static bool
class_param_is_maps(const char *name)
{
	return view_ends_nocase(view_of(name), view_of("header_checks")) ||
	    view_ends_nocase(view_of(name), view_of("body_checks"));
}

static enum verdict_dialect
class_param_dialect(const char *name)
{
	return strcmp(name, "decoded_body_checks") == 0 ? DIALECT_DECODED :
	    DIALECT_CHECKS;
}

static bool
check_policies(const struct conf *cf, const char *config_dir,
    const struct reporter *r)
{
	struct view rest = view_of(cf->filter_policy_classes), word;
	struct class_check c = { cf, NULL, r, true };
	struct table_list l = { .n = 0 };
	const char *maps;
	char *name;
	size_t i;

	if (!table_list_open(cf->filter_policy_maps, config_dir, &l, r->fn,
	    r->arg))
		return false;
	for (i = 0; i < l.n; i++) {
		c.table = l.list[i];
		table_each_result(c.table, check_class, &c);
	}
	table_list_free(&l);
	while ((word = conf_word(&rest)).n > 0)
		for (i = 0; conf_class_params[i] != NULL; i++) {
			name = mem_printf("%.*s_%s", VIEW_ARGS(word),
			    conf_class_params[i]);
			maps = class_param_is_maps(conf_class_params[i]) ?
			    conf_text(cf, view_of(name)) : NULL;
			if (maps != NULL)
				c.ok = check_maps(maps, config_dir,
				    class_param_dialect(conf_class_params[i]),
				    r) && c.ok;
			free(name);
		}
	return c.ok;
}

/* mime_header_checks is $header_checks as a rule: look only once. */
static bool
check_filter(const struct conf *cf, const char *config_dir,
    const struct reporter *r)
{
	const char *const maps[] = { cf->header_checks,
		cf->mime_header_checks, cf->nested_header_checks,
		cf->body_checks, cf->decoded_header_checks };
	struct condition_policy policy;
	bool ok = condition_policy_get(cf, &policy, r->fn, r->arg);
	size_t i, k;

	for (i = 0; i < sizeof maps / sizeof maps[0]; i++) {
		for (k = 0; k < i; k++)
			if (strcmp(maps[i], maps[k]) == 0)
				break;
		if (k == i)
			ok = check_maps(maps[i], config_dir,
			    DIALECT_CHECKS, r) && ok;
	}
	ok = check_maps(cf->attachment_checks, config_dir,
	    DIALECT_ATTACHMENTS, r) && ok;
	ok = check_maps(cf->decoded_body_checks, config_dir,
	    DIALECT_DECODED, r) && ok;
	return check_policies(cf, config_dir, r) && ok;
}

/* What is asked while a message is sent. */
static bool
check_relay(const struct conf *cf, const char *config_dir,
    const struct reporter *r)
{
	bool ok = check_maps(cf->smtp_header_checks, config_dir,
	    DIALECT_DELIVERY, r);

	ok = check_maps(cf->smtp_mime_header_checks, config_dir,
	    DIALECT_DELIVERY, r) && ok;
	ok = check_maps(cf->smtp_nested_header_checks, config_dir,
	    DIALECT_DELIVERY, r) && ok;
	return check_maps(cf->smtp_body_checks, config_dir,
	    DIALECT_DELIVERY, r) && ok;
}

/* What opens tables of its own; reported as it reports. */
static bool
check_rewrite(const struct conf *cf, bool generic, const struct reporter *r)
{
	struct rewrite *w = generic ?
	    rewrite_open_generic(cf, NULL, 0, r->fn, r->arg) :
	    rewrite_open(cf, NULL, 0, r->fn, r->arg);
	bool ok = w != NULL;

	rewrite_free(&w);
	return ok;
}

static bool
check_router(const struct conf *cf, const struct reporter *r)
{
	struct router *w = router_open(cf, NULL, 0, r->fn, r->arg);
	bool ok = w != NULL;
	struct conf probes;

	router_free(&w);
	if (!router_conf_probes(cf, &probes))
		return ok;
	w = router_open(&probes, NULL, 0, r->fn, r->arg);
	ok = w != NULL && ok;
	router_free(&w);
	return ok;
}

/* The lists that are smtpd's own. */
static bool
check_words(const struct conf *cf, const struct reporter *r)
{
	const struct {
		const char *name, *text;
		struct addr_list *(*open)(const char *what,
		    const char *patterns, const char *config_dir,
		    table_report *report, void *arg);
	} lists[] = {
		{ "smtpd_forbid_bare_newline_exclusions",
		    cf->smtpd_forbid_bare_newline_exclusions, net_list_open },
		{ "smtpd_sasl_exceptions_networks",
		    cf->smtpd_sasl_exceptions_networks, net_list_open },
		{ "smtpd_sasl_mechanism_filter",
		    cf->smtpd_sasl_mechanism_filter, word_list_open },
		{ "smtpd_client_event_limit_exceptions",
		    cf->smtpd_client_event_limit_exceptions, net_list_open },
		{ "smtpd_noop_commands", cf->smtpd_noop_commands,
		    word_list_open },
		{ "smtpd_forbidden_commands", cf->smtpd_forbidden_commands,
		    word_list_open },
	};
	struct addr_list *l;
	bool ok = true;
	size_t i;

	for (i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		l = lists[i].open(lists[i].name, lists[i].text,
		    cf->config_directory, r->fn, r->arg);
		ok = l != NULL && ok;
		addr_list_free(&l);
	}
	ok = check_maps(cf->smtpd_discard_ehlo_keyword_address_maps,
	    cf->config_directory, DIALECT_NONE, r) && ok;
	/* Its levels are looked at where there is TLS. */
	ok = check_maps(cf->smtpd_tls_loglevel_maps, cf->config_directory,
	    DIALECT_NONE, r) && ok;
	ok = check_maps(cf->smtp_pix_workaround_maps, cf->config_directory,
	    DIALECT_NONE, r) && ok;
	ok = check_maps(cf->smtp_discard_ehlo_keyword_address_maps,
	    cf->config_directory, DIALECT_NONE, r) && ok;
	return check_maps(cf->smtpd_command_filter, cf->config_directory,
	    DIALECT_NONE, r) && ok;
}

/* Certificates, what keys they are of, and logins. */
static bool
check_relay_secrets(const struct conf *cf, const struct reporter *r)
{
	struct relay_tls_shared *ts;
	bool ok = relay_tls_open(cf, &ts, r->fn, r->arg);

	relay_tls_close(&ts);
	/* credentials opens them, where it runs. */
	ok = check_maps(cf->smtp_sasl_password_maps, cf->config_directory,
	    DIALECT_NONE, r) && ok;
	return check_maps(cf->smtp_sasl_token_maps, cf->config_directory,
	    DIALECT_NONE, r) && ok;
}

static bool
check_tls(const struct team *t, const struct reporter *r)
{
	struct tls_server *ts;
	bool ok = tls_server_open(t->cf, t->entry->name, &ts, r->fn, r->arg);

	tls_server_free(&ts);
	return ok;
}

/* What a role does that speaks TLS, before all else. */
static bool
check_library(const struct team *t, const struct reporter *r)
{
	const enum role_kind kind = t->entry->kind;

	return (kind != ROLE_SMTPD && kind != ROLE_RELAY &&
	    kind != ROLE_STS && kind != ROLE_TLSRPT) ||
	    tls_library_check(t->cf, r->fn, r->arg);
}

static bool
check_smtpd(const struct conf *cf, const char *config_dir,
    const struct reporter *r)
{
	struct local_clients *clients = local_clients_open(cf, NULL, 0, r->fn,
	    r->arg);
	bool opened = clients != NULL, ok;
	struct policy *p;

	ok = check_maps(cf->relay_recipient_maps, config_dir, DIALECT_NONE,
	    r);
	ok = override_filter_check(cf, r->fn, r->arg) &&
	    proxy_filter_check(cf, r->fn, r->arg) && check_words(cf, r) && ok;
	/* It opens mynetworks, mydestination and relay_domains too. */
	p = policy_open(cf, NULL, 0, r->fn, r->arg);
	ok = p != NULL && policy_lint(p, r->fn, r->arg) && ok;
	policy_free(&p);
	local_clients_free(&clients);
	return ok && opened;
}

/* -- samples --------------------------------------------------------------- */

static void
check_silent(bool error, const char *text, void *arg)
{
	(void)error;
	(void)text;
	(void)arg;
}

struct samples {
	const struct conf *cf;
	const struct reporter *r;
	char **seen;
	size_t n;
	bool ok;
};

static void
samples_table(struct samples *s, struct view spec)
{
	struct table *t;
	size_t i;

	for (i = 0; i < s->n; i++)
		if (view_is(spec, s->seen[i]))
			return;
	s->seen = mem_resize(s->seen, s->n + 1, sizeof *s->seen);
	s->seen[s->n++] = mem_copy(spec);
	/* What cannot be opened was reported where it is used. */
	t = table_open(spec, s->cf->config_directory, check_silent, NULL);
	if (t != NULL)
		s->ok = table_check_samples(t, s->r->fn, s->r->arg) && s->ok;
	table_free(&t);
}

static void
samples_words(struct samples *s, const char *text)
{
	struct view rest = view_of(text), word;

	while ((word = conf_word(&rest)).n > 0)
		if (table_has_samples(word, s->cf->config_directory))
			samples_table(s, word);
}

/* All tables that a parameter or a class names. */
static bool
check_samples(const struct conf *cf, const struct reporter *r)
{
	struct samples s = { .cf = cf, .r = r, .ok = true };
	struct view rest = view_of(cf->smtpd_restriction_classes), word;
	const char *text;
	size_t i;

	for (i = 0; i < conf_params_count; i++)
		if (conf_params[i].kind == CONF_STR && (text = conf_text(cf,
		    view_of(conf_params[i].name))) != NULL)
			samples_words(&s, text);
	while ((word = conf_word(&rest)).n > 0)
		if ((text = conf_text(cf, word)) != NULL)
			samples_words(&s, text);
	for (i = 0; i < s.n; i++)
		free(s.seen[i]);
	free(s.seen);
	return s.ok;
}

/* -- places ---------------------------------------------------------------- */

/*
 * What reads a value knows the parameter's name only: here it gets its line.
 */
struct places {
	struct conf_source *source;
	char *file;
	const struct reporter *to;
};

static void
places_open(struct places *pl, const char *config_dir,
    const struct reporter *to)
{
	struct conf_reporter quiet = { 0 };
	struct buf text;

	pl->to = to;
	pl->file = mem_printf("%s/main.cf", config_dir);
	pl->source = conf_source_new(pl->file);
	buf_init(&text, CONF_READ_MAX);
	if (conf_read_file(pl->file, &text))
		conf_source_read(pl->source, buf_view(&text), &quiet);
	buf_free(&text);
}

static void
places_report(bool error, const char *text, void *arg)
{
	struct places *pl = arg;
	struct view v = view_of(text), name;
	const struct conf_setting *s;
	char *told;

	if (view_starts_nocase(v, "main.cf: "))
		v = view_from(v, 9);
	name = view_head(v, view_find(v, ':'));
	if (view_starts_nocase(v, "in parameter "))
		name = view_head(view_from(v, 13), view_find(view_from(v, 13),
		    ' '));
	s = conf_source_find(pl->source, name);
	if (s == NULL || s->line == 0) {
		pl->to->fn(error, text, pl->to->arg);
		return;
	}
	told = mem_printf("%s:%u: %.*s", pl->file, s->line, VIEW_ARGS(v));
	pl->to->fn(error, told, pl->to->arg);
	free(told);
}

/* The parameters of tables behind connections: their programs read them,
 * and say on standard error what is wrong.  No server is asked. */
static bool
check_remote(const struct plan_entry *e, const struct conf *cf,
    const char *config_dir, const struct reporter *r)
{
	struct view rest = view_of(cf->lookup_tables), word;
	struct table_program p;
	bool ok = true, good;
	char *table;

	while ((word = view_word(&rest, " ")).n > 0) {
		table = mem_copy(word);
		good = table_program_start(&p, cf->daemon_directory,
		    table_remote_type(e->service), table, config_dir);
		good = table_program_end(&p) && good;
		if (!good)
			report_error(r, "%s: cannot be opened", table);
		ok = ok && good;
		free(table);
	}
	return ok;
}

/* Would the milter role know what to do with this list? */
static bool
check_milter_list(const struct conf *cf, const char *parameter,
    const char *list, const struct reporter *r)
{
	struct milter_specs specs;

	if (!milter_specs_open(cf, parameter, list, &specs, r->fn, r->arg))
		return false;
	milter_specs_free(&specs);
	return true;
}

static bool
check_milters(const struct conf *cf, const char *config_dir,
    const struct reporter *r)
{
	bool ok = check_milter_list(cf, "non_smtpd_milters",
	    cf->non_smtpd_milters, r);

	ok = check_maps(cf->smtpd_milter_maps, config_dir, DIALECT_NONE,
	    r) && ok;
	return check_maps(cf->milter_header_checks, config_dir,
	    DIALECT_CHECKS, r) && ok;
}

static bool
check_local(const struct conf *cf, const char *config_dir,
    const struct reporter *r)
{
	const char *const maps[] = { cf->virtual_mailbox_maps,
		cf->virtual_uid_maps, cf->virtual_gid_maps,
		cf->mailbox_transport_maps, cf->mailbox_command_maps,
		cf->fallback_transport_maps };
	bool ok = postern_check_aliases(cf, config_dir, r);
	size_t i;

	for (i = 0; i < sizeof maps / sizeof maps[0]; i++)
		ok = check_maps(maps[i], config_dir, DIALECT_NONE, r) && ok;
	return ok;
}

bool
postern_check_tables(const struct config *c, const char *config_dir,
    const struct reporter *to)
{
	struct places places;
	const struct reporter here = { places_report, &places }, *r = &here;
	const struct conf *cf;
	bool ok = true;
	size_t i;

	places_open(&places, config_dir, to);
	for (i = 0; i < c->n_teams; i++) {
		cf = c->teams[i].cf;
		ok = check_library(&c->teams[i], r) && ok;
		switch ((int)c->teams[i].entry->kind) {
		case ROLE_FILTER:
			ok = check_filter(cf, config_dir, r) && ok;
			ok = check_rewrite(cf, false, r) && ok;
			break;
		case ROLE_SMTPD:
			ok = check_smtpd(cf, config_dir, r) && ok;
			ok = check_milter_list(cf, "smtpd_milters",
			    cf->smtpd_milters, r) && ok;
			ok = check_tls(&c->teams[i], r) && ok;
			break;
		case ROLE_QMGR:
			ok = check_maps(cf->transport_maps, config_dir,
			    DIALECT_NONE, r) && ok;
			ok = check_router(cf, r) && ok;
			break;
		case ROLE_MILTER:
			ok = check_milters(cf, config_dir, r) && ok;
			break;
		case ROLE_PICKUP:
			ok = override_filter_check(cf, r->fn, r->arg) && ok;
			break;
		case ROLE_RELAY:
			ok = check_rewrite(cf, true, r) && ok;
			ok = check_relay(cf, config_dir, r) && ok;
			ok = check_relay_secrets(cf, r) && ok;
			break;
		case ROLE_LOCAL:
			ok = check_local(cf, config_dir, r) && ok;
			ok = postern_check_reach(c, cf, r) && ok;
			break;
		case ROLE_TABLE:
			ok = check_remote(c->teams[i].entry, cf, config_dir,
			    r) && ok;
			break;
		default:
			break;
		}
		ok = check_samples(cf, r) && ok;
	}
	conf_source_free(&places.source);
	free(places.file);
	return ok;
}

/* -- all of it ------------------------------------------------------------- */

struct config *
postern_check_all(struct postern *p, bool full)
{
	struct reporter all = postern_reporter;
	const struct reporter errors = { report_errors_only, &all };
	const struct reporter *r = full ? &all : &errors;
	struct master m = { .config_dir = p->config_dir };
	struct config *c;
	bool ok = true;

	setup_check_permissions(p->config_dir, &all);
	c = config_load(&m, r);
	if (c == NULL)
		return NULL;
	if (geteuid() == 0)
		ok = setup_check_accounts(c->cf, r);
	ok = setup_check_programs(c->cf, c->plan, r) && ok;
	if (full && ok)
		ok = setup_directories(c->cf, r);
	ok = postern_check_tables(c, p->config_dir, r) && ok;
	if (!ok)
		config_free(&c);
	return c;
}

int
postern_check(struct postern *p, int argc, char **argv)
{
	struct config *c;

	(void)argv;
	if (argc != 1)
		fatal("usage: postern check");
	table_check_only();
	/* To report what cannot be asked together; nothing is kept. */
	table_pattern_sets(pattern_sets(), NULL, NULL);
	c = postern_check_all(p, true);
	if (c == NULL)
		return 1;
	postern_check_commands(c->cf, p->config_dir, &postern_reporter);
	config_free(&c);
	return 0;
}
