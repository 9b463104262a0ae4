#include <sched.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "proxy/master_plan.h"
#include "rules/table.h"
#include "rules/table_remote.h"

#define PROCESSES_PER_CORE	4u	/* a larger maxproc gains nothing */
#define IGNORED_MAX		4096u

/* How many processes a command gets. */
enum plan_amount { AMOUNT_ONE = 1, AMOUNT_CORES, AMOUNT_DEMAND };

static const struct {
	const char *command;
	enum role_kind kind;
	enum plan_amount amount;
} commands[] = {
	{ "smtpd", ROLE_SMTPD, AMOUNT_CORES },
	{ "postscreen", ROLE_SMTPD, AMOUNT_CORES },
	{ "gate", ROLE_GATE, AMOUNT_ONE },
	{ "lookup", ROLE_LOOKUP, AMOUNT_ONE },
	{ "sts", ROLE_STS, AMOUNT_ONE },
	{ "tlsrpt", ROLE_TLSRPT, AMOUNT_ONE },
	{ "filter", ROLE_FILTER, AMOUNT_CORES },
	{ "cleanup", ROLE_FILTER, AMOUNT_CORES },
	{ "qmgr", ROLE_QMGR, AMOUNT_ONE },
	{ "oqmgr", ROLE_QMGR, AMOUNT_ONE },
	{ "nqmgr", ROLE_QMGR, AMOUNT_ONE },
	{ "relay", ROLE_RELAY, AMOUNT_CORES },
	{ "smtp", ROLE_RELAY, AMOUNT_CORES },
	{ "lmtp", ROLE_RELAY, AMOUNT_CORES },
	{ "bounce", ROLE_BOUNCE, AMOUNT_DEMAND },
	{ "pickup", ROLE_PICKUP, AMOUNT_ONE },
	{ "showq", ROLE_SHOWQ, AMOUNT_DEMAND },
	{ "milter", ROLE_MILTER, AMOUNT_ONE },
	{ "local", ROLE_LOCAL, AMOUNT_ONE },
	{ "virtual", ROLE_LOCAL, AMOUNT_ONE },
	{ "pipe", ROLE_LOCAL, AMOUNT_ONE },
};

/* Postfix's other programs: their work is done elsewhere, or not yet. */
static const char *const foreign[] = {
	"anvil", "defer", "discard", "dnsblog", "error", "flush",
	"master", "postlogd", "proxymap", "qmqpd", "retry", "rewrite",
	"scache", "spawn", "tlsmgr", "tlsproxy", "trace",
	"trivial-rewrite", "verify",
};

const char *
plan_log_name(enum role_kind kind)
{
	/* Log analysers know Postfix's names. */
	switch ((int)kind) {
	case ROLE_FILTER:
		return "cleanup";
	case ROLE_RELAY:
		return "smtp";
	default:
		return role_kind_name(kind);
	}
}

unsigned
plan_cores(void)
{
	cpu_set_t set;

	/* What a container was given, not what the machine has. */
	if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
		return (unsigned)CPU_COUNT(&set);
	return 1;
}

static unsigned
plan_count(const struct service *s, enum plan_amount amount, unsigned cores,
    int64_t role_processes)
{
	uint64_t most = (uint64_t)cores * PROCESSES_PER_CORE;

	if (amount == AMOUNT_ONE)
		return 1;
	if (amount == AMOUNT_DEMAND)
		return 0;
	/*
	 * Postfix's maxproc counts sessions, ours are processes with thousands
	 * of them: "200" in an existing master.cf must not start 200.
	 */
	if (s != NULL && s->maxproc > 0)
		return (unsigned)((uint64_t)s->maxproc < most ?
		    (uint64_t)s->maxproc : most);
	return role_processes > 0 ? (unsigned)role_processes : cores;
}

static struct plan_entry *
plan_add(struct plan *p, enum role_kind kind, const struct service *s)
{
	struct plan_entry *e;

	p->list = mem_resize(p->list, p->n + 1, sizeof *p->list);
	e = &p->list[p->n++];
	*e = (struct plan_entry){ .kind = kind, .chroot = true,
		.name = role_kind_name(kind) };
	if (s == NULL)
		return e;
	e->name = s->name;
	e->chroot = s->chroot;
	e->maxproc = s->maxproc > 0 ? s->maxproc : 0;
	e->overrides = s->overrides;
	e->n_overrides = s->n_overrides;
	e->line = s->line;
	return e;
}

static void
plan_ignore(struct plan *p, const struct service *s)
{
	if (p->ignored.n > 0)
		(void)buf_puts(&p->ignored, ", ");
	(void)buf_puts(&p->ignored, s->name);
}

static bool
plan_is_foreign(const char *command)
{
	size_t i;

	for (i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
		if (strcmp(foreign[i], command) == 0)
			return true;
	return false;
}

const struct plan_entry *
plan_find(const struct plan *p, enum role_kind kind, uint32_t service)
{
	size_t i;

	for (i = 0; i < p->n; i++)
		if (p->list[i].kind == kind && p->list[i].service == service)
			return &p->list[i];
	return NULL;
}

static void
plan_inet(struct plan *p, const struct service *s, unsigned cores,
    int64_t role_processes, uint32_t *services, const struct reporter *r)
{
	struct plan_entry *e;

	if (strcmp(s->command, "postscreen") == 0)
		report_warn(r, "master.cf:%u: postscreen is a part of gate; "
		    "running smtpd for %s", s->line, s->name);
	e = plan_add(p, ROLE_SMTPD, s);
	e->service = ++*services;
	e->count = plan_count(s, AMOUNT_CORES, cores, role_processes);
}

/* One line of master.cf. */
static void
plan_service(struct plan *p, const struct service_table *t,
    const struct service *s, unsigned cores, int64_t role_processes,
    uint32_t *services, const struct reporter *r)
{
	const struct plan_entry *have;
	struct plan_entry *e;
	uint32_t number;
	bool own;
	size_t i;

	for (i = 0; i < sizeof commands / sizeof commands[0]; i++)
		if (strcmp(commands[i].command, s->command) == 0)
			break;
	if (i == sizeof commands / sizeof commands[0]) {
		if (!plan_is_foreign(s->command))
			report_warn(r, "master.cf:%u: unknown command %s",
			    s->line, s->command);
		plan_ignore(p, s);
		return;
	}
	if (commands[i].kind == ROLE_SMTPD) {
		if (strcmp(s->type, "inet") == 0)
			plan_inet(p, s, cores, role_processes, services, r);
		else	/* "pass": what Postfix's postscreen hands over to */
			plan_ignore(p, s);
		return;
	}
	if (strcmp(s->type, "inet") == 0) {
		report_warn(r, "master.cf:%u: %s does not listen on the "
		    "network", s->line, s->command);
		plan_ignore(p, s);
		return;
	}
	/* A transport with settings of its own has processes of its own. */
	own = commands[i].kind == ROLE_RELAY || commands[i].kind == ROLE_LOCAL;
	number = own ? service_relays(t, s) : 0;
	have = plan_find(p, commands[i].kind, number);
	if (have == NULL) {
		e = plan_add(p, commands[i].kind, s);
		e->service = number;
		e->lmtp = service_is_lmtp(s);
		/* Not for those that write mailboxes and run commands; but
		 * the process that reads what comes from outside. */
		e->chroot = e->chroot || e->kind == ROLE_LOCAL;
		e->on_demand = commands[i].amount == AMOUNT_DEMAND;
		e->count = plan_count(s, commands[i].amount, cores,
		    role_processes);
	} else if (!own && s->n_overrides >
	    have->n_overrides) {
		report_warn(r, "master.cf:%u: the settings of %s have no "
		    "effect: %s in line %u serves it too", s->line, s->name,
		    have->name, have->line);
	}
}

static void
plan_complete(struct plan *p, bool inet, const struct reporter *r)
{
	static const enum role_kind needed[] = { ROLE_QMGR, ROLE_FILTER,
		ROLE_RELAY, ROLE_LOOKUP, ROLE_BOUNCE, ROLE_SHOWQ };
	size_t i;

	for (i = 0; i < sizeof needed / sizeof needed[0]; i++)
		if (plan_find(p, needed[i], 0) == NULL)
			report_warn(r, "master.cf: no %s service: none will "
			    "run", role_kind_name(needed[i]));
	if (!inet || plan_find(p, ROLE_GATE, 0) != NULL)
		return;
	/*
	 * Only the gate accepts connections.  Postfix has no such line, and
	 * without it an inet service would be a port that never answers.
	 */
	report_warn(r, "master.cf: no gate service: one is run for the inet "
	    "services");
	plan_add(p, ROLE_GATE, NULL)->count = 1;
}

void
plan_add_milter(struct plan *p, const struct conf *cf,
    const struct service_table *t)
{
	enum milter_sockets sockets = milters_sockets(cf, t);
	struct plan_entry *e = NULL;
	size_t i;

	for (i = 0; i < p->n; i++)
		if (p->list[i].kind == ROLE_MILTER)
			e = &p->list[i];
	/* Postfix has no such line. */
	if (e == NULL && sockets != MILTERS_NONE)
		e = plan_add(p, ROLE_MILTER, NULL);
	if (e == NULL)
		return;
	e->count = sockets != MILTERS_NONE;
	e->sockets = sockets;
}

static bool
plan_says_yes(const struct conf *cf, const char *value)
{
	bool yes = false;

	return conf_parse_bool(view_trim(view_of(conf_expand(cf, value))),
	    &yes) && yes;
}

/* What "-o" sets a parameter to; NULL: it is another's. */
static const char *
override_value(const char *override, const char *parameter)
{
	const char *value = strchr(override, '=');

	return value != NULL && view_is(view_trim(view_make(override,
	    (size_t)(value - override))), parameter) ? value + 1 : NULL;
}

/* A role that runs if a parameter is set, or is by a "-o" of a service. */
static void
plan_add_if(struct plan *p, const struct conf *cf,
    const struct service_table *t, enum role_kind kind, bool on,
    const char *parameter)
{
	struct plan_entry *e = NULL;
	const char *value;
	size_t i, k;

	for (i = 0; i < t->n; i++)
		for (k = 0; k < t->list[i].n_overrides; k++) {
			value = override_value(t->list[i].overrides[k],
			    parameter);
			if (value != NULL)
				on |= plan_says_yes(cf, value);
		}
	for (i = 0; i < p->n; i++)
		if (p->list[i].kind == kind)
			e = &p->list[i];
	/* Postfix has no such line. */
	if (e == NULL && on)
		e = plan_add(p, kind, NULL);
	if (e != NULL)
		e->count = on;
}

/* "-o" of its service, the last that is there; else what cf has. */
static bool
entry_says_yes(const struct plan_entry *e, const struct conf *cf)
{
	const char *name = e->lmtp ? "lmtp_sasl_auth_enable" :
	    "smtp_sasl_auth_enable", *value;
	bool on = e->lmtp ? cf->lmtp_sasl_auth_enable :
	    cf->smtp_sasl_auth_enable;
	size_t k;

	for (k = 0; k < e->n_overrides; k++) {
		value = override_value(e->overrides[k], name);
		if (value != NULL)
			on = plan_says_yes(cf, value);
	}
	return on;
}

void
plan_add_credentials(struct plan *p, const struct conf *cf)
{
	struct plan_entry e;
	size_t i, n = p->n;

	for (i = 0; i < n; i++) {
		if (p->list[i].kind != ROLE_RELAY ||
		    !entry_says_yes(&p->list[i], cf))
			continue;
		e = p->list[i];
		e.kind = ROLE_CREDENTIALS;
		e.count = 1;
		e.chroot = true;
		e.line = 0;
		p->list = mem_resize(p->list, p->n + 1, sizeof *p->list);
		p->list[p->n++] = e;
	}
}

void
plan_add_sts(struct plan *p, const struct conf *cf,
    const struct service_table *t)
{
	plan_add_if(p, cf, t, ROLE_STS, cf->smtp_tls_sts, "smtp_tls_sts");
}

void
plan_add_tlsrpt(struct plan *p, const struct conf *cf,
    const struct service_table *t)
{
	plan_add_if(p, cf, t, ROLE_TLSRPT, cf->smtp_tlsrpt_enable,
	    "smtp_tlsrpt_enable");
}

struct plan *
plan_make(const struct service_table *t, unsigned cores,
    int64_t role_processes, const struct reporter *r)
{
	struct plan *p = mem_alloc(sizeof *p);
	uint32_t services = 0;
	size_t i;

	buf_init(&p->ignored, IGNORED_MAX);
	for (i = 0; i < t->n; i++)
		plan_service(p, t, &t->list[i], cores, role_processes,
		    &services, r);
	plan_complete(p, services > 0, r);
	return p;
}

void
plan_free(struct plan **pp)
{
	struct plan *p = *pp;
	size_t i;

	*pp = NULL;
	if (p == NULL)
		return;
	for (i = 0; i < p->n_tables; i++) {
		free(p->tables[i].program);
		free(p->tables[i].settings);
	}
	free(p->tables);
	for (i = 0; i < AUTH_TYPES; i++)
		free(p->auth_settings[i]);
	free(p->list);
	buf_free(&p->ignored);
	free(p);
}

int64_t
throttle_delay(struct throttle *t, struct mono now, int64_t pause_ms)
{
	int64_t delay = 0;

	/* at[next] is the oldest of the last THROTTLE_BURST restarts. */
	if (t->used == THROTTLE_BURST && mono_since(t->at[t->next], now) <
	    (int64_t)THROTTLE_WINDOW_MS * 1000)
		delay = pause_ms;
	t->at[t->next].us = now.us + delay * 1000;
	t->next = (t->next + 1) % THROTTLE_BURST;
	if (t->used < THROTTLE_BURST)
		t->used++;
	return delay;
}

/* -- sockets ------------------------------------------------------------- */

static bool
plan_names_socket(const char *list)
{
	struct view rest = view_of(list), word;
	bool service = false;

	while ((word = conf_word(&rest)).n > 0) {
		if (word.p[0] == '{')
			word = view_trim(view_from(word, 1));
		if (service && view_starts_nocase(word, "unix:"))
			return true;
		service = view_is_nocase(word, "check_policy_service");
	}
	return false;
}

bool
plan_policy_sockets(const struct conf *cf)
{
	const char *const lists[] = { cf->smtpd_client_restrictions,
		cf->smtpd_helo_restrictions, cf->smtpd_sender_restrictions,
		cf->smtpd_relay_restrictions,
		cf->smtpd_recipient_restrictions,
		cf->smtpd_data_restrictions,
		cf->smtpd_end_of_data_restrictions,
		cf->smtpd_etrn_restrictions };
	struct view rest = view_of(cf->smtpd_restriction_classes), word;
	const char *value;
	size_t i;

	for (i = 0; i < sizeof lists / sizeof lists[0]; i++)
		if (plan_names_socket(lists[i]))
			return true;
	while ((word = conf_word(&rest)).n > 0) {
		value = conf_text(cf, word);
		if (value != NULL && plan_names_socket(value))
			return true;
	}
	return false;
}
