#include <stdio.h>
#include <stdlib.h>

#include "lib/conf_source.h"
#include "lib/mem.h"
#include "proxy/master_plan.h"
#include "rules/table_remote.h"

#define TABLES_MAX	65536u	/* bytes of names, of one type */

struct tables {
	struct buf *names;	/* by service: "lookup_tables=a b" */
	size_t n;
	bool full;
};

static void
tables_name(uint32_t service, struct view table, void *arg)
{
	struct tables *t = arg;
	struct buf *b = &t->names[service];
	struct view rest = buf_view(b), word;

	if (b->n == 0)
		(void)buf_puts(b, "lookup_tables=");
	rest = view_from(buf_view(b), strlen("lookup_tables="));
	while ((word = view_word(&rest, " ")).n > 0)
		if (view_eq(word, table))
			return;
	if (!buf_putc(b, ' ') || !buf_putv(b, table))
		t->full = true;
}

/* -- where nobody can wait ------------------------------------------------- */

/*
 * What is looked into where there is no time for an answer: for each line of
 * a message, for a connection that is counted, by commands.
 */
static const char *const at_once[] = {
	"authorized_flush_users",
	"authorized_mailq_users",
	"authorized_submit_users",
	"body_checks",
	"decoded_body_checks",
	"decoded_header_checks",
	"fast_flush_domains",
	"header_checks",
	"lmtp_connection_cache_destinations",
	"local_header_rewrite_clients",
	"mime_header_checks",
	"mynetworks",
	"nested_header_checks",
	"smtp_body_checks",
	"smtp_connection_cache_destinations",
	"smtp_discard_ehlo_keyword_address_maps",
	"smtp_header_checks",
	"smtp_mime_header_checks",
	"smtp_nested_header_checks",
	"smtp_pix_workaround_maps",
	"smtp_sasl_mechanism_filter",
	"smtp_tls_loglevel_maps",
	"smtpd_authorized_xclient_hosts",
	"smtpd_authorized_xforward_hosts",
	"smtpd_client_event_limit_exceptions",
	"smtpd_command_filter",
	"smtpd_discard_ehlo_keyword_address_maps",
	"smtpd_forbid_bare_newline_exclusions",
	"smtpd_forbidden_commands",
	"smtpd_noop_commands",
	"smtpd_reject_filter_maps",
	"smtpd_reject_footer_maps",
	"smtpd_sasl_exceptions_networks",
	"smtpd_sasl_mechanism_filter",
	"smtpd_tls_loglevel_maps",
};

struct misplaced {
	const struct reporter *r;
	const char *file;
	unsigned line;		/* 0: not known */
	const char *name;
	bool found;
};

static void
misplaced_table(uint32_t service, struct view table, void *arg)
{
	struct misplaced *m = arg;
	char place[16] = "";

	(void)service;
	if (m->line > 0)
		(void)snprintf(place, sizeof place, ":%u", m->line);
	report_error(m->r, "%s%s: %s: %.*s: a table behind a connection "
	    "cannot be asked here", m->file, place, m->name,
	    VIEW_ARGS(view_head(table, 200)));
	m->found = true;
}

/* A value that is another parameter's by default is told with that one. */
static bool
misplaced_conf(const struct conf *cf, const struct reporter *r)
{
	struct misplaced m = { .r = r, .file = cf->source->origin };
	const struct conf_setting *s;
	size_t i;

	for (i = 0; i < sizeof at_once / sizeof at_once[0]; i++) {
		m.name = at_once[i];
		s = conf_source_find(cf->source, view_of(m.name));
		if (s == NULL || s->line == 0)
			continue;
		m.line = s->line;
		table_remote_names(view_of(conf_text(cf, s->name)),
		    misplaced_table, &m);
	}
	return m.found;
}

static bool
misplaced_override(const struct conf *cf, const struct service *s,
    const char *override, const struct reporter *r)
{
	struct view name = view_trim(view_head(view_of(override),
	    view_find(view_of(override), '=')));
	struct misplaced m = { .r = r };
	size_t i;

	for (i = 0; i < sizeof at_once / sizeof at_once[0]; i++)
		if (view_is(name, at_once[i]))
			break;
	if (i == sizeof at_once / sizeof at_once[0])
		return false;
	m.name = at_once[i];
	m.file = "master.cf";
	m.line = s->line;
	table_remote_names(view_of(conf_expand(cf, strchr(override, '=') +
	    1)), misplaced_table, &m);
	return m.found;
}

static bool
misplaced_any(const struct conf *cf, const struct service_table *s,
    const struct reporter *r)
{
	bool found = misplaced_conf(cf, r);
	size_t i, k;

	for (i = 0; i < s->n; i++)
		for (k = 0; k < s->list[i].n_overrides; k++)
			if (strchr(s->list[i].overrides[k], '=') != NULL &&
			    misplaced_override(cf, &s->list[i],
			    s->list[i].overrides[k], r))
				found = true;
	return found;
}

/* -- all tables ------------------------------------------------------------ */

/* All values: a table may be named in a parameter that the user made. */
static void
tables_of_conf(struct tables *t, const struct conf *cf)
{
	const char *text;
	size_t i;

	for (i = 0; i < cf->source->n; i++) {
		text = conf_text(cf, cf->source->list[i].name);
		if (text != NULL)
			table_remote_names(view_of(text), tables_name, t);
	}
}

static void
tables_of_services(struct tables *t, const struct conf *cf,
    const struct service_table *s)
{
	const char *value;
	size_t i, k;

	for (i = 0; i < s->n; i++)
		for (k = 0; k < s->list[i].n_overrides; k++) {
			value = strchr(s->list[i].overrides[k], '=');
			if (value != NULL)
				table_remote_names(view_of(conf_expand(cf,
				    value + 1)), tables_name, t);
		}
}

bool
plan_add_tables(struct plan *p, const struct conf *cf,
    const struct service_table *s, const struct reporter *r)
{
	struct tables t = { .n = 0 };
	struct plan_entry *e;
	uint32_t i;

	while (table_remote_type((uint32_t)t.n + 1) != NULL)
		t.n++;
	t.names = mem_array(t.n + 1, sizeof *t.names);
	for (i = 0; i <= t.n; i++)
		buf_init(&t.names[i], TABLES_MAX);
	tables_of_conf(&t, cf);
	tables_of_services(&t, cf, s);
	if (t.full)
		report_error(r, "too many tables behind connections");
	p->tables = mem_array(t.n + 1, sizeof *p->tables);
	p->n_tables = t.n + 1;
	for (i = 1; i <= t.n; i++) {
		if (t.names[i].n == 0)
			continue;
		p->tables[i].settings = mem_copy(buf_view(&t.names[i]));
		p->tables[i].program = mem_printf("lookup-%s",
		    table_remote_type(i));
		p->list = mem_resize(p->list, p->n + 1, sizeof *p->list);
		e = &p->list[p->n++];
		/* Host names are resolved, sockets found, by the libraries,
		 * so there is no other root directory. */
		*e = (struct plan_entry){ .kind = ROLE_TABLE, .service = i,
			.name = p->tables[i].program, .count = 1,
			.overrides = &p->tables[i].settings,
			.n_overrides = 1 };
	}
	for (i = 0; i <= t.n; i++)
		buf_free(&t.names[i]);
	free(t.names);
	return !t.full && !misplaced_any(cf, s, r);
}

const char *
plan_program(const struct plan_entry *e)
{
	return e->kind == ROLE_TABLE || e->kind == ROLE_AUTH ? e->name : role_kind_name(e->kind);
}
