/*
 * Tables that the processes of local and virtual ask.  They become the user
 * whose mail they deliver and talk to nobody, so a table behind a connection
 * is out of their reach, and all mail of the transport would wait.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/master_cf.h"
#include "lib/mem.h"
#include "proxy/postern.h"
#include "rules/table.h"
#include "rules/table_remote.h"

struct reach {
	const struct reporter *r;
	const char *parameter, *command;
	bool used, ok;
};

static bool
reach_service(const struct config *c, struct view name, const char *command)
{
	const struct service *s;
	size_t i;

	for (i = 0; i < c->table->n; i++) {
		s = &c->table->list[i];
		if (service_is_local(s) && strcmp(s->command, command) == 0 &&
		    (name.n == 0 || view_is(name, s->name)))
			return true;
	}
	return false;
}

static void
reach_table(uint32_t service, struct view table, void *arg)
{
	struct reach *w = arg;

	(void)service;
	/* Others may ask the same table, and nobody send mail this way. */
	(w->used ? report_error : report_warn)(w->r, "%s: %s is behind a "
	    "connection, which the process that delivers cannot have: mail "
	    "of %s would be deferred; see %s(8)", w->parameter,
	    log_safe(table), w->command, w->command);
	w->ok = w->ok && !w->used;
}

bool
postern_check_reach(const struct config *c, const struct conf *cf,
    const struct reporter *r)
{
	const struct {
		const char *parameter, *specs, *command, *transport;
	} maps[] = {
		{ "alias_maps", cf->alias_maps, "local",
		    c->cf->local_transport },
		{ "mailbox_transport_maps", cf->mailbox_transport_maps,
		    "local", c->cf->local_transport },
		{ "mailbox_command_maps", cf->mailbox_command_maps, "local",
		    c->cf->local_transport },
		{ "fallback_transport_maps", cf->fallback_transport_maps,
		    "local", c->cf->local_transport },
		{ "virtual_mailbox_maps", cf->virtual_mailbox_maps,
		    "virtual", c->cf->virtual_transport },
		{ "virtual_uid_maps", cf->virtual_uid_maps, "virtual",
		    c->cf->virtual_transport },
		{ "virtual_gid_maps", cf->virtual_gid_maps, "virtual",
		    c->cf->virtual_transport },
	};
	struct reach w = { .r = r, .ok = true };
	struct view transport;
	size_t i;

	for (i = 0; i < sizeof maps / sizeof maps[0]; i++) {
		if (!reach_service(c, view_of(""), maps[i].command))
			continue;
		transport = view_of(maps[i].transport);
		transport = view_head(transport, view_find(transport, ':'));
		w.parameter = maps[i].parameter;
		w.command = maps[i].command;
		w.used = transport.n > 0 &&
		    reach_service(c, transport, maps[i].command);
		table_remote_names(view_of(maps[i].specs), reach_table, &w);
	}
	return w.ok;
}

/* -- aliases --------------------------------------------------------------- */

static void
check_there(const char *file, void *arg)
{
	bool *there = arg;

	*there = *there || access(file, F_OK) == 0;
}

/* Whose mail a person should read: RFC 2142, RFC 5321 section 4.5.1. */
static const char *const persons[] = { "postmaster", "mailer-daemon",
	"hostmaster", "root" };
#define PERSONS		(sizeof persons / sizeof persons[0])

static bool
find_persons(const char *spec, const char *config_dir, bool *found,
    const struct reporter *r)
{
	const struct table *table;
	struct table_list l;
	struct buf value;
	unsigned line;
	size_t i;

	if (!table_list_open(spec, config_dir, &l, r->fn, r->arg))
		return false;
	buf_init(&value, 65536);
	for (i = 0; i < PERSONS; i++)
		found[i] |= table_list_find(&l, view_of(persons[i]), &value,
		    &table, &line) != TABLE_NOT_FOUND;
	buf_free(&value);
	table_list_free(&l);
	return true;
}

static void
report_persons(const bool *found, const struct reporter *r)
{
	struct buf missing;
	size_t i;

	buf_init(&missing, 200);
	for (i = 0; i < PERSONS; i++)
		if (!found[i])
			(void)buf_printf(&missing, "%s%s", missing.n > 0 ?
			    ", " : "", persons[i]);
	if (missing.n > 0)
		report_warn(r, "alias_maps: no alias gives the mail of %s to "
		    "a person", buf_cstr(&missing));
	buf_free(&missing);
}

/* A system may be set up before its aliases are: mail waits. */
bool
postern_check_aliases(const struct conf *cf, const char *config_dir,
    const struct reporter *r)
{
	struct view rest = view_of(cf->alias_maps), word;
	bool ok = true, all = true, there, found[PERSONS] = { false };
	char *spec;

	while ((word = conf_word(&rest)).n > 0) {
		spec = mem_copy(word);
		there = view_find(word, '/') == word.n;
		table_spec_files(word, config_dir, check_there, &there);
		if (there)
			ok = find_persons(spec, config_dir, found, r) && ok;
		else
			report_warn(r, "alias_maps: %s: there is no such "
			    "table: mail of local names will be deferred",
			    spec);
		all = all && there;
		free(spec);
	}
	if (ok && all && *cf->alias_maps != '\0')
		report_persons(found, r);
	return ok;
}
