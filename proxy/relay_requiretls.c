#include <stdlib.h>

#include "lib/log.h"
#include "proxy/relay_delivery.h"
#include "proxy/relay_requiretls.h"
#include "proxy/relay_tls_impl.h"

/* To a sender, or to our postmaster. */
static bool
delivery_notifies(const struct delivery *d)
{
	struct view from = d->env.sender;

	return from.n == 0 || view_is(view_head(from, view_find(from, '@')),
	    d->relay->conf->double_bounce_sender);
}

bool
relay_requiretls_find(struct delivery *d)
{
	const struct conf *cf = d->relay->conf;
	const struct table *bad = NULL;

	d->requiretls = REQUIRETLS_OFF;
	if ((d->env.flags & ENVELOPE_REQUIRETLS) == 0 ||
	    !cf->requiretls_enable)
		return true;
	d->requiretls = REQUIRETLS_DISABLE;
	/* A filter answers for it, on this side of the wall. */
	if (d->proxy != NULL)
		return true;
	if (!requiretls_find(&d->relay->tls->requiretls,
	    d->hop.path.n > 0 ? view_of("localhost") : d->hop.host,
	    &d->requiretls, &bad)) {
		log_warn("%s: %s: no REQUIRETLS policy for next hop %s",
		    d->id, table_name(bad), log_safe(d->hop_text));
		return false;
	}
	/* Section 5: a notification is better sent than lost. */
	if (delivery_notifies(d) && cf->requiretls_redact_dsn &&
	    d->requiretls > REQUIRETLS_OPPORTUNISTIC)
		d->requiretls = REQUIRETLS_OPPORTUNISTIC;
	return true;
}

static struct requiretls_session
session_has(const struct session *s)
{
	bool tls = relay_tls_active(s);

	return (struct requiretls_session){ .tls = tls,
		.held = tls ? s->tls->had : TLS_LEVEL_NONE,
		.offered = tls && (s->ehlo.features & FEATURE_REQUIRETLS) != 0 };
}

bool
relay_requiretls_allows(const struct session *s, const struct delivery *d)
{
	struct requiretls_session has = session_has(s);

	return requiretls_allows(d->requiretls, &has);
}

bool
relay_requiretls_asks(const struct session *s)
{
	struct requiretls_session has = session_has(s);

	return requiretls_asks(s->delivery->requiretls, &has);
}

void
relay_requiretls_refuse(struct session *s)
{
	struct delivery *d = s->delivery;
	struct requiretls_session has = session_has(s);
	const char *lacks = requiretls_lacks(&has);
	bool soft = d->soft, at_end = delivery_at_end(d);
	char *why = mem_printf("REQUIRETLS support required, but host %s %s",
	    s->peer_short, lacks == NULL ? "is not trusted" :
	    strcmp(lacks, "nostarttls") == 0 ? "was not talked to with TLS" :
	    strcmp(lacks, "none") == 0 ? "does not offer it" :
	    "has not proven who it is");

	/* What another server could not do now, it may do later. */
	delivery_failed(d, WHOM_OPEN, 0, true, at_end && !soft ? "5.7.30" :
	    "4.7.30", why);
	d->soft = soft;
	free(why);
}

const char *
relay_requiretls_word(const struct delivery *d)
{
	const struct session *s = d->session;
	struct requiretls_session has = { .tls = false };
	const char *lacks;

	if (d->requiretls <= REQUIRETLS_DISABLE)
		return "";
	if (s != NULL)
		has = session_has(s);
	lacks = requiretls_lacks(&has);
	return lacks == NULL ? "/requiretls" :
	    strcmp(lacks, "nostarttls") == 0 ? "/requiretls:nostarttls" :
	    strcmp(lacks, "none") == 0 ? "/requiretls:none" :
	    "/requiretls:nocertmatch";
}
