#include <stdlib.h>

#include "lib/mem.h"
#include "proxy/master.h"

#define SNAPSHOT_MAX	(2u << 20)

/*
 * A client of LMTP is one of SMTP for which each smtp_X is what lmtp_X says,
 * whatever is set for SMTP.
 */
static void
team_lmtp(struct buf *snapshot)
{
	static const char *const other_names[][2] = {
		{ "lmtp_lhlo_name", "smtp_helo_name" },
		{ "lmtp_lhlo_timeout", "smtp_helo_timeout" },
		{ "lmtp_discard_lhlo_keywords",
		    "smtp_discard_ehlo_keywords" },
	};
	const char *to;
	char *same;
	size_t i, k;

	for (i = 0; i < conf_params_count; i++) {
		if (strncmp(conf_params[i].name, "lmtp_", 5) != 0)
			continue;
		to = same = mem_printf("smtp_%s", conf_params[i].name + 5);
		for (k = 0; k < sizeof other_names / sizeof other_names[0];
		    k++)
			if (strcmp(conf_params[i].name,
			    other_names[k][0]) == 0)
				to = other_names[k][1];
		if (conf_param_find(view_of(to)) != NULL)
			(void)buf_printf(snapshot, "%s = $%s\n", to,
			    conf_params[i].name);
		free(same);
	}
}

/* Whose account it is, is looked at when it is run. */
static bool
team_token_command(const struct team *t, const struct reporter *r)
{
	const char *why = NULL;

	if (t->entry->kind != ROLE_CREDENTIALS ||
	    *t->cf->smtp_sasl_token_command == '\0')
		return true;
	if (*t->cf->smtp_sasl_token_command != '/')
		why = "begins with the path of a program, from / on";
	else if (*t->cf->smtp_sasl_token_command_user == '\0')
		why = "needs smtp_sasl_token_command_user";
	else if (*t->cf->smtp_sasl_token_directory != '/')
		why = "needs smtp_sasl_token_directory";
	if (why != NULL)
		report_error(r, "service %s: smtp_sasl_token_command %s",
		    t->entry->name, why);
	return why == NULL;
}

/*
 * A role gets its settings as text with its overrides at the end.  The same
 * text is parsed here, so that what master watches is what the role reads.
 */
static bool
team_init(struct team *t, struct master *m, const struct conf *cf,
    const struct plan_entry *e, const struct reporter *r)
{
	struct reporter errors = *r;
	char *origin;
	uint32_t i;

	t->m = m;
	t->entry = e;
	buf_init(&t->snapshot, SNAPSHOT_MAX);
	if (!conf_snapshot(cf, e->overrides, e->n_overrides, &t->snapshot)) {
		report_error(r, "main.cf is too large");
		return false;
	}
	/* "-o syslog_name=postfix/$service_name" */
	if (memmem(t->snapshot.p, t->snapshot.n, "service_name", 12) != NULL)
		(void)buf_printf(&t->snapshot, "service_name = %s\n", e->name);
	if (e->lmtp)
		team_lmtp(&t->snapshot);
	/* What is wrong here and was not in main.cf comes from "-o". */
	origin = mem_printf("%s/master.cf: service %s", m->config_dir,
	    e->name);
	t->cf = conf_parse(buf_view(&t->snapshot), origin, report_errors_only,
	    &errors);
	free(origin);
	if (t->cf == NULL || !team_token_command(t, r))
		return false;
	t->n_slots = e->on_demand ? 1 : e->count;
	t->slots = mem_array(t->n_slots, sizeof *t->slots);
	for (i = 0; i < t->n_slots; i++) {
		t->slots[i].team = t;
		t->slots[i].index = i;
	}
	return true;
}

struct config *
config_load(struct master *m, const struct reporter *r)
{
	struct config *c = mem_alloc(sizeof *c);
	bool ok = true;
	size_t i;

	/* Both files are read even if one is bad: all errors at once. */
	c->cf = conf_load(m->config_dir, r->fn, r->arg);
	c->table = master_cf_load(m->config_dir, r->fn, r->arg);
	if (c->cf == NULL || c->table == NULL) {
		config_free(&c);
		return NULL;
	}
	c->plan = plan_make(c->table, plan_cores(), c->cf->role_processes, r);
	plan_add_milter(c->plan, c->cf, c->table);
	plan_add_sts(c->plan, c->cf, c->table);
	plan_add_credentials(c->plan, c->cf);
	plan_add_tlsrpt(c->plan, c->cf, c->table);
	ok = plan_add_tables(c->plan, c->cf, c->table, r);
	ok = plan_add_auth(c->plan, c->cf, c->table, r) && ok;
	c->listen = listen_resolve(c->plan, c->cf, r);
	if (c->listen == NULL) {
		config_free(&c);
		return NULL;
	}
	c->teams = mem_array(c->plan->n + 1, sizeof *c->teams);
	c->n_teams = c->plan->n;
	for (i = 0; i < c->n_teams; i++)
		ok = team_init(&c->teams[i], m, c->cf, &c->plan->list[i], r) &&
		    ok;
	if (!ok)
		config_free(&c);
	return c;
}

void
config_free(struct config **cp)
{
	struct config *c = *cp;
	struct team *t;
	uint32_t k;
	size_t i;

	*cp = NULL;
	if (c == NULL)
		return;
	for (i = 0; i < c->n_teams; i++) {
		t = &c->teams[i];
		for (k = 0; k < t->n_slots; k++)
			if (t->slots[k].waiting)
				event_del(&t->slots[k].timer);
		free(t->slots);
		buf_free(&t->snapshot);
		conf_free(&t->cf);
	}
	free(c->teams);
	listen_free(&c->listen);
	plan_free(&c->plan);
	master_cf_free(&c->table);
	conf_free(&c->cf);
	free(c);
}

struct team *
config_team(const struct config *c, enum role_kind kind, uint32_t service)
{
	size_t i;

	for (i = 0; i < c->n_teams; i++)
		if (c->teams[i].entry->kind == kind &&
		    c->teams[i].entry->service == service)
			return &c->teams[i];
	return NULL;
}
