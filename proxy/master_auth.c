/* Which authentication servers services name: what auth-TYPE connects to. */
#include <stdlib.h>
#include <string.h>

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

static void
servers_add(struct buf *b, struct view name)
{
	struct view rest = buf_view(b), word;

	rest = view_from(rest, view_find(rest, '=') + 1);
	while ((word = view_word(&rest, " ")).n > 0)
		if (view_eq(word, name))
			return;
	(void)buf_putc(b, ' ');
	(void)buf_putv(b, name);
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

static bool
auth_service(const struct conf *cf, const struct service *s, struct buf *b,
    enum milter_sockets *where, const struct reporter *r)
{
	struct view type = view_trim(view_of(service_setting(cf, s,
	    "smtpd_sasl_type")));
	struct view path = view_trim(view_of(service_setting(cf, s,
	    "smtpd_sasl_path")));
	enum milter_sockets here = MILTERS_BELOW_QUEUE;

	if (!view_is_nocase(type, "dovecot")) {
		report_error(r, "master.cf:%u: smtpd_sasl_type = %.*s: only "
		    "dovecot is known", s->line, VIEW_ARGS(view_head(type,
		    100)));
		return false;
	}
	if (path.n == 0 || view_find(path, ' ') < path.n ||
	    b->n + path.n + 2 > SERVERS_MAX) {
		report_error(r, "master.cf:%u: smtpd_sasl_path: need a path "
		    "or inet:host:port", s->line);
		return false;
	}
	if (path_is_inet(path))
		here = MILTERS_INET;
	else if (path_is_elsewhere(cf, path))
		here = MILTERS_ELSEWHERE;
	if (here > *where)
		*where = here;
	servers_add(b, path);
	return true;
}

bool
plan_add_auth(struct plan *p, const struct conf *cf,
    const struct service_table *t, const struct reporter *r)
{
	enum milter_sockets where = MILTERS_NONE;
	struct plan_entry *e;
	struct buf b;
	bool ok = true;
	size_t i;

	buf_init(&b, SERVERS_MAX + 32);
	(void)buf_puts(&b, "auth_servers=");
	for (i = 0; i < t->n; i++)
		if (service_authenticates(cf, &t->list[i]))
			ok = auth_service(cf, &t->list[i], &b, &where, r) &&
			    ok;
	if (ok && where != MILTERS_NONE) {
		p->auth_settings = mem_copy(buf_view(&b));
		p->list = mem_resize(p->list, p->n + 1, sizeof *p->list);
		e = &p->list[p->n++];
		*e = (struct plan_entry){ .kind = ROLE_AUTH,
			.service = AUTH_DOVECOT, .name = "auth-dovecot",
			.count = 1, .chroot = true, .sockets = where,
			.overrides = &p->auth_settings, .n_overrides = 1 };
	}
	buf_free(&b);
	return ok;
}
