#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "filters/milter_set.h"
#include "lib/log.h"
#include "lib/master_cf.h"
#include "lib/netaddr.h"
#include "lib/role.h"
#include "rules/table_remote.h"

#define RESULT_MAX	4096u	/* of smtpd_milter_maps */
#define KNOWN_MAX	256u

/* Lists that smtpd_milter_maps gave, by their text. */
struct known_list {
	struct known_list *next;
	const struct milter_set *set;
	char *text;
	struct milter_list list;
	bool bad;
};

static struct {
	struct milter_set **list;	/* 0: internal */
	uint32_t n;
	enum milter_sockets sockets;
	struct known_list *known;
	unsigned n_known;
} sets;

/* -- addresses ------------------------------------------------------------- */

static bool
unix_address(const struct milter_set *s, const struct milter_spec *spec,
    struct milter_address *ret)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&ret->sa;
	const char *dir = s->cf->queue_directory, *path = spec->host;
	bool inside = role_jailed() && sets.sockets == MILTERS_BELOW_QUEUE;
	size_t n = strlen(dir);
	char *full;

	if (inside && strncmp(path, dir, n) == 0 && path[n] == '/')
		path += n;
	full = inside || path[0] == '/' ? mem_strdup(path) :
	    mem_printf("%s/%s", dir, path);
	n = strlen(full);
	un->sun_family = AF_UNIX;
	if (n < sizeof un->sun_path)
		memcpy(un->sun_path, full, n + 1);
	free(full);
	ret->len = sizeof *un;
	return n < sizeof un->sun_path;
}

/* numeric: no lookup, but "localhost". */
static bool
inet_address(const struct milter_spec *spec, bool numeric,
    struct milter_address *ret)
{
	bool local = strcasecmp(spec->host, "localhost") == 0;
	struct addrinfo hints = { .ai_family = spec->family,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = numeric || local ? AI_NUMERICHOST : 0 }, *list;
	const char *host = !local ? spec->host :
	    spec->family == AF_INET6 ? "::1" : "127.0.0.1";

	if (getaddrinfo(host, spec->port, &hints, &list) != 0)
		return false;
	memcpy(&ret->sa, list->ai_addr, list->ai_addrlen);
	ret->len = list->ai_addrlen;
	freeaddrinfo(list);
	return true;
}

static void
list_free(struct milter_list *l)
{
	milter_specs_free(&l->specs);
	free(l->addresses);
	l->addresses = NULL;
}

struct list_source {
	const struct milter_set *set;
	const char *parameter;
	bool numeric;
	table_report *report;
	void *arg;
};

static bool
list_open(const struct list_source *from, const char *text,
    struct milter_list *ret)
{
	const struct milter_spec *spec;
	bool ok = true;
	char *why;
	size_t i;

	if (!milter_specs_open(from->set->cf, from->parameter, text,
	    &ret->specs, from->report, from->arg))
		return false;
	ret->addresses = mem_array(ret->specs.n + 1,
	    sizeof *ret->addresses);
	for (i = 0; i < ret->specs.n; i++) {
		spec = &ret->specs.list[i];
		if (spec->family == AF_UNIX ? unix_address(from->set, spec,
		    &ret->addresses[i]) : inet_address(spec, from->numeric,
		    &ret->addresses[i]))
			continue;
		why = mem_printf("%s: %s: no such address", from->parameter,
		    spec->name);
		from->report(true, why, from->arg);
		free(why);
		ok = false;
	}
	if (!ok)
		list_free(ret);
	return ok;
}

/* -- sets ------------------------------------------------------------------ */

static void
set_settings(struct milter_set *s)
{
	const struct conf *cf = s->cf;
	int64_t limit = cf->message_size_limit;

	s->hostname = view_of(cf->myhostname);
	s->daemon_name = view_of(cf->milter_macro_daemon_name);
	s->v = view_of(cf->milter_macro_v);
	s->reuse_ms = cf->milter_connection_reuse_time_limit;
	s->settings = (struct milter_settings){
		.rejected_rcpts = true,
		/* Room for what a filter says about it. */
		.body_max = (limit > 0 ? (uint64_t)limit : 1u << 30) +
		    65536u,
		.unknown_macros = view_of(cf->milter_unknown_command_macros),
		.macros = {
			[MILTER_MACROS_CONNECT] =
			    view_of(cf->milter_connect_macros),
			[MILTER_MACROS_HELO] =
			    view_of(cf->milter_helo_macros),
			[MILTER_MACROS_MAIL] =
			    view_of(cf->milter_mail_macros),
			[MILTER_MACROS_RCPT] =
			    view_of(cf->milter_rcpt_macros),
			[MILTER_MACROS_DATA] =
			    view_of(cf->milter_data_macros),
			[MILTER_MACROS_BODY_END] =
			    view_of(cf->milter_end_of_data_macros),
			[MILTER_MACROS_HEADERS_END] =
			    view_of(cf->milter_end_of_header_macros),
		},
	};
}

static bool
set_open(struct milter_set *s, table_report *report, void *arg)
{
	size_t before = table_remote_opened();
	struct list_source from = { s, s->internal ? "non_smtpd_milters" :
		"smtpd_milters", false, report, arg };

	set_settings(s);
	if (!list_open(&from, s->internal ? s->cf->non_smtpd_milters :
	    s->cf->smtpd_milters, &s->list))
		return false;
	if (s->internal || s->cf->smtpd_milter_maps[0] == '\0')
		return true;
	if (!table_list_open(s->cf->smtpd_milter_maps,
	    s->cf->config_directory, &s->maps, report, arg))
		return false;
	if (table_remote_opened() == before)
		return true;
	report(true, "smtpd_milter_maps cannot have tables behind a "
	    "connection", arg);
	return false;
}

static void
set_free(struct milter_set *s)
{
	list_free(&s->list);
	table_list_free(&s->maps);
	conf_free(&s->cf);
	free(s);
}

/* service NULL: main.cf alone.  NULL after a report. */
static struct milter_set *
set_new(const struct conf *cf, const struct service *service,
    table_report *report, void *arg)
{
	struct milter_set *s = mem_alloc(sizeof *s);
	struct buf text;

	s->internal = service == NULL;
	buf_init(&text, 4u << 20);
	if (conf_snapshot(cf, service != NULL ? service->overrides : NULL,
	    service != NULL ? service->n_overrides : 0, &text))
		s->cf = conf_parse(buf_view(&text), "main.cf",
		    log_report_errors, NULL);
	buf_free(&text);
	if (s->cf != NULL && set_open(s, report, arg))
		return s;
	set_free(s);
	return NULL;
}

static bool
is_smtpd(const struct service *s)
{
	return strcmp(s->type, "inet") == 0 &&
	    (strcmp(s->command, "smtpd") == 0 ||
	    strcmp(s->command, "postscreen") == 0);
}

/* These belong to all mail, not to a session. */
static void
warn_overrides(const struct service *s)
{
	static const char *const global[] = { "milter_header_checks",
		"non_smtpd_milters", "internal_mail_filter_classes" };
	struct view o;
	size_t i, k;

	for (i = 0; i < s->n_overrides; i++) {
		o = view_of(s->overrides[i]);
		o = view_trim(view_head(o, view_find(o, '=')));
		for (k = 0; k < sizeof global / sizeof global[0]; k++)
			if (view_is(o, global[k]))
				log_warn("master.cf:%u: -o %s has no effect "
				    "on this service: it belongs into "
				    "main.cf", s->line, global[k]);
	}
}

bool
milter_sets_open(const struct conf *cf, table_report *report, void *arg)
{
	struct service_table *t = master_cf_load(cf->config_directory,
	    log_report_errors, NULL);
	struct milter_set *one;
	bool ok = t != NULL;
	size_t i;

	if (!ok)
		return false;
	sets.sockets = milters_sockets(cf, t);
	sets.list = mem_array(t->n + 1, sizeof *sets.list);
	one = set_new(cf, NULL, report, arg);
	ok = one != NULL;
	sets.list[sets.n++] = one;
	for (i = 0; ok && i < t->n; i++) {
		if (!is_smtpd(&t->list[i]))
			continue;
		warn_overrides(&t->list[i]);
		one = set_new(cf, &t->list[i], report, arg);
		ok = one != NULL;
		sets.list[sets.n++] = one;
	}
	master_cf_free(&t);
	return ok;
}

const struct milter_set *
milter_set_find(uint32_t service)
{
	return service < sets.n ? sets.list[service] : NULL;
}

/* -- by client ------------------------------------------------------------- */

static struct known_list *
known_list(const struct milter_set *s, struct view text)
{
	struct list_source from = { s, "smtpd_milter_maps", true, log_report,
		NULL };
	struct known_list *k;

	for (k = sets.known; k != NULL; k = k->next)
		if (k->set == s && view_is(text, k->text))
			return k;
	if (sets.n_known == KNOWN_MAX)
		return NULL;
	k = mem_alloc(sizeof *k);
	k->set = s;
	k->text = mem_copy(text);
	k->bad = !list_open(&from, k->text, &k->list);
	k->next = sets.known;
	sets.known = k;
	sets.n_known++;
	return k;
}

bool
milter_set_list(const struct milter_set *s, struct view addr,
    const struct milter_list **ret)
{
	enum table_answer found = TABLE_NOT_FOUND;
	const struct table *t;
	struct known_list *k;
	struct buf value;
	unsigned line;
	bool ok = true;

	*ret = s->list.specs.n > 0 ? &s->list : NULL;
	if (s->maps.n == 0 || addr.n == 0)
		return true;
	buf_init(&value, RESULT_MAX);
	found = table_list_find(&s->maps, addr, &value, &t, &line);
	if (found == TABLE_FAILED) {
		log_warn("smtpd_milter_maps: %s: lookup error", table_name(t));
		ok = false;
	} else if (found == TABLE_FOUND && view_is_nocase(view_trim(
	    buf_view(&value)), "DISABLE")) {
		*ret = NULL;
	} else if (found == TABLE_FOUND) {
		k = known_list(s, view_trim(buf_view(&value)));
		ok = k != NULL && !k->bad;
		*ret = ok && k->list.specs.n > 0 ? &k->list : NULL;
	}
	buf_free(&value);
	return ok;
}

/* -- macros ---------------------------------------------------------------- */

static struct view
bare_name(struct view name)
{
	return name.n > 2 && name.p[0] == '{' && name.p[name.n - 1] == '}' ?
	    view_head(view_from(name, 1), name.n - 2) : name;
}

bool
milter_set_macro(const struct milter_set *s, struct view name,
    struct view *ret)
{
	struct view rest = view_of(s->cf->milter_macro_defaults), word;
	size_t at;

	while ((word = conf_word(&rest)).n > 0) {
		/* { name = value with spaces } */
		if (word.p[0] == '{' && word.p[word.n - 1] == '}')
			word = view_trim(view_head(view_from(word, 1),
			    word.n - 2));
		at = view_find(word, '=');
		if (at < word.n && view_eq(bare_name(view_trim(
		    view_head(word, at))), name)) {
			*ret = view_trim(view_from(word, at + 1));
			return true;
		}
	}
	return false;
}
