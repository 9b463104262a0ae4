/* Which authentication servers services name: what auth-TYPE connects to. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/mem.h"
#include "proxy/master_plan.h"

#define SERVERS_MAX	8192u	/* bytes of names */

/* A parameter as this service has it. */
static const char *
service_setting(const struct conf *cf, const struct service *s,
    const char *name)
{
	const char *value = NULL, *o;
	size_t i;

	for (i = 0; i < s->n_overrides; i++) {
		o = s->overrides[i];
		if (view_is(view_trim(view_head(view_of(o),
		    view_find(view_of(o), '='))), name) &&
		    strchr(o, '=') != NULL)
			value = conf_expand(cf, strchr(o, '=') + 1);
	}
	return value != NULL ? value : conf_text(cf, view_of(name));
}

static bool
service_authenticates(const struct conf *cf, const struct service *s)
{
	return strcmp(s->command, "smtpd") == 0 &&
	    strcmp(s->type, "inet") == 0 && view_is_nocase(view_trim(view_of(
	    service_setting(cf, s, "smtpd_sasl_auth_enable"))), "yes");
}

/* False: it is there. */
static bool
servers_add(struct buf *b, struct view name)
{
	struct view rest = buf_view(b), word;

	rest = view_from(rest, view_find(rest, '=') + 1);
	while ((word = view_word(&rest, " ")).n > 0)
		if (view_eq(word, name))
			return false;
	(void)buf_putc(b, ' ');
	(void)buf_putv(b, name);
	return true;
}

/* Absolute, and not in the spool: it can be reached from "/" only. */
static bool
path_is_elsewhere(const struct conf *cf, struct view path)
{
	size_t n = strlen(cf->queue_directory);

	if (view_starts_nocase(path, "unix:"))
		path = view_from(path, 5);
	return path.n > 0 && path.p[0] == '/' && !(path.n > n &&
	    path.p[n] == '/' && view_eq(view_head(path, n),
	    view_of(cf->queue_directory)));
}

static bool
path_is_inet(struct view path)
{
	return view_starts_nocase(path, "inet:");
}

/* What services of one type name. */
struct servers {
	struct buf names;	/* "auth_servers= a b" */
	unsigned n;
	enum milter_sockets where;
};

static bool
auth_wrong(const struct service *s, const struct reporter *r, const char *why,
    struct view what)
{
	report_error(r, "master.cf:%u: %s%.*s", s->line, why,
	    VIEW_ARGS(view_head(what, 100)));
	return false;
}

static bool
auth_service(const struct conf *cf, const struct service *s,
    struct servers servers[AUTH_TYPES], const struct reporter *r)
{
	struct view type = view_trim(view_of(service_setting(cf, s,
	    "smtpd_sasl_type")));
	struct view path = view_trim(view_of(service_setting(cf, s,
	    "smtpd_sasl_path")));
	enum milter_sockets here = MILTERS_BELOW_QUEUE;
	struct servers *t;

	if (view_is_nocase(type, "dovecot"))
		t = &servers[AUTH_DOVECOT];
	else if (view_is_nocase(type, "cyrus"))
		t = &servers[AUTH_CYRUS];
	else
		return auth_wrong(s, r, "smtpd_sasl_type: need dovecot or "
		    "cyrus, not ", type);
	if (path.n == 0 || view_find(path, ' ') < path.n ||
	    t->names.n + path.n + 2 > SERVERS_MAX)
		return auth_wrong(s, r, "smtpd_sasl_path: bad value ", path);
	if (t == &servers[AUTH_CYRUS])
		here = MILTERS_ELSEWHERE;	/* what its plugins need */
	else if (path_is_inet(path))
		here = MILTERS_INET;
	else if (path_is_elsewhere(cf, path))
		here = MILTERS_ELSEWHERE;
	if (here > t->where)
		t->where = here;
	if (servers_add(&t->names, path))
		t->n++;
	/* The library reads one configuration in its life. */
	return t != &servers[AUTH_CYRUS] || t->n == 1 || auth_wrong(s, r,
	    "smtpd_sasl_path: services of type cyrus must have the same, "
	    "not ", path);
}

static bool
auth_program(const struct plan_entry *e, const struct conf *cf,
    const struct reporter *r)
{
	char *path = mem_printf("%s/%s", cf->daemon_directory, e->name);
	bool there = access(path, X_OK) == 0;

	if (!there)
		report_error(r, "smtpd_sasl_type: %s: %s (it is built when "
		    "libsasl2 is there)", path, strerror(errno));
	free(path);
	return there;
}

bool
plan_add_auth(struct plan *p, const struct conf *cf,
    const struct service_table *t, const struct reporter *r)
{
	static const char *const programs[AUTH_TYPES] = {
		[AUTH_DOVECOT] = "auth-dovecot", [AUTH_CYRUS] = "auth-cyrus",
	};
	struct servers servers[AUTH_TYPES] = { 0 };
	struct plan_entry *e;
	bool ok = true;
	uint32_t k;
	size_t i;

	for (k = 1; k < AUTH_TYPES; k++) {
		buf_init(&servers[k].names, SERVERS_MAX + 32);
		(void)buf_puts(&servers[k].names, "auth_servers=");
		servers[k].where = MILTERS_NONE;
	}
	for (i = 0; i < t->n; i++)
		if (service_authenticates(cf, &t->list[i]))
			ok = auth_service(cf, &t->list[i], servers, r) && ok;
	for (k = 1; k < AUTH_TYPES && ok; k++) {
		if (servers[k].n == 0)
			continue;
		p->auth_settings[k] = mem_copy(buf_view(&servers[k].names));
		p->list = mem_resize(p->list, p->n + 1, sizeof *p->list);
		e = &p->list[p->n++];
		*e = (struct plan_entry){ .kind = ROLE_AUTH, .service = k,
			.name = programs[k], .count = 1, .chroot = true,
			.sockets = servers[k].where,
			.overrides = &p->auth_settings[k], .n_overrides = 1 };
		ok = auth_program(e, cf, r);
	}
	for (k = 1; k < AUTH_TYPES; k++)
		buf_free(&servers[k].names);
	return ok;
}
