#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "rules/milters.h"

#define HOST_MAX	255u

struct reader {
	const char *parameter;
	table_report *report;
	void *arg;
};

static bool
wrong(const struct reader *r, struct view what, const char *why)
{
	struct buf b;

	buf_init(&b, 4096);
	if (!buf_printf(&b, "main.cf: %s: %.*s: %s", r->parameter,
	    VIEW_ARGS(view_head(what, 500)), why))
		buf_clear(&b);
	r->report(true, buf_cstr(&b), r->arg);
	buf_free(&b);
	return false;
}

/* -- where it is ----------------------------------------------------------- */

static bool
is_port(struct view v)
{
	int64_t n;
	size_t i;

	if (conf_parse_int(v, 1, 65535, &n))
		return true;
	/* or a service's name */
	for (i = 0; i < v.n; i++)
		if (!isalnum((unsigned char)v.p[i]) && v.p[i] != '-')
			return false;
	return v.n > 0 && isalpha((unsigned char)v.p[0]);
}

/* host:port or [host]:port */
static bool
read_inet(struct view v, struct milter_spec *s)
{
	size_t i = v.n;
	struct view host;

	while (i > 0 && v.p[i - 1] != ':')
		i--;
	if (i < 2 || !is_port(view_from(v, i)))
		return false;
	host = view_head(v, i - 1);
	if (host.p[0] == '[') {
		if (host.n < 3 || host.p[host.n - 1] != ']')
			return false;
		host = view_head(view_from(host, 1), host.n - 2);
	}
	if (host.n == 0 || host.n > HOST_MAX ||
	    view_find(host, ' ') < host.n || view_find(host, '[') < host.n)
		return false;
	s->host = mem_copy(host);
	s->port = mem_copy(view_from(v, i));
	return true;
}

static bool
read_unix(struct view v, struct milter_spec *s)
{
	struct sockaddr_un un;

	if (v.n == 0 || v.n >= sizeof un.sun_path)
		return false;
	s->family = AF_UNIX;
	s->host = mem_copy(v);
	return true;
}

static bool
read_endpoint(const struct reader *r, struct view v, struct milter_spec *s)
{
	static const struct {
		const char *word;
		int family;
	} kinds[] = {
		{ "inet:", AF_UNSPEC }, { "inet6:", AF_INET6 },
		{ "unix:", AF_UNIX }, { "local:", AF_UNIX },
	};
	struct view rest;
	size_t i;

	s->name = mem_copy(v);
	for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (view_starts_nocase(v, kinds[i].word))
			break;
	if (i == sizeof kinds / sizeof kinds[0])
		return wrong(r, v, "need inet:host:port or unix:path");
	rest = view_from(v, strlen(kinds[i].word));
	s->family = kinds[i].family;
	if (s->family == AF_UNIX)
		return read_unix(rest, s) || wrong(r, v, "bad path");
	return read_inet(rest, s) || wrong(r, v, "need inet:host:port");
}

/* -- how it is spoken with ------------------------------------------------- */

static bool
read_time(const struct reader *r, struct view name, struct view value,
    int64_t *ret)
{
	return (conf_parse_time(value, 's', ret) && *ret > 0) ||
	    wrong(r, name, "need a time");
}

static bool
read_setting(const struct reader *r, struct view v, struct milter_spec *s)
{
	size_t n = view_find(v, '=');
	struct view name = view_trim(view_head(v, n));
	struct view value = view_trim(view_from(v, n + 1));
	int64_t number;
	char why[200];

	if (n == v.n)
		return wrong(r, v, "need name=value");
	if (view_is(name, "connect_timeout"))
		return read_time(r, name, value, &s->connect_ms);
	if (view_is(name, "command_timeout"))
		return read_time(r, name, value, &s->command_ms);
	if (view_is(name, "content_timeout"))
		return read_time(r, name, value, &s->content_ms);
	if (view_is(name, "default_action")) {
		if (!conf_choice_good("milter_default_action", value, why,
		    sizeof why))
			return wrong(r, value, why);
		s->fallback = conf_choice("milter_default_action", value);
		return true;
	}
	if (view_is(name, "protocol")) {
		if (!conf_parse_int(value, 2, 6, &number))
			return wrong(r, value, "need a version from 2 to 6");
		s->version = (uint32_t)number;
		return true;
	}
	if (view_is(name, "pipelining")) {
		if (!conf_parse_bool(value, &s->pipelining))
			return wrong(r, value, "need yes or no");
		return true;
	}
	return wrong(r, name, "no such setting");
}

/* "{ endpoint, name = value, ... }" */
static bool
read_group(const struct reader *r, struct view word, struct milter_spec *s)
{
	struct view rest, part;
	bool first = true;
	size_t n;

	if (word.p[word.n - 1] != '}' || word.n < 2)
		return wrong(r, word, "braces do not match");
	rest = view_head(view_from(word, 1), word.n - 2);
	while (rest.n > 0) {
		n = view_find(rest, ',');
		part = view_trim(view_head(rest, n));
		rest = view_from(rest, n + 1);
		/* "{ name = value }", as Postfix wants it. */
		if (part.n > 1 && part.p[0] == '{' &&
		    part.p[part.n - 1] == '}')
			part = view_trim(view_head(view_from(part, 1),
			    part.n - 2));
		if (first ? !read_endpoint(r, part, s) :
		    part.n > 0 && !read_setting(r, part, s))
			return false;
		first = false;
	}
	return !first || wrong(r, word, "need inet:host:port or unix:path");
}

static bool
read_word(const struct conf *cf, const struct reader *r, struct view word,
    struct milter_spec *s)
{
	*s = (struct milter_spec){
		.connect_ms = cf->milter_connect_timeout,
		.command_ms = cf->milter_command_timeout,
		.content_ms = cf->milter_content_timeout,
		.fallback = conf_choice("milter_default_action",
		    view_of(cf->milter_default_action)),
		.version = (uint32_t)cf->milter_protocol,
		.pipelining = cf->milter_pipelining,
	};
	return word.p[0] == '{' ? read_group(r, word, s) :
	    read_endpoint(r, word, s);
}

bool
milter_specs_open(const struct conf *cf, const char *parameter,
    const char *text, struct milter_specs *ret, table_report *report,
    void *arg)
{
	struct reader r = { parameter, report, arg };
	struct view rest = view_of(text), word;
	bool ok = true;

	*ret = (struct milter_specs){ 0 };
	ret->list = mem_array(MILTERS_MAX, sizeof *ret->list);
	while ((word = conf_word(&rest)).n > 0) {
		if (ret->n == MILTERS_MAX) {
			ok = wrong(&r, word, "too many filters");
			break;
		}
		if (!read_word(cf, &r, word, &ret->list[ret->n++]))
			ok = false;
	}
	if (!ok)
		milter_specs_free(ret);
	return ok;
}

void
milter_specs_free(struct milter_specs *s)
{
	size_t i;

	for (i = 0; i < s->n; i++) {
		free(s->list[i].name);
		free(s->list[i].host);
		free(s->list[i].port);
	}
	free(s->list);
	*s = (struct milter_specs){ 0 };
}

/* -- without it ------------------------------------------------------------ */

uint16_t
milter_default_reply(enum milter_default action, const char **ret_text)
{
	*ret_text = "";
	switch (action) {
	case MILTER_DEFAULT_REJECT:
		*ret_text = "5.5.0 Service unavailable";
		return 550;
	case MILTER_DEFAULT_TEMPFAIL:
		*ret_text = "4.7.1 Service unavailable - try again later";
		return 451;
	case MILTER_DEFAULT_SHUTDOWN:
		*ret_text = "4.7.0 Server closing connection";
		return 421;
	case MILTER_DEFAULT_ACCEPT:
	case MILTER_DEFAULT_QUARANTINE:
		break;
	}
	return 0;
}

/* -- where they are -------------------------------------------------------- */

static enum milter_sockets
endpoint_sockets(const struct conf *cf, struct view v)
{
	size_t n = strlen(cf->queue_directory);

	if (v.p[0] == '{')
		v = view_trim(view_from(v, 1));
	if (!view_starts_nocase(v, "unix:") &&
	    !view_starts_nocase(v, "local:"))
		return MILTERS_INET;
	v = view_from(v, view_find(v, ':') + 1);
	if (v.n == 0 || v.p[0] != '/' ||
	    (v.n > n && v.p[n] == '/' &&
	    view_eq(view_head(v, n), view_of(cf->queue_directory))))
		return MILTERS_BELOW_QUEUE;
	return MILTERS_ELSEWHERE;
}

static void
list_sockets(const struct conf *cf, const char *list,
    enum milter_sockets *most)
{
	struct view rest = view_of(list), word;
	enum milter_sockets one;

	while ((word = conf_word(&rest)).n > 0)
		if ((one = endpoint_sockets(cf, word)) > *most)
			*most = one;
}

enum milter_sockets
milters_sockets(const struct conf *cf, const struct service_table *t)
{
	enum milter_sockets most = MILTERS_NONE;
	const struct service *s;
	const char *o;
	size_t i, k;

	list_sockets(cf, cf->smtpd_milters, &most);
	list_sockets(cf, cf->non_smtpd_milters, &most);
	/* What these will say is not known. */
	if (cf->smtpd_milter_maps[0] != '\0' && most < MILTERS_BELOW_QUEUE)
		most = MILTERS_BELOW_QUEUE;
	for (i = 0; i < t->n; i++)
		for (s = &t->list[i], k = 0; k < s->n_overrides; k++) {
			o = s->overrides[k];
			if (strncmp(o, "smtpd_milters", 13) == 0 &&
			    (o = strchr(o, '=')) != NULL)
				list_sockets(cf, conf_expand(cf, o + 1),
				    &most);
			else if (o != NULL && most < MILTERS_BELOW_QUEUE &&
			    strncmp(o, "smtpd_milter_maps", 17) == 0)
				most = MILTERS_BELOW_QUEUE;
		}
	return most;
}
