/* What TLS a delivery needs: before it has a server. */
#include <stdio.h>

#include "lib/log.h"
#include "proxy/relay_tls_impl.h"
#include "rules/table_ask.h"

#define ENTRY_MAX	16384u

static void
policy_found(struct delivery *d, struct view entry, const struct table *t,
    unsigned line, relay_tls_found *done)
{
	struct tls_policy *p = arena_alloc(d->arena, sizeof *p);
	struct buf why;
	bool ok;

	buf_init(&why, 2000);
	ok = tls_policy_entry(d->relay->conf, entry, d->arena, p, &why);
	if (ok)
		d->tls = p;
	else
		log_warn("%s:%u: next hop %s: %s", table_origin(t), line,
		    log_safe(d->hop_text), log_safe(buf_view(&why)));
	buf_free(&why);
	done(d, ok ? NULL : "client TLS configuration problem");
}

static void
policy_told(void *arg)
{
	struct delivery *d = arg;

	d->tls_asked = NULL;
	relay_tls_find(d, d->tls_done);
}

void
relay_tls_find(struct delivery *d, relay_tls_found *done)
{
	struct relay_tls_shared *ts = d->relay->tls;
	const struct table *table = NULL;
	enum table_answer a = TABLE_NOT_FOUND;
	struct table_need need;
	unsigned line = 0;
	struct buf value;
	bool remote = table_remote_opened() > 0;

	d->tls = NULL;
	d->tls_done = done;
	/* A filter is on this side of the wall, a socket file on this host. */
	if (d->proxy != NULL || d->hop.path.n > 0) {
		done(d, NULL);
		return;
	}
	buf_init(&value, ENTRY_MAX);
	if (remote && d->tls_tables == NULL)
		d->tls_tables = table_known_gather();
	if (remote)
		table_known_begin(d->tls_tables);
	if (ts->maps.n > 0)
		a = tls_policy_find(&ts->maps, d->hop_text, &value, &table,
		    &line);
	if (remote && table_known_end(d->tls_tables, &need))
		d->tls_asked = table_ask_all(d->tls_tables, policy_told, d);
	else if (a == TABLE_FOUND)
		policy_found(d, buf_view(&value), table, line, done);
	else if (a == TABLE_FAILED)
		done(d, "TLS policy lookup error");
	else {
		d->tls = &ts->policy;
		done(d, NULL);
	}
	buf_free(&value);
}

void
relay_tls_forget(struct delivery *d)
{
	table_ask_cancel(&d->tls_asked);
	table_known_free(&d->tls_tables);
}

const char *
relay_tls_word(const struct delivery *d, char *space, size_t size)
{
	const struct session *s = d->session;
	enum tls_level had = s != NULL && relay_tls_active(s) ? s->tls->had :
	    TLS_LEVEL_NONE;

	if (d->tls == NULL || !d->relay->conf->smtp_log_tls_feature_status)
		return NULL;
	(void)snprintf(space, size, "%s%s%s", tls_level_name(d->tls->level),
	    had < d->tls->level ? ":" : "", had < d->tls->level ?
	    tls_level_name(had) : "");
	return space;
}
