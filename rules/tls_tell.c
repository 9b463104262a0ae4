#include <openssl/opensslconf.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "rules/access.h"
#include "rules/class.h"
#include "rules/tls_tell.h"

#define VALUE_MAX	1000u

struct opening {
	const struct table *table;
	conf_report *report;
	void *arg;
	bool ok;
};

/* Returns false. */
static bool
tells_bad(const struct opening *o, const char *where, unsigned line,
    struct view bad)
{
	char number[16] = "";
	char *text;

	if (line > 0)
		(void)snprintf(number, sizeof number, ":%u", line);
	text = mem_printf("%s%s: %.*s is no level of TLS logging", where,
	    number, VIEW_ARGS(view_head(bad, 100)));
	o->report(true, text, o->arg);
	free(text);
	return false;
}

static void
tells_entry(struct view result, unsigned line, void *arg)
{
	struct opening *o = arg;
	struct view bad;
	uint32_t tell;

	if (!view_is_nocase(view_trim(result), "DUNNO") &&
	    !tls_tell_parse(result, &tell, &bad))
		o->ok = tells_bad(o, table_origin(o->table), line, bad);
}

/* Told once for a process of many. */
static void
tells_possible(const struct opening *o, const char *name, uint32_t tell)
{
#ifdef OPENSSL_NO_SSL_TRACE
	char *text;

	if ((tell & TLS_TELL_TRACE) == 0)
		return;
	text = mem_printf("%s: this TLS library has no traces", name);
	o->report(false, text, o->arg);
	free(text);
#else
	(void)o;
	(void)name;
	(void)tell;
#endif
}

bool
tls_tells_open(const struct conf *cf, const struct tls_tell_params *p,
    struct tls_tells *ret, conf_report *report, void *arg)
{
	struct opening o = { NULL, report, arg, true };
	struct view bad;
	size_t i;

	if (!tls_tell_parse(view_of(p->level), &ret->usual, &bad))
		return tells_bad(&o, p->level_name, 0, bad);
	tells_possible(&o, p->level_name, ret->usual);
	if (!table_list_open(p->maps, cf->config_directory, &ret->maps, report,
	    arg))
		return false;
	for (i = 0; i < ret->maps.n; i++) {
		o.table = ret->maps.list[i];
		access_each(o.table, tells_entry, &o);
	}
	ret->parent_matches = class_parent_matches(cf, p->maps_name);
	if (!o.ok)
		tls_tells_free(ret);
	return o.ok;
}

void
tls_tells_free(struct tls_tells *t)
{
	table_list_free(&t->maps);
}

/* True: there is an answer, if only that there is none. */
static bool
tells_ask(const struct tls_tells *t, enum access_key kind, struct view key,
    struct buf *value, uint32_t *ret)
{
	const struct access_style style = { t->parent_matches, NULL };
	struct view bad;
	unsigned line;
	size_t i;

	for (i = 0; i < t->maps.n; i++)
		switch (access_find(t->maps.list[i], kind, key, &style, value,
		    &line, NULL)) {
		case TABLE_FOUND:
			if (!view_is_nocase(view_trim(buf_view(value)),
			    "DUNNO") && !tls_tell_parse(buf_view(value), ret,
			    &bad))
				log_warn("%s: %s is no level of TLS logging",
				    table_origin(t->maps.list[i]),
				    log_safe(view_head(bad, 100)));
			return true;
		case TABLE_FAILED:
			log_warn("%s lookup error for \"%s\"",
			    table_name(t->maps.list[i]), log_safe(key));
			return true;
		case TABLE_NOT_FOUND:
			break;
		}
	return false;
}

uint32_t
tls_tells_find(const struct tls_tells *t, struct view name,
    const struct netaddr *addr)
{
	char text[NETADDR_TEXT];
	uint32_t tell = t->usual;
	struct buf value;

	if (t->maps.n == 0)
		return tell;
	buf_init(&value, VALUE_MAX);
	if ((name.n == 0 || view_is(name, "unknown") || !tells_ask(t,
	    ACCESS_CLIENT_NAME, name, &value, &tell)) && addr->family != 0)
		(void)tells_ask(t, ACCESS_CLIENT_ADDR,
		    view_of(netaddr_text(addr, text)), &value, &tell);
	buf_free(&value);
	return tell;
}
