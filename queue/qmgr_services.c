/* What master.cf says of transports. */
#include "lib/log.h"
#include "lib/master_cf.h"
#include "queue/qmgr.h"

#define SETTINGS_MAX	(2u << 20)

static struct service_table *services;
static char **best_mx;		/* of each; NULL: it is no client of SMTP */

/* Settings of the service come first, as they do in its processes. */
static char *
services_read_best_mx(const struct service *s)
{
	struct view transport, nexthop;
	struct conf *cf = NULL;
	struct buf b;
	char *way;

	buf_init(&b, SETTINGS_MAX);
	if (s->n_overrides > 0 &&
	    conf_snapshot(qmgr.cf, s->overrides, s->n_overrides, &b))
		cf = conf_parse(buf_view(&b), "master.cf", NULL, NULL);
	way = mem_strdup(cf != NULL ? cf->best_mx_transport :
	    qmgr.cf->best_mx_transport);
	conf_free(&cf);
	buf_free(&b);
	route_split(view_of(way), &transport, &nexthop);
	if (transport.n == 0 && view_trim(view_of(way)).n > 0)
		fatal("service %s: best_mx_transport = %s: no transport",
		    s->name, log_safe(view_of(way)));
	return way;
}

void
services_load(void)
{
	const struct service *s;
	size_t i;

	services = master_cf_load(qmgr.cf->config_directory, log_report_errors,
	    NULL);
	if (services == NULL)
		fatal("cannot read master.cf");
	best_mx = mem_array(services->n + 1, sizeof *best_mx);
	for (i = 0; i < services->n; i++) {
		s = &services->list[i];
		if (service_is_relay(s) && !service_is_lmtp(s))
			best_mx[i] = services_read_best_mx(s);
	}
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

/* But for "retry", which is an "error" in Postfix's master.cf. */
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

struct view
services_best_mx(const char *transport)
{
	const struct service *s = services_find(transport);
	const char *way = s != NULL ? best_mx[s - services->list] : NULL;

	return view_trim(view_of(way != NULL ? way : ""));
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
