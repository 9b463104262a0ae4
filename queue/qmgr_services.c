/* What master.cf says of transports. */
#include "lib/log.h"
#include "lib/master_cf.h"
#include "queue/qmgr.h"

static struct service_table *services;

void
services_load(void)
{
	services = master_cf_load(qmgr.cf->config_directory, log_report_errors,
	    NULL);
	if (services == NULL)
		fatal("cannot read master.cf");
}

const struct service *
services_find(const char *transport)
{
	const struct service *s;
	size_t i;

	for (i = 0; i < services->n; i++) {
		s = &services->list[i];
		if (strcmp(s->name, transport) == 0 &&
		    strcmp(s->type, "unix") == 0)
			return service_is_relay(s) || service_is_local(s) ?
			    s : NULL;
	}
	return NULL;
}

/* "retry" is an "error" in Postfix's master.cf. */
void
services_name(struct buf *transport)
{
	const struct service *s;
	size_t i;

	for (i = 0; i < services->n; i++) {
		s = &services->list[i];
		if (!view_is(buf_view(transport), s->name) ||
		    strcmp(s->type, "unix") != 0)
			continue;
		if (strcmp(s->name, "retry") != 0 &&
		    (strcmp(s->command, "error") == 0 ||
		    strcmp(s->command, "discard") == 0)) {
			buf_clear(transport);
			(void)buf_puts(transport, s->command);
		}
		return;
	}
}

unsigned
services_at_once(const char *transport)
{
	const struct service *s = services_find(transport);

	if (s == NULL || s->maxproc == 0)
		return 0;
	if (s->maxproc > 0)
		return (unsigned)s->maxproc;
	/* Each delivery on this host is a process. */
	return service_is_local(s) ?
	    (unsigned)qmgr.cf->default_process_limit : 0;
}

/* A header that names the recipient is for one. */
static bool
service_names_recipient(const struct service *s)
{
	struct view flags;
	size_t i;

	for (i = 0; i < s->argc; i++) {
		flags = view_of(s->argv[i]);
		if (view_starts_nocase(flags, "argv="))
			break;
		if (view_starts_nocase(flags, "flags=") &&
		    (view_find(flags, 'D') < flags.n ||
		    view_find(flags, 'O') < flags.n))
			return true;
	}
	return false;
}

unsigned
services_recipients(const char *transport)
{
	const struct service *s = services_find(transport);

	return s != NULL && service_is_local(s) &&
	    (strcmp(s->command, "pipe") != 0 ||
	    service_names_recipient(s)) ? 1 :
	    (unsigned)qmgr.cf->default_destination_recipient_limit;
}

uint32_t
services_relays(const char *transport)
{
	const struct service *s = services_find(transport);
	uint32_t n = s != NULL ? service_relays(services, s) : 0;

	qmgr.relays_differ = qmgr.relays_differ || n != 0;
	return n;
}
