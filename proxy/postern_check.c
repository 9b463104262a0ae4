#include <stdlib.h>
#include <unistd.h>

#include "lib/table_program.h"
#include "proxy/postern.h"
#include "rules/addr_list.h"
#include "rules/override.h"
#include "rules/policy.h"
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
	bool ok;
};

/* Would header_checks know what to do with this right-hand side? */
static void
check_result(struct view result, unsigned line, void *arg)
{
	struct result_check *c = arg;
	struct verdict v;
	const char *error;

	if (verdict_parse(result, DIALECT_CHECKS, &v, &error))
		return;
	report_error(c->r, "%s:%u: %s: %s", table_origin(c->table), line,
	    error, log_safe(result));
	c->ok = false;
}

static bool
check_maps(const char *maps, const char *config_dir, bool verdicts,
    const struct reporter *r)
{
	struct result_check c = { .r = r, .ok = true };
	struct table_list l;
	size_t i;

	if (!table_list_open(maps, config_dir, &l, r->fn, r->arg))
		return false;
	for (i = 0; i < l.n; i++) {
		c.table = l.list[i];
		if (verdicts)
			table_each_result(c.table, check_result, &c);
		c.ok = table_check_samples(c.table, r->fn, r->arg) && c.ok;
	}
	table_list_free(&l);
	return c.ok;
}

/* mime_header_checks is $header_checks as a rule: look only once. */
static bool
check_filter(const struct conf *cf, const char *config_dir,
    const struct reporter *r)
{
	const char *const maps[] = { cf->header_checks,
		cf->mime_header_checks, cf->nested_header_checks,
		cf->body_checks };
	bool ok = true;
	size_t i, k;

	for (i = 0; i < sizeof maps / sizeof maps[0]; i++) {
		for (k = 0; k < i; k++)
			if (strcmp(maps[i], maps[k]) == 0)
				break;
		if (k == i)
			ok = check_maps(maps[i], config_dir, true, r) && ok;
	}
	return ok;
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

	router_free(&w);
	return ok;
}

static bool
check_overrides(const struct conf *cf, const struct reporter *r)
{
	uint32_t flags;
	bool ok = override_flags(cf, &flags, r->fn, r->arg);

	return override_filter_check(cf, r->fn, r->arg) && ok;
}

static bool
check_smtpd(const struct conf *cf, const char *config_dir,
    const struct reporter *r)
{
	struct policy *p;
	bool ok;

	ok = check_maps(cf->relay_recipient_maps, config_dir, false, r);
	ok = check_overrides(cf, r) && ok;
	/* It opens mynetworks, mydestination and relay_domains too. */
	p = policy_open(cf, NULL, 0, r->fn, r->arg);
	ok = p != NULL && ok;
	policy_free(&p);
	return ok;
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

bool
postern_check_tables(const struct config *c, const char *config_dir,
    const struct reporter *r)
{
	const struct conf *cf;
	bool ok = true;
	size_t i;

	for (i = 0; i < c->n_teams; i++) {
		cf = c->teams[i].cf;
		switch ((int)c->teams[i].entry->kind) {
		case ROLE_FILTER:
			ok = check_filter(cf, config_dir, r) && ok;
			ok = check_rewrite(cf, false, r) && ok;
			break;
		case ROLE_SMTPD:
			ok = check_smtpd(cf, config_dir, r) && ok;
			break;
		case ROLE_QMGR:
			ok = check_maps(cf->transport_maps, config_dir, false,
			    r) && ok;
			ok = check_router(cf, r) && ok;
			break;
		case ROLE_PICKUP:
			ok = check_overrides(cf, r) && ok;
			break;
		case ROLE_RELAY:
			ok = check_rewrite(cf, true, r) && ok;
			break;
		case ROLE_TABLE:
			ok = check_remote(c->teams[i].entry, cf, config_dir,
			    r) && ok;
			break;
		default:
			break;
		}
	}
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
	c = postern_check_all(p, true);
	if (c == NULL)
		return 1;
	config_free(&c);
	return 0;
}
