/* What TLS a delivery needs: before it has a server. */
#include <stdio.h>

#include "lib/log.h"
#include "proxy/relay_requiretls.h"
#include "proxy/relay_sts.h"
#include "proxy/relay_tls_impl.h"
#include "proxy/relay_tlsrpt.h"
#include "rules/table_ask.h"

#define ENTRY_MAX	16384u
#define STS_MARGIN	5000	/* ms that sts gets beyond its own limit */

/* It asks for delivery more than for protection (RFC 8689 section 5). */
static bool
policy_relaxes(const struct delivery *d)
{
	return (d->env.flags & (ENVELOPE_TLS_OPTIONAL |
	    ENVELOPE_REQUIRETLS)) == ENVELOPE_TLS_OPTIONAL &&
	    d->relay->conf->tls_required_enable;
}

/* This is it. */
static void
policy_take(struct delivery *d, const struct tls_policy *p)
{
	d->tls = policy_relaxes(d) && p->level > TLS_LEVEL_MAY ?
	    &d->relay->tls->relaxed : p;
}

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
		policy_take(d, p);
	else
		log_warn("%s:%u: next hop %s: %s", table_origin(t), line,
		    log_safe(d->hop_text), log_safe(buf_view(&why)));
	buf_free(&why);
	done(d, ok ? NULL : "client TLS configuration problem");
}

/* -- what the domain itself says ------------------------------------------- */

/* To a domain, by its MX hosts, and there is room for more than we want. */
static bool
domain_may_say(const struct delivery *d)
{
	enum tls_level level = d->relay->tls->policy.level;

	return d->relay->conf->smtp_tls_sts && d->hop.mx &&
	    !policy_relaxes(d) &&
	    (level == TLS_LEVEL_MAY || level == TLS_LEVEL_ENCRYPT ||
	    level == TLS_LEVEL_DANE);
}

/* DANE, and what the domain wants of servers without: sessions are exchanged
 * only for deliveries that have both. */
static void
domain_beside(struct delivery *d, const struct tls_policy *p)
{
	struct tls_policy *both = arena_alloc(d->arena, sizeof *both);
	struct buf key;

	*both = *d->tls;
	buf_init(&key, 2 * TLS_POLICY_KEY_MAX + 2);
	(void)buf_printf(&key, "%.*s\f%.*s", VIEW_ARGS(both->key),
	    VIEW_ARGS(p->key));
	both->key = arena_copy(d->arena, buf_view(&key));
	buf_free(&key);
	d->tls = both;
	d->tls_domain = p;
}

/* Mode "enforce", or "testing". */
static void
domain_wants(struct delivery *d, const struct sts_policy *said)
{
	struct tls_policy *p = arena_alloc(d->arena, sizeof *p);
	bool ok, test = said->mode == STS_MODE_TESTING;
	struct buf why;

	buf_init(&why, 2000);
	ok = tls_policy_domain(d->relay->conf, said->mx, said->n_mx, d->arena,
	    p, &why);
	if (ok && test)
		d->tls_testing = p;
	else if (ok && d->tls->level == TLS_LEVEL_DANE)
		domain_beside(d, p);
	else if (ok)
		d->tls = p;
	else
		log_warn("MTA-STS: next hop %s: %s", log_safe(d->hop_text),
		    log_safe(buf_view(&why)));
	buf_free(&why);
	d->tls_done(d, ok || test ? NULL : "MTA-STS policy cannot be used");
}

/* For the report about what comes of it. */
static void
domain_keep(struct delivery *d, const struct sts_policy *said)
{
	struct buf b;

	if (!d->relay->conf->smtp_tlsrpt_enable)
		return;
	buf_init(&b, 2 * STS_TEXT_MAX);
	sts_policy_put(said, &b);
	d->sts_text = arena_copy(d->arena, buf_view(&b));
	buf_free(&b);
}

static void
domain_told(enum sts_answer answer, const struct sts_policy *said,
    struct view why, void *arg)
{
	struct delivery *d = arg;

	d->sts = NULL;
	d->tls = &d->relay->tls->policy;
	d->sts_answer = answer;
	if (said != NULL && said->mode != STS_MODE_NONE)
		domain_keep(d, said);
	if (answer == 0) {
		d->tls = NULL;
		log_warn("%s: MTA-STS policy of %s: %s", d->id,
		    log_safe(d->hop.host), log_safe(why));
		d->tls_done(d, "MTA-STS policy lookup error");
	} else if (said != NULL && said->mode != STS_MODE_NONE) {
		domain_wants(d, said);
	} else {
		d->tls_done(d, NULL);
	}
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
	bool remote = table_remote_opened() > 0, known, bare = false;

	d->tls = d->tls_domain = d->tls_testing = NULL;
	d->sts_answer = 0;
	d->sts_text = view_of("");
	d->tls_done = done;
	buf_init(&value, ENTRY_MAX);
	if (remote && d->tls_tables == NULL)
		d->tls_tables = table_known_gather();
	if (remote)
		table_known_begin(d->tls_tables);
	known = relay_requiretls_find(d);
	/* A filter is on this side of the wall, a socket file on this host. */
	if (d->proxy != NULL || d->hop.path.n > 0)
		bare = true;
	else if (ts->maps.n > 0)
		a = tls_policy_find(&ts->maps, d->hop_text, &value, &table,
		    &line);
	if (remote && table_known_end(d->tls_tables, &need))
		d->tls_asked = table_ask_all(d->tls_tables, policy_told, d);
	else if (!known)
		done(d, "REQUIRETLS policy lookup error");
	else if (bare)
		done(d, NULL);
	else if (a == TABLE_FOUND)
		policy_found(d, buf_view(&value), table, line, done);
	else if (a == TABLE_FAILED && !policy_relaxes(d))
		done(d, "TLS policy lookup error");
	else if (domain_may_say(d))
		d->sts = relay_sts_ask(d->hop.host,
		    d->relay->conf->smtp_tls_sts_timeout + STS_MARGIN,
		    domain_told, d);
	else {
		policy_take(d, a == TABLE_FAILED ? &ts->relaxed : &ts->policy);
		done(d, NULL);
	}
	buf_free(&value);
}

bool
relay_tls_hosts(struct delivery *d)
{
	struct relay_address *list = d->addresses;
	size_t i, n = d->n_addresses, kept = 0;

	for (i = 0; d->tls_testing != NULL && i < n; i++)
		if (!tls_policy_host(d->tls_testing, list[i].host))
			log_info("%s: MTA-STS, mode testing: the policy of %s "
			    "does not name its mail server %s", d->id,
			    log_safe(d->hop.host), log_safe(list[i].host));
	for (i = 0; d->tls != NULL && i < n; i++) {
		if (tls_policy_host(d->tls, list[i].host))
			list[kept++] = list[i];
		else {
			log_info("%s: MTA-STS: the policy of %s does not name "
			    "its mail server %s", d->id,
			    log_safe(d->hop.host), log_safe(list[i].host));
			relay_tlsrpt_host(d, list[i].host);
		}
	}
	if (d->tls != NULL)
		d->n_addresses = kept;
	return n == 0 || d->n_addresses > 0;
}

void
relay_tls_forget(struct delivery *d)
{
	table_ask_cancel(&d->tls_asked);
	relay_sts_cancel(&d->sts);
	table_known_free(&d->tls_tables);
}

const char *
relay_tls_word(const struct delivery *d, char *space, size_t size)
{
	const struct session *s = d->session;
	enum tls_level had = s != NULL && relay_tls_active(s) ? s->tls->had :
	    TLS_LEVEL_NONE, level;

	if (d->tls == NULL || !d->relay->conf->smtp_log_tls_feature_status)
		return NULL;
	level = (s != NULL ? relay_tls_policy(s) : d->tls)->level;
	(void)snprintf(space, size, "%s%s%s%s", tls_level_name(level),
	    had < level ? ":" : "", had < level ?
	    tls_level_name(had) : "", relay_requiretls_word(d));
	return space;
}
