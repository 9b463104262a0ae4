/*
 *	etrn = "ETRN" SP [ "@" / "#" ] Domain CRLF
 *
 * RFC 1985: a client asks that mail for a domain be tried now.  Domains are
 * those of fast_flush_domains.  "@" (with its subdomains) and "#" (a queue's
 * name) mean the domain itself here.  What comes of it is qmgr's affair
 * (queue/qmgr_site.c): the client hears that it was asked, not what was found.
 */
#include "lib/address.h"
#include "lib/log.h"
#include "proxy/smtpd.h"

static bool
etrn_parse(struct session *s, struct view args, struct view *ret_domain)
{
	struct view domain = args;

	if (args.n == 0 || view_find(args, ' ') < args.n) {
		session_refuse(s, "500 5.5.4 Syntax: ETRN domain");
		return false;
	}
	if (domain.p[0] == '@' || domain.p[0] == '#')
		domain = view_from(domain, 1);
	if (!address_valid_hostname(domain) && (domain.n < 3 ||
	    !address_valid_literal(domain))) {
		session_refuse(s, "501 5.5.4 Error: invalid parameter "
		    "syntax");
		return false;
	}
	*ret_domain = domain;
	return true;
}

bool
etrn_check(struct session *s, struct view args)
{
	struct view domain;

	if (s->server->cf->smtpd_helo_required && s->helo == NULL) {
		session_refuse(s, "503 5.5.1 Error: send HELO/EHLO first");
		return false;
	}
	return etrn_parse(s, args, &domain) &&
	    session_policy(s, STAGE_ETRN, args, domain);
}

void
etrn_proceed(struct session *s, struct view args)
{
	struct view domain = view_of("");

	ensure(etrn_parse(s, args, &domain));
	switch (domain_list_match(s->server->flush_domains, domain)) {
	case TABLE_FOUND:
		break;
	case TABLE_NOT_FOUND:
		log_info("reject: ETRN %.100s... from %s", log_safe(domain),
		    s->name);
		session_refuse(s, "459 4.7.1 <%s>: service unavailable",
		    log_safe(domain));
		return;
	case TABLE_FAILED:
		session_refuse(s, "458 4.3.0 Unable to queue messages");
		return;
	}
	if (!queue_site(domain)) {
		log_warn("no queue manager for ETRN from %s", s->name);
		session_refuse(s, "458 4.3.0 Unable to queue messages");
		return;
	}
	log_info("ETRN %.100s from %s", log_safe(domain), s->name);
	session_accept(s, VERB_ETRN, "250 2.0.0 Queuing started");
}
